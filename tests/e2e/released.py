"""What a release promises, in a form that can be compared: the HTTP API, the metrics, the options of the programs and
the JSON of the command. Each `..._of` derives it from what there is now; each `..._breaches` says what is taken away
from those who rely on what was there then. docs/upgrading.md has the rules. Also the files that hold it, and memory
files in archives.
"""

import json
import os
import re
import subprocess

LIMITS = ["minimum", "maximum", "minItems", "maxItems", "pattern"]


def kind_of(value):
    """The JSON type of a value. Readers need not tell 1 from 1.0."""
    for kind, python in [("null", type(None)), ("boolean", bool), ("number", (int, float)), ("string", str),
                         ("array", list)]:
        if isinstance(value, python):
            return kind
    return "object"


# ---- the HTTP API, from docs/openapi.yaml

def rule_of(schema, always):
    """What a schema says of a value, without the fields in it."""
    if "const" in schema:
        kinds = [kind_of(schema["const"])]
    elif "enum" in schema:
        kinds = {kind_of(value) for value in schema["enum"]}
    else:
        kinds = schema.get("type", [])
    rule = {"always": always, "types": [kinds] if isinstance(kinds, str) else sorted(kinds)}
    rule |= {word: schema[word] for word in LIMITS if word in schema}
    if "enum" in schema:
        rule["values"] = sorted(value for value in schema["enum"] if value is not None)
    return rule


def fields_of(spec, schema, always=True, path=""):
    """The fields of a schema by path, such as `.a[].b`, and whether each is always there. Of several objects that
    there may be, each has its name in the path."""
    schema, name = spec.resolve(schema), schema.get("$ref", "").rpartition("/")[2]
    if name == "Error":  # It is the same everywhere, and stands once.
        return {path: {"always": always, "types": ["object"], "is": name}}
    if "oneOf" in schema:
        return fields_of_one(spec, schema["oneOf"], always, path)
    fields = {path: rule_of(schema, always)}
    if "items" in schema:
        fields |= fields_of(spec, schema["items"], always, path + "[]")
    for key, inner in schema.get("properties", {}).items():
        fields |= fields_of(spec, inner, key in schema.get("required", []), f"{path}.{key}")
    return fields


def is_less(spec, branch, other):
    less, more = (spec.resolve(schema).get("properties", {}) for schema in (branch, other))
    return 0 < len(less) < len(more) and less.items() <= more.items()


def fields_of_one(spec, branches, always, path):
    """The fields where there is one of several schemas. An object that is another one with less in it is for those who
    may see less, and says nothing of the others."""
    branches = [branch for branch in branches if not any(is_less(spec, branch, other) for other in branches)]
    objects = sum(spec.resolve(branch).get("type") == "object" for branch in branches)
    fields = {}
    for branch in branches:
        name = branch.get("$ref", "").rpartition("/")[2]
        for key, rule in fields_of(spec, branch, always, path + (f"<{name}>" if objects > 1 else "")).items():
            if key in fields:
                rule["types"] = sorted({*rule["types"], *fields[key]["types"]})
            fields[key] = fields.get(key, {}) | rule
    return fields


def body_of(spec, body):
    """A body of a request or an answer: its types of content, and the fields where it is JSON."""
    content = body.get("content", {})
    schema = content.get("application/json", {}).get("schema")
    return {"content": sorted(content), "fields": fields_of(spec, schema) if schema else {}}


def call_of(spec, route, operation):
    call = {"parameters": {}, "answers": {}}
    shared = spec.document["paths"][route].get("parameters", [])
    for parameter in map(spec.resolve, [*shared, *operation.get("parameters", [])]):
        call["parameters"][f"{parameter['in']} {parameter['name']}"] = rule_of(
            spec.resolve(parameter.get("schema", {})), parameter.get("required", False))
    if "requestBody" in operation:
        body = operation["requestBody"]
        call["request"] = {"always": body["required"]} | body_of(spec, body)
    for status, answer in operation["responses"].items():
        answer = spec.resolve(answer)
        call["answers"][status] = {"headers": sorted(answer.get("headers", {}))} | body_of(spec, answer)
    return call


def http_of(spec):
    calls = {f"{method} {route}": call_of(spec, route, operation)
             for route, method, operation in spec.operations.values()}
    return calls | {"Error": {"answers": {"": {"headers": [], "content": [], "fields": fields_of(
        spec, spec.document["components"]["schemas"]["Error"])}}, "parameters": {}}}


def gone(what, old, new):
    """A sentence for each that there was and is not."""
    return [f"{what}: {name} is gone" for name in sorted(set(old) - set(new), key=str)]


def taken_breaches(what, old, new):
    """What a server took and takes no more: fields of requests, and parameters."""
    found = gone(what, old, new)
    for name, rule in new.items():
        before, inside = old.get(name), name.rpartition(".")[0]
        if rule["always"] and not (before and before["always"]) and (not inside or inside in old):
            found.append(f"{what}: {name} was not needed")
        if before:
            found += narrowed(f"{what}: {name}", before, rule)
    return found


def narrowed(what, before, rule):
    """The values that were taken and are not."""
    found = gone(f"{what}: type", before["types"], rule["types"])
    if "values" in rule:
        found += gone(f"{what}: value", before.get("values", ["any other"]), rule["values"])
    for word in set(LIMITS) & set(rule):
        was, now = before.get(word), rule[word]
        wider = was is not None and word != "pattern" and (now <= was if word.startswith("min") else now >= was)
        if now != was and not wider:
            found.append(f"{what}: {word} was {was}, and is {now}")
    return found


