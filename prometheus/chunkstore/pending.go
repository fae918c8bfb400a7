// SPDX-License-Identifier: Apache-2.0

// A file of chunks whose end is still here, in batches, until it is in remote memory.

package chunkstore

import (
	"slices"
	"time"

	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// remoteFile is one file of chunks: its first bytes are in remote memory, the rest is still here.
type remoteFile struct {
	number  uint32
	file    *remotefile.File
	pending []batch // From file.Len() on; none is empty.
	bytes   int64   // In pending.
	chunks  int     // In pending.
	since   time.Time
}

// batch is the most that is written at once: whole records, so that remote memory never ends inside of a record.
// Its bytes do not change; more may be appended until the batch waits for a look at the log.
type batch struct {
	data   []byte
	chunks int
	look   uint64 // The look at the log that it waits for; 0: not decided yet, and the batch may grow.
}

// atMost is the beginning of a batch: the whole records in its first n bytes, but one at least. first: a file begins with
// it, so that its header comes first.
func (b batch) atMost(n int, first bool) batch {
	if len(b.data) <= n {
		return b
	}
	header := 0
	if first {
		header = headchunk.FileHeaderSize
	}
	size, records := headchunk.Prefix(b.data[header:n])
	if records == 0 {
		size, _ = headchunk.Size(b.data[header:]) // This process has written the record.
		records = 1
	}
	return batch{data: b.data[:header+size], chunks: records, look: b.look}
}

func (f *remoteFile) end() int64 { return f.file.Len() + f.bytes }

func (f *remoteFile) add(rec headchunk.Record) {
	size := headchunk.EncodedSize(len(rec.Data))
	last := len(f.pending) - 1
	if last < 0 || f.pending[last].look != 0 || len(f.pending[last].data)+size > maxFlush {
		f.pending = append(f.pending, batch{})
		last++
	}
	b := &f.pending[last]
	if cap(b.data)-len(b.data) < size {
		// By doubling: append's own steps would allocate four times as much as is written. A batch behind
		// a full one will be full, too; the one before may also have ended for a look at the log.
		grown := len(b.data)
		if last > 0 && len(f.pending[last-1].data)+size > maxFlush {
			grown = maxFlush
		}
		b.data = slices.Grow(b.data, max(size, min(grown, maxFlush-len(b.data))))
	}
	before := len(b.data)
	b.data = headchunk.Append(b.data, rec)
	b.chunks++
	f.bytes += int64(len(b.data) - before)
	f.chunks++
}

// waiting returns the pending bytes from an offset of the file to the end of a batch.
func (f *remoteFile) waiting(off int64) []byte {
	off -= f.file.Len()
	for _, b := range f.pending {
		if off < int64(len(b.data)) {
			return b.data[off:]
		}
		off -= int64(len(b.data))
	}
	return nil
}

// written removes the first bytes, which are in remote memory now, from the pending ones.
func (f *remoteFile) written(n, records int) {
	b := &f.pending[0]
	b.data = b.data[n:]
	b.chunks -= records
	f.bytes -= int64(n)
	f.chunks -= records
	if len(b.data) == 0 {
		f.pending = slices.Delete(f.pending, 0, 1) // Releases the array.
	}
}
