// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const segmentSize = 300 << 10

// dataDir is a data directory that a test writes to as Prometheus does.
type dataDir struct {
	t   *testing.T
	dir string
	rnd *rand.Rand
}

func newDataDir(t *testing.T) *dataDir {
	d := &dataDir{t: t, dir: t.TempDir(), rnd: rand.New(rand.NewSource(1))}
	for _, sub := range []string{"wal", "wbl", "chunks_head"} {
		require.NoError(t, os.Mkdir(filepath.Join(d.dir, sub), 0o777))
	}
	return d
}

// append appends n bytes of records.
func (d *dataDir) append(name string, n int) {
	f, err := os.OpenFile(filepath.Join(d.dir, name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	require.NoError(d.t, err)
	at, err := f.Seek(0, io.SeekEnd)
	require.NoError(d.t, err)
	_, err = f.Write(d.records(int(at), n))
	require.NoError(d.t, err)
	require.NoError(d.t, f.Close())
}

// records makes n bytes of a log's records, for an offset in the log. No record crosses a page, and fewer than 7
// bytes are a torn beginning.
func (d *dataDir) records(at, n int) (b []byte) {
	const page, header = 32 << 10, 7
	for n > 0 {
		size := min(n, page-(at+len(b))%page, header+d.rnd.Intn(4000))
		for _, room := range []int{n, page - (at+len(b))%page} {
			if left := room - size; left > 0 && left < header && size > 2*header {
				size -= header
			}
		}
		data := make([]byte, max(0, size-header))
		d.rnd.Read(data)
		record := append([]byte{1}, binary.BigEndian.AppendUint16(nil, uint16(len(data)))...)
		record = binary.BigEndian.AppendUint32(record, remotefile.Checksum(data))
		b = append(b, append(record, data...)[:min(size, header+len(data))]...)
		n -= size
	}
	return b
}

// checkpoint makes a checkpoint as Prometheus does: under another name until it is complete.
func (d *dataDir) checkpoint(number, parts int) {
	tmp := fmt.Sprintf("wal/checkpoint.%08d.tmp", number)
	require.NoError(d.t, os.Mkdir(filepath.Join(d.dir, tmp), 0o777))
	for i := range parts {
		d.append(fmt.Sprintf("%s/%08d", tmp, i), segmentSize)
	}
	require.NoError(d.t, os.Rename(filepath.Join(d.dir, tmp), filepath.Join(d.dir, fmt.Sprintf("wal/checkpoint.%08d", number))))
}

func (d *dataDir) remove(name string) { require.NoError(d.t, os.RemoveAll(filepath.Join(d.dir, name))) }

// contents maps the names of a directory's files to their bytes.
func contents(t *testing.T, dir string) map[string]string {
	t.Helper()
	m := map[string]string{}
	for _, sub := range []string{"wal", "wbl"} {
		if _, err := os.Stat(filepath.Join(dir, sub)); err != nil {
			continue
		}
		require.NoError(t, filepath.WalkDir(filepath.Join(dir, sub), func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			name, _ := filepath.Rel(dir, path)
			m[name] = string(b)
			return err
		}))
	}
	return m
}

type node struct {
	*memory.Manager
	tail *Tail
	reg  *prometheus.Registry
}

func connect(t *testing.T, url, dir string, required bool) (*memory.Manager, error) {
	return memory.Open(context.Background(), memory.Options{
		URL: url, Owner: "node", Transport: "http", Dir: dir, Required: required,
		Compare: func(ctx context.Context, mem remotefile.Memory, l *remotefile.Listing, sameWriter bool) (memory.Relation, error) {
			return Compare(ctx, mem, l, dir, sameWriter)
		},
		Logger: slog.New(slog.DiscardHandler), Metrics: memory.NewMetrics(nil),
	})
}

func start(t *testing.T, url, dir string) *node {
	t.Helper()
	m, err := connect(t, url, dir, true)
	require.NoError(t, err)
	return &node{Manager: m, tail: Start(m, Options{Dir: dir, Interval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})}
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	n.tail.Close()
	require.NoError(t, n.Close())
}

func acked(n *node) float64 { return testutil.ToFloat64(n.Metrics().WALAcked) }

func TestTail__keeps_what_a_restart_finds_and_copies_only_what_is_new(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	n := start(t, server.URL, d.dir)
	n.stop(t)
	require.Equal(t, float64(segmentSize), acked(n))

	d.append("wal/00000000", 100)
	n = start(t, server.URL, d.dir)
	n.stop(t)
	require.Equal(t, 100.0, acked(n))

	// What a repair left out is cut there, too, and what follows is copied.
	n = start(t, server.URL, d.dir)
	maastest.Eventually(t, "it is in use", n.Up)
	b, err := os.ReadFile(filepath.Join(d.dir, "wal/00000000"))
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(filepath.Join(d.dir, "repaired"), b[:segmentSize/2], 0o666))
	d.append("repaired", 5000)
	require.NoError(t, os.Rename(filepath.Join(d.dir, "repaired"), filepath.Join(d.dir, "wal/00000000"))) // At once, for who looks.
	n.stop(t)
	require.Equal(t, 5000.0, acked(n))
	requireRestores(t, server.URL, contents(t, d.dir))

	// Another content of the same name is copied anew.
	n = start(t, server.URL, d.dir)
	d.remove("wal/00000000")
	d.append("wal/00000000", 6000)
	n.stop(t)
	requireRestores(t, server.URL, contents(t, d.dir))
}

