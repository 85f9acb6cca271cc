"""Numbers are formatted once, and their text is true."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qdebug.render import numbers


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0, "0"),
        (0.0, "0"),
        (100.0, "100.0"),
        (31.24, "31.2"),
        (0.13, "0.13"),
        (5, "5.00"),
        (0.05, "0.05"),
        (0.012, "0.012"),
        (0.0042, "0.0042"),
        (0.000012, "1.2e-05"),
        (99.96, "99.96"),
        (99.99999, "99.99"),
        (float("nan"), "-"),
        (float("inf"), "-"),
    ],
)
def test_percent(value, text):
    """A share has the digits that it needs: never 0 for some, never 100 for less than all, never NaN."""
    assert numbers.percent(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "-"),
        (0.1415, "0.1415"),
        (0.00051234, "0.0005123"),
        (2.0, "2"),
        (1e-7, "1e-07"),
        (1e9, "1e+09"),
        (-3, "-3"),
        (float("nan"), "-"),
        (float("-inf"), "-"),
    ],
)
def test_error(value, text):
    """An error has four significant digits."""
    assert numbers.error(value) == text


def test_units():
    """Decibels have one decimal, accuracies in percent two, codes and counts none."""
    assert numbers.decibel(61.25) == "61.2"
    assert numbers.accuracy(0.86434) == "86.43"
    assert numbers.error(97) == "97"
    assert numbers.count(100000) == "100000"
    assert numbers.shape([28, 28, 1]) == "28x28x1"
    assert numbers.shape([]) == "scalar"
    assert [numbers.decibel(None), numbers.accuracy(None), numbers.count(None)] == ["-"] * 3


@given(st.floats(min_value=0, max_value=100))
def test_percent_reads_back(value):
    """The text of a share reads back as a number near it, and keeps the ends apart."""
    back = float(numbers.percent(value))

    assert back == pytest.approx(value, rel=0.06)
    assert (back == 0) == (value == 0)
    assert back < 100 or value == 100


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([], []),
        ([None, 0.0, float("nan")], ["-", "0", "-"]),
        ([15.8, 6.674, 0.63], ["15.80", "6.67", "0.63"]),
        ([27.5, 99.96, 99.99999, 100.0], ["27.5", "99.9", "99.9", "100.0"]),
        ([5.51, 0.012, 0.000041], ["5.510", "0.012", "4.1e-05"]),
    ],
)
def test_a_column_of_shares_has_one_number_of_decimals(values, texts):
    """All cells have the decimals that the smallest share needs; what is too small for three has an exponent."""
    assert numbers.percent_column(values) == texts


@pytest.mark.parametrize(
    ("values", "texts"),
    [
        ([0.00390625, 0.0471], ["0.003906", "0.047100"]),
        ([21.41, 0.0472], ["21.4100", "0.0472"]),
        ([1, 2, None, 97], ["1", "2", "-", "97"]),
        ([1.5, 0.0000001], ["1.5", "1.0e-07"]),
    ],
)
def test_a_column_of_errors_has_one_number_of_decimals(values, texts):
    """Whole numbers stay whole; else all cells have the same decimals, and nothing reads as 0 that is not."""
    assert numbers.error_column(values) == texts


@given(st.lists(st.floats(min_value=0, max_value=100)))
def test_columns_keep_the_ends_apart(values):
    """No share of a column reads as 0 or as 100 where it is not."""
    for value, text in zip(values, numbers.percent_column(values), strict=True):
        assert (float(text) == 0) == (value == 0)
        assert float(text) < 100 or value == 100


@given(st.text())
def test_names_stay_on_one_line(text):
    """A name is one printable line whatever it holds, and a printable one is unchanged."""
    written = numbers.name(text)

    assert len(written.splitlines()) <= 1
    assert "\x1b" not in written
    assert written == text or not text.isprintable()
