// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"log/slog"
	"math"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// looker sees what a take-over would see.
type looker struct {
	t *testing.T
	c *maas.Client
}

func newLooker(t *testing.T, url string) looker {
	c, err := maas.Open(context.Background(), maas.Options{URL: url, Transport: "http"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, c.Close()) })
	return looker{t, c}
}

// look returns where the head begins, and the files that are there; no files while the owner changes something
// under the look.
func (l looker) look() (minTime int64, there map[remotefile.Name]bool) {
	listing, err := remotefile.List(context.Background(), l.c, "node")
	if maas.IsNotFound(err) {
		return math.MinInt64, nil
	}
	require.NoError(l.t, err)
	there = map[remotefile.Name]bool{}
	for _, f := range listing.Files {
		there[f.Name()] = true
	}
	return listing.MinTime, there
}

func wal(number uint32) remotefile.Name { return remotefile.Name{Kind: remotefile.WAL, Number: number} }

// truncate does to a data directory what the truncation of a head does.
func (d *dataDir) truncate() {
	d.append("wal/00000003", 100)
	d.checkpoint(1, 2)
	d.remove("wal/00000000")
	d.remove("wal/00000001")
}

func newLog(t *testing.T) *dataDir {
	d := newDataDir(t)
	for _, name := range []string{"wal/00000000", "wal/00000001", "wal/00000002"} {
		d.append(name, segmentSize)
	}
	return d
}

func TestTail__frees_nothing_before_remote_memory_knows_where_the_head_begins(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d, l := newLog(t), newLooker(t, server.URL)
	n := start(t, server.URL, d.dir)
	maastest.Eventually(t, "the log is copied", func() bool { return acked(n) == 3*segmentSize })
	for round := range int64(5) {
		require.NoError(t, n.SetMinValidTime(1000+round))
	}
	d.truncate()
	maastest.Eventually(t, "the old log is freed", func() bool {
		minTime, there := l.look()
		if there != nil && !there[wal(0)] {
			require.Equal(t, int64(1004), minTime)
		}
		return there != nil && !there[wal(0)] && !there[wal(1)]
	})
	require.NoError(t, n.SetMinValidTime(5), "the head never begins earlier than it did")
	require.Equal(t, int64(1004), n.MinValidTime())
	n.stop(t)

	// The next process on this directory says the same with the next segment.
	n = start(t, server.URL, d.dir)
	d.append("wal/00000004", 100)
	n.stop(t)
	minTime, there := l.look()
	require.Equal(t, int64(1004), minTime)
	require.True(t, there[wal(4)])
}

func TestTail__keeps_the_old_log_while_it_is_held(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d, l := newLog(t), newLooker(t, server.URL)
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	var held atomic.Bool
	held.Store(true)
	n := &node{Manager: m, tail: Start(m, Options{
		Dir: d.dir, Interval: 20 * time.Millisecond, Held: held.Load, Logger: slog.New(slog.DiscardHandler),
	})}
	maastest.Eventually(t, "the log is copied", func() bool { return acked(n) == 3*segmentSize })
	require.NoError(t, n.SetMinValidTime(1000))
	d.truncate()
	maastest.Eventually(t, "the log goes on", func() bool { return acked(n) == 3*segmentSize+100 })
	time.Sleep(100 * time.Millisecond) // Some rounds in which nothing may happen.
	minTime, there := l.look()
	require.Equal(t, int64(math.MinInt64), minTime)
	require.Equal(t, map[remotefile.Name]bool{wal(0): true, wal(1): true, wal(2): true, wal(3): true}, there)
	require.False(t, n.tail.MayFree(false))

	held.Store(false)
	maastest.Eventually(t, "the checkpoint stands for the old log", func() bool {
		minTime, there := l.look()
		return there != nil && minTime == 1000 && !there[wal(0)] && !there[wal(1)] && there[remotefile.Name{Kind: remotefile.Checkpoint, Number: 1}]
	})
	require.True(t, n.tail.MayFree(false))
	n.stop(t)
}

// Less valuable memory makes room for the log, and no more of it than necessary.
func TestTail__makes_room_for_the_log(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "16MiB")
	d, l := newDataDir(t), newLooker(t, server.URL)
	hog, err := l.c.Allocate(context.Background(), maas.AllocateOptions{Size: 512 << 10, Owner: "hog", Count: 32})
	require.NoError(t, err)
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	var made atomic.Int32
	n := &node{Manager: m, tail: Start(m, Options{
		Dir: d.dir, Interval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler),
		MakeRoom: func() {
			_, _, err := l.c.Free(context.Background(), hog[made.Add(1)-1].ID)
			require.NoError(t, err)
		},
	})}
	d.append("wal/00000000", segmentSize)
	maastest.Eventually(t, "the log has room", func() bool { return acked(n) == segmentSize })
	require.Equal(t, int32(1), made.Load())
	n.stop(t)
}

