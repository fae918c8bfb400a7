// SPDX-License-Identifier: Apache-2.0

// Package blocks keeps copies of a data directory's blocks in remote memory, newest first as far as
// their share of it goes, and brings them back into a data directory that lacks them.
//
// Blocks do not change, so a copy is made once and told by its ULID; only meta.json and tombstones change,
// together, and lie in a manifest that is written anew. Nothing is freed for not being in the data
// directory: that is what a take-over looks like. What this process saw there and then lost is freed, and what
// was compacted into a block that is whole in remote memory.
package blocks

import (
	"context"
	"errors"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"

	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

const (
	defaultInterval = 5 * time.Second
	// share is the part of the server's pool that blocks get, unless a size is given.
	share = 4
	// reserve is the part of the pool that is left to the log when there is room for a block.
	reserve = 16
	// goneLooks is how many looks in a row have to miss a block before it counts as deleted: a data
	// directory that is being removed as a whole loses its blocks one after the other, too.
	goneLooks = 6
	// defaultVerify is how often it is asked whether the server still has all: nobody else would miss what was freed
	// by hand.
	defaultVerify = 10 * time.Minute
	// defaultRest is how long a new block is not copied while the compaction that made it may replace it: that of
	// a head with late samples makes two blocks, and one of these at its end.
	defaultRest = 30 * time.Second
)

// Options of Start.
type Options struct {
	Dir  string // The data directory.
	Size int64  // Of remote memory for blocks; 0: a quarter of the server's pool; negative: none.

	// Discard frees the blocks that remote memory has and the directory has not, instead of bringing them back.
	Discard bool

	// Deleted are blocks that were in the directory, and have been deleted there: see Copier.Deleted.
	Deleted map[ulid.ULID]bool

	Interval time.Duration // Between two looks at the data directory; 0 is 5 s.
	Verify   time.Duration // Between two looks at the whole of remote memory; 0 is 10 min.
	Rest     time.Duration // How long a new block waits for the end of a compaction; 0 is 30 s.
	Logger   *slog.Logger
}

// Copier copies and brings back. Its methods may be called from any goroutine; a nil Copier does nothing.
type Copier struct {
	o       Options
	memory  *memory.Manager
	stop    chan struct{}
	closing sync.Once
	tasks   sync.WaitGroup
	follow  *following                      // Nil for who leads.
	space   func(dir string) (int64, error) // For tests to replace.
	buf     []byte                          // Of the copying goroutine, as is what follows.
	seen    time.Time                       // When the server was seen to have all.

	returning atomic.Bool
	shed      atomic.Bool  // What is being copied has to go.
	reached   atomic.Int64 // When the server was last up, in nanoseconds since 1970.
	rounds    atomic.Int64 // That left nothing to do, for tests.

	mu       sync.Mutex // Guards what follows.
	database Database   // Nil until it is open.
	arena    *memory.Arena
	attached bool // Whether the blocks that the server holds are known.
	pool     int64
	classes  []int64 // The server's.
	looked   bool    // At the data directory.

	blocks  map[ulid.ULID]*block // Those here and those whole there.
	known   lineages             // Of all that were ever in blocks.
	missing map[ulid.ULID]int    // Looks in a row that missed a block that was here.
	deleted map[ulid.ULID]bool   // Was here, and is no more.
	islands map[ulid.ULID]bool   // Are not brought back: the head has their time.
	broken  map[ulid.ULID]bool   // Remote bytes are not what was written, or cannot be used.
	torn    map[ulid.ULID]string // The state of a pair that was seen in the middle of its change.

	partial map[ulid.ULID]*upload
	dead    []*remotefile.File // To be freed.
	number  uint32             // Of the next block.
	version uint32             // Of the next manifest.

	limit   int64 // Less than their share, since the server is full; 0: none.
	plan    plan
	said    bool               // That not all fits.
	why     string             // Nothing is copied, as it was said last.
	failed  map[ulid.ULID]bool // Cannot be read.
	waiting map[ulid.ULID]bool // Have no room, though they belong into remote memory.
}

// Start begins to copy. What a predecessor that was killed had ready to be moved into the data directory
// moves now, so the database is opened after it.
func Start(m *memory.Manager, o Options) *Copier {
	c := newCopier(m, o)
	c.returning.Store(!o.Discard)
	c.moveRest()
	c.tasks.Add(1)
	go c.run()
	return c
}

func newCopier(m *memory.Manager, o Options) *Copier {
	if o.Interval == 0 {
		o.Interval = defaultInterval
	}
	if o.Verify == 0 {
		o.Verify = defaultVerify
	}
	if o.Rest == 0 {
		o.Rest = defaultRest
	}
	c := &Copier{
		o: o, memory: m, stop: make(chan struct{}), space: diskSpace, buf: make([]byte, pieceSize),
		blocks: map[ulid.ULID]*block{}, known: lineages{}, missing: map[ulid.ULID]int{},
		deleted: map[ulid.ULID]bool{}, islands: map[ulid.ULID]bool{}, broken: map[ulid.ULID]bool{}, torn: map[ulid.ULID]string{},
		partial: map[ulid.ULID]*upload{}, failed: map[ulid.ULID]bool{},
	}
	for id := range o.Deleted {
		c.deleted[id] = true
	}
	return c
}

// moveRest moves what a predecessor had ready.
func (c *Copier) moveRest() {
	if err := c.finishMove(); err != nil {
		c.o.Logger.Error("MaaS: blocks that were brought back cannot be moved into the data directory", "err", err)
	}
}

// Close ends it. What is whole in remote memory stays there.
func (c *Copier) Close() {
	if c == nil {
		return
	}
	c.closing.Do(func() { close(c.stop) })
	c.tasks.Wait()
}

func (c *Copier) run() {
	defer c.tasks.Done()
	ticker := time.NewTicker(c.o.Interval)
	defer ticker.Stop()
	for {
		c.report(c.round())
		select {
		case <-c.stop:
			return
		case <-ticker.C:
		}
	}
}

func (c *Copier) stopped() bool {
	select {
	case <-c.stop:
		return true
	default:
		return false
	}
}

// untilStopped is a context that ends with Close.
func (c *Copier) untilStopped() (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-c.stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// round looks, frees, and copies until nothing is left to copy.
func (c *Copier) round() error {
	if err := c.look(); err != nil {
		return err
	}
	c.countMissing()
	if !c.memory.Up() {
		return nil
	}
	c.reached.Store(time.Now().UnixNano())
	if err := c.attach(); err != nil {
		return err
	}
	if err := c.verify(); err != nil {
		return err
	}
	if c.limited() {
		if _, err := c.room(); err != nil {
			return err
		}
	}
	for !c.stopped() {
		c.dropPartial()
		if err := c.freeDead(); err != nil {
			return err
		}
		if err := c.updatePairs(); err != nil {
			return err
		}
		u, evicted := c.next()
		if evicted {
			continue
		}
		if u == nil {
			c.rounds.Add(1)
			return nil
		}
		if fits, err := c.fits(u); err != nil {
			return err
		} else if !fits {
			continue
		}
		err := c.copy(u)
		if memory.IsRefused(err) {
			c.full(u)
			continue
		}
		if memory.IsFull(err) {
			return nil // It was not asked again yet; some was freed since.
		}
		if errors.Is(err, errStopped) {
			return nil
		}
		if err != nil && !errors.Is(err, errLater) {
			return err
		}
		if err := c.look(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Copier) limited() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.limit > 0
}

// Covered says whether a take-over would have the blocks of a range of time: each that is here, and
// belongs into remote memory, is whole there. False where that is not known yet, true where it will not be.
func (c *Copier) Covered(from, to int64) bool {
	if c == nil {
		return true
	}
	if err := c.lookFor(false); err != nil {
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.attached || !c.looked || c.arena != c.memory.Arena() {
		return false
	}
	for id, b := range c.blocks {
		hopeless := !b.wanted || c.failed[id] || c.waiting[id] && !c.returning.Load()
		if b.here && !hopeless && b.MinTime < to && b.MaxTime > from && !c.coveredLocked(b) {
			return false
		}
	}
	return true
}

// Shed makes room at a server that is full: it frees the oldest remote block that is also here, and keeps
// blocks from taking the room again. False if there is none.
func (c *Copier) Shed() bool {
	if c == nil {
		return false
	}
	c.mu.Lock()
	found := len(c.partial) > 0
	if found {
		c.shed.Store(true)
	} else {
		found = c.evictLocked(len(c.plan.groups))
	}
	if found {
		c.limit = max(c.keptLocked(), 1)
		c.planLocked()
	}
	c.mu.Unlock()
	if found {
		_ = c.freeDead() // What fails is tried again by the copying goroutine.
	}
	return found
}

// Returning says whether blocks are still to come back: until then, blocks are not to be compacted, or what
// comes back would overlap with what was made of its neighbours. A server that is out of reach is not
// waited for, for ever.
func (c *Copier) Returning() bool {
	if c == nil || !c.returning.Load() || c.memory.Arena() == nil {
		return false
	}
	at := c.reached.Load()
	return at == 0 || time.Since(time.Unix(0, at)) < patience
}
