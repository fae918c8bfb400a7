// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited && maasrdma

package sameanswers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// The same over RDMA, with a smaller load: the machine with the device is emulated. The network of the other faults
// carries only HTTP.
func TestRDMA__answers_are_the_same_whatever_fails(t *testing.T) {
	small := runSize(t)
	small.series, small.steps = 100, StepsIn(2*time.Hour)
	t.Run("mirror", func(t *testing.T) {
		runFaults(t, newScene(t, small, true), []fault{
			{name: "the data directory is destroyed, another node takes over", strike: (*scene).destroy},
			{name: "server killed, its memory lost", strike: (*scene).killServer, mend: (*scene).restartEmpty},
			{name: "killed, restarted with the server", strike: (*scene).killOurs},
		})
	})
	t.Run("remote", func(t *testing.T) {
		runFaults(t, newScene(t, small, false), []fault{
			{name: "server killed, its memory lost", strike: (*scene).killServer,
				during: (*scene).answersOrSays, mend: (*scene).failStop},
			{name: "killed, restarted with the server", strike: (*scene).killOurs},
		})
	})
}

// A standby reads what its leader wrote by one-sided reads, in which the leader's host takes no part.
func TestRDMA__a_standby_takes_over_from_who_dies_and_from_who_hands_over(t *testing.T) {
	small := runSize(t)
	small.series, small.steps = 100, StepsIn(2*time.Hour)
	s := newScene(t, small, true, func(_ *Config, child *ChildConfig) { child.Follow = true })
	s.feed(before)
	s.inUse()
	f := s.follow()
	s.feed(during)
	f.isFollowing(t)
	s.inUse()
	s.ours.kill()
	s.takesOver(f, time.Minute)
	s.same("after a death")

	s.feed(during)
	s.inUse()
	f = s.follow()
	leader := s.ours
	require.NoError(t, leader.Call("child.HandOver", none{}, new(none)))
	s.takesOver(f, time.Minute)
	require.NoError(t, leader.Close())
	s.same("after a hand-over")
}
