// SPDX-License-Identifier: Apache-2.0

// Restoring: a data directory is filled from remote memory before a database opens it.

package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sync/errgroup"

	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// restoreDir takes the files until all are there. It lies inside the data directory, so that they move into their places
// without being copied.
const restoreDir = "maas-restore.tmp"

// Restored is the result of Restore.
type Restored struct {
	Files int
	Bytes int64
	Lost  int // Files that could not be used, including all that follow them.
}

// Restore fills a data directory with what a predecessor, perhaps on another node, left in remote memory: its
// newest checkpoint, the log behind it, and, with withChunks, its head chunk files. Of each it takes the files up
// to the first gap, because a hole would be a silent loss. A log that the directory holds is put aside. When ctx
// ends, Restore ends with an error, and the directory is as it was.
func Restore(ctx context.Context, m *memory.Manager, dir string, withChunks bool, logger *slog.Logger) (Restored, error) {
	var done Restored
	tmp := filepath.Join(dir, restoreDir)
	if err := os.RemoveAll(tmp); err != nil {
		return done, err
	}
	defer os.RemoveAll(tmp)
	r := restorer{tmp: tmp, metrics: m.Metrics(), logger: logger, read: func(f *remotefile.File, p []byte, off int64) error {
		return m.ReadFile(ctx, "restore", f, p, off)
	}}
	defer r.syncs.Wait()
	plan, lost, err := planRestore(m.Arena().Listing.Files, withChunks)
	keep := m.Behind()
	if !keep && !memory.IsEmpty(dir) {
		var stays bool
		if stays, keep, err = ownLog(ctx, m, dir, plan, err, logger); stays {
			return done, err
		}
	}
	if err != nil || len(plan) == 0 {
		return done, err
	}
	if done.Lost = lost; lost > 0 {
		logger.Error("MaaS memory does not hold the whole log of this owner; nothing behind the gap is restored", "files", lost)
	}
	files := slices.Concat(plan...)
	damaged := lost > 0 // The log is.
	for i, f := range files {
		whole, err := r.write(f)
		if err != nil {
			return done, fmt.Errorf("restore %s from the memory of owner %q: %w", f.Name(), m.Owner(), err)
		}
		done.Files++
		done.Bytes += f.Len()
		if !whole && f.Name().Kind == remotefile.Checkpoint {
			return done, fmt.Errorf("the log begins with a checkpoint, and %s is not as it was written", f.Name())
		}
		if !whole {
			damaged = damaged || isLog(f.Name())
			done.Lost += len(files) - i
			break
		}
	}
	if err := r.syncs.Wait(); err != nil {
		return done, err
	}
	if err := r.addSegment(plan[0], plan[1]); err != nil {
		return done, err
	}
	if damaged && !memory.IsEmpty(dir) {
		logger.Error("MaaS memory does not hold the whole log of this owner; the data directory's own stays")
		return Restored{}, nil
	}
	if keep {
		if err := r.keepLonger(dir, plan); err != nil {
			return done, fmt.Errorf("keep what the data directory's log has in addition: %w", err)
		}
	}
	// Before the log is there: whatever ends this start, the next one that finds the log must know where its
	// head begins.
	if err := m.BeginHead(m.Arena().Listing.MinTime); err != nil {
		return done, err
	}
	return done, replaceHead(dir, tmp)
}

// ownLog says what becomes of the log of a directory that was to follow: whether it stays as it is, because remote
// memory has no more or nothing to begin with, and whether what it has in addition stays. unusable is why a plan is
// none.
func ownLog(ctx context.Context, m *memory.Manager, dir string, plan [][]*remotefile.File, unusable error, logger *slog.Logger) (stays, rest bool, err error) {
	if unusable != nil || len(plan) == 0 {
		logger.Error("MaaS: going on with this copy of the log, the only one left", "err", unusable)
		return true, false, nil
	}
	mem, err := m.Look(ctx)
	if err != nil {
		return false, false, err
	}
	l := m.Arena().Listing
	if m.State().Following { // Late samples are in remote memory alone.
		_, rest, err = ahead(ctx, mem, plan, dir, newCompared(ctx.Err))
		return false, rest, err
	}
	relation, err := Compare(ctx, mem, l, dir, false)
	return err == nil && relation == memory.HasAll, relation == memory.Behind, err
}

