// SPDX-License-Identifier: Apache-2.0

// The plan: which blocks belong into remote memory, and which give way.

package blocks

import (
	"cmp"
	"fmt"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/maas-memory/maas/prometheus/remotefile"
)

// group is blocks whose time ranges overlap: without one of them, answers would be incomplete.
type group struct {
	min, max int64
	blocks   []*block // Newest first.
}

// plan says which blocks belong into remote memory: the newest groups, as many as fit.
type plan struct {
	groups []group // Newest first.
	wanted int     // How many groups belong into remote memory.
}

// groupsOf groups blocks.
func groupsOf(blocks []*block) (groups []group) {
	slices.SortFunc(blocks, func(a, b *block) int {
		return cmp.Or(cmp.Compare(a.MinTime, b.MinTime), cmp.Compare(a.MaxTime, b.MaxTime), a.ULID.Compare(b.ULID))
	})
	for _, b := range blocks {
		if n := len(groups) - 1; n >= 0 && b.MinTime < groups[n].max {
			groups[n].blocks = append(groups[n].blocks, b)
			groups[n].max = max(groups[n].max, b.MaxTime)
			continue
		}
		groups = append(groups, group{b.MinTime, b.MaxTime, []*block{b}})
	}
	slices.Reverse(groups)
	for _, g := range groups {
		slices.Reverse(g.blocks)
	}
	return groups
}

// planLocked plans anew after a change, and gives up what is no longer needed.
func (c *Copier) planLocked() {
	if c.follow == nil {
		defer c.showLocked()
		c.freeGoneLocked()
	}
	var live []*block
	for _, b := range c.blocks {
		b.wanted = false
		if b.here || !c.hiddenLocked(b) {
			live = append(live, b)
		}
	}
	c.plan = plan{groups: groupsOf(live)}
	if !c.attached || c.follow != nil {
		return
	}
	used, limit := int64(0), c.budgetLocked()
	for _, g := range c.plan.groups {
		for _, b := range g.blocks {
			used += c.costLocked(b)
		}
		if used > limit {
			break
		}
		for _, b := range g.blocks {
			b.wanted = true
		}
		c.plan.wanted++
	}
}

// hiddenLocked says whether the samples of a block are in another block, here or in remote memory.
func (c *Copier) hiddenLocked(b *block) bool {
	for _, d := range c.blocks {
		if (d.here || d.remote != nil) && c.known.ancestor(b.ULID, d.ULID) {
			return true
		}
	}
	return false
}

// freeGoneLocked frees what has become useless: blocks that were deleted here, and blocks whose descendant is
// whole in remote memory. A block whose descendant is not whole stays: a take-over would need it.
func (c *Copier) freeGoneLocked() {
	for id, b := range c.blocks {
		if b.here || b.remote == nil {
			continue
		}
		replaced, needed, deleted := false, false, c.deleted[id]
		for other, d := range c.blocks {
			if c.known.ancestor(id, other) {
				replaced = replaced || d.remote != nil
				needed = needed || d.here
			}
		}
		for other := range c.deleted {
			deleted = deleted || c.known.ancestor(id, other)
		}
		if replaced || deleted && !needed || c.isSpareLocked(b) {
			c.giveUpLocked(b)
		}
	}
}

func (c *Copier) giveUpLocked(b *block) {
	c.dead = append(c.dead, b.remote.all()...)
	b.took = b.remote.allocated()
	b.remote = nil
	c.dropLocked(b)
}

// ancestorsLocked are the blocks in remote memory from which a block that is here was compacted.
func (c *Copier) ancestorsLocked(b *block) (list []*block) {
	for id, a := range c.blocks {
		if a.remote != nil && !a.here && c.known.ancestor(id, b.ULID) {
			list = append(list, a)
		}
	}
	return list
}

// coveredLocked says whether a take-over would have the samples of a block.
func (c *Copier) coveredLocked(b *block) bool {
	if b.remote != nil {
		return true
	}
	// Samples that were deleted from the block are still in its parents.
	return b.Stats.NumTombstones == 0 && c.parentsWholeLocked(b.ULID, map[ulid.ULID]bool{})
}

