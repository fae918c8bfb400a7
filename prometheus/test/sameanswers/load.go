// SPDX-License-Identifier: Apache-2.0

// Package sameanswers holds a tsdb on remote memory to the answers of a stock one: it feeds both
// the same samples in simulated time, asks both the same queries, and compares the JSON byte for
// byte, while the memory server, the network and the database's own process fail underneath.
package sameanswers

import (
	"fmt"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
)

// Interval is the simulated time between two scrapes of a target.
const Interval = 15 * time.Second

// Simulated time starts at the boundary of a block, so that the blocks' ranges are round.
var start = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC).UnixMilli()

// StepsIn is the number of scrapes of one target in d.
func StepsIn(d time.Duration) int {
	return int(d / Interval)
}

// endOfStep is the last millisecond in which a step's samples can lie.
func endOfStep(step int) int64 {
	return start + int64(step+1)*Interval.Milliseconds() - 1
}

// Load is a deterministic load. Every sample is a function of the seed, its series and its step,
// never of the steps before: a database that was killed goes on at any step, in another process.
// It is not safe for use by several goroutines.
type Load struct {
	seed   uint64
	series int
	labels []slotLabels
}

// slotLabels keeps the labels of a slot's latest generation, which nearly every sample has.
type slotLabels struct {
	generation int
	labels     labels.Labels
}

// NewLoad is a load of so many series at a time, a multiple of a hundred.
func NewLoad(seed uint64, series int) *Load {
	return &Load{seed: seed, series: series, labels: make([]slotLabels, series+largeSeries)}
}

// Sample is one sample of a step. One of FH, H and V is its value, in this order.
type Sample struct {
	// Slot and Generation name the series: a slot's labels change with its generation.
	Slot, Generation int
	Labels           labels.Labels
	T                int64
	V                float64
	H                *histogram.Histogram
	FH               *histogram.FloatHistogram
}

// Each target exposes one hundred series, of these kinds. The large histograms come on top.
const (
	seriesPerTarget = 100
	largeSeries     = 2
)

type kind struct {
	name string
	// upTo is the first place within a target that is of another kind.
	upTo  int
	write func(w *writer)
}

var kinds = []kind{
	{"requests_total", 30, (*writer).counter},
	{"temperature_celsius", 50, (*writer).gauge},
	{"latency_seconds_bucket", 60, (*writer).classicBucket},
	{"pod_memory_bytes", 70, (*writer).pod},
	{"flapping", 76, (*writer).flapping},
	{"late_total", 86, (*writer).late},
	{"native_latency", 91, (*writer).nativeHistogram},
	{"native_float_latency", 95, (*writer).nativeFloatHistogram},
	{"native_gauge", 97, (*writer).nativeGaugeHistogram},
	{"native_custom", 98, (*writer).customBuckets},
	{"odd_values", 99, (*writer).oddValues},
	{"work_done_total", 100, (*writer).counter},
}

// Targets is how many targets a step scrapes.
func (l *Load) Targets() int {
	return l.series / seriesPerTarget
}

// Slots is how many different slots the samples have.
func (l *Load) Slots() int {
	return l.series + largeSeries
}

// Scrape hands the samples of one target's scrape at a step to emit, and stops at its first error.
func (l *Load) Scrape(step, target int, emit func(Sample) error) error {
	w := writer{load: l, step: step, target: target, emit: emit}
	place := 0
	for _, k := range kinds {
		for w.place = 0; place < k.upTo && w.err == nil; w.place++ {
			w.begin(k.name, target*seriesPerTarget+place)
			k.write(&w)
			place++
		}
	}
	if target == 0 {
		for i := 0; i < largeSeries && w.err == nil; i++ {
			w.place = i
			w.begin("large_histogram", l.series+i)
			w.largeHistogram()
		}
	}
	return w.err
}

var (
	jobs    = []string{"api", "database", "frontend", "queue"}
	codes   = []string{"200", "204", "301", "404", "500"}
	methods = []string{"GET", "POST", "PUT"}
	bounds  = []string{"0.005", "0.01", "0.05", "0.1", "0.5", "1", "2.5", "5", "10", "+Inf"}
)

// seriesLabels are the labels of the present slot in the given generation.
func (w *writer) seriesLabels(generation int) labels.Labels {
	cached := &w.load.labels[w.slot]
	if cached.labels.IsEmpty() || cached.generation != generation {
		*cached = slotLabels{generation, w.makeLabels(generation)}
	}
	return cached.labels
}

func (w *writer) makeLabels(generation int) labels.Labels {
	pairs := []string{
		labels.MetricName, w.name,
		"instance", fmt.Sprintf("10.0.%d.%d:9100", w.target/250, w.target%250),
		"job", jobs[w.target%len(jobs)],
	}
	switch w.name {
	case "requests_total":
		pairs = append(pairs, "code", codes[w.place%len(codes)], "method",
			methods[w.place/len(codes)%len(methods)], "path", fmt.Sprintf("/v%d", w.place/15))
	case "latency_seconds_bucket":
		pairs = append(pairs, "le", bounds[w.place])
	case "pod_memory_bytes":
		pairs = append(pairs, "pod", fmt.Sprintf("pod-%d-%d", w.slot, generation))
	default:
		pairs = append(pairs, "place", fmt.Sprintf("%02d", w.place))
	}
	return labels.FromStrings(pairs...)
}
