// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/blocks"
	"github.com/maas-memory/maas/prometheus/tail"
)

// An older copy of a data directory: no flag frees what remote memory has in addition.
func TestAttach__restore_off_throws_no_log_away(t *testing.T) {
	server, dir, older := start(t), t.TempDir(), t.TempDir()
	log := newLog(t, dir)
	require.NoError(t, log.Log(make([]byte, 1000)))
	require.NoError(t, os.CopyFS(older, os.DirFS(dir)))
	require.NoError(t, log.Log(make([]byte, 1000)))
	restoring := func(dir, restore string) error {
		c := at(server)
		c.Restore = restore
		a, err := attach(c, dir)
		a.Detach()
		return err
	}
	require.NoError(t, restoring(dir, "auto"))
	require.NoError(t, log.Close())

	require.ErrorContains(t, restoring(older, "off"), "leave that out to go on with it")
	require.NoError(t, restoring(older, "auto"))
	require.Equal(t, segment(t, dir)[:2000], segment(t, older)[:2000])
}

// A restore was killed when it had put the directory's log aside.
func TestAttach__finds_the_log_that_was_put_aside(t *testing.T) {
	dir := t.TempDir()
	log := newLog(t, dir)
	require.NoError(t, log.Log(make([]byte, 1000)))
	require.NoError(t, log.Close())
	want := segment(t, dir)
	for _, name := range []string{"maas-replaced", "maas-restore.ready"} {
		require.NoError(t, os.Mkdir(filepath.Join(dir, name), 0o777))
	}
	require.NoError(t, os.Rename(filepath.Join(dir, "wal"), filepath.Join(dir, "maas-replaced/wal")))
	maastest.Must(attach(at(start(t)), dir))(t).Detach()
	require.Equal(t, want[:1000], segment(t, dir)[:1000])
}

// The log of a live process is neither cut nor replaced.
func TestAttach__a_directory_in_use_is_refused(t *testing.T) {
	c, dir := at(start(t)), t.TempDir()
	first := maastest.Must(attach(c, dir))(t)
	torn := filepath.Join(dir, "wal/00000000")
	require.NoError(t, os.MkdirAll(filepath.Dir(torn), 0o777))
	require.NoError(t, os.WriteFile(torn, []byte{1, 0, 9}, 0o666))
	for _, fallback := range []bool{true, false} {
		c.Fallback = fallback
		require.ErrorContains(t, maastest.Err(attach(c, dir)), "is in use by another process")
	}
	require.Len(t, segment(t, dir), 3)
	first.Detach()
}

// A standby whose blocks cannot be put aside tries again for as long as it lives.
func TestAttach__following_anew_leaves_nothing_open(t *testing.T) {
	server := start(t)
	leader := leads(t, server)
	require.NoError(t, leader.attached.Load().memory.SetMinValidTime(5))
	n, _ := newNode(t, server)
	n.c.Blocks = "auto"
	const id = "01JDX000000000000000000000"
	block := filepath.Join(n.dir, id)
	require.NoError(t, os.MkdirAll(filepath.Join(block, "chunks"), 0o777))
	require.NoError(t, os.WriteFile(filepath.Join(block, "index"), nil, 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(block, "meta.json"), fmt.Appendf(nil, `{"ulid":%q,"minTime":10,"maxTime":20}`, id), 0o666))
	require.NoError(t, os.WriteFile(filepath.Join(n.dir, "maas-replaced-blocks"), nil, 0o666))
	fails := func() bool {
		a, err := attach(n.c, n.dir)
		a.Detach()
		_, is := errors.AsType[*tail.StartOver](err)
		return is
	}
	maastest.Eventually(t, "it is known where the leader's head begins", fails)
	for range 3 {
		require.True(t, fails())
	}
	for _, fd := range maastest.Must(filepath.Glob("/proc/self/fd/*"))(t) {
		path, _ := os.Readlink(fd) // The listing's own is closed by now.
		require.NotContains(t, path, n.dir)
	}
	leader.Close()
}

// compacting is a database that is compacted for as long as a test says.
type compacting struct {
	blocks.Database
	*atomic.Bool
}

func (c compacting) Compacting() bool { return c.Load() }

func (compacting) AddBlocks(move func() error) error { return move() }

// A head's compaction takes minutes, and a standby waits for the name.
func TestReturn__waits_for_a_compaction_until_detaching_begins(t *testing.T) {
	stop, moved, is := make(chan struct{}), false, new(atomic.Bool)
	db := patient{compacting{Bool: is}, stop}
	is.Store(true)
	time.AfterFunc(2*compactionInterval, func() { is.Store(false) })
	require.NoError(t, db.AddBlocks(func() error { moved = true; return nil }))
	require.True(t, moved)
	is.Store(true)
	time.AfterFunc(compactionInterval, func() { close(stop) })
	require.Error(t, db.AddBlocks(func() error { t.Error("the compaction has not ended"); return nil }))
}
