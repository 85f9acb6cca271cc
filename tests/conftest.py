"""Options of the whole suite."""

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

# No test fails for how long it takes: others may use the machine.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--train-from",
        type=int,
        default=0,
        metavar="N",
        help="train the built-in models anew, from other random numbers: N is added to every seed",
    )
    parser.addoption("--fuzz", type=int, default=0, metavar="N", help="damage N files of every kind, not a minute's")
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
