// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/prometheus/headchunk"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

func TestAwaitLook__the_log_is_there_or_an_error_says_why(t *testing.T) {
	d := newDataDir(t)
	n := d.start()
	want := 0.0
	for _, name := range []string{walZero, walOne, wblZero} {
		d.segments(name)
		want += segmentSize
		arrived, err := n.tail.AwaitLook(t.Context(), n.tail.NextLook())
		require.NoError(t, err)
		require.True(t, arrived)
		require.Equal(t, want, n.acked())
	}

	ended, cancel := context.WithCancel(t.Context())
	cancel()
	arrived, err := n.tail.AwaitLook(ended, n.tail.NextLook()+1000)
	require.NoError(t, err)
	require.False(t, arrived)

	d.server.Kill()
	d.append(walOne, 1)
	_, err = n.tail.AwaitLook(t.Context(), n.tail.NextLook())
	require.Error(t, err)
	n.tail.Close()
	_, err = n.tail.AwaitLook(t.Context(), n.tail.NextLook())
	require.ErrorIs(t, err, errEnded)
	_ = n.Close() // Its server is gone.
}

// A chunk that is written while the tail is busy with the log waits for the next look.
func TestLimitChunks__nothing_behind_it_goes_up(t *testing.T) {
	d := newDataDir(t)
	d.append(walZero, 10)
	header := headchunk.FileHeader()
	b := header[:]
	var ends []int64
	for i := range 10 {
		b = headchunk.Append(b, headchunk.Record{Series: 1, Mint: int64(i), Maxt: int64(i + 1), Encoding: chunkenc.EncXOR, Data: make([]byte, 100)})
		ends = append(ends, int64(len(b)))
	}
	n := d.start(func(o *Options) { o.Chunks = true })
	tl := n.tail
	var limit atomic.Int64
	tl.LimitChunks(func() (uint32, int64) { return 2, limit.Load() })
	for _, name := range []string{"000001", "000002", "000003"} {
		path := d.path("chunks_head/" + name)
		require.NoError(t, os.WriteFile(path, append(b[:len(b):len(b)], make([]byte, 5000)...), 0o666))
		old := time.Now().Add(-time.Hour) // Unchanged since, so that only the limit keeps the end back.
		require.NoError(t, os.Chtimes(path, old, old))
	}
	length := func(number uint32) int64 {
		if f := n.file(remotefile.Name{Kind: remotefile.Chunks, Number: number}); f != nil {
			return f.Len()
		}
		return 0
	}
	for _, end := range []int64{0, ends[3], ends[9]} {
		limit.Store(end)
		for range 2 { // When the second look has the log, the first one has the chunks.
			_, err := tl.AwaitLook(t.Context(), tl.NextLook())
			require.NoError(t, err)
		}
		require.Equal(t, [3]int64{ends[9], end, 0}, [3]int64{length(1), length(2), length(3)})
	}
	n.stop()
}
