// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"

	"maas/client/prometheus/memory"
	"maas/client/prometheus/record"
	"maas/client/prometheus/segment"
)

const (
	// restoreDir takes the files until all are there; it is inside of the data directory, so that
	// they move into their places without being copied.
	restoreDir = "maas-restore.tmp"
	// readTimeout bounds the read of one piece (an extent of 4 MiB at most).
	readTimeout = 10 * time.Second
)

// Restored says what Restore brought back.
type Restored struct {
	Files int
	Bytes int64
	Lost  int // Files that could not be used, with all that follows them in their log.
}

// Restore makes a data directory of what a predecessor, on another node perhaps, left in remote
// memory: its newest checkpoint, the log behind it, and, with withChunks, its head chunk files. Of
// each it takes what hangs together from its beginning, for a hole would be a silent loss. The
// directory must hold no log.
func Restore(m *memory.Manager, dir string, withChunks bool, logger *slog.Logger) (Restored, error) {
	var done Restored
	tmp := filepath.Join(dir, restoreDir)
	if err := os.RemoveAll(tmp); err != nil {
		return done, err
	}
	defer os.RemoveAll(tmp)
	r := restorer{memory: m, tmp: tmp, logger: logger}
	defer r.syncs.Wait()
	plan := planRestore(m.Arena().Listing.Files, withChunks)
	for _, log := range plan {
		for i, f := range log {
			whole, err := r.write(f)
			if err != nil {
				return done, fmt.Errorf("restore %s from the memory of owner %q: %w", f.Name(), m.Owner(), err)
			}
			done.Files++
			done.Bytes += f.Len()
			if !whole {
				done.Lost += len(log) - i
				break
			}
		}
	}
	if err := r.syncs.Wait(); err != nil {
		return done, err
	}
	// The log comes last: a directory without one is restored again at the next start.
	for _, name := range []string{"chunks_head", "wbl", "wal"} {
		err := os.Rename(filepath.Join(tmp, name), filepath.Join(dir, name))
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return done, err
		}
	}
	return done, nil
}

// planRestore picks, for each log, the files that hang together.
func planRestore(files []*segment.File, withChunks bool) [][]*segment.File {
	byKind := map[segment.Kind][]*segment.File{}
	for _, f := range files {
		byKind[f.Name().Kind] = append(byKind[f.Name().Kind], f)
	}
	checkpoint := newestCheckpoint(byKind[segment.Checkpoint])
	wal := byKind[segment.WAL]
	if checkpoint != nil {
		for len(wal) > 0 && wal[0].Name().Number <= checkpoint[0].Name().Number {
			wal = wal[1:]
		}
		if len(wal) > 0 && wal[0].Name().Number != checkpoint[0].Name().Number+1 {
			wal = nil
		}
	}
	plan := [][]*segment.File{checkpoint, contiguous(wal), contiguous(byKind[segment.WBL])}
	if withChunks {
		plan = append(plan, contiguous(byKind[segment.Chunks]))
	}
	return plan
}

// newestCheckpoint returns the parts of the newest checkpoint of which all are there and complete.
func newestCheckpoint(parts []*segment.File) []*segment.File {
	for end := len(parts); end > 0; {
		begin := end - 1
		for begin > 0 && parts[begin-1].Name().Number == parts[end-1].Name().Number {
			begin--
		}
		set := parts[begin:end]
		whole := true
		for i, f := range set {
			last, final := f.Last()
			whole = whole && last && final == (i == len(set)-1) && int(f.Name().Part) == i
		}
		if whole {
			return set
		}
		end = begin
	}
	return nil
}

func contiguous(files []*segment.File) []*segment.File {
	for i, f := range files {
		if f.Name().Number != files[0].Name().Number+uint32(i) {
			return files[:i]
		}
	}
	return files
}

type restorer struct {
	memory *memory.Manager
	tmp    string
	logger *slog.Logger
	syncs  errgroup.Group // To disk, of files that are written, while the next ones are.
}

// path is where a file has its place, below tmp. Prometheus prints the numbers of segments with
// eight digits, of chunk files with six.
func (r *restorer) path(n segment.Name) string {
	switch n.Kind {
	case segment.Checkpoint:
		return filepath.Join(r.tmp, "wal", fmt.Sprintf("%s%08d", checkpointPrefix, n.Number), fmt.Sprintf("%08d", n.Part))
	case segment.Chunks:
		return filepath.Join(r.tmp, n.Kind.String(), fmt.Sprintf("%06d", n.Number))
	}
	return filepath.Join(r.tmp, n.Kind.String(), fmt.Sprintf("%08d", n.Number))
}

// write brings one file back. whole is false where its bytes are not what their writer wrote: the
// file then ends in front of them.
func (r *restorer) write(f *segment.File) (whole bool, err error) {
	path := r.path(f.Name())
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return false, err
	}
	file, err := os.Create(path)
	if err != nil {
		return false, err
	}
	defer func() {
		r.syncs.Go(func() error { return errors.Join(file.Sync(), file.Close()) })
	}()
	var buf []byte
	for _, p := range f.Pieces() {
		buf = append(buf[:0], make([]byte, p.Length)...)
		if err := r.memory.Read("restore", readTimeout, func(ctx context.Context, c *memory.Conn) error {
			return f.ReadAt(ctx, c, buf, p.Offset)
		}); err != nil {
			return false, err
		}
		r.memory.Metrics().BytesRead.Add(float64(p.Length))
		if segment.Checksum(buf) != p.CRC {
			r.logger.Error("MaaS memory holds other bytes than were written; what follows them in this log is not restored",
				"file", f.Name(), "offset", p.Offset)
			return false, nil
		}
		if _, err := file.Write(buf); err != nil {
			return false, err
		}
	}
	if f.Name().Kind == segment.Chunks && f.Len() < record.FileHeaderSize {
		return false, os.Remove(path)
	}
	return true, nil
}
