// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"encoding/binary"
	"hash/crc32"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/tsdb/record"
	"github.com/prometheus/prometheus/util/compression"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// Holes: a standby finds that a part of the log is missing, or is not what was written, and does not lead with it. It
// goes on by itself once the leader's head has left that part behind.

// goesOnBehindAHole: the leader's log, with correct checksums, lacks the records of series whose samples it has.
func goesOnBehindAHole(t *testing.T) {
	s := newTrial(t)
	s.leavesBehind(s.hole())
}

// neverLeadsWithAHole: the same, and the leader is gone.
func neverLeadsWithAHole(t *testing.T) {
	s := newTrial(t)
	s.neverLeads(s.hole())
}

// hole drops records from the log that a standby follows, and waits until the standby has noticed.
func (s *scene) hole() standby {
	s.t.Helper()
	s.inUse()
	f := s.follow()
	s.network.pullOut()
	path, size := s.newestSegment()
	s.feed(30 * time.Minute) // Some series are new.
	require.Positive(s.t, dropSeries(s.t, path, size), "records of series")
	s.network.plugIn()
	s.startsOver(f, "series")
	return f
}

// findsWrongBytes: bytes in remote memory change, and the leader dies. It comes back, and its own log is whole.
func findsWrongBytes(t *testing.T) {
	s := newTrial(t)
	s.inUse()
	s.flipInLog()
	f := s.begin(t.TempDir())
	s.startsOver(f, "damaged")
	s.neverLeads(f)
	s.start()
	s.leavesBehind(f)
}

// startsOver waits until a standby has started over twice, for this reason, and has still not caught up.
func (s *scene) startsOver(f standby, reason string) {
	s.t.Helper()
	maastest.Eventually(s.t, "the standby begins anew", func() bool {
		require.Empty(s.t, f.opened.Done, "it does not lead, nor end")
		return f.metrics(s.t)["following_restarts_total"] >= 2
	})
	require.Contains(s.t, f.log.String(), "reason="+reason)
}

// neverLeads: the standby starts over again and again, even when the name is free.
func (s *scene) neverLeads(f standby) {
	s.t.Helper()
	s.ours.kill()
	time.Sleep(lease + 3*time.Second)
	require.Empty(s.t, f.opened.Done, "it does not lead")
	var reason string
	require.NoError(s.t, f.Call("child.NotReady", none{}, &reason))
	require.NotEqual(s.t, "following, 0 s behind", reason)
}

// leavesBehind: once the leader's head and its log have left the hole behind, the standby follows, and leads.
func (s *scene) leavesBehind(f standby) {
	s.t.Helper()
	s.feed(7 * time.Hour)
	s.blocksAreThere()
	f.isFollowing(s.t)
	s.feedThrough(during)
	s.handOver(f, time.Second)
	s.blocksAreBack()
	s.sameSamples("after the hand-over")
}

// newestSegment is the last of the leader's WAL, and its size.
func (s *scene) newestSegment() (path string, size int64) {
	s.t.Helper()
	segments, err := filepath.Glob(filepath.Join(s.config.Dir, "wal", "[0-9]*"))
	require.NoError(s.t, err)
	path = slices.Max(segments)
	info, err := os.Stat(path)
	require.NoError(s.t, err)
	return path, info.Size()
}

// dropSeries turns each whole record of series behind an offset into a record that no reader knows. It returns how many.
func dropSeries(t *testing.T, path string, from int64) (dropped int) {
	t.Helper()
	const page, header, whole, compressed, unknown = 32 << 10, 7, 1, 1 << 3, 200
	log, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	defer log.Close()
	b, err := os.ReadFile(path)
	require.NoError(t, err)
	for at := 0; at+header <= len(b); {
		kind, size := b[at], header+int(binary.BigEndian.Uint16(b[at+1:]))
		if kind&7 == 0 { // The rest of the page.
			at += page - at%page
			continue
		}
		payload := b[at+header : at+size]
		if kind == whole|compressed && int64(at) >= from && isSeries(t, payload) {
			payload[0] = unknown
			b[at] = whole
			binary.BigEndian.PutUint32(b[at+3:], crc32.Checksum(payload, crc32.MakeTable(crc32.Castagnoli)))
			_, err := log.WriteAt(b[at:at+size], int64(at))
			require.NoError(t, err)
			dropped++
		}
		at += size
	}
	return dropped
}

func isSeries(t *testing.T, payload []byte) bool {
	content, err := compression.Decode(compression.Snappy, payload, compression.NewSyncDecodeBuffer())
	require.NoError(t, err)
	return record.Type(content[0]) == record.Series
}

// flipInLog changes some bytes in the middle of the WAL in remote memory.
func (s *scene) flipInLog() {
	s.t.Helper()
	c := s.stranger()
	listing, err := remotefile.List(context.Background(), c, s.config.Owner)
	require.NoError(s.t, err)
	for _, f := range listing.Files {
		if f.Name().Kind != remotefile.WAL || f.Len() < 1000 {
			continue
		}
		ranges, err := f.Ranges(nil, make([]byte, 16), f.Len()/2)
		require.NoError(s.t, err)
		require.NoError(s.t, c.WriteV(context.Background(), ranges))
		return
	}
	require.Fail(s.t, "no log")
}

// meetsAnotherVersion: remote memory has a file that a later version of Prometheus wrote. The standby says so, and does
// not lead before that file is gone.
func meetsAnotherVersion(t *testing.T) {
	s := newTrial(t)
	s.inUse()
	f := s.follow()
	ctx, c := context.Background(), s.stranger()
	list, err := c.List(ctx, s.config.Owner)
	require.NoError(t, err)
	head := make([]byte, remotefile.HeaderSize)
	require.NoError(t, c.Read(ctx, list[0].ID, 0, head))
	for slot := head; len(slot) > 0; slot = slot[remotefile.HeaderSize/2:] {
		slot[4]++ // The version; the checksum of all before it follows.
		binary.LittleEndian.PutUint32(slot[60:], crc32.Checksum(slot[:60], crc32.MakeTable(crc32.Castagnoli)))
	}
	later, err := c.Allocate(ctx, maas.AllocateOptions{Size: list[0].Size, Owner: s.config.Owner})
	require.NoError(t, err)
	require.NoError(t, c.Write(ctx, later[0].ID, 0, head))
	maastest.Eventually(t, "it says so", func() bool { return strings.Contains(f.log.String(), "header version 2, this program knows 1") })
	s.neverLeads(f)
	_, _, err = c.Free(ctx, later[0].ID)
	require.NoError(t, err)
	s.takesOver(f, lease)
	s.wholeFrom(start, "after what it does not know was freed")
}
