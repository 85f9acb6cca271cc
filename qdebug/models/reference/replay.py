"""Run the frozen reference: its outputs, every paired tensor, and every region on the candidate's own inputs.

One TensorFlow graph holds the reference once (the cumulative pass), and a copy of each region whose inputs are what the
candidate's codes stand for (the local pass). All of it is one `session.run` per batch. It takes and brings real values;
`taken` makes codes of the candidate's own grid of them. Any tensor can also be fed, which is how handovers and repairs
run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qdebug.converter.weights import Weights
from qdebug.graph.code_counts import same_codes
from qdebug.graph.codes import Limits, dequantize, fake_quantized, gives, nearest, off_grid
from qdebug.graph.graph import Key, Op
from qdebug.graph.quantization import Array, FakeQuant, Grid
from qdebug.models.reference.frozen_graph import PASS_THROUGH, Frozen
from qdebug.models.reference.session import FrozenSession, engine_errors
from qdebug.models.tensorflow import load_tensorflow

OWN_BIAS, OWN_GAIN, BIASED = "own_bias:0", "own_gain:0", "own_biased:0"
"""In a copy of a region: the file's bias and gain, and the output of the weighted op with them in it."""


@dataclass(frozen=True, eq=False)
class Tap:
    """What to measure at one pair."""

    reference: Key
    candidate: Key
    region: tuple[Op, ...]
    inputs: tuple[tuple[Key, Key | None], ...]
    """(reference tensor, candidate tensor or None for a model input) where the region begins."""
    dtype: str
    grid: Grid | None = None
    """That of the candidate tensor; `None` for one that holds no codes."""
    limits: Limits | None = None
    """By channel: how near to a rounding boundary a value must be for its code to be in doubt."""
    ideal: bool = False
    """Whether the file rounds elsewhere than the reference: then the codes of unrounded arithmetic are measured too."""
    ideal_inputs: tuple[tuple[Key, Key | None], ...] | None = None
    """For `ideal`: where the region begins, with tensors that the converter requantized in place of the originals."""
    kept_grid: Grid | None = None
    """The grid on which unrounded arithmetic is put, where the kernel ignores that of its output."""
    weights: Weights | None = None
    """For `ideal`: the file's own kernel and bias, in place of what the reference computes them from."""
    fake_quant: FakeQuant | None = None
    """The FakeQuant in which the region ends, where its local pass is rounded outside of the graph."""
    measured_grid: bool = False
    """Whether to measure how far reference values lie off the candidate's grid and beyond its range."""

    dropped: frozenset[tuple[str, int]] = frozenset()
    """For `ideal`: constants that the file's op leaves out, as (op, number of its input); they are taken as 0."""
    may_be_infinite: bool = False
    """Whether the op is infinite at 0, which an input's code may stand for: the last code of the grid is right there,
    and the local error counts NaN alone as not finite."""
    cut: tuple[float, float] | None = None
    """What an activation lets through that the file applies here, and the reference behind a change of shape."""
    unrounded: bool = False
    """Whether the local error leaves out the region's FakeQuants: they are on grids of the reference's own."""

    @property
    def first(self) -> bool:
        """Whether the region begins at the model's inputs: its local error is its cumulative error."""
        return not self.ideal and not self.unrounded and all(source is None for _, source in self.inputs)


@dataclass(frozen=True)
class Reshaped:
    """A pair whose tensors hold what those before them do, in another shape."""

    reference: Key
    candidate: Key
    of: tuple[Key, Key | None]
    """(reference, candidate) of the tensors before."""


@dataclass(frozen=True, eq=False)
class Taken:
    """One batch at one pair. Codes where the candidate holds codes, real values elsewhere."""

    cumulative: Array
    local: Array | None
    doubtful: Array | None
    """Per element, whether rounding alone can change the code that exact arithmetic gives."""
    ideal: Array | None
    residue: int = 0
    """Sum over elements of (1024 x distance to the grid in LSB)^2, rounded per element."""
    clipped: int = 0
    """Elements whose reference value lies more than one step beyond the candidate's range."""
    non_finite: tuple[int, int] = (0, 0)
    """Of the values that codes were made of, cumulative and local: those that are NaN or infinite."""


