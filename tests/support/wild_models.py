"""Small networks as they are found in the wild, traced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdebug.record.schema import Row, Run
from qdebug.workflows.trace_options import TraceOptions
from tests.support.float_models import samples


def made(build: Callable[[Any, Any], Any], seed: int = 3) -> Any:
    """The model that `build` makes of Keras' layers and an 8x8 image with three channels, with spread parameters."""
    from qdebug.models.tensorflow import load_tensorflow
    from tests.support.converted_models import randomize

    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    given = keras.layers.Input((8, 8, 3), name="image")
    model = keras.Model(given, build(keras.layers, given))
    randomize(model, seed)
    return model


def traced(model: Any, content: bytes, kernels: str = "xnnpack") -> Run:
    """Trace on random images."""
    from qdebug.workflows.trace import trace

    return trace(model, content, samples(), options=TraceOptions(kernels=kernels, handover=False))


def troubles(run: Run) -> list[tuple[str | None, str]]:
    """What a healthy file must not show: diverged rows and error findings."""
    rows: list[Row] = [row for row in run.layers if row.verdict == "diverged"]
    return [(row.layer, row.reason) for row in rows] + [
        (one.layer, one.title) for one in run.findings if one.severity == "error"
    ]


def quantization_aware(model: Any) -> Any:
    """The QAT model, operators on tensors left as they are; its ranges set by a few batches."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    stack = load_tensorflow()
    quantize = stack.tfmot.quantization.keras

    def annotated(layer: Any) -> Any:
        return (
            layer if type(layer).__name__ in ("TFOpLambda", "InputLayer") else quantize.quantize_annotate_layer(layer)
        )

    with quietly():
        made = quantize.quantize_apply(stack.tf_keras.models.clone_model(model, clone_function=annotated))
        for _ in range(3):
            made(samples(), training=True)
    return made
