"""Run many damaged files through the command line and count how each ended.

    python -m tests.fuzz.campaign --candidates 3000 --references 500 --data 300 --records 300 --seed 1

Every case is drawn from `[seed, kind, number]` alone, so that a case that fails can be run again by itself with
`--KIND 1 --first NUMBER`.
"""

from __future__ import annotations

import argparse
import contextlib
import functools
import importlib
import io
import json
import multiprocessing
import pkgutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from tests.fuzz import children, data_damage, forked, json_damage, keras_damage, oracle
from tests.fuzz.children import GOOD, Outcome, command, in_child
from tests.fuzz.tflite_damage import mutant, pick

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Case:
    """One damaged input: its name, what was done, and the work of the child."""

    name: str
    damage: str
    work: Callable[[], int]


Maker = Callable[[Path, Path, np.random.Generator, str], Case]
"""Of the folder of healthy files, a folder for this case, a generator and the case's name."""


def healthy(folder: Path) -> Path:
    """Make the healthy files, in a process of its own."""
    if not (folder / "store").exists():
        subprocess.run(
            [sys.executable, "-m", "tests.fuzz.small_files", str(folder)],
            check=True,
            cwd=ROOT,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
    return folder


def warm() -> None:
    """Import what the children need, and run nothing: a forked child must find no threads of the parent missing."""
    from qdebug.cli import app  # noqa: F401
    from qdebug.models.tensorflow import load_tensorflow

    assert load_tensorflow().tfmot
    import h5py  # noqa: F401
    import keras  # noqa: F401

    import qdebug
    from qdebug.graph.codes import dequantize, quantize

    for module in pkgutil.walk_packages(qdebug.__path__, "qdebug."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
    with contextlib.redirect_stderr(io.StringIO()):
        command(["trace", "--reference", "nowhere.h5"])  # the parser of arguments makes itself at its first use
    quantize(dequantize(np.zeros(4, np.int8), 0.1, 0), 0.1, 0, "int8")  # compiled loops are loaded at the first call


def healthy_case(files: Path, scratch: Path) -> Callable[[], int]:
    """What every campaign begins with: a trace that must give an answer."""
    names = {"reference": "dense.h5", "candidate": "dense.tflite", "data": "dense.npz"}
    options = [text for name, file in names.items() for text in (f"--{name}", str(files / file))]
    return lambda: command(["trace", *options, "--store", str(scratch / "sound"), "--quiet"])


def candidate(files: Path, at: Path, rng: np.random.Generator, name: str) -> Case:
    """A damaged candidate beside its healthy reference, or as its own reference."""
    net = pick(rng, ("dense",) * 6 + ("plain", "several_ends", "as_it_is"))
    damage, content = mutant((files / f"{net}.tflite").read_bytes(), rng)
    path = at / f"{name}.tflite"
    path.write_bytes(content)
    way = pick(rng, ("trace",) * 6 + ("map", "audit", "itself"))
    reference = path if way == "itself" else files / f"{net}.h5"
    kernels = pick(rng, ("xnnpack", "xnnpack", "builtin", "reference"))
    data, record = files / f"{net}.npz", at / f"{name}.json"
    args = ["trace" if way == "itself" else way, "--reference", str(reference), "--candidate", str(path)]
    if way in ("trace", "itself"):
        args += [
            "--data",
            str(data),
            "--kernels",
            kernels,
            "--json",
            str(record),
            "--store",
            str(at / f"{name}.store"),
            "--quiet",
            *pick(rng, (["--no-handover"],) * 3 + ([],)),
        ]

    def work() -> int:
        code = command(args)
        if code == 0 and way == "trace":
            from tests.fuzz.oracle import contradiction

            with np.load(files / f"{net}.truth.npz") as truth:
                told = contradiction(record, content, [truth[key] for key in truth], data, kernels)
            if told is not None:
                sys.stderr.write(f"{told}\n")
                return children.WRONG_EXIT
        return code

    return Case(name, f"{net} {way} {kernels} {damage}", work)


def reference(files: Path, at: Path, rng: np.random.Generator, name: str) -> Case:
    """A damaged reference: a Keras file, folder or archive, or a `.tflite` file, beside a healthy candidate."""
    path = at / name
    if rng.random() < 0.4:
        net = pick(rng, ("plain", "dense", "dense", "several_ends", "as_it_is"))
        damage, content = mutant((files / f"{net}.tflite").read_bytes(), rng)
        path = path.with_suffix(".tflite")
        path.write_bytes(content)
    else:
        damage, path, net = keras_damage.damaged(files, path, rng)
    option = pick(rng, ("--reference",) * 5 + ("--baseline",))
    other = ["--reference", str(files / f"{net}.h5")] if option == "--baseline" else []
    args = [
        "trace",
        option,
        str(path),
        *other,
        "--candidate",
        str(files / f"{net}.tflite"),
        "--data",
        str(files / f"{net}.npz"),
        "--store",
        str(at / "store"),
        "--quiet",
    ]
    return Case(name, f"{net} {option} {damage}", functools.partial(command, args))


def data(files: Path, at: Path, rng: np.random.Generator, name: str) -> Case:
    """Damaged data for two healthy files, both run by LiteRT: what they must say of data that are taken is known."""
    with np.load(files / "dense.npz") as archive:
        damage, path, options = data_damage.damaged(archive["x"], at / name, rng)
    record = at / "record.json"
    args = [
        "trace",
        "--reference",
        str(files / "dense.h5"),
        "--candidate",
        str(files / "dense.tflite"),
        "--data",
        str(path),
        "--store",
        str(at / "store"),
        "--json",
        str(record),
        "--quiet",
        *options,
    ]

    def work() -> int:
        code = command(args)
        told = oracle.unfounded(record, path, options) if code == 0 else None
        if told is not None:
            sys.stderr.write(f"{told}\n")
            return children.WRONG_EXIT
        return code

    return Case(name, damage, work)


def record(files: Path, at: Path, rng: np.random.Generator, name: str) -> Case:
    """A damaged record beside a healthy one, for every command that reads records."""
    healthy_record = next((files / "store").glob("*.json"))
    document = json.loads(healthy_record.read_text())
    for number in (1, 3):
        plain = healthy_record.read_text().replace(document["id"], f"000{number}-dense")
        (at / f"000{number}-dense.json").write_text(plain)
    document["id"] = "0002-dense"
    if rng.random() < 0.1:
        damage, text = "text", json_damage.damaged_text(json.dumps(document), rng)
    else:
        damage, text = json_damage.damaged(document, rng)
    (at / "0002-dense.json").write_text(text, errors="surrogatepass")
    line = pick(rng, COMMANDS).format(at=at)
    return Case(name, f"{line.split(' --store')[0]}: {damage}", functools.partial(command, line.split()))


COMMANDS = (
    "show 2 --store {at}",
    "show 2 --store {at} --format github",
    "show 2 --store {at} --format csv",
    "show 2 --store {at} --format html",
    "show 2 --store {at} --json -",
    "show 2 --store {at} --format rich",
    "summary --store {at}",
    "summary --by model --store {at}",
    "diff 1 2 --store {at}",
    "diff 2 3 --store {at}",
    "report 2 -o {at}/page.html --store {at}",
    "report 2 -o {at}/page.html --store {at}",
    "report 2 --explorer {at}/folder --store {at}",
    "check 2 --max-local-lsb 1 --store {at}",
    "check 3 --against 2 --store {at}",
    "check 2 --fail-on diverged --junit {at}/j.xml --store {at}",
    "runs rm 2 --store {at}",
    "show --store {at}",
    "diff 1 2 --json - --store {at}",
)
"""Every way to read records."""
MAKERS: dict[str, Maker] = {"candidates": candidate, "references": reference, "data": data, "records": record}


def run(kind: str, number: int, seed: int, files: Path, scratch: Path) -> tuple[str, str, Outcome]:
    """Make one case and run it: its name, the damage, and how it ended."""
    rng = np.random.default_rng([seed, sorted(MAKERS).index(kind), number])
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        case = MAKERS[kind](files, Path(folder), rng, f"{kind}_{number}")
        return case.name, case.damage, in_child(case.work)


def campaign(
    kind: str, numbers: range, seed: int, files: Path, scratch: Path, workers: int
) -> Iterator[tuple[str, str, Outcome]]:
    """The cases of one kind, some at a time, in processes without threads of their own."""
    with multiprocessing.get_context("fork").Pool(workers) as pool:
        yield from pool.imap(functools.partial(run, kind, seed=seed, files=files, scratch=scratch), numbers)


def main() -> int:
    """Run the campaigns that were asked for; 1 where any case ended badly."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    for kind in MAKERS:
        parser.add_argument(f"--{kind}", type=int, default=0, metavar="N")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--first", type=int, default=0, help="number of the first case")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--files", type=Path, help="where the healthy files are kept between runs")
    parser.add_argument("--minutes", type=float, default=1e9)
    parser.add_argument("--spawn", action="store_true", help="start trials as the tool does, in a new Python")
    given = parser.parse_args()
    bad = 0
    with tempfile.TemporaryDirectory() as scratch:
        files = healthy(given.files or Path(scratch) / "healthy")
        warm()
        if not given.spawn:
            forked.fork_from_now_on()
        sound = in_child(healthy_case(files, Path(scratch)))
        if sound.kind != children.ANSWER:
            print(f"the healthy files are not taken, so nothing is learnt of damaged ones: {sound}")
            return 1
        until = time.monotonic() + 60 * given.minutes
        for kind in MAKERS:
            counted: Counter[str] = Counter()
            numbers = range(given.first, given.first + getattr(given, kind))
            for name, damage, outcome in campaign(kind, numbers, given.seed, files, Path(scratch), given.workers):
                counted[outcome.kind] += 1
                if outcome.kind not in GOOD:
                    bad += 1
                    print(f"{name}: {outcome.kind}: {outcome.detail[:300]} | {damage}", flush=True)
                if time.monotonic() > until:
                    break
            if counted:
                print(
                    f"{kind}: " + ", ".join(f"{end} {counted[end]}" for end in children.KINDS if counted[end]),
                    flush=True,
                )
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
