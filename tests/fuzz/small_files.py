"""The healthy files that a campaign damages: small real networks, their references, files, data and one record.

Run as `python -m tests.fuzz.small_files FOLDER`, in a process of its own: it runs TensorFlow, which the process that
forks the cases must not have done.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np

from tests.fuzz.children import command
from tests.support import converted_models as converted

NETS = ("plain", "several_ends", "as_it_is")
"""Convolutions, two inputs with three outputs, and a float file."""


def main(folder: Path) -> None:
    """Write NET.h5, NET.tflite and NET.npz for every net; `dense` also as .keras and SavedModel; one record."""
    from qdebug.models.tensorflow import load_tensorflow

    folder.mkdir(parents=True, exist_ok=True)
    for name in NETS:
        net, content = converted.make(name)
        net.save(folder / f"{name}.h5")
        (folder / f"{name}.tflite").write_bytes(content)
        drawn = converted.batches(net, 12, seed=3)
        np.savez(folder / f"{name}.truth.npz", *_outputs(net, drawn))
        names = [tensor.name.partition(":")[0] for tensor in net.inputs]
        np.savez(
            folder / f"{name}.npz", **({"x": drawn[0]} if len(drawn) == 1 else dict(zip(names, drawn, strict=True)))
        )
    keras = load_tensorflow().tf_keras
    keras.utils.set_random_seed(1)
    given = keras.layers.Input((4,), name="given")
    net = keras.Model(given, keras.layers.Dense(3, name="out")(keras.layers.Dense(5, "relu", name="hidden")(given)))
    for made in ("dense.h5", "dense.keras", "dense_saved"):
        net.save(folder / made)
    (folder / "dense.tflite").write_bytes(converted.converted(net, "ptq", "float"))
    x = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)
    np.savez(folder / "dense.npz", x=x, y=np.arange(12) % 3)
    np.savez(folder / "dense.truth.npz", *_outputs(net, [x]))
    command(
        [
            "trace",
            "--reference",
            str(folder / "dense.h5"),
            "--candidate",
            str(folder / "dense.tflite"),
            "--data",
            str(folder / "dense.npz"),
            "--store",
            str(folder / "store"),
            "--quiet",
        ]
    )


def _outputs(net: Any, given: list[np.ndarray]) -> list[np.ndarray]:
    made = net(given if len(given) > 1 else given[0], training=False)
    return [np.asarray(value) for value in (made if isinstance(made, (list, tuple)) else [made])]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
