// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"os"
	"path/filepath"
	"time"

	"github.com/stretchr/testify/require"
)

// killServerInTakeOver: a take-over that fails half-way leaves nothing behind, and the next one has everything.
func (s *scene) killServerInTakeOver() {
	s.t.Helper()
	s.ours.kill()
	s.config.Dir = s.whole.TempDir()
	s.config.Fed = s.fed
	half := make(chan struct{})
	go func() {
		defer close(half)
		for !exists(filepath.Join(s.config.Dir, "maas-restore.tmp")) {
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

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// killWhileCompacting feeds until our database writes a block of its head, and then kills it. The next start compacts
// at once, so that the persisted samples can be compared again.
func (s *scene) killWhileCompacting() {
	s.t.Helper()
	for !s.stepOrKill(filepath.Join(s.config.Dir, "*.tmp-for-creation")) {
		require.Less(s.t, s.fed, 2*s.size.steps, "steps without a compaction")
	}
	s.start()
	require.NoError(s.t, s.ours.Call("child.Compact", none{}, new(none)))
}

// stepOrKill feeds one step, and kills our database as soon as a file matches the pattern. It says whether one did.
func (s *scene) stepOrKill(pattern string) bool {
	s.t.Helper()
	s.fed++
	require.NoError(s.t, s.stock.Feed(s.fed))
	fed := make(chan error, 1)
	go func() { fed <- s.ours.Feed(s.fed) }()
	for {
		found, err := filepath.Glob(pattern)
		require.NoError(s.t, err)
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
