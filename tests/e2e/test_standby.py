#!/usr/bin/env python3
"""A warm standby as its operator sees it: two real Prometheis of one owner, one of which follows the other.

Usage: test_standby.py MAASD PROMETHEUS PROMTOOL

A witness is the target of both and stands in the place of their Alertmanager: it knows who scraped it, and who sent
alerts. The one that leads is ended, killed, killed and started again, and stopped for a while; each time the other
one has to go on, and to have what was sent to the first and acknowledged.
"""
import calendar
import collections
import http.client
import json
import re
import signal
import subprocess
import sys
import threading
import time

from prometheis import Endpoint, Handler, Memory, Prometheus, fetch
from processes import eventually, workplace

INTERVAL_S = 1  # Of scrapes, and of rules.
LEASE_S = 10
TRIES = 3  # To keep a limit of time: others may have the machine meanwhile. All else has to hold each time.
START_S = 0.5  # From ready to a target's place in the interval: its discovery takes a moment.
FOLLOWING = r"following, \d+ s behind\n"


def seconds(text):
    """Of a time in a log, or in an alert."""
    whole, part = re.match(r"(.*:\d\d)(\.\d+)?Z", text).groups()
    return calendar.timegm(time.strptime(whole, "%Y-%m-%dT%H:%M:%S")) + float(part or 0)


class Witness(Endpoint):
    """Counts its scrapes, each with a number of its own, and the alerts, by whom. Each Prometheus has a path."""

    def __init__(self):
        witness = self

        class Visit(Handler):
            def do_GET(self):
                number = witness.saw("scrape", self.path, time.time())
                self.answer(f"# TYPE witness_scrapes counter\nwitness_scrapes {number}\n".encode())

            def do_POST(self):
                alert = json.loads(self.rfile.read(int(self.headers["Content-Length"])))[-1]
                witness.saw("alert", self.path, seconds(alert["endsAt"]) - 4 * INTERVAL_S)
                self.answer()

        self.seen = collections.defaultdict(list)  # Of a scrape or alert and a name: [number, time] each
        self.lock = threading.Lock()
        super().__init__(Visit)

    def saw(self, what, path, at):
        """The time of an alert is that of the evaluation: until then, and for four more intervals, it holds."""
        with self.lock:
            number = len(self.scrapes())
            self.seen[what, path.split("/")[1]].append((number, at))
        return number

    def scrapes(self):
        """All of them, by whomever: (number, time)."""
        return [one for (what, _), seen in list(self.seen.items()) if what == "scrape" for one in seen]

    def times(self, what, name, since=0.0):
        return [at for _, at in self.seen[what, name] if at >= since]


class Node(Prometheus):
    """One of the two. All arguments but for the place are the same."""

    def __init__(self, name, program, work, memory, witness):
        super().__init__(name, program, work, [
            f"--storage.tsdb.maas.url={memory.url}", "--storage.tsdb.maas.owner=standby",
            "--storage.tsdb.maas.follow", "--rules.alert.resend-delay=0s", "--web.enable-otlp-receiver",
            "--web.enable-lifecycle"])
        self.witness = witness
        rules = self.write("rules.yml", "groups: [{name: standby, rules: ["
                           "{record: standby:scrapes, expr: witness_scrapes}, {alert: Always, expr: vector(1)}]}]\n")
        self.write(self.config,
                   f"global: {{scrape_interval: {INTERVAL_S}s, scrape_timeout: {INTERVAL_S}s, "
                   f"evaluation_interval: {INTERVAL_S}s}}\n"
                   f"rule_files: ['{rules}']\n"
                   f"alerting: {{alertmanagers: [{{path_prefix: /{name}, "
                   f"static_configs: [{{targets: ['{witness.address}']}}]}}]}}\n"
                   f"scrape_configs: [{{job_name: witness, metrics_path: /{name}, "
                   f"static_configs: [{{targets: ['{witness.address}']}}]}}]\n")

    def follow(self):
        """Starts it, if it has ended, and waits until it has caught up."""
        began = time.time()
        if not self.runs():
            self.begin()
        eventually(60, f"{self.name} to follow", self.follows)
        return began

    def follows(self):
        status, text = self.ready()
        return status == 503 and re.fullmatch(FOLLOWING, text)

    def number_of_last(self):
        """What its newest sample of the witness says; -1: there is none."""
        result = self.call("/api/v1/query", query="last_over_time(witness_scrapes[1h])")["result"]
        return int(result[0]["value"][1]) if result else -1

    def values(self, name):
        """All its samples of the witness's scrapes, or of how they went (up)."""
        result = self.call("/api/v1/query", query=name + "[1h]")["result"]
        return [int(value) for _, value in result[0]["values"]]

    def said_at(self, words):
        """When its log had these words last."""
        found = [line for line in self.text().splitlines() if words in line]
        return seconds(found[-1].removeprefix("time="))


