// SPDX-License-Identifier: Apache-2.0

package sameanswers

import (
	"slices"
	"time"
)

// Query is asked as of the last step that was fed.
type Query struct {
	Expr string
	// Ago moves the query's time, or the end of its range, into the past.
	Ago time.Duration
	// Span and Step make it a range query.
	Span, Step time.Duration
	// About asks for series, label names, or a label's values instead; Expr is then a selector.
	About string
}

const (
	aboutSeries = "series"
	aboutLabels = "labels"
)

// whole reaches past the first sample of the longest run.
const whole = 24 * time.Hour

// Queries are asked of every database. They read each metric of the load raw, over its full length, and through the
// functions that people use with it. What they rank are deviations in windows of many samples, of which no two are
// equal: which of two equal values comes first depends on the order in which a head has learnt of the series.
func Queries() []Query {
	return slices.Concat(instant(), ranges(), metadata())
}

func instant() []Query {
	const minute, hour = time.Minute, time.Hour
	return []Query{
		{Expr: `requests_total{code="500"}`},
		{Expr: `temperature_celsius{job=~"a.+|queue",place!~"0[1-9]"}`},
		{Expr: `{__name__=~"pod_.+",instance="10.0.0.0:9100"}`},
		{Expr: `flapping`},
		{Expr: `late_total{place=~"0[03478]"}`},
		{Expr: `native_latency{place="00"}`},
		{Expr: `native_float_latency{place="01"}`},
		{Expr: `native_gauge{job!="api"}`},
		{Expr: `native_custom`},
		{Expr: `odd_values`},
		{Expr: `odd_values[30m]`},
		{Expr: `pod_memory_bytes{job="api"}[20m] offset 1h`},
		{Expr: `flapping{place="02"}[1h]`},
		{Expr: `native_latency{place="02",job="api"}[40m:7m]`, Ago: 50 * minute},
		{Expr: `sum(rate(requests_total[5m]))`},
		{Expr: `sum by (job, code) (rate(requests_total[5m]))`, Ago: 90 * minute},
		{Expr: `topk(7, stddev_over_time(temperature_celsius{job="api"}[2h]))`},
		{Expr: `bottomk by (job) (3, stddev_over_time(temperature_celsius[1h]))`},
		{Expr: `sort_by_label(count_values("level", round(temperature_celsius / 25)), "level")`},
		{Expr: `quantile by (job) (0.9, temperature_celsius)`, Ago: 3 * hour},
		{Expr: `histogram_quantile(0.9, sum by (le, job) (rate(latency_seconds_bucket[10m])))`},
		{Expr: `histogram_quantile(0.5, sum by (job) (rate(native_latency[10m])))`},
		{Expr: `histogram_fraction(0.1, 2, rate(native_float_latency[30m]))`},
		{Expr: `histogram_quantile(0.75, native_custom)`, Ago: hour},
		{Expr: `histogram_avg(rate(native_latency[15m])) > 0`},
		{Expr: `histogram_count(last_over_time(large_histogram[3h]))`},
		{Expr: `histogram_quantile(0.5, last_over_time(large_histogram[3h]))`},
		{Expr: `count_over_time(large_histogram[6h])`},
		{Expr: `absent(requests_total{job="nobody"})`},
		{Expr: `absent_over_time(large_histogram{place="01"}[8m])`},
		{Expr: `label_replace(temperature_celsius{place="03"}, "host", "$1", "instance", "(.+):.*")`},
		{Expr: `sort_by_label(label_join(native_gauge, "both", "/", "job", "place"), "both")`},
		{Expr: `sort_desc(stdvar_over_time(temperature_celsius{place="02"}[1h]))`},
		{Expr: `count by (__name__) ({__name__=~"[^l].+"})`},
		{Expr: `changes(temperature_celsius{place="05"}[3h])`},
		{Expr: `resets(work_done_total[6h])`},
		{Expr: `requests_total{code="404",method="GET"} @ end() - requests_total @ start() offset 10m`},
		{Expr: `temperature_celsius{place="04"} and on (instance) (odd_values > 0)`},
		{Expr: `sum(temperature_celsius) by (job) / ignoring (x) group_left count(up or odd_values) by (job)`},
		{Expr: `timestamp(late_total{place="00"})`},
		{Expr: `predict_linear(temperature_celsius{place="06"}[1h], 3600)`},
		{Expr: `mad_over_time(temperature_celsius{place="07"}[2h])`},
		{Expr: `double_exponential_smoothing(temperature_celsius{place="08"}[20m], 0.3, 0.6)`},
		{Expr: `stddev_over_time(pod_memory_bytes{job="queue"}[1h])`, Ago: 2 * hour},
		{Expr: `count(last_over_time({job="database"}[6h]))`},
	}
}

