"""Planted device faults on four networks: is the op named, and the pattern? Nothing may be claimed of healthy dumps.

    python -m tests.benchmarks.device_faults [FILE.tflite ...]

Without files, those of the built-in models mobile and branches (from the cache, or trained anew), and what the
environment variable QDEBUG_NETWORKS names (paths, separated by colons).
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from qdebug.measure.device_inputs import check_inputs
from qdebug.measure.device_ops import Checked, DeviceCheck
from qdebug.models.dumps.dump import Dump
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.parse import read_file
from tests.support.device_faults import FAULTS, Board, ops_for, overwritten

SAMPLES = 6


def main() -> None:
    files = sys.argv[1:] or [*builtin(), *filter(None, os.environ.get("QDEBUG_NETWORKS", "").split(":"))]
    lines, missed = [], 0
    for file in files:
        for line in of_network(Candidate.open(read_file(file), file), Path(file).parent.name.split("-s3-")[0]):
            lines.append(line)
            missed += not line[2]
            print(" | ".join(map(str, line)), flush=True)
    print(f"\n{len(lines) - missed} of {len(lines)} as they should be")
    raise SystemExit(missed > 0)


def builtin() -> list[str]:
    from qdebug.models.builtin import training
    from qdebug.models.data import dataset

    data = training.images_for_builtin(dataset.load("digits"))
    return [
        str(training.prepare(name, data, seed=3, qat_epochs=None, quantize=True, retrain=False).candidate_path)
        for name in ("mobile", "branches")
    ]


def check(opened: Candidate, dump: Dump) -> Checked:
    return DeviceCheck(opened.content, opened.graph, dump, lambda *_: None).run()


def of_network(opened: Candidate, name: str) -> Iterator[tuple[str, str, bool, str]]:
    """(network, fault, whether it is as it should be, what was said)."""
    inputs = samples(opened)
    healthy = Board(opened).run(inputs)
    claims = [one for one in check(opened, healthy).ops if one.verdict in ("diverged", "unmeasured")]
    yield name, "none (tflm)", not claims, "; ".join(f"{one.op_index} {one.pattern or one.reason}" for one in claims)
    for fault, (hook, wanted) in FAULTS.items():
        yield of_fault(opened, name, fault, hook, wanted, inputs, healthy)
    real = [
        np.concatenate([opened.graph.tensors[key].real(one[place]) for one in inputs])
        for place, key in enumerate(opened.graph.inputs)
    ]
    shifted = [[np.clip(codes.astype(int) + 3, -128, 127).astype(codes.dtype) for codes in one] for one in inputs]
    found = check_inputs(opened.graph, Board(opened).run(shifted), range(SAMPLES), real)[0]
    yield name, "input, other zero point", "3 codes too high everywhere" in str(found.pattern), str(found.pattern)
    signs = [[(codes ^ -128).astype(codes.dtype) for codes in one] for one in inputs]
    found = check_inputs(opened.graph, Board(opened).run(signs), range(SAMPLES), real)[0]
    yield name, "input, uint8 for int8", "uint8 against int8" in str(found.pattern), str(found.pattern)
    reused, gone = overwritten(healthy, opened.graph)
    came = check(opened, reused)
    named = {one.tensor_index for one in came.overwritten}
    wrong = [one.op_index for one in came.ops if one.verdict == "diverged"]
    yield (
        name,
        "memory reused",
        bool(named) and named <= gone.keys() and not wrong,
        f"{len(named)} of {len(gone)} overwritten tensors named, {len(wrong)} ops blamed",
    )


def of_fault(opened, name, fault, hook, wanted, inputs, healthy):
    ops = ops_for(fault, opened.graph)
    for op in [*ops[len(ops) // 2 :], *reversed(ops[: len(ops) // 2])]:
        dump = Board(opened, op.index, hook).run(inputs)
        changed = np.mean(
            [
                np.mean(dump.tensors[op.output][sample] != healthy.tensors[op.output][sample])
                for sample in range(SAMPLES)
            ]
        )
        if changed < 0.02:
            continue  # (this fault does nothing here)
        rows = [one for one in check(opened, dump).ops if one.verdict == "diverged"]
        said = "; ".join(f"op {one.op_index} {one.op}: {one.pattern}" for one in rows)
        right = [one.op_index for one in rows] == [op.index] and re.search(wanted, str(rows[0].pattern)) is not None
        return name, f"{fault} at op {op.index} {op.raw}", right, said or "nothing"
    return name, fault, True, "it does nothing to any op of this network"


def samples(opened: Candidate) -> list[list[np.ndarray]]:
    """Codes of smooth random inputs over the whole range."""
    draw, found = np.random.default_rng(3), []
    for _ in range(SAMPLES):
        one = []
        for key in opened.graph.inputs:
            tensor = opened.graph.tensors[key]
            wave = np.cumsum(draw.normal(size=tensor.shape), axis=-2 if len(tensor.shape) > 2 else -1)
            low, high = np.min(wave), np.max(wave)
            values = (wave - low) / max(high - low, 1e-9) * draw.uniform(0.5, 1.0)
            grid = tensor.grid
            real = (
                values * (grid.ends(tensor.dtype)[1] - grid.ends(tensor.dtype)[0]) + grid.ends(tensor.dtype)[0]
                if grid is not None
                else values
            )
            one.append(tensor.codes(real.astype(np.float32)))
        found.append(one)
    return found


if __name__ == "__main__":
    main()
