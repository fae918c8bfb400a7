// SPDX-License-Identifier: Apache-2.0

//go:build maas_edited

package main

import (
	"fmt"
	"math"

	same "github.com/maas-memory/maas/prometheus/test/sameanswers"
)

// measure is one kind of figure. Smaller is better; bar is the largest ratio that is good enough, 0
// where the row only informs.
type measure struct {
	name, unit string
	bar        float64
	of         func(figures) float64
}

var measures = []measure{
	{"CPU per ingested sample", "ns", 1.05, func(f figures) float64 { return f.IngestCPU }},
	{"CPU of compaction", "s", 1.15, func(f figures) float64 { return f.CompactCPU }},
	{"live Go heap at the peak", "MiB", 1.05, func(f figures) float64 { return f.Heap / mib }},
	{"restart to ready, nothing in page cache", "s", 1.1, func(f figures) float64 { return f.Restart }},
}

// contestants are those that are compared with the stock tsdb.
var contestants = []struct {
	name string
	of   func(pair) figures
}{
	{"mirror", func(p pair) figures { return p.mirror }},
	{"remote", func(p pair) figures { return p.remote }},
}

func headTable(runs []pair) (rows []row) {
	for _, contestant := range contestants {
		for _, m := range measures {
			rows = append(rows, compare(contestant.name+": "+m.name, m, runs, contestant.of))
		}
		rows = append(rows,
			queries(contestant.name+": queries, warm cache", 1.25, runs, contestant.of, warm),
			queries(contestant.name+": queries, cold", 0, runs, contestant.of, cold),
			worst(contestant.name, runs, contestant.of),
			saved(contestant.name, 0.6, runs, contestant.of),
			own(contestant.name+": bytes moved per compaction", "of the chunk bytes", 1.2, runs, func(p pair) float64 {
				return contestant.of(p).Moved / contestant.of(p).ChunkBytes
			}),
			own(contestant.name+": the server's CPU per ingested sample", "ns", 0, runs, func(p pair) float64 {
				return contestant.of(p).ServerCPU
			}),
			own(contestant.name+": bytes of log to the server per sample", "bytes", 0, runs, func(p pair) float64 {
				return contestant.of(p).LogBytes
			}),
			own(contestant.name+": log behind in real time, p99", "s", 1, runs, func(p pair) float64 {
				return contestant.of(p).Lag
			}),
			takeOver(contestant.name, runs, contestant.of))
	}
	rows = append(rows, saved("page dropping alone", 0, runs, func(p pair) figures { return p.pages }))
	return rows
}

var startsMeasures = []measure{
	{"CPU per ingested sample", "ns", 1.05, func(f figures) float64 { return f.IngestCPU }},
	{"CPU of compactions", "s", 1.15, func(f figures) float64 { return f.CompactCPU }},
	{"restart, CPU to ready", "s", 1.1, func(f figures) float64 { return f.RestartCPU }},
	{"restart, peak memory", "MiB", 1.1, func(f figures) float64 { return f.RestartPeak / mib }},
	{"restart to ready", "s", 0, func(f figures) float64 { return f.Restart }},
	{"take-over, CPU to ready", "s", 1.1, func(f figures) float64 { return f.TakeOverCPU }},
	{"take-over, peak memory", "MiB", 1.1, func(f figures) float64 { return f.TakeOverPeak / mib }},
	{"take-over to ready", "s", 0, func(f figures) float64 { return f.TakeOver }},
}

// startsTable tells of starts, and of blocks. What a take-over is compared with is a stock restart.
func startsTable(runs []pair) (rows []row) {
	for _, contestant := range contestants {
		of := func(value func(figures) float64) func(pair) float64 {
			return func(p pair) float64 { return value(contestant.of(p)) }
		}
		row := func(name, unit string, bar float64, value func(figures) float64) {
			rows = append(rows, own(contestant.name+": "+name, unit, bar, runs, of(value)))
		}
		for _, m := range startsMeasures {
			rows = append(rows, compare(contestant.name+": "+m.name, m, runs, contestant.of))
		}
		for level := range contestant.of(runs[0]).Levels {
			row(fmt.Sprintf("blocks of level %d", level+1), "MiB", 0, func(f figures) float64 { return f.Levels[level] / mib })
		}
		row("bytes of blocks written, per byte of the blocks", "bytes", 1.02, func(f figures) float64 { return f.BlocksWritten / f.Uploaded })
		row("return of blocks, bytes read per byte", "bytes", 1.02, func(f figures) float64 { return f.ReturnRead / f.Returned })
		row("return of blocks, CPU per GiB", "s", 0, func(f figures) float64 { return f.ReturnCPU / f.Returned * (1 << 30) })
		row("return of blocks, peak memory", "MiB", 0, func(f figures) float64 { return f.ReturnPeak / mib })
	}
	return rows
}

// standbyTable tells of a leader, its standby, and what came after its death.
func standbyTable(runs []pair) (rows []row) {
	of := func(p pair) figures { return p.mirror }
	rows = append(rows,
		compare("leader: CPU per ingested sample", measure{"", "ns", 1.05, func(f figures) float64 { return f.IngestCPU }}, runs, of),
		compare("leader: live Go heap", measure{"", "MiB", 0, func(f figures) float64 { return f.Heap / mib }}, runs, of))
	row := func(name, unit string, bar float64, value func(pair) float64) {
		rows = append(rows, own("standby: "+name, unit, bar, runs, value))
	}
	row("CPU, of the leader's", "", 1.2, func(p pair) float64 { return p.follower.CPU / p.mirror.AllCPU })
	row("live Go heap, of the leader's", "", 1.1, func(p pair) float64 { return p.follower.Heap / p.mirror.Heap })
	row("log and chunks on disk, of the leader's", "", 1.1, func(p pair) float64 { return p.follower.Disk / p.mirror.Disk })
	row("behind in real time, p99", "s", 2, func(p pair) float64 { return p.follower.Behind })
	row("ready after the leader's death", "s", 11, func(p pair) float64 { return p.follower.ReadyAfter })
	row("peak memory up to then", "MiB", 0, func(p pair) float64 { return p.follower.Peak / mib })
	return rows
}

