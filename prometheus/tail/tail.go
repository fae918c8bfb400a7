// SPDX-License-Identifier: Apache-2.0

// Package tail keeps a data directory's log in remote memory, at most a second behind, and in mirror mode its head chunk
// files, as the log allows (free.go). On another node it makes a data directory of them again, at once (restore.go) or
// as they arrive (follow.go).
//
// To copy, the package only reads files: it takes none of Prometheus's locks. What arrives at the server is always
// an exact prefix of each log, because no file is begun before the one in front of it is complete.
package tail

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

const (
	defaultInterval = 200 * time.Millisecond
	// bulkBudget bounds the bytes of chunks and checkpoints between two looks at the log, so that the log
	// stays at most a second behind while gigabytes are copied. Over a slow link a second uses it up.
	bulkBudget = 8 << 20
)

var errLogGone = errors.New("the log is gone from the data directory")

// Options are the options of New and Start.
type Options struct {
	Dir    string // The data directory.
	Chunks bool   // Whether to copy chunks_head, too (mirror mode).

	// Acked, if set, is called at every look, by the tail's goroutine, with the number of bytes of a chunk
	// file that are in remote memory and no longer needed in local page cache. It is called once Prometheus
	// has begun its sorted passes; before that, Prometheus itself reads the files.
	Acked func(number uint32, length int64)

	// Held, if set, says that samples that left the head are not safe elsewhere yet. Until they are, nothing
	// is freed, and a take-over finds them in the log; only the log is copied. A full server does not wait for
	// that.
	Held func() bool

	// MakeRoom, if set, frees something at a server that has no room for the log, which is worth more.
	MakeRoom func()

	Interval time.Duration // Between two looks; 0 is 200 ms.
	Logger   *slog.Logger
}

// remoteFile is a local file and its copy in remote memory.
type remoteFile struct {
	file   *remotefile.File
	info   os.FileInfo // The local file's.
	idle   time.Time   // The local file's modification time when nothing new was found in it.
	sorted bool        // Only sorted passes wrote it: good to read from remote memory.
}

// Tail copies a data directory. Its methods may be called from any goroutine.
type Tail struct {
	o       Options
	memory  *memory.Manager
	stop    chan struct{}
	done    chan struct{}
	running bool   // Run was called.
	buf     []byte // The tail's goroutine's.
	looks   looks

	arena *memory.Arena // The tail's goroutine's: the memory that files lies in.
	limit chunkPosition // For the current look.

	full   atomic.Bool // The server was full at the last look.
	yields atomic.Bool // HandOver was called.

	// minTime is where the head begins, as remote memory knows it.
	minTime atomic.Int64

	sawLog bool // There was a log at the last look.
	gone   bool // The log of the process says that there is none any more.

	mu          sync.RWMutex // Guards what follows.
	files       map[remotefile.Name]*remoteFile
	dead        []*remotefile.File // To free.
	truncations int                // Counts beginnings and ends; odd while files may be removed and their numbers used again.
	sortedFrom  uint32             // Sorted passes write the chunk files from here on.
	allSorted   bool               // Whether sortedFrom is set.
	discarded   string             // The directory of a snapshot that the database did not use.
	written     func() (number uint32, length int64)
}

// Start makes a tail and begins to copy. The data directory need not exist yet.
func Start(m *memory.Manager, o Options) *Tail {
	t := New(m, o)
	t.Run()
	return t
}

// Run begins to copy.
func (t *Tail) Run() {
	t.memory.Metrics().CaughtUp(time.Now())
	t.memory.RelyOn(t.all)
	t.running = true
	go t.run()
}

// New makes a tail that copies nothing before Run, which is called once at most.
func New(m *memory.Manager, o Options) *Tail {
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	t := &Tail{
		o: o, memory: m, stop: make(chan struct{}), done: make(chan struct{}),
		buf: make([]byte, memory.MaxPiece), files: map[remotefile.Name]*remoteFile{}, looks: looks{changed: make(chan struct{})},
	}
	t.minTime.Store(math.MinInt64)
	return t
}

func (t *Tail) run() {
	defer close(t.done)
	defer t.looks.end(0, nil)
	ticker := time.NewTicker(t.o.Interval)
	defer ticker.Stop()
	for {
		t.round()
		select {
		case <-t.stop:
			t.lastRounds() // For what was written since; every file is closed by now.
			return
		case <-ticker.C:
		}
	}
}

