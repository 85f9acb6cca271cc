"""What a trace asks of the workers that share its samples, whoever they are. Imports nothing that runs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Task:
    """One piece of work on some samples."""

    work: str
    """Name of a method of `shards.bench.Bench`."""
    chosen: slice | NDArray[np.int64]
    """The samples that it is done on."""
    options: tuple[Any, ...] = ()
    """What else the method is given."""


class Team(Protocol):
    """Workers that have opened the same two models."""

    def run(self, tasks: Iterable[Task]) -> Iterator[Any]:
        """What each task gives, in the order of the tasks.

        Raises the first task's QDebugError, with the samples that it was about.
        """


def legs(count: int, size: int) -> Sequence[slice]:
    """The slices of so many samples, `size` in each but the last."""
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]
