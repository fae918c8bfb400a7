// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"slices"
	"time"

	"maas/client/go"
	"maas/client/prometheus/memory"
	"maas/client/prometheus/segment"
)

// Following: a standby's data directory gets the leader's log as it arrives in remote memory, checkpoints included,
// and its head replays what arrived; of chunks it makes its own. Late samples (WBL) come in the end, when the name
// is its own.

const (
	// pollInterval lies between two looks at remote memory, and tries to take the name.
	pollInterval = 250 * time.Millisecond
	// batchInterval lies between two batches that the head replays once it has caught up.
	batchInterval = time.Second
	// listInterval is how often all that the leader has is listed, for a new checkpoint.
	listInterval = 10 * time.Second
	// settleTime lies between the leader's truncation, as it is seen, and the standby's: of series that the leader
	// kept, because something was about to come, that has come by then.
	settleTime = time.Minute
	// wrongLimit is how often the same bytes may be wrong in a row: they may be written while they are read.
	wrongLimit = 8
)

// ErrStopped is what Next fails with once the process is to end.
var ErrStopped = errors.New("ended while following")

// StartOver is the error of a copy that cannot go on: following begins anew, from the beginning of the log.
type StartOver struct {
	Reason string // One word, for a metric.
	Err    error
}

func (e *StartOver) Error() string { return fmt.Sprintf("following begins anew: %v", e.Err) }
func (e *StartOver) Unwrap() error { return e.Err }

// Follower is the copy of a leader's log. Its methods are for one goroutine, that of the head.
type Follower struct {
	dir    string
	memory *memory.Manager
	stop   <-chan struct{}
	ctx    context.Context
	logger *slog.Logger
	settle time.Duration

	checkpoint int64           // Number of the one that is here; -1: none.
	wal        []*segment.File // As listed last.
	wbl        []*segment.File
	listed     time.Time // Zero: it is time to list.
	current    *growing
	wrong      int // Times in a row.
	behind     int64

	head, next mintimes
	led        time.Time // When it was tried to take the name last.
	given      time.Time // When the head got a batch last.
	caughtUp   bool
	leading    bool
	ended      bool
	lastWBL    int
	complained string
}

// mintimes is where the head may begin, from a moment on.
type mintimes struct {
	time int64
	seen time.Time
}

// FollowOptions of Follow.
type FollowOptions struct {
	Dir    string        // The data directory.
	Settle time.Duration // Between the leader's truncation, as it is seen, and the standby's; 0: a minute.
	Logger *slog.Logger
}

// Follow makes the beginning of a copy of the leader's log in a data directory, whose own head is put aside. Nil,
// without an error: the name is this process's, for the leader is gone.
func Follow(stop <-chan struct{}, m *memory.Manager, o FollowOptions) (*Follower, error) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() { // For as long as the process lives.
		<-stop
		cancel()
	}()
	f := &Follower{
		dir: o.Dir, memory: m, stop: stop, ctx: ctx, logger: o.Logger, settle: cmp.Or(o.Settle, settleTime), checkpoint: -1, lastWBL: -1,
		head: mintimes{time: math.MinInt64}, next: mintimes{time: math.MinInt64},
	}
	for {
		if f.tryToLead() {
			return nil, nil
		}
		begun, err := f.begin()
		if begun || err != nil && !f.passes(err) {
			return f, err
		}
		if !f.sleep() {
			return nil, ErrStopped
		}
	}
}

// begin says whether remote memory has a log that can be followed, and whose beginning is here.
func (f *Follower) begin() (bool, error) {
	mem, l, err := f.list()
	if err != nil {
		return false, err
	}
	plan, lost, err := planRestore(l.Files, false)
	if err != nil || len(plan) == 0 || lost > 0 {
		return false, err // It is on its way.
	}
	if err := f.empty(); err != nil {
		return false, err
	}
	if err := f.memory.SetMinValidTime(l.MinTime); err != nil {
		return false, err
	}
	if err := f.bringCheckpoint(mem, plan[0]); err != nil {
		return false, err
	}
	first := uint32(f.checkpoint + 1)
	if f.checkpoint >= 0 { // Else Prometheus begins with segment 0.
		if err := f.placeholder(segment.Name{Kind: segment.WAL, Number: first}); err != nil {
			return false, err
		}
	}
	if n := len(l.Files); n > 0 && len(plan[2]) > 0 {
		if err := f.placeholder(plan[2][len(plan[2])-1].Name()); err != nil {
			return false, err
		}
	}
	f.took(plan, l)
	f.head = mintimes{time: l.MinTime}
	f.next = f.head
	f.current, err = newGrowing(first, f.path(segment.Name{Kind: segment.WAL, Number: first}))
	return err == nil, err
}