// lastRounds is the last round. In a hand-over it is repeated while the server fails, until it succeeds or a death would
// free the name, too: a successor lacks what was not copied. A full server is not waited for.
func (t *Tail) lastRounds() {
	deadline := time.Now().Add(memory.SessionTTL)
	for {
		err := t.round()
		switch {
		case err == nil || !t.yields.Load():
			return
		case memory.IsFull(err) || !t.memory.Holds() || time.Now().After(deadline):
			t.o.Logger.Warn("MaaS: the end of the log is not in remote memory, so a successor lacks its samples; this data directory has them", "err", err)
			return
		}
		time.Sleep(t.o.Interval)
	}
}

// HandOver copies what is new of the log and ends. Whoever leads next has followed the log; chunks that are still to be
// copied would only delay the lead. Nothing is appended to the log any more.
func (t *Tail) HandOver() {
	t.yields.Store(true)
	t.Close()
}

// Close copies what is new and ends. The database that writes to the data directory is closed before.
func (t *Tail) Close() {
	if !t.running {
		return
	}
	close(t.stop)
	<-t.done
}

// round copies until nothing is left to copy, or until the server fails.
func (t *Tail) round() error {
	for {
		look := t.looks.begin()
		more, err := t.step(look)
		if err != nil {
			t.looks.end(look, err)
		}
		full := memory.IsFull(err)
		t.full.Store(full)
		if full {
			_, freeErr := t.release() // Some files may no longer be needed.
			err = errors.Join(err, freeErr)
			if t.o.MakeRoom != nil && memory.IsRefused(err) {
				t.o.MakeRoom()
			}
		}
		t.report()
		if err != nil || !more {
			return err
		}
	}
}

// report sets the metrics of the files, also of those that are still to be freed.
func (t *Tail) report() {
	metrics := t.memory.Metrics()
	type sum struct{ allocations, allocated, stored int64 }
	sums := map[remotefile.Kind]*sum{remotefile.WAL: {}, remotefile.WBL: {}, remotefile.Checkpoint: {}, remotefile.Snapshot: {}}
	if t.o.Chunks {
		sums[remotefile.Chunks] = &sum{}
	}
	files := t.all()
	t.mu.RLock()
	files = append(files, t.dead...)
	t.mu.RUnlock()
	for _, f := range files {
		if s := sums[f.Name().Kind]; s != nil { // Else another package reports it.
			n, bytes := f.Allocated()
			s.allocations += int64(n)
			s.allocated += bytes
			s.stored += f.Len()
		}
	}
	for kind, s := range sums {
		metrics.Allocations.WithLabelValues(kind.String()).Set(float64(s.allocations))
		metrics.AllocatedBytes.WithLabelValues(kind.String()).Set(float64(s.allocated))
		metrics.StoredBytes.WithLabelValues(kind.String()).Set(float64(s.stored))
	}
}

// step looks at the directory once and copies what is new: first the log, then the checkpoint, without which the
// log may be useless, then the chunks, which only make a start faster, and, if all of them are there, the snapshot: a
// take-over that has it reads nothing of the log in front of it. more says that the budget was used up before the work
// was done.
func (t *Tail) step(look uint64) (more bool, err error) {
	if !t.memory.Up() {
		return false, memory.ErrDegraded
	}
	if arena := t.memory.Arena(); arena != t.arena {
		if err := t.attach(arena); err != nil {
			return false, err
		}
	}
	begun := time.Now()
	truncations := t.truncationCount()
	t.limit = t.chunkLimit() // Before the log is looked at.
	local, err := t.list()
	if err != nil {
		return false, err
	}
	budget := int64(bulkBudget)
	released, whole := true, true
	usable := false
	for _, kind := range []remotefile.Kind{remotefile.WAL, remotefile.WBL, remotefile.Checkpoint, remotefile.Chunks, remotefile.Snapshot} {
		if kind == remotefile.WBL {
			if err := t.closeGap(local); err != nil {
				return false, err
			}
		}
		for _, f := range local {
			if f.name.Kind != kind {
				continue
			}
			if isLog(f.name) || released && (kind != remotefile.Snapshot || whole) {
				all, err := t.copyFile(f, truncations, &budget)
				if err != nil {
					return false, err
				}
				whole = whole && (all || kind != remotefile.Chunks)
			}
			t.tell(f)
		}
		if kind != remotefile.WBL {
			continue
		}
		t.looks.end(look, nil)
		if usable = t.usable(); usable {
			t.memory.Metrics().CaughtUp(begun)
		}
		if released, err = t.release(); err != nil {
			return false, err
		}
	}
	if t.doesEnough() {
		return false, nil
	}
	if budget <= 0 || !released || !usable && t.held() { // A checkpoint may have closed a gap.
		return budget <= 0, nil
	}
	return false, t.freeGone(local)
}

