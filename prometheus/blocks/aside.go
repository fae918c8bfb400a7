// SPDX-License-Identifier: Apache-2.0

// When the head in remote memory replaces a directory's head, the directory may have blocks that nobody else has, such
// as those of the last minute of a leader that died. Its successor makes these again, under other names: the two would
// overlap, and the database would not replay the log for the time of such a block. A block is put aside if that head,
// or blocks in remote memory, have its whole time; otherwise it stays, because nobody else has all of it. Blocks of
// late samples stay: another block of their time need not have these samples.

package blocks

import (
	"cmp"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/maas-memory/maas/prometheus/memory"
)

// asideDir keeps the blocks that others, or the head, replaced.
const asideDir = "maas-replaced-blocks"

// PutAside puts such blocks aside, before a database opens the directory. The head in remote memory begins at
// mint; the blocks there are those of Listed.
func (c *Copier) PutAside(mint int64) error {
	if c == nil {
		return nil
	}
	c.moveRest()
	if err := c.look(); err != nil {
		return err
	}
	if len(c.blocks) == 0 {
		return nil
	}
	if err := c.take(); err != nil {
		return err
	}
	return c.putAside(mint, false)
}

// LeadFrom ends a Copier that follows. Its database is about to lead, with the whole log in a head that begins at
// mint; before the replay, nobody may have known where the head begins.
func (c *Copier) LeadFrom(mint int64) {
	if c == nil {
		return
	}
	if err := c.take(); err != nil && !c.stopped() {
		c.o.Logger.Warn("MaaS: blocks of this directory may overlap with others until they are compacted", "err", err)
	}
	c.Close()
	if err := errors.Join(c.look(), c.putAside(mint, false)); err != nil {
		c.o.Logger.Error("MaaS: cannot put a block aside; it overlaps with others until it is compacted", "err", err)
	}
	c.leaveIslands(mint)
}

// TakeOver is PutAside for a directory that is about to lead.
func (c *Copier) TakeOver(mint int64) error {
	if err := c.PutAside(mint); err != nil {
		return err
	}
	c.leaveIslands(mint)
	return nil
}

// leaveIslands leaves out the blocks whose samples a head that begins at mint has, if the head also has the time
// in front of them: a leader died that had copied them before older blocks. A head that began behind them, as the
// next start's would, would lack the older time. Remote memory keeps the blocks until it has others for their
// time, because the head's log may be cut. If it is not known where the head begins, all blocks that could come
// back are left out; it will be known later.
func (c *Copier) leaveIslands(mint int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	islands := c.islandsLocked(mint)
	if mint == math.MinInt64 {
		islands = nil
		for _, b := range c.blocks {
			if b.here && b.remote != nil && b.inOrder() {
				islands = append(islands, b)
			}
		}
	}
	moved := false
	for _, b := range islands {
		c.o.Logger.Info("MaaS: a block is left out for now; the head may have its time, and the time before it", "block", b.ULID,
			"from", time.UnixMilli(b.MinTime).UTC(), "to", time.UnixMilli(b.MaxTime).UTC())
		c.islands[b.ULID] = true
		if !b.here {
			continue
		}
		if err := c.moveAside(b.ULID); err != nil {
			c.o.Logger.Error("MaaS: cannot put a block aside; move it away before the next start, which would otherwise lack everything before it", "block", b.ULID, "err", err)
			continue
		}
		b.here, b.state, moved = false, "", true
		c.dropLocked(b)
	}
	c.planLocked()
	if moved {
		if err := c.syncAside(); err != nil {
			c.o.Logger.Error("MaaS: blocks that were put aside may be back after a power cut", "err", err)
		}
	}
}

// isSpareLocked says whether remote memory has other blocks for the time of a block that was left out.
func (c *Copier) isSpareLocked(b *block) bool {
	if !c.islands[b.ULID] {
		return false
	}
	var others []*block
	for id, x := range c.blocks {
		if x.remote != nil && x.inOrder() && !c.islands[id] {
			others = append(others, x)
		}
	}
	slices.SortFunc(others, func(x, y *block) int { return cmp.Compare(x.MinTime, y.MinTime) })
	return isElsewhere(b, others, math.MinInt64)
}

