// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

func TestTail__keeps_what_a_restart_finds_and_copies_only_what_is_new(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	require.Equal(t, segmentSize, d.run(func() {}))
	require.Equal(t, 100, d.run(func() { d.append(walZero, 100) }))

	// A part that a repair left out is cut there, too, and the rest behind it is copied.
	n := d.start()
	maastest.Eventually(t, "it is in use", n.Up)
	d.write("repaired", d.read(walZero)[:segmentSize/2])
	d.append("repaired", 5000)
	d.rename("repaired", walZero) // At once, for whoever looks.
	n.stop()
	require.Equal(t, 5000.0, n.acked())
	d.requireRestores(d.contents())

	// Other contents under the same name are copied again.
	n = d.start()
	n.looks()
	d.append("another", 6000)
	d.rename("another", walZero)
	n.stop()
	d.requireRestores(d.contents())
}

// A megabyte does not arrive in time over this link, and would be sent again and again.
func TestTail__copies_a_backlog_over_a_slow_link(t *testing.T) {
	d := newDataDir(t)
	d.append(walZero, memory.MaxPiece)
	n := d.slowed(300 << 10).start()
	n.copies(memory.MaxPiece)
	n.stop()
	d.requireRestores(d.contents())
}

// Four megabytes of chunks take two seconds here, and the log is at most one behind.
func TestTail__looks_at_the_log_between_chunks_over_a_slow_link(t *testing.T) {
	d := newDataDir(t)
	d.append(walZero, 100)
	d.write("chunks_head/000001", chunkFile(20, 1, make([]byte, memory.MaxPiece/5)))
	slow := d.slowed(2 << 20)
	s := newStepper(slow, slow.open(), mirrored)
	require.True(t, s.look(), "there is more to copy")
	require.NotEmpty(t, d.chunks())
}

// Its bytes take longer than a lease leaves to a write.
func TestTail__copies_a_record_of_many_pieces(t *testing.T) {
	d := newDataDir(t)
	d.append(walZero, 100)
	b := chunkFile(1, 1, make([]byte, 20*memory.MaxPiece))
	d.write("chunks_head/000001", append(b, chunkFile(1, 2, []byte{0, 1, 1})[headchunk.FileHeaderSize:]...))
	slow := d.slowed(4 << 20)
	s := newStepper(slow, slow.open(), mirrored)
	for s.look() {
	}
	require.True(t, s.memory.Up())
	want := d.read("chunks_head/000001")
	got := make([]byte, len(want))
	require.NoError(t, d.client.ReadV(t.Context(), d.rangesOf(remotefile.Name{Kind: remotefile.Chunks, Number: 1}, got, 0)))
	require.Equal(t, want, got)
}

func TestTail__copies_again_what_the_server_lost(t *testing.T) {
	d := newDataDir(t)
	n := d.startWith(walZero)
	d.server.Kill()
	d.append(walOne, 10)
	d.server.Restart()
	n.copies(2*segmentSize + 10)
	n.stop()
	d.requireRestores(d.contents())
}

// verified is a process that often looks whether the server still has everything.
func (d *dataDir) verified() *node {
	m := maastest.Must(d.connectAs(d.t.Context(), memory.Options{Required: true, Verify: time.Millisecond}))(d.t)
	d.t.Cleanup(func() { _ = m.Close() })
	return d.startOn(m, mirrored)
}

// Before a take-over nobody reads a segment that is complete, and so nobody would miss it.
func TestTail__copies_again_what_somebody_freed(t *testing.T) {
	d := newLog(t)
	n := d.verified()
	n.copies(3 * segmentSize)
	d.lose(wal(0))
	n.copies(4 * segmentSize)
	n.stop()
	require.EqualValues(t, segmentSize, testutil.ToFloat64(n.Metrics().Resynced))
	d.requireRestores(d.contents())
}

// What the process itself writes, cuts and frees meanwhile is nothing that was lost.
func TestTail__misses_nothing_while_it_works(t *testing.T) {
	d := newLog(t)
	d.writeChunks(3, 1)
	n := d.verified()
	arena := n.Arena()
	n.looks()
	for i := range 20 {
		last := fmt.Sprintf("wal/%08d", 3+i)
		d.segments(last)
		n.looks()
		d.write("repaired", d.read(last)[:segmentSize/2])
		d.rename("repaired", last)
		d.checkpoint(1+i, 2, fmt.Sprintf("wal/%08d", i), fmt.Sprintf("wal/checkpoint.%08d", i))
		n.looks()
	}
	n.stop()
	require.Same(t, arena, n.Arena())
}

func TestOpen__waits_for_a_predecessor_and_fences_it(t *testing.T) {
	d := newDataDir(t)
	first := d.startWith(walZero)
	opened := make(chan error, 1)
	other := d.elsewhere()
	go func() {
		m, err := other.connect(true)
		if err == nil {
			err = m.Close()
		}
		opened <- err
	}()
	select {
	case err := <-opened:
		t.Fatal("two of one owner at once, or an error:", err)
	case <-time.After(2 * time.Second):
	}
	first.stop()
	require.NoError(t, <-opened)
}

