"""Samples that are images, as data URIs: from the arrays that lie beside a record.

Rules of this file: NumPy only where an array is read. What is no image, or cannot be read, is left out.
"""

from __future__ import annotations

import base64
import struct
import zlib
from typing import Any

_LARGEST = 256


def sample_images(arrays: bytes | None) -> dict[int, str]:
    """Number of a sample -> its image as a data URI."""
    if not arrays:
        return {}
    from qdebug.record.samples import INDEX, unpack_samples

    found: dict[int, str] = {}
    held = unpack_samples(arrays)
    numbers = held.pop(INDEX).tolist() if held else []
    for values in held.values():
        for index, one in zip(numbers, values, strict=False):
            grid = _as_image(one)
            if grid is not None:
                found.setdefault(int(index), _uri(grid))
    return found


def _as_image(values: Any) -> Any:
    """Return uint8 pixels, shape (height, width, 1 or 3), or `None` where these values are no image."""
    import numpy as np

    grid = np.asarray(values)
    if grid.ndim == 2:
        grid = grid[..., None]
    if (
        grid.ndim != 3
        or grid.shape[2] not in (1, 3)
        or not all(size >= 4 for size in grid.shape[:2])
        or not np.issubdtype(grid.dtype, np.number)
    ):
        return None
    grid = grid[:: max(1, -(-grid.shape[0] // _LARGEST)), :: max(1, -(-grid.shape[1] // _LARGEST))]
    real = np.nan_to_num(grid.astype(np.float64), posinf=0.0, neginf=0.0)
    low, high = float(real.min()), float(real.max())
    return np.rint((real - low) * (255 / (high - low) if high > low else 0)).astype(np.uint8)


def _uri(grid: Any) -> str:
    height, width, depth = grid.shape
    lines = b"".join(b"\0" + grid[row].tobytes() for row in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, 0 if depth == 1 else 2, 0, 0, 0)
    png = b"\x89PNG\r\n\x1a\n" + b"".join(
        _chunk(kind, body) for kind, body in ((b"IHDR", header), (b"IDAT", zlib.compress(lines)), (b"IEND", b""))
    )
    return "data:image/png;base64," + base64.b64encode(png).decode()


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
