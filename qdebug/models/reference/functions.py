"""Find the TensorFlow function that is meant: a SavedModel's signature, a Python object's, a frozen graph's part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qdebug.errors import ModelError, UsageError, first_line
from qdebug.models.quiet import quietly
from qdebug.models.reference.graph_model import import_graph
from qdebug.models.tensorflow import load_tensorflow

DEFAULT = "serving_default"


def is_function(source: Any) -> bool:
    """Whether an object in memory is one of TensorFlow's functions, or holds some, and is no Keras model."""
    if any(base.__name__ in ("Layer", "Operation") for base in type(source).__mro__):
        return False
    return (
        hasattr(source, "get_concrete_function")
        or hasattr(source, "structured_outputs")
        or any(base.__name__ in ("Module", "AutoTrackable", "Trackable") for base in type(source).__mro__)
    )


def load_saved_model(path: Path, *, option: str, signature: str | None) -> tuple[Any, Any]:
    """The signature of a SavedModel that is meant, and the model that owns it. Raises ModelError, UsageError."""
    stack = load_tensorflow()
    tf, _ = stack.tf, stack.tf_keras  # (which registers the classes of what Keras has saved)
    try:
        with quietly():
            owner = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises whatever the damaged file leads to
        raise ModelError(
            f"{option} {path}: TensorFlow cannot load it: {first_line(error)}", details=str(error)
        ) from error
    if owner.signatures:
        return choose(dict(owner.signatures), signature, f"{option} {path}"), owner
    return of_object(owner, signature=signature, what=f"{option} {path}"), owner


def of_object(source: Any, *, signature: str | None, what: str = "the reference") -> Any:
    """The concrete function of a `tf.function`, a ConcreteFunction, a `tf.Module` or a loaded SavedModel."""
    if hasattr(source, "structured_outputs"):
        return source
    if hasattr(source, "get_concrete_function"):
        return _concrete(source, what)
    if getattr(source, "signatures", None):
        return choose(dict(source.signatures), signature, what)
    functions = {
        name: value
        for name in dir(source)
        if not name.startswith("_") or name == "__call__"
        if hasattr(value := getattr(source, name, None), "get_concrete_function")
    }
    if not functions:
        raise ModelError(
            f"{what} holds no tf.function and no signature: decorate the method that computes the outputs "
            "with @tf.function(input_signature=[tf.TensorSpec([None, ...])])"
        )
    if signature is None and "__call__" in functions:
        return _concrete(functions["__call__"], what)
    return _concrete(choose(functions, signature, what), what)


def choose(found: Mapping[str, Any], name: str | None, what: str) -> Any:
    """The one that is asked for, or the only one. Raises UsageError, which lists them."""
    own = {key: value for key, value in found.items() if key != "__saved_model_init_op"}
    listed = ", ".join(sorted(own))
    if name is not None:
        if name not in own:
            raise UsageError(f"--signature {name}: {what.removeprefix('--reference ')} has {listed}")
        return own[name]
    if len(own) == 1:
        return next(iter(own.values()))
    if DEFAULT in own and all(_alike(own[DEFAULT], one) for one in own.values()):
        return own[DEFAULT]
    raise UsageError(
        f"{what} has {len(own)} signatures ({listed}): choose the one that was converted, --signature NAME"
    )


def _alike(first: Any, second: Any) -> bool:
    """Whether two signatures are the same function, as Keras exports `serve` and `serving_default`."""

    def ops(one: Any) -> list[str]:
        library = one.graph.as_graph_def().library.function
        return sorted(node.op for body in library for node in body.node_def if "Call" not in node.op)

    return (
        bool(first.structured_outputs.keys() == second.structured_outputs.keys()) and ops(first) == ops(second)
        if isinstance(first.structured_outputs, dict) and isinstance(second.structured_outputs, dict)
        else False
    )


def _concrete(function: Any, what: str) -> Any:
    """The one concrete function of a `tf.function`."""
    listed = getattr(function, "_list_all_concrete_functions", None)
    known = listed() if listed is not None else getattr(function, "concrete_functions", [])
    if len(known) == 1:
        return known[0]
    try:
        return function.get_concrete_function()
    except (TypeError, ValueError) as error:
        many = f"has been traced for {len(known)} sets of inputs" if known else "does not say what it takes"
        raise ModelError(
            f"{what} {many}: give one of them, function.get_concrete_function(tf.TensorSpec([None, ...]))",
            details=str(error),
        ) from error


def load_frozen(path: Path, *, option: str, inputs: Sequence[str], outputs: Sequence[str]) -> Any:
    """A frozen GraphDef from `inputs` to `outputs`, names of ops or tensors; raises ModelError which lists them.

    Where none are named, all placeholders are inputs, and what nothing reads is the output.
    """
    tf = load_tensorflow().tf
    definition = tf.compat.v1.GraphDef()
    try:
        definition.ParseFromString(path.read_bytes())
    except Exception as error:  # protobuf's own error, of whichever implementation is installed
        raise ModelError(
            f"{option} {path}: no frozen graph ({first_line(error)}); give a SavedModel folder, a .pb "
            "with a GraphDef, or a Keras model",
            details=str(error),
        ) from error
    if not definition.node:
        raise ModelError(
            f"{option} {path}: a .pb without a graph in it; give the frozen GraphDef of TensorFlow 1, or "
            "the folder of a SavedModel"
        )
    if any(node.op in ("VariableV2", "VarHandleOp", "Variable") for node in definition.node):
        raise ModelError(
            f"{option} {path}: the graph still holds variables; freeze it first (freeze_graph, or "
            "convert_variables_to_constants)"
        )
    places = [node.name for node in definition.node if node.op == "Placeholder"]
    read = {name.lstrip("^").partition(":")[0] for node in definition.node for name in node.input}
    ends = [
        node.name
        for node in definition.node
        if node.name not in read and node.op not in ("Const", "NoOp", "Placeholder", "Assert")
    ]
    given = {"--inputs": (list(inputs) or places, places), "--outputs": (list(outputs) or ends, ends)}
    known = {node.name for node in definition.node}
    for name, (chosen, options) in given.items():
        listed = ", ".join(options) or "none"
        unknown = [one for one in chosen if one.partition(":")[0] not in known]
        if unknown:
            raise UsageError(f"{name} {unknown[0]}: no such op in {path}; it has {listed}")
        if not chosen or (name == "--outputs" and not outputs and len(chosen) > 1):
            raise UsageError(
                f"{option} {path}: say what the graph gives and takes with --inputs and --outputs; "
                f"for {name} it has {listed}"
            )
    named = [[one if ":" in one else f"{one}:0" for one in chosen] for chosen, _ in given.values()]
    try:
        return import_graph(definition, *named)
    except Exception as error:  # TensorFlow raises whatever the damaged file leads to
        raise ModelError(
            f"{option} {path}: the graph cannot be cut at {', '.join(named[0])} and "
            f"{', '.join(named[1])}: {first_line(error)}",
            details=str(error),
        ) from error
