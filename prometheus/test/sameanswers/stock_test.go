// SPDX-License-Identifier: Apache-2.0

package sameanswers

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

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

// TestStockAgainstStock shows that the load, the queries and their rendering are deterministic, so that later
// differences have other causes.
func TestStockAgainstStock(t *testing.T) {
	s := smallerSize(t)
	a, b := open(t, s.config(t)), open(t, s.config(t))
	for _, upTo := range []int{StepsIn(150 * time.Minute), s.steps} {
		require.NoError(t, feed(a, b, upTo))
		requireSame(t, a, b, "two stock databases")
	}
	requireNotEmpty(t, a)
}

// requireNotEmpty wants no answer to be empty: two empty answers are always equal.
func requireNotEmpty(t *testing.T, s Subject) {
	t.Helper()
	require.GreaterOrEqual(t, len(Queries()), 60)
	answers, err := s.Answers(Queries())
	require.NoError(t, err)
	var empties []string
	for i, q := range Queries() {
		empty := bytes.Contains(answers[i].JSON, []byte(`"result":[]`)) ||
			!bytes.Contains(answers[i].JSON, []byte(`"data":`))
		if empty {
			empties = append(empties, q.String())
		}
	}
	require.Empty(t, empties)
}
