// SPDX-License-Identifier: Apache-2.0

// Reads of remote files through the cache, for both modes.

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

const (
	// maxReadAhead is how many blocks one request brings when a file is read from beginning to end.
	maxReadAhead = 16
	maxFetch     = maxReadAhead * blockSize
)

// errWrong is the error of bytes that are not as they were written.
var errWrong = errors.New("wrong bytes")

// reader reads chunks of remote files through the cache. Any goroutine may use it.
type reader struct {
	memory  *memory.Manager
	cache   *cache
	timeout time.Duration
	buffers sync.Pool // Of *[maxFetch]byte; new ones for each request would be half of what a compaction allocates.

	mu      sync.Mutex         // Guards the fields below.
	streams map[blockKey]int64 // The block behind those of a request, and how many the request had.
}

func newReader(m *memory.Manager, cacheSize int64, timeout time.Duration) (*reader, error) {
	c, err := newCache(cacheSize)
	if err != nil {
		return nil, err
	}
	return &reader{
		memory: m, cache: c, timeout: timeout, streams: map[blockKey]int64{},
		buffers: sync.Pool{New: func() any { return new([maxFetch]byte) }},
	}, nil
}

// chunk reads the chunk whose record begins at an offset of a file. If locked is set, the read is as patient as a
// write, and unlocks locked while it waits for the server.
func (r *reader) chunk(file *remotefile.File, off int64, pool chunkenc.Pool, locked sync.Locker) (chunkenc.Chunk, error) {
	b := r.cache.record(blockKey{file, off / blockSize}, int(off%blockSize))
	if b != nil {
		r.count(true)
	} else {
		var err error
		if b, err = r.record(file, off, locked); err != nil {
			return nil, err
		}
	}
	rec, _, err := headchunk.Parse(b)
	if err != nil {
		return nil, r.wrong(file, off, len(b), err)
	}
	return pool.Get(rec.Encoding, rec.Data)
}

// record reads a record that no single block of the cache has.
func (r *reader) record(file *remotefile.File, off int64, locked sync.Locker) ([]byte, error) {
	prefix := make([]byte, min(headchunk.PrefixSize, file.Len()-off))
	counted := int64(-1)
	if err := r.readAt(file, prefix, off, &counted, locked); err != nil {
		return nil, err
	}
	size, err := headchunk.Size(prefix)
	if err != nil {
		return nil, r.wrong(file, off, len(prefix), err)
	}
	if off+int64(size) > file.Len() {
		return nil, r.wrong(file, off, len(prefix), remotefile.ErrOutOfRange)
	}
	b := make([]byte, size)
	return b, r.readAt(file, b, off, &counted, locked)
}

// wrong reports bytes that are not as they were written; the cache drops them.
func (r *reader) wrong(file *remotefile.File, off int64, n int, err error) error {
	r.cache.drop(file, off/blockSize, (off+int64(n)-1)/blockSize)
	err = fmt.Errorf("remote memory of %s at %d: %w: %w", file.Name(), off, errWrong, err)
	r.memory.Metrics().Errors.WithLabelValues("verify").Inc()
	r.memory.Failed(err)
	return err
}

// readAt counts each block once; counted is the last block that was counted.
func (r *reader) readAt(file *remotefile.File, p []byte, off int64, counted *int64, locked sync.Locker) error {
	for len(p) > 0 {
		block, at := off/blockSize, int(off%blockSize)
		n := min(len(p), blockSize-at)
		hit := r.cache.get(p[:n], blockKey{file, block}, at)
		if block > *counted {
			*counted = block
			r.count(hit)
		}
		if !hit {
			if err := r.fetch(file, block, p[:n], at, locked); err != nil {
				return err
			}
		}
		p = p[n:]
		off += int64(n)
	}
	return nil
}

func (r *reader) count(hit bool) {
	if hit {
		r.memory.Metrics().CacheHits.Inc()
	} else {
		r.memory.Metrics().CacheMisses.Inc()
	}
}

// fetch reads a block, and more behind it if the file is read in order, and copies dst from it.
func (r *reader) fetch(file *remotefile.File, block int64, dst []byte, at int, locked sync.Locker) error {
	begin := block * blockSize
	end := min(begin+r.blocks(file, block)*blockSize, file.Len())
	if begin+int64(at+len(dst)) > end {
		return fmt.Errorf("%s: block %d: %w", file.Name(), block, remotefile.ErrOutOfRange)
	}
	buffer := r.buffers.Get().(*[maxFetch]byte)
	defer r.buffers.Put(buffer)
	buf := buffer[:end-begin]
	timeout := r.timeout
	if locked != nil {
		timeout = max(timeout, memory.Patience(len(buf)))
		locked.Unlock()
	}
	err := r.memory.Read("read", timeout, func(ctx context.Context, c *memory.Conn) error {
		return file.ReadAt(ctx, c, buf, begin)
	})
	if locked != nil {
		locked.Lock()
	}
	if err != nil {
		return err
	}
	r.memory.Metrics().BytesRead.WithLabelValues(remotefile.Chunks.String()).Add(float64(len(buf)))
	copy(dst, buf[at:])
	for i := 0; len(buf) > 0; i++ {
		n := min(len(buf), blockSize)
		r.cache.put(blockKey{file, block + int64(i)}, buf[:n])
		buf = buf[n:]
	}
	r.memory.Metrics().CacheBytes.Set(float64(r.cache.bytes()))
	return nil
}

// blocks decides how many blocks to read from this one on: twice as many as the request that ended here. A
// compaction reads as many streams at once as there were passes, and several lie in one file. Their read-ahead
// fills half of the cache at most; if there are more streams, any one of them is forgotten, and begins anew.
func (r *reader) blocks(file *remotefile.File, block int64) int64 {
	r.mu.Lock()
	defer r.mu.Unlock()
	slots := r.cache.size
	n := min(max(2*r.streams[blockKey{file, block}], 1), maxReadAhead, int64(slots/4))
	delete(r.streams, blockKey{file, block})
	for key := range r.streams {
		if len(r.streams) < slots/(2*maxReadAhead) {
			break
		}
		delete(r.streams, key)
	}
	r.streams[blockKey{file, block + n}] = n
	return n
}

func (r *reader) close() error { return r.cache.close() }
