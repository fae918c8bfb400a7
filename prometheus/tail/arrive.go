// SPDX-License-Identifier: Apache-2.0

// What arrives in a standby's directory besides the bytes of a segment: the next segments, checkpoints, and, at the
// end, late samples.

package tail

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// relist looks for new segments and for a new checkpoint.
func (f *Follower) relist() error {
	mem, l, err := f.list()
	if err != nil {
		return err
	}
	plan, lost, err := planRestore(l.Files, false)
	if err != nil || len(plan) == 0 {
		// The server lost the beginning, and the leader copies it again.
		err = errors.Join(errors.New("remote memory does not hold the beginning of the leader's log at present"), err)
		if !f.leading {
			return err
		}
		f.logger.Error("MaaS: going on with this copy of the log, the only one left", "err", err)
		plan, lost = make([][]*remotefile.File, 3), 0
	}
	if lost > 0 && f.leading {
		f.logger.Error("MaaS memory does not hold the whole log of this owner; everything behind the gap is lost", "files", lost)
	}
	if plan[1], err = f.goesOn(plan[0], plan[1]); err != nil {
		return err
	}
	f.took(plan, l)
	if c := plan[0]; c != nil && int64(c[0].Name().Number) > f.checkpoint && c[0].Name().Number < f.current.number {
		return f.bringCheckpoint(mem, c)
	}
	return nil
}

// goesOn returns the listed segments. The current segment comes first, also if a checkpoint has replaced it by
// now, provided that all of it is here.
func (f *Follower) goesOn(checkpoint, wal []*remotefile.File) ([]*remotefile.File, error) {
	first := f.current.number
	switch {
	case len(wal) > 0:
		first = wal[0].Name().Number
	case len(checkpoint) > 0:
		first = checkpoint[0].Name().Number + 1
	}
	if first <= f.current.number {
		return wal, nil
	}
	before := f.find(f.current.number)
	if before == nil || first > f.current.number+1 || f.current.fresh() || !f.hasAllOf(before) {
		return nil, &StartOver{"truncated", fmt.Errorf("the leader's log now begins with segment %d, and this copy is at segment %d", first, f.current.number)}
	}
	return slices.Insert(slices.Clone(wal), 0, before), nil
}

