"""Layers of a TensorFlow graph that knows none: ops are named by the scopes that they stand in.

A scope is shortened to what is unique at its end: `net/stage2/conv` is `conv`, or `stage2/conv` where another stage
has a `conv` too. Scopes that TensorFlow opens inside of one layer, and those that calling a function leaves behind,
are left out. Standard library alone.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from qdebug.graph.graph import Layer

CALLS = re.compile(r"^(Stateful)?PartitionedCall(_\d+)?$|^(jit|pjit|xla_call)\(.*\)$")
"""Scopes that are left of a function that was called."""
INNER = re.compile(
    r"^(batchnorm|moments|Tensordot|separable_conv2d|einsum|BatchNorm|"
    r"MovingAvgQuantize|AllValuesQuantize|LastValueQuant|AssignM\w+Ema)(_\d+)?$"
)
"""Scopes that TensorFlow opens inside of one layer."""
QUANTIZE_LAYER = re.compile(r"^quantize_layer(_\d+)?$")
"""The layer that tfmot puts behind an input."""
NUMBERED = re.compile(r"^(.+)_(\d+)$")


def scope_of(name: str) -> tuple[str, ...]:
    """The parts of the scope that an op stands in: its own name where it stands in none."""
    parts = [part.removeprefix("quant_") for part in name.split("/") if not CALLS.match(part)]
    *scope, last = parts or [name]
    while scope and INNER.match(scope[-1]):
        scope.pop()
    return tuple(scope) or (last,)


def layers_of(names: Mapping[str, str]) -> dict[str, Layer]:
    """One layer for every op: `names` gives the type of each op that computes something, by the op's name."""
    scopes = {name: scope_of(name) for name in names}
    plain = without_number(set(scopes.values()))
    short = _shortened(plain.values())
    kinds = {scopes[name]: kind for name, kind in names.items()}
    made = {
        scope: Layer(
            "/".join(short[plain[scope]]),
            "/".join(scope),
            1,
            "QuantizeLayer" if QUANTIZE_LAYER.match(scope[-1]) else kind,
            plain[scope],
        )
        for scope, kind in kinds.items()
    }
    return {name: made[scopes[name]] for name in names}


def without_number(scopes: set[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """Each scope without the number that Keras adds to all names when it traces a model a second time: `conv_1`."""
    ends = [NUMBERED.match(scope[-1]) for scope in scopes]
    numbers = {end.group(2) for end in ends if end is not None}
    if len(scopes) < 2 or None in ends or len(numbers) != 1:
        return {scope: scope for scope in scopes}
    cut = {scope: (*scope[:-1], end.group(1)) for scope, end in zip(scopes, ends, strict=True) if end is not None}
    return cut if len(set(cut.values())) == len(cut) else {scope: scope for scope in scopes}


def _shortened(scopes: Iterable[tuple[str, ...]]) -> dict[tuple[str, ...], tuple[str, ...]]:
    """The shortest end of each scope that no other has."""
    whole = set(scopes)
    ends = Counter(scope[at:] for scope in whole for at in range(len(scope)))
    return {
        scope: next((scope[at:] for at in range(len(scope) - 1, -1, -1) if ends[scope[at:]] == 1), scope)
        for scope in whole
    }
