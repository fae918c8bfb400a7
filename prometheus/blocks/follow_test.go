// SPDX-License-Identifier: Apache-2.0

package blocks

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// standby follows the leader, in a data directory of its own.
type standby struct {
	*memory.Manager
	*Copier
	d     *dataDir
	end   context.CancelFunc
	ended bool
	tasks sync.WaitGroup
}

// ChangeBlock is the ChangeBlock of a database that is being opened.
func (d *dataDir) ChangeBlock(_ ulid.ULID, change func() error) error { return change() }

// follow starts a standby whose log is listed all the time.
func (d *dataDir) follow() *standby {
	f := d.looks()
	f.Bring(d)
	return f
}

// looks is follow, without Bring.
func (d *dataDir) looks() *standby {
	m, log := d.open(true)
	require.True(d.t, m.Following())
	require.True(d.t, memory.IsFollowed(m.Lead(context.Background())))
	d.log()
	ctx, end := context.WithCancel(context.Background())
	f := &standby{Manager: m, Copier: Follow(m, Options{Dir: d.path, Interval: interval, Logger: log}), d: d, end: end}
	f.tasks.Go(func() {
		for ctx.Err() == nil {
			if l, err := f.list(ctx); err == nil {
				f.Listed(l)
			}
			time.Sleep(interval)
		}
	})
	d.t.Cleanup(f.close)
	return f
}

func (f *standby) list(ctx context.Context) (*remotefile.Listing, error) {
	mem, err := f.Look(ctx)
	if err != nil {
		return nil, err
	}
	l, err := remotefile.List(ctx, mem, f.Owner())
	if err != nil && !maas.IsNotFound(err) {
		f.LookAnew()
	}
	return l, err
}

func (f *standby) stopListing() {
	f.ended = true
	f.end()
	f.tasks.Wait()
}

// close ends the standby, once.
func (f *standby) close() {
	if f.ended {
		return
	}
	f.stopListing()
	f.Copier.Close()
	require.NoError(f.d.t, f.Manager.Close())
}

// leads is the promotion, when the leader has ended and the name is free.
func (f *standby) leads() *node {
	f.d.t.Helper()
	f.d.endLeader()
	f.stopListing()
	maastest.Eventually(f.d.t, "the name is free", func() bool { return f.Lead(context.Background()) == nil })
	gone := f.Deleted()
	f.Copier.Close()
	o := Options{Dir: f.d.path, Interval: interval, Deleted: gone, Logger: slog.New(slog.DiscardHandler)}
	return newNode(f.d, f.Manager, Start(f.Manager, o))
}

// has waits until a directory has the same blocks as another.
func (d *dataDir) has(want *dataDir) {
	d.t.Helper()
	maastest.Eventually(d.t, "the blocks are the same", func() bool {
		ours, err := shared.Contents(d.path, allBlocks) // Blocks may be deleted meanwhile.
		return err == nil && maps.Equal(want.contents(), ours)
	})
}

// looked waits until the standby has looked at the present state several times.
func (f *standby) looked() {
	f.d.t.Helper()
	for range goneLooks + 2 {
		var l *remotefile.Listing
		maastest.Eventually(f.d.t, "all is listed", func() bool {
			var err error
			l, err = f.list(context.Background())
			return err == nil
		})
		f.Listed(l)
		maastest.Eventually(f.d.t, "the listing is taken", func() bool {
			f.mu.Lock()
			defer f.mu.Unlock()
			return f.Copier.follow.listing != l
		})
		time.Sleep(interval)
	}
}

// Blocks that are made, compacted or deleted from at the leader are so at the standby, which is killed three times
// meanwhile.
func TestFollow__has_what_the_leader_has(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "256MiB")
	n := d.start()
	other := d.elsewhere()
	f := other.follow()
	a, b := d.birth(0, 10), d.birth(10, 20)
	late := d.birth(10, 20)
	other.has(d)
	for range 3 {
		f.close()
		part := filepath.Join(other.path, stageDir, workDir, other.id().String(), chunksName, "000001") // It was killed.
		require.NoError(t, os.MkdirAll(filepath.Dir(part), 0o777))
		require.NoError(t, os.WriteFile(part, []byte("a part"), 0o666))
		f = other.follow()
		d.birth(20, 30)
		d.delete(a, 2)
		other.has(d)
	}
	f.close()
	child := d.compacted(a, b, late) // While the standby is away.
	d.delete(child, 1)
	n.settled(d.here()...)
	f = other.follow()
	other.has(d)
	n.close()
	f.looked()
	n = f.leads()
	n.returned()
	n.quiet()
	require.Equal(t, d.contents(), other.contents())
	n.settled(n.d.here()...)
	require.Zero(t, written(n), "nothing is copied anew")
}