// parentsWholeLocked says whether all that a block was made of is whole in remote memory. seen are the blocks that
// were looked at; in damaged files, a block may be its own ancestor, which is not whole.
func (c *Copier) parentsWholeLocked(id ulid.ULID, seen map[ulid.ULID]bool) (is bool) {
	if is, looked := seen[id]; looked {
		return is
	}
	seen[id] = false
	defer func() { seen[id] = is }()
	of := c.known[id]
	whole := func(p ulid.ULID) bool {
		b := c.blocks[p]
		return b != nil && b.remote != nil && !c.broken[p]
	}
	if len(of.parents) > 0 && !slices.ContainsFunc(of.parents, func(p ulid.ULID) bool {
		return !whole(p) && !c.parentsWholeLocked(p, seen)
	}) {
		return true
	}
	// Nobody may know a parent any more; then the blocks made from heads count.
	sources := slices.Clone(of.sources)
	for a, b := range c.blocks {
		if b.remote != nil && !c.broken[a] && c.known.ancestor(a, id) {
			sources = slices.DeleteFunc(sources, func(s ulid.ULID) bool { return slices.Contains(c.known[a].sources, s) })
		}
	}
	return len(of.sources) > 0 && len(sources) == 0
}

// budgetLocked is how much of remote memory blocks may take.
func (c *Copier) budgetLocked() int64 {
	size := c.o.Size
	if size == 0 {
		size = c.pool / share
	}
	if c.limit > 0 {
		size = min(size, c.limit)
	}
	return max(size, 0)
}

// keptLocked is how much the blocks take that are whole in remote memory.
func (c *Copier) keptLocked() (sum int64) {
	for _, b := range c.blocks {
		if b.remote != nil {
			sum += b.remote.allocated()
		}
	}
	return sum
}

// allocatedLocked is how much all blocks take, including those that are being copied, or are to be freed.
func (c *Copier) allocatedLocked() int64 {
	sum := c.keptLocked()
	for _, u := range c.partial {
		sum += allocated(u.files)
	}
	return sum + allocated(c.dead)
}

// needLocked is what a block takes at the server. It is never less than the block will take; otherwise the block
// would be copied and evicted over and over.
func (c *Copier) needLocked(b *block) int64 {
	sum := remotefile.Footprint(2*b.pairSize+int64(len(b.files)+10)*100, c.classes) // For its manifest.
	for _, f := range b.files {
		sum += remotefile.Footprint(f.Size, c.classes)
	}
	return max(sum, b.took)
}

// costLocked is what the copy of a block takes, or would take.
func (c *Copier) costLocked(b *block) (sum int64) {
	switch {
	case b.remote != nil:
		return b.remote.allocated()
	case !c.coveredLocked(b):
		return c.needLocked(b)
	}
	for _, a := range c.ancestorsLocked(b) {
		sum += a.remote.allocated()
	}
	return sum
}

// next returns what to copy next: the newest block that belongs into remote memory and is not there. If there is
// no room for the block, next first evicts an older one that does not belong there, if there is one.
func (c *Copier) next() (u *upload, evicted bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.attached || c.arena != c.memory.Arena() {
		return nil, false
	}
	c.waiting = map[ulid.ULID]bool{}
	budget := c.budgetLocked()
	if c.allocatedLocked() > budget && c.evictLocked(len(c.plan.groups)-c.plan.wanted) {
		return nil, true
	}
	for _, g := range c.plan.groups[:c.plan.wanted] {
		for _, b := range g.blocks {
			if !b.here || b.remote != nil || c.pausesLocked(b.ULID) || c.restsLocked(b) {
				continue
			}
			u := c.partial[b.ULID]
			used := c.allocatedLocked() + c.needLocked(b)
			if u != nil {
				used -= allocated(u.files)
			}
			if used > budget && c.evictLocked(len(c.plan.groups)-c.plan.wanted) {
				return nil, true
			}
			if !c.coveredLocked(b) {
				for _, a := range c.ancestorsLocked(b) { // They go as soon as the block is there.
					used -= a.remote.allocated()
				}
			}
			if used <= budget {
				return c.uploadLocked(b), false
			}
			c.waiting[b.ULID] = true // It waits until older blocks have replaced their parents, or missing blocks have
			// come back; or its parents stay instead.
		}
	}
	return nil, false
}

