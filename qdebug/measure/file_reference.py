"""A `.tflite` reference on kernels of its own, beside a pass: its tensors, and its layers on the candidate's codes.

Where a layer of both files reads and writes the same grids, the reference's own ops are run on the very codes that the
candidate read: what then differs is the layer, bit for bit. Elsewhere codes mean other values on the other side, and
the local error stays one of the reference's float arithmetic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from qdebug.align import Alignment
from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.measure.file_plan import FilePlan, one_grid, plan_file
from qdebug.models.litert.interpreter import Interpreter, read_tensors
from qdebug.models.litert.regions import Region, RegionRunner
from qdebug.models.reference.taps import TapValues
from qdebug.models.reference.tflite_model import FileReference, FloatGraph
from qdebug.models.reference.tflite_tail import FileTails
from qdebug.verdict.expectation import Expectation


@dataclass(frozen=True, eq=False)
class OwnRun:
    """One batch of a reference file on its own kernels, by candidate tensor, as the candidate would hold it."""

    outputs: list[Array]
    """The file's outputs in real values."""
    cumulative: Mapping[Key, Array]
    local: Mapping[Key, Array]

    def instead(self, key: Key, taken: TapValues) -> TapValues:
        """A copy of `taken` with the values that the reference file's own kernels computed at this pair."""
        finite = 0 if key in self.cumulative else taken.non_finite[0], 0 if key in self.local else taken.non_finite[1]
        return replace(
            taken,
            cumulative=self.cumulative.get(key, taken.cumulative),
            local=self.local.get(key, taken.local),
            non_finite=finite,
        )


@dataclass(frozen=True, eq=False)
class FileSide:
    """The reference file on its own kernels, beside a candidate."""

    file: Graph
    lifted: FloatGraph
    candidate: Graph
    interpreter: Interpreter
    shapes: Mapping[Key, tuple[int, ...]]
    """Of one sample, by tensor of the file; those that LiteRT does not keep are left out."""
    plan: FilePlan
    loose: RegionRunner
    refused: str | None = None
    """Why no layer can be run alone, where LiteRT does not take the file that holds them."""

    @property
    def kernels(self) -> str:
        """The family that runs the file."""
        return self.interpreter.kernels

    @property
    def replayed(self) -> frozenset[Key]:
        """Candidate tensors whose local error is one of the reference's own kernels."""
        return frozenset(self.loose.regions) | self.plan.at_inputs

    def delegated(self) -> frozenset[Key]:
        """Candidate tensors whose counterparts in the file the XNNPACK delegate computes."""
        computed = self.interpreter.delegated()
        return frozenset(key for key, held in self.plan.tensors.items() if held in computed)

    def run(self, inputs: Sequence[Array], read: Mapping[Key, Array]) -> OwnRun:
        """Run one batch, `inputs` in the reference's order; `read` are the candidate's tensors on it."""
        keys = list(dict.fromkeys([*self.plan.tensors.values(), *self.file.outputs]))
        values = read_tensors(self.interpreter, inputs, keys)
        fed = dict(zip(self.file.inputs, self.interpreter.feed(inputs), strict=True))
        given = {
            key: [fed[ours] if theirs is None else read[theirs] for ours, theirs in feeds.items()]
            for key, feeds in self.plan.feeds.items()
        }
        cumulative = {key: self._as_candidate(key, held, values[held]) for key, held in self.plan.tensors.items()}
        ran = {
            key
            for key, feeds in self.plan.feeds.items()
            if all(  # on the very same inputs in the whole run already
                theirs is None
                or (ours in values and np.array_equal(values[ours].reshape(-1), read[theirs].reshape(-1)))
                for ours, theirs in feeds.items()
            )
        }
        local = {key: cumulative[key] for key in self.plan.at_inputs | ran}
        if self.replayed - local.keys():
            local = self.loose.run(given, len(inputs[0])) | local
        outputs = [self.file.tensors[key].real(values[key]) for key in self.file.outputs]
        return OwnRun(outputs, cumulative, local)

    def real_values(self, inputs: Sequence[Array]) -> dict[Key, Array]:
        """What the file's tensors hold on one batch, in real values, by candidate tensor."""
        keys = list(dict.fromkeys(self.plan.tensors.values()))
        values = read_tensors(self.interpreter, inputs, keys)
        return {key: self.file.tensors[held].real(values[held]) for key, held in self.plan.tensors.items()}

    def tails(self) -> FileTails:
        """The file as something that can go on from any of its tensors."""
        return FileTails(self.file, self.lifted, self.interpreter, self.shapes)

    def expectations(
        self, own: Mapping[Key, Expectation], theirs: Mapping[Key, Expectation], *, kernels: str
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
            found[key] = replace(
                mine,
                tau=tau,
                noise=np.broadcast_to(np.maximum(mine.noise, other.noise), tau.shape),
                mechanism=mine.mechanism or other.mechanism,
            )
        return found

    def _as_candidate(self, key: Key, held: Key, values: Array) -> Array:
        """Values of the file's tensor as the candidate would hold them: its codes, or real values."""
        ours, theirs = self.file.tensors[held], self.candidate.tensors[key]
        if one_grid(ours, theirs):
            return values
        real = ours.real(values)
        return theirs.codes(real) if theirs.holds_codes else real


def open_file_side(
    reference: FileReference, candidate: Graph, alignment: Alignment, *, kernels: str, threads: int | None = None
) -> FileSide:
    """Run the file on one sample, find its counterparts of the candidate's layers, and cut these loose."""
    interpreter = Interpreter(reference.model, reference.file, kernels=kernels, threads=threads, role="reference")
    shapes = _shapes(reference.file, interpreter)
    lifted = reference.lifted
    plan = plan_file(reference.file, lifted.frozen.graph, lifted.tensors, candidate, alignment.pairs, shapes)
    interpreter.allocate(2)  # (finds out whether the file's batch must be freed for that)

    def cut(regions: Mapping[Key, Region]) -> RegionRunner:
        return RegionRunner(interpreter.running, reference.file, regions, shapes, kernels=kernels, threads=threads)

    try:
        loose, refused = cut(plan.regions), None
    except ModelError as error:
        loose, refused = cut({}), str(error)
    return FileSide(reference.file, lifted, candidate, interpreter, shapes, plan, loose, refused)


def _shapes(file: Graph, interpreter: Interpreter) -> dict[Key, tuple[int, ...]]:
    """The shapes that the file's tensors have for one sample; those that LiteRT does not keep are left out."""
    interpreter.run([np.zeros((1, *file.tensors[key].shape[1:]), np.float32) for key in file.inputs])
    found: dict[Key, tuple[int, ...]] = {}
    for key, tensor in file.tensors.items():
        try:
            found[key] = interpreter.get(key).shape if tensor.data is None else ()
        except KeyError:
            continue
    return {key: shape for key, shape in found.items() if shape}
