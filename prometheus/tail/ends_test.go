// SPDX-License-Identifier: Apache-2.0

package tail

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// Late samples whose file is deleted at once are there for a take-over as long as the log is held, and so are those
// that follow.
func TestTail__copies_a_log_to_its_end_even_when_it_is_gone(t *testing.T) {
	d := newDataDir(t)
	n := d.start(held, func(o *Options) { o.Interval = 50 * time.Millisecond })
	d.segments(walZero)
	d.append(wblZero, 0)
	sees := func(number int) {
		maastest.Eventually(t, "the tail has seen it", func() bool {
			return n.file(remotefile.Name{Kind: remotefile.WBL, Number: uint32(number)}) != nil
		})
	}
	sees(0)
	for i := range 3 {
		before := n.acked()
		d.append(fmt.Sprintf("wbl/%08d", i), 777)
		d.append(fmt.Sprintf("wbl/%08d", i+1), 0)
		d.remove(fmt.Sprintf("wbl/%08d", i))
		maastest.Eventually(t, "the tail has copied", func() bool { return n.acked() >= before+777 })
		sees(i + 1)
	}
	n.stop()

	other := d.elsewhere()
	require.Zero(t, other.restore().Lost)
	got := other.contents()
	for i := range 3 {
		require.Len(t, got[fmt.Sprintf("wbl/%08d", i)], 777)
	}
}
