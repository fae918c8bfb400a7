// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"fmt"
	"os"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// What can happen to a directory between the last byte that remote memory got and the next start.
var relations = []struct {
	name   string
	change func(d *dataDir) // To a directory whose log remote memory has.
	want   memory.Relation
	err    error
}{
	{name: "nothing", change: func(*dataDir) {}},
	{name: "more was written", change: func(d *dataDir) { d.append(walTwo, 5000); d.append(wblZero, 5000) }},
	{name: "a torn end", change: func(d *dataDir) { d.append(walTwo, 3) }},
	{name: "an empty segment more", change: func(d *dataDir) { d.append(walThree, 0) }},
	{name: "a checkpoint in the place of segments", change: func(d *dataDir) { d.checkpoint(0, 1, walZero) }},
	{name: "older by some records", change: func(d *dataDir) { d.cut(walTwo, 2000) }, want: memory.Behind},
	{name: "older by a segment", change: func(d *dataDir) { d.remove(walTwo) }, want: memory.Behind},
	{name: "older by late samples", change: func(d *dataDir) { d.cut(wblZero, 0) }, want: memory.Behind},
	{name: "without late samples", change: func(d *dataDir) { d.remove(wblZero) }, want: memory.Behind},
	{name: "zeros at the end", change: func(d *dataDir) { d.zero(walTwo, segmentSize-50_000, 50_000) }, want: memory.Behind},
	{name: "zeros in a segment with others behind it", change: func(d *dataDir) { d.zero(walOne, segmentSize-50_000, 50_000) }, want: memory.Behind},
	{name: "zeros in front of what was on disk", change: func(d *dataDir) { d.zero(walTwo, 64<<10, 64<<10) }, want: memory.Behind},
	{name: "other records in the last segment", change: func(d *dataDir) { d.cut(walTwo, 0); d.append(walTwo, 9000) }, err: memory.ErrForked},
	{name: "other records behind common ones", change: func(d *dataDir) {
		end := validEnd(d.path(walTwo))
		d.cut(walTwo, firstRecord(d, walTwo))
		d.append(walTwo, int(end))
	}, err: memory.ErrForked},
	{name: "records behind an older state", change: func(d *dataDir) { d.cut(walTwo, 2000); d.append(walThree, 900) }, err: memory.ErrForked},
	{name: "records behind a complete segment", change: func(d *dataDir) { d.append(walOne, 900) }, err: memory.ErrForked},
	{name: "another first segment", change: func(d *dataDir) { d.cut(walZero, 0); d.append(walZero, 900) }, err: memory.ErrForked},
	{name: "other late samples", change: func(d *dataDir) { d.cut(wblZero, 0); d.append(wblZero, 9000) }, err: memory.ErrForked},
}

// firstRecord is the end of the first record of a file.
func firstRecord(d *dataDir, name string) int64 {
	b := d.read(name)
	return 7 + int64(b[1])<<8 + int64(b[2])
}

func TestOpen__knows_by_its_bytes_what_a_directory_is(t *testing.T) {
	for _, c := range relations {
		t.Run(c.name, func(t *testing.T) {
			d := newDataDir(t)
			d.run(func() { d.segments(walZero, walOne, walTwo, wblZero) })
			before := d.contents()
			c.change(d)
			m, err := d.connect(true)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				m = maastest.Must(d.connect(false))(t)
				require.False(t, m.Up(), "with local storage to fall back on, it runs without the server")
				require.NoError(t, m.Close())
				d.requireRestores(before)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want == memory.Behind, m.Behind())
			if m.Behind() {
				replaced := d.contents()
				restoreTo(d, m)
				require.Equal(t, before, d.contents())
				require.Equal(t, replaced, d.asideContents(), "what was there is put aside")
			}
			require.NoError(t, m.Close())
			now := d.contents()
			d.run(func() {})
			d.requireRestores(now)
		})
	}
}

// requireRestores wants a take-over to have a log, except for torn records at its ends.
func (d *dataDir) requireRestores(want map[string]string) {
	other := d.elsewhere()
	other.restore()
	if want[walThree] == "" { // An empty end of the log is no loss.
		delete(want, walThree)
	}
	require.Equal(d.t, want, other.contents())
}

