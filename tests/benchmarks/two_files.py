"""Two files of one model against each other: other converter settings, other kernels, and faults planted in one.

    python -m tests.benchmarks.two_files
    python -m tests.benchmarks.two_files --faults

Prints, for every ordered pair of settings, the verdicts of the rows and the findings that are errors (a healthy pair
has no `diverged` row and no error), and the same for every pair of kernel families; with --faults how many planted
faults are the first divergence, by fault and by setting of the other file.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from qdebug.errors import QDebugError
from qdebug.models.litert.parse import parse
from qdebug.models.quiet import quietly
from qdebug.models.tensorflow import load_tensorflow
from qdebug.record.schema import Run
from qdebug.workflows.trace import trace
from qdebug.workflows.trace_options import TraceOptions
from tests.faults import planting as p
from tests.support.converted_models import post_training_converter, randomize

FAMILIES = ("xnnpack", "builtin", "reference")
SIDE = 16


def network() -> Any:
    """Everything that converters treat apart: BN, depthwise, swish, squeeze and excite, concat, resizing, dense."""
    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(1)
    L = keras.layers
    i = L.Input((SIDE, SIDE, 3), name="image")
    x = L.Conv2D(8, 3, padding="same", use_bias=False, name="stem")(i)
    x = L.ReLU(6.0, name="stem_relu")(L.BatchNormalization(name="stem_bn")(x))
    y = L.DepthwiseConv2D(3, padding="same", name="dw")(x)
    y = L.Activation("swish", name="swish")(L.BatchNormalization(name="dw_bn")(y))
    x = L.Add(name="add")([x, y])
    x = L.Concatenate(name="cat")([x, L.Conv2D(8, 1, name="linear")(x)])
    x = L.MaxPooling2D(2, name="max")(x)
    s = L.GlobalAveragePooling2D(keepdims=True, name="squeeze")(x)
    x = L.Multiply(name="excite")([x, L.Conv2D(16, 1, activation="sigmoid", name="gate")(s)])
    x = L.LeakyReLU(0.1, name="leaky")(L.Conv2DTranspose(6, 3, strides=2, padding="same", name="up")(x))
    x = L.UpSampling2D(interpolation="bilinear", name="resize")(L.AveragePooling2D(2, name="average")(x))
    x = L.Flatten(name="flat")(L.Conv2D(4, 3, strides=2, name="down")(x))
    x = L.Dense(12, activation="relu", name="hidden")(x)
    model = keras.Model(i, L.Dense(5, activation="softmax", name="probs")(x))
    randomize(model, 3)
    return model


def samples(count: int, seed: int) -> np.ndarray:
    """Images of 16 smooth patches with a little noise."""
    draw = np.random.default_rng(seed)
    patches = np.kron(draw.normal(size=(count, 4, 4, 3)), np.ones((1, SIDE // 4, SIDE // 4, 1)))
    return (patches + 0.2 * draw.normal(size=patches.shape)).astype(np.float32)


def convert(model: Any, kind: str = "int8", seed: int = 0, **settings: Any) -> bytes:
    """A file of the model: `int8`, `float ends`, `16x8`, `dynamic`, `float16` or `float32`."""
    tf = load_tensorflow().tf
    shown = samples(64, seed)
    converter = post_training_converter(model, kind)
    if kind in ("int8", "float ends", "16x8"):
        converter.representative_dataset = lambda: ([entry[None]] for entry in shown)
    if kind in ("int8", "float ends"):
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    if kind == "int8":
        converter.inference_input_type = converter.inference_output_type = tf.int8
    for name, value in settings.items():
        setattr(converter, name, value)
    with quietly():
        return bytes(converter.convert())


SETTINGS: dict[str, dict[str, Any]] = {
    "int8": {},
    "old quantizer": {"experimental_new_quantizer": False},
    "per tensor": {"_experimental_disable_per_channel": True},
    "dense per tensor": {"_experimental_disable_per_channel_quantization_for_dense_layers": True},
    "other samples": {"seed": 7},
    "float ends": {"kind": "float ends"},
    "16x8": {"kind": "16x8"},
    "dynamic": {"kind": "dynamic"},
    "float16": {"kind": "float16"},
    "float32": {"kind": "float32"},
}
FAULTS: dict[str, Callable[[p.Site], None]] = {
    "one weight by half its range": p.weight(100),
    "one channel's scale x 1.5": p.channel_scale(1.5),
    "two channels swapped": p.swapped_channels,
    "biases 0": p.bias(p.zeroed),
    "biases moved on": p.bias(p.rolled),
    "output scale + 10 %": p.scale(1.1),
    "zero point + 3": p.zero_point(3),
}


def run(reference: bytes, candidate: bytes, data: np.ndarray, options: TraceOptions) -> Run:
    """Trace one file against the other."""
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = Path(folder) / "reference.tflite"
        path.write_bytes(reference)
        return trace(str(path), candidate, data, options=options)


def line(found: Run) -> list[Any]:
    """Verdicts, first divergence, errors and the end-to-end difference."""
    counts = Counter(row.verdict for row in found.layers)
    errors = sorted({one.code for one in found.findings if one.severity == "error"})
    return [
        ", ".join(f"{count} {verdict}" for verdict, count in counts.items()),
        found.first_divergent or "-",
        " ".join(errors) or "-",
        f"{found.coverage.paired}/{found.coverage.candidate_ops}",
        f"{found.end_to_end[-1].max_error:.3g}",
    ]


def planted(files: dict[str, bytes], data: np.ndarray) -> list[list[Any]]:
    """For every fault in the int8 file: how often it is the first divergence, by the other file's setting."""
    content = files["int8"]
    graph = parse(content)
    sites = [op for op in graph.ops if op.kind in ("conv", "depthwise", "dense")]
    lines = []
    for setting in ("int8", "per tensor", "other samples", "float ends", "16x8"):
        for name, fault in FAULTS.items():
            for spoiled in ("candidate", "reference"):
                found, missed = 0, []
                for op in sites if name != "two channels swapped" else [op for op in sites if op.kind != "depthwise"]:
                    broken = p.edit(content, op.index, fault)
                    pair = (files[setting], broken) if spoiled == "candidate" else (broken, files[setting])
                    try:
                        traced = run(*pair, data, TraceOptions(handover=False))
                    except QDebugError:
                        continue  # (LiteRT opens no such file)
                    first = next((row for row in traced.layers if row.layer == traced.first_divergent), None)
                    tensor = graph.tensors[op.output].name
                    if first is not None and _layer(first.tensor) == _layer(tensor):
                        found += 1
                    else:
                        missed.append(f"{_layer(tensor)}: {traced.first_divergent}")
                lines.append([setting, name, spoiled, f"{found}/{found + len(missed)}", "; ".join(missed)[:100]])
    return lines


