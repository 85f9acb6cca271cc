"""The larger arrays of a run: the inputs of its worst samples, as one `.npz`. NumPy is imported when it is asked for.

`index` holds the numbers of the samples; arrays named `sketch.…` hold what the rows' tensors look like on the first
ones; every other array holds one input of the model for them, in this order.
"""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

INDEX, SKETCH = "index", "sketch."
_MOST_SAMPLES, _MOST_BYTES = 64, 16 << 20
_LEVEL = 1
"""Of compression: NumPy's own takes seven times as long for an eighth less (27 images of 32 x 32 x 3 in float32)."""


def pack_samples(
    samples: Sequence[int], inputs: Mapping[str, Any], sketch: Mapping[str, Any] | None = None
) -> bytes | None:
    """The inputs of these samples, as many as 64 and as fit in 16 MB; `None` where there is none.

    `sketch` holds arrays of another kind, which `unpack_sketch` gives back.
    """
    import numpy as np

    unique = list(dict.fromkeys(samples))
    size = sum(array[:1].nbytes for array in inputs.values())
    chosen = np.array(unique[: min(_MOST_SAMPLES, _MOST_BYTES // max(1, size))], np.int64)
    if not chosen.size or any(name == INDEX for name in inputs):
        return None
    arrays = {name.replace("/", "_"): array[chosen] for name, array in inputs.items()}
    arrays |= {f"{SKETCH}{name}": array for name, array in (sketch or {}).items()}
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL) as archive:
        for name, array in {INDEX: chosen, **arrays}.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                np.lib.format.write_array(file, np.asanyarray(array), allow_pickle=False)
    return buffer.getvalue()


def unpack_samples(arrays: bytes | None) -> dict[str, Any]:
    """The samples that `pack_samples` packed, by name; empty where there is nothing, or nothing that can be read."""
    return {name: array for name, array in _unpack(arrays).items() if not name.startswith(SKETCH)}


def unpack_sketch(arrays: bytes | None) -> dict[str, Any]:
    """The sketch that was packed with the samples, by name; empty where there is none."""
    found = _unpack(arrays)
    return {name.removeprefix(SKETCH): array for name, array in found.items() if name.startswith(SKETCH)}


def _unpack(arrays: bytes | None) -> dict[str, Any]:
    if not arrays:
        return {}
    import numpy as np

    try:
        with np.load(io.BytesIO(arrays), allow_pickle=False) as file:
            found = {name: file[name] for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zlib.error, zipfile.BadZipFile):
        return {}
    return found if INDEX in found else {}
