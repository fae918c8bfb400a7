// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"bytes"
	"math"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

func TestRemote__chunks_are_there_again_after_a_restart(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	all := s.write(5000)
	s.holds(all)
	s.arrives()
	s.holds(all)
	s.CutNewFile()
	all = append(all, s.write(5000)...)

	s.restart(RemoteOptions{Options: Options{CacheSize: 1}})
	s.holds(all)
	more := s.write(100)
	require.Greater(t, more[0].ref, all[len(all)-1].ref)

	require.NoError(t, s.Truncate(more[0].file()))
	checkIterates(t, s, more)
	s.allocates(1)
}

func TestMirror__reads_are_local_when_the_server_is_gone(t *testing.T) {
	s := newMirror(t)
	all := s.write(5000)
	checkReads(t, s, all)
	s.copied(1 << 20)
	checkReads(t, s, all)

	s.server.Kill()
	checkReads(t, s, all)
	s.server.Restart()
	s.copied(1 << 20)
	checkReads(t, s, all)
}

func TestRemote__numbers_that_were_only_reserved_are_no_hole(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	var all []written
	for range 4 {
		all = append(all, s.write(100)...)
		s.restart(RemoteOptions{})
		s.holds(all)
	}
}

// A hole would be a silent loss: the log is read behind a series' last chunk.
func TestRemote__nothing_is_attached_behind_a_hole(t *testing.T) {
	for lost := range 3 {
		s := newRemote(t, RemoteOptions{})
		all := s.writeFiles(3)
		s.arrives()
		s.lose(lost)
		s.restart(RemoteOptions{})
		checkIterates(t, s, all[:lost*100])

		more := s.write(100) // And it goes on from there.
		s.restart(RemoteOptions{})
		checkIterates(t, s, append(all[:lost*100:lost*100], more...))
	}
}

func TestReport__counts_what_may_not_be_freed_yet(t *testing.T) {
	var asked atomic.Int32
	var may atomic.Bool
	s := newRemote(t, RemoteOptions{MayFree: func(bool) bool { asked.Add(1); return may.Load() }})
	all := s.writeFiles(3)
	s.arrives()
	lent := func() int {
		return int(testutil.ToFloat64(s.m.Metrics().Allocations.WithLabelValues(remotefile.Chunks.String())))
	}
	require.NoError(t, s.Truncate(all[200].file()))
	maastest.Eventually(t, "a report has followed", func() bool { return asked.Load() > 1 })
	require.Equal(t, 3, lent())
	may.Store(true)
	maastest.Eventually(t, "they are freed", func() bool { return lent() == 1 })
}

func TestRemote__ends_when_too_much_waits(t *testing.T) {
	for what, o := range map[string]RemoteOptions{
		"too many bytes": {MaxPendingBytes: 1000},
		"for too long":   {MaxPendingAge: time.Millisecond},
	} {
		t.Run(what, func(t *testing.T) {
			s := newRemote(t, o)
			s.server.Kill()
			all := s.write(1000)
			require.ErrorContains(t, <-s.fatal, "wait for the memory server")
			checkReads(t, s, all)
			store, session := s.end()
			require.ErrorContains(t, store, "the next start reads their samples from the log")
			require.Error(t, session, "it ends by itself")
			s.noFatal()
		})
	}
}

func TestRemote__goes_on_where_nothing_was_lost(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	var all []written
	for round := range 2 { // The first time there is no chunk at all, the second time some wait.
		arena := s.m.Arena()
		s.server.Kill()
		if round > 0 {
			all = s.writeFiles(2)
		}
		s.server.Restart()
		maastest.Eventually(t, "its new memory is in use", func() bool { return s.m.Up() && s.m.Arena() != arena || len(s.fatal) > 0 })
		s.arrives()
	}
	all = append(all, s.write(100)...)
	checkReads(t, s, all)
	s.restart(RemoteOptions{})
	checkIterates(t, s, all)
}

// Somebody frees by hand memory without chunks; then a chunk.
func TestRemote__only_lost_chunks_end_it(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	all := s.write(5000)
	s.arrives()
	lookAnew(t, s.m)
	all = append(all, s.write(5000)...)
	s.arrives()
	s.holds(all)

	s.lose(0)
	lookAnew(t, s.m)
	require.ErrorIs(t, <-s.fatal, errLost)
	store, session := s.end()
	require.ErrorIs(t, store, errLost)
	require.NoError(t, session)
}

func TestRemote__misses_a_chunk_that_nobody_reads(t *testing.T) {
	verifyInterval = 10 * time.Millisecond
	defer func() { verifyInterval = 0 }()
	s := newRemote(t, RemoteOptions{})
	s.write(5000)
	s.arrives()
	s.lose(0)
	require.ErrorIs(t, <-s.fatal, errLost)
	store, session := s.end()
	require.ErrorIs(t, store, errLost)
	require.NoError(t, session)
}

// With a chunk that is larger than a batch, and one that is the first of its file.
func TestRemote__what_waits_in_many_batches_is_read_and_arrives(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	s.server.Pause()
	all := s.write(10)
	s.CutNewFile()
	data := make([]byte, 3*maxFlush)
	s.rnd.Read(data)
	large := maastest.Must(chunkenc.FromData(chunkenc.EncXOR, data))(t)
	for i := range 3 {
		all = append(all, writeChunk(t, s, listed{series: 1, mint: int64(i), maxt: int64(i)}, large))
		all = append(all, s.write(3000)...)
	}
	s.holds(all)
	s.server.Resume()
	s.arrives()
	s.holds(all)
	s.restart(RemoteOptions{})
	checkIterates(t, s, all)
}

