// SPDX-License-Identifier: Apache-2.0

// The maas command reads what this package writes.

package blocks

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"

	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/memory"
	"github.com/maas-memory/maas/prometheus/remotefile"
)

// owned is the output of the maas command, which is written in C, about an owner.
type owned struct {
	Leader *struct {
		TTL int64 `json:"ttl_seconds"`
	} `json:"leader"`
	Epoch    uint64 `json:"epoch"`
	Takeover struct {
		Log     string `json:"log"`
		Head    *int64 `json:"head_begin_ms"`
		Blocks  int    `json:"blocks"`
		Partial int    `json:"partial_blocks"`
		Begin   int64  `json:"blocks_begin_ms"`
		End     int64  `json:"blocks_end_ms"`
	} `json:"takeover"`
	All struct {
		Allocated int64 `json:"allocated_bytes"`
	} `json:"all"`
	Kinds map[string]struct {
		Files       int   `json:"files"`
		Allocations int   `json:"allocations"`
		Stored      int64 `json:"stored_bytes"`
		Allocated   int64 `json:"allocated_bytes"`
	} `json:"kinds"`
}

// status runs the command that was built together with the maasd of the test.
func status(t *testing.T, url, owner string) (o owned) {
	t.Helper()
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
	require.Equal(t, int64(memory.SessionTTL.Seconds()), o.Leader.TTL)
	require.Equal(t, n.Arena().Epoch, o.Epoch)
	require.Equal(t, "whole", o.Takeover.Log)
	require.Equal(t, int64(-3_000_000), *o.Takeover.Head)
	require.Equal(t, []int{2, 0}, []int{o.Takeover.Blocks, o.Takeover.Partial})
	require.Equal(t, []int64{1000, 3000}, []int64{o.Takeover.Begin, o.Takeover.End})
	for kind, size := range written {
		require.Equal(t, size, o.Kinds[kind.String()].Stored, kind)
	}
	blocks := o.Kinds[remotefile.Block.String()]
	label := remotefile.Block.String()
	require.Equal(t, testutil.ToFloat64(n.Metrics().StoredBytes.WithLabelValues(label)), float64(blocks.Stored))
	require.Equal(t, testutil.ToFloat64(n.Metrics().AllocatedBytes.WithLabelValues(label)), float64(blocks.Allocated))
	require.Equal(t, testutil.ToFloat64(n.Metrics().Allocations.WithLabelValues(label)), float64(blocks.Allocations))
	require.Zero(t, o.Kinds["other"].Allocations)

	c, err := maas.Open(t.Context(), maas.Options{URL: d.server.URL, Transport: "http"})
	require.NoError(t, err)
	defer c.Close()
	lent, err := c.List(t.Context(), n.Owner())
	require.NoError(t, err)
	var sum int64
	for _, l := range lent {
		sum += l.ActualSize
	}
	require.Equal(t, sum, o.All.Allocated)

	n.close()
	l, err := remotefile.List(t.Context(), c, n.Owner())
	require.NoError(t, err)
	i := slices.IndexFunc(l.Files, func(f *remotefile.File) bool { return f.Name().Kind == remotefile.Block })
	require.NoError(t, l.Files[i].Free(t.Context(), c))
	o = status(t, d.server.URL, n.Owner())
	require.Nil(t, o.Leader)
	require.Equal(t, []int{1, 1}, []int{o.Takeover.Blocks, o.Takeover.Partial})
}
