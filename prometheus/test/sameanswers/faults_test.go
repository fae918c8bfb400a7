// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// fault is one thing that goes wrong and is repaired.
type fault struct {
	name   string
	strike func(*scene)
	// during, if set, checks what to expect until the repair; otherwise everything is equal.
	during func(*scene)
	mend   func(*scene)
	long   bool // Only in the long run.
}

// mirrorFaults are the faults of mirror mode, in which local storage steps in: no query fails, and nothing is lost.
// They come in this order, on one timeline.
var mirrorFaults = []fault{
	{name: "the data directory is destroyed, another node takes over", strike: (*scene).destroy},
	{name: "shut down with a snapshot, another node takes over", strike: (*scene).takeOverSnapshot},
	{name: "the server dies in the middle of a take-over", strike: (*scene).killServerInTakeOver, long: true},
	{name: "server killed, its memory lost", strike: (*scene).killServer, mend: (*scene).restartEmpty},
	{name: "server killed, its memory kept", strike: (*scene).killServer, mend: (*scene).restartServer, long: true},
	{name: "server stopped", strike: (*scene).pause, mend: (*scene).resume, long: true},
	{name: "cable pulled", strike: (*scene).pullOut, mend: (*scene).plugIn, long: true},
	{name: "network silent", strike: (*scene).fallSilent, mend: (*scene).speak, long: true},
	{name: "server full", strike: (*scene).fill, mend: (*scene).empty, long: true},
	{name: "server answers wrong bytes", strike: (*scene).flip, mend: (*scene).unflip, long: true},
	{name: "killed, restarted with the server", strike: (*scene).killOurs},
	{name: "killed, restarted without the server", strike: (*scene).killOursAndServer,
		mend: (*scene).restartServer, long: true},
	{name: "shut down with a snapshot, restarted", strike: (*scene).restartWithSnapshot},
	{name: "shut down with a snapshot, restarted without the server",
		strike: (*scene).restartWithSnapshotAlone, mend: (*scene).restartEmpty, long: true},
	{name: "a copy of the data directory started beside it", strike: (*scene).startCopy, long: true},
	{name: "killed while it compacts", strike: (*scene).killWhileCompacting},
}

// remoteFaults are the faults of remote mode: a query for data that is out of reach is a clear error, and a loss at the
// server ends the process, whose next start has everything.
var remoteFaults = []fault{
	{name: "server killed, its memory lost", strike: (*scene).killServer, during: (*scene).answersOrSays,
		mend: (*scene).failStop},
	{name: "server killed, its memory kept", strike: (*scene).killServer, during: (*scene).answersOrSays,
		mend: (*scene).restartServer, long: true},
	{name: "server stopped", strike: (*scene).pause, during: (*scene).answersOrSays, mend: (*scene).resume, long: true},
	{name: "cable pulled", strike: (*scene).pullOut, during: (*scene).answersOrSays, mend: (*scene).plugIn, long: true},
	{name: "network silent", strike: (*scene).fallSilent, during: (*scene).answersOrSays, mend: (*scene).speak, long: true},
	{name: "server full", strike: (*scene).fill, mend: (*scene).empty, long: true},
	{name: "server answers wrong bytes", strike: (*scene).flip, during: (*scene).answersOrSays,
		mend: (*scene).unflip, long: true},
	{name: "killed, restarted with the server", strike: (*scene).killOurs},
	{name: "killed, restarted without the server", strike: (*scene).refuseWithoutServer, long: true},
	{name: "killed, restarted with a server that lost its memory", strike: (*scene).restartBothEmpty, long: true},
	{name: "a copy of the data directory started beside it", strike: (*scene).refuseCopy, long: true},
	{name: "killed while it compacts", strike: (*scene).killWhileCompacting},
}

func TestMirror__answers_are_the_same_whatever_fails(t *testing.T) {
	runFaults(t, newScene(t, runSize(t), true), mirrorFaults)
}

func TestRemote__answers_are_the_same_or_say_why_whatever_fails(t *testing.T) {
	runFaults(t, newScene(t, smallerSize(t), false), remoteFaults)
}

// runFaults takes a timeline through all faults, each of them a subtest. One more start at the end shows what was lost.
func runFaults(t *testing.T, s *scene, faults []fault) {
	s.feed(time.Hour)
	s.inUse()
	s.same("before any fault")
	s.reads()
	for _, f := range faults {
		if f.long && !inLongRun() {
			continue
		}
		if !t.Run(f.name, func(t *testing.T) {
			s.t = t
			s.run(f)
		}) {
			return // The timeline is not what the next fault expects.
		}
	}
	s.t = t
	s.feed(time.Duration(max(0, s.size.steps-s.fed)) * Interval)
	s.same("at the end")
	s.stop()
	s.start()
	s.same("after the last start")
}

func (s *scene) run(f fault) {
	s.feed(before)
	s.inUse()
	if inLongRun() {
		s.same("before")
	}

	f.strike(s)
	s.feed(during)
	if f.during != nil {
		f.during(s)
	} else {
		s.same("during")
	}
	if f.mend != nil {
		f.mend(s)
	}

	s.inUse()
	s.feed(after)
	s.inUse()
	s.same("after")
	if inLongRun() {
		s.stop()
		s.start()
		s.same("after the next start")
	}
}

func (s *scene) answersOrSays() {
	s.t.Helper()
	s.sameOrClear("while the server is out of reach")
}

func (s *scene) killServer() { s.server.Kill() }

func (s *scene) restartServer() { s.server.Restart() }

func (s *scene) restartEmpty() {
	s.loseMemory()
	s.server.Restart()
}

