// SPDX-License-Identifier: Apache-2.0

// A data directory's connection to remote memory: filling the directory at the start, copying while it is used,
// and detaching at the end.

package maasflag

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"sync/atomic"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	"github.com/maas-memory/maas/prometheus/blocks"
	"github.com/maas-memory/maas/prometheus/chunkstore"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/tail"
)

// Store keeps the head's chunks: the methods of a ChunkDiskMapper.
type Store = chunkstore.Local

// Opener opens the store of a head whose chunk files lie in dir.
type Opener func(reg prometheus.Registerer, dir string, pool chunkenc.Pool, writeBufferSize, writeQueueSize int) (Store, error)

// Attachment is a data directory's connection to remote memory.
type Attachment struct {
	c        *Config
	dir      string
	logger   *slog.Logger
	memory   *memory.Manager
	tail     *tail.Tail
	blocks   *blocks.Copier // Nil where blocks are left alone, and in a standby.
	arriving *blocks.Copier // Brings the leader's blocks to a standby; nil in a leader.
	follower *tail.Follower // Nil in a leader.
	mirror   atomic.Pointer[chunkstore.Mirror]

	// unknown: the data directory has no log, or only a part of one, and so does not say which series the
	// chunks in remote memory belong to.
	unknown bool

	exit func(error)
	stop chan struct{} // Closed when detaching begins.
}

// Attach connects a data directory for callers without a Node, which open the database themselves; nil without a
// URL.
func Attach(stop <-chan struct{}, c *Config, dir string, snapshot bool, logger *slog.Logger, reg prometheus.Registerer) (*Attachment, error) {
	if !c.Enabled() {
		return nil, nil
	}
	return New(c, dir, logger, reg).attach(stop, snapshot, reg)
}

// attach connects a data directory. If remote memory holds more of the log than the directory does, attach first
// brings the rest, which can take minutes; it ends with an error once stop is closed. snapshot says whether
// Prometheus will write chunk snapshots. Open the database after attach, and call Detach after you have closed it.
func (n *Node) attach(stop <-chan struct{}, snapshot bool, reg prometheus.Registerer) (*Attachment, error) {
	c := n.c
	if err := c.check(snapshot); err != nil {
		return nil, err
	}
	proof, err := c.proof()
	if err != nil {
		return nil, err
	}
	logger := n.logger.With("component", "maas")
	ctx, cancel := memory.Until(stop)
	defer cancel()
	m, err := memory.Open(ctx, memory.Options{
		URL: c.URL, Owner: c.Owner, Transport: c.Transport, Proof: proof, Dir: n.dir, Required: !c.Fallback, Compare: compareWith(n.dir),
		Prepare: func() error { return tail.PutBack(n.dir) },
		Follow:  c.Follow, MustFollow: n.holed, Lost: n.Exit, Logger: logger, Metrics: memory.NewMetrics(reg),
	})
	if err != nil {
		if !c.Fallback && !memory.NeverWorks(err) {
			err = fmt.Errorf("%w (with --%sfallback, local storage would serve alone)", err, prefix)
		}
		return nil, err
	}
	if err := m.InUse(); err != nil { // The database would find out, too, but only after its log was changed.
		return nil, errors.Join(err, m.Close())
	}
	a := &Attachment{c: c, dir: n.dir, logger: logger, memory: m, stop: make(chan struct{})}
	a.exit = func(err error) {
		logger.Error("MaaS: Prometheus ends, because completed chunks can no longer be kept; nothing is lost, the next start reads the log", "err", err)
		_ = m.Close() // The next start need not wait for the lease.
		n.Exit(err)
	}
	n.attached.Store(a) // From now on, probes hear what it waits for.
	if err := a.begin(ctx, stop); err != nil {
		n.attached.Store(nil)
		a.arriving.Close()
		a.follower.Close()
		return nil, errors.Join(err, m.Close())
	}
	return a, nil
}

