"""A tsdb on remote memory beside a stock one. Each figure comes from a process of its own, a
contestant of prometheus/test/bench, which is fed the same load in simulated time; in each pair the
stock one runs first and last. Beside a leader, its standby and the server live on the same machine:
there two stock ones run at once, so that all have a neighbour."""
import concurrent.futures
import functools
import math
import os
import shutil
import tempfile
import time
from statistics import geometric_mean, median

from program import Asked, Maasd, figures_of
from report import progress, row

MIB = 1 << 20
CONTESTANTS = ("mirror", "remote")
STARTS = 3  # how often each start is made
HEAD_MIN = {"head": 0, "starts": 0,  # They have their own.
            "standby": 25 * 60 + 20,  # Twelve compactions: at 3 h, and then every two hours.
            "death": 175}  # Just before the first.
SETTLE_S = 2 + 15  # the last truncation of a standby, and the pass behind it


# ---- runs

class Runs:
    def __init__(self, options, work, server):
        self.options, self.server = options, server
        self.series = options.series // 10 if options.quick else options.series
        self.env = os.environ | {"TMPDIR": work}

    def command(self, *arguments):
        minutes = self.options.head or HEAD_MIN[self.options.part]
        return (self.options.contestant, "-part", self.options.part, "-server", self.server.url,
                "-series", self.series, "-head", f"{minutes}m", *arguments)

    def run(self, store, *arguments):
        return figures_of(*self.command("-contestant", store, *arguments), env=self.env)

    def take_pair(self):
        """The figures of each contestant, and of the stock one once more."""
        if self.options.part == "death":
            return self.die_and_start()
        if self.options.part == "standby":
            with concurrent.futures.ThreadPoolExecutor() as both:
                stock, again = both.map(self.run, ["stock"] * 2)
            leader, follower = self.live_and_die()
            return {"stock": stock, "again": again, "mirror": leader, "follower": follower}
        pair = {"stock": self.run("stock")}
        for store in ["pages"] * (self.options.part == "head") + list(CONTESTANTS):
            pair[store] = self.run(store)
        pair["again"] = self.run("stock")
        if self.options.part == "starts":
            self.start_all(pair)
        return pair

    def start_all(self, pair):
        """Starts each contestant so often, in turn: first on its directory, then, as a take-over, on
        an empty one. A stock one starts on its own again."""
        for start in "Restart", "TakeOver":
            started = {name: [] for name in pair}
            for number in range(STARTS):
                for name, figures in pair.items():
                    successor = f"{figures['Dir']}/successor-{number}" if start == "TakeOver" else ""
                    started[name].append(self.start(name, figures, successor))
            for name, figures in pair.items():
                of = {key: median(s[key] for s in started[name]) for key in started[name][0]}
                figures |= {start: of["Seconds"], f"{start}CPU": of["CPU"], f"{start}Peak": of["Peak"],
                            "ReturnCPU": of["ReturnCPU"], "ReturnPeak": of["ReturnPeak"],
                            "ReturnRead": of["Read"], "Returned": of["Blocks"]}
        for name, figures in pair.items():
            if store_of(name) != "stock":
                self.server.free_owner(os.path.basename(figures["Dir"]))
            shutil.rmtree(figures["Dir"])

    def start(self, name, figures, successor, *options):
        store, directory = store_of(name), figures["Dir"]
        takes_over = successor and store != "stock"
        if takes_over:
            directory = successor
            os.mkdir(directory)
        if self.options.profile:
            options += ("-profile", self.options.profile)
        started = self.run(store, "-start", directory, "-owner", os.path.basename(figures["Dir"]),
                           "-fed", figures["Fed"], *options)
        if takes_over:
            shutil.rmtree(directory)  # It is dead, and its disk with it.
        return started

    def die_and_start(self):
        """Each kind of start after the death of what has a large head."""
        stock = self.run("stock")
        starts = {name: self.start("stock", stock, "") for name in ("stock", "again")}
        shutil.rmtree(stock["Dir"])
        dead = self.run("mirror")
        starts["take-over"] = self.start("mirror", dead, f"{dead['Dir']}/successor", "-snapshot")
        starts["take-over of a snapshot"] = self.start("mirror", dead, f"{dead['Dir']}/next", "-snapshot")
        self.server.free_owner(os.path.basename(dead["Dir"]))
        shutil.rmtree(dead["Dir"])
        _, follower = self.live_and_die()
        return starts | {"standby": {"Seconds": follower["ReadyAfter"], "Peak": follower["Peak"]}}

    def live_and_die(self):
        """Lets a leader live, with a standby, and kills it. Returns what both measured."""
        tell = functools.partial(Asked, env=self.env)
        with tempfile.TemporaryDirectory(dir=self.env["TMPDIR"]) as directory:
            leader = tell(*self.command("-contestant", "leader"))
            owner = leader.begun["Owner"]
            with tell(*self.command("-contestant", "standby", "-start", directory, "-owner", owner)) as standby:
                figures = leader.ask()
                time.sleep(SETTLE_S)
                follower = standby.ask()
                # In real time, a minute of it: a standby hands chunks that are full to the disk once
                # a minute, in which a leader is fed hours before.
                leads, follows = leader.ask(), standby.ask()
                figures["Heap"] = leads["Heap"]
                follower |= {"Heap": follows["Heap"], "Behind": follows["Behind"]}
                died = time.time_ns()
                leader.kill()
                ready = standby.answer()
            follower["ReadyAfter"] = (ready["Ready"] - died) / 1e9
            follower["Peak"] = ready["Peak"]
            self.server.free_owner(owner)
            shutil.rmtree(leader.begun["Dir"])
        return figures, follower


