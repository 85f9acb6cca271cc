"""The published JSON Schema describes what the commands write."""

import dataclasses
import json

import jsonschema
import numpy as np
import pytest

from qdebug.cli.commands.schema import Kind, kinds
from qdebug.findings.pages import find
from qdebug.record.diff import compare
from qdebug.record.json_schema import json_schema
from qdebug.record.serialization import to_json
from qdebug.record.summary import summarize
from qdebug.render.explain import Explained
from tests.support import converted_models, run_records

RUNS = {
    "healthy": run_records.run(),
    "diverged": run_records.diverged_run(),
    "float": run_records.float_run(),
    "lossy": run_records.lossy_run(),
}


def check(record):
    """Raise where the JSON of a record is not what the schema of its kind says."""
    plain = json.loads(json.dumps(to_json(record)))
    jsonschema.Draft202012Validator(json_schema(kinds()[plain["kind"]])).validate(plain)
    return plain


@pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
def test_runs(run):
    """Runs of every sort fit the schema of a run, and so do their summaries and differences."""
    check(run)
    check(compare(run, RUNS["healthy"] if run is not RUNS["float"] else run))
    check(summarize([run, run], None))
    check(summarize([run, run], "model"))


def test_pages():
    """All pages of `explain --json` fit their schema."""
    check(Explained(find(None)))


def test_every_kind():
    """Every kind of record has its schema, which is itself a valid one, with words for its keys."""
    assert list(Kind) == list(kinds())
    for name, kind in kinds().items():
        schema = json_schema(kind)
        jsonschema.Draft202012Validator.check_schema(schema)
        assert schema["properties"]["kind"]["const"] == name
    run = json_schema(kinds()["run"])
    assert run["$defs"]["ErrorStats"]["properties"]["flip_percent"]["description"].startswith("Share of elements")


@pytest.mark.parametrize(
    "damage",
    [
        {"layers": None},
        {"verdict": 3},
        {"kind": "map"},
        {"accuracy": {"candidate": "high"}},
        {"first_divergent": 7},
    ],
)
def test_what_is_no_record_is_refused(damage):
    """A key of another type, or of another kind of record, does not fit."""
    plain = check(run_records.run()) | damage

    with pytest.raises(jsonschema.ValidationError):
        jsonschema.Draft202012Validator(json_schema(kinds()["run"])).validate(plain)


def test_reasons_are_words():
    """A value that could not be measured is null, with a reason in words beside it."""
    row = dataclasses.replace(run_records.row(0, "a"), scale=None, reasons={"scale": "it holds no codes"})
    plain = check(run_records.run(layers=[row]))

    assert plain["layers"][0]["scale_reason"] == "it holds no codes"


@pytest.mark.tf
def test_real_records():
    """A real trace, its alignment and its audit fit."""
    from qdebug import trace
    from qdebug.models.litert.parse import parse
    from qdebug.models.reference.open import load_reference
    from qdebug.workflows.audit import audit_graphs

    model, content = converted_models.make("plain")
    data = converted_models.batches(model, 16)[0]
    check(trace(model, content, np.asarray(data)))
    reference = load_reference(model)
    check(audit_graphs(reference.frozen.graph, parse(content, "memory"), kind=reference.kind, names=("a", "b")))
