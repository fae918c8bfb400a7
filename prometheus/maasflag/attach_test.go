// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"log/slog"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// An older copy of a data directory: no flag frees what remote memory has in addition.
func TestAttach__restore_off_throws_no_log_away(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	dir, older := t.TempDir(), t.TempDir()
	log, err := wlog.NewSize(nil, nil, filepath.Join(dir, "wal"), wlog.DefaultSegmentSize, compression.None)
	require.NoError(t, err)
	require.NoError(t, log.Log(make([]byte, 1000)))
	require.NoError(t, os.CopyFS(older, os.DirFS(dir)))
	require.NoError(t, log.Log(make([]byte, 1000)))
	attach := func(dir, restore string) error {
		a, err := Attach(nil, &Config{
			URL: server.URL, Owner: "me", Fallback: true, Transport: "http", Restore: restore, Blocks: "off", CacheSize: 1 << 20,
		}, dir, false, slog.New(slog.DiscardHandler), nil)
		a.Detach()
		return err
	}
	require.NoError(t, attach(dir, "auto"))
	require.NoError(t, log.Close())

	require.ErrorContains(t, attach(older, "off"), "leave that out to go on with it")
	require.NoError(t, attach(older, "auto"))
	want, err := os.ReadFile(filepath.Join(dir, "wal/00000000"))
	require.NoError(t, err)
	got, err := os.ReadFile(filepath.Join(older, "wal/00000000"))
	require.NoError(t, err)
	require.Equal(t, want[:2000], got[:2000])
}

// The log of a live process is neither cut nor replaced.
func TestAttach__a_directory_in_use_is_refused(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	dir := t.TempDir()
	attach := func(fallback bool) (*Attachment, error) {
		return Attach(nil, &Config{
			URL: server.URL, Owner: "me", Fallback: fallback, Transport: "http", Restore: "auto", Blocks: "off", CacheSize: 1 << 20,
		}, dir, false, slog.New(slog.DiscardHandler), nil)
	}
	first, err := attach(true)
	require.NoError(t, err)
	torn := filepath.Join(dir, "wal/00000000")
	require.NoError(t, os.MkdirAll(filepath.Dir(torn), 0o777))
	require.NoError(t, os.WriteFile(torn, []byte{1, 0, 9}, 0o666))
	for _, fallback := range []bool{true, false} {
		_, err = attach(fallback)
		require.ErrorContains(t, err, "is in use by another process")
	}
	b, err := os.ReadFile(torn)
	require.NoError(t, err)
	require.Len(t, b, 3)
	first.Detach()
}