def _layer(tensor: str) -> str:
    """The layer that a tensor is named by, whatever else is fused into it."""
    return tensor.partition(";")[0].split("/")[1] if "/" in tensor else tensor


def main() -> None:
    """Run the study."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--samples", type=int, default=100)
    parser.add_argument("--faults", action="store_true")
    given = parser.parse_args()
    model, data = network(), samples(given.samples, 5)
    files = {name: convert(model, **settings) for name, settings in SETTINGS.items()}
    headers = ["reference", "candidate", "rows", "first divergent", "errors", "paired", "max error"]
    plain = TraceOptions(handover=False)
    if given.faults:
        print(tabulate(planted(files, data[:32]), ["other file", "fault", "planted in", "found there", "else"]))
        return
    print(
        tabulate(
            [[one, other, *line(run(files[one], files[other], data, plain))] for one in files for other in files],
            headers,
        )
    )
    print()
    print(
        tabulate(
            [
                [
                    one,
                    other,
                    *line(
                        run(
                            files["int8"],
                            files["int8"],
                            data,
                            TraceOptions(kernels=other, reference_kernels=one, handover=False),
                        )
                    ),
                ]
                for one in FAMILIES
                for other in FAMILIES
            ],
            ["reference kernels", "candidate kernels", *headers[2:]],
        )
    )


if __name__ == "__main__":
    main()
