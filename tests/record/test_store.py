"""The store keeps whole records, under numbers that nobody else has."""

import errno
import json
import multiprocessing
import os
import tempfile
from pathlib import Path
from typing import Any

import pytest

from qdebug.errors import StoreError
from qdebug.record import store as store_module
from qdebug.record.schema import Run
from qdebug.record.store import Store
from tests.support import run_records


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "runs")


def files(store: Store) -> list[str]:
    return sorted(path.name for path in store.path.iterdir())


def test_arrays_of_a_run_lie_beside_it(tmp_path):
    """A run's arrays are saved beside its record and found again by number and by path, and are not in the JSON."""
    store = Store(tmp_path)
    run = store.save(run_records.run(arrays=b"npz"))

    assert store.arrays("1", run) == store.arrays(str(tmp_path / f"{run.id}.json"), run) == b"npz"
    assert b"arrays" not in (tmp_path / f"{run.id}.json").read_bytes()
    assert (tmp_path / f"{run.id}.json").stat().st_mode & 0o600 == 0o600


def test_record_reloads_equal(store: Store):
    """A record reloads equal to what was saved, its id set."""
    saved = store.save(run_records.diverged_run(id=""), slug="branches-s0")

    assert saved.id == "0001-branches-s0"
    assert store.find("latest") == saved
    assert list(store.runs()) == [saved]


def test_store_ignores_itself_in_git(store: Store):
    """The directory has a .gitignore that covers all of it, and nothing else is left beside the record."""
    store.save(run_records.run(arrays=b"arrays"), slug="dense4-s3")

    assert (store.path / ".gitignore").read_text() == "*\n"
    assert files(store) == [".gitignore", "0001-dense4-s3.json", "0001-dense4-s3.npz"]
    assert (store.path / "0001-dense4-s3.npz").read_bytes() == b"arrays"


def test_numbers_count_up_and_sort_as_numbers(store: Store):
    """Numbers go on after the highest one, also past four digits."""
    store.save(run_records.run(), slug="a")
    (store.path / "9999-b.npz").write_bytes(b"")

    assert store.save(run_records.run(), slug="c").id == "10000-c"
    assert [run.id for run in store.runs()] == ["0001-a", "10000-c"]


def test_slug_becomes_a_file_name(store: Store):
    """Whatever the caller's slug holds, the file stays in the store."""
    assert store.save(run_records.run(), slug="../a b/[x]").id == "0001-a-b-x"
    assert store.save(run_records.run(), slug="///").id == "0002-run"


@pytest.mark.parametrize("text", ["2", "0002", "0002-b", "latest"])
def test_find(store: Store, text: str):
    """A run is found by id, by number with or without zeros, and as the latest."""
    store.save(run_records.run(), slug="a")
    second = store.save(run_records.run(), slug="b")

    assert store.find(text) == second


def test_find_by_path(store: Store, tmp_path: Path):
    """A record's path works from any place, under any file name."""
    saved = store.save(run_records.run(), slug="a")
    copy = tmp_path / "copy.json"
    copy.write_bytes((store.path / "0001-a.json").read_bytes())

    assert store.find(str(copy)) == saved


def _save_many(path: Path, slug: str, count: int) -> None:
    for _ in range(count):
        Store(path).save(run_records.run(arrays=b"x" * 1000), slug=slug)


