#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Counts what libmaas adds to a small operation, in instructions, by function.

count_ops.py OPS runs ops (ops.c) under valgrind's callgrind, over the fake device, and takes the bare loop's
instructions from libmaas's. Exit: 1 when a row is above its bar, 77 without valgrind.
"""

import collections
import glob
import os
import re
import shutil
import subprocess
import sys
import tempfile

OPERATIONS = 3200  # as in ops.c
# Instructions of an operation at most: what was reached, and 3 % for other compilers and
# processors, whose libc has other functions.
BARS = {"submitted_write": 308, "submitted_read": 329, "synchronous_write": 418, "synchronous_read": 438}
# In one run of thirty, libmaas has its text of the id at the end of a page, and strcmp(3) takes 11 more.
RUNS = 3


def run(ops, out):
    """Runs all rows, each into a profile of its own."""
    rows = [f"measured_{who}_{row}" for row in BARS for who in ("bare", "maas")]
    subprocess.run(
        ["valgrind", "--quiet", "--tool=callgrind", f"--callgrind-out-file={out}",
         "--collect-atstart=no", "--toggle-collect=measured_*",
         *(f"--dump-after={row}" for row in rows), ops],
        check=True, env={**os.environ, "LD_BIND_NOW": "1"})


def read_profile(path):
    """The instructions of each function itself."""
    costs, names, name, call = collections.Counter(), {}, None, False
    for line in open(path, encoding="utf-8"):
        if match := re.match(r"c?fn=\((\d+)\)(?: (.*))?", line):
            if match[2]:
                names[match[1]] = match[2].split("@")[0]
            if line[0] == "f":
                name = names[match[1]]
        elif line.startswith("calls="):
            call = True  # the next line has the callee's cost
        elif re.match(r"[+*\d-]", line) and not call:
            costs[name] += int(line.split()[1])
        elif line[:1] in "+-*0123456789":
            call = False
    return costs


def profiles(out):
    """The profiles by row, "bare" or "maas" first."""
    found = {}
    for path in glob.glob(out + "*"):
        with open(path, encoding="utf-8") as file:
            if match := re.search(r"^desc: Trigger: --dump-after=measured_(\w+)", file.read(), re.M):
                found[match[1]] = read_profile(path)
    return found


def differences(ops):
    """What libmaas adds, by row and function."""
    with tempfile.TemporaryDirectory() as directory:
        run(ops, os.path.join(directory, "out"))
        found = profiles(os.path.join(directory, "out"))
    return {row: {name: (found["maas_" + row][name] - found["bare_" + row][name]) / OPERATIONS
                  for name in found["maas_" + row] | found["bare_" + row]} for row in BARS}


def total(each):
    return sum(each.values())


def show(row, each):
    """Prints a row and its functions. False: it is above the bar."""
    print(f"{row:44} {total(each):8.1f}  (bar: {BARS[row]})")
    for name, cost in sorted(each.items(), key=lambda item: -abs(item[1])):
        if abs(cost) >= 0.5:
            print(f"  {name:42} {cost:8.1f}")
    return total(each) <= BARS[row]


def main():
    if not shutil.which("valgrind"):
        print("no valgrind here")
        return 77
    fewest = {}
    for _ in range(RUNS):
        fewest = {row: min(each, fewest.get(row, each), key=total) for row, each in differences(sys.argv[1]).items()}
        if all(total(each) <= BARS[row] for row, each in fewest.items()):
            break
    return 0 if all([show(row, each) for row, each in fewest.items()]) else 1


if __name__ == "__main__":
    sys.exit(main())
