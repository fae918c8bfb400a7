// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// fault is one thing that goes wrong and is repaired.
type fault struct {
	name   string
	strike func(*scene)
	mend   func(*scene) // Nil: there is nothing to repair.
	away   bool         // Until the repair, remote memory is out of reach.
	long   bool         // Only in the long run.
}

// faults are those of both modes. Each timeline has its faults in this order.
var faults = []fault{
	{name: "server killed, its memory kept", strike: (*scene).killServer, mend: (*scene).restartServer, away: true, long: true},
	{name: "server stopped", strike: (*scene).pause, mend: (*scene).resume, away: true, long: true},
	{name: "cable pulled", strike: (*scene).pullOut, mend: (*scene).plugIn, away: true, long: true},
	{name: "network silent", strike: (*scene).fallSilent, mend: (*scene).speak, away: true, long: true},
	{name: "server full", strike: (*scene).fill, mend: (*scene).empty, long: true},
	{name: "server answers wrong bytes", strike: (*scene).flip, mend: (*scene).unflip, away: true, long: true},
	{name: "killed, restarted with the server", strike: (*scene).killOurs},
}

// mirrorFaults are the faults of mirror mode, in which local storage steps in: no query fails, and nothing is lost.
var mirrorFaults = slices.Concat([]fault{
	{name: "the data directory is destroyed, another node takes over", strike: (*scene).destroy},
	{name: "shut down with a snapshot, another node takes over", strike: (*scene).takeOverSnapshot},
	{name: "the server dies in the middle of a take-over", strike: (*scene).killServerInTakeOver, long: true},
	{name: "server killed, its memory lost", strike: (*scene).killServer, mend: (*scene).restartEmpty},
}, faults, []fault{
	{name: "killed, restarted without the server", mend: (*scene).restartServer, long: true,
		strike: func(s *scene) { s.killServer(); s.killOurs() }},
	{name: "shut down with a snapshot, restarted", strike: (*scene).restartWithSnapshot},
	{name: "shut down with a snapshot, restarted without the server",
		strike: (*scene).restartWithSnapshotAlone, mend: (*scene).restartEmpty, long: true},
	{name: "a copy of the data directory started beside it", strike: (*scene).startCopy, long: true},
	{name: "killed while it compacts", strike: (*scene).killWhileCompacting},
})

// remoteFaults are the faults of remote mode: a query for data that is out of reach is a clear error, and a loss at the
// server ends the process, whose next start has everything.
var remoteFaults = slices.Concat([]fault{
	{name: "server killed, its memory lost", strike: (*scene).killServer, mend: (*scene).failStop, away: true},
}, faults, []fault{
	{name: "killed, restarted without the server", strike: (*scene).refuseWithoutServer, long: true},
	{name: "killed, restarted with a server that lost its memory", strike: (*scene).restartBothEmpty, long: true},
	{name: "a copy of the data directory started beside it", strike: (*scene).refuseCopy, long: true},
	{name: "killed while it compacts", strike: (*scene).killWhileCompacting},
})

func TestMirror__answers_are_the_same_whatever_fails(t *testing.T) {
	runFaults(t, newScene(t, runSize(t), true), mirrorFaults)
}

func TestRemote__answers_are_the_same_or_say_why_whatever_fails(t *testing.T) {
	runFaults(t, newScene(t, smallerSize(t), false), remoteFaults)
}

// runFaults takes a timeline through all faults, each of them a subtest. One more start at the end shows what was lost.
func runFaults(t *testing.T, s *scene, faults []fault) {
	s.feedThrough(time.Hour)
	s.same("before any fault")
	m := s.ours.metrics(t)
	require.Positive(t, m["read_bytes_total"], "answers came from remote memory: %v", m)
	require.Positive(t, m["chunks_written_total"], m)
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
	s.feed(time.Duration(max(0, s.size.steps-s.config.Fed)) * Interval)
	s.same("at the end")
	s.restart()
	s.same("after the last start")
}

