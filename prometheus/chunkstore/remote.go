// SPDX-License-Identifier: Apache-2.0

// Remote mode: the files of chunks, and the methods of a ChunkDiskMapper. flush.go writes, read.go reads.

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

const (
	// remoteReadTimeout bounds a read; there is nothing to fall back on.
	remoteReadTimeout = time.Second
	// firstRemoteFile is higher than the number of any local file.
	firstRemoteFile = 1 << 20
	// reserveFiles is how many numbers are reserved at once, so that a new file seldom needs a write to local
	// disk.
	reserveFiles = 64
	// Pending chunks are written to remote memory when they are flushSize, or flushInterval old.
	flushSize     = 256 << 10
	flushInterval = time.Second
	// iterateSize is how much one request brings when everything is read.
	iterateSize = 1 << 20
)

// RemoteOptions bound what is pending while the server is out of reach.
type RemoteOptions struct {
	Options

	MaxPendingBytes int64         // 0: 256 MiB.
	MaxPendingAge   time.Duration // 0: 10 minutes.

	// Log, if set, says when the log that chunks rely on has arrived.
	Log Log

	// Unknown says that no whole log tells which series the chunks in remote memory belong to. The numbers of
	// these series will be given to others, so the chunks are freed.
	Unknown bool

	// MayFree, if set, says whether truncated chunks may be freed; they may not before a take-over knows that
	// the head begins later. full says that there is no room for new chunks.
	MayFree func(full bool) bool

	// Fatal ends the process. It is called once, with the reason, when completed chunks can no longer be kept;
	// the log has their samples for the next start.
	Fatal func(error)
}

// Remote keeps chunks in remote memory alone. It is safe for concurrent use.
type Remote struct {
	o      RemoteOptions
	memory *memory.Manager
	reader *reader
	kick   chan struct{}
	stop   chan struct{}
	done   chan struct{}

	outagePatience time.Duration // Tests change it.
	full           atomic.Bool   // The server had no room for the last chunks.

	flushMu sync.Mutex // Held while remote memory is written; taken before mu.

	mu       sync.RWMutex  // Guards the fields below.
	arena    *memory.Arena // The memory that files lies in.
	files    []*remoteFile
	dead     []*remotefile.File
	cut      bool
	reserved uint32 // Numbers up to here are saved as used.
	next     uint32
	closed   bool
	failed   bool
}

// NewRemote attaches the chunk files that remote memory holds of this owner, up to the first gap, because a hole
// would be a silent loss. All others are freed.
func NewRemote(m *memory.Manager, o RemoteOptions) (*Remote, error) {
	o.setDefaults(remoteReadTimeout)
	if o.MaxPendingBytes == 0 {
		o.MaxPendingBytes = 256 << 20
	}
	if o.MaxPendingAge == 0 {
		o.MaxPendingAge = 10 * time.Minute
	}
	rd, err := newReader(m, o.CacheSize, o.ReadTimeout)
	if err != nil {
		return nil, err
	}
	r := &Remote{
		o: o, memory: m, arena: m.Arena(), reader: rd,
		kick: make(chan struct{}, 1), stop: make(chan struct{}), done: make(chan struct{}), outagePatience: outagePatience,
	}
	r.attach()
	m.RelyOn(r.all)
	go r.run()
	return r, nil
}

func (r *Remote) attach() {
	r.next = max(firstRemoteFile, r.memory.State().ChunkSegment+1)
	r.reserved = r.next - 1
	first := r.memory.State().FirstChunkSegment
	for _, f := range r.arena.Listing.Files {
		if f.Name().Kind != remotefile.Chunks {
			continue
		}
		number := f.Name().Number
		r.next = max(r.next, number+1)
		if number < firstRemoteFile || r.o.Unknown || !r.follows(f, first) {
			r.dead = append(r.dead, f)
			continue
		}
		r.files = append(r.files, &remoteFile{number: number, file: f})
	}
	r.cut = true
}

// follows says whether a file comes next without a gap; first is the number of the first file, 0 for any.
func (r *Remote) follows(f *remotefile.File, first uint32) bool {
	if n := len(r.files); n > 0 {
		return f.Follows(r.files[n-1].file)
	}
	return first == 0 || f.Name().Number == first
}

// WriteChunk keeps the chunk here and writes it to remote memory soon. It does not fail: if a chunk cannot be
// kept, the process ends.
func (r *Remote) WriteChunk(series chunks.HeadSeriesRef, mint, maxt int64, chk chunkenc.Chunk, ooo bool, callback func(error)) chunks.ChunkDiskMapperRef {
	ref, err := r.write(headchunk.Record{Series: series, Mint: mint, Maxt: maxt, Encoding: chk.Encoding(), OutOfOrder: ooo, Data: chk.Bytes()})
	if callback != nil {
		callback(err)
	}
	return ref
}

