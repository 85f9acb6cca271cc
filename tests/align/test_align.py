"""Alignment of hand-made graphs: no TensorFlow, the truth is known for every tensor."""

from __future__ import annotations

import subprocess
import sys
import tracemalloc
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qdebug.align import Alignment, Probe, align
from qdebug.errors import AlignmentError
from qdebug.graph import graph
from qdebug.graph.graph import Graph, Key
from tests.support import graphs
from tests.support.graphs import Net

Build = Callable[[Net], list[graphs.Value]]
CHANGES: dict[str, Callable[[Graph], Graph]] = {
    "as it is": lambda graph: graph,
    "no names": graphs.blank,
    "other order": lambda graph: graphs.reordered(graphs.blank(graph), 3),
    "stale weights": lambda graph: graphs.stale(graphs.blank(graph)),
    "other scales": lambda graph: graphs.rescaled(graphs.blank(graph)),
}


def paired(alignment: Alignment) -> dict[Key, Key]:
    return {pair.candidate: pair.reference for pair in alignment.pairs}


def chain(net: Net) -> list[graphs.Value]:
    x = net.input()
    x = net.dense(x, 12, bn=True)
    x = net.dense(x, 12, activation="relu6")
    return [net.single("softmax", net.dense(x, 4, activation=None))]


def residual(net: Net) -> list[graphs.Value]:
    x = net.dense(net.input(), 8, "stem")
    for block in ("one", "two"):
        y = net.dense(net.dense(x, 8, f"{block}_a"), 8, f"{block}_b", activation=None, bn=True)
        x = net.join("add", [x, y], f"{block}_add", activation="relu")
    return [net.dense(x, 3, "out", activation=None)]


def branches(net: Net) -> list[graphs.Value]:
    x = net.input()
    arms = [net.dense(x, 6, f"arm_{number}") for number in range(3)]
    x = net.join("concat", arms, "cat")
    return [net.dense(x, 5, f"head_{number}", activation=None) for number in range(2)]


def swish(net: Net) -> list[graphs.Value]:
    x = net.dense(net.input(), 8, "one", activation=None)
    x = net.join("mul", [x, net.single("logistic", x, "gate")], "swish")
    return [net.dense(net.single("max_pool", x), 3, "two", activation=None)]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize("build", [chain, residual, branches, swish])
def test_a_changed_candidate_keeps_its_pairs(build: Build, change: str) -> None:
    """Renaming, another order of ops, stale weights and changed scales leave every pair where it was."""
    net = Net()
    reference, candidate = net.done(build(net))

    assert paired(align(reference, CHANGES[change](candidate))) == net.truth


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("build", [chain, residual, branches, swish])
def test_the_order_of_reference_ops_does_not_matter(build: Build, seed: int) -> None:
    """Reference ops may come in any order in which they can run."""
    net = Net()
    reference, candidate = net.done(build(net))

    assert paired(align(graphs.reordered(reference, seed), graphs.blank(candidate))) == net.truth


@pytest.mark.parametrize("kind", ["quantize", "dequantize", "reshape"])
def test_an_inserted_op_is_named_as_such_and_moves_no_pair(kind: str) -> None:
    """What the converter inserts between two layers stays a leftover, and gets no row."""
    net = Net()
    x = net.theirs_only(kind, net.dense(net.input(), 12, "one"))
    reference, candidate = net.done([net.dense(x, 4, "two", activation=None)])
    alignment = align(reference, graphs.blank(candidate))

    assert paired(alignment) == net.truth
    assert [(left.op, left.reason) for left in alignment.leftovers] == [(kind.upper(), "inserted by the converter")]


