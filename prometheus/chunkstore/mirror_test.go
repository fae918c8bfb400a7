// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"errors"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/headchunk"
)

// forgetful is a local mapper that can no longer read, so that reads come from remote memory.
type forgetful struct{ Local }

var errForgotten = errors.New("forgotten")

func (forgetful) Chunk(chunks.ChunkDiskMapperRef) (chunkenc.Chunk, error) { return nil, errForgotten }

// A stock mapper begins with file 1 again when all files are gone: the same refs then name other chunks.
func TestMirror__a_number_that_is_used_again_names_new_chunks(t *testing.T) {
	s := newMirror(t)
	rnd := rand.New(rand.NewSource(1))
	for range 20 {
		all := write(t, s, rnd, 300)
		checkReads(t, s, all)
		if rnd.Intn(2) == 0 {
			maastest.Eventually(t, "some of it is remote", func() bool {
				f := s.tail.ChunkFile(all[0].file())
				return f != nil && f.Len() > 0
			})
		}
		checkReads(t, s, all)
		require.NoError(t, s.Truncate(math.MaxUint32)) // Cuts the file that is being written.
		last := write(t, s, rnd, 1)
		require.NoError(t, s.Truncate(math.MaxUint32))
		checkReads(t, s, last)
	}
	require.Zero(t, testutil.ToFloat64(s.m.Metrics().LostChunks))
}

func TestMirror__what_is_remote_is_read_from_there_after_a_restart(t *testing.T) {
	s := newMirror(t)
	all := s.write(3000)
	s.restart()
	maastest.Eventually(t, "the file is attached", func() bool { return s.tail.ChunkFile(1) != nil })
	require.Zero(t, testutil.ToFloat64(s.m.Metrics().ChunksWritten))
	s.Local = forgetful{s.Local}
	checkReads(t, s, all)

	s.server.Kill()
	_, err := s.Chunk(all[0].ref)
	require.ErrorIs(t, err, errForgotten)
	require.NotZero(t, testutil.ToFloat64(s.m.Metrics().FallbackReads))
	require.Error(t, s.end()) // The session ends by itself.
}

func TestMirror__a_stopped_server_delays_reads_once(t *testing.T) {
	s := newMirror(t)
	all := s.write(3000)
	s.copied(100_000)
	s.server.Pause()
	var wg sync.WaitGroup
	for i := range 8 {
		wg.Go(func() { checkReads(t, s, all[i*300:(i+1)*300]) })
	}
	wg.Wait()
	require.False(t, s.m.Up())
	s.server.Resume()
	maastest.Eventually(t, "it is in use again", s.m.Up)
	checkReads(t, s, all)
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
	s := newMirror(t)
	all := s.write(3000)
	s.copied(100_000)
	local := &droppable{Local: s.Local}
	s.Local = local

	s.Acked(1, 100_000)
	s.Acked(1, 100_000)
	require.Equal(t, 1, local.drops, "nothing was read since")
	s.Acked(1, 100_001)
	require.Equal(t, 2, local.drops)

	s.server.Kill()
	checkReads(t, s, all[:100])
	s.Acked(1, 100_001)
	s.Acked(1, 100_001)
	require.Equal(t, 3, local.drops)
	require.Error(t, s.end()) // The session ends by itself.
}

// When the tail looks at the log, it takes no byte of a file behind this position.
func TestMirror__knows_where_the_chunks_end(t *testing.T) {
	s := newMirror(t)
	number, length := s.chunksEnd()
	require.Equal(t, [2]int64{1, 0}, [2]int64{int64(number), length}, "no file yet")

	all := s.write(500)
	number, length = s.chunksEnd()
	require.Equal(t, uint32(1), number)
	require.NoError(t, s.end())
	b := maastest.Must(os.ReadFile(filepath.Join(s.dir, "chunks_head", "000001")))(t)
	n, records := headchunk.Prefix(b[headchunk.FileHeaderSize:])
	require.Equal(t, len(all), records)
	require.Equal(t, int64(headchunk.FileHeaderSize+n), length)
	require.Equal(t, length, s.tail.ChunkFile(1).Len())
}

// corrupt is a local mapper whose files cannot be read.
type corrupt struct{ Local }

func (corrupt) IterateAllChunks(IterateFunc) error { return errForgotten }

// A snapshot may be copied once all chunks are: those of a file that is about to be deleted are not.
func TestMirror__does_not_know_where_the_chunks_end_that_it_could_not_read(t *testing.T) {
	s := newMirror(t)
	m := maastest.Must(NewMirror(corrupt{s.Local}, s.m, s.tail, Options{}))(t)
	defer m.reader.close()
	require.ErrorIs(t, m.IterateAllChunks(nil), errForgotten)
	number, length := m.chunksEnd()
	require.Zero(t, number)
	require.Zero(t, length)
}
