#!/usr/bin/env python3
"""Each alert of ops/alerts.yml for Prometheus on the memory of maasd: fired by its real fault at a real leader or its
standby, and silent before it and after it. Prints which fault fired which alert.

Usage: test_prometheus_alerts.py MAASD PROMETHEUS PROMTOOL SOURCE [ALERT...]
"""
import os
import pathlib
import random
import subprocess
import sys
import time

from alerts import Rules, Site, Trials, of_prometheus
from prometheis import Prometheus, fetched
from processes import eventually

HEADER = 128  # Of an extent in remote memory, as prometheus/remotefile/header.go writes it.
KIND_OF_LOG = 2
HOURS = 6  # Of history, in blocks of two hours.
STEP_S = 10
SERIES = 60
WITHOUT_A_SERVER = ["PrometheusMaasDegraded", "PrometheusMaasFallback", "PrometheusMaasLogLag",
                    "PrometheusMaasStandbyBehind"]
TRIALS = Trials()


class Node(Prometheus):
    """A Prometheus on the memory of a server, which scrapes itself."""

    def __init__(self, name, program, work, memory, owner, *options):
        super().__init__(name, program, work, [f"--storage.tsdb.maas.url={memory.url}",
                                               f"--storage.tsdb.maas.owner={owner}", *options])
        self.address = f"127.0.0.1:{self.port}"
        self.write(self.config, "global: {scrape_interval: 200ms, scrape_timeout: 200ms}\n"
                   f"scrape_configs: [{{job_name: itself, static_configs: [{{targets: ['{self.address}']}}]}}]\n")

    def follows(self):
        return self.ready()[1].startswith("following, ")

    def follow(self):
        """Starts it, and waits until it has caught up."""
        self.begin()
        eventually(120, f"{self.name} to follow", self.follows)

    def has(self, metric, label=""):
        return self.metric("prometheus_tsdb_maas_" + metric, label) > 0

    def again(self, last):
        """Ends, and starts with this in place of its last option."""
        self.stop()
        self.options[-1] = last
        self.start()


class Nodes(Site):
    """Prometheis, and servers that keep their memory over a restart."""

    def __init__(self, maasd, prometheus, promtool, work):
        super().__init__(maasd, work, "--rdma", "off", "--max-pool-size", "256MiB")
        self.prometheus, self.promtool = prometheus, promtool

    def memory(self):
        """A server that runs."""
        return self.server("--memory-file", self.path("memory"))

    def node(self, name, memory, owner, *options):
        return self.add(Node(name, self.prometheus, self.work, memory, owner, *options))

    def pair(self, memory, owner, *options):
        """A leader, and a standby that follows it."""
        leader, standby = (self.node(f"{owner}-{role}", memory, owner, "--storage.tsdb.maas.follow", *options)
                           for role in ["leader", "standby"])
        leader.start()
        eventually(60, "the log in remote memory", lambda: leader.has("wal_acknowledged_bytes_total"))
        standby.follow()
        return leader, standby


@TRIALS.add(WITHOUT_A_SERVER, "kill -9 of maasd, and a query meanwhile")
def has_no_server(site):
    memory = site.memory()
    leader, standby = site.pair(memory, "cut-off", "--storage.tsdb.maas.cache-size=64KB")
    eventually(120, "chunks in remote memory", lambda: leader.has("stored_bytes", "chunks_head"))
    yield {alert: (standby if "Standby" in alert else leader).address for alert in WITHOUT_A_SERVER}
    memory.kill()
    leader.call("/api/v1/query", query='last_over_time({job="itself"}[1h])')
    yield
    memory.start()


@TRIALS.add("PrometheusMaasTookOver", "kill -9 of the leader")
def has_no_leader(site):
    leader, standby = site.pair(site.memory(), "orphan")
    yield standby.address
    leader.kill()
    yield


@TRIALS.add("PrometheusMaasStandbyStartsOver", "a wrong byte in the leader's log, and a standby on an empty disk",
            also=["PrometheusMaasStandbyBehind"])
def has_a_wrong_byte(site):
    memory = site.memory()
    _, standby = site.pair(memory, "misread")
    url = f"{memory.url}/allocate/{first_of_log(memory, 'misread')}/data"
    place = HEADER + 64
    good = fetched(url, "GET", {"Range": f"bytes={place}-{place}"})
    yield standby.address
    fetched(url, "PUT", {"Content-Range": f"bytes {place}-{place}/*"}, bytes([good[0] ^ 1]))
    standby.kill()
    standby.forget_data()
    standby.begin()
    yield
    fetched(url, "PUT", {"Content-Range": f"bytes {place}-{place}/*"}, good)


def first_of_log(memory, owner):
    """The id of the extent with the beginning of the log: by kind, the lowest number, and index 0."""
    found = []
    for allocation in memory.asked("GET", f"/allocations?owner={owner}")["allocations"]:
        header = fetched(f"{memory.url}/allocate/{allocation['id']}/data", "GET", {"Range": "bytes=0-63"})
        if header[5] == KIND_OF_LOG:
            found.append((header[8:12][::-1], header[16:20][::-1], allocation["id"]))
    return min(found)[2]


@TRIALS.add("PrometheusMaasTakeoverNotWhole", "a share of remote memory for one block of three")
def has_more_blocks(site):
    node = site.node("history", site.memory(), "history", "--storage.tsdb.maas.blocks=200MB")
    make_blocks(site.promtool, node)
    node.start()

    def is_whole():
        return node.metric("prometheus_tsdb_maas_takeover_oldest_timestamp_seconds") == \
            node.metric("prometheus_tsdb_lowest_timestamp_seconds") and not node.has("blocks_pending_bytes")

    eventually(120, "all blocks in remote memory", is_whole)
    yield node.address
    node.again(f"--storage.tsdb.maas.blocks={3 * largest_block(node) // 2}B")
    yield
    node.again("--storage.tsdb.maas.blocks=200MB")


def make_blocks(promtool, node):
    """Blocks of the hours before these."""
    end = int(time.time()) // 7200 * 7200 - 7200
    history = os.path.join(node.work, "history.txt")
    random.seed(1)
    with open(history, "w", encoding="ascii") as file:
        file.write("# TYPE history gauge\n")
        for at in range(end - HOURS * 3600, end, STEP_S):
            file.writelines(f'history{{n="{n}"}} {random.random()} {at}\n' for n in range(SERIES))
        file.write("# EOF\n")
    os.mkdir(node.data)
    subprocess.run([promtool, "tsdb", "create-blocks-from", "openmetrics", history, node.data], check=True,
                   stdout=subprocess.DEVNULL)


def largest_block(node):
    blocks = [path.parent for path in pathlib.Path(node.data).glob("*/meta.json")]
    sizes = [sum(file.stat().st_size for file in block.rglob("*") if file.is_file()) for block in blocks]
    assert len(sizes) == HOURS // 2, f"{len(sizes)} blocks"
    return max(sizes)


def main():
    maasd, prometheus, promtool, source, *only = sys.argv[1:]
    rules = Rules(source)
    wanted = {alert for alert in rules.alerts if of_prometheus(alert)}
    assert TRIALS.alerts() == wanted, f"alerts without a fault: {wanted ^ TRIALS.alerts()}"
    TRIALS.fire(rules, "prometheus", only, lambda work: Nodes(maasd, prometheus, promtool, work))


main()
