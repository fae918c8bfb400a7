// SPDX-License-Identifier: Apache-2.0

// Knowing whether this process leads.

package memory

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
)

// leads is Leads for a caller with little time.
func leads(m *Manager) bool {
	ctx, cancel := context.WithTimeout(context.Background(), 3*leadInterval)
	defer cancel()
	return m.Leads(ctx)
}

func TestLeads__is_not_known_between_the_end_of_a_lease_and_the_server_s_answer(t *testing.T) {
	server := maastest.Start(t)
	m := watched(t, Options{URL: server.URL, Owner: "me", Follow: true})
	defer func() { require.NoError(t, m.closeClient()) }()
	require.True(t, leads(m), "its lease runs")

	m.lapsedSession(m.client.Load())
	require.NoError(t, m.closeClient())
	require.True(t, leads(m), "it would run")

	m.leaseEnd = time.Now()
	require.False(t, leads(m))
	m.goesOn(m.leaseEnd.Add(-time.Second))
	require.False(t, leads(m), "the server was asked before")
	m.goesOn(time.Now())
	require.True(t, leads(m), "it is out of reach")

	m.leaseEnd = time.Now()
	require.NoError(t, m.connect(context.Background()))
	require.True(t, leads(m), "the name is its own again")
}

func TestLeads__who_never_had_a_lease_waits_for_nothing(t *testing.T) {
	m := watched(t, Options{URL: "http://127.0.0.1:1", Owner: "me"})
	require.True(t, leads(m))
	m.o.Follow = true
	require.True(t, leads(m))
}

func TestFollow__a_leader_that_is_started_again_at_once_leaves_the_name_to_its_standby(t *testing.T) {
	server := maastest.Start(t)
	o := Options{URL: server.URL, Owner: "me", Dir: logged(t, t.TempDir()), Follow: true, Lost: func(error) {}}
	first := opened(t, o)
	first.place.release() // As if it had been killed.
	defer func() { require.NoError(t, first.Close()) }()

	taken := make(chan *maas.Client)
	go func() {
		for {
			time.Sleep(standbyTime / 4)
			if c, err := maas.Open(context.Background(), first.o.client()); err == nil {
				taken <- c
				return
			}
		}
	}()
	second := opened(t, o)
	require.True(t, second.Following())
	require.NoError(t, (<-taken).Close())
}

func TestFollow__a_leader_without_a_standby_leads_again(t *testing.T) {
	server := maastest.Start(t)
	o := Options{URL: server.URL, Owner: "me", Dir: logged(t, t.TempDir()), Follow: true, Lost: func(error) {}}
	first := opened(t, o)
	first.place.release()
	second := opened(t, o)
	require.False(t, second.Following())
	require.True(t, second.Up())
	require.NoError(t, second.Close())
	require.NoError(t, first.Close())
}