// An empty server gets the whole log, whatever else is held: without its checkpoint the log is useless.
func TestTail__waits_for_nothing_where_nobody_could_take_over(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newLog(t)
	d.truncate()
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	n := &node{Manager: m, tail: Start(m, Options{
		Dir: d.dir, Interval: 20 * time.Millisecond, Held: func() bool { return true }, Logger: slog.New(slog.DiscardHandler),
	})}
	l := newLooker(t, server.URL)
	maastest.Eventually(t, "the checkpoint is there", func() bool {
		_, there := l.look()
		return there[remotefile.Name{Kind: remotefile.Checkpoint, Number: 1, Part: 1}]
	})
	n.stop(t)

	other := t.TempDir()
	m, err = connect(t, server.URL, other, true)
	require.NoError(t, err)
	defer m.Close()
	_, err = Restore(context.Background(), m, other, true, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, contents(t, d.dir), contents(t, other))
}

// stepper is a Tail whose looks are called by the test.
func stepper(t *testing.T, m *memory.Manager, dir string, held func() bool) *Tail {
	tail := New(m, Options{Dir: dir, Held: held, Logger: slog.New(slog.DiscardHandler)})
	t.Cleanup(tail.closeLogs)
	return tail
}

// takeover says how many files of the log a take-over would have to leave out.
func (l looker) takeover() (lost int, err error) {
	listing, err := remotefile.List(context.Background(), l.c, "node")
	require.NoError(l.t, err)
	_, lost, err = planRestore(listing.Files, false)
	return lost, err
}

// The process is killed between a checkpoint and its copy.
func TestAttach__the_old_log_stays_until_the_new_checkpoint_is_there(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d, l := newLog(t), newLooker(t, server.URL)
	n := start(t, server.URL, d.dir)
	n.stop(t)
	d.append("wal/00000003", 100)
	d.checkpoint(1, 40) // More than the budget of a look.
	d.remove("wal/00000000")
	d.remove("wal/00000001")

	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	defer m.Close()
	tail := stepper(t, m, d.dir, nil)
	more, err := tail.step(tail.looks.begin())
	require.NoError(t, err)
	require.True(t, more)
	_, err = l.takeover()
	require.NoError(t, err, "a take-over between two looks")
}

// A server that has lost its memory gets the log from its beginning, which lies before the head's.
func TestAttach__a_server_without_the_log_hears_at_once_where_the_head_begins(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d, l := newLog(t), newLooker(t, server.URL)
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, m.SetMinValidTime(1000))
	tail := stepper(t, m, d.dir, func() bool { return true })
	_, err = tail.step(tail.looks.begin())
	require.NoError(t, err)
	minTime, there := l.look()
	require.Contains(t, there, wal(0))
	require.Equal(t, int64(1000), minTime)
}

func TestHeld__a_server_that_lacks_the_beginning_of_the_log_gets_the_checkpoint(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d, l := newLog(t), newLooker(t, server.URL)
	d.truncate()
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	defer m.Close()
	tail := stepper(t, m, d.dir, func() bool { return true })
	for range 5 {
		_, err = tail.step(tail.looks.begin())
		require.NoError(t, err)
	}
	lost, err := l.takeover()
	require.NoError(t, err)
	require.Zero(t, lost)
}

func TestHeld__a_gap_in_the_log_is_closed_by_the_checkpoint(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d, l := newDataDir(t), newLooker(t, server.URL)
	d.append("wal/00000000", segmentSize)
	d.append("wal/00000001", 1000)
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	defer m.Close()
	tail := stepper(t, m, d.dir, func() bool { return true })
	_, err = tail.step(tail.looks.begin())
	require.NoError(t, err)
	// While the server is out of reach, the log goes on, and the head is truncated.
	d.append("wal/00000001", segmentSize)
	d.append("wal/00000002", segmentSize)
	d.truncate()
	for range 5 {
		_, err = tail.step(tail.looks.begin())
		require.NoError(t, err)
	}
	lost, err := l.takeover()
	require.NoError(t, err)
	require.Zero(t, lost)
}

func TestPublish__also_a_log_that_is_empty_yet(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d, l := newDataDir(t), newLooker(t, server.URL)
	d.append("wal/00000000", 0)
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	defer m.Close()
	require.NoError(t, m.SetMinValidTime(1000))
	tail := stepper(t, m, d.dir, nil)
	for range 2 {
		_, err = tail.step(tail.looks.begin())
		require.NoError(t, err)
		d.append("wal/00000000", 1000)
	}
	minTime, there := l.look()
	require.Contains(t, there, wal(0))
	require.Equal(t, int64(1000), minTime)
}
