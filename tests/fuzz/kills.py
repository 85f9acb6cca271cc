"""End commands at random moments with SIGKILL, and look at what they leave.

    python -m tests.fuzz.kills --times 50 --seed 1

Each command runs in a forked child of a process that has imported TensorFlow already, so that most moments lie in the
command's own work; a part of them lies in the milliseconds after it has begun to write, or in the last tenth of it.
After every kill: each record that was finished is there and whole, nothing stands under a final name that is not whole,
the next run is saved, and no process is left.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import select
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from tests.fuzz import campaign
from tests.fuzz.children import command

KEPT = 3
"""Records that are in the store before a command starts."""
LATE = 0.2
"""Share of the kills that fall into the last tenth of the command."""
WRITING, FLUSHED = 0.4, 0.02
"""Share of the kills that fall into the first moments after something is written, and how many seconds these last."""


@dataclass
class Tally:
    """What was left after the kills of one command."""

    killed: int = 0
    ended: int = 0
    """Commands that had ended when the kill came."""
    left: Counter[str] = field(default_factory=Counter)
    """Hidden files that a later save clears, by kind."""
    faults: list[str] = field(default_factory=list)


Commands = Mapping[str, Callable[[Path, Path], list[str]]]


def commands() -> Commands:
    """The commands: of the folder of healthy files and the folder that one run may write to, their arguments."""

    def trace(files: Path, at: Path) -> list[str]:
        return [
            *("trace", "--reference", f"{files}/dense.h5", "--candidate", f"{files}/dense.tflite"),
            *("--data", f"{files}/dense.npz", "--sample", "0", "--save-tensors", f"{at}/tensors.npz"),
            *("--json", f"{at}/record.json", "-o", f"{at}/page.txt", "--store", f"{at}/store", "--quiet"),
        ]

    return {
        "trace": trace,
        "sweep": lambda _, at: [
            "sweep",
            "--models",
            "dense1",
            "--seeds",
            "0,1",
            "--samples",
            "20",
            "--no-handover",
            "--store",
            f"{at}/store",
            "--json",
            f"{at}/record.json",
            "--quiet",
        ],
        "report": lambda _, at: [
            "report",
            "1",
            "-o",
            f"{at}/page.html",
            "--explorer",
            f"{at}/overlays",
            "--store",
            f"{at}/store",
            "--quiet",
        ],
        "runs rm": lambda _, at: ["runs", "rm", "2", "--store", f"{at}/store"],
        "runs keep": lambda _, at: ["runs", "keep", "1", "--store", f"{at}/store"],
    }


def study(name: str, files: Path, times: int, seed: int, scratch: Path) -> Tally:
    """Kill one command many times; runs that are not killed say how long it takes."""
    arguments, tally = commands()[name], Tally()
    rng = np.random.default_rng([seed, sorted(commands()).index(name)])
    whole = min(_run(arguments, files, scratch, None, Tally(), name) for _ in range(3))
    while tally.killed < times and tally.ended < 4 * times:
        drawn, share = rng.random(), rng.random()
        if drawn < WRITING:
            _run(arguments, files, scratch, FLUSHED * share, tally, name, written=True)
        else:
            share = 0.9 + 0.12 * share if drawn < WRITING + LATE else share
            _run(arguments, files, scratch, share * whole, tally, name)
    return tally


def _run(
    arguments: Callable[[Path, Path], list[str]],
    files: Path,
    scratch: Path,
    after: float | None,
    tally: Tally,
    name: str,
    *,
    written: bool = False,
) -> float:
    """One run, killed after so many seconds, or (`written`) so long after its folder changes; how long it took.

    What is wrong afterwards is added to the tally.
    """
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        at = Path(folder)
        _fill(files, at / "store")
        started = time.monotonic()
        child = os.fork()
        if child == 0:
            _be_the_child(arguments(files, at))
        watched = os.pidfd_open(child)
        with contextlib.suppress(ProcessLookupError):
            if after is not None:
                if written:
                    _await_change(at, watched)
                time.sleep(after)
                os.kill(child, signal.SIGKILL)
        status = os.waitpid(child, 0)[1]
        os.close(watched)
        took = time.monotonic() - started
        if os.WIFSIGNALED(status):
            tally.killed += 1
        else:
            tally.ended += 1
            if os.WEXITSTATUS(status) != 0:
                tally.faults.append(f"exit code {os.WEXITSTATUS(status)} without a kill")
        tally.faults += _faults(at, name, finished=not os.WIFSIGNALED(status))
        tally.left.update(_left(at))
        tally.faults += _orphans(child)
        return took


def _await_change(at: Path, child: int) -> None:
    """Wait until anything in the folder or its store is another, or the child has ended."""

    def seen() -> list[int]:
        return [place.stat().st_mtime_ns for place in (at, at / "store")]

    before = seen()
    while seen() == before and not select.select([child], [], [], 0.0002)[0]:
        pass


def _fill(files: Path, store: Path) -> None:
    store.mkdir()
    record = next((files / "store").glob("0001-*.json"))
    for number in range(1, KEPT + 1):
        text = record.read_text().replace(json.loads(record.read_text())["id"], f"{number:04d}-dense")
        (store / f"{number:04d}-dense.json").write_text(text)
        shutil.copy(files / "dense.npz", store / f"{number:04d}-dense.npz")


def _be_the_child(args: list[str]) -> None:
    """Never returns."""
    os.setsid()
    nowhere = os.open(os.devnull, os.O_WRONLY)
    for descriptor in (1, 2):
        os.dup2(nowhere, descriptor)
    os._exit(command(args))


def _faults(at: Path, name: str, *, finished: bool) -> list[str]:
    """What is not as it must be after a kill: lost or damaged records, and half of a file under its final name."""
    from qdebug.errors import StoreError
    from qdebug.record.store import Store

    store, faults = Store(at / "store"), []
    try:
        found = {run.id: run for run in store.runs()}
    except StoreError as error:
        return [str(error)]
    may_go = {"runs rm": {"0002-dense"}, "runs keep": {"0001-dense", "0002-dense"}}.get(name, set())
    lost = {f"{number:04d}-dense" for number in range(1, KEPT + 1)} - found.keys()
    if lost - may_go or (finished and name.startswith("runs") and lost != may_go):
        faults.append(f"of the records before, {sorted(lost) or 'none'} are gone")
    faults += [f"{path.name} is not whole" for path in at.rglob("*") if path.is_file() and not _is_whole(path)]
    saved = store.save(next(iter(found.values())), slug="next")
    if saved.id not in {run.id for run in store.runs()}:
        faults.append("the next run was not saved")
    return faults


def _is_whole(path: Path) -> bool:
    if path.name.startswith("."):
        return True  # (of no reader's concern)
    try:
        if path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".npz":
            with np.load(path) as arrays:
                return all(arrays[key] is not None for key in arrays)
        elif path.suffix == ".html":
            return path.read_text().rstrip().endswith("</html>")
        return path.stat().st_size > 0
    except (OSError, ValueError, KeyError):
        return False


def _left(at: Path) -> list[str]:
    hidden = [path.suffix.lstrip(".") for path in at.rglob(".*") if path.is_file() and path.name != ".gitignore"]
    alone = [path for path in (at / "store").glob("*.npz") if not path.with_suffix(".json").exists()]
    return hidden + ["arrays without a record"] * len(alone)


def _orphans(session: int) -> list[str]:
    """Processes that the command started and that live on a second after it."""
    until = time.monotonic() + 10
    while True:
        alive = [entry.name for entry in Path("/proc").iterdir() if entry.name.isdecimal() and _parents(entry, session)]
        if not alive or time.monotonic() > until:
            return [f"{len(alive)} processes are left"] if alive else []
        time.sleep(0.05)


def _parents(entry: Path, session: int) -> bool:
    """Whether a process is of this session, or names one of its processes as where it came from."""
    try:
        fields = (entry / "stat").read_text().rpartition(")")[2].split()
        return int(fields[3]) == session and fields[0] != "Z"
    except (OSError, ValueError, IndexError):
        return False


def main() -> int:
    """Print a table of what was left; 1 where anything is not as it must be."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--times", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--files", type=Path, help="where the healthy files are kept between runs")
    parser.add_argument("--commands", default=",".join(commands()))
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        files = campaign.healthy(given.files or Path(scratch) / "healthy")
        campaign.warm()
        print(f"{'command':10} {'killed':>6} {'ended before':>12}  faults  left behind (cleared when a day old)")
        for name in given.commands.split(","):
            tally = study(name, files, given.times, given.seed, Path(scratch))
            left = ", ".join(f"{count} {kind}" for kind, count in sorted(tally.left.items())) or "nothing"
            print(f"{name:10} {tally.killed:6} {tally.ended:12} {len(tally.faults):7}  {left}", flush=True)
            for fault in tally.faults:
                print(f"  {fault}", flush=True)
            bad += len(tally.faults)
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
