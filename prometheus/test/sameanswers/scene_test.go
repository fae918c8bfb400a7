// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

const (
	// before, during and after are how much of the load is fed around a fault.
	before = 10 * time.Minute
	during = 6 * time.Minute
	after  = 4 * time.Minute
)

// scene is one ingested timeline: a stock database to which nothing happens, and ours, which with its server and its
// network suffers all faults.
type scene struct {
	t      *testing.T // Of the fault at hand.
	whole  *testing.T // Of the timeline, with which everything ends that was started.
	size   size
	stock  *DB
	config ChildConfig // Fed: how far both databases were fed, at any time.
	ours   *process
	server *maastest.Server
	memory string // The server's memory file.
	*network
}

// newScene starts all of it: in mirror mode with fallback, in remote mode without. Changes to a Config apply to both
// databases.
func newScene(t *testing.T, size size, fallback bool, changes ...func(*ChildConfig)) *scene {
	s := &scene{t: t, whole: t, size: size}
	shm := maastest.Must(os.MkdirTemp("/dev/shm", "same-answers-"))(t)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(shm)) })
	s.memory = filepath.Join(shm, "memory")
	pool := fmt.Sprintf("%dKiB", 256*max(s.size.series, 2_000)) // Most of it is for the tail of the log.
	s.server = maastest.Start(t, "--max-pool-size", pool, "--memory-file", s.memory)
	s.network = newNetwork(t, s.server.URL)
	s.config = ChildConfig{
		Config: size.config(t), URL: s.network.url(), Owner: "same-answers", Fallback: fallback, Transport: maastest.Transport(),
		// Small, so that most reads go to the server.
		CacheSize: 2 << 20,
	}
	for _, change := range changes {
		change(&s.config)
	}
	stock := s.config.Config
	stock.Dir = t.TempDir()
	s.stock = open(t, stock)
	s.start()
	return s
}

// start opens our database with what its directory and the server hold.
func (s *scene) start() {
	s.ours = maastest.Must(startProcess(s.whole, s.config))(s.t)
}

// stop ends our database as a shutdown does.
func (s *scene) stop() {
	require.NoError(s.t, s.ours.Close())
}

// feed gives both databases the load's next minutes.
func (s *scene) feed(d time.Duration) {
	s.config.Fed += StepsIn(d)
	require.NoError(s.t, feed(s.stock, s.ours, s.config.Fed))
}

// feedThrough is feed, and waits until the server has all of it.
func (s *scene) feedThrough(d time.Duration) {
	s.feed(d)
	s.inUse()
}

// restart is a shutdown and the next start.
func (s *scene) restart() {
	s.stop()
	s.start()
}

// takeOver takes the whole data directory away. Another node, on an empty one, takes over.
func (s *scene) takeOver() {
	s.ours.kill()
	s.config.Dir = s.whole.TempDir()
	s.start()
}

// same wants everything equal.
func (s *scene) same(when string) {
	requireSame(s.t, s.stock, s.ours, when)
}

// clearWords are in every error that says what is out of reach.
var clearWords = regexp.MustCompile(`memory server|remote memory|MaaS|maasd`)

// sameOrClear wants each answer to be right or a clear error.
func (s *scene) sameOrClear() {
	want := maastest.Must(s.stock.Answers(Queries()))(s.t)
	got := maastest.Must(s.ours.Answers(Queries()))(s.t)
	failed := 0
	for i, q := range Queries() {
		if got[i].Err != "" {
			failed++
			require.Regexp(s.t, clearWords, got[i].Err, q)
			continue
		}
		require.Equal(s.t, string(want[i].JSON), string(got[i].JSON), q)
	}
	s.t.Logf("%d of %d queries fail, and say why", failed, len(got))
}

// inUse waits until our database uses the server, and the server holds all that it should.
func (s *scene) inUse() {
	settle(s.t, func() map[string]float64 { return s.ours.metrics(s.t) })
}

// settle waits until the server is in use, and has everything.
func settle(t *testing.T, metrics func() map[string]float64) {
	maastest.Eventually(t, "the server is in use", func() bool { return metrics()["up"] == 1 })
	is := [2]float64{-1}
	maastest.Eventually(t, "the server has all", func() bool {
		m, was := metrics(), is
		is = [2]float64{m["stored_bytes"], m["written_bytes_total"]}
		time.Sleep(time.Second)
		return is == was && m["dirty_bytes"] == 0 && m["wal_lag_seconds"] < 2
	})
}

// delete deletes all samples of a metric.
func (s *scene) delete(name string) {
	require.NoError(s.t, s.stock.Delete(name))
	s.ours.do(s.t, "Delete", name)
}

// withBlocks has room for blocks in remote memory.
func withBlocks(child *ChildConfig) { child.Blocks = "256MB" }

// inBothModes runs a test in mirror mode and in remote mode.
func inBothModes(t *testing.T, test func(t *testing.T, fallback bool)) {
	for name, fallback := range map[string]bool{"mirror": true, "remote": false} {
		t.Run(name, func(t *testing.T) { test(t, fallback) })
	}
}

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
	s := runSize(t)
	s.series = min(s.series, longer(500, s.series))
	return s
}

// feed gives both databases the load up to a step, side by side.
func feed(stock, ours Subject, upTo int) error {
	_, _, err := both(stock, ours, func(s Subject) (struct{}, error) { return struct{}{}, s.Feed(upTo) })
	return err
}

// runSize is the size of a short run or, with MAAS_LONG=1, of a long one. MAAS_SEED repeats a run.
func runSize(t *testing.T) size {
	s := size{seed: uint64(time.Now().UnixNano()), series: longer(2_000, 20_000), steps: StepsIn(6 * time.Hour)}
	if text := os.Getenv("MAAS_SEED"); text != "" {
		var err error
		s.seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "MAAS_SEED")
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
	db := maastest.Must(Open(c))(t)
	t.Cleanup(func() { require.NoError(t, db.Close()) })
	return db
}

// requireSame wants equal answers, equal samples and equal blocks.
func requireSame(t *testing.T, stock, ours Subject, when string) {
	require.NoError(t, CompareAnswers(stock, ours, Queries()), when)
	require.NoError(t, CompareSamples(stock, ours), when)
	require.NoError(t, CompareBlocks(stock, ours), when)
}
