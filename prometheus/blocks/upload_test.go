// SPDX-License-Identifier: Apache-2.0

package blocks

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

func TestCopier__brings_back_every_block_bit_for_bit_and_moves_no_byte_twice(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "256MiB")
	d.size = 3 << 20
	a, b, c := d.birth(0, 10), d.birth(10, 20), d.birth(10, 20)
	n := d.startWith(a, b, c)
	require.True(t, n.Covered(0))
	require.LessOrEqual(t, written(n), 1.02*d.blockBytes())
	e := d.birth(20, 30)
	require.False(t, n.Covered(20), "it has just been born")
	n.settled(a, b, c, e)
	require.LessOrEqual(t, written(n), 1.02*d.blockBytes())

	n = d.start() // A restart finds them.
	n.settled(a, b, c, e)
	n.returned()
	require.Less(t, written(n)+read(n), 0.02*d.blockBytes())

	n = n.replaced()
	other := n.d
	require.True(t, n.Returning())
	n.bringsBack(d)
	require.False(t, n.Returning())
	require.LessOrEqual(t, read(n), 1.02*d.blockBytes())
	n.settled(a, b, c, e)
	require.Less(t, written(n), 0.02*d.blockBytes())
	n.close()
	require.NoDirExists(t, filepath.Join(other.path, stageDir))
}

// The compaction of a head with late samples makes two blocks, and, before it ends, one of both.
func TestCopier__what_a_compaction_replaces_before_it_ends_is_not_copied(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "256MiB")
	n := d.startCompacting(time.Hour)
	a, late := d.birth(0, 10), d.birth(0, 10)
	maastest.Eventually(t, "they are seen", func() bool { return testutil.ToFloat64(n.Metrics().BlocksPending) > 0 })
	n.goesRound(3) // It had time to copy.
	require.False(t, n.Covered(0))
	require.Zero(t, written(n))
	both := d.compacted(a, late)
	d.compacting.Store(false)
	n.settled(both)
	require.LessOrEqual(t, written(n), 1.02*d.blockBytes())
}

func TestCopier__does_not_wait_long_for_a_compaction_to_end(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "256MiB")
	d.startCompacting(interval).settled(d.birth(0, 10))
}

// Late samples have left the head, and their block is older than the last day.
func TestCovered__waits_for_what_was_made_of_late_samples(t *testing.T) {
	d := newDataDir(t)
	n := d.startCompacting(time.Hour)
	d.birth(0, 10)
	tomorrow := 2 * lately.Milliseconds()
	maastest.Eventually(t, "it is seen", func() bool { return !n.Covered(0) })
	require.True(t, n.Covered(tomorrow), "it was made long ago")
	d.next = ulid.Now()
	d.birth(0, 10)
	require.False(t, n.Covered(tomorrow))
}

// Each block is replaced by its child at once, before or while somebody looks.
func TestCovered__loses_no_block_that_is_compacted_meanwhile(t *testing.T) {
	d := newDataDir(t)
	d.size = 10
	n := d.startCompacting(time.Hour)
	elsewhere := d.elsewhere()
	chain := []ulid.ULID{elsewhere.birth(0, 10)}
	for range 200 {
		chain = append(chain, elsewhere.compact(chain[len(chain)-1]))
	}
	move := func(from, to *dataDir, id ulid.ULID) { _ = os.Rename(from.block(id), to.block(id)) }
	move(elsewhere, d, chain[0])
	require.False(t, n.Covered(0))
	done := make(chan struct{})
	go func() {
		defer close(done)
		for i, child := range chain[1:] {
			move(elsewhere, d, child)
			move(d, elsewhere, chain[i])
		}
	}()
	for {
		require.False(t, n.Covered(0))
		select {
		case <-done:
			d.holds(chain[len(chain)-1])
			return
		default:
		}
	}
}

func TestNeed__is_what_a_block_takes(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "256MiB")
	n := d.start()
	for _, size := range []int{1, 512<<10 - remotefile.HeaderSize, 512 << 10, 5 << 20} {
		d.size = size
		id := d.birth(0, 1)
		n.settled(append(n.whole(), id)...)
		n.mu.Lock()
		require.Equal(t, n.needLocked(n.blocks[id]), n.blocks[id].remote.allocated())
		n.mu.Unlock()
	}
}

func TestCopier__the_newest_blocks_go_first_and_as_many_as_fit(t *testing.T) {
	d := newDataDir(t)
	a, b := d.birth(0, 10), d.birth(10, 20)
	c, late := d.birth(20, 30), d.birth(20, 30)
	n := d.start(withSize(-1))
	n.settled()
	require.True(t, n.Covered(0), "nothing is to be copied")
	size := n.needs(c)
	n = d.start(withSize(2*size - 1))
	n.settled() // One of two blocks that overlap is useless.

	n = d.start(withSize(3 * size))
	n.settled(c, late, b)
	require.True(t, n.Covered(0), "what does not fit is not waited for")
	n.takesOverFrom(0.010)
	e := d.birth(30, 40)
	n.settled(e, c, late)

	n = d.startWith(a, b, c, late, e)
	require.LessOrEqual(t, written(n), 1.02*d.blockBytes()/5*2, "three were there")
	n.takesOverFrom(0)
}

