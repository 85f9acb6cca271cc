"""References without Keras layers: SavedModels, TensorFlow functions and modules, frozen graphs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import qdebug
from qdebug.errors import ModelError, UsageError
from qdebug.models.reference.convert import converter_of
from qdebug.models.reference.graph_part import GraphPart
from qdebug.models.reference.open import load_reference
from qdebug.models.reference.session import FrozenSession
from tests.support.converted_models import quantized

pytestmark = pytest.mark.tf
OPTIONS = qdebug.TraceOptions(handover=False)


def images(count: int = 8) -> np.ndarray:
    """Random images of 6x6x3."""
    return np.random.default_rng(0).normal(size=(count, 6, 6, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def module() -> Any:
    """A network of two layers and a head, as a tf.Module whose methods say what they take."""
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    draw = np.random.default_rng(1)

    def weight(*shape: int) -> Any:
        return tf.Variable(draw.normal(0, 0.4, shape).astype(np.float32))

    class Net(tf.Module):
        def __init__(self) -> None:
            super().__init__("net")
            self.stem, self.bias, self.head = weight(3, 3, 3, 4), weight(4), weight(4, 5)

        def features(self, image: Any) -> Any:
            with tf.name_scope("stem"):
                return tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(image, self.stem, 1, "SAME"), self.bias))

        @tf.function(input_signature=[tf.TensorSpec((None, 6, 6, 3), tf.float32, name="image")])
        def embed(self, image: Any) -> Any:
            return {"features": self.features(image)}

        @tf.function(input_signature=[tf.TensorSpec((None, 6, 6, 3), tf.float32, name="image")])
        def __call__(self, image: Any) -> Any:
            with tf.name_scope("head"):
                return {"logits": tf.matmul(tf.reduce_mean(self.features(image), [1, 2]), self.head)}

    return Net()


@pytest.fixture(scope="module")
def saved(module: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folders that hold the module as users save it."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    folder = tmp_path_factory.mktemp("saved")
    with quietly():
        tf.saved_model.save(module, str(folder / "one"), signatures=module.__call__)
        both = {"classify": module.__call__, "embed": module.embed}
        tf.saved_model.save(module, str(folder / "two"), signatures=both)
        tf.saved_model.save(module, str(folder / "none"))
        graph, stem = tf.Graph(), module.stem.numpy()
        with graph.as_default():
            given = tf.compat.v1.placeholder(tf.float32, [None, 6, 6, 3], name="input")
            with tf.compat.v1.variable_scope("Mobile/Conv_0"):
                kernel = tf.compat.v1.get_variable("weights", initializer=stem)
                made = tf.nn.relu6(tf.nn.conv2d(given, kernel, 2, "SAME"))
            made = tf.nn.softmax(tf.reduce_mean(made, [1, 2]), name="probs")
            with tf.compat.v1.Session() as session:
                session.run(tf.compat.v1.global_variables_initializer())
                tf.compat.v1.saved_model.simple_save(session, str(folder / "tf1"), {"picture": given}, {"probs": made})
                fold = tf.compat.v1.graph_util.convert_variables_to_constants
                frozen = fold(session, graph.as_graph_def(), ["probs"])
        (folder / "frozen.pb").write_bytes(frozen.SerializeToString())
    return folder


def outputs(reference: Any, data: np.ndarray) -> np.ndarray:
    """What an opened reference computes."""
    tails = FrozenSession(reference.frozen)
    found = tails.outputs([data])[0]
    tails.close()
    return found


def layers(reference: Any) -> list[str]:
    """Names of the layers, in running order."""
    return list(dict.fromkeys(op.layer.name for op in reference.frozen.graph.ops))


@pytest.mark.parametrize(
    ("name", "part"), [("one", GraphPart()), ("two", GraphPart("classify")), ("none", GraphPart())]
)
def test_a_saved_model_without_layers_opens_by_its_signature(saved: Path, module: Any, name: str, part: GraphPart):
    """The graph computes what the module does; inputs and outputs are the signature's, rows its scopes."""
    opened = load_reference(saved / name, graph=part)
    graph = opened.frozen.graph

    np.testing.assert_allclose(outputs(opened, images()), module(images())["logits"].numpy(), rtol=1e-5, atol=1e-6)
    assert opened.kind == "float"
    assert (graph.input_names, graph.output_names) == (("image",), ("logits",))
    assert layers(opened) == ["stem", "head"]


