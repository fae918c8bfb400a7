// SPDX-License-Identifier: Apache-2.0

package maasflag

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"os"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"maas/client/prometheus/blocks"
	"maas/client/prometheus/chunkstore"
	"maas/client/prometheus/memory"
	"maas/client/prometheus/segment"
	"maas/client/prometheus/tail"
)

// Store is what stands behind the head: the methods of a ChunkDiskMapper.
type Store = chunkstore.Local

// Opener opens the store of one head, whose chunk files have their place in dir.
type Opener func(reg prometheus.Registerer, dir string, pool chunkenc.Pool, writeBufferSize, writeQueueSize int) (Store, error)

// Attachment is a data directory's connection to remote memory.
type Attachment struct {
	c      *Config
	logger *slog.Logger
	memory *memory.Manager
	tail   *tail.Tail
	blocks *blocks.Copier // Nil where blocks are left alone.
	mirror atomic.Pointer[chunkstore.Mirror]

	// unknown: the data directory has no log, or a part of one, that says what series the chunks in
	// remote memory are of.
	unknown bool

	// Exit ends the process when chunks can no longer be kept; for tests to replace.
	Exit func(error)
}

// Attach connects a data directory, and fills it first when remote memory holds more of its log than it has, or all
// of it, which can take minutes: once stop is closed, it ends with an error. Nil, nil without a URL. snapshot says whether Prometheus is to write chunk snapshots. The database is
// opened after it, and Detach comes after the database is closed.
func Attach(stop <-chan struct{}, c *Config, dir string, snapshot bool, logger *slog.Logger, reg prometheus.Registerer) (*Attachment, error) {
	if !c.Enabled() {
		return nil, nil
	}
	if err := c.check(snapshot); err != nil {
		return nil, err
	}
	logger = logger.With("component", "maas")
	ctx, cancel := until(stop)
	defer cancel()
	m, err := memory.Open(ctx, memory.Options{
		URL: c.URL, Owner: c.Owner, Transport: c.Transport, Dir: dir, Required: !c.Fallback, Compare: compareWith(dir),
		Logger: logger, Metrics: memory.NewMetrics(reg),
	})
	if err != nil {
		if !c.Fallback && !errors.Is(err, memory.ErrOptions) {
			err = fmt.Errorf("%w (with --%sfallback, local storage would serve alone)", err, prefix)
		}
		return nil, err
	}
	if err := m.InUse(); err != nil { // The database would say so, but not before its log was changed.
		return nil, errors.Join(err, m.Close())
	}
	a := &Attachment{c: c, logger: logger, memory: m}
	a.Exit = func(err error) {
		logger.Error("MaaS: Prometheus ends, because completed chunks can no longer be kept; nothing is lost, the next start reads the log", "err", err)
		_ = m.Close() // The next start need not wait for the lease.
		os.Exit(1)
	}
	lost, err := a.restore(ctx, dir)
	if err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if err := tail.CutTorn(dir, logger); err != nil {
		return nil, errors.Join(err, m.Close())
	}
	if size, on, _ := c.blocksSize(); on { // It was checked.
		discard := c.Restore == "off" && memory.IsEmpty(dir)
		a.blocks = blocks.Start(m, blocks.Options{Dir: dir, Size: size, Discard: discard, Logger: logger})
	}
	a.unknown = lost || memory.IsEmpty(dir) // Before the database begins a log.
	a.tail = tail.Start(m, tail.Options{Dir: dir, Chunks: c.Fallback, Acked: a.acked, Held: a.held,
		MakeRoom: a.makeRoom, Logger: logger})
	return a, nil
}

func compareWith(dir string) func(context.Context, segment.Memory, *segment.Listing, bool) (memory.Relation, error) {
	return func(ctx context.Context, mem segment.Memory, l *segment.Listing, sameWriter bool) (memory.Relation, error) {
		return tail.Compare(ctx, mem, l, dir, sameWriter)
	}
}

// makeRoom gives up the oldest block in remote memory: the log is worth more.
func (a *Attachment) makeRoom() {
	if a.blocks.Shed() {
		a.logger.Warn("MaaS: the oldest block in remote memory gave way to the log; give the server more memory (maasd --max-pool-size), or blocks a smaller part of it", "flag", "--"+prefix+"blocks")
	}
}

// lately is how old a block may be for the log to wait for it. It goes up among the first; years of blocks, of
// which the log has nothing any more, take their time.
const lately = 24 * time.Hour

