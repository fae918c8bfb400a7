// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/util/compression"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// Trials run at once: most of the time they wait for leases, however many cores there are.
func TestStandby__trials(t *testing.T) {
	together(t, map[string]func(*testing.T){
		"leads and follows in turn":                trial((*scene).leadsAndFollowsInTurn),
		"one of two takes over":                    trial((*scene).oneOfTwoTakesOver),
		"was away":                                 trial((*scene).wasAway),
		"is slow":                                  trial((*scene).isSlow),
		"meets another version":                    trial((*scene).meetsAnotherVersion),
		"ends when it is told to":                  trial((*scene).endsWhenItIsToldTo),
		"refuses the directory of its leader":      trial((*scene).refusesTheDirectoryOfItsLeader),
		"the server is restarted with its memory":  trial(func(s *scene) { s.outlivesTheServer(s.restartServer) }),
		"the server is restarted, its memory lost": trial(func(s *scene) { s.outlivesTheServer(s.restartEmpty) }),
		"leader and memory are lost":               trial((*scene).goesOnAlone),
		"finds wrong bytes":                        trial((*scene).findsWrongBytes),
		"goes on behind a hole":                    trial(func(s *scene) { s.leavesBehind(s.hole()) }),
		"never leads with a hole":                  trial(func(s *scene) { s.neverLeads(s.hole()) }),
		"without blocks":                           trial((*scene).leadsWithoutBlocks, withoutBlocks),
	})
}

// trial begins after half an hour, with a leader that may have standbys.
func trial(run func(*scene), changes ...func(*ChildConfig)) func(*testing.T) {
	return func(t *testing.T) {
		size := smallerSize(t)
		size.series = min(size.series, longer(200, size.series))
		s := newScene(t, size, true, append(changes, follows)...)
		s.feed(30 * time.Minute)
		run(s)
	}
}

// A leader that died comes back on its directory, follows, and leads again; so does the other one.
func (s *scene) leadsAndFollowsInTurn() {
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
func (s *scene) oneOfTwoTakesOver() {
	one, other := s.follow(), s.follow()
	s.feedThrough(during)
	s.ours.kill()
	maastest.Eventually(s.t, "one of them leads", func() bool { return len(one.opened.Done)+len(other.opened.Done) > 0 })
	if len(other.opened.Done) > 0 {
		one, other = other, one
	}
	s.takesOver(one, time.Second)
	other.isFollowing(s.t)
	s.same("after one of them took over")
	s.feedThrough(during)
	other.isFollowing(s.t)
	s.handOver(other, time.Second)
	s.same("after the other one took over, too")
}

// A standby that was stopped for a while goes on where the leader is by then. Meanwhile the head was compacted, and
// segments that the standby had not seen are gone.
func (s *scene) wasAway() {
	s.feed(2 * time.Hour)
	f := s.follow()
	f.pause(s.t)
	s.feed(3 * time.Hour)
	s.blocksAreThere()
	f.resume(s.t)
	f.isFollowing(s.t)
	s.feedThrough(during)
	f.isFollowing(s.t)
	s.handOver(f, time.Second)
	s.ours.blocksAreBack(s.t)
	s.sameSamples("after a standby took over that had stood still")
}

// A standby gets half of its time: it lags more, and has everything when it leads.
func (s *scene) isSlow() {
	f := s.follow()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			f.pause(s.t)
			time.Sleep(20 * time.Millisecond)
			f.resume(s.t)
			select {
			case <-end:
				return
			case <-time.After(20 * time.Millisecond):
			}
		}
	}()
	s.feed(3 * time.Hour) // This includes a compaction.
	s.blocksAreThere()
	f.isFollowing(s.t)
	s.dies(f, lease+2*time.Second)
	close(end)
	<-ended
	s.ours.blocksAreBack(s.t)
	s.sameSamples("after a slow standby took over")
}

