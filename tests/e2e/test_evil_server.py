# SPDX-License-Identifier: Apache-2.0
"""The maas command against a server that means harm: nothing of it steers the terminal, fills the
memory or crashes the command.

python3 test_evil_server.py MAAS
"""

import json
import os
import re
import resource
import subprocess
import sys
import time

from prometheis import Endpoint, Handler

ID = "00000000-0000-8000-8741-8d35090dc78e"
# An OSC 52 that sets the clipboard, a C1 control, a right-to-left override, DEL.
EVIL = "\x1b]52;c;ZXZpbA==\x07\x1b[2J\x9b31m\u202efdp\x7f\r\nnext"
MAX_PEAK_KIB = 48 << 10

answers = {}
errors = []


class Evil(Handler):
    def say(self):
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = self.path.split("?")[0]
        status, body, times, headers = answers.get(path, answers.get("*"))
        if callable(body):
            body = body()
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body) * times))
        self.end_headers()
        try:
            for _ in range(times):
                self.wfile.write(body)
        except OSError:
            self.close_connection = True

    do_GET = do_POST = do_PUT = do_DELETE = say


def say(body, status=200, path="*", times=1, **headers):
    if not isinstance(body, bytes) and not callable(body):
        body = json.dumps(body, ensure_ascii=False).encode()
    answers[path] = status, body, times, headers


def raw_controls(data):
    try:
        text = data.decode()
    except UnicodeDecodeError:
        return "bytes that are no UTF-8"
    found = re.findall("[\x00-\x09\x0b-\x1f\x7f-\x9f\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff]", text)
    return repr(found) if found else ""


def run(maas, url, *command, status=(1,), data=b""):
    """Runs it, holds what it says and takes to the rules, and returns what it said."""
    before = peak_kib()
    done = subprocess.run([maas, "--url", url, *command], input=data, capture_output=True, check=False)
    what = "maas " + " ".join(command)
    if done.returncode not in status:
        errors.append(f"{what}: exit {done.returncode}: {done.stdout[:200]!r} {done.stderr[:300]!r}")
    for said in (done.stdout, done.stderr):
        if raw_controls(said):
            errors.append(f"{what}: {raw_controls(said)} in {said[:200]!r}")
    if b"Sanitizer" in done.stderr or b"runtime error" in done.stderr:
        errors.append(f"{what}: {done.stderr.decode(errors='replace')}")
    elif peak_kib() > max(before, MAX_PEAK_KIB) and not os.environ.get("MAAS_SANITIZE"):
        errors.append(f"{what}: took {peak_kib()} KiB")
    return done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace")


def peak_kib():
    """The most that one of the commands so far has taken."""
    return resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss


def lent(**changes):
    return {"id": ID, "size_bytes": 64, "actual_size_bytes": 1024, "age_seconds": 0, **changes}


COMMANDS = [["health"], ["stats"], ["alloc", "64"], ["alloc", "--count", "10000", "64"], ["free", ID],
            ["free", "--owner", "me"], ["put", ID], ["get", ID], ["ls"], ["top", "--count", "1"],
            ["bench", "--count", "1", "--threads", "1"], ["doctor"],
            ["prometheus", "status"], ["prometheus", "status", "--owner", "me"], ["whoami"]]


def escapes(maas, url):
    say({"error": {"code": EVIL, "message": EVIL}}, 400)
    for command in COMMANDS:
        _, err = run(maas, url, *command)
        assert "\\x1b]52" in err, (command, err)
    answers.clear()
    say({"allocations": [lent(owner=EVIL[:40], lifetime=EVIL)], "next": None})
    out, _ = run(maas, url, "ls", status=(0,))
    assert "\\x1b]52" in out, out
    json.loads(run(maas, url, "ls", "--json", status=(0,))[0])
    page = {"status": EVIL, "version": EVIL, "arena_id": EVIL, "boot_id": EVIL, "uptime_seconds": 1,
            EVIL: EVIL, "rdma": {"state": "active", "device": EVIL, "gid": EVIL, "keys": EVIL},
            "pool_stats": [{"slab_size": 1}]}
    say(page)
    for command, status in ("health", 1), ("doctor", 1), ("stats", 0), ("top --count 1", 0):
        run(maas, url, *command.split(), status=(status,))
    for command in ("health", "stats"):
        assert json.loads(run(maas, url, command, "--json", status=(0,))[0]) == page
    json.loads(run(maas, url, "doctor", "--json")[0])
    out, _ = run(maas, url, "top", "--count", "1", "--json", status=(0,))
    assert json.loads(out)["stats"] == page
    for body in (b"\x1b[2J\x1b]0;x\x07", b'{"status":"\xff\x9b"}', b'{"status":"\\u0000"}', EVIL.encode()):
        say(body)
        for command in COMMANDS + [["health", "--json"], ["stats", "--json"]]:
            run(maas, url, *command)
    say({"name": EVIL, "rights": [1, EVIL, None]})
    run(maas, url, "whoami", status=(0,))
    say(b"", 302, Location="http://x/" + EVIL.encode().decode("latin-1").replace("\r\n", ""))
    run(maas, url, "alloc", "64")


