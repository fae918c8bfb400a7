"""Clients that behave badly: what they are answered, and that nothing of them is left. After them an honest client
gets its answers, right to the byte. What others have to bear meanwhile is in test_victim.py, and when slow clients are
cut in tests/unit/http/test_http_limits.c.

python3 test_hostile.py MAASD
"""
import os
import random
import re
import socket
import struct
import sys
import time

from openapi import Server
from processes import eventually

HOST = "Host: localhost\r\nContent-Type: application/json\r\n"
TOP = " HTTP/1.1\r\n" + HOST  # behind the method and the path
CHUNKS = TOP + "Transfer-Encoding: chunked\r\n"
END = "Connection: close\r\n\r\n"
SILENCE_S = 15  # a server that says nothing for so long hangs
FIGURES = re.compile(r"^((?:maas_(?:active_allocations|sessions|transfers|pending_frees|http_connections|"
                     r"http_active_requests)|process_open_fds) .*)$", re.M)

# Of faults where what is wrong is a matter of taste: another error, or a closed connection, will do, too.
LAX = 1000

# Beside those that tests/unit/http and test_openapi.py have. ID stands for the id of an allocation.
FAULTS = [
    ("id of other bytes", "GET /allocate/%ff%fe" + TOP + END, 404),
    ("id with more behind it", "DELETE /allocate/ID0" + TOP + END, 404),
    ("id cut off", "DELETE /allocate/0" + TOP + END, 404),
    ("id in braces", "GET /allocate/{ID}" + TOP + END, 404),
    ("id of 10 KiB", "GET /allocate/" + "0123456789" * 1000 + TOP + END, 404),
    ("version", "GET /health HTTP/9.9\r\n" + HOST + END, 505 + LAX),
    ("no version", "GET /health\r\n\r\n", 400 + LAX),
    ("no path", "GET\r\n\r\n", 400 + LAX),
    ("blank lines", "\r\n\r\n\r\n", 400 + LAX),
    ("path of other bytes", "GET /%00%ff%zz" + TOP + END, 404),
    ("chunk of letters", "POST /allocate" + CHUNKS + END + "zz\r\n{}\r\n", 400 + LAX),
    ("chunk of 2^80", "POST /allocate" + CHUNKS + END + "100000000000000000000\r\n{}\r\n", 413 + LAX),
    ("chunks without an end", "POST /allocate" + CHUNKS + END + "a\r\n          \r\n" * 1000000 + "0\r\n\r\n",
     413 + LAX),
    ("headers of 1 MiB", "GET /health" + TOP + "X: " + "x" * 1000000 + "\r\n" + END, 431 + LAX),
    ("10,000 headers", "GET /health" + TOP + "X: y\r\n" * 10000 + END, 431 + LAX),
    ("a path of 1 MiB", "GET /" + "x" * 1000000 + TOP + END, 414 + LAX),
    ("TLS", "\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03\r\n\r\n\x01\x01\xfc\x03\x03", 400 + LAX),
]
PUT = "PUT /allocate/ID/data" + TOP + "Content-Length: 100000\r\n\r\nabc"
RANGES = '{"ranges":[' + ",".join(['{"id":"ID","offset":0,"length":1}'] * 10000) + "]}"
IDS = '{"ids":["' + '","'.join(["0000052d-0000-8000-8741-8d35090dc78e"] * 10000) + '"]}'
# Whole requests, which are answered, and parts.
WHOLE = ["GET /health" + TOP + END, "GET /allocations?limit=10000" + TOP + END,
         f"POST /data/read{TOP}Content-Length: {len(RANGES) + 10000 * 34}\r\n{END}{RANGES}",
         f"POST /free{TOP}Content-Length: {len(IDS)}\r\n{END}{IDS}"]
HALVES = ["", "GET /health HT", "GET /health HTTP/1.1\r\nHost", PUT, "POST /allocate" + CHUNKS + '\r\n64\r\n{"size']
BROKEN_OFF = ["", PUT, "GET /allocate/ID/data" + TOP + "\r\n", "POST /allocate" + TOP + "Content-Length: 100\r\n\r\n{"]
CHANGED = [
    "GET /allocate/ID" + TOP + "Accept: */*\r\n\r\n",
    "PUT /allocate/ID/data" + TOP + "Content-Range: bytes 3-5/*\r\nContent-Length: 3\r\n\r\nabc",
    "GET /allocate/ID/data" + TOP + "Range: bytes=0-99\r\n\r\n",
    "POST /data/read" + CHUNKS + '\r\n55\r\n{"ranges":[{"id":"ID","offset":1,"length":20}]}\r\n0\r\n\r\n',
    "POST /allocate/ID/renew" + TOP + 'Content-Length: 18\r\n\r\n{"ttl_seconds":60}',
]


