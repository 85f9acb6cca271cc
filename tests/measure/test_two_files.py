"""Two `.tflite` files: the reference runs on kernels of its own, and only what differs between the files differs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdebug.errors import UsageError
from qdebug.models.reference.convert import converter_of
from qdebug.record.schema import Run
from qdebug.workflows.trace_options import TraceOptions
from tests.support.float_models import OPTIONS, file_of, net, other_channel, samples
from tests.support.tflite_edits import edit

HEALTHY = {"exact", "rounding", "requantized"}
CLIPPED = pytest.mark.filterwarnings("ignore:.*what lies beyond is clipped")


def fresh_keras(seed: int) -> Any:
    """Keras with layer names and random numbers from their beginning."""
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    return keras


def files_run(
    folder: Path, reference: bytes, candidate: bytes, options: TraceOptions = OPTIONS, data: Any = None
) -> Run:
    """Trace one file against another."""
    from qdebug.workflows.trace import trace

    path = folder / "reference.tflite"
    path.write_bytes(reference)
    return trace(str(path), candidate, samples() if data is None else data, options=options)


@pytest.fixture(scope="module")
def reference() -> Any:
    """The float model that all files are made from."""
    return net()


@pytest.fixture(scope="module")
def int8(reference: Any) -> bytes:
    """Its int8 file."""
    return file_of(reference)


def assert_equal(run: Run) -> None:
    """No value differs anywhere, neither from the layer's own inputs nor from the model's."""
    for row in run.layers:
        assert row.verdict == "exact", (row.layer, row.reason)
        for stats in (row.local, row.cumulative):
            assert stats.flip_percent in (0, None)
            assert stats.max_abs == 0
    assert run.verdict == "exact"
    assert run.end_to_end[-1].max_error == 0
    assert [one for one in run.findings if one.severity == "error"] == []


@pytest.mark.tf
@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
def test_a_file_against_itself_differs_nowhere(int8: bytes, tmp_path: Path, kernels: str):
    """Same file, same kernels: the very same codes."""
    run = files_run(tmp_path, int8, int8, TraceOptions(kernels=kernels, handover=False))
    assert_equal(run)
    assert run.coverage.paired == run.coverage.candidate_ops


@pytest.mark.tf
@pytest.mark.parametrize("kind", ["float32", "float16", "16x8"])
def test_files_that_are_not_int8_differ_nowhere_from_themselves(reference: Any, tmp_path: Path, kind: str):
    """Float values too are the kernels' own, bit for bit."""
    content = file_of(reference, kind)
    assert_equal(files_run(tmp_path, content, content))


@pytest.mark.tf
@pytest.mark.parametrize("name", ["islands", "held_out", "attention"])
def test_folded_batches_groups_and_branches_differ_nowhere_from_themselves(tmp_path: Path, name: str):
    """SPACE_TO_BATCH puts a batch into blocks, a layer normalization into another axis; groups need XLA."""
    from qdebug.models.litert.parse import parse
    from tests.support.converted_models import make

    _, content = make(name)
    shape = parse(content).tensors[parse(content).inputs[0]].shape
    data = np.random.default_rng(3).normal(size=(24, *shape[1:])).astype(np.float32)
    with pytest.warns() if name != "islands" else _no_warning():
        run = files_run(tmp_path, content, content, data=data)
    assert_equal(run)


def _no_warning() -> Any:
    from contextlib import nullcontext

    return nullcontext()


@pytest.mark.tf
def test_weights_rounded_while_running_differ_nowhere_from_themselves(tmp_path: Path):
    """Dynamic range: the input of a wide layer is quantized by the kernel, as the reference's kernel does it."""
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(0)
    content = file_of(
        keras.Sequential(
            [
                keras.layers.InputLayer((8, 8, 3), name="image"),
                keras.layers.Flatten(),
                keras.layers.Dense(16, name="wide"),
            ]
        ),
        "dynamic",
    )
    run = files_run(tmp_path, content, content)
    assert run.candidate["what"].startswith("dynamic range")
    assert_equal(run)


