// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"errors"
	"log/slog"
	"math"
	"math/rand"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/tail"
)

// forgetful is a local mapper that can no longer read, so that reads come from remote memory.
type forgetful struct{ Local }

var errForgotten = errors.New("forgotten")

func (forgetful) Chunk(chunks.ChunkDiskMapperRef) (chunkenc.Chunk, error) { return nil, errForgotten }

func openMirror(t *testing.T, m *memory.Manager, dir string) (*Mirror, *tail.Tail) {
	t.Helper()
	local, err := chunks.NewChunkDiskMapper(nil, filepath.Join(dir, "chunks_head"), chunkenc.NewPool(), chunks.MinWriteBufferSize, 0)
	require.NoError(t, err)
	tl := tail.Start(m, tail.Options{Dir: dir, Chunks: true, Interval: 10 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})
	s, err := NewMirror(local, m, tl, Options{CacheSize: 1, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, s.IterateAllChunks(func(chunks.HeadSeriesRef, chunks.ChunkDiskMapperRef, int64, int64, uint16, chunkenc.Encoding, bool) error {
		return nil
	}))
	s.BeginSorted()
	return s, tl
}

// A stock mapper begins with file 1 again when all files are gone: the same refs then name other chunks.
func TestMirror__a_number_that_is_used_again_names_new_chunks(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, false)
	s, tl := openMirror(t, m, dir)
	rnd := rand.New(rand.NewSource(1))
	for range 20 {
		all := write(t, s, rnd, 300)
		number, _ := all[0].ref.Unpack()
		checkReads(t, s, all)
		if rnd.Intn(2) == 0 {
			maastest.Eventually(t, "some of it is remote", func() bool {
				f := tl.ChunkFile(uint32(number))
				return f != nil && f.Len() > 0
			})
		}
		checkReads(t, s, all)
		require.NoError(t, s.Truncate(math.MaxUint32)) // Cuts the file that is being written.
		last := write(t, s, rnd, 1)
		require.NoError(t, s.Truncate(math.MaxUint32))
		checkReads(t, s, last)
	}
	require.Zero(t, testutil.ToFloat64(m.Metrics().LostChunks))
	require.NoError(t, s.Close())
	tl.Close()
	require.NoError(t, m.Close())
}

func TestMirror__what_is_remote_is_read_from_there_after_a_restart(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, false)
	s, tl := openMirror(t, m, dir)
	all := write(t, s, rand.New(rand.NewSource(1)), 3000)
	require.NoError(t, s.Close()) // Flushes all of it to the local file.
	tl.Close()
	require.NoError(t, m.Close())

	m = open(t, server.URL, dir, false)
	s, tl = openMirror(t, m, dir)
	maastest.Eventually(t, "the file is attached", func() bool { return tl.ChunkFile(1) != nil })
	require.Zero(t, testutil.ToFloat64(m.Metrics().ChunksWritten))
	s.Local = forgetful{s.Local}
	checkReads(t, s, all)

	server.Kill()
	_, err := s.Chunk(all[0].ref)
	require.ErrorIs(t, err, errForgotten)
	require.NotZero(t, testutil.ToFloat64(m.Metrics().FallbackReads))
	require.NoError(t, s.Close())
	tl.Close()
	require.Error(t, m.Close()) // The session ends by itself.
}

func TestMirror__a_stopped_server_delays_reads_once(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, false)
	s, tl := openMirror(t, m, dir)
	all := write(t, s, rand.New(rand.NewSource(1)), 3000)
	maastest.Eventually(t, "some of it is remote", func() bool { f := tl.ChunkFile(1); return f != nil && f.Len() > 100_000 })
	server.Pause()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { checkReads(t, s, all[i*300:(i+1)*300]) })
	}
	wg.Wait()
	require.False(t, m.Up())
	server.Resume()
	maastest.Eventually(t, "it is in use again", m.Up)
	checkReads(t, s, all)
	require.NoError(t, s.Close())
	tl.Close()
	require.NoError(t, m.Close())
}

// droppable counts how often pages were dropped; the stock mapper gets that by an edit.
type droppable struct {
	Local
	drops int
}

func (d *droppable) DropPages(int, int64) error {
	d.drops++
	return nil
}

func TestMirror__pages_that_a_failure_brought_back_are_dropped_again(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, false)
	s, tl := openMirror(t, m, dir)
	all := write(t, s, rand.New(rand.NewSource(1)), 3000)
	maastest.Eventually(t, "some of it is remote", func() bool { f := tl.ChunkFile(1); return f != nil && f.Len() > 100_000 })
	local := &droppable{Local: s.Local}
	s.Local = local

	s.Acked(1, 100_000)
	s.Acked(1, 100_000)
	require.Equal(t, 1, local.drops, "nothing was read since")
	s.Acked(1, 100_001)
	require.Equal(t, 2, local.drops)

	server.Kill()
	checkReads(t, s, all[:100])
	s.Acked(1, 100_001)
	s.Acked(1, 100_001)
	require.Equal(t, 3, local.drops)
	require.NoError(t, s.Close())
	tl.Close()
	require.Error(t, m.Close()) // The session ends by itself.
}
