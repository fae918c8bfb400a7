// SPDX-License-Identifier: Apache-2.0

// Finding an owner's files from what the server holds.

package remotefile

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"slices"

	maas "github.com/maas-memory/maas/go"
)

// listBatch is how many headers one request reads: few enough that the answer is quick over a slow link; over RDMA
// each header also needs a key first.
const listBatch = 256

// Listing is everything that an owner has at a server.
type Listing struct {
	Files []*File // By kind, number and part; each ends where its first gap begins.

	// Orphans are allocations that belong to no file: never written, torn, or behind a gap.
	Orphans []string

	// Epoch is the highest epoch of any writer.
	Epoch uint64

	// MinTime is where the head begins that the log belongs to; math.MinInt64: where the log begins.
	MinTime int64
}

// List finds the files of an owner. The caller must be the owner's only user; otherwise an allocation that another
// is about to write to would be taken for an orphan.
func List(ctx context.Context, mem Memory, owner string) (*Listing, error) {
	allocations, err := mem.List(ctx, owner)
	if err != nil {
		return nil, fmt.Errorf("list the allocations of owner %q: %w", owner, err)
	}
	l := &Listing{MinTime: math.MinInt64}
	byName := map[Name][]extent{}
	for batch := range slices.Chunk(allocations, listBatch) {
		headers := make([]byte, len(batch)*HeaderSize)
		ranges := make([]maas.Range, 0, len(batch))
		for i, a := range batch {
			if a.Size > HeaderSize && a.Size <= maxExtent { // Another size is not ours.
				ranges = append(ranges, maas.Range{ID: a.ID, Data: headers[i*HeaderSize : (i+1)*HeaderSize]})
			}
		}
		if err := mem.ReadV(ctx, ranges); err != nil {
			return nil, fmt.Errorf("read the extents of owner %q: %w", owner, err)
		}
		for i, a := range batch {
			e := extent{id: a.ID, capacity: a.Size - HeaderSize, lent: a.ActualSize}
			e.header, err = decodeHeader(headers[i*HeaderSize:(i+1)*HeaderSize], e.capacity)
			if errors.Is(err, errNoHeader) {
				l.Orphans = append(l.Orphans, a.ID)
				continue
			}
			if err != nil {
				return nil, fmt.Errorf("extent %s of owner %q: %w", a.ID, owner, err)
			}
			byName[e.name] = append(byName[e.name], e)
		}
	}
	for name, extents := range byName {
		l.add(name, owner, extents)
	}
	Sort(l.Files)
	return l, nil
}

// Sort sorts files by kind, number and part.
func Sort(files []*File) {
	slices.SortFunc(files, func(a, b *File) int {
		return cmp.Or(cmp.Compare(a.name.Kind, b.name.Kind), cmp.Compare(a.name.Number, b.name.Number),
			cmp.Compare(a.name.Part, b.name.Part))
	})
}

// add makes a file from the extents of its newest writer, up to the first gap.
func (l *Listing) add(name Name, owner string, extents []extent) {
	slices.SortFunc(extents, func(a, b extent) int {
		return cmp.Or(-cmp.Compare(a.epoch, b.epoch), cmp.Compare(a.index, b.index))
	})
	f := New(owner, extents[0].epoch, name, extents[0].flags&flagSorted != 0)
	l.Epoch = max(l.Epoch, f.epoch)
	for _, e := range extents {
		if e.epoch == f.epoch && int(e.index) == len(f.extents) && int64(e.base) == f.length() {
			f.extents = append(f.extents, e)
			f.extra, f.chunks = max(f.extra, e.extra), max(f.chunks, e.chunks)
		} else {
			l.Orphans = append(l.Orphans, e.id)
		}
	}
	if len(f.extents) > 0 {
		l.Files = append(l.Files, f)
		if name.Kind == WAL {
			l.MinTime = max(l.MinTime, f.MinTime())
		}
	}
}
