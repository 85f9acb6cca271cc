"""The names that a user may give: kernel families, built-in models. Standard library only."""

from __future__ import annotations

from enum import StrEnum
from importlib.util import find_spec


class Kernels(StrEnum):
    """Which kernels run the candidate."""

    XNNPACK = "xnnpack"
    BUILTIN = "builtin"
    REFERENCE = "reference"
    TFLM = "tflm"
    ALL = "all"


TFLM = str(Kernels.TFLM)
DEVICE = "device"
"""What stands in the place of a kernel family where a dump of a device's tensors does."""
FAMILIES = tuple(str(one) for one in Kernels if one not in (Kernels.ALL, Kernels.TFLM))
"""LiteRT's kernel families: what ships by default, TFLite's optimized kernels, and its plain reference kernels."""
RESOLVERS = {"xnnpack": "AUTO", "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}
"""Which `OpResolverType` of LiteRT chooses the kernels of each family."""

BUILT_IN = ("dense1", "dense2", "dense3", "dense4", "cnn", "resnet", "mobile", "branches")
"""The built-in models, by name."""


def has_tflm() -> bool:
    """Whether TensorFlow Lite Micro is installed."""
    return find_spec("tflite_micro") is not None


def on_host(kernels: str) -> str:
    """The family of LiteRT that goes on where `kernels` cannot: a device's, or TFLM's, cannot start in the middle."""
    return kernels if kernels in FAMILIES else str(Kernels.REFERENCE)
