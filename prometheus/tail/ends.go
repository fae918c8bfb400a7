// SPDX-License-Identifier: Apache-2.0

// Ends: between two looks, the last bytes of a log's file may be written and the file deleted, as happens to late
// samples (WBL) that are compacted. These bytes are needed until something else has them, and so is the mark that the
// file is complete: without the mark, nothing behind the file is restored. So the files of the logs stay open until
// they are finished. After an outage, or in another process, they no longer are: see closeGap.

package tail

import (
	"bytes"
	"cmp"
	"context"
	"os"
	"slices"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

func isLog(n remotefile.Name) bool { return n.Kind == remotefile.WAL || n.Kind == remotefile.WBL }

// open opens a local file; done closes it, unless it belongs to a log.
func (t *Tail) open(f localFile) (file *os.File, done func(), err error) {
	if file := t.logs[f.name]; file != nil {
		if info, err := file.Stat(); err == nil && os.SameFile(info, f.info) {
			return file, func() {}, nil
		}
		t.closeLog(f.name)
	}
	file, err = os.Open(f.path)
	if err != nil || !isLog(f.name) {
		return file, func() { file.Close() }, err
	}
	t.logs[f.name] = file
	return file, func() {}, nil
}

func (t *Tail) closeLog(n remotefile.Name) {
	t.logs[n].Close()
	delete(t.logs, n)
}

func (t *Tail) closeLogs() {
	for n := range t.logs {
		t.closeLog(n)
	}
}

// copyEnds copies the rest of a log's files that are gone from the directory.
func (t *Tail) copyEnds(kind remotefile.Kind, local []localFile) error {
	have := make(map[remotefile.Name]bool, len(local))
	for _, f := range local {
		have[f.name] = true
	}
	for n, file := range t.logs {
		if n.Kind != kind {
			continue
		}
		t.mu.RLock()
		r := t.files[n]
		t.mu.RUnlock()
		if r != nil && !have[n] {
			info, err := file.Stat()
			if err != nil {
				return err
			}
			f := localFile{name: n, info: info, complete: true}
			if os.SameFile(info, r.info) {
				if err := t.copyAll(file, r, f); err != nil {
					return err
				}
			}
		}
		if r == nil || !have[n] {
			t.closeLog(n)
		} else if last, _ := r.file.Last(); last {
			t.closeLog(n)
		}
	}
	return nil
}

// copyAll copies the rest of a log's file and finishes it.
func (t *Tail) copyAll(file *os.File, r *remoteFile, f localFile) error {
	for {
		n, err := t.copyPiece(file, r, f)
		if err != nil {
			return err
		}
		if n == 0 {
			return t.finish(r, f)
		}
	}
}

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
		if err := t.memory.Read("compare", readTimeout, func(ctx context.Context, c *memory.Conn) error {
			return f.ReadAt(ctx, c, piece, p.Offset)
		}); err != nil {
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
