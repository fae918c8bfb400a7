"""Holds docs/openapi.yaml and a live server together, in both directions.

python3 test_openapi.py MAASD KEYED_SERVER openapi.yaml http/calls.h
"""

import errno
import json
import os
import re
import struct
import sys
import tempfile
import time

from certificates import Certificates
from openapi import JSON, NOBODY, Checker, Server, Spec, check, errors, finish, frame
from processes import bearer, eventually, write_principals

METHODS = ["GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS"]
MAX_BODY = 131072

# What only a server that is very busy, without memory or being killed answers.
UNREACHED_CODES = {
    "answer_forgotten", "busy", "internal", "out_of_memory", "stopping", "too_many_connections",
}
UNREACHED = {("allocate", "429")}  # takes 65,537 requests

def maasd_arguments(maasd):
    return [maasd, "--listen", "127.0.0.1:0", "--slab-sizes", "1KiB,4KiB", "--max-pool-size", "1MiB",
            "--rdma", "off", "--max-sessions", "8", "--max-body-size", str(MAX_BODY),
            "--drain-delay", "60", "--log-level", "error"]


def check_server_calls(c):
    for name in ["health", "ready", "stats", "overview"]:
        c.ok(name)
    for name in ["metrics", "figures"]:
        c.call(name, 200)
    with open(c.spec.path, "rb") as file:
        check(c.call("openapi", 200) == file.read(), "openapi: other bytes than the file")
    page = c.call("page", 200).decode()
    for link in re.findall('href="([^":]*)"', page):
        check(c.server.send("GET", f"/{link}")[0] == 200, f"page: a dead link to {link}")
    c.call("health", 431, "headers_too_large", headers={"X-Long": "x" * 20000})
    c.call("health", 400, "bad_host", headers={"host": "a second one"})


def check_allocations(c):
    one = c.ok("allocate", body={"size_bytes": 1000})
    c.ok("allocate", body={"size_bytes": 1, "count": 3, "owner": "a", "ttl_seconds": 60})
    c.ok("allocate", body={"size_bytes": 4096, "count": 1, "lifetime": "delete"})
    again = {"size_bytes": 5, "request_id": "r 1", "lifetime": "ttl", "ttl_seconds": 31622400}
    check(c.ok("allocate", body=again)["id"] == c.ok("allocate", body=again)["id"],
          "a request_id does not give the same answer again")
    c.call("allocate", 409, "request_id_reused", body=dict(again, size_bytes=6))
    c.call("allocate", 404, "unknown_session", body={"size_bytes": 1, "session": NOBODY})
    c.call("allocate", 413, "too_large", body={"size_bytes": 4097})
    c.call("allocate", 507, "pool_exhausted", body={"size_bytes": 4096, "count": 300})
    c.call("allocate", 200, headers={"Content-Type": "Application/JSON;charset=utf-8"}, body=b'{"size_bytes":1}')
    for bad in [b"[]", b"{", b'{"size_bytes":1,"size_bytes":2}', b'"\xff"', b""]:
        c.call("allocate", 400, "bad_json", headers=JSON, body=bad)
    c.call("allocate", 400, "bad_field", body={"size_bytes": 1, "lifetime": "ttl"})
    c.call("allocate", 400, "missing_field", body={"size_bytes": 1, "lifetime": "session"})
    c.call("allocate", 400, "bad_encoding", headers={"Transfer-Encoding": "gzip"}, library=True)
    c.call("allocate", 400, "bad_length", headers={"Content-Length": str(2**63)})

    path = f"/allocate/{one['id']}"
    c.ok("describe", path)
    c.call("renew", 409, "not_renewable", path + "/renew", body={})
    leased = c.ok("allocate", body={"size_bytes": 9, "ttl_seconds": 5})["id"]
    c.ok("renew", f"/allocate/{leased}/renew", body={"ttl_seconds": 77})
    c.ok("renew", f"/allocate/{leased}/renew")
    check(c.ok("describe", f"/allocate/{leased}")["ttl_seconds"] == 77, "renew keeps no ttl_seconds")
    c.call("renew", 404, "not_found", f"/allocate/{NOBODY}/renew")
    page = c.ok("list")
    check(len(page["allocations"]) == 8 and page["next"] is None, f"list: {page}")
    page = c.ok("list", "/allocations?owner=a&limit=2")
    check(len(page["allocations"]) == 2 and page["next"], f"list: {page}")
    page = c.ok("list", f"/allocations?owner=a&limit=2&after={page['next']}")
    check(len(page["allocations"]) == 1 and not page["next"], f"list: {page}")
    c.call("list", 400, "bad_query", "/allocations?" + "&" * 64)
    c.call("list", 400, "bad_header", headers={"Owner ": "a"}, library=True)
    c.call("list", 403, "foreign_host", headers={"Host": "evil.example"})
    c.call("list", 403, "foreign_origin", headers={"Origin": "http://evil.example"})
    for query, code in [("limit=0", "bad_field"), ("limit=10001", "bad_field"),
                        ("limit=x", "bad_field"), ("limit", "bad_field"), ("owner=%20", "bad_field"),
                        ("owner=", "bad_field"), ("no_owner", "bad_field"), ("no_owner=false", "bad_field"),
                        ("no_owner=true&owner=a", "bad_field"), ("after=x", "bad_field"), ("colour=red", "unknown_field")]:
        c.call("list", 400, code, f"/allocations?{query}")
    c.ok("free", path)
    for name in ["free", "describe"]:
        for unknown in [one["id"], NOBODY, "x", "x" * 3000]:
            c.call(name, 404, "not_found", f"/allocate/{unknown}")
    freed = c.ok("freeMany", body={"ids": [leased, NOBODY]})
    check(freed == {"freed": 1, "unknown": [NOBODY]}, f"freeMany: {freed}")


