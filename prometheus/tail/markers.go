// SPDX-License-Identifier: Apache-2.0

// Markers: between its samples, a WBL notes that late samples are in a chunk of the head, by the chunk's place in the
// leader's files. A standby has other chunk files, made from the leader's log, and so must not read the markers: it
// would take its own chunks for the leader's, and drop the samples.

package tail

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"

	"github.com/prometheus/prometheus/tsdb/chunks"
	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/tsdb/wlog"
	"github.com/prometheus/prometheus/util/compression"

	"github.com/maas-memory/maas/prometheus/remotefile"
)

// withoutMarkers returns the whole records of a segment of a WBL without its markers; the same bytes if there are
// no markers. tmp is a directory to work in, which must not exist.
func withoutMarkers(b []byte, tmp string, logger *slog.Logger) ([]byte, error) {
	end := validEndOf(bytes.NewReader(b))
	if filled := len(b)%logPage == 0 && len(bytes.Trim(b[end:], "\x00")) == 0; !filled {
		b = b[:end]
	}
	decoder := record.NewDecoder(nil, logger)
	var records [][]byte
	markers := false
	for r := wlog.NewReader(bytes.NewReader(b)); r.Next(); {
		if decoder.Type(r.Record()) == record.MmapMarkers {
			markers = true
			continue
		}
		records = append(records, bytes.Clone(r.Record()))
	}
	if !markers {
		return b, nil
	}
	defer os.RemoveAll(tmp)
	w, err := wlog.NewSize(logger, nil, tmp, (len(b)/logPage+2)*logPage, compression.Snappy)
	if err != nil {
		return nil, err
	}
	err = w.Log(records...)
	if closeErr := w.Close(); err == nil {
		err = closeErr
	}
	if err != nil {
		return nil, err
	}
	var out []byte
	files, err := listNumbered(tmp, remotefile.Name{Kind: remotefile.WBL})
	for _, f := range files {
		part, err := os.ReadFile(filepath.Join(tmp, filepath.Base(f.path)))
		if err != nil {
			return nil, err
		}
		out = append(out, part...)
	}
	return out, err
}

// addSeries adds to a set the numbers of the series that have samples in a segment of a WBL. It skips records that
// it cannot read; the database will report them.
func addSeries(set map[chunks.HeadSeriesRef]struct{}, b []byte, logger *slog.Logger) {
	decoder := record.NewDecoder(nil, logger)
	var (
		samples         []record.RefSample
		histograms      []record.RefHistogramSample
		floatHistograms []record.RefFloatHistogramSample
	)
	for r := wlog.NewReader(bytes.NewReader(b)); r.Next(); {
		samples, histograms, floatHistograms = samples[:0], histograms[:0], floatHistograms[:0]
		switch decoder.Type(r.Record()) {
		case record.Samples, record.SamplesV2:
			samples, _ = decoder.Samples(r.Record(), samples)
		case record.HistogramSamples, record.CustomBucketsHistogramSamples, record.HistogramSamplesV2:
			histograms, _ = decoder.HistogramSamples(r.Record(), histograms)
		case record.FloatHistogramSamples, record.CustomBucketsFloatHistogramSamples, record.FloatHistogramSamplesV2:
			floatHistograms, _ = decoder.FloatHistogramSamples(r.Record(), floatHistograms)
		}
		for _, s := range samples {
			set[s.Ref] = struct{}{}
		}
		for _, s := range histograms {
			set[s.Ref] = struct{}{}
		}
		for _, s := range floatHistograms {
			set[s.Ref] = struct{}{}
		}
	}
}
