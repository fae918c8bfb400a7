// SPDX-License-Identifier: Apache-2.0

// How much one request carries. A request that takes too long opens the breaker, and is sent again from its beginning:
// if all were of one size, over a slow link none would ever arrive.

package memory

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/remotefile"
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

// Append is AppendThen of a file in arena, in as many Writes as the link needs: a lease would not outlive a request with
// all of a large record. The last one alone makes the file longer.
func (m *Manager) Append(arena *Arena, f *remotefile.File, b []byte, then func(publish func())) error {
	c := m.client.Load()
	if c == nil {
		return m.downErr()
	}
	return f.AppendThen(context.Background(), pieces{&Conn{Client: c, m: m}, arena}, b, then)
}

// pieces makes a Write of each request that an Append needs, so that each has a time limit of its own.
type pieces struct {
	*Conn
	arena *Arena
}

func (p pieces) write(size int, call func(context.Context, *Conn) error) error {
	return p.m.Write("append", size, func(ctx context.Context, c *Conn) error {
		if p.m.Arena() != p.arena {
			return fmt.Errorf("the server has other memory than before: %w", remotefile.ErrFreed)
		}
		return call(ctx, c)
	})
}

// Allocate is Conn's.
func (p pieces) Allocate(_ context.Context, o maas.AllocateOptions) (lent []maas.Allocation, err error) {
	err = p.write(0, func(ctx context.Context, c *Conn) error {
		lent, err = c.Allocate(ctx, o)
		return err
	})
	return lent, err
}

// WriteV is the client's. A rest that is smaller than any piece, such as a file's headers, goes with the bytes before it.
func (p pieces) WriteV(_ context.Context, ranges []maas.Range) error {
	left := 0
	for _, r := range ranges {
		left += len(r.Data)
	}
	for left > 0 {
		size := min(p.m.PieceSize(), left)
		n := size
		if left-n < minPiece {
			n = left
		}
		first, rest := cut(ranges, n)
		if err := p.write(size, func(ctx context.Context, c *Conn) error { return c.WriteV(ctx, first) }); err != nil {
			return err
		}
		ranges, left = rest, left-n
	}
	return nil
}

// cut parts ranges behind their first n bytes.
func cut(ranges []maas.Range, n int) (first, rest []maas.Range) {
	for i, r := range ranges {
		if n < len(r.Data) {
			first = append(ranges[:i:i], maas.Range{ID: r.ID, Offset: r.Offset, Data: r.Data[:n]})
			rest = slices.Clone(ranges[i:])
			rest[0].Offset, rest[0].Data = r.Offset+int64(n), r.Data[n:]
			return first, rest
		}
		n -= len(r.Data)
	}
	return ranges, nil
}
