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
		store  = flag.String("contestant", "", "be this contestant, and print its figures")
	)
	flag.Parse()
	if *store != "" {
		check(json.NewEncoder(os.Stdout).Encode(contest(*store, *server, *series, *seed)))
		return
	}
	if *server == "" || *out == "" {
		fmt.Fprintln(os.Stderr, "bench: -server is missing, the URL of a maasd, or -out, the file for the rows")
		os.Exit(2)
	}
	if *quick {
		*series /= 10
	}
	var runs []pair
	for i := range *pairs {
		fmt.Fprintf(os.Stderr, "\r\033[Kprometheus: pair %d of %d", i+1, *pairs)
		runs = append(runs, pair{
			stock:  run("stock", *server, *series, *seed),
			pages:  run("pages", *server, *series, *seed),
			mirror: run("mirror", *server, *series, *seed),
			remote: run("remote", *server, *series, *seed),
			again:  run("stock", *server, *series, *seed),
		})
	}
	fmt.Fprint(os.Stderr, "\r\033[K")
	b, err := json.Marshal(map[string]any{"area": "prometheus", "rows": table(runs, *series)})
	check(err)
	check(os.WriteFile(*out, b, 0o666))
}

func check(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// pair is one run of each contestant, and of the baseline once more.
type pair struct{ stock, pages, mirror, remote, again figures }

// run runs a contestant in a process of its own.
func run(store, server string, series int, seed uint64) (f figures) {
	cmd := exec.Command(os.Args[0], "-contestant", store, "-server", server,
		"-series", fmt.Sprint(series), "-seed", fmt.Sprint(seed))
	cmd.Stderr = os.Stderr
	b, err := cmd.Output()
	if err != nil {
		check(fmt.Errorf("contestant %s: %w", store, err))
	}
	check(json.Unmarshal(b, &f))
	return f
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
