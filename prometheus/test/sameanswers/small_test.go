// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
)

// CommitAll makes some commits, and then one pass.
func (c *child) CommitAll(commits Commits, _ *none) error {
	for i := commits.From; i < commits.To; i++ {
		if err := c.commit(i); err != nil {
			return err
		}
	}
	c.db.db.ForceHeadMMap()
	return nil
}

// A Prometheus with few series takes hours to fill the mapper's write buffer. Its chunks are nevertheless in remote
// memory after the pass that wrote them.
func TestMirror__the_chunks_of_few_series_do_not_wait_for_more(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	ours, err := startProcess(t, ChildConfig{
		Dir: t.TempDir(), URL: server.URL, Owner: "small", Fallback: true,
		Transport: maastest.Transport(), CacheSize: 2 << 20,
	})
	require.NoError(t, err)
	require.NoError(t, ours.Call("child.CommitAll", Commits{0, 300}, new(none)))
	maastest.Eventually(t, "the chunks are in remote memory", func() bool {
		return ours.metrics(t)["chunks_written_total"] >= 2*ingestSeries
	})
}
