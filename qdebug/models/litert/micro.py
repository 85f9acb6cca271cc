"""The candidate on TensorFlow Lite Micro: its own kernels, one sample at a time, in a process of its own."""

from __future__ import annotations

import atexit
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from typing import Any

import numpy as np

from qdebug.errors import ModelError, UsageError
from qdebug.graph.graph import Graph, Key
from qdebug.graph.quantization import Array
from qdebug.models.kernels import TFLM, has_tflm
from qdebug.models.litert import trial
from qdebug.models.litert.excerpt import excerpt
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.litert.micro_process import arrays_of, layout_of, pack, unpack

TIMES_THE_FILE = 10
LEAST_ARENA, MOST_ARENA = 1 << 20, 1 << 30
"""Bytes of the arena: so many times the file, but within these limits."""
GROWS = 8
"""How many times larger the arena becomes where the tensors do not fit."""
NO_OP = re.compile(r"(?:Didn't find op for builtin opcode|Failed to get registration from op code) '?(\w+)")
"""How TFLM says that it has no kernel for an op."""
NOT_WORDS = ("Failed to initialize", "Failed to populate", "Unable to allocate", "Failed starting model", "Node ")
"""How lines begin that only follow from what was said before."""


class Process:
    """TFLM in a process of its own; it is asked one thing after the other. Raises UsageError where there is no TFLM."""

    def __init__(self) -> None:
        if not has_tflm():
            raise UsageError(
                "--kernels tflm needs TensorFlow Lite Micro, which is not installed: pip install 'qdebug[micro]'"
            )
        self._seconds = trial.seconds()
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 `end` closes it
        memory = 2 * MOST_ARENA + trial.LEAST_MEMORY
        self._process = subprocess.Popen(  # noqa: S603 this very Python, and a number
            [sys.executable, "-P", "-m", "qdebug.models.litert.micro_process", str(memory)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._said,
            start_new_session=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        )
        atexit.register(self.end)

    def ask(self, header: dict[str, Any], blobs: Sequence[bytes] = ()) -> tuple[dict[str, Any], list[bytes]]:
        """The answer to one request. Raises ModelError where TFLM refuses it, dies of it or does not end."""
        assert self._process.stdin is not None
        until = time.monotonic() + self._seconds
        self._said.seek(0, os.SEEK_END)
        start = self._said.tell()
        try:
            self._process.stdin.write(pack(header, blobs))
            self._process.stdin.flush()
            frame = unpack(lambda size: self._read(size, until))
        except BrokenPipeError:
            frame = None
        if frame is None:
            code = self._process.wait()
            raise ModelError(
                f"TensorFlow Lite Micro {trial.ended(code, self._seconds)} while it ran the candidate; "
                "--kernels reference runs it on LiteRT",
                details=self._words(start),
            )
        if "error" in frame[0]:
            raise ModelError(str(frame[0]["error"]), details=self._words(start))
        return frame

    @property
    def lives(self) -> bool:
        """Whether the process can be asked more."""
        return self._process.poll() is None

    def end(self) -> None:
        """Leave no process behind."""
        atexit.unregister(self.end)
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                stream.close()

    def _read(self, size: int, until: float) -> bytes:
        stream = self._process.stdout
        assert stream is not None
        parts, left = [], size
        while left:
            if not select.select([stream], [], [], max(0.0, until - time.monotonic()))[0]:
                self._process.kill()
                return b""
            part = os.read(stream.fileno(), min(left, 1 << 20))
            if not part:
                return b""
            parts.append(part)
            left -= len(part)
        return b"".join(parts)

    def _words(self, start: int) -> str:
        """What TFLM has printed since; every line once."""
        self._said.seek(start)
        lines = self._said.read().decode(errors="replace").splitlines()
        return "\n".join(dict.fromkeys(line.strip() for line in lines if line.strip()))


class OpenFile:
    """One file that is open in a process of TFLM."""

    def __init__(self, process: Process, content: bytes, graph: Graph, *, preserve: bool) -> None:
        self.process, self.content, self.graph, self.preserve = process, content, graph, preserve
        self.arena = max(LEAST_ARENA, TIMES_THE_FILE * len(content), 2 * _activations(graph))
        self.number = self._open()

    def run(self, inputs: Sequence[Array], keys: Sequence[Key] = ()) -> dict[Key, Array]:
        """One sample, given as what the inputs hold: the outputs, and the tensors `keys` where all are preserved."""
        read = (
            [key for key in keys if key in self.graph.tensors and key not in self.graph.outputs]
            if self.preserve
            else []
        )  # (a number that the file has not would end the process)
        fed = [np.asarray(array, order="C") for array in inputs]  # (a scalar keeps its shape)
        places = list(range(len(self.graph.outputs)))
        header, blobs = self.process.ask(
            {
                "do": "run",
                "number": self.number,
                "inputs": layout_of(fed),
                "outputs": places,
                "read": [int(str(key)) for key in read],
            },
            [array.tobytes() for array in fed],
        )
        return dict(zip([*self.graph.outputs, *read], arrays_of(header["layout"], blobs), strict=True))

    def close(self) -> None:
        """Give its memory back."""
        self.process.ask({"do": "close", "number": self.number})

    def smallest_arena(self) -> int:
        """Bytes of the smallest arena that works, without preserved tensors, in 64-bit pointers."""
        return int(self.process.ask({"do": "arena", "works": self.arena}, [self.content])[0]["arena"])

    def _open(self) -> int:
        """Open the file, in larger arenas as long as it does not fit. Raises ModelError in TFLM's own words."""
        while True:
            try:
                asked = {"do": "open", "arena": self.arena, "preserve": self.preserve}
                return int(self.process.ask(asked, [self.content])[0]["number"])
            except ModelError as error:
                if "missing" not in error.details or self.arena * GROWS > MOST_ARENA:
                    raise
                self.arena *= GROWS


class MicroInterpreter(Interpreter):
    """The candidate on TFLM, in the place of LiteRT's interpreter."""

    def __init__(self, content: bytes, graph: Graph, *, preserve: bool = True) -> None:
        self.content, self.graph, self.kernels, self.resizable = content, graph, TFLM, False
        if self.built_in > 1:
            raise ModelError(
                f"TensorFlow Lite Micro runs a file as it is, and this one has a batch of {self.built_in} "
                "built in; convert it with a batch of 1"
            )
        process = Process()
        try:
            self.file = OpenFile(process, content, graph, preserve=preserve)
        except ModelError as error:
            raise refusal(error, process, content, graph) from error
        self._held: dict[Key, Array] = {}
        self.seconds = 0.0
        """What the last sample took."""
        self._readable = [key for op in graph.ops for key in op.outputs if graph.tensors[key].data is None]

    def allocate(self, batch: int) -> bool:
        """Whether the batch is 1: TFLM takes no other."""
        return batch == 1

    def run(self, values: Sequence[Array]) -> None:
        """Invoke on one sample of real inputs."""
        fed, start = self.feed(values), time.perf_counter()
        self._held = {**dict(zip(self.graph.inputs, fed, strict=True)), **self.file.run(fed, self._readable)}
        self.seconds = time.perf_counter() - start

    def get(self, key: Key) -> Array:
        """A copy of a tensor after `run`; raises KeyError where it is not kept."""
        return self._held[key].copy()


def refusal(error: ModelError, process: Process, content: bytes, graph: Graph) -> ModelError:
    """Why TFLM does not open a file, in one line: all ops that it does not have, else its own words."""
    if "ended" in str(error) or "died" in str(error):
        return error
    missing = _missing_ops(process, content, graph) if NO_OP.search(error.details) else []
    if missing:
        return ModelError(
            f"TensorFlow Lite Micro has no kernel for {', '.join(missing)}: leave the op out of the "
            "model, or give the firmware one and trace its dump with --dump",
            details=error.details,
        )
    lines = [line for line in error.details.splitlines() if not line.startswith(NOT_WORDS)] or [str(error)]
    return ModelError(
        f"TensorFlow Lite Micro does not take the candidate: {lines[0]}; --kernels reference runs it on LiteRT",
        details=error.details,
    )


def _missing_ops(process: Process, content: bytes, graph: Graph) -> list[str]:
    """Names of the kinds of ops that TFLM has no kernel for: TFLM itself stops at the first."""
    firsts = {op.raw: op for op in reversed(graph.ops) if op.outputs}
    found = []
    for raw, op in firsts.items():
        try:
            OpenFile(process, excerpt(content, graph, [op], op.output), graph, preserve=False)
        except ModelError as error:
            found += [raw] if NO_OP.search(error.details) else []
    return sorted(found)


def _activations(graph: Graph) -> int:
    """Bytes of all tensors that are computed, about: 8 for each element of a type that NumPy does not have."""
    widths = {"int8": 1, "uint8": 1, "bool": 1, "int16": 2, "float16": 2, "int32": 4, "float32": 4}
    return sum(
        abs(int(np.prod(tensor.shape))) * widths.get(tensor.dtype, 8)
        for tensor in graph.tensors.values()
        if tensor.data is None
    )
