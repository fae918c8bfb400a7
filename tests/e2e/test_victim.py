#!/usr/bin/env python3
"""Abuse, and another client meanwhile.

Usage: MAAS_BIN=MAASD test_victim.py [ABUSE]

While a client from 127.0.0.1 does its worst, one from 127.0.0.2 allocates, frees and asks for
/health: each answer has to come within a second. What the abuse itself is answered is tested
elsewhere; here it only has to leave the others alone.
"""
import json
import os
import re
import socket
import struct
import subprocess
import sys
import threading
import time

LIMIT_S = 1.0
MIB = 1 << 20
JSON = "Content-Type: application/json\r\n"


class Server:
    """The maasd of scripts/with-maasd."""

    pid = os.environ.get("MAASD_PID")
    port = int(os.environ.get("MAAS_URL", ":0").rsplit(":", 1)[1])

    def connect(self, host="127.0.0.1"):
        return socket.create_connection(("127.0.0.1", self.port), 60, (host, 0))

    def peak_mib(self):
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) >> 10

    def is_sanitized(self):
        with open(f"/proc/{self.pid}/maps", encoding="ascii") as maps:
            return re.search(r"lib[at]san", maps.read()) is not None

    def limit_s(self):
        """What an answer may take; a sanitizer makes the server several times slower."""
        return LIMIT_S * (4 if self.is_sanitized() else 1)


def head(method, path, length=None, lines=""):
    size = "" if length is None else f"Content-Length: {length}\r\n"
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{lines}{size}\r\n".encode()


def read_answer(connection):
    """Returns the status and the body; 0 when the server closed instead."""
    data = b""
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return 0, data
        data += piece
    top, body = data.split(b"\r\n\r\n", 1)
    length = re.search(rb"(?i)content-length: (\d+)", top)
    while length and len(body) < int(length[1]):
        piece = connection.recv(65536)
        if not piece:
            return 0, body
        body += piece
    return int(top.split()[1]), body


def call(connection, method, path, value=None):
    body = b"" if value is None else json.dumps(value).encode()
    connection.sendall(head(method, path, None if value is None else len(body), JSON) + body)
    return read_answer(connection)


class Victim(threading.Thread):
    """Goes on until it is told to stop; keeps the longest answer and what went wrong."""

    def __init__(self, server):
        super().__init__(daemon=True)
        self.server = server
        self.going = True
        self.worst_s = 0.0
        self.turns = 0
        self.wrong = []

    def timed(self, *arguments):
        start = time.monotonic()
        with self.server.connect("127.0.0.2") as connection:
            status, body = call(connection, *arguments)
        self.worst_s = max(self.worst_s, time.monotonic() - start)
        if status != 200:
            self.wrong.append((arguments, status, body[:200]))
        return body

    def run(self):
        while self.going:
            body = self.timed("POST", "/allocate", {"size_bytes": 64, "owner": "victim"})
            self.timed("GET", "/health")
            if not self.wrong:
                self.timed("DELETE", "/allocate/" + json.loads(body)["id"])
            self.turns += 1
            time.sleep(0.01)


# Each of these does its worst with `server` and returns what has to be closed in the end.

def announce(server):
    """Bodies that are announced and do not come."""
    connections = [server.connect() for _ in range(200)]
    for connection in connections:
        connection.sendall(head("POST", "/free", 4 * MIB, JSON))
    return connections


def shape(before, unit, after):
    count = (4 * MIB - len(before) - len(after)) // len(unit)
    return before + (unit * count).rstrip(b",") + after


