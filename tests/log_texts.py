#!/usr/bin/env python3
"""Holds docs/log.md against the source: each text that is logged as a warning or an error has an entry, and each entry
its text.

    log_texts.py SOURCE LOG.MD     exit: 1 when something is missing, which it prints

An entry's words stand in backticks in the first column of a table; each has to be a part of a text, in which … stands
for each conversion. A heading says whose texts the tables below it are of.
"""
import glob
import os
import re
import sys

# The beginning of a heading of the file: the folders of the source.
PARTS = {"maasd": "auth base daemon http lend rdma slab tls", "libmaas": "client", "Prometheus": "go prometheus"}

STRING = r'"(?:[^"\\]|\\.)*"'
LITERAL = rf"((?:PREFIX\s+)?{STRING}(?:{STRING}|\s|PRI[a-z]\d+)*)"
# What logs, and the text behind it. The level of log_limited() is that of its limit.
CALL = re.compile(rf"\b(?:log_(?:err|warn)\(|maas_log\(MAAS_LOG_(?:ERR|WARN),)\s*(?:{LITERAL})?")
LIMIT = re.compile(r"(\w+)(?:\[\])? =\s*(?:MAAS_RATELIMIT\(MAAS_LOG_(\w+),|\{\s*\[\w+\] = (REFUSAL)\()")
LIMITED = re.compile(rf"\blog_limited\(&(\w+)(?:\[\w+\])?,\s*(?:{LITERAL})?")
GO = re.compile(rf"[lL]ogger\.(?:Warn|Error|Log)\((?:({STRING})(\+?))?")
# Texts that reach the log by way of a variable.
CARRIED = {
    "base/log.c": rf"snprintf\(text, sizeof\(text\), {LITERAL}",
    "base/ratelimit.c": rf"maas_log\(limit->level, {LITERAL}",
    "daemon/memory.c": rf"\bfind\(fit, -\w+,\s*{LITERAL}",
    "daemon/options_env.c": rf"snprintf\(advice, MAASD_OPTIONS_ERROR,\s*{LITERAL}",
    "daemon/tls.c": rf"describe\(state, MAAS_LOG_ERR, {LITERAL}",
    "http/peers.c": rf"(?:what =|[?:])\s*{LITERAL}",
}
CONVERSION = re.compile(r"%[-#0-9.]*(?:\*|\.\*)*(?:ll|z|l|h)*[a-zA-Z]")


def text_of(literal):
    """The text of a string literal of C or Go, … for its conversions."""
    if not literal:
        raise ValueError("a text that is no literal")
    joined = "".join(piece[1:-1] for piece in re.findall(STRING, literal)).replace('\\"', '"')
    joined = re.sub(r"%(?=\s|$|[^-#0-9.*a-zA-Z])", "…", joined)  # in front of a PRIu64
    return re.sub(r"…+", "…", CONVERSION.sub("…", joined))


def is_carrier(text):
    """It has no words of its own."""
    return not re.search(r"[a-z]{2,}", re.sub(r"\w+=…", "", text))


def texts_of_c(path, source):
    levels = {name: level or "WARN" for name, level, _ in LIMIT.findall(source)}
    literals = [found[1] for found in CALL.finditer(source)]
    literals += [found[2] for found in LIMITED.finditer(source) if levels[found[1]] in ["ERR", "WARN"]]
    texts = {text_of(literal) for literal in literals}
    carriers = {text for text in texts if is_carrier(text)}
    carried = {text_of(found[1]) for found in re.finditer(CARRIED.get(path, "(?!)"), source)}
    if bool(carriers) > bool(carried) or path in CARRIED and not carried:
        raise ValueError(f"the words of {carriers or 'a text'} are not where CARRIED says")
    return (texts - carriers) | carried


def texts_of_go(source):
    return {text_of(text) + ("…" if more else "") for text, more in GO.findall(source)}


def texts_of(root, folders):
    """Each text of these folders, and a file that has it."""
    texts = {}
    for folder in folders.split():
        for name in glob.glob(f"{root}/{folder}/**", recursive=True):
            path = os.path.relpath(name, root)
            if not path.endswith((".c", ".go", ".go.txt")) or re.search(r"_test\.go|/test", path):
                continue
            with open(name, encoding="utf-8") as file:
                source = file.read()
            try:
                found = texts_of_c(path, source) if path.endswith(".c") else texts_of_go(source)
            except (KeyError, ValueError) as err:
                sys.exit(f"{path}: cannot tell what it logs: {err}")
            texts.update({text: path for text in found})
    return texts


def entries_of(path):
    """The words of each part."""
    entries = {part: [] for part in PARTS}
    part = None
    with open(path, encoding="utf-8") as file:
        for line in file:
            if line.startswith("## "):
                part = next((part for part in PARTS if line[3:].startswith(part)), None)
            elif line.startswith("| `"):
                entries[part] += re.findall(r"`(.*?)`", line.split(" | ")[0])
    return entries


def main():
    root, page = sys.argv[1:]
    wrong = []
    entries = entries_of(page)
    for part, folders in PARTS.items():
        texts = texts_of(root, folders)
        if not texts:
            wrong.append(f"{part}: no texts in {folders}")
        wrong += [f"{path}: docs/log.md has no entry for: {text}" for text, path in texts.items()
                  if not any(words in text for words in entries[part])]
        wrong += [f"docs/log.md, {part}: nothing logs: {words}" for words in entries[part]
                  if len(words) < 8 or not any(words in text for text in texts)]
        if len(entries[part]) != len(set(entries[part])):
            wrong.append(f"docs/log.md, {part}: an entry stands twice")
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
