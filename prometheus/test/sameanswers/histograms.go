// SPDX-License-Identifier: Apache-2.0

package sameanswers

import "github.com/prometheus/prometheus/model/histogram"

// largeBuckets makes ten samples, the fewest that a chunk of histograms is cut at, longer than the
// 4 MiB of upstream's write buffer.
const largeBuckets = 62_000

// absolute returns the counts of n buckets at a step; all of them rise until the series starts again.
func (w *writer) absolute(step, n int) []float64 {
	life := 500 + w.trait(0, 1500)
	rate := 4 * (1 + w.trait(1, 9))
	counts := make([]float64, n)
	for i := range counts {
		counts[i] = float64(step%life*rate*(1+i%3) + int(w.random(step*64+i)%uint64(rate)))
	}
	return counts
}

// deltas returns counts in the form in which an integer histogram holds them.
func deltas(counts []float64) []int64 {
	out := make([]int64, len(counts))
	previous := int64(0)
	for i, c := range counts {
		out[i] = int64(c) - previous
		previous = int64(c)
	}
	return out
}

func total(counts ...[]float64) (sum float64) {
	for _, part := range counts {
		for _, c := range part {
			sum += c
		}
	}
	return sum
}

// histogram is an integer histogram. It gains a bucket every 75 minutes, which cuts a chunk or recodes it.
func (w *writer) histogram(step int) *histogram.Histogram {
	positive := w.absolute(step, 6+step/300)
	negative := w.absolute(step, 3)
	return &histogram.Histogram{
		Schema:          3,
		ZeroThreshold:   0.001,
		ZeroCount:       uint64(step),
		Count:           uint64(step) + uint64(total(positive, negative)),
		Sum:             w.count(step) / 8,
		PositiveSpans:   []histogram.Span{{Offset: -2, Length: 4}, {Offset: 3, Length: uint32(len(positive) - 4)}},
		PositiveBuckets: deltas(positive),
		NegativeSpans:   []histogram.Span{{Offset: 1, Length: 3}},
		NegativeBuckets: deltas(negative),
	}
}

func (w *writer) nativeHistogram() {
	w.write(0, w.step, Sample{H: w.histogram(w.step)})
}

func (w *writer) nativeFloatHistogram() {
	h := w.histogram(w.step).ToFloat(nil)
	w.write(0, w.step, Sample{FH: h})
}

// nativeGaugeHistogram goes up and down.
func (w *writer) nativeGaugeHistogram() {
	counts := w.absolute(int(w.random(w.step)%400), 8)
	w.write(0, w.step, Sample{FH: &histogram.FloatHistogram{
		CounterResetHint: histogram.GaugeType,
		Schema:           1,
		Count:            total(counts),
		Sum:              w.level(w.step),
		PositiveSpans:    []histogram.Span{{Length: 8}},
		PositiveBuckets:  counts,
	}})
}

func (w *writer) customBuckets() {
	counts := w.absolute(w.step, 5)
	w.write(0, w.step, Sample{H: &histogram.Histogram{
		Schema:          histogram.CustomBucketsSchema,
		Count:           uint64(total(counts)),
		Sum:             w.count(w.step),
		PositiveSpans:   []histogram.Span{{Length: 5}},
		PositiveBuckets: deltas(counts),
		CustomValues:    []float64{0.25, 1, 4, 16},
	}})
}

// largeHistogram comes for five minutes every two hours: two chunks that are longer than the write
// buffer, and an open one.
func (w *writer) largeHistogram() {
	const burst, period = 22, 480
	if w.step%period >= burst {
		return
	}
	counts := make([]float64, largeBuckets)
	for i := range counts {
		// 52 random bits do not compress.
		counts[i] = float64(w.random(w.step*largeBuckets+i) >> 12)
	}
	w.write(0, w.step, Sample{FH: &histogram.FloatHistogram{
		CounterResetHint: histogram.GaugeType,
		Schema:           8,
		Count:            total(counts),
		Sum:              w.level(w.step),
		PositiveSpans:    []histogram.Span{{Offset: -largeBuckets / 2, Length: largeBuckets}},
		PositiveBuckets:  counts,
	}})
}
