"""The run record: plain values, exactly what stands in the JSON (schema 1).

Rules of this file: no NumPy, no clock, no files. Every number is an int or a float that JSON can hold. A value that
could not be measured is `None`, and `reasons` of the same object says why under the value's name; in the JSON that is
the key `<name>_reason` beside `<name>: null`. NaN and infinity are refused when a record is made into JSON.
"""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from qdebug.record.cures import Cures
from qdebug.record.device import DeviceReport
from qdebug.record.shown import SHOWN_BY

BUILT_IN = "zoo:"
"""What the source of a built-in model begins with."""
SCHEMA = 1


@dataclass(frozen=True, slots=True)
class ErrorStats:
    """Error of one tensor, candidate less reference. LSB fields are `None` for tensors that hold no codes."""

    flip_percent: float | None
    """Share of elements whose code differs, in percent."""
    max_lsb: int | None
    """Largest absolute code difference."""
    mean_lsb: float | None
    """Signed mean of the code differences."""
    rms_lsb: float | None
    """Root mean square of the code differences."""
    max_abs: float | None
    """Largest absolute difference in real units."""
    sqnr_db: float | None
    """10 log10(sum reference^2 / sum error^2); `None` where the error or the signal is 0."""
    max_relative: float | None = None
    """Largest |error| / largest |reference|: for tensors without codes."""
    histogram: dict[str, int] = field(default_factory=dict)
    """Code difference -> number of elements, non-zero bins only (the zero bin included)."""
    non_finite: int = 0
    """Elements that are NaN or infinite on one side only."""
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Handover:
    """What the task metric becomes when the candidate runs up to and including this row."""

    agreement: float | None
    accuracy: float | None
    drop: float | None
    """How much worse the value is after this row than before it, on the same samples."""
    low: float | None
    high: float | None
    samples: int
    metric: str = "top1"
    value: float | None = None
    """The metric itself: for `top1` the accuracy where labels are given, else the agreement."""
    agreement_drop: float | None = None
    """Agreement before this row less the agreement after it."""
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Channels:
    """Local error per output channel of one row: the evidence for a single bad channel."""

    flips: list[int]
    sum_lsb: list[int]
    max_lsb: list[int]
    elements: int
    """Elements per channel."""
    weight_scale: list[float] | None = None
    """Scale of the weights of each channel, where they have one each."""


@dataclass(frozen=True, slots=True)
class Row:
    """One pair of the alignment, with its errors and its verdict."""

    index: int
    layer: str
    region: list[str]
    region_raw: list[str]
    op: str
    op_index: int | None
    tensor: str
    tensor_index: int | None
    """The number of the candidate tensor; `None` for a layer that only the reference has."""
    shape: list[int]
    dtype: str
    scale: float | None
    zero_point: int | None
    upstream: list[str]
    evidence: list[str]
    confidence: float
    cumulative: ErrorStats | None
    local: ErrorStats | None
    expected_flip_percent: float | None
    off_grid_rms_lsb: float | None
    saturated_percent: float | None
    clipped_percent: float | None
    used_codes_percent: float | None
    verdict: str
    reason: str
    mechanism: str | None = None
    """For `requantized`: the by-design mechanism, in a few words."""
    decided_by: str | None = None
    """For `diverged`: the number that decides, in a few words, where it is not the share of flips."""
    reference_tensor: str | None = None
    elements: int = 0
    """Elements compared."""
    unexplained_flips: int | None = None
    """Local flips that the arithmetic of this op cannot produce."""
    channels: Channels | None = None
    handover: Handover | None = None
    parts: dict[str, Any] | None = None
    between: ErrorStats | None = None
    """In `by_kernels`: these kernels' codes less those of the first family, each run from the model's input."""
    samples: int | None = None
    """Samples that were run for this row, where they are fewer than the run's or one by one; else `None`."""
    used_span_percent: float | None = None
    """Codes from the lowest to the highest one that occurs, in percent of all: what the range is used for."""
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def is_unpaired(self) -> bool:
        """Tell the row of an op or layer without a counterpart: nothing of it was compared."""
        return self.verdict == "unmeasured" and not self.evidence


@dataclass(frozen=True, slots=True)
class EndToEnd:
    """One model output of one pair of models, compared in real values as the 2021 experiment did."""

    name: str
    passed: bool
    tolerance: float
    max_error: float | None
    max_relative_error: float | None
    mean_error: float | None
    not_close_percent: float
    elements: int
    output: str
    max_lsb: int | None
    tolerance_needed: float | None
    seed: int | None = None
    non_finite: int = 0
    rms_error: float | None = None
    sqnr_db: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Unpaired:
    """One op or tensor without a counterpart, and why."""

    side: str
    name: str
    op: str
    reason: str
    op_index: int | None = None
    layer: str | None = None

    @property
    def needs_no_pair(self) -> bool:
        """Tell a candidate op that is known to need no counterpart, such as an inserted QUANTIZE."""
        return self.side == "candidate" and not self.reason.startswith("no ")

    @property
    def computes(self) -> bool:
        """Tell what computes values on one side alone: it is not compared, and counts as a row."""
        return self.reason.startswith("no ")


@dataclass(frozen=True, slots=True)
class Coverage:
    """How much of the candidate the alignment explains."""

    candidate_ops: int
    paired: int
    unpaired: list[Unpaired]
    unmeasured: int = 0


