// SPDX-License-Identifier: Apache-2.0

// What the tests of this package share: a store of either mode, and its server.

package chunkstore

import (
	"context"
	"errors"
	"log/slog"
	"math/rand"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/tail"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// listed is what an iteration says about a chunk.
type listed struct {
	series     chunks.HeadSeriesRef
	ref        chunks.ChunkDiskMapperRef
	mint, maxt int64
	samples    uint16
	enc        chunkenc.Encoding
	ooo        bool
}

type written struct {
	listed
	data string
}

// file is the number of its file.
func (w written) file() uint32 {
	number, _ := w.ref.Unpack()
	return uint32(number)
}

// verifyInterval is short where a test wants lost memory to be missed although nobody reads it.
var verifyInterval time.Duration

func open(t *testing.T, url, dir string, required bool) *memory.Manager {
	return maastest.Must(memory.Open(context.Background(), memory.Options{
		URL: url, Owner: "test", Transport: "http", Dir: dir, Required: required, Verify: verifyInterval,
		Logger: slog.New(slog.DiscardHandler), Metrics: memory.NewMetrics(nil),
	}))(t)
}

func write(t *testing.T, s Local, rnd *rand.Rand, n int) []written {
	all := make([]written, n)
	for i := range all {
		c := chunkenc.NewXORChunk()
		a := maastest.Must(c.Appender())(t)
		for j := range 1 + rnd.Intn(120) {
			a.Append(0, int64(i*1000+j), rnd.NormFloat64())
		}
		from := int64(i * 1000)
		all[i] = writeChunk(t, s, listed{series: chunks.HeadSeriesRef(1 + i), mint: from, maxt: from + 119, ooo: i%7 == 0}, c)
	}
	return all
}

func writeChunk(t *testing.T, s Local, l listed, c chunkenc.Chunk) written {
	l.samples, l.enc = uint16(c.NumSamples()), c.Encoding()
	l.ref = s.WriteChunk(l.series, l.mint, l.maxt, c, l.ooo, func(err error) { require.NoError(t, err) })
	return written{l, string(c.Bytes())}
}

func checkReads(t *testing.T, s Local, all []written) {
	for _, w := range all {
		require.Equal(t, w.data, string(maastest.Must(s.Chunk(w.ref))(t).Bytes()))
	}
}

// list iterates over all chunks; a database does so before it writes.
func list(t *testing.T, s Local) (all []listed) {
	require.NoError(t, s.IterateAllChunks(func(series chunks.HeadSeriesRef, ref chunks.ChunkDiskMapperRef, mint, maxt int64, samples uint16, enc chunkenc.Encoding, ooo bool) error {
		all = append(all, listed{series, ref, mint, maxt, samples, enc, ooo})
		return nil
	}))
	return all
}

func checkIterates(t *testing.T, s Local, all []written) {
	got := list(t, s)
	require.Equal(t, len(all), len(got))
	for i, w := range all {
		require.Equal(t, w.listed, got[i])
	}
}

// remote is a Remote in a directory, and its server, which has 256 MiB.
type remote struct {
	*Remote
	t      *testing.T
	server *maastest.Server
	client *maas.Client // Of somebody else.
	m      *memory.Manager
	dir    string
	rnd    *rand.Rand
	fatal  chan error // What would have ended the process.
	ended  bool
}

func newRemote(t *testing.T, o RemoteOptions, options ...string) *remote {
	server := maastest.Start(t, append([]string{"--max-pool-size", "256MiB"}, options...)...)
	return remoteAt(t, server, server.URL, o)
}

// remoteAt is a Remote whose way to the server leads over another URL.
func remoteAt(t *testing.T, server *maastest.Server, url string, o RemoteOptions) *remote {
	s := &remote{
		t: t, server: server, client: shared.Client(t, server.URL), dir: t.TempDir(),
		rnd: rand.New(rand.NewSource(1)), fatal: make(chan error, 2),
	}
	s.start(url, o)
	t.Cleanup(s.ends)
	return s
}

func (s *remote) start(url string, o RemoteOptions) {
	s.ended, s.m = false, open(s.t, url, s.dir, true)
	o.Fatal = func(err error) { s.fatal <- err }
	s.Remote = maastest.Must(NewRemote(s.m, o))(s.t)
}

// end closes the store and its session.
func (s *remote) end() (store, session error) {
	s.ended = true
	store = s.Close()
	return store, s.m.Close()
}

// ends wants all to end well, if it has not ended.
func (s *remote) ends() {
	if !s.ended {
		require.NoError(s.t, errors.Join(s.end()))
		s.noFatal()
	}
}

// noFatal wants nothing to have ended the process.
func (s *remote) noFatal() {
	select {
	case err := <-s.fatal:
		maastest.Fatal(s.t, err)
	default:
	}
}

func (s *remote) restart(o RemoteOptions) {
	s.ends()
	s.start(s.server.URL, o)
}

// write adds n chunks.
func (s *remote) write(n int) []written { return write(s.t, s, s.rnd, n) }

// writeFiles adds some files of 100 chunks each.
func (s *remote) writeFiles(n int) (all []written) {
	for range n {
		all = append(all, s.write(100)...)
		s.CutNewFile()
	}
	return all
}

// holds wants the store to have these chunks, and no others.
func (s *remote) holds(all []written) {
	checkReads(s.t, s, all)
	checkIterates(s.t, s, all)
}

// arrives waits until all is in remote memory.
func (s *remote) arrives() {
	s.t.Helper()
	maastest.Eventually(s.t, "all is remote", func() bool { return s.IsQueueEmpty() || len(s.fatal) > 0 })
	s.noFatal()
}

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
	ranges := maastest.Must(s.files[file].file.Ranges(nil, make([]byte, 1), 0))(s.t)
	_, _, err := s.client.Free(context.Background(), ranges[0].ID)
	require.NoError(s.t, err)
}

