// SPDX-License-Identifier: Apache-2.0

// Following: the leader's blocks come into a standby's data directory as they are made, so that the standby has its
// whole history once it leads.
//
// What a standby deletes. A block that remote memory lacks need not be obsolete. The leader may have deleted it; but
// also its share of the server may have become smaller, or the server may be full or have lost its memory, and the
// block here may be the only copy. So a standby deletes a block only
//   - when a block that was made of it is here, whole;
//   - by the database's own retention, whenever a block comes: the leader has the same flags.
//
// A block that was deleted so does not come again, although remote memory still has it for a while.

package blocks

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/oklog/ulid/v2"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// maxVain limits the pause, which doubles, to some minutes.
const maxVain = 8

// following is the part of a Copier that follows.
type following struct {
	taking sync.Mutex // Held while a listing is taken; taken before Copier.mu.

	// Guarded by Copier.mu.
	listing *remotefile.Listing // The next listing to take.
	stuck   bool                // Blocks cannot come, for example because the disk is full.

	mu        sync.Mutex          // Guards the fields below; taken after Copier.mu.
	manifests map[string]manifest // The manifests that were read, by key.
	said      map[string]bool     // Complaints that were logged.
}

// Standby is a database that nobody reads yet.
type Standby interface {
	// AddBlocks runs move, and then looks at its directory.
	AddBlocks(move func() error) error
	// ChangeBlock closes a block, runs change, and opens it again.
	ChangeBlock(id ulid.ULID, change func() error) error
}

// Follow makes a Copier that, from Bring on, brings the leader's blocks that Listed tells of. It copies and frees
// nothing.
func Follow(m *memory.Manager, o Options) *Copier {
	c := newCopier(m, o)
	c.follow = &following{manifests: map[string]manifest{}, said: map[string]bool{}}
	return c
}

