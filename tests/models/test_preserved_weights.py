"""QAT that keeps clustered weights: its layers have more weights in the file than Keras makes them with."""

from __future__ import annotations

from pathlib import Path

import pytest

from qdebug.errors import ModelError
from qdebug.models.reference.open import load_reference

pytestmark = pytest.mark.tf


def test_a_file_of_cluster_preserving_training_is_sent_to_its_saved_model(tmp_path: Path):
    """Keras refuses the .h5 by a count of weights; the SavedModel of the same model opens."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    stack = load_tensorflow()
    keras, L, tfmot = stack.tf_keras, stack.tf_keras.layers, stack.tfmot
    given = keras.Input((8, 8, 3), name="image")
    model = keras.Model(given, L.Dense(3, name="logits")(L.Flatten(name="flat")(L.Conv2D(4, 3, name="conv")(given))))
    with quietly():
        annotated = tfmot.quantization.keras.quantize_annotate_model(model)
        scheme = tfmot.experimental.combine.Default8BitClusterPreserveQuantizeScheme(True)
        qat = tfmot.quantization.keras.quantize_apply(annotated, scheme)
        qat.save(tmp_path / "pcqat.h5")
        qat.save(str(tmp_path / "pcqat"))

    with pytest.raises(ModelError, match=r"loads from a SavedModel alone: model\.save\('folder'\)"):
        load_reference(tmp_path / "pcqat.h5")
    assert load_reference(tmp_path / "pcqat").kind == "qat"
