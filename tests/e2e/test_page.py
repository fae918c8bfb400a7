"""The page of maasd in a real browser: what it shows, to whom, and who can use it.

python3 test_page.py MAASD axe.min.js

With MAAS_PICTURES=DIRECTORY it leaves pictures of the page there.
"""

import contextlib
import http.client
import json
import os
import re
import signal
import socket
import sys
import tempfile
import threading
import time

from certificates import Certificates
from openapi import JSON, Server
from prometheis import Endpoint, Handler
from processes import bearer, token_of, write_principals

try:
    from browser import Browser, Keys, missing
except ImportError as error:
    print(f"skipped: {error}; scripts/test installs it")
    sys.exit(77)

MIB = 1 << 20
PICTURES = os.environ.get("MAAS_PICTURES")
# A name that no server takes, as one that took it would send it.
HOSTILE = '<img src=x onerror="document.title=1">\u202egnp.exe'


@contextlib.contextmanager
def maasd(program, *options, port=0):
    with Server([program, "--listen", f"127.0.0.1:{port}", "--rdma", "off", "--max-pool-size", "64MiB",
                 "--log-level", "error", *options]) as server:
        server.url = f"http://127.0.0.1:{server.address[1]}/"
        yield server


@contextlib.contextmanager
def page(browser, program, *options):
    """The page of a server that has lent seven allocations, of which nothing may complain until the end."""
    with maasd(program, *options) as server:
        lend_some(server)
        browser.open(server.url)
        browser.allocations(7)
        yield server
        equal("the console", [], browser.complaints())


def equal(what, wanted, got):
    assert wanted == got, f"{what}: wanted {wanted}, got {got}"


def get(server, path, headers=None):
    status, _, data = server.send("GET", path, headers)
    equal(f"GET {path}", 200, status)
    return json.loads(data)


def wait_for(browser, words, details):
    shown = browser.until(f"the page says: {words}", lambda shown: words in shown["headline"])
    assert re.search(details, shown["troubles"]), shown["troubles"]


def says(browser, node, pattern):
    text = browser.text(node)
    assert re.search(pattern, text), f"{node}: {text}"


def only_network(browser):
    """The console has nothing but the requests that were refused or not answered."""
    lines = [line for line in browser.complaints() if "Failed to load resource" not in line]
    equal("the console", [], lines)


# ---- figures

def classes_of(stats):
    """The cells of the table of classes that hold figures, and its sum."""
    rows = []
    for one in stats["pool_stats"]:
        held = one["waiting_slabs"] + one["quarantined_slabs"]
        lent, asked = one["allocated_bytes"], one["requested_bytes"]
        rows.append([one["used_slabs"], one["free_slabs"], held, lent, asked, lent - asked])
    return rows + [[sum(column) for column in zip(*rows)]]


def pool_of(stats):
    lent, asked, backed = (stats[name] for name in ["total_allocated_bytes", "total_in_use_bytes", "backed_bytes"])
    held = sum((one["waiting_slabs"] + one["quarantined_slabs"]) * one["slab_size"] for one in stats["pool_stats"])
    held = max(0, min(held, backed - lent))
    return [asked, lent - asked, held, max(0, backed - lent - held), stats["max_pool_size"] - backed]


def check_shown(shown):
    """What stands on the page is what the server answered to the page's last questions."""
    equal("classes", classes_of(shown["stats"]), shown["rows"])
    equal("pool", pool_of(shown["stats"]), shown["pool"])
    for row, owner in zip(shown["owners"], shown["overview"]["owners"]["items"], strict=True):
        assert row.startswith(f"{owner['owner']}\t{owner['allocations']:,}\t"), f"{row!r} of {owner}"


def lend_some(server):
    for body in [{"size_bytes": 1000, "count": 5, "owner": "prom-a"}, {"size_bytes": 100000, "owner": "batch/1"},
                 {"size_bytes": 3 * MIB, "owner": "batch/2", "lifetime": "ttl", "ttl_seconds": 600}]:
        server.json("POST", "/allocate", body)
    server.json("POST", "/sessions", {"name": "prom-a"})


