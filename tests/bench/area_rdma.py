"""libmaas and maasd against perftest on the same device, and their keys against bare verbs, with
keys by windows and by regions side by side in each pair."""
import contextlib
import functools
import glob
import math
import os
import re
import shutil
import subprocess
import sys

from program import Asked, Maasd, Program, free_port, listens
from report import Failed, Rows, progress

MODES = ("window", "mr")
BARE_VERBS = {"window": "bare binds", "mr": "bare registrations"}
FEW, MANY = 10, 100_000
KEYS = 1000
MIB = 1 << 20
MAX_MIB_S = 200_000  # faster than memory is

# The depth and how many messages are such that a run takes half a second on SoftRoCE in a virtual
# machine. Bytes, depth, messages, the bars of writes and of reads, and whether operations per second
# and CPU time are noted.
BANDWIDTHS = (
    (65536, 64, 400, 1.0, 0.995, True),
    (1024, 64, 8000, 0.99, 0.99, True),
    (4096, 64, 4000, 0.99, 0.99, True),
    (1 << 20, 8, 24, 1.0, 0.995, False),
    (4 << 20, 4, 8, 1.0, 0.995, False),
)
CPU_BAR = 1.02
TOKEN_BAR = 1.005  # at a server with --auth-file beside one without: the keys are made, nothing is left to do
LATENCIES = (64, 1024, 4096)
LATENCY_MESSAGES = 50000  # at p99.9, fifty are slower
LATENCY_BARS = (  # what, which share of messages is faster, the column of perftest, the bars of writes and reads
    ("p50", 0.5, 4, 1.03, 1.03),
    ("p99", 0.99, 7, None, None),
    ("p99.9", 0.999, 8, None, 1.10),
)
FEWEST_MESSAGES = 5  # that perftest takes
PERFTEST_TRIES = 5
PERFTEST_S = 60
PROGRAMS = ("ib_write_bw", "ib_read_bw", "ib_read_lat")

KEY_COMPARISONS = (  # what, ours, the baseline, the same again, the bar
    ("1,000 keys in the server", "few", "bare", "bare again", 1.1),
    ("1,000 keys over HTTP", "http", "bare", "bare again", None),
    ("1,000 keys in the server at 100,000 live", "many", "few", "few again", 1.05),
    ("1,000 keys over HTTP at 100,000 live", "http many", "http", "http again", 1.05),
)
KEY_JOBS = {  # the program that is asked, at how many live allocations, and for what
    "few": ("bind_keys", FEW, "ours"),
    "bare": ("bind_keys", FEW, "bare"),
    "bare again": ("bind_keys", FEW, "bare"),
    "many": ("bind_keys", MANY, "ours"),
    "few again": ("bind_keys", FEW, "ours"),
    "http": ("maas", FEW, f"allocate {KEYS}"),
    "http many": ("maas", MANY, f"allocate {KEYS}"),
    "http again": ("maas", FEW, f"allocate {KEYS}"),
}


def softirq_ns(proc="/proc"):
    """CPU time of the kernel's threads for soft interrupts. SoftRoCE's work is done there, as far as
    it is not done in some program's time."""
    spent = 0
    for path in glob.glob(f"{proc}/[0-9]*/comm"):
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):
            with open(path, encoding="ascii", errors="replace") as comm:
                if comm.read().startswith("ksoftirqd/"):
                    with open(path.removesuffix("comm") + "schedstat", encoding="ascii") as schedstat:
                        spent += int(schedstat.read().split()[0])
    return spent


def size_name(size):
    for shift, unit in (20, "MiB"), (10, "KiB"):
        if size >= 1 << shift:
            return f"{size >> shift} {unit}"
    return f"{size} B"


# ---- perftest

class Perftest:
    """The programs of perftest, copied to `work`: a virtual machine reads every page of every
    program from the disk of its host, and perftest starts some hundred times."""

    def __init__(self, work, device):
        self.work, self.device = work, device
        self.env = os.environ | {"LD_LIBRARY_PATH": work}
        for name in PROGRAMS:
            shutil.copy(shutil.which(name), work)
        libraries = subprocess.run(["ldd", f"{work}/{PROGRAMS[0]}"], capture_output=True, text=True, check=True)
        for path in re.findall(r" => (/\S+) \(", libraries.stdout):
            shutil.copy(path, work)

    def run(self, name, size, depth, messages):
        """The columns of its row of figures, and the CPU time of both ends and of the kernel's
        threads, from start to end."""
        # On a busy machine it now and then measures its own clock wrong: it says 0 or inf then.
        for _ in range(PERFTEST_TRIES):
            columns, cpu_ns = self.run_once(name, size, depth, messages)
            value = columns[3 if depth else 4]
            if math.isfinite(value) and value > 0:
                break
            print(f"{name} reports nothing, once more", file=sys.stderr)
        return columns, cpu_ns

    def run_once(self, name, size, depth, messages):
        port = free_port()
        argv = [f"{self.work}/{name}", "-d", self.device, "-F", "-p", port, "-s", size, "-n", messages,
                *["-t", depth] * bool(depth)]
        server, client = f"{self.work}/perftest-server", f"{self.work}/perftest-client"
        for output in server, client:
            with contextlib.suppress(FileNotFoundError):
                os.unlink(output)
        kernel_ns = softirq_ns()
        with Program(argv, server, self.env) as one:
            one.until(lambda: listens(port))
            with Program([*argv, "127.0.0.1"], client, self.env) as other:
                cpu_ns = other.wait(PERFTEST_S)
            cpu_ns += one.wait(PERFTEST_S) + softirq_ns() - kernel_ns
        with open(client, encoding="utf-8", errors="replace") as file:
            return figures(file.read(), size), cpu_ns


