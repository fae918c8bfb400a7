// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"math/rand"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/tail"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type written struct {
	series     chunks.HeadSeriesRef
	ref        chunks.ChunkDiskMapperRef
	mint, maxt int64
	data       string
	samples    uint16
	ooo        bool
}

// store is a store of either mode.
type store = Local

func open(t *testing.T, url, dir string, required bool) *memory.Manager {
	t.Helper()
	m, err := memory.Open(context.Background(), memory.Options{
		URL: url, Owner: "test", Transport: "http", Dir: dir, Required: required,
		Logger: slog.New(slog.DiscardHandler), Metrics: memory.NewMetrics(nil),
	})
	require.NoError(t, err)
	return m
}

func write(t *testing.T, s store, rnd *rand.Rand, n int) []written {
	t.Helper()
	all := make([]written, n)
	for i := range all {
		c := chunkenc.NewXORChunk()
		a, err := c.Appender()
		require.NoError(t, err)
		for j := range 1 + rnd.Intn(120) {
			a.Append(0, int64(i*1000+j), rnd.NormFloat64())
		}
		w := written{series: chunks.HeadSeriesRef(1 + i), mint: int64(i * 1000), maxt: int64(i*1000 + 119), ooo: i%7 == 0, data: string(c.Bytes()), samples: uint16(c.NumSamples())}
		w.ref = s.WriteChunk(w.series, w.mint, w.maxt, c, w.ooo, func(err error) { require.NoError(t, err) })
		all[i] = w
	}
	return all
}

func checkReads(t *testing.T, s store, all []written) {
	t.Helper()
	for _, w := range all {
		c, err := s.Chunk(w.ref)
		require.NoError(t, err)
		require.Equal(t, w.data, string(c.Bytes()))
	}
}

func checkIterates(t *testing.T, s store, all []written) {
	t.Helper()
	i := 0
	require.NoError(t, s.IterateAllChunks(func(series chunks.HeadSeriesRef, ref chunks.ChunkDiskMapperRef, mint, maxt int64, samples uint16, enc chunkenc.Encoding, ooo bool) error {
		require.Less(t, i, len(all))
		w := all[i]
		require.Equal(t, fmt.Sprint(w.series, w.ref, w.mint, w.maxt, w.samples, chunkenc.EncXOR, w.ooo), fmt.Sprint(series, ref, mint, maxt, samples, enc, ooo))
		i++
		return nil
	}))
	require.Equal(t, len(all), i)
}

func TestRemote__chunks_are_there_again_after_a_restart(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, true)
	s, err := NewRemote(m, RemoteOptions{})
	require.NoError(t, err)
	rnd := rand.New(rand.NewSource(1))

	all := write(t, s, rnd, 5000)
	checkReads(t, s, all)
	checkIterates(t, s, all)
	maastest.Eventually(t, "all is remote", s.IsQueueEmpty)
	checkReads(t, s, all)
	checkIterates(t, s, all)
	s.CutNewFile()
	all = append(all, write(t, s, rnd, 5000)...)
	require.NoError(t, s.Close())
	require.NoError(t, m.Close())

	m = open(t, server.URL, dir, true)
	s, err = NewRemote(m, RemoteOptions{Options: Options{CacheSize: 1}})
	require.NoError(t, err)
	checkIterates(t, s, all)
	checkReads(t, s, all)
	more := write(t, s, rnd, 100)
	require.Greater(t, more[0].ref, all[len(all)-1].ref)

	number, _ := more[0].ref.Unpack()
	require.NoError(t, s.Truncate(uint32(number)))
	checkIterates(t, s, more)
	maastest.Eventually(t, "the rest is freed", func() bool {
		list, err := clientOf(t, m).List(context.Background(), "test")
		return err == nil && len(list) == 1
	})
	require.NoError(t, s.Close())
	require.NoError(t, m.Close())
}

