"""Float Keras models in every format that both Kerases write, and what is said of those that cannot be opened.

What Keras 3 writes is written by a process of its own, as a user's training script would.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from qdebug.errors import ModelError
from qdebug.workflows.trace_options import TraceOptions

pytestmark = [pytest.mark.tf, pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")]

OWN_LAYER = '''"""A user's own layer, for the Keras that is named."""
import {keras} as keras


class Positive(keras.layers.Layer):
    """What it is given, where that is above zero."""

    def call(self, values):
        return keras.activations.relu(values)
'''

WRITE_KERAS3 = """
import sys
import keras
import numpy as np
import tensorflow as tf
from keras import layers as L

assert keras.__version__.startswith("3")
folder = sys.argv[1]
sys.path.insert(0, folder)
from own_keras3 import Positive

keras.utils.set_random_seed(0)


def made(own):
    i = L.Input((8, 8, 3), name="image")
    x = L.Conv2D(8, 3, use_bias=False, name="conv")(i)
    x = L.ReLU(name="relu")(L.BatchNormalization(name="bn")(x))
    x = L.GlobalAveragePooling2D(name="gap")(x)
    x = Positive(name="positive")(x) if own else x
    return keras.Model(i, L.Dense(4, activation="softmax", name="probs")(x))


model = made(False)
model.save(folder + "/three.keras")
model.save(folder + "/three.h5")
model.export(folder + "/three_exported")
made(True).save(folder + "/own.keras")
converter = tf.lite.TFLiteConverter.from_saved_model(folder + "/three_exported")
converter.optimizations = [tf.lite.Optimize.DEFAULT]
data = np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype(np.float32)
converter.representative_dataset = lambda: ([entry[None]] for entry in data)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(folder + "/three.tflite", "wb").write(converter.convert())
"""


def samples() -> np.ndarray:
    """Random images."""
    return np.random.default_rng(0).normal(size=(32, 8, 8, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def three(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with what Keras 3 wrote."""
    folder = tmp_path_factory.mktemp("keras3")
    (folder / "own_keras3.py").write_text(OWN_LAYER.format(keras="keras"))
    done = subprocess.run(
        [sys.executable, "-c", WRITE_KERAS3, str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture(scope="module")
def two() -> tuple[Any, bytes]:
    """A model of Keras 2 and its int8 file."""
    from tests.support.float_models import file_of, net

    model = net()
    return model, file_of(model)


def verdicts(reference: Path, candidate: Path | bytes) -> set[str]:
    """The verdicts of a trace."""
    from qdebug.workflows.trace import trace

    return {row.verdict for row in trace(reference, candidate, samples(), options=TraceOptions(handover=False)).layers}


def refusal(path: Path, custom_objects: str | None = None) -> str:
    """What is said of a model that cannot be opened: one line."""
    from qdebug.models.reference.open import load_reference

    with pytest.raises(ModelError) as caught:
        load_reference(path, custom_objects=custom_objects)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("name", ["three.keras", "three.h5"])
def test_what_keras_3_saves_is_traced(three: Path, name: str):
    """Both formats load with Keras 3, and a right file does not diverge from them."""
    assert verdicts(three / name, three / "three.tflite") <= {"exact", "rounding", "requantized"}


def test_what_keras_3_exports_is_traced(three: Path):
    """A SavedModel without Keras layers is run as the graph that it is."""
    assert verdicts(three / "three_exported", three / "three.tflite") <= {"exact", "rounding", "requantized"}


@pytest.mark.parametrize("name", ["two.keras", "two.h5", "two_saved"])
def test_what_keras_2_saves_is_traced(two: tuple[Any, bytes], tmp_path: Path, name: str):
    """All three formats of tf_keras load."""
    from qdebug.models.quiet import quietly

    model, content = two
    with quietly():
        model.save(tmp_path / name)
    assert verdicts(tmp_path / name, content) <= {"exact", "rounding", "requantized"}


def test_a_qat_model_saved_as_keras_is_explained(tmp_path: Path):
    """Its quantizers' variables are not in the file: .h5 keeps them, and that is said."""
    from qdebug.models.tensorflow import load_tensorflow

    stack = load_tensorflow()
    L = stack.tf_keras.layers
    plain = stack.tf_keras.Sequential([L.InputLayer((8,), name="data"), L.Dense(4, name="logits")])
    stack.tfmot.quantization.keras.quantize_model(plain).save(tmp_path / "qat.keras")
    said = refusal(tmp_path / "qat.keras")
    assert "a QAT model saved as .keras cannot be reloaded" in said
    assert "save it as .h5" in said


def test_own_layers_of_keras_3_need_their_module(three: Path, monkeypatch: pytest.MonkeyPatch):
    """With its module the layer loads; without, one line says what to give."""
    from qdebug.models.reference.open import load_reference

    assert "--custom-objects" in refusal(three / "own.keras")
    monkeypatch.syspath_prepend(three)
    assert load_reference(three / "own.keras", custom_objects="own_keras3").kind == "float"


def test_own_layers_of_keras_2_need_their_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """As for Keras 3, in the format that most of those models are kept in; and the file is then traced."""
    import importlib

    from qdebug.models.tensorflow import load_tensorflow
    from qdebug.workflows.trace import trace
    from tests.support.float_models import file_of

    keras = load_tensorflow().tf_keras
    (tmp_path / "own_keras2.py").write_text(OWN_LAYER.format(keras="tf_keras"))
    monkeypatch.syspath_prepend(tmp_path)
    own = importlib.import_module("own_keras2").Positive
    i = keras.layers.Input((8, 8, 3), name="image")
    x = keras.layers.GlobalAveragePooling2D(name="gap")(keras.layers.Conv2D(4, 3, name="conv")(i))
    model = keras.Model(i, keras.layers.Dense(4, name="logits")(own(name="positive")(x)))
    model.save(tmp_path / "own.h5")
    assert "--custom-objects" in refusal(tmp_path / "own.h5")
    run = trace(
        tmp_path / "own.h5",
        file_of(model),
        samples(),
        custom_objects="own_keras2",
        options=TraceOptions(handover=False),
    )
    assert run.first_divergent is None


BRANCHING = '''"""A layer that decides by its values."""
import tensorflow as tf
import tf_keras as keras


