"""What one element of a stream means: samples or batches of them, with labels or without.

The conventions are those of Keras and of the TFLite converter: a tuple is (x, y) or (x, y, weights), a list holds one
array per model input (as a representative data set yields), a dict holds arrays by input name.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qdebug.errors import InputError
from qdebug.graph.quantization import Array
from qdebug.models.data.arrays import InputSpec, as_array, bare_name, fits

LABELS = ("y", "label", "labels", "target", "targets")
"""Keys of a dict that hold labels, where no model input has that name."""
Inputs = dict[str, Array]
Labels = dict[str, Array]


def parts(element: Any, specs: Sequence[InputSpec], source: str) -> tuple[Inputs, Labels]:
    """The inputs and the labels of one element. Raises InputError."""
    if isinstance(element, tuple) and not hasattr(element, "_fields") and len(element) > 3:
        raise InputError(
            f"{source}: an element is a tuple of {len(element)}: yield (x, y), with several inputs as a dict in x"
        )
    if isinstance(element, tuple):
        x, y = element[0], element[1] if len(element) > 1 else None
        both = len(specs) > 1 and len(element) == len(specs) and not isinstance(x, (dict, list, tuple))
        x, y = (list(element), None) if both else (x, y)
        return _inputs(x, specs, source), labels_of(y, source)
    if isinstance(element, list) and holds_arrays(element) and len(element) == len(specs) + 1:
        return _inputs(element[:-1], specs, source), labels_of(element[-1], source)
    return _split(element, specs, source) if isinstance(element, Mapping) else (_inputs(element, specs, source), {})


def _inputs(given: Any, specs: Sequence[InputSpec], source: str) -> Inputs:
    if isinstance(given, Mapping):
        return _split(given, specs, source)[0]
    if not holds_arrays(given):
        return {"x": as_array(given, source)}
    if len(given) != len(specs):
        names = ", ".join(spec.name for spec in specs)
        raise InputError(
            f"{source}: an element holds {len(given)} arrays, the model takes {len(specs)} ({names}): "
            "yield a list with one array per input, or (x, y)"
        )
    arrays = [as_array(one, source) for one in given]
    return {"x": arrays[0]} if len(specs) == 1 else {spec.name: one for spec, one in zip(specs, arrays, strict=True)}


def holds_arrays(given: Any) -> bool:
    """Whether a list or tuple holds arrays (or dicts of them), not the numbers of one."""
    return isinstance(given, (list, tuple)) and any(hasattr(one, "shape") or isinstance(one, Mapping) for one in given)


def _split(given: Mapping[str, Any], specs: Sequence[InputSpec], source: str) -> tuple[Inputs, Labels]:
    """A dict: what is named after an input is one; the rest are labels, by the name of their output."""
    names = {bare_name(spec.name) for spec in specs}
    inputs = {key: value for key, value in given.items() if bare_name(str(key)) in names}
    rest = {str(key): value for key, value in given.items() if key not in inputs}
    if not inputs and len(specs) == 1:
        own = [key for key in rest if key not in LABELS and not key.startswith("y_")]
        if len(own) != 1:
            raise InputError(
                f"{source}: none of {', '.join(map(str, given))} is named after the model's input "
                f"{specs[0].name}: name it so"
            )
        inputs = {own[0]: rest.pop(own[0])}
    found = {str(key): as_array(value, source) for key, value in inputs.items()}
    labels = {"y" if key in LABELS else key.removeprefix("y_"): as_array(value, source) for key, value in rest.items()}
    return {"x": next(iter(found.values()))} if len(specs) == 1 else found, labels


def labels_of(given: Any, source: str) -> Labels:
    """Labels: one array, or a dict by output name."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        return {str(key): as_array(value, source) for key, value in given.items()}
    if isinstance(given, (list, tuple)) and given and np.ndim(as_array(given[0], source)) > 0:
        raise InputError(
            f"{source}: labels of several outputs come as a {type(given).__name__}: give a dict by output "
            "name, {'output': array}"
        )
    return {"y": as_array(given, source)}


def is_batch(inputs: Inputs, specs: Sequence[InputSpec]) -> bool:
    """Whether the arrays begin with samples; where both could be, they hold one sample."""
    one = next(iter(inputs.values()))
    spec = next((spec for spec in specs if spec.name in inputs), specs[0])
    wanted, shape = tuple(spec.shape)[1:], np.shape(one)
    if fits(shape, wanted):
        return False
    if fits(shape[1:], wanted) and shape:
        return True
    if _nearly(shape, wanted):
        return False
    return len(shape) > len(wanted) or _nearly(shape[1:], wanted)


def _nearly(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether a last axis of 1 is all that is missing or too much."""
    return fits((*shape, 1), wanted) or (shape[-1:] == (1,) and fits(shape[:-1], wanted))
