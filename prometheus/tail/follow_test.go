// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
)

// standby is a follower, and the log that its head got.
type standby struct {
	*Follower
	t      *testing.T
	memory *memory.Manager
	dir    string
	stop   chan struct{}
	got    []byte // Of all segments.
}

// follows starts a standby of the log at a server, in a directory.
func follows(t *testing.T, url, dir string) *standby {
	t.Helper()
	m, err := memory.Open(context.Background(), memory.Options{
		URL: url, Owner: "node", Transport: "http", Dir: dir, Follow: true,
		Logger: slog.New(slog.DiscardHandler), Metrics: memory.NewMetrics(nil),
	})
	require.NoError(t, err)
	require.True(t, m.Following())
	s := &standby{t: t, memory: m, dir: dir, stop: make(chan struct{})}
	s.Follower, err = Follow(s.stop, m, FollowOptions{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.NoError(t, err)
	t.Cleanup(func() {
		s.Close()
		m.Close()
	})
	return s
}

// next is Next, and takes what it brings.
func (s *standby) next() (more bool, err error) {
	more, err = s.Next(0)
	if err == nil {
		_, records := s.Records()
		b, err := io.ReadAll(records)
		require.NoError(s.t, err)
		s.got = append(s.got, b...)
	}
	return more, err
}

// gets waits until the head has n bytes of the log.
func (s *standby) gets(n int) {
	s.t.Helper()
	maastest.Eventually(s.t, "the standby gets the log", func() bool {
		if len(s.got) < n {
			more, err := s.next()
			require.NoError(s.t, err)
			require.True(s.t, more)
		}
		return len(s.got) >= n
	})
}

// leads waits until the standby leads.
func (s *standby) leads() {
	s.t.Helper()
	maastest.Eventually(s.t, "the standby leads", func() bool {
		more, err := s.next()
		require.NoError(s.t, err)
		return !more
	})
	require.False(s.t, s.memory.Following())
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
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	n := start(t, server.URL, d.dir)
	s := follows(t, server.URL, t.TempDir())
	s.gets(segmentSize)
	for _, name := range []string{"wal/00000001", "wal/00000002", "wal/00000003"} {
		d.append(name, segmentSize)
	}
	s.gets(4 * segmentSize)
	d.checkpoint(1, 2)
	d.remove("wal/00000000")
	d.remove("wal/00000001")
	maastest.Eventually(t, "the checkpoint takes their place", func() bool {
		require.NoError(t, s.looks())
		_, err := os.Stat(filepath.Join(s.dir, "wal/checkpoint.00000001"))
		return err == nil && !exists(filepath.Join(s.dir, "wal/00000001"))
	})
	first, err := os.Open(filepath.Join(s.dir, "wal/checkpoint.00000001/00000000")) // As the head does.
	require.NoError(t, err)
	defer first.Close()
	d.checkpoint(2, 1)
	d.remove("wal/00000002")
	d.remove("wal/checkpoint.00000001")
	maastest.Eventually(t, "another one takes its place", func() bool {
		require.NoError(t, s.looks())
		return !exists(filepath.Join(s.dir, "wal/checkpoint.00000001"))
	})
	info, err := first.Stat()
	require.NoError(t, err)
	require.Zero(t, info.Size())
	require.True(t, s.memory.State().Following)
	d.append("wal/00000003", 1) // A torn end.
	n.stop(t)
	s.leads()
	require.False(t, s.memory.State().Following)
	want := contents(t, d.dir)
	want["wal/00000003"] = want["wal/00000003"][:segmentSize]
	require.Equal(t, want, contents(t, s.dir))
	wal, wbl := s.Ends()
	require.Equal(t, []int{3, -1}, []int{wal, wbl})
}

func TestFollow__says_that_the_log_was_cut_under_it(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	n := start(t, server.URL, d.dir)
	s := follows(t, server.URL, t.TempDir())
	s.gets(segmentSize)
	d.append("wal/00000000", 1000)
	for _, name := range []string{"wal/00000001", "wal/00000002"} {
		d.append(name, segmentSize)
	}
	maastest.Eventually(t, "all is copied", func() bool { return acked(n) == 3*segmentSize+1000 })
	d.checkpoint(0, 1)
	d.remove("wal/00000000")
	maastest.Eventually(t, "it is freed", func() bool { return testutil.ToFloat64(n.Metrics().Allocations.WithLabelValues("wal")) == 2 })
	err := s.looks()
	var startOver *StartOver
	require.ErrorAs(t, err, &startOver)
	require.Equal(t, "truncated", startOver.Reason)
	n.stop(t)
}

// The standby has a whole segment, which a checkpoint replaces in remote memory before the standby saw the next
// one.
func TestFollow__goes_on_behind_a_segment_that_is_gone(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	n := start(t, server.URL, d.dir)
	s := follows(t, server.URL, t.TempDir())
	s.gets(segmentSize)
	d.append("wal/00000001", segmentSize)
	maastest.Eventually(t, "all is copied", func() bool { return acked(n) == 2*segmentSize })
	mem, err := s.memory.Look(context.Background())
	require.NoError(t, err)
	require.NoError(t, s.find(0).Refresh(context.Background(), mem)) // It is complete.
	d.append("wal/00000002", segmentSize)
	d.checkpoint(0, 1)
	d.remove("wal/00000000")
	maastest.Eventually(t, "it is freed", func() bool { return testutil.ToFloat64(n.Metrics().Allocations.WithLabelValues("wal")) == 2 })
	s.gets(3 * segmentSize)
	n.stop(t)
}

// The leader has everything that the server lost, and copies it again: it gets time to come back for its name, and
// the standby goes on following.
func TestFollow__outlives_a_server_that_lost_its_memory(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	d.append("wal/00000001", segmentSize)
	n := start(t, server.URL, d.dir)
	s := follows(t, server.URL, t.TempDir())
	s.gets(2 * segmentSize)
	server.Kill()
	server.Restart()
	d.append("wal/00000001", 1000)
	s.gets(2*segmentSize + 1000)
	require.True(t, s.memory.Following())
	require.True(t, n.Up())
	n.stop(t)
	s.leads()
	require.Equal(t, contents(t, d.dir), contents(t, s.dir))
}

// The copy is all that is left.
func TestFollow__leads_with_its_copy_when_server_and_leader_have_died(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	d.append("wal/00000001", segmentSize)
	n := start(t, server.URL, d.dir)
	s := follows(t, server.URL, t.TempDir())
	s.gets(2 * segmentSize)
	maastest.Eventually(t, "it has caught up", func() bool {
		require.NoError(t, s.looks())
		return s.replayedAll()
	})
	s.caughtUp = true
	n.stop(t)
	server.Kill()
	server.Restart()
	s.leads()
	require.Equal(t, contents(t, d.dir), contents(t, s.dir))
}

func TestFollow__says_what_has_late_samples_when_the_head_is_truncated(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	n := start(t, server.URL, d.dir)
	s := follows(t, server.URL, t.TempDir())
	s.settle = 0
	s.gets(segmentSize)
	require.Equal(t, int64(math.MinInt64), s.MinValidTime())
	var enc record.Encoder
	b := lateLog(t, compression.None, enc.Samples([]record.RefSample{{Ref: 7, T: 1}, {Ref: 9, T: 2}}, nil))
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "wbl/00000000"), b, 0o666))
	maastest.Eventually(t, "all is copied", func() bool { return acked(n) == float64(segmentSize+len(b)) })
	require.NoError(t, n.SetMinValidTime(1000))
	d.append("wal/00000000", 1000)
	maastest.Eventually(t, "it may be truncated", func() bool {
		_, err := s.next()
		require.NoError(t, err)
		return s.MinValidTime() == 1000
	})
	require.Equal(t, map[chunks.HeadSeriesRef]struct{}{7: {}, 9: {}}, s.LateSeries())
	n.stop(t)
	s.leads()
	require.Equal(t, contents(t, d.dir), contents(t, s.dir))
	_, wbl := s.Ends()
	require.Equal(t, 0, wbl)
}

