"""maasd against a bare libmicrohttpd program, against Redis, and against itself with few and many
allocations. All servers run all the time, and one at a time has work:

    few    maasd with 10 live allocations        bare   bare_mhd with maasd's buffers
    full   maasd with 1,000,000 of 1 KiB         plain  bare_mhd with the library's own
    known  as few, with --auth-file and a token  redis  redis-server, nothing saved
    told   few, and the token, which it ignores
    tls    nothing allocated, over TLS          clear  the same without
"""
import contextlib
import os
import time

from program import Asked, Maasd, Program, connects, figures_of, free_port, listening_port
from report import Failed, Rows, progress

FEW, FULL, BATCH = 10, 1_000_000, 10_000
MIB = 1 << 20
DATA_BYTES = 4 * MIB
DATA_CONNECTIONS = 2
RESIDENT_LIMIT_MIB = 64.0
MAX_MIB_S = 200_000  # faster than memory is
SETTLE_S = 20
# Of a connection, in KiB: CONNECTION_BYTES of http/server.c, and what the library takes unasked.
BUFFERS = {"bare": 64, "plain": 32}

# The kinds are those of http_load. An operation of a batch is a slab.
CASES = {  # ours, the baseline, how often
    "health": (("few", "health"), ("bare", "health"), "bare libmicrohttpd", 20000),
    "health, plain": (("few", "health"), ("plain", "health"), "bare, its own buffers", 20000),
    "pair": (("few", "pair"), ("bare", "pair"), "bare libmicrohttpd", 10000),
    "pair, plain": (("few", "pair"), ("plain", "pair"), "bare, its own buffers", 10000),
    "health, known": (("known", "health"), ("told", "health"), "the same, no --auth-file", 20000),
    "pair, known": (("known", "pair"), ("told", "pair"), "the same, no --auth-file", 10000),
    "health, header": (("known", "health"), ("few", "health"), "no token either", 20000),
    "pair, header": (("known", "pair"), ("few", "pair"), "no token either", 10000),
    "stats": (("few", "stats"), ("bare", "stats"), "bare libmicrohttpd", 10000),
    "metrics": (("few", "metrics"), ("bare", "metrics"), "bare libmicrohttpd", 5000),
    "full stats": (("full", "stats"), ("few", "stats"), "the same at 10", 10000),
    "full metrics": (("full", "metrics"), ("few", "metrics"), "the same at 10", 5000),
    "get": (("few", "data_get"), ("redis", "redis_get"), "Redis GET", 400),
    "put": (("few", "data_put"), ("redis", "redis_set"), "Redis SET", 400),
    "batch": (("few", "batch"), ("few", "allocate"), "single requests", 2 * BATCH),
    # Rounds of maas bench: allocate, put, get, free.
    "round, tls": (("tls", "1KiB"), ("clear", "1KiB"), "without TLS", 4000),
    "4 MiB, tls": (("tls", "4MiB"), ("clear", "4MiB"), "without TLS", 200),
}
# In the quick run, where it is no tenth: of fewer rounds the handshakes are a large part.
QUICK = {"batch": BATCH, "round, tls": 2000}
CPU, RATE, MIB_S = "us of CPU", "1/s", "MiB/s"
COMPARISONS = (
    ("health", CPU, 1.05, "max", "GET /health"),
    ("pair", CPU, 1.10, "max", "POST /allocate + DELETE"),
    ("health, known", CPU, 1.03, "max", "GET /health with a token"),
    ("pair, known", CPU, 1.03, "max", "POST /allocate + DELETE with a token"),
    ("full stats", CPU, 1.2, "max", "GET /stats at 1,000,000 live"),
    ("full metrics", CPU, 1.2, "max", "GET /metrics at 1,000,000 live"),
    ("get", CPU, 0.8, "max", "GET 4 MiB of data"),
    ("put", CPU, 1.0, "max", "PUT 4 MiB of data"),
    ("batch", CPU, 0.05, "max", "a slab of 10,000 in one request"),
    ("health, plain", CPU, 1.10, "max", "GET /health"),
    ("pair, plain", CPU, 1.15, "max", "POST /allocate + DELETE"),
    ("get", MIB_S, 1.0, "min", "GET 4 MiB of data"),
    ("put", MIB_S, 0.9, "min", "PUT 4 MiB of data"),
    ("health, header", CPU, None, "max", "GET /health with a token"),
    ("pair, header", CPU, None, "max", "POST /allocate + DELETE with a token"),
    ("round, tls", CPU, 1.5, "max", "a round of maas bench over TLS, 1 KiB"),
    ("4 MiB, tls", CPU, 4.0, "max", "a round of maas bench over TLS, 4 MiB"),
    ("stats", CPU, None, "max", "GET /stats"),
    ("metrics", CPU, None, "max", "GET /metrics"),
    ("health", RATE, None, "min", "GET /health"),
)


