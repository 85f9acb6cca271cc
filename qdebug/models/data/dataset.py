"""Evaluation data: loaded from a name or a file, checked, and arranged to a model's inputs.

Rules of this file: NumPy only at import; scikit-learn and the Keras data sets are imported when they are
asked for. Arrays keep the type that they were stored with, unless `scale` divides them; nothing is unpickled.
Whatever is wrong with the data is said here, before anything runs, as an `InputError` of one line.
"""

from __future__ import annotations

import dataclasses
import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.errors import InputError, first_line
from qdebug.graph.quantization import Array
from qdebug.models.data.arrays import InputSpec, bare_name, fits
from qdebug.models.data.finite import check_finite, check_taken
from qdebug.models.data.lazy_array import Deferred, deferred, pieces
from qdebug.models.data.named import NAMES, named_images
from qdebug.models.limits import LimitError, check_archive, check_regular

_RESERVED = ("x", "y", "x_train", "y_train", "x_test", "y_test")


@dataclass(frozen=True, slots=True, eq=False)
class Dataset:
    """Samples and labels; the first axis of every array counts the samples."""

    source: str
    """The name or the file that was asked for."""
    split: str
    """`test` where the source has a test split, else `file`."""
    inputs: dict[str, Array]
    """By input name; the one array of single-input data is `x`."""
    labels: dict[str, Array]
    """`y`, or one array per output name; empty without labels."""
    train_inputs: dict[str, Array] | None = None
    train_labels: dict[str, Array] | None = None

    @property
    def count(self) -> int:
        """Number of samples."""
        return len(next(iter(self.inputs.values())))

    @property
    def sha256(self) -> str:
        """Fingerprint of the inputs and labels in use: names, types, shapes and bytes."""
        return _fingerprint(self.inputs, self.labels)

    @property
    def train_sha256(self) -> str | None:
        """Fingerprint of the training split; `None` without one."""
        if self.train_inputs is None:
            return None
        return _fingerprint(self.train_inputs, self.train_labels or {})

    def first(self, samples: int) -> Dataset:
        """Keep the first N, 1 <= N <= count (else InputError); the training split stays whole."""
        if samples < 1:
            raise InputError(f"samples is {samples}: give 1 or more")
        if samples > self.count:
            raise InputError(f"samples is {samples}, and {self.source} holds {self.count}: give {self.count} or fewer")
        return self.picked(slice(samples))

    def picked(self, samples: slice | Array) -> Dataset:
        """The same with these samples alone; the training split stays whole."""
        inputs = {name: array[samples] for name, array in self.inputs.items()}
        labels = {name: array[samples] for name, array in self.labels.items()}
        return dataclasses.replace(self, inputs=inputs, labels=labels)


def load(
    spec: str | Path,
    *,
    samples: int | None = None,
    scale: float | None = None,
    x_key: str | None = None,
    y_key: str | None = None,
) -> Dataset:
    """Load `digits`, `mnist`, `fashion_mnist`, or an `.npz` or `.npy` file; an `.npy` stays on the disk.

    `samples` keeps the first N of the test split; `scale` divides all inputs, in float32. In an `.npz`,
    `x_key` and `y_key` name the arrays; without them it holds x/y, or x_test/y_test with x_train/y_train, or
    one array per input name, with the labels in y, or in y_<output name> for several outputs.
    Raises InputError: unknown name, unreadable file, wrong keys, types, lengths, counts, NaN or infinity in
    inputs.
    """
    check_scale(scale)
    if str(spec) in NAMES:
        if x_key or y_key:
            raise InputError(f"--x-key and --y-key choose from an .npz file, and --data is {spec}: drop them")
        dataset = _named(str(spec))
    else:
        dataset = _read_file(spec, x_key, y_key)
    _check_lengths(dataset.source, dataset.inputs, dataset.labels)
    if dataset.train_inputs is not None:
        _check_lengths(f"{dataset.source} (training)", dataset.train_inputs, dataset.train_labels or {})
    if samples is not None:
        dataset = dataset.first(samples)
    for name, array in [*dataset.inputs.items(), *(dataset.train_inputs or {}).items()]:
        check_finite(dataset.source, name, array)
    return dataset if scale is None else scaled(dataset, scale)


