// SPDX-License-Identifier: Apache-2.0

// What a file says about itself besides its bytes: the header's extra field, which has another meaning for each
// kind, and, in a snapshot, the last of its chunks.

package remotefile

import "context"

// after packs the file in front: its number, and its length, which is final.
func after(number uint32, length int64) uint64 { return uint64(number) | uint64(uint32(length))<<32 }

// After says which file of chunks this one follows, and that file's final length: the numbers in between were
// never used. Call it before the first Append.
func (f *File) After(number uint32, length int64) { f.extra = after(number, length) }

// Follows says whether this file comes directly after the other one, as that one is now, with nothing missing in
// between.
func (f *File) Follows(other *File) bool {
	if f.extra == 0 {
		return f.name.Number == other.name.Number+1
	}
	return f.extra == after(other.name.Number, other.Len())
}

const signBit = 1 << 63

// SetMinTime says, in a file of the WAL, where the head begins. The appender's goroutine calls it; its next write
// carries the time along.
func (f *File) SetMinTime(t int64) { f.extra = uint64(t) ^ signBit }

// MinTime is the time of SetMinTime.
func (f *File) MinTime() int64 { return int64(f.extra ^ signBit) }

// Stamp writes the header alone. It allocates only if the file has no memory at all.
func (f *File) Stamp(ctx context.Context, mem Memory) error {
	return f.write(ctx, mem, nil, 0, func(publish func()) { publish() })
}

// SetOffset says which offset is in the name of a chunk snapshot. Call it before the first Append.
func (f *File) SetOffset(offset uint64) { f.extra = offset }

// Offset is the offset of SetOffset.
func (f *File) Offset() uint64 { return f.extra }

// RelyOn says which file of chunks is the last that a chunk snapshot relies on. Call it before the first Append.
func (f *File) RelyOn(chunks uint32) { f.chunks = chunks }

// ReliesOn is the number of RelyOn; 0: nobody said.
func (f *File) ReliesOn() uint32 { return f.chunks }
