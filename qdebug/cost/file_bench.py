"""A bench for the rows of a float reference: the candidate runs up to a layer's inputs, the reference finishes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from qdebug.converter.weights import Weights, with_scale_by_channel
from qdebug.cost.handover_curve import Tails
from qdebug.cost.handover_cuts import Cut
from qdebug.cost.trials import BY_ROW, EXACT, PLAIN, WEIGHTS, Subject, Values
from qdebug.graph.quantization import Array
from qdebug.measure.models_pass import Pass
from qdebug.models.reference.taps import Tap
from qdebug.models.reference.unrounded_replay import UnroundedReplay
from qdebug.record.schema import Row


@dataclass(frozen=True, eq=False)
class _Entry:
    """One row, how it is computed, and where the reference takes over."""

    row: Row
    tap: Tap
    cut: Cut
    weights: Weights | None
    again: Tap | None
    """The same with the reference's kernel on a scale for each channel, where the file has one for all."""


class FileBench:
    """Both models; `subjects` are those of the given rows that can be tried, in order."""

    def __init__(self, work: Pass, rows: Sequence[Row], cuts: Sequence[Cut], tails: Tails) -> None:
        self.work, self.tails = work, tails
        self.entries = _entries(work, rows, cuts)
        self.subjects = [_subject(entry) for entry in self.entries]
        taps = [entry.tap for entry in self.entries]
        again = [entry.again for entry in self.entries if entry.again is not None]
        self.replay = UnroundedReplay(work.frozen, taps, work.plan.grids, threads=work.threads)
        self.by_row = UnroundedReplay(work.frozen, again, work.plan.grids, threads=work.threads) if again else None

    def close(self) -> None:
        """Give the sessions' memory back."""
        self.replay.close()
        if self.by_row is not None:
            self.by_row.close()

    def read(self, inputs: Sequence[Array]) -> tuple[list[Array], list[dict[str, Values]]]:
        """The reference's outputs, and what its regions make of the candidate's own inputs."""
        self.codes = self.work.candidate_values(inputs)
        again = iter(self.by_row.values(inputs, self.codes) if self.by_row is not None else ())
        plain = self.replay.fetch([entry.tap.reference for entry in self.entries], inputs)
        found = []
        for entry, values, own in zip(self.entries, self.replay.values(inputs, self.codes), plain, strict=True):
            held = {EXACT: np.asarray(values["local"], np.float32), PLAIN: np.asarray(own, np.float32)}
            if entry.weights is not None:
                held[WEIGHTS] = np.asarray(values["as_file"], np.float32)
            if entry.again is not None:
                held[BY_ROW] = np.asarray(next(again)["as_file"], np.float32)
            found.append(held)
        return self.tails.outputs(inputs, {}), found

    def run(self, number: int, values: Values | None, inputs: Sequence[Array]) -> list[Array]:
        """The reference's outputs from the row's cut on."""
        entry = self.entries[number]
        fed = {
            one.reference.key: one.real(
                values
                if values is not None and one.candidate.key == entry.tap.candidate
                else self.codes[one.candidate.key],
                len(inputs[0]),
            )
            for one in entry.cut.crossing
        }
        return self.tails.outputs(inputs, fed)

    def alone(self, number: int, values: Values, inputs: Sequence[Array]) -> list[Array]:
        """The reference's outputs with one of its tensors replaced."""
        entry = self.entries[number]
        one = next(one for one in entry.cut.crossing if one.candidate.key == entry.tap.candidate)
        return self.tails.outputs(inputs, {one.reference.key: one.real(values, len(inputs[0]))})


def _entries(work: Pass, rows: Sequence[Row], cuts: Sequence[Cut]) -> list[_Entry]:
    """The rows that hold codes, are replayed, and cross to the reference at a cut of their own."""
    taps = {tap.candidate: tap for tap in work.plan.taps if tap.grid is not None}
    by_row = {cut.row: cut for cut in cuts}
    found = []
    for row in rows:
        tap, cut = taps.get(row.tensor_index), by_row.get(row.index)
        if tap is None or cut is None or all(one.candidate.key != tap.candidate for one in cut.crossing):
            continue
        own = work.weights.get(tap.candidate) if tap.simulation.weights is not None else None
        other = None if own is None else with_scale_by_channel(own)
        found.append(
            _Entry(
                row,
                tap,
                cut,
                own,
                None if other is None else replace(tap, simulation=replace(tap.simulation, weights=other)),
            )
        )
    return found


def _subject(entry: _Entry) -> Subject:
    grid = entry.tap.rounded_on
    assert grid is not None
    rows = None if entry.weights is None else entry.weights.reference_rows
    return Subject(
        entry.row.layer,
        entry.tap.dtype,
        grid,
        None if rows is None or rows.size == 0 else np.abs(rows).max(axis=1),
        None if entry.weights is None else entry.weights.kernel_step,
    )
