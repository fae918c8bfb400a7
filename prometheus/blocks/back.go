// SPDX-License-Identifier: Apache-2.0

// Bringing back: blocks that remote memory has and the data directory lacks.

package blocks

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"github.com/maas-memory/maas/prometheus/memory"
)

const (
	// A group of blocks is made in workDir. Once it is complete, workDir becomes readyDir, from which the
	// blocks move into the data directory: if the process is killed meanwhile, its next start continues.
	stageDir = "maas-blocks.tmp"
	workDir  = "work"
	readyDir = "ready"

	// patience is how long an unreachable server keeps blocks from being compacted.
	patience = 10 * time.Minute
	// progressInterval is the shortest time between two lines of progress.
	progressInterval = 5 * time.Second
	// This fraction of the disk stays free, but no more than maxSpareDisk.
	spareDisk    = 20
	maxSpareDisk = 4 << 30
)

var errNoSpace = errors.New("no space for it on the disk of the data directory")

// Database is the database that blocks are added to: AddBlocks runs move while nothing is compacted, and then
// looks at the directory.
type Database interface {
	AddBlocks(move func() error) error
	Compacting() bool
	// HeadMinTime is where the head begins; math.MaxInt64 while it is empty.
	HeadMinTime() int64
}

// Return begins to bring back, newest first, what remote memory has and the data directory lacks. It is called
// once, when the database is open.
func (c *Copier) Return(db Database) {
	if c == nil {
		return
	}
	c.mu.Lock()
	c.database = db
	c.mu.Unlock()
	if c.o.Discard {
		return
	}
	c.tasks.Add(1)
	go func() {
		defer c.tasks.Done()
		c.bringBack(db)
	}()
}

// progress is the progress of a return.
type progress struct {
	blocks      int
	bytes, left int64
	begun, said time.Time
}

func (c *Copier) bringBack(db Database) {
	defer c.returning.Store(false)
	_, err := c.moveReady(db)
	if err = errors.Join(err, os.RemoveAll(filepath.Join(c.o.Dir, stageDir, workDir))); err != nil {
		c.o.Logger.Error("MaaS: blocks are not brought back", "err", err)
		return
	}
	p := progress{begun: time.Now(), said: time.Now()}
	for looked := false; !c.stopped() && !c.memory.Fenced(); {
		g, known := c.nextGroup(&p)
		if !known {
			c.wait(0)
			continue
		}
		if !looked {
			looked = true
			if mint := db.HeadMinTime(); c.hasIslands(mint) {
				if err := db.AddBlocks(func() error { c.leaveIslands(mint); return nil }); err != nil {
					c.o.Logger.Error("MaaS: the database does not load its blocks", "err", err)
				}
				continue
			}
		}
		if len(g) == 0 {
			break
		}
		if p.blocks == 0 && p.bytes == 0 {
			c.o.Logger.Info("MaaS: bringing back blocks from remote memory", "bytes", p.left)
		}
		if err := c.bringBackGroup(c.adding(db), g, &p); err != nil && !c.comesBack(g, err) {
			break
		}
	}
	if p.blocks > 0 {
		c.o.Logger.Info("MaaS: brought back blocks from remote memory", "blocks", p.blocks, "bytes", p.bytes, "duration", time.Since(p.begun))
	}
}

// wait waits for a second, doubled so often.
func (c *Copier) wait(doubled int) {
	select {
	case <-c.ctx.Done():
	case <-time.After(min(c.o.Interval, time.Second) << doubled):
	}
}

// comesBack says whether the return continues after a failure.
func (c *Copier) comesBack(g []*block, err error) bool {
	newest := time.UnixMilli(g[0].MaxTime).UTC()
	switch {
	case errors.Is(err, errStopped):
		return false
	case errors.Is(err, errNoSpace) || errors.Is(err, unix.ENOSPC):
		c.o.Logger.Error("MaaS: blocks up to this time are not brought back; remote memory keeps them: make room, and start again",
			"newest", newest, "err", err)
		return false
	case errors.Is(err, errBroken):
		c.o.Logger.Error("MaaS: damaged blocks are not brought back; older blocks are", "newest", newest, "err", err)
		c.mu.Lock()
		for _, b := range g {
			c.broken[b.ULID] = true
		}
		c.mu.Unlock()
		return true
	case isLocal(err):
		c.o.Logger.Error("MaaS: blocks up to this time are not brought back; remote memory keeps them", "newest", newest, "err", err)
		return false
	}
	c.o.Logger.Warn("MaaS: bringing back blocks is interrupted, and continues when the server is in use", "err", err)
	for !c.stopped() && !c.memory.Up() && !c.memory.Fenced() {
		c.wait(0)
	}
	c.wait(0)
	return true
}

