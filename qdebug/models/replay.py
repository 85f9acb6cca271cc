"""Run the frozen reference: its outputs, every paired tensor, and every region on the candidate's own inputs.

One TensorFlow graph holds the reference once (the cumulative pass), and a copy of each region whose inputs are the
candidate's codes, dequantized inside the graph (the local pass). All of it is one `session.run` per batch, and codes
come back as integers of the candidate's own grid. Any tensor can also be fed, which is how handovers and repairs run.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from qdebug.boundaries import codes_and_doubts
from qdebug.graph import Key, Op
from qdebug.models.frozen import PASS_THROUGH, Frozen
from qdebug.models.tensorflow import load_tensorflow
from qdebug.quant import CODE_RANGES, Array, FakeQuant, Float
from qdebug.weights import Weights

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
    scale: float | None = None
    """Scale and zero point of the candidate tensor; `None` for one that holds no codes."""
    zero_point: int = 0
    margin: Float | None = None
    """Per channel, in LSB: how near to a rounding boundary a value must be for its code to be in doubt."""
    ideal: bool = False
    """Whether the file rounds elsewhere than the reference: then the codes of unrounded arithmetic are measured too."""
    ideal_inputs: tuple[tuple[Key, Key | None], ...] | None = None
    """For `ideal`: where the region begins, with tensors that the converter requantized in place of the originals."""
    kept_grid: tuple[float, int] | None = None
    """Scale and zero point on which unrounded arithmetic is put, where the kernel ignores those of its output."""
    weights: Weights | None = None
    """For `ideal`: the file's own kernel and bias, in place of what the reference computes them from."""
    on_grid: bool = False
    """Whether the reference ends in a FakeQuant on the candidate's own int8 grid."""
    fake_quant: FakeQuant | None = None
    """The FakeQuant in which the reference ends, where it is replayed outside of the graph."""
    measured_grid: bool = False
    """Whether to measure how far reference values lie off the candidate's grid and beyond its range."""

    unrounded: bool = False
    """Whether the local error leaves out the region's FakeQuants: they are on grids of the reference's own."""

    @property
    def first(self) -> bool:
        """Whether the region begins at the model's inputs: its local error is its cumulative error."""
        return not self.ideal and not self.unrounded and all(source is None for _, source in self.inputs)


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
    """Elements whose reference value lies more than half a step beyond the candidate's range."""


Fetched = Sequence[dict[str, Array]]
"""What a run brings of every tap, by name, before `Replay.taken` makes codes of it."""


@dataclass(frozen=True)
class Grid:
    """Scale and zero point under which a candidate tensor is fed to the reference."""

    dtype: str
    scale: float | None
    zero_point: int


