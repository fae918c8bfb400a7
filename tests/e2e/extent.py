# SPDX-License-Identifier: Apache-2.0
"""Writes an extent as a Prometheus has it in its allocations (prometheus/remotefile/header.go): a
header, and the bytes of the standard input behind it.

python3 extent.py [version=N] [kind=N] [number=N] [part=N] [flags=N] [index=N] [base=N] [epoch=N] [extra=N]
python3 extent.py manifest MINTIME MAXTIME SIZE...   a block's manifest, of files of these sizes
"""

import base64
import json
import struct
import sys


def crc32c(data):
    crc = 0xFFFFFFFF
    for byte in data:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
    return crc ^ 0xFFFFFFFF


def extent(data, version=1, kind=2, number=0, part=0, flags=0, index=0, base=0, epoch=1, extra=0):
    slot = struct.pack("<4sBBHIIIIQQIIQ4x", b"MaSg", version, kind, flags, number, part, index, 1, base, epoch,
                       len(data), crc32c(data), extra)
    return bytes(64) + slot + struct.pack("<I", crc32c(slot)) + data


def manifest(mint, maxt, *sizes):
    meta = json.dumps({"ulid": "01HF", "minTime": mint, "maxTime": maxt}).encode()
    return json.dumps({"version": 1, "files": [{"name": "f", "size": size} for size in sizes],
                       "meta": base64.b64encode(meta).decode(), "tombstones": None}).encode()


if sys.argv[1:2] == ["manifest"]:
    out = manifest(*map(int, sys.argv[2:]))
else:
    out = extent(sys.stdin.buffer.read(), **{k: int(v) for k, v in (a.split("=") for a in sys.argv[1:])})
sys.stdout.buffer.write(out)
