// SPDX-License-Identifier: Apache-2.0

// Package remotefile keeps the bytes of append-only files in the memory of a MaaS server.
//
// A file lies in extents. Each extent is an allocation that begins with a header: which file, from which offset,
// how many bytes, their checksum, the writer's epoch. So the server's memory describes itself. Whoever knows the
// owner's name finds every file again with List, on another host, too, and never takes a byte for valid that was
// not acknowledged.
//
// This file has the files and their bytes; header.go the header, list.go the search, refresh.go what a reader of
// another's file does, extra.go what files say about themselves, sizes.go the sizes of extents.
package remotefile

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"hash"
	"hash/crc32"
	"io"
	"slices"
	"sort"
	"sync"
	"sync/atomic"

	maas "github.com/maas-memory/maas/go"
)

// Memory is the part of a *maas.Client that this package uses.
type Memory interface {
	Allocate(context.Context, maas.AllocateOptions) ([]maas.Allocation, error)
	Free(ctx context.Context, ids ...string) (freed int, unknown []string, err error)
	List(ctx context.Context, owner string) ([]maas.Allocation, error)
	ReadV(context.Context, []maas.Range) error
	WriteV(context.Context, []maas.Range) error
	SlabSizes() []int64
}

// ErrFreed is the error of reading a file that was freed meanwhile; the server is well.
var ErrFreed = errors.New("the file is no longer in use")

// ErrOutOfRange is the error of reading bytes that the file does not hold.
var ErrOutOfRange = errors.New("outside of the bytes that are in remote memory")

type extent struct {
	header

	id       string
	capacity int64 // How many bytes of the file it can hold.
	lent     int64 // How many bytes the server lends for it.
}

func (e *extent) end() int64 { return int64(e.base) + int64(e.length) }

// File is one file in remote memory. One goroutine appends; any goroutine may read what was appended.
type File struct {
	name   Name
	owner  string
	sorted bool
	freed  atomic.Bool

	mu      sync.RWMutex // Guards what follows.
	epoch   uint64       // The writer's.
	extents []extent     // In the order of their offsets, without a gap; only the last may be empty.
	spare   []extent     // Allocated for what comes next; only the appender takes them.

	extra   uint64 // The appender's: extra of the headers that it writes.
	chunks  uint32 // The same.
	request string // The appender's: the request id of an allocation without an answer so far.
}

// New names a file that does not exist yet; its extents are allocated as it grows. sorted says that its chunks
// come in the order of labels.
func New(owner string, epoch uint64, name Name, sorted bool) *File {
	return &File{name: name, owner: owner, epoch: epoch, sorted: sorted}
}

// Name is the file's name.
func (f *File) Name() Name { return f.name }

// Sorted says whether the file's chunks are in the order of labels.
func (f *File) Sorted() bool { return f.sorted }

// Len is how many bytes of the file the server has acknowledged.
func (f *File) Len() int64 {
	f.mu.RLock()
	defer f.mu.RUnlock()
	return f.length()
}

func (f *File) length() int64 {
	if len(f.extents) == 0 {
		return 0
	}
	return f.extents[len(f.extents)-1].end()
}

// Allocated is the number of the file's extents, and the bytes that they take at the server.
func (f *File) Allocated() (extents int, bytes int64) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	for _, e := range slices.Concat(f.extents, f.spare) {
		bytes += e.lent
	}
	return len(f.extents) + len(f.spare), bytes
}

// Last says whether Finish has completed the file, and whether the file is the last of its set.
func (f *File) Last() (last, final bool) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if len(f.extents) == 0 {
		return false, false
	}
	flags := f.extents[len(f.extents)-1].flags
	return flags&flagLast != 0, flags&flagFinal != 0
}

// Append writes p behind the file's bytes. When it returns nil, the server has all of p. After an error the file
// is as it was before, whichever part of p arrived. p is not kept.
func (f *File) Append(ctx context.Context, mem Memory, p []byte) error {
	return f.write(ctx, mem, p, 0, func(publish func()) { publish() })
}

// AppendThen is Append with a callback: once the server has the bytes, it calls then, which calls publish at the
// moment from which Len shall count them.
func (f *File) AppendThen(ctx context.Context, mem Memory, p []byte, then func(publish func())) error {
	return f.write(ctx, mem, p, 0, then)
}

