"""The report of a benchmark: rows that compare ours with a baseline, as JSON and as a table.

A row stands on pairs of samples that were taken in turn; a second sample of the baseline in each
pair (A/A) shows the noise:

    ratio  median of ours / median of the baseline
    aa     median of the baseline's second samples / median of its first ones
    noise  median over the pairs of how far second / first is from 1
"""
import json
import math
import os
import platform
import re
import subprocess
import sys
import time
from statistics import median


class Failed(Exception):
    """A failed operation, a wrong byte or an impossible figure: there is no table then."""


def lowest_tenth(values):
    """The value that a tenth of them, rounded up, do not exceed."""
    return sorted(values)[(len(values) - 1) // 10]


def row(case, unit, ours, baseline, baseline_name, ratio, aa, noise, pairs, bar=None, bar_is="max"):
    """A row; the ratio may not be above a bar that is "max", nor below one that is "min"."""
    if not all(map(math.isfinite, (ours, baseline, ratio, aa, noise))):
        raise Failed(f"{case}: impossible: {ours} beside {baseline}")
    ok = None if bar is None else ratio <= bar if bar_is == "max" else ratio >= bar
    return {"case": case, "unit": unit, "ours": ours, "baseline": baseline,
            "baseline_name": baseline_name, "ratio": ratio, "noise": noise, "aa": aa,
            "pairs": pairs, "bar": bar, "bar_is": None if bar is None else bar_is, "ok": ok}


class Rows:
    """The rows of an area, in the order in which they were first noted."""

    def __init__(self):
        self.samples = {}

    def note(self, case, unit, baseline_name, ours, baseline, again, bar=None, bar_is="max"):
        """Notes one pair. Without a bar the row only informs."""
        if not all(map(math.isfinite, (ours, baseline, again))) or ours < 0 or min(baseline, again) <= 0:
            raise Failed(f"{case}: impossible: {ours}, beside {baseline} and {again} {unit}")
        key = case, unit, baseline_name, bar, bar_is
        self.samples.setdefault(key, []).append((ours, baseline, again))

    def summary(self):
        rows = []
        for (case, unit, baseline_name, bar, bar_is), samples in self.samples.items():
            ours, baseline, again = (median(values) for values in zip(*samples))
            noise = median(abs(second / first - 1) for _, first, second in samples)
            rows.append(row(case, unit, ours, baseline, baseline_name, ours / baseline,
                            again / baseline, noise, len(samples), bar, bar_is))
        return rows


def found(pattern, path, default=""):
    """What the pattern's group matches in a file."""
    try:
        with open(path, encoding="utf-8") as file:
            match = re.search(pattern, file.read(), re.MULTILINE)
    except OSError:
        match = None
    return match[1] if match else default


def git(*arguments):
    try:
        done = subprocess.run(["git", *arguments], capture_output=True, text=True, check=False)
    except OSError:
        return ""
    return done.stdout.strip()


def machine():
    """What the figures are measured on: this very machine."""
    return {
        "cpu": found(r"^model name\s*: (.*)$", "/proc/cpuinfo", platform.machine()),
        "cpus": len(os.sched_getaffinity(0)),
        "memory_mib": int(found(r"^MemTotal: *(\d+)", "/proc/meminfo", "0")) // 1024,
        "kernel": f"{platform.system()} {platform.release()}",
        "os": found(r'^PRETTY_NAME="(.*)"$', "/etc/os-release"),
        "load_at_start": round(os.getloadavg()[0], 2),
    }


def source():
    """What is measured, and when. The clock of a virtual machine may be wrong, and git is not there."""
    return {
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        "commit": git("rev-parse", "--short=12", "HEAD"),
        "uncommitted_changes": git("status", "--porcelain") != "",
    }


def rounded(value):
    """A JSON value whose figures have six digits."""
    if isinstance(value, float):
        return float(f"{value:.6g}")
    if isinstance(value, dict):
        return {key: rounded(v) for key, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def write(report, path):
    with open(path, "w", encoding="utf-8") as file:
        json.dump(rounded(report), file, indent=2, ensure_ascii=False)
        file.write("\n")


def figure(value):
    """For people, who want three or four digits."""
    return f"{round(value, 0 if value >= 1000 else 1 if value >= 10 else 3):.10g}"


def table(report):
    """The report for people."""
    lines = [["case", "unit", "ours", "baseline", "", "ratio", "A/A", "noise", "bar", ""]]
    for r in report["rows"]:
        bar = "-" if r["bar"] is None else f"{'<=' if r['bar_is'] == 'max' else '>='} {r['bar']:.6g}"
        lines.append([r["case"], r["unit"], figure(r["ours"]), figure(r["baseline"]), r["baseline_name"],
                      figure(r["ratio"]), figure(r["aa"]), f"{round(r['noise'] * 100, 1):.10g} %", bar,
                      "-" if r["ok"] is None else "ok" if r["ok"] else "MISSED"])
    widths = [max(map(len, column)) for column in zip(*lines)]
    text = ""
    for line in lines:
        cells = (cell.rjust(width) if column in (2, 3, 5, 6, 7, 8) else cell.ljust(width)
                 for column, (cell, width) in enumerate(zip(line, widths)))
        text += "  ".join(cells).rstrip() + "\n"
    with_bar = [r["ok"] for r in report["rows"] if r["ok"] is not None]
    on = report["machine"]
    return (f"{text}\n{sum(with_bar)} of {len(with_bar)} bars met; {report['rows'][0]['pairs']} pairs"
            f"{', quick: says nothing of speed,' if report['quick'] else ''} on {on['cpus']} CPU{'s' * (on['cpus'] != 1)}"
            f" ({on['cpu']}), load {on['load_at_start']:.6g} at the start.\n")


def progress(area, done, pairs):
    """A line on stderr, which is written over when stderr is a terminal."""
    start, end = ("\r\033[K", "") if sys.stderr.isatty() else ("", "\n")
    text = f"pair {done + 1} of {pairs}" if done < pairs else f"pair {pairs} of {pairs} done"
    print(f"{start}{area}: {text}", end=end if done < pairs else "\n", file=sys.stderr, flush=True)
