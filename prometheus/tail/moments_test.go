// SPDX-License-Identifier: Apache-2.0

// A process may be killed between any two requests: what remote memory holds then has to do for a take-over.

package tail

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/util/compression"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// moments stands between a process and its server, and looks at the server before each request that may change
// something there.
type moments struct {
	looker

	mu     sync.Mutex
	check  func(*remotefile.Listing) error // Nil: not now.
	number int                             // Of looks.
	wrong  error                           // The first.
}

// newMoments returns the directory with the server behind it.
func newMoments(d *dataDir) (m *moments, through *dataDir) {
	m = &moments{looker: newLooker(d)}
	var alone sync.Mutex // No look while a request may change what it sees.
	front := maastest.Proxy(d.t, d.server.URL, func(w http.ResponseWriter, r *http.Request, serve http.HandlerFunc) {
		if r.Method != http.MethodGet && r.URL.Path != "/data/read" {
			alone.Lock()
			defer alone.Unlock()
			m.now()
		}
		serve(w, r)
	})
	return m, &dataDir{t: d.t, server: &maastest.Server{URL: front}, dir: d.dir, rnd: d.rnd}
}

// from now on looks at each moment.
func (m *moments) from(check func(*remotefile.Listing) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.check = check
}

// now looks at this moment.
func (m *moments) now() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.check == nil || m.wrong != nil {
		return
	}
	l, err := remotefile.List(context.Background(), m.c, "node")
	if err == nil {
		err = m.check(l)
	}
	m.number++
	if err != nil {
		m.wrong = fmt.Errorf("at moment %d: %w", m.number, err)
	}
}

// end looks for the last time, and says what was wrong.
func (m *moments) end() {
	m.t.Helper()
	m.now()
	m.from(nil)
	require.NoError(m.t, m.wrong)
	m.t.Logf("%d moments", m.number)
}

// late are the records of samples in the WBL that a take-over would have.
func (m *moments) late(l *remotefile.Listing) (list [][]byte, err error) {
	plan, lost, err := planRestore(l.Files, true)
	if err == nil && lost > 0 {
		err = fmt.Errorf("%d files are lost", lost)
	}
	if err != nil {
		return nil, err
	}
	for i, f := range plan[2] {
		b, err := readWhole(context.Background(), m.c, f)
		if err != nil {
			return nil, err
		}
		if rest := b[validEndOf(bytes.NewReader(b)):]; i < len(plan[2])-1 && len(bytes.Trim(rest, "\x00")) > 0 {
			return nil, fmt.Errorf("%s is torn, and another one follows", f.Name())
		}
		if b, err = withoutMarkers(b, filepath.Join(m.t.TempDir(), "tmp"), quiet()); err != nil {
			return nil, err
		}
		list = append(list, recordsOf(m.t, b)...)
	}
	return list, nil
}

// wants wants late samples, and, of the chunks of one writer, the first ones.
func (m *moments) wants(late [][]byte) func(*remotefile.Listing) error {
	return func(l *remotefile.Listing) error {
		got, err := m.late(l)
		if err != nil {
			return err
		}
		for i, r := range late {
			if !slices.ContainsFunc(got, func(g []byte) bool { return bytes.Equal(g, r) }) {
				return fmt.Errorf("record %d of late samples is missing", i)
			}
		}
		var first, previous *remotefile.File
		for _, f := range l.Files {
			switch number := f.Name().Number; {
			case f.Name().Kind != remotefile.Chunks:
				continue
			case first == nil && number == 1:
				first = f
			case first == nil || number != previous.Name().Number+1:
				return fmt.Errorf("%s is there, and not what was in front of it", f.Name())
			case f.Epoch() != first.Epoch():
				return fmt.Errorf("%s is another writer's than the first chunks", f.Name())
			}
			previous = f
		}
		return nil
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
	leader := newStepper(d, m, mirrored)
	leader.look()
	at, through := newMoments(d)
	s := through.elsewhere().follows()
	s.gets(segmentSize)
	require.NoError(t, m.Close())
	wants, led := at.wants(late), false
	at.from(func(l *remotefile.Listing) error {
		if err := wants(l); err != nil || !led {
			return err
		}
		relation, err := Compare(context.Background(), at.c, l, s.d.dir, false)
		if err == nil && relation != memory.HasAll {
			err = fmt.Errorf("the directory is taken for one whose log is another one (%d)", relation)
		}
		return err
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
	_, there := at.looker.look()
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
	for i := range 8 {
		d.remove(wbl(i))
	}
	tail.look()
	at.end()
	_, there := at.looker.look()
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
			held := func(o *Options) { o.Held = func() bool { return holds } }
			m := through.open()
			tail := newStepper(d, m, held)
			tail.look()
			at.from(at.wants(late))
			at.now()
			d.truncate()
			for i := range 3 {
				d.remove(wbl(i))
			}
			d.writeLate(8, false)
			for i := range 7 {
				d.remove(wbl(i))
			}
			if restarted {
				require.NoError(t, m.Close())
				m = through.open()
				tail = newStepper(d, m, held)
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
			newStepper(d, d.open(), held).look()
			_, there := at.looker.look()
			require.Contains(t, there, remotefile.Name{Kind: remotefile.WBL, Number: 7})
			require.NotContains(t, there, remotefile.Name{Kind: remotefile.WBL, Number: 2})
		})
	}
}
