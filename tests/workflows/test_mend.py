"""What an old converter wrote wrong is set right in the file itself, for float and quantization-aware references."""

import dataclasses

import numpy as np
import pytest

from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.parse import parse
from qdebug.workflows.mend import mend
from qdebug.workflows.opened import Opened
from qdebug.workflows.trace_options import TraceOptions
from tests.faults import planting
from tests.support import converted_models
from tests.support.float_models import file_of, samples
from tests.support.float_models import net as float_net
from tests.support.misfolded_files import converted_by_hand, net
from tests.support.wild_models import made, traced

pytestmark = pytest.mark.tf


def mended(model, content, data=None):
    """The mended file of a Keras model, and what was done."""
    from qdebug.models.reference.keras_model import KerasReference

    data = [samples()] if data is None else data
    done = mend(
        Opened(
            KerasReference(model, "memory", ""),
            Candidate.open(content, "file"),
            data,
            options=TraceOptions(handover=False),
        )
    )
    return done.content, done


def divergent(model, content):
    return [row.layer for row in traced(model, content).layers if row.verdict == "diverged"]


def op_of(content, kind, place=0):
    return [op.index for op in parse(content).ops if op.kind == kind][place]


@pytest.mark.parametrize("kind", ["float32", "int8"])
def test_a_batch_norm_folded_along_the_wrong_axis(kind):
    """TensorFlow 2.3 multiplied the inputs of a square kernel; weights, scales and nothing else are set."""
    model = made(net)
    broken = converted_by_hand(model, kind, axis=0)
    if kind == "int8":  # (with the ranges of the right model, as those of quantization-aware training are)
        right, square = converted_by_hand(model, kind, axis=1), 1
        broken = planting.edit(right, op_of(right, "dense", square), kernel_of(broken, op_of(broken, "dense", square)))
    assert divergent(model, broken) == ["square_relu"]

    content, done = mended(model, broken)

    assert divergent(model, content) == []
    assert done.layers == ["square_relu"]
    assert len(content) < 1.2 * len(broken)


def kernel_of(content, op_index):
    """Take codes and scales of the kernel of an op from another file."""
    from ai_edge_litert import schema_py_generated as schema

    other = schema.ModelT.InitFromPackedBuf(content, 0)
    theirs = planting.Site(other, other.subgraphs[0].operators[op_index])

    def change(site):
        site.write(site.kernel, theirs.read(theirs.kernel, np.int8))
        site.kernel.quantization.scale = theirs.kernel.quantization.scale

    return change


def without_bias(site):
    """Leave the bias out, as where a batch norm was folded without its own."""
    site.op.inputs = np.asarray([*site.op.inputs[:2], -1], np.int32)


@pytest.mark.parametrize(
    ("op", "change"), [("dense", without_bias), ("conv", planting.bias(planting.zeroed))], ids=["none", "zeros"]
)
@pytest.mark.parametrize("kind", ["qat", "float"])
def test_an_op_without_its_bias(kind, op, change):
    """An op that has none gets one (int8 convolutions run with one alone), zeros are set; QAT and float alike."""
    if kind == "qat":
        model, content = converted_models.make("plain")
        data = converted_models.batches(model, 48)
    else:
        model, data = float_net(), [samples()]
        content = file_of(model)
    broken = planting.edit(content, op_of(content, op), change)

    fixed, done = mended(model, broken, data)

    assert done.mends
    before, after = (_rows(model, one, data) for one in (broken, fixed))
    assert "diverged" in before
    assert "diverged" not in after


def _rows(model, content, data):
    import qdebug

    return {row.verdict for row in qdebug.trace(model, content, data[0], options=TraceOptions(handover=False)).layers}


def for_another_scale(factor):
    """Codes and stored scale of a bias for an input scale that is `factor` times the file's."""

    def change(site):
        codes = site.read(site.bias, np.int32)
        site.write(site.bias, np.rint(codes / factor).astype(np.int32))
        held = site.bias.quantization
        held.scale = (np.asarray(held.scale, np.float32) * np.float32(factor)).tolist()

    return change


@pytest.mark.parametrize("factor", [0.5, 1.7, 4.0])
@pytest.mark.parametrize("kind", ["qat", "float"])
def test_biases_stored_for_another_input_scale(kind, factor):
    """Whichever of the two is set, the file computes what its reference does."""
    if kind == "qat":
        model, content = converted_models.make("plain")
        data = converted_models.batches(model, 48)
    else:
        model, data = float_net(), [samples()]
        content = file_of(model)
    broken = planting.edit(content, op_of(content, "conv", -1), for_another_scale(factor))

    fixed, done = mended(model, broken, data)

    assert done.mends
    assert "diverged" not in _rows(model, fixed, data)


def test_a_healthy_file_stays_byte_for_byte():
    """Nothing is found, nothing is written anew."""
    model, content = converted_models.make("plain")

    fixed, done = mended(model, content, converted_models.batches(model, 48))

    assert (fixed == content, list(done.mends), list(done.left)) == (True, [], [])


def test_faults_in_one_layer_and_its_neighbours_are_mended_together():
    """Grid, kernel, its scales and the bias of one op, and an activation elsewhere."""
    model, content = converted_models.make("plain")
    first, last = op_of(content, "conv"), op_of(content, "conv", -1)
    for change in (
        planting.scale(1.1),
        planting.channel_scale(1.25),
        planting.weight(60),
        planting.bias(planting.zeroed),
    ):
        content = planting.edit(content, first, change)
    content = planting.edit(content, last, planting.zero_point(3))

    fixed, done = mended(model, content, converted_models.batches(model, 48))

    assert "diverged" not in _rows(model, fixed, converted_models.batches(model, 48))
    assert dataclasses.asdict(done)["left"] in ([], ())
