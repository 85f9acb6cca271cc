"""TensorFlow Lite Micro, in the process that may die of it.

Run as `python -m qdebug.models.litert.micro_process`. Requests come on standard input, answers go to standard output:
each a header in JSON with the sizes of the arrays behind it, then the bytes of these arrays. TFLM's own words go to
standard error. No engine but TFLM is imported.
"""

from __future__ import annotations

import json
import os
import struct
import sys
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from qdebug.models.limits import limit_process

SIZE = struct.Struct("<I")
STEP = 16
"""Bytes: what TFLM aligns its arena to."""
Frame = tuple[dict[str, Any], list[bytes]]


def pack(header: dict[str, Any], blobs: Sequence[bytes] = ()) -> bytes:
    """One frame: the size of the header, the header, the arrays."""
    text = json.dumps({**header, "sizes": [len(blob) for blob in blobs]}).encode()
    return b"".join((SIZE.pack(len(text)), text, *blobs))


def unpack(read: Callable[[int], bytes]) -> Frame | None:
    """The next frame of a stream; `None` at its end. `read(n)` gives n bytes, fewer only at the end."""
    start = read(SIZE.size)
    if len(start) < SIZE.size:
        return None
    header = json.loads(read(SIZE.unpack(start)[0]))
    return header, [read(size) for size in header.pop("sizes")]


def arrays_of(layout: Sequence[Sequence[Any]], blobs: Sequence[bytes]) -> list[np.ndarray]:
    """The arrays of a frame; `layout` holds (dtype, shape) of each."""
    return [np.frombuffer(blob, dtype).reshape(shape) for (dtype, shape), blob in zip(layout, blobs, strict=True)]


def layout_of(arrays: Sequence[np.ndarray]) -> list[list[Any]]:
    """What `arrays_of` takes."""
    return [[array.dtype.name, list(array.shape)] for array in arrays]


class _Server:
    """The interpreters that were asked for, by number."""

    def __init__(self) -> None:
        from tflite_micro.python.tflite_micro import runtime

        self.runtime = runtime
        self.interpreters: list[Any] = []

    def answer(self, header: dict[str, Any], blobs: list[bytes]) -> bytes:
        """Do what one request says."""
        try:
            doing = {"open": self.open, "run": self.run, "arena": self.arena, "close": self.close}
            return doing[header["do"]](header, blobs)
        except (RuntimeError, ValueError, struct.error) as error:
            return pack({"error": str(error) or type(error).__name__})

    def open(self, header: dict[str, Any], blobs: list[bytes]) -> bytes:
        self.interpreters.append(self._interpreter(blobs[0], header["arena"], preserve=header["preserve"]))
        return pack({"number": len(self.interpreters) - 1})

    def run(self, header: dict[str, Any], blobs: list[bytes]) -> bytes:
        """One sample: the tensors `read`, or the outputs `outputs` by their places."""
        running = self.interpreters[header["number"]]
        running.reset()  # a sample must not see the state that the one before it left
        for place, array in enumerate(arrays_of(header["inputs"], blobs)):
            running.set_input(array, place)
        running.invoke()
        found = [np.asarray(running.get_output(place), order="C") for place in header["outputs"]]
        for key in header["read"]:
            tensor = running.GetTensor(key, 0)
            found.append(np.asarray(tensor["tensor_data"], order="C").reshape(tuple(tensor["shape"])))
        return pack({"layout": layout_of(found)}, [array.tobytes() for array in found])

    def close(self, header: dict[str, Any], _: list[bytes]) -> bytes:
        """Give the memory of an interpreter back; its number is not used again."""
        self.interpreters[header["number"]] = None
        return pack({})

    def arena(self, header: dict[str, Any], blobs: list[bytes]) -> bytes:
        """The smallest arena that the file is allocated in, found by halving; `works` is one that is large enough."""
        low, high = 0, header["works"]
        while high - low > STEP:
            middle = (low + high) // 2 // STEP * STEP
            try:
                self._interpreter(blobs[0], middle, preserve=False)
                high = middle
            except RuntimeError:
                low = middle
        return pack({"arena": high})

    def _interpreter(self, content: bytes, arena: int, *, preserve: bool) -> Any:
        kinds = self.runtime.InterpreterConfig
        return self.runtime.Interpreter.from_bytes(
            content,
            arena_size=arena,
            intrepreter_config=kinds.kPreserveAllTensors if preserve else kinds.kAllocationRecording,
        )


def main() -> None:
    """Answer requests until there are no more."""
    told = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    limit_process(None, int(sys.argv[1]))
    server = _Server()
    while (frame := unpack(sys.stdin.buffer.read)) is not None:
        told.write(server.answer(*frame))
        told.flush()


if __name__ == "__main__":
    main()