def checked(dataset: Dataset) -> Dataset:
    """The data set, if its arrays are equally long and hold finite numbers, else InputError."""
    _check_lengths(dataset.source, dataset.inputs, dataset.labels)
    for name, array in dataset.inputs.items():
        check_finite(dataset.source, name, array)
    return dataset


def check_scale(scale: float | None) -> None:
    """Raise InputError unless data can be divided by it."""
    if scale is not None and (not math.isfinite(scale) or scale == 0):
        raise InputError(f"scale is {scale}: give a finite number other than 0")


def arrange(dataset: Dataset, specs: Sequence[InputSpec]) -> list[Array]:
    """Put the inputs in the order, rank and type that a model takes; one array per spec.

    Several inputs are matched by name; a single array goes to a single input whatever the names. A last axis
    of 1 is added or dropped where that is all that differs. Whole numbers become float32 where the model
    takes floats; they are not scaled. Raises InputError with the shapes or types wanted and given.
    """
    given = dataset.inputs
    if len(specs) != len(given):
        raise InputError(
            f"the model has {_counted([spec.name for spec in specs])}, and {_called(dataset.source)} has "
            f"{_counted(list(given))}: name one array after each input, or choose one with --x-key"
        )
    if len(specs) == 1:
        return [_fit(next(iter(given.values())), specs[0], dataset.source)]
    bare = {bare_name(name): array for name, array in given.items()}
    chosen = [given.get(spec.name, bare.get(bare_name(spec.name))) for spec in specs]
    pairs = zip(chosen, specs, strict=True)
    arrays = [_fit(array, spec, dataset.source) for array, spec in pairs if array is not None]
    if len(arrays) != len(specs):
        missing = next(spec.name for array, spec in zip(chosen, specs, strict=True) if array is None)
        raise InputError(
            f"no array of {dataset.source} is named after the model's input {missing!r}: it has "
            f"{', '.join(sorted(given))}; name one array after each input"
        )
    return arrays


# --- the named data sets ------------------------------------------------------------------------------------


def _named(name: str) -> Dataset:
    (x_train, y_train), (x_test, y_test) = named_images(name)
    return Dataset(name, "test", {"x": x_test}, {"y": y_test}, {"x": x_train}, {"y": y_train})


# --- files --------------------------------------------------------------------------------------------------


def _read_file(spec: str | Path, x_key: str | None, y_key: str | None) -> Dataset:
    path, source = Path(spec), str(spec)
    if path.suffix.lower() not in {".npz", ".npy"}:
        hint = "is a file of another kind" if path.is_file() else "is no known data set, and no file or folder"
        raise InputError(
            f"data {source!r} {hint}: choose {', '.join(NAMES)}, a .npz, .npy or .csv file, a folder of "
            "images, or MODULE:FUNCTION"
        )
    if not path.exists():
        raise InputError(
            f"data file {source} does not exist: give the path of a .npz or .npy file, or one of {', '.join(NAMES)}"
        )
    try:
        check_regular(path)
        with path.open("rb") as file:
            start = file.read(6)
            file.seek(0)
            if start == b"\x93NUMPY":
                return _from_npy(source, _mapped(path), x_key or y_key)
            if start[:4] == b"PK\x03\x04":
                with np.load(file, allow_pickle=False) as archive:
                    check_archive(archive.zip, path.stat().st_size)
                    return _from_npz(source, archive, x_key, y_key)
    except InputError:
        raise
    except LimitError as error:
        raise InputError(f"data file {source} {error}") from error
    except Exception as error:  # NumPy raises whatever a damaged header or archive leads to
        if "Object arrays" in str(error):
            raise InputError(
                f"{source} holds arrays of Python objects, which are not read: save plain "
                f"numbers, such as array.astype('float32')",
                details=repr(error),
            ) from error
        raise InputError(
            f"cannot read data file {source}: {first_line(error)}; write it again with "
            f"numpy.savez, or give another file",
            details=repr(error),
        ) from error
    what = "is empty" if not start else f"is not a NumPy file (it starts with {start!r})"
    raise InputError(f"data file {source} {what}: write it with numpy.savez or numpy.save")