func TestMirror__reads_are_local_when_the_server_is_gone(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, false)
	defer m.Close()
	local, err := chunks.NewChunkDiskMapper(nil, filepath.Join(dir, "chunks_head"), chunkenc.NewPool(), chunks.MinWriteBufferSize, 0)
	require.NoError(t, err)
	tl := tail.Start(m, tail.Options{Dir: dir, Chunks: true, Logger: slog.New(slog.DiscardHandler)})
	s, err := NewMirror(local, m, tl, Options{Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	require.NoError(t, s.IterateAllChunks(func(chunks.HeadSeriesRef, chunks.ChunkDiskMapperRef, int64, int64, uint16, chunkenc.Encoding, bool) error {
		return nil
	}))
	s.BeginSorted()
	all := write(t, s, rand.New(rand.NewSource(2)), 5000)
	checkReads(t, s, all)
	maastest.Eventually(t, "chunks are remote", func() bool { f := tl.ChunkFile(1); return f != nil && f.Len() > 1<<20 })
	checkReads(t, s, all)

	server.Kill()
	checkReads(t, s, all)
	server.Restart()
	maastest.Eventually(t, "it is in use again", func() bool { f := tl.ChunkFile(1); return m.Up() && f != nil && f.Len() > 1<<20 })
	checkReads(t, s, all)
	require.NoError(t, s.Close())
	tl.Close()
}

func clientOf(t *testing.T, m *memory.Manager) (c *maas.Client) {
	t.Helper()
	require.NoError(t, m.Read("test", mirrorReadTimeout, func(_ context.Context, in *memory.Conn) error { c = in.Client; return nil }))
	return c
}

func restartRemote(t *testing.T, url, dir string, s *Remote, m *memory.Manager, o RemoteOptions) (*Remote, *memory.Manager) {
	t.Helper()
	require.NoError(t, s.Close())
	require.NoError(t, m.Close())
	m = open(t, url, dir, true)
	s, err := NewRemote(m, o)
	require.NoError(t, err)
	return s, m
}

func TestRemote__numbers_that_were_only_reserved_are_no_hole(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, true)
	s, err := NewRemote(m, RemoteOptions{})
	require.NoError(t, err)
	rnd := rand.New(rand.NewSource(1))
	var all []written
	for range 4 {
		all = append(all, write(t, s, rnd, 100)...)
		s, m = restartRemote(t, server.URL, dir, s, m, RemoteOptions{})
		checkIterates(t, s, all)
		checkReads(t, s, all)
	}
	require.NoError(t, s.Close())
	require.NoError(t, m.Close())
}

// A hole would be a silent loss: the log is read behind a series' last chunk.
func TestRemote__nothing_is_attached_behind_a_hole(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	for lost := range 3 {
		dir := t.TempDir()
		m := open(t, server.URL, dir, true)
		s, err := NewRemote(m, RemoteOptions{})
		require.NoError(t, err)
		rnd := rand.New(rand.NewSource(1))
		var all []written
		for range 3 {
			all = append(all, write(t, s, rnd, 100)...)
			s.CutNewFile()
		}
		maastest.Eventually(t, "all is remote", s.IsQueueEmpty)
		ranges, err := s.files[lost].file.Ranges(nil, make([]byte, 1), 0)
		require.NoError(t, err)
		_, _, err = clientOf(t, m).Free(context.Background(), ranges[0].ID)
		require.NoError(t, err)
		s, m = restartRemote(t, server.URL, dir, s, m, RemoteOptions{})
		checkIterates(t, s, all[:lost*100])

		more := write(t, s, rnd, 100) // And it goes on from there.
		s, m = restartRemote(t, server.URL, dir, s, m, RemoteOptions{})
		checkIterates(t, s, append(all[:lost*100:lost*100], more...))
		require.NoError(t, s.Truncate(math.MaxUint32))
		require.NoError(t, s.Close())
		require.NoError(t, m.Close())
	}
}

func TestRemote__ends_when_too_much_waits(t *testing.T) {
	for what, o := range map[string]RemoteOptions{
		"too many bytes": {MaxPendingBytes: 1000},
		"for too long":   {MaxPendingAge: time.Millisecond},
	} {
		t.Run(what, func(t *testing.T) {
			server := maastest.Start(t, "--max-pool-size", "256MiB")
			m := open(t, server.URL, t.TempDir(), true)
			fatal := make(chan error, 2)
			o.Fatal = func(err error) { fatal <- err }
			s, err := NewRemote(m, o)
			require.NoError(t, err)
			server.Kill()
			all := write(t, s, rand.New(rand.NewSource(1)), 1000)
			require.ErrorContains(t, <-fatal, "wait for the memory server")
			checkReads(t, s, all)
			require.ErrorContains(t, s.Close(), "the next start reads their samples from the log")
			require.Empty(t, fatal)
			require.Error(t, m.Close()) // The session ends by itself.
		})
	}
}

// A server that loses its memory before it had a chunk has lost none.
func TestRemote__goes_on_where_nothing_was_lost(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, true)
	fatal := make(chan error, 1)
	s, err := NewRemote(m, RemoteOptions{Fatal: func(err error) { fatal <- err }})
	require.NoError(t, err)
	rnd := rand.New(rand.NewSource(1))
	var all []written
	for round := range 2 { // The first time there is no chunk at all, the second time some wait.
		arena := m.Arena()
		server.Kill()
		if round > 0 {
			all = write(t, s, rnd, 100)
			s.CutNewFile()
			all = append(all, write(t, s, rnd, 100)...)
		}
		server.Restart()
		maastest.Eventually(t, "its new memory is in use", func() bool { return m.Up() && m.Arena() != arena || len(fatal) > 0 })
		maastest.Eventually(t, "all is remote", func() bool { return s.IsQueueEmpty() || len(fatal) > 0 })
		require.Empty(t, fatal)
	}
	all = append(all, write(t, s, rnd, 100)...)
	checkReads(t, s, all)
	s, m = restartRemote(t, server.URL, dir, s, m, RemoteOptions{})
	require.Empty(t, fatal)
	checkIterates(t, s, all)
	require.NoError(t, s.Close())
	require.NoError(t, m.Close())
}