def load(server, end):
    """Allocates and frees until the end is set."""
    connection = http.client.HTTPConnection(*server.address, timeout=30)
    size = 1
    while not end.is_set():
        size = size * 7 % 999983
        connection.request("POST", "/allocate", json.dumps({"size_bytes": size, "owner": "load"}), JSON)
        allocation = json.loads(connection.getresponse().read())
        connection.request("DELETE", f"/allocate/{allocation['id']}")
        connection.getresponse().read()
    connection.close()


def test_figures(browser, program, _axe):
    with page(browser, program) as server:
        shown = browser.allocations(7)
        check_shown(shown)
        stats = get(server, "/stats")
        equal("classes, with no load", classes_of(stats), shown["rows"])
        equal("pool, with no load", pool_of(stats), shown["pool"])
        equal("state", "Healthy. 4.5 MiB of 64 MiB lent to 3 owners. RDMA: off.", shown["headline"])

        end = threading.Event()
        worker = threading.Thread(target=load, args=(server, end))
        worker.start()
        try:
            for _ in range(3):
                before = get(server, "/stats")["total_allocations"]
                shown = browser.until("the load shows", lambda shown, before=before:
                                      shown["stats"]["total_allocations"] > before)
                check_shown(shown)
                after = get(server, "/stats")["total_allocations"]
                now = shown["stats"]["total_allocations"]
                assert before < now <= after, f"{now} allocations were counted, not {before} to {after}"
        finally:
            end.set()
            worker.join()
        says(browser, "rate-text", r"Per second: [1-9]")
        says(browser, "requests", "POST /allocate")


def test_rates(browser, program, _axe):
    """Rates go by the server's time, and begin anew behind a gap, as when the page was hidden."""
    with page(browser, program):
        browser.until("rates show", lambda _: "at most in" in browser.text("rate-text"))
        # From now on four seconds of the server between two polls, and two long gaps.
        browser.run("""window.texts = [];
            window.change = (text, path) => path !== "overview" ? text : text.replace(/"uptime_seconds":\d+/, () => {
                window.texts.push(document.getElementById("rate-text").innerText);
                return `"uptime_seconds":${1000 * (window.texts.length > 5 ? 2 : 1) + 4 * window.texts.length}`;
            })""")
        browser.until("seven polls", lambda _: browser.run("return window.texts.length") > 7)
        texts = browser.run("return window.texts")
        for polls, words in (1, "measured"), (2, "measured"), (3, "in 8.s$"), (5, "in 16.s$"), (6, "measured"):
            assert re.search(words, texts[polls]), f"after {polls} polls: {texts}"


def test_words(browser, program, _axe):
    """What stands beside the figures is true of them."""
    with maasd(program) as server:
        server.json("POST", "/allocate", {"size_bytes": MIB - 1, "owner": "a", "lifetime": "ttl", "ttl_seconds": 86400})
        browser.open(server.url)
        browser.allocations(1)
        says(browser, "leases-note", r"^No lease ends within 68.min\.$")
        says(browser, "classes-rows", r"\t1.MiB\t1.MiB\t")
        # /overview may be older than /stats, where there are four times as many bytes: shares are those of one answer.
        browser.run("""window.change = (text) => text.replace(/"total_allocated_bytes":(\\d+)/,
            (_, lent) => `"total_allocated_bytes":${4 * lent}`)""")
        browser.until("more is lent", lambda shown: "4 MiB of 64 MiB lent" in shown["headline"])
        equal("the share", "100\u00a0% of what is lent",
              browser.run("return document.querySelector('#owners-rows meter').title"))


def test_any_number(browser, program, _axe):
    """A thousand allocations or many more: the same page."""
    with maasd(program) as server:
        def nodes(number):
            check_shown(browser.allocations(number))
            return browser.run("return document.querySelectorAll('*').length")

        server.json("POST", "/allocate", {"size_bytes": 1000, "count": 10, "owner": "a"})
        browser.open(server.url)
        browser.next_poll()  # its own questions are in the table of requests
        few = nodes(10)
        server.json("POST", "/allocate", {"size_bytes": 1000, "count": 9990, "owner": "a"})
        equal("elements of the page", few, nodes(10000))


