// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

func TestRestore__brings_back_the_log_byte_for_byte(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	n := start(t, server.URL, d.dir)
	for i := range 4 {
		for range 5 {
			d.append(fmt.Sprintf("wal/%08d", i), segmentSize/5)
			time.Sleep(15 * time.Millisecond) // Lets rounds see the file at many lengths.
		}
	}
	d.append("wbl/00000000", 777)
	d.checkpoint(1, 3)
	d.remove("wal/00000000")
	d.remove("wal/00000001")
	d.append("wal/00000003", 1) // A torn tail.
	n.stop(t)                   // Copies what is left.

	other := t.TempDir()
	m, err := connect(t, server.URL, other, true)
	require.NoError(t, err)
	require.True(t, memory.IsEmpty(other))
	done, err := Restore(context.Background(), m, other, true, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, contents(t, d.dir), contents(t, other))
	require.Equal(t, 6, done.Files)
	require.NoFileExists(t, filepath.Join(other, restoreDir))
	require.NoError(t, m.Close())
}

// Any slab classes will do, and the log is in use all the time.
func TestRestore__from_a_server_of_other_slab_classes(t *testing.T) {
	for _, classes := range []string{"64KiB", "8KiB,256KiB,1MiB", "8MiB"} {
		server := maastest.Start(t, "--max-pool-size", "64MiB", "--slab-sizes", classes)
		d := newDataDir(t)
		for i := range 4 {
			d.append(fmt.Sprintf("wal/%08d", i), 5*segmentSize)
		}
		n := start(t, server.URL, d.dir)
		maastest.Eventually(t, "all is copied", func() bool { return acked(n) == 20*segmentSize })
		require.True(t, n.Up(), classes)
		require.Zero(t, testutil.ToFloat64(n.Metrics().Errors.WithLabelValues("append")), classes)
		n.stop(t)

		other := t.TempDir()
		m, err := connect(t, server.URL, other, true)
		require.NoError(t, err)
		_, err = Restore(context.Background(), m, other, true, slog.New(slog.DiscardHandler))
		require.NoError(t, err)
		require.Equal(t, contents(t, d.dir), contents(t, other), classes)
		require.NoError(t, m.Close())
	}
}

