// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"net/http"
	"net/http/httptest"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

func openLogged(t *testing.T, o Options) (*Manager, *maastest.Log, error) {
	log := new(maastest.Log)
	o.Logger, o.Metrics = slog.New(slog.NewTextHandler(log, nil)), NewMetrics(prometheus.NewPedanticRegistry())
	o.Dir, o.Transport = cmp.Or(o.Dir, t.TempDir()), cmp.Or(o.Transport, "http")
	m, err := Open(context.Background(), o)
	if err == nil {
		t.Cleanup(func() { m.Close() })
	}
	return m, log, err
}

// openedLogged is openLogged for a start that has to succeed; opened is the same without the log.
func openedLogged(t *testing.T, o Options) (*Manager, *maastest.Log) {
	m, log, err := openLogged(t, o)
	require.NoError(t, err)
	return m, log
}

func opened(t *testing.T, o Options) *Manager {
	m, _ := openedLogged(t, o)
	return m
}

func allocate(m *Manager, size int64) error {
	return m.Write("allocate", 0, func(ctx context.Context, c *Conn) error {
		_, err := c.Allocate(ctx, maas.AllocateOptions{Size: size, Owner: m.Owner()})
		return err
	})
}

// seenBy returns the URL of a proxy in front of a server, which calls see with each POST /allocate. The server does
// not get what see answers.
func seenBy(t *testing.T, server string, see func(w http.ResponseWriter) (answered bool)) string {
	return maastest.Proxy(t, server, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.URL.Path != "/allocate" || !see(w) {
			serve(w, r)
		}
	})
}

func TestRoom__a_full_server_is_asked_once_a_second_and_said_once(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "8MiB")
	var asked atomic.Int64
	m, log := openedLogged(t, Options{Owner: "me", URL: seenBy(t, server.URL, func(http.ResponseWriter) bool {
		asked.Add(1)
		return false
	})})
	defer m.Close()
	require.NoError(t, allocate(m, 4<<20))
	require.NoError(t, allocate(m, 4<<20))
	require.Zero(t, testutil.ToFloat64(m.Metrics().Degraded))

	asked.Store(0)
	begun := time.Now()
	for range 1000 {
		err := allocate(m, 4<<20)
		require.True(t, maas.IsExhausted(err), err)
		require.True(t, IsFull(err), err)
	}
	require.LessOrEqual(t, asked.Load(), 1+int64(time.Since(begun)/time.Second))
	require.True(t, m.Up())
	require.Equal(t, 1.0, testutil.ToFloat64(m.Metrics().Up))
	require.Equal(t, 1.0, testutil.ToFloat64(m.Metrics().Degraded))
	require.Equal(t, 1, log.Count("has no room;"))

	require.NoError(t, m.Write("free", 0, func(ctx context.Context, c *Conn) error {
		lent := maastest.Must(c.List(ctx, "me"))(t)
		_, _, err := c.Free(ctx, lent[0].ID)
		return err
	}))
	maastest.Eventually(t, "there is room", func() bool { return allocate(m, 4<<20) == nil })
	require.Zero(t, testutil.ToFloat64(m.Metrics().Degraded))
	require.Equal(t, 1, log.Count("has room again"))
	require.Equal(t, 1, log.Count("has no room;"))
	require.Equal(t, 1, log.Count("Allocated from MaaS"), "one line a minute")
}

// Too many allocations are like too little room, too many requests with a wrong token are not.
func TestRoom__a_server_that_wants_another_token_is_not_full(t *testing.T) {
	server := maastest.Start(t)
	for challenge, full := range map[string]bool{"": true, `Bearer realm="maas"`: false} {
		m, _ := openedLogged(t, Options{Owner: "me", URL: seenBy(t, server.URL, func(w http.ResponseWriter) bool {
			if challenge != "" {
				w.Header().Set("WWW-Authenticate", challenge)
			}
			w.WriteHeader(http.StatusTooManyRequests)
			_, _ = w.Write([]byte(`{"error":{"code":"too_many","message":"too many"}}`))
			return true
		})})
		err := allocate(m, 1<<20)
		require.ErrorContains(t, err, "429")
		require.Equal(t, full, IsFull(err), err)
		require.NoError(t, m.Close())
	}
}

func TestRoom__what_is_smaller_is_asked_for(t *testing.T) {
	var r room
	require.True(t, r.close(4<<20, errNotAsked))
	require.Error(t, r.refused(4<<20))
	require.NoError(t, r.refused(1<<20))
	require.False(t, r.open(1<<20), "there is none for what was refused")
	require.False(t, r.close(1<<20, errNotAsked))
	require.Error(t, r.refused(1<<20))
	require.True(t, r.open(1<<20))
	require.NoError(t, r.refused(4<<20))
}

func TestRoom__pauses_grow_to_a_bound(t *testing.T) {
	var r room
	for range 20 {
		r.close(1, errNotAsked)
	}
	require.Equal(t, lastPause, r.pause)
	r.hurry()
	require.Equal(t, firstPause, r.pause)
}

func TestBreaker__what_the_server_has_no_class_for_is_no_failure(t *testing.T) {
	m := open(t, maastest.Start(t, "--slab-sizes", "64KiB,1MiB").URL)
	for range 2 * failuresToOpen {
		err := allocate(m, 4<<20)
		require.True(t, IsFull(err), err)
	}
	require.True(t, m.Up())
	require.NoError(t, allocate(m, 1<<20))
}

func TestOpen__a_server_whose_slabs_are_too_small(t *testing.T) {
	server := maastest.Start(t, "--slab-sizes", "1KiB,8KiB")
	_, _, err := openLogged(t, Options{URL: server.URL, Owner: "me", Required: true})
	require.ErrorContains(t, err, "--slab-sizes")

	m, log := openedLogged(t, Options{URL: server.URL, Owner: "me"})
	require.False(t, m.Up())
	require.ErrorContains(t, health(m), "--slab-sizes")
	for range 3 {
		m.stillDown(m.connect(context.Background()))
	}
	require.Equal(t, 1, log.Count("--slab-sizes"))
}

// slowLink is a server behind a link that carries this many bytes of an answer in a second.
func slowLink(t *testing.T, server string, rate int) string {
	return maastest.Proxy(t, server, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.URL.Path != "/data/read" {
			serve(w, r)
			return
		}
		answer := httptest.NewRecorder()
		serve(answer, r)
		select {
		case <-time.After(time.Duration(answer.Body.Len()) * time.Second / time.Duration(rate)):
		case <-r.Context().Done():
		}
		maps.Copy(w.Header(), answer.Header())
		w.WriteHeader(answer.Code)
		_, _ = answer.Body.WriteTo(w)
	})
}

// All headers together take longer than one request may; each request is answered in time.
func TestOpen__many_extents_over_a_slow_link(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	const extents, header = 2000, 128
	_, err := shared.Client(t, server.URL).Allocate(t.Context(), maas.AllocateOptions{Size: 4096, Count: extents, Owner: "me", Lifetime: "delete"})
	require.NoError(t, err)

	m := opened(t, Options{URL: slowLink(t, server.URL, extents*header/6), Owner: "me", Required: true})
	require.Len(t, m.Arena().Listing.Orphans, extents)
}
