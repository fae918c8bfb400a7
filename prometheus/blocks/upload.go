// SPDX-License-Identifier: Apache-2.0

// Copying a block to remote memory.

package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/oklog/ulid/v2"
	"golang.org/x/sys/unix"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

var (
	// errLater ends a copy that continues later, or not at all: the next look decides.
	errLater   = errors.New("another block goes first")
	errStopped = errors.New("Prometheus ends")
	errChanged = errors.New("the block's files changed while they were copied")
	errPair    = errors.New("what is deleted from the block changed while it was copied")
)

// upload is a block that is being copied. It survives failures of the server.
type upload struct {
	id     ulid.ULID
	block  *block
	number uint32
	local  []file
	files  []*remotefile.File // Of the files; the manifest comes last.
}

func (c *Copier) uploadLocked(b *block) *upload {
	if u := c.partial[b.ULID]; u != nil {
		return u
	}
	u := &upload{id: b.ULID, block: b, number: c.number, local: b.files}
	for i := range b.files {
		u.files = append(u.files, c.newFileLocked(u.number, uint32(i)+1))
	}
	c.number++
	c.partial[b.ULID] = u
	return u
}

func (c *Copier) newFileLocked(number, part uint32) *remotefile.File {
	return remotefile.New(c.memory.Owner(), c.arena.Epoch, remotefile.Name{Kind: remotefile.Block, Number: number, Part: part}, false)
}

// dropPartial gives up a copy that is no longer wanted, or has no room now. Only the copying goroutine calls it,
// as it alone appends: nothing may be freed while it is being written.
func (c *Copier) dropPartial() {
	c.mu.Lock()
	defer c.mu.Unlock()
	shed := c.shed.Swap(false)
	for id, u := range c.partial {
		if shed || !u.block.here || !u.block.wanted || u.block.remote != nil || c.waiting[id] {
			c.dead = append(c.dead, u.files...)
			delete(c.partial, id)
		}
	}
}

