"""Hold what a dump says against the model: which tensor is meant, and whether it can be that one. Raises InputError."""

from __future__ import annotations

import difflib
import math
import re
from dataclasses import dataclass, field

import numpy as np

from qdebug.errors import InputError
from qdebug.graph.graph import Graph, Key, Tensor
from qdebug.graph.quantization import CODE_RANGES, Array
from qdebug.models.dumps.entries import Contents, Entry

NEAREST = 3
"""Names that a message proposes."""
LONGEST_NAME = 60
"""Characters of a tensor's name that a message shows; the converter joins the names of fused ops to hundreds."""
SMALL = 1 << 16
"""Whole numbers of 32 bits and more in a network (shapes, indices) are below this."""
REASONABLE = 1e9
"""Real values in a network lie between this and one over it."""
LOG_LOSES = 0.5
"""Share of a log's tensors from which on misfits are no bad connection, but another file."""

_LOWEST = 'the device is big-endian, write the lowest byte first (or say "byte_order": "big" in the manifest)'

Tensors = dict[Key, dict[int, Array]]


def fit(contents: Contents, graph: Graph) -> tuple[Tensors, dict[Key, str]]:
    """Codes by tensor and sample, in the file's shapes; and the tensors that a bad connection damaged, with why."""
    return _Fitting(contents, graph).run()


