"""What a Keras file says of its layers: code and circles are told before Keras sees it."""

from __future__ import annotations

from typing import Any

import pytest

from qdebug.models.reference.layer_config import ConfigError, check, parsed

DENSE = {"class_name": "Dense", "config": {"name": "out", "units": 3}, "name": "out"}
CODE = {
    "class_name": "Lambda",
    "name": "code",
    "config": {"name": "code", "function": ["4wEAAAA=", None, None], "function_type": "lambda"},
}


def functional(*layers: Any) -> dict[str, Any]:
    return {"class_name": "Functional", "config": {"name": "model", "layers": list(layers)}}


def layer(name: str, *inputs: tuple[str, int], nodes: int = 1) -> dict[str, Any]:
    """A layer as Keras 2 writes it, that reads other layers' uses."""
    fed = [[[other, use, 0, {}] for other, use in inputs]] * nodes if inputs else []
    kind = "Dense" if inputs else "InputLayer"
    return {"class_name": kind, "name": name, "config": {"name": name}, "inbound_nodes": fed}


def test_plain_layers_pass() -> None:
    """Layers in a row, one of them used twice, and a model inside of the model."""
    inner = {**functional(layer("a"), layer("b", ("a", 0))), "name": "inner", "inbound_nodes": [[["x", 0, 0, {}]]]}

    check(functional(layer("x"), inner, layer("y", ("inner", 1)), layer("z", ("y", 0), ("x", 0))))
    check(functional(DENSE))
    less = {**layer("y", ("x", 0)), "inbound_nodes": [["_CONSTANT_VALUE", -1, 2, {"y": ["x", 0, 0]}]]}  # (2 - x)
    check(functional(layer("x"), less))


@pytest.mark.parametrize(
    "holder",
    [
        functional(CODE),
        {"class_name": "Sequential", "config": {"layers": [functional(CODE)]}},
        functional({"class_name": "TimeDistributed", "config": {"name": "code", "layer": CODE}}),
        functional({**CODE, "class_name": "keras.layers>Lambda"}),
        functional(
            {
                "class_name": "Dense",
                "name": "code",
                "config": {"name": "code", "activation": {"class_name": "__lambda__", "config": {"value": "4wEA"}}},
            }
        ),
        functional(
            {
                **CODE,
                "config": {
                    "name": "code",
                    "function": "named",
                    "function_type": "function",
                    "output_shape": ["4wEA", None, None],
                    "output_shape_type": "lambda",
                },
            }
        ),
    ],
)
def test_code_is_refused_wherever_it_stands(holder: Any) -> None:
    """In nested models and wrappers, as an activation or an output shape; the layer and the option are named."""
    with pytest.raises(ConfigError, match=r"layer 'code' is a Lambda.*--allow-lambda.*--custom-objects"):
        check(holder)
    check(holder, allow_lambda=True)


def test_a_function_that_is_named_is_no_code() -> None:
    """A Lambda layer of a function by name: whoever opens the file has the function."""
    check(functional({**CODE, "config": {"name": "code", "function": "swish", "function_type": "function"}}))


@pytest.mark.parametrize(("module", "name"), [("os", "system"), ("kerasx", "Dense"), ([], "a")])
def test_other_modules_are_not_imported(module: Any, name: str) -> None:
    """The key `module` names what Keras would import; what the user's own module gives is not looked for there."""
    holder = functional({"module": module, "class_name": name, "config": {"name": "it"}, "registered_name": None})
    with pytest.raises(ConfigError, match=r"layer 'it'.*would import; give --custom-objects"):
        check(holder)
    check(holder, known={name})


@pytest.mark.parametrize("called", ["io.write_file", "raw_ops.WriteFile", "py_function", "compat.v1.py_func"])
def test_ops_that_reach_beyond_tensors_are_refused(called: str) -> None:
    """Layers that call TensorFlow by name may add, and may not write files."""

    def op(name: str) -> dict[str, Any]:
        return functional({"class_name": "TFOpLambda", "config": {"name": "op", "function": name}})

    check(op("math.add"))
    check(op("compat.v1.gather"))  # (so Keras 2 writes tf.gather and tf.transpose)
    with pytest.raises(ConfigError, match="reaches beyond tensors"):
        check(op(called))


@pytest.mark.parametrize(
    ("layers", "said"),
    [
        ((layer("a", ("b", 0)), layer("b", ("a", 0))), "feed each other in a circle (a, b)"),
        ((layer("a", ("a", 0)),), "in a circle (a)"),
        ((layer("a"), layer("b", ("a", 1))), "reads 'a' (use 1), which the model does not have"),
        ((layer("a"), layer("b", ("gone", 0))), "reads 'gone' (use 0)"),
        ((layer("a", ("a", 0)), 3), "a layer of it is '3'"),
        (
            ({**layer("a", ("a", 0)), "inbound_nodes": [{"args": [{"config": {"keras_history": ["a", 0, None]}}]}]},),
            "in a circle (a)",
        ),
        ((layer("a"), layer("b", ("a", "<b>"))), "reads use '<b>' of layer 'a', which is no number"),
        ((layer("a"), layer("b", ("a", True))), "reads use 'True' of layer 'a', which is no number"),
        ((layer("a"), layer("b", ("a", None))), "reads use 'None' of layer 'a', which is no number"),
        (({**layer("a", ("b", 0)), "inbound_nodes": {}}, layer("b", ("a", 0))), "the inputs of layer 'a' are no list"),
        (({**layer("a", ("b", 0)), "inbound_nodes": []}, layer("c", ("a", 0))), "reads 'a' (use 0)"),
    ],
)
def test_layers_that_cannot_be_made_in_turn_are_told(layers: tuple[Any, ...], said: str) -> None:
    """Keras waits for ever for a layer that is fed by itself, or by one that is not there."""
    with pytest.raises(ConfigError) as told:
        check(functional(*layers))
    assert said in str(told.value)


@pytest.mark.parametrize("text", ["", "{", "[" * 100_000, "\x00", '{"a": nope}', r'{"name": "\ud800"}'])
def test_what_is_no_json_is_told(text: str) -> None:
    """Damaged text, 100,000 levels of nesting, and half a character."""
    with pytest.raises(ConfigError, match="its config is no JSON"):
        parsed(text, "config")
