"""How slices of the data reach a worker: read from a file that is mapped, sent as stored, or refused in one line."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from qdebug.errors import InputError, StoreError, UsageError
from qdebug.models.data.lazy_array import deferred, let_go, picked
from qdebug.workflows.shards import pools
from qdebug.workflows.shards.crew import crew_of, hire, told
from qdebug.workflows.shards.slices import ArrayPart, LeftPart, Source, Stored, leave, takes_shard
from qdebug.workflows.team import legs

VALUES = np.arange(60, dtype=np.uint8).reshape(10, 2, 3)
CHOSEN = [slice(0, 4), slice(7, 10), np.array([1, 5, 9])]


def mapped(folder: Path) -> np.ndarray:
    """The values in a file."""
    path = folder / "values.npy"
    np.save(path, VALUES)
    return np.load(path, mmap_mode="r")


@pytest.mark.parametrize("chosen", CHOSEN)
def test_a_part_holds_the_samples_that_were_chosen(tmp_path, chosen):
    """In memory, in a file, as a view of one, divided late: what a worker unpacks is what the client would slice."""
    file = mapped(tmp_path)
    for array, wanted in (
        (VALUES, VALUES),
        (file, VALUES),
        (file[2:], None),
        (deferred(file, divisor=255.0), None),
        (deferred(VALUES), None),
    ):
        known = np.asarray(array) if wanted is None else wanted
        if isinstance(chosen, np.ndarray) and len(known) < len(VALUES):
            continue
        part = pickle.loads(pickle.dumps(Source([array]).part(chosen)))
        (found,) = part.arrays()

        assert np.array_equal(np.asarray(found[:]), known[chosen])
        assert found.dtype == array.dtype


def test_a_file_is_not_sent(tmp_path):
    """A worker is told where the samples lie, not what they are; 8-bit samples are sent as 8 bits."""
    stored, sent = Source([mapped(tmp_path)]).part(slice(0, 4)), Source([deferred(VALUES)]).part(slice(0, 4))

    assert isinstance(stored, ArrayPart)
    assert isinstance(stored.held[0], Stored)
    assert sent.held[0].dtype == np.uint8


def test_a_worker_that_cannot_read_the_path_says_so(tmp_path):
    """Which worker, which path, and what to do."""
    gone = Stored(str(tmp_path / "gone.npy"), 128, (10, 2, 3), "|u1", slice(0, 4))

    with pytest.raises(InputError, match=r"worker .* cannot read .*gone\.npy \(No such file.*a path that all workers"):
        gone.read()


@pytest.mark.parametrize("chosen", CHOSEN)
def test_samples_that_are_left_in_a_file_are_the_same(tmp_path, chosen):
    """Those in memory are left, divided late or not; those in a file of the user's are read there."""
    for array in (VALUES, deferred(VALUES, divisor=255.0)):
        part = leave(Source([array]).part(chosen), tmp_path)
        (found,) = pickle.loads(pickle.dumps(part)).arrays()

        assert isinstance(part, LeftPart)
        assert len(pickle.dumps(part)) < 500
        assert np.array_equal(found[:], array[chosen])
        part.file.unlink()
    assert isinstance(leave(Source([mapped(tmp_path)]).part(chosen), tmp_path), ArrayPart)


def test_samples_that_cannot_be_left_or_are_gone_are_told(tmp_path):
    """Where, why, and what to do."""
    part = Source([VALUES]).part(slice(0, 4))
    with pytest.raises(StoreError, match=r"cannot write samples for the workers: .*; make room in .*nowhere"):
        leave(part, tmp_path / "nowhere")
    left = leave(part, tmp_path)
    assert isinstance(left, LeftPart)
    left.file.write_bytes(left.file.read_bytes()[:20])
    with pytest.raises(InputError, match=r"worker .* cannot read .*: leave the folder"):
        left.arrays()
    left.file.unlink()
    with pytest.raises(InputError, match=r"worker .* cannot read .* \(No such file or directory\): leave the folder"):
        left.arrays()


def test_nothing_is_left_of_samples_that_do_not_fit(tmp_path, monkeypatch):
    """A full disk is told, and what was written of them goes."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pickle, "dump", full)
    with pytest.raises(StoreError, match="No space left on device"):
        leave(Source([VALUES]).part(slice(0, 4)), tmp_path)
    assert not list(tmp_path.iterdir())


def test_samples_by_number_are_read_where_they_are_sliced(tmp_path):
    """Any numbers, in batches, also after the pages that were read are let go of."""
    file, numbers = mapped(tmp_path), np.array([9, 0, 3, 4])
    (found,) = picked([file], numbers)
    first = found[:2]
    let_go(found)

    assert len(found) == 4
    assert np.array_equal(first, VALUES[[9, 0]])
    assert np.array_equal(found[2:], VALUES[[3, 4]])


def test_legs_cover_all_samples_once():
    """One after the other, the last one shorter."""
    assert legs(10, 4) == [slice(0, 4), slice(4, 8), slice(8, 10)]


def test_a_function_makes_slices_where_it_has_the_argument():
    """`shard` by name."""
    assert takes_shard(lambda shard=None: shard)
    assert not takes_shard(lambda: None)
    assert not takes_shard(np.zeros(3))


def test_samples_in_words():
    """One, from to, or the ends of those that were chosen."""
    assert told(slice(3, 4)) == "sample 3"
    assert told(slice(0, 500)) == "samples 0 to 499"
    assert told(np.array([5, 2, 8])) == "samples 2 to 8"


def test_what_is_no_executor_and_a_cluster_that_is_not_there_are_refused(monkeypatch):
    """One line each, with the value."""
    monkeypatch.setattr(pools, "SECONDS", 1)
    with pytest.raises(UsageError, match="executor is a int: give a"):
        hire(2)
    with pytest.raises(UsageError, match=r"--scheduler tcp://127\.0\.0\.1:9 cannot be reached"):
        crew_of(None, "tcp://127.0.0.1:9")
