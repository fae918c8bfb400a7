// SPDX-License-Identifier: Apache-2.0

// What the tests of this package share: a data directory with blocks, and a node with a Copier and a database.

package blocks

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// dataDir is a data directory whose blocks hold random bytes.
type dataDir struct {
	t      *testing.T
	server *maastest.Server // Of the nodes on this directory.
	client *maas.Client     // Of somebody else.
	leader **node           // The last one.
	path   string
	rnd    *rand.Rand
	next   uint64 // Of the ULIDs' times.
	size   int    // Of a block's chunks.

	adding      *sync.Mutex  // Held while the database adds blocks, and removes those that they replace.
	compacting  *atomic.Bool // What the database says; the next one, too.
	headMinTime int64        // 0: it is empty.
}

// newDataDir makes an empty data directory, and starts a server with 64 MiB and these options.
func newDataDir(t *testing.T, options ...string) *dataDir {
	server := maastest.Start(t, append([]string{"--max-pool-size", "64MiB"}, options...)...)
	return &dataDir{
		t: t, server: server, client: shared.Client(t, server.URL), leader: new(*node), path: t.TempDir(),
		rnd: rand.New(rand.NewSource(1)), next: 1, size: 300 << 10, adding: new(sync.Mutex), compacting: new(atomic.Bool),
	}
}

// elsewhere is the empty data directory of another node.
func (d *dataDir) elsewhere() *dataDir {
	other := *d
	other.path = d.t.TempDir()
	return &other
}

func (d *dataDir) log() {
	require.NoError(d.t, os.MkdirAll(filepath.Join(d.path, "wal"), 0o777))
	require.NoError(d.t, os.WriteFile(filepath.Join(d.path, "wal", "00000000"), nil, 0o666))
}

func (d *dataDir) block(id ulid.ULID) string { return filepath.Join(d.path, id.String()) }

func (d *dataDir) id() ulid.ULID {
	d.next++
	return ulid.MustNew(d.next, d.rnd)
}

// birth makes a block from a head.
func (d *dataDir) birth(from, to int64) ulid.ULID {
	m := meta{ULID: d.id(), MinTime: from, MaxTime: to}
	m.Compaction.Sources = []ulid.ULID{m.ULID}
	d.write(m, d.size)
	return m.ULID
}

func (d *dataDir) meta(id ulid.ULID) (m meta) {
	b := maastest.Must(os.ReadFile(filepath.Join(d.block(id), metaName)))(d.t)
	require.NoError(d.t, json.Unmarshal(b, &m))
	return m
}

// compact makes a child of blocks, which stay until they are removed.
func (d *dataDir) compact(parents ...ulid.ULID) ulid.ULID {
	child := meta{ULID: d.id(), MinTime: math.MaxInt64, MaxTime: math.MinInt64}
	for _, p := range parents {
		m := d.meta(p)
		child.MinTime, child.MaxTime = min(child.MinTime, m.MinTime), max(child.MaxTime, m.MaxTime)
		child.Compaction.Sources = append(child.Compaction.Sources, m.Compaction.Sources...)
		child.Compaction.Parents = append(child.Compaction.Parents, struct {
			ULID ulid.ULID `json:"ulid"`
		}{p})
	}
	d.write(child, d.size*len(parents))
	return child.ULID
}

// compacted is compact, and removes the parents.
func (d *dataDir) compacted(parents ...ulid.ULID) ulid.ULID {
	defer d.remove(parents...)
	return d.compact(parents...)
}

// write makes a block as Prometheus does: under another name until it is complete.
func (d *dataDir) write(m meta, size int) {
	dir := d.block(m.ULID) + ".tmp-for-creation"
	require.NoError(d.t, os.MkdirAll(filepath.Join(dir, chunksName), 0o777))
	for name, n := range map[string]int{indexName: 1 + size/5, chunksName + "/000001": size, chunksName + "/000002": 1 + size/3} {
		b := make([]byte, n)
		d.rnd.Read(b)
		require.NoError(d.t, os.WriteFile(filepath.Join(dir, name), b, 0o666))
	}
	d.writeMeta(dir, m)
	d.writeStones(dir, 0)
	require.NoError(d.t, os.Rename(dir, d.block(m.ULID)))
}

// writeMeta writes meta.json as upstream does, as far as that matters here.
func (d *dataDir) writeMeta(dir string, m meta) {
	b := maastest.Must(json.Marshal(m))(d.t)
	tmp := filepath.Join(dir, metaName+".tmp")
	require.NoError(d.t, os.WriteFile(tmp, b, 0o666))
	require.NoError(d.t, os.Rename(tmp, filepath.Join(dir, metaName)))
}

func (d *dataDir) writeStones(dir string, intervals int) (total uint64) {
	stones := tombstones.NewMemTombstones()
	for i := range intervals {
		stones.AddInterval(1, tombstones.Interval{Mint: int64(10 * i), Maxt: int64(10*i + 1)})
	}
	maastest.Must(tombstones.WriteFile(slog.New(slog.DiscardHandler), dir, stones))(d.t)
	return stones.Total()
}

// delete does what the delete API does to a block.
func (d *dataDir) delete(id ulid.ULID, intervals int) {
	m := d.meta(id)
	m.Stats.NumTombstones = d.writeStones(d.block(id), intervals)
	d.writeMeta(d.block(id), m)
}

// remove does what Prometheus does to a block after retention or a compaction.
func (d *dataDir) remove(ids ...ulid.ULID) {
	for _, id := range ids {
		tmp := d.block(id) + ".tmp-for-deletion"
		require.NoError(d.t, os.Rename(d.block(id), tmp))
		require.NoError(d.t, os.RemoveAll(tmp))
	}
}