class Senders:
    """Several at once send samples to a node, each as fast as they are taken, until the node has ended."""
    COUNT = 4
    POINTS = 500  # Of each request.

    def __init__(self, node):
        self.node = node
        self.statuses = collections.Counter()
        self.acknowledged = [[] for _ in range(self.COUNT)]  # Times of requests, by sender.
        self.threads = [threading.Thread(target=self.send, args=(sender,), daemon=True) for sender in range(self.COUNT)]
        for thread in self.threads:
            thread.start()

    def send(self, sender):
        while True:
            at_ms = int(time.time() * 1000)
            try:
                status, _ = fetch(f"{self.node.url}/api/v1/otlp/v1/metrics", "POST",
                                  {"Content-Type": "application/json"}, self.request(sender, at_ms))
            except (OSError, http.client.HTTPException):
                return
            self.statuses[status] += 1
            if status == 200:
                self.acknowledged[sender].append(at_ms)
            time.sleep(0.02)

    def request(self, sender, at_ms):
        def labels(**values):
            return [{"key": key, "value": {"stringValue": str(value)}} for key, value in values.items()]

        points = [{"timeUnixNano": str(at_ms * 1_000_000), "asDouble": 1,
                   "attributes": labels(sender=sender, point=point)} for point in range(self.POINTS)]
        metric = {"name": "sent", "gauge": {"dataPoints": points}}
        return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}).encode()

    def judge(self, leader):
        """What the node acknowledged is there."""
        for thread in self.threads:
            thread.join(60)
            assert not thread.is_alive(), f"{self.node.name} has not ended"
        print(f"  answers to senders: {dict(self.statuses)}", flush=True)
        for sender, times in enumerate(self.acknowledged):
            found = leader.call("/api/v1/query", query=f'sent{{sender="{sender}"}}[1h]')["result"]
            there = collections.Counter(round(float(at) * 1000) for series in found for at, _ in series["values"])
            lost = {at: there[at] for at in times if there[at] != self.POINTS}
            assert not lost, f"{leader.name} lacks samples that {self.node.name} acknowledged: {lost}"


class Pair:
    """Who leads, who follows, and what the samples have to be."""

    def __init__(self, leader, standby, witness):
        self.leader, self.standby, self.witness = leader, standby, witness
        self.gone = set()  # Numbers of the leader's scrapes in its last moment, or behind it.
        self.late = []  # Steps that took too long in this try.

    def within(self, limit_s, since, until, what):
        text = f"{what}: {until - since:.2f} s of {limit_s:.1f} s"
        print(f"  {text}", flush=True)
        if until - since > limit_s:
            self.late.append(text)

    def tries(self, death):
        """Until all was in time; who comes back from it follows, each time."""
        late = []
        for _ in range(TRIES):
            self.late = []
            death(self)
            self.standby_is_silent(self.standby.follow())
            if not self.late:
                return
            late += self.late
        raise AssertionError(f"too late in each of {TRIES} tries: {late}")

    def works(self):
        """Who leads scrapes, evaluates and sends."""
        node, since = self.leader, time.time()
        eventually(60, f"{node.name} to scrape, and to send alerts", lambda: all(
            len(self.witness.times(what, node.name, since)) >= 3 for what in ["scrape", "alert"]))
        assert node.metric("prometheus_rule_evaluations_total") > 0, f"{node.name} evaluates no rules"

    def standby_is_silent(self, since):
        """While the other one works."""
        self.works()
        node = self.standby
        for what in ["scrape", "alert"]:
            times = self.witness.times(what, node.name, since)
            assert not times, f"{node.name} follows, and {len(times)} times: {what}"
        assert node.metric("prometheus_rule_evaluations_total") == 0, f"{node.name} follows, and evaluates rules"
        assert node.metric("prometheus_tsdb_maas_following") == 1, f"{node.name} does not say that it follows"
        eventually(60, f"{node.name} to say how far behind it is", node.follows)

    def settle(self):
        """Until a new scrape is in the leader's log, and that in remote memory; returns when it was in the log."""
        scraped = len(self.witness.scrapes())
        eventually(60, "another scrape", lambda: self.leader.number_of_last() >= scraped, 0.02)
        logged = time.time()
        eventually(60, "remote memory to have it", lambda: time.time() - self.leader.metric(
            "prometheus_tsdb_maas_wal_lag_seconds") > logged, 0.02)
        return logged

    def takes_over(self):
        """The standby does; returns when it was ready."""
        node = self.standby
        ready = eventually(60, f"{node.name} to lead", lambda: node.is_ready() and time.time(), 0.02)
        self.leader, self.standby = node, self.leader
        first = eventually(60, f"{node.name} to scrape",
                           lambda: self.witness.times("scrape", node.name, ready - 1), 0.02)
        self.within(INTERVAL_S + START_S, ready, first[0], "ready to first scrape")
        self.works()
        return ready

    def keeps_samples(self, until):
        """All that was scraped before this time is there, and all since the standby leads."""
        numbers = self.leader.values("witness_scrapes")
        assert len(set(numbers)) == len(numbers), f"some samples are there twice: {numbers}"
        known = {*numbers, *self.gone}
        missing = {n: at for n, at in self.witness.scrapes() if n < max(numbers) and n not in known}
        first = min(self.witness.times("scrape", self.leader.name, until), default=until)
        moment = {n for n, at in missing.items() if until < at < first}
        print(f"  scraped, and not kept: {len(moment)} samples", flush=True)
        self.gone |= moment
        failed = self.leader.values("up").count(0)
        assert len(missing) - len(moment) <= failed, f"missing: {missing}, {until}, {first}, {failed} failed"

    def loses(self, words, limit_s, *faults):
        """The leader, by these faults; returns when that was."""
        print(words, flush=True)
        logged = self.settle()
        lost = time.time()
        for fault in faults:
            fault()
        self.within(limit_s, lost, self.takes_over(), "loss to ready")
        self.keeps_samples(logged)
        return lost