def numbers(maas, url):
    for number in ("-1", "1e300", "-1e300", "9223372036854775808", "99999999999999999999999", "1e999"):
        body = '{"status":"healthy","uptime_seconds":%s,"max_pool_size":%s,"size_bytes":%s,"id":"%s"}'
        say((body % (number, number, number, ID)).encode())
        for command in COMMANDS:
            run(maas, url, *command)
        say(("maas_allocations_total " + number).encode(), path="/metrics")
        say({"pool_stats": []}, path="/stats")
        for form in ([], ["--json"]):
            run(maas, url, "top", "--count", "2", "--interval", "0.1", *form, status=(0,))
        answers.clear()


def stays(maas, url):
    """Memory that is listed and cannot be freed is no success."""
    say({"allocations": [lent(), lent(id=ID[:-1] + "1")], "next": None}, path="/allocations")
    say({"freed": 0, "unknown": [ID, ID[:-1] + "1"]}, path="/free")
    _, err = run(maas, url, "free", "--owner", "me")
    assert "2 allocations are still there" in err, err
    out, _ = run(maas, url, "free", "--no-owner", "--json")
    assert json.loads(out) == {"freed": 0, "missing": 2}, out


def rates(maas, url):
    """A route has braces, as a set of labels does."""
    say({"pool_stats": []}, path="/stats")
    say(lambda: b'maas_http_requests_total{route="/allocate/{id}",code="200"} %d\n' % (time.monotonic() * 1000),
        path="/metrics")
    out, _ = run(maas, url, "top", "--count", "2", "--interval", "0.2", "--json", status=(0,))
    rate = json.loads(out.splitlines()[-1])["requests_per_second"]
    assert rate > 50, out


def bombs(maas, url):
    # In pieces: the command begins as a copy of this process, whose memory then counts as the command's.
    for unit in (b"[],", b"{},", b"[", b"x", b"{\"allocations\":[{},{}],\"unknown\":[[]],", b'"\\"'):
        unit *= 65536 // len(unit)
        for status in (200, 500):
            say(b'{"a":[' + unit, status, times=1000)
            for command in COMMANDS:
                run(maas, url, *command)
    say(b'{"allocations":[' + b"{}," * 100000 + b"{}]}")  # not too long for 10,000
    run(maas, url, "alloc", "--count", "10000", "64")
    run(maas, url, "ls")


def sizes(maas, url):
    """Memory that is said to be vast is neither made here nor read beyond what was asked for."""
    say(lent(size_bytes=(1 << 63) - 1, actual_size_bytes=(1 << 63) - 1))
    say(b"A" * 65536, 206, "/allocate/" + ID + "/data", 128, **{"Content-Range": "bytes 0-15/16"})
    _, err = run(maas, url, "get", "--length", "16", ID)
    assert "more bytes than" in err, err
    run(maas, url, "get", ID)
    run(maas, url, "get", "--offset", "8EiB", ID, status=(2,))
    run(maas, url, "put", ID, data=b"hello")


def main():
    maas = sys.argv[1]
    url = "http://" + Endpoint(Evil).address
    for part in (escapes, numbers, stays, rates, bombs, sizes):
        answers.clear()
        part(maas, url)
        print("-", part.__name__)
    if errors:
        sys.exit("\n".join(errors))


main()
