"""A dump as a serial console gives it: one line for each tensor, among lines of any other kind.

QDEBUG <sample> <tensor index> <dtype> <hex>
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from qdebug.graph.quantization import Array
from qdebug.models.dumps.entries import Contents, Entry, digest

MARK = b"QDEBUG "
LINE = re.compile(rb"^QDEBUG (\d{1,9}) (\d{1,9}) ([a-z]+\d*) ([0-9a-fA-F]*)\s*$")
START = re.compile(rb"^QDEBUG (\d{1,9}) (\d{1,9}) ")


def read_log(place: Path, content: bytes) -> Contents:
    """The tensors of a log. What a bad connection cut, mixed or doubled is told as damaged, and not believed."""
    found = Contents(str(place), "log", [], digest([content]))
    seen: dict[tuple[str, int], int] = {}
    for number, line in enumerate(content.splitlines(), 1):
        at = line.find(MARK)
        if at < 0:
            continue
        text = line[at:]
        start, whole = START.match(text), LINE.match(text)
        if start is None:
            found.notes.append(f"line {number} of the log is cut: it does not say which tensor it holds")
            continue
        key = start[2].decode(), int(start[1])
        if key in seen:
            found.damaged[key] = f"lines {seen[key]} and {number} of the log both hold it: the connection doubles lines"
            continue
        seen[key] = number
        if whole is None or len(whole[4]) % 2:
            found.damaged[key] = f"line {number} of the log is cut or mixed with another one"
            continue
        found.entries.append(
            Entry(key[0], key[1], bytes.fromhex(whole[4].decode()), f"line {number}", whole[3].decode())
        )
    kept = [entry for entry in found.entries if (entry.tensor, entry.sample) not in found.damaged]
    found.entries[:] = kept
    return found


def write_log(place: Path, found: Mapping[tuple[int, int], Array]) -> dict[Path, bytes]:
    """The log that holds (tensor, sample), by path."""
    lines = [f"QDEBUG {sample} {tensor} {array.dtype.name} {_hex(array)}" for (tensor, sample), array in found.items()]
    return {place: ("\n".join(lines) + "\n").encode()}


def _hex(array: Array) -> str:
    return array.astype(array.dtype.newbyteorder("<")).tobytes().hex()
