"""Options of the whole suite."""

import gc
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

# No test fails for how long it takes: others may use the machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


TOGETHER = (
    (
        "fuzz/test_fuzz.py",
        "align/test_align_models.py",
        "measure/test_two_files.py",
        "workflows/test_shards.py",
        "workflows/test_cure.py",
        "workflows/test_mend.py",
        "workflows/test_reproduce.py",
        "workflows/test_map.py",
        "measure/test_layer_pass.py",
        "measure/test_unlike.py",
        "models/test_kept_graphs.py",
        "models/test_convert.py",
        "models/test_folded_variables.py",
        "findings/test_audit.py",
        "findings/test_shared_grids.py",
        "verdict/test_kernel_rounding.py",
        "record/test_json_schema.py",
        "test_python.py",
    ),
    ("faults/test_faults.py", "faults/test_mended.py"),
)
"""Files that one process runs, one after the other: they use the same networks, which each process makes for itself."""
LONG = (
    *TOGETHER[0],
    "models/test_builtin.py",
    "cost/test_costs.py",
    *TOGETHER[1],
    "faults/test_losses.py",
    "faults/test_cured.py",
    "measure/test_float_reference.py",
    "workflows/test_wild.py",
    "workflows/test_odd_networks.py",
)
"""The files that take longest: they begin, so that no process waits for the other's last long file."""


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files of tests stay whole; those in `LONG` come first."""
    places = {Path(__file__).parent / name: place for place, name in enumerate(LONG)}
    items.sort(key=lambda item: places.get(item.path, len(LONG)))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Hand out whole files, and those of `TOGETHER` as one."""
    from xdist.scheduler import LoadFileScheduling

    first = {f"tests/{name}": f"tests/{files[0]}" for files in TOGETHER for name in files}

    class Scheduling(LoadFileScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            file: str = super()._split_scope(nodeid)
            return first.get(file, file)

    return Scheduling(config, log)


def pytest_runtest_teardown() -> None:
    """Leave what large packages made on import out of garbage collections: TensorFlow's take a sixth of the time."""
    if len(sys.modules) > _LOADED[0] + 200:
        _LOADED[0] = len(sys.modules)
        gc.freeze()


_LOADED = [len(sys.modules)]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--train-from",
        type=int,
        default=0,
        metavar="N",
        help="train the built-in models anew, from other random numbers: N is added to every seed",
    )
    parser.addoption("--fuzz", type=int, default=0, metavar="N", help="damage N files of every kind, not a few")
    parser.addoption("--fuzz-seed", type=int, default=1, metavar="N", help="seed of the damage")


@pytest.fixture(scope="session", autouse=True)
def _training(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """With --train-from no test sees the weights that it was written with; the cache is a new one."""
    added = request.config.getoption("--train-from")
    with pytest.MonkeyPatch.context() as patch:
        if added:
            from qdebug.models.builtin import training

            plain = training._seed
            patch.setattr(training, "_seed", lambda seed: plain(seed + added))
            patch.setenv("QDEBUG_CACHE", str(tmp_path_factory.mktemp("trained")))
        yield