def check_data(c):
    allocation = c.ok("allocate", body={"size_bytes": 100})["id"]
    path = f"/allocate/{allocation}/data"
    data = bytes(range(100))
    c.ok("writeData", path, headers={}, body=data)
    check(c.call("readData", 200, path=path) == data, "readData: other bytes")
    check(c.call("readData", 206, path=path, headers={"Range": "bytes=-7"}) == data[-7:],
          "readData: other bytes in a range")
    c.call("readData", 416, "bad_range", path, {"Range": "bytes=100-"})
    c.call("readData", 404, "not_found", f"/allocate/{NOBODY}/data")
    c.ok("writeData", path, headers={"Content-Range": "bytes 2-3/*"}, body=b"xy")
    c.call("writeData", 400, "bad_range", path, {"Content-Range": "bytes 2-3/*"}, b"xyz")
    c.call("writeData", 416, "bad_range", path, {"Content-Range": "bytes 99-100/*"}, b"xy")
    c.call("writeData", 413, "too_large", path, {}, bytes(101))
    c.call("writeData", 411, "length_required", path)
    c.call("writeData", 404, "not_found", f"/allocate/{NOBODY}/data", {}, b"x")

    ranges = {"ranges": [{"id": allocation, "offset": 1, "length": 3},
                         {"id": allocation, "offset": 0, "length": 1}]}
    check(c.ok("readMany", body=ranges) == data[1:2] + b"xy" + data[:1], "readMany: other bytes")
    c.ok("writeMany", headers={}, body=frame(ranges, b"abcd"))
    check(c.call("readData", 200, path=path)[:5] == b"dabc" + data[4:5], "writeMany: other bytes")
    outside = {"ranges": [{"id": allocation, "offset": 99, "length": 2}]}
    unknown = {"ranges": [{"id": NOBODY, "offset": 0, "length": 2}]}
    for name, body in [("readMany", json.dumps), ("writeMany", lambda value: frame(value, b"ab"))]:
        for value, status, code in [(outside, 416, "bad_range"), (unknown, 404, "not_found")]:
            data = body(value)
            c.call(name, status, code, headers=JSON, body=data if name == "writeMany" else data.encode())
    c.call("writeMany", 411, "length_required")
    c.call("writeMany", 413, "body_too_large", headers={}, body=struct.pack("<I", MAX_BODY + 1))
    for body in [b"", b"\1\0", frame(ranges, b"abc"), frame(ranges, b"abcde"), struct.pack("<I", 0)]:
        c.call("writeMany", 400, "bad_frame", headers={}, body=body)
    for text, code in [(b"{", "bad_json"), (b"[]", "bad_json"), (b"{}", "missing_field")]:
        c.call("writeMany", 400, code, headers={}, body=struct.pack("<I", len(text)) + text)