// doesEnough says that the name is to be handed over, and that a successor could start from what this look has copied.
// It is for the part of a look behind the log.
func (t *Tail) doesEnough() bool { return t.yields.Load() && t.usable() }

// list lists the data directory. If its log is gone, that is an error, and no reason to free what may be the only
// copy: Prometheus always has at least one segment.
func (t *Tail) list() ([]localFile, error) {
	local, err := listLocal(t.o.Dir, t.o.Chunks)
	if err != nil {
		return nil, fmt.Errorf("look for the files of the head: %w", err)
	}
	hasLog := slices.ContainsFunc(local, func(f localFile) bool { return f.name.Kind == remotefile.WAL })
	if t.sawLog && !hasLog {
		if !t.gone {
			t.o.Logger.Error("MaaS: the log (WAL) is gone from the data directory; its copy in remote memory stays, and nothing is copied until the log is back", "dir", t.o.Dir)
		}
		t.gone = true
		return nil, errLogGone
	}
	t.sawLog, t.gone = hasLog, false
	t.mu.RLock()
	defer t.mu.RUnlock()
	return slices.DeleteFunc(local, func(f localFile) bool {
		return f.name.Kind == remotefile.Snapshot && filepath.Dir(f.path) == t.discarded
	}), nil
}

// usable says whether a successor could start from the whole log in remote memory. It could not while the first
// checkpoint is being copied, or one that closes a gap.
func (t *Tail) usable() bool {
	files := t.all()
	remotefile.Sort(files)
	_, lost, err := planRestore(files, false)
	return err == nil && lost == 0
}

// all is all files that are in use.
func (t *Tail) all() (files []*remotefile.File) {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, r := range t.files {
		files = append(files, r.file)
	}
	return files
}

func (t *Tail) truncationCount() int {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.truncations
}

// copyFile brings a remote file up to date with its local one, and says whether it now has all that was in that. Bytes
// of files that belong to no log count against the budget.
func (t *Tail) copyFile(f localFile, truncations int, budget *int64) (all bool, err error) {
	if err := t.follow(f); err != nil {
		return false, err
	}
	r, err := t.remote(f, truncations)
	if r == nil || err != nil {
		return false, err
	}
	if r.file.Len() == 0 {
		// Free an earlier file of the same name first: a take-over could not tell the two apart. A snapshot may rely
		// on it.
		if err := t.free(t.takeDead(func(n remotefile.Name) bool { return n == f.name || n.Kind == remotefile.Snapshot })); err != nil {
			return false, err
		}
	}
	if last, _ := r.file.Last(); last && r.file.Len() == f.info.Size() {
		return true, nil
	}
	if r.file.Len() >= f.info.Size() && !f.complete || r.idle.Equal(f.info.ModTime()) || r.file.Len() >= t.limit.of(f.name) {
		return t.limit != chunkPosition{}, nil // Until the database has read its chunks, their end is not known.
	}
	file, err := os.Open(f.path)
	if errors.Is(err, os.ErrNotExist) && !isLog(f.name) && f.name.Kind != remotefile.Checkpoint {
		// Deleted meanwhile; the next look will tell. Behind a gap in a log, nothing may be copied; nor may anything be
		// freed for a checkpoint that is not there.
		return false, nil
	}
	if err != nil {
		return false, err
	}
	defer file.Close()
	if info, err := file.Stat(); err != nil || !os.SameFile(info, r.info) {
		return false, err // It is another file by now.
	}
	log := isLog(f.name)
	for log || *budget > 0 && !t.doesEnough() {
		begun := time.Now()
		n, err := t.copyPiece(file, r, f)
		if err != nil {
			return false, err
		}
		if !log {
			*budget -= max(int64(n), int64(time.Since(begun).Seconds()*bulkBudget))
		}
		if n == 0 {
			// A chunk file already has its full length: only its modification time tells of new bytes.
			// A file that changed a moment ago may change again within the clock's resolution.
			if f.name.Kind == remotefile.Chunks && time.Since(f.info.ModTime()) > time.Second && r.file.Len() < t.limit.of(f.name) {
				r.idle = f.info.ModTime()
			}
			return true, t.finish(r, f)
		}
	}
	return false, nil
}