// A standby ends at SIGTERM, and leaves the log in its directory as it is.
func (s *scene) endsWhenItIsToldTo() {
	s.inUse()
	for name, before := range map[string]func(){
		"while the leader lives":           func() {},
		"while the server is out of reach": func() { s.server.Pause() },
	} {
		f := s.follow()
		before()
		log := logOf(s.t, f.dir)
		require.NotEmpty(s.t, log, name)
		f.do(s.t, "Stop", none{})
		require.ErrorContains(s.t, maastest.Receive(s.t, "it ends", f.opened.Done).Error, "ended while following", name)
		require.Equal(s.t, log, logOf(s.t, f.dir), name)
		f.kill()
		s.server.Resume()
	}
	s.inUse()
	s.same("with the leader")
}

// logOf is every byte of a directory's log.
func logOf(t *testing.T, dir string) map[string]string {
	return maastest.Must(shared.Contents(dir, "wal", "wbl"))(t)
}

// A standby must not follow what its own directory holds.
func (s *scene) refusesTheDirectoryOfItsLeader() {
	s.feedThrough(during)
	log := logOf(s.t, s.config.Dir)
	require.ErrorContains(s.t, maastest.Err(startProcess(s.t, s.config)), "in use")
	require.Equal(s.t, log, logOf(s.t, s.config.Dir))
	s.feedThrough(during)
	s.same("with the leader")
}

// The server is started again, with or without its memory. The standby goes on from what the leader copies, and has
// everything when it leads.
func (s *scene) outlivesTheServer(restart func()) {
	f := s.follow()
	s.server.Kill()
	s.feed(during)
	restart()
	s.inUse()
	f.isFollowing(s.t)
	s.feedThrough(during)
	f.isFollowing(s.t)
	server := shared.Client(s.t, s.server.URL)
	maastest.Eventually(s.t, "the standby knows the leader at this server", func() bool {
		h := maastest.Must(server.Health(s.t.Context()))(s.t)
		return time.Duration(h.UptimeSeconds)*time.Second > lease+2*time.Second
	})
	s.handOver(f, time.Second)
	s.same("after the hand-over")
}

