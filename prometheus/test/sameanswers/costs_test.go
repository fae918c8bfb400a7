// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

// What remote memory costs: allocations when samples are appended, and time and bytes when chunks are read.

package sameanswers

import (
	"context"
	"fmt"
	"log/slog"
	"runtime"
	"runtime/debug"
	"sync"
	"testing"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/labels"
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
	inBothModes(t, func(t *testing.T, fallback bool) {
		const series, cache = 20_000, 2 * units.MiB
		dir, registry := t.TempDir(), prometheus.NewRegistry()
		attachment := attach(t, dir, fallback, cache, registry)

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
		settle(t, func() map[string]float64 { return sumsOf(t, registry) })

		store.count()
		before := sumsOf(t, registry)["read_bytes_total"]
		for step := StepsIn(45 * time.Minute); len(db.db.Blocks()) == 0; step++ {
			require.Less(t, step, StepsIn(time.Hour), "no compaction")
			require.NoError(t, db.Feed(step))
		}
		sums := sumsOf(t, registry)
		moved := sums["read_bytes_total"] - before
		needed := float64(store.bytes())
		t.Logf("%.0f bytes moved for %.0f bytes of chunks, %.3f", moved, needed, moved/needed)
		require.Zero(t, sums["fallback_reads_total"])
		require.Greater(t, needed, 2*float64(cache), "less would fit into the cache")
		if fallback {
			require.Zero(t, moved, "a mirror's compaction reads its local files")
			return
		}
		require.Greater(t, moved, needed/2, "the chunks came from the server")
		require.LessOrEqual(t, moved, 1.2*needed)
	})
}

// attach attaches a directory to a server of its own.
func attach(t *testing.T, dir string, fallback bool, cache units.Base2Bytes, registry *prometheus.Registry) *maasflag.Attachment {
	attachment := maastest.Must(maasflag.Attach(nil, &maasflag.Config{
		URL: maastest.Start(t, "--max-pool-size", "1GiB").URL, Owner: "attached", Fallback: fallback, Transport: "http",
		Restore: "auto", CacheSize: cache,
		ReadTimeout: 10 * time.Second, // A read that falls back on a slow machine would not be counted.
	}, dir, false, slog.New(slog.DiscardHandler), registry))(t)
	t.Cleanup(attachment.Detach)
	return attachment
}

// sumsOf are our metrics, summed over their labels.
func sumsOf(t *testing.T, registry *prometheus.Registry) (sums map[string]float64) {
	require.NoError(t, (&child{registry: registry}).Metrics(none{}, &sums))
	return sums
}

// CommitAll makes some commits, and then one pass.
func (c *child) CommitAll(commits Commits, _ *none) error {
	for i := commits.From; i < commits.To; i++ {
		if err := c.commit(i); err != nil {
			return err
		}
	}
	c.db.db.ForceHeadMMap()
	return nil
}

// A Prometheus with few series takes hours to fill the mapper's write buffer. Its chunks are nevertheless in remote
// memory after the pass that wrote them.
func TestMirror__the_chunks_of_few_series_do_not_wait_for_more(t *testing.T) {
	_, config := newAlone(t, true)
	ours := maastest.Must(startProcess(t, config))(t)
	ours.do(t, "CommitAll", Commits{0, 300})
	maastest.Eventually(t, "the chunks are in remote memory", func() bool {
		return ours.metrics(t)["chunks_written_total"] >= 2*ingestSeries
	})
}

// Append gives forty series three hours and ten minutes of samples, as Answers expects them.
func (c *child) Append(none, *none) error {
	for step := range StepsIn(190 * time.Minute) {
		app := c.db.db.Appender(context.Background())
		for n := range 40 {
			series := labels.FromStrings(labels.MetricName, "appended", "n", fmt.Sprint(n))
			if _, err := app.Append(0, series, endOfStep(step), float64(step*n)/7); err != nil {
				return err
			}
		}
		if err := app.Commit(); err != nil {
			return err
		}
		c.db.fed = step + 1
	}
	c.db.db.ForceHeadMMap()
	return nil
}

