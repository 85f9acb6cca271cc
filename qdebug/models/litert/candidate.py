"""An opened `.tflite` candidate."""

from __future__ import annotations

from dataclasses import dataclass, replace
from weakref import WeakValueDictionary

from qdebug.graph.graph import Graph
from qdebug.models.kernels import DEVICE, TFLM
from qdebug.models.litert import trial
from qdebug.models.litert.dumped import Dumped, DumpReader
from qdebug.models.litert.interpreter import Interpreter
from qdebug.models.litert.micro import MicroInterpreter
from qdebug.models.litert.parse import parse
from qdebug.models.litert.runnable_part import PartInterpreter, RunnablePart, runnable_part

_PARSED: WeakValueDictionary[str, Graph] = WeakValueDictionary()
"""Graphs by the digest of their file, as long as somebody holds them: opened again, a file gives the same one."""


@dataclass(frozen=True, eq=False)
class Candidate:
    """An opened `.tflite` file."""

    content: bytes
    source: str
    graph: Graph
    dumped: Dumped | None = None
    """What a device computed, where that is to be compared."""
    part: RunnablePart | None = None
    """What LiteRT can run of the file, where that is not all of it."""

    @classmethod
    def open(cls, content: bytes, source: str) -> Candidate:
        """Parse the flatbuffer; it is tried before it is run. Raises ModelError where it is none."""
        digest = trial.watch(content)
        graph = _PARSED.get(digest)
        if graph is None:
            graph = _PARSED[digest] = parse(content, source)
        return cls(content, source, graph)

    def runnable(self) -> Candidate:
        """The same, cut before the ops that LiteRT has no kernel for, where it has some. ModelError: nothing runs."""
        part = runnable_part(self.content, self.graph, f"--candidate {self.source}")
        return self if part is None else replace(self, part=part, graph=replace(self.graph, tensors=part.graph.tensors))

    def lacks_output(self) -> str | None:
        """Why an output cannot be read: nobody runs what computes it, or the dump does not hold it."""
        if self.dumped is not None:
            lost = next(
                (key for key in self.graph.outputs if self.dumped.dump.lacks(key, self.dumped.samples) is not None),
                None,
            )
            return None if lost is None else f"the dump does not hold the output, tensor {lost}"
        if self.part is None:
            return None
        lost = next((key for key in self.graph.outputs if self.part.why_not(key) is not None), None)
        return None if lost is None else f"output {self.graph.tensors[lost].name} is {self.part.why_not(lost)}"

    def run_on(self, kernels: str = "xnnpack", *, threads: int | None = None, preserve: bool = True) -> Interpreter:
        """The file on one kernel family; with `preserve` every intermediate tensor can be read after a run."""
        if kernels == DEVICE and self.dumped is not None:
            return DumpReader(self.content, self.graph, self.dumped)
        if self.part is not None and kernels != TFLM:
            return PartInterpreter(self.part, kernels=kernels, threads=threads, preserve=preserve)
        if kernels == TFLM:
            return MicroInterpreter(self.content, self.graph, preserve=preserve)
        return Interpreter(self.content, self.graph, kernels=kernels, threads=threads, preserve=preserve)
