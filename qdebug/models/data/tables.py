"""CSV files as evaluation data: one row a sample, one column a number, the names in the first row."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

import numpy as np

from qdebug.errors import InputError
from qdebug.graph.quantization import Array
from qdebug.models.data.arrays import InputSpec, bare_name
from qdebug.models.data.dataset import Dataset
from qdebug.models.data.streams import in_shape, spooled
from qdebug.models.limits import LimitError, check_regular

ROWS = 4096
"""Rows that are read together."""
SEPARATORS = {".csv": ",", ".tsv": "\t"}


def from_csv(
    path: Path,
    specs: Sequence[InputSpec],
    *,
    x_key: str | None = None,
    y_key: str | None = None,
    samples: int | None = None,
) -> Dataset:
    """All columns but `y_key`'s as the features of the one input, or `x_key`'s, separated by commas.

    Of several inputs, each takes the column of its name. Raises InputError.
    """
    names = columns(path)[0]
    for option, key in (("--y-key", y_key), *(("--x-key", key) for key in (x_key or "").split(",") if key)):
        if key is not None and key not in names:
            raise InputError(f"{option} {key}: {path} has the columns {', '.join(names)}")
    chosen = x_key.split(",") if x_key else [name for name in names if name != y_key]
    if len(specs) > 1:
        by_name = {bare_name(spec.name): spec.name for spec in specs}
        missing = [name for name in by_name if name not in names]
        if missing:
            raise InputError(
                f"{path} has no column named after the model's input {missing[0]!r}: it has {', '.join(names)}"
            )
        chosen = [name for name in chosen if name in by_name]
    where = [names.index(name) for name in chosen]
    label = names.index(y_key) if y_key is not None else None

    def pieces() -> Iterator[tuple[dict[str, Array] | Array, Array | None]]:
        for rows in _rows(path):
            given = (
                {by_name[name]: rows[:, [at]] for name, at in zip(chosen, where, strict=True)}
                if len(specs) > 1
                else in_shape(rows[:, where].astype(np.float32), specs[0])
            )
            yield given, None if label is None else rows[:, label]

    return spooled(pieces(), specs, str(path), samples)


def columns(path: Path) -> tuple[list[str], bool]:
    """Names of the columns, and whether they stand in the first row: numbers from 0 where that holds data already."""
    try:
        check_regular(path)
        with path.open(newline="", encoding="utf-8-sig") as file:
            first = next(csv.reader(file, delimiter=SEPARATORS[path.suffix.lower()]), [])
    except LimitError as error:
        raise InputError(f"data file {path} {error}") from error
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(
            f"cannot read data file {path}: {error}; give a text file of comma-separated numbers"
        ) from error
    if not first:
        raise InputError(f"data file {path} is empty: write one row a sample, with the columns' names first")
    numbers = [str(number) for number in range(len(first))]
    named = first == numbers or not _are_numbers(first)  # (pandas numbers columns without a name)
    return ([name.strip() for name in first] if named else numbers), named


def _rows(path: Path) -> Iterator[Array]:
    names, named = columns(path)
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.reader(file, delimiter=SEPARATORS[path.suffix.lower()])
        if named:
            next(reader)
        while rows := [row for row in islice(reader, ROWS) if row]:
            try:
                yield np.asarray(rows, np.float64)
            except ValueError:
                raise _misfit(path, rows, names, reader.line_num) from None


def _misfit(path: Path, rows: Sequence[Sequence[str]], names: Sequence[str], last: int) -> InputError:
    """Why some rows are no table of numbers."""
    for number, row in enumerate(rows, last - len(rows) + 1):
        if len(row) != len(names):
            return InputError(
                f"{path}, line {number}: {len(row)} values, where the first line has {len(names)}: make "
                "all rows equally long"
            )
        for name, value in zip(names, row, strict=True):
            if not _are_numbers([value]):
                return InputError(
                    f"{path}, line {number}: column {name!r} holds {value!r}, no number: number its "
                    "values (classes from 0), or leave the column out with --x-key"
                )
    return InputError(f"{path}: rows that are no numbers; write one row a sample")


def _are_numbers(values: Sequence[str]) -> bool:
    try:
        [float(value) for value in values]
    except ValueError:
        return False
    return True