func TestTail__keeps_what_it_has_when_the_log_goes_away(t *testing.T) {
	d := newDataDir(t)
	n := d.startWith(walZero)
	want := d.contents()
	require.NoError(t, os.RemoveAll(d.dir))
	time.Sleep(200 * time.Millisecond) // Ten looks.
	n.stop()
	d.requireRestores(want)
}

func TestOpen__a_restarted_server_keeps_its_place_for_who_lives(t *testing.T) {
	d := newDataDir(t, "--memory-file", filepath.Join(t.TempDir(), "memory"))
	first := d.startWith(walZero)
	time.Sleep(3 * time.Second) // Its memory is older than the next server, at a resolution of seconds.
	d.server.Kill()
	d.server.Restart()

	ctx, cancel := context.WithTimeout(t.Context(), memory.SessionTTL)
	defer cancel()
	_, err := d.elsewhere().connectAs(ctx, memory.Options{Required: true})
	require.Error(t, err)
	maastest.Eventually(t, "the first one goes on", first.Up)
	d.append(walZero, 10)
	first.copies(segmentSize + 10)
	first.stop()
}

// It begins a head of its own, even if it has written nothing when the server comes.
func TestOpen__who_began_without_the_server_frees_nothing_of_what_it_holds(t *testing.T) {
	d := newDataDir(t, "--memory-file", filepath.Join(t.TempDir(), "memory"))
	d.run(func() { d.segments(walZero) })
	d.server.Kill()
	m := maastest.Must(d.elsewhere().connect(false))(t)
	d.server.Restart()
	maastest.Eventually(t, "it is refused", func() bool { return errors.Is(m.Write("test", 0, nil), memory.ErrForked) })
	require.NoError(t, m.Close())
	require.Zero(t, d.run(func() {}))
}

func TestOpen__who_was_replaced_writes_nothing_more(t *testing.T) {
	d := newDataDir(t)
	first := d.startWith(walZero)
	// The first is cut off: its lease ends without its knowledge, and a successor comes and goes.
	require.NoError(t, first.Read("test", time.Second, func(_ context.Context, c *memory.Conn) error { return c.Close() }))
	next := d.elsewhere()
	m := next.open()
	restoreTo(next, m)
	successor := next.startOn(m)
	next.write(walOne, make([]byte, 1000))
	successor.copies(1000)
	successor.stop()

	d.append(walZero, 10)
	maastest.Eventually(t, "it knows", first.Fenced)
	require.ErrorIs(t, first.Write("test", 0, nil), memory.ErrFenced)
	time.Sleep(100 * time.Millisecond)
	require.Equal(t, float64(segmentSize), first.acked())
	first.tail.Close()
	_ = first.Close()
}

// Another package copies and frees the files of blocks.
func TestTail__leaves_the_files_of_blocks_alone(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	n := d.start()
	block := remotefile.New(n.Owner(), n.Arena().Epoch, remotefile.Name{Kind: remotefile.Block, Part: 1}, false)
	require.NoError(t, n.Write("append", 1, func(ctx context.Context, c *memory.Conn) error {
		return block.Append(ctx, c, []byte("b"))
	}))
	n.stop()
	n = d.start()
	d.segments(walOne)
	maastest.Eventually(t, "the tail has looked", func() bool { return n.acked() >= segmentSize })
	n.stop()

	files := d.open().Arena().Listing.Files
	require.Equal(t, block.Name(), files[len(files)-1].Name())
	plan, lost, err := planRestore(files, true)
	require.NoError(t, err)
	require.Zero(t, lost)
	require.Len(t, slices.Concat(plan...), 2)
}

// Late samples whose file is deleted after a look are there for a take-over as long as the log is held, and so are those
// that follow.
func TestTail__keeps_a_log_that_is_held_to_its_end(t *testing.T) {
	d := newDataDir(t)
	n := d.start(held)
	d.segments(walZero)
	for i := range 3 {
		d.append(wbl(i), 777)
		d.append(wbl(i+1), 0)
		n.looks()
		d.remove(wbl(i))
	}
	n.stop()

	other := d.elsewhere()
	require.Zero(t, other.restore().Lost)
	got := other.contents()
	for i := range 3 {
		require.Len(t, got[wbl(i)], 777)
	}
}

