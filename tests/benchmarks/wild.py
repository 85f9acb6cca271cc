"""Pairs that nobody tuned for: networks of many kinds, each converted in every way, healthy and with planted faults.

    python -m tests.benchmarks.wild                                   every network, every conversion
    python -m tests.benchmarks.wild --nets unet,ds_cnn --kinds int8,16x8 --keras 3
    python -m tests.benchmarks.wild --faults                          planted faults instead

Healthy files must show no `diverged` row and no error finding; a planted fault must be the first divergent layer.
"""

from __future__ import annotations

import argparse
import contextlib
import subprocess
import sys
import time
import traceback
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from qdebug.errors import QDebugError
from qdebug.models.cache_folder import default_folder
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.litert.parse import parse
from qdebug.models.quiet import quietly
from qdebug.models.reference.open import load_reference
from qdebug.models.tensorflow import load_tensorflow
from qdebug.record.schema import Run
from qdebug.workflows.trace import trace
from qdebug.workflows.trace_options import TraceOptions
from tests.benchmarks import wild_more_nets  # noqa: F401 (its networks register themselves)
from tests.benchmarks.wild_faults import FAULTS
from tests.benchmarks.wild_nets import NETS, data_for
from tests.support.converted_models import post_training_converter
from tests.support.tflite_edits import as_uint8, edit

MNIST = Path(__file__).parents[3] / "shared" / "data" / "mnist.npz"
KINDS = ("int8", "uint8_io", "float_io", "dynamic", "float16", "float32", "16x8", "old", "per_tensor", "uint8")
TRAINING, CALIBRATION, TRACED = 1200, 100, 128
EXPECTED = ("inserted by the converter", "fused into", "computes a shape", "a step inside", "one half of")
"""How the reasons of ops begin that need no row."""
VERDICTS = ("exact", "rounding", "requantized", "diverged", "unmeasured")
HARMLESS = 0.5
"""dB of the outputs' SQNR below which an edit has no effect: grids are used consistently on both sides of a tensor."""
HEADERS = ("net", "Keras", "file", " ".join(VERDICTS), "first divergent", "errors", "paired", "SQNR dB", "s")
FAULT_HEADERS = ("net", "file", "fault", "planted at", "first divergent", "finding", "reason", "errors")


def keras_of(version: int) -> Any:
    """Keras 2 (tf_keras) or Keras 3."""
    stack = load_tensorflow()
    if version == 2:
        return stack.tf_keras
    import keras

    return keras


def folder() -> Path:
    """Where trained networks and their files are kept."""
    found = default_folder() / "benchmarks" / "wild"
    found.mkdir(parents=True, exist_ok=True)
    return found


def mnist() -> dict[str, np.ndarray]:
    """The images, training and test."""
    with np.load(MNIST) as held:
        return {name: held[name][:TRAINING] for name in held.files}


def trained(name: str, version: int = 2, seed: int = 1) -> Path:
    """The trained float model, from the cache or made: `.h5` by Keras 2, `.keras` by Keras 3."""
    path = folder() / f"{name}-k{version}-s{seed}.{'h5' if version == 2 else 'keras'}"
    if path.exists():
        return path
    keras = keras_of(version)
    with quietly():
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        model = NETS[name](keras)
        inputs, targets = data_for(model, mnist(), 300 if name == "person" else TRAINING)
        model.compile(keras.optimizers.Adam(2e-3), "mse")
        model.fit(
            inputs if len(inputs) > 1 else inputs[0],
            targets if len(targets) > 1 else targets[0],
            epochs=3,
            batch_size=32,
            verbose=0,
        )
        model.save(path)
    return path


