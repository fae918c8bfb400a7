// SPDX-License-Identifier: Apache-2.0

package blocks

import (
	"cmp"
	"errors"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"maas/client/prometheus/memory"
)

// asideDir keeps the blocks that gave way to another's.
const asideDir = "maas-replaced-blocks"

// A directory whose head gives way to the one in remote memory may have blocks alone, as those of the last minute of
// who led and died. Who goes on makes them again, under other names: the two would overlap, and the database would not
// replay what is in the log for the time of such a block. One goes aside where that head, or blocks in remote memory,
// have its whole time; else it stays: nobody else has all of it. Blocks of late samples stay: who has their time need
// not have them.

// PutAside is for such a directory, before a database opens it. The head in remote memory begins at mint; Listed has
// told the rest.
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

// LeadFrom ends a Copier that follows. Its database leads, with all of the log in a head that begins at mint: before that
// was replayed, nobody may have known where it begins.
func (c *Copier) LeadFrom(mint int64) {
	if c == nil {
		return
	}
	err := c.take()
	c.Close()
	if err = errors.Join(err, c.look(), c.putAside(mint, false)); err != nil {
		c.o.Logger.Warn("MaaS: blocks of this directory may overlap with others until they are compacted", "err", err)
	}
}

// putAside puts aside what another head, from mint on, or others have: those in remote memory, or, with arrived, of
// these only such as are here.
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
	aside := filepath.Join(c.o.Dir, asideDir)
	var err error
	moved := false
	for id, b := range c.blocks {
		if !b.here || b.remote != nil || !b.inOrder() || !c.contested(b, others, mint) || !isElsewhere(b, others, mint) {
			continue
		}
		c.o.Logger.Warn("MaaS: a block of this directory is put aside; the log, or blocks, in remote memory have its time", "block", id,
			"from", time.UnixMilli(b.MinTime).UTC(), "to", time.UnixMilli(b.MaxTime).UTC(), "dir", asideDir)
		err = errors.Join(err, os.MkdirAll(aside, 0o777), os.RemoveAll(filepath.Join(aside, id.String())),
			os.Rename(filepath.Join(c.o.Dir, id.String()), filepath.Join(aside, id.String())))
		delete(c.blocks, id) // It was not deleted: what it was made of is needed again.
		moved = true
	}
	if !moved {
		return nil
	}
	c.planLocked()
	return errors.Join(err, memory.SyncDir(aside), memory.SyncDir(c.o.Dir))
}

// contested says whether another head, from mint on, has some of a block's time, or a block that it is no kin of.
func (c *Copier) contested(b *block, others []*block, mint int64) bool {
	if mint != math.MinInt64 && b.MaxTime > mint { // Else nobody knows where that head begins.
		return true
	}
	return slices.ContainsFunc(others, func(x *block) bool {
		return x.overlaps(&b.meta) && !c.known.ancestor(x.ULID, b.ULID) && !c.known.ancestor(b.ULID, x.ULID)
	})
}

// isElsewhere says whether another head, from mint on, and other blocks, in the order of time, have the whole time of a
// block.
func isElsewhere(b *block, others []*block, mint int64) bool {
	// A block begins with its first sample. One that is missing would leave a gap as wide as the shortest there is.
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