func (s *scene) pause() { s.server.Pause() }

// resume comes a minute later in the long run.
func (s *scene) resume() {
	if inLongRun() {
		time.Sleep(time.Minute)
	}
	s.server.Resume()
}

func (s *scene) pullOut() { s.network.pullOut() }

func (s *scene) plugIn() { s.network.plugIn() }

func (s *scene) fallSilent() { s.network.fallSilent() }

func (s *scene) speak() { s.network.speak() }

func (s *scene) flip() { s.network.flip.Store(true) }

func (s *scene) unflip() {
	require.Positive(s.t, s.network.flipped.Load(), "answers that were changed")
	s.network.flip.Store(false)
}

// destroy takes the whole data directory away. Its replacement has the same owner, and nothing else. Blocks would be
// lost with the disk, so there must be none yet.
func (s *scene) destroy() {
	s.t.Helper()
	blocks, err := s.stock.Blocks()
	require.NoError(s.t, err)
	require.Empty(s.t, blocks.Blocks)
	s.ours.kill()
	s.config.Dir = s.whole.TempDir()
	s.start()
	s.same("after the take-over")
}

// stopWithSnapshot is a shutdown that leaves a snapshot.
func (s *scene) stopWithSnapshot() {
	s.t.Helper()
	s.config.SnapshotOnClose = true
	s.stop() // Without a snapshot: it was opened that way.
	s.forgetSnapshots()
	s.start()
	s.stop()
}

// takeOverSnapshot is what happens to a node that is drained: its successor loads the snapshot that the
// shutdown made, and replays next to nothing.
func (s *scene) takeOverSnapshot() {
	s.t.Helper()
	s.stopWithSnapshot()
	s.config.Dir = s.whole.TempDir()
	s.start()
	require.Contains(s.t, s.ours.log.String(), "Chunk snapshot loading time")
	s.same("after the take-over")
	s.config.SnapshotOnClose = false
	s.stop()
	s.start()
}

func (s *scene) killOurs() {
	s.t.Helper()
	s.ours.kill()
	s.start()
	s.waitedForNobody()
}

// waitedForNobody: the next start on the same directory ends the session of the one before.
func (s *scene) waitedForNobody() {
	s.t.Helper()
	require.NotContains(s.t, s.ours.log.String(), "waiting for its lease")
	require.NotContains(s.t, s.ours.log.String(), "name_taken")
}

func (s *scene) killOursAndServer() {
	s.server.Kill()
	s.killOurs()
}

func (s *scene) restartWithSnapshot() {
	s.t.Helper()
	s.stopWithSnapshot()
	s.start()
	s.config.SnapshotOnClose = false
}

func (s *scene) restartWithSnapshotAlone() {
	s.t.Helper()
	s.stopWithSnapshot()
	s.server.Kill()
	s.start()
	s.config.SnapshotOnClose = false
}

// forgetSnapshots removes snapshots from before a run without snapshots: with such a snapshot, a stock database loses
// samples of float histograms, too. The run may have cut the chunks elsewhere, and a chunk of the snapshot is dropped
// once a file has its beginning.
func (s *scene) forgetSnapshots() {
	s.t.Helper()
	old, err := filepath.Glob(filepath.Join(s.config.Dir, "chunk_snapshot.*"))
	require.NoError(s.t, err)
	for _, dir := range old {
		require.NoError(s.t, os.RemoveAll(dir))
	}
}

// startCopy starts a copy of the data directory while the original lives. The copy serves from local storage alone,
// answers correctly, and does not touch the original's memory.
func (s *scene) startCopy() {
	s.t.Helper()
	config := s.copied()
	beside, err := startProcess(s.whole, config)
	require.NoError(s.t, err)
	requireSame(s.t, s.stock, beside, "the copy")
	require.NoError(s.t, beside.Close())
	require.Equal(s.t, 1.0, s.ours.metrics(s.t)["up"], "the original still uses the server")
}

// refuseCopy: without fallback the copy does not start, because the name is taken.
func (s *scene) refuseCopy() {
	s.t.Helper()
	_, err := startProcess(s.whole, s.copied())
	require.ErrorContains(s.t, err, "name")
	require.Equal(s.t, 1.0, s.ours.metrics(s.t)["up"], "the original still uses the server")
}

func (s *scene) copied() ChildConfig {
	s.t.Helper()
	config := s.config
	config.Fed = s.fed
	config.Dir = s.whole.TempDir()
	require.NoError(s.t, os.CopyFS(config.Dir, os.DirFS(s.config.Dir)))
	return config
}

// failStop: the server comes back without its memory; the process ends and says why; the next start reads the log.
func (s *scene) failStop() {
	s.t.Helper()
	s.restartEmpty()
	maastest.Eventually(s.t, "the process ends", s.ours.hasEnded)
	require.Equal(s.t, 1, s.ours.cmd.ProcessState.ExitCode())
	require.Contains(s.t, s.ours.log.String(), "nothing is lost, the next start reads the log")
	s.start()
	s.waitedForNobody()
	s.same("after the fail-stop")
}

func (s *scene) refuseWithoutServer() {
	s.t.Helper()
	s.server.Kill()
	s.ours.kill()
	config := s.config
	config.Fed = s.fed
	_, err := startProcess(s.whole, config)
	require.ErrorContains(s.t, err, "with --storage.tsdb.maas.fallback, local storage would serve alone")
	s.server.Restart()
	s.start()
}

func (s *scene) restartBothEmpty() {
	s.ours.kill()
	s.server.Kill()
	s.restartEmpty()
	s.start()
}
