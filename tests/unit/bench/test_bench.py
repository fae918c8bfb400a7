#!/usr/bin/env python3
"""What the benchmarks' verdicts stand on: the arithmetic of a row, and how the report says it."""
import contextlib
import itertools
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "../../bench"))
import area_http
import area_prometheus
import area_rdma
import area_slab
import bench
import program
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

    def test_main__counted_names_the_counting_machine(self):
        measured = {"machine": {"cpus": 1, "cpu": "QEMU", "load_at_start": 0.5}, "rows": rows_of((1, 1, 1))}
        with unittest.mock.patch("bench.measure_elsewhere", return_value=measured), \
                unittest.mock.patch("builtins.print") as printed:
            bench.main(["slab", "--bin", "x", "--softroce=--counted --memory 6G"])
        self.assertIn("1 pairs on 1 CPU (emulated, 2 ns an instruction), load 0.5", printed.call_args.args[0])


class Programs(unittest.TestCase):
    """With shells in the place of servers and loads."""

    def setUp(self):
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.output = f"{directory.name}/output"
        self.stderr, sys.stderr = sys.stderr, open(os.devnull, "w", encoding="ascii")
        self.addCleanup(lambda: (sys.stderr.close(), setattr(sys, "stderr", self.stderr)))

    def shell(self, script):
        return program.Program(["sh", "-c", script], self.output)

    def test_wait__cpu_time_of_one_that_ends_well(self):
        with self.shell("i=0; while [ $i -lt 20000 ]; do i=$((i + 1)); done") as shell:
            self.assertGreater(shell.wait(60), 1e6)

    def test_wait__failed_or_late(self):
        for script, message in ("exit 3", "ended with 3"), ("exec sleep 60", "took too long"):
            with self.assertRaisesRegex(report.Failed, message), self.shell(script) as shell:
                shell.wait(0.3)

    def test_until__ended_at_its_start(self):
        with self.assertRaisesRegex(report.Failed, "ended at its start"), self.shell("exit 0") as shell:
            shell.until(lambda: None)

    def test_exit__server_that_does_not_end_well(self):
        for script in "trap 'exit 7' TERM; echo up; sleep 60 & wait", "echo up; exit 0":
            with self.assertRaises(report.Failed), self.shell(script) as shell:
                time.sleep(0.2)
                shell.until(lambda: os.path.getsize(self.output))

    def test_listening_port__only_a_whole_line(self):
        with open(self.output, "w", encoding="ascii") as file:
            file.write("a\nb Listening on http://127.0.0.1:123")
        self.assertIsNone(program.listening_port(f"{self.output}.not", self.output))
        with open(self.output, "a", encoding="ascii") as file:
            file.write("45\n")
        self.assertEqual(program.listening_port(f"{self.output}.not", self.output), 12345)

    def test_listens__without_a_connection(self):
        with socket.socket() as s:
            s.bind(("127.0.0.1", 0))
            port = s.getsockname()[1]
            self.assertFalse(program.listens(port))
            s.listen()
            self.assertTrue(program.listens(port))

    def test_cpu_ns__of_another_process(self):
        with self.shell("exec sleep 60") as shell:
            deadline = time.monotonic() + 10
            while not shell.cpu_ns():  # the shell may not have run yet
                self.assertLess(time.monotonic(), deadline)
                time.sleep(0.01)
            shell.process.kill()
            with self.assertRaises(report.Failed):
                shell.wait(10)

    def test_ask__answers_and_an_early_end(self):
        with program.Asked("sh", "-c", """echo '{"a":1}'; while read -r x; do echo "[$x]"; done""") as asked:
            self.assertEqual(asked.begun, {"a": 1})
            self.assertEqual(asked.ask("5,", 6), [5, 6])
        with self.assertRaisesRegex(report.Failed, "instead of answering"):
            with program.Asked("sh", "-c", "echo {}; read -r x") as asked:
                asked.ask(1)

    def test_figures_of__one_that_fails(self):
        self.assertEqual(program.figures_of("echo", '{"a":[1]}'), {"a": [1]})
        with self.assertRaises(report.Failed):
            program.figures_of("sh", "-c", "echo {}; exit 1")


