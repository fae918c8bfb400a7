// SPDX-License-Identifier: Apache-2.0

// Freeing: what is no longer in the data directory is removed from remote memory, too, but only after remote memory
// says where the head begins now. Otherwise a take-over would find, and show, a part of what was truncated.

package tail

import (
	"cmp"
	"context"
	"slices"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// release frees what is dead. It says whether files that are gone from the directory may be freed and replaced;
// they may not while samples that left the head are not safe elsewhere. Then only the log goes on: a checkpoint would
// replace what is held, and a replay that finds later chunks of a series skips its earlier samples, whose own chunks may
// have been deleted before they were copied.
func (t *Tail) release() (bool, error) {
	dead := t.takeDead(anyName) // First, because files that die later belong to the next truncation.
	mint := t.memory.MinValidTime()
	if t.held() && !t.full.Load() {
		t.giveBack(dead)
		return false, nil
	}
	if err := t.publish(mint); err != nil {
		t.giveBack(dead)
		return false, err
	}
	return true, t.free(dead)
}

// held is also false if the log in remote memory is not whole: with a gap, or without its beginning, the log is
// useless until the checkpoint is there.
func (t *Tail) held() bool { return t.o.Held != nil && t.usable() && t.o.Held() }

// MayFree says whether nobody, a take-over included, needs the truncated chunks any longer. full says that the
// server has no room for anything else. Any goroutine may ask.
func (t *Tail) MayFree(full bool) bool {
	return t.memory.MinValidTime() <= t.minTime.Load() && (full || !t.held())
}

// publish tells remote memory where the head begins.
func (t *Tail) publish(mint int64) error {
	if mint <= t.minTime.Load() {
		return nil
	}
	newest := t.setMinTime(mint)
	if newest != nil {
		if err := t.memory.Write("publish", 0, func(ctx context.Context, c *memory.Conn) error {
			return newest.Stamp(ctx, c)
		}); err != nil {
			return err
		}
	}
	t.minTime.Store(mint)
	return nil
}

// setMinTime makes the next bytes of the log say where the head begins. It returns the newest file of the log in
// remote memory; nil if there is none.
func (t *Tail) setMinTime(mint int64) (newest *remotefile.File) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for name, r := range t.files {
		if name.Kind != remotefile.WAL {
			continue
		}
		r.file.SetMinTime(mint)
		if r.file.Len() > 0 && (newest == nil || name.Number > newest.Name().Number) {
			newest = r.file
		}
	}
	return newest
}

func anyName(remotefile.Name) bool { return true }

// takeDead removes the dead files with certain names from the list, to free them.
func (t *Tail) takeDead(ofName func(remotefile.Name) bool) (taken []*remotefile.File) {
	t.mu.Lock()
	defer t.mu.Unlock()
	var kept []*remotefile.File
	for _, f := range t.dead {
		if ofName(f.Name()) {
			taken = append(taken, f)
		} else {
			kept = append(kept, f)
		}
	}
	t.dead = kept
	return taken
}

func (t *Tail) giveBack(dead []*remotefile.File) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.dead = append(t.dead, dead...)
}

// free frees files one by one. At whatever moment that ends, a take-over can use what is left: it needs the end of a
// log, and the beginning of the chunks, but all of them for a snapshot.
func (t *Tail) free(dead []*remotefile.File) error {
	slices.SortFunc(dead, func(a, b *remotefile.File) int {
		x, y := a.Name(), b.Name()
		if x.Kind != y.Kind && (x.Kind == remotefile.Snapshot || y.Kind == remotefile.Snapshot) {
			return cmp.Compare(y.Kind, x.Kind) // It has the highest kind.
		}
		if x.Kind == remotefile.Chunks {
			x, y = y, x
		}
		return cmp.Or(cmp.Compare(a.Name().Kind, b.Name().Kind), cmp.Compare(x.Number, y.Number), cmp.Compare(x.Part, y.Part))
	})
	for i, f := range dead {
		if err := t.memory.Write("free", 0, func(ctx context.Context, c *memory.Conn) error {
			return f.Free(ctx, c)
		}); err != nil {
			t.giveBack(dead[i:])
			return err
		}
	}
	return nil
}
