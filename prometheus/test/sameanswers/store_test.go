// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/maas-memory/maas/go/maastest"
)

// observed is the stock mapper behind the seam, which counts what is written and hands some of the chunks that are read
// to onRead, if there is one.
type observed struct {
	*chunks.ChunkDiskMapper
	written, outOfOrder, large, read atomic.Int64

	onRead func(chunkenc.Chunk) chunkenc.Chunk
	onEach func(chunks.HeadSeriesRef) bool // Whether IterateAllChunks reports a chunk of the series.
}

func (o *observed) open(
	reg prometheus.Registerer, dir string, pool chunkenc.Pool, writeBufferSize, writeQueueSize int,
) (_ tsdb.HeadChunkStore, err error) {
	o.ChunkDiskMapper, err = chunks.NewChunkDiskMapper(reg, dir, pool, writeBufferSize, writeQueueSize)
	return o, err
}

func (o *observed) WriteChunk(
	series chunks.HeadSeriesRef, mint, maxt int64, chk chunkenc.Chunk, ooo bool, callback func(error),
) chunks.ChunkDiskMapperRef {
	o.written.Add(1)
	if ooo {
		o.outOfOrder.Add(1)
	}
	if len(chk.Bytes()) > chunks.DefaultWriteBufferSize {
		o.large.Add(1)
	}
	return o.ChunkDiskMapper.WriteChunk(series, mint, maxt, chk, ooo, callback)
}

func (o *observed) Chunk(ref chunks.ChunkDiskMapperRef) (chunkenc.Chunk, error) {
	o.read.Add(1)
	chk, err := o.ChunkDiskMapper.Chunk(ref)
	if err == nil && o.onRead != nil && ref%97 == 0 {
		chk = o.onRead(chk)
	}
	return chk, err
}

func (o *observed) IterateAllChunks(f func(
	chunks.HeadSeriesRef, chunks.ChunkDiskMapperRef, int64, int64, uint16, chunkenc.Encoding, bool,
) error) error {
	return o.ChunkDiskMapper.IterateAllChunks(func(
		series chunks.HeadSeriesRef, ref chunks.ChunkDiskMapperRef, mint, maxt int64, n uint16,
		enc chunkenc.Encoding, ooo bool,
	) error {
		if o.onEach != nil && !o.onEach(series) {
			return nil
		}
		return f(series, ref, mint, maxt, n, enc, ooo)
	})
}

func (o *observed) edit(options *tsdb.Options) {
	options.NewHeadChunkStore = o.open
}

// TestTheSeamChangesNothing also shows that the load, the queries and their rendering are deterministic, and that they
// cover what they are meant to: later differences have other causes.
func TestTheSeamChangesNothing(t *testing.T) {
	s := smallerSize(t)
	var store observed
	config := s.config(t)
	config.Edit = store.edit
	stock, ours := open(t, s.config(t)), open(t, config)
	for _, upTo := range []int{StepsIn(150 * time.Minute), s.steps} {
		require.NoError(t, feed(stock, ours, upTo))
		requireSame(t, stock, ours, "the stock mapper behind the seam")
	}
	requireNotEmpty(t, stock)
	require.Positive(t, store.large.Load(), "chunks over 4 MiB")
	require.Greater(t, store.outOfOrder.Load(), int64(s.series/20), "out-of-order chunks")
	require.Greater(t, store.written.Load(), int64(s.series*6), "chunks")
	require.Positive(t, store.read.Load(), "chunks read")
}

