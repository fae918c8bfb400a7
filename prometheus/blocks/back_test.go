// SPDX-License-Identifier: Apache-2.0

package blocks

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// Three processes die while blocks come back: nothing is lost, and blocks that were back are not read again.
func TestReturn__killed_three_times_loses_nothing(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "256MiB")
	d.size = 2 << 20
	var ids []ulid.ULID
	for i := range int64(6) {
		ids = append(ids, d.birth(10*i, 10*i+10))
	}
	ids = append(ids, d.birth(50, 60))
	d.startWith(ids...)
	other := d.elsewhere()
	total := 0.0
	for kill := range 3 {
		n := other.start()
		back := make(chan struct{}, 100)
		n.Return(database{n.d, func(move func() error) error {
			err := move()
			back <- struct{}{}
			if kill != 1 {
				<-n.ctx.Done() // It dies while the database loads them.
			}
			return err
		}})
		<-back
		n.close()
		total += read(n)
	}
	n := other.start()
	n.returned()
	total += read(n)
	n.settled(ids...)
	n.close()
	require.Equal(t, d.contents(), other.contents())
	require.LessOrEqual(t, total, d.blockBytes()+3*float64(4<<20)+100e3)
}

// A process dies between the moves of two overlapping blocks: the next process moves the second one before its
// database is open.
func TestReturn__what_overlaps_becomes_visible_at_once_even_after_a_crash(t *testing.T) {
	d := newDataDir(t)
	a, late := d.birth(0, 10), d.birth(0, 10)
	n := d.startWith(a, late).replaced()
	other := n.d
	n.Return(database{n.d, func(func() error) error {
		ready := filepath.Join(other.path, stageDir, readyDir)
		require.NoError(t, os.Rename(filepath.Join(ready, a.String()), other.block(a)))
		return fmt.Errorf("killed: %w", os.ErrClosed)
	}})
	n.isBack()
	n.close()
	other.holds(a)

	n = other.start()
	require.Equal(t, d.contents(), other.contents())
}

func TestReturn__what_retention_takes_at_once_ends_it(t *testing.T) {
	d, n, a, b, c := newLeader(t)

	n = n.replaced()
	other := n.d
	n.Return(database{n.d, func(move func() error) error {
		err := move()
		if err == nil && shared.Exists(other.block(b)) {
			other.remove(b)
		}
		return err
	}})
	n.settled(c)
	require.NoDirExists(t, other.block(a))
	require.Less(t, read(n), d.blockBytes()*0.7)
}

func TestReturn__a_block_that_was_torn_does_not_cost_the_older_ones(t *testing.T) {
	d := newDataDir(t)
	a, b, torn := d.birth(0, 10), d.birth(10, 20), d.birth(20, 30)
	d.writeStones(d.block(torn), 1) // A crash, before meta.json was written.
	n := d.startWith(a, b, torn).replaced(func(o *Options) { o.Interval = time.Hour })
	n.bringsBack(d)
	require.Len(t, n.whole(), 3)
}

func TestReturn__a_damaged_block_stays_away_with_all_that_overlap(t *testing.T) {
	d := newDataDir(t)
	a, b, late, c := d.birth(0, 10), d.birth(10, 20), d.birth(10, 20), d.birth(20, 30)
	n := d.startWith(a, b, late, c)
	n.damage(late)
	n = n.replaced()
	other := n.d
	n.returned()
	other.holds(a, c)
	n.settled(a, b, late, c)
	n.close()
	require.NoDirExists(t, filepath.Join(other.path, stageDir, workDir))
}

// Somebody wrote a manifest without an index: the database would load no block with that in its directory.
func TestReturn__what_is_no_block_stays_away(t *testing.T) {
	d, n, a, b, c := newLeader(t)
	n.mu.Lock()
	of := n.blocks[b]
	r := *of.remote
	n.mu.Unlock()
	r.files = slices.Clone(r.files)
	r.files[0].Name = chunksName + "/000009"
	require.NoError(t, n.writeManifest(b, of, &r))
	n = n.replaced()
	n.returned()
	require.NoDirExists(t, n.d.block(b))
	n.d.holds(a, c)

	other := d.elsewhere()
	f := other.follow()
	maastest.Eventually(t, "the older one is here", func() bool { return shared.Exists(other.block(a)) })
	f.looked()
	require.NoDirExists(t, other.block(b))
}

// A directory with some of the blocks gets the others, but none whose samples it has.
func TestReturn__a_directory_that_has_some_gets_the_others(t *testing.T) {
	d, n, a, b, c := newLeader(t)
	n.close() // It dies with a and b in the child, which nobody has.
	want := d.contentsOf(c.String())
	child := d.compacted(a, b)
	d.remove(c)

	n = d.start()
	n.returned()
	d.holds(child, c)
	require.Equal(t, want, d.contentsOf(c.String()))
	n.settled(child, c)
}

// The new leader has ancestors of a grandchild that comes back; nobody knows the child.
func TestReturn__a_grandchild_takes_the_place_of_all(t *testing.T) {
	d := newDataDir(t)
	a, b, c := d.birth(0, 10), d.birth(10, 20), d.birth(20, 30)
	other := d.elsewhere()
	require.NoError(t, os.CopyFS(other.path, os.DirFS(d.path)))
	grandchild := d.compacted(d.compacted(a, b), c)
	d.startWith(grandchild)
	n := other.start()
	n.bringsBack(d)
	n.settled(grandchild)
}

