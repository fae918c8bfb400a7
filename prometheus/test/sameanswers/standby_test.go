// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"net/rpc"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// standby is a Prometheus that follows ours.
type standby struct {
	*process
	opened *rpc.Call
	dir    string
}

func follows(child *ChildConfig) { child.Follow = true }

// together runs tests at once.
func together(t *testing.T, tests map[string]func(*testing.T)) {
	var wait sync.WaitGroup
	for name, test := range tests {
		wait.Go(func() { t.Run(name, test) })
	}
	wait.Wait()
}

// follow starts a standby, on an empty directory, and waits until it has caught up.
func (s *scene) follow() standby {
	return s.followOn(s.whole.TempDir())
}

// followOn is follow on a directory.
func (s *scene) followOn(dir string) standby {
	f := s.begin(dir)
	f.isFollowing(s.t)
	return f
}

// begin starts a standby on a directory.
func (s *scene) begin(dir string) standby {
	config := s.config
	config.Dir = dir
	p, opened := beginProcess(s.whole, config)
	return standby{p, opened, dir}
}

// pause stops the process until resume.
func (p *process) pause(t *testing.T) {
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
}

func (p *process) resume(t *testing.T) {
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
}

func (f standby) isFollowing(t *testing.T) {
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

// leads waits until the standby leads, and returns how long that took, without the time in which something on this
// machine was stalled.
func (f standby) leads(t *testing.T, what string) time.Duration {
	begun, before := time.Now(), stalled(t)
	select {
	case <-f.opened.Done:
		require.NoError(t, f.opened.Error, what)
	case <-time.After(2 * time.Minute):
		require.Fail(t, "it does not lead", what)
	}
	took, waited := time.Since(begun), stalled(t)-before
	t.Logf("%s: ready after %s, of which the machine was busy for %s", what, took.Round(time.Millisecond), waited.Round(time.Millisecond))
	return took - waited
}

// stalled is how long, since the boot, something on this machine has waited for a processor or a disk; 0 where the
// kernel does not say.
func stalled(t *testing.T) (sum time.Duration) {
	for _, resource := range []string{"cpu", "io"} {
		b, err := os.ReadFile("/proc/pressure/" + resource)
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(b), "total=")
		total, _, _ := strings.Cut(after, "\n")
		microseconds := maastest.Must(strconv.ParseInt(total, 10, 64))(t)
		sum += time.Duration(microseconds) * time.Microsecond
	}
	return sum
}

// takesOver waits until the standby leads, and makes it ours.
func (s *scene) takesOver(f standby, within time.Duration) {
	took := f.leads(s.t, "the standby")
	require.Less(s.t, took, within)
	s.ours = f.process
	s.config.Dir = f.dir
	s.ours.do(s.t, "Fed", s.config.Fed)
}

// dies kills ours, and waits until the standby leads. It returns the directory that is left.
func (s *scene) dies(f standby, within time.Duration) (dir string) {
	dir = s.config.Dir
	s.ours.kill()
	s.takesOver(f, within)
	return dir
}

// handOver ends our database in good order, and makes the standby ours.
func (s *scene) handOver(f standby, within time.Duration) {
	leader, begun := s.ours, time.Now()
	leader.do(s.t, "HandOver", none{})
	s.t.Logf("handed over in %s", time.Since(begun).Round(time.Millisecond))
	s.takesOver(f, within)
	require.NoError(s.t, leader.Close())
}

// lease is how long the server holds the name of a Prometheus that died.
const lease = 10 * time.Second

func TestStandby__takes_over_with_all_that_its_leader_had(t *testing.T) {
	s := newScene(t, smallerSize(t), true, follows)
	s.feedThrough(2 * time.Hour)
	f := s.follow()
	for range 6 { // The head is compacted meanwhile.
		s.feed(30 * time.Minute)
		f.isFollowing(t)
	}
	s.blocksAreThere()
	s.dies(f, lease+time.Second)
	s.ours.blocksAreBack(s.t)
	s.same("after the standby took over")
	s.feed(during)
	s.same("when it has gone on")
	s.restart()
	s.same("after its next start")
}

func TestStandby__is_handed_over_to_within_a_second(t *testing.T) {
	s := newScene(t, smallerSize(t), true, follows)
	s.feed(30 * time.Minute)
	for range 3 {
		s.inUse()
		f := s.follow()
		s.feed(during)
		s.handOver(f, time.Second)
		s.same("after the standby was handed over to")
	}
}

// blockNames are the blocks in a data directory.
func blockNames(t *testing.T, dir string) (names []string) {
	for _, meta := range maastest.Must(filepath.Glob(filepath.Join(dir, strings.Repeat("?", 26), "meta.json")))(t) {
		names = append(names, filepath.Base(filepath.Dir(meta)))
	}
	return names
}

// hasBlocks waits until the standby has the blocks of its leader, and at most this many others, which it has kept from
// the time when it led.
func (s *scene) hasBlocks(f standby, alone int) {
	maastest.Eventually(s.t, "the standby has the leader's blocks", func() bool {
		want, got := blockNames(s.t, s.config.Dir), blockNames(s.t, f.dir)
		missing := slices.ContainsFunc(want, func(name string) bool { return !slices.Contains(got, name) })
		return !missing && len(want) > 0 && len(got) <= len(want)+alone
	})
}

// noOverlap wants no two blocks of in-order samples to overlap.
func (s *scene) noOverlap() {
	require.NoError(s.t, maastest.Err(s.ours.Blocks()))
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
