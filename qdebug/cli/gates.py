"""Gates on the command line: where the limits come from, what is said, and the exit code."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qdebug.cli.ci import tell_github
from qdebug.cli.failures import say

if TYPE_CHECKING:
    from qdebug.record.gates import Gate
    from qdebug.record.limits import Budget
    from qdebug.record.schema import Run
    from qdebug.record.store import Store
    from qdebug.workflows.trace_options import TraceOptions

TRIPPED = 1


@dataclass(frozen=True, slots=True)
class GateOptions:
    """What the user asked for, checked and with the files read before the long work."""

    budget: Budget
    against: Run | None = None
    junit: Path | None = None
    force: bool = False

    @classmethod
    def read(cls, store: Store, given: Mapping[str, Any]) -> GateOptions:
        """Join the command line's limits with those of the file, or of pyproject.toml here.

        `given`: a command's arguments, of which those that are named as gates are taken. Raises UsageError.
        """
        from qdebug.cli.output import check_writable
        from qdebug.record.limits import NUMBERS, Limits, find_budget, read_budget

        junit, budget, against, force = (given.get(name) for name in ("junit", "budget", "against", "force"))
        if junit is not None:
            check_writable(junit, force=bool(force))
        found = read_budget(budget) if budget is not None else find_budget(Path())
        limits = Limits.of(given["fail_on"], **{name: given[name] for name in NUMBERS})
        return cls(
            replace(found, limits=limits.over(found.limits)),
            None if against is None else store.find(against),
            junit,
            bool(force),
        )

    @property
    def is_empty(self) -> bool:
        """Whether nothing limits a run."""
        from qdebug.record.limits import Budget, Limits

        return self.against is None and Budget(self.budget.limits, self.budget.layers) == Budget(Limits(), ())

    def limited(self, options: TraceOptions) -> TraceOptions:
        """The options of a trace with the loss that is allowed, so that the record is judged by it."""
        return replace(options, max_accuracy_drop=self.budget.limits.max_accuracy_drop)

    def hold(self, run: Run, write: Callable[[str], None] = say) -> int:
        """Say whether each gate holds, on standard error or where `write` puts it; return the exit code."""
        from qdebug.record.gates import check

        def summary() -> str:
            from qdebug.render.formats.github import run_summary

            return run_summary(run, gates)

        gates = check(run, self.budget, self.against)
        tell_github(summary, gates, run.findings)
        if self.junit is not None:
            from qdebug.cli.output import write_file
            from qdebug.render.formats.junit import junit_of

            write_file(self.junit, junit_of(run.id, gates, run.findings, created=run.created), force=self.force)
        return tell(gates, write)


def tell(gates: Sequence[Gate], write: Callable[[str], None] = say) -> int:
    """Say what the gates found, each on one line; return the exit code."""
    from qdebug.render.numbers import name

    for gate in gates:
        write(name(" ".join(gate.text.split())))
    return 0 if all(gate.passed for gate in gates) else TRIPPED
