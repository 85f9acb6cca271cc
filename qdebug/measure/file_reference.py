"""A `.tflite` reference on kernels of its own, beside a pass: its tensors, and its layers on the candidate's codes.

Where a layer of both files reads and writes the same grids, the reference's own ops are run on the very codes that the
candidate read: what then differs is the layer, bit for bit. Elsewhere codes mean other values on the other side, and
the local error stays one of the reference's float arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qdebug.align import Alignment, Pair
from qdebug.errors import ModelError
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Tensor
from qdebug.graph.quantization import Array
from qdebug.models.litert.interpreter import Interpreter, read_tensors
from qdebug.models.litert.regions import LooseRegions, Region, region_between
from qdebug.models.reference.replay import Taken
from qdebug.models.reference.tflite_model import FileReference
from qdebug.models.reference.tflite_tail import FileTails
from qdebug.verdict.expectation import Expectation


@dataclass(frozen=True, eq=False)
class OwnRun:
    """One batch of a reference file on its own kernels, by candidate tensor, as the candidate would hold it."""

    outputs: list[Array]
    """The file's outputs in real values."""
    cumulative: Mapping[Key, Array]
    local: Mapping[Key, Array]

    def instead(self, key: Key, taken: Taken) -> Taken:
        """A copy of `taken` with the values that the reference file's own kernels computed at this pair."""
        finite = 0 if key in self.cumulative else taken.non_finite[0], 0 if key in self.local else taken.non_finite[1]
        return replace(taken, cumulative=self.cumulative.get(key, taken.cumulative),
                       local=self.local.get(key, taken.local), non_finite=finite)


