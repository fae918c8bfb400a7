// SPDX-License-Identifier: Apache-2.0

// A process may be killed between any two requests: what remote memory holds then has to do for a take-over.

package tail

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// moments stands between a process and its server, and looks at the server before each request that may change
// something there.
type moments struct {
	*dataDir

	mu     sync.Mutex
	check  func(*remotefile.Listing) // Nil: not now. It runs in other goroutines than the test.
	number int                       // Of looks.
}

// newMoments returns the directory with the server behind it.
func newMoments(d *dataDir) (m *moments, through *dataDir) {
	m = &moments{dataDir: d}
	var alone sync.Mutex // No look while a request may change what it sees.
	front := maastest.Proxy(d.t, d.server.URL, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.Method != http.MethodGet && r.URL.Path != "/data/read" {
			alone.Lock()
			defer alone.Unlock()
			m.now()
		}
		serve(w, r)
	})
	return m, &dataDir{d.t, &maastest.Server{URL: front}, d.client, d.dir, d.rnd}
}

// from now on looks at each moment, up to the first where something is wrong.
func (m *moments) from(check func(*remotefile.Listing)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.check = check
}

// now looks at this moment.
func (m *moments) now() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.check == nil || m.t.Failed() {
		return
	}
	m.number++
	if l, err := remotefile.List(context.Background(), m.client, "node"); assert.NoError(m.t, err) {
		m.check(l)
	}
}

// end looks for the last time, and says when something was wrong.
func (m *moments) end() {
	m.now()
	m.from(nil)
	m.t.Logf("%d moments", m.number)
	require.False(m.t, m.t.Failed(), "at the last of these moments")
}

// late are the records of samples in the WBL that a take-over would have.
func (m *moments) late(l *remotefile.Listing) (list [][]byte) {
	plan, lost, err := planRestore(l.Files, true)
	if !assert.NoError(m.t, err) || !assert.Zero(m.t, lost, "files are lost") {
		return nil
	}
	for i, f := range plan[2] {
		b, err := readWhole(f, readsFrom(context.Background(), m.client))
		assert.NoError(m.t, err)
		if rest := b[validEndOf(bytes.NewReader(b)):]; i < len(plan[2])-1 {
			assert.Empty(m.t, bytes.Trim(rest, "\x00"), "%s is torn, and another one follows", f.Name())
		}
		b, err = withoutMarkers(b, filepath.Join(m.t.TempDir(), "tmp"), quiet())
		assert.NoError(m.t, err)
		list = append(list, recordsOf(m.t, b)...)
	}
	return list
}

// wants wants late samples, and, of the chunks of one writer, the first ones.
func (m *moments) wants(late [][]byte) func(*remotefile.Listing) {
	return func(l *remotefile.Listing) {
		assert.Subset(m.t, m.late(l), late, "late samples are missing")
		isOther := func(f *remotefile.File) bool { return f.Name().Kind != remotefile.Chunks }
		chunks := slices.DeleteFunc(slices.Clone(l.Files), isOther)
		for i, f := range chunks {
			assert.EqualValues(m.t, i+1, f.Name().Number, "a file of chunks is there, and not what was in front of it")
			assert.Equal(m.t, chunks[0].Epoch(), f.Epoch(), "%s is another writer's than the first chunks", f.Name())
		}
	}
}

// writeLate writes a WBL of some segments, with markers among its samples, and returns the records of samples. torn: a
// fragment of a record is behind them, whose rest never came.
func (d *dataDir) writeLate(segments int, torn bool) (late [][]byte) {
	var enc record.Encoder
	marker := enc.MmapMarkers([]record.RefMmapMarker{{Ref: 1, MmapRef: 1 << 33}}, nil)
	for i := range segments {
		at := int64(10 * i)
		a := enc.Samples([]record.RefSample{{Ref: 1, T: at, V: 1}, {Ref: 2, T: at, V: 2}}, nil)
		b := enc.Samples([]record.RefSample{{Ref: 1, T: at + 5, V: 3}}, nil)
		late = append(late, a, b)
		log := segmentOf(d.t, compression.None, a, marker, b)
		if torn && i == segments-1 {
			log = append(log[:ends(log)[2]:ends(log)[2]], 1, 0, 200)
		}
		d.write(wbl(i), log)
	}
	return late
}