class Replay:
    """A session over the frozen reference with the given taps."""

    def __init__(self, frozen: Frozen, taps: Sequence[Tap], grids: Mapping[Key, Grid], *,
                 threads: int | None = None) -> None:
        tf = load_tensorflow().tf
        self.frozen, self.taps, self.grids = frozen, tuple(taps), dict(grids)
        self.graph = tf.Graph()
        self._nodes = {node.name: node for node in frozen.definition.node}
        self._fed: dict[Key, Any] = {}
        with self.graph.as_default():
            tf.import_graph_def(frozen.definition, name="")
            self._fetches = [self._tap(number, tap) for number, tap in enumerate(self.taps)]
        settings = tf.compat.v1.ConfigProto(intra_op_parallelism_threads=threads or 0,
                                            inter_op_parallelism_threads=threads or 0)
        self._session = tf.compat.v1.Session(graph=self.graph, config=settings)
        self._outputs = list(frozen.graph.outputs)
        self._names = [list(entry) for entry in self._fetches]
        wanted = self._outputs + [tensor for entry in self._fetches for tensor in entry.values()]
        # (a callable: Session.run spends milliseconds in Python on some hundred fetches)
        self._call = self._session.make_callable(wanted, [*frozen.graph.inputs, *self._fed.values()])

    def close(self) -> None:
        """Give the session's memory back."""
        self._session.close()

    def run(self, inputs: Sequence[Array], codes: Mapping[Key, Array]) -> tuple[list[Array], Fetched]:
        """Run one batch: the model outputs in real values, and what `taken` needs of every tap."""
        found = iter(self._call(*inputs, *(codes[key] for key in self._fed)))
        outputs = [next(found) for _ in self._outputs]
        return outputs, [{name: next(found) for name in names} for names in self._names]

    def taken(self, fetched: Fetched) -> Iterator[Taken]:
        """What was taken at every tap in one run, tap after tap; `fetched` is emptied as it is used up.

        It needs no session and may go on in another thread.
        """
        for tap, entry in zip(self.taps, fetched, strict=True):
            yield _as_taken(tap, entry)
            entry.clear()

    def outputs(self, inputs: Sequence[Array], fed: Mapping[Key, Array] | None = None) -> list[Array]:
        """Model outputs, with the reference tensors in `fed` (real values) taken as given."""
        return self.fetch(self._outputs, inputs, fed)

    def fetch(self, keys: Sequence[Key], inputs: Sequence[Array],
              fed: Mapping[Key, Array] | None = None) -> list[Array]:
        """Real values of any reference tensors, with those in `fed` taken as given."""
        feeds = dict(zip(self.frozen.graph.inputs, inputs, strict=True))
        feeds.update(fed or {})
        return list(self._session.run(list(keys), feeds))

    # -- building the graph --------------------------------------------------------------------------

    def _tap(self, number: int, tap: Tap) -> dict[str, Any]:
        total = self.graph.get_tensor_by_name(tap.reference)
        local, before = self._region(f"local{number}", tap, skip_fake_quant=tap.unrounded)
        if tap.scale is None:
            held = {"ideal": self._region(f"ideal{number}", tap, weights=tap.weights,
                                          skip_fake_quant=tap.unrounded)[0]} if tap.ideal else {}
            return {"cumulative": total, "local": local, **held}
        tf = load_tensorflow().tf
        if tap.fake_quant is not None:
            return {"unrounded": before} | ({} if tap.first else
                                            {"cumulative": self._codes(total, tap, on_grid=tap.on_grid)})
        entry = {"cumulative": self._codes(total, tap, on_grid=tap.on_grid)}
        entry["local"] = entry["cumulative"] if tap.first else self._codes(local, tap, on_grid=tap.on_grid)
        designed = tap if tap.ideal_inputs is None else replace(tap, inputs=tap.ideal_inputs)
        exact = self._region(f"ideal{number}", designed, skip_fake_quant=True, weights=tap.weights)[0] \
            if tap.ideal else before
        if tap.ideal:
            scale, zero_point = tap.kept_grid or (tap.scale, tap.zero_point)
            entry["ideal"] = self._codes(exact, replace(tap, scale=scale, zero_point=zero_point))
        if tap.margin is not None:
            near = np.minimum(tap.margin, 0.5)  # |distance - 1/2| <= near, told from the distance's square
            half, margin = 0.25, np.where(near < 0.5, near * (1 - near), 1.0)
            if tap.ideal or exact is local:  # the reference does not round here
                steps = exact / np.float32(tap.kept_grid[0] if tap.kept_grid else tap.scale)
                off = tf.math.squared_difference(steps, tf.round(steps))
            else:
                off = tf.math.squared_difference(exact, local)
                half, margin = half * tap.scale**2, margin * tap.scale**2
            entry["doubtful"] = tf.math.squared_difference(off, np.float32(half)) <= tf.constant(margin**2, tf.float32)
        if tap.measured_grid:
            steps = total / np.float32(tap.scale)
            low, high = CODE_RANGES[tap.dtype]
            beyond = tf.logical_or(steps < low - 0.5 - tap.zero_point, steps > high + 0.5 - tap.zero_point)
            off = tf.cast(tf.round((steps - tf.round(steps)) * 1024), tf.int64)
            entry["residue"] = tf.reduce_sum(off * off, axis=tf.range(1, tf.rank(off)))
            entry["clipped"] = tf.math.count_nonzero(beyond, axis=tf.range(1, tf.rank(off)))
        return entry

    def _codes(self, values: Any, tap: Tap, *, on_grid: bool = False) -> Any:
        """Codes of real values on the tap's grid: half to even, clipped, as `quant.quantize` does it.

        Values that a FakeQuant has put on this very grid need neither: they come as uint8, moved up by 128, and mostly
        from one pass over them.
        """
        tf = load_tensorflow().tf
        assert tap.scale is not None
        if on_grid:
            ends = _ends(tap.scale, tap.zero_point)
            if ends is None:
                return tf.cast(values * np.float32(1 / tap.scale) + np.float32(tap.zero_point + 128.5), tf.uint8)
            moved = tf.raw_ops.QuantizeV2(input=values, min_range=ends[0], max_range=ends[1], T=tf.quint8,
                                          ensure_minimum_range=0.0).output
            return tf.bitcast(moved, tf.uint8)
        low, high = CODE_RANGES[tap.dtype]
        codes = tf.round(values / np.float32(tap.scale)) + np.float32(tap.zero_point)
        return tf.cast(tf.clip_by_value(codes, low, high), tap.dtype)

    def _source(self, key: Key) -> Any:
        """The candidate's tensor `key` as real values in the graph, fed as it comes from the interpreter."""
        tf = load_tensorflow().tf
        grid = self.grids[key]
        if key not in self._fed:
            self._fed[key] = tf.compat.v1.placeholder(grid.dtype, name=f"candidate_{key}")
        real = f"candidate_{key}_real:0"
        try:
            return self.graph.get_tensor_by_name(real)
        except KeyError:
            pass
        return tf.identity(self._real(self._fed[key], grid), name=real[:-2])

    @staticmethod
    def _real(codes: Any, grid: Grid) -> Any:
        """Real values of fed codes; of int8 in one pass where their grid allows it."""
        tf = load_tensorflow().tf
        if grid.scale is None:
            return tf.cast(codes, tf.float32)
        ends = _ends(grid.scale, grid.zero_point) if grid.dtype == "int8" else None
        if ends is not None:
            return tf.raw_ops.Dequantize(input=tf.bitcast(codes, tf.qint8), min_range=ends[0], max_range=ends[1])
        return (tf.cast(codes, tf.float32) - np.float32(grid.zero_point)) * np.float32(grid.scale)

    def _region(self, scope: str, tap: Tap, *, skip_fake_quant: bool = False,
                weights: Weights | None = None) -> tuple[Any, Any]:
        """Copy the region with the candidate's inputs; returns its end and what stands before its last rounding.

        With `weights`, the core computes with the file's kernel and bias, and what they were folded from is left out.
        """
        tf = load_tensorflow().tf
        folded = weights.folded if weights is not None else {}
        core = weights.core if weights is not None else None
        inside = {op.name: op for op in tap.region
                  if not (skip_fake_quant and op.kind == "fake_quant") and op.name not in folded}
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
                mapped[f"{alias}:0"] = given if source is None else self._cast(
                    self._reshaped(self._source(source), given), given)
            return f"{alias}:0"

        definition = tf.compat.v1.GraphDef(versions=self.frozen.definition.versions,
                                           library=self.frozen.definition.library)
        for op in tap.region:
            if op.name in inside:
                node = definition.node.add()
                node.CopyFrom(self._nodes[op.name])
                kept = [_own_constant(weights, op.name, number, mapped) or attach(name)
                        for number, name in enumerate(node.input) if not name.startswith("^")]
                del node.input[:]
                node.input.extend(kept)
                if op is core:
                    mapped.update(_own_bias(definition, node, weights))
        end = attach(str(tap.reference))
        wanted = [] if end in mapped else [end]
        last = self._nodes[str(tap.reference).rpartition(":")[0]]
        before = attach(last.input[0]) if last.op.startswith("FakeQuant") and not skip_fake_quant else end
        wanted += [before] if before not in mapped and before != end else []
        found = dict(zip(wanted, tf.import_graph_def(definition, input_map=mapped, return_elements=wanted, name=scope),
                         strict=True)) if definition.node else {}
        found.update(mapped)
        shape = self.graph.get_tensor_by_name(tap.reference).shape
        for tensor in found.values():
            if tensor.shape.rank is None:
                tensor.set_shape(shape)
        return found[end], found[before]

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


