"""What an evening with Prometheus needs: targets with churn, a memory server, and Prometheis to restart.

The targets' values are step functions of the clock, so that servers that scrape at different instants can
be asked the same.
"""
import http.server
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.parse
import urllib.request

STEP_S = 20  # All values change at its multiples.
CHURN_S = 60  # A fifth of the series is replaced at its multiples, which are multiples of STEP_S, too.
INTERVAL_S = 4  # Of scrapes, and their timeout.
COUNTERS, GAUGES, HISTOGRAMS, BUCKETS = 260, 260, 20, 10  # Of one target.
NAMES = ["load_requests_total", "load_queue", "load_seconds", "load_seconds_bucket", "load_seconds_count",
         "load_seconds_sum"]
BEGIN = time.time() // CHURN_S * CHURN_S


def eventually(limit_s, what, condition):
    """Polls until the condition holds, and returns what it returned."""
    deadline = time.monotonic() + limit_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s} s for: {what}")
        time.sleep(0.2)
    return result


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


class Target(http.server.ThreadingHTTPServer):
    """One target, on a port of its own, until its process ends."""
    daemon_threads = True

    def __init__(self, number):
        class Handler(http.server.BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_GET(self):
                body = exposition(number, time.time())
                self.send_response(200)
                self.send_header("Content-Type", "text/plain; version=0.0.4")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_):
                pass

        super().__init__(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass  # Who scrapes may be killed meanwhile.


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Process:
    """A program that is started again and again, all of its lines in one log."""

    def __init__(self, name, work):
        self.name = name
        self.log = os.path.join(work, name + ".log")
        self.process = None
        self.read = 0

    def run(self, command):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env={k: v for k, v in os.environ.items() if not k.startswith("MAAS_")})

    def end(self, number):
        """Sends a signal and returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self):
        self.end(signal.SIGKILL)

    def lines(self):
        """The whole lines of its log that were not returned before."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.read)
            text = log.read()
            whole = text.rfind("\n") + 1
            self.read += len(text[:whole].encode())
        return text[:whole].splitlines()

    def said(self, words):
        """How many lines of its log have these words."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return sum(words in line for line in log)


class Memory(Process):
    """maasd."""

    def __init__(self, program, work, file):
        super().__init__("maasd", work)
        self.program, self.file = program, file
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.others = []

    def start(self):
        self.run([self.program, "--listen", f"127.0.0.1:{self.port}", "--rdma", "off",
                  "--max-pool-size", "256MiB", "--memory-file", self.file])
        eventually(30, "the memory server", self.is_ready)

    def is_ready(self):
        try:
            return urllib.request.urlopen(self.url + "/ready", timeout=5).status == 200
        except OSError:
            return False

    def forget(self):
        """What it lent is gone, as after a restart of its host."""
        for name in [self.file, self.file + ".slots"]:
            os.remove(name)

    def post(self, path, value):
        return json.load(urllib.request.urlopen(urllib.request.Request(
            self.url + path, json.dumps(value).encode(), {"Content-Type": "application/json"}), timeout=60))

    def fill(self, *sizes):
        """Another owner takes all that is left, in pieces of these sizes, many at a time while there are."""
        for size in sizes:
            for count in [16, 1]:
                while got := self.allocate(size, count):
                    self.others += got

    def allocate(self, size, count):
        """The ids; none where there is no room."""
        try:
            answer = self.post("/allocate", {"size_bytes": size, "count": count, "owner": "another"})
        except urllib.error.HTTPError as err:
            if err.code != 507:
                raise
            return []
        return [a["id"] for a in answer.get("allocations", [answer])]

    def give_back(self):
        self.post("/free", {"ids": self.others})
        self.others = []


class Prometheus(Process):
    """One of the three, with what it answers and when it was away."""

    def __init__(self, name, program, work, options):
        super().__init__(name, work)
        self.program, self.options = program, options
        self.work, self.data = work, os.path.join(work, name)
        self.port = free_port()
        self.config = os.path.join(work, name + ".yml")
        self.url = f"http://127.0.0.1:{self.port}"
        self.away = []  # [from, to] each

    def configure(self, targets):
        rules = os.path.join(self.work, "rules.yml")
        with open(rules, "w", encoding="ascii") as file:
            file.write('groups: [{name: evening, rules: [{record: "job:load:sum", expr: "sum(load_queue)"}]}]\n')
        with open(self.config, "w", encoding="ascii") as file:
            file.write(f"global: {{scrape_interval: {INTERVAL_S}s, scrape_timeout: {INTERVAL_S}s, "
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
        self.run([self.program, f"--config.file={self.config}", f"--storage.tsdb.path={self.data}",
                  f"--web.listen-address=127.0.0.1:{self.port}", "--web.enable-admin-api",
                  "--web.enable-lifecycle", *self.options])
        eventually(120, f"{self.name} to be ready", self.is_ready)
        # The first scrape of each target has its place somewhere in the interval.
        self.away[-1][1] = time.time() + INTERVAL_S

    def is_ready(self):
        if self.process.poll() is not None:
            raise AssertionError(f"{self.name} ended with {self.process.returncode}")
        try:
            return urllib.request.urlopen(self.url + "/-/ready", timeout=5).status == 200
        except OSError:
            return False

    def end(self, number):
        self.away.append([time.time(), None])
        return super().end(number)

    def ends_by_itself(self, limit_s):
        """Its exit status."""
        status = self.process.wait(limit_s)
        self.away.append([time.time(), None])
        return status

    def was_there(self, since, until):
        return all(until < a or b is not None and since > b for a, b in self.away)

    def forget_data(self):
        """An empty disk, as that of another host."""
        shutil.rmtree(self.data)

    def call(self, path, method="GET", **arguments):
        """What the API answers, without its frame."""
        data = urllib.parse.urlencode(arguments, doseq=True)
        request = urllib.request.Request(f"{self.url}{path}?{data}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                body = answer.read()
        except urllib.error.HTTPError as err:
            raise AssertionError(f"{self.name}: {path} {arguments}: {err.read().decode()}") from err
        return json.loads(body)["data"] if body else None

    def range(self, query, ends):
        """{labels and end of window: answer} for each of ends, which are STEP_S apart."""
        data = self.call("/api/v1/query_range", query=query, start=ends[0], end=ends[-1], step=STEP_S)
        return {(json.dumps(series["metric"], sort_keys=True), int(at)): value
                for series in data["result"]
                for at, value in series.get("values", []) + [(t, json.dumps(h)) for t, h in
                                                             series.get("histograms", [])]}

    def metric(self, name, label=""):
        """The sum of a metric's series on its own page, which no query stands between."""
        with urllib.request.urlopen(self.url + "/metrics", timeout=30) as answer:
            values = re.findall(rf"^{name}(?:{{.*{label}.*}})? (\S+)$", answer.read().decode(), re.M)
        return sum(map(float, values))

    def is_quiet(self):
        """Whether all that belongs into remote memory is there, and back from there."""
        maas = "prometheus_tsdb_maas_"
        return (self.metric(maas + "up") == 1 and self.metric(maas + "wal_lag_seconds") < 2 and
                not any(self.metric(maas + name) for name in
                        ["degraded", "blocks_pending_bytes", "blocks_returning_bytes"]))