// takesOverFrom waits for the metric that says from which second on a take-over would have all.
func (n *node) takesOverFrom(oldest float64) {
	n.d.t.Helper()
	maastest.Eventually(n.d.t, "the metric says so", func() bool { return testutil.ToFloat64(n.Metrics().TakeoverOldest) == oldest })
}

// After each step of a compaction the process dies, at once or after everything is copied.
func TestCopier__a_compaction_killed_at_any_step_loses_nothing(t *testing.T) {
	for bits := range 16 {
		t.Run(fmt.Sprintf("%04b", bits), func(t *testing.T) {
			t.Parallel()
			d := newDataDir(t)
			a, b := d.birth(0, 10), d.birth(10, 20)
			n := d.startWith(a, b)
			step := func(bit int, ids ...ulid.ULID) {
				if bits>>bit&1 == 1 {
					n.settled(ids...)
				}
				n = d.start()
			}
			child := d.compact(a, b)
			step(0, a, b, child)
			d.remove(a)
			step(1, child, b)
			d.remove(b)
			step(2, child)
			e := d.birth(20, 30)
			step(3, child, e)

			n = n.replaced()
			other := n.d
			n.returned()
			n.close()
			if here := other.here(); slices.Contains(here, child) {
				require.Equal(t, d.contentsOf(child.String()), other.contentsOf(child.String()))
				require.NotContains(t, here, a)
				require.NotContains(t, here, b)
			} else {
				require.Subset(t, here, []ulid.ULID{a, b})
			}
		})
	}
}

func TestCopier__where_a_child_does_not_fit_its_parents_stay_and_go_with_it(t *testing.T) {
	d := newDataDir(t)
	d.size = 3 << 20
	a, b := d.birth(0, 10), d.birth(10, 20)
	size := withSize(20 << 20)
	n := d.start(size)
	n.settled(a, b)
	child := d.compact(a, b)
	maastest.Eventually(t, "the child is seen", func() bool { n.mu.Lock(); defer n.mu.Unlock(); return n.blocks[child] != nil })
	d.remove(a, b)
	n.quiet()
	n.settled(a, b)
	require.True(t, n.Covered(0))

	n = d.start(size) // It knows of them only from the child.
	n.returned()
	n.settled(a, b)
	require.True(t, n.Covered(0))
	require.NoDirExists(t, d.block(a))

	d.delete(child, 1) // The parents still have the deleted samples.
	n.settled(child)
	d.remove(child)
	n.settled()
}

// A look that waits for another, newer one, does not take away a block that the newer one saw first.
func TestCopier__an_older_look_takes_no_block_away(t *testing.T) {
	d := newDataDir(t)
	n := d.start(func(o *Options) { o.Interval = time.Hour })
	maastest.Eventually(t, "its own look is over", func() bool { return n.rounds.Load() > 0 })
	n.mu.Lock()
	looked := make(chan error, 1)
	go func() { looked <- n.lookFor(false) }()
	time.Sleep(50 * time.Millisecond) // It waits by now; where it does not yet, this proves nothing.
	id := d.birth(0, 10)
	is, _ := n.lookAtLocked(id)
	require.True(t, is)
	n.mu.Unlock()
	require.NoError(t, <-looked)
	n.mu.Lock()
	defer n.mu.Unlock()
	require.True(t, n.presentLocked(id))
}

func TestCopier__retention_frees_and_a_vanished_directory_does_not(t *testing.T) {
	d := newDataDir(t)
	a, b := d.birth(0, 10), d.birth(10, 20)
	n := d.startWith(a, b)
	d.remove(a)
	n.settled(b)
	require.NoError(t, os.RemoveAll(filepath.Join(d.path, "wal")))
	require.NoError(t, os.RemoveAll(d.block(b)))
	n.goesRound(2 * goneLooks)
	n.settled(b)
}

func TestCopier__a_deletion_writes_the_pair_alone(t *testing.T) {
	d := newDataDir(t)
	a := d.birth(0, 10)
	n := d.startWith(a)
	before := written(n)
	for i := range 3 {
		d.delete(a, i+1)
		n.quiet()
	}
	require.Less(t, written(n)-before, 10e3)

	n.replaced().bringsBack(d)
}

func TestReadPair__tells_a_pair_in_the_middle_of_its_change(t *testing.T) {
	d := newDataDir(t)
	a := d.birth(0, 10)
	isWhole := func() bool {
		p, m, err := readPair(d.block(a))
		require.NoError(t, err)
		return p.whole(&m)
	}
	require.True(t, isWhole())
	d.delete(a, 2)
	require.True(t, isWhole())
	d.writeStones(d.block(a), 3)
	require.False(t, isWhole())
}