class FileSide:
    """The reference file, aligned with a candidate."""

    def __init__(self, reference: FileReference, candidate: Graph, alignment: Alignment, *, kernels: str,
                 threads: int | None = None) -> None:
        self.file, self.lifted, self.candidate = reference.file, reference.lifted, candidate
        self.kernels = kernels
        self.interpreter = Interpreter(reference.model, self.file, kernels=kernels, threads=threads, role="reference")
        self.shapes, self.names = self._shapes(), self._names()
        self.tensors = {pair.candidate: key for pair in alignment.pairs
                        if (key := self._held(pair.reference, candidate.tensors[pair.candidate])) in self.shapes}
        """Candidate tensor -> the file's tensor that it stands for."""
        self.feeds: dict[Key, dict[Key, Key | None]] = {}
        """Candidate tensor at the end of a layer that is replayed -> what feeds it: the file's tensor -> the
        candidate's, `None` for a model input."""
        regions: dict[Key, Region] = {}
        for pair in alignment.pairs:
            region = self._region(pair)
            if region is not None:
                regions[pair.candidate] = region
        self.at_inputs = frozenset(pair.candidate for pair in alignment.pairs if self._begins(pair))
        """Candidate tensors whose layer begins at the model's inputs: the local error is the cumulative one."""
        self.interpreter.allocate(2)  # (finds out whether the file's batch must be freed for that)
        self.refused: str | None = None
        """Why no layer can be run alone, where LiteRT does not take the file that holds them."""
        try:
            self.loose = self._loose(regions, threads)
        except ModelError as error:
            self.loose, self.refused = self._loose({}, threads), str(error)

    @property
    def replayed(self) -> frozenset[Key]:
        """Candidate tensors whose local error is one of the reference's own kernels."""
        return frozenset(self.loose.regions) | self.at_inputs

    def delegated(self) -> frozenset[Key]:
        """Candidate tensors whose counterparts in the file the XNNPACK delegate computes."""
        computed = self.interpreter.delegated()
        return frozenset(key for key, held in self.tensors.items() if held in computed)

    def run(self, inputs: Sequence[Array], read: Mapping[Key, Array]) -> OwnRun:
        """Run one batch, `inputs` in the reference's order; `read` are the candidate's tensors on it."""
        keys = list(dict.fromkeys([*self.tensors.values(), *self.file.outputs]))
        values = read_tensors(self.interpreter, inputs, keys)
        fed = dict(zip(self.file.inputs, self.interpreter.feed(inputs), strict=True))
        given = {key: [fed[ours] if theirs is None else read[theirs] for ours, theirs in feeds.items()]
                 for key, feeds in self.feeds.items()}
        cumulative = {key: self._as_candidate(key, held, values[held]) for key, held in self.tensors.items()}
        ran = {key for key, feeds in self.feeds.items() if all(  # on the very same inputs in the whole run already
            theirs is None or (ours in values and np.array_equal(values[ours].reshape(-1), read[theirs].reshape(-1)))
            for ours, theirs in feeds.items())}
        local = {key: cumulative[key] for key in self.at_inputs | ran}
        if self.replayed - local.keys():
            local = self.loose.run(given, len(inputs[0])) | local
        outputs = [self.file.tensors[key].real(values[key]) for key in self.file.outputs]
        return OwnRun(outputs, cumulative, local)

    def real_values(self, inputs: Sequence[Array]) -> dict[Key, Array]:
        """What the file's tensors hold on one batch, in real values, by candidate tensor."""
        keys = list(dict.fromkeys(self.tensors.values()))
        values = read_tensors(self.interpreter, inputs, keys)
        return {key: self.file.tensors[held].real(values[held]) for key, held in self.tensors.items()}

    def tails(self) -> FileTails:
        """The file as something that can go on from any of its tensors."""
        return FileTails(self.file, self.lifted, self.interpreter, self.shapes)

    def expectations(self, own: Mapping[Key, Expectation], theirs: Mapping[Key, Expectation], *, kernels: str
                     ) -> dict[Key, Expectation]:
        """What to expect of both sides' kernels together: `own` of the candidate's, `theirs` of the reference's.

        Equal kernels on equal codes have nothing to differ by; different ones may each miss by what they leave open.
        """
        found = dict(own)
        for key in self.replayed & own.keys():
            mine, other = own[key], theirs[key]
            if kernels == self.kernels:
                found[key] = replace(mine, tau=np.zeros_like(mine.tau), noise=mine.margin)
                continue
            tau = np.maximum(mine.tau, other.tau)
            found[key] = replace(mine, tau=tau, noise=np.broadcast_to(np.maximum(mine.noise, other.noise), tau.shape),
                                 mechanism=mine.mechanism or other.mechanism)
        return found

    # -- which tensor is which ---------------------------------------------------------------------------

    def _loose(self, regions: Mapping[Key, Region], threads: int | None) -> LooseRegions:
        return LooseRegions(self.interpreter.running, self.file, regions, self.shapes, kernels=self.kernels,
                            threads=threads)

    def _shapes(self) -> dict[Key, tuple[int, ...]]:
        """The shapes that the file's tensors have for one sample; those that LiteRT does not keep are left out."""
        self.interpreter.run([np.zeros((1, *self.file.tensors[key].shape[1:]), np.float32) for key in self.file.inputs])
        found: dict[Key, tuple[int, ...]] = {}
        for key, tensor in self.file.tensors.items():
            try:
                found[key] = self.interpreter.get(key).shape if tensor.data is None else ()
            except KeyError:
                continue
        return {key: shape for key, shape in found.items() if shape}

    def _held(self, key: Key, like: Tensor) -> Key | None:
        """The file's tensor that a tensor of the lifted graph stands for, on the grid of `like` if there is one."""
        graph = self.lifted.frozen.graph
        while key not in self.names and (maker := graph.producers.get(key)) is not None \
                and maker.kind in op_facts.RESHAPES:
            key = graph.data_inputs(maker)[0]
        options = self.names.get(key, ())
        return next((option for option in options if one_grid(self.file.tensors[option], like)),
                    options[0] if options else None)

    def _names(self) -> dict[Key, tuple[Key, ...]]:
        """The lifted graph's tensors by name, with those that only another shape keeps from being the file's."""
        graph, found = self.lifted.frozen.graph, dict(self.lifted.tensors)
        for key, held in self.lifted.tensors.items():
            before = key
            while (maker := graph.producers.get(before)) is not None and maker.kind in op_facts.RESHAPES:
                before = graph.data_inputs(maker)[0]
                if before in found:
                    break
                found[before] = held
        return found

    def _begins(self, pair: Pair) -> bool:
        return all(source is None for _, source in pair.inputs) and self._fits(pair)

    def _fits(self, pair: Pair) -> bool:
        """Whether both files hold the pair's tensor on one grid."""
        held = self.tensors.get(pair.candidate)
        return held is not None and one_grid(self.file.tensors[held], self.candidate.tensors[pair.candidate])

    def _region(self, pair: Pair) -> Region | None:
        """The file's ops between this pair and those above it, if they can be run on the candidate's codes."""
        if not self._fits(pair) or self._begins(pair):
            return None
        feeds: dict[Key, Key | None] = {}
        for ours, theirs in pair.inputs:
            if theirs is None:
                options = [key for key in self.lifted.tensors.get(ours, ()) if key in self.file.inputs]
                if not options:
                    return None
                feeds[options[0]] = None
                continue
            held = self._held(ours, self.candidate.tensors[theirs])
            if held is None or not one_grid(self.file.tensors[held], self.candidate.tensors[theirs]):
                return None
            feeds[held] = theirs
        region = region_between(self.file, list(feeds), self.tensors[pair.candidate])
        if region is not None:
            self.feeds[pair.candidate] = {key: feeds[key] for key in region.inputs}
        return region

    def _as_candidate(self, key: Key, held: Key, values: Array) -> Array:
        """Values of the file's tensor as the candidate would hold them: its codes, or real values."""
        ours, theirs = self.file.tensors[held], self.candidate.tensors[key]
        if one_grid(ours, theirs):
            return values
        real = ours.real(values)
        return theirs.codes(real) if theirs.holds_codes else real


def one_grid(first: Tensor, second: Tensor) -> bool:
    """Whether two activation tensors hold the same values in the same codes (or both real values)."""
    if first.dtype != second.dtype:
        return False
    grids = op_facts.grid_of(first), op_facts.grid_of(second)
    return grids == (None, None) or op_facts.same_grid(*grids)
