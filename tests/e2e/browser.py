"""A headless Chromium that has the page of maasd open, and what the test of the page asks it."""

import base64
import json
import os
import shutil
import tempfile
import time

from selenium import webdriver
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.keys import Keys

CHROMIUM, DRIVER = "/usr/bin/chromium", "/usr/bin/chromedriver"
# Runs before the page's own scripts: keeps the answers of which the page shows something, and what it was not
# allowed to do. window.change may replace an answer's text, as a hostile server would.
WATCH = """
window.violations = [];
document.addEventListener("securitypolicyviolation", (event) => window.violations.push(event.violatedDirective));
let answers = {};
window.shown = {};
const ask = window.fetch;
window.fetch = async (path, options) => {
	const response = await ask(path, options);
	const text = (window.change ?? ((text) => text))(await response.text(), path);
	if (path === "overview")
		answers = {};
	answers[path] = text;
	return new Response(text, response);
};
document.addEventListener("DOMContentLoaded", () => {
	const polls = new MutationObserver(() => { window.shown = answers; });
	if (document.getElementById("figures"))
		polls.observe(document.getElementById("figures"), {attributeFilter: ["data-polls"]});
});
"""
# What is shown now, and the answers that it was made of.
SHOWN = """
const values = (query) => [...document.querySelectorAll(query)].map((node) => Number(node.dataset.value));
const text = (id) => document.getElementById(id).innerText.replaceAll("\u00a0", " ");
return {
	polls: Number(document.getElementById("figures").dataset.polls ?? 0),
	level: document.getElementById("state").dataset.level,
	headline: text("headline"), troubles: text("troubles"),
	pool: values("#bar-legend [data-value]"),
	rows: [...document.querySelectorAll("#classes-rows tr, #classes-sum tr")].map((row) =>
		[...row.querySelectorAll("[data-value]")].map((cell) => Number(cell.dataset.value))),
	owners: [...document.querySelectorAll("#owners-rows tr")].map((row) => row.innerText.replaceAll("\u00a0", " ")),
	stats: JSON.parse(window.shown.stats ?? "null"), overview: JSON.parse(window.shown.overview ?? "null"),
};
"""


def missing():
    """What this machine lacks for the test; None if it has all."""
    return next((path for path in [CHROMIUM, DRIVER] if not os.access(path, os.X_OK)), None)


class Browser:
    def __init__(self):
        self.profile = tempfile.mkdtemp(prefix="maas-page-")
        options = webdriver.ChromeOptions()
        options.binary_location = CHROMIUM
        for argument in ["--headless=new", "--disable-dev-shm-usage", "--disable-gpu", "--disable-extensions",
                         "--disable-background-networking", "--no-first-run", f"--user-data-dir={self.profile}"]:
            options.add_argument(argument)
        if os.geteuid() == 0:
            options.add_argument("--no-sandbox")  # Chromium's does not work as root
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        self.driver = webdriver.Chrome(service=Service(DRIVER), options=options)
        self.driver.set_script_timeout(60)
        self.command("Page.addScriptToEvaluateOnNewDocument", source=WATCH)

    def close(self):
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def command(self, name, **arguments):
        return self.driver.execute_cdp_cmd(name, arguments)

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def look(self, width, dark=False):
        """As on a screen of this width, and by day or by night."""
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=900, deviceScaleFactor=1,
                     mobile=False)
        self.command("Emulation.setEmulatedMedia", features=[
            {"name": "prefers-color-scheme", "value": "dark" if dark else "light"},
            {"name": "prefers-reduced-motion", "value": "reduce"}])

    def scripts(self, allowed):
        self.command("Emulation.setScriptExecutionDisabled", value=not allowed)

    def open(self, url):
        self.driver.get(url)

    def shown(self):
        return self.run(SHOWN)

    def until(self, what, condition, seconds=30):
        """Waits until condition(shown) holds, and returns what is shown then."""
        end = time.monotonic() + seconds
        while True:
            shown = self.shown()
            if condition(shown):
                return shown
            if time.monotonic() > end:
                raise AssertionError(f"waited too long until {what}; shown is {json.dumps(shown)[:2000]}")
            time.sleep(0.1)

    def next_poll(self):
        """Waits for a poll that began after now, and returns what is shown."""
        now = self.shown()["polls"]
        return self.until("the next poll", lambda shown: shown["polls"] >= now + 2)

    def allocations(self, number):
        """Waits until so many allocations are shown."""
        return self.until(f"{number} allocations show", lambda shown: shown["stats"] and
                          shown["stats"]["active_allocations"] == number and
                          sum(one["allocations"] for one in shown["overview"]["owners"]["items"]) == number)

    def press(self, *keys):
        """Presses keys, wherever the focus is."""
        self.driver.switch_to.active_element.send_keys(*keys)

    def tab_to(self, node, *keys):
        """Goes to the element by the key Tab alone, and presses these keys there."""
        for _ in range(30):
            if self.run("return document.activeElement.id") == node:
                return self.press(*keys)
            self.press(Keys.TAB)
        raise AssertionError(f"the key Tab does not lead to #{node}")

    def text(self, node):
        return self.run("return document.getElementById(arguments[0]).innerText", node)

    def visible(self, node):
        return self.run("return document.getElementById(arguments[0]).checkVisibility()", node)

    def faults(self):
        """What axe-core finds, in a line each. It is injected beside the page's policy."""
        found = self.driver.execute_async_script(
            "axe.run({resultTypes: ['violations']}).then(arguments[0], (error) => arguments[0]({error: `${error}`}))")
        if "error" in found:
            return [found["error"]]
        return [f"{one['id']}: {node['html'][:200]}: {node['failureSummary']}"
                for one in found["violations"] for node in one["nodes"]]

    def complaints(self):
        """New lines of the console, and breaches of the page's policy."""
        lines = [line["message"] for line in self.driver.get_log("browser")]
        return lines + self.run("return window.violations.splice(0)")

    def picture(self, path):
        self.command("Emulation.setScrollbarsHidden", hidden=True)
        height = self.run("return document.documentElement.scrollHeight")
        width = self.run("return window.innerWidth")
        self.command("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1,
                     mobile=False)
        data = self.command("Page.captureScreenshot", format="png")["data"]
        self.command("Emulation.setScrollbarsHidden", hidden=False)
        with open(path, "wb") as file:
            file.write(base64.b64decode(data))
