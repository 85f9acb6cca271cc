"""Open a Keras model as the reference: from a file or in memory, QAT or float, Keras 2 or Keras 3."""

from __future__ import annotations

import hashlib
import importlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.errors import ModelError, UsageError, first_line
from qdebug.models.limits import LimitError
from qdebug.models.quiet import quietly
from qdebug.models.reference import layer_config, own_code
from qdebug.models.reference.base import FrozenReference, Reference
from qdebug.models.reference.frozen_before import freeze_once
from qdebug.models.reference.frozen_graph import Frozen, freeze
from qdebug.models.reference.keras_file import ARCHIVE, DAMAGED, read_keras
from qdebug.models.tensorflow import load_tensorflow

OF_TFMOT = ("Quantiz", "NoOpActivation", "OutputOnly", "tensorflow_model_optimization")
"""Words of which one stands in the configuration of every class that tfmot's `quantize_scope` knows."""


MISMATCH = "count mismatch"
"""In Keras' words for a file with more weights in a layer than the layer has when it is made anew."""
PRESERVING_HINT = (
    "; quantization-aware training that preserves pruning or clustering (PQAT, CQAT, PCQAT) loads from "
    "a SavedModel alone: model.save('folder'), and give that"
)


@dataclass(frozen=True, eq=False)
class KerasReference(Reference):
    """A Keras model, QAT or float; `model` is the opened model."""

    keep: Callable[[str, Frozen], None] | None = None
    """Keeps its kind and its graph for the next time; `None` for a model that no file says all about."""

    @property
    def kind(self) -> str:
        """`qat` where any layer carries tfmot's quantizers, else `float`."""
        names = {type(layer).__name__ for layer in flat_layers(self.model)}
        return "qat" if names & {"QuantizeWrapper", "QuantizeWrapperV2", "QuantizeLayer"} else "float"

    @cached_property
    def frozen(self) -> Frozen:
        """The model as one graph; frozen when first asked for."""
        if self.keep is None:
            return freeze_once(self.model, weights_sha256)
        found = freeze(self.model)
        if not own_code.is_in(self.model):
            self.keep(self.kind, found)
        return found


@dataclass(frozen=True, eq=False)
class KeptReference(FrozenReference):
    """A Keras file whose graph is known from before; the model itself is loaded when it is asked for."""

    model: Any = field(init=False, repr=False)
    load: Callable[[], Any]

    def __getattr__(self, name: str) -> Any:
        if name != "model":
            raise AttributeError(name)
        object.__setattr__(self, "model", self.load())
        return self.model


def flat_layers(model: Any) -> Iterator[Any]:
    """Every layer of `model`, models inside it opened."""
    for layer in getattr(model, "layers", []):
        if getattr(layer, "layers", None):
            yield from flat_layers(layer)
        else:
            yield layer


def load_keras(path: Path, *, option: str, custom_objects: str | None = None, allow_lambda: bool = False) -> Any:
    """The Keras model in a `.h5`, a `.keras` or a SavedModel folder. Raises ModelError where there is none.

    What the file says of its layers is read first: one that holds Python code is refused unless `allow_lambda`.
    """
    known = () if custom_objects is None else custom_object_names(custom_objects)
    try:
        found = read_keras(path)
        for config in found.configs:
            layer_config.check(config, allow_lambda=allow_lambda, known=known)
    except (layer_config.ConfigError, LimitError, OSError, *DAMAGED) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or type(error).__name__
        raise ModelError(f"{option} {path}: {reason}", details=repr(error)) from error
    options: dict[str, Any] = {"safe_mode": False} if allow_lambda and found.kind == ARCHIVE else {}
    quantized = any(word in str(config) for config in found.configs for word in OF_TFMOT)
    with _scope(custom_objects, quantized=quantized):
        return _call_loader(
            lambda: _load(_keras(found.version), path, options),
            path,
            option,
            PRESERVING_HINT if quantized else "",
        )


def weights_sha256(model: Any) -> str:
    """Digest of a model's variables, in order."""
    digest = hashlib.sha256()
    for value in model.get_weights():
        digest.update(np.ascontiguousarray(value).tobytes())
    return digest.hexdigest()


@contextmanager
def _scope(custom_objects: str | None, *, quantized: bool) -> Iterator[None]:
    """The classes that Keras may need: the user's, and where the file holds `quantized` layers those of tfmot."""
    stack = load_tensorflow()
    with ExitStack() as scopes:
        if quantized:
            scopes.enter_context(stack.tfmot.quantization.keras.quantize_scope())
        if custom_objects is not None:
            named = custom_object_names(custom_objects)
            scopes.enter_context(stack.tf_keras.utils.custom_object_scope(named))
            import keras

            if keras.__version__.startswith("3"):
                scopes.enter_context(keras.utils.custom_object_scope(named))
        yield


def custom_object_names(module: str) -> Mapping[str, Any]:
    """The public classes and functions of `module`, by name. Raises UsageError where it cannot be imported."""
    try:
        found = importlib.import_module(module)
    except (Exception, SystemExit) as error:  # the module is the user's: whatever it raises on being imported
        raise UsageError(
            f"--custom-objects {module}: cannot be imported ({type(error).__name__}: {error}); give the "
            "name of a module on the Python path",
            details=repr(error),
        ) from error
    return {name: value for name, value in vars(found).items() if callable(value) and not name.startswith("_")}


def _keras(version: str) -> Any:
    if not version.startswith("3"):
        return load_tensorflow().tf_keras
    load_tensorflow()
    import keras

    return keras


def _load(keras: Any, path: Path, options: Mapping[str, Any]) -> Any:
    """What Keras loads. Only shapes are traced there, so Keras 2 is first asked to do it without AutoGraph.

    AutoGraph compiles the source of every layer class that is new to it: of a small QAT model that takes two seconds of
    three. A layer that needs it (`if` on a tensor) is loaded again, with it.
    """
    stack = load_tensorflow()

    def load() -> Any:
        return keras.models.load_model(str(path), compile=False, **options)

    if keras is not stack.tf_keras:
        return load()
    try:
        return stack.tf.autograph.experimental.do_not_convert(load)()
    except Exception:  # noqa: BLE001 (what is wrong with the file itself is wrong the second time too)
        return load()


def _call_loader(load: Any, path: Path, option: str, mismatch_hint: str) -> Any:
    try:
        with quietly():
            model = load()
    except Exception as error:
        unknown = "nknown" in str(error) or "ocate" in str(error)
        hint = mismatch_hint if MISMATCH in str(error) else "; name its module with --custom-objects" if unknown else ""
        raise ModelError(
            f"{option} {path}: Keras cannot load it: {first_line(error)}{hint}", details=str(error)
        ) from error
    if not getattr(model, "layers", None):
        raise ModelError(f"{option} {path}: no Keras layers in it; give the .keras or .h5 file of model.save()")
    return model