class Http(unittest.TestCase):
    def test_figure__of_each_unit(self):
        sample = 2e3, 4e6
        self.assertEqual([area_http.figure(sample, unit) for unit in (area_http.CPU, area_http.RATE, area_http.MIB_S)],
                         [2, 250, 1000])
        with self.assertRaises(report.Failed):
            area_http.figure((1, 100), area_http.MIB_S)

    def test_take_case__each_order_has_ours_once(self):
        asked = []

        class Scene:
            def measure(self, *job):
                asked.append(job)
                return len(asked)

        for pair in range(3):
            asked.clear()
            samples = area_http.take_case(Scene(), "get", pair, quick=True)
            self.assertEqual(sorted(samples), [1, 2, 3])
            self.assertEqual(asked[samples[0] - 1], ("few", "data_get", 40))
            self.assertEqual({asked[samples[i] - 1] for i in (1, 2)}, {("redis", "redis_get", 40)})

    def test_comparisons__bars_of_known_cases(self):
        self.assertEqual({c[0] for c in area_http.COMPARISONS}, set(area_http.CASES))


class Slab(unittest.TestCase):
    def test_sample__fastest_tenth_and_growth(self):
        contest = {name: [9, 2, 1] + [8] * 17 for name in ("pair", "threaded", "zeroed", "few")}
        contest |= {"live": [10] * 20, "resident_mib": 36.5}
        with unittest.mock.patch("area_slab.figures_of", return_value=contest):
            sample = area_slab.take_sample(bench.options_of(["slab", "--bin", "x"]), "mallctl", "libjemalloc.so.2")
        self.assertEqual((sample["pair"], sample["growth"], sample["resident"]), (2, 5, 36.5))