func TestAwaitLook__the_log_is_there_or_an_error_says_why(t *testing.T) {
	d := newDataDir(t)
	n := d.start()
	want := 0.0
	for _, name := range []string{walZero, walOne, wblZero} {
		d.segments(name)
		want += segmentSize
		require.True(t, maastest.Must(n.tail.AwaitLook(t.Context(), n.tail.NextLook()))(t))
		require.Equal(t, want, n.acked())
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	require.False(t, maastest.Must(n.tail.AwaitLook(ended, n.tail.NextLook()+1000))(t))
	d.server.Kill()
	d.append(walOne, 1)
	_, err := n.tail.AwaitLook(t.Context(), n.tail.NextLook())
	require.Error(t, err)
	n.tail.Close()
	_, err = n.tail.AwaitLook(t.Context(), n.tail.NextLook())
	require.ErrorIs(t, err, ErrEnded)
	_ = n.Close() // Its server is gone.
}

// slowed is the directory behind a link of this many bytes a second.
func (d *dataDir) slowed(rate int) *dataDir {
	slow := *d
	slow.server = &maastest.Server{URL: shared.SlowLink(d.t, d.server.URL, rate)}
	return &slow
}

// A standby that takes the name has followed the log, and waits for nothing else.
func TestHandOver__waits_for_the_log_alone(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	const files = 3
	for i := 1; i <= files; i++ {
		d.write(fmt.Sprintf("chunks_head/%06d", i), chunkFile(15, int64(i*100), make([]byte, 1<<20)))
	}
	n := d.slowed(10 << 20).start(mirrored)
	n.looks()
	d.append(walZero, 100)
	begun := time.Now()
	n.tail.HandOver()
	require.Less(t, time.Since(begun), time.Second, "45 MiB of chunks take longer")
	require.NoError(t, n.Close())
	require.Less(t, len(d.chunks()), files)
	d.requireRestores(d.contents())
}

// Without its checkpoint, the log is useless.
func TestHandOver__waits_for_the_checkpoint_in_front_of_the_log(t *testing.T) {
	d := newLog(t)
	d.truncate()
	d.writeChunks(2, 1)
	n := d.slowed(10 << 20).start(mirrored)
	n.tail.HandOver()
	require.NoError(t, n.Close())
	require.Empty(t, d.chunks())
	d.requireRestores(d.contents())
}

// The standby leads at once, and nobody sends again what was acknowledged.
func TestHandOver__waits_for_a_server_that_failed_a_moment_ago(t *testing.T) {
	d := newDataDir(t)
	var fails atomic.Bool
	failing := *d
	failing.server = &maastest.Server{URL: maastest.Proxy(t, d.server.URL, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if fails.Load() && strings.Contains(r.URL.Path, "/data") {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		serve(w, r)
	})}
	n := failing.startWith(walZero)
	fails.Store(true)
	d.append(walZero, 100)
	maastest.Eventually(t, "the breaker opens", func() bool { return !n.Up() })
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		n.tail.HandOver()
	}()
	select {
	case <-ended:
		require.Fail(t, "it does not wait")
	case <-time.After(time.Second / 2):
	}
	fails.Store(false)
	maastest.Receive(t, "it has handed over", ended)
	require.NoError(t, n.Close())
	d.requireRestores(d.contents())
}

// A wait would be in vain, and a standby waits for the name.
func TestHandOver__says_what_a_successor_lacks(t *testing.T) {
	for what, prevent := range map[string]func(*dataDir, *node){
		"the server is full": func(d *dataDir, _ *node) {
			require.NoError(t, maastest.Err(d.client.Allocate(t.Context(), maas.AllocateOptions{Size: 512 << 10, Count: 127})))
		},
		"the name is lost": func(_ *dataDir, n *node) {
			require.NoError(t, n.Read("test", time.Second, func(_ context.Context, c *memory.Conn) error { return c.Close() }))
		},
	} {
		d, log := newDataDir(t), new(maastest.Log)
		n := d.start(func(o *Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) })
		prevent(d, n)
		for i := range 4 {
			d.segments(fmt.Sprintf("wal/%08d", i))
		}
		begun := time.Now()
		n.tail.HandOver()
		require.Less(t, time.Since(begun), memory.SessionTTL/2, what)
		require.Equal(t, 1, log.Count("the end of the log is not in remote memory"), what)
		_ = n.Close()
	}
}

// A chunk that is written while the tail is busy with the log waits for the next look.
func TestLimitChunks__nothing_behind_it_goes_up(t *testing.T) {
	d := newDataDir(t)
	d.append(walZero, 10)
	data := make([]byte, 100)
	part, whole := chunkFile(4, 0, data), chunkFile(10, 0, data)
	n := d.start(mirrored)
	var limit atomic.Int64
	n.tail.LimitChunks(func() (uint32, int64) { return 2, limit.Load() })
	for _, name := range []string{"000001", "000002", "000003"} {
		name = "chunks_head/" + name
		d.write(name, slices.Concat(whole, make([]byte, 5000)))
		old := time.Now().Add(-time.Hour) // Unchanged since, so that only the limit keeps the end back.
		require.NoError(t, os.Chtimes(d.path(name), old, old))
	}
	for _, end := range []int{0, len(part), len(whole)} {
		limit.Store(int64(end))
		n.looks() // When the second look has the log, the first one has the chunks.
		n.looks()
		lengths := [4]int64{}
		for _, f := range d.files() {
			lengths[f.Name().Number] += f.Len()
		}
		require.Equal(t, [4]int64{10, int64(len(whole)), int64(end), 0}, lengths, "of the log, and of the chunks")
	}
	n.stop()
}
