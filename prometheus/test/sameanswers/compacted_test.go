// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"fmt"
	"maps"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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
	compactions := 3
	if inLongRun() {
		compactions = 12
	}
	s := newScene(t, smallerSize(t), fallback, func(c *Config, child *ChildConfig) {
		c.InOrder, child.InOrder, child.Blocks = inOrder, inOrder, "off"
	})
	// The head is compacted when it spans one and a half blocks: at 3 h, 5 h, and so on.
	s.feed(time.Duration(2*compactions+1)*time.Hour + 20*time.Minute)
	s.inUse()
	begin := start + int64(2*compactions)*time.Hour.Milliseconds()
	for round := range 2 {
		s.ours.kill()
		s.config.Dir = t.TempDir()
		s.start()
		s.wholeFrom(begin, fmt.Sprintf("after take-over %d", round+1))
		s.stop()
		s.start()
		s.wholeFrom(begin, fmt.Sprintf("at the next start after take-over %d", round+1))
		s.feed(during)
		s.inUse()
	}
	s.wholeFrom(begin, "in the end")
}

// wholeFrom wants everything that was fed from a time on, and before that time only late samples: those that no block
// had yet are older than the head.
func (s *scene) wholeFrom(begin int64, when string) {
	s.t.Helper()
	want, got, err := both(s.stock, s.ours, func(d Subject) (Digest, error) { return d.Samples(begin) })
	require.NoError(s.t, err)
	isLate := func(series string, _ SeriesDigest) bool { return strings.Contains(series, `"late_total"`) }
	maps.DeleteFunc(want, isLate)
	maps.DeleteFunc(got, isLate)
	require.NotEmpty(s.t, want)
	require.NoError(s.t, compareDigests(want, got), when)

	all, err := s.ours.Samples(math.MinInt64)
	require.NoError(s.t, err)
	for series, d := range all {
		if !isLate(series, d) {
			require.GreaterOrEqual(s.t, d.First, begin, "%s: %s: %s", when, series, d)
		}
	}
}
