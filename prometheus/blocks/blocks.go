// SPDX-License-Identifier: Apache-2.0

// Package blocks keeps copies of a data directory's blocks in remote memory, the newest first, as far as the
// blocks' share of it goes, and brings the blocks back into a data directory that lacks them.
//
// A block does not change, so it is copied once and identified by its ULID. Only meta.json and tombstones change,
// always together; they lie in a manifest that is written anew each time. A block that the data directory lacks is
// not freed for that: the same is true after a take-over. Freed are blocks that this process saw there and then
// missed, and blocks that were compacted into one that is whole in remote memory.
//
// look.go sees what is in the data directory, plan.go decides what belongs into remote memory, upload.go copies,
// remote.go knows what the server holds, back.go brings back, follow.go does so in a standby, and aside.go puts
// aside what would overlap.
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
	// share: blocks get this fraction of the server's pool, unless a size is given.
	share = 4
	// reserve: this fraction of the pool is left to the log before a block is copied.
	reserve = 16
	// goneLooks is how many looks in a row have to miss a block before it counts as deleted: a data directory
	// that is being removed as a whole loses its blocks one by one, too.
	goneLooks = 6
	// defaultVerify is how often the server is asked whether it still has everything; otherwise nobody would
	// notice memory that was freed by hand.
	defaultVerify = 10 * time.Minute
	// defaultRest is how long a new block is not copied while the compaction that made it may still replace
	// it: the compaction of a head with late samples makes two blocks, and at its end one of these.
	defaultRest = 30 * time.Second
	// defaultRetry is how long a block whose files could not be copied is left alone; each time in a row the
	// time doubles, maxDoubled times at most.
	defaultRetry = time.Minute
	maxDoubled   = 6
	// hopelessTries is how many such failures in a row end the log's wait for the block.
	hopelessTries = 4
	// lately is the age of a block up to which the log waits for it. Such blocks are among the first to be
	// copied; years of older blocks, which the log no longer covers, take their time.
	lately = 24 * time.Hour
)

// Options are the options of Start and Follow.
type Options struct {
	Dir  string // The data directory.
	Size int64  // Bytes of remote memory for blocks; 0: a quarter of the server's pool; negative: none.

	// Discard frees the blocks that remote memory has and the directory lacks, instead of bringing them back.
	Discard bool

	// Deleted are blocks that were deleted from the directory: see Copier.Deleted.
	Deleted map[ulid.ULID]bool

	Interval time.Duration // Between two looks at the data directory; 0 is 5 s.
	Verify   time.Duration // Between two looks at the whole of remote memory; 0 is 10 min.
	Rest     time.Duration // How long a new block waits for the end of a compaction; 0 is 30 s.
	Retry    time.Duration // How long a block waits whose files could not be copied; 0 is a minute.
	Logger   *slog.Logger
}

// Copier copies blocks and brings them back. Its methods may be called from any goroutine; a nil Copier does
// nothing.
type Copier struct {
	o      Options
	memory *memory.Manager
	ctx    context.Context // Close ends it.
	end    context.CancelFunc
	tasks  sync.WaitGroup
	follow *following                      // Nil in a leader.
	space  func(dir string) (int64, error) // Tests replace it.
	buf    []byte                          // This and the next fields are the copying goroutine's.
	seen   time.Time                       // When the server was last seen to have everything.

	returning atomic.Bool
	shed      atomic.Bool               // The block that is being copied has to go.
	reached   atomic.Pointer[time.Time] // When the server was last up; nil: never.
	rounds    atomic.Int64              // Rounds that left nothing to do, for tests.

	mu       sync.Mutex // Guards the fields below.
	database Database   // Nil until the database is open.
	arena    *memory.Arena
	attached bool // Whether the blocks that the server holds are known.
	pool     int64
	classes  []int64 // The server's.
	looked   bool    // The data directory was looked at.

	blocks  map[ulid.ULID]*block // The blocks that are here, or whole in remote memory.
	known   lineages             // Of all blocks that were ever in the field blocks.
	missing map[ulid.ULID]int    // How many looks in a row missed a block that was here.
	deleted map[ulid.ULID]bool   // Blocks that were here, and are no more.
	islands map[ulid.ULID]bool   // Blocks that are not brought back, because the head has their time.
	broken  map[ulid.ULID]bool   // Blocks whose remote bytes are not what was written, or cannot be used.
	torn    map[ulid.ULID]string // State of a pair that was seen in the middle of a change.

	partial map[ulid.ULID]*upload
	dead    []*remotefile.File // To free.
	number  uint32             // The next block's.
	version uint32             // The next manifest's.

	limit   int64 // What blocks may take while the server is full, less than their share; 0: no limit.
	plan    plan
	said    bool                // It was logged that not all blocks fit.
	why     string              // The reason, last logged, why nothing is copied.
	paused  map[ulid.ULID]pause // Blocks that could not be copied.
	waiting map[ulid.ULID]bool  // Blocks that belong into remote memory and have no room.
}

