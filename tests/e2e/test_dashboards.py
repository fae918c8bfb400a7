#!/usr/bin/env python3
"""The dashboards of ops/grafana, held against the alerts, docs/operations.md and the metrics that there are; and what
a Prometheus that scrapes a loaded server answers each panel of three of them. (RDMA: tests/rdma/programs.sh; Prometheus
on MaaS: test_prometheus.sh.)

Usage: test_dashboards.py MAASD SOURCE
"""
import collections
import contextlib
import glob
import http.client
import json
import os
import re
import shutil
import socket
import ssl
import sys
import threading
import time
import urllib.request

import yaml
from certificates import Certificates
from dashboards import MAY_BE_ZERO, SCRAPE_S, Dashboard, Source, form
from processes import Maasd, bearer, token_of, workplace, write_principals
from prometheis import Prometheus

NAMES = ["access", "http", "pool", "prometheus", "rdma"]
ASKED = ["access", "http", "pool"]  # Here.
METRIC = r"\b(?:(?:maas|process|prometheus)_\w+|up\b)"
LEFT_OUT = {"process_virtual_memory_bytes": "address space, most of which is the pool's and costs nothing"}
MIB = 1 << 20
PRINCIPALS = {
    "team": "owner=team/* max-connections=100 max-grants=9",
    "small": "owner=small/* max-bytes=1MiB max-allocations=3 max-sessions=2 max-owners=5",
    "scraper": "metrics",
}


# ---- what the files say


def numbers(expression):
    """Those that an alert compares with; of a count that must not be above n, n + 1, too."""
    products = re.findall(r"[<>=]=? ([\d.]+(?: \* [\d.]+)*)", expression)
    values = [eval(product, {}) for product in products]  # pylint: disable=eval-used
    return {*values, *(value + 1 for value in values if value == int(value))}


class Rules:
    """The alerts, and the paragraphs that say what to do."""

    def __init__(self, source):
        with open(os.path.join(source, "ops", "alerts.yml"), encoding="utf-8") as file:
            groups = yaml.safe_load(file)["groups"]
        self.alerts = {rule["alert"]: rule["expr"] for group in groups for rule in group["rules"]}
        self.linked = set()

    def judge(self, panel):
        """The links of a panel are to alerts, and its thresholds are theirs."""
        titles = [link["title"] for link in panel.get("links", [])]
        self.linked.update(titles)
        for link in panel.get("links", []):
            if link["title"] not in self.alerts or link["url"] != "${runbook:raw}#" + link["title"].lower():
                yield f"no alert and its paragraph: {link}"
        limits = {step["value"] for step in panel["fieldConfig"]["defaults"].get("thresholds", {}).get("steps", [])}
        allowed = set().union(*(numbers(self.alerts.get(title, "")) for title in titles))
        if limits - {None} - allowed:
            yield f"thresholds {limits} are not those of {titles}"


def judge_panel(panel):
    """What each has to have."""
    if len(panel["description"]) < 40 or not panel["description"].endswith("."):
        yield "its description says nothing"
    if not panel["fieldConfig"]["defaults"].get("unit"):
        yield "no unit"
    if not 3 <= len(panel["title"]) <= 40 or not panel["title"][0].isupper():
        yield "its title"
    if panel["datasource"] != {"type": "prometheus", "uid": "${datasource}"}:
        yield "not of the variable datasource"
    for target in panel["targets"]:
        for name, filters in re.findall("(" + METRIC + r")(\{[^}]*\})?", re.sub('"[^"]*"', "$", target["expr"])):
            if "instance=~$" not in filters or "job=~$" not in filters:
                yield f"{name} is not of the job and the instances that were chosen"


def judge_places(panels):
    """They neither overlap nor leave the 24 columns."""
    taken = collections.Counter()
    for panel in panels:
        place = panel["gridPos"]
        if place["x"] + place["w"] > 24:
            yield f"{panel['title']} is too far to the right"
        taken.update((x, y) for x in range(place["x"], place["x"] + place["w"])
                     for y in range(place["y"], place["y"] + place["h"]))
    if any(count > 1 for count in taken.values()):
        yield "panels overlap"


