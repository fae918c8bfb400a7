// SPDX-License-Identifier: Apache-2.0

package blocks

import (
	"math"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// Blocks that only this directory has are put aside if others have their time: the leader makes them again.
func TestPutAside__what_the_leader_makes_again(t *testing.T) {
	const hour = 3_600_000
	born := func(from, to int64) func(*dataDir, [2]ulid.ULID) ulid.ULID {
		return func(d *dataDir, _ [2]ulid.ULID) ulid.ULID { return d.birth(from, to) }
	}
	for name, c := range map[string]struct {
		mint  int64
		local func(d *dataDir, shared [2]ulid.ULID) ulid.ULID
		aside bool
	}{
		"one that the leader's head has":    {4 * hour, born(4*hour+7, 6*hour), true},
		"one that blocks and the head have": {4 * hour, born(2*hour, 6*hour), true},
		"a child of which the head has a part": {4 * hour, func(d *dataDir, shared [2]ulid.ULID) ulid.ULID {
			return d.compacted(shared[0], shared[1], d.birth(4*hour, 6*hour))
		}, true},
		"the leader's, under another name": {4 * hour, born(2*hour, 4*hour), true},
		"a child of the leader's": {4 * hour, func(d *dataDir, shared [2]ulid.ULID) ulid.ULID {
			return d.compacted(shared[:]...)
		}, false},
		"one that is older than all":               {4 * hour, born(-2*hour, 0), false},
		"one of which nobody has a part":           {4 * hour, born(-2*hour, 6*hour), false},
		"one behind a head whose begin is unknown": {math.MinInt64, born(4*hour, 6*hour), false},
		"late samples": {4 * hour, func(d *dataDir, _ [2]ulid.ULID) ulid.ULID {
			id := d.birth(4*hour, 6*hour)
			m := d.meta(id)
			m.Compaction.Hints = []string{"from-out-of-order"}
			d.writeMeta(d.block(id), m)
			return id
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := newDataDir(t)
			shared := [2]ulid.ULID{d.birth(0, 2*hour), d.birth(2*hour+9, 4*hour)}
			d.startWith(shared[0], shared[1])
			other := d.elsewhere()
			for _, id := range shared {
				require.NoError(t, os.CopyFS(other.block(id), os.DirFS(d.block(id))))
			}
			local := c.local(other, shared)
			want := other.contents()
			f := other.looks().takes()
			require.NoError(t, f.PutAside(c.mint))

			aside := &dataDir{t: t, path: filepath.Join(other.path, asideDir)}
			if !c.aside {
				require.Equal(t, want, other.contents())
				return
			}
			require.NoDirExists(t, other.block(local))
			aside.holds(local)
			require.Subset(t, want, aside.contents())
			f.Bring(other) // Its parents come from the leader.
			other.has(d)
		})
	}
}

// Where the head of a new leader begins may be known only when it leads.
func TestPutAside__what_a_head_has_that_leads_now(t *testing.T) {
	d := newDataDir(t)
	d.startWith(d.birth(0, 10))
	other := d.elsewhere()
	local, foreign := other.birth(12, 20), other.birth(-20, -10)
	f := other.looks().takes()
	require.NoError(t, f.PutAside(math.MinInt64))
	other.holds(local, foreign)
	f.LeadFrom(10)
	other.holds(foreign)
	require.DirExists(t, filepath.Join(other.path, asideDir, local.String()))
}

// A leader died that had copied its newest block before an older one, which is still in the log. A head that began
// behind the newest block, as the next start's would, would lack the older one.
func TestLeaveIslands__what_the_head_has_with_what_lies_before(t *testing.T) {
	for name, lead := range map[string]func(f *standby){
		"who follows":                      func(f *standby) { f.LeadFrom(10) },
		"who takes over where it followed": func(f *standby) { require.NoError(f.d.t, f.TakeOver(10)) },
		"who takes over":                   nil,
	} {
		t.Run(name, func(t *testing.T) {
			d := newDataDir(t)
			old, next, island, behind := d.birth(0, 10), d.birth(11, 20), d.birth(30, 40), d.birth(40, 50)
			d.startWith(old, next, island, behind)
			other := d.elsewhere()
			other.headMinTime = 10
			var n *node
			if lead != nil {
				f := other.follow()
				other.has(d)
				lead(f)
				n = f.leads()
			} else {
				n = other.start()
			}
			n.returned()
			n.settled(old, next, island, behind)
			other.holds(old, next)
			again := other.birth(20, 50)
			n.settled(old, next, again)
		})
	}
}

// A block that is put aside in the very moment in which its copy ends is not in remote memory, from where it would come
// back.
func TestPutAside__what_is_being_copied(t *testing.T) {
	d := newDataDir(t)
	n := d.start(func(o *Options) { o.Interval = time.Hour })
	n.settled()
	a := d.birth(0, 10)
	require.NoError(t, n.look())
	n.mu.Lock()
	u := n.uploadLocked(n.blocks[a])
	n.blocks[a].here = false
	delete(n.blocks, a)
	n.mu.Unlock()
	require.NoError(t, n.copy(u))
	require.Empty(t, n.whole())
	require.NoError(t, n.freeDead())
	require.Zero(t, n.allocatedLocked())
}

// The leader's block may come later; only then is it known that both have the same time. The leader's replaces the
// other at once.
func TestPutAside__what_the_leader_has_made_again_meanwhile(t *testing.T) {
	d := newDataDir(t)
	d.start()
	other := d.elsewhere()
	local, foreign := other.birth(3, 10), other.birth(-20, -10)
	want := other.contents()
	f := other.looks().takes()
	require.NoError(t, f.PutAside(math.MinInt64))
	require.Equal(t, want, other.contents())
	f.Bring(other)
	again := d.birth(4, 10)
	maastest.Eventually(t, "the leader's is here", func() bool { return shared.Exists(other.block(again)) && !shared.Exists(other.block(local)) })
	require.DirExists(t, filepath.Join(other.path, asideDir, local.String()))
	f.looked()
	other.holds(again, foreign)
}