def test_names(browser, program, _axe):
    """Names are text, whatever is in them."""
    with page(browser, program) as server:
        status, _, data = server.send("POST", "/allocate", JSON, json.dumps({"size_bytes": 1, "owner": HOSTILE}).encode())
        equal(f"POST /allocate: {data}", 400, status)
        browser.run("const [name] = arguments; window.change = (text) => text.replaceAll('\"prom-a\"', name)",
                    json.dumps(HOSTILE))
        wanted = '<img src=x onerror="document.title=1">\\u{202e}gnp.exe'
        for part in ["owners-rows", "sessions-rows"]:
            browser.until(f"the name is in {part}", lambda _, part=part: wanted in browser.text(part))
        equal("pictures on the page", 0, browser.run("return document.images.length"))


# ---- who can use it

def check_access(browser, what):
    """For every reader: small phone (WCAG 2.2, 1.4.10), phone and wide screen, by day and by night."""
    for width in [320, 360, 1920]:
        for dark in [False, True]:
            browser.look(width, dark)
            name = f"{what}-{width}-{'dark' if dark else 'light'}"
            time.sleep(0.2)
            if PICTURES:
                browser.picture(os.path.join(PICTURES, f"{name}.png"))
            equal(f"what axe-core finds ({name})", [], browser.faults())
            wide = browser.run("return document.documentElement.scrollWidth")
            assert wide <= width, f"{name}: {wide} pixels are wider than the screen"
            equal(f"tables that are cut ({name})", [], browser.run("""
                return [...document.querySelectorAll("table")].filter((table) => table.checkVisibility() &&
                    table.offsetWidth > table.parentElement.clientWidth).map((table) => table.parentElement.id)"""))
    browser.look(1280)


def test_access(browser, program, axe):
    with page(browser, program) as server:
        browser.run(axe)
        check_access(browser, "healthy")
        status, _, _ = server.send("POST", "/allocate", JSON, json.dumps(
            {"size_bytes": 4 * MIB, "count": 100, "owner": "greedy"}).encode())
        equal("a request for more than the pool", 507, status)
        shown = browser.until("the refusal shows", lambda shown: shown["level"] == "bad")
        assert "no room in the pool" in shown["headline"] + shown["troubles"], shown
        says(browser, "refusals-rows", r"no room in the pool \(507")
        browser.tab_to("token-open", Keys.ENTER)
        check_access(browser, "trouble")
        # The map by keys: what is picked is said in words.
        for where, key in ("1", Keys.HOME), ("2", Keys.ARROW_RIGHT):
            browser.tab_to("map-at", key)
            says(browser, "map-text", rf"^{where} of \d+: ")


def test_without_scripts(browser, program, _axe):
    with maasd(program) as server:
        lend_some(server)
        browser.scripts(False)
        try:
            browser.open(server.url)
            browser.driver.find_element("css selector", "noscript a").click()
            tables = browser.driver.find_elements("css selector", "table")
            text = "\n".join(table.text for table in tables)
        finally:
            browser.scripts(True)
        assert "prom-a" in text and "batch/1" in text, f"not in the plain tables: {text}"


# ---- tokens

def traces(browser, token):
    return browser.run("""return [localStorage.length, sessionStorage.length, document.cookie.length,
        document.documentElement.outerHTML.includes(arguments[0]), location.href.includes(arguments[0]),
        document.getElementById("token-text").value]""", token)


def test_tokens(browser, program, axe):
    with tempfile.TemporaryDirectory() as directory, maasd(program, "--auth-file", write_principals(
            os.path.join(directory, "principals"), {"team": "owner=team", "ops": "admin"})) as server:
        server.send("POST", "/allocate", bearer("team") | JSON, b'{"size_bytes": 1000, "owner": "team"}')
        browser.open(server.url)
        browser.run(axe)
        browser.until("a token is asked for", lambda shown: "wants a token" in shown["headline"])
        check_access(browser, "token")
        equal("the figures, without a token", False, browser.visible("figures"))
        browser.tab_to("token-text", "mt_wrong", Keys.ENTER)
        browser.until("the wrong token is refused", lambda _: "does not take this token" in browser.text("token-error"))

        browser.tab_to("token-text", token_of("team"), Keys.ENTER)
        shown = browser.until("the team's figures", lambda shown: shown["level"] == "ok")
        equal("owners", ["team\t1\t1 KiB\t"], shown["owners"])
        equal("the classes of all, for a team", False, browser.visible("classes"))
        assert "You see what team may see" in shown["troubles"], shown["troubles"]
        equal("whose owners", "Of what you may see: 1 owner, by bytes of slabs.", browser.text("owners-note"))
        equal("traces of the token", [0, 0, 0, False, False, ""], traces(browser, token_of("team")))

        browser.tab_to("token-open", Keys.ENTER)
        browser.tab_to("token-forget", Keys.ENTER)
        browser.until("the token is forgotten", lambda shown: "wants a token" in shown["headline"])
        equal("the figures, after all", False, browser.visible("figures"))
        browser.tab_to("token-text", token_of("ops"), Keys.ENTER)
        shown = browser.until("the admin's figures", lambda shown: shown["level"] == "ok")
        equal("the classes of all, for an admin", True, browser.visible("classes"))
        check_shown(browser.next_poll())
        check_patience(browser, server, token_of("ops"))
        only_network(browser)