def judge(name, board, rules):
    """All that a file can be wrong in, without a Prometheus."""
    panels = board.json["panels"]
    if board.text != form(board.json) + "\n":
        yield f"not in the form of: dashboards.py form {board.path}"
    if board.uid != f"maas-{name}" or "maas" not in board.json["tags"] or board.json["schemaVersion"] < 38:
        yield "uid, tag or schema"
    for what in ["id", "title"]:
        if len({panel[what] for panel in panels}) != len(panels):
            yield f"two panels of one {what}"
    if [variable["name"] for variable in board.variables("datasource")] != ["datasource"]:
        yield "no variable datasource"
    yield from judge_places(panels)
    for panel in board.panels():
        yield from (f"{panel['title']}: {why}" for why in [*judge_panel(panel), *rules.judge(panel)])
    unknown = set(MAY_BE_ZERO.get(board.uid, ())) - {panel["title"] for panel in panels}
    if unknown:
        yield f"no panels, and yet in MAY_BE_ZERO: {unknown}"


def named_in(path, prefixes):
    """The series in the lines of a file that are no comments or headings."""
    with open(path, encoding="utf-8") as file:
        text = "".join(line for line in file if not line.lstrip().startswith("#"))
    return set(re.findall(rf"\b(?:{prefixes})_[a-z_]+", text))


def without_suffix(name):
    """The metric that a series is of."""
    return re.sub("_(bucket|sum|count)$", "", name)


def judge_metrics(boards, served, source):
    """Each that a panel, ops/ or docs/operations.md names is there, and each that is there is in a panel."""
    with open(os.path.join(source, "prometheus", "memory", "metrics.go"), encoding="utf-8") as file:
        ours = re.findall(r'(?:auge|ounter)(?:Vec)?\("(\w+)"|Name: +namespace \+ "(\w+)"', file.read())
    there = {"prometheus_tsdb_maas_" + (one or other) for one, other in ours}
    there.update(name for name in re.findall(r"^# TYPE (\S+)", served, re.M)
                 if name.startswith(("maas_", "process_", "prometheus_tsdb_lowest_timestamp_seconds")))
    text = " ".join(target["expr"] for board in boards for _, target in board.expressions())
    named = {without_suffix(name) for name in re.findall(METRIC, re.sub('"[^"]*"', "", text))}
    ops = set().union(*(named_in(path, "maas|process|prometheus")
                        for path in glob.glob(os.path.join(source, "ops", "*.yml"))))
    docs = named_in(os.path.join(source, "docs", "operations.md"), "maas|prometheus_tsdb")
    if len(ops) < 20 or not docs:
        yield f"only {len(ops)} and {len(docs)} metrics are named in ops/ and docs/operations.md"
    for name in re.findall(r"^# HELP (\S+) .* 0: ", served, re.M):
        if re.search(name + r"\{[^}]*\}(?! > 0)", text):
            yield f"0 of {name} is no value, and a panel takes it for one"
    types = dict(re.findall(r"^# TYPE (\S+) (\S+)", served, re.M))
    parts = {name + part for name, kind in types.items() if kind in ("histogram", "summary")
             for part in ("_bucket", "_sum", "_count")}
    for name in (named - there - {"up"}) | ((ops | docs) - there - set(types) - parts):
        yield f"there is no {name}"
    stock = {name for name in there if name.startswith("prometheus_tsdb_lowest")}
    for name in there - named - stock - set(LEFT_OUT):
        yield f"no panel has {name}"
    for name in set(LEFT_OUT) & named:
        yield f"{name} is in a panel, and yet in LEFT_OUT"


# ---- the load