def test_several_signatures_are_listed(saved: Path):
    """Without --signature the error names them all; with a wrong one too."""
    with pytest.raises(UsageError, match=r"2 signatures \(classify, embed\).*--signature NAME"):
        load_reference(saved / "two")
    with pytest.raises(UsageError, match=r"--signature nix: .*classify, embed"):
        load_reference(saved / "two", graph=GraphPart("nix"))


def test_a_signature_of_a_keras_model_opens_too(saved: Path):
    """--signature is refused for what has none, and says so."""
    with pytest.raises(UsageError, match="--signature is for SavedModels"):
        load_reference(Path(__file__), graph=GraphPart("x"))
    assert saved.exists()


def test_functions_and_modules_in_memory_are_references(module: Any):
    """A tf.function, a ConcreteFunction, a tf.Module and one method of it: all are the same graph."""
    expected = module(images())["logits"].numpy()
    for given in (module, module.__call__, module.__call__.get_concrete_function()):
        np.testing.assert_allclose(outputs(load_reference(given), images()), expected, rtol=1e-5, atol=1e-6)
    assert load_reference(module, graph=GraphPart("embed")).frozen.graph.output_names == ("features",)


def test_a_function_that_does_not_say_what_it_takes_is_refused_with_what_to_give():
    """Neither traced nor with an input signature: the message holds the call that helps."""
    from qdebug.models.tensorflow import load_tensorflow

    with pytest.raises(ModelError, match="get_concrete_function"):
        load_reference(load_tensorflow().tf.function(lambda x: x * 2))


def test_models_of_tensorflow_1_open_as_saved_model_and_as_frozen_graph(saved: Path):
    """A SavedModel with its signature's names; a .pb from --inputs to --outputs, or whole where that is one thing."""
    model = load_reference(saved / "tf1")
    frozen = load_reference(saved / "frozen.pb", graph=GraphPart(None, ("input",), ("probs:0",)))

    assert (model.frozen.graph.input_names, model.frozen.graph.output_names) == (("picture",), ("probs",))
    assert layers(model) == layers(frozen) == ["Conv_0", "Mean", "probs"]
    np.testing.assert_array_equal(outputs(model, images()), outputs(frozen, images()))
    np.testing.assert_array_equal(outputs(load_reference(saved / "frozen.pb"), images()), outputs(frozen, images()))
    inner = load_reference(saved / "frozen.pb", graph=GraphPart(None, (), ("Mobile/Conv_0/Relu6",)))
    assert outputs(inner, images()).shape == (8, 3, 3, 4)


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (GraphPart(None, ("image",), ()), "--inputs image: no such op .* it has input"),
        (GraphPart(None, (), ("nix",)), "--outputs nix: no such op .* it has probs"),
    ],
)
def test_ops_that_a_frozen_graph_lacks_are_named_beside_those_it_has(saved: Path, part: GraphPart, message: str):
    """The user sees what can be given."""
    with pytest.raises(UsageError, match=message):
        load_reference(saved / "frozen.pb", graph=part)


def test_what_is_no_frozen_graph_is_told(tmp_path: Path):
    """Another file that ends in .pb, and an empty one."""
    (tmp_path / "a.pb").write_bytes(b"not a graph")
    (tmp_path / "b.pb").write_bytes(b"")
    for name in ("a.pb", "b.pb"):
        with pytest.raises(ModelError, match=name):
            load_reference(tmp_path / name)


def fixed(size: int, *, mixes: bool = False) -> Any:
    """A function with a batch built in; one that `mixes` adds up its samples."""
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    weight = tf.constant(np.random.default_rng(2).normal(size=(108, 4)).astype(np.float32))

    @tf.function(input_signature=[tf.TensorSpec((size, 6, 6, 3), tf.float32, name="image")])
    def call(image: Any) -> Any:
        made = tf.matmul(tf.reshape(tf.nn.relu(image), [size, 108]), weight)
        return made + tf.reduce_sum(made) if mixes else made

    return call


