"""Layers to keep wider: convert with the layers of highest rank in float32, trace, and find the smallest set that does.

Who converts stands behind a protocol: TensorFlow's converter for Keras models and functions, litert-quantizer's recipes
for a float `.tflite` file.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from qdebug.align import Pair
from qdebug.cures.choice import reaches
from qdebug.cures.ranking import ranked
from qdebug.cures.search import smallest
from qdebug.errors import ModelError, QDebugError
from qdebug.graph.quantization import Array
from qdebug.models.litert import recipes
from qdebug.models.litert.candidate import Candidate
from qdebug.models.reference import selective
from qdebug.models.reference.base import Reference
from qdebug.models.reference.tflite_model import FileReference
from qdebug.record.cures import Cure
from qdebug.workflows.comparison import align_models
from qdebug.workflows.cure_trial import Bench
from qdebug.workflows.journal import Journal
from qdebug.workflows.opened import Opened

FLOAT32, INT16 = "float32", "int16"
IN_BETWEEN = ("quantize", "dequantize")


class Converter(Protocol):
    """Converts one reference, calibrated once."""

    calibrated: bytes
    """The float file that sets of layers are quantized from."""

    def convert(self, tensors: Sequence[str], kind: str) -> tuple[bytes, str | None]:
        """The int8 file in which the ops that make these tensors are `kind`, and its recipe. Raises ModelError."""

    def throughout(self) -> bytes | None:
        """The file with 16-bit activations throughout, where layers cannot have them alone. Raises ModelError."""


class ByTensorFlow:
    """TensorFlow's converter, for what Keras and TensorFlow hold."""

    def __init__(self, reference: Reference, representative: Sequence[Array], ends: tuple[str, str]) -> None:
        self.made = selective.calibrated(reference.model, representative, ends)
        self.calibrated = self.made.content

    def convert(self, tensors: Sequence[str], kind: str) -> tuple[bytes, str | None]:
        """As the protocol says; it leaves layers in float32 alone."""
        if kind != FLOAT32:
            raise ModelError("TensorFlow's converter gives 16-bit activations to all layers or to none")
        return self.made.without(tensors), None

    def throughout(self) -> bytes | None:
        """16-bit activations for every layer."""
        return self.made.wide()


class ByRecipe:
    """litert-quantizer, for a float `.tflite` file."""

    def __init__(self, reference: FileReference, representative: Sequence[Array], ends: tuple[str, str]) -> None:
        self.calibrated = bytes(reference.model)
        self.made = recipes.calibrated_file(self.calibrated, reference.file, representative, ends)

    def convert(self, tensors: Sequence[str], kind: str) -> tuple[bytes, str | None]:
        """As the protocol says."""
        recipe = self.made.recipe(tensors, None if kind == FLOAT32 else 16)
        return self.made.quantized(recipe), recipes.as_text(recipe)

    def throughout(self) -> bytes | None:
        """Nothing: layers have them alone."""
        return None


def converter_for(opened: Opened, representative: Sequence[Array]) -> Converter:
    """Who converts this reference; it is calibrated. Raises QDebugError."""
    graph = opened.candidate.graph
    first, last = (graph.tensors[keys[0]].dtype for keys in (graph.inputs, graph.outputs))
    ends = tuple(dtype if dtype in ("int8", "uint8") else "float32" for dtype in (first, last))
    if isinstance(opened.reference, FileReference):
        return ByRecipe(opened.reference, representative, (ends[0], ends[1]))
    return ByTensorFlow(opened.reference, representative, (ends[0], ends[1]))


@dataclass(eq=False)
class Wider:
    """The search for layers to keep wider."""

    bench: Bench
    converter: Converter
    limit: int
    """Most conversions."""
    tried: Callable[[Cure], None]
    """Told of each cure."""

    def __post_init__(self) -> None:
        self.names: dict[str, list[str]] = {}
        self.order: list[str] = []
        self.recipes: dict[str, str] = {}
        self.conversions = 0

    def plain(self, name: str) -> Cure:
        """Everything in int8 again, with ranges of the calibration."""
        found = self._attempt(name, "convert", [], lambda: self.converter.convert([], FLOAT32))
        self.tried(found)
        return found

    def run(self, plain: Cure) -> None:
        """Search: by the points that the layers of `plain`, a file in int8 alone, cost on the samples that choose."""
        content = self.bench.contents[plain.name]
        self._read_names(content)
        self.bench.step("measuring what each layer costs", 0, 0)
        run = self.bench.choosing.trace(content, handover=True).run
        groups = [[name for name in group if self.names.get(name)] for group in ranked(run)]
        spare = 1 if self.limit > 1 else 0
        found = smallest([group for group in groups if group], self._does, self.limit - spare)
        if not spare:
            return
        if isinstance(self.converter, ByRecipe):
            if found is not None:
                self._set(found, INT16)
        else:
            name = "16-bit activations throughout"
            self.tried(self._attempt(name, INT16, self.order, lambda: (self.converter.throughout() or b"", None)))

    def _does(self, layers: frozenset[str]) -> bool:
        found = self._set(layers, FLOAT32)
        return reaches(found.chosen_on, self.bench.target, FLOAT32, strictly=True)

    def _set(self, layers: Iterable[str], kind: str) -> Cure:
        chosen = [layer for layer in self.order if layer in set(layers)]
        tensors = [name for layer in chosen for name in self.names[layer]]
        what = "float32" if kind == FLOAT32 else "16-bit activations"
        found = self._attempt(f"{what}: {', '.join(chosen)}", kind, chosen,
                              lambda: self.converter.convert(tensors, kind))
        self.tried(found)
        return found

    def _attempt(self, name: str, kind: str, layers: Sequence[str], make: Callable[[], tuple[bytes, str | None]]
                 ) -> Cure:
        self.conversions += 1

        def made() -> bytes:
            content, recipe = make()
            if recipe is not None:
                self.recipes[name] = recipe
            return content

        return self.bench.attempt(name, kind, made, layers)

    def _read_names(self, content: bytes) -> None:
        """The layers, and the tensors that each of them makes, as the float file and the int8 file call them."""
        for one in (content, self.converter.calibrated):
            opened = dataclasses.replace(self.bench.choosing.opened, candidate=Candidate.open(one, "converted"))
            try:
                aligned = align_models(opened, Journal())
            except QDebugError:
                if one is content:
                    raise
                continue
            for pair in aligned.pairs:
                made = _made(pair, opened.candidate)
                if pair.op is None or not made:
                    continue
                if one is content:
                    self.order.append(pair.layer)
                known = self.names.setdefault(pair.layer, [])
                known += [name for name in made if name not in known]


def _made(pair: Pair, candidate: Candidate) -> list[str]:
    """Names of the tensors that the pair's ops make."""
    return [candidate.graph.tensors[key].name for op in pair.candidate_ops if op.kind not in IN_BETWEEN
            for key in op.outputs]
