// SPDX-License-Identifier: Apache-2.0

// Which block was compacted from which.

package blocks

import (
	"slices"

	"github.com/oklog/ulid/v2"
)

// meta is the part of a block's meta.json that this package needs.
type meta struct {
	ULID    ulid.ULID `json:"ulid"`
	MinTime int64     `json:"minTime"`
	MaxTime int64     `json:"maxTime"` // The first time behind the block.
	Stats   struct {
		NumTombstones uint64 `json:"numTombstones"`
	} `json:"stats"`
	Compaction struct {
		Deletable bool        `json:"deletable"` // The block has no samples.
		Hints     []string    `json:"hints,omitempty"`
		Sources   []ulid.ULID `json:"sources"`
		Parents   []struct {
			ULID ulid.ULID `json:"ulid"`
		} `json:"parents"`
	} `json:"compaction"`
}

// inOrder says whether a block has all samples that a head had of its time, except for late ones. Other blocks
// have a hint.
func (m *meta) inOrder() bool { return len(m.Compaction.Hints) == 0 }

func (m *meta) overlaps(other *meta) bool {
	return m.MinTime < other.MaxTime && other.MinTime < m.MaxTime
}

// lineage says which blocks a block was compacted from.
type lineage struct {
	sources []ulid.ULID // The blocks made from heads that it goes back to; for such a block, itself.
	parents []ulid.ULID // The blocks that it was directly made of.
}

// lineages outlive the blocks: the block between an ancestor and a descendant may be gone.
type lineages map[ulid.ULID]lineage

func (k lineages) add(m *meta) {
	l := lineage{sources: m.Compaction.Sources}
	for _, p := range m.Compaction.Parents {
		l.parents = append(l.parents, p.ULID)
	}
	k[m.ULID] = l
}

// ancestor says whether d was compacted from a, and so has all that a has. Damaged files may form circles.
func (k lineages) ancestor(a, d ulid.ULID) bool {
	return a != d && k.ancestorOf(a, d, map[ulid.ULID]bool{})
}

func (k lineages) ancestorOf(a, d ulid.ULID, seen map[ulid.ULID]bool) bool {
	of := k[d]
	if slices.Contains(of.parents, a) || slices.Contains(of.sources, a) {
		return true
	}
	// Blocks with equal sources may be parts of a whole, as other programs write them, so an ancestor must
	// have fewer.
	if n := len(k[a].sources); n > 0 && n < len(of.sources) && subset(k[a].sources, of.sources) {
		return true
	}
	seen[d] = true
	return slices.ContainsFunc(of.parents, func(p ulid.ULID) bool { return !seen[p] && k.ancestorOf(a, p, seen) })
}

func subset(a, b []ulid.ULID) bool {
	return !slices.ContainsFunc(a, func(u ulid.ULID) bool { return !slices.Contains(b, u) })
}
