// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sort"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// mayBeLost is how much of the time before its death a database may lose.
const mayBeLost = time.Second

// A Prometheus dies with its disk in the middle of its commits. Another one, on an empty directory, has all commits up
// to a moment before the death. Then that one dies, too.
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
		require.NoError(t, ours.Call("child.Ingest", Ingestion{From: next, Journal: journal}, new(none)))
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

// endFrom is the end of the range that contains the commit from; from itself where none does.
func endFrom(list []Commits, from int) int {
	for _, c := range list {
		if c.From <= from && from < c.To {
			return c.To
		}
	}
	return from
}

// joined is the list with a range added at its end; the two may overlap.
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

// lostTime is the time from the first lost commit to the death.
func lostTime(committed []time.Time, kept int, death time.Time) time.Duration {
	if kept = max(kept, 0); kept >= len(committed) {
		return 0
	}
	return death.Sub(committed[kept])
}
