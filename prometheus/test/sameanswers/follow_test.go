// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
)

// TestStandby__trials run at once: most of the time they wait for leases, however many cores there are.
func TestStandby__trials(t *testing.T) {
	together(t, map[string]func(*testing.T){
		"leads and follows in turn":                leadsAndFollowsInTurn,
		"one of two takes over":                    oneOfTwoTakesOver,
		"was away":                                 wasAway,
		"is slow":                                  isSlow,
		"meets another version":                    meetsAnotherVersion,
		"ends when it is told to":                  endsWhenItIsToldTo,
		"refuses the directory of its leader":      refusesTheDirectoryOfItsLeader,
		"the server is restarted with its memory":  func(t *testing.T) { outlivesTheServer(t, (*scene).restartServer) },
		"the server is restarted, its memory lost": func(t *testing.T) { outlivesTheServer(t, (*scene).restartEmpty) },
		"leader and memory are lost":               goesOnAlone,
		"finds wrong bytes":                        findsWrongBytes,
		"goes on behind a hole":                    goesOnBehindAHole,
		"never leads with a hole":                  neverLeadsWithAHole,
		"without blocks":                           leadsWithoutBlocks,
	})
}

// trialSize is for many trials at once.
func trialSize(t *testing.T) size {
	s := smallerSize(t)
	if !inLongRun() {
		s.series = min(s.series, 200)
	}
	return s
}

// A leader that died comes back on its directory, follows, and leads again; so does the other one.
func leadsAndFollowsInTurn(t *testing.T) {
	s := newScene(t, trialSize(t), true, follows)
	s.feed(30 * time.Minute)
	f := s.follow()
	for range 2 {
		s.feed(during)
		s.inUse()
		died := s.config.Dir
		s.ours.kill()
		s.takesOver(f, lease+time.Second)
		s.same("after the standby took over")
		f = s.followOn(died)
		s.feed(during)
	}
	s.handOver(f)
	s.same("after the last hand-over")
}

// handOver ends our database in good order, and makes the standby ours.
func (s *scene) handOver(f standby) {
	s.t.Helper()
	leader := s.ours
	require.NoError(s.t, leader.Call("child.HandOver", none{}, new(none)))
	s.takesOver(f, time.Second)
	require.NoError(s.t, leader.Close())
}

// One of two standbys takes over. The other one goes on following, and takes over later.
func oneOfTwoTakesOver(t *testing.T) {
	s := newScene(t, trialSize(t), true, follows)
	s.feed(30 * time.Minute)
	one, other := s.follow(), s.follow()
	s.feed(during)
	s.inUse()
	s.ours.kill()
	maastest.Eventually(t, "one of them leads", func() bool { return len(one.opened.Done)+len(other.opened.Done) > 0 })
	if len(other.opened.Done) > 0 {
		one, other = other, one
	}
	s.takesOver(one, time.Second)
	other.isFollowing(t)
	s.same("after one of them took over")
	s.feed(during)
	s.inUse()
	other.isFollowing(t)
	s.handOver(other)
	s.same("after the other one took over, too")
}

// A standby that was stopped for a while goes on where the leader is by then. Meanwhile the head was compacted, and
// segments that the standby had not seen are gone.
func wasAway(t *testing.T) {
	s := newScene(t, trialSize(t), true, follows)
	s.feed(2*time.Hour + 30*time.Minute)
	f := s.follow()
	f.pause(t)
	s.feed(3 * time.Hour)
	s.inUse()
	s.blocksAreThere()
	s.inUse()
	f.resume(t)
	f.isFollowing(t)
	s.feed(during)
	s.inUse()
	f.isFollowing(t)
	s.handOver(f)
	s.blocksAreBack()
	s.sameSamples("after a standby took over that had stood still")
}

// A standby gets half of its time: it lags more, and has everything when it leads.
func isSlow(t *testing.T) {
	s := newScene(t, trialSize(t), true, follows)
	s.feed(30 * time.Minute)
	f := s.follow()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			f.pause(t)
			time.Sleep(20 * time.Millisecond)
			f.resume(t)
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	s.feed(3 * time.Hour) // This includes a compaction.
	s.inUse()
	s.blocksAreThere()
	s.inUse()
	f.isFollowing(t)
	s.ours.kill()
	s.takesOver(f, lease+2*time.Second)
	close(end)
	<-ended
	s.blocksAreBack()
	s.sameSamples("after a slow standby took over")
}

