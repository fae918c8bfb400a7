// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"net/rpc"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"maas/client/prometheus/maastest"
)

// standby is a Prometheus that follows ours.
type standby struct {
	*process
	opened *rpc.Call
	dir    string
}

// follow starts a standby, on an empty directory, and waits until it has caught up.
func (s *scene) follow() standby {
	s.t.Helper()
	config := s.config
	config.Dir = s.t.TempDir()
	p, opened := beginProcess(s.whole, config)
	f := standby{p, opened, config.Dir}
	f.isFollowing(s.t)
	return f
}

func (f standby) isFollowing(t *testing.T) {
	t.Helper()
	maastest.Eventually(t, "the standby follows", func() bool {
		select {
		case <-f.opened.Done:
			require.Fail(t, "the standby does not follow", "%v", f.opened.Error)
		default:
		}
		var reason string
		if f.Call("child.NotReady", none{}, &reason) != nil {
			return false
		}
		m := f.metrics(t)
		return reason != "" && m["following"] == 1 && m["behind_seconds"] < 2
	})
}

// takesOver waits until the standby leads, and makes it ours.
func (s *scene) takesOver(f standby, within time.Duration) {
	s.t.Helper()
	begun := time.Now()
	select {
	case <-f.opened.Done:
		require.NoError(s.t, f.opened.Error)
	case <-time.After(time.Minute):
		require.Fail(s.t, "the standby does not take over")
	}
	took := time.Since(begun)
	s.t.Logf("the standby was ready after %s", took.Round(time.Millisecond))
	require.Less(s.t, took, within)
	s.ours = f.process
	s.config.Dir = f.dir
	require.NoError(s.t, s.ours.Call("child.Fed", s.fed, new(none)))
}

// lease is how long the server holds the name of who died.
const lease = 10 * time.Second

func TestStandby__takes_over_with_all_that_its_leader_had(t *testing.T) {
	s := newScene(t, smallerSize(t), true, func(_ *Config, child *ChildConfig) { child.Follow = true })
	s.feed(2 * time.Hour)
	s.inUse()
	f := s.follow()
	for range 6 { // Head compactions among it.
		s.feed(30 * time.Minute)
		f.isFollowing(t)
	}
	s.inUse()
	s.ours.kill()
	s.takesOver(f, lease+time.Second)
	s.blocksAreBack()
	s.same("after the standby took over")
	s.feed(during)
	s.same("when it has gone on")
	s.stop()
	s.start()
	s.same("after its next start")
}

func TestStandby__is_handed_over_to_within_a_second(t *testing.T) {
	s := newScene(t, smallerSize(t), true, func(_ *Config, child *ChildConfig) { child.Follow = true })
	s.feed(30 * time.Minute)
	for range 3 {
		s.inUse()
		f := s.follow()
		s.feed(during)
		leader := s.ours
		begun := time.Now()
		require.NoError(t, leader.Call("child.HandOver", none{}, new(none)))
		t.Logf("handed over in %s", time.Since(begun).Round(time.Millisecond))
		s.takesOver(f, time.Second)
		require.NoError(t, leader.Close())
		s.same("after the standby was handed over to")
	}
}