// counting is an open database that counts the changes of its blocks.
type counting struct {
	*dataDir
	changes *atomic.Int32
}

func (c counting) ChangeBlock(_ ulid.ULID, change func() error) error {
	c.changes.Add(1)
	return change()
}

// What is deleted from a block comes once, also into a block that cannot be read.
func TestFollow__a_deletion_from_a_block_that_cannot_be_read_comes_once(t *testing.T) {
	d := newDataDir(t)
	a := d.birth(0, 10)
	n := d.startWith(a)
	other := d.elsewhere()
	db := counting{other, new(atomic.Int32)}
	f := other.looks()
	f.Bring(db)
	other.has(d)
	f.looked()
	loop(t, filepath.Join(other.block(a), indexName))
	d.delete(a, 1)
	n.quiet()
	maastest.Eventually(t, "the deletion is here", func() bool {
		return maps.Equal(d.contentsOf(a.String()+"/"+metaName), other.contentsOf(a.String()+"/"+metaName))
	})
	f.looked()
	require.EqualValues(t, 1, db.changes.Load())
}

// A block that remote memory lacks may be the only copy, whatever the reason.
func TestFollow__what_remote_memory_lacks_is_not_deleted_for_it(t *testing.T) {
	for name, lose := range map[string]func(d *dataDir, n *node){
		"its share became smaller": func(d *dataDir, n *node) {
			n = d.start(withSize(3 << 20))
			maastest.Eventually(d.t, "less is there", func() bool { return len(n.whole()) < 3 })
		},
		"the server is full": func(_ *dataDir, n *node) {
			for n.Shed() {
			}
		},
		"the server has lost its memory": func(d *dataDir, n *node) {
			n.close()
			d.server.Kill()
			d.server.Restart()
		},
		"the leader's directory is another one": func(d *dataDir, n *node) {
			n.replaced(func(o *Options) { o.Discard = true }).settled()
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, n, a, b, c := newLeader(t)
			other := d.elsewhere()
			f := other.follow()
			other.has(d)
			want := other.contents()

			lose(d, n)
			f.looked()
			require.Equal(t, want, other.contents())
			n = f.leads() // And goes back to remote memory from here.
			n.returned()
			n.settled(a, b, c)
			require.Equal(t, want, other.contents())
		})
	}
}

// A block that retention deleted does not come again, although remote memory still has it; at the promotion it is
// freed there.
func TestFollow__what_retention_took_does_not_come_again(t *testing.T) {
	d, _, a, b, c := newLeader(t)
	other := d.elsewhere()
	var moves atomic.Int32
	db := database{other, func(move func() error) error { // It keeps the newest two blocks.
		moves.Add(1)
		if err := move(); err != nil {
			return err
		}
		dirs, err := filepath.Glob(filepath.Join(other.path, allBlocks)) // Their names are in the order of their birth.
		for _, dir := range dirs[:max(0, len(dirs)-2)] {
			err = errors.Join(err, os.RemoveAll(dir))
		}
		return err
	}}
	f := other.looks()
	f.Bring(db)
	maastest.Eventually(t, "two are here", func() bool { return shared.Exists(other.block(c)) && shared.Exists(other.block(b)) })
	last := d.birth(30, 40)
	maastest.Eventually(t, "the newest are here", func() bool { return shared.Exists(other.block(last)) && !shared.Exists(other.block(b)) })
	f.looked()
	before := moves.Load()
	f.looked()
	require.Equal(t, before, moves.Load(), "nothing comes again and again")
	require.NoDirExists(t, other.block(a))
	require.NoDirExists(t, other.block(b))
	n := f.leads()
	n.Return(db)
	n.settled(c, last)
}

// The child of a block may never have been in remote memory: its grandchild replaces both.
func TestFollow__a_grandchild_takes_the_place_of_all(t *testing.T) {
	d, n, a, b, c := newLeader(t)
	other := d.elsewhere()
	other.follow()
	other.has(d)
	n.close()
	n = d.startWith(d.compacted(d.compacted(a, b), c))
	other.has(d)
}

// The promotion comes while a block is being brought: following ends at once, and the block comes afterwards.
func TestFollow__a_block_that_is_on_its_way_at_the_promotion_comes_then(t *testing.T) {
	for _, ready := range []bool{false, true} {
		d := newDataDir(t)
		a, b := d.birth(0, 10), d.birth(10, 20)
		d.startWith(a, b)
		d.start()
		other := d.elsewhere()
		f := other.looks().takes()
		reached := make(chan struct{})
		if ready {
			f.Bring(database{other, func(func() error) error { // It dies here: all is ready to be moved.
				close(reached)
				<-f.ctx.Done()
				return errStopped
			}})
		} else {
			f.space = func(string) (int64, error) {
				close(reached)
				<-f.ctx.Done()
				return 1 << 30, nil
			}
			f.Bring(other)
		}
		<-reached
		require.EqualValues(t, 10, f.Arriving(10, 20), "the head has to have it")
		n := f.leads()
		n.bringsBack(d)
		n.settled(a, b)
	}
}