func TestTail__copies_again_what_the_server_lost(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	n := start(t, server.URL, d.dir)
	d.append("wal/00000000", segmentSize)
	maastest.Eventually(t, "all is copied", func() bool { return acked(n) == segmentSize })
	server.Kill()
	d.append("wal/00000001", 10)
	server.Restart()
	maastest.Eventually(t, "all is copied again", func() bool { return acked(n) == 2*segmentSize+10 })
	n.stop(t)

	other := t.TempDir()
	m, err := connect(t, server.URL, other, true)
	require.NoError(t, err)
	_, err = Restore(context.Background(), m, other, true, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, contents(t, d.dir), contents(t, other))
	require.NoError(t, m.Close())
}

func TestOpen__waits_for_a_predecessor_and_fences_it(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	first := start(t, server.URL, d.dir)
	maastest.Eventually(t, "all is copied", func() bool { return acked(first) == segmentSize })

	begun := time.Now()
	opened := make(chan error, 1)
	other := t.TempDir()
	go func() {
		m, err := connect(t, server.URL, other, true)
		if err == nil {
			err = m.Close()
		}
		opened <- err
	}()
	time.Sleep(2 * time.Second)
	select {
	case err := <-opened:
		t.Fatalf("two of one owner at once: %v", err)
	default:
	}
	first.stop(t)
	require.NoError(t, <-opened)
	require.Greater(t, time.Since(begun), 2*time.Second)
}

