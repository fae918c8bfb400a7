// SPDX-License-Identifier: Apache-2.0

// Taking the lead, and giving it back.

package memory

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// nodes are two nodes of one owner: a leader and a standby.
func nodes(t *testing.T, url string) (leader, standby *Manager) {
	t.Helper()
	leader = opened(t, Options{URL: url, Owner: "me", Follow: true})
	standby = opened(t, Options{URL: url, Owner: "me", Follow: true})
	require.False(t, leader.Following())
	require.True(t, standby.Following())
	return leader, standby
}

func TestLead__takes_a_name_that_is_given_back(t *testing.T) {
	leader, standby := nodes(t, maastest.Start(t).URL)
	require.True(t, IsFollowed(standby.Lead(context.Background())))
	require.NoError(t, leader.Close())
	require.NoError(t, standby.Lead(context.Background()))
	require.False(t, standby.Following())
}

// A restarted server knows no earlier session, and may have lost the memory that would show that there was a
// leader.
func TestLead__leaves_the_leader_time_to_come_back_to_a_restarted_server(t *testing.T) {
	server := maastest.Start(t)
	leader, standby := nodes(t, server.URL)
	require.True(t, IsFollowed(standby.Lead(context.Background())))
	require.NoError(t, leader.Close())
	server.Kill()
	server.Restart()
	maastest.Eventually(t, "the server is there", func() bool {
		err := standby.Lead(context.Background())
		standby.LookAnew()
		require.Error(t, err, "it does not take the name")
		return IsFollowed(err)
	})
	require.True(t, standby.Following())
}

// A standby that has followed a log with a hole does not lead with it: it has to catch up first.
func TestLead__waits_until_a_standby_that_must_follow_has_caught_up(t *testing.T) {
	standby := opened(t, Options{URL: maastest.Start(t).URL, Owner: "me", Follow: true, MustFollow: true})
	require.True(t, standby.Following())
	require.True(t, IsFollowed(standby.Lead(context.Background())))
	standby.Metrics().Replayed(time.Now())
	maastest.Eventually(t, "it leads", func() bool { return standby.Lead(context.Background()) == nil })
}
