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
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/headchunk"
)

// slowReads is a server whose reads take this many nanoseconds.
func slowReads(t *testing.T, server string) (address string, delay *atomic.Int64) {
	t.Helper()
	delay = new(atomic.Int64)
	address = maastest.Proxy(t, server, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.URL.Path == "/data/read" || r.Method == http.MethodGet && path.Base(r.URL.Path) == "data" {
			select {
			case <-time.After(time.Duration(delay.Load())):
			case <-r.Context().Done():
			}
		}
		serve(w, r)
	})
	return address, delay
}

// seriesLock is free whenever a read waits.
type seriesLock struct {
	sync.Mutex
	unlocked int
}

func (l *seriesLock) Unlock() {
	l.unlocked++
	l.Mutex.Unlock()
}

func TestRemote__a_compaction_has_the_patience_that_a_query_has_not(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	address, delay := slowReads(t, server.URL)
	s := remoteAt(t, server, address, RemoteOptions{Options: Options{CacheSize: 1}})
	s.outagePatience = time.Minute
	all := s.write(1000)
	s.arrives()

	delay.Store(int64(1500 * time.Millisecond))
	var lock seriesLock
	patiently := func(w written) {
		t.Helper()
		lock.Lock()
		chk, err := s.ChunkPatiently(w.ref, &lock)
		require.NoError(t, err)
		require.Equal(t, w.data, string(chk.Bytes()))
		lock.Unlock()
	}
	patiently(all[0])
	require.Greater(t, lock.unlocked, 1, "unlocked while it waited")
	require.True(t, s.m.Up())
	require.Zero(t, testutil.ToFloat64(s.m.Metrics().Errors.WithLabelValues("read")))

	_, err := s.Chunk(all[500].ref)
	require.ErrorContains(t, err, "did not answer")
	require.False(t, s.m.Up())
	patiently(all[900]) // Although the query has opened the breaker.

	number, _ := all[0].ref.Unpack()
	lock.Lock()
	_, err = s.ChunkPatiently(makeRef(uint32(number)+1, 8), &lock)
	require.ErrorContains(t, err, "no head chunk", "at once")
	lock.Unlock()
	delay.Store(0)
}

// One missing answer is no reason to begin a compaction again.
func TestRemote__a_compaction_outlasts_a_short_outage(t *testing.T) {
	s := newRemote(t, RemoteOptions{Options: Options{CacheSize: 1}})
	s.outagePatience = time.Minute
	all := s.write(10)
	s.arrives()
	s.server.Pause()
	var lock sync.Mutex
	var reading sync.WaitGroup
	reading.Go(func() {
		lock.Lock()
		defer lock.Unlock()
		chk, err := s.ChunkPatiently(all[0].ref, &lock)
		if err != nil || string(chk.Bytes()) != all[0].data {
			t.Errorf("%v, or another chunk", err)
		}
	})
	maastest.Eventually(t, "the breaker is open", func() bool { return !s.m.Up() })
	s.server.Resume()
	reading.Wait()
}

// writeEmpty adds n chunks of so many zeros, and waits until they are in remote memory.
func (s *remote) writeEmpty(n, size int) (refs []chunks.ChunkDiskMapperRef) {
	s.t.Helper()
	chk, err := chunkenc.FromData(chunkenc.EncXOR, make([]byte, size))
	require.NoError(s.t, err)
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
		_, err := s.Chunk(refs[i])
		require.NoError(t, err)
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
					_, err := s.Chunk(refs[stream*len(refs)/streams+i])
					require.NoError(t, err)
				}
			}
			missed, bytes := testutil.ToFloat64(misses)-hadMisses, testutil.ToFloat64(read)-hadRead
			t.Logf("%.0f misses, %.0f bytes of %d blocks", missed, bytes, streams*blocks)
			require.LessOrEqual(t, missed, c.misses*streams*blocks)
			require.LessOrEqual(t, bytes, 1.35*streams*blocks*blockSize, "each stream reads beyond its end, once")
		})
	}
}
