// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package main

import (
	"bufio"
	"io"
	"os"
	"path/filepath"
	"time"
)

// What a standby costs, and how soon it is ready. A leader is fed a day or so, in simulated time, while another process
// follows it; then a minute in real time; then it is killed. Each of the two answers a line with one of JSON.

// settleTime is how long a standby waits to truncate. A day takes minutes here.
const settleTime = 2 * time.Second

// life is what a leader, or a standby, measured of itself.
type life struct {
	Dir, Owner string
	CPU        float64 // Seconds since it had caught up.
	Heap, Disk float64 // Bytes: live after a collection; of log and chunks of the head.
	Behind     float64 // Seconds, the 99th percentile, while the leader was fed in real time.
	Ready      int64   // When the standby was, in nanoseconds since 1970.
	Peak       float64 // Of resident memory, in bytes, up to then.
}

// live feeds a database, and measures.
func (c *contestant) live(f *figures, head time.Duration) {
	c.growUp(f, head)
	l := c.life()
	f.Heap, f.Disk = l.Heap, l.Disk
}

func (c *contestant) life() (l life) {
	l.Heap = liveHeap()
	for _, name := range []string{"wal", "wbl", "chunks_head"} {
		check(filepath.WalkDir(filepath.Join(c.dir, name), func(path string, d os.DirEntry, err error) error {
			if err == nil && d.Type().IsRegular() {
				l.Disk += float64(allocated(path))
			}
			return nil // It may be deleted meanwhile.
		}))
	}
	return l
}

// aDay is the stock one's.
func aDay(server string, series int, seed uint64, head time.Duration) (f figures) {
	c := newContestant("stock", server, series, seed)
	defer os.RemoveAll(c.dir)
	c.open()
	c.live(&f, head)
	c.lag()
	f.Heap = c.life().Heap // As the leader's.
	c.close()
	return f
}

// lead is a leader: it waits for its standby, is fed its head, then a minute in real time, and then waits for its end.
func lead(server string, series int, seed uint64, head time.Duration, told io.Reader) {
	c := newContestant("mirror", server, series, seed)
	c.follow = true
	c.open()
	check(c.db.Feed(1)) // Of an empty log, there is nothing to follow.
	c.settle()
	lines := bufio.NewScanner(told)
	show(life{Dir: c.dir, Owner: c.owner})
	lines.Scan()
	var f figures
	c.live(&f, head)
	show(f)
	lines.Scan()
	c.lag()
	show(c.life())
	lines.Scan()
}

// follow is a standby. Each line that it is told makes it say what it is like; in the end it says when it was ready.
func follow(server, owner, dir string, series int, seed uint64, told io.Reader) {
	c := contestant{store: "mirror", server: server, owner: owner, dir: dir, series: series, seed: seed, follow: true}
	c.prepare()
	opened := make(chan life)
	go func() {
		c.begin()
		opened <- life{Ready: time.Now().UnixNano(), Peak: peakMemory()}
	}()
	for c.metric(behindSeconds, "") > 1 || c.metric("prometheus_tsdb_maas_following", "") == 0 {
		time.Sleep(100 * time.Millisecond)
	}
	begun := cpu()
	show(life{})
	asked := make(chan struct{})
	go func() {
		for lines := bufio.NewScanner(told); lines.Scan(); {
			asked <- struct{}{}
		}
	}()
	var behind []float64
	for {
		select {
		case l := <-opened:
			show(l)
			c.close()
			return
		case <-asked:
			l := c.life()
			l.CPU = (cpu() - begun).Seconds()
			if len(behind) > 0 {
				l.Behind = quantile(behind, 0.99)
			}
			behind = nil
			show(l)
		case <-time.After(50 * time.Millisecond):
			behind = append(behind, c.metric(behindSeconds, ""))
		}
	}
}

const behindSeconds = "prometheus_tsdb_maas_behind_seconds"
