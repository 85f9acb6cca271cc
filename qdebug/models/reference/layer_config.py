"""What a Keras file says of its layers, read as JSON alone: whether to open it would run code, or never end.

Keras takes a file at its word. A Lambda layer holds Python byte code; the key `module` names what is imported to find
a class; a layer that is fed by itself is waited for without end. All of it stands in the config, so it is told before
Keras sees the file. Nothing is imported and nothing run here.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

LAMBDA, CODE = "Lambda", "__lambda__"
"""The layer that holds a function, and how a function without a name is written since Keras 2.13."""
FUNCTIONS = (("function", "function_type"), ("output_shape", "output_shape_type"), ("mask", "mask_type"))
"""Where a Lambda layer holds functions, and where it says of what kind each of them is."""
KERAS_MODULES = (
    "keras",
    "tf_keras",
    "tensorflow.keras",
    "tensorflow.python.keras",
    "tensorflow_model_optimization",
    "builtins",
)
"""Modules whose classes Keras files may name without being asked."""
OPS_OF_TENSORFLOW = {
    "TFOpLambda": "function",
    "ClassMethod": "cls_symbol",
    "InstanceMethod": "cls_symbol",
    "InstanceProperty": "cls_symbol",
}
"""Layers that call a function of TensorFlow by its name, and the key of that name."""
UNSAFE_OPS = frozenset(
    {
        "io",
        "raw_ops",
        "py_function",
        "numpy_function",
        "py_func",
        "load_library",
        "load_op_library",
        "data",
        "saved_model",
        "train",
        "summary",
        "profiler",
        "compat",
        "distribute",
        "sysconfig",
        "test",
        "debugging",
        "config",
        "function",
        "autograph",
        "experimental",
        "print",
        "lookup",
        "keras",
        "estimator",
        "__internal__",
        "eval",
        "exec",
        "mlir",
        "tpu",
        "types",
        "version",
        "xla",
        "queue",
    }
)
"""Parts of TensorFlow's names that reach beyond tensors: files, processes, Python."""

Node = tuple[str, int]
"""One use of a layer: its name, and the number of the use."""


class ConfigError(ValueError):
    """Why a config is not given to Keras, in a few words, and what the user can do."""


def parsed(text: str | bytes, what: str) -> Any:
    """The JSON document of `text`. Raises ConfigError where it is none, or nested too deep to be one of Keras.

    Also where a text in it is half a character (a surrogate alone): names of layers go into files.
    """
    try:
        found = json.loads(text)
        json.dumps(found, ensure_ascii=False).encode()
        return found
    except (ValueError, RecursionError) as error:
        reason = "nested too deep" if isinstance(error, RecursionError) else str(error)
        raise ConfigError(f"its {what} is no JSON ({reason}); save the model again") from error


def check(config: Any, *, allow_lambda: bool = False, known: Collection[str] = ()) -> None:
    """Raise ConfigError where opening a model of this config runs code of the file's choice, or would not end.

    `known` are names that the user's own module gives, which are then not looked for elsewhere.
    """
    for holder, name in _holders(config, ""):
        _check_module(holder, name, known)
        _check_op(holder, name)
        if not allow_lambda:
            _check_function(holder, name)
        _check_layers(holder)


def _holders(config: Any, name: str) -> Iterator[tuple[Mapping[str, Any], str]]:
    """Every dictionary of the config, with the name of the layer around it."""
    stack = [(config, name)]
    while stack:
        at, around = stack.pop()
        if isinstance(at, dict):
            inner = at.get("config")
            for given in (at.get("name"), inner.get("name") if isinstance(inner, dict) else None):
                around = given if isinstance(given, str) and "class_name" in at else around
            yield at, around
            stack += [(value, around) for value in at.values() if isinstance(value, (dict, list))]
        elif isinstance(at, list):
            stack += [(value, around) for value in at if isinstance(value, (dict, list))]


def class_name(holder: Mapping[str, Any]) -> str:
    """The class that an entry of a config is of, without its package."""
    return str(holder.get("class_name", "")).rpartition(">")[2].rpartition(".")[2]


def _check_function(holder: Mapping[str, Any], name: str) -> None:
    kind, inner = class_name(holder), holder.get("config")
    if kind == CODE or (kind == LAMBDA and not (isinstance(inner, dict) and _is_named(inner))):
        raise ConfigError(
            f"layer {name!r} is a Lambda, which holds Python code that runs when the file is opened; give "
            "--allow-lambda if you trust whoever made the file, or write the layer as a class and give "
            "--custom-objects"
        )


def _is_named(inner: Mapping[str, Any]) -> bool:
    """Whether a Lambda layer names its functions instead of holding their code."""
    function = inner.get("function")
    by_name = isinstance(function, str) or (isinstance(function, dict) and function.get("class_name") == "function")
    return (
        by_name
        and all(inner.get(kind) in (None, "function", "raw") for _, kind in FUNCTIONS)
        and not any(
            isinstance(inner.get(key), list) and any(isinstance(entry, str) for entry in inner[key])
            for key, _ in FUNCTIONS
        )
    )