def _ends(scale: float, zero_point: int) -> tuple[Any, Any] | None:
    """Float32 values of the lowest and highest int8 code from which TensorFlow gets this very scale, and 0 exactly.

    It divides their distance by 255, in float32; a few scales in a hundred cannot come of that: None.
    """
    step = np.float32(scale)
    lowest = -step * np.float32(zero_point - CODE_RANGES["int8"][0])
    highest = lowest + np.float32(255) * step
    for end in (highest, *(np.nextafter(highest, np.float32(side)) for side in (np.inf, -np.inf))):
        if (end - lowest) / np.float32(255) == step:
            return lowest, end
    return None


def _tensor_name(name: str) -> str:
    return name if ":" in name else f"{name}:0"


def _as_taken(tap: Tap, entry: Mapping[str, Any]) -> Taken:
    if tap.fake_quant is not None:
        assert tap.margin is not None
        local, doubtful = codes_and_doubts(entry["unrounded"], tap.fake_quant, tap.margin)
        return Taken(local if tap.first else _signed(entry["cumulative"]), local, doubtful, None)
    cumulative, local = entry["cumulative"], entry["local"]
    if tap.on_grid:
        cumulative = _signed(cumulative)
        local = cumulative if tap.first else _signed(local)
    return Taken(cumulative, local, entry.get("doubtful"), entry.get("ideal"), entry.get("residue", 0),
                 entry.get("clipped", 0))


def _signed(moved: Array) -> Array:
    """int8 codes of what comes as uint8, moved up by 128."""
    return (moved ^ np.uint8(128)).view(np.int8)
