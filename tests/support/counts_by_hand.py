"""Counts and expectations written by hand, for tests of the judge."""

import numpy as np

from qdebug.verdict.accumulators import CodeStats
from qdebug.verdict.expectation import Expectation


def expectation(tau: float = 0.01, **other) -> Expectation:
    return Expectation(np.array([tau]), np.array([0.001]), **other)


def counted(candidate: np.ndarray, local: np.ndarray, near_boundary: np.ndarray | None = None, **more) -> CodeStats:
    stats = CodeStats("int8", 0.1, 0, candidate.shape[-1])
    stats.update(candidate, local, local.copy(), near_boundary=near_boundary, first=0, **more)
    return stats


def flipped(count: int, by: int = 1, size: int = 10_000) -> tuple[np.ndarray, np.ndarray]:
    local = np.zeros((100, size // 100), np.int8)
    candidate = local.copy()
    candidate.reshape(-1)[:count] += by
    return candidate, local
