"""`qdebug trace --dump`: a device's tensors in the place of the interpreter's, without a reference."""

from __future__ import annotations

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from qdebug.cli import app
from qdebug.models.litert.candidate import Candidate
from qdebug.record.schema import Run
from qdebug.record.serialization import from_json
from qdebug.render.formats.explorer import overlays
from qdebug.workflows.host_dump import run_host
from qdebug.workflows.progress import Silent
from tests.fuzz.by_hand import dense_file

SAMPLES = 24


@pytest.fixture(scope="module")
def codes():
    """What a host computes: tensor -> (samples, ...), and the data."""
    opened = Candidate.open(dense_file(), "dense.tflite")
    data = np.random.default_rng(0).uniform(-2.5, 2.5, (SAMPLES, 4)).astype(np.float32)
    held = run_host(opened, [data], "reference", Silent())
    return {str(key): np.concatenate([one[sample] for sample in range(SAMPLES)]) for key, one in held.items()}, data


def trace(tmp_path, arrays, *options):
    """Exit code, what was said, and the record; the store is new."""
    (tmp_path / "dense.tflite").write_bytes(dense_file())
    np.savez(tmp_path / "dump.npz", **arrays)
    record = tmp_path / "run.json"
    came = CliRunner().invoke(
        app,
        [
            "trace",
            "--candidate",
            str(tmp_path / "dense.tflite"),
            "--dump",
            str(tmp_path / "dump.npz"),
            "--store",
            str(tmp_path / "store"),
            "--json",
            str(record),
            "--force",
            *options,
        ],
    )
    run = from_json(Run, json.loads(record.read_text())) if record.exists() else None
    return came.exit_code, came.output, run


def test_a_healthy_dump_is_recorded_as_exact(tmp_path, codes):
    """Every op gives what its inputs demand; the input is not judged without data; cost is not known."""
    code, output, run = trace(tmp_path, codes[0], "--fail-on", "diverged")

    assert (code, run.verdict, run.candidate["kernels"], run.device.first) == (0, "exact", "device", None)
    assert [row.verdict for row in run.layers] == ["unmeasured", "exact", "exact", "exact", "exact"]
    assert run.layers[0].reason.startswith("it is taken from the dump")
    assert run.cost.verdict == "unmeasured"
    assert "On the device, 4 of 4 ops give the codes that their own inputs demand." in " ".join(output.split())


def test_the_first_wrong_op_is_named_and_the_gate_trips(tmp_path, codes):
    """Table, finding, headline and overlay say the same of it."""
    arrays = {name: array.copy() for name, array in codes[0].items()}
    arrays["7"][:, -1] = 127

    code, output, run = trace(tmp_path, arrays, "--fail-on", "diverged")

    assert (code, run.verdict, run.device.first, run.first_divergent) == (1, "diverged", 2, run.layers[3].layer)
    assert run.device.first_op.pattern == "last channel only (channel 2 of 3): stuck at 127, the highest code"
    assert next((one.code, one.layer) for one in run.findings) == ("QD703", run.layers[3].layer)
    assert "device vs host %" in output
    values = json.loads(overlays(run)["device_against_host.json"])["results"]
    assert sorted(values) == ["0", "1", "2", "3"]
    assert values["2"]["value"] > 30 > values["1"]["value"]


def test_the_input_is_held_against_the_data_first(tmp_path, codes):
    """Another zero point in the preprocessing is told, whatever all ops do."""
    arrays, data = codes
    np.savez(tmp_path / "data.npz", x=data + 5 * 0.02)

    code, output, run = trace(
        tmp_path, {name: arrays[name] for name in ("0", "1", "4", "7", "8")}, "--data", str(tmp_path / "data.npz")
    )

    assert (code, run.layers[0].verdict, run.findings[0].code) == (0, "diverged", "QD701")
    assert "other inputs" in output


@pytest.mark.parametrize(
    ("name", "array"),
    [("4", np.zeros((1, 9), np.int8)), ("nowhere", np.zeros((1, 6), np.int8)), ("4", np.zeros((1, 6), np.int16))],
)
def test_a_dump_that_does_not_fit_is_one_line_and_nothing_is_recorded(name, array, tmp_path):
    """Exit code 2, one line, no run in the store."""
    code, output, run = trace(tmp_path, {name: array})

    assert (code, run) == (2, None)
    assert len(output.strip().splitlines()) == 1
    assert not list((tmp_path / "store").glob("*/*")) + list((tmp_path / "store").glob("*.json"))


def test_a_dump_needs_its_file():
    """Nobody can tell what tensors mean without the file that the device ran."""
    came = CliRunner().invoke(app, ["trace", "--dump", "x.npz"])

    assert came.exit_code == 2
    assert "give --candidate" in came.output


def test_the_firmware_is_printed():
    """`qdebug dump --firmware` is the source alone."""
    came = CliRunner().invoke(app, ["dump", "--firmware"])

    assert came.exit_code == 0
    assert came.output.startswith("// Writes the tensors")
    assert "QDEBUG <sample> <tensor index> <dtype> <hex>" in came.output