def test_a_batch_that_is_built_in_is_taken_out():
    """Inputs and constant shapes are opened; what each sample gives stays."""
    given = fixed(1)
    expected = np.concatenate([given(image[None]).numpy() for image in images()])

    np.testing.assert_allclose(outputs(load_reference(given), images()), expected, rtol=1e-5, atol=1e-5)


def test_a_graph_whose_samples_depend_on_each_other_is_refused():
    """With another batch it would compute something else."""
    with pytest.raises(ModelError, match=r"a batch of 2 is built into it.*None"):
        _ = load_reference(fixed(2, mixes=True)).frozen


def test_a_signature_is_traced_converted_mapped_and_audited(saved: Path, tmp_path: Path):
    """All commands take the same reference; without a candidate the signature itself is converted."""
    from qdebug.workflows.audit import audit_files
    from qdebug.workflows.map import map_files

    target = tmp_path / "model.tflite"
    run = qdebug.trace(saved / "two", data=images(64), signature="classify", save_candidate=target, options=OPTIONS)
    again = qdebug.trace(saved / "two", target, images(64), signature="classify", options=OPTIONS)

    assert [row.layer for row in run.layers] == ["image", "stem", "head:mean", "head"]
    assert {row.verdict for row in run.layers} <= {"exact", "rounding", "requantized"}
    assert [row.verdict for row in again.layers] == [row.verdict for row in run.layers]
    paths = str(saved / "two"), str(target)
    assert [pair.layer for pair in map_files(*paths, graph=GraphPart("classify")).pairs] == [
        row.layer for row in run.layers
    ]
    assert audit_files(*paths, graph=GraphPart("classify")).deviations == []


@pytest.mark.filterwarnings("ignore")
def test_qat_is_told_by_its_fake_quants(tmp_path: Path):
    """An exported QAT model has no layers, but names and grids: it is compared as one."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    stack = load_tensorflow()
    keras = stack.tf_keras
    keras.utils.set_random_seed(0)
    model = quantized(
        keras.Sequential(
            [
                keras.layers.InputLayer((6, 6, 3), name="image"),
                keras.layers.Conv2D(4, 3, name="conv"),
                keras.layers.ReLU(name="relu"),
                keras.layers.Flatten(name="flat"),
                keras.layers.Dense(3, name="logits"),
            ]
        )
    )
    with quietly():
        model.export(str(tmp_path / "exported"))
    run = qdebug.trace(tmp_path / "exported", data=images(16), options=OPTIONS)

    assert run.reference["kind"] == "qat"
    assert [row.layer for row in run.layers] == ["image", "relu", "flat", "logits"]
    assert {row.verdict for row in run.layers} <= {"exact", "rounding", "requantized"}


@pytest.mark.filterwarnings("ignore")
def test_layers_that_keras_revives_without_their_classes_are_read(tmp_path: Path):
    """Custom and attention layers of a SavedModel come back as functions, whose constants wait for the inputs."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    stack = load_tensorflow()
    tf, keras = stack.tf, stack.tf_keras

    class Pooled(keras.layers.Layer):
        def build(self, shape: Any) -> None:
            self.w = self.add_weight("w", (shape[-1], 1))

        def call(self, given: Any, training: bool | None = None) -> Any:  # noqa: ARG002
            return tf.reduce_sum(given * tf.nn.softmax(tf.tanh(tf.matmul(given, self.w)), axis=1), 1)

    keras.utils.set_random_seed(0)
    i = keras.layers.Input((8, 4), name="signal")
    x = keras.layers.MultiHeadAttention(2, 3, name="attention")(i, i) + i
    model = keras.Model(i, keras.layers.Dense(3, name="logits")(Pooled(name="pooled")(x)))
    with quietly():
        model.save(str(tmp_path / "model"))
        content = converter_of(model).convert()
    signal = np.random.default_rng(0).normal(size=(8, 8, 4)).astype(np.float32)
    del Pooled
    run = qdebug.trace(tmp_path / "model", content, signal, options=OPTIONS)

    assert {row.verdict for row in run.layers} == {"exact", "rounding"}
    assert {"attention", "pooled", "logits"} <= {row.layer for row in run.layers}
