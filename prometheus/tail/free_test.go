// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"math"
	"os"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

func TestTail__frees_nothing_before_remote_memory_knows_where_the_head_begins(t *testing.T) {
	d := newDataDir(t)
	n := d.startWith(walZero, walOne, walTwo)
	for round := range int64(5) {
		require.NoError(t, n.SetMinValidTime(1000+round))
	}
	d.truncate()
	maastest.Eventually(t, "the old log is freed", func() bool {
		minTime, there := d.look()
		freed := there != nil && !there[wal(0)]
		require.True(t, !freed || minTime == 1004, minTime)
		return freed && !there[wal(1)]
	})
	require.NoError(t, n.SetMinValidTime(5), "the head never begins earlier than it did")
	require.Equal(t, int64(1004), n.MinValidTime())
	n.stop()

	// The next process on this directory says the same with the next segment.
	n = d.start()
	d.append("wal/00000004", 100)
	n.stop()
	minTime, there := d.look()
	require.Equal(t, int64(1004), minTime)
	require.True(t, there[wal(4)])
}

func TestTail__keeps_the_old_log_while_it_is_held(t *testing.T) {
	d := newLog(t)
	var held atomic.Bool
	held.Store(true)
	n := d.start(func(o *Options) { o.Held = held.Load })
	n.copies(3 * segmentSize)
	require.NoError(t, n.SetMinValidTime(1000))
	d.truncate()
	n.copies(3*segmentSize + 100)
	time.Sleep(100 * time.Millisecond) // Some rounds in which nothing may happen.
	minTime, there := d.look()
	require.Equal(t, int64(math.MinInt64), minTime)
	require.Equal(t, map[remotefile.Name]bool{wal(0): true, wal(1): true, wal(2): true, wal(3): true}, there)
	require.False(t, n.tail.MayFree(false))

	held.Store(false)
	maastest.Eventually(t, "the checkpoint stands for the old log", func() bool {
		minTime, there := d.look()
		return minTime == 1000 && !there[wal(0)] && !there[wal(1)] && there[checkpointOne]
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
	s := newStepper(d, d.open(), mirrored, heldWhile(&holds), func(o *Options) { o.Acked = func(uint32, int64) { told++ } })
	s.SortedFrom(1)
	s.look()
	require.Equal(t, []uint32{1}, d.chunks())
	holds = true
	d.writeChunks(3, 1)
	s.truncateChunks(d)
	told = 0
	s.look()
	require.Equal(t, []uint32{1}, d.chunks())
	holds = false
	s.look()
	require.Equal(t, []uint32{2, 3}, d.chunks())
	holds, told = true, 0
	s.look()
	require.Equal(t, 2, told, "what was copied before stays out of page cache")
}

// truncateChunks is the truncation of a head that no longer needs the first file of chunks.
func (s stepper) truncateChunks(d *dataDir) {
	s.BeginTruncate(2)
	d.remove("chunks_head/000001")
	s.EndTruncate()
}

func TestReport__counts_what_is_still_to_be_freed(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	d.writeChunks(3, 1)
	holds := false
	s := newStepper(d, d.open(), mirrored, heldWhile(&holds))
	reports := func(files int) {
		t.Helper()
		s.look()
		s.report()
		require.Len(t, d.chunks(), files)
		metrics, kind := s.memory.Metrics(), remotefile.Chunks.String()
		require.EqualValues(t, files, testutil.ToFloat64(metrics.Allocations.WithLabelValues(kind)))
		require.EqualValues(t, files*len(chunkFile(1, 1, []byte{0, 1, 1})), testutil.ToFloat64(metrics.StoredBytes.WithLabelValues(kind)))
		require.Positive(t, testutil.ToFloat64(metrics.AllocatedBytes.WithLabelValues(kind)))
	}
	reports(3)
	holds = true
	s.truncateChunks(d)
	reports(3)
	holds = false
	reports(2)
}

// The truncation falls between the question whether the log is held and the copies of the chunks.
func TestTail__copies_no_chunks_behind_those_that_were_just_deleted(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	held, truncate := false, func() {}
	s := newStepper(d, d.open(), mirrored, func(o *Options) {
		o.Held = func() bool {
			defer func() { truncate() }() // The answer is from before the truncation.
			return held
		}
	})
	limit := uint32(0)
	s.LimitChunks(func() (uint32, int64) { return limit, 1 << 20 })
	d.writeChunks(2, 1)
	s.look()
	limit, truncate = 2, func() {
		s.truncateChunks(d)
		held, truncate = true, func() {}
	}
	for range 2 {
		s.look()
		require.Empty(t, d.chunks())
	}
}

// chunks are the numbers of the chunk files in remote memory.
func (d *dataDir) chunks() (numbers []uint32) {
	for _, f := range d.files() {
		if f.Name().Kind == remotefile.Chunks {
			numbers = append(numbers, f.Name().Number)
		}
	}
	slices.Sort(numbers)
	return numbers
}

// Less valuable memory makes room for the log, and no more of it than necessary.
func TestTail__makes_room_for_the_log(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "16MiB")
	hog := maastest.Must(d.client.Allocate(context.Background(), maas.AllocateOptions{Size: 512 << 10, Owner: "hog", Count: 32}))(t)
	var made atomic.Int32
	n := d.start(func(o *Options) {
		o.MakeRoom = func() {
			_, _, err := d.client.Free(context.Background(), hog[made.Add(1)-1].ID)
			require.NoError(t, err)
		}
	})
	d.segments(walZero)
	n.copies(segmentSize)
	require.EqualValues(t, 1, made.Load())
	n.stop()
}

// An empty server gets the whole log, whatever else is held: without its checkpoint the log is useless.
func TestTail__waits_for_nothing_where_nobody_could_take_over(t *testing.T) {
	d := newLog(t)
	d.truncate()
	n := d.start(held)
	maastest.Eventually(t, "the checkpoint is there", func() bool {
		_, there := d.look()
		return there[remotefile.Name{Kind: remotefile.Checkpoint, Number: 1, Part: 1}]
	})
	n.stop()
	d.requireRestores(d.contents())
}

// takeover says how many files of the log a take-over would have to leave out.
func (d *dataDir) takeover() (lost int, err error) {
	_, lost, err = planRestore(d.files(), false)
	return lost, err
}

// The process is killed between a checkpoint and its copy.
func TestAttach__the_old_log_stays_until_the_new_checkpoint_is_there(t *testing.T) {
	d := newLog(t)
	d.run(func() {})
	d.append(walThree, 100)
	d.checkpoint(1, 40, walZero, walOne) // More than the budget of a look.
	tail := newStepper(d, d.open())
	require.True(t, tail.look())
	_, err := d.takeover()
	require.NoError(t, err, "a take-over between two looks")
}

// The next checkpoint takes the place of one that is being copied. A take-over needs the one in front of both.
func TestTail__frees_no_checkpoint_before_a_later_one_is_there(t *testing.T) {
	d := newLog(t)
	d.truncate()
	vanish := func() {}
	s := newStepper(d, d.open(), func(o *Options) { o.Held = func() bool { vanish(); return false } })
	s.look()
	d.segments("wal/00000004")
	d.checkpoint(2, 2, walTwo, "wal/checkpoint.00000001")
	vanish = func() { // The look has listed it.
		vanish = func() {}
		d.checkpoint(3, 2, walThree, "wal/checkpoint.00000002")
	}
	err := maastest.Err(s.step(s.looks.begin()))
	require.Zero(t, maastest.Must(d.takeover())(t), "nothing is lost")
	require.ErrorIs(t, err, os.ErrNotExist)
	s.look()
	require.Zero(t, maastest.Must(d.takeover())(t), "nothing is lost")
	_, there := d.look()
	require.Contains(t, there, remotefile.Name{Kind: remotefile.Checkpoint, Number: 3, Part: 1})
	require.NotContains(t, there, checkpointOne)
}

// A server that has lost its memory gets the log from its beginning, which lies before the head's.
func TestAttach__a_server_without_the_log_hears_at_once_where_the_head_begins(t *testing.T) {
	for name, c := range map[string]struct {
		bytes int
		held  bool
	}{"a log that is held": {segmentSize, true}, "a log that is empty yet": {0, false}} {
		t.Run(name, func(t *testing.T) {
			d := newDataDir(t)
			d.append(walZero, c.bytes)
			m := d.open()
			require.NoError(t, m.SetMinValidTime(1000))
			tail := newStepper(d, m, heldWhile(&c.held))
			tail.look()
			if c.bytes == 0 {
				d.append(walZero, 1000)
				tail.look()
			}
			minTime, there := d.look()
			require.Contains(t, there, wal(0))
			require.Equal(t, int64(1000), minTime)
		})
	}
}

func TestHeld__a_gap_in_the_log_is_closed_by_the_checkpoint(t *testing.T) {
	d := newDataDir(t)
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
	require.Zero(t, maastest.Must(d.takeover())(t), "nothing is lost")
	_, there := d.look()
	require.Contains(t, there, remotefile.Name{Kind: remotefile.WBL}, "the blocks are not there yet")
}
