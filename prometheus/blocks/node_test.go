// SPDX-License-Identifier: Apache-2.0

// A node with a Copier and a database, for the tests.

package blocks

import (
	"context"
	"fmt"
	"math"
	"slices"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type node struct {
	*memory.Manager
	*Copier
	d     *dataDir
	ended bool
}

func newNode(d *dataDir, m *memory.Manager, c *Copier) *node {
	n := &node{Manager: m, Copier: c, d: d}
	d.t.Cleanup(n.close)
	return n
}

const interval = 10 * time.Millisecond

func withSize(n int64) func(*Options) { return func(o *Options) { o.Size = n } }

// close ends the node, once.
func (n *node) close() {
	n.d.t.Helper()
	if n.ended {
		return
	}
	n.ended = true
	n.Copier.Close()
	require.NoError(n.d.t, n.Manager.Close())
}

// replaced is the node that takes over, on an empty directory.
func (n *node) replaced() *node {
	n.d.t.Helper()
	n.close()
	return n.d.elsewhere().start()
}

// whole are the blocks that are whole in remote memory.
func (n *node) whole() []ulid.ULID {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.wholeLocked()
}

func (n *node) wholeLocked() (ids []ulid.ULID) {
	for id, b := range n.blocks {
		if b.remote != nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// settled waits until exactly these are whole in remote memory, and nothing else takes room.
func (n *node) settled(ids ...ulid.ULID) {
	n.d.t.Helper()
	maastest.Eventually(n.d.t, fmt.Sprintf("remote memory has %s", ids), func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		whole := n.wholeLocked()
		isMissing := func(id ulid.ULID) bool { return !slices.Contains(whole, id) }
		return n.attached && len(whole) == len(ids) && !slices.ContainsFunc(ids, isMissing) && len(n.dead) == 0 && len(n.partial) == 0
	})
}

// returned waits until all blocks that come back are back.
func (n *node) returned() {
	n.d.t.Helper()
	n.Return(n.d)
	n.isBack()
}

// isBack waits until nothing comes back any more.
func (n *node) isBack() {
	n.d.t.Helper()
	maastest.Eventually(n.d.t, "blocks are back", func() bool { return !n.returning.Load() })
}

// loses makes the server lose its memory, and waits until the node knows.
func (n *node) loses() {
	n.d.t.Helper()
	before := n.Arena()
	n.d.server.Kill()
	n.d.server.Restart()
	maastest.Eventually(n.d.t, "the server is in use again, without its memory", func() bool {
		_ = n.Read("health", time.Second, func(ctx context.Context, c *memory.Conn) error {
			_, err := c.Health(ctx) // Else it is asked every 30 s.
			return err
		})
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.Arena() != before && n.attached && n.arena == n.Arena()
	})
}

func written(n *node) float64 {
	return testutil.ToFloat64(n.Metrics().BytesWritten.WithLabelValues("block"))
}
func read(n *node) float64 { return testutil.ToFloat64(n.Metrics().BytesRead.WithLabelValues("block")) }

// goesRound waits for more than this many rounds.
func (n *node) goesRound(rounds int64) {
	n.d.t.Helper()
	end := n.rounds.Load() + rounds
	maastest.Eventually(n.d.t, "it has gone its rounds", func() bool { return n.rounds.Load() > end })
}

// quiet waits until everything here was looked at, and nothing was left to do.
func (n *node) quiet() {
	n.d.t.Helper()
	n.goesRound(goneLooks + 2)
}

// needs is the room that a block takes in remote memory.
func (n *node) needs(id ulid.ULID) int64 {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.needLocked(n.blocks[id])
}

type addBlocks func(move func() error) error

func (f addBlocks) AddBlocks(move func() error) error { return f(move) }
func (f addBlocks) Compacting() bool                  { return false }
func (f addBlocks) HeadMinTime() int64                { return math.MaxInt64 }

// damage changes a byte of a part of a block in remote memory.
func (n *node) damage(id ulid.ULID) {
	n.d.t.Helper()
	n.mu.Lock()
	f := n.blocks[id].remote.parts[1]
	n.mu.Unlock()
	b := make([]byte, 1)
	require.NoError(n.d.t, n.Write("damage", 1, func(ctx context.Context, c *memory.Conn) error {
		if err := f.ReadAt(ctx, c, b, 100); err != nil {
			return err
		}
		b[0]++
		ranges, err := f.Ranges(nil, b, 100)
		if err != nil {
			return err
		}
		return c.WriteV(ctx, ranges)
	}))
}

// fill takes all room of the server, as another owner would, and returns a function that frees it.
func (n *node) fill() (free func()) {
	n.d.t.Helper()
	var ids []string
	for _, size := range []int64{4 << 20, 1 << 20, 512 << 10} {
		for err := error(nil); err == nil; {
			err = n.Write("fill", 0, func(ctx context.Context, c *memory.Conn) error {
				a, err := c.Allocate(ctx, maas.AllocateOptions{Size: size, Owner: "other", Lifetime: "delete"})
				for i := range a {
					ids = append(ids, a[i].ID)
				}
				return err
			})
			require.True(n.d.t, err == nil || memory.IsFull(err), err)
		}
	}
	return func() {
		require.NoError(n.d.t, n.Write("free", 0, func(ctx context.Context, c *memory.Conn) error {
			_, _, err := c.Free(ctx, ids...)
			return err
		}))
	}
}
