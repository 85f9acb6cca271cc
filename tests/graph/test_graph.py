"""What a graph knows of its tensors."""

from __future__ import annotations

import numpy as np
import pytest

from qdebug.graph.graph import Graph, Op, Tensor


def graph_of(*steps: tuple[str, tuple[int, ...], dict[str, int], list[int] | None]) -> Graph:
    """One op after the other on an input of four steps of three values: kind, output shape, attributes, constant."""
    tensors = {0: Tensor(0, "input", (1, 4, 3), "float32")}
    ops = []
    for number, (kind, shape, attributes, held) in enumerate(steps):
        tensors[number + 1] = Tensor(number + 1, kind, shape, "float32")
        given = (number,)
        if held is not None:
            tensors[f"held{number}"] = Tensor(f"held{number}", "held", (len(held),), "int32", data=np.asarray(held))
            given = (number, f"held{number}")
        ops.append(Op(number, kind, kind.upper(), kind, given, (number + 1,), attributes))
    return Graph(tensors, tuple(ops), (0,), (len(steps),))


TURNED = ("transpose", (4, 1, 3), {}, [1, 0, 2])


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        ([TURNED], {1: 4}),
        ([TURNED, ("transpose", (1, 4, 3), {}, [1, 0, 2])], {1: 4}),
        ([TURNED, ("unpack", (1, 3), {"axis": 0}, None)], {1: 4}),
        ([("slice", (1, 3), {}, None), ("pack", (1, 1, 3), {"axis": 0}, None), ("relu", (1, 1, 3), {}, None)], {}),
        (
            [("slice", (1, 3), {}, None), ("pack", (2, 1, 3), {"axis": 0}, None), ("relu", (2, 1, 3), {}, None)],
            {2: 2, 3: 2},
        ),
        ([TURNED, ("reshape", (4, 3), {}, None), ("dense", (4, 5), {}, None)], {1: 4, 2: 4, 3: 4}),
        ([TURNED, ("slice", (2, 1, 3), {}, None), ("sum", (1, 3), {}, None)], {1: 4, 2: 2}),
        ([("space_to_batch", (4, 2, 3), {}, [4]), ("relu", (4, 2, 3), {}, None)], {1: 4, 2: 4}),
        ([("transpose", (1, 3, 4), {}, [0, 2, 1]), ("reshape", (12,), {}, None)], {}),
        ([TURNED, ("reshape", (12,), {}, None), ("dense", (1, 5), {}, None)], {1: 4, 2: 4}),
    ],
)
def test_values_ahead_of_the_samples(steps: list, expected: dict[int, int]) -> None:
    """Time-major tensors and blocks hold several values of one sample before those of the next."""
    assert graph_of(*steps).ahead == expected
