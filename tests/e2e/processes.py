"""Programs that tests start, and what is needed for that: ports, patience, and files of principals."""
import atexit
import contextlib
import hashlib
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time


def eventually(limit_s, what, condition, pause_s=0.2):
    """Polls until the condition holds, and returns what it returned."""
    deadline = time.monotonic() + limit_s
    while not (result := condition()):
        if time.monotonic() > deadline:
            raise AssertionError(f"waited {limit_s} s for: {what}")
        time.sleep(pause_s)
    return result


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def workplace():
    """A directory for logs and data. An exception shows the ends of the logs, and where all of it stays."""
    work = tempfile.mkdtemp()
    try:
        yield work
    except BaseException:
        subprocess.run(f"tail -v -n 20 {work}/*.log; echo The logs and data are in {work}.", shell=True, check=False,
                       stdout=sys.stderr)
        raise
    shutil.rmtree(work)


# ---- principals


def token_of(name):
    return f"mt_{name}"


def bearer(name):
    """The header with which a principal proves who it is."""
    return {"Authorization": f"Bearer {token_of(name)}"}


def write_private(path, text):
    """A file that only its owner reads, as maasd wants those with secrets."""
    with open(os.open(path, os.O_CREAT | os.O_WRONLY | os.O_TRUNC, 0o600), "w", encoding="ascii") as file:
        file.write(text)


def write_principals(path, principals):
    """For --auth-file: of each name, what it may. Its token proves who it is. Returns the path."""
    write_private(path, "".join(f"{name} token=sha256:{hashlib.sha256(token_of(name).encode()).hexdigest()} {words}\n"
                                for name, words in principals.items()))
    return path


# ---- programs


class Process:
    """A program that is started again and again, all of its lines in one log. It does not outlive this one."""

    def __init__(self, name, work):
        self.name = name
        self.log = os.path.join(work, name + ".log")
        self.process = None
        self.read = 0

    def run(self, command):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL,
                                            env={k: v for k, v in os.environ.items() if not k.startswith("MAAS_")})
        atexit.register(self.process.kill)

    def runs(self):
        return self.process and self.process.poll() is None

    def end(self, number):
        """Sends a signal and returns the exit status."""
        self.process.send_signal(number)
        return self.process.wait(60)

    def kill(self):
        """If it still runs."""
        if self.runs():
            self.end(signal.SIGKILL)

    def ends_by_itself(self, limit_s):
        """Its exit status."""
        return self.process.wait(limit_s)

    def stop(self):
        """As an operator does; it has to end well."""
        status = self.end(signal.SIGTERM)
        assert status == 0, f"{self.name} ended with {status} at SIGTERM: {self.text()[-2000:]}"

    def lines(self):
        """The whole lines of its log that were not returned before."""
        with open(self.log, encoding="utf-8", errors="replace") as log:
            log.seek(self.read)
            text = log.read()
            whole = text.rfind("\n") + 1
            self.read += len(text[:whole].encode())
        return text[:whole].splitlines()

    def said(self, words):
        """How many lines of its log have these words."""
        return sum(words in line for line in self.text().splitlines())

    def text(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()


class Maasd(Process):
    """A maasd that listens on a port that the system chose."""

    def __init__(self, program, work, name, *options):
        super().__init__(name, work)
        self.run([program, "--listen", "127.0.0.1:0", "--rdma", "off", *options])
        self.url = eventually(60, f"{name} to listen", self.listens)
        self.port = int(self.url.rpartition(":")[2])

    def listens(self):
        """Where."""
        assert self.process.poll() is None, self.text()
        found = re.search(r"^Listening on (\S+)\n", self.text(), re.M)
        return found and found[1]
