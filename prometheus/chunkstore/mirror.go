// SPDX-License-Identifier: Apache-2.0

// Package chunkstore keeps the chunks of a Prometheus head in remote memory. It provides the methods of
// chunks.ChunkDiskMapper, in one of two modes:
//
//   - Mirror (mirror.go): Prometheus's own mapper on local disk stays the authority. Remote memory holds the same
//     bytes at the same offsets, so that the local pages need not stay in memory. Whatever the server does, every
//     chunk can be read.
//   - Remote (remote.go, flush.go, read.go, import.go): there are no local chunk files. Chunks out of reach are a
//     plain error; lost chunks end the process, whose next start reads all samples from the log.
package chunkstore

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/tail"
)

const (
	// mirrorReadTimeout bounds a read that has a local file to fall back on. The read holds the lock of a
	// series, which a scrape waits for.
	mirrorReadTimeout = 200 * time.Millisecond
	// DefaultCacheSize is the size of the cache of remote blocks.
	DefaultCacheSize = 64 << 20
)

// Local is the part of a *chunks.ChunkDiskMapper that Mirror uses.
type Local interface {
	WriteChunk(seriesRef chunks.HeadSeriesRef, mint, maxt int64, chk chunkenc.Chunk, isOOO bool, callback func(err error)) chunks.ChunkDiskMapperRef
	Chunk(ref chunks.ChunkDiskMapperRef) (chunkenc.Chunk, error)
	IterateAllChunks(f IterateFunc) error
	Truncate(fileNo uint32) error
	DeleteCorrupted(originalErr error) error
	Size() (int64, error)
	Close() error
	CutNewFile()
	IsQueueEmpty() bool
}

// IterateFunc is called for each chunk.
type IterateFunc = func(seriesRef chunks.HeadSeriesRef, chunkRef chunks.ChunkDiskMapperRef, mint, maxt int64, numSamples uint16, encoding chunkenc.Encoding, isOOO bool) error

// pageDropper is a mapper that can take the pages of a file, up to an offset, out of memory.
type pageDropper interface {
	DropPages(number int, length int64) error
}

// flusher is a mapper that can write its buffer to the file.
type flusher interface {
	Flush() error
}

// Options are the options of both modes.
type Options struct {
	CacheSize   int64         // 0: DefaultCacheSize.
	ReadTimeout time.Duration // For one read of remote memory; 0: 200 ms in mirror mode, 1 s in remote mode.
	Pool        chunkenc.Pool // Nil: one of its own.
	Logger      *slog.Logger
}

func (o *Options) setDefaults(timeout time.Duration) {
	if o.CacheSize == 0 {
		o.CacheSize = DefaultCacheSize
	}
	if o.ReadTimeout == 0 {
		o.ReadTimeout = timeout
	}
	if o.Pool == nil {
		o.Pool = chunkenc.NewPool()
	}
}

// Mirror is safe for concurrent use, as ChunkDiskMapper is.
type Mirror struct {
	Local

	o         Options
	memory    *memory.Manager
	tail      *tail.Tail
	reader    *reader
	lastFile  atomic.Uint32 // The highest number of a file that was written or seen.
	writeM    sync.Mutex    // Held while a chunk is written, so that written is the end of the last one.
	written   atomic.Uint64 // The end of the written chunks, as a ref.
	truncateM sync.Mutex    // Held while files are deleted: one truncation at a time.

	paged   atomic.Int64    // Counts events that brought local pages back.
	dropped map[uint32]drop // The tail's goroutine's.
}

// drop is the last time that a file's pages were dropped: the length then, and the value of paged.
type drop struct{ length, paged int64 }

// NewMirror puts remote memory in front of a local mapper, and closes the mapper in its own Close. The tail copies
// the mapper's files.
func NewMirror(local Local, m *memory.Manager, t *tail.Tail, o Options) (*Mirror, error) {
	o.setDefaults(mirrorReadTimeout)
	r, err := newReader(m, o.CacheSize, o.ReadTimeout)
	if err != nil {
		return nil, err
	}
	mirror := &Mirror{Local: local, o: o, memory: m, tail: t, reader: r, dropped: map[uint32]drop{}}
	t.LimitChunks(mirror.chunksEnd)
	return mirror, nil
}

// WriteChunk is the local mapper's; the tail copies what it wrote.
func (m *Mirror) WriteChunk(series chunks.HeadSeriesRef, mint, maxt int64, chk chunkenc.Chunk, ooo bool, callback func(error)) chunks.ChunkDiskMapperRef {
	m.writeM.Lock()
	defer m.writeM.Unlock()
	ref := m.Local.WriteChunk(series, mint, maxt, chk, ooo, callback)
	m.saw(ref)
	m.written.Store(uint64(ref) + uint64(headchunk.EncodedSize(len(chk.Bytes()))))
	return ref
}