// empty takes the head out of the directory: another's copy for good, its own aside.
func (f *Follower) empty() error {
	if f.memory.State().Following {
		names, err := headNames(f.dir)
		for _, name := range slices.Backward(names) {
			err = errors.Join(err, os.RemoveAll(filepath.Join(f.dir, name)))
		}
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			return err
		}
	} else if err := putAside(f.dir); err != nil {
		return err
	}
	if err := f.memory.BeginFollowing(); err != nil {
		return err
	}
	return os.MkdirAll(filepath.Join(f.dir, "wal"), 0o777)
}

func (f *Follower) path(n segment.Name) string { return (&restorer{tmp: f.dir}).path(n, 0) }

func (f *Follower) placeholder(n segment.Name) error {
	if err := os.MkdirAll(filepath.Dir(f.path(n)), 0o777); err != nil {
		return err
	}
	return os.WriteFile(f.path(n), nil, 0o666)
}

// Next waits until there is something for the head: records, a time to truncate to, or the end, with more false,
// from which on the log is this process's to write. An error that is a StartOver ends this copy.
func (f *Follower) Next() (more bool, err error) {
	for {
		if f.ended {
			return false, nil
		}
		begun := time.Now()
		if err := f.look(); err != nil && !f.passes(err) {
			return false, err
		}
		fresh := f.current.fresh()
		switch {
		case fresh && (f.leading || !f.caughtUp || f.behind > fetchBudget/2 || begun.Sub(f.given) >= batchInterval):
			f.given = begun
			return true, nil
		case !fresh && f.replayedAll():
			f.caughtUp = true
			if f.leading {
				return true, f.end()
			}
			f.memory.Metrics().Replayed(begun)
		}
		if f.mayTruncate(begun) {
			return true, nil
		}
		if !f.leading && f.caughtUp && f.tryToLead() {
			f.leading = true
			f.listed = time.Time{}
			continue
		}
		if !f.sleep() {
			return false, ErrStopped
		}
	}
}

// Records is what Next brought, of a segment; one reader for all of it.
func (f *Follower) Records() (number int, records io.Reader) {
	return int(f.current.number), f.current.records
}

// CaughtUp says whether the head has had all that remote memory held, once.
func (f *Follower) CaughtUp() bool { return f.caughtUp }

// MinValidTime is where the head may begin by now; math.MinInt64: where the log does.
func (f *Follower) MinValidTime() int64 { return f.head.time }

// Ends are the highest numbers of segments that the leader used, of the WAL and of the WBL, -1 for none. They are
// known once Next has said that there is no more.
func (f *Follower) Ends() (wal, wbl int) { return int(f.current.number), f.lastWBL }

func (f *Follower) sleep() bool {
	select {
	case <-f.stop:
		return false
	case <-time.After(pollInterval):
		return true
	}
}

// tryToLead says whether the name is this process's now.
func (f *Follower) tryToLead() bool {
	if time.Since(f.led) < pollInterval {
		return false
	}
	f.led = time.Now()
	err := f.memory.Lead(f.ctx)
	if err != nil && !memory.IsFollowed(err) {
		f.complain(err)
	}
	return err == nil
}

// passes says whether an error is one that passes by itself.
func (f *Follower) passes(err error) bool {
	var local *os.PathError
	switch startOver := (*StartOver)(nil); {
	case errors.As(err, &startOver), errors.As(err, &local), errors.Is(err, ErrStopped):
		return false
	case errors.Is(err, errWrongBytes):
		f.wrong++
		f.listed = time.Time{}
		return f.wrong < wrongLimit
	}
	f.listed = time.Time{}
	if !errors.Is(err, segment.ErrFreed) && !maas.IsNotFound(err) { // Else it was freed since it was listed.
		f.complain(err)
		f.memory.LookAnew()
	}
	return true
}

// complain says what keeps it from following, once.
func (f *Follower) complain(err error) {
	if text := err.Error(); text != f.complained && f.ctx.Err() == nil {
		f.complained = text
		f.logger.Warn("MaaS: cannot follow at present", "err", err)
	}
}

func (f *Follower) list() (segment.Memory, *segment.Listing, error) {
	mem, err := f.memory.Look(f.ctx)
	if err != nil {
		return nil, nil, err
	}
	l, err := segment.List(f.ctx, mem, f.memory.Owner())
	return mem, l, err
}

// took remembers what was listed.
func (f *Follower) took(plan [][]*segment.File, l *segment.Listing) {
	f.wal, f.wbl, f.listed, f.complained = plan[1], plan[2], time.Now(), ""
	f.published(l.MinTime)
}