// tell calls Acked for a chunk file, also for one that was there at the start.
func (t *Tail) tell(f localFile) {
	t.mu.RLock()
	r, begun := t.files[f.name], t.allSorted
	t.mu.RUnlock()
	if t.o.Acked != nil && begun && r != nil && r.sorted {
		t.o.Acked(f.name.Number, r.file.Len())
	}
}

// finish marks a complete file, so that a reader knows that nothing is missing.
func (t *Tail) finish(r *remoteFile, f localFile) error {
	if last, _ := r.file.Last(); last || !f.complete || f.name.Kind == remotefile.Chunks {
		return nil
	}
	return t.memory.Write("finish", 0, func(ctx context.Context, c *memory.Conn) error {
		return r.file.Finish(ctx, c, f.final)
	})
}

// copyPiece copies the next bytes and returns their number.
func (t *Tail) copyPiece(file *os.File, r *remoteFile, f localFile) (int, error) {
	from := r.file.Len()
	b, records, err := t.nextBytes(file, from, f)
	if err != nil || len(b) == 0 {
		return 0, err
	}
	if err := t.memory.Append(t.arena, r.file, b, func(publish func()) { publish() }); err != nil {
		return 0, err
	}
	metrics := t.memory.Metrics()
	metrics.BytesWritten.WithLabelValues(f.name.Kind.String()).Add(float64(len(b)))
	if f.name.Kind == remotefile.Chunks {
		metrics.ChunksWritten.Add(float64(records))
	} else {
		metrics.WALAcked.Add(float64(len(b)))
	}
	return len(b), nil
}

// nextBytes reads the bytes behind offset from. Of a log it returns all that was seen, and no more: later bytes
// may depend on something that was not seen. Of a chunk file it returns whole records only, because the file is
// extended with zeros and written with a buffer.
func (t *Tail) nextBytes(file *os.File, from int64, f localFile) (b []byte, records int, err error) {
	most := int64(t.memory.PieceSize())
	if f.name.Kind != remotefile.Chunks {
		n, err := readAtMost(file, t.buf[:min(most, f.info.Size()-from)], from)
		return t.buf[:n], 0, err
	}
	n, err := readAtMost(file, t.buf[:max(0, min(most, t.limit.of(f.name)-from))], from)
	if err != nil {
		return nil, 0, err
	}
	b = t.buf[:n]
	header := int64(0)
	if from == 0 {
		if want := headchunk.FileHeader(); n < headchunk.FileHeaderSize || [headchunk.FileHeaderSize]byte(b[:headchunk.FileHeaderSize]) != want {
			return nil, 0, nil
		}
		header = headchunk.FileHeaderSize
	}
	valid, records := headchunk.Prefix(b[header:])
	if size, err := headchunk.Size(b[header:]); records == 0 && err == nil && size > n-int(header) {
		return t.largeRecord(file, from, header, size)
	}
	if records == 0 {
		return nil, 0, nil
	}
	return b[:header+int64(valid)], records, nil
}

// largeRecord reads a record that is larger than a piece.
func (t *Tail) largeRecord(file *os.File, from, header int64, size int) ([]byte, int, error) {
	large := make([]byte, header+int64(size))
	n, err := readAtMost(file, large, from)
	if err != nil || n < len(large) {
		return nil, 0, err
	}
	if _, records := headchunk.Prefix(large[header:]); records == 0 {
		return nil, 0, nil
	}
	return large, 1, nil
}

func readAtMost(file *os.File, b []byte, off int64) (int, error) {
	n, err := file.ReadAt(b, off)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}
