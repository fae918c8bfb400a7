// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited && maasrdma

package sameanswers

import (
	"testing"
	"time"
)

// Over RDMA the same, on a smaller load: the machine with the device is an emulated one. The network
// of the other faults carries HTTP alone.
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
