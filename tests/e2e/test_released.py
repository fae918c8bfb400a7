"""Holds what this tree has against what was released: tests/released/VERSION, which docs/upgrading.md explains.

python3 test_released.py check MAASD MAAS KEYED_SERVER SOURCE
python3 test_released.py write MAASD MAAS KEYED_SERVER SOURCE DIRECTORY
python3 test_released.py write-memory MAASD DIRECTORY

`write` makes the files of a release out of this tree (tests/released/make calls it); `write-memory` only the memory
file, of whichever maasd.
"""

import copy
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile

import released
from certificates import Certificates
from openapi import Server, Spec, check, errors, finish
from prometheis import fetched
from processes import Maasd, write_principals
from released import pack, read_json, run, unpack, write_json

POOL = ["--rdma", "off", "--max-pool-size", "32MiB"]
HERE = ["--listen", "127.0.0.1:0", "--log-level", "error"]
BEFORE_NAMES = "0.1.0"  # Of this version there is the memory file alone.


# ---- the names that programs rely on

def page_of(arguments, work=lambda server: None):
    """/metrics of a server, once it has worked."""
    with Server(arguments) as server:
        work(server)
        return server.send("GET", "/metrics")[2].decode()


def page_beside_tls(maasd, directory, *options):
    """The same from --listen-metrics."""
    server = Maasd(maasd, directory, "maasd", "--listen-metrics", "127.0.0.1:0", *options)
    try:
        url = re.search(r"^Serving metrics on (\S+)$", server.text(), re.M)[1]
        return fetched(url + "/metrics").decode()
    finally:
        server.kill()


def work(server):
    one = server.json("POST", "/allocate", {"size_bytes": 100, "owner": "a", "ttl_seconds": 60})["id"]
    server.json("POST", "/sessions", {"name": "s"})
    server.send("PUT", f"/allocate/{one}/data", {}, b"hello")


def metrics_now(maasd, keyed_server, directory):
    """Of a plain server, of one that knows who asks, and with keys for RDMA."""
    made = Certificates(directory)
    made.make_ca("ca")
    made.make("server")
    principals = write_principals(made.path("principals"), {
        "a": "owner=a max-bytes=1MiB max-allocations=1 max-sessions=1 max-owners=1 max-grants=1 max-connections=1 "
             "max-request-ids=1"})
    secured = page_beside_tls(maasd, directory, "--auth-file", principals, "--tls-cert", made.path("server.pem"),
                              "--tls-key", made.path("server.key"), "--tls-client-ca", made.path("ca.pem"))
    return released.metrics_of(page_of([maasd, *HERE, *POOL], work), secured, page_of([keyed_server], work))


def options_now(maasd, maas):
    options = {"maasd": released.options_of(run(maasd, "--help"))}
    text = run(maas, "--help")
    for command in re.findall(r"^  ([a-z]+) .*", text.partition("Options")[0], re.M):
        options[f"maas {command}"] = released.options_of(run(maas, command, "--help"))
    return options


def json_now(maasd, maas, directory):
    """What the command prints for programs. Of prometheus status, test_released_prometheus.py looks at more."""
    file = os.path.join(directory, "file")
    with open(file, "w", encoding="ascii") as out:
        out.write("hello")
    with Server([maasd, *HERE, *POOL]) as server:
        say, environment = {}, {"PATH": os.environ["PATH"], "MAAS_URL": "http://{}:{}".format(*server.address)}
        for line in ["health", "stats", "alloc --owner a --ttl 60 5", f"put {file}", "ls", "top --count 1", "whoami",
                     "token new me", "bench --count 1", "doctor", "prometheus status", "free --owner a"]:
            done = subprocess.run([maas, *line.split(), "--json"], capture_output=True, text=True, check=False,
                                  timeout=60, env=environment)
            check(done.returncode == 0 or line == "doctor", f"maas {line}: {done.returncode} {done.stderr}")
            say[line.split(" -")[0].split(" /")[0]] = done.stdout
        return released.json_of(say)


