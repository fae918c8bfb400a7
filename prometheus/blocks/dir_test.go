// SPDX-License-Identifier: Apache-2.0

// A data directory with blocks, for the tests.

package blocks

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"log/slog"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"

	"github.com/oklog/ulid/v2"
	"github.com/prometheus/prometheus/tsdb/tombstones"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
)

// dataDir is a data directory whose blocks hold random bytes.
type dataDir struct {
	t      *testing.T
	server *maastest.Server // Of the nodes on this directory.
	path   string
	rnd    *rand.Rand
	next   uint64 // Of the ULIDs' times.
	size   int    // Of a block's chunks.

	compacting  *atomic.Bool // What the database says; the next one, too.
	headMinTime int64        // 0: it is empty.
}

// newDataDir makes an empty data directory, and starts a server with 64 MiB and these options.
func newDataDir(t *testing.T, options ...string) *dataDir {
	server := maastest.Start(t, append([]string{"--max-pool-size", "64MiB"}, options...)...)
	return &dataDir{t: t, server: server, path: t.TempDir(), rnd: rand.New(rand.NewSource(1)), next: 1, size: 300 << 10,
		compacting: new(atomic.Bool)}
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

// fullMeta is meta.json as upstream writes it, as far as that matters here.
func fullMeta(id ulid.ULID, from, to int64, stones uint64, sources []ulid.ULID, parents []meta) []byte {
	m := meta{ULID: id, MinTime: from, MaxTime: to}
	m.Stats.NumTombstones = stones
	m.Compaction.Sources = sources
	for _, p := range parents {
		m.Compaction.Parents = append(m.Compaction.Parents, struct {
			ULID ulid.ULID `json:"ulid"`
		}{p.ULID})
	}
	b, err := json.Marshal(m)
	if err != nil {
		panic(err)
	}
	return b
}

// birth makes a block from a head.
func (d *dataDir) birth(from, to int64) ulid.ULID {
	id := d.id()
	d.write(id, fullMeta(id, from, to, 0, []ulid.ULID{id}, nil), d.size)
	return id
}

func (d *dataDir) meta(id ulid.ULID) (m meta) {
	b, err := os.ReadFile(filepath.Join(d.block(id), metaName))
	require.NoError(d.t, err)
	require.NoError(d.t, json.Unmarshal(b, &m))
	return m
}

// compact makes a child of blocks, which stay until they are removed.
func (d *dataDir) compact(parents ...ulid.ULID) ulid.ULID {
	id := d.id()
	var metas []meta
	var sources []ulid.ULID
	for _, p := range parents {
		m := d.meta(p)
		metas = append(metas, m)
		sources = append(sources, m.Compaction.Sources...)
	}
	from, to := metas[0].MinTime, metas[0].MaxTime
	for _, m := range metas {
		from, to = min(from, m.MinTime), max(to, m.MaxTime)
	}
	d.write(id, fullMeta(id, from, to, 0, sources, metas), d.size*len(parents))
	return id
}

// write makes a block as Prometheus does: under another name until it is complete.
func (d *dataDir) write(id ulid.ULID, meta []byte, size int) {
	dir := d.block(id) + ".tmp-for-creation"
	require.NoError(d.t, os.MkdirAll(filepath.Join(dir, chunksName), 0o777))
	for name, n := range map[string]int{indexName: 1 + size/5, chunksName + "/000001": size, chunksName + "/000002": 1 + size/3} {
		b := make([]byte, n)
		d.rnd.Read(b)
		require.NoError(d.t, os.WriteFile(filepath.Join(dir, name), b, 0o666))
	}
	require.NoError(d.t, os.WriteFile(filepath.Join(dir, metaName), meta, 0o666))
	_, err := tombstones.WriteFile(slog.New(slog.DiscardHandler), dir, tombstones.NewMemTombstones())
	require.NoError(d.t, err)
	require.NoError(d.t, os.Rename(dir, d.block(id)))
}

// delete does what the delete API does to a block.
func (d *dataDir) delete(id ulid.ULID, intervals int) {
	m := d.meta(id)
	stones := tombstones.NewMemTombstones()
	for i := range intervals {
		stones.AddInterval(1, tombstones.Interval{Mint: int64(10 * i), Maxt: int64(10*i + 1)})
	}
	_, err := tombstones.WriteFile(slog.New(slog.DiscardHandler), d.block(id), stones)
	require.NoError(d.t, err)
	var parents []meta
	for _, p := range m.Compaction.Parents {
		parents = append(parents, meta{ULID: p.ULID})
	}
	tmp := filepath.Join(d.block(id), metaName+".tmp")
	require.NoError(d.t, os.WriteFile(tmp, fullMeta(id, m.MinTime, m.MaxTime, stones.Total(), m.Compaction.Sources, parents), 0o666))
	require.NoError(d.t, os.Rename(tmp, filepath.Join(d.block(id), metaName)))
}

// tear leaves a block as after a crash between writing tombstones and meta.json.
func (d *dataDir) tear(id ulid.ULID) {
	stones := tombstones.NewMemTombstones()
	stones.AddInterval(1, tombstones.Interval{Mint: 1, Maxt: 2})
	_, err := tombstones.WriteFile(slog.New(slog.DiscardHandler), d.block(id), stones)
	require.NoError(d.t, err)
}

// remove does what Prometheus does to a block after retention or a compaction.
func (d *dataDir) remove(ids ...ulid.ULID) {
	for _, id := range ids {
		tmp := d.block(id) + ".tmp-for-deletion"
		require.NoError(d.t, os.Rename(d.block(id), tmp))
		require.NoError(d.t, os.RemoveAll(tmp))
	}
}

// contents maps the files of all blocks to their bytes.
func (d *dataDir) contents() map[string]string {
	m, err := d.tryContents()
	require.NoError(d.t, err)
	return m
}

// tryContents is contents while others may delete blocks.
func (d *dataDir) tryContents() (m map[string]string, err error) {
	m = map[string]string{}
	dirs, err := filepath.Glob(filepath.Join(d.path, "0*"))
	for _, dir := range dirs {
		err = errors.Join(err, filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
			if err != nil || e.IsDir() {
				return err
			}
			b, err := os.ReadFile(path)
			name, _ := filepath.Rel(d.path, path)
			m[name] = string(b)
			return err
		}))
	}
	return m, err
}

func (d *dataDir) blockBytes() (n float64) {
	for name, b := range d.contents() {
		if base := filepath.Base(name); base != metaName && base != tombstonesName {
			n += float64(len(b))
		}
	}
	return n
}

// AddBlocks is the AddBlocks of an open database.
func (d *dataDir) AddBlocks(move func() error) error { return move() }

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
