"""Whether code of the user's takes part in a Keras model: then its file does not say all that the model computes."""

from __future__ import annotations

import sys
from functools import partial
from types import FunctionType, MethodType
from typing import Any

KERAS = ("tf_keras", "keras")
LIBRARIES = frozenset((*KERAS, "tensorflow", "tensorflow_model_optimization", "numpy", *sys.stdlib_module_names))
"""Packages whose code changes with their version alone."""


def is_registered() -> bool:
    """Whether this process has given either Keras a class or a function, for good or in a scope: any file may name it.

    What the libraries register themselves are classes and functions of theirs, as `package>name`.
    """
    for keras in filter(None, map(sys.modules.get, KERAS)):
        known = keras.utils.get_custom_objects()
        if _scope(keras) or any(">" not in name or is_own(found) for name, found in known.items()):
            return True
    return False


def _scope(keras: Any) -> Any:
    """What `custom_object_scope` has added in this thread, which neither Keras tells."""
    if keras.__name__ == "tf_keras":
        from tf_keras.src.saving import object_registration

        return object_registration._THREAD_LOCAL_CUSTOM_OBJECTS.__dict__
    from keras.src.backend.common import global_state

    return global_state.get_global_attribute("custom_objects_scope_dict")


def is_in(model: Any) -> bool:
    """Whether a layer of the model, or what it holds, is of a class or a function from elsewhere than the libraries."""
    layers = list(model._flatten_layers()) if hasattr(model, "_flatten_layers") else [model]
    return any(is_own(type(layer)) or any(map(is_own, vars(layer).values())) for layer in layers)


def is_own(found: Any) -> bool:
    """Whether a class or a function, anything that it wraps, or the class of anything else, is from elsewhere."""
    seen: set[int] = set()
    while found is not None and id(found) not in seen:
        if any(name.partition(".")[0] not in LIBRARIES for name in _homes(found)):
            return True
        seen.add(id(found))
        found = _inner(found)
    return False


def _homes(found: Any) -> set[str]:
    """Modules that something comes from; of a function also that of its code, which `functools.wraps` keeps."""
    made = found if isinstance(found, FunctionType | type) else type(found)
    written = found.__globals__.get("__name__") if isinstance(found, FunctionType) else None
    return {str(name or "builtins") for name in (getattr(made, "__module__", None), written)}


def _inner(found: Any) -> Any:
    """What a method, a partial function, a decorated one or a `tf.function` calls; `None` for anything else."""
    if isinstance(found, MethodType):
        return found.__func__
    if isinstance(found, partial):
        return found.func
    if isinstance(found, FunctionType):
        return getattr(found, "__wrapped__", None)
    if type(found).__module__.partition(".")[0] == "tensorflow" and callable(found):
        return getattr(found, "python_function", None)
    return None