// bringCheckpoint brings a checkpoint, and deletes what the checkpoint replaces.
func (f *Follower) bringCheckpoint(mem remotefile.Memory, parts []*remotefile.File) error {
	if len(parts) == 0 {
		return nil
	}
	tmp := filepath.Join(f.dir, restoreDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	r := restorer{tmp: tmp, metrics: f.memory.Metrics(), logger: f.logger, read: readsFrom(f.ctx, mem)}
	for _, part := range parts {
		whole, err := r.write(part)
		if err == nil && !whole {
			err = fmt.Errorf("%s: %w", part.Name(), errWrongBytes)
		}
		if err != nil {
			return errors.Join(err, r.syncs.Wait())
		}
	}
	if err := r.syncs.Wait(); err != nil {
		return err
	}
	from, to := filepath.Dir(r.path(parts[0].Name(), 0)), filepath.Dir(f.path(parts[0].Name()))
	if err := errors.Join(memory.SyncDir(from), os.Rename(from, to), memory.SyncDir(filepath.Dir(to))); err != nil {
		return err
	}
	f.checkpoint = int64(parts[0].Name().Number)
	return f.deleteBefore(uint32(f.checkpoint))
}

// deleteBefore deletes what a checkpoint replaces.
func (f *Follower) deleteBefore(checkpoint uint32) error {
	dir := filepath.Join(f.dir, "wal")
	segments, err := listNumbered(dir, remotefile.Name{Kind: remotefile.WAL})
	if err != nil {
		return err
	}
	for _, s := range segments {
		if s.name.Number <= checkpoint {
			err = errors.Join(err, os.Remove(s.path))
		}
	}
	old, globErr := filepath.Glob(filepath.Join(dir, checkpointPrefix+"*"))
	for _, path := range old {
		if filepath.Base(path) != fmt.Sprintf("%s%08d", checkpointPrefix, checkpoint) {
			err = errors.Join(err, emptyFiles(path), os.RemoveAll(path))
		}
	}
	return errors.Join(err, globErr)
}

// emptyFiles frees the disk space of files, including those that the head has open: the head keeps the first
// checkpoint open for as long as it follows.
func emptyFiles(dir string) error {
	files, err := os.ReadDir(dir)
	for _, f := range files {
		err = errors.Join(err, os.Truncate(filepath.Join(dir, f.Name()), 0))
	}
	return err
}

// Blocks brings the leader's blocks to a standby.
type Blocks interface {
	// Listed tells what remote memory holds now.
	Listed(l *remotefile.Listing)
	// Arriving is how far a head that begins at from, and may begin at to, can be truncated, considering the
	// blocks that are here.
	Arriving(from, to int64) int64
	// LeadFrom ends the bringing of blocks: a head that begins at mint is about to lead.
	LeadFrom(mint int64)
}

// With sets what brings blocks, and tells it what was listed last.
func (f *Follower) With(b Blocks) {
	f.blocks = b
	b.Listed(f.listing)
}

// mayBegin is where the head may begin: where the leader's head does, as far as the leader's blocks are here.
func (f *Follower) mayBegin() mintimes {
	next := f.next
	if f.blocks != nil {
		next.time = f.blocks.Arriving(f.head.time, next.time)
	}
	return next
}

// end makes the copy this directory's own log: all of it is here, including late samples. After an error that
// passes, end may be called again.
func (f *Follower) end(mint int64) error {
	if err := f.bringLate(); err != nil {
		return err
	}
	if err := errors.Join(f.current.end(), memory.SyncDir(filepath.Join(f.dir, "wal"))); err != nil {
		return err
	}
	f.head = f.mayBegin()
	if f.blocks != nil {
		f.blocks.LeadFrom(max(mint, f.head.time))
	}
	if err := f.memory.EndFollowing(); err != nil {
		return err
	}
	f.ended = true
	return nil
}

// bringLate brings the WBL, without its markers, and so with other bytes than the leader's: under numbers of its own,
// behind all that the leader used. The leader's WBL stays in remote memory until this one is there, too.
func (f *Follower) bringLate() error {
	if len(f.wbl) == 0 {
		f.late = map[chunks.HeadSeriesRef]struct{}{}
		return nil
	}
	local, err := listLog(f.dir, remotefile.WBL)
	for _, l := range local { // They only kept the place.
		err = errors.Join(err, os.Remove(l.path))
	}
	if err != nil {
		return err
	}
	for _, file := range f.listing.Files {
		if n := file.Name(); n.Kind == remotefile.WBL {
			f.lastWBL = int(n.Number)
		}
	}
	return f.eachLate(func(b []byte) error {
		b, err := withoutMarkers(b, filepath.Join(f.dir, restoreDir), f.logger)
		if err != nil {
			return err
		}
		f.lastWBL++
		path := f.path(remotefile.Name{Kind: remotefile.WBL, Number: uint32(f.lastWBL)})
		write := func(out *os.File) error { _, err := out.Write(b); return err }
		return errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), memory.WriteSynced(path, write), memory.SyncDir(filepath.Dir(path)))
	})
}

// readLate finds the series that have late samples.
func (f *Follower) readLate() error {
	return f.eachLate(func([]byte) error { return nil })
}

// eachLate reads the WBL, and finds the series that have late samples.
func (f *Follower) eachLate(do func([]byte) error) error {
	f.late = map[chunks.HeadSeriesRef]struct{}{}
	mem, err := f.memory.Look(f.ctx)
	if err != nil {
		return err
	}
	for _, file := range f.wbl {
		b, err := readWhole(file, readsFrom(f.ctx, mem))
		if err != nil {
			return err
		}
		addSeries(f.late, b, f.logger)
		if err := do(b); err != nil {
			return err
		}
	}
	return nil
}

// readWhole reads a file, as far as its bytes are those that its writer wrote.
func readWhole(f *remotefile.File, read readFunc) ([]byte, error) {
	out := make([]byte, 0, f.Len())
	for _, p := range f.Pieces() {
		b := make([]byte, p.Length)
		if err := read(f, b, p.Offset); err != nil {
			return nil, err
		}
		if remotefile.Checksum(b) != p.CRC {
			return nil, &StartOver{"damaged", fmt.Errorf("%s at %d: %w", f.Name(), p.Offset, errWrongBytes)}
		}
		out = append(out, b...)
	}
	return out, nil
}
