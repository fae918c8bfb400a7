// SPDX-License-Identifier: Apache-2.0

// The change from local chunk files to remote memory.

package chunkstore

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"

	"github.com/maas-memory/maas/prometheus/headchunk"
)

// Import writes the chunks of a stock Prometheus's files to remote memory, and removes the files once all of them
// are there: files left behind would some day be attached to other series. Call it at the first start in remote
// mode, before IterateAllChunks. It ends at the first damage or gap, as a stock Prometheus does: the log is read
// from a series' last chunk on, so a hole would be a loss.
func (r *Remote) Import(dir string) (imported int, err error) {
	files, err := chunkFiles(dir)
	if err != nil {
		return 0, err
	}
	for i, f := range files {
		if r.o.Unknown || f.number != files[0].number+uint64(i) {
			break
		}
		n, whole, err := r.importFile(f.path)
		if err != nil {
			return imported, fmt.Errorf("import %s into remote memory: %w", f.path, err)
		}
		imported += n
		if err := r.flush(context.Background()); err != nil {
			return imported, fmt.Errorf("import %s into remote memory: %w", f.path, err)
		}
		if !whole {
			break
		}
	}
	return imported, os.RemoveAll(dir)
}

type localFile struct {
	number uint64
	path   string
}

func chunkFiles(dir string) (files []localFile, err error) {
	entries, err := os.ReadDir(dir)
	if os.IsNotExist(err) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	for _, e := range entries {
		if n, err := strconv.ParseUint(e.Name(), 10, 32); err == nil {
			files = append(files, localFile{n, filepath.Join(dir, e.Name())})
		}
	}
	slices.SortFunc(files, func(a, b localFile) int { return cmp.Compare(a.number, b.number) })
	return files, nil
}

// importFile takes a file's records up to the first that is not whole, and says whether that was the end.
func (r *Remote) importFile(path string) (n int, whole bool, err error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return 0, false, err
	}
	header := headchunk.FileHeader()
	if !bytes.HasPrefix(b, header[:]) {
		return 0, false, nil
	}
	b = b[headchunk.FileHeaderSize:]
	for {
		rec, size, err := headchunk.Parse(b)
		if err != nil {
			return n, errors.Is(err, headchunk.ErrEnd) || len(b) == 0, nil
		}
		if _, err := r.write(rec); err != nil {
			return n, false, err
		}
		n++
		b = b[size:]
	}
}
