"""QD5xx: kernels and their rounding, and what nothing static explains."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from qdebug.findings.rules.rule import ERROR, NOTE, Context, Found, NotApplicable, Outcome, Rule, outcome
from qdebug.record.schema import Row

NO_DATA = NotApplicable("no data was run")
STATIC = (
    "QD701",
    "QD703",
    "QD202",
    "QD205",
    "QD314",
    "QD203",
    "QD410",
    "QD401",
    "QD402",
    "QD403",
    "QD404",
    "QD405",
    "QD406",
    "QD407",
    "QD313",
    "QD315",
    "QD316",
    "QD317",
)
"""Errors that explain a diverging layer, and what diverges behind it."""


def kernel_rounding(raw: str, families: tuple[str, ...], why: str, fix: str) -> Callable[[Context], Outcome]:
    """Make the check for an op whose kernels round in their own way."""

    def check(context: Context) -> Outcome:
        if not any(op.raw == raw for op in context.candidate.ops):
            return NotApplicable(f"the file has no {raw}")
        if context.rows is None:
            return NO_DATA
        found = []
        for family, rows in {context.kernels: context.rows, **context.by_kernels}.items():
            ours = [row for row in rows if row.op == raw and family in families and _flips(row)]
            found += [Found(row.layer, f"{why} ({family} kernels)", _rounding(family, row), fix) for row in ours]
        return outcome(found)

    return check


def _rounding(family: str, row: Row) -> dict[str, Any]:
    assert row.local is not None
    return {
        "kernels": family,
        "local_flip_percent": row.local.flip_percent,
        "max_lsb": row.local.max_lsb,
        "mean_lsb": row.local.mean_lsb,
    }


def families_differ(context: Context) -> Outcome:
    """RC21: kernel families round differently."""
    if context.rows is None:
        return NO_DATA
    if not context.by_kernels:
        return NotApplicable("one kernel family was run; --kernels all runs every one")
    found = []
    for row in context.rows:
        theirs = {
            family: other for family, rows in context.by_kernels.items() for other in rows if other.layer == row.layer
        }
        shares = {context.kernels: _flips(row), **{family: _flips(other) for family, other in theirs.items()}}
        known = {family: share for family, share in shares.items() if share is not None}
        histograms = {
            str(sorted(one.local.histogram.items())) for one in (row, *theirs.values()) if one.local is not None
        }
        if len(known) > 1 and len(histograms) > 1:
            found.append((row.layer, known))
    if not found:
        return outcome([])
    layer, most = max(found, key=lambda entry: max(entry[1].values()) - min(entry[1].values()))
    return [
        Found(
            layer if len(found) == 1 else None,
            f"kernel families round differently at {len(found)} layers, most at {layer}",
            {
                "layers": len(found),
                "most_at": layer,
                **{f"{family}_flip_percent": share for family, share in most.items()},
            },
            "expected: compare with the kernels that ship",
        )
    ]


def _flips(row: Row) -> float | None:
    return row.local.flip_percent if row.local is not None else None


def one_side_non_finite(context: Context) -> Outcome:
    """NaN or infinity on one side only, while running."""
    if context.rows is None:
        return NO_DATA
    broken = [row for row in context.rows if row.local is not None and row.local.non_finite]
    return outcome(
        [
            Found(
                row.layer,
                f"{row.local.non_finite} values are NaN or infinite on one side only",
                {"non_finite": row.local.non_finite, "elements": row.elements},
                "look for an overflow or a division by zero in this layer, and in its constants",
            )
            for row in broken[:1]
            if row.local is not None
        ]
    )


def unexplained(context: Context) -> Outcome:
    """RC21: a layer diverges and the file holds what it should: its kernel computes something else."""
    if context.rows is None:
        return NO_DATA
    if context.reference_kind == "float":
        return NotApplicable("a float reference is not on the file's grid")
    found = []
    for row in context.rows:
        if row.verdict != "diverged" or row.local is None or row.reason.startswith("range:"):
            continue  # a range is no kernel's fault: QD607
        numbers = {
            "local_flip_percent": row.local.flip_percent,
            "expected_flip_percent": row.expected_flip_percent,
            "max_lsb": row.local.max_lsb,
            "unexplained_flips": row.unexplained_flips,
            "reason": row.reason,
        }
        found.append(
            Found(
                row.layer,
                f"{row.op} diverges though the file holds what the reference says: its kernel computes something else",
                {name: value for name, value in numbers.items() if value is not None},
                "run --kernels all to see which kernels do it, and report it to their maintainers",
            )
        )
    return outcome(found[:1])


RULES = (
    Rule(
        "QD501",
        "RC17",
        NOTE,
        kernel_rounding(
            "HARD_SWISH",
            ("xnnpack", "builtin", "reference", "tflm", "device"),
            "HARD_SWISH is computed in 16-bit fixed point",
            "expected: about 1 % of codes differ by one",
        ),
    ),
    Rule(
        "QD502",
        "RC18",
        NOTE,
        kernel_rounding(
            "LEAKY_RELU",
            ("builtin", "reference", "tflm", "device"),
            "LEAKY_RELU rounds twice, away from zero",
            "expected on these kernels; XNNPACK rounds once",
        ),
    ),
    Rule(
        "QD503",
        "RC19",
        NOTE,
        kernel_rounding(
            "MEAN",
            ("builtin", "reference", "tflm", "device"),
            "MEAN rounds twice, with a positive bias",
            "expected on these kernels; XNNPACK rounds once",
        ),
    ),
    Rule("QD504", "RC21", NOTE, families_differ),
    Rule("QD506", "non_finite", ERROR, one_side_non_finite, silenced_by=STATIC, is_symptom=True),
    Rule(
        "QD505",
        "RC21",
        ERROR,
        unexplained,
        silenced_by=(*STATIC, "QD506"),
        is_symptom=True,
        silenced_here_by=("QD306", "QD307", "QD308", "QD309"),
    ),
)
