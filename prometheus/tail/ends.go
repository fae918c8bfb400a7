// SPDX-License-Identifier: Apache-2.0

// Ends: between two looks, the last bytes of a log's file may be written and the file deleted, as happens to late
// samples (WBL) that are compacted. These bytes are needed until something else has them, and so is the mark that the
// file is complete: without the mark, nothing behind the file is restored. So the files of the logs stay open until
// they are finished.

package tail

import (
	"os"

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

// copyEnds copies the rest of the logs' files that are gone from the directory.
func (t *Tail) copyEnds(local []localFile) error {
	have := make(map[remotefile.Name]bool, len(local))
	for _, f := range local {
		have[f.name] = true
	}
	for n, file := range t.logs {
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
