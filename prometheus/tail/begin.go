// SPDX-License-Identifier: Apache-2.0

// Beginning to follow: a standby leaves what its directory has until remote memory has a log that can take its place.

package tail

import (
	"errors"
	"os"
	"path/filepath"
	"slices"
	"time"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

var (
	errLonger = errors.New("the log of this directory has more than remote memory, whose leader may be copying it again")
	errLeads  = errors.New("this process has the name")
)

// beginOrLead waits for a log to follow, and says whether there is one. Without one, and without an error, this
// process leads.
func (f *Follower) beginOrLead() (begun bool, err error) {
	known := newCompared(func() error { // A log of many gigabytes takes minutes.
		if f.tryToLead() {
			return errLeads
		}
		return f.ctx.Err()
	})
	for again := time.Now(); ; {
		if f.tryToLead() {
			return false, nil
		}
		if !time.Now().Before(again) && f.mayReplace() {
			begun, err := f.begin(known)
			switch {
			case errors.Is(err, errLeads):
				return false, nil
			case errors.Is(err, errLonger), errors.Is(err, errWrongBytes):
				// This may last for as long as the leader lives.
				f.complain(err)
				again = time.Now().Add(listInterval)
			case begun || err != nil && !f.passes(err):
				return begun, err
			}
		}
		if !f.sleep() {
			return false, ErrStopped
		}
	}
}

// mayReplace says whether the leader's log may take the place of the directory's. A head of its own stays until another
// is known to have the name: without a leader, this process leads with it.
func (f *Follower) mayReplace() bool {
	return f.taken || f.memory.MustFollow() || f.memory.State().Following || memory.IsEmpty(f.dir)
}

// begin says whether remote memory has a log to follow, whose beginning is here now.
func (f *Follower) begin(known *compared) (bool, error) {
	mem, l, err := f.list()
	if err != nil {
		return false, err
	}
	plan, lost, err := planRestore(l.Files, false)
	f.memory.SetLeaderHasNoLog(f.taken && err == nil && len(plan) == 0)
	if err != nil || len(plan) == 0 || lost > 0 {
		return false, err // The log is still being copied.
	}
	if err := f.empty(mem, plan, known); err != nil {
		return false, err
	}
	if err := f.memory.SetMinValidTime(l.MinTime); err != nil {
		return false, err
	}
	if err := f.bringCheckpoint(mem, plan[0]); err != nil {
		return false, err
	}
	first := uint32(f.checkpoint + 1)
	if f.checkpoint >= 0 { // Without a checkpoint, Prometheus begins with segment 0.
		if err := f.placeholder(remotefile.Name{Kind: remotefile.WAL, Number: first}); err != nil {
			return false, err
		}
	}
	if len(plan[2]) > 0 {
		if err := f.placeholder(plan[2][len(plan[2])-1].Name()); err != nil {
			return false, err
		}
	}
	f.took(plan, l)
	f.head = mintimes{time: l.MinTime}
	f.next = f.head
	f.current, err = newGrowing(first, f.path(remotefile.Name{Kind: remotefile.WAL, Number: first}))
	return err == nil, err
}

// empty takes the head out of the directory: a leader's copy is deleted, a head of its own is put aside. If the
// directory's log has more than the one in remote memory, which is its beginning, it stays: the leader has the rest,
// too, or this process is to lead with it. Another log that has more is put aside.
func (f *Follower) empty(mem remotefile.Memory, plan [][]*remotefile.File, known *compared) error {
	longer, goesOn, err := ahead(f.ctx, mem, plan, f.dir, known)
	if err != nil {
		return err
	}
	if goesOn && !f.memory.MustFollow() {
		return errLonger
	}
	if f.memory.State().Following && longer == 0 {
		names, err := headNames(f.dir)
		for _, name := range slices.Backward(names) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(f.dir, name)))
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	} else if err := putAside(f.dir); err != nil {
		return err
	}
	if longer > 0 {
		f.logger.Warn("MaaS: the leader's log replaces the one of this directory, which is longer, but another one or with a hole; it is kept until the next time",
			"bytes", longer, "directory", replacedDir)
	}
	if err := f.memory.BeginFollowing(); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(f.dir, "wal"), 0o777)
}

func (f *Follower) placeholder(n remotefile.Name) error {
	if err := os.MkdirAll(filepath.Dir(f.path(n)), 0o777); err != nil {
		return err
	}
	return os.WriteFile(f.path(n), nil, 0o666)
}

// tryToLead says whether this process has the name now.
func (f *Follower) tryToLead() bool {
	if time.Since(f.led) < pollInterval {
		return false
	}
	f.led = time.Now()
	err := f.memory.Lead(f.ctx)
	f.taken = errors.Is(err, maas.ErrNameTaken)
	if err != nil && !memory.IsFollowed(err) {
		f.complain(err)
	}
	return err == nil
}