// A shutdown leaves a snapshot of the head, which spares the successor the replay, if everything that the snapshot
// relies on is there.
func TestRestore__brings_back_the_snapshot_of_a_shutdown(t *testing.T) {
	for name, chunksLost := range map[string]bool{"with its chunks": false, "without some of its chunks": true} {
		t.Run(name, func(t *testing.T) {
			server := maastest.Start(t, "--max-pool-size", "64MiB")
			d := newDataDir(t)
			d.append("wal/00000000", segmentSize)
			for _, name := range []string{"chunks_head/000001", "chunks_head/000002", "chunks_head/000003"} {
				header := headchunk.FileHeader()
				b := headchunk.Append(header[:], headchunk.Record{Series: 1, Mint: 1, Maxt: 2, Encoding: chunkenc.EncXOR, Data: []byte{0, 1, 2}})
				require.NoError(t, os.WriteFile(filepath.Join(d.dir, name), b, 0o666))
			}
			m, err := connect(t, server.URL, d.dir, true)
			require.NoError(t, err)
			n := &node{Manager: m, tail: Start(m, Options{Dir: d.dir, Chunks: true, Logger: slog.New(slog.DiscardHandler)})}
			for _, dir := range []string{"chunk_snapshot.000000.0000000012", "chunk_snapshot.000000.0000307200"} {
				tmp := dir + ".tmp" // It gets its name when it is complete.
				require.NoError(t, os.Mkdir(filepath.Join(d.dir, tmp), 0o777))
				d.append(filepath.Join(tmp, "00000000"), segmentSize)
				d.append(filepath.Join(tmp, "00000001"), 77)
				require.NoError(t, os.Rename(filepath.Join(d.dir, tmp), filepath.Join(d.dir, dir)))
			}
			n.stop(t)
			if chunksLost {
				ranges, err := n.tail.files[remotefile.Name{Kind: remotefile.Chunks, Number: 2}].file.Ranges(nil, make([]byte, 1), 0)
				require.NoError(t, err)
				require.NoError(t, free(server.URL, ranges[0].ID))
			}

			other := t.TempDir()
			m, err = connect(t, server.URL, other, true)
			require.NoError(t, err)
			_, err = Restore(context.Background(), m, other, true, slog.New(slog.DiscardHandler))
			require.NoError(t, err)
			require.NoError(t, m.Close())
			require.Equal(t, contents(t, d.dir), contents(t, other))
			newest := filepath.Join(other, "chunk_snapshot.000000.0000307200")
			require.Equal(t, !chunksLost, exists(newest))
			require.NoDirExists(t, filepath.Join(other, "chunk_snapshot.000000.0000000012"))
			if !chunksLost {
				for _, part := range []string{"00000000", "00000001"} {
					want, err := os.ReadFile(filepath.Join(d.dir, "chunk_snapshot.000000.0000307200", part))
					require.NoError(t, err)
					got, err := os.ReadFile(filepath.Join(newest, part))
					require.NoError(t, err)
					require.Equal(t, want, got)
				}
			}
		})
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

func TestRestore__refuses_a_log_without_its_beginning(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000003", segmentSize)
	n := start(t, server.URL, d.dir)
	maastest.Eventually(t, "all is copied", func() bool { return acked(n) == segmentSize })
	n.stop(t)

	next := t.TempDir()
	m, err := connect(t, server.URL, next, true)
	require.NoError(t, err)
	_, err = Restore(context.Background(), m, next, false, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "segment 3")
	require.NoDirExists(t, filepath.Join(next, "wal"))
	require.NoError(t, m.Close())
}

func TestRestore__goes_on_after_a_crash_in_the_middle(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.checkpoint(2, 1)
	d.append("wbl/00000000", 100)
	d.append("wal/00000003", 0)
	n := start(t, server.URL, d.dir)
	maastest.Eventually(t, "all is copied", func() bool { return acked(n) == segmentSize+100 })
	n.stop(t)

	next := t.TempDir()
	for _, name := range []string{"wbl", "wal", "chunks_head"} { // What a crash left.
		require.NoError(t, os.Mkdir(filepath.Join(next, name), 0o777))
	}
	require.NoError(t, os.WriteFile(filepath.Join(next, "wbl/00000000"), []byte("old"), 0o666))
	m, err := connect(t, server.URL, next, true)
	require.NoError(t, err)
	_, err = Restore(context.Background(), m, next, false, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, contents(t, d.dir), contents(t, next), "with an empty segment behind the checkpoint")
	require.NoError(t, m.Close())
}

// The process is killed when the directory's own log is put aside, and nothing has replaced it yet.
func TestRestore__keeps_what_it_put_aside_through_a_crash(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.run(server.URL, func() { d.append(walZero, segmentSize); d.append(wblZero, 100) })
	want := contents(t, d.dir)
	d.cut(walZero, 5000)
	own := contents(t, d.dir)
	require.NoError(t, os.Mkdir(filepath.Join(d.dir, replacedDir), 0o777))
	require.NoError(t, os.Rename(filepath.Join(d.dir, "wal"), filepath.Join(d.dir, replacedDir, "wal")))

	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	_, err = Restore(context.Background(), m, d.dir, true, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.NoError(t, m.Close())
	require.Equal(t, want, contents(t, d.dir))
	require.Equal(t, own, contents(t, filepath.Join(d.dir, replacedDir)))
}

// The directory has more than remote memory still has.
func TestRestore__replaces_no_log_by_a_damaged_one(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.run(server.URL, func() { d.append(walZero, segmentSize); d.append(walOne, segmentSize); d.append(walTwo, segmentSize) })
	d.cut(walTwo, 5000)
	want := contents(t, d.dir)
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	require.True(t, m.Behind())
	for _, f := range m.Arena().Listing.Files {
		if f.Name() == wal(1) {
			ranges, err := f.Ranges(nil, []byte("other"), 100)
			require.NoError(t, err)
			require.NoError(t, m.Write("damage", 5, func(ctx context.Context, c *memory.Conn) error { return c.WriteV(ctx, ranges) }))
		}
	}
	done, err := Restore(context.Background(), m, d.dir, true, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Zero(t, done)
	require.Equal(t, want, contents(t, d.dir))
	require.NoError(t, m.Close())
}

func TestRestore__takes_nothing_behind_a_hole(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	for i := range 4 {
		d.append(fmt.Sprintf("wal/%08d", i), segmentSize)
	}
	d.append("wbl/00000000", 100) // Of which series, the lost part of the WAL may know.
	n := start(t, server.URL, d.dir)
	maastest.Eventually(t, "all is copied", func() bool { return acked(n) == 4*segmentSize+100 })
	n.tail.mu.RLock()
	ranges, err := n.tail.files[remotefile.Name{Kind: remotefile.WAL, Number: 2}].file.Ranges(nil, make([]byte, 1), 0)
	n.tail.mu.RUnlock()
	require.NoError(t, err)
	n.stop(t)

	next := t.TempDir()
	require.NoError(t, free(server.URL, ranges[0].ID))
	m, err := connect(t, server.URL, next, true)
	require.NoError(t, err)
	done, err := Restore(context.Background(), m, next, false, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, Restored{Files: 2, Bytes: 2 * segmentSize, Lost: 2}, done)
	d.remove("wbl/00000000")
	d.remove("wal/00000002")
	d.remove("wal/00000003")
	require.Equal(t, contents(t, d.dir), contents(t, next))
	require.NoError(t, m.Close())
}

func TestRestore__ends_with_its_context_and_leaves_nothing(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	n := start(t, server.URL, d.dir)
	n.stop(t)

	other := t.TempDir()
	m, err := connect(t, server.URL, other, true)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	before := contents(t, other)
	_, err = Restore(ctx, m, other, true, slog.New(slog.DiscardHandler))
	require.ErrorIs(t, err, context.Canceled)
	require.Equal(t, before, contents(t, other))
	require.NoError(t, m.Close())
}

// A log without its beginning would be opened, and begin with a segment that no later start reads.
func TestRestore__refuses_a_damaged_checkpoint(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newLog(t)
	d.truncate()
	d.run(server.URL, func() {})
	m, err := connect(t, server.URL, t.TempDir(), true)
	require.NoError(t, err)
	for _, f := range m.Arena().Listing.Files {
		if f.Name() == (remotefile.Name{Kind: remotefile.Checkpoint, Number: 1}) {
			ranges, err := f.Ranges(nil, []byte("other"), 100)
			require.NoError(t, err)
			require.NoError(t, m.Write("damage", 5, func(ctx context.Context, c *memory.Conn) error { return c.WriteV(ctx, ranges) }))
		}
	}
	other := t.TempDir()
	_, err = Restore(context.Background(), m, other, true, slog.New(slog.DiscardHandler))
	require.ErrorContains(t, err, "checkpoint.00000001/00000000 is not as it was written")
	require.True(t, memory.IsEmpty(other))
	require.NoError(t, m.Close())
}
