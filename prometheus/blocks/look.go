// SPDX-License-Identifier: Apache-2.0

// Looking at the data directory: which blocks are there, and what was deleted from them.

package blocks

import (
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"golang.org/x/sys/unix"

	"github.com/maas-memory/maas/prometheus/memory"
)

const (
	metaName       = "meta.json"
	tombstonesName = tombstones.TombstonesFilename
	indexName      = "index"
	chunksName     = "chunks"

	// The parts of a tombstones file around what Decode reads.
	tombstonesMagicSize = 4
	tombstonesCRCSize   = 4
)

// file is one of a block's files that never change.
type file struct {
	Name string `json:"name"` // The path below the block's directory.
	Size int64  `json:"size"`

	modified time.Time
}

// block is a block that is here, or whole in remote memory, or both.
type block struct {
	meta
	files []file

	here     bool
	state    string   // Of the pair's files, when the pair was read; empty while the block here cannot be read.
	pair     [32]byte // Checksum of the pair in the data directory.
	pairSize int64
	since    time.Time // When the block was first seen here.
	wanted   bool      // The block belongs into remote memory.
	took     int64     // How much of remote memory it took when it was there.

	remote *remote // Nil while the block is not whole in remote memory.
}

// readable says whether the block is here, and could be read at the last look.
func (b *block) readable() bool { return b.here && b.state != "" }

func (b *block) size() (sum int64) {
	for _, f := range b.files {
		sum += f.Size
	}
	return sum
}

// pair is the two files of a block that change, always together.
type pair struct {
	Meta       []byte `json:"meta"`
	Tombstones []byte `json:"tombstones"` // Nil if there is no such file.
}

func (p *pair) sum() [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d %t %s%s", len(p.Meta), p.Tombstones != nil, p.Meta, p.Tombstones))
}

// whole says whether the two files belong to the same change: the number of deleted intervals stands in both.
func (p *pair) whole(m *meta) bool {
	if len(p.Tombstones) < tombstonesMagicSize+tombstonesCRCSize {
		return m.Stats.NumTombstones == 0
	}
	stones, err := tombstones.Decode(p.Tombstones[tombstonesMagicSize : len(p.Tombstones)-tombstonesCRCSize])
	return err == nil && stones.Total() == m.Stats.NumTombstones
}

// readBlock reads the pair of the block in a directory, and lists the other files. The database takes no link for a
// block, either.
func readBlock(dir string) (p pair, m meta, files []file, err error) {
	info, err := os.Lstat(dir)
	if err == nil && !info.IsDir() {
		err = &fs.PathError{Op: "read", Path: dir, Err: unix.ENOTDIR}
	}
	if err == nil {
		p, m, err = readPair(dir)
	}
	if err == nil {
		files, err = listFiles(dir)
	}
	return p, m, files, err
}

