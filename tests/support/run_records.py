"""Hand-made run records: small, complete, and different where the renderers must cope."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from qdebug.record.device import DeviceOp, DeviceReport
from qdebug.record.schema import (
    Cost,
    CostLayer,
    CostStage,
    Coverage,
    EndToEnd,
    ErrorStats,
    Finding,
    Row,
    Run,
    Unpaired,
    WorstSample,
)
from qdebug.record.serialization import dumps


def stats(flip_percent: float | None, max_lsb: int | None, **given: Any) -> ErrorStats:
    values: dict[str, Any] = {"mean_lsb": 0.0004, "rms_lsb": 0.06, "max_abs": 0.05, "sqnr_db": 61.2}
    if max_lsb is None:
        values |= {"mean_lsb": None, "rms_lsb": None}
    return ErrorStats(flip_percent, max_lsb, **(values | given))


def row(index: int, layer: str, *, op: str = "FULLY_CONNECTED", **given: Any) -> Row:
    values: dict[str, Any] = {
        "region": [layer],
        "region_raw": [f"quant_{layer}"],
        "op_index": index,
        "tensor": f"model/{layer}/BiasAdd;1",
        "tensor_index": index + 8,
        "shape": [10],
        "dtype": "int8",
        "scale": 0.0469,
        "zero_point": -1,
        "upstream": [],
        "evidence": ["name", "weights", "scale"],
        "confidence": 1.0,
        "cumulative": stats(0.35, 2),
        "local": stats(0.13, 1, max_abs=0.0469, sqnr_db=66.0),
        "expected_flip_percent": 0.12,
        "off_grid_rms_lsb": 0.0,
        "saturated_percent": 0.0,
        "clipped_percent": 0.0,
        "used_codes_percent": 81.0,
        "verdict": "rounding",
        "reason": "within what the arithmetic predicts",
        "elements": 100000,
    }
    return Row(index=index, layer=layer, op=op, **(values | given))


def end_to_end(name: str, **given: Any) -> EndToEnd:
    values: dict[str, Any] = {
        "passed": False,
        "tolerance": 0.01,
        "max_error": 0.1415,
        "max_relative_error": 2.0,
        "mean_error": 0.0005,
        "not_close_percent": 0.99,
        "elements": 100000,
        "output": "dense_3",
        "max_lsb": 3,
        "tolerance_needed": 0.1415,
        "seed": 3,
    }
    return EndToEnd(name=name, **(values | given))


def run(**given: Any) -> Run:
    """Build a healthy dense4: rounding alone, and yet over the tolerance at the end."""
    values: dict[str, Any] = {
        "id": "0007-dense4-s3",
        "created": "2026-11-23T10:00:00Z",
        "qdebug": "0.1.0",
        "environment": {
            "python": "3.11.7",
            "tensorflow": "2.21.0",
            "tfmot": "0.8.1",
            "litert": "2.3.0",
            "gpu": None,
        },
        "reference": {"kind": "qat", "source": "zoo:dense4", "sha256": "ab"},
        "candidate": {
            "source": "zoo:dense4",
            "sha256": "cd",
            "kernels": "xnnpack",
            "input_dtype": "int8",
            "output_dtype": "int8",
        },
        "data": {"source": "mnist", "split": "test", "samples": 10000, "sha256": "ef"},
        "seed": 3,
        "accuracy": {"baseline": 0.9034, "reference": 0.8643, "candidate": 0.8643},
        "end_to_end": [
            end_to_end(
                "baseline vs reference",
                max_error=11.5,
                tolerance_needed=11.5,
                mean_error=1.25,
                not_close_percent=99.5,
                max_lsb=None,
            ),
            end_to_end(
                "baseline vs candidate",
                max_error=11.25,
                tolerance_needed=11.25,
                mean_error=1.25,
                not_close_percent=99.5,
                max_lsb=None,
            ),
            end_to_end("reference vs candidate"),
        ],
        "coverage": Coverage(5, 5, []),
        "layers": [
            row(
                0,
                "input_1",
                op="QUANTIZE",
                local=stats(0.0, 0),
                cumulative=stats(0.0, 0),
                expected_flip_percent=0.0,
                verdict="exact",
                shape=[28, 28],
            ),
            row(1, "dense", local=stats(0.1, 1), cumulative=stats(0.1, 1)),
            row(2, "dense_1", cumulative=stats(0.25, 2)),
            row(3, "dense_2", op="FULLY_CONNECTED"),
            row(4, "dense_3", cumulative=stats(0.99, 3)),
        ],
        "first_divergent": None,
        "first_over_tolerance": "dense_3",
        "findings": [],
        "worst_samples": [WorstSample(9070, "dense_3", 3, 4, 9, 4, "dense", 0.1415)],
        "verdict": "rounding",
        "timing": {"reference_s": 0.1, "candidate_s": 0.1, "total_s": 0.5},
    }
    return Run(**(values | given))


def diverged_run(**given: Any) -> Run:
    """Build a conv net whose third conv is broken, while a plain comparison blames the last layer."""
    finding = Finding(
        "QD203",
        "RC25",
        "conv_3",
        "error",
        "the output scale was replaced by the concat's",
        {"scale": 0.0469, "expected": 0.0235},
        "give both branches one FakeQuant",
        "https://example.org/QD203",
    )
    layers = [
        row(0, "stem_relu", op="CONV_2D", region=["stem", "stem_bn", "stem_relu"], shape=[14, 14, 12]),
        row(1, "block_1_depthwise_relu6", op="DEPTHWISE_CONV_2D", shape=[14, 14, 12]),
        row(
            2,
            "conv_3",
            op="CONV_2D",
            local=stats(31.2, 97, sqnr_db=12.5),
            cumulative=stats(31.5, 98),
            expected_flip_percent=0.05,
            saturated_percent=12.5,
            verdict="diverged",
            shape=[14, 14, 24],
            reason="31.2 % of codes differ",
        ),
        row(
            3,
            "joined",
            op="CONCATENATION",
            local=stats(1.5, 1),
            expected_flip_percent=None,
            verdict="requantized",
            mechanism="two grids meet",
            shape=[14, 14, 36],
        ),
        row(
            4,
            "custom",
            op="CUSTOM",
            local=None,
            cumulative=None,
            expected_flip_percent=None,
            verdict="unmeasured",
            reason="no way to replay a custom op",
            scale=None,
            zero_point=None,
        ),
        row(5, "dense_3", cumulative=stats(45.0, 31)),
    ]
    values: dict[str, Any] = {
        "id": "0008-branches-s0",
        "seed": 0,
        "layers": layers,
        "verdict": "diverged",
        "first_divergent": "conv_3",
        "reference": {"kind": "qat", "source": "models/branches.h5", "sha256": "ab"},
        "candidate": {
            "source": "models/branches.tflite",
            "sha256": "cd",
            "kernels": "builtin",
            "input_dtype": "int8",
            "output_dtype": "float32",
        },
        "first_over_tolerance": "dense_3",
        "findings": [finding],
        "coverage": Coverage(7, 6, [Unpaired("candidate", "pad", "PAD", "no reference layer has this shape")], 1),
    }
    return run(**(values | given))


def float_run() -> Run:
    """Build a run whose tensors hold no codes: float rows are told by relative error and SQNR."""

    def float_row(index: int, layer: str, relative: float, **given: Any) -> Row:
        error = stats(None, None, max_relative=relative, sqnr_db=120.5)
        return row(
            index,
            layer,
            dtype="float32",
            scale=None,
            zero_point=None,
            local=error,
            cumulative=error,
            expected_flip_percent=None,
            saturated_percent=None,
            **given,
        )

    rows = [float_row(0, "dense", 0.0, verdict="exact"), float_row(1, "dense_1", 2.5e-07)]
    outputs = [
        end_to_end(
            "reference vs candidate",
            output=name,
            passed=True,
            max_error=error,
            max_lsb=None,
            tolerance_needed=error,
            not_close_percent=0.0,
        )
        for name, error in (("a", 1e-7), ("b", 2e-7))
    ]
    return run(
        layers=rows,
        first_over_tolerance=None,
        end_to_end=outputs,
        coverage=Coverage(2, 2, []),
        accuracy={"baseline": None, "reference": None, "candidate": None},
    )


def named(name: str) -> Run:
    """Build a run whose first diverging layer bears a name that some renderer might take for markup."""
    base = diverged_run()
    layers = [dataclasses.replace(one, layer=name) if one.layer == "conv_3" else one for one in base.layers]
    findings = [dataclasses.replace(one, layer=name) for one in base.findings]
    return dataclasses.replace(base, layers=layers, first_divergent=name, findings=findings)


def cost(**given: Any) -> Cost:
    """Build a loss of 41.1 points in conversion, nearly all of it at dense_1."""
    values: dict[str, Any] = {
        "verdict": "lost",
        "metric": "accuracy",
        "points": 41.1,
        "low": 33.0,
        "high": 49.7,
        "confidence": 0.99,
        "limit": None,
        "samples": 397,
        "stage": "conversion",
        "stages": [
            CostStage("training", None, reasons={"points": "no baseline was given"}),
            CostStage("conversion", 41.1, 33.0, 49.7, 397),
            CostStage("kernels", 0.0, -1.0, 1.0, 397),
        ],
        "layers": [CostLayer("dense_1", 40.8, 29.0, 49.7, "QD604")],
        "before": 0.995,
        "after": 0.584,
    }
    return Cost(**(values | given))


def lossy_run(**given: Any) -> Run:
    """Build a faithful file that loses most of its accuracy at one layer, whose grid starves 7 channels."""
    finding = Finding(
        "QD604",
        "RC26",
        "dense_1",
        "warning",
        "7 of its 8 channels share 1 code",
        {"channels": 7},
        "equalize the channels",
        "qdebug explain QD604",
        40.8,
        29.0,
        49.7,
    )
    return run(**({"cost": cost(), "findings": [finding], "first_over_tolerance": "dense_1"} | given))


def device_run() -> Run:
    """Build a file whose last op never writes its last channels on the device, as one dump of resnet8 showed it."""
    op = DeviceOp(
        14,
        "FULLY_CONNECTED",
        "logits",
        36,
        "diverged",
        40,
        4,
        8,
        20.0,
        78,
        20.0,
        4,
        4,
        "last 2 channels only (8 to 9 of 10, those beyond a multiple of 8)",
    )
    return run(device=DeviceReport("console.log", "log", "", 4, [], [op], [], 14))


OF_THE_RUN = ("id", "created", "timing")


def facts(run: Run) -> dict[str, Any]:
    """All of a record but what differs from run to run."""
    found = {key: value for key, value in json.loads(dumps(run)).items() if key not in OF_THE_RUN}
    return found | {"notes": [note for note in found["notes"] if " ms each on this machine" not in note]}