def convert(model: Any, kind: str, gain: float = 1.0) -> bytes:
    """Convert in one of the `KINDS`; ranges are taken from training samples times `gain`."""
    tf = load_tensorflow().tf
    converter = post_training_converter(model, kind)
    if kind not in ("float32", "float16", "dynamic"):
        names = list(model.input_names) if hasattr(model, "input_names") else [one.name for one in model.inputs]
        shown, _ = data_for(model, mnist(), CALIBRATION)
        converter.representative_dataset = lambda: _one_by_one(shown, names, gain)
    if kind in ("int8", "uint8_io", "per_tensor", "uint8"):
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = converter.inference_output_type = tf.uint8 if kind == "uint8_io" else tf.int8
    if kind == "old":
        converter.experimental_new_quantizer = converter._experimental_new_quantizer = False
    if kind in ("per_tensor", "uint8"):
        converter._experimental_disable_per_channel = True
    with quietly():
        content = bytes(converter.convert())
    return edit(content, as_uint8) if kind == "uint8" else content


def _one_by_one(arrays: list[np.ndarray], names: list[str], gain: float) -> Iterator[Any]:
    for index in range(len(arrays[0])):
        sample = [array[index : index + 1] * array.dtype.type(gain) for array in arrays]
        yield sample if len(sample) == 1 else dict(zip(names, sample, strict=True))


def path_of(name: str, version: int, kind: str) -> Path:
    """Where the converted file lies."""
    return folder() / f"{name}-k{version}-{kind}.tflite"


def convert_all(name: str, version: int, kinds: list[str]) -> None:
    """Make the files that are missing, in a process of its own: some settings abort the converter."""
    while any(not path_of(name, version, kind).exists() for kind in kinds):
        subprocess.run(
            [
                sys.executable,
                "-m",
                __spec__.name,
                "--nets",
                name,
                "--keras",
                str(version),
                "--kinds",
                ",".join(kinds),
                "--convert",
            ],
            check=False,
            stderr=subprocess.DEVNULL,
        )


def convert_missing(name: str, version: int, kinds: list[str]) -> None:
    """Make the files that are missing; one that the converter, or LiteRT on running it, refuses is left empty."""
    for kind in kinds:
        path = path_of(name, version, kind)
        if not path.exists():
            path.write_bytes(b"")  # (stays where the converter aborts the process)
            with contextlib.suppress(RuntimeError):  # (an op that this kind of conversion does not know)
                content = convert(load_reference(trained(name, version)).model, kind)
                Interpreter(content, parse(content), kernels="xnnpack").allocate(2)  # (LiteRT aborts on a few)
                path.write_bytes(content)


def samples(model: Any) -> list[np.ndarray]:
    """Test samples that the converter did not see."""
    inputs, _ = data_for(model, mnist(), TRACED, part="test", seed=5)
    return inputs


def traced(name: str, version: int, content: bytes, options: TraceOptions) -> Run:
    """Trace one file against its float model."""
    reference = load_reference(trained(name, version))
    inputs = samples(reference.model)
    names = [spec.name for spec in reference.frozen.specs]
    data = inputs[0] if len(inputs) == 1 else _by_name(reference.model, inputs, names)
    return trace(reference.model, content, data, options=options)


def _by_name(model: Any, inputs: list[np.ndarray], names: list[str]) -> dict[str, np.ndarray]:
    own = [tensor.name.partition(":")[0] for tensor in model.inputs]
    return {name: inputs[own.index(name)] if name in own else inputs[k] for k, name in enumerate(names)}


def line(name: str, version: int, kind: str, options: TraceOptions) -> list[Any]:
    """One line of the table: verdict counts, first divergent, errors, coverage, SQNR."""
    start = time.perf_counter()
    head, content = [name, version, kind], path_of(name, version, kind).read_bytes()
    if not content:
        return [*head, "the converter or LiteRT refuses"]
    try:
        run = traced(name, version, content, options)
    except QDebugError as error:
        return [*head, f"refused: {error}"]
    except Exception as error:  # noqa: BLE001 (a study goes on, and shows what broke)
        traceback.print_exc()
        return [*head, f"BROKE: {type(error).__name__}: {str(error)[:80]}"]
    rows = [row for group in (run.layers, *(run.by_kernels or {}).values()) for row in group]
    counts = Counter(row.verdict for row in rows)
    for text in trouble(run):
        print(f"  {text}", flush=True)
    return [
        *head,
        " ".join(str(counts[word]) for word in VERDICTS),
        run.first_divergent,
        ",".join(one.code for one in run.findings if one.severity == "error"),
        f"{run.coverage.paired}/{run.coverage.candidate_ops}",
        ", ".join("exact" if end.sqnr_db is None else f"{end.sqnr_db:.1f}" for end in run.end_to_end),
        f"{time.perf_counter() - start:.1f}",
    ]


