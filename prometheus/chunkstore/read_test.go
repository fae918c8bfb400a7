// SPDX-License-Identifier: Apache-2.0

// What reads cost, and that those of a compaction outlast slow answers and short outages.

package chunkstore

import (
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/headchunk"
)

// seriesLock is free whenever a read waits.
type seriesLock struct {
	sync.Mutex
	unlocked int
}

func (l *seriesLock) Unlock() {
	l.unlocked++
	l.Mutex.Unlock()
}

// patiently reads a chunk as a compaction does, with its series locked.
func (s *remote) patiently(ref chunks.ChunkDiskMapperRef, lock sync.Locker) (data string, err error) {
	lock.Lock()
	defer lock.Unlock()
	chk, err := s.ChunkPatiently(ref, lock)
	if err != nil {
		return "", err
	}
	return string(chk.Bytes()), nil
}

func TestRemote__a_compaction_has_the_patience_that_a_query_has_not(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	var delay atomic.Int64 // Of its reads, in nanoseconds.
	address := maastest.Proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.URL.Path == "/data/read" || r.Method == http.MethodGet && path.Base(r.URL.Path) == "data" {
			select {
			case <-time.After(time.Duration(delay.Load())):
			case <-r.Context().Done():
			}
		}
		serve(w, r)
	})
	s := remoteAt(t, server, address, RemoteOptions{Options: Options{CacheSize: 1}})
	s.outagePatience = time.Minute
	all := s.write(1000)
	s.arrives()

	delay.Store(int64(1500 * time.Millisecond))
	var lock seriesLock
	require.Equal(t, all[0].data, maastest.Must(s.patiently(all[0].ref, &lock))(t))
	require.Greater(t, lock.unlocked, 1, "unlocked while it waited")
	require.True(t, s.m.Up())
	require.Zero(t, testutil.ToFloat64(s.m.Metrics().Errors.WithLabelValues("read")))

	_, err := s.Chunk(all[500].ref)
	require.ErrorContains(t, err, "did not answer")
	require.False(t, s.m.Up())
	require.Equal(t, all[900].data, maastest.Must(s.patiently(all[900].ref, &lock))(t), "although the query has opened the breaker")
	_, err = s.patiently(makeRef(all[0].file()+1, 8), &lock)
	require.ErrorContains(t, err, "no head chunk", "at once")
	delay.Store(0)
}

// One missing answer is no reason to begin a compaction again.
func TestRemote__a_compaction_outlasts_a_short_outage(t *testing.T) {
	s := newRemote(t, RemoteOptions{Options: Options{CacheSize: 1}})
	s.outagePatience = time.Minute
	all := s.write(10)
	s.arrives()
	s.server.Pause()
	var reading sync.WaitGroup
	reading.Go(func() {
		data, err := s.patiently(all[0].ref, new(sync.Mutex))
		assert.NoError(t, err)
		assert.Equal(t, all[0].data, data)
	})
	maastest.Eventually(t, "the breaker is open", func() bool { return !s.m.Up() })
	s.server.Resume()
	reading.Wait()
}

// writeEmpty adds n chunks of so many zeros, and waits until they are in remote memory.
func (s *remote) writeEmpty(n, size int) (refs []chunks.ChunkDiskMapperRef) {
	s.t.Helper()
	chk := maastest.Must(chunkenc.FromData(chunkenc.EncXOR, make([]byte, size)))(s.t)
	for range n {
		refs = append(refs, s.WriteChunk(1, 0, 0, chk, false, nil))
	}
	s.arrives()
	return refs
}

// A block counts once for each chunk, wherever in it the chunk lies.
func TestReader__hits_and_misses_are_blocks(t *testing.T) {
	s := newRemote(t, RemoteOptions{})
	refs := s.writeEmpty(200, 1000) // Every 16th or so lies in two blocks.
	hits, misses := s.m.Metrics().CacheHits, s.m.Metrics().CacheMisses
	for i := len(refs) - 1; i >= 0; i-- { // Backwards: nothing is read ahead.
		_, first := refs[i].Unpack()
		last := first + headchunk.EncodedSize(1000) - 1
		blocks := last/blockSize - first/blockSize + 1
		hadHits, hadMisses := testutil.ToFloat64(hits), testutil.ToFloat64(misses)
		maastest.Must(s.Chunk(refs[i]))(t)
		missed := testutil.ToFloat64(misses) - hadMisses
		require.Equal(t, float64(blocks), testutil.ToFloat64(hits)-hadHits+missed, "chunk %d", i)
	}
	blocks := (s.files[0].file.Len() + blockSize - 1) / blockSize
	require.Equal(t, float64(blocks), testutil.ToFloat64(misses))
	require.Equal(t, float64(s.files[0].file.Len()), testutil.ToFloat64(s.m.Metrics().BytesRead.WithLabelValues("chunks_head")))
}

// A compaction reads the chunks of one series after the other, and so goes side by side through the parts of a
// file that the passes wrote.
func TestReader__reads_ahead_in_streams_that_alternate(t *testing.T) {
	const size, streams, blocks = 1000, 8, 48
	for name, c := range map[string]struct {
		cache  int64
		misses float64 // At most, per block of the file.
	}{
		"all that is ahead fits": {4 * streams * maxReadAhead * blockSize, 0.25},
		"there are too many":     {streams * maxReadAhead * blockSize / 2, 1.1},
	} {
		t.Run(name, func(t *testing.T) {
			s := newRemote(t, RemoteOptions{Options: Options{CacheSize: c.cache}})
			refs := s.writeEmpty(streams*blocks*blockSize/headchunk.EncodedSize(size), size)
			misses, read := s.m.Metrics().CacheMisses, s.m.Metrics().BytesRead.WithLabelValues("chunks_head")
			hadMisses, hadRead := testutil.ToFloat64(misses), testutil.ToFloat64(read)
			for i := range len(refs) / streams {
				for stream := range streams {
					maastest.Must(s.Chunk(refs[stream*len(refs)/streams+i]))(t)
				}
			}
			missed, bytes := testutil.ToFloat64(misses)-hadMisses, testutil.ToFloat64(read)-hadRead
			t.Logf("%.0f misses, %.0f bytes of %d blocks", missed, bytes, streams*blocks)
			require.LessOrEqual(t, missed, c.misses*streams*blocks)
			require.LessOrEqual(t, bytes, 1.35*streams*blocks*blockSize, "each stream reads beyond its end, once")
		})
	}
}
