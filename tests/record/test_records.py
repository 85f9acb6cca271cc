"""A record survives its JSON, and holds no NaN."""

import dataclasses
import json
import math
import types
import typing

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdebug.record import schema, serialization
from tests.support import run_records

FLOATS = st.floats(allow_nan=False, allow_infinity=False)
VALUES = st.none() | st.booleans() | st.integers() | FLOATS | st.text(max_size=5)
KINDS = (
    schema.ErrorStats,
    schema.Handover,
    schema.Row,
    schema.EndToEnd,
    schema.Coverage,
    schema.Finding,
    schema.WorstSample,
    schema.Run,
)


def values_of(kind) -> st.SearchStrategy:
    """Give values of any type that a record's field may have."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin in (types.UnionType, typing.Union):
        return st.one_of([values_of(one) for one in arguments])
    if origin is list:
        return st.lists(values_of(arguments[0]), max_size=2)
    if origin is dict:
        return st.dictionaries(st.text(max_size=5), values_of(arguments[1]), max_size=2)
    simple = {
        type(None): st.none(),
        bool: st.booleans(),
        int: st.integers(),
        float: FLOATS,
        str: st.text(max_size=5),
        typing.Any: VALUES,
    }
    return simple[kind] if kind in simple else records_of(kind)


def records_of(kind) -> st.SearchStrategy:
    """Give records of this type; reasons are given for its own fields."""
    hints = typing.get_type_hints(kind)
    fields = {
        one.name: values_of(hints[one.name])
        for one in dataclasses.fields(kind)
        if one.name not in ("reasons", "arrays")
    }
    if "reasons" in hints:
        fields["reasons"] = st.dictionaries(st.sampled_from(sorted(fields)), st.text(max_size=5), max_size=2)
    return st.builds(kind, **fields)


@pytest.mark.parametrize("kind", KINDS)
def test_round_trip(kind):
    """from_json(to_json(x)) == x for every record, through the text as well."""

    @settings(max_examples=30)
    @given(records_of(kind))
    def check(value):
        assert serialization.from_json(kind, serialization.to_json(value)) == value
        assert serialization.from_json(kind, json.loads(serialization.dumps(value))) == value

    check()


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_no_record_holds_nan(value):
    """NaN and infinity are refused, however deep they lie."""
    for run in (
        run_records.run(timing={"total_s": value}),
        run_records.run(costs={"a": [{"b": value}]}),
        run_records.run(layers=[run_records.row(0, "a", local=run_records.stats(value, 1))]),
    ):
        with pytest.raises(ValueError, match="a record cannot hold"):
            serialization.dumps(run)


def test_reasons_stand_beside_the_value():
    """A value that was not measured is null with its reason beside it."""
    plain = serialization.to_json(
        run_records.row(0, "a", expected_flip_percent=None, reasons={"expected_flip_percent": "why"})
    )

    assert plain["expected_flip_percent"] is None
    assert plain["expected_flip_percent_reason"] == "why"
    assert "reasons" not in plain


def test_unknown_keys_are_dropped_and_missing_ones_told():
    """A record of a later qdebug can be read; one without a needed key cannot."""
    plain = serialization.to_json(run_records.run())

    assert serialization.from_json(schema.Run, plain | {"later": 1}) == run_records.run()
    del plain["layers"]
    with pytest.raises(ValueError, match="not a Run record"):
        serialization.from_json(schema.Run, plain)