def test_concurrent_writers_never_share_a_number(store: Store):
    """Four processes that write at once give as many numbers as records, without a gap that overwrites."""
    context = multiprocessing.get_context("fork")
    workers = [context.Process(target=_save_many, args=(store.path, f"w{number}", 10)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()

    assert [worker.exitcode for worker in workers] == [0] * 4
    records = [name for name in files(store) if name.endswith(".json")]
    assert len(records) == 4 * 10
    assert len({name[:4] for name in records}) == 4 * 10
    assert sum(1 for _ in store.runs()) == 4 * 10
    assert not [name for name in files(store) if name.endswith((".part", ".claim"))]


def test_stale_claim_costs_a_number_only(store: Store):
    """A claim left by a killed process is stepped over."""
    store.path.mkdir()
    (store.path / ".0001.claim").touch()

    assert store.save(run_records.run(), slug="a").id == "0002-a"


def test_number_published_after_the_look_is_not_taken_again(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A number that another process published between the look and the claim is stepped over."""
    store.save(run_records.run(), slug="other")
    monkeypatch.setattr(Store, "_numbers", lambda _: iter(()))

    assert store.save(run_records.run(), slug="mine").id == "0002-mine"


@pytest.mark.parametrize("failure", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_interrupted_save_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch, failure: BaseException):
    """A save that is interrupted after its arrays were written leaves neither record nor arrays."""
    write = store_module.write_whole

    def interrupted(path: Path, content: bytes) -> None:
        if path.suffix == ".json":
            raise failure
        write(path, content)

    monkeypatch.setattr(store_module, "write_whole", interrupted)
    with pytest.raises((KeyboardInterrupt, StoreError)):
        store.save(run_records.run(arrays=b"arrays"), slug="a")

    assert not store.path.exists()


def test_interrupted_write_leaves_nothing(store: Store, monkeypatch: pytest.MonkeyPatch):
    """A failure before the rename leaves no temporary file."""

    def fail(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match=r"cannot save the run in .*: Input/output error"):
        store.save(run_records.run(), slug="a")

    assert not store.path.exists()


def test_a_failed_save_leaves_the_runs_before_it(store: Store, monkeypatch: pytest.MonkeyPatch):
    """The folder of a store goes only where the save that failed has made it."""
    store.save(run_records.run(), slug="first")
    before = files(store)

    def fail(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(StoreError, match="No space left on device"):
        store.save(run_records.run(), slug="second")

    assert files(store) == before


def test_nan_is_not_saved(store: Store):
    """A run that holds NaN is refused before anything is written."""
    with pytest.raises(ValueError, match="cannot hold nan"):
        store.save(run_records.run(timing={"total_s": float("nan")}, arrays=b"arrays"), slug="a")

    assert not store.path.exists()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not JSON"),
        (b"{", "not JSON"),
        (b"\xff\x00\x9c", "not JSON"),
        (b"[" * 100000, "not JSON"),
        (b'{"schema": 1, "kind": "run", "x": NaN}', "NaN is no JSON number"),
        (b"[1]", "no `schema`"),
        (b'{"schema": 1, "kind": "run"}', "not a Run record"),
    ],
)
def test_corrupt_record_is_named_and_the_others_listed(store: Store, content: bytes, message: str):
    """Empty, cut, random and foreign files are named; the other records are listed all the same."""
    good = store.save(run_records.run(), slug="good")
    (store.path / "0002-bad.json").write_bytes(content)
    found: list[StoreError] = []

    assert list(store.runs(found.append)) == [good]
    assert len(found) == 1
    assert "0002-bad.json" in str(found[0])
    assert message in str(found[0])
    assert "\n" not in str(found[0])
    with pytest.raises(StoreError, match="corrupt record"):
        store.find("2")


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("costs", {"repairs": 0.5}),
        ("costs", {"repairs": [{"layer": "a", "restored_percent": "much", "agreement": None}]}),
        ("costs", {"repairs": [{"layer": "a"}]}),
        ("costs", {"layers": [{"drop": 0.1}]}),
        ("costs", {"layers": [["a"]]}),
        ("costs", {"parts": [{"part": "training", "layers": {"a": 1}}]}),
        ("costs", {"samples": 1.5}),
        ("label_flips", {"samples": 10, "flipped": 11, "layers": []}),
        ("label_flips", {"samples": 10, "flipped": -1, "layers": []}),
        ("label_flips", {"samples": 10, "flipped": 1, "layers": [{"layer": "a"}]}),
        ("checks", [{"code": "QD101", "explained": ["a"]}]),
        ("data", {"samples": "many"}),
        ("candidate", {"source": 3}),
    ],
)
def test_free_parts_of_another_shape_are_damage(store: Store, part: str, value: Any):
    """What the schema leaves open is told as damaged where it is read, not where it is shown."""
    path = store.path / f"{store.save(run_records.run(), slug='a').id}.json"
    plain = json.loads(path.read_text())
    path.write_text(json.dumps({**plain, part: value}))

    with pytest.raises(StoreError, match=f"corrupt record .*: {part}"):
        store.find("1")


def test_record_of_another_schema(store: Store):
    """A record of another schema says which one it is and which one can be read."""
    store.save(run_records.run(), slug="a")
    path = store.path / "0001-a.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 2}))

    with pytest.raises(StoreError, match="its schema is 2, this qdebug reads schema 1"):
        store.find("1")


def test_other_kinds_are_not_runs(tmp_path: Path, store: Store):
    """The JSON of another command is not taken for a run."""
    path = tmp_path / "summary.json"
    path.write_text('{"schema": 1, "kind": "summary", "rows": []}')

    with pytest.raises(StoreError, match="it holds 'summary', not a run"):
        store.find(str(path))


def test_renamed_record(store: Store):
    """A record under another record's name is not taken for it."""
    store.save(run_records.run(), slug="a")
    (store.path / "0001-a.json").rename(store.path / "0005-b.json")

    with pytest.raises(StoreError, match="holds the run '0001-a'"):
        store.find("5")


def test_nothing_recorded(store: Store):
    """An absent store lists nothing, is not created, and says what to do."""
    assert list(store.runs()) == []
    with pytest.raises(StoreError, match=r"nothing is recorded in .* yet: run `qdebug trace`"):
        store.find("latest")
    assert not store.path.exists()


def test_no_such_run_says_which_exist(store: Store):
    """A wrong number is answered with the runs that exist, the newest ones by name."""
    for slug in "abcdefg":
        store.save(run_records.run(), slug=slug)

    with pytest.raises(StoreError, match=r"no run '9' in .*: it holds 0003-c, .*0007-g and 2 older ones"):
        store.find("9")


@pytest.mark.parametrize("text", ["²", "", "-1", "0001", "1e0"])
def test_odd_numbers_are_no_runs(store: Store, text: str):
    """Text that is no number is looked up as an id, without a crash."""
    store.save(run_records.run(), slug="a")
    (store.path / "0001-a.json").rename(store.path / "0003-a.json")

    with pytest.raises(StoreError, match="no run"):
        store.find(text)


def test_path_is_a_file(tmp_path: Path):
    """A file in the place of the store is named, for reading and for writing."""
    path = tmp_path / "file"
    path.write_text("mine")

    with pytest.raises(StoreError, match="is a file"):
        list(Store(path).runs())
    with pytest.raises(StoreError, match="is a file"):
        Store(path / "below").save(run_records.run())
    assert path.read_text() == "mine"


def test_unwritable_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """An unwritable place is told in one line, before and at the saving; nothing is created."""
    with pytest.raises(StoreError, match="cannot keep runs in /proc/"):
        Store("/proc/qdebug-runs").save(run_records.run())

    def refuse(**_: object) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(StoreError, match="cannot be written"):
        Store(tmp_path / "a" / "b").check_writable()
    assert list(tmp_path.iterdir()) == []


def test_remove_and_keep(store: Store):
    """Removing takes the arrays along; keeping N leaves the newest N, corrupt records counted."""
    runs: list[Run] = [store.save(run_records.run(arrays=b"x"), slug=slug) for slug in "abcd"]
    (store.path / "0002-b.json").write_text("{")

    assert store.remove(runs[3]) == "0004-d"
    assert store.keep(1) == ["0001-a", "0002-b"]
    assert files(store) == [".gitignore", "0003-c.json", "0003-c.npz"]
    assert store.keep(0) == ["0003-c"]
    assert store.keep(3) == []


def test_arrays_path(store: Store):
    """The arrays of a run are found, and their absence is told."""
    first = store.save(run_records.run(arrays=b"x"), slug="a")
    second = store.save(run_records.run(), slug="b")

    assert store.arrays_path(first) == store.path / "0001-a.npz"
    assert store.arrays_path(second) is None
