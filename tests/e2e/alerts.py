"""What the tests that fire the alerts of ops/ by real faults share.

A Prometheus of Debian evaluates ops/alerts.yml in which a minute is a second: all durations are divided by FACTOR,
and nothing else is changed. A trial is a generator: it starts what it needs and yields who is watched; is resumed,
and makes the fault; is resumed when its alert fires, and takes the fault away. Then the alert has to be silent again.
"""
import concurrent.futures
import os
import re
import signal
import tempfile
import threading
import time

import yaml

from processes import eventually, free_port, token_of, workplace, write_principals
from prometheis import Memory, Prometheus, fetch

FACTOR = 60
SCRAPE_MS = 500  # Of 15 s, which ops/prometheus.yml has, 250 ms would be left: too few on a busy machine.
LIMIT_S = 120  # Until an alert fires, or is silent: many times what it takes.
DURATION = re.compile(r"\b(\d+)(ms|[smhdwy])\b")
UNITS_MS = {"ms": 1, "s": 1000, "m": 60000, "h": 3600000, "d": 86400000, "w": 7 * 86400000, "y": 365 * 86400000}

# Numbers that are seconds, and belong to a duration in the same expression. All other seconds are real ones: those of
# a log's lag, or until a certificate expires.
SECONDS = {"MaasRestarted": ("< 900", f"< {900 // FACTOR}"),
           "MaasPoolFullSoon": ("4 * 3600", f"4 * {3600 // FACTOR}")}

# They need an RDMA device.
ON_A_DEVICE = {"MaasRdmaDown", "MaasIsolationLost", "MaasKeysRefused"}


def divided(text):
    """A text of PromQL, each duration in it divided by FACTOR."""
    return DURATION.sub(lambda found: f"{int(found[1]) * UNITS_MS[found[2]] // FACTOR}ms", text)


def of_prometheus(alert):
    return alert.startswith("PrometheusMaas")


class Rules:
    """ops/alerts.yml."""

    def __init__(self, source):
        with open(os.path.join(source, "ops", "alerts.yml"), encoding="utf-8") as file:
            self.groups = yaml.safe_load(file)["groups"]
        self.alerts = [rule["alert"] for group in self.groups for rule in group["rules"]]

    def fast(self):
        """The text of the copy in which a minute is a second."""
        for rule in [rule for group in self.groups for rule in group["rules"]]:
            before = rule["expr"]
            unknown = set(rule) - {"alert", "expr", "for", "labels", "annotations"}
            assert not unknown, f"{rule['alert']}: is there a duration in {unknown}?"
            rule["expr"] = divided(before)
            assert DURATION.sub("", before) == DURATION.sub("", rule["expr"]), f"more than durations: {rule['expr']}"
            for duration in re.findall(r"\[(.*?)\]|\boffset (\w+)", before):
                assert DURATION.fullmatch("".join(duration)), f"{rule['alert']}: not one number and unit: {duration}"
            if "for" in rule:
                assert DURATION.fullmatch(rule["for"]), f"{rule['alert']}: {rule['for']}"
                rule["for"] = divided(rule["for"])
            slow, fast = SECONDS.get(rule["alert"], ("", ""))
            assert not slow or slow in rule["expr"], f"{rule['alert']}: where is {slow}?"
            rule["expr"] = rule["expr"].replace(slow, fast) if slow else rule["expr"]
        return yaml.safe_dump({"groups": self.groups})