def shapes(server):
    """JSON whose tree takes a hundred times its size, four at a time."""
    def send(body):
        with server.connect() as connection:
            try:
                connection.sendall(head("POST", "/free", len(body), JSON) + body)
            except OSError:
                pass  # it was answered before its end
            read_answer(connection)

    for body in [shape(b'{"ids":[', b"{},", b"]}"), shape(b'{"ids":[', b"[],", b"]}"),
                 shape(b'{"ids":[{', b'"":0,', b"}]}"), shape(b'{"ids":[', b'"",', b"]}")]:
        threads = [threading.Thread(target=send, args=(body,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    # A sanitizer keeps what was freed.
    if not server.is_sanitized() and server.peak_mib() > 150:
        sys.exit(f"16 bodies of 4 MiB cost {server.peak_mib()} MiB")
    return []


def stall(server):
    """Writes that stop behind their JSON, of ten thousand ranges each, all of one slab; it is freed."""
    with server.connect() as connection:
        ids = [json.loads(call(connection, "POST", "/allocate", {"size_bytes": 4 * MIB})[1])["id"]
               for _ in range(2)]
    ranges = {"ranges": [{"id": ids[0], "offset": 0, "length": 1}] * 10000}
    text = json.dumps(ranges, separators=(",", ":")).encode()
    connections = []
    for _ in range(50):
        connection = server.connect()
        connection.sendall(head("POST", "/data/write", 4 + len(text) + 10000) +
                           struct.pack("<I", len(text)) + text)
        connections.append(connection)
    time.sleep(0.5)
    for name in ids:
        start = time.monotonic()
        with server.connect() as connection:
            status, _ = call(connection, "DELETE", "/allocate/" + name)
        took_s = time.monotonic() - start
        # A free gives readers and writers a second.
        if status != 200 or took_s > 1 + server.limit_s():
            sys.exit(f"DELETE beside stalled writes: {status} after {took_s:.1f} s")
    return connections


def list_slowly(server):
    """Long answers that nobody takes."""
    with server.connect() as connection:
        call(connection, "POST", "/allocate", {"size_bytes": 64, "count": 10000})
    connections = [server.connect() for _ in range(150)]
    for connection in connections:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.sendall(head("GET", "/allocations?limit=10000"))
    return connections


def gigabytes(server):
    """Memory whose pages and zeros take long, from as many connections as there are workers."""
    def take():
        with server.connect() as connection:
            for _ in range(4):
                status, body = call(connection, "POST", "/allocate",
                                    {"size_bytes": 4 * MIB, "count": 100})
                ids = [a["id"] for a in json.loads(body)["allocations"]] if status == 200 else []
                if ids:
                    call(connection, "POST", "/free", {"ids": ids})

    threads = [threading.Thread(target=take) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return []


def one_id(server):
    """A request id whose request is making gigabytes, and others with the same one."""
    def take(count):
        with server.connect() as connection:
            call(connection, "POST", "/allocate",
                 {"size_bytes": 4 * MIB if count > 1 else 1, "count": count, "request_id": "x"})

    threads = [threading.Thread(target=take, args=(count,)) for count in [200] + [1] * 8]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return []


def connect(server):
    """As many connections as one address may have, and more."""
    connections = []
    for _ in range(1000):
        try:
            connections.append(server.connect())
        except OSError:
            break
    return connections


def suffer(abuse, server):
    victim = Victim(server)
    victim.start()
    held = abuse(server)
    time.sleep(2)
    victim.going = False
    victim.join(60)
    print(f"{abuse.__name__}: {victim.turns} turns of another client, "
          f"the slowest answer took {victim.worst_s * 1000:.0f} ms", flush=True)
    for connection in held:
        connection.close()
    if victim.wrong or victim.worst_s > server.limit_s() or victim.turns < 5:
        sys.exit(f"FAILED: {victim.wrong[:3]}")


def main():
    abuses = {f.__name__: f for f in [announce, shapes, stall, list_slowly, gigabytes, one_id, connect]}
    if sys.argv[1:]:
        suffer(abuses[sys.argv[1]], Server())
        return
    with_maasd = os.path.join(os.path.dirname(__file__), "../../scripts/with-maasd")
    for abuse in abuses:
        subprocess.run([with_maasd, "--rdma", "off", "--max-connections", "2000", "--",
                        sys.executable, __file__, abuse], check=True)


main()