def check_patience(browser, server, token):
    """An address with many failures is asked to wait: the page does; a good token is taken all the same."""
    for _ in range(25):
        server.send("GET", "/stats", {"Authorization": "Bearer mt_wrong"})
    browser.open(server.url)
    wait_for(browser, "asks to wait", r"too many requests from this address proved nothing; .*; the next .* in \d+ s\.")
    asked = browser.run("return performance.getEntriesByType('resource').length")
    time.sleep(3)
    equal("questions", asked, browser.run("return performance.getEntriesByType('resource').length"))
    browser.tab_to("token-open", Keys.ENTER)
    browser.tab_to("token-text", token, Keys.ENTER)
    browser.until("the token is taken", lambda shown: shown["level"] == "ok")


def test_quota(browser, program, _axe):
    """A principal that has all its connections is told that."""
    with tempfile.TemporaryDirectory() as directory, maasd(program, "--auth-file", write_principals(
            os.path.join(directory, "principals"), {"ops": "admin max-connections=1"})) as server:
        taken = http.client.HTTPConnection(*server.address)
        taken.request("GET", "/health", headers=bearer("ops"))
        taken.getresponse().read()
        browser.open(server.url)
        browser.until("a token is asked for", lambda shown: "wants a token" in shown["headline"])
        browser.tab_to("token-text", token_of("ops"), Keys.ENTER)
        wait_for(browser, "asks to wait", r"the principal ops has as many connections .*; the next request in \d+ s\.")
        taken.close()
        browser.until("the connection is free", lambda shown: shown["level"] == "ok")
        says(browser, "refusals-rows", r"the quota of connections is used up \(429")
        only_network(browser)


# ---- what is wrong with the server itself

def test_draining(browser, program, axe):
    with page(browser, program, "--drain-delay", "60") as server:
        server.process.send_signal(signal.SIGTERM)
        wait_for(browser, "The server is about to end.", "It was told to stop")
        browser.run(axe)
        check_access(browser, "draining")


def test_connections(browser, program, _axe):
    with maasd(program, "--max-connections", "40", "--max-connections-per-address", "0") as server, \
            contextlib.ExitStack() as opened:
        browser.open(server.url)
        browser.until("all is well", lambda shown: shown["headline"].startswith("Healthy."))
        for _ in range(35):
            opened.enter_context(socket.create_connection(server.address))
        wait_for(browser, "Connections are running out.", r"3[5-9] are open, .* takes 40\.")


def test_certificate(browser, program, _axe):
    browser.command("Security.setIgnoreCertificateErrors", ignore=True)
    with tempfile.TemporaryDirectory() as directory:
        certificates = Certificates(directory)
        certificates.make_ca("ca")
        certificates.make("server", days=3)
        options = ["--tls-cert", certificates.path("server.pem"), "--tls-key", certificates.path("server.key")]
        with maasd(program, *options) as server:
            browser.open(server.url.replace("http:", "https:"))
            wait_for(browser, "The certificate expires soon.", r"In 3 days, on .* UTC\. .*--tls-cert and --tls-key")
            certificates.make("server", days=30)
            server.process.send_signal(signal.SIGHUP)
            browser.until("the new one shows", lambda shown: shown["headline"].startswith("Healthy."))
    browser.command("Security.setIgnoreCertificateErrors", ignore=False)


# ---- behind a proxy

def proxy(server, prefix):
    """Passes what is below the prefix on to the server, and has nothing else; returns its address."""
    class Proxy(Handler):
        def do_GET(self):
            if not self.path.startswith(prefix):
                self.send_error(404)
                return
            headers = {name: self.headers[name] for name in ["Authorization", "Accept"] if name in self.headers}
            status, fields, data = server.send("GET", self.path[len(prefix) - 1:], headers)
            self.send_response(status)
            for name, value in fields.items():
                if name not in ["Connection", "Date"]:
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(data)

    return f"http://{Endpoint(Proxy).address}{prefix}"


