"""QD5xx: kernels and their rounding, and what nothing static explains."""

from __future__ import annotations

from collections.abc import Iterator

from qdebug.findings.rules.rule import FILE_FAULTS, Context, Found, Rule, needed
from qdebug.record.schema import Row

STATIC = ("QD701", "QD703", "QD202", "QD205", "QD203", *FILE_FAULTS)
"""Errors that explain a diverging layer, and what diverges behind it."""


def kernel_rounding(code: str, raw: str, families: tuple[str, ...], why: str, fix: str) -> Rule:
    """Make the rule for an op whose kernels round in their own way."""

    def check(context: Context) -> Iterator[Found]:
        needed(any(op.raw == raw for op in context.candidate.ops), f"the file has no {raw}")
        for family, rows in {context.kernels: needed(context.rows), **context.by_kernels}.items():
            for row in rows if family in families else ():
                if row.op == raw and row.local is not None and row.local.flip_percent:
                    evidence = {
                        "kernels": family,
                        "local_flip_percent": row.local.flip_percent,
                        "max_lsb": row.local.max_lsb,
                        "mean_lsb": row.local.mean_lsb,
                    }
                    yield Found(row.layer, f"{why} ({family} kernels)", evidence, fix)

    return Rule(code, check)


def families_differ(context: Context) -> Iterator[Found]:
    """RC21: kernel families round differently."""
    found, rows = [], needed(context.rows)
    needed(context.by_kernels, "one kernel family was run; --kernels all runs every one")
    for row in rows:
        theirs = {
            family: other for family, held in context.by_kernels.items() for other in held if other.layer == row.layer
        }
        shares = {context.kernels: _flips(row), **{family: _flips(other) for family, other in theirs.items()}}
        known = {family: share for family, share in shares.items() if share is not None}
        histograms = {
            str(sorted(one.local.histogram.items())) for one in (row, *theirs.values()) if one.local is not None
        }
        if len(known) > 1 and len(histograms) > 1:
            found.append((row.layer, known))
    if not found:
        return
    layer, most = max(found, key=lambda entry: max(entry[1].values()) - min(entry[1].values()))
    yield Found(
        layer if len(found) == 1 else None,
        f"kernel families round differently at {len(found)} layers, most at {layer}",
        {
            "layers": len(found),
            "most_at": layer,
            **{f"{family}_flip_percent": share for family, share in most.items()},
        },
        "expected: compare with the kernels that ship",
    )


def _flips(row: Row) -> float | None:
    return row.local.flip_percent if row.local is not None else None


def one_side_non_finite(context: Context) -> Iterator[Found]:
    """NaN or infinity on one side only, while running."""
    for row in needed(context.rows):
        if row.local is not None and row.local.non_finite:
            yield Found(
                row.layer,
                f"{row.local.non_finite} values are NaN or infinite on one side only",
                {"non_finite": row.local.non_finite, "elements": row.elements},
                "look for an overflow or a division by zero in this layer, and in its constants",
            )
            return


def unexplained(context: Context) -> Iterator[Found]:
    """RC21: a layer diverges and the file holds what it should: its kernel computes something else."""
    rows = needed(context.rows)
    needed(context.aligned.kind != "float", "a float reference is not on the file's grid")
    for row in rows:
        if row.verdict != "diverged" or row.local is None or row.reason.startswith("range:"):
            continue  # a range is no kernel's fault: QD607
        numbers = {
            "local_flip_percent": row.local.flip_percent,
            "expected_flip_percent": row.expected_flip_percent,
            "max_lsb": row.local.max_lsb,
            "unexplained_flips": row.unexplained_flips,
            "reason": row.reason,
        }
        yield Found(
            row.layer,
            f"{row.op} diverges though the file holds what the reference says: its kernel computes something else",
            {name: value for name, value in numbers.items() if value is not None},
            "run --kernels all to see which kernels do it, and report it to their maintainers",
        )
        return


FIXED_POINT = ("builtin", "reference", "tflm", "device")
"""Kernel families that multiply in fixed point."""
RULES = (
    kernel_rounding(
        "QD501",
        "HARD_SWISH",
        ("xnnpack", *FIXED_POINT),
        "HARD_SWISH is computed in 16-bit fixed point",
        "expected: about 1 % of codes differ by one",
    ),
    kernel_rounding(
        "QD502",
        "LEAKY_RELU",
        FIXED_POINT,
        "LEAKY_RELU rounds twice, away from zero",
        "expected on these kernels; XNNPACK rounds once",
    ),
    kernel_rounding(
        "QD503",
        "MEAN",
        FIXED_POINT,
        "MEAN rounds twice, with a positive bias",
        "expected on these kernels; XNNPACK rounds once",
    ),
    Rule("QD504", families_differ),
    Rule("QD506", one_side_non_finite, silenced_by=STATIC, is_symptom=True),
    Rule(
        "QD505",
        unexplained,
        silenced_by=(*STATIC, "QD506"),
        is_symptom=True,
        silenced_here_by=("QD306", "QD307", "QD308", "QD309"),
    ),
)
