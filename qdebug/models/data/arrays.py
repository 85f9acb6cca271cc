"""Anything that holds numbers, as a NumPy array; and what the data need to know of a model's input."""

from __future__ import annotations

from typing import Any, Protocol

import numpy as np

from qdebug.errors import InputError, first_line
from qdebug.graph.quantization import Array

CONVERSIONS = (
    ("toarray", "a sparse matrix", "data.toarray()"),
    ("to_tensor", "a ragged tensor", "data.to_tensor().numpy()"),
    ("to_dense", "a sparse tensor", "data.to_dense().numpy()"),
    ("dense_shape", "a sparse tensor", "tf.sparse.to_dense(data).numpy()"),
)
"""What an object of another kind can be told by, what it is, and what makes an array of it."""


class InputSpec(Protocol):
    """What is read of a model's input; a dimension that is free is `None`, the batch comes first."""

    @property
    def name(self) -> str:
        """Name of the input, with or without `serving_default_`, `quant_` and `:0`."""

    @property
    def shape(self) -> tuple[int | None, ...]:
        """Shape with the batch first."""

    @property
    def dtype(self) -> Any:
        """Element type, as NumPy understands it."""


def bare_name(name: str) -> str:
    """The name of an input without what converters and tfmot put around it."""
    name = name.rsplit(":", 1)[0] if name.rsplit(":", 1)[-1].isdigit() else name
    return name.removeprefix("serving_default_").removeprefix("quant_")


def fits(shape: tuple[int, ...], wanted: tuple[int | None, ...]) -> bool:
    """Whether an array of this shape is one of the `wanted` shape, where `None` is any size."""
    return len(shape) == len(wanted) and all(want in (None, has) for want, has in zip(wanted, shape, strict=True))


def as_array(value: Any, source: str) -> Array:
    """An array of numbers. Raises InputError, which says what the value is and what makes an array of it."""
    if isinstance(value, np.ndarray):
        found: Array = value
    else:
        refuse_sparse(value, source)
        plain = value.detach().cpu() if hasattr(value, "detach") and hasattr(value, "cpu") else value
        if isinstance(plain, (str, bytes, set, frozenset)) or (callable(plain) and not hasattr(plain, "__array__")):
            raise _unknown(value, source)
        try:
            found = np.asarray(plain)
        except (ValueError, TypeError, RuntimeError) as error:
            raise InputError(
                f"{source} is no array ({first_line(error)}): bring all samples to one shape, np.stack(samples)"
            ) from error
    if found.dtype.kind == "V" and found.dtype.name == "bfloat16":
        return found.astype(np.float32)
    if found.dtype.kind not in "buif":
        raise (
            _unknown(value, source)
            if found.dtype.kind == "O" and not isinstance(value, (list, tuple))
            else InputError(f"{source} is of type {found.dtype}: numbers are needed, such as array.astype('float32')")
        )
    return found


def refuse_sparse(value: Any, source: str) -> None:
    """Raise InputError for what must be made dense first, with what does that."""
    for attribute, what, how in CONVERSIONS:
        if hasattr(value, attribute) and not hasattr(value, "__array__") and not hasattr(value, "detach"):
            raise InputError(f"{source} is {what}: give {how}")


def _unknown(value: Any, source: str) -> InputError:
    return InputError(
        f"{source} is a {type(value).__module__}.{type(value).__qualname__}, which is not read: give an "
        "array, np.asarray(data, 'float32'), or an iterable of such"
    )