func (c *Copier) hasIslands(mint int64) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.islandsLocked(mint)) > 0
}

// islandsLocked are the blocks that begin within the time of a head that begins at mint, but behind a gap.
func (c *Copier) islandsLocked(mint int64) (islands []*block) {
	if mint == math.MinInt64 {
		return nil
	}
	var all []*block
	gap := int64(math.MaxInt64)
	for _, b := range c.blocks {
		if b.inOrder() && (b.here || !c.deleted[b.ULID] && !c.islands[b.ULID]) {
			all = append(all, b)
			gap = min(gap, b.MaxTime-b.MinTime)
		}
	}
	slices.SortFunc(all, func(x, y *block) int { return cmp.Compare(x.MinTime, y.MinTime) })
	at := mint
	for _, b := range all {
		if b.MinTime > at && b.MinTime-at > gap/2 { // A block begins with its first sample.
			islands = append(islands, b)
		} else {
			at = max(at, b.MaxTime)
		}
	}
	return islands
}

// moveAside moves a block aside. syncAside makes this and earlier moves durable.
func (c *Copier) moveAside(id ulid.ULID) error {
	aside := filepath.Join(c.o.Dir, asideDir)
	from, to := filepath.Join(c.o.Dir, id.String()), filepath.Join(aside, id.String())
	if _, err := os.Lstat(from); err != nil {
		return err
	}
	return errors.Join(os.MkdirAll(aside, 0o777), os.RemoveAll(to), os.Rename(from, to))
}

func (c *Copier) syncAside() error {
	return errors.Join(memory.SyncDir(filepath.Join(c.o.Dir, asideDir)), memory.SyncDir(c.o.Dir))
}

// putAside puts aside the blocks whose time a head that begins at mint has, or other blocks have: those in remote
// memory, or, with arrived, only those of them that are here.
func (c *Copier) putAside(mint int64, arrived bool) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	var others []*block
	for _, x := range c.blocks {
		if x.remote != nil && x.inOrder() && (x.here || !arrived) {
			others = append(others, x)
		}
	}
	slices.SortFunc(others, func(x, y *block) int { return cmp.Compare(x.MinTime, y.MinTime) })
	var err error
	moved := false
	for id, b := range c.blocks {
		if !b.here || b.remote != nil || !b.inOrder() || !c.contested(b, others, mint) || !isElsewhere(b, others, mint) {
			continue
		}
		c.o.Logger.Warn("MaaS: a block of this directory is put aside; the log, or blocks, in remote memory have its time", "block", id,
			"from", time.UnixMilli(b.MinTime).UTC(), "to", time.UnixMilli(b.MaxTime).UTC(), "dir", asideDir)
		err = errors.Join(err, c.moveAside(id))
		b.here = false       // Callers may still hold b.
		delete(c.blocks, id) // The block was not deleted: its parents are needed again.
		moved = true
	}
	if !moved {
		return nil
	}
	c.planLocked()
	return errors.Join(err, c.syncAside())
}

// contested says whether a head that begins at mint, or a block of another lineage, has some of a block's time.
func (c *Copier) contested(b *block, others []*block, mint int64) bool {
	if mint != math.MinInt64 && b.MaxTime > mint { // With MinInt64, nobody knows where that head begins.
		return true
	}
	return slices.ContainsFunc(others, func(x *block) bool {
		return x.overlaps(&b.meta) && !c.known.ancestor(x.ULID, b.ULID) && !c.known.ancestor(b.ULID, x.ULID)
	})
}

// isElsewhere says whether a head that begins at mint and other blocks, in the order of time, have the whole time
// of a block.
func isElsewhere(b *block, others []*block, mint int64) bool {
	// A block begins with its first sample. A missing block would leave a gap as wide as the shortest block.
	gap := b.MaxTime - b.MinTime
	for _, x := range others {
		gap = min(gap, x.MaxTime-x.MinTime)
	}
	at := b.MinTime
	for _, x := range others {
		if x.MinTime <= at+gap/2 {
			at = max(at, x.MaxTime)
		}
	}
	return at >= b.MaxTime || mint != math.MinInt64 && at+gap/2 >= mint
}