// A standby ends at SIGTERM, and leaves the log in its directory as it is.
func endsWhenItIsToldTo(t *testing.T) {
	s := newScene(t, trialSize(t), true, follows)
	s.feed(30 * time.Minute)
	s.inUse()
	for name, before := range map[string]func(){
		"while the leader lives":           func() {},
		"while the server is out of reach": func() { s.server.Pause() },
	} {
		f := s.follow()
		before()
		log := logOf(t, f.dir)
		require.NotEmpty(t, log, name)
		require.NoError(t, f.Call("child.Stop", none{}, new(none)))
		select {
		case <-f.opened.Done:
			require.ErrorContains(t, f.opened.Error, "ended while following", name)
		case <-time.After(time.Minute):
			require.Fail(t, "it goes on", name)
		}
		require.Equal(t, log, logOf(t, f.dir), name)
		f.kill()
		s.server.Resume()
	}
	s.inUse()
	s.same("with the leader")
}

// logOf is every byte of a directory's log.
func logOf(t *testing.T, dir string) map[string]string {
	t.Helper()
	log := map[string]string{}
	for _, pattern := range []string{"wal/[0-9]*", "wbl/[0-9]*", "wal/checkpoint.*/*"} {
		paths, err := filepath.Glob(filepath.Join(dir, pattern))
		require.NoError(t, err)
		for _, path := range paths {
			b, err := os.ReadFile(path)
			require.NoError(t, err)
			log[path] = string(b)
		}
	}
	return log
}

// A standby must not follow what its own directory holds.
func refusesTheDirectoryOfItsLeader(t *testing.T) {
	s := newScene(t, trialSize(t), true, follows)
	s.feed(during)
	s.inUse()
	log := logOf(t, s.config.Dir)
	_, err := startProcess(t, s.config)
	require.ErrorContains(t, err, "in use")
	require.Equal(t, log, logOf(t, s.config.Dir))
	s.feed(during)
	s.inUse()
	s.same("with the leader")
}

// The server is started again, with or without its memory. The standby goes on from what the leader copies, and has
// everything when it leads.
func outlivesTheServer(t *testing.T, restart func(*scene)) {
	s := newScene(t, trialSize(t), true, follows)
	s.feed(30 * time.Minute)
	f := s.follow()
	s.server.Kill()
	s.feed(during)
	restart(s)
	s.inUse()
	f.isFollowing(t)
	s.feed(during)
	s.inUse()
	f.isFollowing(t)
	maastest.Eventually(t, "the standby knows the leader at this server", func() bool { return s.uptime() > lease+2*time.Second })
	s.handOver(f)
	s.same("after the hand-over")
}

func (s *scene) uptime() time.Duration {
	h, err := s.reader().Health(context.Background())
	require.NoError(s.t, err)
	return time.Duration(h.UptimeSeconds) * time.Second
}

// reader is a client that has nothing to do with the nodes.
func (s *scene) reader() *maas.Client {
	s.t.Helper()
	c, err := maas.Open(context.Background(), maas.Options{URL: s.server.URL, Transport: "http"})
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = c.Close() })
	return c
}

// The server loses its memory, and the leader does not live to copy it again: only what the standby has is left.
func goesOnAlone(t *testing.T) {
	s := newScene(t, trialSize(t), true, follows)
	s.feed(30 * time.Minute)
	s.inUse()
	f := s.follow()
	s.ours.kill()
	s.server.Kill()
	s.restartEmpty()
	s.takesOver(f, 2*lease)
	s.wholeFrom(start, "after the standby went on alone")
}

// The head of a leader without blocks begins later than its log. It begins there, too, once a standby leads, and at that
// one's next start.
func leadsWithoutBlocks(t *testing.T) {
	s := newScene(t, trialSize(t), true, follows, func(_ *Config, child *ChildConfig) { child.Blocks = "off" })
	s.feed(2*time.Hour + 30*time.Minute)
	f := s.follow()
	s.feed(3 * time.Hour)
	s.inUse()
	f.isFollowing(t)
	s.handOver(f)
	begin := start + 4*time.Hour.Milliseconds()
	s.wholeFrom(begin, "after the hand-over")
	s.ours.kill()
	s.start()
	s.wholeFrom(begin, "at the next start")
	s.inUse()
	died := s.config.Dir
	f = s.follow()
	s.ours.kill()
	s.takesOver(f, lease+time.Second)
	s.wholeFrom(begin, "after a death")
	s.followOn(died)
}