// begin brings what the directory lacks, and starts to copy. In a standby it starts to follow.
func (a *Attachment) begin(ctx context.Context, stop <-chan struct{}) (err error) {
	aside := a.memory.State().Following // The directory holds a copy of a leader's data.
	if a.memory.Following() {
		aside = true
		if a.follower, err = tail.Follow(stop, a.memory, tail.FollowOptions{Dir: a.dir, Settle: a.c.FollowSettle, Logger: a.logger}); err != nil {
			return err
		}
	}
	a.tail = tail.New(a.memory, tail.Options{Dir: a.dir, Chunks: a.c.Fallback, Acked: a.acked, Held: a.held,
		MakeRoom: a.makeRoom, Logger: a.logger})
	if a.follower != nil {
		return a.followBlocks()
	}
	lost, err := a.restore(ctx, aside)
	if err != nil {
		return err
	}
	if err := tail.CutTorn(a.dir, a.logger); err != nil {
		return err
	}
	a.unknown = lost || memory.IsEmpty(a.dir) // Before the database begins a log.
	a.lead()
	return nil
}

// followBlocks prepares the directory for the leader's blocks.
func (a *Attachment) followBlocks() error {
	if _, on, _ := a.c.blocksSize(); !on { // It was checked.
		return nil
	}
	a.arriving = blocks.Follow(a.memory, blocks.Options{Dir: a.dir, Logger: a.logger})
	a.follower.With(a.arriving)
	if err := a.arriving.PutAside(a.follower.MinValidTime()); err != nil {
		return &tail.StartOver{Reason: "blocks", Err: err}
	}
	return nil
}

// lead starts to copy the log and the blocks.
func (a *Attachment) lead() {
	if size, on, _ := a.c.blocksSize(); on { // It was checked.
		discard := a.c.Restore == "off" && memory.IsEmpty(a.dir)
		a.blocks = blocks.Start(a.memory, blocks.Options{
			Dir: a.dir, Size: size, Discard: discard, Deleted: a.arriving.Deleted(), Logger: a.logger,
		})
	}
	a.tail.Run()
}

// FollowedLog is the log that a standby's head follows; nil in a leader.
func (a *Attachment) FollowedLog() *FollowedLog {
	if a.follower == nil {
		return nil
	}
	return &FollowedLog{a.follower, a}
}

// FollowedLog is what a standby's head reads.
type FollowedLog struct {
	*tail.Follower
	attachment *Attachment
}

// FollowBlocks brings the leader's blocks to a database that is being opened, until end is called.
func (l *FollowedLog) FollowBlocks(db interface {
	AddBlocks(move func() error) error
	ChangeBlock(id ulid.ULID, change func() error) error
}) (end func()) {
	l.attachment.arriving.Bring(db)
	return l.attachment.arriving.Close
}

// Next is the follower's Next. When the log ends without an error, this Prometheus leads.
func (l *FollowedLog) Next(mint int64) (more bool, err error) {
	more, err = l.Follower.Next(mint)
	if !more && err == nil {
		l.attachment.logger.Info("MaaS: this Prometheus leads from now on")
		l.attachment.lead()
	}
	return more, err
}

func compareWith(dir string) func(context.Context, remotefile.Memory, *remotefile.Listing, bool) (memory.Relation, error) {
	return func(ctx context.Context, mem remotefile.Memory, l *remotefile.Listing, sameWriter bool) (memory.Relation, error) {
		return tail.Compare(ctx, mem, l, dir, sameWriter)
	}
}

// makeRoom frees the oldest block in remote memory: the log comes first.
func (a *Attachment) makeRoom() {
	if a.blocks.Shed() {
		a.logger.Warn("MaaS: the oldest block in remote memory gave way to the log; give the server more memory (maasd --max-pool-size), or blocks a smaller share of it", "flag", "--"+prefix+"blocks")
	}
}

