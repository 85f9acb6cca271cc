"""What costs the most of a second verdict, done by a team: handovers, and labels on the reference kernels."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from qdebug.cost import loss_stages, study
from qdebug.cost.handover_curve import Curve, CutError, Tracer
from qdebug.workflows.team import Task, Team

PLAIN_TASK = 4 * loss_stages.PLAIN_BATCH
"""Samples of one task on the reference kernels: each takes long there."""


def handed_over(team: Team, family: str) -> study.Elsewhere:
    """What traces handovers with a team, block by block, as `Tracer.run` does it in one process."""

    def trace(tracer: Tracer, samples: NDArray[np.int64], batch: int, told: Callable[[int], None]) -> Curve:
        blocks = [samples[first : first + batch] for first in range(0, len(samples), batch)]
        rows = frozenset(cut.row for cut in tracer.cuts)
        kept, runs, done = [], 0, 0
        while blocks:  # without labels the first block chooses the cuts of all others
            ready = blocks if tracer.metric.by_sample or tracer.chosen is not None else blocks[:1]
            blocks = blocks[len(ready) :]
            tasks = [Task("hand_over", block, (family, tracer.metric, rows, tracer.chosen)) for block in ready]
            for block, found in zip(ready, team.run(tasks), strict=True):
                if len(found) == 2:
                    row, reason = found
                    raise CutError(next(cut for cut in tracer.cuts if cut.row == row), reason)
                values, more, tracer.chosen, shapes = found
                tracer.metric.saw(shapes)
                kept.append(values)
                runs, done = runs + more, done + len(block)
                told(done)
        return Curve(tracer.cuts, samples, np.concatenate(kept, axis=1), runs)

    return trace


def labelled_plainly(team: Team) -> loss_stages.Elsewhere:
    """What labels samples on the reference kernels with a team."""

    def label(samples: NDArray[np.int64], output: int, told: Callable[[int], None]) -> NDArray[np.int64]:
        parts = [samples[first : first + PLAIN_TASK] for first in range(0, len(samples), PLAIN_TASK)]
        found = []
        for part, labels in zip(parts, team.run(Task("plain_labels", part, (output,)) for part in parts), strict=True):
            found.append(labels)
            told(int(np.searchsorted(samples, part[-1])) + 1)
        return np.concatenate(found)

    return label