// published says where the leader's head begins.
func (f *Follower) published(mint int64) {
	if mint > f.next.time {
		f.next = mintimes{mint, time.Now()}
	}
}

// mayTruncate says whether the head may begin later than it was told.
func (f *Follower) mayTruncate(begun time.Time) bool {
	if f.leading || f.next.time <= f.head.time || begun.Sub(f.next.seen) < f.settle || !f.replayedAll() {
		return false
	}
	f.head = f.next
	return true
}

// look sees what is new in remote memory, and brings it here.
func (f *Follower) look() error {
	mem, err := f.memory.Look(f.ctx)
	if err != nil {
		return err
	}
	if time.Since(f.listed) > listInterval {
		if err := f.relist(); err != nil {
			return err
		}
	}
	file := f.find(f.current.number)
	if file == nil {
		f.listSoon()
		return nil
	}
	if err := file.Refresh(f.ctx, mem); err != nil {
		return err
	}
	f.published(file.MinTime())
	more, err := f.current.fetch(file, func(p []byte, off int64) error {
		ctx, cancel := context.WithTimeout(f.ctx, readTimeout)
		defer cancel()
		f.memory.Metrics().BytesRead.WithLabelValues(segment.WAL.String()).Add(float64(len(p)))
		return file.ReadAt(ctx, mem, p, off)
	})
	switch {
	case errors.Is(err, errWasCut), errors.Is(err, errWrongBytes) && f.wrong >= wrongLimit:
		return &StartOver{"cut", err}
	case err != nil:
		return err
	}
	f.wrong = 0
	if file.Full() && !more {
		if last, _ := file.Last(); !last || f.find(f.current.number+1) == nil {
			f.listSoon() // What comes next is not listed yet.
		}
	}
	f.count()
	return f.step(file)
}

// listSoon lets the next look list, if the last list is not from a moment ago.
func (f *Follower) listSoon() {
	if time.Since(f.listed) > batchInterval {
		f.listed = time.Time{}
	}
}

// step goes on with the next segment, when all of one was replayed.
func (f *Follower) step(file *segment.File) error {
	if last, _ := file.Last(); !last || f.current.length < file.Len() || f.current.fresh() {
		return nil
	}
	number := f.current.number + 1
	if f.find(number) == nil {
		return nil
	}
	if err := f.current.end(); err != nil {
		return err
	}
	next, err := newGrowing(number, f.path(segment.Name{Kind: segment.WAL, Number: number}))
	if err == nil {
		f.current = next
	}
	return err
}

func (f *Follower) find(number uint32) *segment.File {
	for _, file := range f.wal {
		if file.Name().Number == number {
			return file
		}
	}
	return nil
}

// count keeps how far behind the head is.
func (f *Follower) count() {
	f.behind = 0
	for _, file := range f.wal {
		switch number := file.Name().Number; {
		case number == f.current.number:
			f.behind += file.Len() - f.current.given
		case number > f.current.number:
			f.behind += file.Len()
		}
	}
	if !f.leading {
		f.memory.Metrics().BehindBytes.Set(float64(f.behind))
	}
}

// replayedAll says whether nothing is left that remote memory is known to have, but for a torn record.
func (f *Follower) replayedAll() bool {
	if f.current.fresh() || f.listed.IsZero() || f.find(f.current.number+1) != nil {
		return false
	}
	file := f.find(f.current.number)
	return file == nil || f.current.length >= file.Len()
}

// relist looks for new segments, and for a new checkpoint.
func (f *Follower) relist() error {
	mem, l, err := f.list()
	if err != nil {
		return err
	}
	plan, _, err := planRestore(l.Files, false)
	if err != nil || len(plan) == 0 {
		// The server lost it, and the leader copies it anew.
		return errors.Join(errors.New("remote memory does not hold the beginning of the leader's log at present"), err)
	}
	wal := plan[1]
	if len(wal) > 0 && wal[0].Name().Number > f.current.number {
		before := f.find(f.current.number)
		if before == nil || wal[0].Name().Number > f.current.number+1 || f.current.fresh() || f.current.length < before.Len() {
			return &StartOver{"truncated", fmt.Errorf("the leader's log begins with segment %d by now, and this copy is in segment %d", wal[0].Name().Number, f.current.number)}
		}
		wal = slices.Insert(slices.Clone(wal), 0, before) // All of it is here.
	}
	plan[1] = wal
	f.took(plan, l)
	if c := plan[0]; c != nil && int64(c[0].Name().Number) > f.checkpoint && c[0].Name().Number < f.current.number {
		return f.bringCheckpoint(mem, c)
	}
	return nil
}

