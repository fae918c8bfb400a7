// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

// observed is the stock mapper behind the seam, which counts what is written and hands each chunk
// that is read to onRead, if there is one.
type observed struct {
	*chunks.ChunkDiskMapper
	written, outOfOrder, large, read atomic.Int64

	onRead func(chunks.ChunkDiskMapperRef, chunkenc.Chunk) chunkenc.Chunk
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
	if err == nil && o.onRead != nil {
		chk = o.onRead(ref, chk)
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
	upTo := StepsIn(150 * time.Minute)
	stock := open(t, s.config(t))
	require.NoError(t, stock.Feed(upTo))

	other := map[chunkenc.Encoding]chunkenc.Chunk{}
	for name, store := range map[string]*observed{
		"another chunk of the same kind": {onRead: func(ref chunks.ChunkDiskMapperRef, chk chunkenc.Chunk) chunkenc.Chunk {
			defer func() { other[chk.Encoding()] = chk }()
			if last := other[chk.Encoding()]; last != nil && ref%97 == 0 {
				return last
			}
			return chk
		}},
		"a chunk without its last sample": {onRead: func(ref chunks.ChunkDiskMapperRef, chk chunkenc.Chunk) chunkenc.Chunk {
			if ref%97 != 0 {
				return chk
			}
			b := append([]byte(nil), chk.Bytes()...)
			b[1]--
			short, err := chunkenc.FromData(chk.Encoding(), b)
			require.NoError(t, err)
			return short
		}},
		"an empty chunk": {onRead: func(ref chunks.ChunkDiskMapperRef, chk chunkenc.Chunk) chunkenc.Chunk {
			if ref%97 == 0 {
				return chunkenc.NewXORChunk()
			}
			return chk
		}},
	} {
		t.Run(name, func(t *testing.T) {
			config := s.config(t)
			config.Edit = store.edit
			ours := open(t, config)
			require.NoError(t, ours.Feed(upTo))
			require.Error(t, CompareAnswers(stock, ours, Queries()))
			require.Error(t, CompareSamples(stock, ours))
		})
	}
}

// A replay that lacks chunks which the snapshot relies on silently loses samples.
func TestALossAtRestartIsCaught(t *testing.T) {
	s := smallerSize(t)
	upTo := StepsIn(150 * time.Minute)
	stock := open(t, s.config(t))
	require.NoError(t, stock.Feed(upTo))

	config := s.config(t)
	config.SnapshotOnClose = true
	ours, err := Open(config)
	require.NoError(t, err)
	require.NoError(t, ours.Feed(upTo))
	require.NoError(t, ours.Close())

	store := observed{onEach: func(series chunks.HeadSeriesRef) bool { return series%50 != 0 }}
	config.Fed, config.Edit = upTo, store.edit
	reopened := open(t, config)
	require.Error(t, CompareAnswers(stock, reopened, Queries()))
	require.Error(t, CompareSamples(stock, reopened))
}

// requireNotEmpty wants no answer to be empty: two empty answers are always equal.
func requireNotEmpty(t *testing.T, s Subject) {
	t.Helper()
	require.GreaterOrEqual(t, len(Queries()), 60)
	answers, err := s.Answers(Queries())
	require.NoError(t, err)
	var empties []string
	for i, q := range Queries() {
		empty := bytes.Contains(answers[i].JSON, []byte(`"result":[]`)) ||
			!bytes.Contains(answers[i].JSON, []byte(`"data":`))
		if empty {
			empties = append(empties, q.String())
		}
	}
	require.Empty(t, empties)
}

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
