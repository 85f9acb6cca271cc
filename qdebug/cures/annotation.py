"""Quantization-aware training: which layers to leave unannotated, as code for the user. Nothing is built. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from qdebug.cures.plan import NOT_CONVERGED
from qdebug.record.curable import RANGES
from qdebug.record.loss import cost_of
from qdebug.record.schema import Run

SNIPPET = """import tensorflow_model_optimization as tfmot
from tf_keras.models import clone_model

LEAVE_FLOAT = {names}  # most costly first: {points}
annotate = tfmot.quantization.keras.quantize_annotate_layer
annotated = clone_model(model, clone_function=lambda layer: layer if layer.name in LEAVE_FLOAT else annotate(layer))
qat_model = tfmot.quantization.keras.quantize_apply(annotated)  # then train, convert and trace it
"""


def costly_layers(run: Run) -> dict[str, float | None]:
    """The layers whose quantizers cost points, most costly first, with the points, where those were measured."""
    names = {row.layer: row.region for row in run.layers}
    found: dict[str, float | None] = {}
    for one in run.findings:
        if one.code in RANGES and one.layer is not None and one.points is not None and (one.low or 0) > 0:
            found[one.layer] = max(one.points, found.get(one.layer) or 0.0)
    for layer in cost_of(run).layers if cost_of(run).stage == "training" else ():
        found.setdefault(layer.layer, layer.points)
    ordered = sorted(found.items(), key=lambda entry: -(entry[1] or 0.0))
    return {name: points for layer, points in ordered for name in names.get(layer) or [layer]}


def snippet(layers: Mapping[str, float | None]) -> str:
    """Code that annotates all layers but these."""
    points = ", ".join("not measured" if one is None else f"{one:.1f} points" for one in layers.values())
    return SNIPPET.format(names="{" + ", ".join(repr(name) for name in layers) + "}", points=points)


def steps_to_train(run: Run) -> list[str]:
    """What to do about ranges that have not converged: the number of steps, as the findings say."""
    return [f"{one.code}: {one.fix}" for one in run.findings if one.code in NOT_CONVERGED]