class Client:
    """Sends requests of all kinds, again and again, each of which has to be answered as it should."""

    def __init__(self, port, ca):
        self.port, self.tls = port, ssl.create_default_context(cafile=ca)
        self.stop, self.wrong, self.turns = threading.Event(), [], 0
        self.connection = None
        self.held = contextlib.ExitStack()

    def send(self, name, method, path, value=None):
        """Status and text, of one connection that is kept."""
        if not self.connection:
            self.connection = http.client.HTTPSConnection("localhost", self.port, timeout=30, context=self.tls)
        headers = bearer(name) if name else {}
        body = value
        if isinstance(value, dict):
            headers["Content-Type"], body = "application/json", json.dumps(value)
        self.connection.request(method, path, body, headers)
        answer = self.connection.getresponse()
        text = answer.read()
        if answer.headers.get("Connection") == "close":
            self.connection.close()
        return answer.status, text

    def ask(self, wanted, name, method, path, value=None):
        status, text = self.send(name, method, path, value)
        if status not in wanted:
            self.wrong.append(f"{method} {path} {value} by {name}: {status} {text[:200]}, not {wanted}")
        return json.loads(text) if text.startswith(b"{") else {}

    def hold(self):
        """A transfer that does not end: nobody reads the answer."""
        memory = self.ask([200], "team", "POST", "/allocate", {"size_bytes": 4 * MIB, "owner": "team/slow"})["id"]
        raw = self.held.enter_context(socket.create_connection(("localhost", self.port)))
        slow = self.held.enter_context(self.tls.wrap_socket(raw, server_hostname="localhost"))
        slow.sendall(f"GET /allocate/{memory}/data HTTP/1.1\r\nHost: localhost\r\n"
                     f"Authorization: Bearer {token_of('team')}\r\n\r\n".encode())

    def crowd(self):
        """More connections than one address may have, and none of them speaks TLS."""
        with contextlib.ExitStack() as crowd:
            for _ in range(14):
                one = crowd.enter_context(socket.create_connection(("127.0.0.1", self.port), 30, ("127.0.0.2", 0)))
                with contextlib.suppress(OSError):
                    one.sendall(b"GET / HTTP/1.1\r\n\r\n")

    def turn(self):
        for size in [100, 60_000, MIB]:
            memory = self.ask([200], "team", "POST", "/allocate", {"size_bytes": size, "owner": "team/1"})["id"]
            self.ask([200, 204], "team", "PUT", f"/allocate/{memory}/data", bytes(100))
            self.ask([200], "team", "GET", f"/allocate/{memory}/data")
            self.ask([200, 204], "team", "DELETE", f"/allocate/{memory}")
        lapsing = {"size_bytes": 1, "owner": "small", "lifetime": "ttl", "ttl_seconds": 1}
        self.ask([200], "team", "POST", "/allocate", {"size_bytes": 4000, "owner": "team/growth"})
        self.ask([200, 507], "small", "POST", "/allocate", lapsing)
        self.ask([200, 429], "small", "POST", "/sessions", {"name": "small", "ttl_seconds": 1})
        self.ask([507], "small", "POST", "/allocate", {"size_bytes": 4 * MIB, "owner": "small"})
        self.ask([507], "team", "POST", "/allocate", {"size_bytes": 4 * MIB, "count": 100, "owner": "team/1"})
        self.ask([413], "team", "POST", "/allocate", {"size_bytes": 1 << 40, "owner": "team/1"})
        self.ask([403], "scraper", "GET", "/allocations?owner=team/1")
        self.ask([401, 429], "nobody", "GET", "/stats")
        self.ask([401, 429], None, "GET", "/stats")
        self.crowd()
        self.turns += 1

    def work(self):
        with self.held:
            self.hold()
            while not self.stop.wait(0.3):
                self.turn()


# ---- the programs


def start_server(maasd, work):
    """A small one, with TLS, a revocation list and principals."""
    certificates = Certificates(work)
    certificates.make_ca("ca")
    certificates.make("server")
    certificates.make_crl()
    return Maasd(maasd, work, "maasd", "--max-pool-size", "64MiB", "--max-connections-per-address", "8",
                 "--auth-file", write_principals(certificates.path("principals"), PRINCIPALS),
                 "--tls-cert", certificates.path("server.pem"), "--tls-key", certificates.path("server.key"),
                 "--tls-client-ca", certificates.path("ca.pem"), "--tls-client-crl", certificates.path("ca.crl"))


