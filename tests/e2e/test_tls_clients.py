# SPDX-License-Identifier: Apache-2.0
"""libmaas and the maas command over TLS: what goes through, what is refused and in which words, and files
that change while requests go on.

python3 test_tls_clients.py MAASD MAAS...

Each MAAS is linked with another TLS library; their words are the same.
"""

import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time

from certificates import Certificates
from processes import Maasd, eventually, write_private
from tls_front import TlsFront

CA = ["--ca-file", "ca.pem"]
TLS_1_2 = ssl.TLSVersion.TLSv1_2
TLS_1_1 = ssl.TLSVersion.TLSv1_1

certs = None  # the Certificates of all cases
server = None  # a maasd without TLS, behind the TlsFront of a case
secure = None  # a maasd that speaks TLS, and knows principals


def environment():
    return {name: value for name, value in os.environ.items() if not name.startswith("MAAS_")}


def run(maas, *arguments, data=None, **variables):
    done = subprocess.run([maas, *arguments], input=data, capture_output=True, timeout=60, check=False,
                          cwd=certs.directory, env=environment() | variables)
    return done.returncode, done.stdout, done.stderr.decode()


def fails(maas, words, *arguments, status=(1,), **other):
    """maas ends with one of these statuses, and says all the words. Returns what it says."""
    code, _, said = run(maas, *arguments, **other)
    missing = [word for word in words if word not in said]
    assert code in status and not missing, f"{maas} {' '.join(arguments)}: {code}, {said}: wanted {status}, {missing}"
    return said


def refused(maas, words, url, *arguments, status=1):
    """maas health does, in a sentence."""
    said = fails(maas, words, "health", "--url", url, *arguments, status=(status,))
    assert "\n" not in said.strip() or "start a server" in said, f"more than a sentence: {said}"


def done(maas, *arguments, data=None, **variables):
    code, output, said = run(maas, *arguments, data=data, **variables)
    assert not code, f"{maas} {' '.join(arguments)}: {code}, {said}"
    return output


def front(name, **options):
    return TlsFront(certs.path(name), options.pop("upstream", server.port), **options)


def proof(name):
    return ["--cert-file", name + ".pem", "--key-file", name + ".key"]


# ---- what goes through


def check_bytes(maas, *arguments):
    """Sizes around those of a record of TLS and of the buffers."""
    for size in (1, 16383, 16384, 16385, 65536, (4 << 20) - 1, 4 << 20):
        data = os.urandom(size)
        memory = done(maas, "alloc", str(size), *arguments).decode().strip()
        done(maas, "put", memory, *arguments, data=data)
        assert done(maas, "get", memory, *arguments) == data, f"{maas}: other bytes of {size}"
        done(maas, "free", memory, *arguments)


def through(maas):
    check_bytes(maas, "--url", front("server").url(), *CA)
    asking = front("server", ca=certs.path("ca.pem"))
    done(maas, "stats", MAAS_URL=asking.url(), MAAS_CA_FILE="ca.pem", MAAS_CERT_FILE="team.pem", MAAS_KEY_FILE="team.key")
    assert asking.clients == ["team"], f"{maas}: the certificates were {asking.clients}"
    check_bytes(maas, "--url", asking.url(host="127.0.0.1"), *CA, "--cert-file", "team.both")
    for newest in (None, TLS_1_2):
        named = front("elsewhere", newest=newest)
        done(maas, "health", "--url", named.url(), *CA, "--server-name", "memory.example")
        done(maas, "health", MAAS_URL=named.url(), MAAS_CA_FILE="ca.pem", MAAS_SERVER_NAME="memory.example")


# ---- what is refused


def refused_servers(maas):
    url = front("server").url()
    refused(maas, ["is from a CA that this machine does not know", "--ca-file"], url)
    refused(maas, ["is not from a CA in other-ca.pem"], url, "--ca-file", "other-ca.pem")
    refused(maas, ["http://localhost", "speaks TLS: use https://localhost"], front("server").url("http"))
    refused(maas, ["has expired", "clock"], front("expired").url(), *CA)
    refused(maas, ["has expired"], url, "--ca-file", "late-ca.pem")
    fails(maas, [], "health", "--url", front("beyond").url(), "--ca-file", "bounded-ca.pem")
    refused(maas, ["is not for localhost", "--server-name"], front("elsewhere").url(), *CA)
    refused(maas, ["is not for 127.0.0.1", "--server-name"], front("named").url(host="127.0.0.1"), *CA)
    refused(maas, ["is not for other.example"], url, *CA, "--server-name", "other.example")
    refused(maas, ["does not speak TLS", "--tls-cert", "use http://localhost"], f"https://localhost:{server.port}", *CA)
    refused(maas, ["TLS handshake", "TLS 1.2 or 1.3"], front("server", newest=TLS_1_1).url(), *CA)
    with socket.create_server(("127.0.0.1", 0)) as silent:
        refused(maas, ["TLS handshake", "did not end in time"], f"https://localhost:{silent.getsockname()[1]}",
                "--timeout", "1", status=3)


