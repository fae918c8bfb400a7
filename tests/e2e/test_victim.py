#!/usr/bin/env python3
"""Abuse, and another client meanwhile.

Usage: MAAS_BIN=MAASD test_victim.py [ABUSE]

While a client from 127.0.0.1 does its worst, one from 127.0.0.2 does all that a client does: each answer has to
come within a second, and nothing is refused; /metrics answers as well. How long the machine itself holds up whoever
connects, another server tells that only echoes, at the same time; that is allowed for. Once with a server that
everybody may use, and once with one where both are principals, and the first has quotas. What the abuse itself is
answered is tested elsewhere; here it only has to leave the others alone.
"""
import json
import os
import socket
import subprocess
import sys
import tempfile
import time

from abuses import FORK, MIB, OPEN, PRINCIPALS, Client, Server, read_answer
from processes import token_of, write_principals

NAME = "victim"
HOST = "127.0.0.2"
ECHO_HOST = "127.0.0.3"
QUOTAS = ("max-bytes=512MiB max-allocations=40000 max-sessions=50 max-owners=100 max-connections=500 "
          "max-request-ids=1000")
METRICS = "metrics.sock"


class Victim:
    """Goes on until it is told to stop; keeps the longest answer and what went wrong."""

    def __init__(self, token):
        self.client = Client(HOST, token)
        self.worst = (0.0, None)
        self.turns = 0
        self.wrong = []
        self.kept = self.ask("POST", "/allocate", {"size_bytes": 64, "owner": NAME})["id"]
        self.ask("PUT", f"/allocate/{self.kept}/data", b"kept")
        self.session = self.ask("POST", "/sessions", {"name": NAME, "ttl_seconds": 3600})["id"]
        self.batch = {"size_bytes": 64, "count": 10, "owner": NAME, "request_id": "batch"}
        self.made = self.ask("POST", "/allocate", self.batch)

    def timed(self, what, connect, call):
        """The result of call(connection), a status and a body; the body of 200."""
        start_s = time.monotonic()
        with connect() as connection:
            connected_s = time.monotonic()
            status, body = call(connection)
        end_s = time.monotonic()
        self.worst = max(self.worst, (end_s - start_s, f"{what}, {(connected_s - start_s) * 1000:.0f} ms to connect"))
        if status != 200:
            self.wrong.append((what, status, body[:200]))
            return None
        return body

    def ask(self, method, path, value=None):
        body = self.timed(f"{method} {path}", self.client.connect,
                          lambda connection: self.client.call(connection, method, path, value))
        return json.loads(body) if body and body.startswith(b"{") else body

    def same(self, what, wanted, got):
        if wanted != got:
            self.wrong.append((what, wanted, got))

    @staticmethod
    def connect_to_metrics():
        connection = socket.socket(socket.AF_UNIX)
        connection.connect(METRICS)
        return connection

    @staticmethod
    def scrape(connection):
        connection.sendall(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        return read_answer(connection)

    def turn(self):
        """All that a client does."""
        request = {"size_bytes": 64, "owner": NAME, "request_id": f"turn {self.turns}"}
        name = (self.ask("POST", "/allocate", request) or {}).get("id")
        self.same("the same request", name, (self.ask("POST", "/allocate", request) or {}).get("id"))
        self.ask("PUT", f"/allocate/{name}/data", b"abc")
        self.same("its bytes", b"abc", (self.ask("GET", f"/allocate/{name}/data") or b"")[:3])
        self.ask("GET", f"/allocations?owner={NAME}&limit=10")
        session = self.ask("POST", "/sessions", {"name": f"{NAME}/1", "exclusive": True, "ttl_seconds": 60}) or {}
        self.ask("POST", f"/sessions/{session.get('id')}/renew", {"ttl_seconds": 60})
        large = self.ask("POST", "/allocate", {"size_bytes": 4 * MIB, "count": 2, "owner": NAME})
        if large:
            self.ask("POST", "/free", {"ids": [a["id"] for a in large["allocations"]]})
        self.ask("GET", "/health")
        self.timed("scrape", self.connect_to_metrics, self.scrape)
        self.ask("DELETE", f"/sessions/{session.get('id')}")
        self.ask("DELETE", f"/allocate/{name}")
        self.turns += 1

    def end(self):
        """What was there before is there as it was."""
        self.same("what was kept", b"kept", (self.ask("GET", f"/allocate/{self.kept}/data") or b"")[:4])
        self.ask("POST", f"/sessions/{self.session}/renew", {"ttl_seconds": 60})
        self.same("the batch once more", self.made, self.ask("POST", "/allocate", self.batch))

    def run(self, stop, results):
        while not stop.is_set() and not self.wrong:
            self.turn()
            time.sleep(0.01)
        if not self.wrong:
            self.end()
        results.put((self.turns, self.worst, self.wrong[:3]))


def echo(listener):
    while True:
        with listener.accept()[0] as connection:
            connection.sendall(connection.recv(1))


def time_echoes(listener, stop, result):
    """The slowest one, in seconds."""
    worst_s = 0.0
    while not stop.is_set():
        start_s = time.monotonic()
        with socket.create_connection(listener.getsockname(), 60, (ECHO_HOST, 0)) as connection:
            connection.sendall(b"x")
            connection.recv(1)
        worst_s = max(worst_s, time.monotonic() - start_s)
        time.sleep(0.01)
    result.put(worst_s)


def start(function, *arguments):
    process = FORK.Process(target=function, args=arguments, daemon=True)
    process.start()
    return process


def suffer(abuse, tokens):
    evil, mine = tokens
    victim = Victim(mine)
    listener = socket.create_server((ECHO_HOST, 0), backlog=64)
    stop, results, slowest_echo = FORK.Event(), FORK.Queue(), FORK.Queue()
    start(echo, listener)
    processes = [start(victim.run, stop, results), start(time_echoes, listener, stop, slowest_echo)]
    client = Client("127.0.0.1", evil)
    if abuse in OPEN:
        held = OPEN[abuse](client)
    else:
        held = PRINCIPALS[abuse](client, {"host": HOST, "name": NAME, "id": victim.kept, "session": victim.session})
    time.sleep(2)
    stop.set()
    turns, (worst_s, what), wrong = results.get(timeout=120)
    echo_s = slowest_echo.get(timeout=120)
    for process in processes:
        process.join()
    print(f"{abuse}{' of a principal' if evil else ''}: {turns} turns of another client, the slowest answer took "
          f"{worst_s * 1000:.0f} ms ({what}), the slowest echo {echo_s * 1000:.0f} ms", flush=True)
    for connection in held:
        connection.close()
    if wrong or worst_s > Server.limit_s() + echo_s or turns < 3:
        sys.exit(f"FAILED: {wrong}")


def run(abuse, tokens):
    with tempfile.TemporaryDirectory() as work:
        options = ["--rdma", "off", "--max-connections", "2000", "--log-level", "error",
                   "--listen-metrics", f"unix:{work}/{METRICS}"]
        if tokens:
            options += ["--auth-file", write_principals(os.path.join(work, "principals"), {
                "evil": f"owner=evil/* {QUOTAS}", NAME: f"owner={NAME}/*"})]
        with_maasd = os.path.abspath(os.path.join(os.path.dirname(__file__), "../../scripts/with-maasd"))
        subprocess.run([with_maasd, *options, "--", sys.executable, os.path.abspath(__file__), abuse, *tokens],
                       check=True, cwd=work)


def main():
    if len(sys.argv) > 2:
        suffer(sys.argv[1], sys.argv[2:])
        return
    if len(sys.argv) == 2 and Server.pid:
        suffer(sys.argv[1], (None, None))
        return
    for abuse in [*OPEN, *PRINCIPALS]:
        if sys.argv[1:] and abuse not in sys.argv[1:]:
            continue
        if abuse in OPEN:
            run(abuse, ())
        run(abuse, (token_of("evil"), token_of(NAME)))


main()
