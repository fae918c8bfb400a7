// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

// Command bench measures a tsdb on remote memory beside a stock one. It belongs to scripts/bench,
// which runs it in a tree with the edited tsdb.
//
// With -contestant the program is one contestant, which is fed a load in simulated time and prints its
// figures as JSON: each figure comes from a process of its own.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"runtime"
	"slices"
)

func main() {
	var (
		server = flag.String("server", "", "URL of a maasd")
		series = flag.Int("series", 20000, "series of the load")
		seed   = flag.Uint64("seed", 1, "seed of the load")
		part   = flag.String("part", "head", "what to measure: head, starts, standby or death")
		head   = flag.Duration("head", 0, "of standby and death: how much simulated time is fed")
		store  = flag.String("contestant", "", "stock, pages, mirror, remote, leader or standby")

		start    = flag.String("start", "", "be a start of this contestant, in this data directory")
		owner    = flag.String("owner", "", "of a start: the owner's name")
		fed      = flag.Int("fed", 0, "of a start: the steps in its head and blocks")
		snapshot = flag.Bool("snapshot", false, "of a start: load a snapshot of the head, and end with one")
		profile  = flag.String("profile", "", "directory for the profiles of starts up to ready, of CPU and of allocations")
	)
	flag.Parse()
	switch {
	case *server == "" || *store == "":
		fmt.Fprintln(os.Stderr, "bench: -server is missing, the URL of a maasd, or -contestant")
		os.Exit(2)
	case *store == "leader":
		lead(*server, *series, *seed, *head, os.Stdin)
	case *store == "standby":
		follow(*server, *owner, *start, *series, *seed, os.Stdin)
	case *part == "standby":
		show(aDay(*server, *series, *seed, *head))
	case *start != "":
		c := contestant{store: *store, server: *server, owner: *owner, dir: *start, series: *series, seed: *seed, fed: *fed, snapshot: *snapshot}
		show(c.start(*profile))
	case *part == "death":
		show(feedAndDie(*store, *server, *series, *seed, *head))
	case *part == "starts":
		show(grow(*store, *server, *series, *seed))
	default:
		show(contest(*store, *server, *series, *seed))
	}
}

// show prints what a process measured of itself.
func show(figures any) { check(json.NewEncoder(os.Stdout).Encode(figures)) }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// quantile sorts the values.
func quantile(values []float64, q float64) float64 {
	slices.Sort(values)
	return values[int(float64(len(values))*q)]
}

// liveHeap is how many bytes are live after a collection.
func liveHeap() float64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return float64(m.HeapAlloc)
}
