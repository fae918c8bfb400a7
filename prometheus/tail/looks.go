// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"errors"
	"math"
	"sync"

	"github.com/maas-memory/maas/prometheus/remotefile"
)

// errEnded is for who waits for a look that will not be.
var errEnded = errors.New("the log is no longer copied")

// looks counts the looks at the log. What is in the log when a look begins is in remote memory when it
// has ended well: whoever writes what relies on the log waits for a look that began later.
type looks struct {
	mu      sync.Mutex    // Guards what follows.
	begun   uint64        // The last one that began.
	copied  uint64        // The last one that ended well.
	failed  uint64        // The last one that did not.
	err     error         // Why.
	ended   bool          // There are no more.
	changed chan struct{} // Closed, and made anew, at every end.
}

func (l *looks) begin() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.begun++
	return l.begun
}

// end is of a look, or, with 0, of all.
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

// state says whether a look is over, and else what is closed when that may have changed.
func (l *looks) state(look uint64) (over bool, err error, changed <-chan struct{}) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.copied >= look:
		return true, nil, nil
	case l.failed >= look:
		return true, l.err, nil
	case l.ended:
		return true, errEnded, nil
	}
	return false, nil, l.changed
}

// NextLook is the number of the first look that begins after now.
func (t *Tail) NextLook() uint64 {
	t.looks.mu.Lock()
	defer t.looks.mu.Unlock()
	return t.looks.begun + 1
}

// AwaitLook waits until a look, or a later one, has brought all that it found in the log to remote memory,
// and fails when one of them could not. arrived is false where ctx ended before.
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

// LimitChunks sets where the chunks end that were written: no byte of a file with a higher number goes up,
// and of that number so many. It is asked at the beginning of each look, so that no chunk is in remote
// memory before the samples that came before it are.
func (t *Tail) LimitChunks(written func() (number uint32, length int64)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.written = written
}

// chunkLimit is what LimitChunks set, as it is now; without a limit while nobody writes chunks.
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