def test_a_requantization_between_two_grids_belongs_to_the_reference_quantizer() -> None:
    """Where the file keeps a pool on its input's grid, the QUANTIZE behind it stands for the pool's FakeQuant."""
    net = Net()
    x = net.dense(net.input(), 8, "one")
    pooled = net._op("avg_pool", [x[0]], "pool", "AvgPool", 8)
    grid = net.grid()
    end = net._fake_quant(pooled, (-1, 8), "pool", grid)
    quantization = net.candidate.tensors[x[1]].quantization
    assert quantization is not None
    kept = net.theirs("", (1, 8), (quantization.step, quantization.zero))
    net.candidate.op("avg_pool", [x[1]], [kept], "")
    mine = net.theirs("", (1, 8), grid)
    net.candidate.op("quantize", [kept], [mine], "")
    reference, candidate = net.done([net.dense((end, mine), 3, "two", activation=None)])
    alignment = align(reference, candidate)

    assert paired(alignment) == {**net.truth, kept: pooled, mine: end}
    assert [pair.layer for pair in alignment.pairs if "pool" in pair.layer] == ["pool:avg_pool", "pool"]


def test_a_layer_without_a_tensor_is_fused_into_its_reader() -> None:
    """A reference layer that the converter drops is a leftover that names the row which holds it."""
    net = Net()
    x = net.ours_only("reshape", net.dense(net.input(), 12, "one"), "flat")
    reference, candidate = net.done([net.dense(x, 4, "two", activation=None)])
    alignment = align(reference, graphs.blank(candidate))

    assert paired(alignment) == net.truth
    assert [(left.side, left.name) for left in alignment.leftovers] == [("reference", "flat")]
    assert alignment.leftovers[0].reason.startswith("fused into ")


def test_a_dropped_activation_leaves_the_pairs() -> None:
    """A candidate whose ReLU is gone is a fault to be found: its tensors still have their counterparts."""
    net = Net()
    x = net.dense(net.input(), 12, "one")
    reference, candidate = net.done([net.dense(x, 4, "two", activation=None)])
    for op in candidate.ops:
        op.attributes["activation"] = "none"

    assert paired(align(reference, graphs.blank(candidate))) == net.truth


def test_an_activation_of_its_own_gets_its_own_row() -> None:
    """Where the file keeps the activation apart, the layer has two rows: the kernel's and the activation's."""
    net = Net()
    x = net.dense(net.input(), 12, "one", fused=False)
    reference, candidate = net.done([net.dense(x, 4, "two", activation=None)])
    alignment = align(reference, graphs.blank(candidate))

    assert paired(alignment) == net.truth
    assert [pair.layer for pair in alignment.pairs] == ["image", "one:dense", "one", "two"]


def _arms(net: Net, difference: str) -> list[graphs.Value]:
    """Two arms of one shape that differ in one respect only."""
    kernel, grid = net.draw.normal(size=(8, 6)), net.grid()
    x = net.input()
    arms = [
        net.dense(
            x,
            6,
            name,
            activation="relu6" if difference == "activation" and name == "b" else "relu",
            kernel=None if difference == "weights" else kernel,
            grid=None if difference == "scales" else grid,
        )
        for name in ("a", "b")
    ]
    if difference == "downstream":
        arms[1] = net.single("tanh", arms[1], "extra")
    if difference == "place":
        return [net.join("concat", arms, "cat")]
    return [net.join("add", arms, "sum")]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("difference", ["weights", "scales", "names", "downstream", "activation", "place"])
def test_one_difference_tells_symmetric_branches_apart(difference: str, seed: int) -> None:
    """Two arms of equal shape are told apart by whatever single thing differs, in any order of ops."""
    net = Net(seed)
    reference, candidate = net.done(_arms(net, difference))
    candidate = candidate if difference == "names" else graphs.blank(candidate)

    assert paired(align(reference, graphs.reordered(candidate, seed))) == net.truth


@pytest.mark.parametrize("seed", range(4))
def test_values_tell_symmetric_branches_apart(seed: int) -> None:
    """Where nothing else differs, agreement on a probe batch decides, and is given as evidence."""
    net = Net(seed)
    reference, candidate = net.done(_arms(net, "values"))
    ours, theirs = graphs.values(net)
    alignment = align(reference, graphs.reordered(graphs.blank(candidate), seed), Probe(ours, theirs))

    assert paired(alignment) == net.truth
    assert all("values" in pair.evidence for pair in alignment.pairs if pair.layer in ("a", "b"))


