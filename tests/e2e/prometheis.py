"""What the tests with more than one Prometheus share: the programs, and what they talk to."""
import http.server
import json
import os
import re
import shutil
import threading
import urllib.error
import urllib.parse
import urllib.request

from processes import Process, eventually, free_port


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers in one piece, and keeps the connection."""
    protocol_version = "HTTP/1.1"

    def answer(self, body=b""):
        self.send_response(200)
        self.send_header("Content-Type", "text/plain; version=0.0.4")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


class Endpoint(http.server.ThreadingHTTPServer):
    """What a Prometheus talks to, on a port of its own, until this process ends."""
    daemon_threads = True

    def __init__(self, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.address = f"127.0.0.1:{self.server_address[1]}"
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def handle_error(self, *_):
        pass  # The client may be killed meanwhile.


def fetch(url, method="GET", headers=None, body=None, timeout_s=120):
    """Status and body of an answer, whatever it is."""
    try:
        with urllib.request.urlopen(urllib.request.Request(url, body, headers or {}, method=method),
                                    timeout=timeout_s) as answer:
            return answer.status, answer.read()
    except urllib.error.HTTPError as err:
        with err:
            return err.code, err.read()


def fetched(url, *request):
    """The body of an answer that has to be good."""
    status, body = fetch(url, *request)
    assert 200 <= status < 300, f"{url}: {status} {body[:2000]}"
    return body


class Asked:
    """A server at self.url, and what it answers."""

    def ask(self, method, path, value=None, token=None):
        """The status, and what the JSON of the answer says."""
        headers = {"Content-Type": "application/json", **({"Authorization": f"Bearer {token}"} if token else {})}
        status, body = fetch(self.url + path, method, headers, None if value is None else json.dumps(value).encode())
        return status, json.loads(body or "null")

    def get(self, path):
        """Status and text; the status 0 where nothing listens."""
        try:
            status, body = fetch(self.url + path, timeout_s=5)
            return status, body.decode()
        except OSError as err:
            return 0, str(err)

    def asked(self, method, path, value=None, token=None):
        """What an answer says that has to be 200."""
        status, answer = self.ask(method, path, value, token)
        assert status == 200, f"{method} {path}: {status} {answer}"
        return answer

    def refused(self, status, code, *request):
        """The answer has to be this one."""
        got, answer = self.ask(*request)
        assert (got, answer["error"]["code"]) == (status, code), f"{request}: {got} {answer}"


class Memory(Asked, Process):
    """maasd."""

    def __init__(self, program, work, file=None, pool="256MiB"):
        super().__init__("maasd", work)
        self.program, self.file, self.pool = program, file, pool
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.others = []

    def start(self):
        self.run([self.program, "--listen", f"127.0.0.1:{self.port}", "--rdma", "off", "--max-pool-size", self.pool,
                  *(["--memory-file", self.file] if self.file else [])])
        eventually(30, "the memory server", self.is_ready)

    def is_ready(self):
        return self.get("/ready")[0] == 200

    def forget(self):
        """What it lent is gone, as after a restart of its host."""
        for name in [self.file, self.file + ".slots"]:
            os.remove(name)

    def fill(self, *sizes):
        """Another owner takes all that is left, in pieces of these sizes, many at a time while there are."""
        for size in sizes:
            for count in [16, 1]:
                while got := self.allocate(size, count):
                    self.others += got

    def allocate(self, size, count):
        """The ids; none where there is no room."""
        status, answer = self.ask("POST", "/allocate", {"size_bytes": size, "count": count, "owner": "another"})
        assert status in [200, 507], f"an allocation: {status} {answer}"
        return [a["id"] for a in answer.get("allocations", [answer])] if status == 200 else []

    def give_back(self):
        self.asked("POST", "/free", {"ids": self.others})
        self.others = []


class Api(Asked):
    """That of a Prometheus."""

    def call(self, path, method="GET", **arguments):
        """What the API answers, without its frame."""
        body = fetched(f"{self.url}{path}?{urllib.parse.urlencode(arguments, doseq=True)}", method)
        return json.loads(body)["data"] if body else None

    def metrics(self):
        """Its own page, which no query stands between."""
        return fetched(self.url + "/metrics").decode()

    def metric(self, name, label=""):
        """The sum of a metric's series."""
        return sum(map(float, re.findall(rf"^{name}(?:{{.*{label}.*}})? (\S+)$", self.metrics(), re.M)))


class Prometheus(Api, Process):
    """One, and what it answers."""

    def __init__(self, name, program, work, options):
        super().__init__(name, work)
        self.program, self.options = program, options
        self.work, self.data = work, os.path.join(work, name)
        self.port = free_port()
        self.config = os.path.join(work, name + ".yml")
        self.url = f"http://127.0.0.1:{self.port}"

    def write(self, file, text):
        """Writes its configuration, or a file of rules, and returns where."""
        with open(os.path.join(self.work, file), "w", encoding="ascii") as out:
            out.write(text)
        return out.name

    def begin(self):
        """Starts it, and does not wait."""
        self.run([self.program, f"--config.file={self.config}", f"--storage.tsdb.path={self.data}",
                  f"--web.listen-address=127.0.0.1:{self.port}", *self.options])

    def start(self):
        self.begin()
        eventually(120, f"{self.name} to be ready", self.is_ready)

    def is_ready(self):
        return self.ready()[0] == 200

    def ready(self):
        """What /-/ready answers, of a process that lives."""
        assert self.runs(), f"{self.name} ended with {self.process.returncode}"
        return self.get("/-/ready")

    def forget_data(self):
        """An empty disk, as that of another host."""
        shutil.rmtree(self.data)
