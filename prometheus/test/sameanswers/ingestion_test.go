// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"slices"
	"time"

	"github.com/prometheus/prometheus/model/histogram"
	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
)

// Ingestion in numbered commits goes on until its child is killed. The time of each sample, found or lost, says to which
// commit it belongs.

const (
	ingestSeries = 200
	// Commit i has a sample of each series at i seconds. Series with late samples get a second one, half a second
	// behind the sample of this many commits ago.
	late = 600
	// generation is for how many commits a series lives, of those that come and go.
	generation = 97
)

// ingested are the kinds of series of a commit.
var ingested = []struct {
	name   string
	series int
	late   bool
}{
	{"ingested", ingestSeries, true},
	{"ingested_churn", 20, false},
	{"ingested_histogram", 5, false},
}

// Ingestion says what a child commits.
type Ingestion struct {
	From    int           // The first commit.
	Journal string        // Gets the time of each commit, in nanoseconds, when it is done.
	Every   time.Duration // Between two commits; 0: 2 ms.
	Compact int           // Commits between two of upstream's rounds of compactions, which run at the same time; 0: none.
}

// Ingest commits from now on, while other calls are answered.
func (c *child) Ingest(in Ingestion, _ *none) error {
	journal, err := os.OpenFile(in.Journal, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	c.pause, c.paused = make(chan struct{}), make(chan struct{})
	rounds := make(chan struct{}, 1)
	go c.compactions(rounds)
	go func() {
		defer close(rounds)
		c.ingest(in, journal, rounds)
	}()
	return nil
}

func (c *child) ingest(in Ingestion, journal *os.File, rounds chan<- struct{}) {
	for i := in.From; ; i++ {
		if err := c.commit(i); err != nil {
			panic(err)
		}
		now := binary.LittleEndian.AppendUint64(nil, uint64(time.Now().UnixNano()))
		if _, err := journal.Write(now); err != nil {
			panic(err)
		}
		if i%120 == 0 { // A chunk is full.
			c.db.db.ForceHeadMMap()
		}
		if in.Compact > 0 && i%in.Compact == 0 {
			select {
			case rounds <- struct{}{}:
			default: // One still runs.
			}
		}
		select {
		case <-c.pause:
			return
		case <-time.After(max(in.Every, 2*time.Millisecond)):
		}
	}
}

func (c *child) compactions(rounds <-chan struct{}) {
	defer close(c.paused)
	for range rounds {
		if err := c.db.db.Compact(context.Background()); err != nil {
			panic(err)
		}
	}
}

// Pause ends Ingest, and compactions.
func (c *child) Pause(none, *none) error {
	close(c.pause)
	<-c.paused
	return nil
}

func (c *child) commit(i int) error {
	app := c.db.db.Appender(context.Background())
	for _, kind := range ingested {
		for n := range kind.series {
			if err := appendIngested(app, kind.name, n, i, kind.late); err != nil {
				return err
			}
		}
	}
	return app.Commit()
}

func appendIngested(app storage.Appender, name string, n, i int, withLate bool) (err error) {
	pairs := []string{labels.MetricName, name, "n", fmt.Sprint(n)}
	t := int64(i) * 1000
	switch name {
	case "ingested_histogram":
		h := &histogram.Histogram{
			Count: uint64(i), Sum: float64(i), PositiveSpans: []histogram.Span{{Length: 1}}, PositiveBuckets: []int64{int64(i)},
		}
		_, err = app.AppendHistogram(0, labels.FromStrings(pairs...), t, h, nil)
		return err
	case "ingested_churn":
		pairs = append(pairs, "generation", fmt.Sprint((i+n*generation/20)/generation))
	}
	series := labels.FromStrings(pairs...)
	if _, err = app.Append(0, series, t, float64(i)); err == nil && withLate && i >= late {
		_, err = app.Append(0, series, t-late*1000+500, float64(i))
	}
	return err
}

// Commits are consecutive commits; To is not included.
type Commits struct{ From, To int }

// Held are the commits of which all series have samples. Some series may have more: a commit has a record for each kind
// of sample, and one may be there without the next. A compaction in the middle of a commit puts the late samples that it
// finds into a block; the others may be lost with a leader that was cut off.
type Held struct{ InOrder, Late []Commits }

// Held reads all samples. A value that was not committed is an error, and so are in-order samples of more than one
// commit that only some series have.
func (c *child) Held(_ none, held *Held) error {
	querier, err := c.db.db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	defer querier.Close()
	all := labels.MustNewMatcher(labels.MatchRegexp, labels.MetricName, "ingested.*")
	set := querier.Select(context.Background(), true, nil, all)
	of := map[string]Held{} // By name and number: generations follow each other.
	for set.Next() {
		one, err := heldOf(set.At())
		if err != nil {
			return err
		}
		key := set.At().Labels().Get(labels.MetricName) + " " + set.At().Labels().Get("n")
		one.InOrder = append(one.InOrder, of[key].InOrder...)
		of[key] = one
	}
	if err := set.Err(); err != nil {
		return err
	}
	*held = of["ingested 0"]
	most := 0
	for _, kind := range ingested {
		for n := range kind.series {
			one := of[fmt.Sprint(kind.name, " ", n)]
			one.InOrder = inARow(one.InOrder)
			most = max(most, number(one.InOrder))
			held.InOrder = inBoth(inARow(held.InOrder), one.InOrder)
			if kind.late {
				held.Late = inBoth(held.Late, one.Late)
			}
		}
	}
	if most > number(held.InOrder)+1 {
		return fmt.Errorf("all have %v, and some %d commits", held.InOrder, most)
	}
	return nil
}

func number(list []Commits) (sum int) {
	for _, c := range list {
		sum += c.To - c.From
	}
	return sum
}

func heldOf(series storage.Series) (held Held, err error) {
	it := series.Iterator(nil)
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		t, v := it.AtT(), 0.0
		if kind == chunkenc.ValFloat {
			_, v = it.At()
		} else {
			_, h := it.AtFloatHistogram(nil)
			v = h.Sum
		}
		i, list := int(t/1000), &held.InOrder
		if t%1000 != 0 {
			i, list = i+late, &held.Late
		}
		if v != float64(i) {
			return held, fmt.Errorf("%s has %g at %d", series.Labels(), v, t)
		}
		if n := len(*list); n > 0 && (*list)[n-1].To == i {
			(*list)[n-1].To++
		} else {
			*list = append(*list, Commits{i, i + 1})
		}
	}
	return held, it.Err()
}

// inBoth returns the commits that are in both lists.
func inBoth(a, b []Commits) (out []Commits) {
	for _, x := range a {
		for _, y := range b {
			if c := (Commits{max(x.From, y.From), min(x.To, y.To)}); c.From < c.To {
				out = append(out, c)
			}
		}
	}
	return out
}

// inARow joins the ranges that follow each other.
func inARow(list []Commits) (out []Commits) {
	slices.SortFunc(list, func(a, b Commits) int { return a.From - b.From })
	for _, c := range list {
		if n := len(out); n > 0 && out[n-1].To == c.From {
			out[n-1].To = c.To
		} else {
			out = append(out, c)
		}
	}
	return out
}