@pytest.mark.tf
def test_the_layers_cut_loose_give_what_they_give_in_the_file(int8: bytes):
    """On the file's own tensors, every op alone gives the codes that it gives in the whole, in any batch."""
    from qdebug.models.litert.interpreter import Interpreter, read_tensors
    from qdebug.models.litert.parse import parse
    from qdebug.models.litert.regions import RegionRunner, region_between

    graph = parse(int8)
    whole = Interpreter(int8, graph)
    keys = [key for key, tensor in graph.tensors.items() if tensor.data is None]
    regions = {op.output: region_between(graph, graph.data_inputs(op), op.output) for op in graph.ops}
    assert None not in regions.values()
    shapes = {key: graph.tensors[key].shape for key in keys}
    loose = RegionRunner(int8, graph, regions, shapes, kernels="xnnpack")
    for batch in (16, 5):
        values = read_tensors(whole, [samples(batch)], keys)
        given = {key: [values[entry] for entry in region.inputs] for key, region in regions.items()}
        found = loose.run(given, batch)
        assert all(np.array_equal(found[key], values[key]) for key in regions)
    last = graph.ops[-1]
    assert region_between(graph, graph.data_inputs(graph.ops[0])[:0], last.output) is None


@pytest.mark.tf
def test_kernels_of_its_own_are_for_a_file(reference: Any, int8: bytes):
    """TensorFlow runs a Keras model: there is nothing to choose."""
    from qdebug.workflows.trace import trace

    with pytest.raises(UsageError, match=r"--reference-kernels builtin is for a \.tflite reference"):
        trace(reference, int8, samples(8), options=TraceOptions(reference_kernels="builtin"))
    with pytest.raises(UsageError, match="unknown reference kernels 'all'"):
        TraceOptions(reference_kernels="all")


# -- two settings of one model ------------------------------------------------------------------------------


def converted(model: Any, data: np.ndarray | None = None, *, ends: str = "int8", **settings: Any) -> bytes:
    """An int8 file of `model`, its ranges from `data`, with other settings of the converter."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    converter = converter_of(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([entry[None]] for entry in (samples() if data is None else data))
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.as_dtype(ends)
    for name, value in settings.items():
        setattr(converter, name, value)
    with quietly():
        return bytes(converter.convert())


def with_batch(model: Any, size: int = 1) -> bytes:
    """An int8 file of `model` whose batch is built in."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    function = tf.function(lambda image: model(image)).get_concrete_function(tf.TensorSpec((size, 8, 8, 3)))
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.representative_dataset = lambda: ([np.repeat(entry[None], size, 0)] for entry in samples())
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
    converter.inference_input_type = converter.inference_output_type = tf.int8
    with quietly():
        return bytes(converter.convert())


SETTINGS = {
    "old quantizer": lambda model: converted(model, experimental_new_quantizer=False),
    "one batch": with_batch,
    "float ends": lambda model: converted(model, ends="float32"),
    "per tensor": lambda model: converted(model, _experimental_disable_per_channel=True),
    "other samples": lambda model: converted(
        model, np.random.default_rng(9).normal(size=(64, 8, 8, 3)).astype(np.float32)
    ),
    "16x8": lambda model: file_of(model, "16x8"),
    "float32": lambda model: file_of(model, "float32"),
    "float16": lambda model: file_of(model, "float16"),
}
"""Other files of the model that `int8` is of."""
EQUAL = ("old quantizer", "one batch")


@pytest.fixture(scope="module")
def others(reference: Any) -> dict[str, bytes]:
    """The other files, by setting."""
    return {name: convert(reference) for name, convert in SETTINGS.items()}


def errors(run: Run) -> list[tuple[str, str | None]]:
    """What a run calls an error, and where."""
    return [(one.code, one.layer) for one in run.findings if one.severity == "error"]


@pytest.mark.tf
@CLIPPED
@pytest.mark.parametrize("back", [False, True], ids=["after", "before"])
@pytest.mark.parametrize("setting", [name for name in SETTINGS if name not in ("float32", "float16")])
def test_another_setting_is_no_fault(int8: bytes, others: dict[str, bytes], tmp_path: Path, setting: str, back: bool):
    """Whichever of the two files is the reference, every difference has its reason, and no finding is an error."""
    pair = (others[setting], int8) if back else (int8, others[setting])
    run = files_run(tmp_path, *pair)
    assert {row.verdict for row in run.layers} <= HEALTHY
    assert errors(run) == []
    assert run.verdict == "exact" if setting in EQUAL else run.end_to_end[-1].max_error < 0.02


