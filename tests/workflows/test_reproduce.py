"""A reproducer is the op alone: it gives the codes that the whole file gave, and its own files alone are needed."""

import dataclasses
import io

import numpy as np
import pytest

from qdebug.errors import InputError, ModelError, UsageError
from tests.support import converted_models

pytestmark = pytest.mark.tf


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A small QAT model as files, and its run."""
    import qdebug
    from qdebug.models.quiet import quietly

    folder = tmp_path_factory.mktemp("files")
    net, content = converted_models.make("plain")
    with quietly():
        net.save(folder / "qat.h5")
    (folder / "model.tflite").write_bytes(content)
    data = converted_models.batches(net, 20)[0]
    return qdebug.trace(folder / "qat.h5", folder / "model.tflite", data)


@pytest.fixture(scope="module")
def exported(recorded):
    """(row, its files) of every row that can be taken out; the others only move data, or are no op."""
    from qdebug.workflows.reproduce import reproduce

    found = []
    for row in recorded.layers:
        try:
            found.append((row, reproduce(recorded, row.layer, recorded.arrays)))
        except UsageError as error:
            assert row.op_index is None or "only moves data" in str(error)  # noqa: PT017 the loop goes on
    return found


def alone(content, codes):
    """What LiteRT gives when it runs the file of one op on these inputs."""
    from ai_edge_litert.interpreter import Interpreter

    runner = Interpreter(model_content=content)
    runner.allocate_tensors()
    for number, entry in enumerate(runner.get_input_details()):
        runner.set_tensor(entry["index"], codes[f"input_{number}"])
    runner.invoke()
    return runner.get_tensor(runner.get_output_details()[0]["index"])


def test_every_row_that_computes_gives_the_whole_file_s_codes(exported):
    """The cut file gives the codes that the whole file gave, and no other error than the recorded one."""
    for row, files in exported:
        with np.load(io.BytesIO(files["codes.npz"])) as codes:
            assert alone(files["op.tflite"], codes).tolist() == codes["actual"].tolist()
            assert np.abs(codes["expected"].astype(int) - codes["actual"]).max() <= row.local.max_lsb
    assert len(exported) >= 3


def test_the_script_of_every_row_is_python(exported):
    """It compiles."""
    for _, files in exported:
        compile(files["run.py"], "run.py", "exec")


@pytest.mark.filterwarnings("ignore:You are saving your model as an HDF5 file")
def test_a_post_training_file_is_expected_by_its_own_weights(tmp_path):
    """Kernels that were rounded after training are right: what is expected of them is at most a code away."""
    import qdebug
    from qdebug.workflows.reproduce import reproduce
    from tests.support import float_models

    net = float_models.net()
    net.save(tmp_path / "float.h5")
    (tmp_path / "model.tflite").write_bytes(float_models.file_of(net))
    run = qdebug.trace(
        tmp_path / "float.h5", tmp_path / "model.tflite", float_models.samples(20), options=float_models.OPTIONS
    )
    far = []
    for layer in ("conv_relu", "dw_relu", "point", "probs:fully_connected"):
        with np.load(io.BytesIO(reproduce(run, layer, run.arrays)["codes.npz"])) as codes:
            apart = np.abs(codes["expected"].astype(int) - codes["actual"])
            far.append((layer, int(apart.max()), float(np.mean(apart != 0))))
    assert all(most <= 1 and share < 0.05 for _, most, share in far), far


def test_refusals(recorded, tmp_path):
    """What cannot be reproduced is refused with its reason: no row, no samples, files gone or changed."""
    from qdebug.workflows.reproduce import reproduce

    layer = recorded.layers[-1].layer
    with pytest.raises(UsageError, match="no such row; choose from"):
        reproduce(recorded, "nothing", recorded.arrays)
    with pytest.raises(InputError, match="no samples lie beside"):
        reproduce(recorded, layer, None)
    gone = dataclasses.replace(recorded, candidate=recorded.candidate | {"source": str(tmp_path / "gone.tflite")})
    with pytest.raises(ModelError, match="is not there any more"):
        reproduce(gone, layer, recorded.arrays)
    changed = dataclasses.replace(recorded, candidate=recorded.candidate | {"sha256": "00"})
    with pytest.raises(ModelError, match="has changed since"):
        reproduce(changed, layer, recorded.arrays)
    unmeasured = dataclasses.replace(recorded, layers=[dataclasses.replace(one, local=None) for one in recorded.layers])
    with pytest.raises(UsageError, match="was not measured"):
        reproduce(unmeasured, layer, recorded.arrays)
