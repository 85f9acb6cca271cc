"""The cases that were once judged wrongly, each against its truth: made by their builders, which are no part of this.

Run with `pytest -n 0 -m study tests/faults/test_shared_cases.py`.
"""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

import qdebug
from qdebug.errors import AlignmentError
from qdebug.record.schema import Run

CASES = Path(__file__).parents[3] / "shared" / "cases"
MEMORY = 12 << 30
"""Bytes that a builder may take."""
pytestmark = [
    pytest.mark.study,
    pytest.mark.tf,
    pytest.mark.filterwarnings("ignore:.*the data goes from:UserWarning"),
    pytest.mark.skipif(not CASES.exists(), reason="the shared cases are not here"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the folder of each builder, in which it was run; its output stands in `log`."""
    place = tmp_path_factory.mktemp("cases")
    for builder in sorted((CASES / "builders").glob("*.py")):
        if builder.stem == "common":
            continue
        folder = place / builder.stem
        folder.mkdir()
        with (folder / "log").open("w") as log:
            subprocess.run(
                [sys.executable, str(builder)],
                cwd=folder,
                stdout=log,
                stderr=log,
                check=False,
                timeout=600,
                env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
                preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY)),
            )
    return place


def traced(folder: Path, candidate: str, reference: str = "float.h5", data: str = "data.npz") -> Run:
    """One file against its model."""
    return qdebug.trace(folder / reference, folder / candidate, folder / data)


def errors(run: Run) -> set[str]:
    """Codes of its error findings."""
    return {one.code for one in run.findings if one.severity == "error"}


def test_an_op_that_jumps_is_told(built: Path) -> None:
    """The float file is right; in int8 the remainder of rounded numbers is of no use."""
    assert traced(built / "floormod", "float.tflite").first_divergent is None
    run = traced(built / "floormod", "int8.tflite")
    assert "QD507" in errors(run)
    assert run.cost is not None
    assert run.cost.verdict == "lost"


@pytest.mark.parametrize("builder", ["einsum_fixed_batch", "unrolled_gru"])
def test_healthy_files_of_fixed_batches_and_unrolled_loops(built: Path, builder: str) -> None:
    """The builder traces them itself: kind, verdict, first divergent."""
    told = [line for line in (built / builder / "log").read_text().splitlines() if line.startswith("RESULT")]

    assert len(told) >= 8
    assert [line for line in told if not any(word in line for word in ("exact", "rounding", "requantized"))] == []


def test_another_network_is_not_compared_and_another_run_is_told(built: Path) -> None:
    """The same weights, those of another training, and other blocks."""
    folder = built / "another_network"

    assert traced(folder, "same.tflite", "ref.h5").first_divergent is None
    assert "QD203" in errors(traced(folder, "other_run.tflite", "ref.h5"))
    with pytest.raises(AlignmentError, match="do not belong together"):
        traced(folder, "other_arch.tflite", "ref.h5")


def test_a_range_that_minimum_gave_an_input_is_told(built: Path) -> None:
    """The float file is bit-equal; the int8 one covers 0 to 180 of data that go to 402."""
    assert traced(built / "minmax_boxes", "float.tflite").first_divergent is None
    run = traced(built / "minmax_boxes", "int8.tflite")
    assert run.first_divergent == "box"
    assert "QD317" in errors(run)


def test_partial_qat(built: Path) -> None:
    """Layers without a quantizer, their ranges from nowhere, from good data, and from data far too dark."""
    folder = built / "partial_qat"
    plain, healthy, dark = (
        traced(folder, name, "qat.h5") for name in ("qat.tflite", "qat_rep.tflite", "qat_rep_bad.tflite")
    )

    assert plain.first_divergent is None
    assert [one.code for one in plain.findings if one.severity == "warning"] == ["QD201", "QD304"]
    assert (healthy.first_divergent, errors(healthy)) == (None, set())
    assert dark.first_divergent == dark.layers[0].layer
    assert next(one for one in dark.findings if one.layer == dark.first_divergent).cause == "RC08"


def test_a_shape_in_64_bits(built: Path) -> None:
    """A file whose SHAPE gives int64 opens as a reference, against itself."""
    folder = built / "int64_shape"
    assert traced(folder, "min.tflite", "min.tflite", "xm.npy").first_divergent is None


def test_an_outlier_channel_and_a_bad_calibration() -> None:
    """No layer diverges, and 41 points are lost at c1; and the well calibrated file of the other network is healthy."""
    outlier, bad = CASES / "outlier_channel", CASES / "bad_calibration"
    run = traced(outlier, "candidate.tflite", "reference.keras")
    assert run.first_divergent is None
    assert ("QD604", "c1") in [(one.code, one.layer) for one in run.findings]
    assert "QD607" in [one.code for one in traced(bad, "candidate.tflite", "reference.keras").findings]
    assert traced(bad, "well_calibrated.tflite", "reference.keras").first_divergent is None