def store_of(name):
    return "stock" if name == "again" else name


# ---- rows. Smaller is better; a bar is the largest ratio that is good enough.

def beside(case, unit, bar, pairs, store, value):
    """A row beside the stock tsdb. Pairs take long and are few: both its runs count."""
    ours, stock, again = ([value(p[name]) for p in pairs] for name in (store, "stock", "again"))
    aa = [a / s for a, s in zip(again, stock)]
    return row(case, unit, median(ours), median(stock), "stock tsdb",
               median(2 * o / (s + a) for o, s, a in zip(ours, stock, again)), median(aa),
               median(abs(x - 1) for x in aa), len(pairs), bar)


def own(case, unit, bar, pairs, value):
    """A row without a baseline; a value is of a pair."""
    ours = median(map(value, pairs))
    return row(case, unit, ours, 1, "-", ours, 0, 0, len(pairs), bar)


def query_ratios(pairs, ours, baseline, key):
    """Of each query, the median over the pairs."""
    return [median(times) for times in zip(*(
        [o / b for o, b in zip(p[ours][key], p[baseline][key])] for p in pairs))]


def queries(case, bar, pairs, store, key):
    """The geometric mean of what the queries take beside the stock tsdb."""
    ratio, aa = (geometric_mean(query_ratios(pairs, name, "stock", key)) for name in (store, "again"))
    return row(case, "geometric mean", ratio, 1, "stock tsdb", ratio, aa, abs(aa - 1), len(pairs), bar)


def worst(store, pairs):
    """The query that loses most, cold."""
    ratios = query_ratios(pairs, store, "stock", "Cold")
    q = ratios.index(max(ratios))
    ours, stock = pairs[0][store], pairs[0]["stock"]
    return row(f"{store}: worst query, cold ({ours['Asked'][q]})", "ms", ours["Cold"][q] * 1e3,
               stock["Cold"][q] * 1e3, "stock tsdb", ratios[q], query_ratios(pairs, "again", "stock", "Cold")[q],
               0, len(pairs))


def take_over(store, pairs):
    """Beside the stock tsdb's restart."""
    ratio = median(p[store]["TakeOver"] / p["stock"]["Restart"] for p in pairs)
    aa = median(p["again"]["Restart"] / p["stock"]["Restart"] for p in pairs)
    return row(f"{store}: take-over to ready", "s", median(p[store]["TakeOver"] for p in pairs),
               median(p["stock"]["Restart"] for p in pairs), "stock tsdb's restart", ratio, aa, abs(aa - 1),
               len(pairs), 1.5)


def saved(case, bar, pairs, store):
    """The resident memory that a contestant does not have, per byte of chunks: more is better."""
    share = [(p["stock"]["Resident"] - p[store]["Resident"]) / p["stock"]["ChunkBytes"] for p in pairs]
    noise = [abs(p["again"]["Resident"] - p["stock"]["Resident"]) / p["stock"]["ChunkBytes"] for p in pairs]
    return row(f"{case}: resident less, per chunk byte", "MiB resident",
               median(p[store]["Resident"] for p in pairs) / MIB,
               median(p["stock"]["Resident"] for p in pairs) / MIB, "stock tsdb", median(share), 0,
               median(noise), len(pairs), bar, "min")


def figure(key, scale=1.0):
    return lambda figures: figures[key] * scale


def head_rows(pairs):
    rows = []
    for c in CONTESTANTS:
        rows += [
            beside(f"{c}: CPU per ingested sample", "ns", 1.05, pairs, c, figure("IngestCPU")),
            beside(f"{c}: CPU of compaction", "s", 1.15, pairs, c, figure("CompactCPU")),
            beside(f"{c}: live Go heap at the peak", "MiB", 1.05, pairs, c, figure("Heap", 1 / MIB)),
            beside(f"{c}: restart to ready, nothing in page cache", "s", 1.1, pairs, c, figure("Restart")),
            queries(f"{c}: queries, warm cache", 1.25, pairs, c, "Queries"),
            queries(f"{c}: queries, cold", None, pairs, c, "Cold"),
            worst(c, pairs),
            saved(c, 0.6, pairs, c),
            own(f"{c}: bytes moved per compaction", "of the chunk bytes", 1.2, pairs,
                lambda p, c=c: p[c]["Moved"] / p[c]["ChunkBytes"]),
            own(f"{c}: the server's CPU per ingested sample", "ns", None, pairs, lambda p, c=c: p[c]["ServerCPU"]),
            own(f"{c}: bytes of log to the server per sample", "bytes", None, pairs,
                lambda p, c=c: p[c]["LogBytes"]),
            own(f"{c}: log behind in real time, p99", "s", 1.0, pairs, lambda p, c=c: p[c]["Lag"]),
            take_over(c, pairs),
        ]
    return rows + [saved("page dropping alone", None, pairs, "pages")]