def _mapped(path: Path) -> Array:
    """The array of an `.npy`, read from the file where it is sliced; memory holds one without samples."""
    try:
        array: Array = np.load(path, mmap_mode="r", allow_pickle=False)
    except ValueError:  # (nothing to map, or objects: the plain reader tells which)
        array = np.load(path, allow_pickle=False)
    return array


def _from_npy(source: str, array: Array, key: str | None) -> Dataset:
    if key:
        raise InputError(
            f"{source} holds one array without a name, so --x-key or --y-key {key!r} cannot choose: "
            f"drop it, or give an .npz file"
        )
    return Dataset(source=source, split="file", inputs={"x": array}, labels={})


def _from_npz(source: str, archive: Mapping[str, Any], x_key: str | None, y_key: str | None) -> Dataset:
    """Choose the arrays by their keys first, so that what is not used is not read."""
    keys = list(archive)
    for option, key in (("--x-key", x_key), ("--y-key", y_key)):
        if key is not None and key not in keys:
            raise InputError(f"{source} has no array {key!r} ({option}): it has {_listed(keys)}")
    split = "test" if x_key is None and "x_test" in keys else "file"
    suffix = "_test" if split == "test" else ""
    single = x_key or next((key for key in ("x_test", "x") if key in keys), None)
    label = y_key or (f"y{suffix}" if f"y{suffix}" in keys else None)
    spare = [key for key in keys if key not in {single, label, *_RESERVED}]
    named_labels = [] if label else [key for key in spare if key.startswith("y_")]
    inputs = {"x": single} if single else {key: key for key in spare if not key.startswith("y_")}
    if not inputs:
        raise InputError(
            f"{source} has no inputs: it has {_listed(keys)}; name them x, x_test, or after the "
            f"model's inputs, or choose one with --x-key"
        )
    labels = {"y": label} if label else {key.removeprefix("y_"): key for key in named_labels}
    if len(inputs) == 1:
        inputs = {"x": next(iter(inputs.values()))}
    train = split == "test" and {"x_train", "y_train"} <= set(keys)
    return Dataset(
        source=source,
        split=split,
        inputs={name: archive[key] for name, key in inputs.items()},
        labels={name: archive[key] for name, key in labels.items()},
        train_inputs={"x": archive["x_train"]} if train else None,
        train_labels={"y": archive["y_train"]} if train else None,
    )


# --- checks -------------------------------------------------------------------------------------------------


def _check_lengths(where: str, inputs: Mapping[str, Array], labels: Mapping[str, Array]) -> None:
    for name, array in [*inputs.items(), *labels.items()]:
        if not hasattr(array, "dtype"):
            raise InputError(f"{name!r} of {where} is no array: write the file again with numpy.savez")
        if array.dtype.kind not in "buif":
            raise InputError(f"array {name!r} of {where} is of type {array.dtype}: numbers are needed")
        if array.ndim == 0:
            raise InputError(f"array {name!r} of {where} is a single number: one row per sample is needed")
    first, count = next((name, len(array)) for name, array in inputs.items())
    if count == 0:
        raise InputError(f"array {first!r} of {where} holds no samples: its shape is {inputs[first].shape}")
    for kind, arrays in (("samples", inputs), ("labels", labels)):
        for name, array in arrays.items():
            if len(array) != count:
                raise InputError(
                    f"array {name!r} of {where} holds {len(array)} {kind}, and {first!r} holds "
                    f"{count} samples: make them equally long"
                )