// Finish says that the file is complete, and, with final, that it is the last of its set.
func (f *File) Finish(ctx context.Context, mem Memory, final bool) error {
	flags := uint16(flagLast)
	if final {
		flags |= flagFinal
	}
	return f.write(ctx, mem, nil, flags, func(publish func()) { publish() })
}

// write holds no lock while it waits for the server: nobody but the one appender changes the extents.
func (f *File) write(ctx context.Context, mem Memory, p []byte, flags uint16, then func(publish func())) error {
	changed, spares, err := f.room(ctx, mem, int64(len(p)))
	if err != nil {
		return err
	}
	ranges := make([]maas.Range, 0, 2*len(changed))
	for i := range changed {
		e := &changed[i]
		if n := min(e.capacity-int64(e.length), int64(len(p))); n > 0 {
			ranges = append(ranges, maas.Range{ID: e.id, Offset: HeaderSize + int64(e.length), Data: p[:n]})
			e.crc = crc32.Update(e.crc, castagnoli, p[:n])
			e.length += uint32(n)
			p = p[n:]
		}
	}
	for i := range changed { // Behind all bytes, so that nobody finds a part of p where its bytes arrive piece by piece.
		e := &changed[i]
		e.extra, e.chunks = f.extra, f.chunks
		if i == len(changed)-1 {
			e.flags |= flags
		}
		ranges = append(ranges, e.nextSlot())
	}
	if err := mem.WriteV(ctx, ranges); err != nil {
		return fmt.Errorf("write %s: %w", f.name, err)
	}
	then(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.spare = f.spare[spares:]
		kept := len(f.extents) + spares - len(changed)
		f.extents = append(f.extents[:kept:kept], changed...)
	})
	return nil
}

// nextSlot returns the write that puts the present header into the older slot.
func (e *extent) nextSlot() maas.Range {
	e.generation++
	slot := new([slotSize]byte)
	e.encode(slot)
	return maas.Range{ID: e.id, Offset: int64(e.generation%2) * slotSize, Data: slot[:]}
}

// room returns copies of the extents that take the next n bytes, and how many of these are spares.
func (f *File) room(ctx context.Context, mem Memory, n int64) (extents []extent, spares int, err error) {
	f.mu.RLock()
	index, base := len(f.extents), f.length()
	if index > 0 {
		if last := f.extents[index-1]; n == 0 || int64(last.length) < last.capacity {
			extents = append(extents, last)
			n -= last.capacity - int64(last.length)
			base = int64(last.base) + last.capacity
		}
	}
	f.mu.RUnlock()
	for ; n > 0 || len(extents) == 0; spares++ {
		if spares == len(f.spare) {
			if err := f.allocate(ctx, mem, extentSize(index+spares, mem.SlabSizes())); err != nil {
				return nil, 0, err
			}
		}
		e := f.spare[spares]
		e.header = header{name: f.name, index: uint32(index + spares), base: uint64(base), epoch: f.epoch}
		if f.sorted {
			e.flags = flagSorted
		}
		extents = append(extents, e)
		n -= e.capacity
		base += e.capacity
	}
	return extents, spares, nil
}

// allocate repeats a request with the same id until there is an answer, so that memory that was lent after a
// timeout is not lent twice.
func (f *File) allocate(ctx context.Context, mem Memory, size int64) error {
	if f.request == "" {
		f.request = rand.Text()
	}
	a, err := mem.Allocate(ctx, maas.AllocateOptions{Size: size, Owner: f.owner, Lifetime: "delete", RequestID: f.request})
	if err != nil {
		return fmt.Errorf("allocate %d bytes for %s: %w", size, f.name, err)
	}
	f.request = ""
	f.mu.Lock()
	defer f.mu.Unlock()
	f.spare = append(f.spare, extent{id: a[0].ID, capacity: size - HeaderSize, lent: a[0].ActualSize})
	return nil
}