// Somebody frees by hand memory without chunks; then a chunk.
func TestRemote__only_lost_chunks_end_it(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	m := open(t, server.URL, t.TempDir(), true)
	fatal := make(chan error, 1)
	s, err := NewRemote(m, RemoteOptions{Fatal: func(err error) { fatal <- err }})
	require.NoError(t, err)
	rnd := rand.New(rand.NewSource(1))
	all := write(t, s, rnd, 5000)
	maastest.Eventually(t, "all is remote", s.IsQueueEmpty)
	lookAnew := func() {
		t.Helper()
		arena := m.Arena()
		_ = m.Read("read", mirrorReadTimeout, func(ctx context.Context, c *memory.Conn) error {
			return c.Read(ctx, "0198c0de-0000-8000-8000-000000000000", 0, make([]byte, 1))
		})
		maastest.Eventually(t, "the server is looked at anew", func() bool { return m.Up() && m.Arena() != arena })
	}
	lookAnew()
	all = append(all, write(t, s, rnd, 5000)...)
	maastest.Eventually(t, "the rest is remote, too", func() bool { return s.IsQueueEmpty() || len(fatal) > 0 })
	require.Empty(t, fatal)
	checkReads(t, s, all)
	checkIterates(t, s, all)

	ranges, err := s.files[0].file.Ranges(nil, make([]byte, 1), 0)
	require.NoError(t, err)
	_, _, err = clientOf(t, m).Free(context.Background(), ranges[0].ID)
	require.NoError(t, err)
	lookAnew()
	require.ErrorIs(t, <-fatal, errLost)
	require.ErrorIs(t, s.Close(), errLost)
	require.NoError(t, m.Close())
}

// With a chunk that is larger than a batch, and one that is the first of its file.
func TestRemote__what_waits_in_many_batches_is_read_and_arrives(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, true)
	s, err := NewRemote(m, RemoteOptions{})
	require.NoError(t, err)
	rnd := rand.New(rand.NewSource(1))
	server.Pause()
	all := write(t, s, rnd, 10)
	s.CutNewFile()
	data := make([]byte, 3*maxFlush)
	rnd.Read(data)
	large, err := chunkenc.FromData(chunkenc.EncXOR, data)
	require.NoError(t, err)
	for i := range 3 {
		w := written{series: 1, mint: int64(i), maxt: int64(i), data: string(data), samples: uint16(large.NumSamples())}
		w.ref = s.WriteChunk(w.series, w.mint, w.maxt, large, false, nil)
		all = append(all, w)
		all = append(all, write(t, s, rnd, 3000)...)
	}
	checkReads(t, s, all)
	checkIterates(t, s, all)
	server.Resume()
	maastest.Eventually(t, "all is remote", s.IsQueueEmpty)
	checkReads(t, s, all)
	checkIterates(t, s, all)
	s, m = restartRemote(t, server.URL, dir, s, m, RemoteOptions{})
	checkIterates(t, s, all)
	require.NoError(t, s.Close())
	require.NoError(t, m.Close())
}

// Their series' numbers will be given to others.
func TestRemote__chunks_of_unknown_series_are_freed(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, true)
	s, err := NewRemote(m, RemoteOptions{})
	require.NoError(t, err)
	rnd := rand.New(rand.NewSource(1))
	old := write(t, s, rnd, 100)
	s, m = restartRemote(t, server.URL, dir, s, m, RemoteOptions{Unknown: true})
	checkIterates(t, s, nil)
	all := write(t, s, rnd, 100)
	require.Greater(t, all[0].ref, old[99].ref)
	maastest.Eventually(t, "the old ones are freed", func() bool {
		list, err := clientOf(t, m).List(context.Background(), "test")
		return err == nil && len(list) == 1 && s.IsQueueEmpty()
	})
	s, m = restartRemote(t, server.URL, dir, s, m, RemoteOptions{})
	checkIterates(t, s, all)
	require.NoError(t, s.Close())
	require.NoError(t, m.Close())
}

func TestRemote__a_full_server_gets_back_what_is_no_longer_needed(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "8MiB")
	dir := t.TempDir()
	m := open(t, server.URL, dir, true)
	s, err := NewRemote(m, RemoteOptions{})
	require.NoError(t, err)
	rnd := rand.New(rand.NewSource(1))
	write(t, s, rnd, 8000)
	s.CutNewFile()
	maastest.Eventually(t, "the server is full", func() bool {
		return testutil.ToFloat64(m.Metrics().Errors.WithLabelValues("append")) > 0
	})
	all := write(t, s, rnd, 100)
	number, _ := all[0].ref.Unpack()
	require.NoError(t, s.Truncate(uint32(number)))
	maastest.Eventually(t, "there is room again", s.IsQueueEmpty)
	checkIterates(t, s, all)
	require.NoError(t, s.Close())
	require.NoError(t, m.Close())
}
