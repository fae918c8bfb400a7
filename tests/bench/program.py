"""The programs that a benchmark starts, measures and stops. They die with the benchmark."""
import contextlib
import ctypes
import hashlib
import http.client
import json
import os
import re
import secrets
import select
import signal
import socket
import subprocess
import sys
import time

from report import Failed

START_S = 20
STOP_S = 60
ANSWER_S = 600


def die_with_parent():
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


class Program:
    """A program that runs, its output in a file. Its context ends it: by SIGTERM, and it has to
    end well."""

    def __init__(self, argv, output, env=None):
        self.name, self.output = os.path.basename(argv[0]), output
        with open(output, "ab") as file:
            self.start(argv, stdin=subprocess.DEVNULL, stdout=file, stderr=file, env=env)

    def start(self, argv, **options):
        self.process = subprocess.Popen([str(a) for a in argv], preexec_fn=die_with_parent, **options)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind:
            self.kill()
        elif self.process.returncode is None:
            self.stop()

    def kill(self):
        self.process.kill()
        self.process.wait()

    def stop(self):
        self.process.terminate()
        if self.process.returncode is not None:
            self.fail(f"had ended with {self.process.returncode}")
        self.wait(STOP_S)

    def wait(self, timeout_s):
        """Waits, without using the processor, for an end with 0; returns the CPU time in ns."""
        pidfd = os.pidfd_open(self.process.pid)
        late = not select.select([pidfd], [], [], timeout_s)[0]
        os.close(pidfd)
        if late:
            self.process.kill()
        _, status, usage = os.wait4(self.process.pid, 0)
        self.process.returncode = os.waitstatus_to_exitcode(status)
        if status:
            self.fail("took too long" if late else f"ended with {self.process.returncode}")
        return (usage.ru_utime + usage.ru_stime) * 1e9

    def fail(self, what):
        if self.output:
            with open(self.output, "rb") as file:
                sys.stderr.write(file.read(4096).decode(errors="replace"))
        raise Failed(f"{self.name} {what}")

    def until(self, ready):
        """Waits for ready() to be something, which is returned."""
        end = time.monotonic() + START_S
        while not (value := ready()):
            if self.process.poll() is not None:
                self.fail("ended at its start")
            if time.monotonic() > end:
                self.fail("did not get ready")
            time.sleep(0.01)
        return value

    def cpu_ns(self):
        """CPU time of all its threads: the clock of clock_getcpuclockid(3)."""
        return time.clock_gettime_ns(~self.process.pid << 3 | 2)

    def memory_bytes(self):
        """What it keeps in memory: resident private pages and files, and every page of its memfds,
        which are in memory, mapped or not."""
        proc = f"/proc/{self.process.pid}"
        with open(f"{proc}/status", encoding="ascii") as file:
            resident = sum(int(kib) for kib in re.findall(r"^Rss(?:Anon|File):\s*(\d+)", file.read(), re.M))
        shared = 0
        for fd in os.scandir(f"{proc}/fd"):
            with contextlib.suppress(OSError):
                if os.readlink(fd).startswith("/memfd:"):
                    shared += os.stat(fd).st_blocks * 512
        if not shared:
            raise Failed(f"{self.name} has no memfd")
        return resident * 1024 + shared


class Asked(Program):
    """A program that answers each line with one of JSON; the first comes unasked, and is `begun`.
    It ends with its input."""

    def __init__(self, *argv, env=None):
        self.name, self.output = os.path.basename(argv[0]), None
        self.start(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=env)
        self.begun = self.answer()

    def ask(self, *words):
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        return self.answer()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            self.fail("ended instead of answering")
        return json.loads(line)

    def stop(self):
        self.process.stdin.close()
        self.wait(STOP_S)


def figures_of(*argv, env=None):
    """The figures of a program that measures once, and prints them as JSON."""
    done = subprocess.run([str(a) for a in argv], stdout=subprocess.PIPE, preexec_fn=die_with_parent,
                          env=env, check=False)
    if done.returncode:
        raise Failed(f"{' '.join(map(str, argv))} ended with {done.returncode}")
    return json.loads(done.stdout)


# ---- ports

