// SPDX-License-Identifier: Apache-2.0

// The maas command reads what this package writes.

package blocks

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// owned is the output of the maas command, which is written in C, about an owner.
type owned struct {
	Leader *struct {
		TTL float64 `json:"ttl_seconds"`
	} `json:"leader"`
	Epoch    uint64          `json:"epoch"`
	Takeover json.RawMessage `json:"takeover"`
	All      kind            `json:"all"`
	Kinds    map[string]kind `json:"kinds"`
}

// kind is what the files of a kind take.
type kind struct {
	Allocations float64 `json:"allocations"`
	Stored      float64 `json:"stored_bytes"`
	Allocated   float64 `json:"allocated_bytes"`
}

// status runs the command that was built together with the maasd of the test.
func status(t *testing.T, url, owner string) (o owned) {
	command := filepath.Join(filepath.Dir(maastest.Binary(t)), "../cmd/maas")
	if _, err := os.Stat(command); err != nil {
		t.Skipf("no maas command beside this maasd: %v", err)
	}
	out, err := exec.Command(command, "--url", url, "prometheus", "status", "--owner", owner, "--json").CombinedOutput()
	require.NoError(t, err, string(out))
	var all []owned
	require.NoError(t, json.Unmarshal(out, &all), string(out))
	require.Len(t, all, 1)
	return all[0]
}

func TestStatus__the_maas_command_reads_what_is_written_here(t *testing.T) {
	d := newDataDir(t, "--max-pool-size", "256MiB")
	d.size = 3 << 20
	a, b := d.birth(1000, 2000), d.birth(2000, 3000)
	n := d.startWith(a, b)
	n.quiet() // The metrics come behind it.
	written := map[remotefile.Kind]int64{}
	for _, f := range []struct {
		name remotefile.Name
		size int
		last bool
	}{
		{remotefile.Name{Kind: remotefile.Checkpoint, Number: 6}, 700_000, true},
		{remotefile.Name{Kind: remotefile.WAL, Number: 7}, 2_500_000, true},
		{remotefile.Name{Kind: remotefile.WAL, Number: 8}, 10, false},
		{remotefile.Name{Kind: remotefile.WBL, Number: 3}, 1000, false},
		{remotefile.Name{Kind: remotefile.Chunks, Number: 1 << 20}, 9_000_000, false},
	} {
		file := remotefile.New(n.Owner(), n.Arena().Epoch, f.name, false)
		if f.name.Kind == remotefile.WAL {
			file.SetMinTime(-3_000_000)
		}
		require.NoError(t, n.Write("write", f.size, func(ctx context.Context, c *memory.Conn) error {
			if err := file.Append(ctx, c, make([]byte, f.size)); err != nil || !f.last {
				return err
			}
			return file.Finish(ctx, c, f.name.Kind == remotefile.Checkpoint)
		}))
		written[f.name.Kind] += int64(f.size)
	}
	o := status(t, d.server.URL, n.Owner())
	require.NotNil(t, o.Leader)
	require.Equal(t, memory.SessionTTL.Seconds(), o.Leader.TTL)
	require.Equal(t, n.Arena().Epoch, o.Epoch)
	require.JSONEq(t, `{"log": "whole", "head_begin_ms": -3000000, "blocks": 2, "partial_blocks": 0,
		"blocks_begin_ms": 1000, "blocks_end_ms": 3000}`, string(o.Takeover))
	for kind, size := range written {
		require.EqualValues(t, size, o.Kinds[kind.String()].Stored, kind)
	}
	label, m := remotefile.Block.String(), n.Metrics()
	metric := func(of *prometheus.GaugeVec) float64 { return testutil.ToFloat64(of.WithLabelValues(label)) }
	require.Equal(t, kind{metric(m.Allocations), metric(m.StoredBytes), metric(m.AllocatedBytes)}, o.Kinds[label])
	require.Zero(t, o.Kinds["other"].Allocations)

	sum := 0.0
	for _, l := range maastest.Must(d.client.List(t.Context(), n.Owner()))(t) {
		sum += float64(l.ActualSize)
	}
	require.Equal(t, sum, o.All.Allocated)

	n.close()
	require.NoError(t, n.blocks[b].remote.parts[0].Free(t.Context(), d.client))
	o = status(t, d.server.URL, n.Owner())
	require.Nil(t, o.Leader)
	require.JSONEq(t, `{"log": "whole", "head_begin_ms": -3000000, "blocks": 1, "partial_blocks": 1,
		"blocks_begin_ms": 1000, "blocks_end_ms": 2000}`, string(o.Takeover))
}
