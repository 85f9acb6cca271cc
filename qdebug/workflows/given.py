"""What a caller gives, made into what a trace takes: bytes of a candidate, data, labels, samples for a converter."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qdebug.errors import InputError, UsageError
from qdebug.graph.quantization import Array
from qdebug.measure.labels import as_classes
from qdebug.models.data import dataset as datasets
from qdebug.models.data.arrays import InputSpec
from qdebug.models.data.dataset import Dataset
from qdebug.models.data.request import DataRequest, imported
from qdebug.models.data.streams import from_python
from qdebug.models.litert.parse import read_file
from qdebug.models.reference.base import Reference
from qdebug.workflows.opened import Opened
from qdebug.workflows.shards.slices import Source, takes_shard

REPRESENTATIVE = 1000
"""Samples for a converter that needs a representative data set."""


def source_of(opened: Opened, function: Callable[..., Any] | DataRequest | None) -> Source:
    """All samples, and what makes slices of them in a worker."""
    specs = tuple(opened.reference.frozen.specs)
    if isinstance(function, DataRequest):
        return Source(opened.inputs, function.spec, function.scale, specs)
    return Source(opened.inputs, function, None, specs)


def sharing(data: Any) -> Callable[..., Any] | DataRequest | None:
    """The data, where a function with an argument `shard` makes them."""
    if isinstance(data, (str, Path)):
        data = DataRequest(str(data))
    if isinstance(data, DataRequest):
        return data if data.kind == "python" and takes_shard(imported(data.spec, "--data")) else None
    return data if takes_shard(data) else None


def as_dataset(data: Any, labels: Any, specs: Sequence[InputSpec], *, shared: bool = False) -> Dataset:
    """Samples (and labels) from memory, or by name or path, for a model with these inputs. Raises InputError.

    Where workers share the samples, a stream of them is refused.
    """
    if isinstance(data, Dataset):
        return data
    if isinstance(data, (str, Path)):
        data = DataRequest(str(data))
    if isinstance(data, DataRequest):
        return data.open(specs, shared=shared)
    if data is None:
        raise InputError(
            "no data: give an array of samples, a dict of arrays by input name, a tf.data.Dataset or "
            "another iterable, or a path"
        )
    return from_python(data, labels, specs, shared=shared)


def read_candidate(candidate: bytes | str | Path | None) -> bytes | None:
    """The bytes of a candidate that is given, or named by its path. Raises UsageError, ModelError."""
    if candidate is None or isinstance(candidate, bytes):
        return candidate
    if isinstance(candidate, bytearray):
        return bytes(candidate)
    if not isinstance(candidate, (str, Path)):
        raise UsageError(f"the candidate is a {type(candidate).__name__}: give a .tflite model's bytes or path")
    return read_file(candidate)


def labels_of(dataset: Dataset, reference: Reference) -> dict[int, NDArray[np.int64]]:
    """Class labels by output number: one array for the first output, or by output name.

    Whole numbers, or one row of shares per sample (one-hot labels, smoothed or not); targets of another kind are none.
    """
    names = reference.frozen.graph.output_names
    found: dict[int, NDArray[np.int64]] = {}
    for name, values in dataset.labels.items():
        number = names.index(name) if name in names else 0 if name == "y" else None
        if number is None:
            raise InputError(f"labels y_{name}: the reference has no output of that name, it has {', '.join(names)}")
        graph = reference.frozen.graph
        if graph.outputs[number] not in graph.tensors:
            continue  # (no input reaches it: the alignment refuses such a model)
        classes = as_classes(values, graph.tensors[graph.outputs[number]].shape, f"labels {name} of {dataset.source}")
        if classes is not None:
            found[number] = classes
    return found


def representative(dataset: Dataset, reference: Reference) -> list[Array]:
    """Samples for a converter, in the order of the reference's inputs: of the training split where there is one."""
    given = dataset if dataset.train_inputs is None else dataclasses.replace(dataset, inputs=dataset.train_inputs)
    return [array[:REPRESENTATIVE] for array in datasets.arrange(given, reference.frozen.specs)]