func TestReturn__goes_on_when_the_server_was_away_and_ends_when_it_lost_all(t *testing.T) {
	shm := maastest.Must(os.MkdirTemp("/dev/shm", "blocks-"))(t)
	defer os.RemoveAll(shm)
	file := filepath.Join(shm, "memory")
	d, n, _, _, c := newLeader(t, "--memory-file", file)

	n = n.replaced()
	other := n.d
	var once sync.Once
	n.Return(database{n.d, func(move func() error) error {
		once.Do(d.server.Restart)
		return move()
	}})
	n.isBack()
	require.Equal(t, d.contents(), other.contents())

	third := d.elsewhere()
	n = third.start()
	n.Return(database{n.d, func(move func() error) error {
		err := move()
		d.server.Kill()
		for _, f := range []string{file, file + ".slots"} {
			require.NoError(t, os.Remove(f))
		}
		d.server.Restart()
		return err
	}})
	n.isBack()
	third.holds(c)
	n.settled(c) // It is copied again.
}

// A file that leads to the server is none of the data directory.
func TestReturn__goes_on_when_the_token_was_gone(t *testing.T) {
	d, n, _, _, _ := newLeader(t)
	n = n.replaced()
	var once sync.Once
	n.Return(database{n.d, func(move func() error) error {
		once.Do(func() {
			for n.Up() {
				_ = n.Read("health", time.Second, func(context.Context, *memory.Conn) error { return errTokenFile })
			}
		})
		return move()
	}})
	n.isBack()
	require.Equal(t, d.contents(), n.d.contents())
}

func TestReturn__does_not_bring_back_what_is_to_be_discarded(t *testing.T) {
	d := newDataDir(t)
	n := d.startWith(d.birth(0, 10)).replaced(func(o *Options) { o.Discard = true })
	n.Return(n.d)
	require.False(t, n.Returning())
	n.settled()
}

func TestReturn__ends_where_the_disk_is_full_and_goes_on_at_a_start_with_room(t *testing.T) {
	d, n, a, b, c := newLeader(t)

	n = n.replaced()
	other := n.d
	asked := 0
	n.space = func(string) (int64, error) {
		if asked++; asked == 2 {
			return 100, nil
		}
		return 1 << 30, nil
	}
	n.returned()
	other.holds(c)
	require.Positive(t, testutil.ToFloat64(n.Metrics().BlocksReturning), "what is left")
	n.quiet()
	n.settled(a, b, c)

	n = other.start()
	n.bringsBack(d)
	require.Zero(t, testutil.ToFloat64(n.Metrics().BlocksReturning))
}

// A block that cannot be read at the start, and that the database leaves out, comes from remote memory, once.
func TestReturn__a_block_that_cannot_be_read_is_replaced(t *testing.T) {
	for name, harm := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, n, a, b, c := newLeader(t)
			n.close()
			want := d.contents()
			harm(t, d.block(b))
			n = d.start()
			n.returned()
			require.Equal(t, want, d.contents())
			maastest.Must(os.Lstat(filepath.Join(d.path, asideDir, b.String())))(t)
			require.Less(t, read(n), d.blockBytes()/2)
			n.settled(a, b, c)

			other := d.elsewhere()
			require.NoError(t, os.CopyFS(other.block(b), os.DirFS(d.block(b))))
			harm(t, other.block(b))
			other.follow()
			other.has(d)
		})
	}
}

// A block that cannot be read even then keeps neither the others away, nor compaction waiting.
func TestReturn__a_block_that_stays_unreadable_does_not_come_again_and_again(t *testing.T) {
	d, n, a, b, c := newLeader(t)
	n = n.replaced()
	harm := func(d *dataDir) database {
		return database{d, func(move func() error) error {
			if err := move(); err != nil || !shared.Exists(d.block(b)) {
				return err
			}
			return os.RemoveAll(filepath.Join(d.block(b), metaName))
		}}
	}
	n.Return(harm(n.d))
	n.isBack()
	n.d.holds(a, c)
	require.Less(t, read(n), 1.1*d.blockBytes())
	n.settled(a, b, c)

	n = d.start()
	other := d.elsewhere()
	f := other.looks()
	f.Bring(harm(other))
	maastest.Eventually(t, "the older one is here", func() bool { return shared.Exists(other.block(a)) })
	f.looked()
	other.holds(a, c)
}

// A clock that is set back by an hour must not keep blocks from being compacted for an hour more.
func TestReturning__ends_when_the_server_stays_away(t *testing.T) {
	d := newDataDir(t)
	n := d.start()
	d.server.Kill()
	maastest.Eventually(t, "the server is away", func() bool {
		_ = n.Read("health", time.Second, func(ctx context.Context, c *memory.Conn) error { return maastest.Err(c.Health(ctx)) })
		return !n.Up()
	})
	n.returning.Store(true)
	for ago, returns := range map[time.Duration]bool{patience / 2: true, patience: false} {
		at := shared.BeforeStep(ago)
		n.reached.Store(&at)
		require.Equal(t, returns, n.Returning(), ago)
	}
	d.server.Restart()
	n.close()
}
