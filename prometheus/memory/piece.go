// SPDX-License-Identifier: Apache-2.0

// How much one request carries. A request that takes too long opens the breaker, and is sent again from its beginning:
// if all were of one size, over a slow link none would ever arrive.

package memory

import (
	"sync/atomic"
	"time"
)

const (
	// MaxPiece is how much of a file one Write carries over a link that is fast enough.
	MaxPiece = 1 << 20
	minPiece = 16 << 10
	// slowFloor is how small pieces become that arrive in time, but slowly: over a link of 260 kB/s it takes half a
	// second. Where it takes longer, the server may be what is slow, and more requests would not help.
	slowFloor = 128 << 10
	// slowPiece is the time after which a piece of chunks keeps the log waiting, which is looked at once a second.
	slowPiece = time.Second / 2
)

// piece is a size that fits the link. Concurrent writes may overwrite each other's finding; the next one corrects that.
type piece struct {
	bytes atomic.Int64 // 0: MaxPiece.
}

// PieceSize is how many bytes of a file the next Write should carry at most. Any goroutine.
func (m *Manager) PieceSize() int { return m.piece.size() }

func (p *piece) size() int {
	if n := p.bytes.Load(); n != 0 {
		return int(n)
	}
	return MaxPiece
}

// learn learns from a write of this size. After one that took too long, the next is half of it; but what is smaller than
// the smallest piece took long for another reason. After one that kept the log waiting, the next is smaller, too, and
// the size grows again only where twice as much would not. What is far smaller than a piece says nothing of that.
func (p *piece) learn(size int, took time.Duration, timedOut bool) {
	now := p.size()
	switch {
	case timedOut && size >= minPiece:
		p.bytes.Store(int64(max(min(now, size)/2, minPiece)))
	case timedOut || size <= now/2:
	case took > slowPiece:
		if size <= now && now > slowFloor {
			p.bytes.Store(int64(max(now/2, slowFloor)))
		}
	case took < slowPiece/2:
		p.bytes.Store(int64(min(2*now, MaxPiece)))
	}
}
