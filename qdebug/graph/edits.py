"""Changes of a `.tflite` file's numbers as plain values: constants, grids, op options. The graph stays as it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array


@dataclass(frozen=True, eq=False)
class TensorEdit:
    """Other numbers for one tensor; what is `None` stays as it is."""

    key: Key
    data: Array | None = None
    """In the tensor's own type and shape. The tensor gets a buffer of its own."""
    scale: Array | None = None
    zero_point: Array | None = None
    axis: int | None = None
    """Of several scales: the axis that they run along."""


@dataclass(frozen=True, eq=False)
class BiasEdit:
    """A bias of its own for one op, whatever it had: none, or one that other ops read too."""

    op_index: int
    data: Array
    """One value a channel: int32 or int64 codes, or float32."""
    scale: Array | None = None
    """One a channel, or one for all; `None` for a float bias."""


@dataclass(frozen=True)
class OptionEdit:
    """Other options of one op, by their names in the flatbuffer schema."""

    op_index: int
    options: Mapping[str, int | float | bool] = field(default_factory=dict)


Edit = TensorEdit | BiasEdit | OptionEdit
