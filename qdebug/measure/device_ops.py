"""A device against a host, op by op: each op of the file is run alone on the codes that the device gave it.

No reference takes part. The host computes with LiteRT's plain reference kernels, and with those of TensorFlow Lite
Micro where they are installed; a twin of each op in real arithmetic tells which differences rounding explains.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from qdebug.converter.grids import EXACT
from qdebug.errors import ModelError
from qdebug.graph import op_facts
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.op_facts import OPAQUE
from qdebug.graph.quantization import CODE_RANGES, Array, Grid
from qdebug.measure.overwritten import find_overwritten
from qdebug.models.dumps.dump import NOT_HELD, Dump
from qdebug.models.kernels import DEVICE, has_tflm
from qdebug.models.litert import one_op
from qdebug.models.litert.micro import OpenFile, Process
from qdebug.models.litert.parse import parse
from qdebug.record.device import DeviceOp, Overwritten
from qdebug.verdict.accumulators import Differences
from qdebug.verdict.device_codes import OpCodes
from qdebug.verdict.device_patterns import ZERO_MOVED, pattern_of
from qdebug.verdict.kernel_rounding import Uncertainty

TFLM_SAMPLES = 16
"""Samples that TensorFlow Lite Micro runs of each op."""
MOST_ELEMENTS = 1 << 23
"""Elements of one op that are compared: of large tensors fewer samples."""
STATEFUL = OPAQUE | {"svdf", "var_handle", "read_variable", "assign_variable"}
CHANGES: dict[str, one_op.Change] = {
    "swap_bias": one_op.swap_bias,
    "drop_bias": one_op.drop_bias,
    "input_zero": one_op.input_zero_point(0),
    "one_multiplier": one_op.one_multiplier,
    "without_activation": one_op.without_activation,
}
Float64 = NDArray[np.float64]
Told = Callable[[str, int, int], None]


@dataclass(frozen=True, eq=False)
class Checked:
    """What came of all ops."""

    ops: list[DeviceOp]
    """In running order."""
    overwritten: list[Overwritten]
    """Tensors that later ones had overwritten before they were dumped."""
    errors: dict[Key, Differences]
    """Device less host, by tensor that holds codes: each op on the device's own inputs."""