func (s *scene) run(f fault) {
	s.feedThrough(before)
	if inLongRun() {
		s.same("before")
	}

	f.strike(s)
	s.feed(during)
	if f.away && !s.config.Fallback {
		s.sameOrClear()
	} else {
		s.same("during")
	}
	if f.mend != nil {
		f.mend(s)
	}

	s.inUse()
	s.feedThrough(after)
	s.same("after")
	if inLongRun() {
		s.restart()
		s.same("after the next start")
	}
}

func (s *scene) killServer() { s.server.Kill() }

func (s *scene) restartServer() { s.server.Restart() }

// restartEmpty starts the server with nothing.
func (s *scene) restartEmpty() {
	for _, file := range []string{s.memory, s.memory + ".slots"} {
		require.NoError(s.t, os.Remove(file))
	}
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

func (s *scene) flip() { s.flips.Store(true) }

func (s *scene) unflip() {
	require.Positive(s.t, s.flipped.Load(), "answers that were changed")
	s.flips.Store(false)
}

// destroy takes the whole data directory away. Its replacement has the same owner, and nothing else. Blocks would be
// lost with the disk, so there must be none yet.
func (s *scene) destroy() {
	require.Empty(s.t, maastest.Must(s.stock.Blocks())(s.t).Blocks)
	s.takeOver()
	s.same("after the take-over")
}

// stopWithSnapshot is a shutdown that leaves a snapshot. Snapshots from before a run without snapshots go: with such a
// snapshot, a stock database loses samples of float histograms, too. The run may have cut the chunks elsewhere, and a
// chunk of the snapshot is dropped once a file has its beginning.
func (s *scene) stopWithSnapshot() {
	s.config.SnapshotOnClose = true
	s.stop() // Without a snapshot: it was opened that way.
	for _, dir := range maastest.Must(filepath.Glob(filepath.Join(s.config.Dir, "chunk_snapshot.*")))(s.t) {
		require.NoError(s.t, os.RemoveAll(dir))
	}
	s.start()
	s.stop()
}

// takeOverSnapshot is what happens to a node that is drained: its successor loads the snapshot that the
// shutdown made, and replays next to nothing.
func (s *scene) takeOverSnapshot() {
	s.stopWithSnapshot()
	s.config.Dir = s.whole.TempDir()
	s.start()
	require.Contains(s.t, s.ours.log.String(), "Chunk snapshot loading time")
	s.same("after the take-over")
	s.config.SnapshotOnClose = false
	s.restart()
}

func (s *scene) killOurs() {
	s.ours.kill()
	s.start()
	s.waitedForNobody()
}

// waitedForNobody: the next start on the same directory ends the session of the one before.
func (s *scene) waitedForNobody() {
	require.NotContains(s.t, s.ours.log.String(), "waiting for its lease")
	require.NotContains(s.t, s.ours.log.String(), "name_taken")
}

func (s *scene) restartWithSnapshot() {
	s.stopWithSnapshot()
	s.start()
	s.config.SnapshotOnClose = false
}

func (s *scene) restartWithSnapshotAlone() {
	s.stopWithSnapshot()
	s.server.Kill()
	s.start()
	s.config.SnapshotOnClose = false
}

// startCopy starts a copy of the data directory while the original lives. The copy serves from local storage alone,
// answers correctly, and does not touch the original's memory.
func (s *scene) startCopy() {
	beside := maastest.Must(startProcess(s.whole, s.copied()))(s.t)
	requireSame(s.t, s.stock, beside, "the copy")
	require.NoError(s.t, beside.Close())
	require.Equal(s.t, 1.0, s.ours.metrics(s.t)["up"], "the original still uses the server")
}

// refuseCopy: without fallback the copy does not start, because the name is taken.
func (s *scene) refuseCopy() {
	require.ErrorContains(s.t, maastest.Err(startProcess(s.whole, s.copied())), "name")
	require.Equal(s.t, 1.0, s.ours.metrics(s.t)["up"], "the original still uses the server")
}

func (s *scene) copied() ChildConfig {
	config := s.config
	config.Dir = s.whole.TempDir()
	require.NoError(s.t, os.CopyFS(config.Dir, os.DirFS(s.config.Dir)))
	return config
}

// failStop: the server comes back without its memory; the process ends and says why; the next start reads the log.
func (s *scene) failStop() {
	s.restartEmpty()
	maastest.Eventually(s.t, "the process ends", s.ours.hasEnded)
	require.Equal(s.t, 1, s.ours.cmd.ProcessState.ExitCode())
	require.Contains(s.t, s.ours.log.String(), "nothing is lost, the next start reads the log")
	s.start()
	s.waitedForNobody()
	s.same("after the fail-stop")
}

func (s *scene) refuseWithoutServer() {
	s.server.Kill()
	s.ours.kill()
	_, err := startProcess(s.whole, s.config)
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

// hog is the owner of the other tenant's memory.
const hog = "hog"

// fill takes all the memory that the server has left, as another tenant would, down to the smallest slabs.
func (s *scene) fill() {
	client := shared.Client(s.t, s.server.URL)
	for size := int64(4 << 20); size >= 1<<10; size /= 2 {
		for {
			_, err := client.Allocate(context.Background(), maas.AllocateOptions{Size: size, Owner: hog})
			if maas.IsExhausted(err) {
				break
			}
			require.NoError(s.t, err)
		}
	}
}

// empty frees it.
func (s *scene) empty() {
	client := shared.Client(s.t, s.server.URL)
	list := maastest.Must(client.List(context.Background(), hog))(s.t)
	require.NotEmpty(s.t, list)
	for _, a := range list {
		freed, _, err := client.Free(context.Background(), a.ID)
		require.True(s.t, freed == 1 && err == nil, err)
	}
}

// killServerInTakeOver: a take-over that fails half-way leaves nothing behind, and the next one has everything.
func (s *scene) killServerInTakeOver() {
	s.ours.kill()
	s.config.Dir = s.whole.TempDir()
	half := make(chan struct{})
	go func() {
		defer close(half)
		for !shared.Exists(filepath.Join(s.config.Dir, "maas-restore.tmp")) {
			time.Sleep(time.Millisecond)
		}
		s.server.Kill()
	}()
	_, err := startProcess(s.whole, s.config)
	<-half
	require.ErrorContains(s.t, err, "start again, or begin without it")
	require.NoDirExists(s.t, filepath.Join(s.config.Dir, "wal"))
	s.server.Restart()
	s.start()
	s.same("after the second take-over")
}

// killWhileCompacting feeds until our database writes a block of its head, and then kills it. The next start compacts
// at once, so that the persisted samples can be compared again.
func (s *scene) killWhileCompacting() {
	for !s.stepOrKill(filepath.Join(s.config.Dir, "*.tmp-for-creation")) {
		require.Less(s.t, s.config.Fed, 2*s.size.steps, "steps without a compaction")
	}
	s.start()
	s.ours.do(s.t, "Compact", none{})
}

// stepOrKill feeds one step, and kills our database as soon as a file matches the pattern. It says whether one did.
func (s *scene) stepOrKill(pattern string) bool {
	s.config.Fed++
	require.NoError(s.t, s.stock.Feed(s.config.Fed))
	fed := make(chan error, 1)
	go func() { fed <- s.ours.Feed(s.config.Fed) }()
	for {
		found := maastest.Must(filepath.Glob(pattern))(s.t)
		if len(found) > 0 {
			s.ours.kill()
			return true
		}
		select {
		case err := <-fed:
			require.NoError(s.t, err)
			return false
		case <-time.After(time.Millisecond):
		}
	}
}
