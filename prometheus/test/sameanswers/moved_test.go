// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"log/slog"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/maasflag"
)

// asked is a store that adds up the sizes of the chunks that it is asked for, each once, as long as they are in its
// files.
type asked struct {
	maasflag.Store
	mu    sync.Mutex
	sizes map[chunks.ChunkDiskMapperRef]int64 // Nil: not counting.
}

// BeginSorted tells the store behind it, if that store wants to know.
func (a *asked) BeginSorted() {
	if s, ok := a.Store.(interface{ BeginSorted() }); ok {
		s.BeginSorted()
	}
}

// ChunkPatiently is how a compaction reads.
func (a *asked) ChunkPatiently(ref chunks.ChunkDiskMapperRef, locked sync.Locker) (chunkenc.Chunk, error) {
	chk, err := a.Store.(interface {
		ChunkPatiently(chunks.ChunkDiskMapperRef, sync.Locker) (chunkenc.Chunk, error)
	}).ChunkPatiently(ref, locked)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err == nil && a.sizes != nil {
		a.sizes[ref] = int64(headchunk.EncodedSize(len(chk.Bytes())))
	}
	return chk, err
}

func (a *asked) count() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.sizes = map[chunks.ChunkDiskMapperRef]int64{}
}

func (a *asked) bytes() (sum int64) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, size := range a.sizes {
		sum += size
	}
	return sum
}

// A compaction reads the chunks in the order of labels. If they were written in any other order, each read would fetch a
// block of its own from the server, and the cache, which is much smaller than what is read, would not help.
func TestCompaction__moves_hardly_more_than_the_chunks(t *testing.T) {
	for name, fallback := range map[string]bool{"mirror": true, "remote": false} {
		t.Run(name, func(t *testing.T) { checkMoved(t, fallback) })
	}
}

func checkMoved(t *testing.T, fallback bool) {
	const series, cache = 20_000, 2 * units.MiB
	server := maastest.Start(t, "--max-pool-size", "512MiB")
	dir, registry := t.TempDir(), prometheus.NewRegistry()
	attachment, err := maasflag.Attach(nil, &maasflag.Config{
		URL: server.URL, Owner: "moved", Fallback: fallback, Transport: "http", Restore: "auto", CacheSize: cache,
		ReadTimeout: 10 * time.Second, // A read that falls back on a slow machine would not be counted.
	}, dir, false, slog.New(slog.DiscardHandler), registry)
	require.NoError(t, err)
	t.Cleanup(attachment.Detach)

	store := new(asked)
	db := open(t, Config{Dir: dir, Seed: 1, Series: series, Edit: func(o *tsdb.Options) {
		o.MinBlockDuration = (30 * time.Minute).Milliseconds()
		o.SamplesPerChunk = 30 // A series gets as many chunks as in a block of two hours.
		o.HeadChunkPassInterval = -1
		o.NewHeadChunkStore = func(
			reg prometheus.Registerer, dir string, pool chunkenc.Pool, writeBufferSize, writeQueueSize int,
		) (_ tsdb.HeadChunkStore, err error) {
			store.Store, err = attachment.Open(reg, dir, pool, writeBufferSize, writeQueueSize)
			return store, err
		}
	}})
	db.db.ForceHeadMMap() // The first pass, from which on all is sorted.
	// A head is compacted once it spans one and a half blocks.
	require.NoError(t, db.Feed(StepsIn(45*time.Minute)-1))
	require.Empty(t, db.db.Blocks())
	settle(t, registry)

	store.count()
	before := sumOf(t, registry, "read_bytes_total")
	for step := StepsIn(45 * time.Minute); len(db.db.Blocks()) == 0; step++ {
		require.Less(t, step, StepsIn(time.Hour), "no compaction")
		require.NoError(t, db.Feed(step))
	}
	moved := sumOf(t, registry, "read_bytes_total") - before
	needed := float64(store.bytes())
	t.Logf("%.0f bytes moved for %.0f bytes of chunks, %.3f", moved, needed, moved/needed)
	require.Zero(t, sumOf(t, registry, "fallback_reads_total"))
	require.Greater(t, needed, 2*float64(cache), "less would fit into the cache")
	if fallback {
		require.Zero(t, moved, "a mirror's compaction reads its local files")
		return
	}
	require.Greater(t, moved, needed/2, "the chunks came from the server")
	require.LessOrEqual(t, moved, 1.2*needed)
}

// settle waits until the server has everything.
func settle(t testing.TB, registry *prometheus.Registry) {
	t.Helper()
	settled := -1.0
	maastest.Eventually(t, "the server has all", func() bool {
		last := settled
		settled = sumOf(t, registry, "written_bytes_total")
		time.Sleep(time.Second)
		return settled == last && sumOf(t, registry, "dirty_bytes") == 0
	})
}

// sumOf is one of our metrics, summed over its labels.
func sumOf(t testing.TB, registry *prometheus.Registry, name string) float64 {
	t.Helper()
	var sums map[string]float64
	require.NoError(t, (&child{registry: registry}).Metrics(none{}, &sums))
	return sums[name]
}