def check_sessions(c):
    session = c.ok("openSession", body={"name": "one", "exclusive": True})
    c.call("openSession", 409, "name_taken", body={"name": "one"})
    c.call("openSession", 400, "missing_field", body={"exclusive": True})
    c.call("openSession", 400, "bad_field", body={"ttl_seconds": 3601})
    named = c.ok("sessions", "/sessions?name=one")
    check(len(named["sessions"]) == 1 and named["sessions"][0]["exclusive"], f"sessions: {named}")
    check(session["id"] not in json.dumps(named), f"sessions tells an id: {named}")
    check(not c.ok("sessions", "/sessions?name=two")["sessions"], "sessions: of another name")
    for query, code in [("", "missing_field"), ("name=%20", "bad_field"), ("owner=a", "unknown_field")]:
        c.call("sessions", 400, code, f"/sessions?{query}")
    path = f"/sessions/{session['id']}"
    bound = {"size_bytes": 7, "session": session["id"], "lifetime": "session"}
    allocation = c.ok("allocate", body=bound)["id"]
    c.ok("renewSession", path + "/renew", body={"ttl_seconds": 3600})
    c.call("renewSession", 400, "bad_field", path + "/renew", body={"ttl_seconds": 3601})
    c.ok("renewSession", path + "/renew")
    other = c.ok("ticket", path + "/ticket")
    check(other["ticket"] != session["ticket"], "ticket: the same again")
    c.ok("ticket", path + "/ticket", body={})
    for _ in range(7):
        c.ok("openSession", body={})
    c.call("openSession", 429, "too_many", body={})
    c.ok("endSession", path)
    c.call("describe", 404, "not_found", f"/allocate/{allocation}")
    for name, behind in [("endSession", ""), ("renewSession", "/renew"), ("ticket", "/ticket")]:
        c.call(name, 404, "unknown_session", path + behind)
    grant = f"/allocate/{allocation}/grant"
    c.call("grant", 503, "rdma_off", grant, body={"session": NOBODY, "access": "rw"})
    c.call("endGrant", 503, "rdma_off", f"{grant}/{NOBODY}")


def check_keys(c):
    """What is answered where there is RDMA."""
    def error(number):
        c.server.order(f"error {number}")

    for name in ["health", "ready", "stats", "overview"]:
        c.ok(name)
    c.server.order("wanted 4096")
    c.call("ready", 503, "registering")
    c.server.order("wanted 0")
    session = c.ok("openSession", body={})
    path = f"/sessions/{session['id']}"
    for answer in [session, c.ok("renewSession", path + "/renew"), c.ok("ticket", path + "/ticket")]:
        check(answer["rdma"], f"a session has no address: {answer}")
    body = {"size_bytes": 10, "session": session["id"]}
    one = c.ok("allocate", body=body)
    check(one["rdma"], f"an allocation has no key: {one}")
    many = c.ok("allocate", body=dict(body, count=3, access="r"))["allocations"]
    keys = {allocation["rdma"]["rkey"] for allocation in many + [one]}
    check(len(keys) == 4, f"allocations share keys: {many}")
    check(c.ok("allocate", body=dict(body, access="none"))["rdma"] is None, "a key, unasked for")
    c.call("allocate", 400, "missing_field", body={"size_bytes": 1, "access": "r"})

    grant = f"/allocate/{one['id']}/grant"
    good = {"session": session["id"], "access": "rw"}
    check(c.ok("grant", grant, body=good) == one["rdma"], "a key again is another one")
    for status, code, field in [(409, "already_granted", {"access": "r"}), (400, "bad_field", {"access": "none"}),
                                (404, "unknown_session", {"session": NOBODY})]:
        c.call("grant", status, code, grant, body=good | field)
    c.call("grant", 404, "not_found", f"/allocate/{NOBODY}/grant", body=good)
    c.call("endGrant", 404, "not_found", f"/allocate/{NOBODY}/grant/{session['id']}")
    for number, status, code in [(errno.EDQUOT, 507, "grants_exhausted"),
                                 (errno.EMLINK, 507, "device_limit"),
                                 (errno.ESHUTDOWN, 503, "rdma_failed")]:
        error(number)
        c.call("grant", status, code, grant, body=good)
        c.call("allocate", status, code, body=body)
    error(errno.ETIMEDOUT)
    c.call("endGrant", 503, "revoke_unconfirmed", f"{grant}/{session['id']}")
    error(0)
    c.ok("endGrant", f"{grant}/{session['id']}")
    c.call("endGrant", 404, "not_found", f"{grant}/{session['id']}")
    c.call("endGrant", 404, "unknown_session", f"{grant}/{NOBODY}")
    c.server.order("connected 0")
    c.call("grant", 409, "not_connected", grant, body=good)
    c.call("allocate", 409, "not_connected", body=body)
    c.ok("endSession", path)


