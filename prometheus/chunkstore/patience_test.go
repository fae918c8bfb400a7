// SPDX-License-Identifier: Apache-2.0

// Reads of a compaction outlast slow answers and short outages.

package chunkstore

import (
	"net/http"
	"path"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
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