// takes takes the listing, before Bring.
func (f *standby) takes() *standby {
	f.d.t.Helper()
	maastest.Eventually(f.d.t, "all is listed", func() bool {
		require.NoError(f.d.t, f.take())
		f.mu.Lock()
		defer f.mu.Unlock()
		return f.attached
	})
	return f
}

// The head keeps the samples of blocks that are still to come, and no more than these.
func TestFollow__arriving_is_as_far_as_blocks_have_come(t *testing.T) {
	d, _, _, _, c := newLeader(t)
	other := d.elsewhere()
	require.NoError(t, os.CopyFS(other.block(c), os.DirFS(d.block(c))))
	f := other.looks()
	require.NoError(t, f.look())
	f.takes()
	require.EqualValues(t, 10, f.Arriving(10, 30), "the second is still to come")
	require.EqualValues(t, 15, f.Arriving(15, 30))
	require.EqualValues(t, 30, f.Arriving(20, 30), "what is in front of the head is not in it anyway")
	require.EqualValues(t, 30, f.Arriving(30, 30))
	f.judgeBring(errNoSpace)
	require.EqualValues(t, 30, f.Arriving(10, 30), "for want of disk they do not come")
	f.judgeBring(f.read("read_block", func(context.Context, remotefile.Memory) error { return errTokenFile }))
	require.EqualValues(t, 10, f.Arriving(10, 30), "they come when there is a token again")
	f.judgeBring(nil)
	f.Bring(other)
	other.has(d)
	require.EqualValues(t, 30, f.Arriving(10, 30))
}

func TestFollow__a_damaged_block_does_not_keep_the_others_away(t *testing.T) {
	d := newDataDir(t)
	a, b := d.birth(0, 10), d.birth(10, 20)
	n := d.startWith(a, b)
	n.damage(b)
	other := d.elsewhere()
	f := other.follow()
	maastest.Eventually(t, "the other one is here", func() bool { return shared.Exists(other.block(a)) })
	c := d.birth(20, 30)
	maastest.Eventually(t, "the next one is here", func() bool { return shared.Exists(other.block(c)) })
	require.NoDirExists(t, other.block(b))
	maastest.Eventually(t, "it does not come", func() bool { return f.Arriving(10, 30) == 30 })
}

// received is how many bytes of blocks a standby has read.
func (f *standby) received() float64 {
	return testutil.ToFloat64(f.Metrics().BytesRead.WithLabelValues("block"))
}

// What is here and cannot be moved is not fetched again, also not by the next standby on this directory.
func TestFollow__blocks_that_could_not_be_moved_are_moved_later(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		d := newDataDir(t)
		d.startWith(d.birth(0, 10))
		other := d.elsewhere()
		var moves atomic.Int32
		var mends atomic.Bool
		db := database{other, func(move func() error) error {
			if moves.Add(1); !mends.Load() {
				return &os.LinkError{Op: "rename", Err: os.ErrPermission}
			}
			return move()
		}}
		f := other.looks()
		f.Bring(db)
		maastest.Eventually(t, "it fails several times", func() bool { return moves.Load() > 3 })
		require.Less(t, f.received(), 2*d.blockBytes(), "it was fetched once")
		if restarted {
			f.close()
			f = other.looks()
			f.Bring(db)
		}
		received := f.received()
		mends.Store(true)
		other.has(d)
		f.looked()
		require.Less(t, f.received(), received+float64(d.size))
		require.NoDirExists(t, filepath.Join(other.path, stageDir))
	}
}

// A disk that fails in the middle of a block does not keep the network busy.
func TestFollow__a_block_that_cannot_be_written_is_fetched_at_longer_and_longer_intervals(t *testing.T) {
	d := newDataDir(t)
	d.startWith(d.birth(0, 10))
	other := d.elsewhere()
	id := d.here()[0].String()
	f := other.looks()
	var tries atomic.Int32
	var mends atomic.Bool
	f.space = func(string) (int64, error) {
		if tries.Add(1); mends.Load() {
			return 1 << 30, nil
		}
		return 1 << 30, os.MkdirAll(filepath.Join(other.path, stageDir, workDir, id, chunksName, "000002"), 0o777)
	}
	f.Bring(other)
	maastest.Eventually(t, "it fails", func() bool { return tries.Load() > 2 })
	time.Sleep(64 * interval)
	require.Less(t, tries.Load(), int32(10))
	require.Greater(t, f.received(), float64(d.size), "much of it came")
	mends.Store(true)
	other.has(d)
}
