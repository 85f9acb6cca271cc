"""Whether two models belong together, and if not, which layers do not fit.

A converter never changes how many values a kernel has, and drops no layer that has one. Kernels without a counterpart
are therefore a sign of another model, unless ops that are not understood may hold them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from qdebug.align import fingerprints as fp
from qdebug.align.match import Matches
from qdebug.align.pairs import Pair
from qdebug.errors import AlignmentError
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op

LEAST_PAIRED = 0.5
"""Below this share of paired weighted ops, on either side, the two models do not belong together."""

ADVICE = "give the model that this file was converted from"


def check(reference: Graph, candidate: Graph, matches: Matches, found: Mapping[Key, Pair]) -> None:
    """Raise AlignmentError, with the best partial alignment in its details, where the models do not fit."""
    what = _misfit(reference, candidate, matches, found)
    if what:
        rolled = _rolled(reference, candidate, matches)
        said = (
            f"the reference runs {rolled} as a loop, and the file holds its steps one by one: "
            "build the reference with unroll=True in that layer and the same weights (or convert "
            f"without it); until then {what}"
            if rolled
            else f"the reference and the candidate do not belong together: {what}; {ADVICE}"
        )
        raise AlignmentError(said, details=partial(reference, candidate, matches, found))


def _rolled(reference: Graph, candidate: Graph, matches: Matches) -> str:
    """The layer that the reference runs as a loop where the file, which has none, may hold its steps; else nothing."""
    if any(op.kind in op_facts.OPAQUE for op in candidate.ops):
        return ""
    taken = {r for r, _, _ in matches.values()}
    loops = [op for op in reference.ops if op.raw in op_facts.LOOPS and op.index not in taken]
    return ", ".join(dict.fromkeys(repr(op.layer_name) for op in loops))


def partial(reference: Graph, candidate: Graph, matches: Matches, found: Mapping[Key, Pair]) -> str:
    """What could be aligned all the same, one line each, then what could not."""
    pairs = {pair.op.index: pair for pair in found.values() if pair.op is not None}
    lines = []
    for op in candidate.ops:
        said = ": no counterpart"
        if op.index in pairs:
            said = f" = {pairs[op.index].reference} ({', '.join(pairs[op.index].evidence)})"
        elif op.index in matches:
            ours, words, _ = matches[op.index]
            said = f" = {reference.ops[ours].name} ({', '.join(words)})"
        lines.append(f"op {op.index} {op.raw}{said}")
    taken = {r for r, _, _ in matches.values()}
    lines += [
        f"reference {op.name}: no counterpart"
        for op in reference.ops
        if not fp.is_weak(reference, op) and op.index not in taken
    ]
    return "\n".join(lines)


def _misfit(reference: Graph, candidate: Graph, matches: Matches, found: Mapping[Key, Pair]) -> str:
    taken = {r for r, _, _ in matches.values()}
    theirs, ours = _weighted(candidate), _weighted(reference)
    lost = [op for op in theirs if op.index not in matches]
    missed = [op for op in ours if op.index not in taken]
    if not matches and not any(pair.op is not None for pair in found.values()):
        return _lost(reference, candidate, lost, missed) if lost else "no op of one has a counterpart in the other"
    kept = min(_share(len(theirs) - len(lost), len(theirs)), _share(len(ours) - len(missed), len(ours)))
    if lost and (
        kept < LEAST_PAIRED
        or not _unplaced(reference, taken)
        or (missed and _values(reference, missed) != _values(candidate, lost))
    ):
        return _lost(reference, candidate, lost, missed)
    if missed and (kept < LEAST_PAIRED or not _unplaced(candidate, set(matches))):
        return _missed(reference, ours, missed)
    return ""


def _weighted(graph: Graph) -> list[Op]:
    return [op for op in graph.ops if op_facts.kernel(graph, op) is not None]


def _values(graph: Graph, ops: Sequence[Op]) -> int:
    """How many values the kernels of `ops` hold."""
    kernels = [op_facts.kernel(graph, op) for op in ops]
    return sum(kernel.data.size for kernel in kernels if kernel is not None and kernel.data is not None)


def _unplaced(graph: Graph, placed: set[int]) -> bool:
    """Whether there are arithmetic ops without a counterpart, in which a kernel may be hidden."""
    return any(op.index not in placed and not fp.is_weak(graph, op) for op in graph.ops)


def _share(part: int, whole: int) -> float:
    return part / whole if whole else 1.0


def _lost(reference: Graph, candidate: Graph, lost: Sequence[Op], missed: Sequence[Op]) -> str:
    op = lost[0]
    ours = sorted({_shape(reference, entry, "reference") for entry in missed if fp.stands_for(op.kind, entry.kind)})
    listed = ", ".join(ours[:4]) + (", ..." if len(ours) > 4 else "") if ours else "none"
    return (
        f"{len(lost)} of {len(_weighted(candidate))} weighted ops of the candidate have no counterpart, the first "
        f"is {op.raw} (op {op.index}) with a kernel of {_shape(candidate, op, 'candidate')} (outputs x taps), "
        f"the reference has {listed} to spare"
    )


def _missed(reference: Graph, ours: Sequence[Op], missed: Sequence[Op]) -> str:
    op = missed[0]
    return (
        f"{len(missed)} of {len(ours)} weighted ops of the reference have no counterpart, the first is in layer "
        f"{op.layer_name!r} with a kernel of {_shape(reference, op, 'reference')} (outputs x taps)"
    )


def _shape(graph: Graph, op: Op, side: str) -> str:
    rows = op_facts.kernel_rows(graph, op, side=side)
    return "x".join(map(str, rows.shape)) if rows is not None else "no constant"
