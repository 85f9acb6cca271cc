"""An opened `.tflite` candidate."""

from __future__ import annotations

from dataclasses import dataclass

from qdebug.graph.graph import Graph
from qdebug.models.kernels import DEVICE, TFLM
from qdebug.models.litert import trial
from qdebug.models.litert.dumped import Dumped, DumpReader
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.litert.micro import MicroInterpreter
from qdebug.models.litert.parse import parse


@dataclass(frozen=True, eq=False)
class Candidate:
    """An opened `.tflite` file."""

    content: bytes
    source: str
    graph: Graph
    dumped: Dumped | None = None
    """What a device computed, where that is to be compared."""

    @classmethod
    def open(cls, content: bytes, source: str) -> Candidate:
        """Parse the flatbuffer; it is tried before it is run. Raises ModelError where it is none."""
        trial.watch(content)
        return cls(content, source, parse(content, source))

    def run_on(self, kernels: str = "xnnpack", *, threads: int | None = None, preserve: bool = True) -> Interpreter:
        """The file on one kernel family; with `preserve` every intermediate tensor can be read after a run."""
        if kernels == DEVICE and self.dumped is not None:
            return DumpReader(self.content, self.graph, self.dumped)
        if kernels == TFLM:
            return MicroInterpreter(self.content, self.graph, preserve=preserve)
        return Interpreter(self.content, self.graph, kernels=kernels, threads=threads, preserve=preserve)