class Rdma(unittest.TestCase):
    BANDWIDTH = """ #bytes     #iterations    BW peak[MiB/sec]    BW average[MiB/sec]   MsgRate[Mpps]
 65536      400              37.70              37.71                0.000603
"""
    LATENCY = """ #bytes #iterations    t_min[usec]    t_max[usec]  t_typical[usec]    t_avg[usec]    t_stdev[usec]   99% percentile[usec]   99.9% percentile[usec]
 64      500          35.10           90.00        36.20              37.11            2.10            45.00                   88.00
"""

    def test_figures__of_perftest(self):
        self.assertEqual(area_rdma.figures(self.BANDWIDTH, 65536)[3], 37.71)
        columns = area_rdma.figures(self.LATENCY, 64)
        self.assertEqual([columns[i] for i in (4, 7, 8)], [36.2, 45, 88])

    def test_figures__none(self):
        for text in "", " 64 500 1.0\n", self.BANDWIDTH:
            with self.assertRaises(report.Failed):
                area_rdma.figures(text, 64)

    def test_softirq_ns__of_its_threads_alone(self):
        with tempfile.TemporaryDirectory() as proc:
            for pid, (comm, spent) in enumerate((("ksoftirqd/0", 5), ("maasd", 7), ("ksoftirqd/1", 11))):
                os.mkdir(f"{proc}/{pid}")
                for name, text in ("comm", f"{comm}\n"), ("schedstat", f"{spent} 3 2\n"):
                    with open(f"{proc}/{pid}/{name}", "w", encoding="ascii") as file:
                        file.write(text)
            self.assertEqual(area_rdma.softirq_ns(proc), 16)
        self.assertGreaterEqual(area_rdma.softirq_ns(), 0)

    def test_size_name__of_each_unit(self):
        self.assertEqual([area_rdma.size_name(n) for n in (64, 1024, 65536, 4 << 20)],
                         ["64 B", "1 KiB", "64 KiB", "4 MiB"])

    def test_rows__of_a_pair(self):
        """A pair with made-up programs: who is asked for what, and what becomes of the figures."""
        wanted = []

        class Ours:
            def ask(self, *words):
                words = " ".join(map(str, words)).split()
                wanted.append(words)
                if words[0] in ("ours", "bare", "allocate"):
                    return {"wall_ns": 2e6, "cpu_ns": 1e6}
                size, depth, messages = map(int, words[1:])
                return {"wall_ns": size * messages * 1e3, "cpu_ns": messages * 3e3,
                        "times_ns": [] if depth else list(range(1000, 1000 + messages))}

        class Perftest:
            def run(self, name, size, depth, messages):
                wanted.append([name])
                return [size, messages, 2, 1.0, 4.0, 5, 6, 7.0, 8.0], messages * 4e3 + 1e6

        b = area_rdma.Bench.__new__(area_rdma.Bench)
        b.options, b.rows, b.perftest = bench.options_of(["rdma", "--bin", "x"]), report.Rows(), Perftest()
        b.asked = unittest.mock.MagicMock()
        b.asked.__getitem__.return_value = Ours()
        b.setup_cpu_ns = dict.fromkeys([("write", s) for s in (65536, 1024, 4096)], 1e6)
        # Each message costs the kernel's threads another microsecond.
        with unittest.mock.patch("area_rdma.softirq_ns", side_effect=itertools.count(0, 8000 * 1e3)):
            b.take_pair(0)
        rows = {(r["case"], r["unit"]): r for r in b.rows.summary()}
        self.assertEqual(len(rows), 2 * (2 * (5 + 2 * 3 + 3 * 3) + 2 * 4) + 2 * 2 * 2)
        self.assertEqual(wanted[:4], [["write", "65536", "64", "400"], ["ib_write_bw"]] * 2)
        self.assertEqual(wanted[4], ["ib_write_bw"])  # The next one begins.
        bandwidth = rows["mr: write 64 KiB", "MiB/s"]
        self.assertAlmostEqual(bandwidth["ours"], 1e6 / (1 << 20))
        self.assertEqual((bandwidth["bar"], bandwidth["bar_is"]), (1.0, "min"))
        self.assertAlmostEqual(rows["mr: write 1 KiB", "1/s"]["baseline"], 1024)
        self.assertEqual(rows["mr: read 4 MiB", "MiB/s"]["bar"], 0.995)
        cpu = rows["mr: write 1 KiB", "us of CPU"]
        self.assertAlmostEqual(cpu["ratio"], (3 + 1) / 4)
        self.assertEqual((cpu["bar"], cpu["bar_is"]), (1.02, "max"))
        known = rows["mr: write 1 KiB with a token", "us each"]
        self.assertEqual((known["ours"], known["bar"], known["baseline_name"]), (1024, 1.005, "no --auth-file"))
        self.assertEqual(b.asked.__getitem__.mock_calls.count(unittest.mock.call(("maas", "known", 10))), 2 * 2)
        latency = rows["window: read 4 KiB, p99.9", "us"]
        self.assertEqual((latency["ours"], latency["baseline"], latency["bar"]), (50.95, 8, 1.10))
        self.assertEqual(latency["baseline_name"], "ib_read_lat")
        waited = rows["mr: write 64 B, p50", "us"]
        self.assertEqual((waited["ours"], waited["baseline_name"], waited["bar"]), (26, "bare verbs", 1.03))
        keys = rows["window: 1,000 keys in the server", "us each"]
        self.assertEqual((keys["ours"], keys["bar"], keys["baseline_name"]), (2, 1.1, "bare binds"))