// planRestore picks, in this order, the files of checkpoint, WAL, WBL and chunks up to the first gap of each. lost
// is how many files of the logs it leaves out: all behind a gap, because their series may be defined in the lost
// part. Without the beginning of its log, no database opens.
func planRestore(files []*remotefile.File, withChunks bool) (plan [][]*remotefile.File, lost int, err error) {
	byKind := map[remotefile.Kind][]*remotefile.File{}
	for _, f := range files {
		byKind[f.Name().Kind] = append(byKind[f.Name().Kind], f)
	}
	checkpoint := newestSet(byKind[remotefile.Checkpoint])
	first, wal := uint32(0), byKind[remotefile.WAL]
	if checkpoint != nil {
		first = checkpoint[0].Name().Number + 1
		for len(wal) > 0 && wal[0].Name().Number < first {
			wal = wal[1:]
		}
	} else if len(wal) == 0 {
		return nil, 0, nil // Without a log, nobody knows which series the rest belongs to.
	}
	if checkpoint == nil && wal[0].Name().Number > 0 {
		return nil, 0, fmt.Errorf("the log begins with segment %d, and the checkpoint in front of it is not complete", wal[0].Name().Number)
	}
	plan = [][]*remotefile.File{checkpoint}
	wbl, chunks := byKind[remotefile.WBL], byKind[remotefile.Chunks]
	for _, log := range []struct {
		first uint32
		files []*remotefile.File
	}{{first, wal}, {firstNumber(wbl), wbl}} {
		n := 0
		if lost == 0 {
			n = contiguous(log.first, log.files)
		}
		plan = append(plan, log.files[:n])
		lost += len(log.files) - n
	}
	if withChunks && lost == 0 {
		n := contiguous(firstNumber(chunks), chunks)
		plan = append(plan, chunks[:n])
		last := uint32(0)
		if n > 0 {
			last = chunks[n-1].Name().Number
		}
		snapshot := newestSet(byKind[remotefile.Snapshot])
		reliesOnMore := func(part *remotefile.File) bool { return part.ReliesOn() > last }
		if n == len(chunks) && !slices.ContainsFunc(snapshot, reliesOnMore) {
			plan = append(plan, snapshot)
		}
	}
	return plan, lost, nil
}

