// SPDX-License-Identifier: Apache-2.0

// Looks at the log: their numbers, and waiting for them.

package tail

import (
	"context"
	"errors"
	"math"
	"sync"

	"github.com/maas-memory/maas/prometheus/remotefile"
)

// ErrEnded is the error of waiting for a look that will not come.
var ErrEnded = errors.New("the log is no longer copied")

// looks counts the looks at the log. Everything in the log when a look begins is in remote memory when the look
// has ended well. So a writer of something that relies on the log waits for a look that began later.
type looks struct {
	mu      sync.Mutex    // Guards the fields below.
	begun   uint64        // The last look that began.
	copied  uint64        // The last look that ended well.
	failed  uint64        // The last look that failed.
	err     error         // Why it failed.
	ended   bool          // There will be no more looks.
	changed chan struct{} // Closed and replaced at every end.
}

func (l *looks) begin() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
	return l.begun
}

// end ends a look; 0: all looks.
func (l *looks) end(look uint64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case look == 0:
		l.ended = true
	case err == nil:
		l.copied = look
	default:
		l.failed, l.err = look, err
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// state says whether a look is over; if not, changed is closed when that may have changed.
func (l *looks) state(look uint64) (over bool, err error, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.copied >= look:
		return true, nil, nil
	case l.failed >= look:
		return true, l.err, nil
	case l.ended:
		return true, ErrEnded, nil
	}
	return false, nil, l.changed
}

// NextLook is the number of the first look that begins after now.
func (t *Tail) NextLook() uint64 {
	t.looks.mu.Lock()
	defer t.looks.mu.Unlock()
	return t.looks.begun + 1
}

// AwaitLook waits until this look, or a later one, has brought all that it found in the log to remote memory, and
// fails if one of them could not. arrived is false if ctx ended before.
func (t *Tail) AwaitLook(ctx context.Context, look uint64) (arrived bool, err error) {
	for {
		over, err, changed := t.looks.state(look)
		if over {
			return err == nil, err
		}
		select {
		case <-ctx.Done():
			return false, nil
		case <-changed:
		}
	}
}

// LimitChunks sets a function that returns the end of the written chunks: no file with a higher number is copied,
// and of that number only so many bytes. It is asked at the beginning of each look, so that no chunk is in remote
// memory before the samples that came before it.
func (t *Tail) LimitChunks(written func() (number uint32, length int64)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written = written
}

// chunkLimit asks the function of LimitChunks; without a function there is no limit.
func (t *Tail) chunkLimit() chunkPosition {
	t.mu.RLock()
	written := t.written
	t.mu.RUnlock()
	if written == nil {
		return chunkPosition{math.MaxUint32, math.MaxInt64}
	}
	number, length := written()
	return chunkPosition{number, length}
}

// chunkPosition is a place in the chunk files.
type chunkPosition struct {
	number uint32
	length int64
}

// of is how many bytes of a file lie in front of the position.
func (p chunkPosition) of(name remotefile.Name) int64 {
	switch {
	case name.Kind != remotefile.Chunks || name.Number < p.number:
		return math.MaxInt64
	case name.Number == p.number:
		return p.length
	}
	return 0
}
