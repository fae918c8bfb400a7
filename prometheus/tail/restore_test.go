// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

func TestRestore__brings_back_the_log_byte_for_byte(t *testing.T) {
	d := newDataDir(t)
	n := d.start()
	for i := range 4 {
		for range 5 {
			d.append(fmt.Sprintf("wal/%08d", i), segmentSize/5)
			time.Sleep(15 * time.Millisecond) // Lets rounds see the file at many lengths.
		}
	}
	d.append(wblZero, 777)
	d.checkpoint(1, 3, walZero, walOne)
	d.append(walThree, 1) // A torn tail.
	n.stop()              // Copies the rest.

	other := d.elsewhere()
	require.True(t, memory.IsEmpty(other.dir))
	require.Equal(t, 6, other.restore().Files)
	require.Equal(t, d.contents(), other.contents())
	require.NoFileExists(t, other.path(restoreDir))
}

// Any slab classes will do, and the log is in use all the time.
func TestRestore__from_a_server_of_other_slab_classes(t *testing.T) {
	for _, classes := range []string{"64KiB", "8KiB,256KiB,1MiB", "8MiB"} {
		d := newDataDir(t, "--slab-sizes", classes)
		for i := range 4 {
			d.append(fmt.Sprintf("wal/%08d", i), 5*segmentSize)
		}
		n := d.start()
		n.copies(20 * segmentSize)
		require.True(t, n.Up(), classes)
		require.Zero(t, testutil.ToFloat64(n.Metrics().Errors.WithLabelValues("append")), classes)
		n.stop()
		d.requireRestores(d.contents())
	}
}

// slowRead is a link over which longPiece, an extent of the log, takes longer than any request may.
const (
	slowRead  = 100 << 10
	longPiece = 560 << 10
)

// newLongPiece is a log that lies in one extent in remote memory.
func newLongPiece(t *testing.T) *dataDir {
	d := newDataDir(t, "--slab-sizes", "4MiB")
	d.append(walZero, longPiece)
	d.run(func() {})
	return d
}

func TestRestore__over_a_slow_link(t *testing.T) {
	t.Parallel()
	d := newLongPiece(t)
	other := d.elsewhere().slowed(slowRead)
	require.Equal(t, Restored{Files: 1, Bytes: longPiece}, other.restore())
	require.Equal(t, d.contents(), other.contents())
}

// A shutdown leaves a snapshot of the head, which spares the successor the replay, if everything that the snapshot
// relies on is there.
func TestRestore__brings_back_the_snapshot_of_a_shutdown(t *testing.T) {
	for _, lost := range [][]uint32{nil, {2}, {3}, {1, 2, 3}} {
		t.Run(fmt.Sprint("without the chunks ", lost), func(t *testing.T) {
			d := newDataDir(t)
			d.segments(walZero)
			d.writeChunks(3, 2)
			n := d.start(mirrored)
			const older, newest = "chunk_snapshot.000000.0000000012", "chunk_snapshot.000000.0000307200"
			for _, dir := range []string{older, newest} {
				d.writeSnapshot(dir)
			}
			n.stop()
			for _, number := range lost {
				d.lose(remotefile.Name{Kind: remotefile.Chunks, Number: number})
			}

			other := d.elsewhere()
			other.restore()
			require.Equal(t, d.contents(), other.contents())
			want := maastest.Must(shared.Contents(d.dir, newest))(t)
			if lost != nil {
				clear(want)
			}
			require.Equal(t, want, maastest.Must(shared.Contents(other.dir, "chunk_snapshot.*"))(t))
		})
	}
}

// A successor that loads a snapshot reads only the log behind it: what is in chunks that are not there would be lost.
func TestRestore__no_snapshot_without_the_chunks_that_it_relies_on(t *testing.T) {
	for name, delay := range map[string]func(d *dataDir, s stepper) (end func()){
		"the database has not read its chunks yet": func(_ *dataDir, s stepper) func() {
			s.LimitChunks(func() (uint32, int64) { return 0, 0 })
			return func() { s.LimitChunks(func() (uint32, int64) { return 4, 0 }) }
		},
		"chunks are being deleted": func(_ *dataDir, s stepper) func() {
			s.BeginTruncate(1)
			return s.EndTruncate
		},
		"the last one is gone since it was listed": func(d *dataDir, s stepper) func() {
			s.SortedFrom(1)
			s.o.Acked = func(number uint32, _ int64) {
				if number == 2 {
					d.rename("chunks_head/000003", "gone")
				}
			}
			return func() { s.o.Acked = nil; d.rename("gone", "chunks_head/000003") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDataDir(t)
			d.segments(walZero)
			d.writeChunks(3, 2)
			d.writeSnapshot("chunk_snapshot.000000.0000307200")
			s := newStepper(d, d.open(), mirrored)
			end := delay(d, s)
			s.look()
			require.Zero(t, planned(t, d.files(), remotefile.Snapshot))
			end()
			s.look()
			require.Equal(t, 3, planned(t, d.files(), remotefile.Chunks))
			require.Equal(t, 2, planned(t, d.files(), remotefile.Snapshot))
		})
	}
}

// planned is how many files of a kind a take-over would have.
func planned(t assert.TestingT, files []*remotefile.File, kind remotefile.Kind) (n int) {
	plan, _, err := planRestore(files, true)
	assert.NoError(t, err)
	for _, f := range slices.Concat(plan...) {
		if f.Name().Kind == kind {
			n++
		}
	}
	return n
}

