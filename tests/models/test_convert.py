"""A Keras 2 model is converted by its serving signature alone: the file is that of `from_keras_model`."""

import pytest

from qdebug.models.quiet import quietly
from tests.support import converted_models

pytestmark = pytest.mark.tf


@pytest.mark.parametrize("name", ["nested", "dead_channel"])
def test_the_file_is_that_of_from_keras_model(name, monkeypatch):
    """All but a note on the converter's input is the same: tensors, ops, names and signature."""
    from ai_edge_litert import schema_py_generated as schema

    from qdebug.models.tensorflow import load_tensorflow

    def parts(content):
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        notes = {note.buffer for note in model.metadata}
        data = [
            b"" if number in notes or entry.data is None else bytes(entry.data)
            for number, entry in enumerate(model.buffers)
        ]
        model.buffers = model.metadata = None
        return data, plain(model)

    def plain(value):
        if isinstance(value, list):
            return [plain(entry) for entry in value]
        if hasattr(value, "tolist"):
            return value.tolist()
        return {key: plain(entry) for key, entry in vars(value).items()} if hasattr(value, "__dict__") else value

    net, fast = converted_models.make(name)
    monkeypatch.setattr(converted_models, "converter_of", load_tensorflow().tf.lite.TFLiteConverter.from_keras_model)
    _, kind, io = converted_models.BUILDERS[name]
    with quietly():
        assert parts(fast) == parts(converted_models.converted(net, kind, io))
