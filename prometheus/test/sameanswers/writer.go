// SPDX-License-Identifier: Apache-2.0

package sameanswers

import (
	"math"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/value"
)

// writer makes the samples of one scrape, a series at a time.
type writer struct {
	load         *Load
	step, target int
	emit         func(Sample) error
	err          error

	// The present series: the name of its metric, its number among the target's series of that name, and its slot.
	name  string
	place int
	slot  int
}

func (w *writer) begin(name string, slot int) {
	w.name, w.slot = name, slot
}

// random is a number that depends only on the seed, the series and n.
func (w *writer) random(n int) uint64 {
	x := w.load.seed ^ uint64(w.slot)<<32 ^ uint64(n)
	for range 2 {
		x += 0x9e3779b97f4a7c15
		x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
		x = (x ^ x>>27) * 0x94d049bb133111eb
		x ^= x >> 31
	}
	return x
}

// trait is a number below n that never changes for the series.
func (w *writer) trait(which, n int) int {
	return int(w.random(-1-which) % uint64(n))
}

// time is when this target is scraped in a step; no two targets share a millisecond.
func (w *writer) time(step int) int64 {
	offset := w.load.seed%7 + uint64(w.target)*37
	return start + int64(step)*Interval.Milliseconds() + int64(offset%uint64(Interval.Milliseconds()))
}

func (w *writer) write(generation, step int, s Sample) {
	if w.err != nil {
		return
	}
	s.Slot, s.Generation, s.T = w.slot, generation, w.time(step)
	s.Labels = w.seriesLabels(generation)
	w.err = w.emit(s)
}

func (w *writer) float(v float64) {
	w.write(0, w.step, Sample{V: v})
}

// count is a counter's value at a step: it rises by about rate a step, and starts again from 0
// every few hours.
func (w *writer) count(step int) float64 {
	life := 400 + w.trait(0, 2000)
	rate := uint64(1 + w.trait(1, 50))
	return float64(uint64(step%life)*rate + w.random(step)%rate)
}

func (w *writer) counter() {
	w.float(w.count(w.step))
}

// level is a gauge's value: it stays near one level for eight minutes. All are multiples of 1/8,
// so that sums are exact whatever their order.
func (w *writer) level(step int) float64 {
	return float64(w.random(-step/32-1000)%2000)/8 + float64(w.random(step)%16)/8
}

func (w *writer) gauge() {
	w.float(w.level(w.step))
}

// classicBucket is one bucket of a classic histogram: the target's buckets share a rate, and each includes those below.
func (w *writer) classicBucket() {
	first := *w
	first.slot -= w.place
	perBucket := 1 + first.trait(1, 20)
	life := 600 + first.trait(0, 1000)
	w.float(float64(w.step % life * perBucket * (w.place + 1)))
}

// pod lives for 40 to 75 minutes; then another one replaces it. Every second pod ends with a stale marker, the others
// like a target that has disappeared.
func (w *writer) pod() {
	life := 160 + w.trait(0, 140)
	age := w.step + w.trait(1, life)
	generation := age / life
	if age%life == 0 && generation%2 == 1 {
		w.write(generation-1, w.step, Sample{V: math.Float64frombits(value.StaleNaN)})
	}
	w.write(generation, w.step, Sample{V: w.level(w.step) * 1024})
}

// flapping is away for ten minutes in fifty, with a stale marker; one in three is a histogram.
func (w *writer) flapping() {
	position := (w.step + w.trait(0, 200)) % 200
	isHistogram := w.place%3 == 2
	switch {
	case position >= 40 && isHistogram:
		w.write(0, w.step, Sample{H: w.histogram(w.step)})
	case position >= 40:
		w.float(w.level(w.step))
	case position == 0 && isHistogram:
		stale := histogram.Histogram{Sum: math.Float64frombits(value.StaleNaN)}
		w.write(0, w.step, Sample{H: &stale})
	case position == 0:
		w.float(math.Float64frombits(value.StaleNaN))
	}
}

// late is withheld for the second half of its period, and arrives at the period's end: the newest
// sample first, then all others in a scrambled order. That is more than an out-of-order chunk
// holds. Every fourth one is a histogram; some periods are longer than a query's look-back.
func (w *writer) late() {
	half := 40
	if w.place%5 == 4 {
		half = 120
	}
	position := (w.step + w.trait(0, 2*half)) % (2 * half)
	if position < half {
		w.lateSample(w.step)
	}
	if position != 2*half-1 {
		return
	}
	w.lateSample(w.step)
	for i := 1; i < half; i++ {
		// 7 and the number of samples have no common divisor, so each of the others comes once.
		if back := i * 7 % half; w.step >= back {
			w.lateSample(w.step - back)
		}
	}
}

func (w *writer) lateSample(step int) {
	if w.place%4 == 3 {
		w.write(0, step, Sample{FH: w.histogram(step).ToFloat(nil)})
		return
	}
	w.write(0, step, Sample{V: w.count(step)})
}

// oddValues are values that a careless copy would change.
func (w *writer) oddValues() {
	odd := []float64{
		math.NaN(), math.Inf(1), math.Inf(-1), math.Copysign(0, -1), math.SmallestNonzeroFloat64,
		math.MaxFloat64, 1e-9, 0.1,
	}
	w.float(odd[w.random(w.step)%uint64(len(odd))])
}
