// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
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

// newTrial is a scene of many at once, after half an hour. Its leader may have standbys.
func newTrial(t *testing.T, changes ...func(*ChildConfig)) *scene {
	t.Helper()
	s := smallerSize(t)
	s.series = min(s.series, longer(200, s.series))
	trial := newScene(t, s, true, append(changes, follows)...)
	trial.feed(30 * time.Minute)
	return trial
}

// A leader that died comes back on its directory, follows, and leads again; so does the other one.
func leadsAndFollowsInTurn(t *testing.T) {
	s := newTrial(t)
	f := s.follow()
	for range 2 {
		s.feedThrough(during)
		died := s.dies(f, lease+time.Second)
		s.same("after the standby took over")
		f = s.followOn(died)
		s.feed(during)
	}
	s.handOver(f, time.Second)
	s.same("after the last hand-over")
}

// One of two standbys takes over. The other one goes on following, and takes over later.
func oneOfTwoTakesOver(t *testing.T) {
	s := newTrial(t)
	one, other := s.follow(), s.follow()
	s.feedThrough(during)
	s.ours.kill()
	maastest.Eventually(t, "one of them leads", func() bool { return len(one.opened.Done)+len(other.opened.Done) > 0 })
	if len(other.opened.Done) > 0 {
		one, other = other, one
	}
	s.takesOver(one, time.Second)
	other.isFollowing(t)
	s.same("after one of them took over")
	s.feedThrough(during)
	other.isFollowing(t)
	s.handOver(other, time.Second)
	s.same("after the other one took over, too")
}

// A standby that was stopped for a while goes on where the leader is by then. Meanwhile the head was compacted, and
// segments that the standby had not seen are gone.
func wasAway(t *testing.T) {
	s := newTrial(t)
	s.feed(2 * time.Hour)
	f := s.follow()
	f.pause(t)
	s.feed(3 * time.Hour)
	s.blocksAreThere()
	f.resume(t)
	f.isFollowing(t)
	s.feedThrough(during)
	f.isFollowing(t)
	s.handOver(f, time.Second)
	s.blocksAreBack()
	s.sameSamples("after a standby took over that had stood still")
}

// A standby gets half of its time: it lags more, and has everything when it leads.
func isSlow(t *testing.T) {
	s := newTrial(t)
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
	s.blocksAreThere()
	f.isFollowing(t)
	s.dies(f, lease+2*time.Second)
	close(end)
	<-ended
	s.blocksAreBack()
	s.sameSamples("after a slow standby took over")
}

// A standby ends at SIGTERM, and leaves the log in its directory as it is.
func endsWhenItIsToldTo(t *testing.T) {
	s := newTrial(t)
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
		require.ErrorContains(t, maastest.Receive(t, "it ends", f.opened.Done).Error, "ended while following", name)
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
	log, err := shared.Contents(dir, "wal", "wbl")
	require.NoError(t, err)
	return log
}

// A standby must not follow what its own directory holds.
func refusesTheDirectoryOfItsLeader(t *testing.T) {
	s := newTrial(t)
	s.feedThrough(during)
	log := logOf(t, s.config.Dir)
	_, err := startProcess(t, s.config)
	require.ErrorContains(t, err, "in use")
	require.Equal(t, log, logOf(t, s.config.Dir))
	s.feedThrough(during)
	s.same("with the leader")
}

// The server is started again, with or without its memory. The standby goes on from what the leader copies, and has
// everything when it leads.
func outlivesTheServer(t *testing.T, restart func(*scene)) {
	s := newTrial(t)
	f := s.follow()
	s.server.Kill()
	s.feed(during)
	restart(s)
	s.inUse()
	f.isFollowing(t)
	s.feedThrough(during)
	f.isFollowing(t)
	server := s.stranger()
	maastest.Eventually(t, "the standby knows the leader at this server", func() bool {
		h, err := server.Health(t.Context())
		require.NoError(t, err)
		return time.Duration(h.UptimeSeconds)*time.Second > lease+2*time.Second
	})
	s.handOver(f, time.Second)
	s.same("after the hand-over")
}

// The server loses its memory, and the leader does not live to copy it again: only what the standby has is left.
func goesOnAlone(t *testing.T) {
	s := newTrial(t)
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
	s := newTrial(t, withoutBlocks)
	s.feed(2 * time.Hour)
	f := s.follow()
	s.feedThrough(3 * time.Hour)
	f.isFollowing(t)
	s.handOver(f, time.Second)
	begin := start + 4*time.Hour.Milliseconds()
	s.wholeFrom(begin, "after the hand-over")
	s.ours.kill()
	s.start()
	s.wholeFrom(begin, "at the next start")
	s.inUse()
	died := s.dies(s.follow(), lease+time.Second)
	s.wholeFrom(begin, "after a death")
	s.followOn(died)
}