def figures(text, size):
    """The row of figures: it begins with the size of the message. Of bandwidth: size, iterations,
    peak, average, rate; of latency: size, iterations, min, max, typical, average, deviation, 99 %,
    99.9 %."""
    for line in text.splitlines():
        with contextlib.suppress(ValueError):
            columns = [float(word) for word in line.split()]
            if len(columns) >= 4 and columns[0] == size:
                return columns
    raise Failed(f"perftest printed no figures:\n{text}")


def at_share(times, share):
    """The time that this share of the sorted ones does not reach, in us."""
    return times[int(share * len(times))] / 1e3


# ---- what is compared

def in_turn(first, *jobs):
    """Does the jobs, beginning with another one for each `first`. Returns what each of them returned."""
    results = {i: jobs[i]() for i in ((first + n) % len(jobs) for n in range(len(jobs)))}
    return [results[i] for i in range(len(jobs))]


class Bench:
    def __init__(self, options, work, running):
        self.options, self.rows, self.asked = options, Rows(), {}
        device = ""
        for live in FEW, MANY:
            for mode in MODES:
                self.asked["bind_keys", mode, live] = running.enter_context(
                    Asked(f"{options.bin}/tests/bench/bind_keys", mode, live))
                server = running.enter_context(Maasd(
                    options, work, f"maasd-{mode}-{live}", "--rdma", "required", "--rdma-keys", mode,
                    "--max-pool-size", "1GiB", "--max-session-ttl", "36000"))
                server.fill(1024, live)  # Without keys: nobody but the server holds them.
                rdma = server.get("/health")["rdma"]
                if rdma["keys"] != mode:
                    raise Failed(f"the server has no keys by {mode}, but by {rdma['keys']}")
                device = rdma["device"]
                for client in "maas", "bare":
                    self.asked[client, mode, live] = running.enter_context(
                        Asked(f"{options.bin}/tests/bench/rdma_data", client, server.url, server.process.pid))
        known = running.enter_context(Maasd(options, work, "maasd-known", "--rdma", "required", "--rdma-keys", "mr",
                                            "--max-pool-size", "1GiB", auth=True))
        known.fill(1024, FEW)
        self.asked["maas", "known", FEW] = running.enter_context(
            Asked(f"{options.bin}/tests/bench/rdma_data", "maas", known.url, known.process.pid,
                  env=os.environ | {"MAAS_TOKEN_FILE": known.token_file}))
        self.perftest = Perftest(work, device)
        # What perftest needs for itself.
        self.setup_cpu_ns = {
            (verb, size): self.perftest.run(f"ib_{verb}_bw", size, depth, FEWEST_MESSAGES)[1]
            for verb in ("write", "read") for size, depth, *_, rates in BANDWIDTHS if rates}

    def messages(self, full):
        return max(full // 10 if self.options.quick else full, FEWEST_MESSAGES)

    def take_samples(self, name, verb, size, depth, messages, first):
        """Everybody once, and the baseline again; the next pair begins with another one. Returns
        what that of libmaas said, by mode, and what perftest did, twice."""
        ours = (functools.partial(self.transfer, "maas", mode, verb, size, depth, messages) for mode in MODES)
        theirs = functools.partial(self.perftest.run, name, size, depth, messages)
        one, first_of_theirs, other, second_of_theirs = in_turn(first, next(ours), theirs, next(ours), theirs)
        return dict(zip(MODES, (one, other))), (first_of_theirs, second_of_theirs)

    def transfer(self, client, mode, *words):
        """What a client says of so many messages; their CPU time with that of the kernel's threads."""
        kernel_ns = softirq_ns()
        answer = self.asked[client, mode, FEW].ask(*words)
        return answer | {"cpu_ns": answer["cpu_ns"] + softirq_ns() - kernel_ns}

    def take_bandwidth(self, verb, bandwidth, first):
        size, depth, full, write_bar, read_bar, rates = bandwidth
        messages, name = self.messages(full), f"ib_{verb}_bw"
        ours, theirs = self.take_samples(name, verb, size, depth, messages, first)
        setup_ns = self.setup_cpu_ns.get((verb, size), 0)
        mib_s = [columns[3] for columns, _ in theirs]
        cpu_us = [(cpu_ns - setup_ns) / messages / 1e3 for _, cpu_ns in theirs]
        for mode in MODES:
            case = f"{mode}: {verb} {size_name(size)}"
            our_mib_s = size * messages / MIB * 1e9 / ours[mode]["wall_ns"]
            if our_mib_s > MAX_MIB_S:
                raise Failed(f"{case}: impossible: {our_mib_s} MiB/s")
            self.rows.note(case, "MiB/s", name, our_mib_s, *mib_s,
                           write_bar if verb == "write" else read_bar, "min")
            if rates:
                per_s = MIB / size
                self.rows.note(case, "1/s", name, our_mib_s * per_s, *(m * per_s for m in mib_s))
            # Next to its setup a short run of perftest may vanish: no figure then.
            if rates and min(cpu_us) > 0:
                self.rows.note(case, "us of CPU", name, ours[mode]["cpu_ns"] / messages / 1e3, *cpu_us,
                               CPU_BAR)

    def take_known(self, verb, bandwidth, first):
        """By a client with a token, beside the same at a server that knows nobody."""
        size, depth, full, *_ = bandwidth
        messages = self.messages(full)
        samples = in_turn(first, *(functools.partial(self.transfer, "maas", who, verb, size, depth, messages)
                                   for who in ("known", "mr", "mr")))
        for unit, key, bar in ("us each", "wall_ns", TOKEN_BAR), ("us of CPU", "cpu_ns", None):
            each = [sample[key] / messages / 1e3 for sample in samples]
            if min(each) > 0:
                self.rows.note(f"mr: {verb} {size_name(size)} with a token", unit, "no --auth-file", *each, bar)

    def take_reads(self, size, first):
        """Calls that wait, beside ib_read_lat, which does the same."""
        messages = self.messages(LATENCY_MESSAGES)
        ours, theirs = self.take_samples("ib_read_lat", "read", size, 0, messages, first)
        for mode in MODES:
            times = sorted(ours[mode]["times_ns"])
            for what, share, column, _, bar in LATENCY_BARS:
                self.rows.note(f"{mode}: read {size_name(size)}, {what}", "us", "ib_read_lat",
                               at_share(times, share), *(columns[column] for columns, _ in theirs), bar)

    def take_writes(self, size, first):
        """Calls that wait, beside a loop over bare verbs on the same server: ib_write_lat sends its
        messages to and fro, and waits for no completion."""
        messages = self.messages(LATENCY_MESSAGES)
        for mode in MODES:
            samples = in_turn(first, *(functools.partial(self.transfer, client, mode, "write", size, 0, messages)
                                       for client in ("maas", "bare", "bare")))
            times = [sorted(sample["times_ns"]) for sample in samples]
            for what, share, _, bar, _ in LATENCY_BARS:
                self.rows.note(f"{mode}: write {size_name(size)}, {what}", "us", "bare verbs",
                               *(at_share(each, share) for each in times), bar)

    def take_keys(self, mode, pair):
        samples = dict(zip(KEY_JOBS, in_turn(pair, *(functools.partial(self.asked[program, mode, live].ask, words)
                                                     for program, live, words in KEY_JOBS.values()))))
        for what, ours, baseline, again, bar in KEY_COMPARISONS:
            name = BARE_VERBS[mode] if baseline == "bare" else "the same at 10"
            for unit, key, its_bar in ("us each", "wall_ns", bar), ("us of CPU each", "cpu_ns", None):
                each = [samples[job][key] / KEYS / 1e3 for job in (ours, baseline, again)]
                # Where processors are emulated, a millisecond's work may be counted as none: no
                # figure of CPU time then.
                if key == "wall_ns" or min(each) > 0:
                    self.rows.note(f"{mode}: {what}", unit, name, *each, its_bar)

    def take_pair(self, pair):
        verbs = "write", "read"
        for i, (verb, bandwidth) in enumerate((v, b) for v in verbs for b in BANDWIDTHS):
            self.take_bandwidth(verb, bandwidth, pair + i)
        for i, (verb, bandwidth) in enumerate((v, b) for v in verbs for b in BANDWIDTHS[:2]):
            self.take_known(verb, bandwidth, pair + i)
        for i, size in enumerate(LATENCIES):
            self.take_writes(size, pair + i)
            self.take_reads(size, pair + i)
        for mode in MODES:
            self.take_keys(mode, pair)


def measure(options, work):
    with contextlib.ExitStack() as running:
        bench = Bench(options, work, running)
        for pair in range(options.pairs):
            progress("rdma", pair, options.pairs)
            bench.take_pair(pair)
    return bench.rows.summary()