// bringCheckpoint brings a checkpoint here, and deletes what it replaces.
func (f *Follower) bringCheckpoint(mem segment.Memory, parts []*segment.File) error {
	if len(parts) == 0 {
		return nil
	}
	tmp := filepath.Join(f.dir, restoreDir)
	if err := os.RemoveAll(tmp); err != nil {
		return err
	}
	defer os.RemoveAll(tmp)
	r := restorer{ctx: f.ctx, tmp: tmp, metrics: f.memory.Metrics(), logger: f.logger, read: func(call func(context.Context, segment.Memory) error) error {
		ctx, cancel := context.WithTimeout(f.ctx, readTimeout)
		defer cancel()
		return call(ctx, mem)
	}}
	for _, part := range parts {
		whole, err := r.write(part)
		if err == nil && !whole {
			err = fmt.Errorf("%s: %w", part.Name(), errWrongBytes)
		}
		if err != nil {
			return errors.Join(err, r.syncs.Wait())
		}
	}
	if err := r.syncs.Wait(); err != nil {
		return err
	}
	from, to := filepath.Dir(r.path(parts[0].Name(), 0)), filepath.Dir(f.path(parts[0].Name()))
	if err := errors.Join(memory.SyncDir(from), os.Rename(from, to), memory.SyncDir(filepath.Dir(to))); err != nil {
		return err
	}
	f.checkpoint = int64(parts[0].Name().Number)
	return f.deleteBefore(uint32(f.checkpoint))
}

// deleteBefore deletes what a checkpoint stands for.
func (f *Follower) deleteBefore(checkpoint uint32) error {
	dir := filepath.Join(f.dir, "wal")
	segments, err := listNumbered(dir, segment.Name{Kind: segment.WAL})
	if err != nil {
		return err
	}
	for _, s := range segments {
		if s.name.Number <= checkpoint {
			err = errors.Join(err, os.Remove(s.path))
		}
	}
	old, globErr := filepath.Glob(filepath.Join(dir, checkpointPrefix+"*"))
	for _, path := range old {
		if filepath.Base(path) != fmt.Sprintf("%s%08d", checkpointPrefix, checkpoint) {
			err = errors.Join(err, os.RemoveAll(path))
		}
	}
	return errors.Join(err, globErr)
}

// end makes the copy a log of this directory's own: all of it is here, late samples too.
func (f *Follower) end() error {
	if err := f.current.end(); err != nil {
		return err
	}
	if err := f.bringLate(); err != nil {
		return err
	}
	f.head = f.next
	if err := f.memory.EndFollowing(); err != nil {
		return err
	}
	f.ended = true
	return nil
}

// bringLate brings the WBL, without its markers.
func (f *Follower) bringLate() error {
	mem, err := f.memory.Look(f.ctx)
	if err != nil {
		return err
	}
	for _, file := range f.wbl {
		b, err := readWhole(f.ctx, mem, file)
		if err != nil {
			return err
		}
		tmp := filepath.Join(f.dir, restoreDir)
		if b, err = withoutMarkers(b, tmp, f.logger); err != nil {
			return err
		}
		path := f.path(file.Name())
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o777), writeSynced(path, b)); err != nil {
			return err
		}
		f.lastWBL = int(file.Name().Number)
	}
	if len(f.wbl) == 0 {
		return nil
	}
	// What was here before the leader's first one held the place.
	local, err := listLog(f.dir, segment.WBL)
	for _, l := range local {
		if l.name.Number < f.wbl[0].Name().Number {
			err = errors.Join(err, os.Remove(l.path))
		}
	}
	return err
}

// readWhole reads a file as far as its bytes are what its writer wrote.
func readWhole(ctx context.Context, mem segment.Memory, f *segment.File) ([]byte, error) {
	out := make([]byte, 0, f.Len())
	for _, p := range f.Pieces() {
		b := make([]byte, p.Length)
		ctx, cancel := context.WithTimeout(ctx, readTimeout)
		err := f.ReadAt(ctx, mem, b, p.Offset)
		cancel()
		if err != nil {
			return nil, err
		}
		if segment.Checksum(b) != p.CRC {
			return nil, &StartOver{"damaged", fmt.Errorf("%s at %d: %w", f.Name(), p.Offset, errWrongBytes)}
		}
		out = append(out, b...)
	}
	return out, nil
}

func writeSynced(path string, b []byte) error {
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	_, err = file.Write(b)
	return errors.Join(err, file.Sync(), file.Close())
}