def _check_module(holder: Mapping[str, Any], name: str, known: Collection[str]) -> None:
    module, kind = holder.get("module"), class_name(holder)
    if module is None or "class_name" not in holder:
        return
    named = {
        kind,
        str(holder.get("registered_name", "")).rpartition(">")[2],
        str(holder["config"]) if isinstance(holder.get("config"), str) else kind,
    }
    ours = any(module == given or str(module).startswith(f"{given}.") for given in KERAS_MODULES)
    if ours and not (kind == "function" and "utils" in str(module).split(".")):
        return
    if not named & set(known):
        raise ConfigError(
            f"layer {name!r} is {kind or 'something'} of the module {str(module)[:80]!r}, which Keras would import; "
            "give --custom-objects MODULE with that class in it if you trust it"
        )


def _check_op(holder: Mapping[str, Any], name: str) -> None:
    key, inner = OPS_OF_TENSORFLOW.get(class_name(holder)), holder.get("config")
    if key is None or not isinstance(inner, dict):
        return
    called = str(inner.get(key, "")).removeprefix("compat.v1.").removeprefix("compat.v2.")
    if UNSAFE_OPS & set(called.split(".")):
        raise ConfigError(
            f"layer {name!r} calls tf.{called[:80]}, which reaches beyond tensors; take the layer out of the model"
        )


# -- who feeds whom ------------------------------------------------------------------------------------------


def _check_layers(holder: Mapping[str, Any]) -> None:
    """Whether a functional model's layers can be made one after the other: Keras waits for ever where they cannot."""
    layers = holder.get("layers")
    if not isinstance(layers, list) or not any(
        isinstance(layer, dict) and layer.get("inbound_nodes") for layer in layers
    ):
        return
    needs: dict[Node, list[set[Node]]] = {}
    strange = [layer for layer in layers if not isinstance(layer, dict)]
    if strange:
        raise ConfigError(f"a layer of it is {str(strange[0])[:40]!r}; save the model again")
    names = {_name(layer) for layer in layers}
    for layer in layers:
        name = _name(layer)
        nodes = layer.get("inbound_nodes")
        if nodes is None or nodes == []:  # (an input makes its tensor itself; other layers are then never called)
            nodes = [[]] if "Input" in class_name(layer) else []
        if not isinstance(nodes, list):
            raise ConfigError(f"the inputs of layer {name!r} are no list; save the model again")
        for first in _first_uses(layer):
            for number, node in enumerate(nodes):
                needs.setdefault((name, first + number), []).append(set(_fed_by(node, names)))
    _check_order(needs)


def _name(layer: Mapping[str, Any]) -> str:
    inner = layer.get("config")
    return str(layer.get("name") or (inner.get("name") if isinstance(inner, dict) else None))


def _first_uses(layer: Mapping[str, Any]) -> tuple[int, ...]:
    """Number of a layer's first use: a model inside of the model has one use of its own before (so Keras counts)."""
    inner = layer.get("config")
    if not isinstance(inner, dict) or "layers" not in inner:
        return (0,)
    return (1,) if class_name(layer) in ("Functional", "Model") else (0, 1)


def _check_order(needs: Mapping[Node, Sequence[set[Node]]]) -> None:
    """Raise ConfigError where a use needs one that is not there, or that needs it in turn; one of its ways will do."""
    for (name, _), ways in needs.items():
        unknown = min((sorted(given - needs.keys()) for given in ways), key=len)
        if unknown:
            raise ConfigError(
                f"layer {name!r} reads {unknown[0][0]!r} (use {unknown[0][1]}), which the model does not have; "
                "save the model again"
            )
    ready: set[Node] = set()
    waiting = dict(needs)
    while waiting:
        made = {node for node, ways in waiting.items() if any(given <= ready for given in ways)}
        if not made:
            names = sorted({name for name, _ in waiting})
            raise ConfigError(
                f"its layers feed each other in a circle ({', '.join(names[:4])}{', ...' if len(names) > 4 else ''}); "
                "save the model again"
            )
        ready |= made
        waiting = {node: ways for node, ways in waiting.items() if node not in made}


def _fed_by(node: Any, names: Collection[str]) -> Iterator[Node]:
    """Layer and use of every tensor that one use of a layer reads, as Keras 2 writes them and as Keras 3 does.

    Raises ConfigError where the use of one of the layers (`names`) is no number: Keras waits for ever for it.
    """
    stack, written_by_2 = [node], isinstance(node, list)
    while stack:
        at = stack.pop()
        if isinstance(at, dict):
            history = at.get("keras_history")
            if isinstance(history, list) and len(history) == 3:
                yield from _use([*history[:2], 0], names)
            stack += at.values()
        elif isinstance(at, list):
            found = list(_use(at, names)) if written_by_2 and len(at) in (3, 4) and isinstance(at[0], str) else []
            yield from found
            stack += at[3:] if found else at


CONSTANT = "_CONSTANT_VALUE"
"""What Keras 2 writes for the layer where a call is given a number."""


def _use(at: Sequence[Any], names: Collection[str]) -> Iterator[Node]:
    """The layer and its use in the first two of `at`; nothing where that is a list of something else."""
    if at[0] == CONSTANT:
        return
    if type(at[1]) is int and type(at[2]) is int:
        yield str(at[0]), at[1]
    elif isinstance(at[0], str) and at[0] in names and type(at[1]) is not int:
        raise ConfigError(
            f"a layer reads use {str(at[1])[:40]!r} of layer {at[0]!r}, which is no number; save the model again"
        )
