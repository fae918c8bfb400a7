// SPDX-License-Identifier: Apache-2.0

package sameanswers

import (
	"context"
	"encoding/binary"
	"hash"
	"hash/fnv"
	"math"
	"slices"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Digest is every sample of each series, told short. Keys are the series' labels.
type Digest map[string]SeriesDigest

// SeriesDigest tells the samples of one series.
type SeriesDigest struct {
	Samples     int
	First, Last int64
	Sum         uint64
}

// BlockDigest tells the samples of one persisted block.
type BlockDigest struct {
	MinTime, MaxTime int64
	OutOfOrder       bool
	Level            int
	Samples          Digest
}

// Samples implements Subject.
func (d *DB) Samples() (Digest, error) {
	querier, err := d.db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		return nil, err
	}
	return digest(querier)
}

// Blocks implements Subject.
func (d *DB) Blocks() ([]BlockDigest, error) {
	var out []BlockDigest
	for _, block := range d.db.Blocks() {
		querier, err := tsdb.NewBlockQuerier(block, math.MinInt64, math.MaxInt64)
		if err != nil {
			return nil, err
		}
		samples, err := digest(querier)
		if err != nil {
			return nil, err
		}
		meta := block.Meta()
		out = append(out, BlockDigest{
			MinTime: meta.MinTime, MaxTime: meta.MaxTime,
			OutOfOrder: meta.Compaction.FromOutOfOrder(), Level: meta.Compaction.Level,
			Samples: samples,
		})
	}
	slices.SortFunc(out, compareBlocks)
	return out, nil
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

// hasher adds values by their bits: a NaN's payload and the sign of zero count. The hint on
// counter resets does not: it depends on where chunks begin, and tells nothing of its own.
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

func (h *hasher) spans(parts ...[]histogram.Span) {
	for _, spans := range parts {
		h.integers(int64(len(spans)))
		for _, s := range spans {
			h.integers(int64(s.Offset), int64(s.Length))
		}
	}
}

func (h *hasher) integerHistogram(x *histogram.Histogram) {
	h.integers(int64(x.Schema), int64(x.ZeroCount), int64(x.Count))
	h.floats(x.ZeroThreshold, x.Sum)
	h.spans(x.PositiveSpans, x.NegativeSpans)
	h.integers(x.PositiveBuckets...)
	h.integers(x.NegativeBuckets...)
	h.floats(x.CustomValues...)
}

func (h *hasher) floatHistogram(x *histogram.FloatHistogram) {
	h.integers(int64(x.Schema))
	h.floats(x.ZeroThreshold, x.ZeroCount, x.Count, x.Sum)
	h.spans(x.PositiveSpans, x.NegativeSpans)
	h.floats(x.PositiveBuckets...)
	h.floats(x.NegativeBuckets...)
	h.floats(x.CustomValues...)
}
