"""The commands of the README's section on devices run as they stand there."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qdebug.cli import app
from tests.fuzz.by_hand import dense_file

pytest.importorskip("tflite_micro")

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
SECTION = README.partition("## On the device")[2].partition("\n## ")[0]
LINES = [
    line.partition("  #")[0].strip()
    for block in re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)
    for line in block.splitlines()
]


def test_the_commands_of_the_section_run(tmp_path, monkeypatch):
    """All but those with a Keras reference, in a folder with the files that they name."""
    monkeypatch.chdir(tmp_path)
    Path("model.tflite").write_bytes(dense_file())
    np.savez("eval.npz", x=np.random.default_rng(0).uniform(-2, 2, (6, 4)).astype(np.float32))
    run = [line for line in LINES if "--reference" not in line]
    first = next(number for number, line in enumerate(run) if line.startswith("qdebug trace"))
    ordered = [*run[:first], *(line for line in run if "-o host.log" in line), *run[first:]]
    for number, line in enumerate(dict.fromkeys(ordered)):
        came = CliRunner().invoke(app, [*shlex.split(line)[1:], *([] if "show" in line else ["--quiet"])])

        assert (line, came.exit_code, came.output if came.exit_code else "") == (line, 0, "")
        if "host.log" in line:
            Path("host.log").rename("console.log")
        assert number < len(ordered)
    for place in ("dump.npz", "arrays", "binaries", "layers.bin"):
        came = CliRunner().invoke(app, ["trace", "--candidate", "model.tflite", "--dump", place, "--quiet"])
        assert (place, came.exit_code) == (place, 0)
    assert Path("qdebug_dump.cc").read_text().startswith("// Writes the tensors")