def _fit(array: Array, spec: InputSpec, source: str) -> Array:
    wanted, shape = tuple(spec.shape), array.shape
    if len(shape) == len(wanted) - 1 and wanted[-1] == 1:
        array = array.reshape((*shape, 1))
    elif len(shape) == len(wanted) + 1 and shape[-1] == 1:
        array = array.reshape(shape[:-1])
    if not fits(array.shape, (None, *wanted[1:])):
        hint = (
            "give data of this shape with --data FILE.npz (--x-key names the array in it)"
            if source in NAMES
            else "reshape the data, or choose another array with --x-key"
        )
        raise InputError(
            f"input {spec.name!r} takes shape {_shape(wanted)}, and {_called(source)} has "
            f"{_shape((None, *shape[1:]))}: {hint}"
        )
    return _cast(array, np.dtype(spec.dtype), spec.name, source)


def _called(source: str) -> str:
    """Name the data as the user knows them, who may not have named any."""
    return f"{source}, the default of --data," if source == NAMES[0] else source


def _cast(array: Array, wanted: np.dtype[Any], name: str, source: str) -> Array:
    if array.dtype == wanted:
        if isinstance(array, Deferred):
            check_taken(array, name, source)
        return array
    whole = array.dtype.kind in "bui"
    if wanted.kind == "f":
        late: Array = deferred(array, dtype=wanted)
        check_taken(late, name, source)
        return late
    if whole and wanted.kind in "bui" and array.size and _holds(wanted, int(array.min()), int(array.max())):
        whole_numbers: Array = deferred(array, dtype=wanted)
        return whole_numbers
    values = f"{array.dtype} from {array.min()} to {array.max()}" if array.size else str(array.dtype)
    raise InputError(f"input {name!r} takes {wanted}, and {source} has {values}: convert the data")


def _holds(wanted: np.dtype[Any], low: int, high: int) -> bool:
    if wanted.kind == "b":
        return low >= 0 and high <= 1
    limits = np.iinfo(wanted)
    return bool(limits.min <= low and high <= limits.max)


# --- small things -------------------------------------------------------------------------------------------


def scaled(dataset: Dataset, scale: float) -> Dataset:
    """The inputs divided by `scale`, in float32, where they are sliced."""
    inputs = {name: deferred(array, divisor=scale) for name, array in dataset.inputs.items()}
    train = (
        None
        if dataset.train_inputs is None
        else {name: np.asarray(deferred(array, divisor=scale)) for name, array in dataset.train_inputs.items()}
    )
    return dataclasses.replace(dataset, inputs=inputs, train_inputs=train)


def _fingerprint(*groups: Mapping[str, Array]) -> str:
    digest = hashlib.sha256()
    for group in groups:
        for name in sorted(group):
            held = group[name]
            if isinstance(held, Deferred):
                digest.update(f"{held.dtype.str}|{held.divisor}|".encode())
                held = held.stored
            digest.update(f"{name}|{held.dtype.str}|{held.shape}|".encode())
            for piece in pieces(held) if held.size else ():
                digest.update(np.ascontiguousarray(piece).data)
        digest.update(b"/")
    return digest.hexdigest()


def _shape(shape: Iterable[int | None]) -> str:
    return (
        "("
        + ", ".join(
            "N" if size is None and i == 0 else "any" if size is None else str(size) for i, size in enumerate(shape)
        )
        + ")"
    )


def _counted(names: Sequence[str]) -> str:
    return f"{len(names)} input{'' if len(names) == 1 else 's'} ({', '.join(names)})"


def _listed(keys: Sequence[str]) -> str:
    return ", ".join(sorted(keys)) if keys else "no arrays at all"
