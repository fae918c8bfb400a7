// SPDX-License-Identifier: Apache-2.0

// What the tests of this package share: a data directory, a server, and the tail between the two.

package tail

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"math"
	"math/rand"
	"os"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	maas "github.com/maas-memory/maas/go"
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
	client *maas.Client // Of somebody else.
	dir    string
	rnd    *rand.Rand
}

// newDataDir makes an empty data directory, and starts a server with 64 MiB and these options.
func newDataDir(t *testing.T, options ...string) *dataDir {
	server := maastest.Start(t, append([]string{"--max-pool-size", "64MiB"}, options...)...)
	d := &dataDir{t, server, shared.Client(t, server.URL), t.TempDir(), rand.New(rand.NewSource(1))}
	d.mkdir("wal", "wbl", "chunks_head")
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
	return &dataDir{d.t, d.server, d.client, d.t.TempDir(), d.rnd}
}

// copied is a copy of a data directory, as cp -a or a backup makes one.
func (d *dataDir) copied() *dataDir {
	c := d.elsewhere()
	require.NoError(d.t, os.CopyFS(c.dir, os.DirFS(d.dir)))
	return c
}

// ---- what is written there

func (d *dataDir) path(name string) string { return filepath.Join(d.dir, name) }

func (d *dataDir) read(name string) []byte { return maastest.Must(os.ReadFile(d.path(name)))(d.t) }

func (d *dataDir) write(name string, b []byte) {
	require.NoError(d.t, os.WriteFile(d.path(name), b, 0o666))
}

func (d *dataDir) mkdir(names ...string) {
	for _, name := range names {
		require.NoError(d.t, os.Mkdir(d.path(name), 0o777))
	}
}

func (d *dataDir) rename(from, to string) { require.NoError(d.t, os.Rename(d.path(from), d.path(to))) }

func (d *dataDir) remove(names ...string) {
	for _, name := range names {
		require.NoError(d.t, os.RemoveAll(d.path(name)))
	}
}

// append appends n bytes of records.
func (d *dataDir) append(name string, n int) {
	f := maastest.Must(os.OpenFile(d.path(name), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666))(d.t)
	at := maastest.Must(f.Seek(0, io.SeekEnd))(d.t)
	maastest.Must(f.Write(d.records(int(at), n)))(d.t)
	require.NoError(d.t, f.Close())
}

// chunkFile is a file of n chunks with the same data, from this time on.
func chunkFile(n int, from int64, data []byte) []byte {
	header := headchunk.FileHeader()
	b := header[:]
	for at := from; at < from+int64(n); at++ {
		b = headchunk.Append(b, headchunk.Record{Series: 1, Mint: at, Maxt: at, Encoding: chunkenc.EncXOR, Data: data})
	}
	return b
}

// writeChunks writes some files of chunks, which hold one sample each.
func (d *dataDir) writeChunks(files int, sample byte) {
	for i := 1; i <= files; i++ {
		d.write(fmt.Sprintf("chunks_head/%06d", i), chunkFile(1, int64(i), []byte{0, 1, sample}))
	}
}

// writeSnapshot makes a chunk snapshot of two parts, as Prometheus does: under another name until it is complete.
func (d *dataDir) writeSnapshot(name string) {
	d.mkdir(name + ".tmp")
	d.segments(name + ".tmp/00000000")
	d.append(name+".tmp/00000001", 77)
	d.rename(name+".tmp", name)
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

// checkpoint makes a checkpoint as Prometheus does: under another name until it is complete. Then it stands for these
// files, which go.
func (d *dataDir) checkpoint(number, parts int, gone ...string) {
	name := fmt.Sprintf("wal/checkpoint.%08d", number)
	d.mkdir(name + ".tmp")
	for i := range parts {
		d.segments(fmt.Sprintf("%s.tmp/%08d", name, i))
	}
	d.rename(name+".tmp", name)
	d.remove(gone...)
}

// truncate does to a log of three segments what the truncation of a head does.
func (d *dataDir) truncate() {
	d.append(walThree, 100)
	d.checkpoint(1, 2, walZero, walOne)
}

// zero overwrites a part of a file, as a power cut leaves bytes that were not on disk yet.
func (d *dataDir) zero(name string, from, n int) {
	b := d.read(name)
	clear(b[from : from+n])
	d.write(name, b)
}

func (d *dataDir) cut(name string, size int64) { require.NoError(d.t, os.Truncate(d.path(name), size)) }

// ---- what is there

// contents maps the names of the log's files to their bytes.
func (d *dataDir) contents() map[string]string {
	return maastest.Must(shared.Contents(d.dir, "wal", "wbl"))(d.t)
}

// asideContents is contents of the log that a restore has put aside.
func (d *dataDir) asideContents() map[string]string {
	return (&dataDir{t: d.t, dir: d.path(replacedDir)}).contents()
}

// ---- what is in remote memory

// look returns where the head of a take-over would begin, and the files that would be there; no files while the owner
// changes something under the look.
func (d *dataDir) look() (minTime int64, there map[remotefile.Name]bool) {
	listing, err := remotefile.List(context.Background(), d.client, "node")
	if maas.IsNotFound(err) {
		return math.MinInt64, nil
	}
	require.NoError(d.t, err)
	there = map[remotefile.Name]bool{}
	for _, f := range listing.Files {
		there[f.Name()] = true
	}
	return listing.MinTime, there
}

func (d *dataDir) files() []*remotefile.File {
	return maastest.Must(remotefile.List(context.Background(), d.client, "node"))(d.t).Files
}

// rangesOf are the places of some bytes at an offset in a file.
func (d *dataDir) rangesOf(name remotefile.Name, b []byte, at int64) []maas.Range {
	files := d.files()
	i := slices.IndexFunc(files, func(f *remotefile.File) bool { return f.Name() == name })
	require.NotEqual(d.t, -1, i, "%v is not in remote memory", name)
	return maastest.Must(files[i].Ranges(nil, b, at))(d.t)
}

// lose frees the beginning of a file behind the back of its owner.
func (d *dataDir) lose(name remotefile.Name) {
	_, _, err := d.client.Free(context.Background(), d.rangesOf(name, make([]byte, 1), 0)[0].ID)
	require.NoError(d.t, err)
}

// damage overwrites some bytes of a file.
func (d *dataDir) damage(name remotefile.Name) {
	require.NoError(d.t, d.client.WriteV(context.Background(), d.rangesOf(name, []byte("other"), 100)))
}

// ---- the way to the server

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }

// connectAs opens the memory of the owner "node" for the directory.
func (d *dataDir) connectAs(ctx context.Context, o memory.Options) (*memory.Manager, error) {
	o.URL, o.Owner, o.Transport, o.Dir = d.server.URL, "node", "http", d.dir
	o.Logger, o.Metrics = quiet(), memory.NewMetrics(nil)
	return memory.Open(ctx, o)
}

// connect is connectAs for a leader, which compares its log with the one in remote memory.
func (d *dataDir) connect(required bool) (*memory.Manager, error) {
	compare := func(ctx context.Context, mem remotefile.Memory, l *remotefile.Listing, sameWriter bool) (memory.Relation, error) {
		return Compare(ctx, mem, l, d.dir, sameWriter)
	}
	return d.connectAs(d.t.Context(), memory.Options{Required: required, Compare: compare})
}

// open is connect with a server that is there; the memory is closed by the test, or with it.
func (d *dataDir) open() *memory.Manager {
	m := maastest.Must(d.connect(true))(d.t)
	d.t.Cleanup(func() { _ = m.Close() })
	return m
}

// restore replaces the directory's log by what remote memory has, and frees the owner's name.
func (d *dataDir) restore() Restored {
	m := d.open()
	done := restoreTo(d, m)
	require.NoError(d.t, m.Close())
	return done
}

func restoreTo(d *dataDir, m *memory.Manager) Restored {
	return maastest.Must(Restore(context.Background(), m, d.dir, true, quiet()))(d.t)
}

// node is a process that writes to a data directory, as far as the log goes.
type node struct {
	*memory.Manager
	tail *Tail
	d    *dataDir
}

// start starts the process; stop ends it when all is copied.
func (d *dataDir) start(change ...func(*Options)) *node { return d.startOn(d.open(), change...) }

func (d *dataDir) startOn(m *memory.Manager, change ...func(*Options)) *node {
	return &node{Manager: m, tail: Start(m, d.options(change)), d: d}
}

func (d *dataDir) options(change []func(*Options)) Options {
	o := Options{Dir: d.dir, Interval: 20 * time.Millisecond, Logger: quiet()}
	for _, f := range change {
		f(&o)
	}
	return o
}

// startWith starts the process on a log with these segments more, and waits until remote memory has them.
func (d *dataDir) startWith(segments ...string) *node {
	d.t.Helper()
	d.segments(segments...)
	n := d.start()
	n.copies(len(segments) * segmentSize)
	return n
}

func (n *node) stop() {
	n.tail.Close()
	require.NoError(n.d.t, n.Close())
}

// run is a process that lives as long as write takes. It returns how many bytes of the log remote memory has got.
func (d *dataDir) run(write func()) (acked int) {
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

// looks waits until a look that begins now has ended, and all that it saw is copied.
func (n *node) looks() { maastest.Must(n.tail.AwaitLook(n.d.t.Context(), n.tail.NextLook()))(n.d.t) }

// attachesAnew makes the process doubt its server, and waits until it has attached what is there.
func (n *node) attachesAnew() {
	n.d.t.Helper()
	arena := n.Arena()
	_ = n.Read("read", time.Second, func(ctx context.Context, c *memory.Conn) error {
		return c.Read(ctx, "0198c0de-0000-8000-8000-000000000000", 0, make([]byte, 1))
	})
	maastest.Eventually(n.d.t, "the server is looked at anew", func() bool { return n.Up() && n.Arena() != arena })
	n.looks()
}

// stepper is a Tail whose looks are called by the test.
type stepper struct {
	*Tail
	t *testing.T
}

func newStepper(d *dataDir, m *memory.Manager, change ...func(*Options)) stepper {
	return stepper{New(m, d.options(change)), d.t}
}

// look is one look; it says whether there is more to copy.
func (s stepper) look() bool { return maastest.Must(s.step(s.looks.begin()))(s.t) }

// heldWhile keeps the old log as long as this is true.
func heldWhile(holds *bool) func(*Options) {
	return func(o *Options) { o.Held = func() bool { return *holds } }
}

// held keeps the old log.
func held(o *Options) { o.Held = func() bool { return true } }