// A comparison is worth what it catches: each of these stores is wrong in one small way.
func TestABrokenStoreIsCaught(t *testing.T) {
	s := smallerSize(t)
	stock := open(t, s.config(t))
	require.NoError(t, stock.Feed(StepsIn(150*time.Minute)))
	other := map[chunkenc.Encoding]chunkenc.Chunk{} // The last one. Read twice in a row, a chunk is right.
	for name, wrong := range map[string]func(chunkenc.Chunk) chunkenc.Chunk{
		"another chunk of the same kind": func(chk chunkenc.Chunk) chunkenc.Chunk {
			defer func() { other[chk.Encoding()] = chk }()
			return cmp.Or(other[chk.Encoding()], chk)
		},
		"a chunk without its last sample": func(chk chunkenc.Chunk) chunkenc.Chunk {
			b := bytes.Clone(chk.Bytes())
			b[1]--
			return maastest.Must(chunkenc.FromData(chk.Encoding(), b))(t)
		},
		"an empty chunk": func(chunkenc.Chunk) chunkenc.Chunk { return chunkenc.NewXORChunk() },
	} {
		t.Run(name, func(t *testing.T) { isCaught(t, stock, s.config(t), &observed{onRead: wrong}) })
	}
}

// A replay that lacks chunks which the snapshot relies on silently loses samples.
func TestALossAtRestartIsCaught(t *testing.T) {
	s := smallerSize(t)
	stock, config := open(t, s.config(t)), s.config(t)
	config.SnapshotOnClose = true
	ours := maastest.Must(Open(config))(t)
	config.Fed = StepsIn(150 * time.Minute)
	require.NoError(t, feed(stock, ours, config.Fed))
	require.NoError(t, ours.Close())
	isCaught(t, stock, config, &observed{onEach: func(series chunks.HeadSeriesRef) bool { return series%50 != 0 }})
}

// isCaught feeds a database on a store as much as the stock one, and wants the comparison to find a difference.
func isCaught(t *testing.T, stock *DB, config Config, store *observed) {
	config.Edit = store.edit
	ours := open(t, config)
	require.NoError(t, ours.Feed(stock.fed))
	require.Error(t, CompareAnswers(stock, ours, Queries()))
	require.Error(t, CompareSamples(stock, ours))
}

// requireNotEmpty wants no answer to be empty: two empty answers are always equal.
func requireNotEmpty(t *testing.T, s Subject) {
	require.GreaterOrEqual(t, len(Queries()), 60)
	answers := maastest.Must(s.Answers(Queries()))(t)
	var empties []string
	for i, q := range Queries() {
		json := string(answers[i].JSON)
		if strings.Contains(json, `"result":[]`) || !strings.Contains(json, `"data":`) {
			empties = append(empties, q.String())
		}
	}
	require.Empty(t, empties)
}

// openFed opens a database with one sample a minute for eight hours.
func openFed(t *testing.T) *tsdb.DB {
	o := tsdb.DefaultOptions()
	o.BlockReloadInterval = 24 * time.Hour
	db := maastest.Must(tsdb.Open(t.TempDir(), nil, nil, o, nil))(t)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	db.DisableCompactions()
	for minute := range int64(8 * 60) {
		app := db.Appender(context.Background())
		// The first sample of each range of two hours comes 7 s after the range begins.
		maastest.Must(app.Append(0, labels.FromStrings(labels.MetricName, "m"), minute*60_000+7_000, float64(minute)))(t)
		require.NoError(t, app.Commit())
	}
	return db
}

// copyBlock copies a block from one database to another.
func copyBlock(t *testing.T, to, from *tsdb.DB, i int) {
	b := from.Blocks()[i]
	require.NoError(t, to.AddBlocks(func() error {
		return os.CopyFS(filepath.Join(to.Dir(), b.Meta().ULID.String()), os.DirFS(b.Dir()))
	}))
}

// Added blocks replace the part of the head that covers the same time, which would otherwise be compacted again.
func TestAddBlocks__the_head_is_not_compacted_once_more(t *testing.T) {
	first, second := openFed(t), openFed(t)
	require.NoError(t, first.Compact(context.Background()))
	require.Len(t, first.Blocks(), 3)
	copyBlock(t, second, first, 1) // Another block lies between this one and the head.
	require.EqualValues(t, 7_000, second.Head().MinTime())
	copyBlock(t, second, first, 0)
	require.GreaterOrEqual(t, second.Head().MinTime(), second.Blocks()[1].MaxTime())
	require.NoError(t, second.Compact(context.Background()))
	require.Empty(t, inOrderOverlaps(second.Blocks()))
	require.NoError(t, CompareSamples(&DB{db: first}, &DB{db: second}))
}
