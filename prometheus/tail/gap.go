// SPDX-License-Identifier: Apache-2.0

// Gaps: the head waits for a look before it deletes segments of its logs (see the edits), because what they have may
// be nowhere else in remote memory for a while: the block of compacted late samples (WBL) is copied later. It does not
// wait in an outage, nor for long while the server is full or slow; and a process that died waits for nothing. Then
// remote memory lacks some segments, or the marks that they are complete, without which nothing behind them would be
// restored.

package tail

import (
	"bytes"
	"cmp"
	"context"
	"slices"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

func isLog(n remotefile.Name) bool { return n.Kind == remotefile.WAL || n.Kind == remotefile.WBL }

// closeGap completes what remote memory has of a WBL whose segments are gone from the directory: what they had, late
// samples that never got to remote memory included, is elsewhere in the directory by now, in blocks or in the segments
// that are here. Without it, the segments that follow could not be restored. (A gap in the WAL needs a checkpoint.)
func (t *Tail) closeGap(local []localFile) error {
	i := slices.IndexFunc(local, func(f localFile) bool { return f.name.Kind == remotefile.WBL })
	if i < 0 {
		return nil
	}
	first := local[i].name
	var gone []*remotefile.File
	t.mu.RLock()
	for n, r := range t.files {
		if n.Kind == remotefile.WBL && n.Number < first.Number {
			gone = append(gone, r.file)
		}
	}
	t.mu.RUnlock()
	if len(gone) == 0 {
		return nil
	}
	last := slices.MaxFunc(gone, func(a, b *remotefile.File) int { return cmp.Compare(a.Name().Number, b.Name().Number) })
	if err := t.complete(last); err != nil {
		return err
	}
	for n := last.Name(); n.Number+1 < first.Number; {
		n.Number++
		empty := &remoteFile{file: remotefile.New(t.memory.Owner(), t.arena.Epoch, n, false)}
		if err := t.complete(empty.file); err != nil {
			return err
		}
		t.mu.Lock()
		t.files[n] = empty
		t.mu.Unlock()
	}
	return nil
}

// complete marks a file of a log as complete, without its torn end.
func (t *Tail) complete(f *remotefile.File) error {
	if last, _ := f.Last(); last {
		return nil
	}
	var b []byte
	for _, p := range f.Pieces() {
		piece := make([]byte, p.Length)
		if err := t.read(f, piece, p.Offset); err != nil {
			return err
		}
		b = append(b, piece...)
	}
	return t.memory.Write("finish", 0, func(ctx context.Context, c *memory.Conn) error {
		if end := validEndOf(bytes.NewReader(b)); len(bytes.Trim(b[end:], "\x00")) > 0 { // Zeros only fill a page.
			if err := f.Cut(ctx, c, end, bytes.NewReader(b)); err != nil {
				return err
			}
		}
		return f.Finish(ctx, c, false)
	})
}
