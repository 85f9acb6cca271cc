"""The trial of a `.tflite` file, in the process that may die of it: load, allocate and invoke, on each kernel family.

Run as `python -m qdebug.models.litert.trial_process`; the bytes of the file come on standard input, and every step is
told on standard output before it is taken, one line of JSON each, so that the reader knows what the process died of.
Nothing but LiteRT and NumPy is imported: the start costs about 0.2 s.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
from typing import IO, Any

import numpy as np

from qdebug.models.limits import limit_process

TWO, MANY = 2, 64
"""Batches that are tried after one sample: a kernel that writes beyond its memory need not hit anything with few."""
QUICK = 0.02
"""Seconds of processor time for two samples, up to which many are tried too."""


def main() -> None:
    """Take the limits and the families from the arguments, and the file from standard input."""
    seconds, memory = (int(text) for text in sys.argv[1:3])
    families = sys.argv[3:]
    told = os.fdopen(os.dup(1), "w")
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):  # LiteRT prints on both
        os.dup2(nowhere, descriptor)
    limit_process(seconds, memory)
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    resolvers = {
        "xnnpack": OpResolverType.AUTO,
        "builtin": OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES,
        "reference": OpResolverType.BUILTIN_REF,
    }
    content = sys.stdin.buffer.read()
    for kernels in families:
        _tell(told, step="opened", kernels=kernels)
        try:
            native = Interpreter(
                model_content=content,
                experimental_op_resolver_type=resolvers[kernels],
                experimental_preserve_all_tensors=True,
            )
            shapes = _try(native, told, kernels)
        except Exception as error:  # noqa: BLE001 told, not hidden: the reader decides
            _tell(told, step="refused", kernels=kernels, error=str(error) or type(error).__name__)
        else:
            _tell(told, step="done", kernels=kernels, shapes=shapes)


def _try(native: Any, told: IO[str], kernels: str) -> dict[str, list[int]]:
    """Run one sample, then more where the file takes them; the shape of every tensor for one sample."""
    details = native.get_input_details()
    _tell(told, step="prepared", kernels=kernels)
    with contextlib.suppress(RuntimeError, ValueError):
        _resize(native, details, 1)
    native.allocate_tensors()
    _tell(told, step="ran", kernels=kernels)
    _invoke(native)
    shapes = {str(detail["index"]): [int(size) for size in detail["shape"]] for detail in native.get_tensor_details()}
    for batch in (TWO, MANY):
        _tell(told, step=f"ran on {batch} samples", kernels=kernels)
        started = time.process_time()
        with contextlib.suppress(RuntimeError, ValueError):
            _resize(native, details, batch)
            native.allocate_tensors()
            _invoke(native)
        if time.process_time() - started > QUICK:
            break
    return shapes


def _resize(native: Any, details: Any, batch: int) -> None:
    for detail in details:
        shape = [int(size) for size in detail["shape"]]
        if shape and shape[0] != batch:
            native.resize_tensor_input(detail["index"], [batch, *shape[1:]])


def _invoke(native: Any) -> None:
    for detail in native.get_input_details():
        if detail["dtype"] not in (np.bytes_, np.str_):
            native.set_tensor(detail["index"], np.zeros(detail["shape"], detail["dtype"]))
    native.invoke()
    for detail in native.get_output_details():
        native.get_tensor(detail["index"])


def _tell(told: IO[str], **what: Any) -> None:
    told.write(json.dumps(what) + "\n")
    told.flush()


if __name__ == "__main__":
    main()
