// SPDX-License-Identifier: Apache-2.0

// The goroutine of Remote that writes chunks to remote memory, and frees files that are no longer needed.

package chunkstore

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/tail"
)

// maxFlush is the most that a batch holds, unless a single chunk is larger.
const maxFlush = memory.MaxPiece

// errLost ends the process: chunks that it wrote are nowhere but in the log.
var errLost = errors.New("the memory server has lost the chunks of the head; the next start reads the log (WAL), which has all of their samples")

func (r *Remote) wake() {
	select {
	case r.kick <- struct{}{}:
	default:
	}
}

// run writes pending chunks, and frees what is no longer needed.
func (r *Remote) run() {
	defer close(r.done)
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for {
		select {
		case <-r.stop:
			return
		case <-r.kick:
		case <-ticker.C:
		}
		err := r.flushSoon()
		// Also after an error, because the server may be full of files that are no longer needed.
		r.full.Store(memory.IsFull(err))
		if freeErr := r.freeDead(memory.IsFull(err)); err == nil {
			err = freeErr
		}
		r.report()
		r.check(err)
	}
}

// Log tells how far the log has been copied to remote memory.
type Log interface {
	// NextLook is the number of the first look at the log that begins after now.
	NextLook() uint64
	// AwaitLook waits until everything that a look found is in remote memory, and fails if the log cannot be
	// copied. arrived is false if ctx ended before.
	AwaitLook(ctx context.Context, look uint64) (arrived bool, err error)
}

// logPatience is how long a head waits for the log before it deletes segments.
const logPatience = 10 * time.Second

// awaitLog waits until all of the log is in remote memory, because the head is about to delete segments: their samples
// go to blocks, which are copied later. A look that fails is followed by another, unless the server is out of reach.
func awaitLog(ctx context.Context, l Log, up func() bool, logger *slog.Logger) {
	ctx, cancel := context.WithTimeout(ctx, logPatience)
	defer cancel()
	for {
		arrived, err := l.AwaitLook(ctx, l.NextLook())
		switch {
		case arrived, errors.Is(err, tail.ErrEnded), !up():
			return
		case err == nil || ctx.Err() != nil:
			logger.Warn("MaaS: segments of the log are deleted that remote memory may lack; a take-over would lack their samples until blocks with these are copied", "waited", logPatience, "err", err)
			return
		}
	}
}

// errLogLate says that chunks stay pending, because the log that they rely on is not in remote memory yet.
var errLogLate = errors.New("the log that the chunks rely on has not arrived at the memory server yet")

// flushSoon does not wait long for the log, because there is other work.
func (r *Remote) flushSoon() error {
	ctx, cancel := context.WithTimeout(context.Background(), flushInterval)
	defer cancel()
	return r.flush(ctx)
}

// flush writes the pending chunks, each once the log is in remote memory up to the chunk: a successor that finds a
// chunk then also finds the samples before it. If ctx ends first, the rest stays pending, and flush returns errLogLate.
func (r *Remote) flush(ctx context.Context) error {
	if err := r.follow(); err != nil { // Even if nothing is pending, and before waiting for the log.
		return err
	}
	r.seal()
	for {
		look := r.firstLook()
		if look == 0 {
			return nil
		}
		if r.o.Log != nil {
			if arrived, err := r.o.Log.AwaitLook(ctx, look); err != nil {
				return err
			} else if !arrived {
				return errLogLate
			}
		}
		if err := r.writeSealed(look); err != nil {
			return err
		}
	}
}

// seal decides for which look at the log the pending chunks have to wait.
func (r *Remote) seal() {
	r.mu.Lock()
	defer r.mu.Unlock()
	next := uint64(1)
	if r.o.Log != nil {
		next = r.o.Log.NextLook()
	}
	for _, f := range r.files {
		if f.chunks == 0 {
			continue
		}
		for i := range f.pending {
			if f.pending[i].look == 0 {
				f.pending[i].look = next
			}
		}
	}
}

// firstLook is the look at the log for which the first pending chunks wait: later chunks wait for later looks. 0:
// nothing is pending, or nothing is sealed.
func (r *Remote) firstLook() uint64 {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, f := range r.files {
		if f.chunks > 0 {
			return f.pending[0].look
		}
	}
	return 0
}

// writeSealed writes the files in order, so that a reader finds a prefix of all that was written.
func (r *Remote) writeSealed(look uint64) error {
	if err := r.follow(); err != nil {
		return err
	}
	r.flushMu.Lock()
	defer r.flushMu.Unlock()
	for {
		f, b := r.nextPending(look)
		if f == nil {
			return nil
		}
		b = b.atMost(r.memory.PieceSize(), f.file.Len() == 0)
		if err := r.memory.Append(r.arenaNow(), f.file, b.data, func(publish func()) { // A reader sees this as one step.
			r.mu.Lock()
			defer r.mu.Unlock()
			publish()
			f.written(len(b.data), b.chunks)
			f.since = time.Now()
		}); err != nil {
			return err
		}
		r.memory.Metrics().ChunksWritten.Add(float64(b.chunks))
		r.memory.Metrics().BytesWritten.WithLabelValues(remotefile.Chunks.String()).Add(float64(len(b.data)))
	}
}

// nextPending finds the first file with pending chunks, and its next batch, if that batch does not have to wait
// for a later look at the log.
func (r *Remote) nextPending(look uint64) (*remoteFile, batch) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, f := range r.files {
		if f.chunks == 0 {
			continue
		}
		if b := f.pending[0]; b.look != 0 && b.look <= look {
			return f, b
		}
		break
	}
	return nil, batch{}
}