STARTS_MEASURES = (
    ("CPU per ingested sample", "ns", 1.05, figure("IngestCPU")),
    ("CPU of compactions", "s", 1.15, figure("CompactCPU")),
    ("restart, CPU to ready", "s", 1.1, figure("RestartCPU")),
    ("restart, peak memory", "MiB", 1.1, figure("RestartPeak", 1 / MIB)),
    ("restart to ready", "s", None, figure("Restart")),
    ("take-over, CPU to ready", "s", 1.1, figure("TakeOverCPU")),
    ("take-over, peak memory", "MiB", 1.1, figure("TakeOverPeak", 1 / MIB)),
    ("take-over to ready", "s", None, figure("TakeOver")),
)
STARTS_OWN = (
    ("bytes of blocks written, per byte of the blocks", "bytes", 1.02,
     lambda f: f["BlocksWritten"] / f["Uploaded"]),
    ("return of blocks, bytes read per byte", "bytes", 1.02, lambda f: f["ReturnRead"] / f["Returned"]),
    ("return of blocks, CPU per GiB", "s", None, lambda f: f["ReturnCPU"] / f["Returned"] * (1 << 30)),
    ("return of blocks, peak memory", "MiB", None, figure("ReturnPeak", 1 / MIB)),
)


def starts_rows(pairs):
    """Of starts, and of blocks. What a take-over is compared with is a stock restart."""
    rows = []
    for c in CONTESTANTS:
        rows += [beside(f"{c}: {name}", unit, bar, pairs, c, value) for name, unit, bar, value in STARTS_MEASURES]
        levels = [(f"blocks of level {i + 1}", "MiB", None, lambda f, i=i: f["Levels"][i] / MIB)
                  for i in range(len(pairs[0][c]["Levels"] or []))]
        rows += [own(f"{c}: {name}", unit, bar, pairs, lambda p, c=c, value=value: value(p[c]))
                 for name, unit, bar, value in (*levels, *STARTS_OWN)]
    return rows


def standby_rows(pairs):
    """Of a leader, its standby, and what came after its death."""
    return [
        beside("leader: CPU per ingested sample", "ns", 1.05, pairs, "mirror", figure("IngestCPU")),
        beside("leader: live Go heap", "MiB", None, pairs, "mirror", figure("Heap", 1 / MIB)),
        own("standby: CPU, of the leader's", "", 1.2, pairs, lambda p: p["follower"]["CPU"] / p["mirror"]["AllCPU"]),
        own("standby: live Go heap, of the leader's", "", 1.1, pairs,
            lambda p: p["follower"]["Heap"] / p["mirror"]["Heap"]),
        own("standby: log and chunks on disk, of the leader's", "", 1.1, pairs,
            lambda p: p["follower"]["Disk"] / p["mirror"]["Disk"]),
        own("standby: behind in real time, p99", "s", 2.0, pairs, lambda p: p["follower"]["Behind"]),
        own("standby: ready after the leader's death", "s", 11.0, pairs, lambda p: p["follower"]["ReadyAfter"]),
        own("standby: peak memory up to then", "MiB", None, pairs, lambda p: p["follower"]["Peak"] / MIB),
    ]


def death_rows(pairs):
    """Of each start after a death, beside a stock restart on the disk of before."""
    rows = []
    for name in pairs[0]:
        if name in ("stock", "again"):
            continue
        rows += [beside(f"{name}: to ready", "s", None, pairs, name, figure("Seconds")),
                 beside(f"{name}: peak memory up to then", "MiB", None, pairs, name, figure("Peak", 1 / MIB))]
        if "CPU" in pairs[0][name]:
            rows.append(beside(f"{name}: CPU to ready", "s", None, pairs, name, figure("CPU")))
    return rows


def measure(options, work):
    pool_mib = 2048 + options.series // 16
    with Maasd(options, work, "maasd", "--rdma", "off", "--max-pool-size", f"{pool_mib}MiB",
               "--log-level", "warn") as server:
        runs, pairs = Runs(options, work, server), []
        for pair in range(options.pairs):
            progress("prometheus", pair, options.pairs)
            pairs.append(runs.take_pair())
    rows = {"head": head_rows, "starts": starts_rows, "standby": standby_rows,
            "death": death_rows}[options.part](pairs)
    for r in rows:
        r["case"] = f"{runs.series} series, {r['case']}"
    return rows