def test_a_toss_up_says_so() -> None:
    """Two arms that nothing tells apart are still paired one to one, with a confidence of at most one half."""
    net = Net()
    reference, candidate = net.done(_arms(net, "values"))
    pairs = {pair.layer: pair for pair in align(reference, graphs.blank(candidate)).pairs}

    assert {"image", "a", "b", "sum"} == set(pairs)
    assert pairs["a"].confidence <= 0.5 >= pairs["b"].confidence
    assert pairs["sum"].confidence > 0.5


def test_repeated_blocks_of_equal_weights_keep_their_order() -> None:
    """Blocks that share weights and grids are told apart by where they stand."""
    net = Net()
    kernel, grid = net.draw.normal(size=(8, 8)), net.grid()
    x = net.input()
    for block in range(6):
        x = net.dense(x, 8, f"block_{block}", kernel=kernel, grid=grid)
    reference, candidate = net.done([net.dense(x, 3, "out")])

    assert paired(align(reference, graphs.blank(candidate))) == net.truth


def test_a_miswired_residual_keeps_its_pairs() -> None:
    """A candidate whose residual takes another tensor is a fault to be found, so its rows must stay."""
    net = Net()
    reference, candidate = net.done(residual(net))
    add = next(op for op in candidate.ops if op.name == "two_add")
    stem = next(op for op in candidate.ops if op.name == "stem")
    wired = graphs.replace(add, inputs=(stem.output, add.inputs[1]))
    ops = tuple(wired if op is add else op for op in candidate.ops)

    assert paired(align(reference, graphs.blank(graphs.replace(candidate, ops=ops)))) == net.truth


@pytest.mark.parametrize("build", [chain, residual, branches, swish])
def test_the_answer_does_not_depend_on_the_order_of_dicts(build: Build) -> None:
    """Shuffled tensor dicts on both sides give the same pairs, evidence and leftovers."""
    net = Net()
    reference, candidate = net.done(build(net))
    expected = _told(align(reference, candidate))
    for seed in range(3):
        shuffled = [graphs.replace(graph, tensors=dict(_shuffled(graph, seed))) for graph in (reference, candidate)]

        assert expected == _told(align(*shuffled))


def _shuffled(graph: Graph, seed: int) -> list[tuple[Key, graph.Tensor]]:
    items = list(graph.tensors.items())
    np.random.default_rng(seed).shuffle(items)  # type: ignore[arg-type]
    return [(key, tensor) for key, tensor in items]


def _told(alignment: Alignment) -> list[object]:
    return [
        *(
            (pair.candidate, pair.reference, pair.layer, pair.evidence, pair.confidence, pair.inputs)
            for pair in alignment.pairs
        ),
        *alignment.leftovers,
    ]


def test_the_answer_does_not_depend_on_the_hash_seed() -> None:
    """Processes with different string hashes give the same pairs, even where two arms are a toss-up."""
    script = (
        "from tests.support import graphs\nfrom tests.align import test_align as t\n"
        "from qdebug.align import align\n"
        "net = graphs.Net()\nreference, candidate = net.done(t._arms(net, 'values'))\n"
        "print(t._told(align(reference, graphs.blank(candidate))))\n"
    )
    folder = Path(__file__).parents[2]
    said = {
        subprocess.run(
            [sys.executable, "-c", script],
            capture_output=True,
            text=True,
            check=True,
            cwd=folder,
            env={"PYTHONHASHSEED": seed, "PYTHONPATH": str(folder)},
        ).stdout
        for seed in ("0", "1", "2")
    }

    assert len(said) == 1


def test_two_inputs_and_outputs_in_another_order_find_each_other() -> None:
    """Model inputs and outputs are told apart by what they feed and what feeds them, not by their place."""
    net = Net()
    a, b = net.input(name="zeta"), net.input(name="alpha")
    x, y = net.dense(a, 6, "from_zeta"), net.dense(b, 6, "from_alpha")
    z = net.join("concat", [x, y], "both")
    reference, candidate = net.done([net.dense(z, 3, "first"), net.dense(z, 3, "second")])
    turned = graphs.replace(candidate, inputs=candidate.inputs[::-1], outputs=candidate.outputs[::-1])
    alignment = align(reference, graphs.blank(turned))

    assert paired(alignment) == net.truth
    assert alignment.inputs == (1, 0)
    assert alignment.outputs == (1, 0)


