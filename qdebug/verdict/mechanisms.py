"""The by-design reasons for more than rounding at a pair: a list, asked in order; the first that fits is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from qdebug.converter.grids import FIXED_GRIDS, FIXED_GRIDS16
from qdebug.graph import op_facts
from qdebug.verdict.at_pair import AtPair
from qdebug.verdict.kernel_rounding import TABLES

APPROXIMATE = {
    "hard_swish": "HARD_SWISH is computed in 16-bit fixed point",
    "softmax": "fixed output grid, integer softmax",
    "log_softmax": "fixed output grid, integer log-softmax",
    "l2_norm": "fixed output grid",
}
OWN_GRIDS = "each file has a grid of its own here"
ROUNDS_TWICE = 0.125
"""LSB of rounding uncertainty from which on a MEAN is told to round twice."""


class Mechanism(NamedTuple):
    """Why a pair differs by more than rounding."""

    reason: str | None
    """In words; `None` where nothing accounts for it."""
    grid_fits: bool = True
    """Whether the candidate's grid is accounted for."""


def half_way(here: AtPair) -> Mechanism | None:
    """The zero point of the reference lies between two codes: either one is right."""
    return Mechanism("its zero point lies half-way between two codes") if here.is_tied else None


def fixed_grid(here: AtPair) -> Mechanism | None:
    """The op has one output grid in every file, such as 1/256 of SOFTMAX."""
    if here.kind not in FIXED_GRIDS or here.ends_fake:
        return None
    wanted = (FIXED_GRIDS16 if here.tensor.dtype == "int16" else FIXED_GRIDS).get(here.kind)
    reason = APPROXIMATE.get(here.kind, "fixed output grid that the reference does not simulate")
    return Mechanism(reason, op_facts.same_grid(here.grid, wanted))


def other_grid(here: AtPair) -> Mechanism | None:
    """The grid is not the reference's: it is that of a neighbour it must share one with, or nothing accounts for it."""
    if here.rounds_there or not (here.rounds_elsewhere or here.is_edited or here.picker):
        return None
    donor = here.donor if here.ends_fake else here.picker
    if donor is None or here.is_edited:
        return Mechanism(None, grid_fits=False)
    return Mechanism(f"two grids meet: its scale is the one of {donor}")


def rounded_once(here: AtPair) -> Mechanism | None:
    """The reference has one FakeQuant more than the file has grids."""
    return Mechanism("the reference fake-quantizes twice where the file rounds once") if here.rounds_within else None


def requantized_input(here: AtPair) -> Mechanism | None:
    """A QUANTIZE stands before the op."""
    return Mechanism("two grids meet: an input is requantized before the op") if here.requantizes_input else None


def several_steps(here: AtPair) -> Mechanism | None:
    """The file computes in several ops, each on a grid, what is one op of the reference."""
    if not here.between:
        return None
    if len(here.pair.candidate_ops) == 1:
        return Mechanism("the file rounds a constant that it computes, such as what a zero state gives")
    return Mechanism(f"{' and '.join(op.raw for op in here.pair.candidate_ops)} each round, the reference does once")


def input_grid(here: AtPair) -> Mechanism | None:
    """The op rounds before it leaves the grid of its input."""
    rounds = here.kind in ("avg_pool", "resize_bilinear")
    return Mechanism(f"{here.raw} rounds on the grid of its input") if rounds else None


def integer_arithmetic(here: AtPair) -> Mechanism | None:
    """The kernel computes the function in integers, by a table or by another approximation."""
    if here.kind == "leaky_relu":
        return Mechanism("LEAKY_RELU multiplies by a rounded slope")
    if here.kind == "mean" and here.grids.uncertainty.of(here.pair)[0].max() > ROUNDS_TWICE:
        return Mechanism("MEAN rounds twice, and truncates its zero-point offset")
    if here.kind in APPROXIMATE:
        return Mechanism(APPROXIMATE[here.kind])
    return Mechanism(f"{here.raw} is computed by an integer approximation") if here.kind in TABLES else None


MECHANISMS: tuple[Callable[[AtPair], Mechanism | None], ...] = (
    half_way,
    fixed_grid,
    other_grid,
    rounded_once,
    requantized_input,
    several_steps,
    input_grid,
    integer_arithmetic,
)


def mechanism_at(here: AtPair) -> Mechanism:
    """The by-design reason for more than rounding at a pair, and whether its grid is accounted for."""
    found = next((one for one in (ask(here) for ask in MECHANISMS) if one is not None), Mechanism(None))
    if here.kept_grid is not None:  # (whatever else is told: the codes stand for other values)
        found = Mechanism(
            f"{here.raw} hands codes on as they are, and the scales around it differ",
            found.grid_fits and here.rounds_there,
        )
    if here.own_grids is not None:
        reason = OWN_GRIDS if found.reason is None else f"{OWN_GRIDS}; {found.reason}"
        found = Mechanism(reason, found.grid_fits)
    return found