def given_breaches(what, old, new):
    """What was in an answer, and is not."""
    found = gone(what, old, new)
    for name in sorted(set(old) & set(new)):
        if old[name]["always"] and not new[name]["always"]:
            found.append(f"{what}: {name} was always there")
        for kind in sorted(set(new[name]["types"]) - set(old[name]["types"])):
            found.append(f"{what}: {name} was never {kind}")
        found += gone(f"{what}: {name}: value", old[name].get("values", []), new[name].get("values", []))
    return found


def call_breaches(what, old, new):
    found = taken_breaches(what, old["parameters"], new["parameters"])
    request = new.get("request")
    if "request" in old and request is None:
        found.append(f"{what}: takes no body")
    elif request and request["always"] and not old.get("request", {}).get("always"):
        found.append(f"{what}: needed no body")
    if "request" in old and request:
        found += gone(f"{what}: body", old["request"]["content"], request["content"])
        found += taken_breaches(f"{what}: body", old["request"]["fields"], request["fields"])
    found += gone(f"{what}: answer", old["answers"], new["answers"])
    for status in sorted(set(old["answers"]) & set(new["answers"])):
        before, answer = old["answers"][status], new["answers"][status]
        found += gone(f"{what}: {status}: header", before["headers"], answer["headers"])
        found += gone(f"{what}: {status}: body", before["content"], answer["content"])
        found += given_breaches(f"{what}: {status}", before["fields"], answer["fields"])
    return found


def http_breaches(old, new):
    found = gone("HTTP", old, new)
    for name in sorted(set(old) & set(new)):
        found += call_breaches(name, old[name], new[name])
    return found


# ---- metrics

def metrics_of(*pages):
    """Type and labels of each metric in pages of /metrics; null for labels where none had a sample."""
    metrics = {}
    for line in "\n".join(pages).splitlines():
        head = re.match(r"# TYPE (\S+) (\S+)", line)
        if head:
            name = head[1]
            metrics.setdefault(name, {"type": head[2], "labels": None})
        elif line and not line.startswith("#"):
            metrics[name]["labels"] = sorted(set(re.findall(r'(\w+)="', line)) - {"le"})
    return metrics


def metrics_breaches(old, new):
    found = gone("metrics", old, new)
    for name in sorted(set(old) & set(new)):
        for word in ["type", "labels"]:
            was, now = old[name][word], new[name][word]
            if was != now and was is not None and now is not None:
                found.append(f"metrics: {name}: {word} was {was}, and is {now}")
    return found


# ---- options, from --help

def options_of(text):
    """Of each option what its value is: null for a switch, choices where these are all that it takes."""
    options = {}
    for name, value in re.findall(r"^  (--[a-z-]+)(?: (\S+))?(?:  |\n|$)", text, re.M):
        options[name] = value.split("|") if "|" in value else value and "VALUE" or None
    return options


def options_breaches(old, new):
    found = gone("program", old, new)
    for program in sorted(set(old) & set(new)):
        found += gone(program, old[program], new[program])
        for name in sorted(set(old[program]) & set(new[program])):
            was, now = old[program][name], new[program][name]
            if bool(was) != bool(now):
                found.append(f"{program}: {name}: takes {now or 'no value'}, and took {was or 'none'}")
            elif isinstance(now, list):
                found += gone(f"{program}: {name}", was if isinstance(was, list) else ["any VALUE"], now)
    return found


# ---- JSON of the command

def paths_of(value, path="$"):
    """The JSON types of each field, by path; the elements of an array are in one."""
    paths = {path: {kind_of(value)}}
    inner = []
    if isinstance(value, dict):
        inner = [(f"{path}.{key}", each) for key, each in value.items()]
    elif isinstance(value, list):
        inner = [(f"{path}[]", each) for each in value]
    for name, each in inner:
        for below, kinds in paths_of(each, name).items():
            paths.setdefault(below, set()).update(kinds)
    return paths


def json_of(outputs):
    """By command what its JSON has in it."""
    return {command: {name: sorted(kinds) for name, kinds in paths_of(json.loads(text)).items()}
            for command, text in outputs.items()}


def json_breaches(old, new):
    found = gone("--json", old, new)
    for command in sorted(set(old) & set(new)):
        found += gone(f"maas {command} --json", old[command], new[command])
        for name in sorted(set(old[command]) & set(new[command])):
            was, now = ({*kinds[command][name]} - {"null"} for kinds in (old, new))
            if was and now - was:
                found.append(f"maas {command} --json: {name} was {sorted(was)}, and is {sorted(now)}")
    return found


# ---- files

def run(*command, **other):
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300, **other)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)}: {done.returncode} {done.stderr}")
    return done.stdout


def write_json(path, value):
    """One line for each name, so that one can read what changed."""
    lines = [f"{json.dumps(key)}: {json.dumps(value[key], sort_keys=True)}" for key in sorted(value)]
    with open(path, "w", encoding="ascii") as file:
        file.write("{\n" + ",\n".join(lines) + "\n}\n")


def read_json(*path):
    with open(os.path.join(*path), encoding="ascii") as file:
        return json.load(file)


def pack(directory, archive):
    """The memory file `memory` in the directory, with its table."""
    run("tar", "-C", directory, "--sparse", "--sort=name", "--mtime=@0", "--owner=0", "--group=0", "--numeric-owner",
        "-cJf", archive, "memory", "memory.slots", env=os.environ | {"XZ_OPT": "-9e"})


def unpack(archive, directory):
    """The path of the memory file."""
    run("tar", "-C", directory, "--no-same-owner", "-xJf", archive)
    for name in ["memory", "memory.slots"]:
        os.chmod(os.path.join(directory, name), 0o600)
    return os.path.join(directory, "memory")
