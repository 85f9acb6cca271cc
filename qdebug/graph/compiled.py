"""How loops over single elements are compiled: by Numba, on their first use, without Python's lock while they run.

A loop takes flat arrays and NumPy scalars and allocates nothing that is large. Numba keeps what it has compiled beside
the source or in the user's cache; where neither can be written, it is compiled anew in every process.

Numba's sums of 32-bit numbers have 64 bits. They are cast back at once, where they fit: a loop on narrow numbers takes
two to five times as many elements in the same time.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np

P = ParamSpec("P")
R = TypeVar("R")


def inner(loop: Callable[P, R]) -> Callable[P, R]:
    """Compile a loop that only other loops call: what Python would call it by takes time to compile, too."""
    return compiled(loop, no_cpython_wrapper=True, no_cfunc_wrapper=True)


def compiled(loop: Callable[P, R], **more: bool) -> Callable[P, R]:
    """Compile a loop; as in NumPy, dividing by zero gives an infinity or NaN, and indices are not checked."""
    options = {"nogil": True, "error_model": "numpy", **more}
    try:
        made = numba.njit(loop, cache=True, **options)
    except RuntimeError:  # Numba's word for: no folder to keep it in
        made = numba.njit(loop, **options)
    return cast("Callable[P, R]", made)


def as_read(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """A view that is not written to: a loop is compiled once for those, and once more for others."""
    view = array.view()
    view.flags.writeable = False
    return view