@dataclass(eq=False)
class _Fitting:
    contents: Contents
    graph: Graph
    tensors: Tensors = field(default_factory=dict)
    damaged: dict[Key, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_name: dict[str, list[Key]] = {}
        for key, tensor in self.graph.tensors.items():
            for name in dict.fromkeys((tensor.name, _plain(tensor.name))):
                self.by_name.setdefault(name, []).append(key)

    def run(self) -> tuple[Tensors, dict[Key, str]]:
        is_log = self.contents.format == "log"
        for (name, sample), why in self.contents.damaged.items():
            self.damaged.setdefault(self._key(name), f"{why} (sample {sample})")
        short: list[tuple[Key, str]] = []
        for entry in self.contents.entries:
            key = self._key(entry.tensor)
            try:
                self._take(key, entry)
            except _Cut as cut:
                if not is_log:
                    raise self._error(f"{cut}: {cut.advice}") from cut
                short.append((key, str(cut)))
        total = len({entry.tensor for entry in self.contents.entries})
        if short and len({key for key, _ in short}) > LOG_LOSES * total:
            raise self._error(f"{short[0][1]}: the dump is of another file, or every line is cut")
        for key, why in short:
            self.damaged.setdefault(key, why)
        for key in self.damaged:
            self.tensors.pop(key, None)
        for key, held in self.tensors.items():
            self._check_bytes(self.graph.tensors[key], list(held.values()))
        return self.tensors, self.damaged

    def _error(self, text: str) -> InputError:
        return InputError(f"--dump {self.contents.source}: {text}")

    def _check_shape(self, tensor: Tensor, entry: Entry, samples: int) -> None:
        """Raise InputError where the dump has other axes, or the same in another order; axes of 1 do not count."""
        shape = entry.shape if isinstance(entry.values, bytes) else entry.values.shape
        wanted = [abs(size) for size in tensor.shape if abs(size) != 1]
        found = [size for size in shape or () if size != 1]
        flat = [size for size in (samples, math.prod(wanted)) if size != 1]
        if len(found) <= 1 or found in (wanted, [samples, *wanted], flat):
            return
        lengths = f"{_called(tensor)} is {_by(shape or ())} ({entry.where}), and {_by(tensor.shape)} in the file"
        if sorted(found) in (sorted(wanted), sorted([samples, *wanted])):
            raise self._error(f"{lengths}: bring its axes into the file's order (NHWC)")
        raise self._error(f"{lengths}: it is cut, or the dump is of another file")

    def _take(self, key: Key, entry: Entry) -> None:
        tensor = self.graph.tensors[key]
        values = self._values(tensor, entry)
        size = abs(int(np.prod(tensor.shape)))
        many = values.size // max(size, 1) if entry.sample is None else 1
        if values.size != many * size or not values.size:
            raise _Cut(tensor, values.size, size, "values", entry.where)
        self._check_shape(tensor, entry, many)
        if tensor.data is not None:
            self._check_constant(tensor, values)
            return
        shape = tuple(abs(length) for length in tensor.shape)
        parts = values.reshape(-1, *shape)
        held = self.tensors.setdefault(key, {})
        for number, part in enumerate(parts, 0 if entry.sample is None else entry.sample):
            if number in held:
                raise self._error(f"{_called(tensor)} is held twice for sample {number} ({entry.where})")
            held[number] = part

    def _values(self, tensor: Tensor, entry: Entry) -> Array:
        """The values of an entry in the tensor's own type. Raises InputError where that is another one."""
        found = entry.dtype if isinstance(entry.values, bytes) else entry.values.dtype.name
        if found != tensor.dtype:
            raise self._error(
                f"{_called(tensor)} is {found} ({entry.where}), and {tensor.dtype} in the file: "
                f"{_type_advice(tensor, entry)}"
            )
        if not isinstance(entry.values, bytes):
            return entry.values
        kind = np.dtype(tensor.dtype)
        size = abs(int(np.prod(tensor.shape)))
        if len(entry.values) != size * kind.itemsize:
            raise _Cut(tensor, len(entry.values), size * kind.itemsize, "bytes", entry.where)
        return np.frombuffer(entry.values, kind.newbyteorder("<")).astype(kind)

    def _key(self, name: str) -> Key:
        """The tensor that a dump means by a number or a name."""
        if name.isdecimal():
            if int(name) not in self.graph.tensors:
                raise self._error(
                    f"tensor {name} is not in the file, which has tensors 0 to "
                    f"{len(self.graph.tensors) - 1}: the dump is of another file"
                )
            return int(name)
        keys = self.by_name.get(name) or self.by_name.get(_plain(name)) or []
        if len(keys) == 1:
            return keys[0]
        if keys:
            raise self._error(
                f"the file has {len(keys)} tensors called {name!r}: give their numbers ({', '.join(map(str, keys))})"
            )
        near = difflib.get_close_matches(name, list(self.by_name), NEAREST, cutoff=0.0)
        there = [f"{one!r} ({self.by_name[one][0]})" for one in near]
        raise self._error(f"no tensor of the file is called {name!r}; the nearest are {', '.join(there)}")

    def _check_constant(self, tensor: Tensor, values: Array) -> None:
        """A dump may hold weights too: then they are the file's."""
        assert tensor.data is not None
        own, found = tensor.data.reshape(-1), values.reshape(-1)
        if own.size == found.size and not np.array_equal(own, found):
            if np.array_equal(own, found.byteswap()):
                raise self._error(f"{_called(tensor)} is a constant, and its bytes are the other way round: {_LOWEST}")
            unlike = int(np.count_nonzero(own != found))
            raise self._error(
                f"{_called(tensor)} is a constant, and {unlike} of its {values.size} values are not the "
                "file's: the device runs another file"
            )

    def _check_bytes(self, tensor: Tensor, held: list[Array]) -> None:
        """Raise InputError where values make sense only with their bytes the other way round."""
        values = np.concatenate([array.reshape(-1) for array in held])
        if values.dtype.itemsize > 1 and values.dtype.kind in "iuf" and looks_swapped(values):
            swapped, maker = values.byteswap(), self.graph.producers.get(tensor.key)
            made = f" (made by op {maker.index} {maker.raw})" if maker is not None else ""
            raise self._error(
                f"{_called(tensor)}{made} holds {tensor.dtype} values from {values.min():.4g} to {values.max():.4g}, "
                f"and from {swapped.min():.4g} to {swapped.max():.4g} with its bytes the other way round: {_LOWEST}"
            )


class _Cut(Exception):  # noqa: N818 a log may lose lines: told by its caller
    """A tensor whose size is not the file's."""

    def __init__(self, tensor: Tensor, found: int, wanted: int, unit: str, where: str) -> None:
        super().__init__(
            f"{_called(tensor)} has {found} {unit} ({where}), and {wanted} in the file ({_by(tensor.shape)})"
        )
        self.advice = "it is cut, or the dump is of another file" if found < wanted else "the dump is of another file"


def looks_swapped(values: Array) -> bool:
    """Whether values of several bytes make sense only with their bytes the other way round: told by their ranges."""
    if not values.size or not np.any(values):
        return False
    swapped = values.byteswap()
    if values.dtype.kind == "f":
        return not _all_reasonable(values) and _all_reasonable(swapped)
    if values.dtype.itemsize > 2:
        return bool(np.abs(values.astype(np.float64)).max() >= SMALL > np.abs(swapped.astype(np.float64)).max())
    high, low = values.view(np.uint8)[1::2], values.view(np.uint8)[0::2]
    narrow = [float(np.mean((part == 0) | (part == 255))) for part in (high, low)]
    return narrow[1] > 0.9 > 3 * narrow[0]


def _all_reasonable(values: Array) -> bool:
    with np.errstate(invalid="ignore"):
        size = np.abs(values.astype(np.float64))
    return bool(np.all((size == 0) | ((size < REASONABLE) & (size > 1 / REASONABLE))))


def _type_advice(tensor: Tensor, entry: Entry) -> str:
    """What values of another type are, told by their range."""
    values = entry.values
    if isinstance(values, bytes):
        kinds = {"uint8", "int8", "int16", "uint16", "int32", "uint32", "int64", "float32", "float64", "float16"}
        if entry.dtype not in kinds or len(values) % np.dtype(entry.dtype).itemsize:
            return f"write {tensor.dtype}"
        values = np.frombuffer(values, entry.dtype)
    if not values.size or tensor.dtype not in CODE_RANGES:
        return "dump the tensor as the device holds it"
    low, high = float(values.min()), float(values.max())
    least, most = CODE_RANGES[tensor.dtype]
    told = f"its values go from {low:.4g} to {high:.4g}"
    if values.dtype == np.uint8 and tensor.dtype == "int8":
        return f"{told}: cast the bytes to int8, or subtract 128 where the device was given uint8"
    if values.dtype.kind == "f" and np.any(values != np.rint(values)):
        return f"{told} and are real: dump the codes, not what they stand for"
    fits = least <= low and high <= most
    return f"{told}, " + (
        f"which fit: save them as {tensor.dtype}"
        if fits
        else f"and {tensor.dtype} holds {least} to {most}: the dump is of another file or type"
    )


def _called(tensor: Tensor) -> str:
    name = tensor.name if len(tensor.name) <= LONGEST_NAME else f"…{tensor.name[1 - LONGEST_NAME :]}"
    return f"tensor {tensor.key} ({name})" if name else f"tensor {tensor.key}"


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "one value"


def _plain(name: str) -> str:
    """A name as files can bear it."""
    return re.sub(r"[^0-9A-Za-z.-]", "_", name)
