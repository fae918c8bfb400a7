#!/usr/bin/env python3
"""An operator's evening with three Prometheis: stock, mirror and remote, side by side.

Usage: test_evening.py MAASD PROMETHEUS
EVENING_MINUTES (30): how long it lasts at least.

They scrape the same targets while an operator tries what can go wrong. Judged, whenever all is quiet again:
equal answers, no gap but those of the restarts, the history of before a take-over, and that each line of a log
that is no information belongs to the trial at hand.
"""
import collections
import os
import re
import shutil
import sys
import tempfile
import time

from evening import INTERVAL_S, NAMES, STEP_S, Prometheus, Target
from prometheis import Memory
from processes import eventually, workplace

MINUTES = float(os.environ.get("EVENING_MINUTES", "30"))
BLOCK_S = 60 if MINUTES < 15 else 120
RETENTION_S = 300 if MINUTES < 15 else 720
WINDOW_S = STEP_S - INTERVAL_S - 1  # Of a step: a scrape late in it may be answered in the next.
TRIALS = []

# Lines that say nothing new: each trial explains them.
AGAIN = ["A lockfile from a previous execution already existed"]
STOPPED = ["Received an OS signal, exiting gracefully"]
OUT = ["MaaS server failed; ", "MaaS server is not in use yet"]


def trial(**explained):
    """A trial, and what it explains in whose log."""
    def add(function):
        TRIALS.append((function, explained))
        return function
    return add