def refused_clients(maas):
    for newest, status, words in (None, 3, "ended the connection before it answered"), (TLS_1_2, 1, "TLS handshake"):
        url = front("server", ca=certs.path("ca.pem"), newest=newest).url()
        refused(maas, [words, "certificate"], url, *CA, status=status)
        said = fails(maas, ["the certificate in stranger.pem"], "health", "--url", url, *CA, *proof("stranger"),
                     status=(1, 3))
        assert "start a server" not in said, f"{maas}: {said}"


def refused_files(maas):
    url = front("server").url()
    refused(maas, ["key file open.key", "chmod 0640"], url, "--cert-file", "team.pem", "--key-file", "open.key")
    refused(maas, ["the key in stranger.key is not that of the certificate in team.pem"], url,
            "--cert-file", "team.pem", "--key-file", "stranger.key", status=2)
    refused(maas, ["no other key file is given", "team.pem", "chmod 0640"], url, "--cert-file", "team.pem")
    refused(maas, ["locked.key", "passphrase"], url, "--cert-file", "team.pem", "--key-file", "locked.key", status=2)
    refused(maas, ["CA file garbage.pem"], url, "--ca-file", "garbage.pem", status=2)
    refused(maas, ["CA file none.pem", "No such file"], url, "--ca-file", "none.pem")
    refused(maas, ["ca_file is for https://"], front("server").url("http"), *CA, status=2)


def broken_off(maas):
    """The end of a connection in the middle of a body is an error, and no signal."""
    url = front("server", upstream=None).url()
    said = fails(maas, [], "put", "00000000-0000-8000-8741-8d35090dc78e", "--url", url, *CA, status=(3,),
                 data=os.urandom(4 << 20))
    assert "ended the connection" in said or "broke" in said, f"{maas}: {said}"


# ---- maasd itself


def principals(*proofs):
    """Who is the team from now on."""
    write_private(certs.path("principals"), f"team {' '.join(proofs)} owner=team\n* - health\n")
    if secure:
        secure.process.send_signal(signal.SIGHUP)


def maasd_itself(maas):
    url = ["--url", secure.url, *CA]
    team = [*url, *proof("team")]
    assert json.loads(done(maas, "whoami", "--json", *team))["name"] == "team", f"{maas}: another name"
    check_bytes(maas, *team)
    fails(maas, ["this proves nothing", "has cert="], "whoami", *url, *proof("next"))
    fails(maas, ["this proves nothing", "--token-file"], "whoami", *url)
    refused(maas, ["speaks TLS: use https://"], secure.url.replace("https", "http"))
    refused(maas, ["is not from a CA in other-ca.pem"], secure.url, "--ca-file", "other-ca.pem")
    refused(maas, ["is not for memory.example"], secure.url, *CA, "--server-name", "memory.example")
    for name, word in ("stranger", "no CA"), ("late", "expired"), ("server", "certificate"), (None, "who you are"):
        fails(maas, [word], "ls", *url, *(proof(name) if name else []))


def doctor(maas):
    """Whatever is wrong is found, and not only what is found first."""
    ill = front("elsewhere-late")
    for arguments, grades in (
            (["--url", secure.url, *proof("team")],
             {"key": "ok", "tls": "ok", "certificate": "ok", "CA": "ok", "clock": "ok"}),
            (["--url", secure.url, *proof("late")], {"certificate": "problem"}),
            (["--url", secure.url, *proof("server")], {"certificate": "problem"}),
            (["--url", secure.url, "--cert-file", "late-chain.pem", "--key-file", "team.key"],
             {"certificate": "problem"}),
            (["--url", secure.url, "--ca-file", "late-ca.pem"], {"certificate": "ok", "CA": "problem"}),
            (["--url", front("beyond").url(), "--ca-file", "bounded-ca.pem"], {"certificate": "ok", "CA": "problem"}),
            (["--url", ill.url(), "--ca-file", "other-ca.pem"],
             {"tls": "ok", "certificate": "problem", "name": "problem", "CA": "problem"}),
            (["--url", f"https://localhost:{server.port}"], {"tls": "problem"})):
        _, output, _ = run(maas, "doctor", "--json", *CA, *arguments)
        worst = {}
        for finding in json.loads(output):
            order = ["ok", "note", "warning", "problem"]
            worst[finding["check"]] = max(worst.get(finding["check"], "ok"), finding["grade"], key=order.index)
        assert worst.items() >= grades.items(), f"{maas} doctor {arguments}: {output.decode()}"
    _, output, _ = run(maas, "doctor", *CA, "--url", front("wordy").url())
    assert b"(names: localhost, https://" in output, f"{maas} doctor: {output.decode()}"


def ask_as_team(maas):
    return run(maas, "ls", "--url", secure.url, *CA, *proof("team"))[0]