class Prometheus(unittest.TestCase):
    FIGURES = {"IngestCPU": 100.0, "CompactCPU": 2.0, "Heap": 1 << 20, "Restart": 4.0, "TakeOver": 6.0,
               "Queries": [1.0, 4.0], "Cold": [1.0, 2.0], "Asked": ["a", "b"], "Resident": 50 << 20,
               "ChunkBytes": 100 << 20, "Moved": 110 << 20, "ServerCPU": 5.0, "LogBytes": 3.0, "Lag": 0.5,
               "RestartCPU": 1.0, "RestartPeak": 1 << 20, "TakeOverCPU": 1.0, "TakeOverPeak": 1 << 20,
               "ReturnCPU": 1.0, "ReturnPeak": 1 << 20, "ReturnRead": 101.0, "Returned": 100.0,
               "Uploaded": 100.0, "Levels": [1 << 20, 2 << 20], "BlocksWritten": 103.0, "AllCPU": 10.0,
               "Disk": 100.0}
    FOLLOWER = {"CPU": 11.0, "Heap": 1 << 20, "Disk": 120.0, "Behind": 1.0, "ReadyAfter": 10.0, "Peak": 1 << 20}

    def pairs(self, **ours):
        stock = self.FIGURES | {"Resident": 150 << 20}
        again = stock | {"IngestCPU": 120.0, "Restart": 5.0}
        return [{"stock": stock, "again": again, "pages": self.FIGURES, "mirror": self.FIGURES | ours,
                 "remote": self.FIGURES, "follower": self.FOLLOWER}]

    def test_head__rows(self):
        rows = {r["case"]: r for r in area_prometheus.head_rows(self.pairs(IngestCPU=121.0, Cold=[1.0, 6.0]))}
        self.assertEqual(len(rows), 27)
        ingest = rows["mirror: CPU per ingested sample"]
        self.assertAlmostEqual(ingest["ratio"], 1.1)  # Beside both runs of the stock one.
        self.assertEqual((ingest["bar"], ingest["ok"], ingest["aa"]), (1.05, False, 1.2))
        self.assertAlmostEqual(rows["mirror: queries, cold"]["ratio"], 3 ** 0.5)
        self.assertEqual(rows["mirror: worst query, cold (b)"]["ratio"], 3)
        saved = rows["remote: resident less, per chunk byte"]
        self.assertEqual((saved["ratio"], saved["bar_is"], saved["ok"]), (1, "min", True))
        self.assertEqual(rows["remote: bytes moved per compaction"]["ratio"], 1.1)
        self.assertEqual((rows["remote: take-over to ready"]["ratio"], rows["remote: take-over to ready"]["ok"]),
                         (1.5, True))
        self.assertIsNone(rows["page dropping alone: resident less, per chunk byte"]["ok"])

    def test_starts__rows(self):
        rows = {r["case"]: r for r in area_prometheus.starts_rows(self.pairs())}
        self.assertEqual(len(rows), 2 * (8 + 2 + 4))
        self.assertEqual(rows["mirror: blocks of level 2"]["ours"], 2)
        self.assertFalse(rows["mirror: bytes of blocks written, per byte of the blocks"]["ok"])
        self.assertTrue(rows["mirror: return of blocks, bytes read per byte"]["ok"])

    def test_standby__rows(self):
        rows = {r["case"]: r for r in area_prometheus.standby_rows(self.pairs())}
        self.assertEqual(len(rows), 8)
        self.assertEqual(rows["standby: CPU, of the leader's"]["ratio"], 1.1)
        self.assertFalse(rows["standby: log and chunks on disk, of the leader's"]["ok"])
        self.assertTrue(rows["standby: ready after the leader's death"]["ok"])

    def test_start_all__each_on_what_it_needs(self):
        started = []

        def run(store, *arguments):
            started.append((store, arguments[1]))
            return dict.fromkeys(("CPU", "Peak", "Seconds", "ReturnCPU", "ReturnPeak", "Read", "Blocks"),
                                 float(len(started)))

        with tempfile.TemporaryDirectory() as work:
            pair = {name: {"Dir": f"{work}/{name}", "Fed": 5} for name in ("stock", "mirror", "remote", "again")}
            for figures in pair.values():
                os.mkdir(figures["Dir"])
            server = unittest.mock.Mock()
            options = bench.options_of(["prometheus", "--bin", "x", "--contestant", "y", "--part", "starts"])
            runs = area_prometheus.Runs(options, work, server)
            runs.run = run
            runs.start_all(pair)
            self.assertEqual(os.listdir(work), [])
        self.assertEqual([c.args[0] for c in server.free_owner.call_args_list], ["mirror", "remote"])
        self.assertEqual(started[3], ("stock", f"{work}/again"))
        self.assertEqual(started[12 + 4 + 1], ("mirror", f"{work}/mirror/successor-1"))
        self.assertEqual(started[12 + 4 + 3], ("stock", f"{work}/again"))
        self.assertEqual((pair["mirror"]["Restart"], pair["mirror"]["TakeOver"], pair["mirror"]["Returned"]),
                         (6, 18, 18))


