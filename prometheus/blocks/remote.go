// SPDX-License-Identifier: Apache-2.0

// Blocks as the server holds them.

package blocks

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/oklog/ulid/v2"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// In remote memory each block has a number; its files are the parts of that number, from 1 on, and its
// manifest is a part from manifestPart on: each version of it is a file of its own, and once one is
// finished, the one before goes. A block is whole once it has a finished manifest, which is written last.
const (
	manifestPart    = 1 << 31
	manifestVersion = 1
)

// manifest is a block's manifest, as JSON.
type manifest struct {
	Version int    `json:"version"`
	Files   []file `json:"files"` // Part i+1 is the i-th.
	pair
}

// remote is a block that is whole in remote memory.
type remote struct {
	number   uint32
	files    []file
	parts    []*remotefile.File // In the order of files.
	manifest *remotefile.File
	pair     [32]byte
}

// all are the files that a block has in remote memory.
func (r *remote) all() []*remotefile.File {
	return append(r.parts[:len(r.parts):len(r.parts)], r.manifest)
}

func (r *remote) allocated() int64 { return allocated(r.all()) }

func (r *remote) size() int64 { return size(r.all()) }

func allocated(files []*remotefile.File) (sum int64) {
	for _, f := range files {
		_, n := f.Allocated()
		sum += n
	}
	return sum
}

func size(files []*remotefile.File) (sum int64) {
	for _, f := range files {
		sum += f.Len()
	}
	return sum
}

var errVersion = errors.New("another version of Prometheus wrote this block")

var errBroken = errors.New("remote memory holds other bytes than were written")

// readPieces reads a remote file piece by piece, and compares the checksums.
func (c *Copier) readPieces(f *remotefile.File, use func([]byte) error) error {
	var buf []byte
	for _, p := range f.Pieces() {
		if int64(cap(buf)) < p.Length {
			buf = make([]byte, p.Length)
		}
		buf = buf[:p.Length]
		ok := false
		for range 2 { // Bytes that were damaged on their way are right the second time.
			if err := memory.InSteps(buf, p.Offset, func(p []byte, off int64) error {
				if c.stopped() {
					return errStopped
				}
				return c.read("read_block", func(ctx context.Context, mem remotefile.Memory) error { return f.ReadAt(ctx, mem, p, off) })
			}); err != nil {
				return err
			}
			c.memory.Metrics().BytesRead.WithLabelValues(remotefile.Block.String()).Add(float64(p.Length))
			if ok = remotefile.Checksum(buf) == p.CRC; ok {
				break
			}
		}
		if !ok {
			return fmt.Errorf("%s at %d: %w", f.Name(), p.Offset, errBroken)
		}
		if err := use(buf); err != nil {
			return err
		}
	}
	return nil
}

// serverError is a failure of the server, or of what leads to it, such as the file with the token: it is not one of
// the data directory, although it may have a path.
type serverError struct{ error }

func (e serverError) Unwrap() error { return e.error }

func ofServer(err error) error {
	if err == nil {
		return nil
	}
	return serverError{err}
}

// isLocal says whether it was the data directory that failed.
func isLocal(err error) bool {
	var server serverError
	var path *fs.PathError
	var link *os.LinkError
	return !errors.As(err, &server) && (errors.As(err, &path) || errors.As(err, &link))
}

// read runs a read, in a leader with its session, in a standby without one.
func (c *Copier) read(op string, call func(context.Context, remotefile.Memory) error) error {
	if c.follow != nil {
		return ofServer(c.readFollowing(call))
	}
	return ofServer(c.memory.Read(op, memory.ReadTimeout, func(ctx context.Context, conn *memory.Conn) error { return call(ctx, conn) }))
}

func (c *Copier) readManifest(f *remotefile.File) (m manifest, err error) {
	if m, ok := c.follow.manifest(f); ok {
		return m, nil
	}
	var b []byte
	if err := c.readPieces(f, func(p []byte) error { b = append(b, p...); return nil }); err != nil {
		return m, err
	}
	if err := json.Unmarshal(b, &m); err != nil {
		return m, fmt.Errorf("%s: %w: %w", f.Name(), errBroken, err)
	}
	if m.Version != manifestVersion {
		return m, fmt.Errorf("%w: %s has version %d, this program knows %d", errVersion, f.Name(), m.Version, manifestVersion)
	}
	c.follow.remember(f, m)
	return m, nil
}

// attach takes over what the server holds, whenever that has changed: whole blocks stay, the rest of others is
// freed.
func (c *Copier) attach() error {
	arena := c.memory.Arena()
	c.mu.Lock()
	done := c.attached && arena == c.arena
	c.attached = done
	c.mu.Unlock()
	if done || arena == nil {
		return nil
	}
	var h maas.Health
	if err := c.memory.Read("health", memory.ReadTimeout, func(ctx context.Context, conn *memory.Conn) (err error) {
		h, err = conn.Health(ctx)
		return err
	}); err != nil {
		return err
	}
	s, err := c.find(arena.Listing)
	if err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	lost := c.takeOverLocked(s.whole)
	first := c.arena == nil
	c.arena, c.attached, c.pool, c.classes = arena, true, h.Memory.MaxPoolSize, h.SlabSizes
	c.partial, c.dead, c.number, c.version, c.limit = map[ulid.ULID]*upload{}, s.dead, s.number, s.version, 0
	c.broken = map[ulid.ULID]bool{}
	c.seen = time.Now()
	if first && c.o.Discard {
		for id, b := range c.blocks {
			c.deleted[id] = c.deleted[id] || !b.here
		}
	}
	c.planLocked()
	if lost > 0 {
		c.memory.Metrics().Resynced.Add(float64(lost))
	}
	return nil
}