Fetched = Sequence[dict[str, Any]]
"""What a run brings of every tap, by name, before `Replay.taken` makes codes of it."""


@dataclass(frozen=True, eq=False)
class _Call:
    """One way through the graph."""

    run: Callable[..., Any]
    fed: Sequence[Key]
    """Candidate tensors to feed, after the model's inputs."""
    names: Sequence[Sequence[str]]
    """Of every tap, what the run brings, after the model's outputs."""


class Replay(FrozenSession):
    """A session over the frozen reference with the given taps."""

    def __init__(
        self,
        frozen: Frozen,
        taps: Sequence[Tap],
        grids: Mapping[Key, Grid | None],
        *,
        reshaped: Sequence[Reshaped] = (),
        threads: int | None = None,
    ) -> None:
        super().__init__(frozen, threads=threads)
        self.taps, self.grids = tuple(taps), dict(grids)
        self._nodes = {node.name: node for node in frozen.definition.node}
        self._fed: dict[Key, Any] = {}
        self._shaped: dict[tuple[Key, str], Any] = {}
        self._at_input: dict[int, int] = {}
        """Number of a tap that only rounds a model input -> number of that input: no session is needed for it."""
        with self.graph.as_default():
            fetches = [_cut(tap, self._tap(number, tap)) for number, tap in enumerate(self.taps)]
        self._outputs = list(frozen.graph.outputs)
        self._given = self._given_alike(reshaped)
        begins = {number for number, tap in enumerate(self.taps) if self._begins_alike(tap)}
        self._whole = self._compiled(fetches, self._fed)
        self._shorter = (
            self._compiled(
                [
                    _cut(tap, self._whole_run(tap)) if number in begins else fetches[number]
                    for number, tap in enumerate(self.taps)
                ],
                {
                    source
                    for number, tap in enumerate(self.taps)
                    if number not in begins
                    for _, source in (*tap.inputs, *(tap.ideal_inputs or ()))
                },
            )
            if begins
            else self._whole
        )

    def run(self, inputs: Sequence[Array], codes: Mapping[Key, Array]) -> tuple[list[Array], Fetched]:
        """Run one batch: the model outputs in real values, and what `taken` needs of every tap.

        `codes` are the candidate's tensors as LiteRT gives them, real values where it holds no codes. Where those at
        the model's inputs are the reference's own, so are the layers that read nothing else: these are run once.
        """
        alike = all(
            gives(inputs[self._at_input[number]], fake_quant, codes[first])
            and all(same_codes(codes[first], codes[key]) for _, key in others)
            for number, (fake_quant, ((_, first), *others)) in self._given.items()
        )
        call = self._shorter if alike else self._whole
        with engine_errors("TensorFlow cannot run the reference"):
            found = iter(call.run(*inputs, *(self._real(key, codes[key]) for key in call.fed)))
        outputs = [next(found) for _ in self._outputs]
        fetched: list[dict[str, Any]] = [{name: next(found) for name in names} for names in call.names]
        for number, place in self._at_input.items():
            fetched[number]["unrounded"] = inputs[place]
            if alike and number in self._given:
                fetched[number]["codes"] = codes[self.taps[number].candidate]
        return outputs, fetched

    def taken(self, fetched: Fetched) -> Iterator[Taken]:
        """What was taken at every tap in one run, tap after tap; `fetched` is emptied as it is used up.

        It needs no session and may go on in another thread.
        """
        for tap, entry in zip(self.taps, fetched, strict=True):
            yield _as_taken(tap, entry)
            entry.clear()

    # -- building the graph --------------------------------------------------------------------------

    def _tap(self, number: int, tap: Tap) -> dict[str, Any]:
        total = self.graph.get_tensor_by_name(tap.reference)
        local, before = self._region(f"local{number}", tap, skip_fake_quant=tap.unrounded)
        if tap.grid is None:
            held = (
                {
                    "ideal": self._region(
                        f"ideal{number}", tap, weights=tap.weights, dropped=tap.dropped, skip_fake_quant=tap.unrounded
                    )[0]
                }
                if tap.ideal
                else {}
            )
            return {"cumulative": total, "local": local, **held}
        if tap.fake_quant is not None and before.name in self.frozen.graph.inputs:
            self._at_input[number] = self.frozen.graph.inputs.index(before.name)
            return {}
        if tap.fake_quant is not None:
            return {"unrounded": before} if tap.first else {"cumulative": total, "unrounded": before}
        entry = {"cumulative": total} if tap.first else {"cumulative": total, "local": local}
        if tap.ideal:
            designed = tap if tap.ideal_inputs is None else replace(tap, inputs=tap.ideal_inputs)
            entry["exact"] = self._region(f"ideal{number}", designed, skip_fake_quant=True, weights=tap.weights)[0]
        elif tap.limits is not None:
            entry["exact"] = before
        return entry

    def _whole_run(self, tap: Tap) -> dict[str, Any]:
        """What to take of a tap in the reference's own run, which stands for the local pass too."""
        last = self._nodes[str(tap.reference).rpartition(":")[0]]
        before = _tensor_name(last.input[0]) if last.op.startswith("FakeQuant") else tap.reference
        names = (
            {"unrounded": before}
            if tap.fake_quant is not None
            else {"cumulative": tap.reference} | ({} if tap.limits is None else {"exact": before})
        )
        return {name: self.graph.get_tensor_by_name(tensor) for name, tensor in names.items()}

    def _given_alike(self, reshaped: Sequence[Reshaped]) -> dict[int, tuple[FakeQuant, list[tuple[Key, Key]]]]:
        """Model inputs whose FakeQuant has exactly the candidate's scale and zero point, with what only reshapes them.

        By number of the tap: its FakeQuant, and the tensors that hold its codes, each as (reference, candidate).
        """
        given: dict[int, tuple[FakeQuant, list[tuple[Key, Key]]]] = {}
        for number in self._at_input:
            tap = self.taps[number]
            assert tap.fake_quant is not None
            assert tap.grid is not None
            (scale,), (zero_point,) = tap.fake_quant.grid
            if (np.float32(scale), zero_point) == (np.float32(tap.grid.scale), tap.grid.zero_point):
                given[number] = tap.fake_quant, [(tap.reference, tap.candidate)]
        for one in reshaped:
            for _, pairs in given.values():
                if one.of in pairs:
                    pairs.append((one.reference, one.candidate))
        return given

    def _begins_alike(self, tap: Tap) -> bool:
        """Whether a tap's local pass is the reference's own run where the codes at the model's inputs are its own."""
        held = {pair for _, pairs in self._given.values() for pair in pairs}
        return (
            tap.grid is not None
            and not tap.ideal
            and not tap.unrounded
            and bool(tap.inputs)
            and all(entry in held for entry in tap.inputs)
        )

    def _compiled(self, fetches: Sequence[Mapping[str, Any]], fed: Collection[Key | None]) -> _Call:
        """A callable: `Session.run` spends milliseconds in Python on some hundred fetches."""
        wanted = self._outputs + [tensor for entry in fetches for tensor in entry.values()]
        keys = [key for key in self._fed if key in fed]
        run = self._session.make_callable(wanted, [*self.frozen.graph.inputs, *(self._fed[key] for key in keys)])
        return _Call(run, keys, [list(entry) for entry in fetches])

    def _source(self, key: Key) -> Any:
        """The candidate's tensor `key` as real values in the graph, fed in every run."""
        tf = load_tensorflow().tf
        if key not in self._fed:
            self._fed[key] = tf.compat.v1.placeholder(tf.float32, name=f"candidate_{key}")
        return self._fed[key]

    def _real(self, key: Key, values: Array) -> Array:
        grid = self.grids[key]
        return np.asarray(values, np.float32) if grid is None else dequantize(values, *grid)

    def _region(
        self,
        scope: str,
        tap: Tap,
        *,
        skip_fake_quant: bool = False,
        weights: Weights | None = None,
        dropped: frozenset[tuple[str, int]] = frozenset(),
    ) -> tuple[Any, Any]:
        """Copy the region with the candidate's inputs; returns its end and what stands before its last rounding.

        With `weights`, the core computes with the file's kernel and bias, and what they were folded from is left out;
        constants in `dropped` are taken as 0.
        """
        tf = load_tensorflow().tf
        folded = weights.folded if weights is not None else {}
        core = weights.core if weights is not None else None
        inside = {
            op.name: op
            for op in tap.region
            if not (skip_fake_quant and op.kind == "fake_quant") and op.name not in folded
        }
        skipped = {op.name for op in tap.region if op.name not in inside}
        starts = dict(tap.inputs)
        mapped: dict[str, Any] = {}

        def resolve(name: str) -> str:
            name = _tensor_name(name)
            while True:
                node = name.rpartition(":")[0]
                passed = self._nodes[node].op in PASS_THROUGH or node in skipped
                if name in starts or node in inside or not passed:
                    return name
                name = _tensor_name(self._nodes[node].input[folded.get(node, 0)])

        def attach(name: str) -> str:
            name = resolve(name)
            if name not in starts and name.rpartition(":")[0] in inside:
                return BIASED if core is not None and name == core.output else name
            alias = "outside_" + name.replace("/", "_").replace(":", "_")
            source = starts.get(name)
            if f"{alias}:0" not in mapped:
                given = self.graph.get_tensor_by_name(name)
                mapped[f"{alias}:0"] = given if source is None else self._fed_as(source, given)
            return f"{alias}:0"

        definition = tf.compat.v1.GraphDef(
            versions=self.frozen.definition.versions, library=self.frozen.definition.library
        )
        for op in tap.region:
            if op.name in inside:
                node = definition.node.add()
                node.CopyFrom(self._nodes[op.name])
                kept = [
                    _own_constant(weights, op.name, number, mapped)
                    or ((op.name, number) in dropped and _nothing(mapped))
                    or attach(name)
                    for number, name in enumerate(node.input)
                    if not name.startswith("^")
                ]
                del node.input[:]
                node.input.extend(kept)
                if op is core:
                    mapped.update(_own_bias(definition, node, weights))
        end = attach(str(tap.reference))
        wanted = [] if end in mapped else [end]
        last = self._nodes[str(tap.reference).rpartition(":")[0]]
        before = attach(last.input[0]) if last.op.startswith("FakeQuant") and not skip_fake_quant else end
        wanted += [before] if before not in mapped and before != end else []
        found = (
            dict(
                zip(
                    wanted,
                    tf.import_graph_def(definition, input_map=mapped, return_elements=wanted, name=scope),
                    strict=True,
                )
            )
            if definition.node
            else {}
        )
        found.update(mapped)
        shape = self.graph.get_tensor_by_name(tap.reference).shape
        for tensor in (found[end], found[before]):
            if tensor.shape.rank is None:
                tensor.set_shape(shape)
        return found[end], found[before]

    def _fed_as(self, source: Key, like: Any) -> Any:
        """The candidate's tensor `source` in rank and type of the reference tensor that it stands for."""
        if (source, like.name) not in self._shaped:
            self._shaped[source, like.name] = self._cast(self._reshaped(self._source(source), like), like)
        return self._shaped[source, like.name]

    @staticmethod
    def _cast(value: Any, like: Any) -> Any:
        """A candidate's tensor in the type that the reference's ops take: a truth value, say."""
        return value if value.dtype == like.dtype else load_tensorflow().tf.cast(value, like.dtype)

    @staticmethod
    def _reshaped(value: Any, like: Any) -> Any:
        """Give a candidate's tensor the reference tensor's rank (a reshape may be missing on one side)."""
        tf = load_tensorflow().tf
        if like.shape.rank is None:
            return value
        sizes = [-1 if size is None else int(size) for size in like.shape]
        if sizes.count(-1) > 1:
            return tf.reshape(value, tf.shape(like))
        return tf.reshape(value, sizes)


