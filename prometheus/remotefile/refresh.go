// SPDX-License-Identifier: Apache-2.0

// Following: List shows a file that another process writes as it was at that time. What the writer appends later to
// the last extent needs no second List, because the extent's header tells.

package remotefile

import (
	"context"
	"fmt"

	maas "github.com/maas-memory/maas/go"
)

// Refresh reads the header of the last extent again. ErrFreed: the extent was freed, or belongs to another file by
// now. Only for a file that nobody in this process appends to.
func (f *File) Refresh(ctx context.Context, mem Memory) error {
	f.mu.RLock()
	e := f.extents[len(f.extents)-1]
	f.mu.RUnlock()
	b := make([]byte, HeaderSize)
	if err := mem.ReadV(ctx, []maas.Range{{ID: e.id, Data: b}}); err != nil {
		if maas.IsNotFound(err) {
			err = ErrFreed
		}
		return fmt.Errorf("look at %s again: %w", f.name, err)
	}
	h, err := decodeHeader(b, e.capacity)
	if err != nil || h.name != e.name || h.index != e.index || h.base != e.base || h.epoch != e.epoch {
		return fmt.Errorf("%s: its last extent has become another one: %w", f.name, ErrFreed)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.extents[len(f.extents)-1].header = h
	f.extra = max(f.extra, h.extra)
	return nil
}

// Full says whether the last extent takes no more bytes: whatever follows is in another extent, or in another
// file.
func (f *File) Full() bool {
	f.mu.RLock()
	defer f.mu.RUnlock()
	e := &f.extents[len(f.extents)-1]
	return int64(e.length) == e.capacity || e.flags&flagLast != 0
}

// Epoch is the epoch of the file's writer.
func (f *File) Epoch() uint64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.epoch
}
