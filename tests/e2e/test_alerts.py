#!/usr/bin/env python3
"""Each alert of ops/alerts.yml that needs neither an RDMA device nor our Prometheus: fired by its real fault at a real
maasd, and silent before it and after it. Prints which fault fired which alert, and why the others are not fired.

Usage: test_alerts.py MAASD KEYED_SERVER SOURCE [ALERT...]
"""
import os
import resource
import secrets
import shutil
import socket
import sys
import tempfile
import threading
import time

import openapi
from alerts import FACTOR, ON_A_DEVICE, Rules, Site, Trials, of_prometheus
from certificates import Certificates
from prometheis import Asked
from processes import write_private

MIB = 1 << 20
POOL_MIB = 64
FILES = 4096  # The limit of a server that runs out of descriptors.
KNOWN_S = 1.2 * 15 * 60 / FACTOR  # Before that, a start is no restart of a server that was known.
TRIALS = Trials()


class Keyed(Asked, openapi.Server):
    """KEYED_SERVER: a control plane with keys that no device makes, and that takes orders."""

    def __init__(self, program):
        super().__init__([program])
        self.watched = "{}:{}".format(*self.address)
        self.url = f"http://{self.watched}"

    def kill(self):
        self.stop()


class Here(Site):
    """Where there is no device."""

    def __init__(self, maasd, keyed, work):
        super().__init__(maasd, work, "--rdma", "off", "--max-pool-size", f"{POOL_MIB}MiB", "--slab-sizes", "4KiB,1MiB")
        self.keyed = keyed
        self.certificates = Certificates(work)
        self.certificates.make_ca("ca")

    def keyed_server(self):
        return self.add(Keyed(self.keyed))


def lend(server, count, token=None, **fields):
    """The ids of so many slabs of 1 MiB."""
    answer = server.asked("POST", "/allocate", {"size_bytes": MIB, "count": count, **fields}, token)
    return [allocation["id"] for allocation in answer.get("allocations", [answer])]


def give_back(server, ids, token=None):
    server.asked("POST", "/free", {"ids": ids}, token)


def connect(server, count):
    return [socket.create_connection(("127.0.0.1", server.port), 60) for _ in range(count)]


def close(connections):
    for connection in connections:
        connection.close()


@TRIALS.add("MaasDown", "kill -9", also=["MaasRestarted"])
def is_killed(site):
    server = site.server("--memory-file", site.path("memory"))
    yield server.watched
    server.kill()
    yield
    server.start()


@TRIALS.add("MaasRestarted", "kill -9, and a start at once")
def is_restarted(site):
    server = site.server("--memory-file", site.path("memory"))
    yield server.watched
    time.sleep(KNOWN_S)
    server.again()
    yield


@TRIALS.add("MaasMemoryLost", "kill -9, and a start on a memory file that is gone")
def loses_memory(site):
    memory = site.path("memory")
    server = site.server("--memory-file", memory)
    lend(server, 1)
    yield server.watched
    time.sleep(KNOWN_S)
    server.kill()
    shutil.rmtree(os.path.dirname(memory))
    os.mkdir(os.path.dirname(memory), 0o700)
    server.start()
    yield


@TRIALS.at_server("MaasPoolFull", "an allocation where all is lent", also=["MaasPoolNearlyFull"])
def is_full(server):
    ids = lend(server, POOL_MIB)
    server.refused(507, "pool_exhausted", "POST", "/allocate", {"size_bytes": MIB})
    yield
    give_back(server, ids)