class Evening:
    def __init__(self, maasd, prometheus, work, shm):
        options = [f"--storage.tsdb.min-block-duration={BLOCK_S}s",
                   f"--storage.tsdb.max-block-duration={3 * BLOCK_S}s",
                   f"--storage.tsdb.retention.time={RETENTION_S}s"]
        self.memory = Memory(maasd, work, os.path.join(shm, "maas"))
        remote = [f"--storage.tsdb.maas.url={self.memory.url}"]
        self.stock = Prometheus("stock", prometheus, work, options)
        self.mirror = Prometheus("mirror", prometheus, work, options + remote + ["--storage.tsdb.maas.owner=mirror"])
        self.remote = Prometheus("remote", prometheus, work, options + remote + [
            "--storage.tsdb.maas.owner=remote", "--no-storage.tsdb.maas.fallback"])
        self.ours = [self.mirror, self.remote]
        self.all = [self.stock, *self.ours]
        self.targets = [Target(i) for i in range(3)]
        self.lines = collections.Counter()
        self.bad = []
        self.begin = time.time()

    def start(self):
        self.memory.start()
        for server in self.all:
            server.configure(self.targets)
            server.start()

    def quiet(self):
        for server in self.ours:
            eventually(240, f"{server.name} to be quiet", server.is_quiet)

    def ends(self):
        """The ends of the windows that retention leaves alone, oldest first."""
        oldest = max(self.begin, time.time() - RETENTION_S + STEP_S)
        first = (int(oldest) // STEP_S + 1) * STEP_S + WINDOW_S
        return list(range(first, int(time.time()) - INTERVAL_S, STEP_S))

    def history(self, server, ends):
        """Each value, and how many samples there are."""
        answers = server.range(f'last_over_time({{__name__=~"load_.+"}}[{WINDOW_S}s])', ends)
        for name in NAMES:
            counts = server.range(f"sum by (instance) (count_over_time({name}[{STEP_S}s]))", ends)
            answers.update({(name, *key): value for key, value in counts.items()})
        return answers

    def keeps_history(self, server, *changes):
        """After these changes the server answers as before."""
        ends = self.ends()
        before = self.history(server, ends)
        time.sleep(2)  # Behind the last of them; a take-over has all but the last second.
        for change in changes:
            change()
        self.quiet()
        ends = [end for end in self.ends() if end in ends]
        assert ends, "it took too long: nothing of before is left"
        before = {key: value for key, value in before.items() if key[-1] >= ends[0]}
        same(f"{server.name}: the history of before", before, self.history(server, ends))

    def compare(self):
        """All three answer the same, wherever all three were there."""
        ends = [end for end in self.ends() if
                all(s.was_there(end - WINDOW_S - INTERVAL_S, end + INTERVAL_S) for s in self.all)]
        if not ends:
            return
        wanted = set(ends)
        queries = [(f"{f} by (instance) (count_over_time({name}[{WINDOW_S}s]))", 2)
                   for name in NAMES for f in ["min", "max"]]
        for query, near in [(f'last_over_time({{__name__=~"load_.+"}}[{WINDOW_S}s])', 0)] + queries:
            answers = [{k: v for k, v in s.range(query, ends).items() if k[1] in wanted} for s in self.all]
            assert answers[0], f"no answer: {query}"
            for server, answer in zip(self.ours, answers[1:]):
                same(f"{server.name} beside stock: {query}", answers[0], answer, near)

    def find_gaps(self):
        """No target is without a sample for longer than a restart took."""
        now = time.time()
        since = max(self.begin + 3 * INTERVAL_S, now - RETENTION_S)
        for server in self.all:
            query = f'up{{job=~"load|self"}}[{int(now - since)}s]'
            result = server.call("/api/v1/query", query=query, time=now)["result"]
            assert len(result) >= 1 + 3, f"{server.name}: only {len(result)} targets"
            for series in result:
                times = [since] + [at for at, _ in series["values"]] + [now]
                for a, b in zip(times, times[1:]):
                    assert b - a <= 2.5 * INTERVAL_S or self.is_explained(server, series, a, b), \
                        f"{server.name}: no sample of {series['metric']} from {a:.1f} to {b:.1f}; away: {server.away}"
                failed = [at for at, value in series["values"] if value != "1"]
                assert not failed or series["metric"]["job"] != "load", \
                    f"{server.name}: failed scrapes of {series['metric']} at {failed}"

    def is_explained(self, server, series, a, b):
        slack = 1.5 * INTERVAL_S
        late = series["metric"]["instance"] not in [t.address for t in self.targets[:3]] + [server.url[7:]]
        return late or any(from_ - slack < a and b < to + slack for from_, to in server.away)

    def judge_logs(self, explained):
        """Each line is information, or one that is explained, once; others are shown, and fail the test in the end."""
        for process in [self.memory, *self.all]:
            known = explained.get(process.name, []) + (explained.get("ours", []) if process in self.ours else []) + (
                explained.get("everyone", []) if process in self.all else [])
            for line in process.lines():
                self.lines[process.name, kind(line)] += 1
                if not is_loud(line):
                    continue
                words = next((words for words in known if words in line), None)
                if words:
                    known.remove(words)
                    continue
                self.bad.append(f"unexplained: {process.name}: {line}")
                print(self.bad[-1], flush=True)

    def judge_repeats(self):
        """No line comes again and again; maasd has one for each call that lends or frees."""
        minutes = (time.time() - self.begin) / 60
        return [f"{n} times: {who}: {what}" for (who, what), n in self.lines.items()
                if n > 20 + minutes * (30 if who == "maasd" else 4)]

    def judge_compactions(self):
        """They were there: the head's, those of blocks, and retention."""
        wanted = {"write block completed": 2}
        if time.time() - self.begin > 3 * RETENTION_S / 2:
            wanted.update({"compact blocks": 1, "Deleting obsolete block": 1})
        return [f"{s.name}: {s.said(words)} lines '{words}'" for s in self.all for words, n in wanted.items()
                if s.said(words) < n]


def is_loud(line):
    return not re.match(r"time=\S+ level=(INFO|DEBUG) |\S+Z (info|debug) |Listening on http", line)


def kind(line):
    """A line without what differs each time."""
    found = re.search(r'level=\S+ .*msg=("[^"]*"|\S+)', line)
    text = found[1] if found else re.sub(r"^\S+Z ", "", line)
    return re.sub(r"(?<!status=)\b[0-9a-f-]*\d[0-9a-f-]*", "N", text)


def same(what, want, got, near=0):
    """Both have the same keys and the same values, or values that near."""
    wrong = [(key, want.get(key), got.get(key)) for key in want.keys() | got.keys()
             if want.get(key) != got.get(key) and
             not (near and key in want and key in got and abs(float(want[key]) - float(got[key])) <= near)]
    sample = "\n".join(map(str, sorted(wrong, key=str)[:10]))
    assert not wrong, f"{what}: {len(wrong)} of {len(want)} answers differ:\n{sample}"


@trial()
def starts(e):
    """Nothing but the load, up to the second compaction of the head."""
    eventually(5 * BLOCK_S, "two compactions of each head",
               lambda: all(s.said("write block completed") >= 2 for s in e.all))


@trial(ours=OUT)
def memory_is_killed(e):
    e.memory.kill()
    time.sleep(2)
    e.memory.start()


@trial(ours=OUT, remote=AGAIN + ["Prometheus ends, because completed chunks can no longer be kept"])
def memory_comes_back_empty(e):
    # A head that was compacted just now has no chunks that could be lost, and goes on.
    eventually(5 * BLOCK_S, "chunks of the remote one in memory",
               lambda: e.remote.metric("prometheus_tsdb_maas_stored_bytes", "chunks_head") > 1000)
    e.memory.kill()
    e.memory.forget()
    e.memory.start()
    assert e.remote.ends_by_itself(60) == 1, "remote did not end with 1 when its memory was gone"
    e.remote.start()


@trial(mirror=AGAIN)
def mirror_is_killed(e):
    e.keeps_history(e.mirror, e.mirror.kill, e.mirror.start)


@trial(remote=AGAIN)
def remote_is_killed(e):
    e.keeps_history(e.remote, e.remote.kill, e.remote.start)


@trial(everyone=STOPPED)
def all_are_restarted(e):
    for server in e.all:
        e.keeps_history(server, server.stop, server.start)


@trial()
def others_take_over(e):
    for server in e.ours:
        e.keeps_history(server, server.kill, server.forget_data, server.start)


FULL = ["MaaS server has no room; ", "not all blocks fit into their share",
        "the oldest block in remote memory gave way to the log"]


@trial(ours=FULL * 6)  # Where a block gives way there is room again, for a while.
def memory_is_full(e):
    def noticed():
        return [sum(map(server.said, FULL)) for server in e.ours]
    before = noticed()
    e.memory.fill(4 << 20, 1 << 20, 512 << 10)
    until = time.time() + 2.5 * BLOCK_S  # Two compactions of the head, at least.

    def is_over():
        time.sleep(1)
        e.memory.fill(512 << 10)  # The memory that Prometheus gave up for its log is gone, too.
        return time.time() > until and all(now > then for now, then in zip(noticed(), before))
    eventually(6 * BLOCK_S, "both to notice that the server is full", is_over)
    e.memory.give_back()


@trial()
def series_are_deleted(e):
    end = e.ends()[-3] - WINDOW_S
    for server in e.all:
        server.call("/api/v1/admin/tsdb/delete_series", "POST",
                    **{"match[]": ['load_queue{shard=~"1.*"}', 'load_seconds{handler="3"}'], "start": 0, "end": end})
        server.call("/api/v1/admin/tsdb/clean_tombstones", "POST")
        left = server.call("/api/v1/query", time=end,
                           query=f'count(last_over_time(load_queue{{shard=~"1.*"}}[{RETENTION_S}s]))')["result"]
        assert not left, f"{server.name}: {left} series are left"


@trial()
def configuration_is_reloaded(e):
    e.targets.append(Target(3))
    for server in e.all:
        server.configure(e.targets)
        server.call("/-/reload", "POST")


@trial(ours=AGAIN)
def older_copies_are_started(e):
    for server in e.ours:
        copy_blocks(server.data, server.data + "-copy")
        time.sleep(3 * INTERVAL_S)
        e.keeps_history(server, server.kill, server.forget_data, lambda: os.rename(server.data + "-copy", server.data),
                        server.start)


def copy_blocks(source, to):
    """Copies a directory that is written to; again where its blocks change meanwhile."""
    def blocks():
        return {name for name in os.listdir(source) if len(name.split(".")[0]) == 26}
    while True:
        before = blocks()
        try:
            shutil.copytree(source, to, symlinks=True)
        except shutil.Error:
            pass  # A file of the log was deleted meanwhile.
        if before == blocks():
            return
        shutil.rmtree(to)


TRIALS.append((others_take_over, {}))  # Once more.


def run(e):
    e.start()
    for number, (function, explained) in enumerate(TRIALS):
        print(f"{time.time() - e.begin:6.0f} s: {function.__name__}", flush=True)
        function(e)
        e.quiet()
        time.sleep(STEP_S)  # A whole window, for each.
        e.compare()
        e.find_gaps()
        while time.time() - e.begin < MINUTES * 60 * (number + 1) / len(TRIALS):
            time.sleep(1)
        e.judge_logs(explained)
    e.quiet()
    e.compare()
    e.find_gaps()
    for process in [*e.all, e.memory]:
        process.stop()
    e.judge_logs({"everyone": STOPPED})
    bad = e.bad + e.judge_repeats() + e.judge_compactions()
    assert not bad, "in the logs:\n" + "\n".join(bad)


with workplace() as place, tempfile.TemporaryDirectory(dir="/dev/shm") as memory_place:
    run(Evening(sys.argv[1], sys.argv[2], place, memory_place))
