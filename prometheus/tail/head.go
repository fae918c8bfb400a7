// SPDX-License-Identifier: Apache-2.0

// The files of a head in a data directory, and how one head replaces another.

package tail

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/maas-memory/maas/prometheus/memory"
)

const (
	// replacedDir keeps the head that a restore found in the data directory: its log may have what nobody else has.
	// The next restore replaces it.
	replacedDir = "maas-replaced"
	// readyDir has the restored head while the directory's own head is put aside, and movingDir while the restored one
	// takes its place.
	readyDir  = "maas-restore.ready"
	movingDir = "maas-restore.moving"
)

// headNames are the entries of a directory that belong to a head, its log last.
func headNames(dir string) (names []string, err error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, err
	}
	hasLog := false
	for _, e := range entries {
		switch name := e.Name(); {
		case name == "wal":
			hasLog = true
		case name == "wbl", name == "chunks_head", strings.HasPrefix(name, snapshotPrefix):
			names = append(names, name)
		}
	}
	if hasLog {
		names = append(names, "wal")
	}
	return names, nil
}

// moveHead moves a head into a directory without one. The log comes last: a directory without a log is restored
// again at the next start, whatever ended this one.
func moveHead(from, to string) error {
	names, err := headNames(from)
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := syncDirs(filepath.Join(from, name)); err != nil {
			return err
		}
		if err := os.Rename(filepath.Join(from, name), filepath.Join(to, name)); err != nil {
			return err
		}
	}
	return memory.SyncDir(to)
}

// replaceHead puts a directory's head aside, and a whole one in its place. If it is killed in the middle, PutBack undoes
// what it did.
func replaceHead(dir, with string) error {
	if memory.IsEmpty(dir) { // There is nothing to lose.
		if err := putAside(dir); err != nil {
			return err
		}
		return moveHead(with, dir)
	}
	ready, moving := filepath.Join(dir, readyDir), filepath.Join(dir, movingDir)
	if err := renameSynced(with, ready); err != nil {
		return err
	}
	if err := putAside(dir); err != nil {
		return err
	}
	if err := renameSynced(ready, moving); err != nil {
		return err
	}
	if err := moveHead(moving, dir); err != nil {
		return err
	}
	return os.RemoveAll(moving)
}

// PutBack puts a directory's own head back if a restore was killed while it replaced that: the head's log may have what
// nobody else has, and the next restore has to see it. Only who holds the directory may call it, and before anything looks at the log.
func PutBack(dir string) error {
	aside, ready, moving := filepath.Join(dir, replacedDir), filepath.Join(dir, readyDir), filepath.Join(dir, movingDir)
	if isDir(moving) && memory.IsEmpty(dir) { // What is here of a head is the restored one's.
		names, err := headNames(dir)
		for _, name := range names {
			err = errors.Join(err, os.RemoveAll(filepath.Join(dir, name)))
		}
		if err != nil {
			return err
		}
		if err := renameSynced(moving, ready); err != nil {
			return err
		}
	}
	if isDir(ready) && memory.IsEmpty(dir) && !memory.IsEmpty(aside) {
		if err := moveHead(aside, dir); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(ready), os.RemoveAll(moving))
}

func isDir(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.IsDir()
}

// renameSynced renames an entry of a directory before whatever comes next.
func renameSynced(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	return memory.SyncDir(filepath.Dir(to))
}

// syncDirs makes the names below a directory survive a crash, also those in directories in it: the parts of a checkpoint.
func syncDirs(dir string) error {
	return filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.IsDir() {
			return err
		}
		return memory.SyncDir(path)
	})
}

// putAside takes a directory's head out of it, the log first. If the directory has no log, an earlier start moved
// that aside and was killed; then the rest follows it.
func putAside(dir string) error {
	aside := filepath.Join(dir, replacedDir)
	names, err := headNames(dir)
	if err != nil {
		return err
	}
	if !memory.IsEmpty(dir) {
		if err := os.RemoveAll(aside); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(aside, 0o777); err != nil {
		return err
	}
	for _, name := range slices.Backward(names) {
		from, to := filepath.Join(dir, name), filepath.Join(aside, name)
		if _, err := os.Lstat(to); err == nil { // Both belong to the same head.
			if err := os.RemoveAll(from); err != nil {
				return err
			}
			continue
		}
		if err := os.Rename(from, to); err != nil {
			return err
		}
	}
	if !memory.IsEmpty(aside) {
		return nil
	}
	return os.RemoveAll(aside) // Without a log the rest is useless.
}
