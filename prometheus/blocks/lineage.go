// SPDX-License-Identifier: Apache-2.0

package blocks

import (
	"slices"

	"github.com/oklog/ulid/v2"
)

// meta is what this package needs to know of a block's meta.json.
type meta struct {
	ULID    ulid.ULID `json:"ulid"`
	MinTime int64     `json:"minTime"`
	MaxTime int64     `json:"maxTime"` // The first one behind it.
	Stats   struct {
		NumTombstones uint64 `json:"numTombstones"`
	} `json:"stats"`
	Compaction struct {
		Deletable bool        `json:"deletable"` // It has no samples.
		Hints     []string    `json:"hints,omitempty"`
		Sources   []ulid.ULID `json:"sources"`
		Parents   []struct {
			ULID ulid.ULID `json:"ulid"`
		} `json:"parents"`
	} `json:"compaction"`
}

// inOrder says whether a block has all that a head had of its time, but for late samples. Others have a hint.
func (m *meta) inOrder() bool { return len(m.Compaction.Hints) == 0 }

func (m *meta) overlaps(other *meta) bool {
	return m.MinTime < other.MaxTime && other.MinTime < m.MaxTime
}

// lineage says what a block was compacted from.
type lineage struct {
	sources []ulid.ULID // The blocks of heads that it goes back to; of such a block, itself.
	parents []ulid.ULID // The blocks that it was made of.
}

// lineages outlive the blocks: a block may be gone between its parent and its child.
type lineages map[ulid.ULID]lineage

func (k lineages) add(m *meta) {
	l := lineage{sources: m.Compaction.Sources}
	for _, p := range m.Compaction.Parents {
		l.parents = append(l.parents, p.ULID)
	}
	k[m.ULID] = l
}

// ancestor says whether all that a has is in d, which was compacted from it. Damaged files may make circles.
func (k lineages) ancestor(a, d ulid.ULID) bool {
	return a != d && k.ancestorOf(a, d, map[ulid.ULID]bool{})
}

func (k lineages) ancestorOf(a, d ulid.ULID, seen map[ulid.ULID]bool) bool {
	of := k[d]
	if slices.Contains(of.parents, a) || slices.Contains(of.sources, a) {
		return true
	}
	// Blocks of the same sources may be parts of a whole, as other programs write them: fewer are needed.
	if n := len(k[a].sources); n > 0 && n < len(of.sources) && subset(k[a].sources, of.sources) {
		return true
	}
	seen[d] = true
	return slices.ContainsFunc(of.parents, func(p ulid.ULID) bool { return !seen[p] && k.ancestorOf(a, p, seen) })
}

func subset(a, b []ulid.ULID) bool {
	return !slices.ContainsFunc(a, func(u ulid.ULID) bool { return !slices.Contains(b, u) })
}