// readPair reads the pair in a block's directory, which has the block's name.
func readPair(dir string) (p pair, m meta, err error) {
	path := filepath.Join(dir, metaName)
	if p.Meta, err = os.ReadFile(path); err != nil {
		return p, m, err
	}
	p.Tombstones, err = os.ReadFile(filepath.Join(dir, tombstonesName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, m, err
	}
	err = json.Unmarshal(p.Meta, &m)
	if err == nil && m.ULID.String() != filepath.Base(dir) {
		err = fmt.Errorf("it is that of %s", m.ULID)
	}
	if err != nil {
		err = &fs.PathError{Op: "read", Path: path, Err: err}
	}
	return p, m, err
}

// pairState differs between two states of a pair; empty if there is no block.
func pairState(dir string) string {
	state := ""
	for _, name := range []string{metaName, tombstonesName} {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil && (name == metaName || !errors.Is(err, fs.ErrNotExist)) {
			return ""
		}
		if err == nil {
			state += fmt.Sprintf("%s %d %d;", name, info.Size(), info.ModTime().UnixNano())
		}
	}
	return state
}

// listFiles lists the files of a block that never change.
func listFiles(dir string) ([]file, error) {
	names := []string{indexName}
	entries, err := os.ReadDir(filepath.Join(dir, chunksName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	for _, e := range entries {
		if name := chunksName + "/" + e.Name(); validName(name) {
			names = append(names, name)
		}
	}
	files := make([]file, 0, len(names))
	for _, name := range names {
		info, err := os.Stat(filepath.Join(dir, name))
		if err != nil {
			return nil, err
		}
		files = append(files, file{Name: name, Size: info.Size(), modified: info.ModTime()})
	}
	return files, nil
}

// validName says whether a block can have a file of this name, which may come from remote memory.
func validName(name string) bool {
	base, isChunks := cutDir(name, chunksName)
	_, err := strconv.ParseUint(base, 10, 32)
	return name == indexName || isChunks && err == nil && len(base) == 6
}

func cutDir(name, dir string) (base string, ok bool) {
	if len(name) <= len(dir)+1 || name[:len(dir)+1] != dir+"/" {
		return "", false
	}
	return name[len(dir)+1:], true
}

func sameFiles(a, b []file) bool {
	return slices.EqualFunc(a, b, func(x, y file) bool {
		return x.Name == y.Name && x.Size == y.Size && x.modified.Equal(y.modified)
	})
}

// hasLost says whether files lack one of those before. A block has all its files from the beginning: without one of
// them, it is damaged.
func hasLost(files, before []file) bool {
	return slices.ContainsFunc(before, func(b file) bool {
		return !slices.ContainsFunc(files, func(f file) bool { return f.Name == b.Name })
	})
}

// look finds the blocks in the data directory, and what was deleted from them.
func (c *Copier) look() error { return c.lookFor(true) }

// lookFor finds the blocks in the data directory; with changes, it also looks at known ones.
func (c *Copier) lookFor(changes bool) error {
	c.mu.Lock() // First, because of two goroutines that look, the one with the older list must not come last.
	defer c.mu.Unlock()
	here := map[ulid.ULID]bool{}
	changed := !c.looked
	c.looked = false // Until all was seen, and planned for.
	for again := true; again; {
		again = false // Unless a block went meanwhile: the one that replaces it may not be listed yet.
		entries, err := os.ReadDir(c.o.Dir)
		if errors.Is(err, fs.ErrNotExist) {
			return nil // Opening the database makes the directory.
		}
		if err != nil {
			return fmt.Errorf("look for blocks: %w", err)
		}
		clear(here)
		for _, e := range entries {
			id, err := ulid.ParseStrict(e.Name())
			if err != nil {
				continue
			}
			known := c.presentLocked(id)
			if known && !changes {
				here[id] = true
				continue
			}
			is, change := false, false
			if e.IsDir() { // The database takes no link for a block, either.
				is, change = c.lookAtLocked(id)
			}
			switch {
			case is:
				here[id] = true
			case isGone(filepath.Join(c.o.Dir, e.Name())):
				again = true
			case known: // Deleted is only a block whose whole directory went.
				here[id], c.blocks[id].state = true, ""
			}
			changed = changed || change
		}
	}
	for id, b := range c.blocks {
		if b.here && !here[id] {
			b.here, b.state, changed = false, "", true
			c.missing[id] = 0
			c.dropLocked(b)
		}
	}
	c.looked = true
	if changed {
		c.planLocked()
	}
	return nil
}

func (c *Copier) presentLocked(id ulid.ULID) bool {
	b := c.blocks[id]
	return b != nil && b.here
}

// isGone says whether there is surely no file, nor a directory, of this name.
func isGone(path string) bool {
	_, err := os.Lstat(path)
	return errors.Is(err, fs.ErrNotExist)
}

// lookAtLocked says whether there is a block of this name that can be read, and whether it has changed.
func (c *Copier) lookAtLocked(id ulid.ULID) (is, changed bool) {
	dir := filepath.Join(c.o.Dir, id.String())
	state := pairState(dir)
	b := c.blocks[id]
	if state == "" || b != nil && b.state == state {
		return state != "", false
	}
	p, m, files, err := readBlock(dir)
	if err != nil || pairState(dir) != state || b != nil && b.here && hasLost(files, b.files) {
		return false, false
	}
	if !p.whole(&m) && c.torn[id] != state {
		c.torn[id] = state // The next look finds it whole, or, if the writer died, still the same.
		return false, false
	}
	delete(c.torn, id)
	if b == nil {
		b = &block{}
		c.blocks[id] = b
	}
	if !b.here {
		b.since = time.Now()
	}
	if p, paused := c.paused[id]; paused && !sameFiles(files, b.files) {
		p.until = time.Now().Add(c.o.Retry) // Somebody mends the block, and may not be ready.
		c.paused[id] = p
	}
	b.files = files
	b.meta, b.state, b.pair, b.here = m, state, p.sum(), true
	b.pairSize = int64(len(p.Meta) + len(p.Tombstones))
	c.known.add(&m)
	delete(c.missing, id)
	delete(c.deleted, id)
	return true, true
}

// countMissing finds the blocks that retention or a compaction deleted; it runs once a round. Without a log, the
// directory no longer belongs to a Prometheus.
func (c *Copier) countMissing() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.missing) == 0 || memory.IsEmpty(c.o.Dir) {
		return
	}
	for id := range c.missing {
		if c.missing[id]++; c.missing[id] >= goneLooks {
			delete(c.missing, id)
			c.deleted[id] = true
		}
	}
	c.planLocked()
}

// dropLocked forgets a block that is neither here nor in remote memory.
func (c *Copier) dropLocked(b *block) {
	if !b.here && b.remote == nil {
		delete(c.blocks, b.ULID)
		delete(c.paused, b.ULID)
	}
}