def renewed(maas):
    """The server drops a certificate whose successor is there: the client looks at once, and nothing fails."""
    replace_pair("live", "team")
    bench = start_bench(maas, secure.url, "ca.pem", "--time", "4")
    time.sleep(1)
    principals("cert=team.example", "cert=next.example")
    time.sleep(0.5)
    replace_pair("live", "next")
    principals("cert=next.example")
    eventually(20, "the old certificate to be refused", lambda: ask_as_team(maas) == 1)
    end_bench(maas, bench, "")
    principals("cert=team.example")
    eventually(20, "the old certificate to be known again", lambda: ask_as_team(maas) == 0)


# ---- files that change


def replace(name, *by):
    """In one step, as certificates are renewed."""
    write_private(certs.path(name + ".new"), "".join(open(certs.path(part), encoding="ascii").read() for part in by))
    os.rename(certs.path(name + ".new"), certs.path(name))


def replace_pair(name, by):
    for part in (".key", ".pem"):
        replace(name + part, by + part)


def wait_for_client(asking, name, since):
    eventually(20, f"a connection of {name}", lambda: name in asking.clients[since:])


def start_bench(maas, url, ca_file, *options):
    return subprocess.Popen(
        [maas, "bench", "--transport", "http", "--url", url, "--ca-file", ca_file, *proof("live"), "--size", "4KiB",
         "--threads", "4", *options], cwd=certs.directory, env=environment(), stdout=subprocess.PIPE,
        stderr=subprocess.PIPE, text=True)


def end_bench(maas, bench, words):
    _, said = bench.communicate(timeout=60)
    assert not bench.returncode and words in said, f"{maas} bench: {bench.returncode}, {said}"


def changes(maas):
    """A client that goes on takes each new pair and CA; no request fails."""
    replace_pair("live", "team")
    replace("live-ca.pem", "ca.pem")
    asking = front("server", ca=certs.path("both-ca.pem"))
    bench = start_bench(maas, asking.url(), "live-ca.pem", "--time", "8")
    wait_for_client(asking, "team", 0)
    since = len(asking.clients)
    replace("live.pem", "next.pem")  # for a moment the pair does not fit
    time.sleep(1.5)
    replace("live.key", "next.key")
    wait_for_client(asking, "next", since)
    replace("live-ca.pem", "both-ca.pem")
    time.sleep(1.5)
    asking.use(certs.path("server2"), ca=certs.path("both-ca.pem"))
    since = len(asking.clients)
    replace("live-ca.pem", "other-ca.pem")
    wait_for_client(asking, "next", since)
    end_bench(maas, bench, "is not that of the certificate")


def prepare():
    for name in ("ca", "other-ca"):
        certs.make_ca(name)
    certs.make_expired_ca("late-ca", "ca")
    certs.make_ca("bounded-ca", "nameConstraints=critical,permitted;DNS:memory.example")
    certs.make("beyond", ca="bounded-ca")
    certs.make("server")
    certs.make("server2", ca="other-ca")
    certs.make("wordy", f"URI:https://{'x' * 500}/,DNS:localhost,URI:https://short")
    certs.make("named", "DNS:localhost")
    certs.make("elsewhere", "DNS:memory.example")
    certs.make("expired", days=-1)
    for name in ("team", "next"):
        certs.make(name, f"DNS:{name}.example", "clientAuth")
    certs.make("late", "DNS:team.example", "clientAuth", days=-1)
    certs.make("elsewhere-late", "DNS:memory.example", days=-1)
    certs.make("stranger", "DNS:team.example", "clientAuth", "other-ca")
    certs.openssl("pkcs8", "-topk8", "-in", "team.key", "-passout", "pass:secret", "-out", "locked.key")
    os.chmod(certs.path("locked.key"), 0o600)
    replace("both-ca.pem", "ca.pem", "other-ca.pem")
    replace("late-chain.pem", "team.pem", "late-ca.pem")
    replace("team.both", "team.pem", "team.key")
    replace("open.key", "team.key")
    os.chmod(certs.path("open.key"), 0o644)
    write_private(certs.path("garbage.pem"), "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")


def main():
    global certs, server, secure
    maasd, *clients = sys.argv[1:]
    with tempfile.TemporaryDirectory() as directory:
        certs = Certificates(directory)
        prepare()
        server = Maasd(maasd, directory, "plain", "--max-pool-size", "64MiB")
        principals("cert=team.example")
        secure = Maasd(maasd, directory, "secure", "--max-pool-size", "64MiB", "--tls-cert", certs.path("server.pem"),
                       "--tls-key", certs.path("server.key"), "--tls-client-ca", certs.path("ca.pem"),
                       "--auth-file", certs.path("principals"))
        for maas in clients:
            for case in (through, refused_servers, refused_clients, refused_files, broken_off, maasd_itself, doctor, renewed, changes):
                print(f"- {os.path.basename(maas)}: {case.__name__}", flush=True)
                case(maas)
        secure.stop()
        server.stop()
    print("ok")


main()
