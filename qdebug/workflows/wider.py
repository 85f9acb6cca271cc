"""Layers to keep wider: convert with the layers of highest rank in float32, trace, and find the smallest set that does.

Two converters do that: TensorFlow's converter for Keras models and functions, litert-quantizer's recipes
for a float `.tflite` file.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Self

from qdebug.align import Pair
from qdebug.cures.choice import reaches
from qdebug.cures.ranking import ranked
from qdebug.cures.search import smallest
from qdebug.errors import ModelError, QDebugError
from qdebug.graph.quantization import Array
from qdebug.models.litert import recipes
from qdebug.models.litert.candidate import Candidate
from qdebug.models.reference import selective
from qdebug.models.reference.tflite_model import FileReference
from qdebug.record.cures import Cure
from qdebug.workflows.comparison import align_models
from qdebug.workflows.cure_trial import Bench
from qdebug.workflows.journal import Journal
from qdebug.workflows.opened import Opened

FLOAT32, INT16 = "float32", "int16"
IN_BETWEEN = ("quantize", "dequantize")


@dataclass(frozen=True, eq=False)
class Converter(ABC):
    """Converts one reference, calibrated once."""

    made: selective.Calibrated | recipes.CalibratedFile
    """The float file that sets of layers are quantized from."""

    @abstractmethod
    def convert(self, tensors: Sequence[str], kind: str) -> tuple[bytes, str | None]:
        """The int8 file in which the ops that make these tensors are `kind`, and its recipe. Raises ModelError."""

    def throughout(self) -> bytes | None:
        """The file with 16-bit activations throughout, where layers cannot have them alone. Raises ModelError."""
        return None

    def with_float_outputs(self) -> Self | None:
        """The same calibration with outputs in float32; `None` where they are that already."""
        first, last = self.made.ends
        made = dataclasses.replace(self.made, ends=(first, FLOAT32))
        return None if last == FLOAT32 else dataclasses.replace(self, made=made)


@dataclass(frozen=True, eq=False)
class ByTensorFlow(Converter):
    """TensorFlow's converter, for what Keras and TensorFlow hold."""

    made: selective.Calibrated

    def convert(self, tensors: Sequence[str], kind: str) -> tuple[bytes, str | None]:
        """As the base says; it leaves layers in float32 alone."""
        if kind != FLOAT32:
            raise ModelError("TensorFlow's converter gives 16-bit activations to all layers or to none")
        return self.made.without(tensors), None

    def throughout(self) -> bytes | None:
        """16-bit activations for every layer."""
        return self.made.wide()


@dataclass(frozen=True, eq=False)
class ByRecipe(Converter):
    """litert-quantizer, for a float `.tflite` file."""

    made: recipes.CalibratedFile

    def convert(self, tensors: Sequence[str], kind: str) -> tuple[bytes, str | None]:
        """As the base says."""
        recipe = self.made.recipe(tensors, None if kind == FLOAT32 else 16)
        return self.made.quantized(recipe), recipes.as_text(recipe)


def converter_for(opened: Opened, representative: Sequence[Array]) -> Converter:
    """Who converts this reference; it is calibrated. Raises QDebugError."""
    graph = opened.candidate.graph
    types = (graph.tensors[keys[0]].dtype for keys in (graph.inputs, graph.outputs))
    first, last = (dtype if dtype in ("int8", "uint8") else FLOAT32 for dtype in types)
    reference = opened.reference
    if isinstance(reference, FileReference):
        return ByRecipe(recipes.calibrated_file(bytes(reference.model), reference.file, representative, (first, last)))
    return ByTensorFlow(selective.calibrated(reference.model, representative, (first, last)))


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
        self.last: frozenset[str] = frozenset()
        """Layers that make the outputs."""
        self.sets: dict[frozenset[str], float] = {}
        """Points that are lost with these layers in float32."""
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
        spare = min(2, self.limit - 1)
        found = smallest([group for group in groups if group], self._does, self.limit - spare)
        if found is None and spare > 1:
            self._open_end()
        if not spare:
            return
        if isinstance(self.converter, ByRecipe):
            if found is not None:
                self._set(found, INT16)
        else:
            name = "16-bit activations throughout"
            self.tried(self._attempt(name, INT16, self.order, lambda: (self.converter.throughout() or b"", None)))

    def _open_end(self) -> None:
        """The best set of layers so far and the last ones in float32, and the outputs too: their grid may cost."""
        converter = self.converter.with_float_outputs()
        if converter is None:
            return
        best = min(self.sets, key=lambda layers: self.sets[layers], default=frozenset[str]())
        self._set(best | self.last, FLOAT32, converter)

    def _does(self, layers: frozenset[str]) -> bool:
        found = self._set(layers, FLOAT32).chosen_on
        if found is not None and found.points is not None:
            self.sets[layers] = found.points
        return reaches(found, self.bench.target, FLOAT32, strictly=True)

    def _set(self, layers: Iterable[str], kind: str, opened: Converter | None = None) -> Cure:
        """Convert with these layers wider; `opened` is the converter that leaves the outputs in float32."""
        chosen = [layer for layer in self.order if layer in set(layers)]
        tensors = [name for layer in chosen for name in self.names[layer]]
        what = "float32" if kind == FLOAT32 else "16-bit activations"
        name = f"{what}: {', '.join(chosen)}" + (", and the outputs" if opened is not None else "")
        found = self._attempt(name, kind, chosen, lambda: (opened or self.converter).convert(tensors, kind))
        if opened is not None:
            found = dataclasses.replace(found, changes=["outputs: float32, no codes"])
        self.tried(found)
        return found

    def _attempt(
        self, name: str, kind: str, layers: Sequence[str], make: Callable[[], tuple[bytes, str | None]]
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
        for one in (content, self.converter.made.content):
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
                    if pair.candidate in opened.candidate.graph.outputs:
                        self.last |= {pair.layer}
                known = self.names.setdefault(pair.layer, [])
                known += [name for name in made if name not in known]


def _made(pair: Pair, candidate: Candidate) -> list[str]:
    """Names of the tensors that the pair's ops make."""
    return [
        candidate.graph.tensors[key].name
        for op in pair.candidate_ops
        if op.kind not in IN_BETWEEN
        for key in op.outputs
    ]