@pytest.mark.tf
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("float32", "int8"),
        ("float16", "int8"),
        ("float16", "float32"),
        ("int8", "float32"),
        ("int8", "float16"),
        ("16x8", "float32"),
    ],
)
def test_files_of_other_types_are_no_fault(
    int8: bytes, others: dict[str, bytes], tmp_path: Path, first: str, second: str
):
    """Weights are rounded on either side, and a file of real values is not to blame for the codes of the other."""
    run = files_run(tmp_path, others.get(first, int8), others.get(second, int8))
    assert {row.verdict for row in run.layers} <= HEALTHY
    assert errors(run) == []


@pytest.mark.tf
@CLIPPED
def test_grids_that_differ_are_told_by_layer(int8: bytes, others: dict[str, bytes], tmp_path: Path):
    """Other samples give other ranges: every row with a grid of its own says both scales."""
    run = files_run(tmp_path, int8, others["other samples"])
    told = [row for row in run.layers if "; its scale is" in row.reason and "the reference file's" in row.reason]
    assert [row.layer for row in told] == ["image", "conv_relu", "dw_relu", "point", "gap", "probs"]  # (not softmax)
    assert run.layers[1].verdict == "requantized"
    assert run.notes[-1].startswith("6 of 7 tensors have a grid of their own in each of the two files: image, conv_")
    assert [row.layer for row in run.layers if row.parts is not None] == [row.layer for row in told]
    assert run.layers[-1].reasons["parts"] == "both files hold the same weights and grids here"
    assert run.layers[1].parts["weights"]["max_steps"] < 1e-3


@pytest.mark.tf
@CLIPPED
@pytest.mark.parametrize("setting", ["per tensor", "other samples", "16x8", "float ends"])
@pytest.mark.parametrize("side", ["reference", "candidate"])
def test_a_fault_in_either_file_is_found_beside_what_the_setting_changes(
    int8: bytes, others: dict[str, bytes], tmp_path: Path, setting: str, side: str
):
    """One channel's weights cut off: its layer is the first that diverges, and named."""
    spoiled = other_channel(int8)
    run = files_run(tmp_path, *((spoiled, others[setting]) if side == "reference" else (others[setting], spoiled)))
    assert run.first_divergent == "conv_relu"
    assert next(row for row in run.layers if row.layer == "conv_relu").reason.startswith("weights: 1 of 8 channels")
    assert {layer for _, layer in errors(run)} == {"conv_relu"}


@pytest.fixture(scope="module")
def branches() -> bytes:
    """Residuals, pooling, resizing and concatenation: what kernel families round apart."""
    from tests.support.converted_models import make

    return make("twin_branches")[1]


@pytest.mark.tf
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("xnnpack", "reference"),
        ("reference", "xnnpack"),
        ("builtin", "xnnpack"),
        ("reference", "builtin"),
        ("reference", "reference"),
    ],
)
def test_two_kernel_families_of_one_file(branches: bytes, tmp_path: Path, first: str, second: str):
    """Every code that two families round apart lies within what they leave open; equal families do not differ."""
    content = branches
    data = np.random.default_rng(3).normal(size=(32, 8, 8, 4)).astype(np.float32)
    options = TraceOptions(kernels=second, reference_kernels=first, handover=False)
    run = files_run(tmp_path, content, content, options, data)
    assert {row.verdict for row in run.layers} <= HEALTHY
    assert errors(run) == []
    assert (run.verdict == "exact") == (first == second)