// takeOverLocked makes the found blocks the remote blocks, and returns the size of those that were lost.
func (c *Copier) takeOverLocked(whole map[ulid.ULID]*found) (lost int64) {
	for id, b := range c.blocks {
		if b.remote != nil && whole[id] == nil {
			lost += b.remote.size()
			if !b.here && !c.deleted[id] && c.returning.Load() {
				c.o.Logger.Error("MaaS: the memory server has lost a block that had not been brought back yet", "block", id)
			}
		}
		b.remote = nil
		c.dropLocked(b)
	}
	for id, f := range whole {
		b := c.blocks[id]
		if b == nil {
			b = &block{meta: f.meta, files: f.files}
			c.blocks[id] = b
			c.known.add(&f.meta)
		}
		b.remote = &f.remote
	}
	return lost
}

// verify looks whether the server still has everything that it should.
func (c *Copier) verify() error {
	if time.Since(c.seen) < c.o.Verify {
		return nil
	}
	c.mu.Lock()
	should := map[ulid.ULID]*remote{}
	for id, b := range c.blocks {
		if b.remote != nil {
			should[id] = b.remote
		}
	}
	c.mu.Unlock()
	l, err := c.memory.List(c.ctx)
	if maas.IsNotFound(err) || c.stopped() {
		return nil // The next round looks again.
	}
	if err != nil {
		return err
	}
	have := map[remotefile.Name]int64{}
	for _, f := range l.Files {
		have[f.Name()] = f.Len()
	}
	c.seen = time.Now()
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, r := range should {
		missing := slices.ContainsFunc(r.all(), func(f *remotefile.File) bool { return have[f.Name()] != f.Len() })
		if b := c.blocks[id]; missing && b != nil && b.remote == r {
			c.o.Logger.Warn("MaaS: a part of a block has gone from remote memory; the block is copied again if it is here", "block", id)
			c.giveUpLocked(b)
		}
	}
	c.planLocked()
	return nil
}

// found is a block that the server holds.
type found struct {
	remote
	meta
}

// survey is what a listing tells about blocks.
type survey struct {
	whole           map[ulid.ULID]*found
	dead            []*remotefile.File
	number, version uint32 // The first ones that no block, and no manifest, has.
}

// find separates the whole blocks of a listing from dead files.
func (c *Copier) find(listing *remotefile.Listing) (*survey, error) {
	s := &survey{whole: map[ulid.ULID]*found{}}
	sets := map[uint32][]*remotefile.File{}
	for _, f := range listing.Files {
		if n := f.Name(); n.Kind == remotefile.Block {
			sets[n.Number] = append(sets[n.Number], f)
			s.number = max(s.number, n.Number+1)
			if n.Part >= manifestPart {
				s.version = max(s.version, n.Part-manifestPart+1)
			}
		}
	}
	for _, number := range slices.Sorted(maps.Keys(sets)) {
		f, rest, err := c.findBlock(sets[number])
		if err != nil {
			return nil, err
		}
		s.dead = append(s.dead, rest...)
		if f == nil {
			continue
		}
		if other := s.whole[f.ULID]; other != nil { // A process that did not know of the first copy made another.
			s.dead = append(s.dead, other.all()...)
		}
		s.whole[f.ULID] = f
	}
	return s, nil
}

// findBlock looks at the files of one number. If the block is not whole, it returns nil, and all its files as
// dead.
func (c *Copier) findBlock(set []*remotefile.File) (*found, []*remotefile.File, error) {
	parts := map[uint32]*remotefile.File{}
	var current *remotefile.File
	for _, f := range set {
		last, _ := f.Last()
		if last {
			parts[f.Name().Part] = f
		}
		if last && f.Name().Part >= manifestPart {
			current = f
		}
	}
	if current == nil {
		return nil, set, nil
	}
	m, err := c.readManifest(current)
	var info meta
	if err == nil {
		if jsonErr := json.Unmarshal(m.Meta, &info); jsonErr != nil {
			err = fmt.Errorf("%s: %w: %w", current.Name(), errBroken, jsonErr)
		}
	}
	if errors.Is(err, errBroken) {
		if c.follow.says(err.Error()) {
			c.o.Logger.Error("MaaS: a block's manifest is damaged; the block is copied again if it is here", "err", err)
		}
		return nil, set, nil
	}
	if errors.Is(err, errVersion) {
		if c.follow.says(err.Error()) {
			c.o.Logger.Warn("MaaS: a block in remote memory is left alone", "err", err)
		}
		return nil, nil, nil
	}
	if err != nil {
		return nil, nil, err
	}
	f := &found{meta: info, remote: remote{
		number: current.Name().Number, files: m.Files, manifest: current, pair: m.pair.sum(),
	}}
	for i, file := range m.Files {
		part := parts[uint32(i)+1]
		if part == nil || part.Len() != file.Size || !validName(file.Name) {
			return nil, set, nil
		}
		f.parts = append(f.parts, part)
	}
	rest := slices.DeleteFunc(slices.Clone(set), func(file *remotefile.File) bool { return slices.Contains(f.all(), file) })
	return f, rest, nil
}

// freeDead frees what is no longer needed.
func (c *Copier) freeDead() error {
	for {
		c.mu.Lock()
		if len(c.dead) == 0 {
			c.mu.Unlock()
			return nil
		}
		f, arena := c.dead[0], c.arena
		c.dead = c.dead[1:]
		c.mu.Unlock()
		err := c.memory.Write("free", 0, func(ctx context.Context, conn *memory.Conn) error {
			return f.Free(ctx, conn)
		})
		if err != nil {
			c.mu.Lock()
			if arena == c.arena {
				c.dead = append(c.dead, f)
			}
			c.mu.Unlock()
			return err
		}
	}
}
