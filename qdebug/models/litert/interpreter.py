"""Run the candidate: LiteRT with every intermediate tensor kept, in batches, on the chosen kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Key, Tensor
from qdebug.graph.quantization import CODE_RANGES, Array
from qdebug.models.kernels import RESOLVERS, Kernels
from qdebug.models.litert import trial
from qdebug.models.litert.free_batch import with_free_batch
from qdebug.models.litert.op_names import REMOVES_FOREIGN, is_foreign
from qdebug.models.litert.open_shapes import check_shapes
from qdebug.models.quiet import quietly

FEW = 7
"""Samples on which it is seen that the outputs grow with the batch."""

WHOLE_CODES = ("int8", "uint8", "int16")
"""Types of codes that LiteRT hands out one by one, not packed."""


class Interpreter:
    """One LiteRT interpreter for one kernel family, allocated for one batch size at a time."""

    def __init__(
        self,
        content: bytes,
        graph: Graph,
        *,
        kernels: str = "xnnpack",
        threads: int | None = None,
        preserve: bool = True,
        role: str = "candidate",
    ) -> None:
        self.graph, self.kernels, self.preserve, self.role = graph, kernels, preserve, role
        self.content, self.threads = content, threads
        trial.check(content, kernels, role=role)
        check_shapes(graph, content, kernels, role=role)
        self.running = content
        """What is run: the model as given, or the copy with a free batch."""
        self.rewritten = False
        """Whether a copy with a free batch has been tried."""
        self._native = self._open(content)
        self.batch = 0
        self.resizable = True
        self.grows = False
        """Whether the outputs have been seen to grow with the batch."""
        self.allocate(1)

    def allocate(self, batch: int) -> bool:
        """Set the batch size; False where the model does not take it (the batch is then 1)."""
        if batch == self.batch:
            return True
        try:
            self._resize(batch)
        except (RuntimeError, ValueError) as error:
            if batch == 1 and self._frees_built_in():
                return True
            if batch == 1 and self.built_in > 1:
                raise ModelError(
                    f"the {self.role} has a batch of {self.built_in} built in, and LiteRT cannot run it "
                    f"on one sample: {_words(error)}; convert it with a free batch, or with one of 1",
                    details=str(error),
                ) from error
            if batch == 1:
                raise self._refusal("cannot prepare", error) from error
            if not self.rewritten and self._rewrite():
                return self.allocate(batch)
            self.resizable = False
            self._reopen(self.content)
            return False
        self.batch = batch
        return True

    def _resize(self, batch: int) -> None:
        with quietly():
            for key in self.graph.inputs:
                shape = self.graph.tensors[key].shape
                if shape and (batch != 1 or self.batch or self.built_in > 1):
                    self._native.resize_tensor_input(key, [batch, *shape[1:]])
            self._native.allocate_tensors()
        if batch > FEW and not self.grows:  # (what is seen on few holds for many)
            self._resize(FEW)
            self._resize(batch)
        elif batch > 1 and not self.grows:
            zeros = [
                np.zeros((batch, *tensor.shape[1:]), tensor.dtype)
                for tensor in (self.graph.tensors[key] for key in self.graph.inputs)
            ]
            if any(len(output) % batch for output in self._outputs(zeros)):  # shapes may be known after a run only
                raise RuntimeError("an output does not grow with the batch")
            self.grows = True

    def _reopen(self, content: bytes) -> None:
        self._native, self.running = self._open(content), content
        self.batch, self.grows = 0, False
        self.allocate(1)

    def _rewrite(self) -> bool:
        """Go on with a copy of the model whose batch is free, if it gives the same results on random samples."""
        self.rewritten = True
        free = with_free_batch(self.content)
        if free is None:
            return False
        samples = self._random_samples(2)
        self._reopen(self.content)
        single = self._one_by_one(samples)
        try:
            self._reopen(free)
            self._resize(2)
            self.batch = 2
            both = self._outputs(samples)
        except (RuntimeError, ValueError, ModelError):
            return False
        return all(map(np.array_equal, single, both))

    @property
    def built_in(self) -> int:
        """The batch that stands in the file's own inputs; 1 where it is free."""
        return max((shape[0] for key in self.graph.inputs if (shape := self.graph.tensors[key].shape)), default=1)

    def _frees_built_in(self) -> bool:
        """Go on with a copy without the built-in batch, one sample at a time, if it gives the same results."""
        free = with_free_batch(self.content) if not self.rewritten and self.built_in > 1 else None
        self.rewritten = True
        if free is None:
            return False
        samples = self._random_samples(self.built_in)
        self._native = self._open(self.content)
        try:
            with quietly():
                self._native.allocate_tensors()
            whole = self._outputs(samples)
            self._native, self.running, self.batch = self._open(free), free, 0
            self._resize(1)
            single = self._one_by_one(samples)
        except (RuntimeError, ValueError):
            return False
        self.batch = 1
        return all(map(np.array_equal, single, whole))

    def _random_samples(self, count: int) -> list[Array]:
        """So many random samples, in the types of the inputs."""
        rng = np.random.default_rng(0)
        return [_random(rng, self.graph.tensors[key], count) for key in self.graph.inputs]

    def _one_by_one(self, samples: Sequence[Array]) -> list[Array]:
        """The outputs on these samples, each run alone."""
        rows = [self._outputs([array[n : n + 1] for array in samples]) for n in range(len(samples[0]))]
        return [np.concatenate(parts) for parts in zip(*rows, strict=True)]

    def _outputs(self, fed: Sequence[Array]) -> list[Array]:
        for key, value in zip(self.graph.inputs, fed, strict=True):
            self._native.set_tensor(key, value)
        self._native.reset_all_variables()
        self._native.invoke()
        return [self._native.get_tensor(key) for key in self.graph.outputs]

    def feed(self, values: Sequence[Array]) -> list[Array]:
        """Turn real values into what each model input takes (round and clip where it holds codes)."""
        fed = []
        for key, value in zip(self.graph.inputs, values, strict=True):
            tensor = self.graph.tensors[key]
            shape = (len(value), *tensor.shape[1:])
            fed.append(np.ascontiguousarray(tensor.codes(value)).reshape(shape))
        return fed

    def run(self, values: Sequence[Array]) -> None:
        """Invoke on one batch of real inputs, of the size that is allocated."""
        for key, fed in zip(self.graph.inputs, self.feed(values), strict=True):
            self._native.set_tensor(key, fed)
        try:
            self._native.reset_all_variables()  # a sample must not see the state that the one before it left
            self._native.invoke()
        except RuntimeError as error:
            raise self._refusal("fails while running", error) from error

    def get(self, key: Key) -> Array:
        """A copy of a tensor after `run`; raises KeyError where LiteRT does not keep it.

        Raises ModelError where its values are no codes of the type that the file gives them: some ops set another.
        """
        try:
            value: Array = self._native.get_tensor(key)
        except ValueError as error:
            try:
                value = without_values(self._native, int(str(key)))
            except ValueError:
                raise KeyError(key) from error
        tensor = self.graph.tensors[key]
        if tensor.dtype in WHOLE_CODES and value.dtype != tensor.dtype:
            raise ModelError(
                f"the {self.role} holds tensor {tensor.name!r} in {tensor.dtype}, and LiteRT computes "
                f"{value.dtype} there: a damaged file, convert the model again"
            )
        return value

    def why_not(self, key: Key) -> str | None:  # noqa: ARG002 a dump knows more
        """Why a tensor cannot be read, where more is known than that it is not kept."""
        return None

    def delegated(self) -> frozenset[Key]:
        """Tensors that the XNNPACK delegate computes, on its kernels; all others come from builtin kernels."""
        if self.kernels != Kernels.XNNPACK:
            return frozenset()
        details = self._native._get_ops_details()  # the only way to see the delegate's partitions
        return frozenset(int(key) for op in details if op["op_name"] == "DELEGATE" for key in op["outputs"])

    def _open(self, content: bytes) -> Any:
        try:
            return open_native(content, self.kernels, self.threads, self.preserve)
        except (RuntimeError, ValueError) as error:
            raise self._refusal("cannot open", error) from error

    def _refusal(self, doing: str, error: Exception) -> ModelError:
        """LiteRT's own words as an error, and the kernels that open the file."""
        return ModelError(
            f"LiteRT {doing} the {self.role} on the {self.kernels} kernels: {_words(error)}{self._who_opens()}",
            details=str(error),
        )

    def _who_opens(self) -> str:
        """The kernels that open a file which one family refuses, as the end of a message."""
        opened = trial.others_that_run(self.content, self.kernels)
        if not opened:
            foreign = sorted({op.raw for op in self.graph.ops if is_foreign(op.raw)})
            return "; no kernel family opens it: " + (
                f"it holds {', '.join(foreign)}, which LiteRT has no kernel for; {REMOVES_FOREIGN}"
                if foreign
                else "convert the model again"
            )
        option = "--kernels" if self.role == "candidate" else "--reference-kernels"
        return "; " + " or ".join(f"{option} {family}" for family in opened) + " opens it"


