"""Damage to zip archives (.npz, .keras) and to folders (SavedModel)."""

from __future__ import annotations

import io
import struct
import zipfile
from collections.abc import Mapping
from pathlib import Path

from tests.fuzz.tflite_damage import Rng, damaged_bytes, pick

METHOD = 8
"""Offset of the compression method in a local header; in the central directory it is two bytes later."""


def members(content: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(entries: Mapping[str, bytes], method: int = zipfile.ZIP_STORED) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w", method) as archive:
        for name, content in entries.items():
            archive.writestr(name, content)
    return made.getvalue()


def damaged_zip(content: bytes, rng: Rng) -> tuple[str, bytes]:
    """What was done, and the archive with one member or header that is not as it was."""
    how = pick(
        rng,
        (
            "bytes",
            "bytes",
            "member",
            "member",
            "gone",
            "empty",
            "method",
            "renamed",
            "doubled",
            "bomb",
            "size",
            "encrypted",
            "deflated",
        ),
    )
    entries = members(content)
    name = pick(rng, entries)
    if how == "bytes":
        return how, damaged_bytes(content, rng)
    if how == "member":
        return f"{how} {name}", packed({**entries, name: damaged_bytes(entries[name], rng)})
    if how == "gone":
        return f"{how} {name}", packed({key: value for key, value in entries.items() if key != name})
    if how == "empty":
        return f"{how} {name}", packed({**entries, name: b""})
    if how == "renamed":
        new = pick(rng, ("../../x", "/etc/x", "x" * 5000, "\x1b[2J", "é", f"{name}/", name.upper()))
        return f"{how} {name}", packed({new if key == name else key: value for key, value in entries.items()})
    if how == "doubled":
        return how, packed({**entries, f"copy/{name}": entries[name]}) + content
    if how == "bomb":
        return f"{how} {name}", packed({**entries, name: entries[name] + bytes(1 << 28)}, zipfile.ZIP_DEFLATED)
    if how == "deflated":
        return how, packed(entries, pick(rng, (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)))
    return how, _header(content, how, rng)


def _header(content: bytes, how: str, rng: Rng) -> bytes:
    """Another compression method, sizes, or the flag of encryption, in every header or in some."""
    data = bytearray(content)
    value = pick(rng, (1, 9, 14, 95, 99, 2**16 - 1))
    for mark, shift in ((b"PK\x03\x04", 0), (b"PK\x01\x02", 2)):
        at = data.find(mark)
        while at >= 0:
            if rng.random() < 0.8:
                if how == "method":
                    struct.pack_into("<H", data, at + METHOD + shift, value)
                elif how == "encrypted":
                    data[at + 6 + shift] |= 1
                else:
                    struct.pack_into(
                        "<I", data, at + 18 + shift + pick(rng, (0, 4)), pick(rng, (0, 5, 2**31, 2**32 - 1))
                    )
            at = data.find(mark, at + 4)
    return bytes(data)


def damaged_folder(source: Path, target: Path, rng: Rng) -> str:
    """Copy a folder with one file of it damaged, gone, or a folder in its place; what was done."""
    import shutil

    shutil.copytree(source, target)
    file = pick(rng, sorted(path for path in target.rglob("*") if path.is_file()))
    how, held = pick(rng, ("bytes", "bytes", "bytes", "gone", "empty", "folder", "text")), file.read_bytes()
    file.unlink()
    if how == "folder":
        file.mkdir()
        (file / "keep").touch()
    elif how != "gone":
        file.write_bytes({"bytes": damaged_bytes(held or b"x", rng), "empty": b"", "text": b"{}" * 50}[how])
    return f"{how} {file.relative_to(target)}"
