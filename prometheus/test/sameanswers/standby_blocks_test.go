// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// blockNames are the blocks in a data directory.
func blockNames(t *testing.T, dir string) (names []string) {
	t.Helper()
	metas, err := filepath.Glob(filepath.Join(dir, "*", "meta.json"))
	require.NoError(t, err)
	for _, meta := range metas {
		if name := filepath.Base(filepath.Dir(meta)); len(name) == 26 {
			names = append(names, name)
		}
	}
	return names
}

// hasBlocks waits until the standby has the blocks of its leader, and at most this many others, which it has kept from
// the time when it led.
func (s *scene) hasBlocks(f standby, alone int) {
	s.t.Helper()
	maastest.Eventually(s.t, "the standby has the leader's blocks", func() bool {
		want, got := blockNames(s.t, s.config.Dir), blockNames(s.t, f.dir)
		for _, name := range want {
			if !slices.Contains(got, name) {
				return false
			}
		}
		return len(want) > 0 && len(got) <= len(want)+alone
	})
}

// noOverlap wants no two blocks of in-order samples to overlap.
func (s *scene) noOverlap() {
	s.t.Helper()
	_, err := s.ours.Blocks()
	require.NoError(s.t, err)
}

// A standby gets blocks, and deletions in them, as they are made, and drops blocks that were compacted. Although it is
// killed three times, it has all answers the moment it leads.
func TestStandby__has_its_whole_history_at_once(t *testing.T) {
	s := newScene(t, smallerSize(t), true, withBlocks, follows)
	s.feedThrough(3*time.Hour + 20*time.Minute)
	f := s.follow()
	s.hasBlocks(f, 0)
	s.delete("temperature_celsius")
	for range 3 { // The last round compacts three blocks into one.
		f.kill()
		f = s.followOn(f.dir)
		s.feed(2 * time.Hour)
		f.isFollowing(t)
	}
	s.blocksAreThere()
	s.hasBlocks(f, 0)
	s.dies(f, time.Minute)
	s.same("right after the standby took over")
	s.sameAtInstants(start+8*time.Hour.Milliseconds(), "right after the standby took over")
	s.feed(2 * time.Hour)
	s.same("when it has gone on")
	s.restart()
	s.sameSamples("after its next start")
}

func TestStandby__deletes_by_retention_as_its_leader_does(t *testing.T) {
	s := newScene(t, smallerSize(t), true, withBlocks, follows, func(child *ChildConfig) { child.Retention = 4 * time.Hour })
	s.feedThrough(3*time.Hour + 20*time.Minute)
	f := s.follow()
	s.hasBlocks(f, 0)
	first := blockNames(t, f.dir)
	for range 3 {
		s.feed(2 * time.Hour)
		f.isFollowing(t)
		s.hasBlocks(f, 0)
	}
	require.NotContains(t, blockNames(t, f.dir), first[0])
	s.inUse()
	s.dies(f, time.Minute)
	s.sameSamples("right after the standby took over")
}

// A leader dies with a block that is not, or not wholly, in remote memory: the block's samples are in the head of the
// successor, which makes the block again. The old leader comes back as the standby, with a block of the same time.
func TestStandby__at_any_moment_of_a_head_compaction_has_everything_at_once(t *testing.T) {
	s := newScene(t, smallerSize(t), true, withBlocks, follows)
	s.feedThrough(2*time.Hour + 55*time.Minute)
	f := s.follow()
	rounds := longer(3, 12)
	for round := range rounds {
		s.feed(6 * time.Minute) // The head is compacted at its end.
		fed := time.Now()
		maastest.Eventually(t, "the log is there", func() bool {
			asked := time.Now()
			return s.ours.metrics(t)["wal_lag_seconds"] < asked.Sub(fed).Seconds()
		})
		time.Sleep(time.Duration(round%4) * 4 * time.Second)
		dead := s.dies(f, time.Minute)
		s.sameSamples("right after the standby took over")
		s.noOverlap() // A compaction would remove an overlap.
		s.feedThrough(during)
		f = s.followOn(dead)
		s.feed(108 * time.Minute)
		s.sameSamples("when the one that died follows")
		s.noOverlap()
	}
	s.blocksAreThere()
	s.hasBlocks(f, rounds)
	s.dies(f, time.Minute)
	s.sameSamples("in the end")
	s.noOverlap()
	asides, err := os.ReadDir(filepath.Join(s.config.Dir, "maas-replaced-blocks"))
	t.Logf("%d blocks were put aside in the last one's directory, %v", len(asides), err)
}
