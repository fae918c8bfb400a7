# SPDX-License-Identifier: Apache-2.0
"""The bytes of TLS, cut in every way: bodies around the size of a record and of the server's buffer, pipelines,
requests that wait with the next one in the same record, aborts, handshakes that stall, a flood of them.

python3 test_tls_wire.py MAASD [CASE...]
"""

import json
import re
import signal
import socket
import ssl
import sys
import tempfile
import threading
import time

from certificates import Certificates
from processes import Maasd

RECORD = 16 << 10
BUFFER = 64 << 10
SIZES = [n + d for n in (RECORD, 2 * RECORD, BUFFER, BUFFER + RECORD) for d in (-1, 0, 1)] + [1, 5, 1 << 20]
NOBODY = "00000000-0000-8000-8000-000000000000"

certs = None
server = None


def check(condition, text):
    if not condition:
        raise SystemExit(f"FAILED: {text}")


class Server(Maasd):
    def __init__(self, program):
        super().__init__(program, certs.directory, "maasd", "--max-pool-size", "256MiB",
                         "--tls-cert", certs.path("server.pem"), "--tls-key", certs.path("server.key"))

    def stop(self):
        """Returns how long that took."""
        begin = time.monotonic()
        status, text = self.end(signal.SIGTERM), self.text()
        report = re.search(r"^=+\n(WARNING|==\d+==ERROR): \w+Sanitizer", text, re.M)  # which has come earlier
        check(status == 0, f"maasd ended with {status}: {text[report.start():][:8000] if report else text[-2000:]}")
        return time.monotonic() - begin