def wrong_values(schema, spec):
    """Values that the file refuses for a field, and that the server so must refuse."""
    schema = spec.resolve(schema)
    wrong = [None, [], {}, 1.5, -1, "\u00e9" * 200]
    if "minimum" in schema:
        wrong += [schema["minimum"] - 1, schema["maximum"] + 1, 1e3, "1", True]
    if "minItems" in schema:
        wrong += [["x"] * (schema["maxItems"] + 1), [1]]
    if "enum" in schema:
        wrong += ["", "x", schema["enum"][0].upper()]
    if schema.get("type") == "boolean":
        wrong += ["true", 1]
    return [value for value in wrong if spec.complaint(schema, value)]


def check_fields(c):
    """Every field of every JSON body, derived from the file."""
    allocation = c.ok("allocate", body={"size_bytes": 100, "ttl_seconds": 50})["id"]
    session = c.ok("openSession", body={})["id"]
    piece = {"id": allocation, "offset": 0, "length": 1}
    good = {
        "allocate": {"size_bytes": 100},
        "renew": {"ttl_seconds": 60},
        "freeMany": {"ids": [NOBODY]},
        "grant": {"session": session, "access": "r"},
        "readMany": {"ranges": [piece]},
        "openSession": {"name": "n"},
        "renewSession": {"ttl_seconds": 60},
        "ticket": {},
    }
    for name in c.spec.operations:
        schema = c.spec.request_schema(name)
        if not schema:
            continue
        schema = c.spec.resolve(schema)
        route = c.spec.operations[name][0]
        path = route.replace("{id}", session if route.startswith("/sessions") else allocation)
        body = good[name]
        for kind in [{}, {"Content-Type": "text/plain"}, {"Content-Type": "application/jsonl"}]:
            c.call(name, 415, "not_json", path, kind, json.dumps(body).encode())
        c.call(name, 413, "body_too_large", path, JSON, b" " * (MAX_BODY + 1))
        c.call(name, 400, "bad_json", path, JSON, b"nonsense")
        c.call(name, 400, "unknown_field", path, body=dict(body, colour="red"))
        if c.spec.operations[name][2]["requestBody"]["required"]:
            c.call(name, 411, "length_required", path)
        for field in schema.get("required", []):
            less = {key: value for key, value in body.items() if key != field}
            c.call(name, 400, "missing_field", path, body=less)
        for field, rule in schema.get("properties", {}).items():
            for value in wrong_values(rule, c.spec):
                c.call(name, 400, "bad_field", path, body=dict(body, **{field: value}))
    items = c.spec.document["components"]["schemas"]["Ranges"]["properties"]["ranges"]["items"]
    for field, rule in items["properties"].items():
        for value in wrong_values(rule, c.spec):
            broken = {"ranges": [piece, dict(piece, **{field: value})]}
            c.call("readMany", 400, "bad_field", body=broken)
            c.call("writeMany", 400, "bad_field", headers={}, body=frame(broken, b"ab"))


def check_overview(c):
    """The page's figures of all that the calls before have left."""
    c.ok("allocate", body={"size_bytes": 100, "owner": "someone", "ttl_seconds": 50})
    time.sleep(1.1)  # so old an answer may be
    got = c.ok("overview")
    for name in ["owners", "sessions", "leases", "refusals"]:
        check(got[name]["total"] and got[name]["items"], f"overview: nothing in {name}: {got[name]}")
    check(got["requests"]["operations"] and got["extents"]["entries"], f"overview: {got}")


