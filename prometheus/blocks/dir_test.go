// SPDX-License-Identifier: Apache-2.0

// A data directory with blocks, for the tests.

package blocks

import (
	"cmp"
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

// dataDir is a data directory whose blocks hold random bytes.
type dataDir struct {
	t      *testing.T
	server *maastest.Server // Of the nodes on this directory.
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
	return &dataDir{t: t, server: server, path: t.TempDir(), rnd: rand.New(rand.NewSource(1)), next: 1, size: 300 << 10,
		adding: new(sync.Mutex), compacting: new(atomic.Bool)}
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
	b, err := os.ReadFile(filepath.Join(d.block(id), metaName))
	require.NoError(d.t, err)
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
	b, err := json.Marshal(m)
	require.NoError(d.t, err)
	tmp := filepath.Join(dir, metaName+".tmp")
	require.NoError(d.t, os.WriteFile(tmp, b, 0o666))
	require.NoError(d.t, os.Rename(tmp, filepath.Join(dir, metaName)))
}

func (d *dataDir) writeStones(dir string, intervals int) (total uint64) {
	stones := tombstones.NewMemTombstones()
	for i := range intervals {
		stones.AddInterval(1, tombstones.Interval{Mint: int64(10 * i), Maxt: int64(10*i + 1)})
	}
	_, err := tombstones.WriteFile(slog.New(slog.DiscardHandler), dir, stones)
	require.NoError(d.t, err)
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
	d.t.Helper()
	m, err := shared.Contents(d.path, block)
	require.NoError(d.t, err)
	return m
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
	metas, err := filepath.Glob(filepath.Join(d.path, allBlocks, metaName))
	require.NoError(d.t, err)
	for _, path := range metas {
		if id, err := ulid.ParseStrict(filepath.Base(filepath.Dir(path))); err == nil {
			ids = append(ids, id)
		}
	}
	return ids
}

// holds wants exactly these blocks to be in the directory.
func (d *dataDir) holds(ids ...ulid.ULID) {
	d.t.Helper()
	require.ElementsMatch(d.t, ids, d.here())
}

// AddBlocks is the AddBlocks of an open database.
func (d *dataDir) AddBlocks(move func() error) error {
	d.adding.Lock()
	defer d.adding.Unlock()
	return move()
}

func (d *dataDir) Compacting() bool { return d.compacting.Load() }

func (d *dataDir) HeadMinTime() int64 { return cmp.Or(d.headMinTime, math.MaxInt64) }

// start starts a node, which ends with the test, if not before.
func (d *dataDir) start(change ...func(*Options)) *node {
	d.t.Helper()
	m, log := d.open(false)
	d.log()
	o := Options{Dir: d.path, Interval: interval, Logger: log}
	for _, f := range change {
		f(&o)
	}
	return newNode(d, m, Start(m, o))
}

// open opens remote memory for a leader or for a standby.
func (d *dataDir) open(follow bool) (*memory.Manager, *slog.Logger) {
	d.t.Helper()
	log := slog.New(slog.DiscardHandler)
	if testing.Verbose() {
		log = slog.New(slog.NewTextHandler(os.Stderr, nil))
	}
	m, err := memory.Open(context.Background(), memory.Options{
		URL: d.server.URL, Owner: "node", Transport: "http", Dir: d.path, Required: !follow, Follow: follow,
		Logger: log, Metrics: memory.NewMetrics(nil),
	})
	require.NoError(d.t, err)
	return m, log
}

// startWith is start, and waits until remote memory has these blocks.
func (d *dataDir) startWith(ids ...ulid.ULID) *node {
	d.t.Helper()
	n := d.start()
	n.settled(ids...)
	return n
}