def faulty(name: str, version: int, kind: str, options: TraceOptions, seed: int) -> list[list[Any]]:
    """Lines of the table of faults: where it was planted, what was found."""
    content = path_of(name, version, kind).read_bytes()
    lines: list[list[Any]] = []
    try:
        healthy = traced(name, version, content, options).end_to_end if content else []
    except QDebugError as error:
        return [[name, kind, "healthy", f"refused: {error}"]]
    for fault, plant in FAULTS.items() if content else ():
        planted = plant(content, np.random.default_rng([seed, *fault.encode(), *name.encode()]))
        if planted is None:
            continue
        head = [name, kind, fault]
        try:
            run = traced(name, version, planted[0], options)
        except QDebugError as error:
            lines.append([*head, f"refused: {error}"])
            continue
        row = next((row for row in run.layers if row.op_index == planted[1]), None)
        first = next((row for row in run.layers if row.verdict == "diverged"), None)
        errors = [f"{one.code} at {one.layer}" for one in run.findings if one.severity == "error"]
        hit = first is not None and first.op_index == planted[1]
        named = row is not None and any(one.endswith(f" at {row.layer}") for one in errors)
        same = all(
            abs((one.sqnr_db or 0) - (two.sqnr_db or 0)) < HARMLESS
            for one, two in zip(healthy, run.end_to_end, strict=True)
        )
        what = (
            "found"
            if hit
            else f"ELSEWHERE: {first.layer}"
            if first is not None
            else "without effect"
            if same
            else "MISSED"
        )
        lines.append(
            [
                *head,
                row.layer if row else f"op {planted[1]}",
                what,
                "named" if named else "not named",
                first.reason[:60] if first else row.reason[:60] if row else "",
                ", ".join(errors)[:60],
            ]
        )
    return lines


def trouble(run: Run, most: int = 6) -> list[str]:
    """What a healthy file should not show."""
    found = [
        f"{row.layer} {row.op} {row.verdict}: {row.reason}"
        for row in run.layers
        if row.verdict in ("diverged", "unmeasured")
    ]
    found += [f"{one.code} at {one.layer}: {one.title}" for one in run.findings if one.severity == "error"]
    found += [
        f"unpaired {one.name} {one.op}: {one.reason}"
        for one in run.coverage.unpaired
        if not one.reason.startswith(EXPECTED)
    ]
    return [*found[:most], *[f"... and {len(found) - most} more"][: len(found) > most]]


def main() -> None:
    """Run the study and print its table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--nets", default=",".join(NETS))
    parser.add_argument("--kinds", default=",".join(KINDS))
    parser.add_argument("--keras", type=int, default=2, choices=(2, 3))
    parser.add_argument("--kernels", default="xnnpack")
    parser.add_argument("--faults", action="store_true", help="planted faults in place of healthy files")
    parser.add_argument("--seed", type=int, default=0, help="of the places of the faults")
    parser.add_argument("--convert", action="store_true", help="make the files alone")
    given = parser.parse_args()
    if given.convert:
        for name in given.nets.split(","):
            convert_missing(name, given.keras, given.kinds.split(","))
        return
    options = TraceOptions(kernels=given.kernels, handover=False)
    lines = []
    for name in given.nets.split(","):
        convert_all(name, given.keras, given.kinds.split(","))
        for kind in given.kinds.split(","):
            found = (
                faulty(name, given.keras, kind, options, given.seed)
                if given.faults
                else [line(name, given.keras, kind, options)]
            )
            lines += found
            for one in found:
                print(*one, flush=True)
    print(tabulate(lines, headers=FAULT_HEADERS if given.faults else HEADERS))


if __name__ == "__main__":
    main()