// removeLate removes the first segments of the WBL.
func (d *dataDir) removeLate(segments int) {
	for i := range segments {
		d.remove(wbl(i))
	}
}

func wbl(number int) string { return fmt.Sprintf("wbl/%08d", number) }

// A standby that leads has other late samples in its WBL than the leader had in its own, byte for byte, and other
// chunks: it brings its own to remote memory. If it is killed meanwhile, the next one has everything; and its directory
// is not taken for one with another log.
func TestMoments__of_a_promotion(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	late := d.writeLate(3, true)
	d.writeChunks(3, 1)
	m := d.open()
	newStepper(d, m, mirrored).look()
	at, through := newMoments(d)
	s := through.elsewhere().follows()
	s.gets(segmentSize)
	require.NoError(t, m.Close())
	wants, led := at.wants(late), false
	at.from(func(l *remotefile.Listing) {
		wants(l)
		if led {
			relation, err := Compare(context.Background(), at.client, l, s.d.dir, false)
			assert.NoError(t, err)
			assert.Equal(t, memory.HasAll, relation, "the directory is not taken for one with another log")
		}
	})
	s.leads()
	at.mu.Lock()
	led = true
	at.mu.Unlock()
	_, last := s.Ends()
	s.d.mkdir("chunks_head")
	s.d.writeChunks(2, 2)
	s.d.append(wbl(last+1), 0) // Where the head continues.
	successor := newStepper(s.d, s.memory, mirrored)
	for range 3 {
		successor.look()
	}
	at.end()
	require.Len(t, s.d.contents(), 1+3+1)
	_, there := at.look()
	require.Len(t, there, 1+3+2, "what was the leader's goes in the end")
}

// What a head no longer needs goes bit by bit. At whatever moment that ends, the rest of the log is without a gap.
func TestMoments__of_a_truncation(t *testing.T) {
	d := newDataDir(t)
	d.segments(walZero)
	late := d.writeLate(12, false)
	at, through := newMoments(d)
	tail := newStepper(d, through.open())
	tail.look()
	at.from(at.wants(late[2*8:]))
	at.now()
	d.removeLate(8)
	tail.look()
	at.end()
	_, there := at.look()
	require.Len(t, there, 1+4)
}

// Late samples go to blocks while the server cannot be reached: some segments never get there. What did stays until
// the blocks are there.
func TestMoments__after_an_outage(t *testing.T) {
	for _, restarted := range []bool{false, true} {
		t.Run(fmt.Sprint("restarted ", restarted), func(t *testing.T) {
			d := newLog(t)
			late := d.writeLate(3, restarted)
			at, through := newMoments(d)
			holds := true
			m := through.open()
			tail := newStepper(d, m, heldWhile(&holds))
			tail.look()
			at.from(at.wants(late))
			at.now()
			d.truncate()
			d.removeLate(3)
			d.writeLate(8, false)
			d.removeLate(7)
			if restarted {
				require.NoError(t, m.Close())
				m = through.open()
				tail = newStepper(d, m, heldWhile(&holds))
			}
			for range 3 {
				tail.look()
			}
			at.end()
			require.NoError(t, m.Close())
			other := d.elsewhere()
			require.Zero(t, other.restore().Lost)
			require.Len(t, other.contents(), len(late)/2+5+2+2, "with empty segments in the gap")

			holds = false
			newStepper(d, d.open(), heldWhile(&holds)).look()
			_, there := at.look()
			require.Contains(t, there, remotefile.Name{Kind: remotefile.WBL, Number: 7})
			require.NotContains(t, there, remotefile.Name{Kind: remotefile.WBL, Number: 2})
		})
	}
}

