// SPDX-License-Identifier: Apache-2.0

package sameanswers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"hash/fnv"
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Digest is a hash over the samples of each series. Keys are the series' labels.
type Digest map[string]SeriesDigest

// SeriesDigest is a hash over the samples of one series.
type SeriesDigest struct {
	Samples     int
	First, Last int64
	Sum         uint64
}

// BlocksDigest is a hash over the samples of all persisted blocks together. How the samples are spread over blocks
// that overlap does not matter: out-of-order samples that a killed database, stock or ours, had not yet marked as
// persisted are persisted again.
type BlocksDigest struct {
	Blocks  []string
	Samples Digest
}

// Samples implements Subject.
func (d *DB) Samples(from int64) (Digest, error) {
	querier, err := d.db.Querier(from, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	return digest(querier)
}

// Blocks implements Subject.
func (d *DB) Blocks() (BlocksDigest, error) {
	var (
		out      BlocksDigest
		queriers []storage.Querier
	)
	if d.compaction != nil {
		return out, fmt.Errorf("the last compaction: %w", d.compaction)
	}
	if overlaps := inOrderOverlaps(d.db.Blocks()); len(overlaps) > 0 {
		return out, fmt.Errorf("blocks of samples in order overlap: %s", overlaps)
	}
	for _, block := range d.db.Blocks() {
		querier, err := tsdb.NewBlockQuerier(block, math.MinInt64, math.MaxInt64)
		if err != nil {
			return out, errors.Join(err, storage.NewMergeQuerier(queriers, nil, storage.ChainedSeriesMerge).Close())
		}
		queriers = append(queriers, querier)
		meta := block.Meta()
		out.Blocks = append(out.Blocks, fmt.Sprintf("%s to %s", clock(meta.MinTime), clock(meta.MaxTime)))
	}
	var err error
	out.Samples, err = digest(storage.NewMergeQuerier(queriers, nil, storage.ChainedSeriesMerge))
	return out, err
}

func inOrderOverlaps(blocks []*tsdb.Block) tsdb.Overlaps {
	var metas []tsdb.BlockMeta
	for _, b := range blocks {
		if meta := b.Meta(); !meta.Compaction.FromOutOfOrder() {
			metas = append(metas, meta)
		}
	}
	return tsdb.OverlappingBlocks(metas)
}

// digest reads all that the querier has, and closes it.
func digest(q storage.Querier) (Digest, error) {
	defer q.Close()
	all := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, ".+")
	set := q.Select(context.Background(), true, nil, all)
	out := Digest{}
	var it chunkenc.Iterator
	for set.Next() {
		it = set.At().Iterator(it)
		one, err := digestSeries(it)
		if err != nil {
			return nil, err
		}
		out[set.At().Labels().String()] = one
	}
	return out, set.Err()
}

func digestSeries(it chunkenc.Iterator) (SeriesDigest, error) {
	var (
		out SeriesDigest
		sum = hasher{Hash64: fnv.New64a()}
	)
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		t := it.AtT()
		switch kind {
		case chunkenc.ValFloat:
			_, v := it.At()
			sum.floats(v)
		case chunkenc.ValHistogram:
			_, h := it.AtHistogram(nil)
			sum.integerHistogram(h)
		case chunkenc.ValFloatHistogram:
			_, h := it.AtFloatHistogram(nil)
			sum.floatHistogram(h)
		}
		sum.integers(int64(kind), t)
		if out.Samples == 0 {
			out.First = t
		}
		out.Samples, out.Last = out.Samples+1, t
	}
	out.Sum = sum.Sum64()
	return out, it.Err()
}

// hasher adds values by their bits: a NaN's payload and the sign of zero count. Of histograms, empty
// buckets and the hint on counter resets do not: they depend on where chunks begin, which even in a
// stock database is elsewhere after a restart.
type hasher struct {
	hash.Hash64
	buf []byte
}

func (h *hasher) flush() {
	_, _ = h.Write(h.buf)
	h.buf = h.buf[:0]
}

func (h *hasher) integers(values ...int64) {
	for _, v := range values {
		h.buf = binary.LittleEndian.AppendUint64(h.buf, uint64(v))
	}
	h.flush()
}

func (h *hasher) floats(values ...float64) {
	for _, v := range values {
		h.buf = binary.LittleEndian.AppendUint64(h.buf, math.Float64bits(v))
	}
	h.flush()
}

// buckets adds those that are not empty, by their place.
func buckets[C histogram.BucketCount](h *hasher, sides ...histogram.BucketIterator[C]) {
	for _, side := range sides {
		for side.Next() {
			if b := side.At(); b.Count != 0 {
				h.integers(int64(b.Index))
				h.floats(float64(b.Count))
			}
		}
		h.integers(math.MaxInt64)
	}
}

func (h *hasher) integerHistogram(x *histogram.Histogram) {
	h.integers(int64(x.Schema), int64(x.ZeroCount), int64(x.Count))
	h.floats(x.ZeroThreshold, x.Sum)
	h.floats(x.CustomValues...)
	buckets(h, x.PositiveBucketIterator(), x.NegativeBucketIterator())
}

func (h *hasher) floatHistogram(x *histogram.FloatHistogram) {
	h.integers(int64(x.Schema))
	h.floats(x.ZeroThreshold, x.ZeroCount, x.Count, x.Sum)
	h.floats(x.CustomValues...)
	buckets(h, x.PositiveBucketIterator(), x.NegativeBucketIterator())
}
