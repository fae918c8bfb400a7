// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"context"
	"fmt"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// What is written to a log whose file is deleted at once, and what follows it, is there for a take-over as long as
// the log is held.
func TestTail__copies_a_log_to_its_end_even_when_it_is_gone(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "64MiB")
	d := newDataDir(t)
	m, err := connect(t, server.URL, d.dir, true)
	require.NoError(t, err)
	n := &node{Manager: m, tail: Start(m, Options{
		Dir: d.dir, Interval: 50 * time.Millisecond, Held: func() bool { return true }, Logger: slog.New(slog.DiscardHandler),
	})}
	d.append("wal/00000000", segmentSize)
	d.append("wbl/00000000", 0)
	maastest.Eventually(t, "the tail has seen both", func() bool {
		n.tail.mu.RLock()
		defer n.tail.mu.RUnlock()
		return n.tail.files[remotefile.Name{Kind: remotefile.WBL}] != nil
	})
	for i := range 3 {
		before := acked(n)
		d.append(fmt.Sprintf("wbl/%08d", i), 777)
		d.append(fmt.Sprintf("wbl/%08d", i+1), 0)
		d.remove(fmt.Sprintf("wbl/%08d", i))
		maastest.Eventually(t, "the tail has copied", func() bool { return acked(n) >= before+777 })
		maastest.Eventually(t, "the tail has seen the next", func() bool {
			n.tail.mu.RLock()
			defer n.tail.mu.RUnlock()
			return n.tail.files[remotefile.Name{Kind: remotefile.WBL, Number: uint32(i + 1)}] != nil
		})
	}
	n.stop(t)

	other := t.TempDir()
	m, err = connect(t, server.URL, other, true)
	require.NoError(t, err)
	defer m.Close()
	done, err := Restore(context.Background(), m, other, true, slog.New(slog.DiscardHandler))
	require.NoError(t, err)
	require.Zero(t, done.Lost)
	got := contents(t, other)
	for i := range 3 {
		require.Len(t, got[fmt.Sprintf("wbl/%08d", i)], 777)
	}
}