func ranges() []Query {
	const minute, hour = time.Minute, time.Hour
	return []Query{
		{Expr: `requests_total{code="200",method="GET"}`, Span: whole, Step: minute},
		{Expr: `temperature_celsius{place="00"}`, Span: whole, Step: 15 * time.Second},
		{Expr: `pod_memory_bytes{job="frontend"}`, Span: whole, Step: 2 * minute},
		{Expr: `flapping`, Span: whole, Step: 3 * minute},
		{Expr: `late_total{place=~"0[0-4]"}`, Span: whole, Step: minute},
		{Expr: `native_latency{place="00"}`, Span: whole, Step: 10 * minute},
		{Expr: `native_gauge`, Span: whole, Step: 10 * minute},
		{Expr: `odd_values`, Span: whole, Step: minute},
		{Expr: `sum by (job) (rate(requests_total[5m]))`, Span: whole, Step: 5 * minute},
		{Expr: `sum by (method) (increase(requests_total[1h]))`, Span: 4 * hour, Step: 10 * minute},
		{Expr: `max by (job) (irate(work_done_total[2m]))`, Span: 3 * hour, Step: minute},
		{Expr: `avg without (instance, place) (temperature_celsius)`, Span: whole, Step: 4 * minute},
		{Expr: `sum by (job) (rate(late_total{place!~"0[37]"}[10m]))`, Span: 5 * hour, Step: 5 * minute},
		{Expr: `histogram_quantile(0.99, sum by (le) (rate(latency_seconds_bucket[5m])))`,
			Span: whole, Step: 5 * minute},
		{Expr: `histogram_quantile(0.9, sum by (job) (rate(native_latency[10m])))`,
			Span: whole, Step: 10 * minute},
		{Expr: `histogram_sum(increase(native_float_latency[20m]))`, Span: 4 * hour, Step: 10 * minute},
		{Expr: `histogram_stddev(native_gauge)`, Span: 2 * hour, Step: 5 * minute},
		{Expr: `topk(3, stddev_over_time(temperature_celsius[10m]))`, Span: 3 * hour, Step: 10 * minute},
		{Expr: `count by (job) (pod_memory_bytes)`, Span: whole, Step: minute},
		{Expr: `max_over_time(sum(temperature_celsius)[1h:5m])`, Span: 2 * hour, Step: 15 * minute},
		{Expr: `min_over_time(rate(work_done_total[5m])[30m:1m] offset 20m)`,
			Span: hour, Step: 10 * minute},
		{Expr: `quantile_over_time(0.5, temperature_celsius{place="09"}[30m])`,
			Span: 5 * hour, Step: 10 * minute},
		{Expr: `absent(flapping{place="00",job="api"})`, Span: whole, Step: minute},
		{Expr: `count(large_histogram)`, Span: whole, Step: 5 * minute},
		{Expr: `sum(temperature_celsius @ end())`, Span: hour, Step: 10 * minute},
		{Expr: `requests_total{code="301"} - requests_total offset 30m`, Span: 90 * minute, Step: 5 * minute,
			Ago: 2 * hour},
		{Expr: `deriv(temperature_celsius{job="api",place=~"1."}[15m])`, Span: 2 * hour, Step: 5 * minute},
		{Expr: `avg_over_time(native_custom[30m])`, Span: 3 * hour, Step: 30 * minute},
	}
}

func metadata() []Query {
	return []Query{
		{About: aboutSeries, Expr: `{__name__=~".+"}`, Span: whole},
		{About: aboutSeries, Expr: `pod_memory_bytes{job="api"}`, Span: 20 * time.Minute},
		{About: aboutSeries, Expr: `{instance=~"10.0.0.1.*"}`, Span: time.Hour, Ago: 2 * time.Hour},
		{About: aboutLabels, Expr: `{__name__=~".+"}`, Span: whole},
		{About: aboutLabels, Expr: `requests_total`, Span: time.Hour},
		{About: "pod", Expr: `{job!="queue"}`, Span: whole},
		{About: "pod", Expr: `pod_memory_bytes`, Span: 30 * time.Minute},
		{About: "__name__", Expr: `{__name__=~".+"}`, Span: whole},
	}
}
