// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"errors"
	"io"
	"math"
	"os"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// standby is a follower, and the log that its head got.
type standby struct {
	*Follower
	d      *dataDir
	memory *memory.Manager
	stop   chan struct{}
	got    []byte // Of all segments.
}

// followed opens remote memory as a standby does.
func (d *dataDir) followed() *memory.Manager {
	return maastest.Must(d.connectAs(d.t.Context(), memory.Options{Follow: true}))(d.t)
}

// follows starts a standby of the log in this directory, which has none.
func (d *dataDir) follows() *standby {
	m, stop := d.followed(), make(chan struct{})
	require.True(d.t, m.Following())
	follower := maastest.Must(Follow(stop, m, FollowOptions{Dir: d.dir, Logger: quiet()}))(d.t)
	s := &standby{Follower: follower, d: d, memory: m, stop: stop}
	d.t.Cleanup(func() {
		s.Close()
		m.Close()
	})
	return s
}

// newPair is a leader whose log has these segments, and a standby that has got them.
func newPair(t *testing.T, names ...string) (*dataDir, *node, *standby) {
	d := newDataDir(t)
	d.segments(names...)
	n, s := d.start(), d.elsewhere().follows()
	s.gets(len(names) * segmentSize)
	return d, n, s
}

// holds waits until the log in remote memory takes this many allocations.
func (n *node) holds(allocations float64) {
	maastest.Eventually(n.d.t, "the rest is freed", func() bool {
		return testutil.ToFloat64(n.Metrics().Allocations.WithLabelValues("wal")) == allocations
	})
}

// next is Next, and takes what it brings.
func (s *standby) next() (more bool) {
	more = maastest.Must(s.Next(0))(s.d.t)
	_, records := s.Records()
	s.got = append(s.got, maastest.Must(io.ReadAll(records))(s.d.t)...)
	return more
}

// gets waits until the head has n bytes of the log.
func (s *standby) gets(n int) {
	s.d.t.Helper()
	maastest.Eventually(s.d.t, "the standby gets the log", func() bool {
		if len(s.got) < n {
			require.True(s.d.t, s.next())
		}
		return len(s.got) >= n
	})
}

// leads waits until the standby leads.
func (s *standby) leads() {
	s.d.t.Helper()
	maastest.Eventually(s.d.t, "the standby leads", func() bool { return !s.next() })
	require.False(s.d.t, s.memory.Following())
}

// looks does what Next does before it waits, a few times.
func (s *standby) looks() (err error) {
	for range 3 {
		s.listed = time.Time{}
		if err = s.look(); err != nil && !s.passes(err) {
			return err
		}
	}
	return nil
}

func TestFollow__gets_the_log_and_what_stands_for_it(t *testing.T) {
	d, n, s := newPair(t, walZero)
	d.segments(walOne, walTwo, walThree)
	s.gets(4 * segmentSize)
	d.checkpoint(1, 2, walZero, walOne)
	maastest.Eventually(t, "the checkpoint takes their place", func() bool {
		require.NoError(t, s.looks())
		return shared.Exists(s.d.path("wal/checkpoint.00000001")) && !shared.Exists(s.d.path(walOne))
	})
	first := maastest.Must(os.Open(s.d.path("wal/checkpoint.00000001/00000000")))(t) // As the head does.
	defer first.Close()
	d.checkpoint(2, 1, walTwo, "wal/checkpoint.00000001")
	maastest.Eventually(t, "another one takes its place", func() bool {
		require.NoError(t, s.looks())
		return !shared.Exists(s.d.path("wal/checkpoint.00000001"))
	})
	require.Zero(t, maastest.Must(first.Stat())(t).Size())
	require.True(t, s.memory.State().Following)
	d.append(walThree, 1) // A torn end.
	n.stop()
	s.leads()
	require.False(t, s.memory.State().Following)
	want := d.contents()
	want[walThree] = want[walThree][:segmentSize]
	require.Equal(t, want, s.d.contents())
	wal, wbl := s.Ends()
	require.Equal(t, []int{3, -1}, []int{wal, wbl})
}

func TestFollow__over_a_slow_link(t *testing.T) {
	t.Parallel()
	d := newLongPiece(t)
	n := d.start() // It has the name.
	s := d.elsewhere().slowed(slowRead).follows()
	require.NoError(t, s.look())
	require.Equal(t, int64(longPiece), s.current.length)
	n.stop()
}

