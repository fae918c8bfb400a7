// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

// Command bench measures a tsdb on remote memory beside a stock one. It belongs to scripts/bench,
// which runs it in a tree with the edited tsdb.
//
// Each figure comes from a process of its own, which is fed the same load in simulated time. In each
// pair the stock one runs first and last, so that the noise is in the table.
package main

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
)

func main() {
	var (
		server = flag.String("server", "", "URL of a maasd")
		series = flag.Int("series", 20000, "series of the load")
		pairs  = flag.Int("pairs", 7, "pairs to run")
		quick  = flag.Bool("quick", false, "a tenth of the series")
		seed   = flag.Uint64("seed", 1, "seed of the load")
		out    = flag.String("out", "", "file for the rows, as JSON")
		part   = flag.String("part", "head", "what to measure: head, starts or standby")
		store  = flag.String("contestant", "", "be this contestant, and print its figures")

		start   = flag.String("start", "", "be a start of this contestant, in this data directory")
		owner   = flag.String("owner", "", "of a start: the owner's name")
		fed     = flag.Int("fed", 0, "of a start: the steps in its head and blocks")
		profile = flag.String("profile", "", "directory for the profiles of starts up to ready, of CPU and of allocations")
	)
	flag.Parse()
	switch {
	case *store == "leader":
		lead(*server, *series, *seed, os.Stdin)
		return
	case *store == "standby":
		follow(*server, *owner, *start, *series, *seed, os.Stdin)
		return
	case *store != "" && *part == "standby":
		show(aDay(*server, *series, *seed))
		return
	case *start != "":
		c := contestant{store: *store, server: *server, owner: *owner, dir: *start, series: *series, seed: *seed, fed: *fed}
		show(c.start(*profile))
		return
	case *store != "" && *part == "starts":
		show(grow(*store, *server, *series, *seed))
		return
	case *store != "":
		show(contest(*store, *server, *series, *seed))
		return
	}
	if *server == "" || *out == "" {
		fmt.Fprintln(os.Stderr, "bench: -server is missing, the URL of a maasd, or -out, the file for the rows")
		os.Exit(2)
	}
	if *quick {
		*series /= 10
	}
	run := func(store string, figures any, arguments ...string) {
		cmd := exec.Command(os.Args[0], append([]string{"-contestant", store, "-part", *part, "-server", *server,
			"-series", fmt.Sprint(*series), "-seed", fmt.Sprint(*seed)}, arguments...)...)
		cmd.Stderr = os.Stderr
		b, err := cmd.Output()
		if err != nil {
			check(fmt.Errorf("%s: %w", cmd, err))
		}
		check(json.Unmarshal(b, figures))
	}
	runs := make([]pair, *pairs)
	for i := range runs {
		fmt.Fprintf(os.Stderr, "\r\033[Kprometheus: pair %d of %d", i+1, *pairs)
		p := &runs[i]
		run("stock", &p.stock)
		if *part == "standby" {
			liveAndDie(p, *server, *series, *seed)
			run("stock", &p.again)
			continue
		}
		if *part == "head" {
			run("pages", &p.pages)
		}
		run("mirror", &p.mirror)
		run("remote", &p.remote)
		run("stock", &p.again)
		if *part == "starts" {
			startAll(p, *server, func(store string, f *figures, dir string) (s started) {
				run(store, &s, "-start", dir, "-owner", filepath.Base(f.Dir), "-fed", fmt.Sprint(f.Fed), "-profile", *profile)
				return s
			})
		}
	}
	fmt.Fprint(os.Stderr, "\r\033[K")
	rows := map[string]func([]pair) []row{"head": headTable, "starts": startsTable, "standby": standbyTable}[*part](runs)
	for i := range rows {
		rows[i].Case = fmt.Sprintf("%d series, %s", *series, rows[i].Case)
		rows[i].Pairs = len(runs)
	}
	b, err := json.Marshal(map[string]any{"area": "prometheus", "rows": rows})
	check(err)
	check(os.WriteFile(*out, b, 0o666))
}

// show prints what a process measured of itself.
func show(figures any) { check(json.NewEncoder(os.Stdout).Encode(figures)) }

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// pair is one run of each contestant, and of the baseline once more.
type pair struct {
	stock, pages, mirror, remote, again figures

	follower life // Of the part standby, where mirror is the leader.
}

// row is a line of the table, as scripts/bench knows it.
type row struct {
	Case         string   `json:"case"`
	Unit         string   `json:"unit"`
	Ours         float64  `json:"ours"`
	Baseline     float64  `json:"baseline"`
	BaselineName string   `json:"baseline_name"`
	Ratio        float64  `json:"ratio"`
	AA           float64  `json:"aa"` // The baseline, the second time, through the first.
	Noise        float64  `json:"noise"`
	Bar          *float64 `json:"bar"`
	BarIs        string   `json:"bar_is"` // max or min.
	OK           *bool    `json:"ok"`
	Pairs        int      `json:"pairs"`
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}
