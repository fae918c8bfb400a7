// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
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
	config ChildConfig
	ours   *process
	server *maastest.Server
	memory string // The server's memory file.
	*network
	fed int
}

// newScene starts all of it: in mirror mode with fallback, in remote mode without. Changes to a Config apply to both
// databases.
func newScene(t *testing.T, size size, fallback bool, changes ...func(*ChildConfig)) *scene {
	t.Helper()
	s := &scene{t: t, whole: t, size: size}
	shm, err := os.MkdirTemp("/dev/shm", "same-answers-")
	require.NoError(t, err)
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
	s.t.Helper()
	s.config.Fed = s.fed
	ours, err := startProcess(s.whole, s.config)
	require.NoError(s.t, err)
	s.ours = ours
}

// stop ends our database as a shutdown does.
func (s *scene) stop() {
	s.t.Helper()
	require.NoError(s.t, s.ours.Close())
}

// feed gives both databases the load's next minutes.
func (s *scene) feed(d time.Duration) {
	s.t.Helper()
	s.fed += StepsIn(d)
	require.NoError(s.t, feed(s.stock, s.ours, s.fed))
}

// feedThrough is feed, and waits until the server has all of it.
func (s *scene) feedThrough(d time.Duration) {
	s.t.Helper()
	s.feed(d)
	s.inUse()
}

// restart is a shutdown and the next start.
func (s *scene) restart() {
	s.t.Helper()
	s.stop()
	s.start()
}

// takeOver takes the whole data directory away. Another node, on an empty one, takes over.
func (s *scene) takeOver() {
	s.t.Helper()
	s.ours.kill()
	s.config.Dir = s.whole.TempDir()
	s.start()
}

// same wants everything equal.
func (s *scene) same(when string) {
	s.t.Helper()
	requireSame(s.t, s.stock, s.ours, when)
}

// clearWords are in every error that says what is out of reach.
var clearWords = regexp.MustCompile(`memory server|remote memory|MaaS|maasd`)

// sameOrClear wants each answer to be right or a clear error.
func (s *scene) sameOrClear() {
	s.t.Helper()
	want, err := s.stock.Answers(Queries())
	require.NoError(s.t, err)
	got, err := s.ours.Answers(Queries())
	require.NoError(s.t, err)
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
	s.t.Helper()
	maastest.Eventually(s.t, "the server is in use", func() bool {
		return s.ours.metrics(s.t)["up"] == 1
	})
	stored := -1.0
	maastest.Eventually(s.t, "the server has all", func() bool {
		m := s.ours.metrics(s.t)
		last := stored
		stored = m["stored_bytes"]
		time.Sleep(time.Second)
		return stored == last && m["dirty_bytes"] == 0 && m["wal_lag_seconds"] < 2
	})
}

// reads wants proof that answers came from remote memory.
func (s *scene) reads() {
	s.t.Helper()
	m := s.ours.metrics(s.t)
	require.Positive(s.t, m["read_bytes_total"], m)
	require.Positive(s.t, m["chunks_written_total"], m)
}

// delete deletes all samples of a metric.
func (s *scene) delete(name string) {
	s.t.Helper()
	require.NoError(s.t, s.stock.Delete(name))
	require.NoError(s.t, s.ours.Call("child.Delete", name, new(none)))
}

// withBlocks has room for blocks in remote memory.
func withBlocks(child *ChildConfig) { child.Blocks = "256MB" }

// inBothModes runs a test in mirror mode and in remote mode.
func inBothModes(t *testing.T, test func(t *testing.T, fallback bool)) {
	for name, fallback := range map[string]bool{"mirror": true, "remote": false} {
		t.Run(name, func(t *testing.T) { test(t, fallback) })
	}
}

// stranger is a client that has nothing to do with our database.
func (s *scene) stranger() *maas.Client {
	s.t.Helper()
	return shared.Client(s.t, s.server.URL)
}
