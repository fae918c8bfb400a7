"""What an evening with Prometheus needs: targets with churn, and Prometheis that know when they were away.

The targets' values are step functions of the clock, so that servers that scrape at different instants can
be asked the same.
"""
import json
import time

import prometheis

STEP_S = 20  # All values change at its multiples.
CHURN_S = 60  # A fifth of the series is replaced at its multiples, which are multiples of STEP_S, too.
INTERVAL_S = 4  # Of scrapes, and their timeout.
COUNTERS, GAUGES, HISTOGRAMS, BUCKETS = 260, 260, 20, 10  # Of one target.
NAMES = ["load_requests_total", "load_queue", "load_seconds", "load_seconds_bucket", "load_seconds_count",
         "load_seconds_sum"]
BEGIN = time.time() // CHURN_S * CHURN_S


def exposition(target, now):
    """The text that a target is scraped with."""
    step = int((now - BEGIN) // STEP_S)
    minute = int((now - BEGIN) // CHURN_S)

    def labels(name, i):
        return f'{name}="{i}"' + (f',minute="{minute}"' if i % 5 == 0 else "")

    lines = ["# TYPE load_requests counter"]
    lines += [f'load_requests_total{{{labels("path", i)}}} {(step + 1) * (i % 7 + 1)}' for i in range(COUNTERS)]
    lines.append("# TYPE load_queue gauge")
    lines += [f'load_queue{{{labels("shard", i)}}} {(step * 37 + i * 11 + target) % 101 - 50}' for i in range(GAUGES)]
    lines.append("# TYPE load_seconds histogram")
    for i in range(HISTOGRAMS):
        total = 0
        for bucket in range(BUCKETS):
            total += (step + 1) * (bucket * i % 5 + 1)
            bound = "+Inf" if bucket == BUCKETS - 1 else 0.01 * 2 ** bucket
            lines.append(f'load_seconds_bucket{{{labels("handler", i)},le="{bound}"}} {total}')
        lines.append(f'load_seconds_sum{{{labels("handler", i)}}} {total * 0.25}')
        lines.append(f'load_seconds_count{{{labels("handler", i)}}} {total}')
    return ("\n".join(lines) + "\n").encode()


class Target(prometheis.Endpoint):
    """One target."""

    def __init__(self, number):
        class Handler(prometheis.Handler):
            def do_GET(self):
                self.answer(exposition(number, time.time()))

        super().__init__(Handler)


class Prometheus(prometheis.Prometheus):
    """One of the three, with what it answers and when it was away."""

    def __init__(self, name, program, work, options):
        super().__init__(name, program, work, ["--web.enable-admin-api", "--web.enable-lifecycle", *options])
        self.away = []  # [from, to] each

    def configure(self, targets):
        rules = self.write("rules.yml",
                           'groups: [{name: evening, rules: [{record: "job:load:sum", expr: "sum(load_queue)"}]}]\n')
        self.write(self.config,
                   f"global: {{scrape_interval: {INTERVAL_S}s, scrape_timeout: {INTERVAL_S}s, "
                   f"evaluation_interval: {INTERVAL_S}s}}\n"
                   f"rule_files: ['{rules}']\n"
                   "scrape_configs:\n"
                   f"- {{job_name: self, static_configs: [{{targets: ['127.0.0.1:{self.port}']}}]}}\n"
                   "- job_name: load\n"
                   "  convert_classic_histograms_to_nhcb: true\n"
                   "  always_scrape_classic_histograms: true\n"
                   f"  static_configs: [{{targets: {json.dumps([t.address for t in targets])}}}]\n")

    def start(self):
        if not self.away or self.away[-1][1] is not None:
            self.away.append([time.time(), None])
        super().start()
        # The first scrape of each target has its place somewhere in the interval.
        self.away[-1][1] = time.time() + INTERVAL_S

    def end(self, number):
        self.away.append([time.time(), None])
        return super().end(number)

    def ends_by_itself(self, limit_s):
        status = super().ends_by_itself(limit_s)
        self.away.append([time.time(), None])
        return status

    def was_there(self, since, until):
        return all(until < a or b is not None and since > b for a, b in self.away)

    def range(self, query, ends):
        """{labels and end of window: answer} for each of ends, which are STEP_S apart."""
        data = self.call("/api/v1/query_range", query=query, start=ends[0], end=ends[-1], step=STEP_S)
        return {(json.dumps(series["metric"], sort_keys=True), int(at)): value
                for series in data["result"]
                for at, value in series.get("values", []) + [(t, json.dumps(h)) for t, h in
                                                             series.get("histograms", [])]}

    def is_quiet(self):
        """Whether all that belongs into remote memory is there, and back from there."""
        maas = "prometheus_tsdb_maas_"
        return (self.metric(maas + "up") == 1 and self.metric(maas + "wal_lag_seconds") < 2 and
                not any(self.metric(maas + name) for name in
                        ["degraded", "blocks_pending_bytes", "blocks_returning_bytes"]))
