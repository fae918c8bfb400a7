// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"bytes"
	"context"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// logged is a segment of a log with records of some sizes.
func logged(t *testing.T, c compression.Type, sizes ...int) []byte {
	rnd := rand.New(rand.NewSource(1))
	var records [][]byte
	for _, n := range sizes {
		rec := make([]byte, n)
		rnd.Read(rec[:n/2])
		records = append(records, rec)
	}
	return segmentOf(t, c, records...)
}

// ends are the ends of the records in a segment.
func ends(b []byte) (list []int64) {
	for r := wlog.NewReader(bytes.NewReader(b)); r.Next(); {
		list = append(list, r.Offset())
	}
	return list
}

func newGrowingFile(t *testing.T) *growing {
	g := maastest.Must(newGrowing(0, filepath.Join(t.TempDir(), "00000000")))(t)
	t.Cleanup(func() { g.file.Close() })
	return g
}

// Records over several pages, padded pages, and one reader for all of it.
func TestGrowing__gives_whole_records_whatever_byte_it_has_come_to(t *testing.T) {
	for c, step := range map[compression.Type]int64{compression.None: 1, compression.Snappy: 17, compression.Zstd: 17} {
		b := logged(t, c, 100, 66000, 1, 9, 5000)
		ends := ends(b)
		require.Len(t, ends, 5)
		g := newGrowingFile(t)
		maastest.Must(g.file.WriteAt(b, 0))(t)
		r, records := wlog.NewReader(g.records), 0
		for n := step; n <= int64(len(b)); n += step {
			g.length = n
			require.NoError(t, g.extend())
			for g.fresh() {
				for r.Next() {
					records++
				}
				require.NoError(t, r.Err(), "at %d", n)
			}
			if want, _ := slices.BinarySearch(ends, n+1); records != want {
				require.Equal(t, want, records, "%s, at %d", c, n)
			}
		}
	}
}

// remoteLog is a segment in remote memory.
type remoteLog struct {
	*dataDir
	writer *remotefile.File
}

func newRemoteLog(t *testing.T) *remoteLog {
	return &remoteLog{newDataDir(t), remotefile.New("node", 1, wal(0), false)}
}

func (l *remoteLog) writes(b []byte) {
	require.NoError(l.t, l.writer.Append(context.Background(), l.client, b))
}

// cuts leaves the first n bytes of the segment, which are those of b.
func (l *remoteLog) cuts(n int64, b []byte) {
	require.NoError(l.t, l.writer.Cut(context.Background(), l.client, n, bytes.NewReader(b)))
}

// fetch lists the segment, and brings to g what is new there.
func (l *remoteLog) fetch(g *growing) error {
	files := l.files()
	require.Len(l.t, files, 1)
	f := files[0]
	_, err := g.fetch(f, readsFrom(context.Background(), l.client))
	return err
}

func TestGrowing__brings_several_extents_in_pieces(t *testing.T) {
	l, g := newRemoteLog(t), newGrowingFile(t)
	b := logged(t, compression.None, 600<<10, 900<<10, 5, 1<<20, 300<<10)
	for from := 0; from < len(b); {
		n := min(len(b)-from, 1+rand.Intn(400<<10))
		l.writes(b[from : from+n])
		from += n
		require.NoError(t, l.fetch(g))
		require.Equal(t, int64(from), g.length)
	}
	require.NoError(t, g.end())
	require.True(t, bytes.Equal(b, maastest.Must(os.ReadFile(g.file.Name()))(t)))
}

// A restarted leader cuts a torn record that no reader has seen.
func TestGrowing__goes_on_behind_a_cut_of_what_was_torn(t *testing.T) {
	l, g := newRemoteLog(t), newGrowingFile(t)
	b := logged(t, compression.None, 1000, 50000)
	first := ends(b)[0]
	l.writes(b[:first+40000])
	require.NoError(t, l.fetch(g))
	r := wlog.NewReader(g.records)
	require.True(t, r.Next())
	require.False(t, r.Next())

	l.cuts(first, b)
	l.writes(b[first:])
	l.cuts(first+10, b)
	require.NoError(t, l.fetch(g))
	require.Equal(t, first+10, g.length)
	l.writes(b[first+10:])
	require.NoError(t, l.fetch(g))
	require.True(t, r.Next())
	require.Len(t, r.Record(), 50000)
	require.NoError(t, r.Err())

	l.cuts(first, b)
	require.ErrorIs(t, l.fetch(g), errWasCut, "what was replayed is not there any more")
}

// The checksum of a piece also covers the pieces before it.
func TestGrowing__finds_other_bytes_under_the_same_header(t *testing.T) {
	l, g := newRemoteLog(t), newGrowingFile(t)
	b := logged(t, compression.None, 1000, 2000, 3000)
	l.writes(b[:2000])
	require.NoError(t, l.fetch(g))
	other := bytes.Clone(b)
	other[500]++
	l.cuts(10, b)
	l.writes(other[10:])
	require.ErrorIs(t, l.fetch(g), errWrongBytes)
	require.Equal(t, int64(2000), g.length)

	l.cuts(10, b)
	l.writes(b[10:])
	require.NoError(t, l.fetch(g), "it was written while it was read")
	require.Equal(t, int64(len(b)), g.whole)
}

// A server that has lost its memory gets the log again from its leader; the local copy is a part of that.
func TestGrowing__waits_while_the_log_is_copied_anew(t *testing.T) {
	l, g := newRemoteLog(t), newGrowingFile(t)
	b := logged(t, compression.None, 1000, 2000, 3000)
	l.writes(b[:4000])
	require.NoError(t, l.fetch(g))
	given := g.whole
	g.given = given

	require.NoError(t, l.writer.Free(context.Background(), l.client))
	l.writer = remotefile.New("node", 2, wal(0), false)
	l.writes(b[:500])
	require.NoError(t, l.fetch(g))
	require.Equal(t, int64(4000), g.length)
	l.writes(b[500:])
	require.NoError(t, l.fetch(g))
	require.Equal(t, int64(len(b)), g.length)
	require.Equal(t, given, g.given)
}
