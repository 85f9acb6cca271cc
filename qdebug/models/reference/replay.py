"""Run the frozen reference: its outputs, every paired tensor, and every region on the candidate's own inputs.

One graph holds the reference once (the cumulative pass), and a copy of each region whose inputs are what the
candidate's codes stand for (the local pass). All of it is one call per batch. It takes and brings real values;
`values_of` makes codes of the candidate's own grid of them. Any tensor can also be fed, which is how handovers and
repairs run.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from qdebug.graph.graph import Key
from qdebug.graph.quantization import Array, Grid
from qdebug.models.reference.alike_inputs import AlikeInputs
from qdebug.models.reference.frozen_graph import Frozen
from qdebug.models.reference.session import CANNOT_RUN, FrozenSession
from qdebug.models.reference.taps import REFERENCE, Fetched, Reshaped, Simulation, Tap, TapValues, Unrounded


@dataclass(frozen=True, eq=False)
class _Call:
    """One way through the graph."""

    run: Callable[..., Any]
    fed: Sequence[Key]
    """Candidate tensors to feed, after the model's inputs."""
    names: Sequence[Sequence[str]]
    """Of every tap, what the run brings, after the model's outputs."""


class Replay(FrozenSession):
    """A session over the frozen reference with the given taps."""

    FROM_CODES = True
    """Whether the regions are run on the candidate's codes; on real values, which may be NaN, if not."""
    WHOLE = True
    """Whether the reference runs as a whole besides, for the model's outputs."""

    def __init__(
        self,
        frozen: Frozen,
        taps: Sequence[Tap],
        grids: Mapping[Key, Grid | None],
        *,
        reshaped: Sequence[Reshaped] = (),
        threads: int | None = None,
        optimized: bool = False,
    ) -> None:
        super().__init__(frozen, threads=threads, optimized=optimized, grids=grids if self.FROM_CODES else {})
        self.taps = tuple(taps)
        self._at_input: dict[int, int] = {}
        """Number of a tap that only rounds a model input -> number of that input: no session is needed for it."""
        fetches = [self._cut(tap, self._tap(number, tap)) for number, tap in enumerate(self.taps)]
        self._outputs = list(frozen.graph.outputs) if self.WHOLE else []
        self._alike = AlikeInputs(self.taps, self._at_input, reshaped)
        self._whole = self._compiled(fetches, self.engine.fed)
        self._shorter = self._without_copies(fetches, self._alike.readers) if self._alike.readers else self._whole
        self._aside = None if threads == 1 else ThreadPoolExecutor(1)
        self._were_alike = True

    def run(self, inputs: Sequence[Array], codes: Mapping[Key, Array]) -> tuple[list[Array], Fetched]:
        """Run one batch: the model outputs in real values (`WHOLE`), and what `values_of` needs of every tap.

        `codes` are the candidate's tensors as LiteRT gives them, real values where it holds no codes. If both sides
        quantize this batch's inputs to the same codes, layers that read only model inputs run once instead of twice.
        """
        with self.engine.errors(CANNOT_RUN):
            alike, names, brought = self._called(inputs, codes)
        found = iter(brought)
        outputs = [next(found) for _ in self._outputs]
        fetched: list[dict[str, Any]] = [{name: next(found) for name in entry} for entry in names]
        for number, place in self._at_input.items():
            fetched[number]["unrounded"] = inputs[place]
            if alike and number in self._alike.given:
                fetched[number]["codes"] = codes[self.taps[number].candidate]
        return outputs, fetched

    def _called(
        self, inputs: Sequence[Array], codes: Mapping[Key, Array]
    ) -> tuple[bool, Sequence[Sequence[str]], Iterable[Array]]:
        """Whether both sides hold the same codes at the inputs, what the call for that brings of every tap, and it.

        Where they did in the batch before, they are compared while the shorter call runs already.
        """

        def run(call: _Call) -> tuple[Sequence[Sequence[str]], Iterable[Array]]:
            return call.names, call.run(*inputs, *(codes[key] for key in call.fed))

        if self._aside is None or not self._were_alike or not self._alike.given:
            alike = self._were_alike = self._alike.hold_same_codes(inputs, codes)
            return alike, *run(self._shorter if alike else self._whole)
        compared = self._aside.submit(self._alike.hold_same_codes, inputs, codes)
        brought = run(self._shorter)
        alike = self._were_alike = compared.result()
        return alike, *(brought if alike or self._shorter is self._whole else run(self._whole))

    def close(self) -> None:
        """Give the session's memory back, and end its thread."""
        super().close()
        if self._aside is not None:
            self._aside.shutdown()

    def taken(self, fetched: Fetched) -> Iterator[Unrounded]:
        """What one run brought at every tap, tap after tap; `fetched` is emptied as it is used up.

        It needs no session and may go on in another thread.
        """
        for tap, entry in zip(self.taps, fetched, strict=True):
            yield Unrounded(tap, entry)
            entry.clear()

    def values_of(self, fetched: Fetched) -> Iterator[TapValues]:
        """The same, with codes made of it."""
        return (one.values() for one in self.taken(fetched))

    # -- building the graph --------------------------------------------------------------------------

    def _tap(self, number: int, tap: Tap) -> dict[str, Any]:
        total, as_file = self.engine.tensor(tap.reference), tap.simulation
        local, before = self._copied(f"local{number}", tap, unrounded=tap.unrounded)
        if tap.grid is None:
            entry = {"cumulative": total, "local": local}
            if tap.simulated:
                name = f"as_file{number}"
                entry["as_file"] = self._copied(name, tap, unrounded=tap.unrounded, simulation=as_file)[0]
            return entry
        begins = self.engine.key(before)
        if tap.fake_quant is not None and begins in self.frozen.graph.inputs:
            self._at_input[number] = self.frozen.graph.inputs.index(begins)
            return {}
        if tap.fake_quant is not None:
            return {"unrounded": before} if tap.first else {"cumulative": total, "unrounded": before}
        entry = {"cumulative": total} if tap.first else {"cumulative": total, "local": local}
        if tap.simulated:
            entry["exact"] = self._copied(f"as_file{number}", tap, unrounded=True, simulation=as_file)[0]
        elif tap.limits is not None:
            entry["exact"] = before
        return entry

    def _copied(self, scope: str, tap: Tap, *, unrounded: bool, simulation: Simulation = REFERENCE) -> tuple[Any, Any]:
        return self.engine.copy(scope, tap, unrounded=unrounded, simulation=simulation)

    def _without_copies(self, fetches: Sequence[Mapping[str, Any]], alike: Collection[int]) -> _Call:
        """The call in which the reference's own run stands for the local pass too, at the taps of these numbers."""
        shorter = [
            self._cut(tap, self._whole_run(tap)) if number in alike else fetches[number]
            for number, tap in enumerate(self.taps)
        ]
        read = {
            source
            for number, tap in enumerate(self.taps)
            if number not in alike
            for _, source in (*tap.inputs, *(tap.simulation.inputs or ()))
        }
        return self._compiled(shorter, read)

    def _whole_run(self, tap: Tap) -> dict[str, Any]:
        """What to take of a tap in the reference's own run, which stands for the local pass too."""
        before = self.engine.before_rounding(tap)
        names = (
            {"unrounded": before}
            if tap.fake_quant is not None
            else {"cumulative": tap.reference} | ({} if tap.limits is None else {"exact": before})
        )
        return {name: self.engine.tensor(tensor) for name, tensor in names.items()}

    def _compiled(self, fetches: Sequence[Mapping[str, Any]], fed: Collection[Key | None]) -> _Call:
        """One call that brings the model's outputs and all of `fetches`, of the candidate's tensors in `fed`."""
        wanted = [self.engine.tensor(key) for key in self._outputs]
        wanted += [handle for entry in fetches for handle in entry.values()]
        held = [key for key in self.engine.fed if key in fed]
        return _Call(self.engine.call(wanted, held), held, [list(entry) for entry in fetches])

    def _cut(self, tap: Tap, fetched: dict[str, Any]) -> dict[str, Any]:
        """What is fetched at a tap, with the file's activation applied."""
        if tap.cut is None:
            return fetched
        return {name: self.engine.clipped(handle, *tap.cut) for name, handle in fetched.items()}