class Hostile:
    """All of it, towards one server and one allocation."""

    def __init__(self, server):
        self.server = server
        self.id = server.json("POST", "/allocate", {"size_bytes": 1 << 20})["id"]

    def bytes(self, text):
        return text.replace("ID", self.id).encode("latin-1")

    def connect(self, text):
        """A connection on which the text was sent, or as much of it as the server took."""
        connection = socket.create_connection(self.server.address, SILENCE_S)
        try:
            connection.sendall(self.bytes(text) if isinstance(text, str) else text)
        except OSError:
            pass  # it was answered before its end
        return connection

    def faults(self):
        for name, text, wanted in FAULTS:
            status = outcome(self.connect(text), name)[0]
            assert status == wanted % LAX or wanted >= LAX and (not status or 400 <= status != 500), \
                f"{name}: wanted {wanted % LAX}, got {status}"

    def pipelined(self):
        many = ("GET /health" + TOP + "\r\n") * 100 + "GET /nowhere" + TOP + END
        text = outcome(self.connect(many), "pipelined requests")[1]
        counts = [text.count(b"HTTP/1.1 200 "), text.count(b"HTTP/1.1 404 ")]
        assert counts == [100, 1], f"pipelined requests: {counts} answers of 100 and 1"

    def ends_early(self):
        """One side of a connection closed behind a part of a request; and both sides."""
        halves = [(text, self.connect(text)) for text in WHOLE * 5 + HALVES]
        for _, connection in halves:
            half_close(connection)
        for text, connection in halves:
            name = f"half closed after {text[:200]}"
            status = outcome(connection, name)[0]
            assert status == 200 or text not in WHOLE and (not status or 400 <= status != 500), f"{name}: {status}"
        for text in BROKEN_OFF * 50:
            connection = self.connect(text)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            connection.close()

    def changed(self, seed, count):
        """Good requests, some bytes of which were changed at random. Many at a time: where the end comes in one piece
        with the request, the library often sees it only when the connection's time is up."""
        dice = random.Random(seed)

        def change(text):
            data = bytearray(self.bytes(text))
            for _ in range(dice.randint(1, 4)):
                data[dice.randrange(len(data))] = dice.randrange(256)
            connection = self.connect(bytes(data))
            half_close(connection)
            return connection

        for _ in range(count // 250):
            for connection in [change(text) for text in CHANGED * 50]:
                assert outcome(connection, "changed at random")[0] != 500, f"seed {seed}: 500"


def half_close(connection):
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError:
        pass  # closed by the server


def outcome(connection, name):
    """The status of the answer, 0 when the connection closed without one, and all that came."""
    text = b""
    try:
        while piece := connection.recv(65536):
            text += piece
    except TimeoutError:
        sys.exit(f"{name}: neither answered nor closed after {len(text)} bytes")
    except OSError:
        pass  # reset
    connection.close()
    found = re.match(rb"HTTP/1\.\d (\d+)", text)
    assert found or not text, f"{name}: this is no answer: {text[:100]}"
    return int(found[1]) if found else 0, text


def figures(server):
    text = server.send("GET", "/metrics")[2].decode()
    assert not re.search(r'^maas_http_requests_total\{.*code="500"\} [1-9]', text, re.M), "an answer with 500"
    return sorted(FIGURES.findall(text))


def work_honestly(server):
    data = bytes(i * 7 % 256 for i in range(256)) * 400
    path = f"/allocate/{server.json('POST', '/allocate', {'size_bytes': len(data)})['id']}"
    assert server.send("PUT", path + "/data", {}, data)[0] == 200, "the honest client cannot write"
    assert server.send("GET", path + "/data")[2] == data, "the honest client reads other bytes than it wrote"
    assert server.send("DELETE", path)[0] == 200, "the honest client cannot free"


def main():
    seed = int(os.environ.get("MAAS_SEED") or time.time())
    with Server([sys.argv[1], "--listen", "127.0.0.1:0", "--rdma", "off", "--connection-timeout", "3",
                 "--max-body-size", "1MiB", "--log-level", "error"]) as server:
        figures(server)  # the first answer opens what stays open
        time.sleep(0.5)  # until its connection has gone
        before = figures(server)
        assert len(before) == 7, f"figures: {before}"
        hostile = Hostile(server)
        print(f"- seed {seed}", flush=True)
        hostile.faults()
        hostile.pipelined()
        hostile.ends_early()
        hostile.changed(seed, 20000 if os.environ.get("MAAS_LONG") == "1" else 1000)
        work_honestly(server)
        server.send("DELETE", "/allocate/" + hostile.id)
        eventually(20, f"figures back at {before}", lambda: figures(server) == before)
        server.process.terminate()
        _, text = server.process.communicate(timeout=60)
        assert not server.process.returncode and not re.search("Sanitizer|runtime error", text), \
            f"maasd ended with {server.process.returncode}: {text}"


main()
