// SPDX-License-Identifier: Apache-2.0

package remotefile

import "context"

// What a file says of itself beside its bytes: the header's extra, in which each kind has its own.

// after is the file that one follows: its number, and its length, which is final.
func after(number uint32, length int64) uint64 { return uint64(number) | uint64(uint32(length))<<32 }

// After says of chunks which file this one follows, and how long that is for ever: the numbers in between were
// never used. It comes before the first Append.
func (f *File) After(number uint32, length int64) { f.extra = after(number, length) }

// Follows says whether nothing is missing between another file, as it is now, and this one.
func (f *File) Follows(other *File) bool {
	if f.extra == 0 {
		return f.name.Number == other.name.Number+1
	}
	return f.extra == after(other.name.Number, other.Len())
}

const signBit = 1 << 63

// SetMinTime says of a file of the WAL where the head begins. The appender's goroutine calls it; what it
// writes next carries the time along.
func (f *File) SetMinTime(t int64) { f.extra = uint64(t) ^ signBit }

// MinTime is what SetMinTime said.
func (f *File) MinTime() int64 { return int64(f.extra ^ signBit) }

// Stamp writes nothing but what the file says of itself. It needs no memory that the file does not have, unless
// the file has none at all.
func (f *File) Stamp(ctx context.Context, mem Memory) error {
	return f.write(ctx, mem, nil, 0, func(publish func()) { publish() })
}

// SetOffset says of a file of a chunk snapshot which offset is in its name. It comes before the first Append.
func (f *File) SetOffset(offset uint64) { f.extra = offset }

// Offset is what SetOffset said.
func (f *File) Offset() uint64 { return f.extra }
