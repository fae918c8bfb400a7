// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// deaths are the ways in which a Prometheus ends in the middle of its commits. leave returns the data directory that is
// left; older is a copy of the directory from a moment before.
var deaths = []struct {
	name  string
	leave func(t *testing.T, dir, older string) string
}{
	{"kill -9", func(_ *testing.T, dir, _ string) string { return dir }},
	{"power cut", func(t *testing.T, dir, _ string) string {
		cutAnywhere(t, filepath.Join(dir, "wal"))
		cutAnywhere(t, filepath.Join(dir, "wbl"))
		return dir
	}},
	{"older copy", func(_ *testing.T, _, older string) string { return older }},
}

// cutAnywhere makes the newest segment of a log shorter, to any length, or makes zeros of its end.
func cutAnywhere(t *testing.T, dir string) {
	t.Helper()
	segments, err := filepath.Glob(filepath.Join(dir, "[0-9]*"))
	require.NoError(t, err)
	if len(segments) == 0 {
		return
	}
	last := slices.Max(segments)
	info, err := os.Stat(last)
	require.NoError(t, err)
	require.NoError(t, os.Truncate(last, rand.Int64N(info.Size()+1)))
	if rand.IntN(2) == 0 {
		require.NoError(t, os.Truncate(last, info.Size()))
	}
}

// places are where the next Prometheus starts.
var places = []struct {
	name string
	make func(t *testing.T, left string) string
}{
	{"the same directory", func(_ *testing.T, left string) string { return left }},
	{"a copy", func(t *testing.T, left string) string {
		dir := t.TempDir()
		require.NoError(t, os.CopyFS(dir, os.DirFS(left)))
		return dir
	}},
	{"an empty directory", func(t *testing.T, _ string) string { return t.TempDir() }},
}

// However a Prometheus ends, and wherever the next one starts, nothing is lost that remote memory had acknowledged. Each
// round continues the timeline of the one before.
func TestRounds__nothing_is_lost_that_remote_memory_acknowledged(t *testing.T) {
	for _, fallback := range []bool{true, false} {
		t.Run(fmt.Sprintf("fallback %t", fallback), func(t *testing.T) {
			t.Parallel()
			rounds := 10
			if inLongRun() {
				rounds = 100
			}
			runRounds(t, fallback, rounds)
		})
	}
}

func runRounds(t *testing.T, fallback bool, rounds int) {
	server := maastest.Start(t, "--max-pool-size", "1GiB")
	config := ChildConfig{
		Dir: t.TempDir(), URL: server.URL, Owner: "rounds", Fallback: fallback, Transport: maastest.Transport(), CacheSize: 2 << 20,
	}
	journal := filepath.Join(t.TempDir(), "journal")
	ours, err := startProcess(t, config)
	require.NoError(t, err)
	next := 0
	for round := range rounds {
		// All pairs of a death and a place occur, in any order.
		death, place := deaths[(round+round/len(places))%len(deaths)], places[round%len(places)]
		what := fmt.Sprintf("round %d: %s, %s", round, death.name, place.name)
		require.NoError(t, ours.Call("child.Ingest", Ingestion{From: next, Journal: journal}, new(none)), what)
		time.Sleep(500*time.Millisecond + rand.N(time.Second))
		older := copyAlive(t, config.Dir)
		time.Sleep(500*time.Millisecond + rand.N(time.Second))
		acknowledged := time.Now().Add(-time.Duration(ours.metrics(t)["wal_lag_seconds"] * float64(time.Second)))
		ours.kill()

		committed := readJournal(t, journal)
		kept := 0
		for kept < len(committed) && committed[kept].Before(acknowledged) {
			kept++
		}
		left := []string{config.Dir, older}
		config.Dir = place.make(t, death.leave(t, config.Dir, older))
		for _, dir := range left { // A hundred of them would take 20 GB.
			if dir != config.Dir {
				require.NoError(t, os.RemoveAll(dir))
			}
		}
		ours, err = startProcess(t, config)
		require.NoError(t, err, what)
		require.Equal(t, 1.0, ours.metrics(t)["up"], what)
		var held Held
		require.NoError(t, ours.Call("child.Held", none{}, &held), what)
		t.Logf("%s: %d commits, %d acknowledged, %d there", what, next+len(committed), next+kept, end(held.InOrder))
		require.Len(t, held.InOrder, 1, what)
		require.Zero(t, held.InOrder[0].From, what)
		require.GreaterOrEqual(t, end(held.InOrder), next+kept, what)
		if first := max(next, late); next+kept > first {
			require.GreaterOrEqual(t, endFrom(held.Late, first), next+kept, what)
		}
		next = end(held.InOrder)
	}
	require.NoError(t, ours.Close())
}

// copyAlive copies a data directory that is in use: meanwhile files may grow or disappear.
func copyAlive(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	for _, sub := range []string{"wal", "wbl", "chunks_head", "maas.json"} {
		paths := []string{filepath.Join(from, sub)}
		if sub != "maas.json" {
			var err error
			paths, err = filepath.Glob(filepath.Join(from, sub, "[0-9]*"))
			require.NoError(t, err)
			require.NoError(t, os.MkdirAll(filepath.Join(to, sub), 0o777))
		}
		for _, path := range paths {
			b, err := os.ReadFile(path)
			if os.IsNotExist(err) {
				continue
			}
			require.NoError(t, err)
			name, err := filepath.Rel(from, path)
			require.NoError(t, err)
			require.NoError(t, os.WriteFile(filepath.Join(to, name), b, 0o600))
		}
	}
	return to
}