// Without the checkpoint in front of it, a log has most samples of series that nobody knows. Remote memory has it.
func TestOpen__a_directory_that_lost_the_beginning_of_its_log(t *testing.T) {
	const checkpoint, parts = "wal/checkpoint.00000001", 2
	more := func(d *dataDir) { d.append(walThree, 5000); d.segments("wal/00000004", wblZero) }
	for name, lose := range map[string]func(d *dataDir){
		"its checkpoint":                      func(d *dataDir) { d.remove(checkpoint) },
		"its checkpoint, and more came":       func(d *dataDir) { more(d); d.remove(checkpoint) },
		"the names of the checkpoint's parts": func(d *dataDir) { d.remove(checkpoint); d.mkdir(checkpoint) },
		"the last part":                       func(d *dataDir) { d.remove(checkpoint + "/00000001") },
		"a part, and more came":               func(d *dataDir) { more(d); d.remove(checkpoint + "/00000000") },
		"the end of a part":                   func(d *dataDir) { d.cut(checkpoint+"/00000001", 1000) },
		"a segment, too":                      func(d *dataDir) { d.remove(checkpoint, walTwo) },
	} {
		t.Run(name, func(t *testing.T) {
			d := newLog(t)
			d.run(d.truncate)
			want := d.contents()
			lose(d)
			for name, b := range d.contents() {
				if len(b) > len(want[name]) {
					want[name] = b
				}
			}
			m := d.open()
			require.True(t, m.Behind())
			restoreTo(d, m)
			require.Equal(t, want, d.contents())
			require.NoError(t, m.Close())
			d.run(func() {})
			d.requireRestores(want)
		})
	}
}

// A log that begins where the one in remote memory has not arrived does not continue it.
func TestOpen__a_log_without_a_beginning_behind_a_gap(t *testing.T) {
	d := newLog(t)
	d.run(d.truncate)
	d.segments("wal/00000004", "wal/00000005")
	d.remove("wal/checkpoint.00000001", walTwo, walThree, "wal/00000004")
	require.ErrorIs(t, maastest.Err(d.connect(true)), memory.ErrForked)
}

// A checkpoint that is lost under a running Prometheus stays in remote memory until there is another one.
func TestTail__keeps_the_beginning_of_the_log_when_the_directory_has_lost_it(t *testing.T) {
	d := newLog(t)
	n := d.start()
	d.truncate()
	n.looks() // When the second look has the log, the first one has the checkpoint.
	n.looks()
	d.remove("wal/checkpoint.00000001")
	for range 3 {
		n.looks()
	}
	n.attachesAnew()
	d.segments("wal/00000004")
	n.looks()
	n.looks()
	_, there := d.look()
	require.Equal(t, map[remotefile.Name]bool{checkpointOne: true, {Kind: remotefile.Checkpoint, Number: 1, Part: 1}: true,
		wal(2): true, wal(3): true, wal(4): true}, there)
	d.checkpoint(2, 1, walTwo)
	n.stop()
	_, there = d.look()
	require.False(t, there[checkpointOne])
	d.requireRestores(d.contents())
}

// Late samples that the leader has compacted meanwhile are in blocks, and may be deleted there.
func TestOpen__an_older_copy_keeps_no_late_samples(t *testing.T) {
	d := newDataDir(t)
	d.run(func() { d.segments(walZero, wblZero) })
	older := d.copied()
	d.run(func() { d.segments(walOne); d.remove(wblZero); d.write("wbl/00000001", nil) })
	m := older.open()
	require.True(t, m.Behind())
	restoreTo(older, m)
	require.NoFileExists(t, older.path(wblZero))
	require.FileExists(t, older.path(walOne))
}

// A power cut takes the end of the WAL, back to where remote memory has more, and nothing of the WBL: of the commits
// that remote memory had not got yet, late samples alone are left.
func TestOpen__keeps_no_late_samples_whose_commits_are_lost(t *testing.T) {
	d := newDataDir(t)
	d.run(func() { d.segments(walZero, wblZero) })
	want := d.contents()
	d.append(walZero, 5000)
	d.append(wblZero, 5000)
	d.cut(walZero, 5000)
	m := d.open()
	require.True(t, m.Behind())
	restoreTo(d, m)
	require.Equal(t, want, d.contents())
}