func (r *Remote) write(rec headchunk.Record) (chunks.ChunkDiskMapperRef, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return 0, chunks.ErrChunkDiskMapperClosed
	}
	f, err := r.fileFor(headchunk.EncodedSize(len(rec.Data)))
	if err != nil {
		return 0, err
	}
	if f.chunks == 0 {
		f.since = time.Now()
	}
	ref := makeRef(f.number, f.end())
	f.add(rec)
	if f.bytes >= flushSize {
		r.wake()
	}
	return ref, nil
}

func makeRef(number uint32, off int64) chunks.ChunkDiskMapperRef {
	return chunks.ChunkDiskMapperRef(uint64(number)<<32 | uint64(off))
}

// fileFor returns the file that takes n more bytes. Caller holds mu.
func (r *Remote) fileFor(n int) (*remoteFile, error) {
	if last := len(r.files) - 1; last >= 0 && !r.cut && r.files[last].end()+int64(n) <= chunks.MaxHeadChunkFileSize {
		return r.files[last], nil
	}
	if r.next > r.reserved {
		reserved := r.next + reserveFiles
		if err := r.memory.UpdateState(func(s *memory.State) {
			s.ChunkSegment, s.FirstChunkSegment = reserved, r.first()
		}); err != nil {
			return nil, err
		}
		r.reserved = reserved
	}
	header := headchunk.FileHeader()
	f := &remoteFile{
		number:  r.next,
		file:    remotefile.New(r.memory.Owner(), r.arena.Epoch, remotefile.Name{Kind: remotefile.Chunks, Number: r.next}, true),
		pending: []batch{{data: header[:]}},
		bytes:   int64(len(header)),
		since:   time.Now(),
	}
	if last := len(r.files) - 1; last >= 0 {
		f.file.After(r.files[last].number, r.files[last].end())
	}
	r.files = append(r.files, f)
	r.next++
	r.cut = false
	return f, nil
}

// first is the number of the first file that there is, or will be. Caller holds mu.
func (r *Remote) first() uint32 {
	if len(r.files) == 0 {
		return r.next
	}
	return r.files[0].number
}

// find returns the file with this number. Caller holds mu.
func (r *Remote) find(number uint32) *remoteFile {
	i, ok := slices.BinarySearchFunc(r.files, number, func(f *remoteFile, n uint32) int { return int(f.number) - int(n) })
	if !ok {
		return nil
	}
	return r.files[i]
}

// lookUp finds the file that has the chunk in remote memory, or the chunk's own bytes.
func (r *Remote) lookUp(number uint32, off int64) (*remotefile.File, []byte, chunkenc.Encoding, error) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	if r.closed {
		return nil, nil, 0, chunks.ErrChunkDiskMapperClosed
	}
	f := r.find(number)
	if f == nil || off < headchunk.FileHeaderSize || off >= f.end() {
		return nil, nil, 0, fmt.Errorf("no head chunk %d:%d in remote memory", number, off)
	}
	if off < f.file.Len() {
		return f.file, nil, 0, nil
	}
	rec, _, err := headchunk.Parse(f.waiting(off))
	if err != nil {
		return nil, nil, 0, fmt.Errorf("head chunk %d:%d: %w", number, off, err)
	}
	return nil, slices.Clone(rec.Data), rec.Encoding, nil
}

// IterateAllChunks reads all of remote memory, once, in order.
func (r *Remote) IterateAllChunks(f IterateFunc) error {
	r.mu.RLock()
	files := slices.Clone(r.files)
	r.mu.RUnlock()
	for _, file := range files {
		if err := r.iterate(file, f); err != nil {
			return err
		}
	}
	return nil
}

func (r *Remote) iterate(file *remoteFile, f IterateFunc) error {
	r.mu.RLock()
	end := file.end()
	r.mu.RUnlock()
	var b []byte
	for off := int64(headchunk.FileHeaderSize); off < end; {
		var err error
		if b, err = r.load(b, file, off, end); err != nil {
			return r.corrupt(file, err)
		}
		n := 0
		for n < len(b) {
			rec, size, err := headchunk.Parse(b[n:])
			if errors.Is(err, headchunk.ErrShort) && off+int64(len(b)) < end {
				break
			}
			if err != nil {
				return r.corrupt(file, fmt.Errorf("at %d: %w", off+int64(n), err))
			}
			if err := f(rec.Series, makeRef(file.number, off+int64(n)), rec.Mint, rec.Maxt, rec.NumSamples(), rec.Encoding, rec.OutOfOrder); err != nil {
				return r.corrupt(file, err)
			}
			n += size
		}
		off += int64(n)
		b = b[n:]
	}
	return nil
}

