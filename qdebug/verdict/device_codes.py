"""One op of a device against a host, code by code: what is explained by rounding, and what is not. NumPy only."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from qdebug.graph.quantization import CODE_RANGES, Array, Grid
from qdebug.verdict.judge import ALLOWED, FEW
from qdebug.verdict.kernel_rounding import NOISE

HOST_MISSES = 1e-3
"""Share of the host's own codes that real arithmetic may not explain before it is not believed for an op."""
COARSE = 0.1
"""Share of codes that may be off by one where nobody knows how near to a boundary they were."""
REAL = 1e-4
"""Relative difference of real values that two C libraries and two orders of summation may make."""


@dataclass(frozen=True, eq=False)
class OpCodes:
    """What one tensor of an op holds on some samples, shape (samples, ...) each."""

    device: Array
    host: Array
    """LiteRT's reference kernels, on the device's own inputs."""
    tflm: Array | None = None
    """TensorFlow Lite Micro on the same, of the first samples."""
    position: NDArray[np.float64] | None = None
    """The same in real arithmetic, in steps of the output's grid, neither rounded nor cut off by an activation."""
    cut: tuple[float, float] = (-np.inf, np.inf)
    """The codes that the op's activation lets through."""
    grid: Grid | None = None
    tau: NDArray[np.float64] = field(default_factory=lambda: np.zeros(1))
    """LSB by channel within which of a boundary a correct kernel may round otherwise."""
    only_moves: bool = False
    """Whether the op only moves or picks codes: nothing rounds."""
    accumulator: NDArray[np.float64] | None = None
    """LSB of one step of the op's integer accumulator, by channel."""
    bias: NDArray[np.float64] | None = None
    """The op's biases, in LSB, by channel."""

    @property
    def ends(self) -> tuple[float, float]:
        """The lowest and the highest code that the op can give."""
        low, high = CODE_RANGES.get(self.device.dtype.name, (-np.inf, np.inf))
        return max(float(low), self.cut[0]), min(float(high), self.cut[1])

    def clipped(self, position: NDArray[np.float64]) -> NDArray[np.float64]:
        """Positions within the codes that the op can give."""
        return np.clip(position, *self.ends)

    def near(self, position: NDArray[np.float64], more: float = 0.0) -> NDArray[np.bool_]:
        """Where the device's code is one that a position may be rounded to."""
        off = np.abs(self.device.astype(np.float64) - self.clipped(position))
        return np.asarray(off <= 0.5 + more + self.tau + NOISE, np.bool_)

    @cached_property
    def exact(self) -> NDArray[np.float64] | None:
        """The positions, if they explain the host's own codes: else this op is not plain arithmetic."""
        if self.position is None or self.device.dtype.name not in CODE_RANGES:
            return None
        missed = np.abs(self.host.astype(np.float64) - self.clipped(self.position)) > 0.5 + self.tau + NOISE
        return self.position if np.mean(missed) <= HOST_MISSES else None

    @cached_property
    def unlike(self) -> NDArray[np.bool_]:
        """Where the device's values are not the host's."""
        if self.device.dtype.kind == "f":
            most = float(np.abs(np.where(np.isfinite(self.host), self.host, 0.0)).max(initial=0.0))
            with np.errstate(invalid="ignore"):
                near = np.abs(self.device.astype(np.float64) - self.host) <= REAL * most
            both = np.isnan(self.device) & np.isnan(self.host)
            return np.asarray(~(near | both | (self.device == self.host)), np.bool_)
        return np.asarray(self.device != self.host)

    @cached_property
    def wrong(self) -> NDArray[np.bool_]:
        """Where neither the kernels of the host nor rounding give the device's value."""
        found = self.unlike.copy()
        if self.tflm is not None:
            found[: len(self.tflm)] &= self.device[: len(self.tflm)] != self.tflm
        if self.only_moves or self.device.dtype.name not in CODE_RANGES:
            return found
        if self.exact is not None:
            return found & ~self.near(self.exact)
        off = np.abs(self.device.astype(np.int64) - self.host)
        return found & (off > 1) if np.mean(found & (off == 1)) <= COARSE else found

    @property
    def diverges(self) -> bool:
        """Whether more is wrong than a healthy kernel may show."""
        return int(np.count_nonzero(self.wrong)) > FEW + ALLOWED * self.wrong.size

    @property
    def largest(self) -> int | None:
        """Largest difference in codes."""
        if self.device.dtype.kind == "f":
            return None
        return int(np.abs(self.device.astype(np.int64) - self.host.astype(np.int64)).max(initial=0))