def test_proxy(browser, program, _axe):
    with maasd(program) as server:
        url = proxy(server, "/maas/")
        lend_some(server)
        browser.open(url)
        check_shown(browser.allocations(7))
        links = browser.run("return [...document.querySelectorAll('a')].map((link) => link.href)")
        equal("links that leave the prefix", [], [link for link in links if not link.startswith(url)])
        browser.driver.find_element("link text", "figures").click()
        assert "prom-a" in browser.driver.page_source, browser.driver.page_source
        equal("the console", [], browser.complaints())


def test_strangers(browser, program, _axe):
    """What is no answer of a maasd, as of a proxy whose login has lapsed, is never taken for one."""
    with page(browser, program):
        for change in ["'<html>Log in</html>'", "'null'", "'{}'", "text.replace('\"memory\"', '\"other\"')",
                       "path === 'stats' ? '<html>Log in</html>' : text"]:
            browser.run(f"window.change = (text, path) => {change}")
            wait_for(browser, "This is not the answer of a maasd.", "Load this page again")
            browser.run("window.change = undefined")
            browser.until("it goes on", lambda shown: shown["headline"].startswith("Healthy."))
        said = [line for line in browser.complaints() if "TypeError" not in line]
        equal("the console", [], said)


# ---- a server that ends, hangs, and comes back

def test_restart(browser, program, _axe):
    with maasd(program) as server:
        port = server.address[1]
        lend_some(server)
        browser.open(server.url)
        browser.allocations(7)
    browser.until("the end of the server shows", lambda shown: re.search(
        "(?s)does not answer.*The figures below are from ", shown["headline"]))
    with maasd(program, port=port) as server:
        shown = browser.until("the new server shows", lambda shown: "restarted" in shown["headline"], 60)
        assert "lent memory was lost" in shown["headline"], shown["headline"]
        check_shown(shown)
        server.process.send_signal(signal.SIGSTOP)
        shown = browser.until("the silence shows", lambda shown: "does not answer" in shown["headline"])
        assert "No answer within" in shown["troubles"], shown["troubles"]
        browser.until("their age shows", lambda _: re.search("figures are .* old", browser.text("freshness")))
        server.process.send_signal(signal.SIGCONT)
        browser.until("it goes on", lambda shown: "does not answer" not in shown["headline"])
    with maasd(program, port=port):
        browser.until("another restart shows", lambda shown: re.search(
            r"The server was restarted\. .* At \d\d:\d\d:\d\d, nothing was lent\.", shown["troubles"]), 60)
    only_network(browser)


def test_hidden(browser, program, _axe):
    """A page that nobody sees asks nothing."""
    def asked(server):
        found = re.findall(r'route="/overview",code="200"} (\d+)', server.send("GET", "/metrics")[2].decode())
        return sum(int(count) for count in found)

    with maasd(program) as server:
        browser.open(server.url)
        browser.until("the first figures", lambda shown: shown["polls"])
        seen = browser.driver.current_window_handle
        browser.driver.switch_to.new_window("tab")
        time.sleep(0.5)
        before = asked(server)
        time.sleep(4)
        equal("questions of a hidden page", before, asked(server))
        browser.driver.close()
        browser.driver.switch_to.window(seen)
        browser.next_poll()


TESTS = [test_figures, test_rates, test_words, test_any_number, test_names, test_access, test_without_scripts,
         test_tokens, test_quota, test_draining, test_connections, test_certificate, test_proxy,
         test_strangers, test_restart, test_hidden]


def main():
    program, axe = sys.argv[1:3]
    lack = missing() or (None if os.path.exists(axe) else axe)
    if lack:
        print(f"skipped: there is no {lack}; scripts/test installs it")
        sys.exit(77)
    with open(axe, encoding="utf-8") as file:
        axe = file.read()
    browser = Browser()
    try:
        for test in TESTS:
            start = time.monotonic()
            browser.look(1280)
            test(browser, program, axe)
            print(f"- {test.__name__} {time.monotonic() - start:.1f} s", flush=True)
    finally:
        browser.close()


main()