@pytest.mark.tf
def test_a_handover_goes_on_with_the_reference_files_own_kernels(int8: bytes, tmp_path: Path):
    """What is left of the reference is cut from its file: handed its own codes, it gives its outputs bit for bit."""
    from qdebug.converter.moved_biases import align_settled
    from qdebug.measure.file_reference import open_file_side
    from qdebug.models.litert.parse import parse
    from qdebug.models.reference.tflite_model import FileReference

    reference = FileReference(int8, "the file", "")
    graph = parse(int8)
    side = open_file_side(reference, graph, align_settled(reference.frozen.graph, graph), kernels="builtin")
    given, tails = samples(6), side.tails()
    whole = tails.outputs([given])
    values = {held: side.interpreter.get(held) for held in side.plan.tensors.values()}
    for key, held in reference.lifted.tensors.items():
        if held[0] in values:
            fed = {key: graph.tensors[held[0]].quantization.dequantize(values[held[0]])}
            assert np.array_equal(tails.outputs([given], fed)[0], whole[0]), graph.tensors[held[0]].name

    run = files_run(tmp_path, int8, int8, TraceOptions(reference_kernels="reference", kernels="builtin"))
    assert run.reference["kernels"] == "reference"
    assert run.reference["what"] == "int8"
    assert all(row.handover is not None for row in run.layers)
    same = files_run(tmp_path, int8, int8, TraceOptions())
    assert all(row.handover.agreement == 1 for row in same.layers)


@pytest.mark.tf
def test_an_edited_zero_point_or_scale_is_not_taken_for_a_choice(int8: bytes, tmp_path: Path):
    """No converter moves a zero point alone; and biases behind a tensor tell the scale that they were made for."""

    def moved(content: bytes, *, by: int = 0, times: float = 1.0) -> bytes:
        def change(model: Any) -> None:
            held = next(
                tensor
                for tensor in model.subgraphs[0].tensors
                if tensor.type == 9 and list(tensor.shape) == [1, 6, 6, 8]
            ).quantization
            held.zeroPoint = (np.asarray(held.zeroPoint) + by).tolist()
            held.scale = (np.asarray(held.scale, np.float32) * np.float32(times)).tolist()

        return edit(content, change)

    for spoiled in (moved(int8, by=3), moved(int8, times=1.1)):
        run = files_run(tmp_path, int8, spoiled)
        assert run.first_divergent == "conv_relu"
        assert {layer for _, layer in errors(run)} >= {"conv_relu"}
    run = files_run(tmp_path, moved(int8, times=1.1), int8)
    assert run.first_divergent == "dw_relu"  # (whose biases in the reference are for another scale)


@pytest.mark.tf
def test_a_value_that_the_reference_cuts_off_on_its_way_is_no_fault_of_the_candidate(tmp_path: Path):
    """The old quantizer rounds in front of a concatenation, on a grid that may clip; the new one only behind it."""
    from tests.support.converted_models import randomize

    keras = fresh_keras(2)
    L = keras.layers
    i = L.Input((8, 8, 3), name="image")
    x = L.Conv2D(6, 3, padding="same", name="first")(i)
    x = L.Concatenate(name="both")([x, L.Conv2D(6, 3, padding="same", name="second")(x)])
    model = keras.Model(i, L.Conv2D(4, 1, name="last")(x))
    randomize(model)
    old, new = converted(model, experimental_new_quantizer=False), converted(model)
    data = 1.2 * samples()
    for pair in ((old, new), (new, old)):
        with pytest.warns(UserWarning, match="beyond is clipped"):
            run = files_run(tmp_path, *pair, data=data)
        assert {row.verdict for row in run.layers} <= HEALTHY, [row.reason for row in run.layers]
        assert errors(run) == []