// held says that samples left the head, and that the blocks with these samples are not in remote memory yet but
// will be. Blocks of late samples may lie in the head's own time range.
func (a *Attachment) held() bool {
	mint := a.memory.MinValidTime()
	if mint == math.MinInt64 {
		return false // Nothing has left the head.
	}
	return !a.blocks.Covered(mint)
}

// restore brings the log from remote memory, and says whether a part of the log was lost. aside: the log from
// remote memory replaces the directory's.
func (a *Attachment) restore(ctx context.Context, aside bool) (lost bool, err error) {
	arena, dir := a.memory.Arena(), a.dir
	empty := memory.IsEmpty(dir) || aside
	off := a.c.Restore == "off"
	switch {
	case !empty && !a.memory.Behind():
		return false, nil
	case !empty && off:
		return false, fmt.Errorf("remote memory holds more of the log than this data directory, an older copy, and --%srestore=off would free it: leave that out to go on with it, or free it first (maas free --owner %s)", prefix, a.memory.Owner())
	case aside && (arena == nil || len(arena.Listing.Files) == 0):
		return false, a.memory.EndFollowing() // There is nothing else.
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
	if _, on, _ := a.c.blocksSize(); on && done.Files > 0 {
		mine := blocks.Follow(a.memory, blocks.Options{Dir: dir, Logger: a.logger})
		mine.Listed(arena.Listing)
		if err := mine.TakeOver(arena.Listing.MinTime); err != nil {
			return false, err
		}
	}
	return done.Lost > 0, a.memory.EndFollowing()
}

// acked tells the mirror, once there is one.
func (a *Attachment) acked(number uint32, length int64) {
	if m := a.mirror.Load(); m != nil {
		m.Acked(number, length)
	}
}

// Open opens the store of a head.
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
		Options: o, MaxPendingBytes: int64(a.c.MaxPending), MaxPendingAge: a.c.MaxPendingAge, Fatal: a.exit, Unknown: a.unknown,
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
		a.logger.Info("MaaS: local chunk files are in remote memory now, and were removed here", "chunks", n)
	}
	return r, nil
}

// Return brings back, in the background, the blocks that remote memory has and the data directory lacks; the
// database is open by now. A nil Attachment does nothing.
func (a *Attachment) Return(db blocks.Database) {
	if a != nil {
		a.blocks.Return(patient{db, a.stop})
	}
}

// patient is a database to which blocks are added between two compactions: whoever hands over waits for none.
type patient struct {
	blocks.Database
	stop <-chan struct{}
}

// compactionInterval is the pause between two looks whether a compaction has ended.
const compactionInterval = 100 * time.Millisecond

// AddBlocks is the database's AddBlocks, or an error if detaching begins before a compaction has ended.
func (p patient) AddBlocks(move func() error) error {
	for p.Compacting() {
		select {
		case <-p.stop:
			return errors.New("a compaction is under way, and Prometheus ends")
		case <-time.After(compactionInterval):
		}
	}
	return p.Database.AddBlocks(move)
}

// Returning says whether compaction must leave the blocks alone, because blocks that lie between them are still on
// their way.
func (a *Attachment) Returning() bool { return a.blocks.Returning() }

// Detach copies what is new in the directory, and ends the session. A nil Attachment does nothing.
func (a *Attachment) Detach() {
	if a != nil {
		a.detach((*tail.Tail).Close)
	}
}

// handOver copies the end of the log, and ends the session. The database is still open.
func (a *Attachment) handOver() { a.detach((*tail.Tail).HandOver) }

func (a *Attachment) detach(end func(*tail.Tail)) {
	close(a.stop)
	a.arriving.Close()
	a.blocks.Close()
	end(a.tail)
	if err := a.memory.Close(); err != nil {
		a.logger.Warn("MaaS: could not end the session; the name is free again when its lease ends", "err", err)
	}
	a.follower.Close()
}