def test_regions_begin_at_the_pairs_above() -> None:
    """A region holds the ops between a pair and the pairs that feed it, and names what to feed."""
    net = Net()
    reference, candidate = net.done(residual(net))
    pairs = {pair.layer: pair for pair in align(reference, candidate).pairs}
    add = pairs["one_add"]

    assert [op.kind for op in add.region] == ["add", "relu", "fake_quant"]
    assert [
        (pairs["stem"].reference, pairs["stem"].candidate),
        (pairs["one_b"].reference, pairs["one_b"].candidate),
    ] == list(add.inputs)
    assert (pairs["stem"].candidate, pairs["one_b"].candidate) == add.candidate_inputs


# -- models that do not belong together ------------------------------------------------------------------


def _refused(ours: Build, theirs: Build) -> AlignmentError:
    (reference, _), (_, candidate) = ((net := Net(seed)).done(build(net)) for seed, build in ((0, ours), (1, theirs)))
    with pytest.raises(AlignmentError) as caught:
        align(reference, candidate)
    assert "\n" not in str(caught.value)
    assert caught.value.details
    return caught.value


def mlp(width: int, depth: int, classes: int = 4) -> Build:
    def build(net: Net) -> list[graphs.Value]:
        x = net.input()
        for layer in range(depth):
            x = net.dense(x, width, f"layer_{layer}")
        return [net.dense(x, classes, "out", activation=None)]

    return build


def test_another_width_is_refused() -> None:
    """The message names the op and the kernel that does not fit, and what the reference has instead."""
    said = str(_refused(mlp(12, 3), mlp(16, 3)))

    assert "16x8" in said
    assert "12x8" in said


def test_one_layer_of_another_width_is_refused() -> None:
    """It takes one kernel of another size: a converter never changes how many values a kernel has."""

    def odd(net: Net) -> list[graphs.Value]:
        x = net.dense(net.input(), 12)
        for width in (12, 12, 12, 13, 12, 12):
            x = net.dense(x, width)
        return [net.dense(x, 4)]

    assert "13x12" in str(_refused(mlp(12, 7), odd))


@pytest.mark.parametrize(("ours", "theirs", "said"), [(4, 3, "of the reference"), (3, 4, "of the candidate")])
def test_another_depth_is_refused(ours: int, theirs: int, said: str) -> None:
    """A layer more on either side, all of equal width, is another model."""
    assert f"weighted ops {said} have no counterpart" in str(_refused(mlp(8, ours), mlp(8, theirs)))


def test_another_number_of_classes_is_refused() -> None:
    """The head's kernel or the output's shape does not fit."""
    assert "do not belong together" in str(_refused(mlp(12, 9), mlp(12, 9, classes=5)))


def test_another_input_size_is_refused() -> None:
    """Inputs that hold another number of values cannot be the same, whatever the ops are."""
    said = str(
        _refused(lambda net: [net.single("tanh", net.input((8,)))], lambda net: [net.single("tanh", net.input((6,)))])
    )

    assert "input 0 of the candidate has shape 6, the reference's inputs have 8" in said


def test_another_architecture_is_refused() -> None:
    """Two networks that have no kernel in common have no row in common."""
    assert "have no counterpart" in str(_refused(mlp(12, 4), branches))


def test_models_without_kernels_need_some_op_in_common() -> None:
    """Nothing aligned is an error, not an empty table."""
    assert "no op of one has a counterpart" in str(
        _refused(lambda net: [net.single("tanh", net.input())], lambda net: [net.single("logistic", net.input())])
    )


def test_the_details_hold_the_best_partial_alignment() -> None:
    """What fits and what does not is kept, op by op."""
    details = _refused(mlp(12, 7), mlp(12, 9)).details

    assert "op 0 DENSE = m/layer_0" in details
    assert "no counterpart" in details


def test_an_op_that_no_layer_computes_has_no_row() -> None:
    """A candidate op beyond the reference is a leftover with its reason; no row is invented."""
    net = Net()
    x = net.dense(net.input(), 8, "one")
    reference, candidate = net.done([net.dense(net.theirs_only("cos", x), 3, "two")])
    alignment = align(reference, candidate)

    assert paired(alignment) == net.truth
    assert [left.op for left in alignment.leftovers] == ["COS"]
    assert alignment.paired_ops == alignment.candidate_ops - 1


