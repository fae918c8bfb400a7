// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// held is what the server lends to an owner.
func held(t *testing.T, url, owner string) []maas.Allocation {
	return maastest.Must(shared.Client(t, url).List(context.Background(), owner))(t)
}

func calls(t *testing.T, m *Manager, op string) uint64 {
	reg := prometheus.NewRegistry()
	reg.MustRegister(m.Metrics().Durations)
	for _, metric := range maastest.Must(reg.Gather())(t)[0].GetMetric() {
		if metric.GetLabel()[0].GetValue() == op {
			return metric.GetHistogram().GetSampleCount()
		}
	}
	return 0
}

func TestLease__memory_of_a_made_up_owner_goes_by_itself(t *testing.T) {
	server := maastest.Start(t)
	m, log := openedLogged(t, Options{URL: server.URL, Lease: 10 * time.Second})
	require.Equal(t, 1, log.Count("level=WARN"), "it is said at the start")
	require.Equal(t, 1, log.Count("--storage.tsdb.maas.owner"))
	require.NoError(t, allocate(m, 1000))
	require.Equal(t, "ttl", held(t, server.URL, m.Owner())[0].Lifetime)
	require.NoError(t, m.Close())
	maastest.Eventually(t, "its memory is gone", func() bool { return len(held(t, server.URL, m.Owner())) == 0 })
}

func TestLease__memory_of_a_given_owner_stays(t *testing.T) {
	server := maastest.Start(t)
	m, log := openedLogged(t, Options{URL: server.URL, Owner: "me", Lease: time.Second})
	require.Zero(t, log.Count("level=WARN"))
	require.NoError(t, allocate(m, 1000))
	require.NoError(t, m.Close())
	require.Equal(t, "delete", held(t, server.URL, "me")[0].Lifetime)
}

// The test is the goroutine that watches the server.
func watched(t *testing.T, o Options) *Manager {
	m := opened(t, o)
	m.cancel()
	<-m.done
	return m
}

func TestLease__all_are_renewed_when_it_is_time(t *testing.T) {
	server := maastest.Start(t)
	m := watched(t, Options{URL: server.URL})
	for range 3 {
		require.NoError(t, allocate(m, 1000))
	}
	m.leases.renewed = time.Now()
	m.renewLeases(t.Context())
	require.Zero(t, calls(t, m, "renew"), "it is not time")
	m.leases.renewed = time.Now().Add(-m.o.Lease / renewals)
	m.renewLeases(t.Context())
	require.Equal(t, uint64(3), calls(t, m, "renew"))
	require.Less(t, time.Since(m.leases.renewed), m.o.Lease/renewals)

	// The next Prometheus on this directory is given the name: memory with a lease keeps it.
	require.NoError(t, m.Close())
	next := watched(t, Options{URL: server.URL, Owner: m.Owner(), Dir: m.o.Dir})
	next.leases.renewed = time.Time{}
	before := calls(t, next, "renew")
	next.renewLeases(t.Context())
	require.Equal(t, before+3, calls(t, next, "renew"))
	require.True(t, next.Up())
}

// A Prometheus that ends does not wait for thousands of them.
func TestLease__an_end_ends_the_renewals(t *testing.T) {
	server := maastest.Start(t)
	_, err := shared.Client(t, server.URL).Allocate(context.Background(), maas.AllocateOptions{
		Size: 1 << 10, Count: 50, Owner: "me", Lifetime: "ttl", TTL: time.Minute,
	})
	require.NoError(t, err)
	renewals := make(chan struct{}, 100)
	slow := maastest.Proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if strings.HasPrefix(r.URL.Path, "/allocate/") {
			renewals <- struct{}{}
			time.Sleep(50 * time.Millisecond)
		}
		serve(w, r)
	})
	m := opened(t, Options{URL: slow, Owner: "me"})
	maastest.Receive(t, "the first one is renewed", renewals)
	require.NoError(t, m.Close())
	require.Less(t, len(renewals), 25) // Of 50, which take 50 ms each: also on a slow machine.
	require.Zero(t, m.leases.renewed, "not all were")
}

// Nobody reads old memory, so nobody would miss it.
func TestLease__what_lapsed_while_the_server_was_away_is_noticed(t *testing.T) {
	m := watched(t, Options{URL: maastest.Start(t).URL})
	m.renewLeases(t.Context())
	arena := m.Arena()
	m.trip(maas.ErrSessionLost)
	require.NoError(t, m.connect(context.Background()))
	require.Same(t, arena, m.Arena())

	m.trip(maas.ErrSessionLost)
	m.leases.renewed = time.Now().Add(-m.o.Lease)
	require.NoError(t, m.connect(context.Background()))
	require.NotSame(t, arena, m.Arena(), "everything is looked up anew")
}

// Each page is answered in time, and all of them take longer than any one may.
func TestList__the_time_limit_is_for_a_page(t *testing.T) {
	server := maastest.Start(t)
	_, err := shared.Client(t, server.URL).Allocate(context.Background(), maas.AllocateOptions{Size: 1 << 10, Count: 2001, Owner: "me"})
	require.NoError(t, err)
	var pages atomic.Int32
	slow := maastest.Proxy(t, server.URL, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.URL.Path == "/allocations" {
			pages.Add(1)
			time.Sleep(stepTimeout/3 + 100*time.Millisecond)
		}
		serve(w, r)
	})
	m := watched(t, Options{URL: slow, Owner: "me"})
	require.True(t, m.Up())
	require.Len(t, m.Arena().Listing.Orphans, 2001)
	before := pages.Load()
	m.renewLeases(t.Context())
	require.True(t, m.Up())
	require.Equal(t, before+3, pages.Load())
	require.NotZero(t, m.leases.renewed)
}