class Scene:
    """The servers, what they hold, and what they are made to do."""

    def __init__(self, options, work, running):
        self.options, self.seeds = options, {"few": 0, "redis": 0}
        self.cpus = len(os.sched_getaffinity(0))
        few, full, known = (
            running.enter_context(Maasd(options, work, name, "--max-pool-size", "1280MiB",
                                        auth=name == "known"))
            for name in ("few", "full", "known"))
        port = free_port()
        redis = running.enter_context(Program(
            ["redis-server", "--port", port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no",
             "--dir", work], f"{work}/redis.out"))
        redis.until(lambda: connects(port))
        redis.port = port
        tls, clear = (running.enter_context(Maasd(options, work, name, "--rdma", "off", tls=name == "tls"))
                      for name in ("tls", "clear"))
        self.servers = {"tls": tls, "clear": clear, "few": few, "full": full, "known": known, "told": few, "redis": redis}
        known.allocate(1024)
        for server in known, few:
            self.data_ids = [server.allocate(DATA_BYTES) for _ in range(DATA_CONNECTIONS)]
            server.fill(1024, FEW - DATA_CONNECTIONS - 1)

        # What the bare programs answer with: as many bytes as the maasd with few allocations. The
        # last request makes the tenth of these.
        sizes = [f"{path}={len(few.call('GET', path))}" for path in ("/health", "/stats", "/metrics")]
        sizes.append(f"/allocate={len(few.call('POST', '/allocate', {'size_bytes': 1024}))}")
        for name, buffer_kib in BUFFERS.items():
            output = f"{work}/{name}.out"
            bare = running.enter_context(Program(
                [f"{options.bin}/tests/bench/bare_mhd", self.cpus, buffer_kib, *sizes], output))
            bare.port = bare.until(lambda output=output: listening_port(output))
            self.servers[name] = bare
        full.fill(1024, FULL)
        self.measure("few", "data_put", 8)
        self.measure("redis", "redis_set", 8)

    def measure(self, server, kind, operations):
        """Does so many operations, and what has to be done after them: what was allocated is freed
        and zeroed, data is compared byte by byte. Returns, of one operation, the server's CPU time
        and the time that it took, in ns."""
        if server in ("tls", "clear"):
            return self.run_maas_bench(self.servers[server], kind, operations)
        if kind in ("data_put", "redis_set"):
            self.seeds[server] += 1  # Other bytes than before: a write that did not happen is seen.
        sample, ids = self.run(server, kind, operations)
        if ids:
            self.servers[server].free(ids)
            self.settle(self.servers[server])
        verify = {"data": "data_verify", "redis": "redis_verify"}.get(kind.split("_", maxsplit=1)[0])
        if verify:
            self.run(server, verify, 4 * DATA_CONNECTIONS)
        return sample

    def run(self, name, kind, operations):
        server = self.servers[name]
        arguments = [BATCH] if kind == "batch" else []
        if name in self.seeds and kind.startswith(("data", "redis")):
            arguments = [self.seeds[name], *self.data_ids[:DATA_CONNECTIONS * (name == "few")]]
        settles = kind == "pair" and isinstance(server, Maasd)
        token = self.servers["known"].token
        env = os.environ | {"HTTP_LOAD_TOKEN": token} if name in ("known", "told") else None
        with Asked(f"{self.options.bin}/tests/bench/http_load", server.port, kind, *arguments, env=env) as load:
            if kind not in ("allocate", "batch"):
                load.ask(4 * load.begun["connections"])  # Buffers have grown before the clock starts.
            if settles:
                self.settle(server)
            start, cpu = time.monotonic_ns(), server.cpu_ns()
            answer = load.ask(operations // BATCH if kind == "batch" else operations)
            if settles:
                self.settle(server)  # The server's work goes on after the last answer.
            time.sleep(0.005)
            cpu, elapsed = server.cpu_ns() - cpu, time.monotonic_ns() - start
        if not 0 < cpu <= elapsed * self.cpus:
            raise Failed(f"{name}, {kind}: impossible: {cpu} ns of CPU time in {elapsed} ns")
        return (cpu / operations, answer["wall_ns"] / operations), answer["ids"]

    def run_maas_bench(self, server, size, rounds):
        trusted = ["--ca-file", server.ca_file] if server.url.startswith("https") else []
        start, cpu = time.monotonic_ns(), server.cpu_ns()
        figures_of(f"{self.options.bin}/cmd/maas", "bench", "--url", server.url, *trusted, "--size", size,
                   "--threads", 2, "--count", rounds, "--json")
        return (server.cpu_ns() - cpu) / rounds, (time.monotonic_ns() - start) / rounds

    def settle(self, server):
        """Waits until what was freed is zeroed."""
        for _ in range(SETTLE_S * 5):
            time.sleep(0.2)
            pools = server.get("/stats")["pool_stats"]
            waiting = sum(p["total_slabs"] - p["free_slabs"] - p["used_slabs"] for p in pools)
            if not waiting:
                return
        raise Failed(f"{waiting} freed slabs are still not zeroed")

    def resident_beside(self):
        """MiB that the full maasd keeps in memory beside the lent bytes."""
        beside = self.servers["full"].memory_bytes() - FULL * 1024
        if beside < 0:
            raise Failed("impossible: less memory than is lent")
        return beside / MIB


def figure(sample, unit):
    cpu_ns, wall_ns = sample
    if unit == MIB_S and DATA_BYTES / MIB * 1e9 / wall_ns > MAX_MIB_S:
        raise Failed(f"impossible: {DATA_BYTES} bytes in {wall_ns} ns")
    return cpu_ns / 1e3 if unit == CPU else 1e9 / wall_ns * (1 if unit == RATE else DATA_BYTES / MIB)


def take_case(scene, case, pair, quick):
    """Ours, the baseline and the baseline again, in an order that changes from pair to pair."""
    ours, baseline, _, operations = CASES[case]
    if quick:
        operations = QUICK.get(case, operations // 10)
    samples = [None] * 3
    for i in ((0, 1, 2), (1, 0, 2), (1, 2, 0))[pair % 3]:
        samples[i] = scene.measure(*(ours if i == 0 else baseline), operations)
    return samples


def measure(options, work):
    rows = Rows()
    with contextlib.ExitStack() as running:
        scene = Scene(options, work, running)
        for pair in range(options.pairs):
            progress("http", pair, options.pairs)
            samples = {case: take_case(scene, case, pair, options.quick) for case in CASES}
            for case, unit, bar, bar_is, name in COMPARISONS:
                rows.note(name, unit, CASES[case][2], *(figure(s, unit) for s in samples[case]), bar, bar_is)
            rows.note("resident beside 1,000,000 live 1 KiB", "MiB", "allowed", scene.resident_beside(),
                      RESIDENT_LIMIT_MIB, RESIDENT_LIMIT_MIB, 1.0)
    return rows.summary()