// A server whose answers take longer than a query waits only slows a compaction down.
func TestRemote__a_slow_server_fails_queries_but_no_compaction(t *testing.T) {
	server, config := newAlone(t, false)
	network := newNetwork(t, server.URL)
	config.URL, config.Transport, config.CacheSize = network.url(), "http", 64<<10
	ours := maastest.Must(startProcess(t, config))(t)
	ours.do(t, "Append", none{})
	maastest.Eventually(t, "the chunks are in remote memory", func() bool {
		m := ours.metrics(t)
		return m["chunks_written_total"] > 200 && m["dirty_bytes"] == 0
	})

	network.readsTake(1500 * time.Millisecond)
	read := ours.metrics(t)["read_bytes_total"]
	ours.do(t, "Compact", none{})
	m := ours.metrics(t)
	require.Greater(t, m["read_bytes_total"], read)
	require.Equal(t, 1.0, m["up"])
	require.Zero(t, m["operation_errors_total"])
	require.Len(t, maastest.Must(ours.Blocks())(t).Blocks, 1)

	query := []Query{{Expr: "sum(count_over_time(appended[50m]))"}}
	require.Regexp(t, clearWords, maastest.Must(ours.Answers(query))(t)[0].Err)

	network.readsTake(0)
	maastest.Eventually(t, "the server is in use again", func() bool { return ours.metrics(t)["up"] == 1 })
	answers := maastest.Must(ours.Answers(query))(t)
	require.Empty(t, answers[0].Err)
	require.Contains(t, string(answers[0].JSON), `"8000"`)
}

// openIn opens a database of a mode.
func openIn(t *testing.T, mode string, c Config) *DB {
	c.Dir = t.TempDir()
	if mode != "stock" {
		attachment := attach(t, c.Dir, mode == "mirror", 64*units.MiB, prometheus.NewRegistry())
		c.Edit = func(o *tsdb.Options) { o.NewHeadChunkStore = opener(attachment) }
	}
	return maastest.Must(Open(c))(t)
}

// TestAppendAllocates holds what an appended sample allocates beside the stock database's, with all that other
// goroutines do to copy it: the log is looked at five times a second, however much was appended. The bars of bytes
// are what was reached, and a tenth: net/http takes 32 KiB for a request of more than 64 KiB, and in remote mode
// chunks that were not sent yet lie in buffers instead of a file.
func TestAppendAllocates(t *testing.T) {
	const series, looksPerSecond, allocationsPerLook = 5000, 5, 1000
	byteBars := map[string]float64{"stock": 1, "mirror": 1.15, "remote": 1.30}
	// From when the large histograms have ended until before they come again; the head is not compacted.
	from, to := StepsIn(15*time.Minute), StepsIn(75*time.Minute)
	samples := float64((to - from) * series)
	var stock runtime.MemStats
	for _, mode := range []string{"stock", "mirror", "remote"} {
		db := openIn(t, mode, Config{Seed: 1, Series: series})
		require.NoError(t, db.Feed(from))
		gc := debug.SetGCPercent(-1) // A collection empties the pools of buffers.
		var before, spent runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		require.NoError(t, db.Feed(to))
		looks := time.Since(began).Seconds() * looksPerSecond
		runtime.ReadMemStats(&spent)
		debug.SetGCPercent(gc)
		require.NoError(t, db.Close())
		spent.Mallocs -= before.Mallocs
		spent.TotalAlloc -= before.TotalAlloc
		if mode == "stock" {
			stock = spent
		}
		allocations, bytes := float64(spent.Mallocs)/float64(stock.Mallocs), float64(spent.TotalAlloc)/float64(stock.TotalAlloc)
		t.Logf("%s: %.3f allocations and %.1f bytes for each sample, %.3f and %.3f of stock", mode,
			float64(spent.Mallocs)/samples, float64(spent.TotalAlloc)/samples, allocations, bytes)
		assert.LessOrEqual(t, allocations, 1.01+looks*allocationsPerLook/float64(stock.Mallocs), "allocations, %s", mode)
		assert.LessOrEqual(t, bytes, byteBars[mode], "bytes, %s", mode)
	}
}