// nextGroup returns the missing blocks of the newest group that is not complete here. known is false while it is
// not known what remote memory has.
func (c *Copier) nextGroup(p *progress) (missing []*block, known bool) {
	if err := c.look(); err != nil {
		return nil, false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.attached || c.arena != c.memory.Arena() {
		return nil, false
	}
	p.left = 0
	for _, g := range c.plan.groups {
		broken := false
		var list []*block
		for _, b := range g.blocks {
			if !b.here && !c.leftLocked(b.ULID) && !c.islands[b.ULID] {
				broken = broken || c.broken[b.ULID]
				snapshot := *b
				list = append(list, &snapshot)
			}
		}
		if broken {
			continue // The others would be only a part of the range.
		}
		for _, b := range list {
			p.left += b.remote.size()
		}
		if missing == nil {
			missing = list
		}
	}
	c.memory.Metrics().BlocksReturning.Set(float64(p.left))
	return missing, true
}

// adder is the part of a database that blocks are added to.
type adder interface {
	AddBlocks(move func() error) error
}

// moveReady adds blocks that are ready since a move failed, or a process was killed, and says whether there were any.
func (c *Copier) moveReady(db adder) (moved bool, err error) {
	if isGone(filepath.Join(c.o.Dir, stageDir, readyDir)) {
		return false, nil
	}
	return true, c.adding(db)(c.finishMove)
}

// adding adds blocks from remote memory. They replace the blocks that they were made of, and those that this
// directory alone has of their time: a leader that died may have made a block that its successor made again.
func (c *Copier) adding(db adder) func(move func() error) error {
	return func(move func() error) error {
		if err := db.AddBlocks(move); err != nil {
			return err
		}
		return db.AddBlocks(func() error { // The database has opened the blocks that replace them.
			if err := c.removeAncestors(); err != nil {
				return err
			}
			return c.putAside(math.MinInt64, true)
		})
	}
}

// bringBackGroup makes overlapping blocks visible at once.
func (c *Copier) bringBackGroup(add func(move func() error) error, g []*block, p *progress) error {
	stage := filepath.Join(c.o.Dir, stageDir)
	work := filepath.Join(stage, workDir)
	defer os.RemoveAll(work)
	if err := c.hasSpace(g); err != nil {
		return err
	}
	for _, b := range g {
		if err := c.stage(filepath.Join(work, b.ULID.String()), b, p); err != nil {
			return err
		}
	}
	if err := errors.Join(memory.SyncDir(work), os.Rename(work, filepath.Join(stage, readyDir)), memory.SyncDir(stage), memory.SyncDir(c.o.Dir)); err != nil {
		return err
	}
	moved := false
	err := add(func() error {
		err := c.finishMove()
		moved = err == nil
		return err
	})
	if !moved {
		return err // moveReady will move them.
	}
	if err != nil { // They are in place; the database logs every minute what is wrong.
		c.o.Logger.Error("MaaS: blocks were brought back, but the database does not load its blocks", "err", err)
	}
	p.blocks += len(g)
	return c.settle(g)
}

// settle looks at blocks that were brought back. A block that is in place counts, whatever the look finds:
// otherwise older blocks would be freed for it. One that still cannot be read does not come again at once.
func (c *Copier) settle(g []*block) error {
	if err := c.look(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	gone := 0 // Deleted by retention, or at once because it has no samples.
	for _, b := range g {
		dir := filepath.Join(c.o.Dir, b.ULID.String())
		switch {
		case isGone(dir):
			c.deleted[b.ULID] = true
			delete(c.missing, b.ULID)
			if !b.Compaction.Deletable {
				gone++
			}
		case !c.presentLocked(b.ULID):
			if _, _, _, err := readBlock(dir); err != nil { // Else its pair was torn; the next look takes it.
				c.o.Logger.Error("MaaS: a block was brought back and cannot be read; remote memory keeps it", "block", b.ULID, "err", err)
				c.broken[b.ULID] = true
			}
		}
	}
	if gone == len(g) && !memory.IsEmpty(c.o.Dir) {
		// Retention deleted them, and would delete everything older.
		for _, b := range c.blocks {
			if !b.here && b.MaxTime <= g[0].MaxTime {
				c.deleted[b.ULID] = true
			}
		}
	}
	c.planLocked()
	return nil
}

// hasSpace is an error if blocks do not fit on the disk.
func (c *Copier) hasSpace(g []*block) error {
	bytes := int64(0)
	for _, b := range g {
		bytes += b.remote.size()
	}
	free, err := c.space(c.o.Dir)
	if err == nil && bytes > free {
		err = fmt.Errorf("%d bytes: %w, which has room for %d", bytes, errNoSpace, free)
	}
	return err
}

// diskSpace is how much of a directory's disk blocks may take.
func diskSpace(dir string) (int64, error) {
	var fs unix.Statfs_t
	if err := unix.Statfs(dir, &fs); err != nil {
		return 0, &os.PathError{Op: "statfs", Path: dir, Err: err}
	}
	spare := min(int64(fs.Blocks)*fs.Bsize/spareDisk, maxSpareDisk)
	return max(int64(fs.Bavail)*fs.Bsize-spare, 0), nil
}

// stage writes a block below a working directory.
func (c *Copier) stage(dir string, b *block, p *progress) error {
	r := b.remote
	if err := os.MkdirAll(filepath.Join(dir, chunksName), 0o777); err != nil {
		return err
	}
	m, err := c.readManifest(r.manifest)
	if err != nil {
		return err
	}
	for i, f := range r.files {
		err := memory.WriteSynced(filepath.Join(dir, f.Name), func(out *os.File) error {
			return c.readPieces(r.parts[i], func(piece []byte) error {
				_, err := out.Write(piece)
				c.progress(p, len(piece))
				return err
			})
		})
		if err != nil {
			return err
		}
	}
	for name, b := range map[string][]byte{metaName: m.Meta, tombstonesName: m.Tombstones} {
		if b == nil {
			continue
		}
		if err := memory.WriteSynced(filepath.Join(dir, name), func(out *os.File) error { _, err := out.Write(b); return err }); err != nil {
			return err
		}
	}
	if _, _, _, err := readBlock(dir); err != nil { // One such block, and the database would load none.
		return fmt.Errorf("%w: %w", errBroken, err)
	}
	return errors.Join(memory.SyncDir(filepath.Join(dir, chunksName)), memory.SyncDir(dir))
}

func (c *Copier) progress(p *progress, n int) {
	p.bytes += int64(n)
	p.left -= int64(n)
	c.memory.Metrics().BlocksReturning.Set(float64(max(p.left, 0)))
	if time.Since(p.said) >= progressInterval {
		p.said = time.Now()
		c.o.Logger.Info("MaaS: bringing back blocks from remote memory", "done", p.bytes, "left", p.left)
	}
}

// finishMove moves ready blocks into the data directory. A block that cannot be read there gives way.
func (c *Copier) finishMove() error {
	ready := filepath.Join(c.o.Dir, stageDir, readyDir)
	entries, err := os.ReadDir(ready)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	for _, e := range entries {
		id, err := ulid.ParseStrict(e.Name())
		if err != nil {
			continue
		}
		to := filepath.Join(c.o.Dir, e.Name())
		_, _, _, err = readBlock(to)
		if err == nil {
			continue // It is here already.
		}
		if !isGone(to) {
			c.o.Logger.Warn("MaaS: a block of this directory cannot be read; it is put aside, and the copy from remote memory takes its place",
				"block", id, "err", err, "dir", asideDir)
			if err := errors.Join(c.moveAside(id), c.syncAside()); err != nil {
				return err
			}
		}
		if err := os.Rename(filepath.Join(ready, e.Name()), to); err != nil {
			return err
		}
	}
	return errors.Join(memory.SyncDir(c.o.Dir), os.RemoveAll(filepath.Join(c.o.Dir, stageDir)))
}