// Listed tells what remote memory holds now.
func (c *Copier) Listed(l *remotefile.Listing) {
	if c == nil {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follow.listing = l
}

// Bring begins to bring blocks, until Close.
func (c *Copier) Bring(db Standby) {
	if c == nil {
		return
	}
	c.tasks.Add(1)
	go func() {
		defer c.tasks.Done()
		// A killed predecessor may have left it.
		c.judgeBring(os.RemoveAll(filepath.Join(c.o.Dir, stageDir, workDir)))
		vain := 0 // How many times in a row bytes came in vain.
		for p := (progress{said: time.Now()}); !c.stopped(); {
			before := p.bytes
			more, err := c.bringNext(db, &p)
			c.judgeBring(err)
			switch {
			case err == nil:
				vain = 0
			case isLocal(err) && p.bytes > before:
				vain = min(vain+1, maxVain)
			}
			if !more || err != nil {
				c.wait(vain)
			}
		}
	}()
}

// Deleted are the blocks that were deleted from here: a Copier that leads after this one need not bring them back.
func (c *Copier) Deleted() map[ulid.ULID]bool {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	return maps.Clone(c.deleted)
}

// bringNext does the next thing to do, and says whether there may be another.
func (c *Copier) bringNext(db Standby, p *progress) (more bool, err error) {
	if err := c.take(); err != nil {
		return false, err
	}
	if err := c.look(); err != nil {
		return false, err
	}
	c.countMissing()
	if moved, err := c.moveReady(db); moved {
		return true, err
	}
	if changed, err := c.changePair(db); changed || err != nil {
		return true, err
	}
	g, known := c.nextGroup(p)
	if !known || len(g) == 0 {
		return false, nil
	}
	before := p.bytes
	err = c.bringBackGroup(c.adding(db), g, p)
	if errors.Is(err, errBroken) {
		c.mu.Lock()
		for _, b := range g {
			c.broken[b.ULID] = true
		}
		c.mu.Unlock()
	}
	if err == nil {
		c.o.Logger.Info("MaaS: brought blocks of the leader", "blocks", len(g), "bytes", p.bytes-before)
	}
	return true, err
}

// judgeBring logs, once, what keeps blocks from coming.
func (c *Copier) judgeBring(err error) {
	c.mu.Lock()
	c.follow.stuck = errors.Is(err, errNoSpace) || isLocal(err) && !errors.Is(err, errBroken)
	c.mu.Unlock()
	switch {
	case err == nil, c.stopped(), maas.IsNotFound(err), errors.Is(err, remotefile.ErrFreed):
	// A file that was freed after it was listed is not in the next listing.
	case c.follow.says(err.Error()):
		c.o.Logger.Warn("MaaS: blocks of the leader cannot be brought at present", "err", err)
	}
}

// says says whether a complaint is new.
func (f *following) says(text string) bool {
	if f == nil {
		return true
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	is := !f.said[text]
	if len(f.said) > 100 { // Complaints may contain numbers, and so differ each time.
		clear(f.said)
	}
	f.said[text] = true
	return is
}

// readFollowing reads what Look gives, which limits the time of each request.
func (c *Copier) readFollowing(call func(context.Context, remotefile.Memory) error) error {
	mem, err := c.memory.Look(c.ctx)
	if err == nil {
		err = call(c.ctx, mem)
	}
	if err != nil && c.stopped() {
		return errStopped
	}
	return err
}

// key identifies a manifest: its name is used again once the server has lost its memory.
func key(f *remotefile.File) string { return fmt.Sprint(f.Name(), f.Pieces()) }

func (f *following) manifest(of *remotefile.File) (m manifest, ok bool) {
	if f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		m, ok = f.manifests[key(of)]
	}
	return m, ok
}

func (f *following) remember(of *remotefile.File, m manifest) {
	if f != nil {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.manifests[key(of)] = m
	}
}

// forget forgets the manifests of all blocks but these.
func (f *following) forget(but map[ulid.ULID]*found) {
	f.mu.Lock()
	defer f.mu.Unlock()
	known := map[string]manifest{}
	for _, b := range but {
		known[key(b.manifest)] = f.manifests[key(b.manifest)]
	}
	f.manifests = known
}

// take takes the newest listing.
func (c *Copier) take() error {
	c.follow.taking.Lock()
	defer c.follow.taking.Unlock()
	c.mu.Lock()
	l := c.follow.listing
	c.mu.Unlock()
	if l == nil {
		return nil
	}
	s, err := c.find(l)
	if err != nil {
		return err
	}
	c.follow.forget(s.whole)
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.follow.listing == l {
		c.follow.listing = nil
	}
	changed := !c.attached
	c.attached = true
	for id, b := range c.blocks {
		if b.remote != nil && s.whole[id] == nil {
			b.remote, changed = nil, true
			c.dropLocked(b)
		}
	}
	for id, f := range s.whole {
		b := c.blocks[id]
		if b == nil {
			b = &block{meta: f.meta, files: f.files}
			c.blocks[id] = b
			c.known.add(&f.meta)
		}
		changed = changed || b.remote == nil || key(b.remote.manifest) != key(f.manifest)
		b.remote = &f.remote
	}
	if changed {
		c.broken = map[ulid.ULID]bool{} // Broken blocks may have been copied again.
		c.planLocked()
	}
	return nil
}

// leftLocked says whether a block that is not here was here before, and so does not come again.
func (c *Copier) leftLocked(id ulid.ULID) bool {
	_, missing := c.missing[id]
	return c.follow != nil && (missing || c.deleted[id])
}

// changePair brings the deletions that a block has in remote memory.
func (c *Copier) changePair(db Standby) (changed bool, err error) {
	var of *block
	c.mu.Lock()
	for id, b := range c.blocks {
		if b.here && b.remote != nil && b.remote.pair != b.pair && !c.broken[id] {
			snapshot := *b
			of = &snapshot
		}
	}
	c.mu.Unlock()
	if of == nil {
		return false, nil
	}
	m, err := c.readManifest(of.remote.manifest)
	if err != nil {
		return false, err
	}
	dir := filepath.Join(c.o.Dir, of.ULID.String())
	err = db.ChangeBlock(of.ULID, func() error {
		// In the database's order. If the process dies in between, this is done again, because the pair is
		// not the one in remote memory.
		if err := replaceFile(filepath.Join(dir, tombstonesName), m.Tombstones); err != nil {
			return err
		}
		return errors.Join(replaceFile(filepath.Join(dir, metaName), m.Meta), memory.SyncDir(dir))
	})
	c.mu.Lock()
	defer c.mu.Unlock()
	if b := c.blocks[of.ULID]; err == nil && b != nil {
		b.pair = m.pair.sum() // The block may have files that cannot be read: no look would see this.
	}
	return true, err
}

// replaceFile gives a file these bytes, or removes it for nil; a crash leaves the old or the new.
func replaceFile(path string, b []byte) error {
	if b == nil {
		if err := os.Remove(path); !errors.Is(err, os.ErrNotExist) {
			return err
		}
		return nil
	}
	tmp := path + ".tmp"
	if err := memory.WriteSynced(tmp, func(out *os.File) error { _, err := out.Write(b); return err }); err != nil {
		return err
	}
	return os.Rename(tmp, path)
}

// removeAncestors deletes blocks whose descendants are here, too. The database knows only a block's direct
// parents, and those in between may never have come.
func (c *Copier) removeAncestors() error {
	if err := c.look(); err != nil {
		return err
	}
	c.mu.Lock()
	var old []ulid.ULID
	for id, b := range c.blocks {
		if b.here && c.hasChildHereLocked(id) {
			old = append(old, id)
		}
	}
	c.mu.Unlock()
	for _, id := range old {
		dir := filepath.Join(c.o.Dir, id.String())
		tmp := dir + ".tmp-for-deletion" // The database removes such a directory if this process dies.
		if err := errors.Join(os.Rename(dir, tmp), os.RemoveAll(tmp)); err != nil {
			return err
		}
	}
	return nil
}

func (c *Copier) hasChildHereLocked(id ulid.ULID) bool {
	for other, d := range c.blocks {
		if d.readable() && c.known.ancestor(id, other) {
			return true
		}
	}
	return false
}

// Arriving is how far a head that begins at from, and may begin at to, can be truncated: only as far as blocks
// with its time have come. A block that is still on its way at the promotion comes later; until then the head has
// its samples.
func (c *Copier) Arriving(from, to int64) int64 {
	if c == nil || to <= from {
		return to
	}
	if err := c.take(); err != nil {
		return from // It is tried again soon.
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case !c.attached:
		return from
	case c.follow.stuck:
		return to
	}
	for _, g := range c.plan.groups {
		if g.min < to && g.max > from && slices.ContainsFunc(g.blocks, c.comesLocked) {
			to = max(g.min, from)
		}
	}
	return to
}

func (c *Copier) comesLocked(b *block) bool {
	return !b.here && !c.leftLocked(b.ULID) && !c.broken[b.ULID]
}