// A take-over that has a snapshot has all chunks that it relies on, too, whatever becomes of them.
func TestMoments__of_a_snapshot(t *testing.T) {
	const files = 3
	other := chunkFile(1, 3, []byte{0, 1, 9})
	snapshot := "chunk_snapshot.000000.0000307200"
	for name, c := range map[string]struct {
		change  func(d *dataDir, s stepper)
		restart bool
		left    [2]int // Of chunks, and of the snapshot.
	}{
		"chunks are others at a start": {func(d *dataDir, _ stepper) { d.write("chunks_head/000003", other) }, true, [2]int{files, 2}},
		"chunks are replaced": {func(d *dataDir, _ stepper) {
			d.write("other", other)
			d.rename("other", "chunks_head/000003")
		}, false, [2]int{files, 2}},
		"all of it is gone":            {func(d *dataDir, _ stepper) { d.remove("chunks_head", snapshot) }, false, [2]int{}},
		"all of it is gone at a start": {func(d *dataDir, _ stepper) { d.remove("chunks_head", snapshot) }, true, [2]int{}},
		"the database cannot read its chunks": {func(d *dataDir, s stepper) {
			s.BeginTruncate(math.MaxUint32)
			d.remove("chunks_head/000002", "chunks_head/000003")
			s.EndTruncate()
		}, false, [2]int{1, 0}},
	} {
		t.Run(name, func(t *testing.T) {
			d := newDataDir(t)
			d.segments(walZero)
			d.writeChunks(files, 1)
			d.writeSnapshot(snapshot)
			at, through := newMoments(d)
			m := through.open()
			s := newStepper(d, m, mirrored)
			has := func(l *remotefile.Listing) [2]int {
				return [2]int{planned(t, l.Files, remotefile.Chunks), planned(t, l.Files, remotefile.Snapshot)}
			}
			s.look()
			at.from(func(l *remotefile.Listing) {
				if has := has(l); has[1] > 0 {
					assert.Equal(t, [2]int{files, 2}, has, "of chunks, and of the snapshot")
				}
			})
			at.now()
			c.change(d, s)
			if c.restart {
				require.NoError(t, m.Close())
				s = newStepper(d, through.open(), mirrored)
			}
			for range 3 {
				s.look()
			}
			at.end()
			require.Equal(t, c.left, has(&remotefile.Listing{Files: d.files()}))
			d.writeSnapshot("chunk_snapshot.000001.0000000000")
			s.look()
			require.Equal(t, [2]int{c.left[0], 2}, has(&remotefile.Listing{Files: d.files()}), "with the next shutdown")
		})
	}
}

// What was lost is copied again, and then the snapshot; a file after the other, of a directory that the database may
// not have read yet.
func TestAttach__a_snapshot_goes_with_chunks_that_the_server_lost(t *testing.T) {
	for _, lost := range [][]uint32{{2}, {3}, {1, 2, 3}} {
		d := newDataDir(t)
		d.segments(walZero)
		d.writeChunks(3, 1)
		d.writeSnapshot("chunk_snapshot.000000.0000307200")
		m := d.open()
		newStepper(d, m, mirrored).look()
		require.NoError(t, m.Close())
		for _, number := range lost {
			d.lose(remotefile.Name{Kind: remotefile.Chunks, Number: number})
		}
		s := newStepper(d, d.open(), mirrored)
		s.LimitChunks(func() (uint32, int64) { return 0, 0 })
		s.look()
		require.Zero(t, planned(t, d.files(), remotefile.Snapshot), lost)
		s.LimitChunks(func() (uint32, int64) { return 4, 0 })
		s.look()
		require.Equal(t, 3, planned(t, d.files(), remotefile.Chunks))
		require.Equal(t, 2, planned(t, d.files(), remotefile.Snapshot))
	}
}