// The server loses its memory, and the leader does not live to copy it again: only what the standby has is left.
func (s *scene) goesOnAlone() {
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
func (s *scene) leadsWithoutBlocks() {
	s.feed(2 * time.Hour)
	f := s.follow()
	s.feedThrough(3 * time.Hour)
	f.isFollowing(s.t)
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

// Holes: a standby finds that a part of the log is missing, or is not what was written, and does not lead with it. It
// goes on by itself once the leader's head has left that part behind.

// hole: the leader's log, with correct checksums, lacks the records of series whose samples it has. A standby has
// noticed.
func (s *scene) hole() standby {
	s.inUse()
	f := s.follow()
	s.network.pullOut()
	path, size := newestSegment(s.t, filepath.Join(s.config.Dir, "wal"))
	s.feed(30 * time.Minute) // Some series are new.
	require.Positive(s.t, dropSeries(s.t, path, size), "records of series")
	s.network.plugIn()
	s.startsOver(f, "series")
	return f
}

// findsWrongBytes: bytes in remote memory change, and the leader dies. It comes back, and its own log is whole.
func (s *scene) findsWrongBytes() {
	s.inUse()
	s.flipInLog()
	f := s.begin(s.t.TempDir())
	s.startsOver(f, "damaged")
	s.neverLeads(f)
	s.start()
	s.leavesBehind(f)
}

// startsOver waits until a standby has started over twice, for this reason, and has still not caught up.
func (s *scene) startsOver(f standby, reason string) {
	maastest.Eventually(s.t, "the standby begins anew", func() bool {
		require.Empty(s.t, f.opened.Done, "it does not lead, nor end")
		return f.metrics(s.t)["following_restarts_total"] >= 2
	})
	require.Contains(s.t, f.log.String(), "reason="+reason)
}

// neverLeads: the standby starts over again and again, even when the name is free.
func (s *scene) neverLeads(f standby) {
	s.ours.kill()
	time.Sleep(lease + 3*time.Second)
	require.Empty(s.t, f.opened.Done, "it does not lead")
	var reason string
	require.NoError(s.t, f.Call("child.NotReady", none{}, &reason))
	require.NotEqual(s.t, "following, 0 s behind", reason)
}

// leavesBehind: once the leader's head and its log have left the hole behind, the standby follows, and leads.
func (s *scene) leavesBehind(f standby) {
	s.feed(7 * time.Hour)
	s.blocksAreThere()
	f.isFollowing(s.t)
	s.feedThrough(during)
	s.handOver(f, time.Second)
	s.ours.blocksAreBack(s.t)
	s.sameSamples("after the hand-over")
}

// dropSeries turns each whole record of series behind an offset into a record that no reader knows. It returns how many.
func dropSeries(t *testing.T, path string, from int64) (dropped int) {
	const page, header, whole, compressed, unknown = 32 << 10, 7, 1, 1 << 3, 200
	log := maastest.Must(os.OpenFile(path, os.O_RDWR, 0))(t)
	defer log.Close()
	b := maastest.Must(os.ReadFile(path))(t)
	for at := 0; at+header <= len(b); {
		kind, size := b[at], header+int(binary.BigEndian.Uint16(b[at+1:]))
		if kind&7 == 0 { // The rest of the page.
			at += page - at%page
			continue
		}
		payload := b[at+header : at+size]
		if kind == whole|compressed && int64(at) >= from && isSeries(t, payload) {
			payload[0] = unknown
			b[at] = whole
			binary.BigEndian.PutUint32(b[at+3:], crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
			require.NoError(t, maastest.Err(log.WriteAt(b[at:at+size], int64(at))))
			dropped++
		}
		at += size
	}
	return dropped
}

func isSeries(t *testing.T, payload []byte) bool {
	content := maastest.Must(compression.Decode(compression.Snappy, payload, compression.NewSyncDecodeBuffer()))(t)
	return record.Type(content[0]) == record.Series
}

// flipInLog changes some bytes in the middle of the WAL in remote memory.
func (s *scene) flipInLog() {
	c := shared.Client(s.t, s.server.URL)
	for _, f := range maastest.Must(remotefile.List(context.Background(), c, s.config.Owner))(s.t).Files {
		if f.Name().Kind != remotefile.WAL || f.Len() < 1000 {
			continue
		}
		ranges := maastest.Must(f.Ranges(nil, make([]byte, 16), f.Len()/2))(s.t)
		require.NoError(s.t, c.WriteV(context.Background(), ranges))
		return
	}
	require.Fail(s.t, "no log")
}

// meetsAnotherVersion: remote memory has a file that a later version of Prometheus wrote. The standby says so, and does
// not lead before that file is gone.
func (s *scene) meetsAnotherVersion() {
	s.inUse()
	f := s.follow()
	ctx, c := context.Background(), shared.Client(s.t, s.server.URL)
	list := maastest.Must(c.List(ctx, s.config.Owner))(s.t)
	head := make([]byte, remotefile.HeaderSize)
	require.NoError(s.t, c.Read(ctx, list[0].ID, 0, head))
	for slot := head; len(slot) > 0; slot = slot[remotefile.HeaderSize/2:] {
		slot[4]++ // The version; the checksum of all before it follows.
		binary.LittleEndian.PutUint32(slot[60:], crc32.Checksum(slot[:60], crc32.MakeTable(crc32.Castagnoli)))
	}
	later := maastest.Must(c.Allocate(ctx, maas.AllocateOptions{Size: list[0].Size, Owner: s.config.Owner}))(s.t)
	require.NoError(s.t, c.Write(ctx, later[0].ID, 0, head))
	maastest.Eventually(s.t, "it says so", func() bool { return strings.Contains(f.log.String(), "header version 2, this program knows 1") })
	s.neverLeads(f)
	_, _, err := c.Free(ctx, later[0].ID)
	require.NoError(s.t, err)
	s.takesOver(f, lease)
	s.wholeFrom(start, "after what it does not know was freed")
}