// fits asks the server whether there is room for the rest of a block, and some for the log. If there is not,
// blocks get a smaller share, but not less than half of what they have; the log takes that when it needs it
// (Shed). The smaller share is used as far as there is room.
func (c *Copier) fits(u *upload) (bool, error) {
	room, err := c.room()
	if err != nil {
		return false, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	need, used := c.needLocked(u.block)-allocated(u.files), c.allocatedLocked()
	if need <= room || c.limit > 0 && used+need <= c.limit && need <= room+c.pool/reserve {
		return true, nil
	}
	c.limit = max(used+room, used/2, 1)
	c.planLocked()
	return false, nil
}

// room is how much of the pool blocks may still take. Once a full server has room again, blocks get it, but not at
// once: otherwise a server that becomes full with every head would get the same blocks over and over.
func (c *Copier) room() (int64, error) {
	var pool, free int64
	if err := c.memory.Read("health", memory.ReadTimeout, func(ctx context.Context, conn *memory.Conn) error {
		h, err := conn.Health(ctx)
		pool = h.Memory.MaxPoolSize
		free = pool - h.Memory.AllocatedBytes
		return err
	}); err != nil {
		return 0, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	room := free - pool/reserve
	if c.limit > 0 && c.allocatedLocked()+room >= c.limit+pool/reserve {
		c.limit = 0
		c.planLocked()
	}
	return room, nil
}

// full gives up a block that the server has no room for, although it said it had.
func (c *Copier) full(u *upload) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.limit = max(c.allocatedLocked()-allocated(u.files), 1)
	c.planLocked()
	c.shed.Store(true)
}

// copy copies one block, until a newer one has to go first.
func (c *Copier) copy(u *upload) error {
	dir := filepath.Join(c.o.Dir, u.id.String())
	looked := time.Now()
	err := u.unchanged(dir)
	for i, f := range u.local {
		if err == nil {
			err = c.copyFile(filepath.Join(dir, f.Name), f, u.files[i], func() error { return c.goOn(u, &looked) })
		}
	}
	if err == nil {
		err = u.unchanged(dir)
	}
	r := &remote{number: u.number, files: u.local, parts: u.files}
	if err == nil {
		err = c.writeManifest(u.id, u.block, r)
	}
	if err != nil {
		return c.judge(u.id, u.block, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.arena != c.memory.Arena() {
		return errLater
	}
	delete(c.partial, u.id)
	delete(c.paused, u.id)
	if c.blocks[u.id] == nil {
		if _, missing := c.missing[u.id]; !missing && !c.deleted[u.id] && !c.islands[u.id] { // It was put aside: others have its time.
			c.dead = append(c.dead, r.all()...)
			return nil
		}
		c.blocks[u.id] = u.block // The block was deleted here meanwhile; once that is sure, it is freed.
	}
	c.blocks[u.id].remote = r
	c.o.Logger.Info("MaaS: copied a block", "block", u.id, "bytes", r.size())
	c.planLocked()
	return nil
}

// unchanged is an error if the block's files are not those that are copied.
func (u *upload) unchanged(dir string) error {
	files, err := listFiles(dir)
	if err == nil && !sameFiles(files, u.local) {
		err = errChanged
	}
	return err
}

// judge decides what a failed copy, of a block or of its pair, means for the block: with errLater, the block is left
// alone for a while, and others go on.
func (c *Copier) judge(id ulid.ULID, b *block, err error) error {
	if !errors.Is(err, errPair) && !errors.Is(err, errChanged) && !isLocal(err) {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	p := c.paused[id]
	if errors.Is(err, errPair) || isGone(filepath.Join(c.o.Dir, id.String())) {
		p.until = time.Now().Add(c.o.Interval) // The next look sees the new pair, or that the block was deleted.
		c.paused[id] = p
		return errLater
	}
	p.until = time.Now().Add(c.o.Retry << min(p.tries, maxDoubled))
	p.tries++
	c.paused[id] = p
	c.o.Logger.Error("MaaS: a block is not copied", "block", id, "tries", p.tries, "err", err)
	b.state = "" // Its files will be listed again.
	if u := c.partial[id]; u != nil {
		c.dead = append(c.dead, u.files...)
		delete(c.partial, id)
	}
	return errLater
}

// goOn is asked before each piece.
func (c *Copier) goOn(u *upload, looked *time.Time) error {
	if c.stopped() {
		return errStopped
	}
	if c.memory.Arena() != c.arena || c.shed.Load() {
		return errLater
	}
	if time.Since(*looked) < c.o.Interval {
		return nil
	}
	*looked = time.Now()
	if err := c.look(); err != nil {
		return err
	}
	c.report(nil)
	if first, evicted := c.next(); evicted || first != u {
		return errLater
	}
	return nil
}

// copyFile copies the rest of one file.
func (c *Copier) copyFile(path string, f file, to *remotefile.File, goOn func() error) error {
	if last, _ := to.Last(); last {
		return nil
	}
	in, err := os.Open(path)
	if err != nil {
		return err
	}
	defer in.Close()
	for to.Len() < f.Size {
		if err := goOn(); err != nil {
			return err
		}
		from := to.Len()
		b := c.buf[:min(int64(c.memory.PieceSize()), f.Size-from)]
		if _, err := in.ReadAt(b, from); errors.Is(err, io.EOF) {
			return errChanged
		} else if err != nil {
			return err
		}
		if err := c.append(to, b); err != nil {
			return err
		}
		// Pages that queries have mapped stay; pages that were read only for the copy go.
		_ = unix.Fadvise(int(in.Fd()), from, int64(len(b)), unix.FADV_DONTNEED)
	}
	return c.finish(to)
}

func (c *Copier) append(to *remotefile.File, b []byte) error {
	if err := c.memory.Write("append", len(b), func(ctx context.Context, conn *memory.Conn) error {
		return to.Append(ctx, conn, b)
	}); err != nil {
		return ofServer(err)
	}
	c.memory.Metrics().BytesWritten.WithLabelValues(remotefile.Block.String()).Add(float64(len(b)))
	return nil
}

func (c *Copier) finish(to *remotefile.File) error {
	return ofServer(c.memory.Write("finish", 0, func(ctx context.Context, conn *memory.Conn) error {
		return to.Finish(ctx, conn, false)
	}))
}

// writeManifest writes a block's manifest anew, with the pair that was seen last.
func (c *Copier) writeManifest(id ulid.ULID, of *block, r *remote) error {
	p, _, err := readPair(filepath.Join(c.o.Dir, id.String()))
	if err != nil {
		return err
	}
	c.mu.Lock()
	same := p.sum() == of.pair
	f := c.newFileLocked(r.number, manifestPart+c.version)
	c.version++ // A name is not used again: a reader could not tell two files of the same name apart.
	c.mu.Unlock()
	if !same {
		return errPair
	}
	b, err := json.Marshal(manifest{Version: manifestVersion, Files: r.files, pair: p})
	if err != nil {
		return err
	}
	for len(b) > 0 && err == nil {
		n := min(len(b), c.memory.PieceSize())
		err = c.append(f, b[:n])
		b = b[n:]
	}
	if err == nil {
		err = c.finish(f)
	}
	if err != nil {
		c.mu.Lock()
		c.dead = append(c.dead, f)
		c.mu.Unlock()
		return fmt.Errorf("write a block's manifest: %w", err)
	}
	r.manifest, r.pair = f, p.sum()
	return nil
}

// updatePairs writes new manifests of blocks from which something was deleted.
func (c *Copier) updatePairs() error {
	for {
		id, b, r := c.outdated()
		if b == nil {
			return nil
		}
		next := *r
		if err := c.writeManifest(id, b, &next); err != nil {
			if err := c.judge(id, b, err); !errors.Is(err, errLater) {
				return err
			}
			continue
		}
		c.mu.Lock()
		delete(c.paused, id)
		if b.remote == r && c.arena == c.memory.Arena() {
			b.remote = &next
			c.dead = append(c.dead, r.manifest)
		} else {
			c.dead = append(c.dead, next.manifest) // The block was evicted meanwhile.
		}
		c.mu.Unlock()
	}
}

// outdated is a block whose pair here differs from the one in remote memory; nil: there is none, for now.
func (c *Copier) outdated() (ulid.ULID, *block, *remote) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, b := range c.blocks {
		if b.here && b.remote != nil && b.remote.pair != b.pair && !c.pausesLocked(id) {
			return id, b, b.remote
		}
	}
	return ulid.ULID{}, nil, nil
}