// A power cut leaves the first byte of a record and zeros, which are together a whole record of no bytes, and the segment
// is longer than remote memory's.
func TestCompare__zeros_behind_the_first_byte_of_a_record(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	d.append(walOne, 3000)
	d.run(func() {})
	d.append(walOne, 2000)
	m, b := d.open(), d.read(walOne)
	mem := maastest.Must(m.Look(context.Background()))(t)
	for at, first := range b {
		if first == 1 {
			d.write(walOne, b)
			d.zero(walOne, at+1, len(b)-at-1)
			relation, err := Compare(context.Background(), mem, m.Arena().Listing, d.dir, false)
			require.NoError(t, err)
			require.NotEqual(t, memory.Forked, relation, "cut behind byte %d", at)
		}
	}
}

// A copy of a directory has the same log as long as it adds nothing, even if the original was started since. Once it
// adds something, it has another log.
func TestOpen__an_older_copy_goes_on_with_what_the_original_wrote(t *testing.T) {
	d := newDataDir(t)
	d.run(func() { d.segments(walZero) })
	older := d.copied()
	d.run(func() { d.append(walZero, 5000); d.segments(walOne) })
	forked := older.copied()
	forked.append(walOne, 900)

	_, err := forked.connect(true)
	require.ErrorIs(t, err, memory.ErrForked)
	older.catchesUpWith(d)
}

// catchesUpWith wants a start on this directory to find its log behind, and to get what the other directory has.
func (d *dataDir) catchesUpWith(other *dataDir) {
	m := d.open()
	require.True(d.t, m.Behind())
	restoreTo(d, m)
	require.NoError(d.t, m.Close())
	require.Equal(d.t, other.contents(), d.contents())
}

// Nothing in the copy is still in remote memory. Only its epoch shows that it is the same log.
func TestOpen__a_copy_older_than_the_checkpoint(t *testing.T) {
	for name, restarted := range map[string]bool{"of the same start": false, "of an earlier start": true} {
		t.Run(name, func(t *testing.T) {
			d := newDataDir(t)
			n := d.startWith(walZero)
			older := d.copied()
			if restarted {
				n.stop()
				n = d.start()
			}
			d.append(walOne, 900)
			d.checkpoint(0, 1, walZero)
			n.stop()
			if !restarted {
				older.catchesUpWith(d)
				return
			}
			_, err := older.connect(true)
			require.ErrorIs(t, err, memory.ErrForked)
		})
	}
}

// A log may end at any byte. The bytes behind the last whole record are cut, here and in remote memory, and
// nothing else.
func TestCutTorn__at_every_byte(t *testing.T) {
	d := newDataDir(t)
	d.append(walZero, 100<<10)
	d.append(wblZero, 100)
	whole := d.read(walZero)
	step := 997 // Of all bytes, with records and pages in the middle.
	if os.Getenv("MAAS_LONG") != "" {
		step = 1
	}
	for size := int64(1); size <= int64(len(whole)); size += int64(step) {
		d.write(walZero, whole[:size])
		require.NoError(t, CutTorn(d.dir, quiet()))
		end := validEnd(d.path(walZero))
		require.Len(t, d.read(walZero), int(end), "cut at %d", size)
		require.Less(t, size-end, int64(4100), "cut at %d", size)
	}

	// In remote memory, a segment that a repair made shorter is cut in place.
	d.write(walZero, append(whole, 1, 0, 9))
	d.run(func() {})
	require.NoError(t, CutTorn(d.dir, quiet()))
	require.Zero(t, d.run(func() {}), "nothing is copied again")
	d.requireRestores(d.contents())
}

func TestCutTorn__leaves_padding_and_empty_segments(t *testing.T) {
	d := newDataDir(t)
	d.append(walZero, 1000)
	d.cut(walZero, 32<<10) // A page that is filled with zeros.
	d.append(walOne, 0)
	want := d.contents()
	require.NoError(t, CutTorn(d.dir, quiet()))
	require.Equal(t, want, d.contents())
	require.NoError(t, CutTorn(t.TempDir(), quiet()), "no log")
}

