// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
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
	inBothModes(t, runRounds)
}

// newRounds starts a server, and says how a database of it begins.
func newRounds(t *testing.T, fallback bool) (*maastest.Server, ChildConfig) {
	server := maastest.Start(t, "--max-pool-size", "1GiB")
	return server, ChildConfig{
		Config: Config{Dir: t.TempDir()}, URL: server.URL, Owner: "rounds", Fallback: fallback, Transport: maastest.Transport(), CacheSize: 2 << 20,
	}
}

func runRounds(t *testing.T, fallback bool) {
	t.Parallel()
	_, config := newRounds(t, fallback)
	journal := filepath.Join(t.TempDir(), "journal")
	ours, err := startProcess(t, config)
	require.NoError(t, err)
	var commits timeline
	for round := range longer(10, 100) {
		// All pairs of a death and a place occur, in any order.
		how, place := deaths[(round+round/len(places))%len(deaths)], places[round%len(places)]
		what := fmt.Sprintf("round %d: %s, %s", round, how.name, place.name)
		require.NoError(t, ours.Call("child.Ingest", Ingestion{From: commits.next, Journal: journal}, new(none)), what)
		time.Sleep(500*time.Millisecond + rand.N(time.Second))
		older := copyAlive(t, config.Dir)
		time.Sleep(500*time.Millisecond + rand.N(time.Second))
		acknowledged := time.Now().Add(-time.Duration(ours.metrics(t)["wal_lag_seconds"] * float64(time.Second)))
		death := time.Now()
		ours.kill()

		left := []string{config.Dir, older}
		config.Dir = place.make(t, how.leave(t, config.Dir, older))
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
		if inLongRun() && death.Add(-mayBeLost).After(acknowledged) {
			acknowledged = death.Add(-mayBeLost)
		}
		committed := readJournal(t, journal)
		require.LessOrEqual(t, end(held.InOrder), commits.next+len(committed)+1, what)
		require.LessOrEqual(t, end(held.Late), end(held.InOrder), "%s: a late sample is not there before its commit", what)
		commits.goOn(t, held, committed, acknowledged, death, what)
		require.Equal(t, commits.want, held, what)
	}
	require.NoError(t, ours.Close())
}

// Compactions follow each other within a look at the log: the late samples in between were in a segment that lived only
// for a moment. The next Prometheus, elsewhere, has them, also where no block is in remote memory yet.
func TestRounds__late_samples_that_were_compacted_at_once(t *testing.T) {
	inBothModes(t, compactAtOnce)
}

func compactAtOnce(t *testing.T, fallback bool) {
	_, config := newRounds(t, fallback)
	config.BlockDuration = 2 * time.Minute
	ours, err := startProcess(t, config)
	require.NoError(t, err)
	next := 700
	require.NoError(t, ours.Call("child.CommitAll", Commits{0, next}, new(none)))
	for range 5 {
		require.NoError(t, ours.Call("child.CommitAll", Commits{next, next + 120}, new(none)))
		require.NoError(t, ours.Call("child.Compact", none{}, new(none)))
		next += 120 // A block.
	}
	require.NoError(t, ours.Close())
	config.Dir = t.TempDir()
	ours, err = startProcess(t, config)
	require.NoError(t, err)
	require.Equal(t, Held{[]Commits{{0, next}}, []Commits{{late, next}}}, ours.held(t))
	require.NoError(t, ours.Close())
}

// BeginLate does the first thing of a compaction of late samples: it makes chunks of those that are in none.
func (c *child) BeginLate(none, *none) error {
	_, err := tsdb.NewOOOCompactionHead(context.Background(), c.db.TSDB().Head())
	return err
}

// A compaction of late samples has begun when the process dies, and its chunks are lost with the server's memory. The log
// has all samples, whatever its markers say of chunks.
func TestRounds__late_samples_of_a_compaction_that_has_begun(t *testing.T) {
	inBothModes(t, beginCompaction)
}

func beginCompaction(t *testing.T, fallback bool) {
	server, config := newRounds(t, fallback)
	ours, err := startProcess(t, config)
	require.NoError(t, err)
	require.NoError(t, ours.Call("child.CommitAll", Commits{0, 730}, new(none)))
	require.NoError(t, ours.Call("child.BeginLate", none{}, new(none)))
	require.NoError(t, ours.Call("child.CommitAll", Commits{730, 733}, new(none)))
	ours.kill()
	server.Kill()
	server.Restart()
	ours, err = startProcess(t, config)
	require.NoError(t, err)
	require.Equal(t, Held{[]Commits{{0, 733}}, []Commits{{late, 733}}}, ours.held(t))
	require.NoError(t, ours.Close())
}

// copyAlive copies a data directory that is in use: meanwhile files may grow or disappear.
func copyAlive(t *testing.T, from string) string {
	t.Helper()
	to := t.TempDir()
	files, err := shared.Contents(from, "wal/[0-9]*", "wbl/[0-9]*", "chunks_head/[0-9]*", "maas.json")
	require.True(t, err == nil || errors.Is(err, os.ErrNotExist), err)
	for name, b := range files {
		path := filepath.Join(to, name)
		require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o777))
		require.NoError(t, os.WriteFile(path, []byte(b), 0o600))
	}
	return to
}

// mayBeLost is how much of the time before its death a database may lose in the long run, acknowledged or not.
const mayBeLost = time.Second

// timeline is which commits are to be there, whatever happened to the databases that made them.
type timeline struct {
	next int // The first commit that is to come.
	want Held
}

// goOn takes what is there after a death for what is to be there from now on. Of the commits since the one before, all
// that were acknowledged must be there.
func (l *timeline) goOn(t *testing.T, held Held, committed []time.Time, acknowledged, death time.Time, what string) {
	t.Helper()
	inOrder, first := end(held.InOrder), max(l.next, late)
	logged := endFrom(held.Late, first)
	t.Logf("%s: %d commits, the last %s and, of late samples, the last %s are lost", what, l.next+len(committed),
		lostTime(committed, inOrder-l.next, death), lostTime(committed, logged-l.next, death))
	kept := l.next + sort.Search(len(committed), func(i int) bool { return !committed[i].Before(acknowledged) })
	require.GreaterOrEqual(t, inOrder, kept, what)
	require.GreaterOrEqual(t, logged, kept, what)
	l.next = inOrder
	l.want.InOrder = []Commits{{0, inOrder}}
	l.want.Late = joined(l.want.Late, Commits{first, logged})
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