def names_now(maasd, maas, keyed_server, source):
    """What stands in the files of a release, by the file's name."""
    with tempfile.TemporaryDirectory() as directory:
        return {
            "http.json": released.http_of(Spec(os.path.join(source, "docs/openapi.yaml"))),
            "metrics.json": metrics_now(maasd, keyed_server, directory),
            "options.json": options_now(maasd, maas),
            "json.json": json_now(maasd, maas, directory),
        }


BREACHES = {
    "http.json": released.http_breaches,
    "metrics.json": released.metrics_breaches,
    "options.json": released.options_breaches,
    "json.json": released.json_breaches,
}


# A check must be able to fail: each of these takes something away, or asks for more, and has to be found.
TAKEN_AWAY = [
    ("http.json", lambda now: now.pop("GET /health")),
    ("http.json", lambda now: now["POST /allocate"]["answers"].pop("507")),
    ("http.json", lambda now: now["POST /allocate"]["answers"]["200"]["fields"].pop("<Allocated>.id")),
    ("http.json", lambda now: now["GET /stats"]["answers"]["200"]["fields"][".sessions.active"].update(always=False)),
    ("http.json", lambda now: now["GET /stats"]["answers"]["200"]["fields"][".owners"]["types"].append("null")),
    ("http.json", lambda now: now["GET /allocate/{id}/data"]["answers"]["206"]["headers"].remove("Content-Range")),
    ("http.json", lambda now: now["GET /metrics"]["answers"]["200"]["content"].pop()),
    ("http.json", lambda now: now["Error"]["answers"][""]["fields"][".error.code"]["values"].remove("too_many")),
    ("http.json", lambda now: now["GET /allocations"]["parameters"].pop("query owner")),
    ("http.json", lambda now: now["GET /allocations"]["parameters"]["query owner"].update(always=True)),
    ("http.json", lambda now: now["POST /allocate"]["request"]["fields"].pop(".owner")),
    ("http.json", lambda now: now["POST /allocate"]["request"]["fields"][".owner"].update(always=True)),
    ("http.json", lambda now: now["POST /allocate"]["request"]["fields"].update({".x": {"always": True, "types": []}})),
    ("http.json", lambda now: now["POST /allocate"]["request"]["fields"][".count"].update(maximum=9999)),
    ("http.json", lambda now: now["POST /allocate"]["request"]["fields"][".count"].update(minimum=2)),
    ("http.json", lambda now: now["POST /allocate"]["request"]["fields"][".owner"].update(pattern="^x$")),
    ("http.json", lambda now: now["POST /allocate"]["request"]["fields"][".lifetime"]["values"].remove("ttl")),
    ("http.json", lambda now: now["POST /allocate"]["request"]["fields"][".session"].update(values=["x"])),
    ("http.json", lambda now: now["POST /allocate/{id}/renew"]["request"].update(always=True)),
    ("http.json", lambda now: now["POST /allocate"].pop("request")),
    ("metrics.json", lambda now: now.pop("maas_sessions")),
    ("metrics.json", lambda now: now["maas_frees_total"].update(type="gauge")),
    ("metrics.json", lambda now: now["maas_pool_slabs"]["labels"].remove("state")),
    ("metrics.json", lambda now: now["maas_frees_total"]["labels"].append("owner")),
    ("options.json", lambda now: now.pop("maas ls")),
    ("options.json", lambda now: now["maasd"].pop("--listen")),
    ("options.json", lambda now: now["maasd"].update({"--prealloc": "VALUE"})),
    ("options.json", lambda now: now["maasd"]["--rdma-keys"].remove("mr")),
    ("json.json", lambda now: now.pop("ls")),
    ("json.json", lambda now: now["ls"].pop("$[].id")),
    ("json.json", lambda now: now["stats"].update({"$.owners": ["string"]})),
]


def check_that_it_can_fail(now):
    for number, (name, take) in enumerate(TAKEN_AWAY):
        less = copy.deepcopy(now[name])
        take(less)
        check(BREACHES[name](now[name], less), f"{name}: number {number} of what is taken away is not found")
        check(not BREACHES[name](now[name], now[name]), f"{name} breaks what it has itself")


