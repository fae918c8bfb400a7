#!/usr/bin/env python3
"""What tests say of themselves, for scripts/test and the tests of our Go modules:

    results.py shards          what `ctest --show-only=json-v1` prints. Prints a regular expression for
                               each four tests.
    results.py junit FILE...   JUnit of ctest. Prints how many passed, failed and were skipped, and
                               then what each that did not pass said.
    results.py go              the events of `go test -json`, as they come. Prints a line for each
                               package, and what each test said that failed, was skipped or is a
                               benchmark. Exit: 1 when a test failed or there was none, 77 when one was
                               skipped.
"""
import collections
import json
import sys
from xml.etree import ElementTree


def shards(file):
    names = [test["name"] for test in json.load(file)["tests"]]
    for first in range(0, len(names), 4):
        print(f"^({'|'.join(names[first:first + 4])})$")
    return 0


def of_case(case):
    """passed, failed or skipped. A test that was to run and could not has failed: ctest writes that as if
    it had been skipped."""
    skipped = case.find("skipped")
    if skipped is not None and skipped.get("message", "").startswith("SKIP_"):
        return "skipped"
    return "passed" if case.get("status") == "run" else "failed"


def junit(paths):
    counts, told = collections.Counter(), []
    for path in paths:
        try:
            cases = ElementTree.parse(path).findall("testcase")
        except (OSError, ElementTree.ParseError) as error:
            counts["failed"] += 1
            told.append(f"FAILED: no results of {path}: {error}\n")
            continue
        for case in cases:
            outcome = of_case(case)
            counts[outcome] += 1
            output = case.findtext("system-out") or ""
            if outcome == "failed":
                told.append(f"FAILED: {case.get('name')}, after {float(case.get('time')):.1f} s\n{output}\n")
            elif outcome == "skipped":
                told.append(f"skipped: {case.get('name')}: {output.strip().rpartition(chr(10))[2]}\n")
    print(counts["passed"], counts["failed"], counts["skipped"])
    print("".join(told), end="")
    return 0


def go(lines):
    outputs, outcomes = collections.defaultdict(list), set()
    for line in lines:
        try:
            event = json.loads(line)
        except ValueError:  # what the go command itself says
            print(line, end="", flush=True)
            continue
        test, action = event.get("Test"), event["Action"]
        key = event.get("Package"), test
        if action in ("output", "build-output"):
            if action == "output" and test:
                outputs[key].append(event["Output"])
            # Of a package: its line, and what it says beside its tests.
            elif event["Output"] != "PASS\n":
                print(event["Output"], end="", flush=True)
        elif test and action in ("pass", "bench", "fail", "skip"):
            said = outputs.pop(key, [])
            outcomes.add(action)
            if action != "pass":
                print("".join(said), end="", flush=True)
        elif action == "fail":  # also one that could not be built
            outcomes.add(action)
            for (package, _), said in outputs.items():  # of tests that had not ended
                print("".join(said) if package == event.get("Package") else "", end="", flush=True)
    return 1 if "fail" in outcomes or not outcomes else 77 if "skip" in outcomes else 0


if __name__ == "__main__":
    what, *files = sys.argv[1:]
    sys.exit(junit(files) if what == "junit" else {"shards": shards, "go": go}[what](sys.stdin))
