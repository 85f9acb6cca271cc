"""A loss without a culprit: what the first layers of the ranking bring back together.

The file is computed layer by layer in real arithmetic, on its own weights and grids, which must give what the file
gives; then once more with the first layers of the ranking kept in float. Points do not add up, so they are measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from qdebug.converter.grids import FIXED_GRIDS
from qdebug.cost.evaluation import Evaluation
from qdebug.cost.metrics import Kept
from qdebug.cost.trials import SAMPLES
from qdebug.errors import ModelError
from qdebug.findings.loss_evidence import Points, Together
from qdebug.graph.graph import Key
from qdebug.graph.quantization import CODE_RANGES, Array, Grid
from qdebug.measure.models_pass import Pass
from qdebug.models.reference.cascade import Cascade
from qdebug.models.reference.taps import Tap
from qdebug.record.schema import Row

FIRST = 5
"""Layers of the ranking that are kept in float together."""
ALIKE = 0.25
"""Share of the loss by which the computed file may differ from the file itself."""


@dataclass(eq=False)
class Ensemble:
    """The file as a row of regions, of which some may be kept in float."""

    work: Pass
    on: Evaluation

    def __post_init__(self) -> None:
        self.on = self.on.thinned(SAMPLES)

    def run(self, ranking: Sequence[Row]) -> Together | None:
        """Keep the first of `ranking` in float; `None` where the file cannot be computed so."""
        kept = [row for row in ranking if row.scale is not None][:FIRST]
        ends = {pair.reference: pair.candidate for pair in self.work.plan.pairs}
        if not kept or any(key not in ends for key in self.work.frozen.graph.outputs):
            return None
        floats = {row.tensor_index for row in kept}
        cascade = Cascade(self.work.frozen, self.work.plan.taps, self.work.plan.grids, threads=self.work.threads)
        found: dict[str, list[Kept]] = {"reference": [], "file": [], "computed": [], "kept": [], "fitted": []}
        try:
            data = self._data_ranges(cascade)
            fitted = {key: _fitted(tap, *data[key]) for tap in cascade.taps if (key := tap.candidate) in data}
            runs: dict[str, tuple[frozenset[Key], Mapping[Key, Grid]]] = {
                "computed": (frozenset(), {}),
                "kept": (frozenset(floats), {}),
                "fitted": (frozenset(), fitted),
            }
            for inputs in self.on.batches("computing layers together"):
                read = self.work.candidate_values(inputs)
                wanted = cascade.outputs(inputs)
                found["reference"].append(self.on.metric.keep(wanted, wanted))
                found["file"].append(self.on.metric.keep(wanted, self.work.real_outputs(read)))
                for name, (free, grids) in runs.items():
                    values = self._values(cascade, inputs, free, grids)
                    outputs = [
                        values[ends[key]].reshape(np.shape(plain))
                        for key, plain in zip(self.work.frozen.graph.outputs, wanted, strict=True)
                    ]
                    found[name].append(self.on.metric.keep(wanted, outputs))
        except (ModelError, KeyError, ValueError):
            return None
        finally:
            cascade.close()
        return self._together(
            kept,
            {name: np.concatenate(held) for name, held in found.items()},
            [(tap, data[tap.candidate]) for tap in cascade.taps if tap.candidate in data],
        )

    def _data_ranges(self, cascade: Cascade) -> dict[Key, tuple[float, float]]:
        """Range of the reference's own values at every tensor whose grid was chosen for them; 0 is in it."""
        fixed = {pair.candidate for pair in self.work.plan.pairs if pair.op is not None and pair.op.kind in FIXED_GRIDS}
        taps = [tap for tap in cascade.taps if tap.grid is not None and tap.candidate not in fixed]
        low, high = self.on.extremes(lambda inputs: cascade.fetch([tap.reference for tap in taps], inputs))
        return {tap.candidate: (float(least), float(most)) for tap, least, most in zip(taps, low, high, strict=True)}

    def _together(
        self, kept: Sequence[Row], found: Mapping[str, Kept], ranges: Sequence[tuple[Tap, tuple[float, float]]]
    ) -> Together | None:
        def lost(before: str, after: str) -> Points:
            return self.on.points(found[before], found[after], found["reference"])

        if not abs(lost("file", "computed").points) <= ALIKE * abs(lost("reference", "file").points):
            return None
        gained, fitted = (lost(name, "computed") for name in ("kept", "fitted"))
        held = [((tap.rounded_on or Grid(1.0, 0)), tap.dtype, *data) for tap, data in ranges]
        wide = sum(grid.ends(dtype)[1] - grid.ends(dtype)[0] >= 2 * (high - low) for grid, dtype, low, high in held)
        narrow = sum(
            low < grid.ends(dtype)[0] - grid.scale or high > grid.ends(dtype)[1] + grid.scale
            for grid, dtype, low, high in held
        )
        return Together(tuple(row.layer for row in kept), gained, fitted, wide, narrow, len(held))

    def _values(
        self, cascade: Cascade, inputs: Sequence[Array], free: frozenset[Key], grids: Mapping[Key, Grid]
    ) -> dict[Key, Array]:
        """Real values of every paired tensor, on the file's grids but for the `free` ones and those in `grids`."""
        values: dict[Key, Array] = {}
        numbers = {tap.candidate: number for number, tap in enumerate(cascade.taps)}
        for pair in self.work.plan.pairs:
            if pair.candidate in numbers:
                tap = cascade.taps[numbers[pair.candidate]]
                is_free = pair.candidate in free
                as_file = tap.simulation
                self._requantize(values, as_file.inputs or ())
                which = "local" if is_free or (as_file.weights is None and as_file.inputs is None) else "as_file"
                found = cascade.value(numbers[pair.candidate], which, inputs, values)
                grid = grids.get(pair.candidate) or tap.rounded_on
                values[pair.candidate] = found if is_free or grid is None else _rounded(found, grid, tap.dtype)
            else:
                same = values[self.work.plan.aliases[pair.candidate]]  # only takes another shape
                shape = self.work.candidate.tensors[pair.candidate].shape[1:]
                values[pair.candidate] = same.reshape(len(same), *shape)
        return values

    def _requantize(self, values: dict[Key, Array], inputs: Sequence[tuple[Key, Key | None]]) -> None:
        """Add the tensors that a QUANTIZE makes of known ones."""
        for _, key in inputs:
            if key is None or key in values:
                continue
            op = self.work.candidate.producers[key]
            grid = self.work.plan.grids[key]
            assert grid is not None
            values[key] = _rounded(values[op.inputs[0]], grid, self.work.candidate.tensors[key].dtype)


def _fitted(tap: Tap, low: float, high: float) -> Grid:
    """A grid of all codes from `low` to `high`."""
    least, most = CODE_RANGES[tap.dtype]
    scale = max((high - low) / (most - least), 1e-30)
    return Grid(scale, round(least - low / scale))


def _rounded(values: Array, grid: Grid, dtype: str) -> Array:
    low, high = CODE_RANGES[dtype]
    codes = np.clip(np.rint(values / grid.scale) + grid.zero_point, low, high)
    return np.asarray((codes - grid.zero_point) * grid.scale, np.float32)