def start_prometheus(source, work, port):
    """Debian's, with the alerts of ops/."""
    prometheus = Prometheus("prometheus", shutil.which("prometheus"), work, [])
    prometheus.write("token", token_of("scraper"))
    prometheus.write(prometheus.config, json.dumps({
        "global": {"scrape_interval": f"{SCRAPE_S}s", "evaluation_interval": "1s"},
        "rule_files": [os.path.join(source, "ops", "alerts.yml")],
        "scrape_configs": [
            {"job_name": "maasd", "scheme": "https", "tls_config": {"ca_file": "ca.pem"},
             "authorization": {"credentials_file": "token"},
             "static_configs": [{"targets": [f"localhost:{port}"]}]}]}))
    prometheus.start()
    return prometheus


def judge_firing(boards, prometheus):
    """What fires is shown beside the graphs."""
    alerts = {one["metric"]["alertname"] for one in prometheus.series('ALERTS{alertstate="firing"}')}
    if not {"MaasQuotaReached", "MaasPoolFull"} <= alerts:
        yield f"no alerts of what was refused: {alerts}"
    for board in boards:
        for _, annotation in [pair for pair in board.expressions() if not pair[0]]:
            if not re.fullmatch(r'ALERTS{alertstate="firing",job=~"\$\w+",instance=~"\$\w+"}', annotation["expr"]):
                yield f"{board.path}: {annotation['expr']}"


def judge_checks(board, source):
    """A check that cannot fail checks nothing: panels that are empty, and one that shows a label that is not there."""
    for old, new in [("maas_sessions{", "maas_sessionz{"), ("{{instance}}", "{{nowhere}}"), ("$instance", "none")]:
        broken = Dashboard(board.path)
        broken.json = json.loads(board.text.replace(old, new))
        if not broken.problems(source, MAY_BE_ZERO[board.uid]):
            yield f"nothing is found in a dashboard with {new}"


def run(maasd, source, work):
    boards = {name: Dashboard(os.path.join(source, "ops", "grafana", name + ".json")) for name in NAMES}
    files = {name[:-5] for name in os.listdir(os.path.join(source, "ops", "grafana"))}
    found, rules = [f"files {files}, not {NAMES}"] if files != set(NAMES) else [], Rules(source)
    for name, board in boards.items():
        found += [f"{board.path}: {why}" for why in judge(name, board, rules)]
    found += [f"no panel leads to {alert}" for alert in set(rules.alerts) - rules.linked]
    server = start_server(maasd, work)
    client = Client(server.port, os.path.join(work, "ca.pem"))
    worker = threading.Thread(target=client.work)
    prometheus = start_prometheus(source, work, server.port)
    worker.start()
    try:
        asked, api = [boards[name] for name in ASKED], Source(prometheus.url)
        request = urllib.request.Request(f"https://localhost:{server.port}/metrics", headers=bearer("scraper"))
        with urllib.request.urlopen(request, context=client.tls, timeout=30) as answer:
            found += judge_metrics(boards.values(), answer.read().decode() + "".join(
                re.findall("# TYPE prometheus_.*\n", prometheus.metrics())), source)
        deadline = time.monotonic() + 40
        while empty := [*judge_firing(boards.values(), api), *(
                why for board in asked for why in board.problems(api, MAY_BE_ZERO.get(board.uid, ())))]:
            if time.monotonic() > deadline or not worker.is_alive():
                break
            time.sleep(1)
        found += empty
        found += judge_checks(boards["pool"], api)
    finally:
        client.stop.set()
    worker.join(60)
    prometheus.stop()
    server.stop()
    if not client.turns:
        found.append("the client did not come to the end of a turn")
    return found + client.wrong[:10]


def main():
    with workplace() as work:
        found = run(sys.argv[1], os.path.abspath(sys.argv[2]), work)
        assert not found, "\n".join(found)


main()