// load extends b, the bytes of a file from off on.
func (r *Remote) load(b []byte, file *remoteFile, off, end int64) ([]byte, error) {
	have := int64(len(b))
	next := make([]byte, min(have+iterateSize, end-off))
	copy(next, b)
	r.mu.RLock()
	there := file.file.Len()
	for from := max(off+have, there); from < off+int64(len(next)); {
		from += int64(copy(next[from-off:], file.waiting(from)))
	}
	r.mu.RUnlock()
	remote := next[min(have, int64(len(next))):max(have, min(int64(len(next)), there-off))]
	if len(remote) == 0 {
		return next, nil
	}
	err := r.memory.ReadFile(context.Background(), "iterate", file.file, remote, off+have)
	r.memory.Metrics().BytesRead.WithLabelValues(remotefile.Chunks.String()).Add(float64(len(remote)))
	return next, err
}

// corrupt returns the error that tells Prometheus to drop this file and all behind it, and to take the samples
// from the log.
func (r *Remote) corrupt(file *remoteFile, err error) error {
	if c, ok := errors.AsType[*chunks.CorruptionErr](err); ok {
		err = c.Err
	}
	return &chunks.CorruptionErr{Dir: "remote memory of " + r.memory.Owner(), FileIndex: int(file.number), Err: err}
}

// MinValidTime is where the head begins.
func (r *Remote) MinValidTime() int64 { return r.memory.MinValidTime() }

// SetMinValidTime saves where the head begins; the tail tells remote memory.
func (r *Remote) SetMinValidTime(t int64) error { return r.memory.SetMinValidTime(t) }

// AwaitLog waits until all of the head's logs is in remote memory, for 10 s at most, and not for a server that is out
// of reach.
func (r *Remote) AwaitLog() {
	if r.o.Log != nil {
		awaitLog(context.Background(), r.o.Log, r.memory.Up, r.o.Logger)
	}
}

// Truncate frees the files below a number. The next chunk begins a new file. A file whose chunks are still on their way
// stays until the next truncation: in a take-over, later chunks without these would hide their samples in the log. A full
// server gets the room back at once.
func (r *Remote) Truncate(fileNo uint32) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	n, waits := 0, r.o.Log != nil && r.memory.Up() && !r.full.Load()
	for n < len(r.files)-1 && r.files[n].number < fileNo && !(waits && r.files[n].chunks > 0) {
		n++
	}
	if n < len(r.files) && r.files[n].number < fileNo && r.files[n].bytes == 0 {
		n++ // No write to it is under way.
	}
	r.remove(0, n)
	if last := len(r.files) - 1; last >= 0 && r.files[last].end() > headchunk.FileHeaderSize {
		r.cut = true
	}
	r.wake()
	return r.saveFirst()
}

// saveFirst saves the number of the first file, so that a start sees whether the first files are missing. Caller
// holds mu.
func (r *Remote) saveFirst() error {
	if r.memory.State().FirstChunkSegment == r.first() {
		return nil
	}
	return r.memory.UpdateState(func(s *memory.State) { s.FirstChunkSegment = r.first() })
}

// remove takes files out of use; they are freed in the background. Caller holds mu.
func (r *Remote) remove(from, to int) {
	for _, f := range r.files[from:to] {
		r.dead = append(r.dead, f.file)
	}
	r.files = slices.Delete(r.files, from, to)
	if len(r.files) == 0 {
		r.cut = true
	}
}

// DeleteCorrupted frees the file that an error names and those behind it.
func (r *Remote) DeleteCorrupted(err error) error {
	c, ok := errors.AsType[*chunks.CorruptionErr](err)
	if !ok {
		return fmt.Errorf("cannot handle error: %w", err)
	}
	r.memory.Metrics().LostChunks.Add(float64(r.countFrom(c.FileIndex)))
	r.flushMu.Lock()
	defer r.flushMu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, f := range r.files {
		if int(f.number) >= c.FileIndex {
			r.remove(i, len(r.files))
			break
		}
	}
	return r.saveFirst()
}

// countFrom counts the chunks in the files from a number on, as far as these can be read.
func (r *Remote) countFrom(number int) (n int) {
	r.mu.RLock()
	files := slices.Clone(r.files)
	r.mu.RUnlock()
	for _, f := range files {
		if int(f.number) < number {
			continue
		}
		_ = r.iterate(f, func(chunks.HeadSeriesRef, chunks.ChunkDiskMapperRef, int64, int64, uint16, chunkenc.Encoding, bool) error {
			n++
			return nil
		})
	}
	return n
}

// Size is the size of local files, for size retention: there are none.
func (*Remote) Size() (int64, error) { return 0, nil }

// CutNewFile makes the next chunk begin a new file.
func (r *Remote) CutNewFile() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cut = true
}

// IsQueueEmpty says whether all chunks are in remote memory.
func (r *Remote) IsQueueEmpty() bool {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, f := range r.files {
		if f.chunks > 0 {
			return false
		}
	}
	return true
}
