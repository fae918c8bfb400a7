// SPDX-License-Identifier: Apache-2.0

package blocks

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// broken makes files of a block unreadable, each in its way. A link that leads to itself is what root cannot read,
// either.
var broken = map[string]func(t *testing.T, dir string){
	"meta.json cannot be opened": func(t *testing.T, dir string) { loop(t, filepath.Join(dir, metaName)) },
	"meta.json is gone":          func(t *testing.T, dir string) { require.NoError(t, os.Remove(filepath.Join(dir, metaName))) },
	"meta.json is cut": func(t *testing.T, dir string) {
		require.NoError(t, os.Truncate(filepath.Join(dir, metaName), 10))
	},
	"meta.json is another block's": func(t *testing.T, dir string) {
		require.NoError(t, os.WriteFile(filepath.Join(dir, metaName), []byte("{}"), 0o666))
	},
	"tombstones cannot be opened": func(t *testing.T, dir string) { loop(t, filepath.Join(dir, tombstonesName)) },
	"the index cannot be opened":  func(t *testing.T, dir string) { loop(t, filepath.Join(dir, indexName)); touch(t, dir) },
	"the index is gone": func(t *testing.T, dir string) {
		require.NoError(t, os.Remove(filepath.Join(dir, indexName)))
		touch(t, dir)
	},
	"the chunks cannot be listed": func(t *testing.T, dir string) {
		require.NoError(t, os.RemoveAll(filepath.Join(dir, chunksName)))
		loop(t, filepath.Join(dir, chunksName))
		touch(t, dir)
	},
	"the directory is a link": func(t *testing.T, dir string) {
		elsewhere := filepath.Join(t.TempDir(), filepath.Base(dir))
		require.NoError(t, os.Symlink(elsewhere, elsewhere)) // Where the directory will be.
		// At once: a look in between would find no block.
		require.NoError(t, unix.Renameat2(unix.AT_FDCWD, dir, unix.AT_FDCWD, elsewhere, unix.RENAME_EXCHANGE))
	},
}

// loop makes a file one that cannot be opened.
func loop(t *testing.T, path string) {
	require.NoError(t, os.RemoveAll(path))
	require.NoError(t, os.Symlink(filepath.Base(path), path))
}

// touch lets the next look read a block again.
func touch(t *testing.T, dir string) {
	path := filepath.Join(dir, metaName)
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(path, append(b, ' '), 0o666))
}

// The copy in remote memory may be the only one that can be read.
func TestLook__what_cannot_be_read_was_not_deleted(t *testing.T) {
	for name, harm := range broken {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, n, a, b, c := newLeader(t)
			n.returned()
			harm(t, d.block(a))
			n.quiet()
			n.settled(a, b, c)
			for n.Shed() {
			}
			require.Contains(t, n.whole(), a)
			n.settled(a, b, c)
			require.NoError(t, os.RemoveAll(d.block(a)))
			n.settled(b, c)
		})
	}
}
