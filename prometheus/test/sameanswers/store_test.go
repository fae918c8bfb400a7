// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

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

// TestTheSeamChangesNothing also shows that the load covers what it is meant to.
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
