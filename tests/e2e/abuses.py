"""What one client can do to the others, for test_victim.py.

Each function of OPEN or PRINCIPALS does its worst as `client`, against which the server has to defend the
others, and returns what has to be closed in the end. Those of PRINCIPALS need a server that has some, and know
`victim`: one of its allocations, its session's name, its address.
"""
import concurrent.futures
import http.client
import json
import multiprocessing
import os
import re
import resource
import socket
import struct
import time

from openapi import frame

MIB = 1 << 20
JSON = "Content-Type: application/json\r\n"
SECONDS = 2  # Of an abuse that goes on and on.
WORKERS = 3  # Processes that it comes from; more would only take the CPU from the server.
FORK = multiprocessing.get_context("fork")


class Server:
    """The maasd of scripts/with-maasd."""

    pid = os.environ.get("MAASD_PID")
    port = int(os.environ.get("MAAS_URL", ":0").rsplit(":", 1)[1])

    @classmethod
    def peak_mib(cls):
        with open(f"/proc/{cls.pid}/status", encoding="ascii") as status:
            return int(re.search(r"VmHWM:\s+(\d+)", status.read())[1]) >> 10

    @classmethod
    def is_sanitized(cls):
        with open(f"/proc/{cls.pid}/maps", encoding="ascii") as maps:
            return re.search(r"lib[at]san", maps.read()) is not None

    @classmethod
    def limit_s(cls):
        """What an answer may take; a sanitizer makes the server several times slower."""
        return 4.0 if cls.is_sanitized() else 1.0


def read_answer(connection):
    """Returns the status and the body; 0 when the server closed instead."""
    answer = http.client.HTTPResponse(connection)
    try:
        answer.begin()
        return answer.status, answer.read()
    except http.client.HTTPException:
        return 0, b""


class Client:
    """A client with an address of its own and, where the server asks for one, a token."""

    def __init__(self, host, token=None):
        self.host = host
        self.proof = f"Authorization: Bearer {token}\r\n" if token else ""

    def connect(self):
        return socket.create_connection(("127.0.0.1", Server.port), 60, (self.host, 0))

    def head(self, method, path, length=None, lines=""):
        size = "" if length is None else f"Content-Length: {length}\r\n"
        return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{self.proof}{lines}{size}\r\n".encode()

    def open(self, count, data, receive=None):
        """So many connections, on each of which the data was sent; what they receive is kept small where it is said."""
        connections = [self.connect() for _ in range(count)]
        for connection in connections:
            if receive:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
            connection.sendall(data)
        return connections

    def request(self, method, path, value=None):
        """Its bytes; `value` is JSON, or bytes as they are."""
        if value is None:
            return self.head(method, path)
        if isinstance(value, bytes):
            return self.head(method, path, len(value)) + value
        body = json.dumps(value, separators=(",", ":")).encode()
        return self.head(method, path, len(body), JSON) + body

    def call(self, connection, *arguments):
        connection.sendall(self.request(*arguments))
        return read_answer(connection)

    def once(self, *arguments):
        """The same on a connection of its own."""
        with self.connect() as connection:
            return self.call(connection, *arguments)

    def allocate(self, **request):
        """Returns the ids; none when it is refused."""
        status, body = self.once("POST", "/allocate", request)
        if status != 200:
            return []
        answer = json.loads(body)
        return [a["id"] for a in answer.get("allocations", [answer])]


def at_once(function, arguments):
    """Runs the function in a thread for each of its arguments."""
    with concurrent.futures.ThreadPoolExecutor(len(arguments)) as pool:
        list(pool.map(function, arguments))


