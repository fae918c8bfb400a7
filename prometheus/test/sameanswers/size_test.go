// SPDX-License-Identifier: Apache-2.0

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

// smallerSize is for tests that need no more: in a short run, a quarter of the series.
func smallerSize(t *testing.T) size {
	t.Helper()
	s := runSize(t)
	if !inLongRun() {
		s.series = min(s.series, 500)
	}
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
	s := size{seed: uint64(time.Now().UnixNano()), series: 2_000, steps: StepsIn(6 * time.Hour)}
	if inLongRun() {
		s.series = 20_000
	}
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