def read_tensors(interpreter: Interpreter, inputs: Sequence[Array], keys: Sequence[Key]) -> dict[Key, Array]:
    """Run one batch of real `inputs`, one by one where the model's batch is fixed, and read the tensors `keys`."""
    count = len(inputs[0])
    if interpreter.resizable and interpreter.allocate(count):
        interpreter.run(inputs)
        return {key: interpreter.get(key) for key in keys}
    rows: dict[Key, list[Array]] = {key: [] for key in keys}
    for number in range(count):
        interpreter.run([array[number : number + 1] for array in inputs])
        for key in keys:
            rows[key].append(interpreter.get(key))
    ahead = interpreter.graph.ahead
    return {key: together(entries, ahead.get(key, 1)) for key, entries in rows.items()}


def together(entries: Sequence[Array], ahead: int) -> Array:
    """One sample after the other, as a batch of them would be; `ahead` values of each stand before their axis."""
    if ahead == 1:
        return np.concatenate(entries)
    shape = entries[0].shape
    axis = next((axis for axis, size in enumerate(shape) if size == 1 and math.prod(shape[:axis]) == ahead), 0)
    whole = np.stack([entry.reshape(ahead, -1) for entry in entries], axis=1)
    return whole.reshape(*shape[:axis], shape[axis] * len(entries), *shape[axis + 1 :])