# ---- the memory file

def content(name, size):
    """Bytes that are found again by name, and that take little room in an archive."""
    word = hashlib.sha256(name.encode()).digest()
    return (word * (size // len(word) + 1))[:size]


def write_memory(maasd, directory):
    """A memory file in which there is some of each kind, and what should be in it."""
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shm:
        file = os.path.join(shm, "memory")
        server = Server([maasd, *HERE, *POOL, "--memory-file", file])
        kept = []
        for size in [1, 1024, 1025, 4096, 8000, 100000, 524288, 1000000, 4194304]:
            for other in [{}, {"owner": "somebody"}, {"owner": "a/b.c:d@e", "ttl_seconds": 31622400}]:
                one = server.json("POST", "/allocate", {"size_bytes": size} | other)["id"]
                if size > 1000000 and other:  # and so there are some that were freed
                    server.send("DELETE", f"/allocate/{one}")
                    continue
                data = content(one, size)
                server.send("PUT", f"/allocate/{one}/data", {}, data)
                described = json.loads(server.send("GET", f"/allocate/{one}")[2])
                kept.append({key: described[key] for key in ["id", "size_bytes", "actual_size_bytes", "owner", "lifetime",
                                                              "ttl_seconds"]})
        server.process.terminate()
        server.process.wait(60)
        pack(shm, os.path.join(directory, "memory.tar.xz"))
    write_json(os.path.join(directory, "memory.json"), {one["id"]: one for one in kept})


def check_memory(maasd, directory):
    """Every allocation is there with its bytes, and no other; and the memory is lent on."""
    wanted = read_json(directory, "memory.json")
    what = f"the memory file of {os.path.basename(directory)}"
    with tempfile.TemporaryDirectory(dir="/dev/shm") as shm:
        file = unpack(os.path.join(directory, "memory.tar.xz"), shm)
        with Server([maasd, *HERE, *POOL, "--memory-file", file]) as server:
            page = json.loads(server.send("GET", "/allocations?limit=1000")[2])["allocations"]
            check({one["id"] for one in page} == set(wanted), f"{what}: other allocations: {page}")
            for name, one in wanted.items():
                status, _, body = server.send("GET", f"/allocate/{name}")
                got = json.loads(body)
                check(status == 200 and got | one == got, f"{what}: wanted {one}, got {status} {got}")
                status, _, data = server.send("GET", f"/allocate/{name}/data")
                check(status == 200 and data == content(name, one["size_bytes"]), f"{what}: {one}: other bytes")
            fresh = server.json("POST", "/allocate", {"size_bytes": 4096})["id"]
            check(fresh not in wanted and server.send("GET", f"/allocate/{fresh}/data")[2] == bytes(4096),
                  f"{what}: new memory is not new")
            for name in wanted:
                check(server.send("DELETE", f"/allocate/{name}")[0] == 200, f"{what}: {name} cannot be freed")


# ---- the programs

def write(maasd, maas, keyed_server, source, directory):
    for name, value in names_now(maasd, maas, keyed_server, source).items():
        write_json(os.path.join(directory, name), value)
    write_memory(maasd, directory)


def check_all(maasd, maas, keyed_server, source):
    now = names_now(maasd, maas, keyed_server, source)
    check_that_it_can_fail(now)
    directory = os.path.join(source, "tests/released")
    versions = sorted(name for name in os.listdir(directory) if re.fullmatch(r"[0-9.]+", name))
    check(versions, f"nothing in {directory}")
    for version in versions:
        check_memory(maasd, os.path.join(directory, version))
        for name, breaches in BREACHES.items() if version != BEFORE_NAMES else []:
            for text in breaches(read_json(directory, version, name), now[name]):
                errors.append(f"since {version}: {text}")
    print(f"held against {', '.join(versions)}")


def main():
    {"write": write, "write-memory": write_memory, "check": check_all}[sys.argv[1]](*sys.argv[2:])
    finish(f"{len(errors)} errors")


main()
