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
	last, size := newestSegment(t, dir)
	if last == "" {
		return
	}
	require.NoError(t, os.Truncate(last, rand.Int64N(size+1)))
	if rand.IntN(2) == 0 {
		require.NoError(t, os.Truncate(last, size))
	}
}

// newestSegment is the last of a log, if there is one, and its size.
func newestSegment(t *testing.T, log string) (path string, size int64) {
	for _, path = range maastest.Must(filepath.Glob(filepath.Join(log, "[0-9]*")))(t) { // In order.
		size = maastest.Must(os.Stat(path))(t).Size()
	}
	return path, size
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
	inBothModes(t, func(t *testing.T, fallback bool) {
		t.Parallel()
		_, config := newAlone(t, fallback)
		journal := filepath.Join(t.TempDir(), "journal")
		ours := maastest.Must(startProcess(t, config))(t)
		var commits timeline
		for round := range longer(10, 100) {
			// All pairs of a death and a place occur, in any order.
			how, place := deaths[(round+round/len(places))%len(deaths)], places[round%len(places)]
			what := fmt.Sprintf("round %d: %s, %s", round, how.name, place.name)
			t.Log(what)
			ours.do(t, "Ingest", Ingestion{From: commits.next, Journal: journal})
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
			ours = maastest.Must(startProcess(t, config))(t)
			require.Equal(t, 1.0, ours.metrics(t)["up"], what)
			held := maastest.Must(call[Held](ours, "Held", none{}))(t)
			if inLongRun() && death.Add(-mayBeLost).After(acknowledged) {
				acknowledged = death.Add(-mayBeLost)
			}
			committed := readJournal(t, journal)
			require.LessOrEqual(t, end(held.InOrder), commits.next+len(committed)+1, what)
			require.LessOrEqual(t, end(held.Late), commits.next+len(committed)+1, what)
			// Of a directory that stays, a power cut may leave a little more of the WBL than of the WAL, both longer than in
			// remote memory.
			if how.name != "power cut" || place.name == "an empty directory" {
				require.LessOrEqual(t, end(held.Late), end(held.InOrder), "%s: a late sample is not there before its commit", what)
			}
			commits.goOn(t, held, committed, acknowledged, death, what)
			require.Equal(t, commits.want, held, what)
		}
		require.NoError(t, ours.Close())
	})
}

// newAlone starts a server, and says how a database begins that has it alone.
func newAlone(t *testing.T, fallback bool) (*maastest.Server, ChildConfig) {
	server := maastest.Start(t, "--max-pool-size", "1GiB")
	return server, ChildConfig{
		Config: Config{Dir: t.TempDir()}, URL: server.URL, Owner: "alone", Fallback: fallback,
		Transport: maastest.Transport(), CacheSize: 2 << 20,
	}
}

// Compactions follow each other within a look at the log: the late samples in between were in a segment that lived only
// for a moment. The next Prometheus, elsewhere, has them, also where no block is in remote memory yet.
func TestRounds__late_samples_that_were_compacted_at_once(t *testing.T) {
	inBothModes(t, func(t *testing.T, fallback bool) {
		_, config := newAlone(t, fallback)
		config.BlockDuration = 2 * time.Minute
		ours := maastest.Must(startProcess(t, config))(t)
		next := 700
		ours.do(t, "CommitAll", Commits{0, next})
		for range 5 {
			ours.do(t, "CommitAll", Commits{next, next + 120})
			ours.do(t, "Compact", none{})
			next += 120 // A block.
		}
		require.NoError(t, ours.Close())
		config.Dir = t.TempDir()
		nextHolds(t, config, next)
	})
}

// nextHolds starts a database, and wants it to hold the commits from 0 on.
func nextHolds(t *testing.T, config ChildConfig, commits int) {
	ours := maastest.Must(startProcess(t, config))(t)
	require.Equal(t, Held{[]Commits{{0, commits}}, []Commits{{late, commits}}}, ours.held(t))
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
	inBothModes(t, func(t *testing.T, fallback bool) {
		server, config := newAlone(t, fallback)
		ours := maastest.Must(startProcess(t, config))(t)
		ours.do(t, "CommitAll", Commits{0, 730})
		ours.do(t, "BeginLate", none{})
		ours.do(t, "CommitAll", Commits{730, 733})
		ours.kill()
		server.Restart()
		nextHolds(t, config, 733)
	})
}

// copyAlive copies a data directory that is in use: meanwhile files may grow or disappear.
func copyAlive(t *testing.T, from string) string {
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
	b := maastest.Must(os.ReadFile(path))(t)
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
