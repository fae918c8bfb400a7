// SPDX-License-Identifier: Apache-2.0

// The files of a data directory that have a place in remote memory.

package tail

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/maas-memory/maas/prometheus/remotefile"
)

// localFile is one such file.
type localFile struct {
	name remotefile.Name
	path string
	info fs.FileInfo

	// complete: nothing is appended any more. final: the last part of a checkpoint or of a snapshot.
	complete, final bool

	offset uint64 // From the name of a snapshot.
}

const (
	checkpointPrefix = "checkpoint."
	snapshotPrefix   = "chunk_snapshot."
)

// listLocal lists a data directory in an order that never shows a file without what the file depends on: a sample
// of the WBL belongs to a series of the WAL, which Prometheus writes first, and segments of the WAL go once there
// is a checkpoint of them.
func listLocal(dir string, withChunks bool) ([]localFile, error) {
	wbl, err := listLog(dir, remotefile.WBL)
	if err != nil {
		return nil, err
	}
	wal, err := listLog(dir, remotefile.WAL)
	if err != nil {
		return nil, err
	}
	checkpoint, err := listCheckpoint(filepath.Join(dir, "wal"))
	if err != nil || !withChunks {
		return slices.Concat(wbl, wal, checkpoint), err
	}
	// Before the chunks: a snapshot relies on older chunks.
	snapshot, err := listSnapshot(dir)
	if err != nil {
		return nil, err
	}
	chunks, err := listNumbered(filepath.Join(dir, "chunks_head"), remotefile.Name{Kind: remotefile.Chunks})
	return slices.Concat(wbl, wal, checkpoint, snapshot, chunks), err
}

func listLog(dir string, kind remotefile.Kind) ([]localFile, error) {
	files, err := listNumbered(filepath.Join(dir, kind.String()), remotefile.Name{Kind: kind})
	for i := range files {
		files[i].complete = i < len(files)-1
	}
	return files, err
}

// listNumbered lists the files of a directory whose names are numbers. name is the name of the first.
func listNumbered(dir string, name remotefile.Name) ([]localFile, error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var files []localFile
	for _, e := range entries {
		n, err := strconv.ParseUint(e.Name(), 10, 32)
		if err != nil || !e.Type().IsRegular() {
			continue
		}
		info, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue // Deleted meanwhile.
		}
		if err != nil {
			return nil, err
		}
		f := localFile{name: name, path: filepath.Join(dir, e.Name()), info: info}
		if name.Kind == remotefile.Checkpoint || name.Kind == remotefile.Snapshot {
			f.name.Part = uint32(n)
		} else {
			f.name.Number = uint32(n)
		}
		files = append(files, f)
	}
	slices.SortFunc(files, func(a, b localFile) int {
		return cmp.Or(cmp.Compare(a.name.Number, b.name.Number), cmp.Compare(a.name.Part, b.name.Part))
	})
	return files, nil
}

// listCheckpoint lists the parts of the newest checkpoint. A checkpoint gets its name when it is complete, so
// nothing is appended to its parts.
func listCheckpoint(walDir string) ([]localFile, error) {
	entries, err := os.ReadDir(walDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	newest, dir := int64(-1), ""
	for _, e := range entries {
		suffix, is := strings.CutPrefix(e.Name(), checkpointPrefix)
		n, err := strconv.ParseUint(suffix, 10, 32)
		if is && err == nil && e.IsDir() && int64(n) > newest {
			newest, dir = int64(n), filepath.Join(walDir, e.Name())
		}
	}
	if newest < 0 {
		return nil, nil
	}
	return listSet(dir, remotefile.Name{Kind: remotefile.Checkpoint, Number: uint32(newest)}, 0)
}

// hasStart says whether the beginning of a log is among these files: segment 0, or a checkpoint of all that was in front
// of the first segment. Without it, nobody knows which series most samples belong to.
func hasStart(files []localFile) bool {
	first, end, parts := int64(-1), int64(-1), uint32(0)
	for _, f := range files {
		switch f.name.Kind {
		case remotefile.WAL:
			if first < 0 {
				first = int64(f.name.Number)
			}
		case remotefile.Checkpoint:
			if f.name.Part != parts {
				return first == 0
			}
			end = int64(f.name.Number)
			parts++
		}
	}
	return first <= end+1
}

// listSnapshot lists the parts of the newest chunk snapshot, chunk_snapshot.NUMBER.OFFSET, which a shutdown
// leaves. A snapshot gets its name when it is complete.
func listSnapshot(dataDir string) ([]localFile, error) {
	entries, err := os.ReadDir(dataDir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var dir string
	var number, offset uint64
	for _, e := range entries {
		suffix, is := strings.CutPrefix(e.Name(), snapshotPrefix)
		first, second, _ := strings.Cut(suffix, ".")
		n, err := strconv.ParseUint(first, 10, 32)
		o, offsetErr := strconv.ParseUint(second, 10, 64)
		newer := dir == "" || n > number || n == number && o > offset
		if is && err == nil && offsetErr == nil && e.IsDir() && newer {
			dir, number, offset = filepath.Join(dataDir, e.Name()), n, o
		}
	}
	if dir == "" {
		return nil, nil
	}
	return listSet(dir, remotefile.Name{Kind: remotefile.Snapshot, Number: uint32(number)}, offset)
}

func listSet(dir string, name remotefile.Name, offset uint64) ([]localFile, error) {
	parts, err := listNumbered(dir, name)
	for i := range parts {
		parts[i].complete = true
		parts[i].final = i == len(parts)-1
		parts[i].offset = offset
	}
	return parts, err
}