def check_methods(c):
    """Each path takes the methods in the file and no others."""
    for route in c.spec.document["paths"]:
        path = route.replace("{id}", NOBODY).replace("{session}", NOBODY)
        allowed = c.spec.allowed(route)
        for method in METHODS:
            status, headers, data = c.server.send(method, path, JSON, b"" if method == "POST" else None)
            if method in allowed:
                check(status != 405, f"{method} {route} is described, and answered with 405")
                continue
            check(status == 405, f"{method} {route} is not described, and answered with {status}")
            got = set(headers.get("Allow", "").split(", "))
            check(got == allowed, f"{method} {route}: Allow is {got}, the file says {allowed}")
            check(method == "HEAD" or c.code_of(data) == "method_not_allowed", f"{method}: {data!r}")
        if "GET" in allowed:
            get, head = c.server.send("GET", path), c.server.send("HEAD", path)
            check(head[0] == get[0] and not head[2], f"HEAD {route}: {head[0]}, {len(head[2])} bytes")
            check(head[1]["Content-Type"] == get[1]["Content-Type"], f"HEAD {route}: Content-Type")
            check(int(head[1]["Content-Length"]) > 0, f"HEAD {route}: {head[1]['Content-Length']}")
    for path in ["/health/", "/nothing", "/allocate/", "//health", "/allocate/x/y", "/sessions/", "health", "/healthx",
                 "/HEALTH", "/allocate//data", "/data", "/data/", "/data/readx", "/allocate/a/data/",
                 "/allocate/a/grant/", "/allocate/a/grant/b/c", "*", "/{id}"]:
        status, _, data = c.server.send("GET", path)
        check(status == 404 and c.code_of(data) == "no_such_path", f"GET {path}: {status} {data!r}")


def check_routes(spec, source):
    """The server's own table names the paths and methods of the file, all of them."""
    with open(source, encoding="utf-8") as file:
        table = re.findall(r'(?:PLAIN|WAITS|STREAM)\(([A-Z]+), "(/[^"]*)"', file.read())
    got = {}
    for method, route in table:
        got.setdefault(route, set()).update({"GET": ("GET", "HEAD")}.get(method, (method,)))
    wanted = {route: spec.allowed(route) for route in spec.document["paths"]}
    check(got == wanted, f"{source} and the file differ: {set(got) ^ set(wanted)}")


def check_principals(c, maasd, directory):
    """What only a server with principals answers; test_access.py has who may do what."""
    path = write_principals(os.path.join(directory, "principals"),
                            {"a": "owner=a max-allocations=1", "probe": "health"})
    with Server(maasd_arguments(maasd) + ["--auth-file", path]) as c.server:
        c.call("whoami", 200, headers=bearer("a"))
        c.call("health", 401, "unauthenticated")
        seen = [c.ok("health", headers=bearer(name)) for name in ["a", "probe"]]
        check("memory" in seen[0] and "memory" not in seen[1], f"health: to an owner and to a probe: {seen}")
        c.call("stats", 403, "forbidden", headers=bearer("a"))
        c.call("overview", 200, headers=bearer("a"))
        c.call("allocate", 507, "quota_exhausted", headers=bearer("a") | JSON, body={"size_bytes": 1, "count": 2})


def check_tls(c, maasd, directory):
    made = Certificates(directory)
    made.make_ca("ca")
    made.make("server")
    with Server(maasd_arguments(maasd) + ["--tls-cert", made.path("server.pem"), "--tls-key",
                                          made.path("server.key")]) as c.server:
        c.call("health", 400, "tls_required")


def check_drain(c):
    c.server.process.terminate()
    eventually(20, "the server to drain", lambda: c.server.send("GET", "/ready")[0] == 503)
    c.call("ready", 503, "draining")
    c.ok("health")
    c.ok("allocate", body={"size_bytes": 1})


def check_all_met(c):
    described = {(name, status) for name, (_, _, operation) in c.spec.operations.items()
                 for status in operation["responses"] if status != "default"}
    check(described - c.met == UNREACHED,
          f"described and never met, or the other way round: {(described - c.met) ^ UNREACHED}")
    codes = c.spec.document["components"]["schemas"]["Error"]["properties"]["error"]["properties"]
    missing = set(codes["code"]["enum"]) - c.codes
    check(missing == UNREACHED_CODES,
          f"error codes described and never met: {missing ^ UNREACHED_CODES}")


def main():
    maasd, keyed_server, path, source = sys.argv[1:]
    spec = Spec(path)
    check_routes(spec, source)
    with Server(maasd_arguments(maasd)) as server:
        checker = Checker(server, spec)
        for step in [check_server_calls, check_allocations, check_data, check_sessions, check_fields,
                     check_overview, check_methods, check_drain]:
            step(checker)
    with tempfile.TemporaryDirectory() as directory:
        check_principals(checker, maasd, directory)
        check_tls(checker, maasd, directory)
    with Server([keyed_server]) as checker.server:
        check_keys(checker)
    check_all_met(checker)
    finish(f"{len(checker.met)} answers of {len(spec.operations)} calls met, {len(errors)} errors")


main()
