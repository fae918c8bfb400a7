// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package main

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	maasflag "maas/client/prometheus/flags"
	same "maas/client/prometheus/sameanswers"
)

const mib = 1 << 20

// figures are what one contestant measured of itself.
type figures struct {
	IngestCPU  float64   // Nanoseconds per sample, without what it costs to make the load.
	CompactCPU float64   // Seconds of the steps that wrote a block.
	Moved      float64   // Bytes read from remote memory in these.
	ChunkBytes float64   // Bytes of the head's chunk files at the peak.
	Resident   float64   // Bytes at the peak: anonymous, file-backed, and the chunk files' page cache.
	Heap       float64   // Bytes live after a collection, at the peak.
	Restart    float64   // Seconds from opening to ready.
	Queries    []float64 // Seconds, the median of five, with a warm cache.
}

// peak is when the head is largest: just before its first compaction.
const peak = 3*time.Hour - 5*time.Minute

// contest feeds a database and measures. What it is measured beside runs the same code.
func contest(store, server string, series int, seed uint64) (f figures) {
	dir, err := os.MkdirTemp("", "bench-prometheus-")
	check(err)
	defer os.RemoveAll(dir)
	c := contestant{store: store, server: server, dir: dir, series: series, seed: seed}
	c.open()

	made := c.cost(func() { c.generate(same.StepsIn(peak)) })
	fed := c.cost(func() { check(c.db.Feed(same.StepsIn(peak))) })
	f.IngestCPU = float64((fed - made).Nanoseconds()) / float64(c.samples)
	c.settle()

	f.Queries = c.ask()
	f.ChunkBytes = float64(c.chunkBytes())
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	f.Heap = float64(m.HeapAlloc)
	f.Resident = float64(resident(filepath.Join(dir, "chunks_head")))

	c.close()
	dropCaches()
	c.open()
	f.Restart = time.Since(c.opened).Seconds()
	c.compact(&f)
	c.close()
	return f
}

type contestant struct {
	store, server, dir string
	series             int
	seed               uint64

	db      *same.DB
	maas    *maasflag.Attachment
	reg     *prometheus.Registry
	fed     int
	samples int
	opened  time.Time
	stop    func()
}

// open opens the database, and counts the time from here on.
func (c *contestant) open() {
	c.reg = prometheus.NewRegistry()
	c.stop = func() {}
	config := same.Config{Dir: c.dir, Seed: c.seed, Series: c.series, Fed: c.fed}
	var err error
	c.opened = time.Now()
	switch c.store {
	case "stock":
	case "pages":
		config.Edit = func(o *tsdb.Options) { o.NewHeadChunkStore, c.stop = droppingPages() }
	default:
		c.maas, err = maasflag.Attach(&maasflag.Config{
			URL: c.server, Fallback: c.store == "mirror", Owner: "bench-" + filepath.Base(c.dir), Restore: "auto",
			Transport: "http", CacheSize: 64 * units.MiB,
		}, c.dir, false, slog.New(slog.DiscardHandler), c.reg)
		check(err)
		config.Edit = func(o *tsdb.Options) {
			o.NewHeadChunkStore = func(reg prometheus.Registerer, dir string, pool chunkenc.Pool, buffer, queue int) (tsdb.HeadChunkStore, error) {
				return c.maas.Open(reg, dir, pool, buffer, queue)
			}
		}
	}
	c.db, err = same.Open(config)
	check(err)
}

func (c *contestant) close() {
	check(c.db.Close())
	c.maas.Detach()
	c.maas = nil
	c.stop()
}

// dropCaches makes the next start read from disk, where this process may.
func dropCaches() {
	syscall.Sync()
	_ = os.WriteFile("/proc/sys/vm/drop_caches", []byte("1"), 0)
}

// cost is the CPU time of this process that something takes.
func (c *contestant) cost(what func()) time.Duration {
	before := cpu()
	what()
	return cpu() - before
}

func cpu() time.Duration {
	var u syscall.Rusage
	check(syscall.Getrusage(syscall.RUSAGE_SELF, &u))
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// generate makes the load and throws it away.
func (c *contestant) generate(steps int) {
	load := same.NewLoad(c.seed, c.series)
	c.samples = 0
	for step := range steps {
		for target := range load.Targets() {
			check(load.Scrape(step, target, func(same.Sample) error { c.samples++; return nil }))
		}
	}
	c.fed = steps
}

// settle waits until remote memory has what it is to have.
func (c *contestant) settle() {
	if c.maas != nil {
		time.Sleep(3 * time.Second)
	}
}

func (c *contestant) ask() (seconds []float64) {
	for _, q := range same.Queries() {
		var times []float64
		for range 6 {
			start := time.Now()
			answers, err := c.db.Answers([]same.Query{q})
			check(err)
			if answers[0].Err != "" {
				check(fmt.Errorf("%s: %s", q, answers[0].Err))
			}
			times = append(times, time.Since(start).Seconds())
		}
		seconds = append(seconds, median(times[1:]))
	}
	return seconds
}

func (c *contestant) chunkBytes() (sum int64) {
	if c.store == "remote" {
		return int64(c.metric("prometheus_tsdb_maas_stored_bytes", "chunks_head"))
	}
	files, _ := filepath.Glob(filepath.Join(c.dir, "chunks_head", "*"))
	for _, name := range files {
		info, err := os.Stat(name)
		check(err)
		sum += info.Sys().(*syscall.Stat_t).Blocks * 512 // They are made long with holes.
	}
	return sum
}

// compact feeds on until a block is written.
func (c *contestant) compact(f *figures) {
	blocks := c.blocks()
	for c.blocks() == blocks {
		c.fed++
		moved := c.metric("prometheus_tsdb_maas_read_bytes_total", "")
		spent := c.cost(func() { check(c.db.Feed(c.fed)) })
		if c.blocks() != blocks {
			f.CompactCPU = spent.Seconds()
			f.Moved = c.metric("prometheus_tsdb_maas_read_bytes_total", "") - moved
		}
	}
}

func (c *contestant) blocks() int {
	dirs, err := filepath.Glob(filepath.Join(c.dir, "*", "meta.json"))
	check(err)
	return len(dirs)
}

// metric is the sum of a metric's series, or the one with this value of its label.
func (c *contestant) metric(name, label string) (sum float64) {
	families, err := c.reg.Gather()
	check(err)
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if label == "" || m.GetLabel()[0].GetValue() == label {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

// droppingPages is the stock store, whose pages are dropped as in mirror mode: what that saves by
// itself, without a server.
func droppingPages() (tsdb.HeadChunkStoreOpener, func()) {
	stop, done := make(chan struct{}), make(chan struct{})
	open := func(reg prometheus.Registerer, dir string, pool chunkenc.Pool, buffer, queue int) (tsdb.HeadChunkStore, error) {
		m, err := chunks.NewChunkDiskMapper(reg, dir, pool, buffer, queue)
		if err != nil {
			return nil, err
		}
		go func() {
			defer close(done)
			for {
				select {
				case <-stop:
					return
				case <-time.After(time.Second):
				}
				for number := 1; number < 100; number++ {
					_ = m.DropPages(number, chunks.MaxHeadChunkFileSize) // Where there is none, nothing happens.
				}
			}
		}()
		return m, nil
	}
	return open, func() {
		close(stop)
		<-done
	}
}
