"""The records of many traces, kept before a redesign and compared after it: no number may move.

    python -m tests.benchmarks.records write DIR [--only 'fault-*'] [--shared DIR]
    python -m tests.benchmarks.records compare BEFORE AFTER [--only GLOB] [--added-keys-ok]

`write` runs `qdebug trace --json` on the built-in models with each kernel family, on the shared real pairs, on the
planted faults that CI runs, and on pairs of `.tflite` files. It uses the command line alone, so it can be run by its
path in any other state of the project: `cd OTHER && PYTHONPATH=$PWD python .../records.py write DIR`.

Both runs must see the same models. Built-in models come from `QDEBUG_CACHE`; the planted faults and the converted files
are made once and then kept in `pairs` beside DIR, so BEFORE and AFTER should be neighbours. One thread everywhere:
with more, sums come in another order, and values near a rounding boundary may flip.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import re
import shutil
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

BUILT_IN = ("dense1", "dense2", "dense3", "dense4", "cnn", "resnet", "mobile", "branches")
FAMILIES = ("xnnpack", "builtin", "reference")
SHARED = Path(__file__).resolve().parents[3] / "shared" / "data"
FILES = ("reference.*", "candidate.tflite", "data.npz")
OF_THE_RUN = frozenset({"id", "created", "qdebug", "environment", "timing"})
"""Keys of a record that differ from run to run."""
ABSENT = object()


@dataclass(frozen=True)
class Job:
    """One record: its name, the directory to run in, and the options of `qdebug trace`."""

    name: str
    folder: Path
    options: tuple[str, ...]


def builtin_jobs() -> Iterator[Job]:
    """The built-in models on each family."""
    for model in BUILT_IN:
        for family in FAMILIES:
            yield Job(f"builtin-{model}-{family}", Path.cwd(), ("--model", model, "--kernels", family))


def shared_jobs(shared: Path) -> Iterator[Job]:
    """The real pairs, each where it is there."""
    resnet, images = "resnet8/pretrainedResnet", ("--data", "resnet8/cifar10_300.npz")
    words = ("--data", "sww/calibration_samples.npz", "--x-key", "specs")
    pairs = {
        "resnet8-float": (f"{resnet}.h5", f"{resnet}.tflite", images),
        "resnet8-int8": (f"{resnet}.h5", f"{resnet}_quant.tflite", images),
        "resnet8-int8-all": (f"{resnet}.h5", f"{resnet}_quant.tflite", (*images, "--kernels", "all")),
        "files-resnet8": (f"{resnet}.tflite", f"{resnet}_quant.tflite", images),
        "files-resnet8-kernels": (
            f"{resnet}_quant.tflite",
            f"{resnet}_quant.tflite",
            (*images, "--reference-kernels", "reference"),
        ),
        "sww": ("sww/str_ww_ref_model.h5", "sww/str_ww_ref_model.tflite", (*words, "--kernels", "all")),
    }
    for name, (reference, candidate, options) in pairs.items():
        if all((shared / path).exists() for path in (reference, candidate, options[1])):
            yield Job(name, shared, ("--reference", reference, "--candidate", candidate, *options))
        else:
            say(f"skipped {name}: not in {shared} (--shared DIR)")


def made_jobs(pairs: Path, only: str) -> Iterator[Job]:
    """The planted faults and the converted files, made where `pairs` does not hold them yet."""
    complete = pairs / "complete"
    if not complete.exists():
        say(f"making the pairs of {pairs}")
        make_pairs(pairs)
        complete.touch()
    for folder in sorted(path for path in pairs.iterdir() if path.is_dir()):
        if fnmatch(folder.name, only):
            files = [str(next(folder.glob(pattern)).relative_to(pairs)) for pattern in FILES]
            options = ("--reference", files[0], "--candidate", files[1], "--data", files[2])
            yield Job(folder.name, pairs, options)


def make_pairs(pairs: Path) -> None:
    """Write a folder with reference, candidate and data for every fault of CI and every pair of converted files."""
    from tests.benchmarks import two_files
    from tests.faults import fault_built, fault_list

    assert fault_built, "which adds its faults to the list"
    for fault in fault_list.FAULTS:
        if fault.ci:
            planted = fault.plant()
            net = "" if fault.net.startswith("tiny: ") else f"{fault.net} "
            name = re.sub(r"\W+", "-", f"fault {net}{fault.name}".lower()).strip("-")
            keep(pairs / name, planted.content, planted.inputs[0], save=planted.reference.model.save)
    model, data = two_files.network(), two_files.samples(64, 5)
    files = {
        name: two_files.convert(model, **two_files.SETTINGS[name])
        for name in ("int8", "other samples", "float ends", "16x8", "float32")
    }
    for one, other in (("int8", "other samples"), ("float32", "int8"), ("16x8", "float ends")):
        keep(pairs / f"files-{one}-{other}".replace(" ", "-"), files[other], data, content=files[one])


def keep(
    folder: Path,
    candidate: bytes,
    data: Any,
    *,
    content: bytes | None = None,
    save: Callable[[Path], None] | None = None,
) -> None:
    """Write one pair, whole or not at all."""
    import numpy as np

    work = Path(tempfile.mkdtemp(dir=folder.parent, prefix="."))
    if content is not None:
        (work / "reference.tflite").write_bytes(content)
    elif save is not None:
        with quiet():
            save(work / "reference.h5")
    (work / "candidate.tflite").write_bytes(candidate)
    np.savez(work / "data.npz", x=data)
    shutil.rmtree(folder, ignore_errors=True)
    work.rename(folder)


@contextlib.contextmanager
def quiet() -> Iterator[io.StringIO]:
    """Hold back what is printed, and warnings."""
    held = io.StringIO()
    with warnings.catch_warnings(), contextlib.redirect_stdout(held), contextlib.redirect_stderr(held):
        warnings.simplefilter("ignore")
        yield held


def trace(job: Job, target: Path) -> None:
    """Run `qdebug trace` in this process. Raises RuntimeError with what it said where it fails."""
    from qdebug.cli import main

    before = sys.argv, Path.cwd()
    with tempfile.TemporaryDirectory() as store, quiet() as held:
        sys.argv = [
            "qdebug",
            "trace",
            *job.options,
            "--threads",
            "1",
            "--store",
            store,
            "--quiet",
            "--force",
            "--json",
            str(target),
            "--format",
            "plain",
        ]
        os.chdir(job.folder)
        try:
            main()
        except SystemExit as stopped:
            if stopped.code not in (0, None):
                raise RuntimeError(f"exit code {stopped.code}: {held.getvalue().strip()}") from stopped
        finally:
            sys.argv = before[0]
            os.chdir(before[1])


def write(target: Path, only: str, shared: Path) -> int:
    """Write the records; return how many failed."""
    target = target.resolve()
    target.mkdir(parents=True, exist_ok=True)
    pairs = target.parent / "pairs"
    pairs.mkdir(exist_ok=True)
    jobs = [job for job in (*builtin_jobs(), *shared_jobs(shared), *made_jobs(pairs, only)) if fnmatch(job.name, only)]
    failed = 0
    for number, job in enumerate(jobs, 1):
        record, start = target / f"{job.name}.json", time.perf_counter()
        record.unlink(missing_ok=True)
        try:
            trace(job, record)
            said = ""
        except RuntimeError as error:
            failed += 1
            said = f"  FAILED: {error}"
        say(f"{number}/{len(jobs)} {job.name} {time.perf_counter() - start:.1f} s{said}")
    return failed


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


# -- comparing -------------------------------------------------------------------------------------------


def differences(before: Any, after: Any, path: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Path, value before, value after, for all that differs; ABSENT where one side has no such key."""
    if isinstance(before, dict) and isinstance(after, dict):
        for key in [*before, *(key for key in after if key not in before)]:
            if path or key not in OF_THE_RUN:
                yield from differences(before.get(key, ABSENT), after.get(key, ABSENT), f"{path}.{key}".lstrip("."))
    elif isinstance(before, list) and isinstance(after, list):
        if len(before) != len(after):
            yield f"{path}.length", len(before), len(after)
        for place, (one, other) in enumerate(zip(before, after, strict=False)):
            yield from differences(one, other, f"{path}[{label(one, place)}]")
    elif type(before) is not type(after) or before != after:
        yield path, before, after