func TestRestore__refuses_a_log_without_its_beginning(t *testing.T) {
	d := newDataDir(t)
	d.run(func() { d.segments(walThree) })
	other := d.elsewhere()
	_, err := Restore(context.Background(), other.open(), other.dir, false, quiet())
	require.ErrorContains(t, err, "segment 3")
	require.NoDirExists(t, other.path("wal"))
}

func TestRestore__goes_on_after_a_crash_in_the_middle(t *testing.T) {
	d := newDataDir(t)
	d.checkpoint(2, 1)
	d.append(wblZero, 100)
	d.append(walThree, 0)
	d.run(func() {})
	other := d.elsewhere()
	other.mkdir("wbl", "wal", "chunks_head") // As a crash left it.
	other.write(wblZero, []byte("old"))
	other.restore()
	require.Equal(t, d.contents(), other.contents(), "with an empty segment behind the checkpoint")
}

// The process is killed when the directory's own log is put aside, and nothing has replaced it yet.
func TestRestore__keeps_what_it_put_aside_through_a_crash(t *testing.T) {
	d := newDataDir(t)
	d.run(func() { d.segments(walZero); d.append(wblZero, 100) })
	want := d.contents()
	d.cut(walZero, 5000)
	own := d.contents()
	d.mkdir(replacedDir)
	d.rename("wal", replacedDir+"/wal")

	d.restore()
	require.Equal(t, want, d.contents())
	require.Equal(t, own, d.asideContents())
}

// What the directory's own log has in addition to remote memory is nowhere else.
func TestPutBack__a_restore_that_is_killed_loses_nothing(t *testing.T) {
	d := newLog(t)
	d.run(d.truncate)
	d.append(walThree, 5000)
	d.segments("wal/00000004", wblZero)
	want := d.contents()
	d.remove("wal/checkpoint.00000001")
	own := d.contents()
	d.write(movingDir, nil) // So that the restore ends in the middle.
	m := d.open()
	require.True(t, m.Behind())
	require.Error(t, maastest.Err(Restore(context.Background(), m, d.dir, true, quiet())))
	require.NoError(t, m.Close())
	d.remove(movingDir)
	require.True(t, memory.IsEmpty(d.dir))

	for name, goesOn := range map[string]func(d *dataDir){
		"when all is put aside": func(*dataDir) {},
		"when the log is":       func(d *dataDir) { d.rename(replacedDir+"/wbl", "wbl") },
		"in front of the log":   func(d *dataDir) { d.rename(readyDir, movingDir); d.rename(movingDir+"/wbl", "wbl") },
		"when nothing is left": func(d *dataDir) {
			d.rename(readyDir, movingDir)
			require.NoError(t, moveHead(d.path(movingDir), d.dir))
		},
		"when nothing is touched": func(d *dataDir) { require.NoError(t, moveHead(d.path(replacedDir), d.dir)) },
	} {
		t.Run(name, func(t *testing.T) {
			d := d.copied()
			goesOn(d)
			moved := !memory.IsEmpty(d.dir) && shared.Exists(d.path(movingDir))
			require.NoError(t, PutBack(d.dir))
			require.NoDirExists(t, d.path(readyDir))
			require.NoDirExists(t, d.path(movingDir))
			if !moved {
				require.Equal(t, own, d.contents())
				d.restore()
				require.Equal(t, own, d.asideContents())
			}
			require.Equal(t, want, d.contents())

			d.remove("wal")
			require.NoError(t, PutBack(d.dir))
			require.True(t, memory.IsEmpty(d.dir), "somebody else removed the log")
		})
	}
}

// The directory has more than remote memory still has.
func TestRestore__replaces_no_log_by_a_damaged_one(t *testing.T) {
	d := newDataDir(t)
	d.run(func() { d.segments(walZero, walOne, walTwo) })
	d.cut(walTwo, 5000)
	want := d.contents()
	m := d.open()
	require.True(t, m.Behind())
	d.damage(wal(1))
	require.Zero(t, restoreTo(d, m))
	require.Equal(t, want, d.contents())
}

func TestRestore__takes_nothing_behind_a_hole(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero, walOne, walTwo, walThree)
	d.append(wblZero, 100) // Of which series, the lost part of the WAL may know.
	d.run(func() {})
	d.lose(wal(2))
	other := d.elsewhere()
	done := maastest.Must(Restore(context.Background(), other.open(), other.dir, false, quiet()))(t)
	require.Equal(t, Restored{Files: 2, Bytes: 2 * segmentSize, Lost: 2}, done)
	d.remove(wblZero, walTwo, walThree)
	require.Equal(t, d.contents(), other.contents())
}

func TestRestore__ends_with_its_context_and_leaves_nothing(t *testing.T) {
	d := newDataDir(t)
	d.run(func() { d.segments(walZero) })
	other := d.elsewhere()
	m := other.open()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := other.contents()
	_, err := Restore(ctx, m, other.dir, true, quiet())
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, other.contents())
}

// A log without its beginning would be opened, and begin with a segment that no later start reads.
func TestRestore__refuses_a_damaged_checkpoint(t *testing.T) {
	d := newLog(t)
	d.truncate()
	d.run(func() {})
	other := d.elsewhere()
	d.damage(checkpointOne)
	_, err := Restore(context.Background(), other.open(), other.dir, true, quiet())
	require.ErrorContains(t, err, "checkpoint.00000001/00000000 is not as it was written")
	require.True(t, memory.IsEmpty(other.dir))
}
