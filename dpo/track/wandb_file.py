"""Reads back what Weights & Biases' offline files hold, so that a resumed run does not tell the same steps again.

A `.wandb` file is a LevelDB log: blocks of 32 KiB behind a header of 7 bytes, records of protobuf messages in them, cut
where a block ends (github.com/google/leveldb, doc/log_format.md).
"""

import json
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MAGIC, FILE_HEADER = b":W&B", 7
BLOCK, RECORD_HEADER = 32768, 7  # a record's: checksum (4 bytes), length (2), kind (1)
WHOLE, LAST = 1, 4  # kinds after which a message is complete

Told = dict[int, frozenset[str]]  # names of the numbers of each step


def messages(path: Path) -> Iterator[Any]:
    """The messages of a file in their order, as far as they are whole: a kill may have left half a record."""
    from wandb.proto import wandb_internal_pb2

    protocol: Any = wandb_internal_pb2  # its names are made at run time
    data, at, parts = path.read_bytes(), FILE_HEADER, b""
    if not data.startswith(MAGIC):
        return
    while at + RECORD_HEADER <= len(data):
        if (room := BLOCK - at % BLOCK) < RECORD_HEADER:
            at += room
            continue
        length, kind = struct.unpack("<HB", data[at + 4 : at + RECORD_HEADER])
        at += RECORD_HEADER + length
        if at > len(data):
            return
        parts += data[at - length : at]
        if kind in (WHOLE, LAST):
            yield protocol.Record.FromString(parts)
            parts = b""


def values(items: Any) -> dict[str, Any]:
    """The entries of a configuration, a history row or a summary; one of several parts, as a histogram, nested."""
    found: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        place = found
        for name in outer:
            place = place.setdefault(name, {})
        place[last] = json.loads(item.value_json)
    return found


def told(folder: Path, run_id: str) -> Told:
    """What the run's offline files in `folder` hold."""
    found: Told = {}
    same: dict[frozenset[str], frozenset[str]] = {}  # most rows have the same names: one set serves them all
    for path in folder.glob(f"wandb/offline-run-*-{run_id}/run-{run_id}.wandb"):
        for message in messages(path):
            if message.WhichOneof("record_type") == "history":
                row = values(message.history.item)
                names = frozenset((*found.get(row["_step"], ()), *row))
                found[row["_step"]] = same.setdefault(names, names)
    return found