func TestCopier__a_server_that_lost_its_memory_gets_all_again(t *testing.T) {
	_, n, a, b, c := newLeader(t)
	n.loses()
	n.settled(a, b, c)
}

// A full server keeps the newest blocks; blocks that were shed for the log stay away until there is room again.
func TestCopier__a_full_server_keeps_the_newest(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "32MiB")
	d.size = 1 << 20
	a, b, c := d.birth(0, 10), d.birth(10, 20), d.birth(20, 30)
	n := d.start(withSize(1 << 30))
	n.settled(a, b, c)
	free := n.fill()
	e := d.birth(30, 40)
	n.quiet()
	require.True(t, n.Covered(0), "there is no room to wait for")
	n.settled(c, e) // Both the others went: the log has some room, too.
	more := n.fill()
	require.True(t, n.Shed())
	n.quiet()
	n.settled(e)
	more()
	free()
	n.settled(a, b, c, e)
	for n.Shed() {
	}
}

// Making room for the log does not cost all blocks.
func TestCopier__a_full_server_keeps_the_newest_of_few(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "128MiB")
	a, b, c, e := d.birth(0, 10), d.birth(10, 20), d.birth(20, 30), d.birth(30, 40)
	n := d.startWith(a, b, c, e)
	n.fill()
	f := d.birth(40, 50)
	n.quiet()
	n.settled(e, f)
	g := d.birth(50, 60)
	n.quiet()
	n.settled(f, g)
}

func TestCopier__a_block_freed_by_hand_is_copied_again(t *testing.T) {
	d := newDataDir(t)
	a, b := d.birth(0, 10), d.birth(10, 20)
	n := d.start(func(o *Options) { o.Verify = 20 * time.Millisecond })
	n.settled(a, b)
	n.quiet()
	before := written(n)
	n.mu.Lock()
	ranges, err := n.blocks[a].remote.parts[0].Ranges(nil, make([]byte, 1), 0)
	n.mu.Unlock()
	require.NoError(t, err)
	_, _, err = d.client.Free(t.Context(), ranges[0].ID)
	require.NoError(t, err)
	maastest.Eventually(t, "it is copied again", func() bool { return written(n) >= before+d.blockBytes()/2 })
	n.settled(a, b)

	n.replaced().bringsBack(d)
}

// Others free and allocate parts of the log while the server is asked what it has.
func TestCopier__asks_what_is_there_while_others_free(t *testing.T) {
	d := newDataDir(t)
	a := d.birth(0, 10)
	n := d.start(func(o *Options) { o.Verify = time.Millisecond })
	n.settled(a)
	arena := n.Arena()
	for range 1000 {
		lent := maastest.Must(d.client.Allocate(t.Context(), maas.AllocateOptions{Size: 4096, Owner: n.Owner(), Lifetime: "delete"}))(t)
		_, _, err := d.client.Free(t.Context(), lent[0].ID)
		require.NoError(t, err)
	}
	require.Same(t, arena, n.Arena())
}

// A block that was begun, and then found no room beside its parents, leaves its own room to a newer block.
func TestCopier__a_block_that_waits_takes_no_room(t *testing.T) {
	d := newDataDir(t)
	a, b := d.birth(0, 10), d.birth(10, 20)
	n := d.start(withSize(8<<20), func(o *Options) { o.Interval = time.Hour })
	n.settled(a, b)
	child := d.compacted(a, b)
	require.NoError(t, n.look())
	n.mu.Lock()
	u := n.uploadLocked(n.blocks[child])
	n.mu.Unlock()
	for i, f := range u.local { // It is interrupted.
		bytes := maastest.Must(os.ReadFile(filepath.Join(d.block(child), f.Name)))(t)
		require.NoError(t, n.append(u.files[i], bytes[:1]))
	}
	next := d.birth(20, 30)
	require.NoError(t, n.round())
	require.ElementsMatch(t, []ulid.ULID{a, b, next}, n.whole())
	newest := d.birth(30, 40)
	for range 3 {
		require.NoError(t, n.round())
	}
	require.ElementsMatch(t, []ulid.ULID{a, b, next, newest}, n.whole())
}

// The lineages in remote memory may be damaged.
func TestLineages__circles_end(t *testing.T) {
	d := newDataDir(t)
	a, b, other := d.id(), d.id(), d.id()
	c := &Copier{known: lineages{
		a: {sources: []ulid.ULID{a}, parents: []ulid.ULID{b, b, b}},
		b: {sources: []ulid.ULID{b}, parents: []ulid.ULID{a, a, a}},
	}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.known.ancestor(other, a)
		c.parentsWholeLocked(a, map[ulid.ULID]bool{})
	}()
	maastest.Receive(t, "it ends", done)
}
