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

	"github.com/prometheus/prometheus/tsdb/chunks"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
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

// Follower is the copy of a leader's log. Its methods are for one goroutine, that of the head; Close
// comes last.
type Follower struct {
	dir    string
	memory *memory.Manager
	stop   <-chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	logger *slog.Logger
	settle time.Duration

	checkpoint int64              // Number of the one that is here; -1: none.
	wal        []*remotefile.File // As listed last.
	wbl        []*remotefile.File
	listed     time.Time // Zero: it is time to list.
	current    *growing
	wrong      int // Times in a row.
	behind     int64

	head, next mintimes
	late       map[chunks.HeadSeriesRef]struct{}
	led        time.Time // When it was tried to take the name last.
	given      time.Time // When the head got a batch last.
	caughtUp   bool
	leading    bool
	ended      bool
	lastWBL    int
	complained string
	listing    *remotefile.Listing // The last one.
	blocks     Blocks              // Nil: none come.
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
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	f := &Follower{
		dir: o.Dir, memory: m, stop: stop, ctx: ctx, cancel: cancel, logger: o.Logger, settle: cmp.Or(o.Settle, settleTime), checkpoint: -1, lastWBL: -1,
		head: mintimes{time: math.MinInt64}, next: mintimes{time: math.MinInt64},
	}
	begun, err := f.beginOrLead()
	if !begun {
		f.Close()
		return nil, err
	}
	return f, nil
}

// beginOrLead waits for a log to follow. It says whether there is one; without one, and without an error, this
// process leads.
func (f *Follower) beginOrLead() (begun bool, err error) {
	for again := time.Now(); ; {
		if f.tryToLead() {
			return false, nil
		}
		if !time.Now().Before(again) {
			begun, err := f.begin()
			if begun || err != nil && !f.passes(err) {
				return begun, err
			}
			if errors.Is(err, errWrongBytes) { // Perhaps for as long as the leader lives; all was read.
				f.complain(err)
				again = time.Now().Add(listInterval)
			}
		}
		if !f.sleep() {
			return false, ErrStopped
		}
	}
}

