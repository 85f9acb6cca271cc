"""Which kinds of cure fit what a run has found. Pure over its record."""

from __future__ import annotations

from dataclasses import dataclass

from qdebug.errors import UsageError
from qdebug.record.curable import OTHER_MODEL, can_be_mended, is_priced, loses_by_grids
from qdebug.record.loss import LOST, cost_of
from qdebug.record.schema import Run

NOT_CONVERGED = frozenset({"QD201", "QD202"})
DONE = "no layer diverges and nothing is lost"


@dataclass(frozen=True)
class Plan:
    """What to try."""

    mend: bool
    """Set the file's numbers right."""
    convert: bool
    """Convert the reference again, with a calibration of its own, where mending does not reach the target."""
    wider: bool
    """Look for the layers to keep wider."""
    annotate: bool
    """Say which layers quantization-aware training should leave alone."""


def plan(run: Run, *, convert: bool, convertible: bool) -> Plan:
    """What fits this run; `convertible`: whether its reference can be converted. Raises UsageError where nothing does.

    `convert` asks for another conversion, whatever was found.
    """
    codes, kind = {one.code for one in run.findings}, str(run.reference.get("kind"))
    if convert and not convertible:
        raise UsageError(
            f"--convert: the reference of run {run.id} ({run.reference.get('source')}) cannot be "
            "converted here; convert the model that it was made from again"
        )
    if OTHER_MODEL in codes and not convert:
        then = f"qdebug cure {run.id} --convert does it" if convertible else "in the tool that made it"
        raise UsageError(
            f"run {run.id}: its file was made from other weights ({OTHER_MODEL}), which nothing can mend: "
            f"convert this reference again; {then}"
        )
    lost = cost_of(run).verdict == LOST
    training = lost and cost_of(run).stage == "training"
    mend = can_be_mended(run)
    found = Plan(
        mend=mend,
        convert=convertible and (convert or mend or loses_by_grids(run)),
        wider=convertible and loses_by_grids(run),
        annotate=kind == "qat" and (training or is_priced(run)),
    )
    if found == Plan(False, False, False, False):
        raise UsageError(f"nothing to cure: {_nothing(run, lost=lost, convertible=convertible)}")
    return found


def _nothing(run: Run, *, lost: bool, convertible: bool) -> str:
    if not lost and run.verdict != "diverged":
        return f"{DONE} in run {run.id}"
    serious = [one for one in run.findings if one.severity != "note"]
    if not serious and run.verdict != "diverged":
        return f"what run {run.id} loses has no cause that a change of the file could mend"
    named = (
        ", ".join(f"{one.code} at {one.layer}" if one.layer else one.code for one in serious[:3])
        or f"{run.first_divergent} diverges without a finding"
    )
    then = f"; qdebug cure {run.id} --convert converts the reference again" if convertible else ""
    return f"no finding of run {run.id} has a cure ({named}){then}"