def listening_port(*paths):
    """The port that a program says in one of its files. A line without its end is being written."""
    for path in paths:
        with contextlib.suppress(FileNotFoundError), open(path, encoding="utf-8") as file:
            if found := re.search(r"Listening on https?://127\.0\.0\.1:(\d+)\n", file.read()):
                return int(found[1])
    return None


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def connects(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def listens(port):
    """Whether somebody listens on the port, seen without connecting to it."""
    for path in "/proc/net/tcp", "/proc/net/tcp6":
        with contextlib.suppress(FileNotFoundError), open(path, encoding="ascii") as file:
            # "  0: ADDRESS:PORT PEER:PORT STATE ...", state 0A listens
            if re.search(rf"^ *\d+: \w+:{port:04X} \w+:\w+ 0A ", file.read(), re.M):
                return True
    return False


# ---- maasd

def write_secret(path, line):
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w", encoding="ascii") as file:
        file.write(line + "\n")


def make_certificate(cert_file, key_file):
    """A certificate for this host that is its own CA."""
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes",
                    "-days", "2", "-subj", "/CN=bench", "-addext", "subjectAltName=IP:127.0.0.1",
                    "-keyout", key_file, "-out", cert_file], check=True, stderr=subprocess.DEVNULL)


class Maasd(Program):
    """A maasd on this host. `named` is for its files, in the directory `work`. With `auth` it has an
    --auth-file with an admin, whose token is also in a file. With `tls` it speaks TLS, and no calls
    are made here; its certificate is in `ca_file`."""

    def __init__(self, options, work, named, *arguments, auth=False, tls=False):
        output, log = f"{work}/{named}.out", f"{work}/{named}.log"
        self.headers = {"Content-Type": "application/json"}
        self.token, self.token_file = f"mt_{secrets.token_urlsafe(32)}", f"{work}/{named}.token"
        if auth:
            self.headers["Authorization"] = f"Bearer {self.token}"
            principals, digest = f"{work}/{named}.principals", hashlib.sha256(self.token.encode()).hexdigest()
            write_secret(self.token_file, self.token)
            write_secret(principals, f"bench token=sha256:{digest} admin")
            arguments += "--auth-file", principals
        if tls:
            self.ca_file, key_file = f"{work}/{named}.pem", f"{work}/{named}.key"
            make_certificate(self.ca_file, key_file)
            arguments += "--tls-cert", self.ca_file, "--tls-key", key_file
        env = {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}
        super().__init__([f"{options.bin}/daemon/maasd", "--listen", "127.0.0.1:0", "--log-file", log,
                          *arguments], output, env)
        self.port = self.until(lambda: listening_port(output, log))
        self.url = f"http{'s' * tls}://127.0.0.1:{self.port}"

    def call(self, method, path, body=None):
        """The body of the answer, which has to be a 200."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=ANSWER_S)
        with contextlib.closing(connection):
            connection.request(method, path, body and json.dumps(body), self.headers)
            answer = connection.getresponse()
            text = answer.read()
        if answer.status != 200:
            raise Failed(f"{method} {path}: {answer.status} {text[:512].decode(errors='replace')}")
        return text

    def get(self, path):
        return json.loads(self.call("GET", path))

    def allocate(self, size_bytes):
        return json.loads(self.call("POST", "/allocate", {"size_bytes": size_bytes}))["id"]

    def fill(self, size_bytes, count):
        """Allocates so many. Nobody needs their ids, so they are only counted: to read a million
        takes long where a processor is emulated."""
        for at in range(0, count, 10000):
            some = min(count - at, 10000)
            answer = self.call("POST", "/allocate", {"size_bytes": size_bytes, "count": some})
            if answer.count(b'"id":') != some:
                raise Failed(f"{some} allocations were asked for, and not as many came")

    def free(self, ids):
        for at in range(0, len(ids), 10000):
            answer = json.loads(self.call("POST", "/free", {"ids": ids[at:at + 10000]}))
            if answer["unknown"]:
                raise Failed(f"an allocation is not there any more: {answer['unknown'][0]}")

    def free_owner(self, owner):
        while ids := [a["id"] for a in self.get(f"/allocations?owner={owner}")["allocations"]]:
            self.free(ids)
