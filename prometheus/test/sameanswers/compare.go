// SPDX-License-Identifier: Apache-2.0

package sameanswers

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"time"
)

// maxReported is how many differences of a kind are reported in full.
const maxReported = 5

// differences collects what is not equal, and reports the first few.
type differences struct {
	errs  []error
	count int
}

func (d *differences) add(format string, args ...any) {
	d.count++
	if d.count <= maxReported {
		d.errs = append(d.errs, fmt.Errorf(format, args...))
	}
}

func (d *differences) err(what string, of int) error {
	if d.count == 0 {
		return nil
	}
	return fmt.Errorf("%d of %d %s differ: %w", d.count, of, what, errors.Join(d.errs...))
}

// both calls a function for each of the two at once.
func both[T any](stock, ours Subject, do func(Subject) (T, error)) (want, got T, err error) {
	done := make(chan error, 1)
	go func() {
		var err error
		if want, err = do(stock); err != nil {
			err = fmt.Errorf("the stock database: %w", err)
		}
		done <- err
	}()
	if got, err = do(ours); err != nil {
		err = fmt.Errorf("our database: %w", err)
	}
	return want, got, errors.Join(<-done, err)
}

// CompareAnswers asks both the same queries, and wants the same answers, byte for byte, and no error.
func CompareAnswers(stock, ours Subject, queries []Query) error {
	want, got, err := both(stock, ours, func(s Subject) ([]Answer, error) { return s.Answers(queries) })
	if err != nil {
		return err
	}
	var d differences
	for i, q := range queries {
		switch {
		case want[i].Err != "":
			d.add("%s: the stock database fails: %s", q, want[i].Err)
		case got[i].Err != "":
			d.add("%s: %s", q, got[i].Err)
		case !bytes.Equal(want[i].JSON, got[i].JSON):
			d.add("%s: %s", q, firstDifference(want[i].JSON, got[i].JSON))
		}
	}
	return d.err("answers", len(queries))
}

// CompareSamples wants both to have exactly the same samples.
func CompareSamples(stock, ours Subject) error {
	want, got, err := both(stock, ours, func(s Subject) (Digest, error) { return s.Samples(math.MinInt64) })
	if err != nil {
		return err
	}
	return compareDigests(want, got)
}

// CompareBlocks wants both to have exactly the same persisted samples.
func CompareBlocks(stock, ours Subject) error {
	want, got, err := both(stock, ours, Subject.Blocks)
	if err != nil {
		return err
	}
	if err := compareDigests(want.Samples, got.Samples); err != nil {
		return fmt.Errorf("stock has the blocks %q, ours %q: %w", want.Blocks, got.Blocks, err)
	}
	return nil
}

func compareDigests(want, got Digest) error {
	var d differences
	for _, series := range slices.Sorted(maps.Keys(want)) {
		if want[series] != got[series] {
			d.add("%s: stock has %v, ours %v", series, want[series], got[series])
		}
	}
	for _, series := range slices.Sorted(maps.Keys(got)) {
		if _, known := want[series]; !known {
			d.add("%s: stock has none, ours %v", series, got[series])
		}
	}
	return d.err("series", len(want))
}

// firstDifference shows the first place where two texts differ.
func firstDifference(want, got []byte) string {
	at := 0
	for at < len(want) && at < len(got) && want[at] == got[at] {
		at++
	}
	around := func(text []byte) []byte {
		return text[max(0, min(at-80, len(text))):min(at+80, len(text))]
	}
	return fmt.Sprintf("at byte %d of %d (ours %d), stock says …%s…, ours …%s…",
		at, len(want), len(got), around(want), around(got))
}

func (q Query) String() string {
	text := q.Expr
	if q.About != "" {
		text = q.About + " of " + text
	}
	if q.Span != 0 {
		text += fmt.Sprintf(" over %s", q.Span)
	}
	if q.Step != 0 {
		text += fmt.Sprintf(" by %s", q.Step)
	}
	if q.Ago != 0 {
		text += fmt.Sprintf(", %s ago", q.Ago)
	}
	return text
}

func (s SeriesDigest) String() string {
	return fmt.Sprintf("%d samples from %s to %s, sum %x", s.Samples, clock(s.First), clock(s.Last), s.Sum)
}

// clock is a simulated time, counted from the load's start.
func clock(t int64) time.Duration {
	return time.Duration(t-start) * time.Millisecond
}
