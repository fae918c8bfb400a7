"""Who may make which call: each call of docs/openapi.yaml by each role.

python3 test_access.py MAASD openapi.yaml
"""

import json
import os
import sys
import tempfile

from openapi import JSON, Server, Spec, check, errors, finish, frame
from processes import bearer, write_principals

RIGHTS = {"other": "owner=other", "reader": "read=team", "owner": "owner=team", "admin": "admin"}
ROLES = ["nobody", "wrong", *RIGHTS]
# What a principal may do without memory of its own: the page, and to ask who it is.
EVERYBODY = (200, 401, 200, 200, 200, 200)
METRICS = (401, 401, 403, 403, 403, 200)
HEALTH = (401, 401, 200, 200, 200, 200)
READ = (401, 401, 404, 200, 200, 200)
WRITE = (401, 401, 404, 403, 200, 200)
# A call without a row here fails the test.
TABLE = {
    "page": EVERYBODY, "openapi": EVERYBODY, "whoami": EVERYBODY,
    "health": HEALTH, "ready": HEALTH, "stats": METRICS, "metrics": METRICS,
    "allocate": (401, 401, 403, 403, 200, 200),
    "describe": READ, "readData": READ, "writeData": WRITE, "renew": WRITE, "free": WRITE,
    "readMany": READ, "writeMany": WRITE, "freeMany": (401, 401, 200, 200, 200, 200),
    "list": HEALTH, "sessions": HEALTH, "overview": HEALTH, "figures": HEALTH,
    "openSession": (401, 401, 403, 403, 200, 200),
    # The session of the owner; an admin may end it, and gets no ticket.
    "renewSession": (401, 401, 404, 404, 200, 200),
    "ticket": (401, 401, 404, 404, 200, 404),
    "endSession": (401, 401, 404, 404, 200, 200),
    # There is no RDMA here, which is looked at first.
    "grant": (401, 401, 503, 503, 503, 503), "endGrant": (401, 401, 503, 503, 503, 503),
}


def status_of(server, role, name, method, route):
    """Of the answer to a call on an allocation and a session of the owner that are new."""
    memory = server.json("POST", "/allocate", {"size_bytes": 8, "owner": "team", "lifetime": "ttl", "ttl_seconds": 60},
                         bearer("owner"))["id"]
    session = server.json("POST", "/sessions", {}, bearer("owner"))["id"]
    ranges = {"ranges": [{"id": memory, "offset": 0, "length": 4}]}
    bodies = {
        "allocate": {"size_bytes": 1, "owner": "team"}, "readMany": ranges, "renew": {}, "renewSession": {},
        "freeMany": {"ids": [memory]}, "openSession": {"name": "team"}, "ticket": {},
        "grant": {"session": session, "access": "r"},
        "writeData": b"12345678", "writeMany": frame(ranges, b"abcd"),
    }
    body, headers = bodies.get(name), {} if role == "nobody" else bearer(role)
    if isinstance(body, dict):
        body, headers = json.dumps(body).encode(), headers | JSON
    path = route.replace("{id}", session if "essions" in route else memory).replace("{session}", session)
    return server.send(method, path + ("?name=team" if name == "sessions" else ""), headers, body)[0]


def main():
    maasd, path = sys.argv[1:]
    spec = Spec(path)
    check(set(TABLE) == set(spec.operations), f"no row, or no call: {set(TABLE) ^ set(spec.operations)}")
    with tempfile.TemporaryDirectory() as directory:
        file = write_principals(os.path.join(directory, "principals"), RIGHTS)
        with Server([maasd, "--listen", "127.0.0.1:0", "--rdma", "off", "--log-level", "error",
                     "--auth-file", file]) as server:
            for name, (route, method, _) in spec.operations.items():
                for role, wanted in zip(ROLES, TABLE.get(name, ())):
                    got = status_of(server, role, name, method, route)
                    # The many failures of one address become 429.
                    check(got == wanted or (wanted == 401 and got == 429), f"{role}: {name}: {got}, not {wanted}")
    finish(f"{len(spec.operations)} calls by {len(ROLES)} roles, {len(errors)} errors")


main()
