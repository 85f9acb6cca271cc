"""What an alignment says: pairs with their regions and evidence, and a reason for everything left over."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from qdebug.graph.graph import Graph, Key, Layer, Op
from qdebug.record.schema import Unpaired


@dataclass(frozen=True, eq=False)
class Pair:
    """One candidate tensor and the reference tensor that it stands for."""

    reference: Key
    candidate: Key
    op: Op | None
    """The candidate op that computes the tensor; `None` for a model input."""
    core: Op | None
    """The reference op that it was matched to; `None` for a model input."""
    evidence: tuple[str, ...]
    confidence: float
    layer: str = ""
    """Unique in an alignment, made of the user's own layer name."""
    region: tuple[Op, ...] = ()
    """Reference ops from the pairs above to this one, in running order."""
    inputs: tuple[tuple[Key, Key | None], ...] = ()
    """(reference tensor, candidate tensor) where the region begins; `None` for a model input without a pair."""
    layers: tuple[Layer, ...] = ()
    """The reference layers in the region, in running order, each once."""
    candidate_ops: tuple[Op, ...] = ()
    """Candidate ops from the pairs above to this one, itself last."""
    candidate_inputs: tuple[Key, ...] = ()
    """The paired candidate tensors where `candidate_ops` begin."""

    @property
    def order(self) -> tuple[int, int]:
        """Execution order: model inputs first, then by the op's number in the flatbuffer."""
        key = self.candidate if isinstance(self.candidate, int) else 0
        return (-1, key) if self.op is None else (self.op.index, self.op.outputs.index(self.candidate))


def only_path_back(reference: Graph, pair: Pair) -> Iterator[Op]:
    """The ops of a pair's region from its end back to its core, as long as each reads one tensor."""
    inside = {op.index for op in pair.region}
    op = reference.producers.get(pair.reference)
    while op is not None and op.index in inside:
        yield op
        given = reference.data_inputs(op)
        op = reference.producers.get(given[0]) if op is not pair.core and len(given) == 1 else None


@dataclass(frozen=True, eq=False)
class Alignment:
    """Every pair, in the candidate's execution order, and everything left over."""

    pairs: tuple[Pair, ...]
    leftovers: tuple[Unpaired, ...]
    candidate_ops: int
    inputs: tuple[int, ...]
    """For each candidate input, the number of the reference input that it is."""
    outputs: tuple[int, ...]
    """For each candidate output, the number of the reference output that it is."""

    @property
    def paired_ops(self) -> int:
        """How many candidate ops have at least one paired output."""
        return len({pair.op.index for pair in self.pairs if pair.op is not None})


@dataclass(frozen=True, eq=False)
class Aligned:
    """Two graphs, and which tensor of the one stands for which of the other."""

    reference: Graph
    candidate: Graph
    alignment: Alignment
    kind: str
    """What the reference is: `qat` (it carries FakeQuants), `float`, or `file`: a file that holds codes, whose ranges
    are as much a converter's choice as the candidate's."""

    @property
    def graphs(self) -> tuple[Graph, Graph]:
        """The reference's and the candidate's."""
        return self.reference, self.candidate

    @property
    def pairs(self) -> tuple[Pair, ...]:
        """The alignment's, in the candidate's execution order."""
        return self.alignment.pairs

    @property
    def is_qat(self) -> bool:
        """Whether the reference carries quantizers."""
        return self.kind == "qat"

    @property
    def between_files(self) -> bool:
        """Whether the reference is a file that holds codes."""
        return self.kind == "file"
