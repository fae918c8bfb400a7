// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package main

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/alecthomas/units"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/prometheus/tsdb"
	"github.com/prometheus/prometheus/tsdb/chunkenc"
	"github.com/prometheus/prometheus/tsdb/chunks"

	maas "github.com/maas-memory/maas/go"
	"github.com/maas-memory/maas/prometheus/maasflag"
	same "github.com/maas-memory/maas/prometheus/test/sameanswers"
)

// figures are what one contestant measured of itself.
type figures struct {
	IngestCPU  float64   // Nanoseconds per sample, without what it costs to make the load.
	ServerCPU  float64   // The memory server's, the same way.
	LogBytes   float64   // Of the log that went to the server, per sample.
	CompactCPU float64   // Seconds of the steps that wrote a block.
	Moved      float64   // Bytes read from remote memory in these.
	ChunkBytes float64   // Bytes of the head's chunk files at the peak.
	Resident   float64   // Bytes at the peak: anonymous, file-backed, and the chunk files' page cache.
	Heap       float64   // Bytes live after a collection, at the peak.
	Restart    float64   // Seconds from opening to ready, with nothing in page cache.
	TakeOver   float64   // Seconds from opening to ready on an empty directory.
	Lag        float64   // Seconds, the 99th percentile, of the log behind in real time.
	Asked      []string  // The queries.
	Queries    []float64 // Seconds, the median of five, at 200,000 series of one, with a warm cache.
	Cold       []float64 // Seconds, asked once each after a start with nothing in page cache.

	// Of the parts starts and death.
	Dir           string    // The data directory, which a start goes on with.
	Fed           int       // Steps in it.
	Uploaded      float64   // Bytes of all blocks that were ever there between two steps.
	Levels        []float64 // The same, of each level.
	BlocksWritten float64   // Bytes of blocks written to remote memory.

	// Of the part standby.
	AllCPU float64 // Seconds of all that was fed, compactions included.
	Disk   float64 // Bytes of log and chunks of the head.
}

// peak is when the head is largest: just before its first compaction.
const peak = 3*time.Hour - 5*time.Minute

// contest feeds a database and measures. What it is measured beside runs the same code.
func contest(store, server string, series int, seed uint64) (f figures) {
	c := newContestant(store, server, series, seed)
	defer os.RemoveAll(c.dir)
	c.open()

	made := c.cost(func() { c.generate(same.StepsIn(peak)) })
	served := c.serverCPU()
	fed := c.cost(func() {
		check(c.db.Feed(same.StepsIn(peak)))
		c.settle() // What is copied later is part of it.
	})
	samples := float64(c.samples)
	f.IngestCPU = float64((fed - made).Nanoseconds()) / samples
	f.ServerCPU = (c.serverCPU() - served) * 1e9 / samples
	f.LogBytes = c.metric("prometheus_tsdb_maas_wal_acknowledged_bytes_total", "") / samples

	for _, q := range same.Queries() {
		f.Asked = append(f.Asked, q.String())
	}
	f.Queries = c.ask(min(6, 2+80_000/series)) // Large heads take long to ask.
	f.ChunkBytes = float64(c.chunkBytes())
	f.Heap = liveHeap()
	f.Resident = float64(resident(filepath.Join(c.dir, "chunks_head")))

	f.Restart = c.restart()
	c.settle()
	dropCaches()
	f.Cold = c.ask(1)
	if c.maas != nil {
		f.TakeOver = c.takeOver()
		c.settle()
	}
	c.compact(&f)
	if c.maas != nil {
		f.Lag = c.lag()
	}
	remote := c.maas != nil
	c.close()
	if remote {
		c.free()
	}
	return f
}

type contestant struct {
	store, server, owner, dir string

	series int
	seed   uint64

	db       *same.DB
	node     *maasflag.Node
	maas     *maasflag.Attachment
	follow   bool
	snapshot bool // Of the head: loaded if there is one, written when it is closed.
	reg      *prometheus.Registry
	fed      int
	samples  int
	opened   time.Time
	stop     func()
}

// newContestant has a directory of its own.
func newContestant(store, server string, series int, seed uint64) *contestant {
	dir, err := os.MkdirTemp("", "bench-prometheus-")
	check(err)
	return &contestant{store: store, server: server, owner: filepath.Base(dir), dir: dir, series: series, seed: seed}
}

// open opens the database, and counts the time from here on.
func (c *contestant) open() {
	c.prepare()
	c.begin()
}

// prepare is what comes before begin.
func (c *contestant) prepare() {
	c.reg = prometheus.NewRegistry()
	c.stop = func() {}
	config := &maasflag.Config{}
	if c.store == "mirror" || c.store == "remote" {
		config = &maasflag.Config{
			URL: c.server, Fallback: c.store == "mirror", Owner: c.owner, Restore: "auto",
			Transport: "http", CacheSize: 64 * units.MiB, Follow: c.follow, FollowSettle: settleTime,
		}
	}
	c.node = maasflag.New(config, c.dir, slog.New(slog.DiscardHandler), c.reg)
}

// begin opens the database; a standby's is open when its leader is gone.
func (c *contestant) begin() {
	c.opened = time.Now()
	check(c.node.Open(nil, false, func(_ prometheus.Registerer, a *maasflag.Attachment) (err error) {
		c.maas = a
		c.db, err = same.Open(same.Config{Dir: c.dir, Seed: c.seed, Series: c.series, Fed: c.fed, SnapshotOnClose: c.snapshot, Edit: c.edit})
		return err
	}))
	c.node.Return(c.db.TSDB())
}

