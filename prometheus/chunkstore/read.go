// SPDX-License-Identifier: Apache-2.0

// Reads of Remote.

package chunkstore

import (
	"errors"
	"sync"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"
)

const (
	// outagePatience is how long a compaction's read waits for a server that is out of reach. That is long
	// enough to find the server again after another read found it too slow.
	outagePatience = 15 * time.Second
	outageInterval = 100 * time.Millisecond
)

// Chunk reads a chunk from the pending ones, from the cache or from remote memory. Its errors are never a
// CorruptionErr, on which Prometheus would panic.
func (r *Remote) Chunk(ref chunks.ChunkDiskMapperRef) (chunkenc.Chunk, error) {
	chk, _, err := r.chunk(ref, nil)
	return chk, err
}

// ChunkPatiently is Chunk for a compaction: neither a slow answer nor a short outage makes it fail. While it
// waits, locked is unlocked.
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

// chunk also says whether the chunk is in remote memory.
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
