"""The trials of `.tflite` files, in processes that may die of them: load, allocate and invoke, on each kernel family.

Run as `python -m qdebug.models.litert.trial_process FD`, a Unix socket. This process imports LiteRT once (0.2 s) and
opens no file itself: for every request it forks a child, which costs milliseconds. A request is a line of JSON with two
descriptors: of the file's bytes, and of the file that every step is told in before it is taken, one line of JSON each,
so that the reader knows what the child died of. The answers are lines with the child's pid, and with how it ended.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import sys
import time
from typing import IO, Any

import numpy as np

from qdebug.models.kernels import RESOLVERS
from qdebug.models.limits import limit_process

TWO, MANY = 2, 64
"""Batches that are tried after one sample: a kernel that writes beyond its memory need not hit anything with few."""
QUICK = 0.02
"""Seconds of processor time for two samples, up to which many are tried too."""
LINE = 1 << 16
"""Bytes that a request has at most."""


def main() -> None:
    """Serve the socket until its other end is gone; then nothing is left running."""
    asked = socket.socket(fileno=int(sys.argv[1]))
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in (0, 1, 2):  # LiteRT prints
        os.dup2(nowhere, descriptor)
    import ai_edge_litert.interpreter  # noqa: F401 once, for all children

    running: dict[int, tuple[int, int]] = {}
    """By the pipe that closes when a child ends: its pid, and the number of its request."""
    while True:
        ready, _, _ = select.select([asked.fileno(), *running], [], [])
        for pipe in [one for one in ready if one in running]:
            os.close(pipe)
            pid, number = running.pop(pipe)
            _answer(asked, number=number, code=os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        if asked.fileno() in ready:
            line, descriptors, _, _ = socket.recv_fds(asked, LINE, 2)
            if not line:
                break
            request = json.loads(line)
            pipe, pid = _fork(request, *descriptors)
            running[pipe] = pid, request["number"]
            _answer(asked, number=request["number"], pid=pid)
    for pid, _ in running.values():
        os.kill(pid, signal.SIGKILL)


def _fork(request: dict[str, Any], given: int, told: int) -> tuple[int, int]:
    """Start a child that serves one request: a pipe that closes when it ends, and its pid."""
    ends, held = os.pipe()
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            limit_process(request["seconds"], request["memory"])
            with os.fdopen(given, "rb") as content, os.fdopen(told, "w") as steps:
                _run(content.read(), steps, request["families"])
            code = 0
        finally:  # (a child never goes on as a second server)
            os._exit(code)
    for descriptor in (held, given, told):
        os.close(descriptor)
    return ends, pid


def _answer(asked: socket.socket, **what: int) -> None:
    with contextlib.suppress(BrokenPipeError):  # (the next read tells that nobody is there)
        asked.sendall(json.dumps(what).encode() + b"\n")


def _run(content: bytes, told: IO[str], families: list[str]) -> None:
    """Try the file on each family."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    for kernels in families:
        _tell(told, step="opened", kernels=kernels)
        try:
            native = Interpreter(
                model_content=content,
                experimental_op_resolver_type=getattr(OpResolverType, RESOLVERS[kernels]),
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