class Client:
    """A connection whose records are in our hand: `send` takes what `write` made."""

    def __init__(self, version=ssl.TLSVersion.TLSv1_3, host="127.0.0.1", shake=True):
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self.context.load_verify_locations(certs.path("ca.pem"))
        self.context.minimum_version = self.context.maximum_version = version
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = self.context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.socket = socket.create_connection(("127.0.0.1", server.port), 60, (host, 0))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.text = b""
        if shake:
            self.step(self.tls.do_handshake)
            self.socket.sendall(self.outgoing.read())

    def step(self, action):
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                self.socket.sendall(self.outgoing.read())
                data = self.socket.recv(BUFFER)
                if data:
                    self.incoming.write(data)
                else:
                    self.incoming.write_eof()

    def records(self, *pieces):
        """Each piece in a record of its own, or in several, where it is longer than one."""
        records = []
        for piece in pieces:
            for at in range(0, len(piece), RECORD):
                self.tls.write(piece[at:at + RECORD])
                records.append(self.outgoing.read())
        return records

    def send(self, *pieces):
        self.socket.sendall(b"".join(self.records(*pieces)))

    def answer(self):
        """Returns (status, body) of the next answer."""
        while b"\r\n\r\n" not in self.text:
            self.more()
        head, _, rest = self.text.partition(b"\r\n\r\n")
        length = int(re.search(rb"Content-Length: (\d+)", head, re.I)[1])
        while len(rest) < length:
            self.more()
            rest = self.text[len(head) + 4:]
        self.text = rest[length:]
        return int(head.split()[1]), rest[:length]

    def more(self):
        data = self.step(lambda: self.tls.read(1 << 20))
        check(data, "the connection ended within an answer")
        self.text += data

    def request(self, method, path, body=b"", kind="application/octet-stream"):
        self.send(head(method, path, len(body), kind) + body)
        return self.answer()

    def allocate(self, size):
        status, body = self.request("POST", "/allocate", json.dumps({"size_bytes": size}).encode(), "application/json")
        check(status == 200, f"POST /allocate {size}: {status} {body}")
        return json.loads(body)["id"]

    def abort(self):
        """A reset, not an orderly end."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.socket.close()


def head(method, path, length=0, kind="application/octet-stream"):
    body = f"Content-Type: {kind}\r\nContent-Length: {length}\r\n" if length or method in ("PUT", "POST") else ""
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{body}\r\n".encode()


def pattern(size):
    block = bytes(range(251))
    return (block * (size // 251 + 1))[:size]


# ---- three ways of cutting


def whole(client, text, body):
    client.send(text + body)


def by_record(client, text, body):
    """The head in a record of its own, and each record in a segment of its own."""
    for record in client.records(text, body):
        client.socket.sendall(record)
        time.sleep(0.001)


def across_records(client, text, body):
    """Small records at first, and segments that end within a record."""
    pieces = [text[i:i + 7] for i in range(0, len(text), 7)] + [body[:1], body[1:]]
    data = b"".join(client.records(*pieces))
    at = 0
    while at < len(data):
        step = 3 if at < 30 else 9001
        client.socket.sendall(data[at:at + step])
        at += step
        time.sleep(0.0005)


def sizes(version):
    client = Client(version)
    for size in SIZES:
        memory = client.allocate(size)
        body = pattern(size)
        for cut in (whole, by_record, across_records):
            body = body[1:] + body[:1]
            cut(client, head("PUT", f"/allocate/{memory}/data", size), body)
            status, text = client.answer()
            check(status == 200, f"PUT of {size} {cut.__name__}: {status} {text}")
            status, got = client.request("GET", f"/allocate/{memory}/data")
            check(status == 200 and got == body, f"GET of {size} after {cut.__name__}: other bytes")
        status, _ = client.request("DELETE", f"/allocate/{memory}")
        check(status == 200, f"DELETE: {status}")


def case_sizes():
    sizes(ssl.TLSVersion.TLSv1_3)
    sizes(ssl.TLSVersion.TLSv1_2)


def case_pipeline():
    """41 requests, in a record, in one each, and in pieces."""
    count = 41
    text = head("GET", "/stats") * count
    client = Client()
    for pieces in ((text,), (head("GET", "/stats"),) * count, tuple(text[i:i + 100] for i in range(0, len(text), 100))):
        client.send(*pieces)
        for i in range(count):
            status, body = client.answer()
            check(status == 200 and b"total_allocations" in body, f"answer {i} of a pipeline: {status}")


def case_waiting():
    """A request that waits, with the next one in the same record: the library reads no more of the socket then."""
    reader, client = Client(), Client()
    memory = reader.allocate(4 << 20)
    reader.send(head("GET", f"/allocate/{memory}/data") * 8)  # and takes no byte of it: the free waits for it
    time.sleep(0.3)
    begin = time.monotonic()
    client.send(head("DELETE", f"/allocate/{memory}") + head("GET", "/stats"))
    check(client.answer()[0] == 200, "a DELETE that waits")
    check(client.answer()[0] == 200, "what came behind it in the record")
    check(time.monotonic() - begin < 8, "they took long")
    reader.abort()
    # Large allocations are made in another thread.
    body = json.dumps({"size_bytes": 1024, "count": 2000}).encode()
    client.send((head("POST", "/allocate", len(body), "application/json") + body) * 2 + head("GET", "/stats"))
    ids = []
    for _ in range(2):
        status, text = client.answer()
        check(status == 200, f"a large allocation: {status}")
        ids += [one["id"] for one in json.loads(text)["allocations"]]
    check(client.answer()[0] == 200, "what came behind them")
    body = json.dumps({"ids": ids}).encode()
    status, text = client.request("POST", "/free", body, "application/json")
    check(status == 200 and json.loads(text)["freed"] == len(ids), f"POST /free: {status} {text[:200]}")


def case_refused():
    """Answers before the body is there, which the server sends by hand."""
    for size in (10, BUFFER, 3 << 20):
        client = Client()
        client.send(head("PUT", f"/allocate/{NOBODY}/data", size))
        status, body = client.answer()
        check(status == 404 and b"not_found" in body, f"an early answer: {status} {body}")
        client.abort()
    client = Client()
    memory = client.allocate(1 << 20)
    text = head("PUT", f"/allocate/{memory}/data", 4 << 20)
    client.send(text + pattern(RECORD))
    check(client.answer()[0] == 413, "a body that is too long")


def case_aborts():
    """Ends at every stage; the server goes on."""
    keeper = Client()
    for i in range(60):
        memory = keeper.allocate(1 << 20)  # The server may still be writing to the one before.
        client = Client()
        records = client.records(head("PUT", f"/allocate/{memory}/data", 1 << 20) + pattern(5 * RECORD))
        if i % 3 == 0:
            client.socket.sendall(records[0][:len(records[0]) // 2])
        elif i % 3 == 1:
            client.socket.sendall(b"".join(records))
        else:
            client.socket.sendall(b"".join(records))
            client.socket.sendall(bytes([23, 3, 3, 0, 64]) + bytes(64))  # no record of this connection
        if i % 2:
            client.abort()
        else:
            client.socket.close()
    memory = keeper.allocate(1 << 20)
    for _ in range(20):
        client = Client()
        client.send(head("GET", f"/allocate/{memory}/data") * 4)
        client.abort()
    check(keeper.request("GET", "/health")[0] == 200, "the server after aborts")


def hello():
    """The first bytes of a handshake."""
    client = Client(shake=False)
    try:
        client.tls.do_handshake()
    except ssl.SSLWantReadError:
        pass
    client.socket.close()
    return client.outgoing.read()


def case_half_handshakes():
    """One that stalls is cut after ten seconds, one that is done is not."""
    done = Client()
    first = hello()
    stalled = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(9)]
    for i, one in enumerate(stalled):
        one.sendall(first[:(0, 1, 4, 5, 6, 50, 100, len(first) - 1, len(first))[i]])
    begin = time.monotonic()
    for one in stalled:
        while one.recv(BUFFER):
            pass
    seconds = time.monotonic() - begin
    check(9 < seconds < 14, f"stalled handshakes were cut after {seconds} s")
    check(done.request("GET", "/health")[0] == 200, "an idle connection")
    time.sleep(1.5)  # the log is written once a second
    check("reason=timeout" in server.text(), f"no line in the log: {server.text()}")


def case_flood():
    """200 handshakes at a time from one address, again and again: others are answered within a second."""
    first = hello()
    end = time.monotonic() + 8
    begun = [0]

    def flood():
        while time.monotonic() < end:
            conns = []
            for _ in range(50):
                try:
                    one = socket.create_connection(("127.0.0.1", server.port), 10, ("127.0.0.2", 0))
                    one.sendall(first)
                    conns.append(one)
                except OSError:
                    pass
            begun[0] += len(conns)
            time.sleep(0.2)
            for one in conns:
                one.close()

    threads = [threading.Thread(target=flood) for _ in range(4)]
    for thread in threads:
        thread.start()
    kept, worst, count = Client(), 0, 0
    while time.monotonic() < end:
        begin = time.monotonic()
        check(kept.request("GET", "/health")[0] == 200, "a kept connection")
        new = Client()
        check(new.request("GET", "/health")[0] == 200, "a new connection")
        worst = max(worst, time.monotonic() - begin)
        new.socket.close()
        count += 1
        time.sleep(0.05)
    for thread in threads:
        thread.join()
    print(f"  {begun[0]} handshakes begun, {count} victims, the slowest took {worst * 1000:.0f} ms")
    check(begun[0] >= 200, "that was no flood")
    time.sleep(1.5)
    check("has too many TLS handshakes" in server.text(), "no line in the log")
    check(worst < server.limit_s, f"a victim waited for {worst} s")


def case_end():
    """SIGTERM, with connections at every stage."""
    first = hello()
    open_ones = [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(5)]
    for one in open_ones[1:]:
        one.sendall(first[:200])
    clients = [Client() for _ in range(5)]
    memory = clients[0].allocate(1 << 20)
    clients[1].send(head("PUT", f"/allocate/{memory}/data", 1 << 20) + pattern(RECORD))
    clients[2].send(head("GET", "/stats"))
    clients[3].socket.sendall(clients[3].records(head("GET", "/stats"))[0][:9])
    check(clients[2].answer()[0] == 200, "a request before the end")
    seconds = server.stop()
    check(seconds < 12, f"the end took {seconds} s")


def main():
    global certs, server
    program, names = sys.argv[1], sys.argv[2:]
    cases = {name[5:]: case for name, case in globals().items() if name.startswith("case_")}
    with tempfile.TemporaryDirectory() as directory:
        certs = Certificates(directory)
        certs.make_ca("ca")
        certs.make("server")
        server = Server(program)
        with open(program, "rb") as file:
            server.limit_s = 5 if re.search(rb"lib[at]san\.so", file.read()) else 1
        for name in names or cases:
            print(f"- {name}", flush=True)
            cases[name]()
        if server.process.poll() is None:
            server.stop()


main()