// Cut makes the file end after its first n bytes, which local has, too. The memory behind them is freed, or takes
// what is appended next. Only the appender may call it. After an error, the file ends somewhere between its old
// end and n.
func (f *File) Cut(ctx context.Context, mem Memory, n int64, local io.ReaderAt) error {
	f.mu.RLock()
	keep := sort.Search(len(f.extents), func(i int) bool { return f.extents[i].end() >= n }) + 1
	if keep > len(f.extents) {
		f.mu.RUnlock()
		return fmt.Errorf("%s: cut at %d: %w", f.name, n, ErrOutOfRange)
	}
	e := f.extents[keep-1]
	var ids []string
	for _, behind := range f.extents[keep:] {
		ids = append(ids, behind.id)
	}
	f.mu.RUnlock()
	// Free the old extents first: what is appended next has the same positions and epoch, so no header could
	// tell them apart.
	if len(ids) > 0 {
		if _, _, err := mem.Free(ctx, ids...); err != nil {
			return fmt.Errorf("free the end of %s: %w", f.name, err)
		}
		f.mu.Lock()
		f.extents = f.extents[:keep:keep]
		f.mu.Unlock()
	}
	b := make([]byte, n-int64(e.base))
	if _, err := local.ReadAt(b, int64(e.base)); err != nil {
		return fmt.Errorf("cut %s: %w", f.name, err)
	}
	e.length, e.crc = uint32(len(b)), Checksum(b)
	e.flags &^= flagLast | flagFinal
	if err := mem.WriteV(ctx, []maas.Range{e.nextSlot()}); err != nil {
		return fmt.Errorf("cut %s: %w", f.name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.extents[keep-1] = e
	return nil
}

// ReadAt fills p with the file's bytes from off on.
func (f *File) ReadAt(ctx context.Context, mem Memory, p []byte, off int64) error {
	ranges, err := f.Ranges(nil, p, off)
	if err != nil {
		return err
	}
	if err := mem.ReadV(ctx, ranges); err != nil {
		if f.freed.Load() {
			return fmt.Errorf("%s: %w", f.name, ErrFreed)
		}
		return fmt.Errorf("read %s at %d: %w", f.name, off, err)
	}
	return nil
}

// Ranges appends to dst the reads that fill p with the file's bytes from off on. A caller can so have many reads
// in one request.
func (f *File) Ranges(dst []maas.Range, p []byte, off int64) ([]maas.Range, error) {
	f.mu.RLock()
	defer f.mu.RUnlock()
	if f.freed.Load() {
		return dst, fmt.Errorf("%s: %w", f.name, ErrFreed)
	}
	if off < 0 || off+int64(len(p)) > f.length() {
		return dst, fmt.Errorf("%s: %d bytes at %d: %w", f.name, len(p), off, ErrOutOfRange)
	}
	i := sort.Search(len(f.extents), func(i int) bool { return f.extents[i].end() > off })
	for ; len(p) > 0; i++ {
		e := &f.extents[i]
		n := min(e.end()-off, int64(len(p)))
		dst = append(dst, maas.Range{ID: e.id, Offset: HeaderSize + off - int64(e.base), Data: p[:n]})
		p = p[n:]
		off += n
	}
	return dst, nil
}

// Piece is a part of a file, with the checksum that its writer left.
type Piece struct {
	Offset int64
	Length int64
	CRC    uint32 // CRC-32C.
}

// Pieces lists the pieces of the file, in order and without a gap.
func (f *File) Pieces() []Piece {
	f.mu.RLock()
	defer f.mu.RUnlock()
	pieces := make([]Piece, len(f.extents))
	for i := range f.extents {
		e := &f.extents[i]
		pieces[i] = Piece{Offset: int64(e.base), Length: int64(e.length), CRC: e.crc}
	}
	return pieces
}

// Checksum is the checksum that Piece.CRC holds.
func Checksum(p []byte) uint32 { return crc32.Checksum(p, castagnoli) }

// NewChecksum is Checksum for bytes that come one after the other.
func NewChecksum() hash.Hash32 { return crc32.New(castagnoli) }

// Free gives the file's memory back; allocations that the server no longer knows count as freed. Reads under way
// fail with ErrFreed. No Append may be under way.
func (f *File) Free(ctx context.Context, mem Memory) error {
	f.freed.Store(true)
	f.mu.Lock()
	ids := make([]string, 0, len(f.extents)+len(f.spare))
	for _, e := range slices.Concat(f.extents, f.spare) {
		ids = append(ids, e.id)
	}
	f.mu.Unlock()
	if len(ids) == 0 {
		return nil
	}
	if _, _, err := mem.Free(ctx, ids...); err != nil {
		return fmt.Errorf("free %s: %w", f.name, err)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	f.extents, f.spare = nil, nil
	return nil
}

// Extend returns the Checksum of some bytes followed by p; sum is the Checksum of these bytes.
func Extend(sum uint32, p []byte) uint32 { return crc32.Update(sum, castagnoli, p) }