func TestFollow__says_that_the_log_was_cut_under_it(t *testing.T) {
	d, n, s := newPair(t, walZero)
	d.append(walZero, 1000)
	d.segments(walOne, walTwo)
	n.copies(3*segmentSize + 1000)
	d.checkpoint(0, 1, walZero)
	n.holds(2)
	var startOver *StartOver
	require.ErrorAs(t, s.looks(), &startOver)
	require.Equal(t, "truncated", startOver.Reason)
	n.stop()
}

// The standby has a whole segment, which a checkpoint replaces in remote memory before the standby saw the next
// one.
func TestFollow__goes_on_behind_a_segment_that_is_gone(t *testing.T) {
	d, n, s := newPair(t, walZero)
	d.segments(walOne)
	n.copies(2 * segmentSize)
	mem := maastest.Must(s.memory.Look(context.Background()))(t)
	require.NoError(t, s.find(0).Refresh(context.Background(), mem)) // It is complete.
	d.segments(walTwo)
	d.checkpoint(0, 1, walZero)
	n.holds(2)
	s.gets(3 * segmentSize)
	n.stop()
}

// The leader has everything that the server lost, and copies it again: it gets time to come back for its name, and
// the standby goes on following.
func TestFollow__outlives_a_server_that_lost_its_memory(t *testing.T) {
	d, n, s := newPair(t, walZero, walOne)
	d.server.Kill()
	d.server.Restart()
	d.append(walOne, 1000)
	s.gets(2*segmentSize + 1000)
	require.True(t, s.memory.Following())
	require.True(t, n.Up())
	n.stop()
	s.leads()
	require.Equal(t, d.contents(), s.d.contents())
}

// The copy is all that is left.
func TestFollow__leads_with_its_copy_when_server_and_leader_have_died(t *testing.T) {
	d, n, s := newPair(t, walZero, walOne)
	maastest.Eventually(t, "it has caught up", func() bool {
		require.NoError(t, s.looks())
		return s.replayedAll()
	})
	s.caughtUp = true
	n.stop()
	d.server.Kill()
	d.server.Restart()
	s.leads()
	require.Equal(t, d.contents(), s.d.contents())
}

func TestFollow__says_what_has_late_samples_when_the_head_is_truncated(t *testing.T) {
	d, n, s := newPair(t, walZero)
	s.settle = 0
	require.Equal(t, int64(math.MinInt64), s.MinValidTime())
	var enc record.Encoder
	b := segmentOf(t, compression.None, enc.Samples([]record.RefSample{{Ref: 7, T: 1}, {Ref: 9, T: 2}}, nil))
	d.write(wblZero, b)
	n.copies(segmentSize + len(b))
	require.NoError(t, n.SetMinValidTime(1000))
	d.append(walZero, 1000)
	maastest.Eventually(t, "it may be truncated", func() bool {
		s.next()
		return s.MinValidTime() == 1000
	})
	require.Equal(t, map[chunks.HeadSeriesRef]struct{}{7: {}, 9: {}}, s.LateSeries())
	n.stop()
	s.leads()
	want := d.contents()
	want[wbl(1)] = want[wblZero]
	delete(want, wblZero)
	require.Equal(t, want, s.d.contents())
	_, last := s.Ends()
	require.Equal(t, 1, last)
}

// Starting over leaves nothing behind, and SIGTERM changes no byte of the log.
func TestFollow__ends_when_it_is_told_to(t *testing.T) {
	d := newDataDir(t)
	d.append(walZero, segmentSize+3)
	n, s := d.start(), d.elsewhere().follows()
	s.gets(segmentSize)
	before := s.d.contents()
	close(s.stop)
	maastest.Eventually(t, "it ends", func() bool {
		_, err := s.Next(0)
		require.True(t, err == nil || errors.Is(err, ErrStopped), err)
		return err != nil
	})
	require.Equal(t, before, s.d.contents())
	n.stop()
}

// Until there is a log to follow, only the waiting can be ended.
func TestFollow__waits_for_a_log(t *testing.T) {
	d := newDataDir(t)
	n := d.start() // Without a log.
	other, stop := d.elsewhere(), make(chan struct{})
	m := other.followed()
	time.AfterFunc(time.Second, func() { close(stop) })
	_, err := Follow(stop, m, FollowOptions{Dir: other.dir, Logger: quiet()})
	require.ErrorIs(t, err, ErrStopped)
	require.Equal(t, math.Inf(1), m.Metrics().Behind(), "whoever ends the leader has to know")
	require.True(t, m.LeaderHasNoLog())
	require.False(t, shared.Exists(other.path("wal")))
	require.NoError(t, m.Close())
	n.stop()
}
