"""Data from Python, whatever holds them: arrays, tuples, DataFrames, tf.data, loaders, generators, callables.

What is no array yet is read once, piece by piece, into a file that is then read in batches. So both models see the
same samples, also where the stream shuffles, and memory never holds the whole set.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from qdebug.errors import InputError, QDebugError
from qdebug.graph.quantization import Array
from qdebug.models.data.arrays import InputSpec, as_array, refuse_sparse
from qdebug.models.data.dataset import Dataset, checked
from qdebug.models.data.elements import holds_arrays, is_batch, labels_of, parts
from qdebug.models.data.spool import Spool

PIECE = 256
"""Samples that are read together from something that can be sliced."""
ENDLESS = -1
"""What tf.data gives as the number of elements of a data set that repeats for ever."""


def from_python(
    data: Any,
    labels: Any,
    specs: Sequence[InputSpec],
    *,
    source: str = "memory",
    samples: int | None = None,
    shared: bool = False,
) -> Dataset:
    """The samples and labels that an object holds. Raises InputError, which says what to give instead.

    `samples` takes the first N. Known are arrays and what NumPy makes arrays of, dicts of them by input name, (x, y),
    DataFrames, tf.data.Dataset, iterables of samples or batches, and callables that return any of these. Where workers
    share the samples (`shared`), what yields them one after the other is refused.
    """
    data = _called(data, source)
    refuse_sparse(data, source)
    if isinstance(data, tuple) and len(data) in (2, 3) and labels is None and not _per_input(data, specs):
        data, labels = data[0], data[1]
    if hasattr(data, "to_numpy") and hasattr(data, "columns"):
        return _framed(data, labels, specs, source, samples)
    if isinstance(data, (list, tuple)) and _per_input(data, specs):
        data = {spec.name: one for spec, one in zip(specs, data, strict=True)}
    if isinstance(data, Mapping):
        return _arrays({str(key): value for key, value in data.items()}, labels, source, samples)
    if _is_stream(data):
        if labels is not None:
            raise InputError(f"labels beside {source}, a {type(data).__name__}: let it yield (x, y) instead")
        if shared:
            raise InputError(
                f"{source} is a {type(data).__name__}, whose samples come one after the other: workers "
                "cannot begin in the middle of it. Save them with numpy.save and give the .npy file, give "
                "an array, or a function with an argument `shard` (a slice of sample numbers)"
            )
        return spooled(_elements(data, source, samples), specs, source, samples)
    return _arrays({"x": data}, labels, source, samples)


def _called(data: Any, source: str) -> Any:
    """What a callable returns: a function that makes a representative data set, say."""
    if not callable(data) or hasattr(data, "__array__") or hasattr(data, "__iter__") or hasattr(data, "__getitem__"):
        return data
    name = getattr(data, "__name__", type(data).__name__)
    try:
        return data()
    except Exception as error:
        raise InputError(
            f"{source}: calling {name}() fails ({type(error).__name__}: {error}): give a function that "
            "needs no arguments and returns data, lambda: f(...)",
            details=repr(error),
        ) from error


def _per_input(data: Sequence[Any], specs: Sequence[InputSpec]) -> bool:
    """Whether a list holds one array of samples for each of several inputs."""
    if len(specs) < 2 or len(data) != len(specs) or not all(hasattr(one, "shape") for one in data):
        return False
    return all(len(one.shape) == len(spec.shape) for one, spec in zip(data, specs, strict=True))


def _is_stream(data: Any) -> bool:
    """Whether an object yields samples one after the other: it is no array, and no list of numbers or samples."""
    if isinstance(data, (list, tuple)):
        structured = bool(len(data)) and (isinstance(data[0], Mapping) or holds_arrays(data[0]))
        return structured or len({tuple(one.shape) for one in data if hasattr(one, "shape")}) > 1
    if hasattr(data, "__array__") or isinstance(data, (str, bytes, Mapping, set, frozenset)):
        return False
    return hasattr(data, "__iter__") or (hasattr(data, "__len__") and hasattr(data, "__getitem__"))


def _elements(data: Any, source: str, samples: int | None) -> Iterator[Any]:
    count = getattr(data, "cardinality", None)
    if samples is None and callable(count) and int(count()) == ENDLESS:
        raise InputError(f"{source}: the tf.data.Dataset repeats for ever: give dataset.take(N), or --samples N")
    if hasattr(data, "as_numpy_iterator"):
        spec = str(getattr(data, "element_spec", ""))
        if "RaggedTensorSpec" in spec or "SparseTensorSpec" in spec:
            raise InputError(
                f"{source}: the tf.data.Dataset holds ragged or sparse tensors: make them dense first, "
                "dataset.map(lambda x: x.to_tensor())"
            )
        iterator: Iterator[Any] = data.as_numpy_iterator()
        return iterator
    if hasattr(data, "__iter__"):
        return iter(data)
    return (data[number] for number in range(len(data)))  # a keras Sequence or PyDataset


def spooled(elements: Iterable[Any], specs: Sequence[InputSpec], source: str, samples: int | None) -> Dataset:
    """Read a stream into a file, up to `samples`; labels beside the inputs."""
    batched: bool | None = None
    with Spool(source) as spool:
        for element in _reading(elements, spool):
            inputs, labels = parts(element, specs, source)
            batched = is_batch(inputs, specs) if batched is None else batched
            piece = {
                **{f"x {name}": value for name, value in inputs.items()},
                **{f"y {name}": value for name, value in labels.items()},
            }
            spool.append(
                piece if batched else {name: np.asarray(value)[None] for name, value in piece.items()},
                most=None if samples is None else samples - spool.count,
            )
            if samples is not None and spool.count >= samples:
                break
        arrays = spool.arrays()
    return _dataset(
        source,
        {name[2:]: one for name, one in arrays.items() if name.startswith("x ")},
        {name[2:]: one for name, one in arrays.items() if name.startswith("y ")},
        samples,
    )


def _reading(elements: Iterable[Any], spool: Spool) -> Iterator[Any]:
    """The elements; what fails in the code that yields them is told as a fault of the data."""
    iterator = iter(elements)
    while True:
        try:
            element = next(iterator)
        except StopIteration:
            return
        except QDebugError:
            raise
        except Exception as error:
            raise InputError(
                f"reading {spool.source} fails after {spool.count} samples: {type(error).__name__}: "
                f"{str(error).strip().partition(chr(10))[0]}",
                details=repr(error),
            ) from error
        yield element


def _arrays(inputs: Mapping[str, Any], labels: Any, source: str, samples: int | None) -> Dataset:
    """Arrays as they are; what is sliced lazily (HDF5, Zarr, Dask) is read piece by piece."""
    return _dataset(
        source, {name: _held(one, source) for name, one in inputs.items()}, labels_of(labels, source), samples
    )


def _held(one: Any, source: str) -> Array:
    lazy = not isinstance(one, np.ndarray) and all(hasattr(one, name) for name in ("shape", "dtype", "chunks"))
    if not lazy:
        return as_array(one, source)
    with Spool(source) as spool:
        for start in range(0, len(one), PIECE):
            spool.append({"x": np.asarray(one[start : start + PIECE])})
        return spool.arrays()["x"]


def _framed(frame: Any, labels: Any, specs: Sequence[InputSpec], source: str, samples: int | None) -> Dataset:
    """A DataFrame: its columns are the features of one input, or the inputs by name; `labels` may name a column."""
    names = [str(name) for name in frame.columns]
    if isinstance(labels, str):
        if labels not in names:
            raise InputError(f"labels {labels!r}: {source} has the columns {', '.join(names)}")
        labels, frame = frame[labels], frame[[name for name in names if name != labels]]
        names.remove(labels.name)
    for name in names:
        if np.asarray(frame[name].to_numpy()).dtype.kind not in "buif":
            raise InputError(
                f"column {name!r} of {source} holds {frame[name].dtype}, no numbers: leave it out, "
                f"data.drop(columns=[{name!r}]), or number its values"
            )
    if len(specs) > 1:
        return _arrays({name: np.asarray(frame[name].to_numpy()) for name in names}, _column(labels), source, samples)
    table = np.asarray(frame.to_numpy())
    return _arrays({"x": in_shape(table, specs[0])}, _column(labels), source, samples)


def _column(labels: Any) -> Any:
    return labels.to_numpy() if hasattr(labels, "to_numpy") else labels


def in_shape(table: Array, spec: InputSpec) -> Array:
    """Rows of features in the shape of the input that takes them, where they are as many."""
    wanted = tuple(spec.shape)[1:]
    sizes = [size for size in wanted if size is not None]
    if table.ndim == 2 and len(wanted) > 1 and len(sizes) == len(wanted) and table.shape[1] == int(np.prod(sizes)):
        return table.reshape(len(table), *sizes)
    return table


def _dataset(source: str, inputs: dict[str, Array], labels: dict[str, Array], samples: int | None) -> Dataset:
    found = Dataset(source, "file", inputs, labels)
    return checked(found if samples is None else found.picked(slice(samples)))
