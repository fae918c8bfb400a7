// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
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