// chunksEnd is the end of the written chunks. Their samples are in the log: a commit writes them there first; of
// late samples, the last may follow a moment later.
func (m *Mirror) chunksEnd() (number uint32, length int64) {
	file, off := chunks.ChunkDiskMapperRef(m.written.Load()).Unpack()
	return uint32(file), int64(off)
}

func (m *Mirror) saw(ref chunks.ChunkDiskMapperRef) {
	if number, _ := ref.Unpack(); uint32(number) != m.lastFile.Load() {
		m.lastFile.Store(uint32(number))
	}
}

// Chunk reads the cache, then remote memory, then the local file.
func (m *Mirror) Chunk(ref chunks.ChunkDiskMapperRef) (chunkenc.Chunk, error) {
	number, off := ref.Unpack()
	file := m.tail.ChunkFile(uint32(number))
	if file == nil || int64(off) >= file.Len() {
		return m.Local.Chunk(ref)
	}
	if chk, err := m.reader.chunk(file, int64(off), m.o.Pool, nil); err == nil {
		return chk, nil
	}
	m.memory.Metrics().FallbackReads.Inc()
	defer m.paged.Add(1) // At the end, because a drop meanwhile does not help.
	return m.Local.Chunk(ref)
}

// ChunkPatiently is for a compaction, which reads each chunk once, in the order of the files. It reads the local
// files: they cost less than the server, and most of their pages go together with them afterwards.
func (m *Mirror) ChunkPatiently(ref chunks.ChunkDiskMapperRef, _ sync.Locker) (chunkenc.Chunk, error) {
	return m.Local.Chunk(ref)
}

// IterateAllChunks is the local mapper's.
func (m *Mirror) IterateAllChunks(f IterateFunc) error {
	err := m.Local.IterateAllChunks(func(series chunks.HeadSeriesRef, ref chunks.ChunkDiskMapperRef, mint, maxt int64, n uint16, enc chunkenc.Encoding, ooo bool) error {
		m.saw(ref)
		return f(series, ref, mint, maxt, n, enc, ooo)
	})
	if err == nil { // Nothing more is written to the files that were there at the start.
		m.written.CompareAndSwap(0, uint64(makeRef(m.lastFile.Load()+1, 0)))
	}
	return err
}

// BeginSorted says that from now on whole passes are written in the order of labels.
func (m *Mirror) BeginSorted() {
	m.CutNewFile()
	m.tail.SortedFrom(m.lastFile.Load() + 1)
}

// MinValidTime is where the head begins.
func (m *Mirror) MinValidTime() int64 { return m.memory.MinValidTime() }

// SetMinValidTime saves where the head begins; the tail tells remote memory.
func (m *Mirror) SetMinValidTime(t int64) error { return m.memory.SetMinValidTime(t) }

// AwaitLog waits until all of the head's logs is in remote memory, for 10 s at most, and not for a server that is out
// of reach.
func (m *Mirror) AwaitLog() { awaitLog(context.Background(), m.tail, m.memory.Up, m.o.Logger) }

// Flush makes the local mapper write its buffer of 4 MiB, which takes a small server hours to fill, to the file,
// where the tail sees it.
func (m *Mirror) Flush() error {
	if local, ok := m.Local.(flusher); ok {
		return local.Flush()
	}
	return nil
}

// Truncate deletes the files below a number, here and in remote memory.
func (m *Mirror) Truncate(fileNo uint32) error {
	return m.deleting(fileNo, func() error { return m.Local.Truncate(fileNo) })
}

// DeleteCorrupted deletes the file that an error names and those behind it, here and in remote memory.
func (m *Mirror) DeleteCorrupted(err error) error {
	return m.deleting(math.MaxUint32, func() error { return m.Local.DeleteCorrupted(err) })
}

// deleting takes remote copies out of use before their local files are deleted: a number may be used again at
// once.
func (m *Mirror) deleting(below uint32, remove func() error) error {
	m.truncateM.Lock()
	defer m.truncateM.Unlock()
	m.tail.BeginTruncate(below)
	defer m.tail.EndTruncate()
	defer m.paged.Add(1) // A compaction has also read the files that stay.
	return remove()
}

// Acked is called by the tail's goroutine at every look. Remote memory has a chunk file up to this length, so its
// local pages may be dropped, including those that reads brought back when the server failed. If they cannot be
// dropped, they stay, which only costs memory.
func (m *Mirror) Acked(number uint32, length int64) {
	now := drop{length, m.paged.Load()}
	d, ok := m.Local.(pageDropper)
	if !ok || m.dropped[number] == now {
		return
	}
	m.dropped[number] = now
	if err := d.DropPages(int(number), length); err != nil {
		m.o.Logger.Debug("MaaS: local pages of a head chunk file stay in memory", "file", number, "err", err)
	}
}

// Close closes the local mapper. The tail goes on, and copies what the mapper wrote last.
func (m *Mirror) Close() error {
	if err := m.Local.Close(); err != nil {
		return err
	}
	if err := m.reader.close(); err != nil {
		return fmt.Errorf("close the cache of remote blocks: %w", err)
	}
	return nil
}
