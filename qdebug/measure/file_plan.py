"""Which tensors and ops of a reference file stand beside those of a candidate: decided from graphs, nothing runs."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from qdebug.align import Pair
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Tensor
from qdebug.models.litert.regions import Region, region_between


@dataclass(frozen=True, eq=False)
class FilePlan:
    """What to take of a reference file, by candidate tensor."""

    tensors: Mapping[Key, Key]
    """The file's tensor that it stands for."""
    regions: Mapping[Key, Region]
    """The file's ops that can be run on the candidate's own codes, where a layer reads and writes the same grids."""
    feeds: Mapping[Key, Mapping[Key, Key | None]]
    """What feeds each region: the file's tensor -> the candidate's, `None` for a model input."""
    at_inputs: frozenset[Key]
    """Candidate tensors whose layer begins at the model's inputs: the local error is the cumulative one."""


def plan_file(
    file: Graph,
    lifted: Graph,
    held: Mapping[Key, tuple[Key, ...]],
    candidate: Graph,
    pairs: Sequence[Pair],
    kept: Collection[Key],
) -> FilePlan:
    """Find them.

    `lifted`: the file's graph in real values, which the pairs are of; `held`: its tensors -> the file's with the same
    values; `kept`: the file's tensors that can be read after a run.
    """
    planner = _Planner(file, lifted, held, candidate)
    tensors = {
        pair.candidate: key
        for pair in pairs
        if (key := planner.held_as(pair.reference, candidate.tensors[pair.candidate])) in kept
    }
    alike = [
        pair
        for pair in pairs
        if pair.candidate in tensors
        and one_grid(file.tensors[tensors[pair.candidate]], candidate.tensors[pair.candidate])
    ]
    at_inputs = frozenset(pair.candidate for pair in alike if all(source is None for _, source in pair.inputs))
    regions: dict[Key, Region] = {}
    feeds: dict[Key, Mapping[Key, Key | None]] = {}
    for pair in alike:
        given = None if pair.candidate in at_inputs else planner.feeds(pair)
        region = None if given is None else region_between(file, list(given), tensors[pair.candidate])
        if given is not None and region is not None:
            regions[pair.candidate] = region
            feeds[pair.candidate] = {key: given[key] for key in region.inputs}
    return FilePlan(tensors, regions, feeds, at_inputs)


def one_grid(first: Tensor, second: Tensor) -> bool:
    """Whether two activation tensors hold the same values in the same codes (or both real values)."""
    if first.dtype != second.dtype:
        return False
    grids = op_facts.grid_of(first), op_facts.grid_of(second)
    return grids == (None, None) or op_facts.same_grid(*grids)


class _Planner:
    """Both files, and which of the lifted graph's tensors are the reference file's."""

    def __init__(self, file: Graph, lifted: Graph, held: Mapping[Key, tuple[Key, ...]], candidate: Graph) -> None:
        self.file, self.lifted, self.held, self.candidate = file, lifted, held, candidate
        self.names = _with_reshaped(lifted, held)

    def held_as(self, key: Key, like: Tensor) -> Key | None:
        """The file's tensor that a tensor of the lifted graph stands for, on the grid of `like` if there is one."""
        while (
            key not in self.names
            and (maker := self.lifted.producers.get(key)) is not None
            and maker.kind in op_facts.RESHAPES
        ):
            key = self.lifted.data_inputs(maker)[0]
        options = self.names.get(key, ())
        return next(
            (option for option in options if one_grid(self.file.tensors[option], like)), options[0] if options else None
        )

    def feeds(self, pair: Pair) -> dict[Key, Key | None] | None:
        """What the pair's region begins at, in both files; `None` where the two hold that in other codes."""
        found: dict[Key, Key | None] = {}
        for ours, theirs in pair.inputs:
            if theirs is None:
                key = next((key for key in self.held.get(ours, ()) if key in self.file.inputs), None)
            else:
                key = self.held_as(ours, self.candidate.tensors[theirs])
                if key is not None and not one_grid(self.file.tensors[key], self.candidate.tensors[theirs]):
                    return None
            if key is None:
                return None
            found[key] = theirs
        return found


def _with_reshaped(lifted: Graph, held: Mapping[Key, tuple[Key, ...]]) -> dict[Key, tuple[Key, ...]]:
    """`held`, with the lifted graph's tensors that only another shape keeps from being the file's."""
    found = dict(held)
    for key, options in held.items():
        before = key
        while (maker := lifted.producers.get(before)) is not None and maker.kind in op_facts.RESHAPES:
            before = lifted.data_inputs(maker)[0]
            if before in found:
                break
            found[before] = options
    return found