// allBlocks is a pattern of their directories.
const allBlocks = "0*"

// contents maps the files of all blocks to their bytes.
func (d *dataDir) contents() map[string]string { return d.contentsOf(allBlocks) }

func (d *dataDir) contentsOf(block string) map[string]string {
	return maastest.Must(shared.Contents(d.path, block))(d.t)
}

// unchanging is contents without the pairs.
func (d *dataDir) unchanging() map[string]string {
	m := d.contents()
	maps.DeleteFunc(m, func(name, _ string) bool {
		return filepath.Base(name) == metaName || filepath.Base(name) == tombstonesName
	})
	return m
}

func (d *dataDir) blockBytes() (n float64) {
	for _, b := range d.unchanging() {
		n += float64(len(b))
	}
	return n
}

// here are the blocks of the directory.
func (d *dataDir) here() (ids []ulid.ULID) {
	for _, path := range maastest.Must(filepath.Glob(filepath.Join(d.path, allBlocks, metaName)))(d.t) {
		if id, err := ulid.ParseStrict(filepath.Base(filepath.Dir(path))); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// holds wants exactly these blocks to be in the directory.
func (d *dataDir) holds(ids ...ulid.ULID) { require.ElementsMatch(d.t, ids, d.here()) }

// AddBlocks is the AddBlocks of an open database.
func (d *dataDir) AddBlocks(move func() error) error {
	d.adding.Lock()
	defer d.adding.Unlock()
	return move()
}

func (d *dataDir) Compacting() bool { return d.compacting.Load() }

func (d *dataDir) HeadMinTime() int64 { return cmp.Or(d.headMinTime, math.MaxInt64) }

// start ends the node before, on whatever directory that is, and starts one. It ends with the test, if not before.
func (d *dataDir) start(change ...func(*Options)) *node {
	d.endLeader()
	m, log := d.open(false)
	d.log()
	o := Options{Dir: d.path, Interval: interval, Logger: log}
	for _, f := range change {
		f(&o)
	}
	return newNode(d, m, Start(m, o))
}

func (d *dataDir) endLeader() {
	if n := *d.leader; n != nil {
		n.close()
	}
}

// open opens remote memory for a leader or for a standby.
func (d *dataDir) open(follow bool) (*memory.Manager, *slog.Logger) {
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	return maastest.Must(memory.Open(context.Background(), memory.Options{
		URL: d.server.URL, Owner: "node", Transport: "http", Dir: d.path, Required: !follow, Follow: follow,
		Logger: log, Metrics: memory.NewMetrics(nil),
	}))(d.t), log
}

// startWith is start, and waits until remote memory has these blocks.
func (d *dataDir) startWith(ids ...ulid.ULID) *node {
	d.t.Helper()
	n := d.start()
	n.settled(ids...)
	return n
}

// newLeader is a node in a directory with three blocks that remote memory has.
func newLeader(t *testing.T, options ...string) (d *dataDir, n *node, a, b, c ulid.ULID) {
	t.Helper()
	d = newDataDir(t, options...)
	a, b, c = d.birth(0, 10), d.birth(10, 20), d.birth(20, 30)
	return d, d.startWith(a, b, c), a, b, c
}

// startCompacting starts a node whose database compacts, and which waits this long for the end of that.
func (d *dataDir) startCompacting(rest time.Duration) *node {
	d.t.Helper()
	n := d.start(func(o *Options) { o.Rest = rest })
	n.returned()
	d.compacting.Store(true)
	return n
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

type node struct {
	*memory.Manager
	*Copier
	d     *dataDir
	close func()
}

func newNode(d *dataDir, m *memory.Manager, c *Copier) *node {
	n := &node{Manager: m, Copier: c, d: d}
	var once sync.Once
	n.close = func() { // sync.OnceFunc would make a failure in here a panic.
		once.Do(func() {
			c.Close()
			require.NoError(d.t, m.Close())
		})
	}
	*d.leader = n
	d.t.Cleanup(n.close)
	return n
}

const interval = 10 * time.Millisecond

func withSize(n int64) func(*Options) { return func(o *Options) { o.Size = n } }

// replaced is the node that takes over, on an empty directory.
func (n *node) replaced(change ...func(*Options)) *node { return n.d.elsewhere().start(change...) }

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

// bringsBack is returned, and wants all blocks of another directory to be here, bit for bit.
func (n *node) bringsBack(all *dataDir) {
	n.d.t.Helper()
	n.returned()
	require.Equal(n.d.t, all.contents(), n.d.contents())
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

// database is an open database that adds blocks in this way.
type database struct {
	*dataDir
	add func(move func() error) error
}

func (db database) AddBlocks(move func() error) error { return db.add(move) }

// damage changes a byte of a part of a block in remote memory.
func (n *node) damage(id ulid.ULID) {
	n.mu.Lock()
	f := n.blocks[id].remote.parts[1]
	n.mu.Unlock()
	b := make([]byte, 1)
	require.NoError(n.d.t, f.ReadAt(context.Background(), n.d.client, b, 100))
	b[0]++
	ranges := maastest.Must(f.Ranges(nil, b, 100))(n.d.t)
	require.NoError(n.d.t, n.d.client.WriteV(context.Background(), ranges))
}

// errTokenFile is what a client says whose file with the token is gone, without ErrToken, after which the server would
// be tried again in 15 s only.
var errTokenFile = &fs.PathError{Op: "open", Path: "token", Err: fs.ErrNotExist}

// fill takes all room of the server, as another owner would, and returns a function that frees it.
func (n *node) fill() (free func()) {
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
