// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/labels"
	"github.com/prometheus/prometheus/storage"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"maas/client/prometheus/maastest"
)

const (
	ingestSeries = 200
	// A commit has sample i of each series, at i seconds, and one that comes late, for half a second
	// after the sample of so many commits ago.
	late = 600
	// mayBeLost is how long before its death a database's last commits may be gone.
	mayBeLost = time.Second
)

// Ingestion says what a child commits, until it is killed.
type Ingestion struct {
	From    int    // The first commit.
	Journal string // Gets the time of each commit once it is made, in nanoseconds.
}

// Ingest commits from now on, while other calls are answered.
func (c *child) Ingest(in Ingestion, _ *none) error {
	journal, err := os.OpenFile(in.Journal, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	go func() {
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
			time.Sleep(2 * time.Millisecond)
		}
	}()
	return nil
}

func (c *child) commit(i int) error {
	app := c.db.db.Appender(context.Background())
	for n := range ingestSeries {
		series := labels.FromStrings(labels.MetricName, "ingested", "n", fmt.Sprint(n))
		if _, err := app.Append(0, series, int64(i)*1000, float64(i)); err != nil {
			return err
		}
		if i < late {
			continue
		}
		if _, err := app.Append(0, series, int64(i-late)*1000+500, float64(i)); err != nil {
			return err
		}
	}
	return app.Commit()
}

// Commits are numbers of commits in a row, the end exclusive.
type Commits struct{ From, To int }

// Held is what each series has samples of.
type Held struct{ InOrder, Late []Commits }

// Held reads all samples. That series differ, or that a value is not what was committed, is an error.
func (c *child) Held(_ none, held *Held) error {
	querier, err := c.db.db.Querier(math.MinInt64, math.MaxInt64)
	if err != nil {
		return err
	}
	defer querier.Close()
	all := labels.MustNewMatcher(labels.MatchEqual, labels.MetricName, "ingested")
	set := querier.Select(context.Background(), true, nil, all)
	series := 0
	for ; set.Next(); series++ {
		one, err := heldOf(set.At())
		if err != nil {
			return err
		}
		if series == 0 {
			*held = one
		} else if !slices.Equal(one.InOrder, held.InOrder) || !slices.Equal(one.Late, held.Late) {
			return fmt.Errorf("%s has %v, another series %v", set.At().Labels(), one, *held)
		}
	}
	if series != ingestSeries {
		return fmt.Errorf("%d series instead of %d", series, ingestSeries)
	}
	return set.Err()
}

func heldOf(series storage.Series) (held Held, err error) {
	it := series.Iterator(nil)
	for it.Next() == chunkenc.ValFloat {
		t, v := it.At()
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

// A Prometheus dies in the middle of its commits, with its disk; another one on an empty directory has
// all of them from the first one on, up to a moment before the death. That one dies, too.
func TestTakeOver__in_the_middle_of_ingestion_loses_the_last_moment_alone(t *testing.T) {
	for name, fallback := range map[string]bool{"mirror": true, "remote": false} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			takeOverAndOver(t, fallback)
		})
	}
}

func takeOverAndOver(t *testing.T, fallback bool) {
	rounds := 2
	if inLongRun() {
		rounds = 10
	}
	server := maastest.Start(t, "--max-pool-size", "512MiB")
	config := ChildConfig{
		URL: server.URL, Owner: "taken-over", Fallback: fallback, Transport: maastest.Transport(), CacheSize: 2 << 20,
	}
	journal := filepath.Join(t.TempDir(), "journal")
	var want Held
	next := 0
	for range rounds {
		config.Dir = t.TempDir()
		ours, err := startProcess(t, config)
		require.NoError(t, err)
		require.NoError(t, ours.Call("child.Ingest", Ingestion{next, journal}, new(none)))
		time.Sleep(3*time.Second + rand.N(2*time.Second))
		death := time.Now()
		ours.kill()
		require.NoError(t, os.RemoveAll(config.Dir))

		config.Dir = t.TempDir()
		successor, err := startProcess(t, config)
		require.NoError(t, err)
		var held Held
		require.NoError(t, successor.Call("child.Held", none{}, &held))
		require.NoError(t, successor.Close())

		committed := readJournal(t, journal)
		inOrder, outOfOrder, first := end(held.InOrder), end(held.Late), max(next, late)
		logged := endFrom(held.Late, first)
		t.Logf("%d commits; the last %s and, of late samples, the last %s are lost", next+len(committed),
			lostTime(committed, inOrder-next, death), lostTime(committed, logged-next, death))
		require.LessOrEqual(t, max(inOrder, outOfOrder), next+len(committed)+1)
		want.InOrder = []Commits{{0, inOrder}}
		want.Late = joined(want.Late, Commits{first, logged})
		require.LessOrEqual(t, outOfOrder, inOrder, "a late sample is not there before its commit")
		require.Equal(t, want, held)
		if inLongRun() {
			kept := sort.Search(len(committed), func(i int) bool { return committed[i].After(death.Add(-mayBeLost)) })
			require.GreaterOrEqual(t, inOrder, next+kept)
			require.GreaterOrEqual(t, logged, next+kept)
		}
		next = inOrder
	}
}

func end(list []Commits) int {
	if len(list) == 0 {
		return 0
	}
	return list[len(list)-1].To
}

// endFrom is where those end that are there from a commit on; that one where it is not.
func endFrom(list []Commits, from int) int {
	for _, c := range list {
		if c.From <= from && from < c.To {
			return c.To
		}
	}
	return from
}

// joined is a list with one more at its end, of which the list may have the beginning.
func joined(list []Commits, c Commits) []Commits {
	if c.From >= c.To {
		return list
	}
	if n := len(list); n > 0 && list[n-1].To >= c.From {
		list[n-1].To = max(list[n-1].To, c.To)
		return list
	}
	return append(list, c)
}

func readJournal(t *testing.T, path string) (times []time.Time) {
	t.Helper()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for ; len(b) >= 8; b = b[8:] {
		times = append(times, time.Unix(0, int64(binary.LittleEndian.Uint64(b))))
	}
	return times
}

// lostTime is how long before the death the first commit was made that is lost.
func lostTime(committed []time.Time, kept int, death time.Time) time.Duration {
	if kept = max(kept, 0); kept >= len(committed) {
		return 0
	}
	return death.Sub(committed[kept])
}
