// SPDX-License-Identifier: Apache-2.0

package memory

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

func TestFollow__who_becomes_a_standby(t *testing.T) {
	server, dead := maastest.Start(t), maastest.Start(t)
	dead.Kill()
	leader := opened(t, Options{URL: server.URL, Owner: "led", Follow: true})
	require.False(t, leader.Following(), "the name was free")
	forked := func(context.Context, remotefile.Memory, *remotefile.Listing, bool) (Relation, error) {
		return Forked, nil
	}
	for name, c := range map[string]struct {
		options Options
		follows bool
	}{
		"the name is taken":                            {Options{URL: server.URL, Owner: "led"}, true},
		"the name is taken, and there is a log":        {Options{URL: server.URL, Owner: "led", Dir: logged(t, t.TempDir())}, true},
		"the log is another one":                       {Options{URL: server.URL, Owner: "free", Dir: logged(t, t.TempDir()), Compare: forked}, true},
		"the name is free":                             {Options{URL: server.URL, Owner: "another"}, false},
		"it has never led, and nobody can be asked":    {Options{URL: dead.URL, Owner: "led"}, true},
		"it has a log of its own, and nobody is there": {Options{URL: dead.URL, Owner: "led", Dir: logged(t, t.TempDir())}, false},
	} {
		c.options.Follow = true
		m, _, err := openLogged(t, c.options)
		require.NoError(t, err, name)
		require.Equal(t, c.follows, m.Following(), name)
		require.NoError(t, m.Close(), name)
	}
}

func TestFollow__leads_once_the_name_is_free(t *testing.T) {
	t.Parallel()
	server := maastest.Start(t)
	lost := make(chan error, 1)
	leader := opened(t, Options{URL: server.URL, Owner: "me", Follow: true, Lost: func(err error) { lost <- err }})
	file := remotefile.New("me", leader.Arena().Epoch, remotefile.Name{Kind: remotefile.WAL}, false)
	require.NoError(t, leader.Write("append", 1, func(ctx context.Context, c *Conn) error { return file.Append(ctx, c, []byte{1}) }))
	dir := t.TempDir()
	m := opened(t, Options{URL: server.URL, Owner: "me", Follow: true, Dir: dir})
	require.NoError(t, m.BeginFollowing())
	state, err := LoadState(dir)
	require.NoError(t, err)
	require.True(t, state.Following)

	require.True(t, IsFollowed(m.Lead(context.Background())))
	require.False(t, m.Up())
	require.ErrorIs(t, allocate(m, 1000), ErrDegraded, "it writes nothing")
	mem, err := m.Look(context.Background())
	require.NoError(t, err)
	allocations, err := mem.List(context.Background(), "me")
	require.NoError(t, err)
	require.Len(t, allocations, 1)

	// The lease lapses.
	require.NoError(t, maas.EndSession(context.Background(), m.o.client(), leader.State().Session))
	maastest.Eventually(t, "the name is free", func() bool { return m.Lead(context.Background()) == nil })
	require.True(t, m.Up())
	require.False(t, m.Following())
	require.True(t, m.Holds())
	require.Equal(t, leader.Arena().Epoch+1, m.Arena().Epoch)
	require.NoError(t, allocate(m, 1000))
	require.Equal(t, 1.0, testutil.ToFloat64(m.Metrics().Promotions))
	require.Zero(t, m.Metrics().Behind())
	require.NoError(t, m.EndFollowing())
	state, err = LoadState(dir)
	require.NoError(t, err)
	require.False(t, state.Following)
	require.Equal(t, m.Arena().Epoch, state.Epoch)

	leader.trip(maas.ErrSessionLost)
	maastest.Eventually(t, "it knows", func() bool { return !leader.Holds() })
	select {
	case err := <-lost:
		require.ErrorIs(t, err, ErrLost)
	case <-time.After(time.Minute):
		require.Fail(t, "the old leader goes on")
	}
}

// A restarted server knows no session, and the leader comes back for its name.
func TestFollow__leaves_the_name_to_the_leader_after_a_restart_of_the_server(t *testing.T) {
	t.Parallel()
	server := maastest.Start(t)
	leader := opened(t, Options{URL: server.URL, Owner: "me", Follow: true, Lost: func(err error) { t.Error(err) }})
	m := opened(t, Options{URL: server.URL, Owner: "me", Follow: true})
	late := opened(t, Options{URL: server.URL, Owner: "me", Follow: true})
	require.True(t, IsFollowed(m.Lead(context.Background())))
	server.Kill()
	server.Restart()
	arena := leader.Arena()
	require.True(t, IsFollowed(late.Lead(context.Background())), "it has not asked this server, nor the one before")
	for leader.Arena() == arena || !leader.Up() {
		require.True(t, IsFollowed(m.Lead(context.Background())))
		time.Sleep(20 * time.Millisecond)
	}
	require.True(t, m.Following())
	require.NoError(t, late.Close())
	require.NoError(t, leader.Close())
	maastest.Eventually(t, "the name is free", func() bool { return m.Lead(context.Background()) == nil })
}

// The server is restarted after it has said that the name is free: then it does not know who had the name.
func TestFollow__leaves_a_name_that_was_free_at_another_start_of_the_server(t *testing.T) {
	server := maastest.Start(t)
	leader, m := nodes(t, server.URL)
	require.True(t, IsFollowed(m.Lead(context.Background())))
	m.freeAt = m.heldAt
	require.NoError(t, leader.Close())
	server.Kill()
	server.Restart()
	m.empty, m.opening = true, true
	require.ErrorIs(t, m.connect(context.Background()), errMayLive)
	require.False(t, m.Holds())
	other := opened(t, Options{URL: server.URL, Owner: "me", Follow: true})
	require.False(t, other.Following(), "the name is free")
	require.NoError(t, other.Close())
	require.NoError(t, m.Close())
}

// A Prometheus that began without the server leads, until it turns out that another leads.
func TestFollow__who_began_alone_ends_when_another_leads(t *testing.T) {
	server := maastest.Start(t)
	server.Kill()
	m := watched(t, Options{URL: server.URL, Owner: "me", Dir: logged(t, t.TempDir()), Follow: true})
	require.False(t, m.Following())
	server.Restart()
	other := opened(t, Options{URL: server.URL, Owner: "me", Follow: true})
	err := m.connect(context.Background())
	require.ErrorIs(t, err, maas.ErrNameTaken)
	for range 3 {
		require.False(t, m.lostName(context.Background(), err), "perhaps by its own predecessor, which died")
	}
	m.takenSince = m.takenSince.Add(-SessionTTL)
	require.True(t, m.lostName(context.Background(), err))
	m.o.Follow = false
	require.False(t, m.lostName(context.Background(), err))
	require.NoError(t, other.Close())
}

// A session whose connection broke keeps the name at the server for the rest of its lease: that is not another
// leader.
func TestFollow__a_leader_does_not_lose_its_name_to_its_own_session(t *testing.T) {
	server := maastest.Start(t)
	m := watched(t, Options{URL: server.URL, Owner: "me", Follow: true})
	defer func() { require.NoError(t, m.closeClient()) }()
	taken := fmt.Errorf("open: %w", maas.ErrNameTaken)
	require.False(t, m.lostName(context.Background(), taken), "it looks twice")
	require.False(t, m.lostName(context.Background(), taken), "it is its own")
	m.opened = time.Now().Add(-time.Minute)
	require.True(t, m.lostName(context.Background(), taken), "another's is younger")
}
