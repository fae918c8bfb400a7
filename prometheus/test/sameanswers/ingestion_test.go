// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"slices"
	"strconv"
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
		pairs = append(pairs, "generation", generationOf(i, n))
	}
	series := labels.FromStrings(pairs...)
	if _, err = app.Append(0, series, t, float64(i)); err == nil && withLate && i >= late {
		_, err = app.Append(0, series, t-late*1000+500, float64(i))
	}
	return err
}

// generationOf is the generation of a series at a commit.
func generationOf(i, n int) string { return fmt.Sprint((i + n*generation/20) / generation) }

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
	inOrder, lateOnes := map[int]int{}, map[int]int{} // How many series have a commit.
	for set.Next() {
		if err := countCommits(set.At(), inOrder, lateOnes); err != nil {
			return err
		}
	}
	series, withLate := 0, 0
	for _, kind := range ingested {
		series += kind.series
		if kind.late {
			withLate += kind.series
		}
	}
	var some int
	held.Late, _ = ofAll(lateOnes, withLate)
	if held.InOrder, some = ofAll(inOrder, series); some > 1 {
		err = fmt.Errorf("all have %v, and some have %d other commits", held.InOrder, some)
	}
	return errors.Join(set.Err(), err)
}

// ofAll are the commits that all series have, and how many others there are.
func ofAll(counts map[int]int, series int) (list []Commits, some int) {
	for _, i := range slices.Sorted(maps.Keys(counts)) {
		switch n := len(list); {
		case counts[i] != series:
			some++
		case n > 0 && list[n-1].To == i:
			list[n-1].To++
		default:
			list = append(list, Commits{i, i + 1})
		}
	}
	return list, some
}

// countCommits adds a series' samples. It counts no commit twice for one series: no time comes twice, and each sample
// is in its own generation.
func countCommits(series storage.Series, inOrder, lateOnes map[int]int) error {
	n, _ := strconv.Atoi(series.Labels().Get("n"))
	of := series.Labels().Get("generation")
	it := series.Iterator(nil)
	for kind := it.Next(); kind != chunkenc.ValNone; kind = it.Next() {
		t, v := it.AtT(), 0.0
		if kind == chunkenc.ValFloat {
			_, v = it.At()
		} else {
			_, h := it.AtFloatHistogram(nil)
			v = h.Sum
		}
		i, counts := int(t/1000), inOrder
		if t%1000 != 0 {
			i, counts = i+late, lateOnes
		}
		if v != float64(i) || of != "" && of != generationOf(i, n) {
			return fmt.Errorf("%s has %g at %d", series.Labels(), v, t)
		}
		counts[i]++
	}
	return it.Err()
}
