#!/usr/bin/env python3
"""What a Prometheus of an earlier release left in remote memory is taken over by this one: the head's chunks, log, late
samples, checkpoint, blocks and the snapshot of its end, as they lie in tests/released/VERSION/prometheus.tar.xz.

Usage: test_released_prometheus.py check MAASD PROMETHEUS MAAS DIRECTORY   all versions below DIRECTORY
       test_released_prometheus.py write MAASD PROMETHEUS MAAS DIRECTORY   the files of this one
"""
import glob
import hashlib
import json
import os
import sys
import tempfile
import time

import released
from prometheis import Memory, Prometheus, fetched
from processes import eventually, workplace

OWNER = "released"
POOL = "96MiB"
STEP_S = 15  # Of the samples' time, which goes faster than the clock.
STEPS = 280
SERIES = 5
KINDS = {"chunks_head", "wal", "wbl", "checkpoint", "block", "chunk_snapshot"}


def samples(begin, first, last):
    """The samples of these steps in OTLP's JSON. Every fourth step, one series has a late one instead."""
    def gauge(name, points):
        return {"name": name, "gauge": {"dataPoints": [
            {"timeUnixNano": str((begin + at) * 10**9), "asDouble": value,
             "attributes": [{"key": "series", "value": {"stringValue": series}}]} for at, value, series in points]}}

    steps = range(first, last)
    metrics = [gauge("released_value", [(n * STEP_S, n * (i + 1) % 11, str(i)) for n in steps for i in range(SERIES)]),
               gauge("released_late", [(n * STEP_S - (300 if n % 4 == 3 else 0), n, "late") for n in steps])]
    return json.dumps({"resourceMetrics": [{"scopeMetrics": [{"metrics": metrics}]}]}).encode()


def send(prometheus, begin, first, last):
    fetched(prometheus.url + "/api/v1/otlp/v1/metrics", "POST", {"Content-Type": "application/json"},
            samples(begin, first, last))


def start(program, work, url, name):
    """A Prometheus that keeps what is old, with blocks of ten minutes."""
    prometheus = Prometheus(name, program, work, [
        f"--storage.tsdb.maas.url={url}", f"--storage.tsdb.maas.owner={OWNER}", "--storage.tsdb.maas.blocks=64MB",
        "--storage.tsdb.retention.time=100y", "--storage.tsdb.min-block-duration=10m",
        "--storage.tsdb.max-block-duration=10m", "--enable-feature=memory-snapshot-on-shutdown",
        "--web.enable-otlp-receiver"])
    prometheus.write(prometheus.config, "storage: {tsdb: {out_of_order_time_window: 1h}}\n")
    prometheus.start()
    return prometheus


def answers(prometheus, begin, end):
    """How many samples each series has, and a checksum of them with their times."""
    found = {}
    for one in prometheus.call("/api/v1/query", query=f'{{__name__=~"released_.*"}}[{end - begin + STEP_S}s]', time=end)["result"]:
        name = one["metric"]["__name__"] + one["metric"].get("series", "")
        text = json.dumps(one["values"])
        found[name] = [len(one["values"]), hashlib.sha256(text.encode()).hexdigest()]
    return found


def kinds(maas, url):
    """What the memory holds, as the command tells it."""
    return released.run(maas, "prometheus", "status", "--url", url, "--owner", OWNER, "--json")


def write(maasd, program, maas, directory):
    """A Prometheus that lives through an hour in half a minute, and ends."""
    end = int(time.time()) // STEP_S * STEP_S - 60
    begin = end - STEPS * STEP_S
    with tempfile.TemporaryDirectory() as work, tempfile.TemporaryDirectory(dir="/dev/shm") as shm:
        memory = Memory(maasd, work, os.path.join(shm, "memory"), POOL)
        memory.start()
        prometheus = start(program, work, memory.url, "writer")
        try:
            for first in range(0, STEPS, 10):
                send(prometheus, begin, first, first + 10)
                time.sleep(1)
            eventually(120, "copies of the blocks", lambda: prometheus.metric("prometheus_tsdb_blocks_loaded") > 2 and
                       prometheus.metric("prometheus_tsdb_maas_blocks_pending_bytes") == 0)
            eventually(60, "the log", lambda: prometheus.metric("prometheus_tsdb_maas_wal_lag_seconds") < 1)
            want = answers(prometheus, begin, end)
            prometheus.stop()
            status = kinds(maas, memory.url)
            memory.stop()
        finally:
            prometheus.kill()
        missing = [kind for kind in KINDS if f'"{kind}' not in status]
        assert not missing and len(want) == SERIES + 1, f"nothing of {missing}, or of a series: {want} {status}"
        released.pack(shm, os.path.join(directory, "prometheus.tar.xz"))
    released.write_json(os.path.join(directory, "takeover.json"), {
        "begin": begin, "end": end, "answers": want, "status": released.json_of({"prometheus status": status})})


def check(maasd, program, maas, directory):
    archives = sorted(glob.glob(os.path.join(directory, "*", "prometheus.tar.xz")))
    assert archives, f"nothing in {directory}"
    for archive in archives:
        wanted = released.read_json(os.path.dirname(archive), "takeover.json")
        with workplace() as work, tempfile.TemporaryDirectory(dir="/dev/shm") as shm:
            memory = Memory(maasd, work, released.unpack(archive, shm), POOL)
            memory.start()
            status = released.json_of({"prometheus status": kinds(maas, memory.url)})
            breaches = released.json_breaches(wanted["status"], status)
            assert not breaches, "; ".join(breaches)
            prometheus = start(program, work, memory.url, "successor")
            try:
                eventually(60, f"the answers of {archive}",
                           lambda: prometheus.metric("prometheus_tsdb_maas_blocks_returning_bytes") == 0 and
                           answers(prometheus, wanted["begin"], wanted["end"]) == wanted["answers"])
            except AssertionError as err:
                got = answers(prometheus, wanted["begin"], wanted["end"])
                raise AssertionError(f"{err}: wanted {wanted['answers']}, got {got}") from err
            assert prometheus.said("restored the head from remote memory"), "nothing was restored"
            prometheus.stop()
            memory.stop()
        print(f"taken over: {archive}: {len(wanted['answers'])} series", flush=True)


if __name__ == "__main__":
    {"write": write, "check": check}[sys.argv[1]](*sys.argv[2:])