class DeviceCheck:
    """Runs every op of a file on what a dump says that the device gave it."""

    def __init__(self, content: bytes, graph: Graph, dump: Dump, told: Told) -> None:
        self.content, self.graph, self.dump, self.told = content, graph, dump, told
        self.tau = Uncertainty(graph, graph, DEVICE, frozenset())
        self.process = Process() if has_tflm() else None
        self.errors: dict[Key, Differences] = {}

    def run(self) -> Checked:
        """One entry for each op; those that diverge are named with their patterns."""
        try:
            return self._run()
        finally:
            if self.process is not None:
                self.process.end()

    def _run(self) -> Checked:
        rows = []
        for number, op in enumerate(self.graph.ops):
            self.told("running each op on the device's own inputs", number, len(self.graph.ops))
            rows.append(self._check(op))
        suspects = {row.op_index for row in rows if row.verdict == "diverged"}
        taken = find_overwritten(self.graph, self.dump, suspects)
        rows = [self._without(op, row, taken) for op, row in zip(self.graph.ops, rows, strict=True)]
        rows = [
            self._named(op, row) if row.verdict == "diverged" else row
            for op, row in zip(self.graph.ops, rows, strict=True)
        ]
        return Checked(rows, list(taken.values()), self.errors)

    # -- one op ------------------------------------------------------------------------------------------

    def _check(self, op: Op) -> DeviceOp:
        """Run one op; nothing of it is named yet."""
        bare = self._bare(op)
        given, made, samples = self._used(op)
        if not made:
            return replace(bare, verdict="exact", reason="a constant: the device computes nothing here")
        if op.kind in STATEFUL:
            return _unmeasured(bare, f"{op.raw} keeps a state, or runs a loop of its own")
        if not given:
            return _unmeasured(bare, "it reads no tensor that is computed")
        lost = [
            (key, self.dump.damaged.get(key, NOT_HELD)) for key in (*given, *made) if not self.dump.tensors.get(key)
        ]
        if lost:
            key, why = lost[0]
            role = "output" if key in made else "input"
            return _unmeasured(bare, f"its {role}, tensor {key}: {why}")
        if not samples:
            return _unmeasured(bare, "the dump holds its inputs and its output for no sample together")
        try:
            outputs = self._outputs(op, given, made, samples)
        except ModelError as error:
            return _unmeasured(bare, str(error))
        for key, codes in zip(made, outputs, strict=True):
            if codes.grid is not None:
                self.errors[key] = _differences(codes.device, codes.host, codes.grid.zero_point)
        return self._judged(bare, outputs)

    def _outputs(self, op: Op, given: Sequence[Key], made: Sequence[Key], samples: Sequence[int]) -> list[OpCodes]:
        content = one_op.file_of(self.content, self.graph, op)
        fed = [[self.dump.tensors[key][sample] for key in given] for sample in samples]
        host = run_all(one_op.OneOp(content), fed)
        micro = self._on_tflm(content, fed[:TFLM_SAMPLES])
        real = self._real(content, op, given, fed) if self._is_arithmetic(op) else None
        places = [op.outputs.index(key) for key in made]
        return [
            self._codes(
                op,
                key,
                np.stack(self.dump.read(key, samples)),
                host[place],
                None if micro is None else micro[place],
                None if real is None else real[place],
            )
            for key, place in zip(made, places, strict=True)
        ]

    def _codes(self, op: Op, key: Key, device: Array, host: Array, micro: Array | None, real: Array | None) -> OpCodes:
        tensor = self.graph.tensors[key]
        micro = None if micro is None else micro.reshape(-1, *device.shape[1:])
        found = OpCodes(device, host.reshape(device.shape), micro, only_moves=op.kind in EXACT)
        if tensor.grid is None:
            return found
        found = replace(found, grid=tensor.grid, tau=self.tau.alone(op), cut=cut_codes(op, tensor.grid))
        if real is None:
            return found
        position = real.astype(np.float64).reshape(device.shape) / tensor.grid.scale + tensor.grid.zero_point
        step, bias = self._accumulator(op, tensor.grid.scale)
        return replace(found, position=position, accumulator=step, bias=bias)

    def _is_arithmetic(self, op: Op) -> bool:
        """Whether a twin in real arithmetic can say what the op's codes stand for."""
        return op.kind not in EXACT | op_facts.JUMPS.keys() | {"dequantize", "cast"}

    def _real(self, content: bytes, op: Op, given: Sequence[Key], fed: Sequence[Sequence[Array]]) -> list[Array] | None:
        """The op in real arithmetic; `None` where LiteRT does not run it so."""
        return real_twin(
            content,
            op,
            [[self.graph.tensors[key].real(values) for key, values in zip(given, one, strict=True)] for one in fed],
        )

    def _accumulator(self, op: Op, scale: float) -> tuple[Float64 | None, Float64 | None]:
        """LSB of one step of the op's accumulator, and its biases in LSB, by channel; nothing for an op without."""
        kernel = op_facts.kernel(self.graph, op)
        source = self.graph.tensors[self.graph.data_inputs(op)[0]].grid
        if kernel is None or kernel.quantization is None or source is None:
            return None, None
        step = source.scale * kernel.quantization.scale / scale
        bias = op_facts.integer_bias(self.graph, op)
        return step, None if bias is None or bias.data is None else bias.data.astype(np.float64) * step

    def _on_tflm(self, content: bytes, fed: Sequence[Sequence[Array]]) -> list[Array] | None:
        """The op on TensorFlow Lite Micro; `None` where that does not take it."""
        if self.process is None:
            return None
        try:
            graph = parse(content, "one op of the candidate")
            file = OpenFile(self.process, content, graph, preserve=False)
            found = [
                file.run(
                    [values.reshape(graph.tensors[key].shape) for key, values in zip(graph.inputs, one, strict=True)]
                )
                for one in fed
            ]
            file.close()
        except ModelError:
            self._revive()
            return None
        return [np.stack([one[key] for one in found]) for key in graph.outputs]

    def _revive(self) -> None:
        """Start TFLM anew where it died of an op."""
        if self.process is not None and not self.process.lives:
            self.process.end()
            self.process = Process()

    # -- what came of it -----------------------------------------------------------------------------------

    def _judged(self, bare: DeviceOp, outputs: Sequence[OpCodes]) -> DeviceOp:
        differ = sum(int(np.count_nonzero(one.unlike)) for one in outputs)
        wrong = sum(int(np.count_nonzero(one.wrong)) for one in outputs)
        total = sum(one.device.size for one in outputs)
        largest = [one.largest for one in outputs if one.largest is not None and one.device.dtype.name in CODE_RANGES]
        micro = [
            (int(np.count_nonzero(one.device[: len(one.tflm)] != one.tflm)), one.tflm.size, len(one.tflm))
            for one in outputs
            if one.tflm is not None
        ]
        verdict = "diverged" if any(one.diverges for one in outputs) else "rounding" if differ else "exact"
        share = 100 * differ / max(total, 1)
        reason = {
            "exact": "no value differs",
            "rounding": "kernels that round otherwise explain what differs",
            "diverged": f"{wrong} of {total} values are more than rounding can make of the device's own inputs",
        }
        return replace(
            bare,
            verdict=verdict,
            elements=total,
            samples=len(outputs[0].device),
            differ=differ,
            differ_percent=share,
            max_lsb=max(largest, default=None),
            unexplained=wrong,
            reason=reason[verdict],
            tflm_differ_percent=100 * sum(one[0] for one in micro) / sum(one[1] for one in micro) if micro else None,
            tflm_samples=max((one[2] for one in micro), default=0),
            reasons={} if micro else {"tflm_differ_percent": self._why_no_tflm()},
        )

    def _why_no_tflm(self) -> str:
        return (
            "TensorFlow Lite Micro does not run this op alone"
            if has_tflm()
            else "TensorFlow Lite Micro is not installed"
        )

    def _named(self, op: Op, row: DeviceOp) -> DeviceOp:
        """The entry of an op that diverges, with the pattern of what is wrong."""
        given, made, samples = self._used(op)
        outputs = self._outputs(op, given, made, samples)
        shares = [float(np.mean(codes.wrong)) for codes in outputs]
        place = shares.index(max(shares))
        return replace(row, pattern=pattern_of(outputs[place], lambda name: self._variant(op, name, place)))

    def _used(self, op: Op) -> tuple[list[Key], list[Key], tuple[int, ...]]:
        """What an op reads and makes, and the samples that the dump holds all of it for, as memory allows."""
        given = list(dict.fromkeys(self.graph.data_inputs(op)))
        made = [key for key in op.outputs if self.graph.tensors[key].data is None]
        elements = max((abs(int(np.prod(self.graph.tensors[key].shape))) for key in made), default=1)
        return given, made, self.dump.complete([*given, *made])[: max(1, MOST_ELEMENTS // max(elements, 1))]

    def _variant(self, op: Op, name: str, place: int) -> Array | None:
        """What the host computes of the device's inputs with a fault of this name."""
        given, made, samples = self._used(op)
        content = one_op.file_of(self.content, self.graph, op)
        change = CHANGES[name] if name in CHANGES else one_op.move_zero_point(int(name.removeprefix(ZERO_MOVED)))
        other = one_op.changed(content, change)
        if other == one_op.changed(content, lambda _: None):
            return None  # (it does not apply)
        fed = [[self.dump.tensors[key][sample] for key in given] for sample in samples]
        try:
            found = run_all(one_op.OneOp(other), fed)[op.outputs.index(made[place])]
        except ModelError:
            return None
        return found.reshape(len(samples), *self.dump.tensors[made[place]][samples[0]].shape)

    def _without(self, op: Op, row: DeviceOp, taken: dict[Key, Overwritten]) -> DeviceOp:
        """An op that reads or makes a tensor that was overwritten is not measured."""
        for key in (*op.outputs, *self.graph.data_inputs(op)):
            if key in taken:
                for made in op.outputs:
                    self.errors.pop(made, None)
                return _unmeasured(row, told_overwritten(taken[key]))
        return row

    def _bare(self, op: Op) -> DeviceOp:
        key = op.outputs[0] if op.outputs else -1
        name = self.graph.tensors[key].name if op.outputs else ""
        return DeviceOp(op.index, op.raw, name, int(str(key)), "unmeasured")


def run_all(running: one_op.OneOp, fed: Sequence[Sequence[Array]]) -> list[Array]:
    """Every output over all samples, shape (samples, ...)."""
    found = [[array.copy() for array in running.run(one)] for one in fed]
    return [np.stack(column) for column in zip(*found, strict=True)]


def real_twin(content: bytes, op: Op, fed: Sequence[Sequence[Array]]) -> list[Array] | None:
    """The outputs of the op that `content` holds in real arithmetic, no activation applied, over all samples.

    `None` where LiteRT does not run it so.
    """
    if op.kind == "quantize":
        return [np.stack([one[0] for one in fed])]
    try:
        return run_all(one_op.OneOp(one_op.changed(content, one_op.in_real_numbers)), fed)
    except (ModelError, ValueError):
        return None


def told_overwritten(one: Overwritten) -> str:
    """What is said of a tensor that holds another one's values."""
    return f"tensor {one.tensor_index} holds the values of tensor {one.by_index}: keep intermediate tensors"


def _differences(device: Array, host: Array, zero_point: int) -> Differences:
    change = device.astype(np.int64) - host
    values, counts = np.unique(change[change != 0], return_counts=True)
    energy = int(np.sum((host.astype(np.int64) - zero_point) ** 2))
    return Differences(dict(zip(values.tolist(), counts.tolist(), strict=True)), change.size, energy)


def cut_codes(op: Op, grid: Grid) -> tuple[float, float]:
    """The codes that the op's own activation lets through."""
    low, high = op_facts.LIMITS.get(str(op.attributes.get("activation")), (-np.inf, np.inf))
    return tuple(
        end if np.isinf(end) else np.rint(end / grid.scale) + grid.zero_point  # type: ignore[return-value]
        for end in (low, high)
    )


def _unmeasured(row: DeviceOp, why: str) -> DeviceOp:
    return DeviceOp(
        row.op_index, row.op, row.tensor, row.tensor_index, "unmeasured", reason=why, reasons={"differ_percent": why}
    )