def again_and_again(function):
    """Calls function(worker, turn) in several processes, until the time is up."""
    def work(worker):
        end = time.monotonic() + SECONDS
        turn = 0
        while time.monotonic() < end:
            try:
                function(worker, turn)
            except OSError:
                pass  # It was closed; there is another one.
            turn += 1

    workers = [FORK.Process(target=work, args=(worker,), daemon=True) for worker in range(WORKERS)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
        assert not worker.exitcode, f"{function.__name__} failed"
    return []


def ranges(ids, count=10000):
    return {"ranges": [{"id": ids[i % len(ids)], "offset": 0, "length": 1} for i in range(count)]}


# ---- what needs no principals

def announce(client):
    """Bodies that are announced and do not come."""
    return client.open(200, client.head("POST", "/free", 4 * MIB, JSON))


def shape(before, unit, after):
    count = (4 * MIB - len(before) - len(after)) // len(unit)
    return before + (unit * count).rstrip(b",") + after


def shapes(client):
    """JSON whose tree takes a hundred times its size, four at a time."""
    def send(body):
        with client.connect() as connection:
            try:
                connection.sendall(client.head("POST", "/free", len(body), JSON) + body)
                read_answer(connection)
            except OSError:
                pass  # it was answered before its end

    for body in [shape(b'{"ids":[', b"{},", b"]}"), shape(b'{"ids":[', b"[],", b"]}"),
                 shape(b'{"ids":[{', b'"":0,', b"}]}"), shape(b'{"ids":[', b'"",', b"]}")]:
        at_once(send, [body] * 4)
    # A sanitizer keeps what was freed.
    assert Server.is_sanitized() or Server.peak_mib() <= 150, f"16 bodies of 4 MiB cost {Server.peak_mib()} MiB"
    return []


def stall(client):
    """Writes that stop behind their JSON, of ten thousand ranges each, all of one slab; it is freed."""
    ids = client.allocate(size_bytes=4 * MIB) + client.allocate(size_bytes=4 * MIB)
    start = frame(ranges(ids[:1]), b"")
    connections = client.open(50, client.head("POST", "/data/write", len(start) + 10000) + start)
    time.sleep(0.5)
    for name in ids:
        start_s = time.monotonic()
        status, _ = client.once("DELETE", "/allocate/" + name)
        took_s = time.monotonic() - start_s
        # A free gives readers and writers a second.
        assert status == 200 and took_s <= 1 + Server.limit_s(), f"DELETE beside writes: {status}, {took_s:.1f} s"
    return connections


def list_slowly(client):
    """Long answers that nobody takes."""
    client.allocate(size_bytes=64, count=10000)
    return client.open(150, client.head("GET", "/allocations?limit=10000"), receive=4096)


def gigabytes(client):
    """Memory whose pages and zeros take long, from more connections than there are workers."""
    def take(_):
        with client.connect() as connection:
            for _ in range(4):
                status, body = client.call(connection, "POST", "/allocate", {"size_bytes": 4 * MIB, "count": 100})
                ids = [a["id"] for a in json.loads(body)["allocations"]] if status == 200 else []
                if ids:
                    client.call(connection, "POST", "/free", {"ids": ids})

    at_once(take, range(24))
    return []


def one_id(client):
    """A request id whose request is making gigabytes, and others with the same one."""
    def take(count):
        client.once("POST", "/allocate",
                    {"size_bytes": 4 * MIB if count > 1 else 1, "count": count, "request_id": "x"})

    at_once(take, [100] + [1] * 8)
    return []


def connect(client):
    """As many connections as one address may have, and more."""
    connections = []
    for _ in range(1000):
        try:
            connections.append(client.connect())
        except OSError:
            break
    return connections


def crowd(client):
    """Half heads, half bodies, slow writers and readers, each of which goes on a little."""
    slab, = client.allocate(size_bytes=4 * MIB)
    halves = [b"GET /health HTTP/1.1\r\nHost: localhost\r\nX-Slow: ",
              client.head("POST", "/allocate", 4000, JSON),
              client.head("PUT", f"/allocate/{slab}/data", 4 * MIB),
              client.head("POST", "/data/write", 100000) + frame(ranges([slab], 100), b""),
              client.head("GET", f"/allocate/{slab}/data")]
    connections = [one for half in halves for one in client.open(60, half, receive=4096)]
    readers = connections[-60:]
    end = time.monotonic() + SECONDS
    while time.monotonic() < end:
        for connection in connections:
            try:
                if connection in readers:
                    connection.recv(1, socket.MSG_DONTWAIT)
                else:
                    connection.send(b"x", socket.MSG_DONTWAIT)
            except OSError:
                pass
        time.sleep(0.05)
    return connections


def pipelines(client):
    """Requests by the thousand on a connection whose answers nobody takes."""
    client.allocate(size_bytes=64, count=10000)
    many = client.request("GET", "/allocations?limit=10000") * 100 + \
        client.request("POST", "/allocate", {"size_bytes": 64}) * 1000
    connections = [client.connect() for _ in range(50)]
    for connection in connections:
        connection.settimeout(0.05)
        try:
            connection.sendall(many)
        except OSError:
            pass
    time.sleep(SECONDS)
    return connections


def flood(client):
    """Connections, opened and broken as fast as they can be."""
    def broken(worker, turn):
        with client.connect() as connection:
            if turn % 2:
                connection.sendall(client.request("GET", "/allocations")[:turn % 60])
            if turn % 3:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    return again_and_again(broken)


def storm(client):
    """Allocations and frees of each size, as fast as they come, and beyond every limit."""
    def churn(worker, turn):
        size = [64, 1000, 8000, 500000, 4 * MIB][(worker + turn) % 5]
        ids = client.allocate(size_bytes=size, count=1000 if size < 10000 else 20)
        if ids:
            client.once("POST", "/free", {"ids": ids})
    return again_and_again(churn)


def long_calls(client):
    """The longest requests that one may make."""
    ids = client.allocate(size_bytes=64, count=10000)
    return [("GET", "/allocations?limit=10000"), ("POST", "/data/read", ranges(ids)),
            ("POST", "/data/write", frame(ranges(ids), b"x" * 10000)),
            ("POST", "/free", {"ids": ["00000000-0000-8000-8741-8d35090dc78e"] * 10000})]


def lists(client):
    """Those, one after the other."""
    calls = long_calls(client)

    def ask(worker, turn):
        client.once(*calls[(worker + turn) % len(calls)])
    return again_and_again(ask)


def volley(client):
    """Those, each from many connections, of which all send the last byte at the same time."""
    connections = []
    for call in long_calls(client):
        data = client.request(*call)
        loaded = client.open(60, data[:-1])
        time.sleep(0.5)
        for connection in loaded:
            connection.sendall(data[-1:])
        connections += loaded
        time.sleep(1)
    return connections


# ---- what needs principals

def request_ids(client, victim):
    """Request ids, of more requests and of more allocations than are remembered."""
    def take(worker, turn):
        ids = client.allocate(size_bytes=64, count=5000, request_id=f"{worker}-{turn}")
        client.once("POST", "/free", {"ids": ids})
    return again_and_again(take)


def everywhere(client, victim):
    """As many connections as the server has, from so many addresses that each may have them."""
    resource.setrlimit(resource.RLIMIT_NOFILE, (resource.getrlimit(resource.RLIMIT_NOFILE)[1],) * 2)
    connections = []
    for host in range(3, 11):
        friend = Client(f"127.0.0.{host}")
        friend.proof = client.proof
        for _ in range(250):
            connection = friend.connect()
            connections.append(connection)
            friend.call(connection, "GET", "/whoami")
    return connections


def squat(client, victim):
    """Sessions of the victim's name, and as many as it gets of its own."""
    def take(worker, turn):
        client.once("POST", "/sessions", {"name": victim["name"], "exclusive": True, "ttl_seconds": 3600})
        client.once("POST", "/sessions", {"name": f"evil/{worker}.{turn}", "exclusive": True, "ttl_seconds": 3600})
        client.once("POST", "/allocate", {"size_bytes": 64, "owner": f"evil/{worker}.{turn}"})
    return again_and_again(take)


def foreign(client, victim):
    """Each call there is on what is the victim's."""
    name, session = victim["id"], victim["session"]
    calls = [("DELETE", f"/allocate/{name}"), ("PUT", f"/allocate/{name}/data", b"evil"),
             ("POST", "/free", {"ids": [name]}), ("POST", f"/allocate/{name}/renew", {"ttl_seconds": 1}),
             ("DELETE", f"/sessions/{session}"), ("POST", f"/sessions/{session}/ticket"),
             ("POST", f"/sessions/{session}/renew", {"ttl_seconds": 1}),
             ("POST", "/allocate", {"size_bytes": 1, "owner": victim["name"]}),
             ("POST", "/allocate", {"size_bytes": 1, "session": session}),
             ("POST", "/data/write", frame(ranges([name], 1), b"x")), ("POST", "/data/read", ranges([name], 1))]

    def touch(worker, turn):
        status, body = client.once(*calls[turn % len(calls)])
        if status not in (403, 404, 409) and b'"freed":0' not in body:
            print(f"{calls[turn % len(calls)][:2]}: {status} {body[:100]}", flush=True)
            os._exit(1)
    return again_and_again(touch)


def proofs(client, victim):
    """Wrong tokens, from the victim's own address."""
    stranger = Client(victim["host"], "mt_wrong")

    def prove(worker, turn):
        with stranger.connect() as connection:
            for _ in range(100):
                if stranger.call(connection, "POST", "/allocate", {"size_bytes": 1})[0] not in (401, 429):
                    break
    return again_and_again(prove)


OPEN = {f.__name__: f for f in [announce, shapes, stall, list_slowly, gigabytes, one_id, connect, crowd, pipelines,
                                flood, storm, lists, volley]}
PRINCIPALS = {f.__name__: f for f in [request_ids, everywhere, squat, foreign, proofs]}