func TestTail__keeps_what_it_has_when_the_log_goes_away(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	n := start(t, server.URL, d.dir)
	maastest.Eventually(t, "all is copied", func() bool { return acked(n) == segmentSize })
	want := contents(t, d.dir)
	require.NoError(t, os.RemoveAll(d.dir))
	time.Sleep(200 * time.Millisecond) // Ten looks.
	n.stop(t)

	next := t.TempDir()
	m, err := connect(t, server.URL, next, true)
	require.NoError(t, err)
	_, err = Restore(context.Background(), m, next, false, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Equal(t, want, contents(t, next))
	require.NoError(t, m.Close())
}

func TestOpen__a_restarted_server_keeps_its_place_for_who_lives(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB", "--memory-file", filepath.Join(t.TempDir(), "memory"))
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	first := start(t, server.URL, d.dir)
	maastest.Eventually(t, "all is copied", func() bool { return acked(first) == segmentSize })
	time.Sleep(3 * time.Second) // What it has is older, by the second, than the next server.
	server.Kill()
	server.Restart()

	ctx, cancel := context.WithTimeout(context.Background(), memory.SessionTTL)
	defer cancel()
	_, err := memory.Open(ctx, memory.Options{
		URL: server.URL, Owner: "node", Transport: "http", Dir: t.TempDir(), Required: true,
		Logger: slog.New(slog.DiscardHandler), Metrics: memory.NewMetrics(nil),
	})
	require.Error(t, err)
	maastest.Eventually(t, "the first one goes on", first.Up)
	d.append("wal/00000000", 10)
	maastest.Eventually(t, "what is new is copied", func() bool { return acked(first) == segmentSize+10 })
	first.stop(t)
}

func free(url, id string) error {
	c, err := maas.Open(context.Background(), maas.Options{URL: url, Transport: "http"})
	if err != nil {
		return err
	}
	_, _, err = c.Free(context.Background(), id)
	return errors.Join(err, c.Close())
}

// It begins a head of its own, even if it has written nothing when the server comes.
func TestOpen__who_began_without_the_server_frees_nothing_of_what_it_holds(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB", "--memory-file", filepath.Join(t.TempDir(), "memory"))
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	n := start(t, server.URL, d.dir)
	n.stop(t)
	server.Kill()
	m, err := connect(t, server.URL, t.TempDir(), false)
	require.NoError(t, err)
	server.Restart()
	maastest.Eventually(t, "it is refused", func() bool {
		return errors.Is(m.Write("test", 0, nil), memory.ErrForked)
	})
	require.NoError(t, m.Close())
	n = start(t, server.URL, d.dir)
	n.stop(t)
	require.Zero(t, acked(n))
}

func TestOpen__who_was_replaced_writes_nothing_more(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	first := start(t, server.URL, d.dir)
	maastest.Eventually(t, "all is copied", func() bool { return acked(first) == segmentSize })
	// The first is cut off: its lease ends without its knowledge, and a successor comes and goes.
	require.NoError(t, first.Read("test", time.Second, func(_ context.Context, c *memory.Conn) error { return c.Close() }))
	next := t.TempDir()
	m, err := connect(t, server.URL, next, true)
	require.NoError(t, err)
	_, err = Restore(context.Background(), m, next, false, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	successor := &node{Manager: m, tail: Start(m, Options{Dir: next, Interval: 20 * time.Millisecond, Logger: slog.New(slog.DiscardHandler)})}
	require.NoError(t, os.WriteFile(filepath.Join(next, "wal/00000001"), make([]byte, 1000), 0o666))
	maastest.Eventually(t, "the successor writes", func() bool { return acked(successor) == 1000 })
	successor.stop(t)

	d.append("wal/00000000", 10)
	maastest.Eventually(t, "it knows", first.Fenced)
	require.ErrorIs(t, first.Write("test", 0, nil), memory.ErrFenced)
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, float64(segmentSize), acked(first))
	first.tail.Close()
	_ = first.Close()
}

// Another package copies and frees the files of blocks.
func TestTail__leaves_the_files_of_blocks_alone(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	d.append("wal/00000000", segmentSize)
	n := start(t, server.URL, d.dir)
	block := remotefile.New(n.Owner(), n.Arena().Epoch, remotefile.Name{Kind: remotefile.Block, Part: 1}, false)
	require.NoError(t, n.Write("append", 1, func(ctx context.Context, c *memory.Conn) error {
		return block.Append(ctx, c, []byte("b"))
	}))
	n.stop(t)

	n = start(t, server.URL, d.dir)
	d.append("wal/00000001", segmentSize)
	maastest.Eventually(t, "the tail has looked", func() bool { return acked(n) >= segmentSize })
	n.stop(t)

	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	defer m.Close()
	files := m.Arena().Listing.Files
	require.Equal(t, block.Name(), files[len(files)-1].Name())
	plan, lost, err := planRestore(files, true)
	require.NoError(t, err)
	require.Zero(t, lost)
	require.Len(t, slices.Concat(plan...), 2)
}