class Watcher(Prometheus):
    """The Prometheus that has the rules; keeps what fires, and since when. `jobs` are names and their addresses."""

    def __init__(self, work, rules, jobs):
        super().__init__("watcher", "prometheus", work, [f"--query.lookback-delta={5 * 60000 // FACTOR}ms"])
        file = self.write("alerts.yml", rules.fast())
        interval = f"{SCRAPE_MS}ms"
        self.write(self.config, yaml.safe_dump({
            "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
            "rule_files": [file],
            "scrape_configs": [{"job_name": job, "static_configs": [{"targets": targets}]}
                               for job, targets in jobs.items()]}))
        self.firing = []  # The labels of each
        self.seen = {}  # All that ever fired: (alert, instance): the labels
        self.ends = threading.Event()
        self.poller = threading.Thread(target=self.poll)

    def poll(self):
        while not self.ends.wait(SCRAPE_MS / 2000):
            alerts = self.call("/api/v1/alerts")["alerts"]
            self.firing = [alert["labels"] for alert in alerts if alert["state"] == "firing"]
            for labels in self.firing:
                self.seen.setdefault((labels["alertname"], labels["instance"]), labels)

    def start(self):
        super().start()
        self.poller.start()

    def stop(self):
        self.ends.set()
        if self.poller.is_alive():
            self.poller.join()
        self.kill()

    def is_up(self, address):
        """All rules are evaluated, and this target was scraped."""
        rules = [rule for group in self.call("/api/v1/rules")["groups"] for rule in group["rules"]]
        assert all(rule["health"] != "err" for rule in rules), rules
        up = self.call("/api/v1/query", query=f'up{{instance="{address}"}} == 1')["result"]
        return up and all(rule["health"] == "ok" for rule in rules)

    def fires(self, wanted):
        """Whether an alert with all of these labels does."""
        return any(wanted.items() <= labels.items() for labels in self.firing)


class Server(Memory):
    """maasd; it is scraped at an address of its own, which asks for no token and no certificate."""

    def __init__(self, program, work, name, *options, host="127.0.0.1"):
        super().__init__(program, work)
        self.name, self.options = name, options
        self.log = os.path.join(work, name + ".log")
        self.listen = f"{host}:{self.port}"
        self.url = "http://" + self.listen
        self.watched = f"127.0.0.1:{free_port()}"

    def start(self):
        self.run([self.program, "--listen", self.listen, "--listen-metrics", self.watched, *self.options])
        eventually(60, f"{self.name} to be ready", self.is_ready)

    def is_ready(self):
        assert self.runs(), f"{self.name} ended with {self.process.returncode}"
        try:
            return fetch(f"http://{self.watched}/ready", timeout_s=5)[0] == 200
        except OSError:
            return False

    def again(self, *options):
        """Ends as by a crash and starts, with other options if there are some."""
        self.kill()
        self.options = options or self.options
        self.start()

    def reload(self):
        self.process.send_signal(signal.SIGHUP)


class Site:
    """What runs in a test: servers with these options and those of a trial, which has a thread of its own."""

    def __init__(self, maasd, work, *options):
        self.maasd, self.work, self.options = maasd, work, options
        self.lock = threading.Lock()
        self.processes = []

    def add(self, process):
        with self.lock:
            self.processes.append(process)
        return process

    def server(self, *options, host="127.0.0.1"):
        """A server that runs."""
        name = os.path.basename(tempfile.mkdtemp("", "maasd-", self.work))
        server = self.add(Server(self.maasd, self.work, name, *self.options, *options, host=host))
        server.start()
        return server

    def server_with(self, quotas, *options, host="127.0.0.1"):
        """A server with one principal, and the principal's token."""
        path = write_principals(self.path("principals"), {"team1": f"owner=* {quotas}"})
        return self.server("--auth-file", path, *options, host=host), token_of("team1")

    def path(self, name):
        return os.path.join(tempfile.mkdtemp(dir=self.work), name)

    def end(self):
        for process in self.processes:
            process.kill()


class Expected:
    """An alert of a trial: where it fires, and after how many seconds it fired, and was silent."""

    def __init__(self, alert, labels):
        self.alert, self.labels = alert, {"alertname": alert, **labels}
        self.fired, self.silent = "-", "-"

    def at(self, instance):
        self.labels["instance"] = instance

    def waits(self, watcher, fires, begun):
        """Until it fires, or does not; returns how long that took."""
        eventually(LIMIT_S, f"{self.labels} to {'fire' if fires else 'be silent'}",
                   lambda: watcher.fires(self.labels) == fires, 0.1)
        return f"{time.monotonic() - begun:.1f} s"