// Close gives up what is held. The copy stays where it is.
func (f *Follower) Close() {
	f.cancel()
	if f.current != nil {
		_ = f.current.file.Close() // It may be closed already.
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
		if err := f.placeholder(remotefile.Name{Kind: remotefile.WAL, Number: first}); err != nil {
			return false, err
		}
	}
	if len(plan[2]) > 0 {
		if err := f.placeholder(plan[2][len(plan[2])-1].Name()); err != nil {
			return false, err
		}
	}
	f.took(plan, l)
	f.head = mintimes{time: l.MinTime}
	f.next = f.head
	f.current, err = newGrowing(first, f.path(remotefile.Name{Kind: remotefile.WAL, Number: first}))
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

func (f *Follower) path(n remotefile.Name) string { return (&restorer{tmp: f.dir}).path(n, 0) }

func (f *Follower) placeholder(n remotefile.Name) error {
	if err := os.MkdirAll(filepath.Dir(f.path(n)), 0o777); err != nil {
		return err
	}
	return os.WriteFile(f.path(n), nil, 0o666)
}

// Next waits until there is something for the head, which begins at mint: records, a time to truncate to, or the end,
// with more false, from which on the log is this process's to write. An error that is a StartOver ends this copy.
func (f *Follower) Next(mint int64) (more bool, err error) {
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
		case fresh || !f.replayedAll():
		case f.leading && !f.memory.Holds(): // It slept for so long that another may lead by now.
			f.listed = time.Time{}
		case f.leading:
			if err := f.end(mint); err == nil || !f.passes(err) {
				return true, err
			}
		default:
			f.caughtUp = true
			f.memory.Metrics().Replayed(begun)
		}
		if may, err := f.mayTruncate(begun); may || err != nil && !f.passes(err) {
			return may, err
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

// LateSeries are the numbers of series that have late samples, which the head does not have.
func (f *Follower) LateSeries() map[chunks.HeadSeriesRef]struct{} { return f.late }

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
	var (
		startOver *StartOver
		local     *os.PathError
		rename    *os.LinkError
	)
	if errors.As(err, &startOver) || errors.As(err, &local) || errors.As(err, &rename) || errors.Is(err, ErrStopped) {
		return false
	}
	f.listed = time.Time{}
	if errors.Is(err, errWrongBytes) || errors.Is(err, remotefile.ErrFreed) || maas.IsNotFound(err) {
		return true // It was written, or freed, since it was listed.
	}
	f.complain(err)
	f.memory.LookAnew()
	return true
}

// complain says what keeps it from following, once.
func (f *Follower) complain(err error) {
	if text := err.Error(); text != f.complained && f.ctx.Err() == nil {
		f.complained = text
		f.logger.Warn("MaaS: cannot follow at present", "err", err)
	}
}

func (f *Follower) list() (remotefile.Memory, *remotefile.Listing, error) {
	mem, err := f.memory.Look(f.ctx)
	if err != nil {
		return nil, nil, err
	}
	l, err := remotefile.List(f.ctx, mem, f.memory.Owner())
	if err != nil {
		return nil, nil, err
	}
	f.listing = l
	if f.blocks != nil {
		f.blocks.Listed(l)
	}
	return mem, l, nil
}

// took remembers what was listed.
func (f *Follower) took(plan [][]*remotefile.File, l *remotefile.Listing) {
	f.wal, f.wbl, f.listed, f.complained = plan[1], plan[2], time.Now(), ""
	f.published(l.MinTime)
}

// published says where the leader's head begins.
func (f *Follower) published(mint int64) {
	if mint > f.next.time {
		f.next = mintimes{mint, time.Now()}
	}
}

// mayTruncate says whether the head may begin later than it was told. Which series stay for their late samples alone
// is known by then.
func (f *Follower) mayTruncate(begun time.Time) (bool, error) {
	if f.leading || f.next.time <= f.head.time || begun.Sub(f.next.seen) < f.settle || !f.replayedAll() {
		return false, nil
	}
	next := f.mayBegin()
	if next.time <= f.head.time {
		return false, nil
	}
	if err := f.relist(); err != nil {
		return false, err
	}
	if err := f.readLate(); err != nil {
		return false, err
	}
	f.head = next
	return true, nil
}

// look sees what is new in remote memory, and brings it here.
func (f *Follower) look() error {
	err := f.lookOnce()
	switch {
	case err == nil:
		f.wrong = 0
	case errors.Is(err, errWasCut):
		return &StartOver{"cut", err}
	case errors.Is(err, errWrongBytes):
		if f.wrong++; f.wrong >= wrongLimit {
			return &StartOver{"damaged", err}
		}
	}
	return err
}

func (f *Follower) lookOnce() error {
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
	if err := file.Refresh(f.ctx, mem); errors.Is(err, remotefile.ErrFreed) && f.hasAllOf(file) {
		return f.step(file) // All of it is here, and a checkpoint stands for it there.
	} else if err != nil {
		return err
	}
	f.published(file.MinTime())
	more, err := f.current.fetch(file, func(p []byte, off int64) error {
		ctx, cancel := context.WithTimeout(f.ctx, readTimeout)
		defer cancel()
		f.memory.Metrics().BytesRead.WithLabelValues(remotefile.WAL.String()).Add(float64(len(p)))
		return file.ReadAt(ctx, mem, p, off)
	})
	if err != nil {
		return err
	}
	if file.Full() && !more {
		if last, _ := file.Last(); !last {
			f.listSoon() // What comes next is not listed yet.
		}
	}
	f.count()
	return f.step(file)
}

// hasAllOf says whether a segment is complete, and all of it is here, as far as was seen.
func (f *Follower) hasAllOf(file *remotefile.File) bool {
	last, _ := file.Last()
	return last && file.Name().Number == f.current.number && f.current.length == file.Len()
}

// listSoon lets the next look list, if the last list is not from a moment ago.
func (f *Follower) listSoon() {
	if time.Since(f.listed) > batchInterval {
		f.listed = time.Time{}
	}
}

// step goes on with the next segment, when all of one was replayed.
func (f *Follower) step(file *remotefile.File) error {
	if !f.hasAllOf(file) || f.current.fresh() {
		return nil
	}
	number := f.current.number + 1
	if f.find(number) == nil {
		f.listSoon()
		return nil
	}
	if err := f.current.end(); err != nil {
		return err
	}
	next, err := newGrowing(number, f.path(remotefile.Name{Kind: remotefile.WAL, Number: number}))
	if err == nil {
		f.current = next
	}
	return err
}

func (f *Follower) find(number uint32) *remotefile.File {
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

// replayedAll says whether nothing is left that remote memory is known to have, but for a torn record. Where that has
// less than is here, its leader copies it anew, and may have more. Who leads has the most that there is.
func (f *Follower) replayedAll() bool {
	if f.current.fresh() || f.listed.IsZero() || f.find(f.current.number+1) != nil {
		return false
	}
	stored := int64(0)
	if file := f.find(f.current.number); file != nil {
		stored = file.Len()
	}
	return f.current.length == stored || f.leading && f.current.length > stored
}
