// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package sameanswers

import (
	"log/slog"
	"runtime"
	"runtime/debug"
	"syscall"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"

	"github.com/maas-memory/maas/go/maastest"
	"github.com/maas-memory/maas/prometheus/maasflag"
)

// The CPU time and the allocations of appends and compactions, in each mode and in stock. Much of our work is done by
// other goroutines, so cpu-ns/op counts the whole process, including the making of the load.

var modes = []string{"stock", "mirror", "remote"}

// openIn opens a database of a mode.
func openIn(t testing.TB, mode string, c Config) (*DB, *prometheus.Registry) {
	t.Helper()
	registry := prometheus.NewRegistry()
	c.Dir = t.TempDir()
	if mode != "stock" {
		server := maastest.Start(t, "--max-pool-size", "1GiB")
		attachment, err := maasflag.Attach(nil, &maasflag.Config{
			URL: server.URL, Owner: "bench", Fallback: mode == "mirror", Transport: "http", Restore: "auto", CacheSize: 64 << 20,
		}, c.Dir, false, slog.New(slog.DiscardHandler), registry)
		require.NoError(t, err)
		t.Cleanup(func() { attachment.Detach() })
		c.Edit = func(o *tsdb.Options) {
			o.NewHeadChunkStore = func(reg prometheus.Registerer, dir string, pool chunkenc.Pool, buffer, queue int) (tsdb.HeadChunkStore, error) {
				return attachment.Open(reg, dir, pool, buffer, queue)
			}
		}
	}
	db, err := Open(c)
	require.NoError(t, err)
	return db, registry
}

// inEachMode runs a benchmark with a database of each kind.
func inEachMode(b *testing.B, c Config, run func(b *testing.B, db *DB, registry *prometheus.Registry)) {
	for _, mode := range modes {
		b.Run(mode, func(b *testing.B) {
			db, registry := openIn(b, mode, c)
			b.ReportAllocs()
			run(b, db, registry)
			require.NoError(b, db.Close())
		})
	}
}

// TestAppendAllocates holds what an appended sample allocates beside the stock database's, with all that other
// goroutines do to copy it: the log is looked at five times a second, however much was appended. The bars of bytes
// are what was reached, and a tenth: net/http takes 32 KiB for a request of more than 64 KiB, and in remote mode
// chunks that were not sent yet lie in buffers instead of a file.
func TestAppendAllocates(t *testing.T) {
	const series, looksPerSecond, allocationsPerLook = 5000, 5, 1000
	byteBars := map[string]float64{"stock": 1, "mirror": 1.15, "remote": 1.30}
	// From when the large histograms have ended until before they come again; the head is not compacted.
	from, to := StepsIn(15*time.Minute), StepsIn(75*time.Minute)
	samples := float64((to - from) * series)
	var stock runtime.MemStats
	for _, mode := range modes {
		db, _ := openIn(t, mode, Config{Seed: 1, Series: series})
		require.NoError(t, db.Feed(from))
		gc := debug.SetGCPercent(-1) // A collection empties the pools of buffers.
		var before, spent runtime.MemStats
		runtime.ReadMemStats(&before)
		began := time.Now()
		require.NoError(t, db.Feed(to))
		looks := time.Since(began).Seconds() * looksPerSecond
		runtime.ReadMemStats(&spent)
		debug.SetGCPercent(gc)
		require.NoError(t, db.Close())
		spent.Mallocs -= before.Mallocs
		spent.TotalAlloc -= before.TotalAlloc
		if mode == "stock" {
			stock = spent
		}
		allocations, bytes := float64(spent.Mallocs)/float64(stock.Mallocs), float64(spent.TotalAlloc)/float64(stock.TotalAlloc)
		t.Logf("%s: %.3f allocations and %.1f bytes for each sample, %.3f and %.3f of stock", mode,
			float64(spent.Mallocs)/samples, float64(spent.TotalAlloc)/samples, allocations, bytes)
		assert.LessOrEqual(t, allocations, 1.01+looks*allocationsPerLook/float64(stock.Mallocs), "allocations, %s", mode)
		assert.LessOrEqual(t, bytes, byteBars[mode], "bytes, %s", mode)
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
