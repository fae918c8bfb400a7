// SPDX-License-Identifier: Apache-2.0

// What the tests of this package share: a data directory, a server, and the tail between the two.

package tail

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math/rand"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
	"github.com/maas-memory/maas/prometheus/test/shared"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const segmentSize = 300 << 10

// checkpointOne is the beginning of checkpoint 1 in remote memory.
var checkpointOne = remotefile.Name{Kind: remotefile.Checkpoint, Number: 1}

const walZero, walOne, walTwo, walThree, wblZero = "wal/00000000", "wal/00000001", "wal/00000002", "wal/00000003", "wbl/00000000"

// wal names a segment in remote memory.
func wal(number uint32) remotefile.Name { return remotefile.Name{Kind: remotefile.WAL, Number: number} }

// dataDir is a data directory that a test writes to as Prometheus does, and the server that gets its log.
type dataDir struct {
	t      *testing.T
	server *maastest.Server
	dir    string
	rnd    *rand.Rand
}

// newDataDir makes an empty data directory, and starts a server with 64 MiB and these options.
func newDataDir(t *testing.T, options ...string) *dataDir {
	d := &dataDir{t: t, server: maastest.Start(t, append([]string{"--max-pool-size", "64MiB"}, options...)...), rnd: rand.New(rand.NewSource(1))}
	d = d.elsewhere()
	for _, sub := range []string{"wal", "wbl", "chunks_head"} {
		d.mkdir(sub)
	}
	return d
}

// newLog is newDataDir, with a log of three segments.
func newLog(t *testing.T) *dataDir {
	d := newDataDir(t)
	d.segments(walZero, walOne, walTwo)
	return d
}

// elsewhere is an empty directory without a log, for the same server.
func (d *dataDir) elsewhere() *dataDir {
	return &dataDir{t: d.t, server: d.server, dir: d.t.TempDir(), rnd: d.rnd}
}

// copied is a copy of a data directory, as cp -a or a backup makes one.
func (d *dataDir) copied() *dataDir {
	c := d.elsewhere()
	require.NoError(d.t, os.CopyFS(c.dir, os.DirFS(d.dir)))
	return c
}

// ---- what is written there

func (d *dataDir) path(name string) string { return filepath.Join(d.dir, name) }

func (d *dataDir) read(name string) []byte {
	d.t.Helper()
	b, err := os.ReadFile(d.path(name))
	require.NoError(d.t, err)
	return b
}

func (d *dataDir) write(name string, b []byte) {
	d.t.Helper()
	require.NoError(d.t, os.WriteFile(d.path(name), b, 0o666))
}

func (d *dataDir) mkdir(name string) { require.NoError(d.t, os.Mkdir(d.path(name), 0o777)) }

func (d *dataDir) rename(from, to string) { require.NoError(d.t, os.Rename(d.path(from), d.path(to))) }

func (d *dataDir) remove(names ...string) {
	for _, name := range names {
		require.NoError(d.t, os.RemoveAll(d.path(name)))
	}
}

