"""Our slabs against jemalloc, mimalloc and glibc's malloc, each sample a process of its own."""
import os

from program import figures_of
from report import Rows, lowest_tenth, progress

CONTESTANTS = (  # name, a symbol of its own, what is preloaded
    ("ours", None, None),
    ("jemalloc", "mallctl", "libjemalloc.so.2"),
    ("mimalloc", "mi_version", "libmimalloc.so"),
    ("glibc", "gnu_get_libc_version", None),
)
LIMIT = {"resident": 64.0}  # MiB

MALLOCS = {"jemalloc": None, "mimalloc": None, "glibc": None}
CASES = (  # figure, case, unit, beside whom, with which bar
    ("pair", "allocate + free 1 KiB, 10 live", "ns", MALLOCS | {"jemalloc": 2.0}),
    ("threaded", "the same beside an idle thread", "ns", MALLOCS | {"jemalloc": 3.0}),
    ("zeroed", "allocate + zero + free 1 KiB, 10 live", "ns", MALLOCS),
    ("few", "free a random one + allocate, 10 live", "ns", MALLOCS),
    ("live", "free a random one + allocate, 1,000,000 live", "ns", MALLOCS),
    ("growth", "its growth from 10 to 1,000,000 live", "x", MALLOCS | {"glibc": 1.0}),
    ("resident", "resident beside 1,000,000 live 1 KiB", "MiB", {"allowed": 1.0} | MALLOCS),
)


def take_sample(options, proof, preload):
    env = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    if preload:
        env["LD_PRELOAD"] = preload
    figures = figures_of(f"{options.bin}/tests/bench/contest", "quick" if options.quick else "full",
                         *[proof] if proof else [], env=env)
    resident = figures.pop("resident_mib")
    # The fastest tenth: what a pair costs while nobody else uses the core. The other hardware
    # thread of a core slows a chain of atomic operations more than jemalloc, so a median would
    # measure the neighbours.
    sample = {name: lowest_tenth(ns) for name, ns in figures.items()}
    return sample | {"growth": sample["live"] / sample["few"], "resident": resident}


def measure(options, _work):
    rows = Rows()
    for pair in range(options.pairs):
        progress("slab", pair, options.pairs)
        samples = {"allowed": [LIMIT, LIMIT]}
        # Everybody once, then the baselines again; the next pair begins with another one.
        for again in range(2):
            for i in range(len(CONTESTANTS)):
                name, proof, preload = CONTESTANTS[(pair + i) % len(CONTESTANTS)]
                if not again or name != "ours":
                    samples.setdefault(name, []).append(take_sample(options, proof, preload))
        for figure, case, unit, baselines in CASES:
            for name, bar in baselines.items():
                rows.note(case, unit, name, samples["ours"][0][figure], samples[name][0][figure],
                          samples[name][1][figure], bar)
    return rows.summary()
