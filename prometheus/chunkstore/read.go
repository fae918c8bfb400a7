// SPDX-License-Identifier: Apache-2.0

package chunkstore

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

const (
	// outagePatience is how long a compaction's read waits for a server that is out of reach: as long as it
	// takes to find again one that somebody else found too slow.
	outagePatience = 15 * time.Second
	outageInterval = 100 * time.Millisecond
)

// Chunk reads a chunk from what waits here, from the cache or from remote memory. Its errors are
// never a CorruptionErr, upon which Prometheus would panic.
func (r *Remote) Chunk(ref chunks.ChunkDiskMapperRef) (chunkenc.Chunk, error) {
	chk, _, err := r.chunk(ref, nil)
	return chk, err
}

// ChunkPatiently is Chunk for a compaction, which neither a slow answer nor an outage of a moment is to
// fail. While it waits, what is locked is unlocked.
func (r *Remote) ChunkPatiently(ref chunks.ChunkDiskMapperRef, locked sync.Locker) (chunkenc.Chunk, error) {
	end := time.Now().Add(r.outagePatience)
	for again := false; ; again = true {
		chk, away, err := r.chunk(ref, locked)
		if err == nil || !away || again && r.memory.Up() || errors.Is(err, errWrong) || time.Now().After(end) {
			return chk, err
		}
		locked.Unlock()
		for !r.memory.Up() && time.Now().Before(end) {
			time.Sleep(outageInterval)
		}
		locked.Lock()
	}
}

// chunk says, too, whether the chunk is away, in remote memory.
func (r *Remote) chunk(ref chunks.ChunkDiskMapperRef, locked sync.Locker) (chk chunkenc.Chunk, away bool, err error) {
	number, off := ref.Unpack()
	file, data, enc, err := r.lookUp(uint32(number), int64(off))
	if err != nil {
		return nil, false, err
	}
	if file == nil {
		chk, err = r.o.Pool.Get(enc, data)
		return chk, false, err
	}
	chk, err = r.reader.chunk(file, int64(off), r.o.Pool, locked)
	return chk, true, err
}
