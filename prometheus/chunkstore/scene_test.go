// SPDX-License-Identifier: Apache-2.0

// What the tests of this package share: a store of either mode, and its server.

package chunkstore

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand"
	"path/filepath"
	"testing"
	"time"

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

func open(t *testing.T, url, dir string, required bool) *memory.Manager {
	t.Helper()
	m, err := memory.Open(context.Background(), memory.Options{
		URL: url, Owner: "test", Transport: "http", Dir: dir, Required: required,
		Logger: slog.New(slog.DiscardHandler), Metrics: memory.NewMetrics(nil),
	})
	require.NoError(t, err)
	return m
}

func write(t *testing.T, s Local, rnd *rand.Rand, n int) []written {
	t.Helper()
	all := make([]written, n)
	for i := range all {
		c := chunkenc.NewXORChunk()
		a, err := c.Appender()
		require.NoError(t, err)
		for j := range 1 + rnd.Intn(120) {
			a.Append(0, int64(i*1000+j), rnd.NormFloat64())
		}
		all[i] = writeChunk(t, s, written{series: chunks.HeadSeriesRef(1 + i), mint: int64(i * 1000), maxt: int64(i*1000 + 119), ooo: i%7 == 0}, c)
	}
	return all
}

func writeChunk(t *testing.T, s Local, w written, c chunkenc.Chunk) written {
	w.data, w.samples = string(c.Bytes()), uint16(c.NumSamples())
	w.ref = s.WriteChunk(w.series, w.mint, w.maxt, c, w.ooo, func(err error) { require.NoError(t, err) })
	return w
}

func checkReads(t *testing.T, s Local, all []written) {
	t.Helper()
	for _, w := range all {
		c, err := s.Chunk(w.ref)
		require.NoError(t, err)
		require.Equal(t, w.data, string(c.Bytes()))
	}
}

