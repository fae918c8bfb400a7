// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"math"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// looker sees what a take-over would see.
type looker struct {
	t *testing.T
	c *maas.Client
}

func newLooker(d *dataDir) looker {
	return looker{d.t, shared.Client(d.t, d.server.URL)}
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

func TestTail__frees_nothing_before_remote_memory_knows_where_the_head_begins(t *testing.T) {
	d := newLog(t)
	l := newLooker(d)
	n := d.start()
	n.copies(3 * segmentSize)
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
	n.stop()

	// The next process on this directory says the same with the next segment.
	n = d.start()
	d.append("wal/00000004", 100)
	n.stop()
	minTime, there := l.look()
	require.Equal(t, int64(1004), minTime)
	require.True(t, there[wal(4)])
}

func TestTail__keeps_the_old_log_while_it_is_held(t *testing.T) {
	d := newLog(t)
	l := newLooker(d)
	var held atomic.Bool
	held.Store(true)
	n := d.start(func(o *Options) { o.Held = held.Load })
	n.copies(3 * segmentSize)
	require.NoError(t, n.SetMinValidTime(1000))
	d.truncate()
	n.copies(3*segmentSize + 100)
	time.Sleep(100 * time.Millisecond) // Some rounds in which nothing may happen.
	minTime, there := l.look()
	require.Equal(t, int64(math.MinInt64), minTime)
	require.Equal(t, map[remotefile.Name]bool{wal(0): true, wal(1): true, wal(2): true, wal(3): true}, there)
	require.False(t, n.tail.MayFree(false))

	held.Store(false)
	maastest.Eventually(t, "the checkpoint stands for the old log", func() bool {
		minTime, there := l.look()
		return there != nil && minTime == 1000 && !there[wal(0)] && !there[wal(1)] && there[checkpointOne]
	})
	require.True(t, n.tail.MayFree(false))
	n.stop()
}

// The chunks of samples that left the head may have lived too short to be copied. Later chunks would hide these samples in
// the log.
func TestTail__copies_no_chunks_while_the_log_is_held(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	d.writeChunks(1, 1)
	holds, told := false, 0
	s := newStepper(d, d.open(), mirrored, func(o *Options) {
		o.Held = func() bool { return holds }
		o.Acked = func(uint32, int64) { told++ }
	})
	s.SortedFrom(1)
	s.look()
	l := newLooker(d)
	require.Equal(t, []uint32{1}, l.chunks())
	holds = true
	d.writeChunks(3, 1)
	s.BeginTruncate(2)
	d.remove("chunks_head/000001")
	s.EndTruncate()
	told = 0
	s.look()
	require.Equal(t, []uint32{1}, l.chunks())
	holds = false
	s.look()
	require.Equal(t, []uint32{2, 3}, l.chunks())
	holds, told = true, 0
	s.look()
	require.Equal(t, 2, told, "what was copied before stays out of page cache")
}

// The truncation falls between the question whether the log is held and the copies of the chunks.
func TestTail__copies_no_chunks_behind_those_that_were_just_deleted(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	var s stepper
	truncates, holds := false, false
	s = newStepper(d, d.open(), mirrored, func(o *Options) {
		o.Held = func() bool {
			if truncates {
				truncates = false
				s.BeginTruncate(2)
				d.remove("chunks_head/000001")
				s.EndTruncate()
				holds = true
				return false
			}
			return holds
		}
	})
	limit := uint32(0)
	s.LimitChunks(func() (uint32, int64) { return limit, 1 << 20 })
	d.writeChunks(2, 1)
	s.look()
	limit, truncates = 2, true
	for range 2 {
		s.look()
		require.Empty(t, newLooker(d).chunks())
	}
}

// chunks are the numbers of the chunk files in remote memory.
func (l looker) chunks() (numbers []uint32) {
	l.t.Helper()
	_, there := l.look()
	for name := range there {
		if name.Kind == remotefile.Chunks {
			numbers = append(numbers, name.Number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// Less valuable memory makes room for the log, and no more of it than necessary.
func TestTail__makes_room_for_the_log(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "16MiB")
	l := newLooker(d)
	hog, err := l.c.Allocate(context.Background(), maas.AllocateOptions{Size: 512 << 10, Owner: "hog", Count: 32})
	require.NoError(t, err)
	var made atomic.Int32
	n := d.start(func(o *Options) {
		o.MakeRoom = func() {
			_, _, err := l.c.Free(context.Background(), hog[made.Add(1)-1].ID)
			require.NoError(t, err)
		}
	})
	d.segments(walZero)
	n.copies(segmentSize)
	require.Equal(t, int32(1), made.Load())
	n.stop()
}

// An empty server gets the whole log, whatever else is held: without its checkpoint the log is useless.
func TestTail__waits_for_nothing_where_nobody_could_take_over(t *testing.T) {
	d := newLog(t)
	d.truncate()
	n := d.start(held)
	l := newLooker(d)
	maastest.Eventually(t, "the checkpoint is there", func() bool {
		_, there := l.look()
		return there[remotefile.Name{Kind: remotefile.Checkpoint, Number: 1, Part: 1}]
	})
	n.stop()
	d.requireRestores(d.contents())
}

// held keeps the old log.
func held(o *Options) { o.Held = func() bool { return true } }

// stepper is a Tail whose looks are called by the test.
type stepper struct {
	*Tail
	t *testing.T
}

func newStepper(d *dataDir, m *memory.Manager, change ...func(*Options)) stepper {
	o := Options{Dir: d.dir, Logger: quiet()}
	for _, f := range change {
		f(&o)
	}
	return stepper{New(m, o), d.t}
}

// look is one look; it says whether there is more to copy.
func (s stepper) look() bool {
	s.t.Helper()
	more, err := s.step(s.looks.begin())
	require.NoError(s.t, err)
	return more
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
	d := newLog(t)
	l := newLooker(d)
	d.run(func() {})
	d.append(walThree, 100)
	d.checkpoint(1, 40) // More than the budget of a look.
	d.remove(walZero, walOne)

	tail := newStepper(d, d.open())
	require.True(t, tail.look())
	_, err := l.takeover()
	require.NoError(t, err, "a take-over between two looks")
}

// A server that has lost its memory gets the log from its beginning, which lies before the head's.
func TestAttach__a_server_without_the_log_hears_at_once_where_the_head_begins(t *testing.T) {
	for name, c := range map[string]struct {
		bytes int
		held  bool
	}{"a log that is held": {segmentSize, true}, "a log that is empty yet": {0, false}} {
		t.Run(name, func(t *testing.T) {
			d := newDataDir(t)
			l := newLooker(d)
			d.append(walZero, c.bytes)
			m := d.open()
			require.NoError(t, m.SetMinValidTime(1000))
			tail := newStepper(d, m, func(o *Options) { o.Held = func() bool { return c.held } })
			tail.look()
			if c.bytes == 0 {
				d.append(walZero, 1000)
				tail.look()
			}
			minTime, there := l.look()
			require.Contains(t, there, wal(0))
			require.Equal(t, int64(1000), minTime)
		})
	}
}

func TestHeld__a_gap_in_the_log_is_closed_by_the_checkpoint(t *testing.T) {
	d := newDataDir(t)
	l := newLooker(d)
	d.segments(walZero)
	d.append(walOne, 1000)
	d.append(wblZero, 1000)
	m := d.open()
	newStepper(d, m, held).look()
	require.NoError(t, m.Close())
	// While the server is out of reach, the log goes on, the head is truncated, and late samples go to blocks.
	d.segments(walOne, walTwo)
	d.truncate()
	d.append(wbl(3), 1000)
	d.remove(wblZero)
	tail := newStepper(d, d.open(), held)
	for range 5 {
		tail.look()
	}
	lost, err := l.takeover()
	require.NoError(t, err)
	require.Zero(t, lost)
	_, there := l.look()
	require.Contains(t, there, remotefile.Name{Kind: remotefile.WBL}, "the blocks are not there yet")
}
