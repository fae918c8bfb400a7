// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"runtime/pprof"
	"time"

	same "github.com/maas-memory/maas/prometheus/test/sameanswers"
)

// What a start costs once the head was compacted several times, and what blocks cost on their way there and
// back. Each start is a process of its own: its peak of memory is nobody else's.

// grown is when the head was compacted four times, at 3 h, 5 h, 7 h and 9 h, and its blocks once more.
const grown = 9*time.Hour + 20*time.Minute

// started is what one start measured of itself.
type started struct {
	CPU, Peak, Seconds float64 // Up to ready. Peak is resident memory, in bytes.

	// Of the time from then on until all blocks are back.
	ReturnCPU, ReturnPeak, ReturnSeconds float64
	Read                                 float64 // Bytes of blocks read from remote memory.
	Blocks                               float64 // Bytes of the blocks that are here.
}

// grow feeds a database through several compactions, and leaves its directory and its memory for starts.
func grow(store, server string, series int, seed uint64) (f figures) {
	c := newContestant(store, server, series, seed)
	c.open()
	c.growUp(&f, grown)
	c.close()
	f.Dir, f.Fed = c.dir, c.fed
	return f
}

// feedAndDie feeds a database, and leaves its directory and its memory as a kill does: nothing is closed.
func feedAndDie(store, server string, series int, seed uint64, head time.Duration) (f figures) {
	c := newContestant(store, server, series, seed)
	c.open()
	check(c.db.Feed(same.StepsIn(head)))
	c.settle()
	f.Dir, f.Fed = c.dir, same.StepsIn(head)
	return f
}

// growUp feeds so much, up to a compaction and a little more. After each it waits for the copies of blocks, as
// there are hours in between in real time.
func (c *contestant) growUp(f *figures, until time.Duration) {
	steps := same.StepsIn(until)
	spent := -c.cost(func() { c.generate(steps) })
	compacted := time.Duration(0)
	before := c.blockSizes()
	seen := map[string]bool{}
	for step := range steps {
		cost := c.cost(func() { check(c.db.Feed(step + 1)) })
		now := c.blockSizes()
		if maps.Equal(before, now) {
			spent += cost
			continue
		}
		compacted += cost
		spent += c.cost(c.settleBlocks)
		for name, size := range now {
			if !seen[name] {
				seen[name] = true
				f.addUploaded(c.level(name), size)
			}
		}
		before = now
	}
	spent += c.cost(c.settle)
	f.IngestCPU = float64(spent.Nanoseconds()) / float64(c.samples)
	f.AllCPU = (spent + compacted).Seconds()
	f.CompactCPU = compacted.Seconds()
	f.BlocksWritten = c.metric("prometheus_tsdb_maas_written_bytes_total", "block")
}

func (f *figures) addUploaded(level int, size float64) {
	for len(f.Levels) < level {
		f.Levels = append(f.Levels, 0)
	}
	f.Levels[level-1] += size
	f.Uploaded += size
}

// blockSizes are the bytes of each block in the data directory.
func (c *contestant) blockSizes() map[string]float64 {
	sizes := map[string]float64{}
	metas, err := filepath.Glob(filepath.Join(c.dir, "*", "meta.json"))
	check(err)
	for _, meta := range metas {
		dir := filepath.Dir(meta)
		for _, pattern := range []string{"*", "chunks/*"} {
			files, err := filepath.Glob(filepath.Join(dir, pattern))
			check(err)
			for _, name := range files {
				if info, err := os.Stat(name); err == nil && info.Mode().IsRegular() {
					sizes[filepath.Base(dir)] += float64(info.Size())
				}
			}
		}
	}
	return sizes
}

// level is how often what is in a block was compacted.
func (c *contestant) level(name string) int {
	b, err := os.ReadFile(filepath.Join(c.dir, name, "meta.json"))
	check(err)
	var meta struct{ Compaction struct{ Level int } }
	check(json.Unmarshal(b, &meta))
	return meta.Compaction.Level
}

// settleBlocks waits until remote memory has the blocks, too.
func (c *contestant) settleBlocks() {
	if c.maas == nil {
		return
	}
	time.Sleep(6 * time.Second) // It looks for blocks every five.
	for c.metric("prometheus_tsdb_maas_blocks_pending_bytes", "") > 0 {
		time.Sleep(time.Second)
	}
}

// start opens the database in a process of its own, waits until its blocks are back, and closes it.
func (c *contestant) start(profiles string) (s started) {
	stop := c.profiling(profiles)
	dropCaches()
	c.open()
	s.CPU, s.Peak, s.Seconds = cpu().Seconds(), peakMemory(), time.Since(c.opened).Seconds()
	stop()
	check(os.WriteFile("/proc/self/clear_refs", []byte("5"), 0)) // The peak begins anew.
	ready := time.Now()
	s.ReturnCPU = c.cost(func() {
		for c.maas != nil && c.maas.Returning() {
			time.Sleep(20 * time.Millisecond)
		}
	}).Seconds()
	s.ReturnPeak, s.ReturnSeconds = peakMemory(), time.Since(ready).Seconds()
	s.Read = c.metric("prometheus_tsdb_maas_read_bytes_total", "block")
	for _, size := range c.blockSizes() {
		s.Blocks += size
	}
	c.close()
	return s
}

func peakMemory() float64 { return float64(lines("/proc/self/status", "VmHWM:")) }

// profiling begins profiles of CPU and of allocations, if there is a directory for them.
func (c *contestant) profiling(dir string) (stop func()) {
	if dir == "" {
		return func() {}
	}
	name := filepath.Join(dir, c.store+"-"+filepath.Base(c.dir))
	profile, err := os.Create(name + ".cpu")
	check(err)
	check(pprof.StartCPUProfile(profile))
	return func() {
		pprof.StopCPUProfile()
		check(profile.Close())
		allocations, err := os.Create(name + ".allocs")
		check(err)
		check(pprof.Lookup("allocs").WriteTo(allocations, 0))
		check(allocations.Close())
	}
}
