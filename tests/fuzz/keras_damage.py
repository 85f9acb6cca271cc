"""Damage to a Keras reference: its archive, its HDF5 file, its folder, or the layers that these describe."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from tests.fuzz.archive_damage import damaged_folder, damaged_zip, members, packed
from tests.fuzz.json_damage import damaged as damaged_json
from tests.fuzz.json_damage import damaged_text, deep
from tests.fuzz.tflite_damage import Rng, damaged_bytes, pick

BASE64_OF_A_FUNCTION = "4wEAAAAAAAAAAAAAAAIAAAADAAAA"
LAMBDAS: tuple[dict[str, Any], ...] = (
    {
        "class_name": "Lambda",
        "config": {
            "name": "code",
            "function": [BASE64_OF_A_FUNCTION, None, None],
            "function_type": "lambda",
            "arguments": {},
        },
    },
    {
        "class_name": "TimeDistributed",
        "config": {
            "name": "wrap",
            "layer": {
                "class_name": "Lambda",
                "config": {"name": "code", "function": [BASE64_OF_A_FUNCTION, None, None], "function_type": "lambda"},
            },
        },
    },
    {"module": "os", "class_name": "system", "config": {"name": "code"}, "registered_name": None},
    {"class_name": "TFOpLambda", "config": {"name": "code", "function": "io.write_file"}},
)


def damaged(files: Path, at: Path, rng: Rng) -> tuple[str, Path, str]:
    """What was done, the damaged reference, and the net it is of."""
    kind = pick(rng, ("keras", "keras", "keras", "h5", "h5", "h5", "folder", "special"))
    net = pick(rng, ("dense", "dense", "plain", "several_ends")) if kind == "h5" else "dense"
    if kind == "keras":
        return (*_archive(files / "dense.keras", at.with_suffix(".keras"), rng), net)
    if kind == "h5":
        return (*_hdf5(files / f"{net}.h5", at.with_suffix(".h5"), rng), net)
    if kind == "folder":
        target = at.with_suffix(".saved")
        return f"folder: {damaged_folder(files / 'dense_saved', target, rng)}", target, net
    return (*_special(at, rng), net)


def _archive(source: Path, target: Path, rng: Rng) -> tuple[str, Path]:
    content = source.read_bytes()
    if rng.random() < 0.4:
        how, made = damaged_zip(content, rng)
    else:
        entries = members(content)
        name = pick(rng, ("config.json", "config.json", "metadata.json"))
        how, text = _config(entries[name].decode(), rng)
        how, made = f"{name} {how}", packed({**entries, name: text.encode(errors="surrogatepass")})
    target.write_bytes(made)
    return f"keras: {how}", target


def _hdf5(source: Path, target: Path, rng: Rng) -> tuple[str, Path]:
    if rng.random() < 0.35:
        target.write_bytes(damaged_bytes(source.read_bytes(), rng))
        return "h5: bytes", target
    import h5py

    shutil.copyfile(source, target)
    with h5py.File(target, "r+") as file:
        if rng.random() < 0.8:
            how, text = _config(str(file.attrs["model_config"]), rng)
            file.attrs["model_config"] = text.encode(errors="replace").replace(b"\x00", b" ")
            return f"h5 config: {how}", target
        name = pick(rng, [*file.attrs, *file["model_weights"]])
        if name in file.attrs:
            file.attrs[name] = pick(rng, (b"", b"\xff", 3, b"3.0.0", b"2.15.0"))
        else:
            del file["model_weights"][name]
        return f"h5: {name}", target


def _config(text: str, rng: Rng) -> tuple[str, str]:
    """A node changed, the text changed, layers in a loop, code in the place of a layer, or great depth."""
    how, document = (
        pick(rng, ("node",) * 5 + ("text", "loop", "loop", "code", "code", "deep", "other")),
        json.loads(text),
    )
    layers = document.get("config", {}).get("layers") if isinstance(document.get("config"), dict) else None
    if how == "text":
        return how, damaged_text(text, rng)
    if how == "deep":
        return how, pick(rng, ("[" * 100_000 + "]" * 100_000, json.dumps(deep(400)), '{"a":' * 50_000))
    if how == "other":
        return how, pick(rng, ("null", "[]", "3", '""', "{}", '"x"', "\ud800", "[[]]", "true"))
    if how == "loop" and layers:
        one, two = pick(rng, layers), pick(rng, layers)
        written = json.dumps(one["inbound_nodes"]).replace(
            f'"{pick(rng, layers)["config"]["name"]}"', f'"{two["config"]["name"]}"'
        )
        one["inbound_nodes"] = json.loads(written)
        if rng.random() < 0.5:
            one["inbound_nodes"], two["inbound_nodes"] = two["inbound_nodes"], one["inbound_nodes"]
        return how, json.dumps(document)
    if how == "code" and layers:
        layer, code = pick(rng, layers), pick(rng, LAMBDAS)
        layer.update({**code, "config": {**code["config"], "name": layer["config"]["name"]}})
        return how, json.dumps(document)
    return damaged_json(document, rng)


def _special(at: Path, rng: Rng) -> tuple[str, Path]:
    import os

    how, target = (
        pick(rng, ("pipe", "loop", "zero", "empty folder", "empty")),
        at.with_suffix(pick(rng, (".h5", ".keras"))),
    )
    if how == "pipe":
        os.mkfifo(target)
    elif how == "empty folder":
        target.mkdir()
    elif how == "empty":
        target.touch()
    else:
        target.symlink_to({"loop": target.name, "zero": "/dev/zero"}[how])
    return f"special: {how}", target
