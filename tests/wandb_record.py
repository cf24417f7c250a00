"""Read W&B's offline files."""

import json
import struct
from pathlib import Path

from wandb.proto.wandb_internal_pb2 import Record

TIMES = {"seconds", "steps_per_second", "_runtime", "_timestamp"}


def history(file: Path) -> list[dict]:
    """The rows of an offline W&B record, one per epoch, without their times and media."""
    found = []
    for content in leveldb_records(file.read_bytes()):
        record = Record.FromString(content)
        if record.HasField("history"):
            numbers = [item for item in record.history.item if len(item.nested_key) < 2]  # others are of media
            items = {item.key or item.nested_key[0]: json.loads(item.value_json) for item in numbers}
            found.append({key: items[key] for key in sorted(items.keys() - TIMES)})
    return found


def records(file: Path) -> list[Record]:
    """Everything in an offline W&B record."""
    return [Record.FromString(content) for content in leveldb_records(file.read_bytes())]


def leveldb_records(content: bytes) -> list[bytes]:
    """The records of a W&B file: 7 bytes, then LevelDB's log format with blocks of 32 KiB."""
    records, parts, place = [], [], 7
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:
            place += 32768 - place % 32768  # too small for another header
            continue
        length, kind = struct.unpack_from("<HB", content, place + 4)
        parts.append(content[place + 7 : place + 7 + length])
        place += 7 + length
        if kind in (1, 4):  # a complete record, or its last part
            records.append(b"".join(parts))
            parts = []
    return records
