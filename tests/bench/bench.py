#!/usr/bin/env python3
"""Measures ours and what it is compared with in turn, in pairs, and prints the table.

scripts/bench builds what is measured and then runs this. `--rows FILE` measures on this very
machine and writes the rows alone: so it runs in a virtual machine, and the report is made outside.
"""
import argparse
import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile

sys.dont_write_bytecode = True  # the source may lie where nobody may write

import report

AREAS = ("slab", "http", "rdma", "prometheus")


def options_of(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("area", choices=AREAS)
    parser.add_argument("--bin", required=True, help="the directory of a build")
    parser.add_argument("--pairs", type=int, help="default 7; 3 with --quick")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work")
    parser.add_argument("--series", type=int, default=20000, help="of prometheus: how many")
    parser.add_argument("--part", choices=("head", "starts", "standby", "death"), default="head",
                        help="of prometheus")
    parser.add_argument("--head", type=int, help="of standby and death: minutes that are fed")
    parser.add_argument("--contestant", help="of prometheus: the program of prometheus/test/bench")
    parser.add_argument("--profile", help="of prometheus: directory for the profiles of starts")
    parser.add_argument("--json", help="file for the report")
    parser.add_argument("--rows", help="file for the rows alone; no report")
    parser.add_argument("--softroce", help="measure in scripts/softroce, which is given these options")
    options = parser.parse_args(argv)
    options.pairs = options.pairs or (3 if options.quick else 7)
    if options.pairs < 1:
        parser.error("--pairs takes 1 or more")
    if options.area == "prometheus" and not options.contestant:
        parser.error("--contestant is missing")
    return options


def measure(options):
    machine = report.machine()
    with tempfile.TemporaryDirectory(prefix="maas-bench-") as work:
        rows = importlib.import_module(f"area_{options.area}").measure(options, work)
        report.progress(options.area, options.pairs, options.pairs)
    return {"machine": machine, "rows": rows}


def measure_elsewhere(options, argv):
    """Runs this program in scripts/softroce; what that prints is progress."""
    with tempfile.TemporaryDirectory(prefix="maas-bench-") as share:
        here = [sys.executable, os.path.abspath(__file__), *argv]
        command = ["scripts/softroce", *options.softroce.split(), "--", "bash", "-c",
                   'exec "$@" --rows "$SOFTROCE_SHARE/rows.json"', "bash", *here]
        env = os.environ | {"SOFTROCE_SHARE": share}
        # A signal waits until there is a machine that can be ended.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM})
        with subprocess.Popen(command, stdout=sys.stderr, env=env,
                              preexec_fn=lambda: signal.pthread_sigmask(signal.SIG_SETMASK, mask)) as machine:
            try:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
                status = machine.wait()
            except BaseException:
                machine.terminate()  # SIGKILL, as of subprocess.run(), would leave QEMU behind
                raise
        if status:
            raise report.Failed(f"scripts/softroce ended with {status}")
        with open(f"{share}/rows.json", encoding="utf-8") as file:
            return json.load(file)


def main(argv):
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
    options = options_of(argv)
    source = report.source()
    try:
        if options.softroce is None or options.rows:
            measured = measure(options)
        else:
            measured = measure_elsewhere(options, argv)
    except report.Failed as failure:
        sys.exit(f"{options.area}: {failure}; no table")
    if options.rows:
        report.write(measured, options.rows)
        return
    if "--counted" in (options.softroce or ""):
        measured["machine"]["cpu"] = "emulated, 2 ns an instruction"
    whole = {"area": options.area, "machine": measured["machine"] | source,
             "quick": options.quick, "rows": measured["rows"]}
    if options.json:
        report.write(whole, options.json)
    print(report.table(whole), end="")


if __name__ == "__main__":
    main(sys.argv[1:])