func (r *Remote) freeDead(full bool) error {
	r.mu.Lock()
	dead := r.dead
	r.dead = nil
	r.mu.Unlock()
	if len(dead) > 0 && r.o.MayFree != nil && !r.o.MayFree(full) {
		r.mu.Lock()
		r.dead = append(r.dead, dead...)
		r.mu.Unlock()
		return nil
	}
	for i, f := range dead {
		if err := r.memory.Write("free", 0, func(ctx context.Context, c *memory.Conn) error { return f.Free(ctx, c) }); err != nil {
			r.mu.Lock()
			r.dead = append(r.dead, dead[i:]...)
			r.mu.Unlock()
			return err
		}
	}
	return nil
}

// check ends the process when completed chunks cannot be kept any longer.
func (r *Remote) check(flushErr error) {
	if errors.Is(flushErr, errLost) {
		r.fail(errLost)
		return
	}
	if r.memory.Fenced() {
		r.fail(memory.ErrFenced)
		return
	}
	r.mu.RLock()
	var bytes int64
	var oldest time.Time
	for _, f := range r.files {
		if f.chunks == 0 {
			continue
		}
		bytes += f.bytes
		if oldest.IsZero() || f.since.Before(oldest) {
			oldest = f.since
		}
	}
	r.mu.RUnlock()
	r.memory.Metrics().DirtyBytes.Set(float64(bytes))
	switch {
	case flushErr == nil:
	// The pending chunks came after the last flush.
	case bytes > r.o.MaxPendingBytes:
		r.fail(fmt.Errorf("%d bytes of completed chunks wait for the memory server, more than the limit of %d: %w", bytes, r.o.MaxPendingBytes, flushErr))
	case !oldest.IsZero() && time.Since(oldest) > r.o.MaxPendingAge:
		r.fail(fmt.Errorf("completed chunks wait for the memory server since %s, longer than the limit of %s: %w", oldest.Format(time.RFC3339), r.o.MaxPendingAge, flushErr))
	}
}

func (r *Remote) arenaNow() *memory.Arena {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.arena
}

// follow continues in the memory that the server has now, or fails if chunks were lost with the memory before.
func (r *Remote) follow() error {
	r.flushMu.Lock()
	defer r.flushMu.Unlock()
	if arena := r.memory.Arena(); arena != r.arenaNow() && !r.moveTo(arena) {
		return errLost
	}
	return nil
}

// moveTo continues in other memory than before, if that has every byte of a chunk that the memory before had,
// which may be none; otherwise it changes nothing. Pending chunks will be written there. Caller holds flushMu.
func (r *Remote) moveTo(arena *memory.Arena) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	there := map[remotefile.Name]*remotefile.File{}
	for _, f := range arena.Listing.Files {
		there[f.Name()] = f
	}
	for _, f := range r.files {
		l := there[f.file.Name()]
		if f.file.Len() > 0 && (l == nil || !slices.Equal(l.Pieces(), f.file.Pieces())) {
			return false
		}
	}
	r.arena = arena
	for i, f := range r.files {
		for j := range f.pending {
			f.pending[j].look = 0 // The log that a look brought to the other memory may not be in this one.
		}
		if f.file.Len() > 0 {
			f.file = there[f.file.Name()]
			delete(there, f.file.Name())
			continue
		}
		f.file = remotefile.New(r.memory.Owner(), arena.Epoch, f.file.Name(), true)
		if i > 0 {
			f.file.After(r.files[i-1].number, r.files[i-1].end())
		}
	}
	for name, f := range there {
		if name.Kind == remotefile.Chunks {
			r.dead = append(r.dead, f)
		}
	}
	return true
}

func (r *Remote) fail(err error) {
	r.mu.Lock()
	first := !r.failed
	r.failed = true
	r.mu.Unlock()
	if first && r.o.Fatal != nil {
		r.o.Fatal(err)
	}
}

// all is all files, except those that are to be freed.
func (r *Remote) all() (files []*remotefile.File) {
	r.mu.RLock()
	defer r.mu.RUnlock()
	for _, f := range r.files {
		files = append(files, f.file)
	}
	return files
}

// report sets the metrics of the files, also of those that are still to be freed.
func (r *Remote) report() {
	var allocations, allocated, stored int64
	files := r.all()
	r.mu.RLock()
	files = append(files, r.dead...)
	r.mu.RUnlock()
	for _, f := range files {
		n, bytes := f.Allocated()
		allocations += int64(n)
		allocated += bytes
		stored += f.Len()
	}
	metrics, content := r.memory.Metrics(), remotefile.Chunks.String()
	metrics.Allocations.WithLabelValues(content).Set(float64(allocations))
	metrics.AllocatedBytes.WithLabelValues(content).Set(float64(allocated))
	metrics.StoredBytes.WithLabelValues(content).Set(float64(stored))
}

// Close writes pending chunks. It fails if chunks are not in remote memory in the end: then the log must be read.
func (r *Remote) Close() error {
	r.mu.Lock()
	if r.closed {
		r.mu.Unlock()
		return nil
	}
	r.closed = true
	r.mu.Unlock()
	close(r.stop)
	<-r.done
	err := r.flush(context.Background()) // The log's copy ends later, or fails.
	if err != nil {
		err = fmt.Errorf("completed chunks are not in remote memory; the next start reads their samples from the log: %w", err)
	}
	return errors.Join(err, r.reader.close())
}