// append appends n bytes of records.
func (d *dataDir) append(name string, n int) {
	f, err := os.OpenFile(d.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	require.NoError(d.t, err)
	at, err := f.Seek(0, io.SeekEnd)
	require.NoError(d.t, err)
	_, err = f.Write(d.records(int(at), n))
	require.NoError(d.t, err)
	require.NoError(d.t, f.Close())
}

// writeChunks writes some files of chunks, which hold one sample each.
func (d *dataDir) writeChunks(files int, sample byte) {
	for i := 1; i <= files; i++ {
		header := headchunk.FileHeader()
		b := headchunk.Append(header[:], headchunk.Record{Series: 1, Mint: int64(i), Maxt: int64(i), Encoding: chunkenc.EncXOR, Data: []byte{0, 1, sample}})
		d.write(fmt.Sprintf("chunks_head/%06d", i), b)
	}
}

// mirrored copies these files, too.
func mirrored(o *Options) { o.Chunks = true }

// segments appends the records of a segment to each of these files.
func (d *dataDir) segments(names ...string) {
	for _, name := range names {
		d.append(name, segmentSize)
	}
}

// records makes n bytes of a log's records, for an offset in the log. No record crosses a page, and fewer than 7
// bytes are a torn beginning.
func (d *dataDir) records(at, n int) (b []byte) {
	const page, header = 32 << 10, 7
	for n > 0 {
		size := min(n, page-(at+len(b))%page, header+d.rnd.Intn(4000))
		for _, room := range []int{n, page - (at+len(b))%page} {
			if left := room - size; left > 0 && left < header && size > 2*header {
				size -= header
			}
		}
		data := make([]byte, max(0, size-header))
		d.rnd.Read(data)
		record := append([]byte{1}, binary.BigEndian.AppendUint16(nil, uint16(len(data)))...)
		record = binary.BigEndian.AppendUint32(record, remotefile.Checksum(data))
		b = append(b, append(record, data...)[:min(size, header+len(data))]...)
		n -= size
	}
	return b
}

// checkpoint makes a checkpoint as Prometheus does: under another name until it is complete.
func (d *dataDir) checkpoint(number, parts int) {
	name := fmt.Sprintf("wal/checkpoint.%08d", number)
	d.mkdir(name + ".tmp")
	for i := range parts {
		d.segments(fmt.Sprintf("%s.tmp/%08d", name, i))
	}
	d.rename(name+".tmp", name)
}

// truncate does to a log of three segments what the truncation of a head does.
func (d *dataDir) truncate() {
	d.append(walThree, 100)
	d.checkpoint(1, 2)
	d.remove(walZero, walOne)
}

// zero overwrites the end of a file, as a power cut leaves bytes that were not on disk yet.
func (d *dataDir) zero(name string, n int64) {
	info, err := os.Stat(d.path(name))
	require.NoError(d.t, err)
	d.cut(name, info.Size()-n)
	d.cut(name, info.Size())
}

// hole overwrites a part of a file with zeros.
func (d *dataDir) hole(name string, from, n int64) {
	f, err := os.OpenFile(d.path(name), os.O_WRONLY, 0)
	require.NoError(d.t, err)
	_, err = f.WriteAt(make([]byte, n), from)
	require.NoError(d.t, errors.Join(err, f.Close()))
}

func (d *dataDir) cut(name string, size int64) { require.NoError(d.t, os.Truncate(d.path(name), size)) }

// ---- what is there

// contents maps the names of the log's files to their bytes.
func (d *dataDir) contents() map[string]string {
	d.t.Helper()
	m, err := shared.Contents(d.dir, "wal", "wbl")
	require.NoError(d.t, err)
	return m
}

// asideContents is contents of the log that a restore has put aside.
func (d *dataDir) asideContents() map[string]string {
	return (&dataDir{t: d.t, dir: d.path(replacedDir)}).contents()
}

// ---- the way to the server

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// connectAs opens the memory of the owner "node" for the directory.
func (d *dataDir) connectAs(o memory.Options) (*memory.Manager, error) {
	o.URL, o.Owner, o.Transport, o.Dir = d.server.URL, "node", "http", d.dir
	o.Logger, o.Metrics = quiet(), memory.NewMetrics(nil)
	return memory.Open(d.t.Context(), o)
}

// connect is connectAs for a leader, which compares its log with the one in remote memory.
func (d *dataDir) connect(required bool) (*memory.Manager, error) {
	compare := func(ctx context.Context, mem remotefile.Memory, l *remotefile.Listing, sameWriter bool) (memory.Relation, error) {
		return Compare(ctx, mem, l, d.dir, sameWriter)
	}
	return d.connectAs(memory.Options{Required: required, Compare: compare})
}

// open is connect with a server that is there; the memory is closed by the test, or with it.
func (d *dataDir) open() *memory.Manager {
	d.t.Helper()
	m, err := d.connect(true)
	require.NoError(d.t, err)
	d.t.Cleanup(func() { _ = m.Close() })
	return m
}

// restore replaces the directory's log by what remote memory has, and frees the owner's name.
func (d *dataDir) restore() Restored {
	d.t.Helper()
	m := d.open()
	done := restoreTo(d, m)
	require.NoError(d.t, m.Close())
	return done
}

func restoreTo(d *dataDir, m *memory.Manager) Restored {
	d.t.Helper()
	done, err := Restore(context.Background(), m, d.dir, true, quiet())
	require.NoError(d.t, err)
	return done
}

// free frees an allocation behind the back of its owner.
func (d *dataDir) free(id string) {
	d.t.Helper()
	_, _, err := shared.Client(d.t, d.server.URL).Free(context.Background(), id)
	require.NoError(d.t, err)
}

// node is a process that writes to a data directory, as far as the log goes.
type node struct {
	*memory.Manager
	tail *Tail
	d    *dataDir
}

// start starts the process; stop ends it when all is copied.
func (d *dataDir) start(change ...func(*Options)) *node {
	d.t.Helper()
	return d.startOn(d.open(), change...)
}

func (d *dataDir) startOn(m *memory.Manager, change ...func(*Options)) *node {
	o := Options{Dir: d.dir, Interval: 20 * time.Millisecond, Logger: quiet()}
	for _, f := range change {
		f(&o)
	}
	return &node{Manager: m, tail: Start(m, o), d: d}
}

func (n *node) stop() {
	n.d.t.Helper()
	n.tail.Close()
	require.NoError(n.d.t, n.Close())
}

// run is a process that lives as long as write takes. It returns how many bytes of the log remote memory has got.
func (d *dataDir) run(write func()) (acked int) {
	d.t.Helper()
	n := d.start()
	write()
	n.stop()
	return int(n.acked())
}

// acked is how many bytes of the log remote memory has got from this process.
func (n *node) acked() float64 { return testutil.ToFloat64(n.Metrics().WALAcked) }

// copies waits until remote memory has got this many bytes of the log.
func (n *node) copies(bytes int) {
	n.d.t.Helper()
	maastest.Eventually(n.d.t, fmt.Sprintf("%d bytes are copied", bytes), func() bool { return n.acked() == float64(bytes) })
}

// file is a file in remote memory, or nil.
func (n *node) file(name remotefile.Name) *remotefile.File {
	n.tail.mu.RLock()
	defer n.tail.mu.RUnlock()
	if f := n.tail.files[name]; f != nil {
		return f.file
	}
	return nil
}

// firstID is the allocation that holds the beginning of a file.
func (n *node) firstID(name remotefile.Name) string {
	n.d.t.Helper()
	ranges, err := n.file(name).Ranges(nil, make([]byte, 1), 0)
	require.NoError(n.d.t, err)
	return ranges[0].ID
}

// damage overwrites some bytes of a file in remote memory.
func (d *dataDir) damage(m *memory.Manager, name remotefile.Name) {
	d.t.Helper()
	for _, f := range m.Arena().Listing.Files {
		if f.Name() == name {
			ranges, err := f.Ranges(nil, []byte("other"), 100)
			require.NoError(d.t, err)
			require.NoError(d.t, m.Write("damage", 5, func(ctx context.Context, c *memory.Conn) error { return c.WriteV(ctx, ranges) }))
			return
		}
	}
	d.t.Fatalf("%v is not in remote memory", name)
}