class Trial:
    """A fault, and the alerts that it has to fire; those of `also` may fire meanwhile at the same instances."""

    def __init__(self, alerts, fault, work, also, labels):
        self.expected = [Expected(alert, labels) for alert in alerts]
        self.fault, self.work, self.also = fault, work, also
        self.steps = None

    def alerts(self):
        return {expected.alert for expected in self.expected}

    def prepare(self, site):
        self.steps = self.work(site)
        found = next(self.steps)
        for expected in self.expected:
            expected.at(found if isinstance(found, str) else found[expected.alert])

    def run(self, watcher):
        """Returns what went wrong."""
        try:
            self.do_run(watcher)
        except (AssertionError, OSError, ValueError) as err:
            return [f"{self.fault}: {err!r}"]
        return []

    def do_run(self, watcher):
        for expected in self.expected:
            where = expected.labels["instance"]
            eventually(LIMIT_S, f"{where} to be scraped", lambda where=where: watcher.is_up(where))
            assert not watcher.fires(expected.labels), f"{expected.labels} fires before"
        begun = time.monotonic()
        next(self.steps)
        for expected in self.expected:
            expected.fired = expected.waits(watcher, True, begun)
        begun = time.monotonic()
        for _ in self.steps:
            raise AssertionError("one step too many")
        for expected in self.expected:
            expected.silent = expected.waits(watcher, False, begun)


class Trials:
    """Those of one test."""

    def __init__(self):
        self.all = []

    def add(self, alerts, fault, also=(), **labels):
        """A decorator of the generator, which yields the instance of the alert; or of each, if there are several."""
        def to_all(work):
            names = [alerts] if isinstance(alerts, str) else alerts
            self.all.append(Trial(names, fault, work, set(also), labels))
            return work
        return to_all

    def at_server(self, alerts, fault, *options, quotas=None, also=(), **labels):
        """The same at a server with these options. The generator gets the server, and where there are quotas the token
        of their principal; it has no instance to yield."""
        def to_all(work):
            def at_site(site):
                got = [site.server(*options)] if quotas is None else site.server_with(quotas, *options)
                yield got[0].watched
                yield from work(*got)
            self.add(alerts, fault, also, **labels)(at_site)
            return work
        return to_all

    def alerts(self):
        return set().union(*(trial.alerts() for trial in self.all))

    def instances(self):
        return sorted({expected.labels["instance"] for trial in self.all for expected in trial.expected})

    def select(self, alerts):
        """Leaves out the others, if there are any names."""
        self.all = [trial for trial in self.all if not alerts or trial.alerts() & set(alerts)]
        assert self.all, f"no trial of {alerts}"

    def run(self, site, watch):
        """All of them at once; `watch` makes the Watcher once everything runs."""
        with concurrent.futures.ThreadPoolExecutor(len(self.all)) as pool:
            list(pool.map(lambda trial: trial.prepare(site), self.all))
            watcher = watch()
            try:
                watcher.start()
                wrong = sum(pool.map(lambda trial: trial.run(watcher), self.all), [])
            finally:
                watcher.stop()
        wrong += self.strays(watcher)
        self.report()
        assert not wrong, "\n".join(wrong)

    def fire(self, rules, job, only, site_of):
        """All of them, or those of the alerts `only`, at what a scrape calls `job`. `site_of` makes a Site for a
        directory."""
        self.select(only)
        with workplace() as work:
            site = site_of(work)
            try:
                self.run(site, lambda: Watcher(work, rules, {job: self.instances()}))
            finally:
                site.end()

    def strays(self, watcher):
        """What fired, and no trial explains it. On a busy machine a scrape may take too long (MaasDown)."""
        wrong = []
        for (alert, instance), labels in watcher.seen.items():
            there = [trial for trial in self.all if any(one.labels["instance"] == instance for one in trial.expected)]
            if alert not in {"MaasDown"}.union(*(trial.alerts() | trial.also for trial in there)):
                wrong.append(f"{alert} fired without its fault: {labels}")
        return wrong

    def report(self):
        """The alerts, and the faults that fired them."""
        print(f"{'alert':<32} {'fires':>7} {'silent':>7}  fault")
        for trial in self.all:
            for one in trial.expected:
                print(f"{one.alert:<32} {one.fired:>7} {one.silent:>7}  {trial.fault}", flush=True)
