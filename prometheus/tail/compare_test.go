// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// copied is a copy of a data directory, as cp -a or a backup makes one.
func (d *dataDir) copied() *dataDir {
	c := &dataDir{t: d.t, dir: d.t.TempDir(), rnd: d.rnd}
	require.NoError(d.t, os.CopyFS(c.dir, os.DirFS(d.dir)))
	return c
}

// run copies to remote memory what a database writes into a data directory.
func (d *dataDir) run(url string, write func()) {
	d.t.Helper()
	n := start(d.t, url, d.dir)
	write()
	n.stop(d.t)
}

// zero overwrites the end of a file, as a power cut leaves bytes that were not on disk yet.
func (d *dataDir) zero(name string, n int64) {
	info, err := os.Stat(filepath.Join(d.dir, name))
	require.NoError(d.t, err)
	d.cut(name, info.Size()-n)
	require.NoError(d.t, os.Truncate(filepath.Join(d.dir, name), info.Size()))
}

// hole overwrites a part of a file with zeros.
func (d *dataDir) hole(name string, from, n int64) {
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_WRONLY, 0)
	require.NoError(d.t, err)
	_, err = f.WriteAt(make([]byte, n), from)
	require.NoError(d.t, errors.Join(err, f.Close()))
}

func (d *dataDir) cut(name string, size int64) {
	require.NoError(d.t, os.Truncate(filepath.Join(d.dir, name), size))
}

const walZero, walOne, walTwo, wblZero = "wal/00000000", "wal/00000001", "wal/00000002", "wbl/00000000"

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
	{name: "an empty segment more", change: func(d *dataDir) { d.append("wal/00000003", 0) }},
	{name: "a checkpoint in the place of segments", change: func(d *dataDir) { d.checkpoint(0, 1); d.remove(walZero) }},
	{name: "older by some records", change: func(d *dataDir) { d.cut(walTwo, 2000) }, want: memory.Behind},
	{name: "older by a segment", change: func(d *dataDir) { d.remove(walTwo) }, want: memory.Behind},
	{name: "older by late samples", change: func(d *dataDir) { d.cut(wblZero, 0) }, want: memory.Behind},
	{name: "without late samples", change: func(d *dataDir) { d.remove(wblZero) }, want: memory.Behind},
	{name: "zeros at the end", change: func(d *dataDir) { d.zero(walTwo, 50_000) }, want: memory.Behind},
	{name: "zeros in a segment with others behind it", change: func(d *dataDir) { d.zero(walOne, 50_000) }, want: memory.Behind},
	{name: "zeros in front of what was on disk", change: func(d *dataDir) { d.hole(walTwo, 64<<10, 64<<10) }, want: memory.Behind},
	{name: "other records in the last segment", change: func(d *dataDir) { d.cut(walTwo, 0); d.append(walTwo, 9000) }, err: memory.ErrForked},
	{name: "other records behind common ones", change: func(d *dataDir) {
		end := validEnd(filepath.Join(d.dir, walTwo))
		d.cut(walTwo, firstRecord(d, walTwo))
		d.append(walTwo, int(end))
	}, err: memory.ErrForked},
	{name: "records behind an older state", change: func(d *dataDir) { d.cut(walTwo, 2000); d.append("wal/00000003", 900) }, err: memory.ErrForked},
	{name: "records behind a complete segment", change: func(d *dataDir) { d.append(walOne, 900) }, err: memory.ErrForked},
	{name: "another first segment", change: func(d *dataDir) { d.cut(walZero, 0); d.append(walZero, 900) }, err: memory.ErrForked},
	{name: "other late samples", change: func(d *dataDir) { d.cut(wblZero, 0); d.append(wblZero, 9000) }, err: memory.ErrForked},
}

// firstRecord is the end of the first record of a file.
func firstRecord(d *dataDir, name string) int64 {
	b, err := os.ReadFile(filepath.Join(d.dir, name))
	require.NoError(d.t, err)
	return 7 + int64(b[1])<<8 + int64(b[2])
}

func TestOpen__knows_by_its_bytes_what_a_directory_is(t *testing.T) {
	for _, c := range relations {
		t.Run(c.name, func(t *testing.T) {
			server := maastest.Start(t, "--max-pool-size", "64MiB")
			d := newDataDir(t)
			d.run(server.URL, func() {
				for _, name := range []string{walZero, walOne, walTwo} {
					d.append(name, segmentSize)
				}
				d.append(wblZero, segmentSize)
			})
			before := contents(t, d.dir)
			c.change(d)
			m, err := connect(t, server.URL, d.dir, true)
			if c.err != nil {
				require.ErrorIs(t, err, c.err)
				m, err = connect(t, server.URL, d.dir, false)
				require.NoError(t, err, "with local storage to fall back on, it runs without the server")
				require.False(t, m.Up())
				require.NoError(t, m.Close())
				requireRestores(t, server.URL, before)
				return
			}
			require.NoError(t, err)
			require.Equal(t, c.want == memory.Behind, m.Behind())
			if m.Behind() {
				replaced := contents(t, d.dir)
				_, err = Restore(context.Background(), m, d.dir, true, slog.New(slog.DiscardHandler))
				require.NoError(t, err)
				require.Equal(t, before, contents(t, d.dir))
				require.Equal(t, replaced, contents(t, filepath.Join(d.dir, replacedDir)), "what was there is put aside")
			}
			require.NoError(t, m.Close())
			now := contents(t, d.dir)
			d.run(server.URL, func() {})
			requireRestores(t, server.URL, now)
		})
	}
}

