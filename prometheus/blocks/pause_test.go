// SPDX-License-Identifier: Apache-2.0

package blocks

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// seen starts a node that waits for a compaction, with two blocks of it that were seen: the newer one is to be harmed
// before it is copied.
func seen(t *testing.T, retry time.Duration) (d *dataDir, n *node, older, newer ulid.ULID) {
	t.Helper()
	d = newDataDir(t)
	n = d.start(func(o *Options) { o.Rest, o.Retry = time.Hour, retry })
	n.returned()
	d.compacting.Store(true)
	older, newer = d.birth(0, 10), d.birth(10, 20)
	require.NoError(t, n.look())
	return d, n, older, newer
}

// A block that cannot be read does not keep the others waiting, nor the server busy; nor the log, after some tries.
func TestCopier__what_cannot_be_read_keeps_nothing_waiting(t *testing.T) {
	harms := map[string]func(t *testing.T, dir string){
		"chunks are gone": func(t *testing.T, dir string) {
			require.NoError(t, os.Remove(filepath.Join(dir, chunksName, "000002")))
		},
		"chunks cannot be read": func(t *testing.T, dir string) { loop(t, filepath.Join(dir, chunksName, "000001")) },
	}
	for name, harm := range broken {
		harms[name] = harm
	}
	delete(harms, "the directory is a link") // It can be read.
	for name, harm := range harms {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, n, older, newer := seen(t, interval)
			harm(t, d.block(newer))
			require.False(t, n.Covered(0))
			d.compacting.Store(false)
			n.settled(older)
			n.goesRound(3)
			maastest.Eventually(t, "the log does not wait for it", func() bool { return n.Covered(0) })
			require.Equal(t, []ulid.ULID{older}, n.whole())
		})
	}
}

// It is copied once it can be read.
func TestCopier__what_could_not_be_read_for_a_time_is_copied_later(t *testing.T) {
	d, n, older, newer := seen(t, 10*interval)
	index := filepath.Join(d.block(newer), indexName)
	require.NoError(t, os.Rename(index, index+".real"))
	require.NoError(t, os.Mkdir(index, 0o777))
	d.compacting.Store(false)
	n.settled(older)
	require.False(t, n.Covered(0), "one failure is none for ever")
	require.NoError(t, os.Remove(index))
	require.NoError(t, os.Rename(index+".real", index))
	n.settled(older, newer)
	require.True(t, n.Covered(0))

	n.replaced().bringsBack(d)
}

// Nor does a block whose deletions cannot be read.
func TestCopier__a_pair_that_cannot_be_read_keeps_nothing_waiting(t *testing.T) {
	d := newDataDir(t)
	a, b := d.birth(0, 10), d.birth(10, 20)
	n := d.start(func(o *Options) { o.Interval = time.Hour })
	n.settled(a, b)
	d.delete(a, 1)
	d.delete(b, 1)
	require.NoError(t, n.look())
	tombstones := filepath.Join(d.block(a), tombstonesName)
	require.NoError(t, os.Rename(tombstones, tombstones+".real"))
	loop(t, tombstones)
	c := d.birth(20, 30)
	require.NoError(t, n.round())
	n.settled(a, b, c)
	require.Equal(t, n.blocks[b].pair, n.blocks[b].remote.pair)
	require.NotEqual(t, n.blocks[a].pair, n.blocks[a].remote.pair)

	require.NoError(t, os.Rename(tombstones+".real", tombstones))
	n.paused = map[ulid.ULID]pause{} // A minute later.
	require.NoError(t, n.round())
	require.Equal(t, n.blocks[a].pair, n.blocks[a].remote.pair)
}