func (c *Copier) pausesLocked(id ulid.ULID) bool { return time.Now().Before(c.paused[id].until) }

// restsLocked says whether a block whose copying has not begun may soon be replaced.
func (c *Copier) restsLocked(b *block) bool {
	return c.partial[b.ULID] == nil && c.database != nil && time.Since(b.since) < c.o.Rest && c.database.Compacting()
}

// evictLocked frees, among this number of the oldest groups, the oldest block in remote memory that is also here, and
// can be read.
func (c *Copier) evictLocked(groups int) bool {
	for i := range groups {
		g := c.plan.groups[len(c.plan.groups)-1-i]
		for _, b := range slices.Backward(g.blocks) {
			if !b.readable() {
				continue
			}
			if b.remote != nil {
				c.giveUpLocked(b)
				c.planLocked()
				return true
			}
			if parents := c.ancestorsLocked(b); len(parents) > 0 {
				for _, a := range parents {
					c.giveUpLocked(a)
				}
				c.planLocked()
				return true
			}
		}
	}
	return false
}

// report logs once what does not fit, and what keeps blocks from being copied.
func (c *Copier) report(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.showLocked()
	c.sayLocked()
	if !c.memory.Up() {
		err = nil // The memory package logs it, once for all.
	}
	if err != nil && err.Error() != c.why {
		c.o.Logger.Warn("MaaS: blocks are not copied", "err", err)
	}
	c.why = ""
	if err != nil {
		c.why = err.Error()
	}
}

// showLocked sets the metrics.
func (c *Copier) showLocked() {
	metrics := c.memory.Metrics()
	var allocations, bytes, stored, pending int64
	count := func(files []*remotefile.File) {
		for _, f := range files {
			n, b := f.Allocated()
			allocations += int64(n)
			bytes += b
			stored += f.Len()
		}
	}
	for _, b := range c.blocks {
		switch {
		case b.remote != nil:
			count(b.remote.all())
		case b.wanted && !c.coveredLocked(b):
			pending += b.size()
		}
	}
	for _, u := range c.partial {
		count(u.files)
	}
	kind := remotefile.Block.String()
	metrics.Allocations.WithLabelValues(kind).Set(float64(allocations))
	metrics.AllocatedBytes.WithLabelValues(kind).Set(float64(bytes))
	metrics.StoredBytes.WithLabelValues(kind).Set(float64(stored))
	metrics.BlocksPending.Set(float64(pending))
	metrics.TakeoverOldest.Set(float64(c.oldestLocked()) / 1000)
}

// oldestLocked is where the blocks of a take-over would begin.
func (c *Copier) oldestLocked() int64 {
	if len(c.plan.groups) == 0 {
		return 0
	}
	oldest := c.plan.groups[0].max
	for _, g := range c.plan.groups {
		for _, b := range g.blocks {
			if !c.attached || !c.coveredLocked(b) {
				return oldest
			}
		}
		oldest = g.min
	}
	return oldest
}

func (c *Copier) sayLocked() {
	if !c.attached || c.o.Size < 0 {
		return
	}
	left := c.plan.groups[c.plan.wanted:]
	switch {
	case len(left) > 0 && !c.said:
		c.o.Logger.Warn("MaaS: not all blocks fit into their share of remote memory; a take-over would have none older than this time",
			"oldest", time.UnixMilli(left[0].max).UTC(), "share", fmt.Sprintf("%d bytes", c.budgetLocked()))
	case len(left) == 0 && c.said:
		c.o.Logger.Info("MaaS: all blocks fit into their share of remote memory")
	}
	c.said = len(left) > 0
}
