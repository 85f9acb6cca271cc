"""The inputs that a board was given, held against those of the data, in codes."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from qdebug.graph.graph import Graph
from qdebug.graph.quantization import Array
from qdebug.models.dumps.dump import NOT_HELD, Dump
from qdebug.record.device import DeviceInput
from qdebug.verdict.device_inputs import input_pattern

FROM_DUMP = "it is taken from the dump: give --data to check what the board was given"


def check_inputs(graph: Graph, dump: Dump, samples: Sequence[int], given: Sequence[Array] | None) -> list[DeviceInput]:
    """One entry for each input; `given` are real values of `samples`, in the candidate's order, `None` without data."""
    found = []
    for place, key in enumerate(graph.inputs):
        tensor = graph.tensors[key]
        bare = DeviceInput(tensor.name, int(str(key)), "unmeasured")
        why = dump.lacks(key, samples) if samples else NOT_HELD
        if why is not None or given is None:
            reason = why or FROM_DUMP
            found.append(
                DeviceInput(
                    bare.tensor, bare.tensor_index, "unmeasured", reason=reason, reasons={"differ_percent": reason}
                )
            )
            continue
        device = np.stack(dump.read(key, samples))
        wanted = tensor.codes(given[place]).reshape(device.shape)
        unlike = int(np.count_nonzero(device != wanted))
        if not unlike:
            found.append(DeviceInput(bare.tensor, bare.tensor_index, "exact", 0.0, 0, reason="the data's own codes"))
            continue
        is_codes = tensor.grid is not None
        pattern = (
            input_pattern(device, wanted, 0 if tensor.grid is None else tensor.grid.zero_point)
            if is_codes
            else f"{100 * unlike / device.size:.3g} % of its values are others"
        )
        largest = int(np.abs(device.astype(np.int64) - wanted).max()) if is_codes else None
        found.append(
            DeviceInput(
                bare.tensor,
                bare.tensor_index,
                "diverged",
                100 * unlike / device.size,
                largest,
                pattern,
                f"the board was given other inputs: {pattern}",
            )
        )
    return found
