// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// segmentOf is a segment of a log with records.
func segmentOf(t *testing.T, c compression.Type, records ...[]byte) []byte {
	dir := filepath.Join(t.TempDir(), "log")
	w := maastest.Must(wlog.NewSize(nil, nil, dir, 128*logPage, c))(t)
	require.NoError(t, w.Log(records...))
	require.NoError(t, w.Close())
	return maastest.Must(os.ReadFile(wlog.SegmentName(dir, 0)))(t)
}

func recordsOf(t *testing.T, b []byte) (list [][]byte) {
	r := wlog.NewReader(bytes.NewReader(b))
	for r.Next() {
		list = append(list, bytes.Clone(r.Record()))
	}
	require.NoError(t, r.Err())
	return list
}

func TestMarkers__are_left_out(t *testing.T) {
	var enc record.Encoder
	sample := func(ref chunks.HeadSeriesRef) []byte {
		samples := make([]record.RefSample, 2000)
		for i := range samples {
			samples[i] = record.RefSample{Ref: ref, T: int64(i * i), V: float64(i * 7)}
		}
		return enc.Samples(samples, nil)
	}
	marker := enc.MmapMarkers([]record.RefMmapMarker{{Ref: 1, MmapRef: 1 << 33}}, nil)
	leftOut := func(b []byte) []byte {
		tmp := filepath.Join(t.TempDir(), "tmp")
		got := maastest.Must(withoutMarkers(b, tmp, quiet()))(t)
		require.NoDirExists(t, tmp)
		return got
	}
	for _, c := range []compression.Type{compression.None, compression.Snappy, compression.Zstd} {
		without := segmentOf(t, c, sample(1), sample(2), sample(3))
		with := segmentOf(t, c, marker, sample(1), marker, sample(2), sample(3), marker)
		records := recordsOf(t, without)
		require.True(t, bytes.Equal(without, leftOut(without)), "nothing is written anew without a reason")
		require.Equal(t, records[:2], recordsOf(t, leftOut(without[:ends(without)[2]-3])), "a torn end is cut")
		require.Equal(t, records, recordsOf(t, leftOut(with)))
		require.Equal(t, records[:1], recordsOf(t, leftOut(with[:ends(with)[3]-3])))
	}
	for _, b := range [][]byte{{}, {1, 0}, segmentOf(t, compression.None, marker)} {
		require.Empty(t, leftOut(b))
	}
}

func TestAddSeries__finds_samples_of_all_kinds(t *testing.T) {
	var enc record.Encoder
	h := &histogram.Histogram{Count: 1, Sum: 1}
	histograms, _ := enc.HistogramSamples([]record.RefHistogramSample{{Ref: 4, T: 1, H: h}}, nil)
	floats, _ := enc.FloatHistogramSamples([]record.RefFloatHistogramSample{{Ref: 5, T: 1, FH: h.ToFloat(nil)}}, nil)
	b := segmentOf(t, compression.Snappy,
		enc.Samples([]record.RefSample{{Ref: 1, T: 5}, {Ref: 3, T: 1}}, nil),
		enc.MmapMarkers([]record.RefMmapMarker{{Ref: 9, MmapRef: 1}}, nil), histograms, floats, []byte{2, 255})
	set := map[chunks.HeadSeriesRef]struct{}{}
	addSeries(set, b, quiet())
	require.Equal(t, map[chunks.HeadSeriesRef]struct{}{1: {}, 3: {}, 4: {}, 5: {}}, set)
}