// allocates waits until the owner has n allocations, and nothing waits.
func (s *remote) allocates(n int) {
	s.t.Helper()
	maastest.Eventually(s.t, "the rest is freed", func() bool {
		list, err := s.client.List(context.Background(), "test")
		return err == nil && len(list) == n && s.IsQueueEmpty()
	})
}

// localChunks is the stock store of head chunks in a directory.
func localChunks(t *testing.T, dir string) *chunks.ChunkDiskMapper {
	return maastest.Must(chunks.NewChunkDiskMapper(nil, dir, chunkenc.NewPool(), chunks.MinWriteBufferSize, 0))(t)
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
	log := slog.New(slog.DiscardHandler)
	s.ended = false
	s.m = open(s.t, s.server.URL, s.dir, false)
	s.tail = tail.Start(s.m, tail.Options{Dir: s.dir, Chunks: true, Interval: 10 * time.Millisecond, Logger: log})
	local := localChunks(s.t, filepath.Join(s.dir, "chunks_head"))
	s.Mirror = maastest.Must(NewMirror(local, s.m, s.tail, Options{CacheSize: 1, Logger: log}))(s.t)
	list(s.t, s)
	s.BeginSorted()
}

// end closes the store, which flushes all of it to the local files, then the tail; the session's error is its result.
func (s *mirror) end() error {
	s.ended = true
	require.NoError(s.t, s.Close())
	s.tail.Close()
	return s.m.Close()
}

func (s *mirror) restart() {
	require.NoError(s.t, s.end())
	s.start()
}

func (s *mirror) write(n int) []written { return write(s.t, s, rand.New(rand.NewSource(1)), n) }

// copied waits until more than n bytes of the first file are remote, and the server is in use.
func (s *mirror) copied(n int64) {
	s.t.Helper()
	maastest.Eventually(s.t, "the file is remote", func() bool {
		f := s.tail.ChunkFile(1)
		return s.m.Up() && f != nil && f.Len() > n
	})
}