def label(entry: Any, place: int) -> str:
    """The place in a list, with the layer or code that stands there."""
    name = entry.get("layer") or entry.get("code") if isinstance(entry, dict) else None
    return f"{place}" if name is None else f"{place} {name}"


def shown(before: Any, after: Any) -> str:
    """Both values, each in about 60 characters from shortly before where they part."""
    texts = ["(absent)" if value is ABSENT else json.dumps(value, ensure_ascii=False) for value in (before, after)]
    parted = next((place for place, (one, other) in enumerate(zip(*texts, strict=False)) if one != other), 0)
    first = max(0, parted - 20) if max(map(len, texts)) > 60 else 0
    return " -> ".join(
        f"{'...' * (first > 0)}{text[first : first + 60]}{'...' * (len(text) > first + 60)}" for text in texts
    )


def compare(before: Path, after: Path, only: str, *, added_keys_ok: bool, most: int) -> int:
    """Print what differs; return the number of records that do."""
    names = sorted(
        {path.name for folder in (before, after) for path in folder.glob("*.json") if fnmatch(path.stem, only)}
    )
    unequal = 0
    for name in names:
        missing = [str(folder) for folder in (before, after) if not (folder / name).exists()]
        if missing:
            print(f"{name}: not in {missing[0]}")
            unequal += 1
            continue
        found = list(differences(*(json.loads((folder / name).read_text()) for folder in (before, after))))
        counted = [one for one in found if not (added_keys_ok and one[1] is ABSENT)]
        unequal += bool(counted)
        if counted:
            print(f"{name}: {len(counted)} differences")
            for path, one, other in counted[:most]:
                print(f"  {path}: {shown(one, other)}")
            if len(counted) > most:
                print(f"  and {len(counted) - most} more (--most N)")
        if len(found) > len(counted):
            print(f"{name}: {len(found) - len(counted)} added keys, such as {found[0][0]}")
    print(f"{len(names) - unequal} of {len(names)} records are equal")
    return unequal if names else 1


def main() -> None:
    """Write or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    writing, comparing = modes.add_parser("write"), modes.add_parser("compare")
    writing.add_argument("folder", type=Path, metavar="DIR")
    writing.add_argument("--shared", type=Path, default=SHARED, metavar="DIR", help="real pairs (default: %(default)s)")
    comparing.add_argument("before", type=Path)
    comparing.add_argument("after", type=Path)
    comparing.add_argument("--added-keys-ok", action="store_true", help="keys that only AFTER has do not count")
    comparing.add_argument("--most", type=int, default=20, metavar="N", help="differences shown per record")
    for mode in (writing, comparing):
        mode.add_argument("--only", default="*", metavar="GLOB", help="names of the records, such as 'builtin-dense*'")
    given = parser.parse_args()
    if given.mode == "compare":
        sys.exit(
            bool(compare(given.before, given.after, given.only, added_keys_ok=given.added_keys_ok, most=given.most))
        )
    for name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS", "NUMBA_NUM_THREADS"):
        os.environ[name] = "1"
    sys.exit(bool(write(given.folder, given.only, given.shared.resolve())))


if __name__ == "__main__":
    main()
