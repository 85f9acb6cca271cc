"""Alignment of tiny real models, converted: the truth is the converter's names and what both models compute."""

from __future__ import annotations

import pytest

from qdebug.align import Alignment, align
from qdebug.errors import AlignmentError
from qdebug.graph.graph import Key
from qdebug.models.litert.parse import parse
from tests.support import converted_models, truth
from tests.support.aligned_models import aligned, made
from tests.support.measured import values

pytestmark = pytest.mark.tf


def paired(alignment: Alignment) -> dict[Key, Key]:
    return {pair.candidate: pair.reference for pair in alignment.pairs}


def rows(alignment: Alignment) -> list[str]:
    return [pair.layer for pair in alignment.pairs]


@pytest.mark.parametrize("name", converted_models.BUILDERS)
def test_every_pair_computes_the_same(name: str) -> None:
    """No reference tensor agrees better with a candidate tensor than the one that it is paired with."""
    frozen, content = made(name)
    alignment, graph = aligned(name)
    inputs = [entry[:3] for entry in converted_models.batches_for(frozen.specs, seed=9)]
    judged = truth.judge(alignment, frozen.graph, graph, *values(frozen, content, graph, inputs, alignment.inputs))

    assert [(entry.pair.layer, entry.said) for entry in judged if not entry.right] == []
    assert sum(entry.by_name is not None for entry in judged) > len(judged) / 2


BY_SCALE = {("rescaled", "ranges")}
"""Networks and variants where scales alone tell: a resize between two QUANTIZEs, either of which may be the layer's."""


@pytest.mark.parametrize(
    ("name", "variant"),
    [
        (name, variant)
        for name in converted_models.BUILDERS
        for variant in ("blank", "stale", "ranges")
        if (name, variant) not in BY_SCALE
    ],
)
def test_pairs_need_no_names_weights_or_scales(name: str, variant: str) -> None:
    """Blank names, and with them stale weights or changed scales, leave every pair and its row's name."""
    expected, changed = aligned(name)[0], aligned(name, variant)[0]

    assert paired(expected) == paired(changed)
    assert rows(expected) == rows(changed)


@pytest.mark.parametrize("name", converted_models.BUILDERS)
def test_every_op_is_paired_or_has_a_reason(name: str) -> None:
    """Rows and leftovers together are all candidate ops, each once, and all layers have a row or a reason."""
    alignment, graph = aligned(name)
    with_row = {pair.op.index for pair in alignment.pairs if pair.op is not None}
    left = [entry.op_index for entry in alignment.leftovers if entry.side == "candidate"]
    layers = {op.layer.name for op in made(name)[0].graph.ops if op.layer is not None}
    told = {layer.name for pair in alignment.pairs for layer in pair.layers} | {
        entry.layer for entry in alignment.leftovers
    }

    assert sorted([*with_row, *left]) == [op.index for op in graph.ops]
    assert all(entry.reason and not entry.reason.startswith("no ") for entry in alignment.leftovers)
    assert layers <= told
    assert not any("quant_" in row for row in rows(alignment))


ROWS = {
    "plain": "image conv_relu dw_relu pad_dw dw2_relu point flat hidden probs:fully_connected probs",
    "float_io": "image depthwise_conv2d conv2d swish:logistic swish act pool gate:conv_2d gate gap reshape head flat "
    "out",
    "twin_branches": "image stem_relu one_a_relu one_b_bn one_out two_a_relu two_b_bn two_out left middle "
    "right:conv_2d right cat mean:average_pool_2d mean before_up up before_near near out",
    "several_ends": "alpha zeta shared shared#2 both trunk aa:fully_connected aa sum mm zz",
    "islands": "image dilated:space_to_batch_nd dilated:conv_2d dilated dilated_relu:add dilated_relu "
    "dilated_2:space_to_batch_nd dilated_2:conv_2d dilated_2 dilated_2_relu:add dilated_2_relu up up_2 "
    "up_2_relu:add up_2_relu pool:average_pool_2d pool flat wide_bn:fully_connected wide_bn wide_relu out",
    "dead_channel": "image conv_relu:conv_2d conv_relu after leaky six_act last gap",
    "nested": "image twice/relu once/relu twice/relu#2 gap dense out",
}
"""The rows of a model, in the candidate's order. tfmot itself renames a SeparableConv2D's two halves."""


@pytest.mark.parametrize("name", ROWS)
def test_rows_bear_the_users_layer_names(name: str) -> None:
    """Every row is named after the last layer in it; further rows of a layer add the op, further uses a number."""
    assert sorted(rows(aligned(name)[0])) == sorted(ROWS[name].split())


def test_a_region_lists_all_layers_that_were_fused() -> None:
    """Padding, convolution, batch norm and activation in one op are one region of four layers."""
    pairs = {pair.layer: pair for pair in aligned("plain")[0].pairs}

    assert [layer.name for layer in pairs["conv_relu"].layers] == ["pad", "conv", "conv_bn", "conv_relu"]
    assert [layer.raw for layer in pairs["point"].layers] == ["quant_point"]


def test_inputs_and_outputs_are_told_apart_without_names() -> None:
    """Inputs and outputs of equal shapes find their counterparts, whatever order the converter gave them."""
    frozen, _ = made("several_ends")
    named, graph = aligned("several_ends")

    def plain(names: tuple[str, ...]) -> list[str]:
        return [name.removeprefix("quant_") for name in names]

    assert [frozen.graph.input_names[number] for number in named.inputs] == plain(graph.input_names)
    assert [frozen.graph.output_names[number] for number in named.outputs] == plain(graph.output_names)
    unnamed = aligned("several_ends", "blank")[0]
    assert (named.inputs, named.outputs) == (unnamed.inputs, unnamed.outputs)


@pytest.mark.parametrize(
    ("reference", "candidate"), [("plain", "twin_branches"), ("nested", "float_io"), ("attention", "one_dimension")]
)
def test_other_models_are_refused(reference: str, candidate: str) -> None:
    """A file that was converted from another model gets an error in one line, and the partial alignment beside it."""
    with pytest.raises(AlignmentError, match="do not belong together") as caught:
        align(made(reference)[0].graph, parse(made(candidate)[1]))

    assert "\n" not in str(caught.value)
    assert "no counterpart" in caught.value.details