def stepped(content: bytes, count: int) -> bytes:
    """The file with so many codes of its 3 x 3 kernel one step away."""

    def change(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        kernel = next(tensor for tensor in tensors if tensor.type == 9 and list(tensor.shape) == [8, 3, 3, 3])
        codes = np.asarray(model.buffers[kernel.buffer].data).view(np.int8).copy()
        codes[:count] += np.where(codes[:count] < 100, 1, -1).astype(np.int8)
        model.buffers[kernel.buffer].data = codes.view(np.uint8)

    return edit(content, change)


def audited(folder: Path, reference: bytes, candidate: bytes) -> Any:
    """What the audit says of two files."""
    from qdebug.workflows.audit import audit_files

    paths = folder / "before.tflite", folder / "after.tflite"
    for path, content in zip(paths, (reference, candidate), strict=True):
        path.write_bytes(content)
    return audit_files(*map(str, paths))


@pytest.mark.tf
@pytest.mark.parametrize(("setting", "noted"), [("other samples", "own_grid"), ("per tensor", "requantized_weights")])
def test_grids_and_weight_scales_of_a_file_s_own_are_by_design(int8, others, tmp_path, setting, noted):
    """The audit of two files notes them, and finds no deviation."""
    found = audited(tmp_path, int8, others[setting])

    assert found.reference_kind == "file"
    assert found.deviations == found.findings == []
    assert {one.what for one in found.notes} == {noted}


@pytest.mark.tf
def test_a_weight_halfway_between_two_codes_is_noted(int8, tmp_path):
    """One weight that is a code apart on the same scale is no deviation."""
    one = audited(tmp_path, int8, stepped(int8, 1))

    assert one.deviations == []
    assert [note.text for note in one.notes] == [
        "1 of 216 weights are one code apart on the same scale, as those are that stood halfway between two"
    ]


@pytest.mark.tf
def test_many_weights_a_code_apart_are_a_deviation(int8, tmp_path):
    """As many cannot all have stood halfway."""
    many = audited(tmp_path, int8, stepped(int8, 12))

    assert [(entry.layer, entry.what, entry.count) for entry in many.deviations] == [("conv_relu", "weights", 12)]


@pytest.mark.tf
def test_a_batch_of_four_that_is_built_in_is_taken_out(tmp_path: Path):
    """A file that takes four samples at once is run on one, also where a RESHAPE says four."""
    from qdebug.workflows.trace import trace

    keras = fresh_keras(0)
    i = keras.layers.Input((8, 8, 3), name="image")
    x = keras.layers.Reshape((36,), name="flat")(keras.layers.Conv2D(4, 3, strides=2, name="conv")(i))
    model = keras.Model(i, keras.layers.Dense(5, name="logits")(x))
    four, free = with_batch(model, 4), converted(model)
    for pair in ((four, free), (free, four), (four, four)):
        run = files_run(tmp_path, *pair, TraceOptions())
        assert run.verdict == "exact"
        assert run.end_to_end[-1].max_error < 1e-5  # (their scales differ in the last place)
    assert trace(model, four, samples(), options=OPTIONS).verdict in HEALTHY


@pytest.mark.tf
def test_the_tensors_that_are_kept_are_those_of_the_reference_file(int8: bytes, tmp_path: Path):
    """Real values of the reference's own kernels: on the candidate's they are the candidate's."""
    path = tmp_path / "kept.npz"
    run = files_run(tmp_path, int8, int8, TraceOptions(handover=False, sample=3, save_tensors=path))
    with np.load(path) as kept:
        for row in run.layers:
            assert np.array_equal(kept[f"{row.layer}/reference"], kept[f"{row.layer}/candidate"])


@pytest.mark.tf
def test_constants_that_both_files_have_rounded_are_no_fault(tmp_path: Path):
    """A batch norm behind a ReLU stays as MUL and ADD with constants in codes, on ranges of each quantizer's own."""
    from tests.support.converted_models import randomize

    keras = fresh_keras(3)
    L = keras.layers
    i = L.Input((8, 8, 3), name="image")
    x = L.BatchNormalization(name="late")(L.Conv2D(6, 3, activation="relu", name="conv")(i))
    model = keras.Model(i, L.Conv2D(4, 3, name="last")(L.ReLU(name="again")(x)))
    randomize(model)
    files = converted(model, experimental_new_quantizer=False), converted(model), file_of(model, "float32")
    for first, second in ((0, 1), (1, 0), (1, 2), (2, 1)):
        run = files_run(tmp_path, files[first], files[second])
        assert {row.verdict for row in run.layers} <= HEALTHY, [row.reason for row in run.layers]
        assert errors(run) == []

    def change(model: Any) -> None:
        tensors = model.subgraphs[0].tensors
        held = next(
            tensor
            for tensor in tensors
            if tensor.type == 9
            and tensor.quantization.scale is not None
            and model.buffers[tensor.buffer].data is not None
            and len(model.buffers[tensor.buffer].data) == 6
        )
        codes = np.asarray(model.buffers[held.buffer].data).view(np.int8).copy()
        codes[2] += 60 if codes[2] < 0 else -60
        model.buffers[held.buffer].data = codes.view(np.uint8)

    run = files_run(tmp_path, files[0], edit(files[1], change))
    assert run.first_divergent in ("late", "again", "late:mul")
    assert "weights: 1 of 1 channels" in next(row for row in run.layers if row.layer == run.first_divergent).reason