// inPieces is a memory that allows no request for more than an extent.
type inPieces struct{ remotefile.Memory }

func (m inPieces) ReadV(ctx context.Context, ranges []maas.Range) error {
	n := 0
	for _, r := range ranges {
		n += len(r.Data)
	}
	if n > 4<<20 {
		return fmt.Errorf("%d bytes in one request", n)
	}
	return m.Memory.ReadV(ctx, ranges)
}

// A segment has 128 MiB; over a slow link, each request has a time limit of its own.
func TestCompare__reads_piece_by_piece(t *testing.T) {
	d := newDataDir(t)
	d.run(func() { d.append(walZero, 12<<20) })
	d.cut(walZero, 100)
	m := d.elsewhere().open()
	require.NoError(t, m.Read("compare", time.Minute, func(ctx context.Context, c *memory.Conn) error {
		relation, err := Compare(ctx, inPieces{c}, m.Arena().Listing, d.dir, true)
		require.Equal(t, memory.Behind, relation)
		return err
	}))
	require.NoError(t, m.Close())
}

// Each start compares the whole log. The memory that this takes does not depend on its length.
func TestCompare__needs_little_memory(t *testing.T) {
	d := newDataDir(t)
	d.run(func() { d.append(walZero, 12<<20); d.append(walOne, 12<<20) })
	m := d.open()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	relation, err := Compare(context.Background(), nil, m.Arena().Listing, d.dir, true)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Equal(t, memory.HasAll, relation)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<20))
}

// ending is a context that ends when it has been asked so often.
type ending struct {
	context.Context
	left int
}

func (e *ending) Err() error {
	if e.left--; e.left < 0 {
		return context.Canceled
	}
	return nil
}

// Prometheus may be told to end while a log of many gigabytes is compared.
func TestCompare__ends_between_two_files(t *testing.T) {
	d := newLog(t)
	d.run(func() {})
	listing := d.open().Arena().Listing
	for files := range 3 {
		_, err := Compare(&ending{t.Context(), files}, nil, listing, d.dir, true)
		require.ErrorIs(t, err, context.Canceled, "in front of the next file")
	}
	require.NoError(t, maastest.Err(Compare(&ending{t.Context(), 3}, nil, listing, d.dir, true)))
}

// A standby whose copy is longer compares again and again while the leader copies its log anew.
func TestAhead__reads_nothing_twice(t *testing.T) {
	d := newLog(t)
	part := d.cutShort()
	n := part.startWith()
	n.copies(segmentSize + 1<<15)
	reads := 0
	known := newCompared(func() error { reads++; return nil })
	look := func() (longer int64) {
		plan, _, err := planRestore(d.files(), false)
		require.NoError(t, err)
		longer, goesOn, err := ahead(t.Context(), d.client, plan, d.dir, known)
		require.NoError(t, err)
		require.True(t, goesOn)
		return longer
	}
	require.NotZero(t, look())
	require.Equal(t, 4, reads, "segments 0 and 1, and the ends of 1 and 2")
	longer := look()
	require.Equal(t, 4, reads)

	more := d.read(walOne)[1<<15:]
	part.write(walOne, d.read(walOne)[:1<<16])
	n.copies(segmentSize + 1<<16)
	require.Equal(t, longer-1<<15, look())
	require.Equal(t, 5, reads, "segment 1")
	n.stop()

	d.write(walOne, append(more, 0)) // Other bytes, of another length.
	plan, _, err := planRestore(d.files(), false)
	require.NoError(t, err)
	_, goesOn, err := ahead(t.Context(), d.client, plan, d.dir, known)
	require.NoError(t, err)
	require.False(t, goesOn)
}

func TestAhead__ends_between_two_files(t *testing.T) {
	d := newLog(t)
	d.cutShort().run(func() {})
	plan, _, err := planRestore(d.files(), false)
	require.NoError(t, err)
	for ends := range 4 {
		reads := 0
		_, _, err := ahead(t.Context(), d.client, plan, d.dir, newCompared(func() error {
			if reads == ends {
				return errLeads
			}
			reads++
			return nil
		}))
		require.ErrorIs(t, err, errLeads)
		require.Equal(t, ends, reads)
	}
}
