// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// A Prometheus whose head was compacted several times dies with its disk. Its successor has every sample of head and
// blocks once the blocks are back. So has the successor's next start, and so has the successor's own successor.
func TestTakeOver__after_head_compactions_has_every_sample_once_blocks_are_back(t *testing.T) {
	for _, fallback := range []bool{true, false} {
		t.Run(fmt.Sprintf("fallback %t", fallback), func(t *testing.T) {
			t.Parallel()
			takeOverWithBlocks(t, fallback)
		})
	}
}

func takeOverWithBlocks(t *testing.T, fallback bool) {
	compactions := 4 // Three blocks are compacted into one.
	if inLongRun() {
		compactions = 12
	}
	s := newScene(t, smallerSize(t), fallback, func(_ *Config, child *ChildConfig) { child.Blocks = "256MB" })
	s.feed(3*time.Hour + 20*time.Minute)
	s.inUse()
	require.NoError(t, s.stock.Delete("temperature_celsius"))
	require.NoError(t, s.ours.Call("child.Delete", "temperature_celsius", new(none)))
	s.feed(time.Duration(2*compactions-2) * time.Hour)
	for round := range 2 {
		s.inUse()
		s.blocksAreThere()
		s.inUse() // Samples in blocks have left the log.
		s.ours.kill()
		s.config.Dir = t.TempDir()
		s.start()
		s.blocksAreBack()
		s.sameSamples(fmt.Sprintf("after take-over %d", round+1))
		if round == 0 {
			s.sameAtInstants(start+int64(2*compactions)*time.Hour.Milliseconds(), "after the take-over")
		}
		s.stop()
		s.start()
		s.sameSamples(fmt.Sprintf("at the next start after take-over %d", round+1))
		s.feed(time.Hour)
	}
	s.sameSamples("in the end")
	require.NoError(t, CompareBlocks(s.stock, s.ours))
}

// Samples that left the head are in a block. Until that block is in remote memory, they stay in the log there.
func TestTakeOver__at_any_moment_of_a_head_compaction_loses_nothing(t *testing.T) {
	s := newScene(t, smallerSize(t), true, func(_ *Config, child *ChildConfig) { child.Blocks = "256MB" })
	s.feed(2*time.Hour + 55*time.Minute)
	for range 3 {
		s.inUse()
		s.feed(6 * time.Minute) // The head is compacted at its end.
		maastest.Eventually(t, "the log is there", func() bool { return s.ours.metrics(t)["wal_lag_seconds"] < 1 })
		s.ours.kill()
		s.config.Dir = t.TempDir()
		s.start()
		s.blocksAreBack()
		s.sameSamples("after the take-over")
		s.feed(114 * time.Minute)
	}
}

// sameSamples wants every sample and every answer equal. There may be more names and values of labels: a head that
// replayed its log, stock or ours, knows series without samples.
func (s *scene) sameSamples(when string) {
	s.t.Helper()
	queries := slices.DeleteFunc(Queries(), func(q Query) bool { return q.About != "" && q.About != aboutSeries })
	require.NoError(s.t, CompareAnswers(s.stock, s.ours, queries), when)
	require.NoError(s.t, CompareSamples(s.stock, s.ours), when)
}

// sameAtInstants asks all queries again at many instants: from the first sample to the last, and around the beginning
// of the head.
func (s *scene) sameAtInstants(begin int64, when string) {
	s.t.Helper()
	now := endOfStep(s.fed - 1)
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

func (s *scene) blocksAreThere() {
	s.t.Helper()
	maastest.Eventually(s.t, "remote memory has the blocks", func() bool {
		m := s.ours.metrics(s.t)
		return m["blocks_pending_bytes"] == 0 && m["takeover_oldest_timestamp_seconds"] == float64(start)/1000
	})
}

func (s *scene) blocksAreBack() {
	s.t.Helper()
	maastest.Eventually(s.t, "blocks are back", func() bool {
		returning := true
		require.NoError(s.t, s.ours.Call("child.Returning", none{}, &returning))
		return !returning
	})
}
