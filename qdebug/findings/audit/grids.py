"""Activation scales and zero points: which grid each tensor of the file should have. NumPy only.

The converter nudges a FakeQuant range in double and stores the scale as float32 (FakeQuantSupport.cpp).
Tensors that must share one grid (pooling, concatenation, resize, reshape) take it from one of theirs: that is
by design, and noted.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from qdebug.align import Aligned, Pair
from qdebug.converter.edited_grids import regridded
from qdebug.converter.grids import EMPTY, FIXED_GRIDS, SAME_SCALE, joined, nudged, readers_agree, same, tied
from qdebug.converter.tolerances import SCALE_ULPS
from qdebug.converter.weights import find_weights
from qdebug.findings.audit.deviations import BEHIND, Deviation, Note, Place, Unchecked
from qdebug.graph import op_facts
from qdebug.graph.graph import Key
from qdebug.graph.quantization import CODE_RANGES, Grid


def audit_grids(
    aligned: Aligned, weights: Mapping[Key, object] | None = None
) -> tuple[list[Deviation | Note | Unchecked], dict[Key, Grid]]:
    """What is said of the grids, and the grid that each paired tensor should have, where that is known.

    `weights` are those of `find_weights`, where they are known already.
    """
    audit = _GridAudit(aligned, weights)
    return list(audit.run()), audit.planned


@dataclass(eq=False)
class _GridAudit:
    """Compares the grid of every pair with the one that the reference gives it."""

    aligned: Aligned
    weights: Mapping[Key, object] | None
    planned: dict[Key, Grid] = field(default_factory=dict)
    """The grid that each paired tensor should have, where that is known."""

    behind: dict[Key, Grid] = field(default_factory=dict)
    """The grid of each tensor whose readers were made for another than it has now."""

    def __post_init__(self) -> None:
        self.reference, self.candidate = self.aligned.graphs
        self.pairs: Mapping[Key, Pair] = {pair.candidate: pair for pair in self.aligned.pairs}
        if self.aligned.kind == "float":
            held = self.weights
            if held is None:
                held = find_weights(self.aligned.alignment, self.reference, self.candidate)
            self.behind = regridded(self.candidate, held, set(self.pairs))
        self.own = {
            pair.candidate: nudged(self.reference, self.reference.producers.get(pair.reference))
            for pair in self.aligned.pairs
        }

    def found(self, key: Key) -> Grid | None:
        """Return the file's grid of a tensor, zero point in the int8 convention."""
        tensor = self.candidate.tensors[key]
        return op_facts.grid_of(tensor) if tensor.dtype in CODE_RANGES else None

    def run(self) -> Iterator[Deviation | Note | Unchecked]:
        """Audit every pair that holds codes, in execution order."""
        for pair in self.aligned.pairs:
            grid = self.found(pair.candidate)
            is_wide = self.candidate.tensors[pair.candidate].dtype == "int16"
            if grid is not None and (not is_wide or pair.candidate in self.behind):
                yield from self._one(pair, grid)

    def _one(self, pair: Pair, grid: Grid) -> Iterator[Deviation | Note | Unchecked]:
        expected = self.own[pair.candidate]
        if expected == EMPTY:
            yield Unchecked(pair.layer, "scale", "the quantizer's range is empty")
            return
        if expected is not None:
            self.planned[pair.candidate] = expected
            if same(grid, expected):
                return
            if tied(self.reference, self.reference.producers.get(pair.reference), grid):
                self.planned[pair.candidate] = grid
                return
            donor = self._donor(pair, grid)
            if donor is not None:
                self.planned[pair.candidate] = grid
                yield Note(
                    pair.layer,
                    "grid",
                    f"takes its grid from {donor}: ops that join them must share one",
                    {"own_scale": expected.scale, "scale": grid.scale, "donor": donor},
                )
                return
            if self.aligned.between_files and self._is_own(pair, grid, expected):
                self.planned[pair.candidate] = grid
                numbers = {"own_scale": grid.scale, "scale": expected.scale}
                told = f"scale {grid.scale:.4g}, the reference file's {expected.scale:.4g}"
                yield Note(pair.layer, "own_grid", f"each file has a grid of its own here: {told}", numbers)
                return
            yield from self._deviation(pair, grid, expected)
            return
        if pair.op is not None and pair.op.kind in FIXED_GRIDS and not self._ends_in_quantizer(pair):
            expected = FIXED_GRIDS[pair.op.kind]
            if not same(grid, expected):
                yield from self._deviation(pair, grid, expected)
            return
        yield from self._without_quantizer(pair, grid)

    def _without_quantizer(self, pair: Pair, grid: Grid) -> Iterator[Deviation | Note | Unchecked]:
        """Audit a tensor that the reference does not fake-quantize there."""
        if pair.candidate in self.behind:
            made_for = self.planned[pair.candidate] = self.behind[pair.candidate]
            yield from self._deviation(pair, grid, made_for, BEHIND)
            return
        given = self._kept(pair)
        if given is not None:
            expected = self.planned.get(given) or self.found(given)
            if expected is not None:
                self.planned[pair.candidate] = expected
                if not same(grid, expected) and self._donor(pair, grid) is None:
                    yield from self._deviation(pair, grid, expected)
            return
        donor = self._donor(pair, grid)
        if donor is not None:
            yield Note(pair.layer, "grid", f"takes its grid from {donor}", {"scale": grid.scale, "donor": donor})
        elif self.aligned.is_qat:
            yield Note(
                pair.layer,
                "no_quantizer",
                "no quantizer of the reference gives this tensor its range",
                {"scale": grid.scale, "zero_point": grid.zero_point},
            )
        else:
            yield Unchecked(pair.layer, "scale", "a range from calibration: the float reference does not hold it")

    def _is_own(self, pair: Pair, grid: Grid, expected: Grid) -> bool:
        """Tell whether a converter can have chosen this grid: another scale, and one that the biases behind it fit."""
        one_scale = same(grid._replace(zero_point=0), expected._replace(zero_point=0))
        return not one_scale and readers_agree(self.candidate, pair.candidate)

    def _kept(self, pair: Pair) -> Key | None:
        """Return the candidate tensor whose grid this one must keep, because its op only moves values."""
        op = pair.op
        if op is None or op.kind not in SAME_SCALE - {"concat", "relu", "relu6"}:  # (a RELU of its own rescales)
            return None
        given = self.candidate.data_inputs(op)
        return given[0] if given else None

    def _ends_in_quantizer(self, pair: Pair) -> bool:
        last = self.reference.producers.get(pair.reference)
        return last is not None and last.kind == "fake_quant"

    def _deviation(self, pair: Pair, grid: Grid, expected: Grid, detail: str = "") -> Iterator[Deviation]:
        tensor = self.candidate.tensors[pair.candidate]
        place = Place(pair.layer, pair.op.index if pair.op is not None else None, tensor.name)
        if abs(grid.scale - expected.scale) > SCALE_ULPS * max(grid.scale, expected.scale):
            yield place.single("scale", expected.scale, grid.scale, ratio=grid.scale / expected.scale, detail=detail)
        if grid.zero_point != expected.zero_point:
            yield place.single(
                "zero_point",
                expected.zero_point,
                grid.zero_point,
                largest=float(abs(grid.zero_point - expected.zero_point)),
                detail=detail,
            )

    # -- who shares a grid with whom -------------------------------------------------------------------------

    def _donor(self, pair: Pair, grid: Grid) -> str | None:
        """Return the layer whose own range this is, joined to the pair by ops that must share one grid."""

        def is_shared(key: Key) -> bool:
            other = self.found(key)
            return other is not None and same(grid, other)

        near = list(joined(self.candidate, pair.candidate, is_shared))
        for key in near:
            own, entry = self.own.get(key), self.pairs.get(key)
            if entry is not None and entry is not pair and own is not None and same(grid, own):
                return entry.layer
        return self._second(pair, grid) or self._fixed(near)

    def _second(self, pair: Pair, grid: Grid) -> str | None:
        """Return the layer of another FakeQuant in the region or just behind it, on this very grid."""
        readers = self.reference.consumers.get(pair.reference, ())
        for op in (*pair.region, *readers):
            own = nudged(self.reference, op)
            if own is not None and same(grid, own):
                return op.layer_name
        return None

    def _fixed(self, keys: Iterable[Key]) -> str | None:
        """Return an op with a fixed output grid among the tensors that share one."""
        made = (self.candidate.producers.get(key) for key in keys)
        return next((op.raw for op in made if op is not None and op.kind in FIXED_GRIDS), None)