def is_ended(pair):
    print("SIGTERM", flush=True)
    old = pair.leader
    senders = Senders(old)
    eventually(60, f"{old.name} to acknowledge samples of each sender", lambda: all(senders.acknowledged))
    pair.settle()
    told = time.time()
    old.process.send_signal(signal.SIGTERM)
    ready = pair.takes_over()
    assert old.ends_by_itself(60) == 0, f"{old.name} ended with {old.process.returncode}"
    begun, ended = old.said_at("MaaS: handing over"), old.said_at("MaaS: handed over")
    pair.within(1, begun, ended, "rules and scrapes stopped to end of the session")
    pair.within(1, ended, ready, "end of the session to ready")
    print(f"  SIGTERM to ready: {ready - told:.2f} s", flush=True)
    pair.keeps_samples(told)
    senders.judge(pair.leader)


def is_killed(pair):
    pair.loses("kill -9", LEASE_S + 1, pair.leader.kill)


def is_started_again(pair):
    """At once, as by systemd: it has a log to replay, so the lead is for who has done so."""
    pair.loses("kill -9, and a start", LEASE_S, pair.leader.kill, pair.leader.begin)


def is_stopped(pair):
    old = pair.leader
    stopped = pair.loses("SIGSTOP, SIGCONT", LEASE_S + 1, lambda: old.process.send_signal(signal.SIGSTOP))
    senders = Senders(old)
    woken = time.time()
    old.process.send_signal(signal.SIGCONT)
    status = old.ends_by_itself(60)
    print(f"  SIGCONT to its end: {time.time() - woken:.2f} s", flush=True)
    assert status == 1, f"{old.name} ended with {status}"
    assert old.said("another Prometheus has taken over this owner's name"), f"{old.name} does not say why it ended"
    pair.gone |= {n for n, at in pair.witness.seen["scrape", old.name] if at > stopped}
    alerts = pair.witness.times("alert", old.name, stopped)
    assert not alerts, f"{old.name} sent alerts while {pair.leader.name} leads: " + \
        f"{[f'{at - woken:.2f} s' for at in alerts]} after it went on"
    senders.judge(pair.leader)
    pair.works()


def judge_metrics(node, promtool):
    """They are served meanwhile, and promtool likes them; so is /-/healthy."""
    assert node.get("/-/healthy")[0] == 200, f"{node.name} is not healthy"
    status, text = fetch(f"{node.url}/-/reload", "POST", timeout_s=10)  # Else it waits for as long as the leader lives.
    assert (status, text.split(b",")[0]) == (503, b"following"), f"a reload of {node.name}: {status} {text}"
    ours = "".join(re.findall(r"^.*prometheus_tsdb_maas_.*\n", node.metrics(), re.M))
    assert "prometheus_tsdb_maas_behind_seconds" in ours, f"{node.name} serves no metrics of the standby"
    result = subprocess.run([promtool, "check", "metrics"], input=ours, text=True, capture_output=True, check=False)
    assert result.returncode == 0, f"promtool: {result.stdout}{result.stderr}"


def judge_sessions(memory):
    """The server knows that one leads, and that one follows."""
    for name, exclusive in [("standby", True), ("standby@follow", False)]:
        sessions = memory.asked("GET", f"/sessions?name={name}")["sessions"]
        assert [session["exclusive"] for session in sessions] == [exclusive], f"sessions of {name}: {sessions}"


def run(memory, pair, promtool):
    memory.start()
    pair.leader.start()
    pair.standby_is_silent(pair.standby.follow())
    judge_sessions(memory)
    judge_metrics(pair.standby, promtool)
    for death in [is_ended, is_killed, is_started_again, is_stopped]:
        pair.tries(death)
    judge_sessions(memory)
    for node in [pair.standby, pair.leader]:
        node.stop()
        errors = node.said("level=ERROR") - node.said("MaaS: Prometheus ends; its next start follows")
        assert errors == 0, f"{node.name}: {errors} errors in its log"


def main():
    maasd, prometheus, promtool = sys.argv[1:]
    with workplace() as work:
        memory, witness = Memory(maasd, work), Witness()
        run(memory, Pair(*(Node(name, prometheus, work, memory, witness) for name in "ab"), witness), promtool)
        memory.stop()


main()