// requireRestores wants a take-over to have a log, except for torn records at its ends.
func requireRestores(t *testing.T, url string, want map[string]string) {
	t.Helper()
	dir := t.TempDir()
	m, err := connect(t, url, dir, true)
	require.NoError(t, err)
	_, err = Restore(context.Background(), m, dir, true, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, m.Close())
	got := contents(t, dir)
	delete(want, "wal/00000003") // Empty, where it is there.
	require.Equal(t, want, got)
}

// A copy of a directory has the same log as long as it adds nothing, even if the original was started since; what
// it adds makes it another log.
func TestOpen__an_older_copy_goes_on_with_what_the_original_wrote(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.run(server.URL, func() { d.append(walZero, segmentSize) })
	older := d.copied()
	d.run(server.URL, func() { d.append(walZero, 5000); d.append(walOne, segmentSize) })
	forked := older.copied()
	forked.append(walOne, 900)

	_, err := connect(t, server.URL, forked.dir, true)
	require.ErrorIs(t, err, memory.ErrForked)
	m, err := connect(t, server.URL, older.dir, true)
	require.NoError(t, err)
	require.True(t, m.Behind())
	_, err = Restore(context.Background(), m, older.dir, true, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.Equal(t, contents(t, d.dir), contents(t, older.dir))
}

// Nothing in the copy is still in remote memory. Only its epoch shows that it is the same log.
func TestOpen__a_copy_older_than_the_checkpoint(t *testing.T) {
	for name, restarted := range map[string]bool{"of the same start": false, "of an earlier start": true} {
		t.Run(name, func(t *testing.T) {
			server := maastest.Start(t, "--max-pool-size", "64MiB")
			d := newDataDir(t)
			var older *dataDir
			d.run(server.URL, func() {
				d.append(walZero, segmentSize)
				older = d.copied()
				if !restarted {
					d.append(walOne, 900)
					d.checkpoint(0, 1)
					d.remove(walZero)
				}
			})
			if restarted {
				d.run(server.URL, func() {
					d.append(walOne, 900)
					d.checkpoint(0, 1)
					d.remove(walZero)
				})
			}
			m, err := connect(t, server.URL, older.dir, true)
			if restarted {
				require.ErrorIs(t, err, memory.ErrForked)
				return
			}
			require.NoError(t, err)
			require.True(t, m.Behind())
			_, err = Restore(context.Background(), m, older.dir, true, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			require.NoError(t, m.Close())
			require.Equal(t, contents(t, d.dir), contents(t, older.dir))
		})
	}
}

// A log may end at any byte. The bytes behind the last whole record are cut, here and in remote memory, and
// nothing else.
func TestCutTorn__at_every_byte(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append(walZero, 100<<10)
	d.append(wblZero, 100)
	whole, err := os.ReadFile(filepath.Join(d.dir, walZero))
	require.NoError(t, err)
	logger := slog.New(slog.DiscardHandler)
	step := 997 // Of all bytes, with records and pages in the middle.
	if os.Getenv("MAAS_LONG") != "" {
		step = 1
	}
	for size := int64(1); size <= int64(len(whole)); size += int64(step) {
		require.NoError(t, os.WriteFile(filepath.Join(d.dir, walZero), whole[:size], 0o666))
		require.NoError(t, CutTorn(d.dir, logger))
		b, err := os.ReadFile(filepath.Join(d.dir, walZero))
		require.NoError(t, err)
		end := validEnd(filepath.Join(d.dir, walZero))
		require.Equal(t, int64(len(b)), end, "cut at %d", size)
		require.Less(t, size-end, int64(4100), "cut at %d", size)
	}

	// In remote memory, a segment that a repair made shorter is cut in place.
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, walZero), append(whole, 1, 0, 9), 0o666))
	d.run(server.URL, func() {})
	require.NoError(t, CutTorn(d.dir, logger))
	n := start(t, server.URL, d.dir)
	n.stop(t)
	require.Zero(t, acked(n), "nothing is copied again")
	requireRestores(t, server.URL, contents(t, d.dir))
}

func TestCutTorn__leaves_padding_and_empty_segments(t *testing.T) {
	d := newDataDir(t)
	d.append(walZero, 1000)
	d.cut(walZero, 32<<10) // A page that is filled with zeros.
	d.append(walOne, 0)
	want := contents(t, d.dir)
	require.NoError(t, CutTorn(d.dir, slog.New(slog.DiscardHandler)))
	require.Equal(t, want, contents(t, d.dir))
	require.NoError(t, CutTorn(t.TempDir(), slog.New(slog.DiscardHandler)), "no log")
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
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.run(server.URL, func() { d.append(walZero, 12<<20) })
	d.cut(walZero, 100)
	m, err := connect(t, server.URL, t.TempDir(), true)
	require.NoError(t, err)
	require.NoError(t, m.Read("compare", time.Minute, func(ctx context.Context, c *memory.Conn) error {
		relation, err := Compare(ctx, inPieces{c}, m.Arena().Listing, d.dir, true)
		require.Equal(t, memory.Behind, relation)
		return err
	}))
	require.NoError(t, m.Close())
}

// Each start compares the whole log. The memory that this takes does not depend on its length.
func TestCompare__needs_little_memory(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.run(server.URL, func() { d.append(walZero, 12<<20); d.append(walOne, 12<<20) })
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	defer m.Close()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	relation, err := Compare(context.Background(), nil, m.Arena().Listing, d.dir, true)
	runtime.ReadMemStats(&after)
	require.NoError(t, err)
	require.Equal(t, memory.HasAll, relation)
	require.Less(t, after.TotalAlloc-before.TotalAlloc, uint64(2<<20))
}
