// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"maas/client/prometheus/record"
)

// Import writes the chunks of a stock Prometheus's files to remote memory, and removes the files once
// all is there: left behind, they would be attached to other series one day. It is for the first
// start in remote mode, before IterateAllChunks.
func (r *Remote) Import(dir string) (imported int, err error) {
	paths, err := chunkFiles(dir)
	if err != nil {
		return 0, err
	}
	for _, path := range paths {
		n, err := r.importFile(path)
		if err != nil {
			return imported, fmt.Errorf("import %s into remote memory: %w", path, err)
		}
		imported += n
		if err := r.flush(); err != nil {
			return imported, fmt.Errorf("import %s into remote memory: %w", path, err)
		}
	}
	return imported, os.RemoveAll(dir)
}

func chunkFiles(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	type numbered struct {
		number uint64
		path   string
	}
	var files []numbered
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil {
			files = append(files, numbered{n, filepath.Join(dir, e.Name())})
		}
	}
	slices.SortFunc(files, func(a, b numbered) int { return cmp.Compare(a.number, b.number) })
	paths := make([]string, len(files))
	for i, f := range files {
		paths[i] = f.path
	}
	return paths, nil
}

// importFile takes the records of a file up to the first that is not whole; what a crash tore off, the
// log has.
func (r *Remote) importFile(path string) (n int, err error) {
	b, err := os.ReadFile(path)
	if err != nil || len(b) < record.FileHeaderSize {
		return 0, err
	}
	b = b[record.FileHeaderSize:]
	for {
		rec, size, err := record.Parse(b)
		if err != nil {
			return n, nil
		}
		if _, err := r.write(rec); err != nil {
			return n, err
		}
		n++
		b = b[size:]
	}
}
