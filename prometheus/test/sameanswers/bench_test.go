// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"log/slog"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/maasflag"
)

// The CPU time and the allocations of appends and compactions, in each mode and in stock. Much of our work is done by
// other goroutines, so cpu-ns/op counts the whole process, including the making of the load.

// inEachMode runs a benchmark with a database of each kind.
func inEachMode(b *testing.B, c Config, run func(b *testing.B, db *DB, registry *prometheus.Registry)) {
	for _, mode := range []string{"stock", "mirror", "remote"} {
		b.Run(mode, func(b *testing.B) {
			c, registry := c, prometheus.NewRegistry()
			c.Dir = b.TempDir()
			if mode != "stock" {
				server := maastest.Start(b, "--max-pool-size", "1GiB")
				attachment, err := maasflag.Attach(nil, &maasflag.Config{
					URL: server.URL, Owner: "bench", Fallback: mode == "mirror", Transport: "http", Restore: "auto", CacheSize: 64 << 20,
				}, c.Dir, false, slog.New(slog.DiscardHandler), registry)
				require.NoError(b, err)
				defer attachment.Detach()
				c.Edit = func(o *tsdb.Options) {
					o.NewHeadChunkStore = func(reg prometheus.Registerer, dir string, pool chunkenc.Pool, buffer, queue int) (tsdb.HeadChunkStore, error) {
						return attachment.Open(reg, dir, pool, buffer, queue)
					}
				}
			}
			db, err := Open(c)
			require.NoError(b, err)
			b.ReportAllocs()
			run(b, db, registry)
			require.NoError(b, db.Close())
		})
	}
}

func cpuTime(b *testing.B) time.Duration {
	var u syscall.Rusage
	require.NoError(b, syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// BenchmarkAppend: one operation is a scrape of all targets, with five thousand series. It includes upstream's round of
// each minute and, from the 720th scrape on, compactions.
func BenchmarkAppend(b *testing.B) {
	inEachMode(b, Config{Seed: 1, Series: 5000}, func(b *testing.B, db *DB, _ *prometheus.Registry) {
		before := cpuTime(b)
		b.ResetTimer()
		require.NoError(b, db.Feed(b.N))
		b.StopTimer()
		b.ReportMetric(float64(cpuTime(b)-before)/float64(b.N), "cpu-ns/op")
	})
}

// BenchmarkCompaction: one operation is a compaction of two hours of the head, with five thousand series, all of whose
// chunks the server has.
func BenchmarkCompaction(b *testing.B) {
	inEachMode(b, Config{Seed: 1, Series: 5000}, func(b *testing.B, db *DB, registry *prometheus.Registry) {
		spent := time.Duration(0)
		b.StopTimer()
		b.ResetTimer()
		for i := range b.N {
			// A head is compacted at the first round behind three hours, and keeps one.
			step := StepsIn(time.Duration(3+2*i)*time.Hour) + passesEvery
			require.NoError(b, db.Feed(step-1))
			settle(b, registry)
			blocks, before := len(db.db.Blocks()), cpuTime(b)
			b.StartTimer()
			require.NoError(b, db.Feed(step))
			b.StopTimer()
			spent += cpuTime(b) - before
			require.NotEqual(b, blocks, len(db.db.Blocks()), "nothing was compacted")
		}
		b.ReportMetric(float64(spent)/float64(b.N), "cpu-ns/op")
		b.ReportMetric(sumOf(b, registry, "cache_misses_total")/float64(b.N), "requests/op")
	})
}
