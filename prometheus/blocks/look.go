// SPDX-License-Identifier: Apache-2.0

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

	"github.com/maas-memory/maas/prometheus/memory"
)

const (
	metaName       = "meta.json"
	tombstonesName = tombstones.TombstonesFilename
	indexName      = "index"
	chunksName     = "chunks"

	// Of a tombstones file, around what Decode reads.
	tombstonesMagicSize = 4
	tombstonesCRCSize   = 4
)

// file is one of the files of a block that never change.
type file struct {
	Name string `json:"name"` // Below the block's directory.
	Size int64  `json:"size"`

	modified time.Time
}

// block is a block that is here, or whole in remote memory, or both.
type block struct {
	meta
	files []file

	here     bool
	state    string   // Of the files of the pair, when it was read.
	pair     [32]byte // Checksum of the pair that is here.
	pairSize int64
	since    time.Time // When it was seen here first.
	wanted   bool      // Belongs into remote memory.
	took     int64     // Of it, when it was there.

	remote *remote // Nil while it is not whole there.
}

func (b *block) size() (sum int64) {
	for _, f := range b.files {
		sum += f.Size
	}
	return sum
}

// pair is what changes of a block, together.
type pair struct {
	Meta       []byte `json:"meta"`
	Tombstones []byte `json:"tombstones"` // Nil where there is no such file.
}

func (p *pair) sum() [32]byte {
	return sha256.Sum256(fmt.Appendf(nil, "%d %t %s%s", len(p.Meta), p.Tombstones != nil, p.Meta, p.Tombstones))
}

// whole says whether the two are of the same change: the number of deleted intervals stands in both.
func (p *pair) whole(m *meta) bool {
	if len(p.Tombstones) < tombstonesMagicSize+tombstonesCRCSize {
		return m.Stats.NumTombstones == 0
	}
	stones, err := tombstones.Decode(p.Tombstones[tombstonesMagicSize : len(p.Tombstones)-tombstonesCRCSize])
	return err == nil && stones.Total() == m.Stats.NumTombstones
}

// readPair reads the pair of a block's directory; state changes with it.
func readPair(dir string) (p pair, m meta, err error) {
	if p.Meta, err = os.ReadFile(filepath.Join(dir, metaName)); err != nil {
		return p, m, err
	}
	p.Tombstones, err = os.ReadFile(filepath.Join(dir, tombstonesName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return p, m, err
	}
	return p, m, json.Unmarshal(p.Meta, &m)
}

// pairState tells one state of a pair from another; empty where there is no block.
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

// listFiles lists what never changes of a block.
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

// validName says whether a name is one of a file of a block: it may come from remote memory.
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

// look sees what blocks are in the data directory, and what was deleted from them.
func (c *Copier) look() error { return c.lookFor(true) }

// lookFor sees what blocks are in the data directory; changes looks also at those that are known.
func (c *Copier) lookFor(changes bool) error {
	c.mu.Lock() // First: of two that look, the one with the older list must not come last.
	defer c.mu.Unlock()
	entries, err := os.ReadDir(c.o.Dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil // It is made when the database is opened.
	}
	if err != nil {
		return fmt.Errorf("look for blocks: %w", err)
	}
	here := map[ulid.ULID]bool{}
	changed := !c.looked
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		if err != nil || !e.IsDir() {
			continue
		}
		if c.presentLocked(id) && !changes {
			here[id] = true
			continue
		}
		is, change := c.lookAtLocked(id)
		if is {
			here[id] = true
		}
		changed = changed || change
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

// lookAtLocked says whether there is a block of a name, and whether it is not as it was.
func (c *Copier) lookAtLocked(id ulid.ULID) (is, changed bool) {
	dir := filepath.Join(c.o.Dir, id.String())
	state := pairState(dir)
	b := c.blocks[id]
	if state == "" || b != nil && b.state == state {
		return state != "", false
	}
	p, m, err := readPair(dir)
	if err != nil || m.ULID != id || pairState(dir) != state {
		return b != nil && b.here, false
	}
	if !p.whole(&m) && c.torn[id] != state {
		c.torn[id] = state // The next look sees it whole; or as it is again, where the writer died.
		return b != nil && b.here, false
	}
	delete(c.torn, id)
	files, err := listFiles(dir)
	if err != nil {
		return false, false
	}
	if b == nil {
		b = &block{}
		c.blocks[id] = b
	}
	if !b.here {
		b.since = time.Now()
	}
	if !sameFiles(files, b.files) {
		delete(c.failed, id)
	}
	b.files = files
	b.meta, b.state, b.pair, b.here = m, state, p.sum(), true
	b.pairSize = int64(len(p.Meta) + len(p.Tombstones))
	c.known.add(&m)
	delete(c.missing, id)
	delete(c.deleted, id)
	return true, true
}

// countMissing finds the blocks that retention or a compaction deleted, once in a round. Without a log, the
// directory is not Prometheus's any more.
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

// dropLocked forgets a block that is neither here nor there.
func (c *Copier) dropLocked(b *block) {
	if !b.here && b.remote == nil {
		delete(c.blocks, b.ULID)
	}
}