// Starting over leaves nothing behind, and SIGTERM changes no byte of the log.
func TestFollow__ends_when_it_is_told_to(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize+3)
	n := start(t, server.URL, d.dir)
	s := follows(t, server.URL, t.TempDir())
	s.gets(segmentSize)
	before := contents(t, s.dir)
	close(s.stop)
	maastest.Eventually(t, "it ends", func() bool {
		_, err := s.next()
		if err == nil {
			return false
		}
		require.ErrorIs(t, err, ErrStopped)
		return true
	})
	require.Equal(t, before, contents(t, s.dir))
	n.stop(t)
}

// Until there is a log to follow, only the waiting can be ended.
func TestFollow__waits_for_a_log(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	n := start(t, server.URL, d.dir) // Without a log.
	dir, stop := t.TempDir(), make(chan struct{})
	m, err := memory.Open(context.Background(), memory.Options{
		URL: server.URL, Owner: "node", Transport: "http", Dir: dir, Follow: true,
		Logger: slog.New(slog.DiscardHandler), Metrics: memory.NewMetrics(nil),
	})
	require.NoError(t, err)
	go func() {
		time.Sleep(time.Second)
		close(stop)
	}()
	_, err = Follow(stop, m, FollowOptions{Dir: dir, Logger: slog.New(slog.DiscardHandler)})
	require.ErrorIs(t, err, ErrStopped)
	require.False(t, exists(filepath.Join(dir, "wal")))
	require.NoError(t, m.Close())
	n.stop(t)
}