// held says that blocks of what left the head are not in remote memory yet, and will be. Those of late samples may
// lie in the head's own range of time.
func (a *Attachment) held() bool {
	mint := a.memory.MinValidTime()
	if mint == math.MinInt64 {
		return false // Nothing has left it.
	}
	return !a.blocks.Covered(mint-lately.Milliseconds(), math.MaxInt64)
}

// until is a context that ends when stop is closed.
func until(stop <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		select {
		case <-stop:
			cancel()
		case <-ctx.Done():
		}
	}()
	return ctx, cancel
}

// restore says whether a part of the log was lost.
func (a *Attachment) restore(ctx context.Context, dir string) (lost bool, err error) {
	arena, empty := a.memory.Arena(), memory.IsEmpty(dir)
	off := a.c.Restore == "off"
	switch {
	case !empty && !a.memory.Behind():
		return false, nil
	case !empty && off:
		return false, fmt.Errorf("remote memory holds more of the log than this data directory, an older copy, and --%srestore=off would free it: leave that out to go on with it, or free it first (maas free --owner %s)", prefix, a.memory.Owner())
	case off, arena == nil, len(arena.Listing.Files) == 0:
		return false, a.memory.BeginHead(math.MinInt64)
	}
	start := time.Now()
	a.logger.Info("MaaS: restoring the head from remote memory", "owner", a.memory.Owner(), "files", len(arena.Listing.Files),
		"behind", a.memory.Behind())
	done, err := tail.Restore(ctx, a.memory, dir, a.c.Fallback, a.logger)
	if err != nil {
		return false, fmt.Errorf("%w: start again, or begin without it by --%srestore=off, which frees it", err, prefix)
	}
	a.logger.Info("MaaS: restored the head from remote memory", "files", done.Files, "bytes", done.Bytes,
		"unusable_files", done.Lost, "duration", time.Since(start))
	return done.Lost > 0, nil
}

// acked reaches the mirror, once there is one.
func (a *Attachment) acked(number uint32, length int64) {
	if m := a.mirror.Load(); m != nil {
		m.Acked(number, length)
	}
}

// Open opens the store.
func (a *Attachment) Open(reg prometheus.Registerer, dir string, pool chunkenc.Pool, writeBufferSize, writeQueueSize int) (Store, error) {
	o := chunkstore.Options{CacheSize: int64(a.c.CacheSize), ReadTimeout: a.c.ReadTimeout, Pool: pool, Logger: a.logger}
	if !a.c.Fallback {
		return a.openRemote(dir, o)
	}
	local, err := chunks.NewChunkDiskMapper(reg, dir, pool, writeBufferSize, writeQueueSize)
	if err != nil {
		return nil, err
	}
	m, err := chunkstore.NewMirror(local, a.memory, a.tail, o)
	if err != nil {
		return nil, errors.Join(err, local.Close())
	}
	a.mirror.Store(m)
	return m, nil
}

func (a *Attachment) openRemote(dir string, o chunkstore.Options) (Store, error) {
	r, err := chunkstore.NewRemote(a.memory, chunkstore.RemoteOptions{
		Options: o, MaxPendingBytes: int64(a.c.MaxPending), MaxPendingAge: a.c.MaxPendingAge, Fatal: a.Exit, Unknown: a.unknown,
		Log: a.tail, MayFree: a.tail.MayFree,
	})
	if err != nil {
		return nil, err
	}
	n, err := r.Import(dir)
	if err != nil {
		return nil, errors.Join(err, r.Close())
	}
	if n > 0 {
		a.logger.Info("MaaS: local chunk files are in remote memory now, and removed here", "chunks", n)
	}
	return r, nil
}

// Return brings back the blocks that remote memory has and the data directory has not, in the background,
// now that the database is open. A nil Attachment does nothing.
func (a *Attachment) Return(db blocks.Database) {
	if a != nil {
		a.blocks.Return(db)
	}
}

// Returning says whether blocks are to be left as they are, for others that lie between them are on their way.
func (a *Attachment) Returning() bool { return a != nil && a.blocks.Returning() }

// Detach copies what the log got last and ends the session. A nil Attachment does nothing.
func (a *Attachment) Detach() {
	if a == nil {
		return
	}
	a.blocks.Close()
	a.tail.Close()
	if err := a.memory.Close(); err != nil {
		a.logger.Warn("MaaS: could not end the session; the name is free again when its lease ends", "err", err)
	}
}
