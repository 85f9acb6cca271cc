"""A float file whose batch of 1 is folded into other axes, as exporters that trace one sample write it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.support.wild_models import troubles

pytestmark = pytest.mark.tf
STEPS, HEADS, SIZE = 7, 2, 4
WIDTH = HEADS * SIZE


def attention_file() -> bytes:
    """Time-major attention over tokens, one sample: heads and samples share an axis, as in PyTorch's own layer."""
    from qdebug.models.quiet import quietly
    from qdebug.models.tensorflow import load_tensorflow

    tf = load_tensorflow().tf
    draw = np.random.default_rng(2)
    table, *kernels = (draw.normal(0, 0.4, shape).astype(np.float32) for shape in ((9, WIDTH), *[(WIDTH, WIDTH)] * 4))

    def heads(x: Any, kernel: Any) -> Any:
        made = tf.matmul(tf.reshape(x, (STEPS, WIDTH)), kernel)
        return tf.transpose(tf.reshape(made, (STEPS, HEADS, SIZE)), (1, 0, 2))

    @tf.function(input_signature=[tf.TensorSpec((1, STEPS), tf.int32, name="tokens")])
    def net(tokens: Any) -> Any:
        x = tf.gather(table, tf.reshape(tokens, (STEPS,)))
        q, k, v = (heads(x, kernel) for kernel in kernels[:3])
        mixed = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / 2.0), v)
        flat = tf.reshape(tf.transpose(mixed, (1, 0, 2)), (STEPS, WIDTH))
        return tf.reshape(tf.matmul(flat, kernels[3]), (1, STEPS, WIDTH))

    with quietly():
        return bytes(tf.lite.TFLiteConverter.from_concrete_functions([net.get_concrete_function()]).convert())


def test_a_file_with_its_batch_folded_into_other_axes_is_compared_sample_by_sample(tmp_path: Path):
    """Against itself every row is the same, and the outputs of several samples are those of each alone."""
    import qdebug
    from qdebug.models.litert.candidate import Candidate
    from qdebug.models.reference.open import load_reference
    from qdebug.models.reference.session import FrozenSession

    content = attention_file()
    path = tmp_path / "attention.tflite"
    path.write_bytes(content)
    tokens = np.random.default_rng(0).integers(0, 9, (12, STEPS)).astype(np.int32)
    reference = load_reference(path)
    runner = Candidate.open(content, "attention").run_on()
    alone = []
    for sample in tokens:
        runner.run([sample[None]])
        alone.append(runner.get(runner.graph.outputs[0]))
    with FrozenSession(reference.frozen) as session:
        together = session.outputs([tokens])[0]
    run = qdebug.trace(path, content, tokens)

    assert reference.frozen.one_by_one
    assert np.allclose(np.concatenate(alone), together, atol=1e-5)
    assert troubles(run) == []
    assert run.coverage.unmeasured == 0
    assert any("one by one" in note for note in run.notes)