def _own_constant(weights: Weights | None, node: str, number: int, mapped: dict[str, Any]) -> str | None:
    """The file's own constant for one input of a node, where it has one; its value goes into `mapped`."""
    held = weights.constants.get((node, number)) if weights is not None else None
    if held is None:
        return None
    name = f"own_{len(mapped)}:0"
    mapped[name] = load_tensorflow().tf.constant(held)
    return name


def _nothing(mapped: dict[str, Any]) -> str:
    """A constant 0 in `mapped`."""
    mapped["nothing:0"] = load_tensorflow().tf.constant(0.0)
    return "nothing:0"


def _own_bias(definition: Any, node: Any, weights: Weights | None) -> dict[str, Any]:
    """Add nodes that add the file's bias to the output of a weighted op (and rescale it); the values that they use."""
    tf = load_tensorflow().tf
    assert weights is not None
    held = {OWN_BIAS: tf.constant(weights.bias)}
    steps = [("AddV2", OWN_BIAS)]
    if weights.gain is not None:
        held[OWN_GAIN] = tf.constant(weights.gain)
        steps.append(("Mul", OWN_GAIN))
    given = f"{node.name}:0"
    for number, (kind, constant) in enumerate(steps):
        added = definition.node.add()
        added.name, added.op = BIASED.rpartition(":")[0] if number + 1 == len(steps) else "own_sum", kind
        added.attr["T"].type = tf.float32.as_datatype_enum
        added.input.extend([given, constant])
        given = f"{added.name}:0"
    return held


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _as_taken(tap: Tap, entry: Mapping[str, Any]) -> Taken:
    if tap.grid is None:
        return Taken(entry["cumulative"], entry["local"], None, entry.get("ideal"))
    if "codes" in entry:  # (at an input only rounding itself can be in doubt, and it came out alike)
        return Taken(entry["codes"], entry["codes"], None, None)
    grid, exact = (*tap.grid, tap.dtype), None
    if tap.fake_quant is not None and tap.limits is not None:
        local = exact = fake_quantized(entry["unrounded"], tap.fake_quant, tap.limits)
        cumulative = nearest(entry["cumulative"], *grid) if "cumulative" in entry else local
    else:
        cumulative = nearest(entry["cumulative"], *grid)
        local = nearest(entry["local"], *grid) if "local" in entry else cumulative
    if "exact" in entry:
        exact = nearest(entry["exact"], *(tap.kept_grid or tap.grid), tap.dtype, limits=tap.limits)
    residue, clipped = off_grid(entry["cumulative"], *grid) if tap.measured_grid else (0, 0)
    return Taken(
        cumulative.codes,
        local.codes,
        exact.doubtful if exact is not None else None,
        exact.codes if exact is not None and tap.ideal else None,
        residue,
        clipped,
        (cumulative.non_finite, _not_finite(tap, entry, local.non_finite)),
    )


def _cut(tap: Tap, fetched: dict[str, Any]) -> dict[str, Any]:
    """What is fetched at a tap, with the file's activation applied."""
    if tap.cut is None:
        return fetched
    tf = load_tensorflow().tf
    return {name: tf.clip_by_value(tensor, *tap.cut) for name, tensor in fetched.items()}


def _not_finite(tap: Tap, entry: Mapping[str, Any], counted: int) -> int:
    """Values of the local pass that no code stands for, of those that were counted as NaN or infinite."""
    if not counted or not tap.may_be_infinite or "local" not in entry:
        return counted
    return int(np.count_nonzero(np.isnan(entry["local"])))