def _random(rng: np.random.Generator, tensor: Tensor, count: int) -> Array:
    """Random values of an input's own type."""
    shape = (count, *tensor.shape[1:])
    if np.issubdtype(np.dtype(tensor.dtype), np.integer):
        low, high = CODE_RANGES.get(tensor.dtype, (0, 2))
        return rng.integers(low, high, shape).astype(tensor.dtype)
    return rng.normal(size=shape).astype(tensor.dtype)


def without_values(native: Any, number: int) -> Array:
    """The array of a tensor that has no values on this batch, which LiteRT does not hand out; else ValueError."""
    for detail in native.get_tensor_details():
        if detail["index"] == number and 0 in list(detail["shape"]):
            return np.empty(tuple(map(int, detail["shape"])), detail["dtype"])
    raise ValueError(f"tensor {number} is not kept")


def open_native(content: bytes, kernels: str, threads: int | None = None, preserve: bool = False) -> Any:
    """LiteRT's own interpreter of a file on one kernel family. Raises RuntimeError, ValueError in its words."""
    from ai_edge_litert.interpreter import Interpreter as Native
    from ai_edge_litert.interpreter import OpResolverType

    with quietly():
        return Native(
            model_content=content,
            experimental_op_resolver_type=getattr(OpResolverType, RESOLVERS[kernels]),
            num_threads=threads,
            experimental_preserve_all_tensors=preserve,
        )


def _words(error: BaseException) -> str:
    """The runtime's own words in one line."""
    text = str(error).replace("Node number", "\nNode number")
    return "; ".join(line.strip() for line in text.splitlines() if line.strip())
