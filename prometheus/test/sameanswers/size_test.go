// SPDX-License-Identifier: Apache-2.0

// What the tests need to compare a stock database with ours.

package sameanswers

import (
	"errors"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// size is how much a run feeds.
type size struct {
	seed   uint64
	series int
	steps  int
}

// inLongRun says whether this run has every fault, at the full size.
func inLongRun() bool {
	return os.Getenv("MAAS_LONG") != ""
}

// longer is how much of something a short run has, and a long one.
func longer(short, long int) int {
	if inLongRun() {
		return long
	}
	return short
}

// smallerSize is for tests that need no more: in a short run, a quarter of the series.
func smallerSize(t *testing.T) size {
	t.Helper()
	s := runSize(t)
	s.series = min(s.series, longer(500, s.series))
	return s
}

// feed gives both databases the load up to a step, side by side.
func feed(stock, ours Subject, upTo int) error {
	fed := make(chan error, 1)
	go func() { fed <- stock.Feed(upTo) }()
	return errors.Join(ours.Feed(upTo), <-fed)
}

// runSize is the size of a short run or, with MAAS_LONG=1, of a long one. MAAS_SEED repeats a run.
func runSize(t *testing.T) size {
	t.Helper()
	s := size{seed: uint64(time.Now().UnixNano()), series: longer(2_000, 20_000), steps: StepsIn(6 * time.Hour)}
	if text := os.Getenv("MAAS_SEED"); text != "" {
		seed, err := strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "MAAS_SEED")
		s.seed = seed
	}
	if testing.Short() {
		s.series = 400
	}
	t.Logf("%d series, %d steps of %s; repeat with MAAS_SEED=%d", s.series, s.steps, Interval, s.seed)
	return s
}

func (s size) config(t *testing.T) Config {
	return Config{Dir: t.TempDir(), Seed: s.seed, Series: s.series}
}

func open(t *testing.T, c Config) *DB {
	t.Helper()
	db, err := Open(c)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// requireSame wants equal answers, equal samples and equal blocks.
func requireSame(t *testing.T, stock, ours Subject, when string) {
	t.Helper()
	require.NoError(t, CompareAnswers(stock, ours, Queries()), when)
	require.NoError(t, CompareSamples(stock, ours), when)
	require.NoError(t, CompareBlocks(stock, ours), when)
}
