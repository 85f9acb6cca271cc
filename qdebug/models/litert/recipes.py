"""Quantize a float `.tflite` file with some layers left in float32, or with 16-bit activations, by litert-quantizer.

The file is calibrated once. A recipe is what the quantizer itself reads: it says which output tensors of ops, by
regular expressions, are quantized how; of several rules that fit, the last one counts. litert-quantizer comes with
`pip install qdebug[cure]`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from qdebug.errors import ModelError, UsageError, first_line
from qdebug.graph.graph import Graph
from qdebug.graph.quantization import Array
from qdebug.models.quiet import quietly

ALL, MIN_MAX, NONE = "*", "min_max_uniform_quantize", "no_quantize"
MOST_SAMPLES = 500
"""Samples that a file is calibrated on: they run one by one."""


@dataclass(frozen=True, eq=False)
class CalibratedFile:
    """A float file with what its tensors range over."""

    content: bytes
    ranges: Any
    ends: tuple[str, str]
    """Types of inputs and outputs, such as int8."""

    def recipe(self, tensors: Sequence[str], bits: int | None = None) -> list[dict[str, Any]]:
        """Rules for int8; the ops that make these tensors get float32, or activations of so many bits."""
        rules = [_static(".*", 8)]
        rules += [
            _rule(".*", operation, NONE)
            for operation, dtype in zip(("INPUT", "OUTPUT"), self.ends, strict=True)
            if dtype == "float32"
        ]
        return rules + [
            _rule(_exactly(name), ALL, NONE) if bits is None else _static(_exactly(name), bits) for name in tensors
        ]

    def quantized(self, recipe: Sequence[dict[str, Any]]) -> bytes:
        """The file by this recipe. Raises ModelError."""
        with _quantizing("fails"):
            quantizer = _library().Quantizer(self.content, list(recipe))
            found = quantizer.quantize(self.ranges, enable_progress_bar=False, enable_progress_report=False)
            return bytes(found.quantized_model)


def calibrated_file(
    content: bytes, graph: Graph, representative: Sequence[Array], ends: tuple[str, str]
) -> CalibratedFile:
    """Run a float file on samples, one array per input. Raises UsageError without litert-quantizer, ModelError."""
    with _quantizing("cannot calibrate"):
        _library()
        from litert_quantizer import calibrator, recipe_manager
        from litert_quantizer.utils import qsv_utils

        samples = [
            {name: array[index : index + 1] for name, array in zip(graph.input_names, representative, strict=True)}
            for index in range(min(len(representative[0]), MOST_SAMPLES))
        ]
        rules = recipe_manager.RecipeManager()
        rules.load_quantization_recipe([_static(".*", 8)])
        # (its own update is a moving average of extremes, which clips what single samples reach)
        run = calibrator.Calibrator(content, qsv_update_func=qsv_utils.min_max_update)
        run.calibrate({_signature(content): samples}, rules)
        return CalibratedFile(content, run.get_model_qsvs(), ends)


def as_text(recipe: Sequence[dict[str, Any]]) -> str:
    """A recipe as the JSON that `litert-quantizer` reads."""
    return json.dumps(list(recipe), indent=1) + "\n"


@contextmanager
def _quantizing(failure: str) -> Iterator[None]:
    """Hold back what litert-quantizer prints, and raise what it raises as a ModelError that tells of the failure."""
    with quietly() as said:
        try:
            yield
        except UsageError:
            raise
        except Exception as error:
            raise ModelError(
                f"litert-quantizer {failure}: {first_line(error)}", details=f"{said.text()}\n{error}".strip()
            ) from error


def _library() -> Any:
    try:
        from litert_quantizer import quantizer
    except ImportError as error:
        raise UsageError(
            "a .tflite reference is quantized by litert-quantizer, which is not installed: pip install 'qdebug[cure]'"
        ) from error
    return quantizer


def _signature(content: bytes) -> str | None:
    from ai_edge_litert.interpreter import Interpreter

    names = list(Interpreter(model_content=content).get_signature_list())
    return names[0] if names else None


def _exactly(name: str) -> str:
    return f"^{re.escape(name)};?$"


def _rule(regex: str, operation: str, algorithm: str) -> dict[str, Any]:
    return {"regex": regex, "operation": operation, "algorithm_key": algorithm, "op_config": {}}


def _static(regex: str, bits: int) -> dict[str, Any]:
    """int8 weights on a scale for each channel, activations of 8 bits, or of 16 around zero."""
    return _rule(regex, ALL, MIN_MAX) | {
        "op_config": {
            "activation_tensor_config": {
                "num_bits": bits,
                "symmetric": bits == 16,
                "granularity": "TENSORWISE",
                "dtype": "INT",
            },
            "weight_tensor_config": {"num_bits": 8, "symmetric": True, "granularity": "CHANNELWISE", "dtype": "INT"},
            "compute_precision": "INTEGER",
            "explicit_dequantize": False,
            "skip_checks": False,
            "min_weight_elements": 0,
        }
    }