@TRIALS.at_server("MaasPoolNearlyFull", "95 % lent")
def is_nearly_full(server):
    ids = lend(server, POOL_MIB * 95 // 100)
    yield
    give_back(server, ids)


@TRIALS.at_server("MaasPoolFullSoon", "55 % lent, and 2 % more each second")
def is_full_soon(server):
    ids, enough = lend(server, POOL_MIB * 55 // 100), threading.Event()

    def grow():
        while len(ids) < POOL_MIB * 88 // 100 and not enough.wait(1):
            ids.extend(lend(server, 1))

    grower = threading.Thread(target=grow)
    grower.start()
    yield
    enough.set()
    grower.join()
    give_back(server, ids)


@TRIALS.at_server("MaasQuotaReached", "an allocation beyond max-bytes", quotas="max-bytes=1MiB")
def has_its_quota(server, token):
    server.refused(507, "quota_exhausted", "POST", "/allocate", {"size_bytes": MIB, "count": 2}, token)
    yield


@TRIALS.at_server("MaasQuotaNearlyReached", "all of max-allocations in use", quotas="max-bytes=4MiB max-allocations=4",
                  quota="allocations")
@TRIALS.at_server("MaasQuotaNearlyReached", "all of max-bytes in use", quotas="max-bytes=4MiB max-allocations=4",
                  quota="bytes")
def has_nearly_its_quota(server, token):
    ids = lend(server, 4, token)
    yield
    give_back(server, ids, token)


@TRIALS.at_server("MaasQuotaNearlyReached", "all of max-sessions in use", quotas="max-sessions=4", quota="sessions")
def has_its_sessions(server, token):
    sessions = [server.asked("POST", "/sessions", {"name": "a", "ttl_seconds": 600}, token)["id"] for _ in range(4)]
    yield
    server.asked("DELETE", "/sessions/" + sessions[0], token=token)


@TRIALS.at_server("MaasQuotaNearlyReached", "all of max-owners in use", quotas="max-owners=4", quota="owners")
def has_its_owners(server, token):
    ids = [lend(server, 1, token, owner=f"owner{i}")[0] for i in range(4)]
    yield
    give_back(server, ids, token)


@TRIALS.at_server("MaasQuotaNearlyReached", "all of max-connections in use", quotas="max-connections=4",
                  quota="connections")
def has_its_connections(server, token):
    connections = connect(server, 4)
    for connection in connections:
        connection.sendall(f"GET /whoami HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {token}\r\n\r\n".encode())
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 "), "a connection within the quota"
    yield
    close(connections)


@TRIALS.at_server("MaasSessionsLapse", "20 sessions that nobody renews")
def is_forgotten(server):
    for _ in range(20):
        server.asked("POST", "/sessions", {"name": "a", "ttl_seconds": 1})
    yield


@TRIALS.add("MaasQuarantine", "keys that are not confirmed dead (no device: keys of tests/fake)")
def is_unconfirmed(site):
    server = site.keyed_server()
    yield server.watched
    session = server.asked("POST", "/sessions", {"name": "a", "ttl_seconds": 600})["id"]
    kept = server.asked("POST", "/allocate", {"size_bytes": 4096, "session": session})["id"]
    server.order("error 5")
    server.refused(503, "revoke_unconfirmed", "DELETE", "/allocate/" + kept)
    yield
    server.order("error 0")


@TRIALS.add("MaasLogDropped", "no space left where --log-file is")
def has_no_disk(site):
    log = site.path("log")
    server = site.server("--log-file", log)
    yield server.watched
    os.remove(log)
    os.symlink("/dev/full", log)
    server.reload()
    for _ in range(20):
        server.asked("POST", "/sessions", {"name": "a", "ttl_seconds": 600})
    yield
    os.remove(log)
    server.reload()


@TRIALS.at_server("MaasLoginsRefused", "60 requests with a token that nobody has", quotas="")
def is_guessed(server, _token):
    for _ in range(60):
        status, _ = server.ask("GET", "/stats", token="mt_" + secrets.token_urlsafe(32))
        assert status in [401, 429], status
    yield


def expires(site, make):
    """A server whose certificate and revocation list have 30 days left, then what `make` makes, then 30 again."""
    folder = Certificates(tempfile.mkdtemp(dir=site.work))
    for file in ["ca.pem", "ca.key"]:
        shutil.copy(site.certificates.path(file), folder.path(file))
    folder.make("server")
    folder.make_crl()
    server = site.server("--tls-cert", folder.path("server.pem"), "--tls-key", folder.path("server.key"),
                         "--tls-client-ca", folder.path("ca.pem"), "--tls-client-crl", folder.path("ca.crl"))
    yield server.watched
    make(folder)
    server.reload()
    yield
    folder.make("server")
    folder.make_crl()
    server.reload()


TRIALS.add("MaasCertificateExpires", "a certificate of 3 days")(
    lambda site: expires(site, lambda folder: folder.make("server", days=3)))
TRIALS.add("MaasCertificateExpiresToday", "a certificate of one day", also=["MaasCertificateExpires"])(
    lambda site: expires(site, lambda folder: folder.make("server", days=1)))
TRIALS.add("MaasRevocationListExpires", "a revocation list of 5 hours")(
    lambda site: expires(site, lambda folder: folder.make_crl(hours=5)))


@TRIALS.at_server("MaasReloadFailed", "a line that is none in the file of principals, and SIGHUP", quotas="")
def is_misread(server, _token):
    path = server.options[-1]
    with open(path, encoding="ascii") as file:
        good = file.read()
    write_private(path, good + "team2 token=sha256:0\n")
    server.reload()
    yield
    write_private(path, good)
    server.reload()


def has_connections(server, count):
    connections = connect(server, count)
    yield
    close(connections)


FOR_20 = ["--max-connections", "20", "--max-connections-per-address", "0"]
TRIALS.at_server("MaasConnectionsNearLimit", "18 connections of 20",
                 *FOR_20)(lambda server: has_connections(server, 18))
TRIALS.at_server("MaasConnectionsRefused", "60 connections where 20 may be", *FOR_20,
                 also=["MaasConnectionsNearLimit"])(lambda server: has_connections(server, 60))


@TRIALS.at_server("MaasDescriptorsNearlyUsed", f"a limit of {FILES} open files, and a connection for nearly each",
                  "--max-connections-per-address", "0", also=["MaasConnectionsNearLimit"])
def has_no_descriptors(server):
    # Lowered from outside: by itself a server takes fewer connections where the limit is low.
    resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (FILES, FILES))
    connections = connect(server, FILES * 95 // 100)
    yield
    close(connections)


def main():
    maasd, keyed, source, *only = sys.argv[1:]
    rules = Rules(source)
    os.umask(0o077)
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, 2 * FILES)), hard))
    elsewhere = {alert for alert in rules.alerts if of_prometheus(alert)} | ON_A_DEVICE
    assert TRIALS.alerts() | elsewhere == set(rules.alerts), "alerts without a fault: " + \
        str(set(rules.alerts) ^ (TRIALS.alerts() | elsewhere))
    TRIALS.fire(rules, "maasd", only, lambda work: Here(maasd, keyed, work))
    if not only:
        for alert in sorted(elsewhere):
            print(f"not fired here: {alert}: " + ("see test_rdma_alerts.py" if alert in ON_A_DEVICE
                                                  else "see test_prometheus_alerts.py"))


main()
