// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"net/rpc"
	"os"
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
	s.t.Helper()
	return s.followOn(s.whole.TempDir())
}

// followOn is follow on a directory.
func (s *scene) followOn(dir string) standby {
	s.t.Helper()
	f := s.begin(dir)
	f.isFollowing(s.t)
	return f
}

// begin starts a standby on a directory.
func (s *scene) begin(dir string) standby {
	s.t.Helper()
	config := s.config
	config.Dir = dir
	p, opened := beginProcess(s.whole, config)
	return standby{p, opened, dir}
}

// pause stops the process until resume.
func (p *process) pause(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGSTOP))
}

func (p *process) resume(t *testing.T) {
	t.Helper()
	require.NoError(t, p.cmd.Process.Signal(syscall.SIGCONT))
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

// leads waits until the standby leads, and returns how long that took, without the time in which something on this
// machine was stalled.
func (f standby) leads(t *testing.T, what string) time.Duration {
	t.Helper()
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
		microseconds, err := strconv.ParseInt(total, 10, 64)
		require.NoError(t, err)
		sum += time.Duration(microseconds) * time.Microsecond
	}
	return sum
}

// takesOver waits until the standby leads, and makes it ours.
func (s *scene) takesOver(f standby, within time.Duration) {
	s.t.Helper()
	took := f.leads(s.t, "the standby")
	require.Less(s.t, took, within)
	s.ours = f.process
	s.config.Dir = f.dir
	require.NoError(s.t, s.ours.Call("child.Fed", s.fed, new(none)))
}

// dies kills ours, and waits until the standby leads. It returns the directory that is left.
func (s *scene) dies(f standby, within time.Duration) (dir string) {
	s.t.Helper()
	dir = s.config.Dir
	s.ours.kill()
	s.takesOver(f, within)
	return dir
}

// handOver ends our database in good order, and makes the standby ours.
func (s *scene) handOver(f standby, within time.Duration) {
	s.t.Helper()
	leader, begun := s.ours, time.Now()
	require.NoError(s.t, leader.Call("child.HandOver", none{}, new(none)))
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
	s.blocksAreBack()
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
