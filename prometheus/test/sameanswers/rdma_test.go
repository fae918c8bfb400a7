// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited && maasrdma

package sameanswers

import (
	"testing"
	"time"
)

// The same over RDMA, with a smaller load: the machine with the device is emulated. The network of the other faults
// carries only HTTP.
func TestRDMA__answers_are_the_same_whatever_fails(t *testing.T) {
	killed := fault{name: "killed, restarted with the server", strike: (*scene).killOurs}
	t.Run("mirror", func(t *testing.T) {
		runFaults(t, newScene(t, smallestSize(t), true), []fault{
			{name: "the data directory is destroyed, another node takes over", strike: (*scene).destroy},
			{name: "server killed, its memory lost", strike: (*scene).killServer, mend: (*scene).restartEmpty},
			killed,
		})
	})
	t.Run("remote", func(t *testing.T) {
		runFaults(t, newScene(t, smallestSize(t), false), []fault{remoteFaults[0], killed})
	})
}

func smallestSize(t *testing.T) size {
	s := runSize(t)
	s.series, s.steps = 100, StepsIn(2*time.Hour)
	return s
}

// A standby reads what its leader wrote by one-sided reads, in which the leader's host takes no part.
func TestRDMA__a_standby_takes_over_from_who_dies_and_from_who_hands_over(t *testing.T) {
	s := newScene(t, smallestSize(t), true, follows)
	s.feedThrough(before)
	f := s.follow()
	s.feed(during)
	f.isFollowing(t)
	s.inUse()
	s.dies(f, time.Minute)
	s.same("after a death")

	s.feedThrough(during)
	f = s.follow()
	s.handOver(f, time.Minute)
	s.same("after a hand-over")
}