// pause is how long a block is left alone that could not be copied.
type pause struct {
	until time.Time
	tries int // That failed in a row.
}

// Start begins to copy. Blocks that a killed predecessor had ready for the data directory move there now, so open
// the database after Start.
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
	if o.Retry == 0 {
		o.Retry = defaultRetry
	}
	ctx, end := context.WithCancel(context.Background())
	c := &Copier{
		o: o, memory: m, ctx: ctx, end: end, space: diskSpace, buf: make([]byte, memory.MaxPiece),
		blocks: map[ulid.ULID]*block{}, known: lineages{}, missing: map[ulid.ULID]int{},
		deleted: map[ulid.ULID]bool{}, islands: map[ulid.ULID]bool{}, broken: map[ulid.ULID]bool{}, torn: map[ulid.ULID]string{},
		partial: map[ulid.ULID]*upload{}, paused: map[ulid.ULID]pause{},
	}
	for id := range o.Deleted {
		c.deleted[id] = true
	}
	return c
}

// moveRest moves blocks that a predecessor had ready.
func (c *Copier) moveRest() {
	if err := c.finishMove(); err != nil {
		c.o.Logger.Error("MaaS: blocks that were brought back cannot be moved into the data directory", "err", err)
	}
}

// Close ends the copying. Whole blocks stay in remote memory.
func (c *Copier) Close() {
	if c == nil {
		return
	}
	c.end()
	c.tasks.Wait()
}

func (c *Copier) run() {
	defer c.tasks.Done()
	ticker := time.NewTicker(c.o.Interval)
	defer ticker.Stop()
	for {
		c.report(c.round())
		select {
		case <-c.ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func (c *Copier) stopped() bool { return c.ctx.Err() != nil }

// round looks, frees, and copies until nothing is left to copy.
func (c *Copier) round() error {
	if err := c.look(); err != nil {
		return err
	}
	c.countMissing()
	if !c.memory.Up() {
		return nil
	}
	now := time.Now()
	c.reached.Store(&now)
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
			return nil // The server was not asked again yet; something was freed since.
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

// Covered says whether a take-over would have what has left a head that begins at mint: every block that is here and
// belongs into remote memory is whole there. Only blocks of the last day count, or made in it: with late samples, they
// can be of any time. It is false while that is not known yet, and true if it will never be known.
func (c *Copier) Covered(mint int64) bool {
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
	made := ulid.Timestamp(time.Now().Add(-lately))
	for id, b := range c.blocks {
		hopeless := !b.wanted || c.paused[id].tries >= hopelessTries || c.waiting[id] && !c.returning.Load()
		recent := b.MaxTime > mint-lately.Milliseconds() || id.Time() >= made
		if b.here && !hopeless && recent && !c.coveredLocked(b) {
			return false
		}
	}
	return true
}

// Shed makes room at a full server: it frees the oldest remote block that is also here, and keeps blocks from
// taking the room again. False: there is none.
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
		_ = c.freeDead() // The copying goroutine tries again what fails.
	}
	return found
}

// Returning says whether blocks are still to come back. Until they have, no block may be compacted; otherwise the
// blocks that come back would overlap with what was made of their neighbours. A server that is out of reach delays
// compaction only for a time.
func (c *Copier) Returning() bool {
	if c == nil || !c.returning.Load() || c.memory.Arena() == nil {
		return false
	}
	at := c.reached.Load()
	return at == nil || time.Since(*at) < patience
}
