"""What an op's options should be, by the reference: its fused activation, window, padding and the like. Pure."""

from __future__ import annotations

from typing import Any

import numpy as np

from qdebug.align import Aligned, Pair
from qdebug.findings.audit.activations import wanted_limits
from qdebug.findings.audit.op_options import OPTIONS
from qdebug.graph.edits import OptionEdit

FUSED = {(-np.inf, np.inf): 0, (0.0, np.inf): 1, (-1.0, 1.0): 2, (0.0, 6.0): 3}
"""What a fused activation lets through -> its number in the flatbuffer schema (ActivationFunctionType)."""
WINDOWS = {
    "stride": ("strideH", "strideW"),
    "dilation": ("dilationHFactor", "dilationWFactor"),
    "pool size": ("filterHeight", "filterWidth"),
}
SINGLE = {
    "axis": "axis",
    "alpha": "alpha",
    "beta": "beta",
    "align_corners": "alignCorners",
    "half_pixel_centers": "halfPixelCenters",
}
PADDINGS = {"SAME": 0, "VALID": 1}


def mend_activation(aligned: Aligned, pair: Pair) -> OptionEdit | str:
    """The fused activation that the reference has there, or why the op cannot have it."""
    wanted = wanted_limits(aligned.reference, pair)
    if wanted is None or wanted not in FUSED:
        return "no fused activation does what the reference's does"
    assert pair.op is not None
    if "fused_activation_function" not in pair.op.attributes:
        return f"{pair.op.raw} has no fused activation"
    return OptionEdit(pair.op.index, {"fusedActivationFunction": FUSED[wanted]})


def mend_options(aligned: Aligned, pair: Pair) -> OptionEdit | str:
    """The options that differ from the reference's, or why they cannot be set."""
    assert pair.op is not None
    assert pair.core is not None
    check = OPTIONS[pair.core.kind]
    found: dict[str, Any] = {}
    for name, expected, held in check(aligned.reference, aligned.candidate, pair.core, pair.op):
        if expected is None or held is None or expected == held:
            continue
        if name in WINDOWS:
            found |= dict(zip(WINDOWS[name], map(int, expected), strict=True))
        elif name == "padding":
            found["padding"] = PADDINGS[expected]
        elif name in SINGLE:
            found[SINGLE[name]] = expected
        else:
            return f"its {name} is a constant of the graph"
    return OptionEdit(pair.op.index, found) if found else "nothing that can be set differs"