# -- any network -----------------------------------------------------------------------------------------


def deep(blocks: int, width: int, inner: int) -> Build:
    def build(net: Net) -> list[graphs.Value]:
        x = net.dense(net.input(), width, "stem")
        for block in range(blocks):
            y = net.dense(net.dense(x, inner, f"{block}_a"), width, f"{block}_b", activation=None)
            x = net.join("add", [x, y], f"{block}_add", activation="relu")
        return [net.dense(x, 3, "out", activation=None)]

    return build


@pytest.mark.parametrize("kind", ["max_pool", "quantize"])
def test_an_op_that_reads_nothing_but_a_constant_ends_the_walk(kind: str) -> None:
    """In a damaged file an op may read weights in place of a layer: the rows on both sides of it stay."""
    net = Net()
    x = net.dense(net.input(), 8, "one")
    x = net.single(kind, x, "moved") if kind == "max_pool" else net.theirs_only(kind, x)
    reference, candidate = net.done([net.dense(x, 8, "two", activation=None)])
    weights = next(key for key, tensor in candidate.tensors.items() if tensor.data is not None)
    ops = tuple(graphs.replace(op, inputs=(weights,)) if op.kind == kind else op for op in candidate.ops)

    alignment = align(reference, graphs.replace(candidate, ops=ops))

    assert {x[1]: x[0]} | paired(alignment) == {x[1]: x[0]} | net.truth


@pytest.mark.parametrize("other", [(22, 5, 5), (22, 6, 4), (20, 5, 6)])
def test_paths_through_unmatched_blocks_do_not_multiply(other: tuple[int, int, int]) -> None:
    """Two ways lead through every residual block, a million through twenty: memory grows with blocks, not with ways."""
    tracemalloc.start()
    try:
        _refused(deep(22, 6, 6), deep(*other))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert peak < 20e6


LAYERS = st.lists(
    st.tuples(
        st.sampled_from(["dense", "dense", "add", "concat", "mul", "logistic", "max_pool", "drop", "insert"]),
        st.integers(0, 9),
        st.integers(0, 9),
    ),
    min_size=1,
    max_size=12,
)


def _random_net(net: Net, layers: list[tuple[str, int, int]]) -> list[graphs.Value]:
    values = [net.input((6,))]
    for kind, first, second in layers:
        a, b = values[first % len(values)], values[second % len(values)]
        if kind in ("add", "mul", "concat") and a != b and net.shape(a) == net.shape(b):
            values.append(net.join(kind, [a, b]))
        elif kind in ("logistic", "max_pool"):
            values.append(net.single(kind, a))
        elif kind == "drop":
            values.append(net.dense(net.ours_only("reshape", a), 6))
        elif kind == "insert":
            values.append(net.dense(net.theirs_only("quantize", a), 6))
        else:
            values.append(net.dense(a, 6, activation=(None, "relu", "relu6")[second % 3], bn=second % 2 == 0))
    read = {key for op in net.reference.ops for key in op.inputs}
    return [value for value in values if value[0] not in read]


@settings(max_examples=150, deadline=None)
@given(LAYERS, st.integers(0, 1000), st.sampled_from(list(CHANGES)))
def test_any_network_finds_itself(layers: list[tuple[str, int, int]], seed: int, change: str) -> None:
    """A random network, fused, renamed, permuted and changed, has every pair right (or one that is the same)."""
    net = Net(seed)
    reference, candidate = net.done(_random_net(net, layers))
    changed = graphs.reordered(CHANGES[change](candidate), seed)

    assert net.meanings(paired(align(reference, changed))) == net.meanings(net.truth)


@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_an_output_that_no_input_reaches_is_refused(side: str) -> None:
    """A constant that a model gives is no tensor of its graph."""
    net = Net(0)
    graphs_of = dict(zip(("reference", "candidate"), net.done(chain(net)), strict=True))
    graphs_of[side] = replace(graphs_of[side], outputs=("anchors:0",))

    with pytest.raises(AlignmentError, match=f"output 0 of the {side} does not depend on its inputs"):
        align(graphs_of["reference"], graphs_of["candidate"])
