#!/usr/bin/env python3
"""What the benchmarks' verdicts stand on: the arithmetic of a row, and how the report says it."""
import json
import math
import os
import sys
import unittest

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../bench"))
# pylint: disable=wrong-import-position
import report


def rows_of(*samples, **options):
    rows = report.Rows()
    for ours, baseline, again in samples:
        rows.note("x", "ns", "them", ours, baseline, again, **options)
    return rows.summary()


class Report(unittest.TestCase):
    def test_lowest_tenth__nearest_rank(self):
        values = list(range(11, 0, -1))
        self.assertEqual(report.lowest_tenth(values[:1]), 11)
        self.assertEqual(report.lowest_tenth(values[:10]), 2)
        self.assertEqual(report.lowest_tenth(values), 2)

    def test_summary__median_odd_and_even(self):
        self.assertEqual(rows_of((9, 1, 1))[0]["ours"], 9)
        self.assertEqual(rows_of((9, 1, 1), (1, 1, 1), (5, 1, 1))[0]["ours"], 5)
        self.assertEqual(rows_of((9, 1, 1), (1, 1, 1), (5, 1, 1), (100, 1, 1))[0]["ours"], 7)

    def test_summary__ratio_and_noise(self):
        row, = rows_of((20, 10, 11), (500, 10, 8), (19, 10, 10), bar=2.0)
        self.assertEqual((row["ours"], row["baseline"], row["ratio"], row["aa"]), (20, 10, 2, 1))
        self.assertAlmostEqual(row["noise"], 0.1)
        self.assertEqual((row["pairs"], row["bar_is"], row["ok"]), (3, "max", True))

    def test_summary__bars_of_both_kinds(self):
        for bar, bar_is, ok in (0.9, "min", False), (0.9, "max", True), (0.7, "max", False), (0.8, "min", True):
            self.assertEqual(rows_of((8, 10, 10), bar=bar, bar_is=bar_is)[0]["ok"], ok)
        row, = rows_of((8, 10, 10))
        self.assertEqual((row["bar"], row["bar_is"], row["ok"]), (None, None, None))

    def test_summary__bar_that_follows_from_the_noise(self):
        row, = rows_of((8, 10, 7), bar=report.NOISE, bar_is="min")
        self.assertAlmostEqual(row["bar"], 0.7)
        self.assertTrue(row["ok"])
        self.assertEqual(rows_of((8, 10, 25), bar=report.NOISE, bar_is="min")[0]["bar"], 0.01)

    def test_summary__rows_in_the_order_of_the_first_pair(self):
        rows = report.Rows()
        for _ in range(2):
            for case, unit in ("b", "ns"), ("a", "ns"), ("b", "us"):
                rows.note(case, unit, "them", 1, 1, 1)
        self.assertEqual([(r["case"], r["unit"], r["pairs"]) for r in rows.summary()],
                         [("b", "ns", 2), ("a", "ns", 2), ("b", "us", 2)])

    def test_note__impossible_figures(self):
        for bad in (-1, 1, 1), (1, 0, 1), (1, 1, 0), (math.nan, 1, 1), (1, math.inf, 1), (1, 1, -1):
            with self.assertRaises(report.Failed):
                rows_of(bad)
        self.assertEqual(rows_of((0, 1, 1))[0]["ours"], 0)
        with self.assertRaises(report.Failed):
            report.row("x", "ns", 1, 1, "them", math.nan, 1, 0, 1)

    def test_table__and_json(self):
        rows = rows_of((1234.5, 10, 11), bar=2.0) + rows_of((0.98765, 12, 12))
        whole = {"rows": rows, "quick": True, "machine": {"cpus": 2, "cpu": "a CPU", "load_at_start": 0.5}}
        lines = report.table(whole).splitlines()
        self.assertEqual(lines[0].split(), ["case", "unit", "ours", "baseline", "ratio", "A/A", "noise", "bar"])
        self.assertEqual(lines[1].split(), ["x", "ns", "1234", "10", "them", "123.5", "1.1", "10", "%", "<=", "2",
                                            "MISSED"])
        self.assertEqual(lines[2].split(), ["x", "ns", "0.988", "12", "them", "0.082", "1", "0", "%", "-", "-"])
        self.assertEqual(lines[4], "0 of 1 bars met; 1 pairs, quick: says nothing of speed, on 2 CPUs (a CPU), "
                                   "load 0.5 at the start.")
        self.assertEqual(json.loads(json.dumps(report.rounded(rows)))[1]["ratio"], 0.0823042)


if __name__ == "__main__":
    unittest.main()
