#!/usr/bin/env python3
"""The dashboards of ops/grafana: the form in which they are kept, and what a Prometheus answers each panel.

    dashboards.py form FILE...              writes what Grafana exported in that form
    dashboards.py ask URL SECONDS FILE...   asks the Prometheus at URL what each panel asks, with the variables put in
                                            as Grafana does. Exit: 1 when after so many seconds one is still empty, or
                                            says nothing but 0 and is not of MAY_BE_ZERO
"""
import json
import math
import re
import sys
import time

from prometheis import Api

WIDTH = 120
SPAN_S, STEP_S, SCRAPE_S = 300, 5, 1  # What is asked for; how often the tests scrape.
RATE_INTERVAL = f"{max(STEP_S + SCRAPE_S, 4 * SCRAPE_S)}s"

# Panels that may say nothing but 0, because all is well, or because a test does not come to it: a region for each key
# registers nothing of the pool, and a take-over reads before it is scraped. Of each other one a test sees something.
MAY_BE_ZERO = {
    "maas-pool": {"In quarantine", "Transfers ended by a free"},
    "maas-http": {"Lost log lines"},
    "maas-rdma": {"In quarantine", "Memory registered", "Failed work", "Refused connections",
                  "Allocations without a key", "Frees that wait for keys"},
    "maas-prometheus": {"Is a standby", "New data stays behind", "Standby behind", "A take-over would lack",
                        "Blocks under way", "Failed operations", "Read", "Cache", "Memory of this Prometheus",
                        "Chunks from local files", "Uploaded again", "Log not replayed", "Began anew",
                        "Took the lead"},
}


def form(value, indent="", lead=""):
    """JSON with the keys in order, each value on one line where it fits."""
    line = lead + json.dumps(value, sort_keys=True, ensure_ascii=False)
    if not value or not isinstance(value, (dict, list)) or len(indent + line) < WIDTH:
        return line
    deeper = indent + "  "
    if isinstance(value, dict):
        ends, parts = "{}", [form(part, deeper, json.dumps(key) + ": ") for key, part in sorted(value.items())]
    else:
        ends, parts = "[]", [form(part, deeper) for part in value]
    return f"{lead}{ends[0]}\n{deeper}" + f",\n{deeper}".join(parts) + f"\n{indent}{ends[1]}"


class Dashboard:
    """One file."""

    def __init__(self, path):
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.text = file.read()
        self.json = json.loads(self.text)
        self.uid = self.json["uid"]

    def panels(self):
        """Those that show something."""
        return [panel for panel in self.json["panels"] if panel["type"] != "row"]

    def expressions(self):
        """(panel, target) of each; those of annotations have no panel."""
        of_panels = [(panel, target) for panel in self.panels() for target in panel["targets"]]
        return of_panels + [(None, annotation) for annotation in self.json["annotations"]["list"]]

    def variables(self, kind):
        return [variable for variable in self.json["templating"]["list"] if variable["type"] == kind]

    def problems(self, prometheus, faults=()):
        """What is empty or wrong in the answers, a line each."""
        values, found = {"__rate_interval": RATE_INTERVAL}, []
        for variable in self.variables("query"):
            metric, label = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"]).groups()
            values[variable["name"]] = either(prometheus.label_values(put_in(metric, values), label))
            if not values[variable["name"]]:
                found.append(f"{self.path}: the variable {variable['name']} has no values")
        for panel in self.panels():
            answers = [(target, prometheus.series(put_in(target["expr"], values))) for target in panel["targets"]]
            found += [f"{self.path}: {panel['title']}: {why}: {target['expr']}"
                      for target, series in answers if (why := complaint(target, series))]
            if panel["title"] not in faults and not any(has_value(series, lambda v: v != 0) for _, series in answers):
                found.append(f"{self.path}: {panel['title']}: nothing but 0")
        for annotation in self.json["annotations"]["list"]:
            prometheus.series(put_in(annotation["expr"], values))
        return found


def either(values):
    """As Grafana writes several values of a variable: a regular expression in a string."""
    escaped = [re.sub(r"[$^*{}\[\]'+?.()|]", r"\\\\\g<0>", value.replace("\\", "\\\\\\\\")) for value in values]
    return escaped[0] if len(escaped) == 1 else f"({'|'.join(escaped)})" if escaped else ""


def put_in(expression, values):
    """In place of $NAME and ${NAME}. A name that the dashboard does not have is a KeyError."""
    return re.sub(r"\$(?:{(\w+)}|(\w+))", lambda found: values[found[1] or found[2]], expression)


def has_value(series, condition=lambda _: True):
    values = (float(value) for one in series for _, value in one["values"])
    return any(not math.isnan(value) and condition(value) for value in values)


def complaint(target, series):
    """Why a target shows nothing, or not what its legend says; or None."""
    if not series:
        return "no series"
    if not has_value(series):
        return "no number"
    missing = {label for label in re.findall(r"{{(\w+)}}", target["legendFormat"])
               if not all(label in one["metric"] for one in series)}
    return f"no label {', '.join(missing)}" if missing else None


class Source(Api):
    """A Prometheus, as Grafana asks it."""

    def __init__(self, url):
        self.url = url

    def of_span(self, path, **arguments):
        end = time.time()
        return self.call(f"/api/v1/{path}", start=end - SPAN_S, end=end, **arguments)

    def label_values(self, metric, label):
        return self.of_span(f"label/{label}/values", **{"match[]": metric})

    def series(self, expression):
        return self.of_span("query_range", query=expression, step=STEP_S)["result"]


def ask(url, limit_s, paths):
    """Asks until no panel is empty; what still is then, is printed."""
    prometheus, deadline = Source(url), time.monotonic() + limit_s
    dashboards = [Dashboard(path) for path in paths]
    while True:
        problems = [text for one in dashboards for text in one.problems(prometheus, MAY_BE_ZERO.get(one.uid, ()))]
        if not problems or time.monotonic() > deadline:
            break
        time.sleep(1)
    for text in problems:
        print(f"FAILED: {text}", file=sys.stderr)
    return 1 if problems else 0


def main():
    if sys.argv[1:2] == ["ask"] and len(sys.argv) > 4:
        return ask(sys.argv[2], float(sys.argv[3]), sys.argv[4:])
    if sys.argv[1:2] != ["form"]:
        sys.exit(__doc__)
    for path in sys.argv[2:]:
        text = form(Dashboard(path).json) + "\n"
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
