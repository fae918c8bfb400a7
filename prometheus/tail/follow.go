// SPDX-License-Identifier: Apache-2.0

// Following: a standby's data directory gets the leader's log, checkpoints included, as it arrives in remote memory,
// and the standby's head replays it. Late samples (WBL) come at the end, when this process has the name.

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
	"time"

	"github.com/prometheus/prometheus/tsdb/chunks"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

const (
	// pollInterval is the pause between two looks at remote memory, and between two attempts to take the name.
	pollInterval = 250 * time.Millisecond
	// batchInterval is the pause between two batches that the head replays once it has caught up.
	batchInterval = time.Second
	// listInterval is how often all that the leader has is listed, to find a new checkpoint.
	listInterval = 10 * time.Second
	// settleTime is the time between a truncation by the leader and the standby's. The leader may have kept
	// series because samples for them were about to come; by then these have come.
	settleTime = time.Minute
	// wrongLimit is how often in a row the same bytes may be wrong: they may be written while they are read.
	wrongLimit = 8
)

// ErrStopped is the error of Next when the process is to end.
var ErrStopped = errors.New("ended while following")

// StartOver is the error of a copy that cannot continue: following begins anew, at the beginning of the log.
type StartOver struct {
	Reason string // One word, for a metric.
	Err    error
}

func (e *StartOver) Error() string { return fmt.Sprintf("following begins anew: %v", e.Err) }
func (e *StartOver) Unwrap() error { return e.Err }

// Follower is the copy of a leader's log. Only the head's goroutine may call its methods; Close comes last.
type Follower struct {
	dir    string
	memory *memory.Manager
	stop   <-chan struct{}
	ctx    context.Context
	cancel context.CancelFunc
	logger *slog.Logger
	settle time.Duration

	checkpoint int64              // Number of the checkpoint that is here; -1: none.
	wal        []*remotefile.File // As last listed.
	wbl        []*remotefile.File
	listed     time.Time // Zero: list at the next look.
	current    *growing
	wrong      int // How often in a row bytes were wrong.
	behind     int64

	head, next mintimes
	late       map[chunks.HeadSeriesRef]struct{}
	led        time.Time // The last attempt to take the name.
	taken      bool      // At that attempt, another had the name.
	given      time.Time // When the head got its last batch.
	caughtUp   bool
	leading    bool
	ended      bool
	lastWBL    int
	complained string
	listing    *remotefile.Listing // The last one.
	blocks     Blocks              // Nil: no blocks come.
}

// mintimes is where the head may begin, from a moment on.
type mintimes struct {
	time int64
	seen time.Time
}

// FollowOptions are the options of Follow.
type FollowOptions struct {
	Dir    string        // The data directory.
	Settle time.Duration // Between a truncation by the leader and the standby's; 0: a minute.
	Logger *slog.Logger
}

// Follow begins a copy of the leader's log in a data directory, and puts the directory's own head aside. Nil
// without an error: the leader is gone, and this process has the name.
func Follow(stop <-chan struct{}, m *memory.Manager, o FollowOptions) (*Follower, error) {
	ctx, cancel := memory.Until(stop)
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

// Close releases everything but the copy, which stays. A nil Follower does nothing.
func (f *Follower) Close() {
	if f == nil {
		return
	}
	f.cancel()
	if f.current != nil {
		_ = f.current.file.Close() // It may be closed already.
	}
}

func (f *Follower) path(n remotefile.Name) string { return (&restorer{tmp: f.dir}).path(n, 0) }

// Next waits until there is something for the head, which begins at mint: records, or a time to truncate to. With
// more false, the log has ended, and from now on belongs to this process. An error that is a StartOver ends this
// copy.
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
		case f.leading && !f.memory.Holds(): // This process slept for so long that another may lead by now.
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

// Records are the records of a segment that Next brought; one reader serves the whole segment.
func (f *Follower) Records() (number int, records io.Reader) {
	return int(f.current.number), f.current.records
}

// CaughtUp says whether the head has ever had all that remote memory held.
func (f *Follower) CaughtUp() bool { return f.caughtUp }

// MinValidTime is where the head may begin by now; math.MinInt64: where the log begins.
func (f *Follower) MinValidTime() int64 { return f.head.time }

// LateSeries are the numbers of the series that have late samples, which the head lacks.
func (f *Follower) LateSeries() map[chunks.HeadSeriesRef]struct{} { return f.late }

// Ends are the highest segment numbers that are in use, of the WAL and of the WBL; -1: none. They are known once Next
// has returned more false.
func (f *Follower) Ends() (wal, wbl int) { return int(f.current.number), f.lastWBL }

func (f *Follower) sleep() bool {
	select {
	case <-f.stop:
		return false
	case <-time.After(pollInterval):
		return true
	}
}

// passes says whether an error passes by itself.
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
		return true // The file was written, or freed, after it was listed.
	}
	f.complain(err)
	f.memory.LookAnew()
	return true
}

// complain logs, once, what prevents following.
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

// published notes where the leader's head begins.
func (f *Follower) published(mint int64) {
	if mint > f.next.time {
		f.next = mintimes{mint, time.Now()}
	}
}

// mayTruncate says whether the head may begin later than it was told. By then it is known which series stay
// because they have late samples.
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

// look finds what is new in remote memory, and brings it.
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
		return f.step(file) // All of it is here, and in remote memory a checkpoint has replaced it.
	} else if err != nil {
		return err
	}
	f.published(file.MinTime())
	more, err := f.current.fetch(file, func(file *remotefile.File, p []byte, off int64) error {
		f.memory.Metrics().BytesRead.WithLabelValues(remotefile.WAL.String()).Add(float64(len(p)))
		return memory.ReadFile(f.ctx, mem, file, p, off)
	})
	if err != nil {
		return err
	}
	if file.Full() && !more {
		if last, _ := file.Last(); !last {
			f.listSoon() // The next segment is not listed yet.
		}
	}
	f.count()
	return f.step(file)
}

// hasAllOf says whether a segment is complete, and all that was seen of it is here.
func (f *Follower) hasAllOf(file *remotefile.File) bool {
	last, _ := file.Last()
	return last && file.Name().Number == f.current.number && f.current.length == file.Len()
}

// listSoon lets the next look list, unless the last listing is only a moment old.
func (f *Follower) listSoon() {
	if time.Since(f.listed) > batchInterval {
		f.listed = time.Time{}
	}
}

// step moves on to the next segment when the current one was replayed.
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

// count sets the metric of how far behind the head is.
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

// replayedAll says whether all that remote memory is known to have was replayed, except for a torn record. If
// remote memory has less than this copy, the leader copies it again and may have more, so a standby has to wait;
// once this process leads, its own copy is the longest there is.
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
