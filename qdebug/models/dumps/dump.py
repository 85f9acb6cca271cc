"""A dump that was held against the model that it is of: codes by tensor and sample."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

import numpy as np

from qdebug.errors import InputError
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.models.dumps import arrays, layer_tool, log, raw
from qdebug.models.dumps.entries import Contents, read_bytes
from qdebug.models.dumps.fit import fit

FORMATS = {
    "npz": "an .npz of arrays by tensor number",
    "npy": "a folder of .npy files by tensor number",
    "raw": "a folder of raw binaries with a manifest.json",
    "log": "a text log as a serial console gives it",
    "tflm": "the flatbuffer of TFLM's layer_by_layer_output_tool",
}
NOT_HELD = "the dump does not hold this tensor"


@dataclass(frozen=True, eq=False)
class Dump:
    """What a device computed."""

    source: str
    format: str
    sha256: str
    tensors: Mapping[Key, Mapping[int, Array]]
    """Tensor -> sample -> what it holds, in the file's shape."""
    damaged: Mapping[Key, str] = field(default_factory=dict)
    """Tensors that the dump was to hold, and why they are not believed."""
    notes: tuple[str, ...] = ()

    @cached_property
    def samples(self) -> tuple[int, ...]:
        """Numbers of all samples that any tensor is held for."""
        return tuple(sorted({sample for held in self.tensors.values() for sample in held}))

    def complete(self, keys: Sequence[Key]) -> tuple[int, ...]:
        """The samples that all of these tensors are held for."""
        return tuple(sample for sample in self.samples if all(sample in self.tensors.get(key, {}) for key in keys))

    def lacks(self, key: Key, samples: Sequence[int]) -> str | None:
        """Why a tensor cannot be read on all of these samples; `None` where it can."""
        if key in self.damaged:
            return self.damaged[key]
        held = self.tensors.get(key)
        if held is None:
            return NOT_HELD
        count = sum(sample in held for sample in samples)
        return None if count == len(samples) else f"the dump holds this tensor for {count} of {len(samples)} samples"

    def read(self, key: Key, samples: Sequence[int]) -> list[Array]:
        """A tensor on each of these samples. Raises KeyError where it is not held."""
        return [self.tensors[key][sample] for sample in samples]

    def only(self, samples: Sequence[int]) -> Dump:
        """The same with these samples alone."""
        wanted = set(samples)
        kept = {
            key: {sample: array for sample, array in held.items() if sample in wanted}
            for key, held in self.tensors.items()
        }
        return replace(self, tensors={key: held for key, held in kept.items() if held})


def read_dump(place: str, graph: Graph) -> Dump:
    """Read a dump of whatever format, and hold it against the model. Raises InputError: nothing of it is guessed."""
    contents = _contents(Path(place), graph)
    if not contents.entries and not contents.damaged:
        raise InputError(
            f"--dump {place}: it holds no tensor; give an .npz or folder of arrays, raw binaries with a "
            "manifest.json, a log with QDEBUG lines, or the file of layer_by_layer_output_tool"
        )
    tensors, damaged = fit(contents, graph)
    if not tensors:
        raise InputError(
            f"--dump {place}: it holds no whole tensor that the file computes ("
            f"{next(iter(damaged.values()), 'constants alone')})"
        )
    return Dump(contents.source, contents.format, contents.sha256, tensors, damaged, tuple(contents.notes))


def _contents(place: Path, graph: Graph) -> Contents:
    if not place.exists():
        raise InputError(f"--dump {place}: no such file or folder")
    if place.is_dir():
        return raw.read_raw(place) if (place / raw.MANIFEST).exists() else arrays.read_folder(place)
    if place.suffix == ".npz":
        return arrays.read_archive(place)
    content = read_bytes(place)
    if content[:4] == b"PK\x03\x04":
        return arrays.read_archive(place)
    if log.MARK in content:
        return log.read_log(place, content)
    found = layer_tool.read_layer_tool(place, content, [int(str(key)) for key in graph.inputs])
    if found is None:
        text = all(byte in b"\t\r\n" or byte > 31 for byte in content[:4096])
        raise InputError(
            f"--dump {place}: "
            + (
                "a log without QDEBUG lines: `qdebug dump --firmware` prints the source that writes them"
                if text
                else "not a dump that is known, or damaged: give an .npz, a folder, a log, or the file of "
                "layer_by_layer_output_tool"
            )
        )
    return found


def write_dump(place: Path, kind: str, tensors: Mapping[Key, Mapping[int, Array]], graph: Graph) -> dict[Path, bytes]:
    """The files of a dump in one of `FORMATS`, by path. Raises InputError where the format cannot hold it."""
    samples = sorted({sample for held in tensors.values() for sample in held})
    if kind in ("npz", "npy"):
        stacked = {
            str(key): np.concatenate([np.atleast_1d(held[sample]) for sample in samples])
            for key, held in tensors.items()
        }
        return arrays.write_archive(place, stacked) if kind == "npz" else arrays.write_folder(place, stacked)
    flat = {(int(str(key)), sample): tensors[key][sample] for sample in samples for key in tensors}
    if kind == "raw":
        return raw.write_raw(place, flat)
    if kind == "log":
        return log.write_log(place, flat)
    if len(samples) > 1:
        raise InputError(
            f"the file of layer_by_layer_output_tool holds one sample, not {len(samples)}: give --samples 1"
        )
    first = {int(str(key)): held[samples[0]] for key, held in tensors.items()}
    return layer_tool.write_layer_tool(place, first, [int(str(key)) for key in graph.inputs])