class Larger(keras.layers.Layer):
    """The sum or the difference of its input and a constant."""

    def call(self, values):
        if tf.reduce_sum(values) > 0.0:
            return values + 1.0
        return values - 1.0
'''


def test_a_layer_that_needs_autograph_is_loaded_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """`if` on a tensor cannot be traced without: what loads is what Keras itself loads."""
    import importlib

    from qdebug.models.reference.open import load_reference
    from qdebug.models.tensorflow import load_tensorflow

    keras = load_tensorflow().tf_keras
    (tmp_path / "branching.py").write_text(BRANCHING)
    monkeypatch.syspath_prepend(tmp_path)
    i = keras.layers.Input((4,), name="x")
    model = keras.Model(i, importlib.import_module("branching").Larger(name="larger")(i))
    model.save(tmp_path / "branching.h5")
    found = load_reference(tmp_path / "branching.h5", custom_objects="branching").model

    for values in (np.ones((2, 4), np.float32), -np.ones((2, 4), np.float32)):
        assert np.array_equal(found(values), model(values))


def test_a_saved_model_from_before_tensorflow_2_5_is_traced(two: tuple[Any, bytes], tmp_path: Path):
    """Its Keras layers stand in saved_model.pb, not in a file of their own."""
    from tensorflow.core.protobuf import saved_model_pb2
    from tf_keras.protobuf import saved_metadata_pb2

    model, content = two
    folder = tmp_path / "old"
    model.save(folder, save_format="tf")
    whole = saved_model_pb2.SavedModel.FromString((folder / "saved_model.pb").read_bytes())
    kept = saved_metadata_pb2.SavedMetadata.FromString((folder / "keras_metadata.pb").read_bytes())
    nodes = whole.meta_graphs[0].object_graph_def.nodes
    for node in kept.nodes:
        nodes[node.node_id].user_object.metadata = node.metadata
    (folder / "saved_model.pb").write_bytes(whole.SerializeToString())
    (folder / "keras_metadata.pb").unlink()

    assert "diverged" not in verdicts(folder, content)