// compare is a measure beside the stock tsdb.
func compare(name string, m measure, runs []pair, of func(pair) figures) row {
	var ours, stock, ratios, aa, noise []float64
	for _, p := range runs {
		ours = append(ours, m.of(of(p)))
		stock = append(stock, m.of(p.stock))
		ratios = append(ratios, m.of(of(p))/((m.of(p.stock)+m.of(p.again))/2))
		aa = append(aa, m.of(p.again)/m.of(p.stock))
		noise = append(noise, math.Abs(m.of(p.again)/m.of(p.stock)-1))
	}
	r := row{Case: name, Unit: m.unit, Ours: median(ours), Baseline: median(stock), BaselineName: "stock tsdb",
		Ratio: median(ratios), AA: median(aa), Noise: median(noise)}
	r.hold(m.bar, "max")
	return r
}

func warm(f figures) []float64 { return f.Queries }
func cold(f figures) []float64 { return f.Cold }

// ratios are those of each query: the medians over the runs.
func ratios(runs []pair, a, b func(pair) figures, times func(figures) []float64) []float64 {
	all := make([]float64, len(times(runs[0].stock)))
	for q := range all {
		var each []float64
		for _, p := range runs {
			each = append(each, times(a(p))[q]/times(b(p))[q])
		}
		all[q] = median(each)
	}
	return all
}

func stock(p pair) figures { return p.stock }
func again(p pair) figures { return p.again }

// queries is the geometric mean of what the queries take beside the stock tsdb.
func queries(name string, bar float64, runs []pair, of func(pair) figures, times func(figures) []float64) row {
	mean := func(a, b func(pair) figures) float64 {
		sum := 0.0
		all := ratios(runs, a, b, times)
		for _, r := range all {
			sum += math.Log(r)
		}
		return math.Exp(sum / float64(len(all)))
	}
	r := row{Case: name, Unit: "geometric mean", Ours: mean(of, stock), Baseline: 1,
		BaselineName: "stock tsdb", AA: mean(again, stock)}
	r.Ratio, r.Noise = r.Ours, math.Abs(r.AA-1)
	r.hold(bar, "max")
	return r
}

// worst is the query that loses most, cold.
func worst(name string, runs []pair, of func(pair) figures) row {
	all := ratios(runs, of, stock, cold)
	q := 0
	for i := range all {
		if all[i] > all[q] {
			q = i
		}
	}
	ours, theirs := of(runs[0]).Cold[q]*1e3, runs[0].stock.Cold[q]*1e3
	return row{Case: fmt.Sprintf("%s: worst query, cold (%s)", name, same.Queries()[q]), Unit: "ms", Ours: ours,
		Baseline: theirs, BaselineName: "stock tsdb", Ratio: all[q],
		AA: ratios(runs, again, stock, cold)[q]}
}

// takeOver is beside the stock tsdb's restart.
func takeOver(name string, runs []pair, of func(pair) figures) row {
	var ours, local, shares, aa []float64
	for _, p := range runs {
		ours = append(ours, of(p).TakeOver)
		local = append(local, p.stock.Restart)
		shares = append(shares, of(p).TakeOver/p.stock.Restart)
		aa = append(aa, p.again.Restart/p.stock.Restart)
	}
	r := row{Case: name + ": take-over to ready", Unit: "s", Ours: median(ours), Baseline: median(local),
		BaselineName: "stock tsdb's restart", Ratio: median(shares), AA: median(aa)}
	r.Noise = math.Abs(r.AA - 1)
	r.hold(1.5, "max")
	return r
}

// saved is the resident memory that a contestant does not have, per byte of chunks: more is better.
func saved(name string, bar float64, runs []pair, of func(pair) figures) row {
	var ours, stock, shares, noise []float64
	for _, p := range runs {
		ours = append(ours, of(p).Resident/mib)
		stock = append(stock, p.stock.Resident/mib)
		shares = append(shares, (p.stock.Resident-of(p).Resident)/p.stock.ChunkBytes)
		noise = append(noise, math.Abs(p.again.Resident-p.stock.Resident)/p.stock.ChunkBytes)
	}
	r := row{Case: name + ": resident less, per chunk byte", Unit: "MiB resident", Ours: median(ours),
		Baseline: median(stock), BaselineName: "stock tsdb", Ratio: median(shares), Noise: median(noise)}
	r.hold(bar, "min")
	return r
}

// own is a figure without a baseline.
func own(name, unit string, bar float64, runs []pair, of func(pair) float64) row {
	var values []float64
	for _, p := range runs {
		values = append(values, of(p))
	}
	r := row{Case: name, Unit: unit, Ours: median(values), Baseline: 1, BaselineName: "-", Ratio: median(values)}
	r.hold(bar, "max")
	return r
}

// hold holds the ratio to a bar, 0 for none.
func (r *row) hold(bar float64, is string) {
	if bar == 0 {
		return
	}
	ok := r.Ratio <= bar
	if is == "min" {
		ok = r.Ratio >= bar
	}
	r.Bar, r.BarIs, r.OK = &bar, is, &ok
}