// edit puts the store in its place.
func (c *contestant) edit(o *tsdb.Options) {
	switch c.store {
	case "stock":
		return
	case "pages":
		o.NewHeadChunkStore, c.stop = droppingPages()
		return
	}
	o.NewHeadChunkStore = func(reg prometheus.Registerer, dir string, pool chunkenc.Pool, buffer, queue int) (tsdb.HeadChunkStore, error) {
		return c.maas.Open(reg, dir, pool, buffer, queue)
	}
	o.BlockCompactionExcludeFunc = func(*tsdb.BlockMeta) bool { return c.maas.Returning() }
	if log := c.maas.FollowedLog(); log != nil {
		o.FollowedLog = log
	}
}

// restart closes and opens the database, and returns how many seconds the latter took.
func (c *contestant) restart() float64 {
	c.close()
	dropCaches()
	c.open()
	return time.Since(c.opened).Seconds()
}

// takeOver destroys the data directory, as far as the next one knows, and goes on in an empty one.
func (c *contestant) takeOver() float64 {
	c.close()
	c.dir = filepath.Join(c.dir, "successor")
	check(os.Mkdir(c.dir, 0o777))
	c.open()
	return time.Since(c.opened).Seconds()
}

func (c *contestant) close() {
	check(c.db.Close())
	c.node.Close()
	c.maas = nil
	c.stop()
}

// free gives back what the server still holds of this contestant: the next one needs the room.
func (c *contestant) free() {
	ctx := context.Background()
	client, err := maas.Open(ctx, maas.Options{URL: c.server, Transport: "http"})
	check(err)
	defer client.Close()
	allocations, err := client.List(ctx, c.owner)
	check(err)
	var ids []string
	for _, a := range allocations {
		ids = append(ids, a.ID)
	}
	_, _, err = client.Free(ctx, ids...)
	check(err)
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

// settle waits until remote memory has what it is to have: nothing new has gone up for a while.
func (c *contestant) settle() {
	if c.maas == nil {
		return
	}
	const written = "prometheus_tsdb_maas_written_bytes_total"
	for before := -1.0; c.metric(written, "") != before || c.metric("prometheus_tsdb_maas_up", "") == 0; {
		before = c.metric(written, "")
		time.Sleep(2 * time.Second)
	}
}

// serverCPU is the CPU time that the memory server has used, in seconds.
func (c *contestant) serverCPU() float64 {
	if c.maas == nil {
		return 0
	}
	response, err := http.Get(c.server + "/metrics")
	check(err)
	defer response.Body.Close()
	b, err := io.ReadAll(response.Body)
	check(err)
	for line := range strings.Lines(string(b)) {
		if value, ok := strings.CutPrefix(line, "process_cpu_seconds_total "); ok {
			seconds, err := strconv.ParseFloat(strings.TrimSpace(value), 64)
			check(err)
			return seconds
		}
	}
	check(fmt.Errorf("%s/metrics has no process_cpu_seconds_total", c.server))
	return 0
}

// lag feeds in real time, all that is scraped in an interval at once, and looks at how far the log in
// remote memory is behind.
func (c *contestant) lag() float64 {
	const steps, looks = 4, 50 * time.Millisecond
	var lags []float64
	for range steps {
		c.fed++
		fed := make(chan error, 1)
		go func() { fed <- c.db.Feed(c.fed) }()
		for end := time.Now().Add(same.Interval); time.Now().Before(end); time.Sleep(looks) {
			lags = append(lags, c.metric("prometheus_tsdb_maas_wal_lag_seconds", ""))
		}
		check(<-fed)
	}
	return quantile(lags, 0.99)
}

// ask asks each query some times, and returns the medians without the first one where there are more.
func (c *contestant) ask(times int) (seconds []float64) {
	for _, q := range same.Queries() {
		var took []float64
		for range times {
			start := time.Now()
			answers, err := c.db.Answers([]same.Query{q})
			check(err)
			if answers[0].Err != "" {
				check(fmt.Errorf("%s: %s", q, answers[0].Err))
			}
			took = append(took, time.Since(start).Seconds())
		}
		seconds = append(seconds, quantile(took[min(1, times-1):], 0.5))
	}
	return seconds
}

func (c *contestant) chunkBytes() (sum int64) {
	if c.store == "remote" {
		return int64(c.metric("prometheus_tsdb_maas_stored_bytes", "chunks_head"))
	}
	files, _ := filepath.Glob(filepath.Join(c.dir, "chunks_head", "*"))
	for _, name := range files {
		sum += allocated(name) // They are made long with holes.
	}
	return sum
}

// allocated is what a file takes on disk; 0 where there is none.
func allocated(name string) int64 {
	info, err := os.Stat(name)
	if err != nil {
		return 0
	}
	return info.Sys().(*syscall.Stat_t).Blocks * 512
}

// compact feeds on until a block is written.
func (c *contestant) compact(f *figures) {
	blocks := len(c.blockSizes())
	for len(c.blockSizes()) == blocks {
		c.fed++
		moved := c.metric("prometheus_tsdb_maas_read_bytes_total", "")
		spent := c.cost(func() { check(c.db.Feed(c.fed)) })
		if len(c.blockSizes()) != blocks {
			f.CompactCPU = spent.Seconds()
			f.Moved = c.metric("prometheus_tsdb_maas_read_bytes_total", "") - moved
		}
	}
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
