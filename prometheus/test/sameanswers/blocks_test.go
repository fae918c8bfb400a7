// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"fmt"
	"maps"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// A Prometheus whose head was compacted several times dies with its disk. Its successor has every sample of head and
// blocks once the blocks are back. So has the successor's next start, and so has the successor's own successor.
func TestTakeOver__after_head_compactions_has_every_sample_once_blocks_are_back(t *testing.T) {
	inBothModes(t, func(t *testing.T, fallback bool) {
		t.Parallel()
		compactions := longer(4, 12) // Three blocks are compacted into one.
		s := newScene(t, smallerSize(t), fallback, withBlocks)
		s.feedThrough(3*time.Hour + 20*time.Minute)
		s.delete("temperature_celsius")
		s.feed(time.Duration(2*compactions-2) * time.Hour)
		for round := range 2 {
			s.blocksAreThere()
			s.takeOver()
			s.ours.blocksAreBack(s.t)
			s.sameSamples(fmt.Sprintf("after take-over %d", round+1))
			if round == 0 {
				s.sameAtInstants(start+int64(2*compactions)*time.Hour.Milliseconds(), "after the take-over")
			}
			s.restart()
			s.sameSamples(fmt.Sprintf("at the next start after take-over %d", round+1))
			s.feed(time.Hour)
		}
		s.sameSamples("in the end")
		require.NoError(t, CompareBlocks(s.stock, s.ours))
	})
}

// Samples that left the head are in a block. Until that block is in remote memory, they stay in the log there.
func TestTakeOver__at_any_moment_of_a_head_compaction_loses_nothing(t *testing.T) {
	s := newScene(t, smallerSize(t), true, withBlocks)
	s.feed(2*time.Hour + 55*time.Minute)
	for range 3 {
		s.inUse()
		s.feed(6 * time.Minute) // The head is compacted at its end.
		maastest.Eventually(t, "the log is there", func() bool { return s.ours.metrics(t)["wal_lag_seconds"] < 1 })
		s.takeOver()
		s.ours.blocksAreBack(s.t)
		s.sameSamples("after the take-over")
		s.feed(114 * time.Minute)
	}
}

// sameSamples wants every sample and every answer equal. There may be more names and values of labels: a head that
// replayed its log, stock or ours, knows series without samples.
func (s *scene) sameSamples(when string) {
	queries := slices.DeleteFunc(Queries(), func(q Query) bool { return q.About != "" && q.About != aboutSeries })
	require.NoError(s.t, CompareAnswers(s.stock, s.ours, queries), when)
	require.NoError(s.t, CompareSamples(s.stock, s.ours), when)
}

// sameAtInstants asks all queries again at many instants: from the first sample to the last, and around the beginning
// of the head.
func (s *scene) sameAtInstants(begin int64, when string) {
	now := endOfStep(s.config.Fed - 1)
	instants := []int64{begin - 1, begin, begin + 1, begin - time.Minute.Milliseconds(), begin + time.Minute.Milliseconds()}
	for i := range int64(19) {
		instants = append(instants, start+(now-start)*i/19)
	}
	var queries []Query
	for _, q := range Queries() {
		if q.Span != 0 && !inLongRun() || q.About != "" {
			continue
		}
		for _, at := range instants {
			q.Ago = time.Duration(now-at) * time.Millisecond
			queries = append(queries, q)
		}
	}
	require.NoError(s.t, CompareAnswers(s.stock, s.ours, queries), when)
}

// blocksAreThere waits until remote memory has all, and samples in blocks have left the log there.
func (s *scene) blocksAreThere() {
	s.inUse()
	maastest.Eventually(s.t, "remote memory has the blocks", func() bool {
		m := s.ours.metrics(s.t)
		return m["blocks_pending_bytes"] == 0 && m["takeover_oldest_timestamp_seconds"] == float64(start)/1000
	})
	s.inUse()
}

// A Prometheus whose head was compacted several times dies with its disk, and its blocks are nowhere else. Its
// successor has each range of time as a whole or not at all. So has the successor's next start, and so has the
// successor's own successor.
func TestTakeOver__after_head_compactions_has_a_range_whole_or_not_at_all(t *testing.T) {
	for _, fallback := range []bool{true, false} {
		for _, inOrder := range []bool{false, true} {
			t.Run(fmt.Sprintf("fallback %t, in order %t", fallback, inOrder), func(t *testing.T) {
				t.Parallel()
				takeOverAfterCompactions(t, fallback, inOrder)
			})
		}
	}
}

func takeOverAfterCompactions(t *testing.T, fallback, inOrder bool) {
	compactions := longer(3, 12)
	s := newScene(t, smallerSize(t), fallback, withoutBlocks, func(child *ChildConfig) { child.InOrder = inOrder })
	// The head is compacted when it spans one and a half blocks: at 3 h, 5 h, and so on.
	s.feedThrough(time.Duration(2*compactions+1)*time.Hour + 20*time.Minute)
	begin := start + int64(2*compactions)*time.Hour.Milliseconds()
	for round := range 2 {
		s.takeOver()
		s.wholeFrom(begin, fmt.Sprintf("after take-over %d", round+1))
		s.restart()
		s.wholeFrom(begin, fmt.Sprintf("at the next start after take-over %d", round+1))
		s.feedThrough(during)
	}
	s.wholeFrom(begin, "in the end")
}

func withoutBlocks(child *ChildConfig) { child.Blocks = "off" }

// wholeFrom wants everything that was fed from a time on, and before that time only late samples: those that no block
// had yet are older than the head.
func (s *scene) wholeFrom(begin int64, when string) {
	want, got, err := both(s.stock, s.ours, func(d Subject) (Digest, error) { return d.Samples(begin) })
	require.NoError(s.t, err)
	isLate := func(series string, _ SeriesDigest) bool { return strings.Contains(series, `"late_total"`) }
	maps.DeleteFunc(want, isLate)
	maps.DeleteFunc(got, isLate)
	require.NotEmpty(s.t, want)
	require.NoError(s.t, compareDigests(want, got), when)

	for series, d := range maastest.Must(s.ours.Samples(math.MinInt64))(s.t) {
		if !isLate(series, d) {
			require.GreaterOrEqual(s.t, d.First, begin, "%s: %s: %s", when, series, d)
		}
	}
}