def machine_signalled_at(moment):
    """subprocess.Popen, which gets SIGTERM once scripts/softroce runs: before its caller knows of it, or later."""
    class Machine(subprocess.Popen):
        def __init__(self, command, **options):
            super().__init__(command, **options)
            self.left = [moment] if command[0] == "scripts/softroce" else []
            self.reach("start")

        def wait(self, timeout=None):
            self.reach("wait")
            return super().wait(timeout)

        def reach(self, now):
            if self.left == [now]:
                self.left = []
                while not os.path.exists("begun"):
                    time.sleep(0.01)
                signal.raise_signal(signal.SIGTERM)
    return Machine


class Options(unittest.TestCase):
    def test_pairs__by_default(self):
        self.assertEqual(bench.options_of(["slab", "--bin", "x"]).pairs, 7)
        self.assertEqual(bench.options_of(["slab", "--bin", "x", "--quick"]).pairs, 3)
        self.assertEqual(bench.options_of(["slab", "--bin", "x", "--quick", "--pairs", "5"]).pairs, 5)

    def test_main__a_failure_is_no_table(self):
        with unittest.mock.patch("area_slab.measure", side_effect=report.Failed("a wrong byte")):
            with self.assertRaises(SystemExit) as end:
                bench.main(["slab", "--bin", "x"])
        self.assertEqual(end.exception.code, "slab: a wrong byte; no table")

    def test_main__ended_ends_its_machine_first(self):
        for moment in "start", "wait":
            with self.subTest(moment), tempfile.TemporaryDirectory() as work, contextlib.chdir(work):
                os.mkdir("scripts")
                with open("scripts/softroce", "w", encoding="ascii") as file:
                    os.chmod(file.name, 0o755)
                    file.write("#!/bin/sh\ntrap 'touch ended; exit' TERM\ntouch begun\n"
                               "while [ -d scripts ]; do sleep 0.1; done\n")
                self.addCleanup(signal.signal, signal.SIGTERM, signal.getsignal(signal.SIGTERM))
                with unittest.mock.patch("subprocess.Popen", machine_signalled_at(moment)), \
                        self.assertRaises(SystemExit) as end:
                    bench.main(["slab", "--bin", "x", "--softroce=--counted"])
                self.assertEqual(end.exception.code, 128 + signal.SIGTERM)
                self.assertTrue(os.path.exists("ended"))

    def test_main__rows_alone_and_the_report(self):
        rows = rows_of((1, 1, 1), bar=2.0)
        with unittest.mock.patch("area_slab.measure", return_value=rows), \
                unittest.mock.patch("report.progress"), unittest.mock.patch("builtins.print") as printed, \
                tempfile.TemporaryDirectory() as work:
            bench.main(["slab", "--bin", "x", "--rows", f"{work}/rows"])
            printed.assert_not_called()
            bench.main(["slab", "--bin", "x", "--json", f"{work}/report"])
            self.assertIn("1 of 1 bars met", printed.call_args.args[0])
            with open(f"{work}/rows", encoding="utf-8") as r, open(f"{work}/report", encoding="utf-8") as whole:
                measured, whole = json.load(r), json.load(whole)
        self.assertEqual(list(whole), ["area", "machine", "quick", "rows"])
        self.assertEqual(whole["rows"], measured["rows"])
        for machine in whole["machine"], measured["machine"]:
            del machine["load_at_start"]  # there were two runs
        self.assertEqual(whole["machine"], whole["machine"] | measured["machine"])
        self.assertEqual(list(whole["rows"][0]), ["case", "unit", "ours", "baseline", "baseline_name", "ratio",
                                                  "noise", "aa", "pairs", "bar", "bar_is", "ok"])


if __name__ == "__main__":
    unittest.main()
