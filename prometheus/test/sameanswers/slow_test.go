// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/model/labels"

	"github.com/maas-memory/maas/go/maastest"
)

// Append gives forty series three hours and ten minutes of samples, as Answers expects them.
func (c *child) Append(none, *none) error {
	for step := range StepsIn(190 * time.Minute) {
		app := c.db.db.Appender(context.Background())
		for n := range 40 {
			series := labels.FromStrings(labels.MetricName, "appended", "n", fmt.Sprint(n))
			if _, err := app.Append(0, series, endOfStep(step), float64(step*n)/7); err != nil {
				return err
			}
		}
		if err := app.Commit(); err != nil {
			return err
		}
		c.db.fed = step + 1
	}
	c.db.db.ForceHeadMMap()
	return nil
}

// A server whose answers take longer than a query waits only slows a compaction down.
func TestRemote__a_slow_server_fails_queries_but_no_compaction(t *testing.T) {
	server := maastest.Start(t, "--max-pool-size", "256MiB")
	network := newNetwork(t, server.URL)
	ours, err := startProcess(t, ChildConfig{
		Dir: t.TempDir(), URL: network.url(), Owner: "slow", Transport: "http", CacheSize: 64 << 10,
	})
	require.NoError(t, err)
	require.NoError(t, ours.Call("child.Append", none{}, new(none)))
	maastest.Eventually(t, "the chunks are in remote memory", func() bool {
		m := ours.metrics(t)
		return m["chunks_written_total"] > 200 && m["dirty_bytes"] == 0
	})

	network.readsTake(1500 * time.Millisecond)
	read := ours.metrics(t)["read_bytes_total"]
	require.NoError(t, ours.Call("child.Compact", none{}, new(none)))
	m := ours.metrics(t)
	require.Greater(t, m["read_bytes_total"], read)
	require.Equal(t, 1.0, m["up"])
	require.Zero(t, m["operation_errors_total"])
	blocks, err := ours.Blocks()
	require.NoError(t, err)
	require.Len(t, blocks.Blocks, 1)

	answers, err := ours.Answers([]Query{{Expr: "sum(count_over_time(appended[50m]))"}})
	require.NoError(t, err)
	require.Regexp(t, clearWords, answers[0].Err)

	network.readsTake(0)
	maastest.Eventually(t, "the server is in use again", func() bool { return ours.metrics(t)["up"] == 1 })
	answers, err = ours.Answers([]Query{{Expr: "sum(count_over_time(appended[50m]))"}})
	require.NoError(t, err)
	require.Empty(t, answers[0].Err)
	require.Contains(t, string(answers[0].JSON), `"8000"`)
}