// newestSet returns the parts of the newest checkpoint, or snapshot, that is complete.
func newestSet(parts []*remotefile.File) []*remotefile.File {
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

func firstNumber(files []*remotefile.File) uint32 {
	if len(files) == 0 {
		return 0
	}
	return files[0].Name().Number
}

// contiguous is how many files have consecutive numbers, beginning with the first. Every file of a log but the
// last has to be complete.
func contiguous(first uint32, files []*remotefile.File) int {
	for i, f := range files {
		if f.Name().Number != first+uint32(i) {
			return i
		}
		if last, _ := f.Last(); !last && f.Name().Kind != remotefile.Chunks {
			return i + 1
		}
	}
	return len(files)
}

// addSegment adds an empty segment behind a checkpoint that has none. Otherwise Prometheus would begin with number
// 0, and not read that segment at its next start.
func (r *restorer) addSegment(checkpoint, wal []*remotefile.File) error {
	if len(checkpoint) == 0 || len(wal) > 0 {
		return nil
	}
	return os.WriteFile(r.path(remotefile.Name{Kind: remotefile.WAL, Number: checkpoint[0].Name().Number + 1}, 0), nil, 0o666)
}

// keepLonger takes what the directory has behind a log from remote memory that is otherwise the same: a directory may have
// lost only the beginning of its log.
func (r *restorer) keepLonger(dir string, plan [][]*remotefile.File) error {
	older := false // the directory's WAL ends before that of remote memory, or differs
	for i, kind := range []remotefile.Kind{remotefile.WAL, remotefile.WBL} {
		if older {
			// The leader has compacted what is in no file any more; and a power cut may take more of the WAL than of
			// the WBL: that is of commits, perhaps of series, that are nowhere.
			break
		}
		local, err := listLog(dir, kind)
		if err != nil {
			return err
		}
		files, end := plan[1+i], int64(-1)
		switch {
		case len(files) > 0:
			end = int64(files[len(files)-1].Name().Number)
		case kind == remotefile.WAL:
			end = int64(plan[0][0].Name().Number)
		case len(local) > 0:
			end = int64(local[0].name.Number) - 1
		}
		older = len(files) > 0 && (len(local) == 0 || local[len(local)-1].name.Number < files[len(files)-1].Name().Number)
		for _, l := range local {
			longer, goesOn, err := r.continues(files, end, l)
			if err != nil {
				return err
			}
			if longer {
				err = r.copyFrom(l)
				end = max(end, int64(l.name.Number))
			}
			if err != nil {
				return err
			}
			if !goesOn {
				older = true
				break
			}
		}
	}
	return r.syncs.Wait()
}

// continues says whether a local segment has more than the same segment in remote memory, or follows the segment end, and
// whether the next one may.
func (r *restorer) continues(files []*remotefile.File, end int64, l localFile) (longer, goesOn bool, err error) {
	i := slices.IndexFunc(files, func(f *remotefile.File) bool { return f.Name() == l.name })
	if i < 0 {
		number := int64(l.name.Number)
		return number == end+1, number <= end+1, nil
	}
	f := files[i]
	n, err := commonPrefix(f, l, r.read)
	if last, _ := f.Last(); last {
		return false, n == f.Len(), err // Zeros may be behind it.
	}
	return n == f.Len() && l.info.Size() > n, n == f.Len(), err
}

// copyFrom puts a copy of a local file in the place of a remote one.
func (r *restorer) copyFrom(l localFile) error {
	path := r.path(l.name, 0)
	in, err := os.Open(l.path)
	if err != nil {
		return err
	}
	defer in.Close()
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return err
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	defer r.syncs.Go(func() error { return errors.Join(out.Sync(), out.Close()) })
	_, err = io.Copy(out, in)
	return err
}

type restorer struct {
	read    readFunc
	tmp     string
	metrics *memory.Metrics
	logger  *slog.Logger
	buf     []byte
	syncs   errgroup.Group // Sync written files to disk while the next ones are written.
}

// path is the place of a file below tmp. Prometheus prints the numbers of segments with eight digits, those of
// chunk files with six.
func (r *restorer) path(n remotefile.Name, offset uint64) string {
	switch n.Kind {
	case remotefile.Snapshot:
		return filepath.Join(r.tmp, fmt.Sprintf("%s%06d.%010d", snapshotPrefix, n.Number, offset), fmt.Sprintf("%08d", n.Part))
	case remotefile.Checkpoint:
		return filepath.Join(r.tmp, "wal", fmt.Sprintf("%s%08d", checkpointPrefix, n.Number), fmt.Sprintf("%08d", n.Part))
	case remotefile.Chunks:
		return filepath.Join(r.tmp, n.Kind.String(), fmt.Sprintf("%06d", n.Number))
	}
	return filepath.Join(r.tmp, n.Kind.String(), fmt.Sprintf("%08d", n.Number))
}

// write brings one file back. whole is false if its bytes are not what their writer wrote: the file then ends in
// front of the wrong ones.
func (r *restorer) write(f *remotefile.File) (whole bool, err error) {
	path := r.path(f.Name(), f.Offset())
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
	for _, p := range f.Pieces() {
		r.buf = slices.Grow(r.buf[:0], int(p.Length))
		buf := r.buf[:p.Length]
		if err := r.read(f, buf, p.Offset); err != nil {
			return false, err
		}
		r.metrics.BytesRead.WithLabelValues(f.Name().Kind.String()).Add(float64(p.Length))
		if remotefile.Checksum(buf) != p.CRC {
			r.logger.Error("MaaS memory holds other bytes than were written; nothing behind them is restored",
				"file", f.Name(), "offset", p.Offset)
			return false, nil
		}
		if _, err := file.Write(buf); err != nil {
			return false, err
		}
	}
	if f.Name().Kind == remotefile.Chunks && f.Len() < headchunk.FileHeaderSize {
		return false, os.Remove(path)
	}
	return true, nil
}
