// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
)

// openFed opens a database with one sample a minute for the given hours.
func openFed(t *testing.T, hours int) *tsdb.DB {
	t.Helper()
	o := tsdb.DefaultOptions()
	o.BlockReloadInterval = 24 * time.Hour
	db, err := tsdb.Open(t.TempDir(), nil, nil, o, nil)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.DisableCompactions()
	for minute := range int64(60 * hours) {
		app := db.Appender(context.Background())
		// The first sample of each range of two hours comes 7 s after the range begins.
		_, err := app.Append(0, labels.FromStrings(labels.MetricName, "m"), minute*60_000+7_000, float64(minute))
		require.NoError(t, err)
		require.NoError(t, app.Commit())
	}
	return db
}

// copyBlock copies a block from one database to another.
func copyBlock(t *testing.T, to, from *tsdb.DB, i int) {
	t.Helper()
	b := from.Blocks()[i]
	require.NoError(t, to.AddBlocks(func() error {
		return os.CopyFS(filepath.Join(to.Dir(), b.Meta().ULID.String()), os.DirFS(b.Dir()))
	}))
}

// Added blocks replace the part of the head that covers the same time, which would otherwise be compacted again.
func TestAddBlocks__the_head_is_not_compacted_once_more(t *testing.T) {
	first, second := openFed(t, 8), openFed(t, 8)
	require.NoError(t, first.Compact(context.Background()))
	require.Len(t, first.Blocks(), 3)
	copyBlock(t, second, first, 1) // Another block lies between this one and the head.
	require.EqualValues(t, 7_000, second.Head().MinTime())
	copyBlock(t, second, first, 0)
	require.GreaterOrEqual(t, second.Head().MinTime(), second.Blocks()[1].MaxTime())
	require.NoError(t, second.Compact(context.Background()))
	require.Empty(t, inOrderOverlaps(second.Blocks()))
	want, err := (&DB{db: first}).Samples(0)
	require.NoError(t, err)
	got, err := (&DB{db: second}).Samples(0)
	require.NoError(t, err)
	require.NoError(t, compareDigests(want, got))
}
