"""What `qdebug cure` records: the cures that were tried, what each gave, and on which samples its numbers stand."""

from __future__ import annotations

from dataclasses import dataclass, field

from qdebug.record.shown import SHOWN_BY


@dataclass(frozen=True, slots=True)
class Measured:
    """One file on one part of the data."""

    points: float | None
    """Loss from the reference (or the baseline) to the file: percent points, or the metric's own unit."""
    low: float | None
    high: float | None
    value: float | None
    """The metric of the file: a share from 0 to 1, or the metric's own unit."""
    won: float | None
    """Points that the file loses less than the run's own."""
    won_low: float | None
    won_high: float | None
    verdict: str
    """The first verdict: the worst of its rows."""
    cost: str
    """The second verdict by the target: `kept`, `lost` or `unmeasured`."""
    first_divergent: str | None
    reasons: dict[str, str] = field(default_factory=dict)

    @property
    def is_faithful(self) -> bool:
        """Whether no row diverges."""
        return self.verdict in ("exact", "rounding", "requantized")


@dataclass(frozen=True, slots=True)
class Cure:
    """One file that was tried, or the reason why there is none."""

    name: str
    kind: str
    """`mend`, `convert`, `float32`, `int16`, or `as it is` for the run's own file."""
    layers: list[str]
    """The layers that it touches: mended, or kept wider."""
    changes: list[str]
    """What was changed, one thing a line."""
    size: int | None
    """Bytes of the file."""
    sha256: str | None
    chosen_on: Measured | None
    """On the samples that choose a cure."""
    proved_on: Measured | None
    """On the samples that prove it."""
    is_reached: bool = False
    """Whether it is faithful and reaches the target, on both parts."""
    reasons: dict[str, str] = field(default_factory=dict)
    """`file`: why there is none."""


@dataclass(frozen=True, slots=True)
class Cures:
    """What `qdebug cure` shows, and what the record of a cured run carries."""

    run: str
    """The run that was to be cured."""
    candidate: str
    metric: str
    """`accuracy`, `agreement`, or the metric's own name."""
    since: str
    """The model that losses count from."""
    target: float | None
    """Points that may be lost; `None`: none beyond chance."""
    choosing: int
    """Samples that choose a cure."""
    proving: int
    """Samples that prove it: none of the others."""
    original: Cure
    """The run's own file, on the same samples."""
    tried: list[Cure]
    """Best first."""
    best: str | None
    """Name of the cure that was written; `None` where none is better than the file as it is."""
    is_reached: bool
    """Whether that one reaches the target."""
    file: str | None = None
    recipe: str | None = None
    """Where the recipe of the converter was written."""
    cured_run: str | None = None
    conversions: int = 0
    seconds: float = 0.0
    snippet: str | None = None
    """How to leave layers unannotated in quantization-aware training."""
    notes: list[str] = field(default_factory=list)
    kind: str = "cure"
    schema: int = 1

    def __str__(self) -> str:
        """The table and what it says, as `qdebug cure` prints it."""
        return str(SHOWN_BY["cures"](self))
