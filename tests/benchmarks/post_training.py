"""Float references against what post-training quantization makes of them: the parts of every layer's error.

    python -m tests.benchmarks.post_training --seeds 3-5
    python -m tests.benchmarks.post_training --models resnet8,resnet8_float,sww

Prints, per layer, the parts in LSB (rms, largest), then per pair of models the coverage, the end-to-end SQNR and the
verdicts. Real pairs are read from the shared data where it is there, and left out where not.
"""

from __future__ import annotations

import argparse
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from qdebug.measure.error_parts import NAMES
from qdebug.models.builtin import training
from qdebug.models.data import dataset as datasets
from qdebug.models.reference.convert import convert
from qdebug.models.reference.open import load_reference
from qdebug.record.schema import Row, Run
from qdebug.workflows.trace import trace
from qdebug.workflows.trace_options import TraceOptions

SHARED = Path(__file__).parents[3] / "shared" / "data"
REAL = ("resnet8", "resnet8_float", "sww")
CALIBRATION = 200
"""Training samples that the converter sees."""


def real(name: str, options: TraceOptions) -> Run:
    """Trace one of the shared pairs."""
    if name == "sww":
        with np.load(SHARED / "sww" / "calibration_samples.npz") as found:
            specs = found["specs"].reshape(-1, *found["specs"].shape[-3:])
        return trace(
            SHARED / "sww" / "str_ww_ref_model.h5", SHARED / "sww" / "str_ww_ref_model.tflite", specs, options=options
        )
    folder = SHARED / "resnet8"
    file = "pretrainedResnet.tflite" if name.endswith("_float") else "pretrainedResnet_quant.tflite"
    return trace(folder / "pretrainedResnet.h5", folder / file, str(folder / "cifar10_300.npz"), options=options)


def builtin(name: str, seed: int, options: TraceOptions) -> Run:
    """Convert the float baseline of a built-in model by post-training quantization, and trace it."""
    images = training.images_for_builtin(datasets.load("digits"))
    reference = load_reference(training.prepare(name, images, seed=seed).baseline_path)
    assert images.train_inputs is not None
    shown = next(iter(images.train_inputs.values()))[:CALIBRATION]
    content = convert(reference.model, quantize=True, representative=[shown])
    return trace(reference.model, content, images, options=options)


def parts_of(row: Row) -> list[Any]:
    """One line of the table of parts: rms / largest in LSB."""
    parts = row.parts or {}
    cells = [f"{part['rms_lsb']:.3f} / {part['max_lsb']:.2f}" if (part := parts.get(name)) else "-" for name in NAMES]
    steps = (parts.get("weights") or {}).get("max_steps")
    return [
        row.layer,
        row.op,
        *cells,
        "-" if steps is None else f"{steps:.4f}",
        row.local.max_lsb if row.local is not None else None,
        row.verdict,
        row.mechanism or "",
    ]


def main() -> None:
    """Run the study and print its tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--models", default=",".join((*REAL, *training.NAMES)))
    parser.add_argument("--seeds", default="3-3")
    parser.add_argument("--kernels", default="xnnpack")
    parser.add_argument("--quiet", action="store_true", help="no parts per layer")
    given = parser.parse_args()
    first, _, last = given.seeds.partition("-")
    options = TraceOptions(kernels=given.kernels, handover=False)
    totals = []
    for name in given.models.split(","):
        if name in REAL and not SHARED.exists():
            continue
        for seed in [0] if name in REAL else range(int(first), int(last or first) + 1):
            run = real(name, options) if name in REAL else builtin(name, seed, options)
            if not given.quiet:
                print(f"\n{name} (seed {seed}), {run.candidate['what']}")
                print(
                    tabulate(
                        [parts_of(row) for row in run.layers],
                        headers=["layer", "op", *NAMES, "steps", "max", "verdict", "mechanism"],
                    )
                )
            rows = [row for group in (run.layers, *(run.by_kernels or {}).values()) for row in group]
            verdicts = Counter(row.verdict for row in rows)
            totals.append(
                [
                    name,
                    seed,
                    run.candidate["what"],
                    f"{run.coverage.paired}/{run.coverage.candidate_ops}",
                    *[verdicts[word] for word in ("exact", "rounding", "requantized", "diverged", "unmeasured")],
                    ", ".join(f"{end.sqnr_db:.1f}" for end in run.end_to_end if end.sqnr_db is not None),
                ]
            )
    print(
        tabulate(
            totals,
            headers=[
                "model",
                "seed",
                "file",
                "paired",
                "exact",
                "rounding",
                "requantized",
                "diverged",
                "unmeasured",
                "SQNR dB",
            ],
        )
    )


if __name__ == "__main__":
    main()
