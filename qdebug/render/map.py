"""The alignment alone, as blocks: the pairs, then what has no counterpart and why."""

from __future__ import annotations

from qdebug.record.map import Map, MappedPair
from qdebug.render import numbers
from qdebug.render.blocks import Block, Facts, Sentence
from qdebug.render.run.device import told_device
from qdebug.render.table import DATA, USEFUL, Table, build, number_field, text_field

_UNSURE = 0.5


def document(found: Map) -> tuple[Block, ...]:
    """Lay out an alignment: the models, pairs, leftovers, and the coverage last."""
    ends = [("input", found.inputs), ("output", found.outputs)]
    facts = [("reference", numbers.name(found.reference)), ("candidate", numbers.name(found.candidate))]
    facts += [
        (f"{what} {numbers.name(theirs)}", numbers.name(ours))
        for what, names in ends
        for theirs, ours in names.items()
        if len(names) > 1
    ]
    blocks: list[Block] = [Facts(tuple(facts)), pairs_table(found), unpaired_table(found)]
    if found.device is not None:
        blocks.append(Sentence(told_device(found.device)))
    blocks += [Sentence(f"Note: {numbers.name(note)}") for note in found.notes]
    blocks.append(Sentence(answer(found)))
    return tuple(blocks)


def pairs_table(found: Map) -> Table:
    """Build one line for each pair, in the candidate's order."""
    fields = [
        number_field("op_index", "#", detail=USEFUL),
        text_field("op", "candidate op"),
        text_field("layer", "layer", wrap=True),
        text_field("region", "reference region", lambda one: numbers.names(one.region), wrap=True),
        text_field("evidence", "evidence", lambda one: numbers.names(one.evidence), wrap=True),
        number_field("confidence", "confidence", "{:.3f}".format),
        *(
            [number_field("device_differ_percent", "device vs host %", numbers.percent, short="device %")]
            if found.device is not None
            else []
        ),
        number_field("tensor_index", "tensor", detail=DATA),
        text_field("tensor", "tensor name", detail=DATA),
        text_field("reference_tensor", "reference tensor", detail=DATA),
    ]

    def mark(one: MappedPair) -> str:
        return "unsure" if one.confidence <= _UNSURE else ""

    return build("map", "Alignment", fields, found.pairs, mark=mark, status_column="layer")


def unpaired_table(found: Map) -> Table:
    """Build what has no counterpart on either side, with its reason."""
    fields = [
        text_field("side", "side"),
        number_field("op_index", "#"),
        text_field("op", "op or layer type"),
        text_field("name", "name", lambda one: numbers.name(one.layer or one.name), wrap=True),
        text_field("reason", "reason", wrap=True),
    ]
    return build("unpaired", "Without a counterpart", fields, found.unpaired)


def answer(found: Map) -> str:
    """Say how much is covered, in a sentence or two."""
    of = found.coverage
    text = f"{of.paired} of {of.candidate_ops} candidate ops paired ({numbers.percent(of.paired_percent)} %)"
    text += f", {of.explained} need no counterpart" if of.explained else ""
    lost = of.candidate_ops - of.paired - of.explained
    return f"{text}, {lost} have none." if lost else f"{text}."
