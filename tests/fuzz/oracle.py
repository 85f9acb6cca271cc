"""What a trace must say of a file that it accepted: the outputs of both sides, computed by nothing but LiteRT."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

LOOSE = 2e-3
"""Share of the largest output by which a float reference computed by Keras and by its frozen graph may differ."""


def outputs(content: bytes, given: dict[str, np.ndarray], kernels: str) -> list[np.ndarray]:
    """Real values of a file's outputs, sample by sample."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolvers = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }
    native = Interpreter(model_content=content, experimental_op_resolver_type=resolvers[kernels])
    native.allocate_tensors()
    rows: list[list[np.ndarray]] = []
    single = len(given) == 1
    for number in range(len(next(iter(given.values())))):
        values: list[tuple[int, np.ndarray]] = []
        for detail in native.get_input_details():
            name = next((name for name in given if single or name in detail["name"]), None)
            if name is None:
                raise LookupError(detail["name"])
            value = given[name][number : number + 1].astype(np.float64)
            scale, zero = detail["quantization"]
            if np.issubdtype(detail["dtype"], np.integer) and scale:
                value = np.rint(np.float32(value) / np.float32(scale)) + zero
                limits = np.iinfo(detail["dtype"])
                value = np.clip(value, limits.min, limits.max)
            if value.size != np.prod(detail["shape"], dtype=np.int64):  # (another batch is built into the file)
                native.resize_tensor_input(detail["index"], value.shape)
                detail["shape"] = np.array(value.shape)
            values.append((detail["index"], value.astype(detail["dtype"]).reshape(detail["shape"])))
        native.allocate_tensors()
        for index, value in values:
            native.set_tensor(index, value)
        native.invoke()
        rows.append([_real(native, detail) for detail in native.get_output_details()])
    return [np.concatenate(column) for column in zip(*rows, strict=True)]


def _real(native: Any, detail: dict[str, Any]) -> np.ndarray:
    value = native.get_tensor(detail["index"])
    scale, zero = detail["quantization"]
    if np.issubdtype(value.dtype, np.integer) and scale:
        return (value.astype(np.float64) - zero) * scale
    return value.astype(np.float64)


def contradiction(record: Path, candidate: bytes, reference: list[np.ndarray], data: Path, kernels: str) -> str | None:
    """What the record says otherwise than LiteRT does, of a file with one output; None where they agree."""
    if len(reference) != 1:
        return None
    with np.load(data) as archive:
        given = {name: archive[name] for name in archive if name != "y"}
    run = json.loads(record.read_text())
    said = next((entry for entry in run["end_to_end"] if entry["name"] == "reference vs candidate"), None)
    if said is None:
        unmeasured = any(row["verdict"] == "unmeasured" for row in run["layers"])
        return None if run["end_to_end_reason"] and unmeasured else f"{run['verdict']}, and no output was compared"
    measured = outputs(candidate, given, kernels)[0]
    if not np.all(np.isfinite(measured)):
        return (
            None
            if run["verdict"] not in ("exact", "rounding")
            else f"{run['verdict']} with outputs that are not finite"
        )
    error = float(np.max(np.abs(measured.reshape(-1) - reference[0].reshape(-1))))
    told = said["max_error"]
    room = LOOSE * max(1.0, float(np.max(np.abs(reference[0])))) + 1e-3 * error
    if told is None or not math.isclose(told, error, abs_tol=room):
        return f"maximum error {told} in the record, {error} from LiteRT"
    return None


def unfounded(record: Path, path: Path, options: list[str]) -> str | None:
    """Why data could not have given the record that a trace made of them; None where they could."""
    loaded = np.load(path, allow_pickle=False)
    x = np.asarray(
        loaded
        if isinstance(loaded, np.ndarray)
        else loaded[
            options[1] if "--x-key" in options else next(name for name in ("x_test", "x", *loaded) if name in loaded)
        ]
    )
    if "--scale" in options:
        x = x / np.float64(options[1])
    with np.errstate(over="ignore"):
        taken = x.astype(np.float32)
    run = json.loads(record.read_text())
    if not np.all(np.isfinite(taken)):
        return f"samples that are not finite as float32 gave the verdict {run['verdict']}"
    if run["data"]["samples"] not in (len(x), int(options[1]) if "--samples" in options else -1):
        return f"{run['data']['samples']} samples of {len(x)}"
    labels = None if isinstance(loaded, np.ndarray) or "y" not in loaded else np.asarray(loaded["y"])
    plain = labels is not None and labels.ndim == 1 and labels.dtype.kind in "iuf"
    if plain and run["accuracy"]["reference"] is not None and not np.all((labels >= 0) & (labels < 3)):
        return f"accuracy {run['accuracy']['reference']} of labels that are no classes"
    return None