// A whole batch does not arrive in time over this link, and would be sent again and again.
func TestRemote__chunks_arrive_over_a_slow_link(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	s := remoteAt(t, server, shared.SlowLink(t, server.URL, 200<<10), RemoteOptions{})
	server.Pause() // So that there is a backlog.
	data := make([]byte, 8<<10)
	s.rnd.Read(data)
	chunk := maastest.Must(chunkenc.FromData(chunkenc.EncXOR, data))(t)
	var all []written
	for i := range maxFlush / len(data) {
		all = append(all, writeChunk(t, s, listed{series: 1, mint: int64(i), maxt: int64(i)}, chunk))
	}
	large := maastest.Must(chunkenc.FromData(chunkenc.EncXOR, bytes.Repeat(data, 12)))(t)
	all = append(all, writeChunk(t, s, listed{series: 2}, large))
	server.Resume()
	s.arrives()
	s.restart(RemoteOptions{})
	checkIterates(t, s, all)
}

// Its bytes take longer than a lease leaves to a write.
func TestRemote__a_chunk_of_many_pieces_arrives(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	data := make([]byte, 20<<20)
	s.rnd.Read(data)
	large := maastest.Must(chunkenc.FromData(chunkenc.EncXOR, data))(t)
	all := append(s.write(10), writeChunk(t, s, listed{series: 1}, large))
	all = append(all, s.write(10)...)
	s.arrives()
	require.True(t, s.m.Up())
	s.restart(RemoteOptions{})
	s.holds(all)
}

func TestBatch__its_beginning_has_whole_records(t *testing.T) {
	f := remoteFile{pending: []batch{{data: make([]byte, headchunk.FileHeaderSize)}}}
	for i := range 3 {
		f.add(headchunk.Record{Series: 1, Mint: int64(i), Maxt: int64(i), Encoding: chunkenc.EncXOR, Data: make([]byte, 100)})
	}
	b, one := f.pending[0], headchunk.EncodedSize(100)
	for n, chunks := range map[int]int{10: 1, one: 1, 2 * one: 1, headchunk.FileHeaderSize + 2*one: 2, len(b.data) - 1: 2, len(b.data): 3} {
		part := b.atMost(n, true)
		require.Equal(t, chunks, part.chunks, n)
		require.Len(t, part.data, headchunk.FileHeaderSize+chunks*one)
	}
	f.written(headchunk.FileHeaderSize+one, 1)
	require.Equal(t, 1, f.pending[0].atMost(2*one-1, false).chunks)
	require.Equal(t, 2, f.pending[0].atMost(2*one, false).chunks)
}

// Their series' numbers will be given to others.
func TestRemote__chunks_of_unknown_series_are_freed(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	old := s.write(100)
	s.restart(RemoteOptions{Unknown: true})
	checkIterates(t, s, nil)
	all := s.write(100)
	require.Greater(t, all[0].ref, old[99].ref)
	s.allocates(1)
	s.restart(RemoteOptions{})
	checkIterates(t, s, all)
}

func TestRemote__a_full_server_gets_back_what_is_no_longer_needed(t *testing.T) {
	log := new(slowLog)
	log.set(1, math.MaxInt64, nil) // It has arrived, whatever is written.
	s := newRemote(t, RemoteOptions{Log: log}, "--max-pool-size", "8MiB")
	s.write(8000)
	s.CutNewFile()
	maastest.Eventually(t, "the server is full", s.full.Load)
	all := s.write(100)
	require.NoError(t, s.Truncate(all[0].file()))
	s.arrives() // There is room again.
	checkIterates(t, s, all)
}

// writeLocal writes some local files of n chunks each.
func (s *remote) writeLocal(files, n int) (chunkDir string, all []written) {
	chunkDir = filepath.Join(s.dir, "chunks_head")
	local := localChunks(s.t, chunkDir)
	for range files {
		all = append(all, write(s.t, local, s.rnd, n)...)
		local.CutNewFile()
	}
	require.NoError(s.t, local.Close())
	return chunkDir, all
}

func TestImport__local_chunks_become_remote_and_their_files_go(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	chunkDir, all := s.writeLocal(2, 1000)
	require.Equal(t, len(all), maastest.Must(s.Import(chunkDir))(t))
	require.NoDirExists(t, chunkDir)
	for i, l := range list(t, s) {
		all[i].ref = l.ref
	}
	s.holds(all)

	require.Zero(t, maastest.Must(s.Import(chunkDir))(t), "at the second start")
}

// Replay reads the log behind the last chunk of a series: samples in a hole would be lost.
func TestImport__ends_in_front_of_damage(t *testing.T) {
	for what, damage := range map[string]func(t *testing.T, path string){
		"a wrong byte":   func(t *testing.T, path string) { flip(t, path, 5000) },
		"a wrong header": func(t *testing.T, path string) { flip(t, path, 0) },
		"no such file":   func(t *testing.T, path string) { require.NoError(t, os.Remove(path)) },
	} {
		t.Run(what, func(t *testing.T) {
			s := newRemote(t, RemoteOptions{})
			chunkDir, _ := s.writeLocal(3, 100)
			damage(t, filepath.Join(chunkDir, "000002"))

			n := maastest.Must(s.Import(chunkDir))(t)
			require.GreaterOrEqual(t, n, 100)
			require.Less(t, n, 200)
			require.NoDirExists(t, chunkDir)
		})
	}
}

func flip(t *testing.T, path string, at int) {
	b := maastest.Must(os.ReadFile(path))(t)
	b[at] ^= 1
	require.NoError(t, os.WriteFile(path, b, 0o666))
}
