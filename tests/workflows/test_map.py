"""`qdebug map`: what it records, prints and refuses."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from qdebug.align import align
from qdebug.cli import app
from qdebug.models import quiet
from qdebug.record.map import Map
from qdebug.record.serialization import dumps
from qdebug.render.formats.terminal import render_document
from qdebug.render.formats.text import plain_document
from qdebug.render.map import answer, document, pairs_table, unpaired_table
from qdebug.workflows.map import random_inputs, to_map
from tests.support import converted_models, graphs


def mapped(*, names: bool = True) -> Map:
    net = graphs.Net()
    x = net.theirs_only("quantize", net.dense(net.input(), 8, "one"))
    x = net.theirs_only("cos", net.dense(net.ours_only("reshape", x, "flat"), 8, "two"))
    reference, candidate = net.done([net.dense(x, 3, "three")])
    candidate = candidate if names else graphs.blank(candidate)
    return to_map(align(reference, candidate), reference, candidate, "q.h5", "q.tflite", notes=["a note"])


def test_every_pair_shows_its_region_and_evidence() -> None:
    """Candidate op, the user's own layers, evidence and confidence stand in one line."""
    table = pairs_table(mapped())

    assert table.column("layer") == ["image", "one", "two", "three"]
    assert table.column("op") == ["INPUT", "DENSE", "DENSE", "DENSE"]
    assert table.column("region") == ["image", "one", "flat, two", "three"]
    assert table.column("evidence")[1] == "graph, weights, scale, name"
    assert float(table.column("confidence")[1]) > 0.99


def test_everything_unpaired_has_its_reason() -> None:
    """Inserted ops, unknown ops and layers without a tensor are listed, each with why."""
    table = unpaired_table(mapped())
    told = dict(zip(table.column("op"), table.column("reason"), strict=True))

    assert told["QUANTIZE"] == "inserted by the converter"
    assert told["Layer"] == "fused into two"
    assert set(table.column("side")) == {"candidate", "reference"}


def test_coverage_is_a_number() -> None:
    """Paired, needing no pair, and lost ops add up to all ops of the candidate."""
    found = mapped()

    assert found.coverage.candidate_ops == 5
    assert found.coverage.paired == 3
    assert found.coverage.paired_percent == pytest.approx(100 * 3 / 5)
    assert "3 of 5 candidate ops paired (60" in answer(found)


def test_names_are_no_evidence_where_there_are_none() -> None:
    """With blank names no pair claims to have been found by name, the input included."""
    assert not any("name" in one.evidence for one in mapped(names=False).pairs)
    assert any("name" in one.evidence for one in mapped().pairs)


def test_the_json_says_its_kind() -> None:
    """The record is JSON with "kind": "map" and the same pairs as the table."""
    plain = json.loads(dumps(mapped()))

    assert plain["kind"] == "map"
    assert [one["layer"] for one in plain["pairs"]] == pairs_table(mapped()).column("layer")
    assert {"side", "name", "op", "reason"} <= set(plain["unpaired"][0])


@pytest.mark.parametrize("width", [60, 200])
def test_every_renderer_shows_pairs_reasons_and_notes(width: int) -> None:
    """Plain text and the terminal both hold the rows, the reasons, the note and the coverage."""
    blocks = document(mapped())
    for text in (plain_document(blocks), render_document(blocks, width=width, color=False)):
        assert all(word in text for word in ("three", "QUANTIZE", "inserted", "a note", "3 of 5"))


def test_random_inputs_lie_within_the_range_of_the_codes() -> None:
    """The probe sample is drawn from what the input's grid can hold, the same for the same seed."""
    net = graphs.Net()
    reference, candidate = net.done([net.dense(net.input(), 3)])
    alignment = align(reference, candidate)
    grid = candidate.tensors[candidate.inputs[0]].quantization
    assert grid is not None
    (drawn,) = random_inputs(candidate, alignment, 3)

    assert drawn.shape == (1, 8)
    assert (-128 - grid.zero) * grid.step <= drawn.min() <= drawn.max() <= (127 - grid.zero) * grid.step
    assert np.array_equal(drawn, random_inputs(candidate, alignment, 3)[0])


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("map")
    for name in ("several_ends", "nested"):
        net, content = converted_models.make(name)
        with quiet.quietly():
            net.save(folder / f"{name}.h5", save_format="h5")
        (folder / f"{name}.tflite").write_bytes(content)
    return folder


def run(folder: Path, reference: str, candidate: str, *options: str) -> tuple[int, str, str]:
    files = ["--reference", str(folder / reference), "--candidate", str(folder / candidate)]
    done = CliRunner().invoke(app, ["map", *files, *options])
    return done.exit_code, done.stdout, done.stderr


@pytest.mark.tf
def test_two_files_are_mapped_with_values_as_evidence(files: Path) -> None:
    """Both models run on random inputs, so that agreement of values is evidence too."""
    code, out, _ = run(files, "several_ends.h5", "several_ends.tflite", "--json", "-")
    found = json.loads(out)

    assert code == 0
    assert found["coverage"]["paired"] == 9
    assert found["outputs"] == {"quant_aa": "aa", "quant_mm": "mm", "quant_zz": "zz"}
    assert any("values" in one["evidence"] for one in found["pairs"])
    assert not found["notes"]


@pytest.mark.tf
def test_models_that_do_not_belong_together_exit_with_2(files: Path) -> None:
    """One line says what did not fit; --debug adds the best partial alignment; nothing is printed as a result."""
    code, out, err = run(files, "nested.h5", "several_ends.tflite")

    assert (code, out) == (2, "")
    assert "do not belong together" in err
    assert "no counterpart" in run(files, "nested.h5", "several_ends.tflite", "--debug")[2].splitlines()[-1]
