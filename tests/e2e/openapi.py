"""The file docs/openapi.yaml, a live server, and a client that looks each answer up in the file."""

import http.client
import json
import os
import re
import struct
import subprocess
import sys

import jsonschema
import yaml

JSON = {"Content-Type": "application/json"}
NOBODY = "00000000-0000-8000-8000-000000000000"

errors = []


def check(condition, text):
    if not condition:
        errors.append(text)


def finish(summary):
    """Ends the program, with 1 where a check did not hold."""
    for text in errors:
        print(f"FAILED: {text}")
    print(summary)
    sys.exit(1 if errors else 0)


def frame(value, data):
    """The body of POST /data/write: JSON, and the bytes."""
    text = json.dumps(value, separators=(",", ":")).encode()
    return struct.pack("<I", len(text)) + text + data


class Server:
    def __init__(self, arguments):
        environment = {k: v for k, v in os.environ.items() if not k.startswith("MAAS_")}
        self.process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.PIPE, env=environment, text=True)
        line = self.process.stderr.readline()
        found = re.match(r"Listening on https?://(.*):(\d+)$", line)
        if not found:
            self.stop()
            sys.exit(f"{arguments[0]} says: {line}{self.process.stderr.read()}")
        self.address = (found[1], int(found[2]))

    def order(self, text):
        """To a KEYED_SERVER."""
        self.process.stdin.write(text + "\n")
        self.process.stdin.flush()
        assert self.process.stdout.readline() == "ok\n", f"the server does not take {text}"

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.stop()

    def stop(self):
        self.process.kill()
        self.process.wait()

    def send(self, method, path, headers=None, body=None):
        """Sends exactly these headers and this body, and returns (status, headers, body)."""
        connection = http.client.HTTPConnection(*self.address, timeout=30)
        headers = dict(headers or {})
        connection.putrequest(method, path, skip_host="Host" in headers, skip_accept_encoding=True)
        if body is not None and not {"Content-Length", "Transfer-Encoding"} & set(headers):
            headers["Content-Length"] = str(len(body))
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders()
        if body:
            try:
                connection.send(body)
            except OSError:
                pass  # answered before the body was read
        response = connection.getresponse()
        data = response.read()
        connection.close()
        return response.status, response.headers, data

    def json(self, method, path, value, headers=None):
        """What an answer says that has to be 200."""
        status, _, data = self.send(method, path, JSON | (headers or {}), json.dumps(value).encode())
        assert status == 200, f"{method} {path} {value}: {status} {data}"
        return json.loads(data) if data else None


class Spec:
    def __init__(self, path):
        self.path = path
        with open(path, encoding="utf-8") as file:
            self.document = yaml.safe_load(file)
        self.resolver = jsonschema.RefResolver("", self.document)
        self.operations = {}
        for route, item in self.document["paths"].items():
            for method, operation in item.items():
                if method != "parameters":
                    self.operations[operation["operationId"]] = (route, method.upper(), operation)

    def resolve(self, node):
        while "$ref" in node:
            _, node = self.resolver.resolve(node["$ref"])
        return node

    def complaint(self, schema, value):
        """What is wrong with the value; None when it is as described."""
        validator = jsonschema.Draft202012Validator(schema, resolver=self.resolver)
        for error in validator.iter_errors(value):
            return f"{error.json_path}: {error.message}"
        return None

    def allowed(self, route):
        methods = [m.upper() for m in self.document["paths"][route] if m != "parameters"]
        return set(methods) | ({"HEAD"} if "GET" in methods else set())

    def request_schema(self, name):
        body = self.operations[name][2].get("requestBody")
        return body and body["content"].get("application/json", {}).get("schema")


class Checker:
    """Sends requests, and looks each answer up in the file."""

    def __init__(self, server, spec):
        self.server, self.spec = server, spec
        self.met, self.codes = set(), set()

    def call(self, name, wanted, code=None, path=None, headers=None, body=None, library=False):
        """The call `name`, whose answer has to be `wanted`, with the error `code` if it is one. With
        `library`, libmicrohttpd may give it, before us: with a page of its own, from 1.0 on."""
        route, method, operation = self.spec.operations[name]
        path = path or route
        if isinstance(body, (dict, list)):
            body = json.dumps(body).encode()
            headers = headers or JSON
        status, got, data = self.server.send(method, path, headers, body)
        what = f"{name}: {method} {path} {(body or b'')[:100]!r}"
        check(status == wanted, f"{what}: wanted {wanted}, got {status} {data[:300]!r}")
        if library and "Content-Type" not in got:
            self.codes.add(code)
            return data
        self.look_up(what, name, operation["responses"], status, got, data)
        if code:
            check(self.code_of(data) == code, f"{what}: wanted {code}, got {data[:300]!r}")
        return data

    def code_of(self, data):
        try:
            code = json.loads(data)["error"]["code"]
        except (ValueError, KeyError, TypeError):
            return None
        self.codes.add(code)
        return code

    def look_up(self, what, name, responses, status, headers, data):
        key = str(status) if str(status) in responses else "default"
        self.met.add((name, key))
        if key == "default":
            check(status in (400, 401, 403, 429, 431, 500, 503), f"{what}: {status} is not described")
        response = self.spec.resolve(responses[key])
        for header, rule in response.get("headers", {}).items():
            complaint = self.spec.complaint(rule["schema"], headers.get(header))
            check(not complaint, f"{what}: {status}: header {header}: {complaint}")
        if "content" not in response:
            check(not data, f"{what}: {status}: the body is not empty: {data[:300]!r}")
            return
        kind = headers.get("Content-Type", "").split(";")[0]
        check(kind in response["content"], f"{what}: {status}: Content-Type is {kind}")
        if kind == "application/json":
            schema = response["content"].get(kind, {}).get("schema", False)
            complaint = self.spec.complaint(schema, json.loads(data))
            check(not complaint, f"{what}: {status}: {complaint}: {data[:300]!r}")

    def ok(self, name, path=None, body=None, **other):
        """A good request, which has to fit the file, too."""
        schema = self.spec.request_schema(name)
        if isinstance(body, dict) and schema:
            complaint = self.spec.complaint(schema, body)
            check(not complaint, f"{name}: the file refuses {body}: {complaint}")
        data = self.call(name, 200, path=path, body=body, **other)
        return json.loads(data) if data[:1] == b"{" else data