@dataclass(frozen=True, slots=True)
class Finding:
    """A named cause with its evidence and what to do."""

    code: str
    cause: str
    layer: str | None
    severity: str
    title: str
    evidence: dict[str, Any]
    fix: str
    url: str
    points: float | None = None
    """What it costs, measured at a handover, in the unit of `Cost.points`; `None` where that was not measured."""
    low: float | None = None
    high: float | None = None
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CostStage:
    """What one stage takes: `training` (baseline to reference), `conversion` or `kernels`."""

    stage: str
    points: float | None
    low: float | None = None
    high: float | None = None
    samples: int | None = None
    """Samples that the stage was measured on: fewer than the cost's where plain kernels are slow."""
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class CostLayer:
    """A layer whose loss is beyond chance."""

    layer: str
    points: float
    low: float | None
    high: float | None
    finding: str | None = None
    """Code of the finding that says why."""
    stage: str = "conversion"


@dataclass(frozen=True, slots=True)
class Cost:
    """The second verdict: what is lost on the metric of the run, where, and by which layers (DESIGN, section 8)."""

    verdict: str
    """`kept`, `lost` or `unmeasured`; its reason is `reasons["verdict"]`."""
    metric: str
    """`accuracy`, `agreement`, or the metric's own name."""
    points: float | None
    """Loss from `since` to the candidate: percent points, or the metric's own unit; positive is worse."""
    low: float | None
    high: float | None
    confidence: float
    """Chance that all intervals of the run hold together."""
    limit: float | None
    """`--max-accuracy-drop`; `None` lets any loss beyond chance count."""
    samples: int
    stage: str | None
    """The stage that takes most of it."""
    stages: list[CostStage]
    layers: list[CostLayer]
    """Most costly first."""
    since: str = "reference"
    """The model that the loss counts from: `baseline` or `reference`."""
    before: float | None = None
    """The metric of that model."""
    after: float | None = None
    """The metric of the candidate."""
    floor: float = 0.0
    """Loss that counts as none where no limit is given, since every healthy file has some."""
    vacuous: bool = False
    """Whether the run compares nothing, since what it compares is constant: then no gate passes."""
    reasons: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class WorstSample:
    """The sample with the largest cumulative error at one row."""

    index: int
    layer: str
    error_lsb: float | None
    reference_label: int | None = None
    candidate_label: int | None = None
    label: int | None = None
    first_flipping_layer: str | None = None
    error_abs: float | None = None


@dataclass(frozen=True, slots=True)
class Run:
    """One recorded comparison: everything that the tables, the report and the gates read."""

    id: str
    created: str
    qdebug: str
    environment: dict[str, str | None]
    reference: dict[str, Any]
    candidate: dict[str, Any]
    data: dict[str, Any]
    seed: int | None
    accuracy: dict[str, float | None]
    end_to_end: list[EndToEnd]
    coverage: Coverage
    layers: list[Row]
    first_divergent: str | None
    first_over_tolerance: str | None
    findings: list[Finding]
    worst_samples: list[WorstSample]
    verdict: str
    timing: dict[str, float]
    schema: int = SCHEMA
    kind: str = "run"
    baseline: dict[str, Any] | None = None
    settings: dict[str, Any] = field(default_factory=dict)
    by_kernels: dict[str, list[Row]] | None = None
    notes: list[str] = field(default_factory=list)
    checks: list[dict[str, Any]] = field(default_factory=list)
    """Every rule that was asked: its code, `finding`, `clean` or `not applicable`, and the reason."""
    label_flips: dict[str, Any] | None = None
    costs: dict[str, Any] | None = None
    device: DeviceReport | None = None
    """What the dump of a device tells, op by op; `None` where no dump was given."""
    cost: Cost | None = None
    """The second verdict; `None` in records from before there was one."""
    cures: Cures | None = None
    """The cures that were tried on this run, or on the one that this one cures."""
    arrays: bytes | None = field(default=None, compare=False, repr=False)
    """Larger arrays as the bytes of an `.npz`; kept beside the JSON, never in it."""
    opened: Any = field(default=None, compare=False, repr=False)
    """What was traced from memory, for `cure`; in no record."""
    reasons: dict[str, str] = field(default_factory=dict)

    def __repr__(self) -> str:
        """What this is, in one line."""
        cost = "" if self.cost is None else f", {self.cost.metric} {self.cost.verdict}"
        layers, findings = (
            f"{len(held)} {noun}{'s' * (len(held) != 1)}"
            for held, noun in ((self.layers, "layer"), (self.findings, "finding"))
        )
        return f"<qdebug run {self.id or 'not recorded'}: {self.verdict}{cost}, {layers}, {findings}>"

    def __str__(self) -> str:
        """The answer on one screen as plain text, as `qdebug show` prints it."""
        return str(SHOWN_BY["text"](self))

    def show(self, everything: bool = False) -> None:
        """Print the answer on one screen, or with `everything` all that is known."""
        print(SHOWN_BY["text"](self, everything=everything))  # noqa: T201 this is what it is for

    def report(self, path: str | os.PathLike[str], *, force: bool = False) -> str:
        """Write the run as one self-contained HTML page; return its path. Raises UsageError where `path` exists."""
        return str(SHOWN_BY["report"](self, path, force=force))

    def save(self, store: str | os.PathLike[str] | None = None) -> Run:
        """Keep the run in a store, `.qdebug` by default; return it with its id. Raises StoreError if that fails."""
        return SHOWN_BY["save"](self, store)  # type: ignore[no-any-return]

    def cure(self, output: Any, **options: Any) -> Cures:
        """Try the cures that fit this run's findings, and write the best file to `output`; see `qdebug.cure`."""
        return SHOWN_BY["cure"](self, output, **options)  # type: ignore[no-any-return]

    def to_frame(self) -> Any:
        """One row for each layer as a pandas DataFrame. Raises ImportError where pandas is not installed."""
        return SHOWN_BY["frame"](self)

    def _repr_html_(self) -> str:
        """The answer, the findings, the drawn network and the layers, for a notebook."""
        return str(SHOWN_BY["html"](self))