func checkIterates(t *testing.T, s Local, all []written) {
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

// remote is a Remote in a directory, and its server, which has 256 MiB.
type remote struct {
	*Remote
	t      *testing.T
	server *maastest.Server
	m      *memory.Manager
	dir    string
	rnd    *rand.Rand
	ended  bool
}

func newRemote(t *testing.T, o RemoteOptions, options ...string) *remote {
	t.Helper()
	server := maastest.Start(t, append([]string{"--max-pool-size", "256MiB"}, options...)...)
	return remoteAt(t, server, server.URL, o)
}

// remoteAt is a Remote whose way to the server leads over another URL.
func remoteAt(t *testing.T, server *maastest.Server, url string, o RemoteOptions) *remote {
	t.Helper()
	s := &remote{t: t, server: server, dir: t.TempDir(), rnd: rand.New(rand.NewSource(1))}
	s.start(url, o)
	t.Cleanup(func() {
		if !s.ended {
			s.end()
		}
	})
	return s
}

func (s *remote) start(url string, o RemoteOptions) {
	s.t.Helper()
	s.ended, s.m = false, open(s.t, url, s.dir, true)
	var err error
	s.Remote, err = NewRemote(s.m, o)
	require.NoError(s.t, err)
}

// end closes the store and its session.
func (s *remote) end() {
	s.t.Helper()
	s.ended = true
	require.NoError(s.t, s.Close())
	require.NoError(s.t, s.m.Close())
}

func (s *remote) restart(o RemoteOptions) {
	s.t.Helper()
	s.end()
	s.start(s.server.URL, o)
}

// write adds n chunks.
func (s *remote) write(n int) []written { s.t.Helper(); return write(s.t, s, s.rnd, n) }

// writeFiles adds some files of 100 chunks each.
func (s *remote) writeFiles(n int) (all []written) {
	s.t.Helper()
	for range n {
		all = append(all, s.write(100)...)
		s.CutNewFile()
	}
	return all
}

// holds wants the store to have these chunks, and no others.
func (s *remote) holds(all []written) {
	s.t.Helper()
	checkReads(s.t, s, all)
	checkIterates(s.t, s, all)
}

// arrives waits until all is in remote memory.
func (s *remote) arrives() { s.t.Helper(); maastest.Eventually(s.t, "all is remote", s.IsQueueEmpty) }

// lookAnew makes the memory doubt its server, and waits until the server is known again.
func lookAnew(t *testing.T, m *memory.Manager) {
	t.Helper()
	arena := m.Arena()
	_ = m.Read("read", mirrorReadTimeout, func(ctx context.Context, c *memory.Conn) error {
		return c.Read(ctx, "0198c0de-0000-8000-8000-000000000000", 0, make([]byte, 1))
	})
	maastest.Eventually(t, "the server is looked at anew", func() bool { return m.Up() && m.Arena() != arena })
}

// lose frees the beginning of a file behind the store's back.
func (s *remote) lose(file int) {
	s.t.Helper()
	ranges, err := s.files[file].file.Ranges(nil, make([]byte, 1), 0)
	require.NoError(s.t, err)
	_, _, err = clientOf(s.t, s.m).Free(context.Background(), ranges[0].ID)
	require.NoError(s.t, err)
}

// allocates waits until the owner has n allocations, and nothing waits.
func (s *remote) allocates(n int) {
	s.t.Helper()
	maastest.Eventually(s.t, "the rest is freed", func() bool {
		list, err := clientOf(s.t, s.m).List(context.Background(), "test")
		return err == nil && len(list) == n && s.IsQueueEmpty()
	})
}

// ignore is called for each chunk where the iteration alone matters: a database iterates before it writes.
func ignore(chunks.HeadSeriesRef, chunks.ChunkDiskMapperRef, int64, int64, uint16, chunkenc.Encoding, bool) error {
	return nil
}

func clientOf(t *testing.T, m *memory.Manager) (c *maas.Client) {
	t.Helper()
	require.NoError(t, m.Read("test", mirrorReadTimeout, func(_ context.Context, in *memory.Conn) error { c = in.Client; return nil }))
	return c
}

// localChunks is the stock store of head chunks in a directory.
func localChunks(t *testing.T, dir string) *chunks.ChunkDiskMapper {
	t.Helper()
	local, err := chunks.NewChunkDiskMapper(nil, dir, chunkenc.NewPool(), chunks.MinWriteBufferSize, 0)
	require.NoError(t, err)
	return local
}

// mirror is a Mirror in a directory, with the tail that copies its files, and its server, which has 256 MiB.
type mirror struct {
	*Mirror
	t      *testing.T
	server *maastest.Server
	m      *memory.Manager
	tail   *tail.Tail
	dir    string
	ended  bool
}

func newMirror(t *testing.T) *mirror {
	t.Helper()
	s := &mirror{t: t, server: maastest.Start(t, "--max-pool-size", "256MiB"), dir: t.TempDir()}
	s.start()
	t.Cleanup(func() {
		if !s.ended {
			require.NoError(t, s.end())
		}
	})
	return s
}

func (s *mirror) start() {
	s.t.Helper()
	log := slog.New(slog.DiscardHandler)
	s.ended = false
	s.m = open(s.t, s.server.URL, s.dir, false)
	s.tail = tail.Start(s.m, tail.Options{Dir: s.dir, Chunks: true, Interval: 10 * time.Millisecond, Logger: log})
	var err error
	s.Mirror, err = NewMirror(localChunks(s.t, filepath.Join(s.dir, "chunks_head")), s.m, s.tail, Options{CacheSize: 1, Logger: log})
	require.NoError(s.t, err)
	require.NoError(s.t, s.IterateAllChunks(ignore))
	s.BeginSorted()
}

// end closes the store, which flushes all of it to the local files, then the tail; the session's error is its result.
func (s *mirror) end() error {
	s.t.Helper()
	s.ended = true
	require.NoError(s.t, s.Close())
	s.tail.Close()
	return s.m.Close()
}

func (s *mirror) restart() {
	s.t.Helper()
	require.NoError(s.t, s.end())
	s.start()
}

func (s *mirror) write(n int) []written {
	s.t.Helper()
	return write(s.t, s, rand.New(rand.NewSource(1)), n)
}

// copied waits until more than n bytes of the first file are remote, and the server is in use.
func (s *mirror) copied(n int64) {
	s.t.Helper()
	maastest.Eventually(s.t, "the file is remote", func() bool {
		f := s.tail.ChunkFile(1)
		return s.m.Up() && f != nil && f.Len() > n
	})
}
