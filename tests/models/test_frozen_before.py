"""A model in memory that is traced again is neither frozen nor aligned again, and never taken for what it was."""

from __future__ import annotations

import functools
import gc
import types
import weakref
from typing import Any

import pytest

import qdebug
from qdebug.errors import ModelError
from qdebug.models.reference import frozen_before
from qdebug.models.reference.open import load_reference
from qdebug.workflows import comparison
from tests.support import converted_models, float_models
from tests.support.run_records import facts

pytestmark = pytest.mark.tf


@pytest.fixture
def net() -> Any:
    """A model that no other test has seen."""
    return float_models.net()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was done, call by call."""
    done: list[str] = []

    def watch(module: Any, name: str) -> None:
        function = getattr(module, name)
        monkeypatch.setattr(module, name, lambda *given: done.append(name) or function(*given))

    watch(frozen_before, "freeze")
    watch(comparison, "align_settled")
    return done


def test_the_same_model_again_gives_the_same_record_without_the_work(net, calls):
    """Every number; another first sample and other kernels are aligned anew, since an alignment looks at both."""
    content, data = float_models.file_of(net), float_models.samples(20)
    first = qdebug.trace(net, content, data)
    again = qdebug.trace(net, content, data)
    assert calls == ["freeze", "align_settled"]
    assert facts(again) == facts(first)

    qdebug.trace(net, content, data[1:])
    assert calls[2:] == ["align_settled"]
    qdebug.trace(net, content, data[1:], options=qdebug.TraceOptions(kernels="builtin"))
    assert calls[3:] == ["align_settled"]


def weights(net: Any) -> None:
    """Other weights."""
    net.set_weights([2 * one for one in net.get_weights()])


def activation(net: Any) -> None:
    """Another activation, a function of the library's."""
    from qdebug.models.tensorflow import load_tensorflow

    net.get_layer("probs").activation = load_tensorflow().tf_keras.activations.sigmoid


def own_call(net: Any) -> None:
    """Another computation, bound to one layer."""
    layer = net.get_layer("probs")
    before = layer.call
    layer.call = types.MethodType(lambda _, *given, **named: 3 * before(*given, **named), layer)


def unfused(net: Any) -> None:
    """An attribute that no configuration holds."""
    net.get_layer("conv_bn").fused = False


@pytest.mark.parametrize("change", [weights, activation, own_call, unfused])
def test_a_model_that_has_changed_is_frozen_anew(net, calls, change):
    """What it computes is read, not what it computed."""
    before = load_reference(net).frozen
    change(net)
    after = load_reference(net).frozen

    assert calls == ["freeze", "freeze"]
    assert before.definition != after.definition


@pytest.mark.parametrize(("layer", "name"), [("gap", "call"), ("conv", "convolution_op")])
def test_a_library_class_whose_code_was_replaced_is_frozen_anew(net, monkeypatch, layer, name):
    """Somebody who looks for a fault may try that."""
    before = load_reference(net).frozen
    kind = type(net.get_layer(layer))
    original = getattr(kind, name)
    monkeypatch.setattr(kind, name, lambda self, *given, **named: 3 * original(self, *given, **named))
    after = load_reference(net).frozen

    assert before.definition != after.definition


def kernel_bits(net: Any) -> None:
    """Other bits of one kernel's quantizer: the configuration of tfmot's layers does not hold them."""
    _wrapper(net).quantize_config.weight_quantizer.num_bits = 3


def input_bits(net: Any) -> None:
    """Other bits of the model's input."""
    next(one for one in net.layers if type(one).__name__ == "QuantizeLayer").quantizer.num_bits = 3


def activation_bits(net: Any) -> None:
    """Other bits behind one layer, in a quantizer that its configuration does not share with it."""
    held = next(
        one
        for layer in net.layers
        for one in getattr(layer, "_quantize_activations", ())
        if getattr(one, "_post_activation_vars", None)
    )
    held.quantizer = type(held.quantizer)(3, per_axis=False, symmetric=False, narrow_range=False)


def inner_activation(net: Any) -> None:
    """Another activation between a layer and its quantizer, a function of the library's."""
    from qdebug.models.tensorflow import load_tensorflow

    held = next(
        one
        for layer in net.layers
        for one in getattr(layer, "_quantize_activations", ())
        if isinstance(one.activation, types.FunctionType)
    )
    held.activation = load_tensorflow().tf_keras.activations.elu


def range_of_another(net: Any) -> None:
    """One kernel's range in place of another's."""
    wrapper = _wrapper(net)
    weight, quantizer, ranges = wrapper._weight_vars[0]
    wrapper._weight_vars = [(weight, quantizer, {"min_var": ranges["max_var"], "max_var": ranges["max_var"]})]


def learned_range(net: Any) -> None:
    """A range as training moves it."""
    _wrapper(net)._weight_vars[0][2]["max_var"].assign_add([1.0] * 8)


def one_more_weight(net: Any) -> None:
    """A range in a variable that is no weight of the model."""
    from qdebug.models.tensorflow import load_tensorflow

    wrapper = _wrapper(net)
    weight, quantizer, ranges = wrapper._weight_vars[0]
    vars(wrapper)["_weight_vars"] = [
        (weight, quantizer, {**ranges, "max_var": load_tensorflow().tf.Variable([3.0] * 8)})
    ]


def tied_offsets(net: Any) -> None:
    """One variable in two places: the weights stay what they are."""
    net.get_layer("quant_conv_bn").layer.gamma = net.get_layer("quant_conv_bn").layer.beta


def other_kind(net: Any) -> None:
    """Another quantizer with the same numbers, of a class that the model has elsewhere."""
    wrapper = _wrapper(net)
    weight, quantizer, ranges = wrapper._weight_vars[0]
    other = type(wrapper.quantize_config.activation_quantizer)(8, per_axis=False, symmetric=True, narrow_range=True)
    vars(other).update(vars(quantizer))
    wrapper._weight_vars = [(weight, other, ranges)]
    wrapper.quantize_config.weight_quantizer = other


def _wrapper(net: Any) -> Any:
    return next(one for one in net.layers if getattr(one, "_weight_vars", None))


@pytest.fixture
def trained() -> Any:
    """A quantization-aware model that no other test has seen."""
    return converted_models.fresh("plain")


CHANGES = (
    kernel_bits,
    input_bits,
    activation_bits,
    inner_activation,
    range_of_another,
    learned_range,
    one_more_weight,
    tied_offsets,
    other_kind,
)


@pytest.mark.parametrize("change", CHANGES)
def test_a_quantization_aware_model_is_frozen_anew_where_it_has_changed(trained, calls, change):
    """Its quantizers hold numbers that no configuration has; with none of them changed it is not frozen again."""
    before = load_reference(trained).frozen
    assert load_reference(trained).frozen is before
    change(trained)
    after = load_reference(trained).frozen

    assert calls == ["freeze", "freeze"]
    assert before.definition != after.definition


def test_a_function_of_tfmot_that_was_replaced_is_seen(trained, monkeypatch):
    """Somebody who looks for a fault may try other arithmetic."""
    from tensorflow_model_optimization.python.core.quantization.keras import quant_ops

    before = load_reference(trained).frozen
    monkeypatch.setattr(quant_ops, "LastValueQuantize", lambda inputs, *_, **__: inputs)

    assert load_reference(trained).frozen.definition != before.definition


def test_a_function_of_the_users_in_a_quantizer_or_a_graph_is_called_each_time(trained):
    """It may read a number that changes, and neither its name nor its place in memory says so."""
    from qdebug.models.tensorflow import load_tensorflow

    tf, number = load_tensorflow().tf, [1.0]
    wrapped, graph = float_models.net(), tf.function(lambda x: number[0] * x)
    wrapped.get_layer("probs").activation = graph
    inner_activation(trained)
    held = next(one for layer in trained.layers for one in getattr(layer, "_quantize_activations", ()) if is_elu(one))
    held.activation = tf.autograph.experimental.do_not_convert(lambda x: number[0] * tf.nn.elu(x))
    held.activation.__name__ = "elu"

    for model in (wrapped, trained):
        assert load_reference(model).frozen is not load_reference(model).frozen


def test_a_function_of_the_users_around_one_of_the_library_is_called_each_time():
    """`functools.wraps` gives it the name and the module of the one inside."""
    from qdebug.models.tensorflow import load_tensorflow

    tf, number = load_tensorflow().tf, [1.0]

    @functools.wraps(tf.nn.relu)
    def scaled(x: Any) -> Any:
        return number[0] * tf.nn.relu(x)

    def plain(x: Any) -> Any:
        return number[0] * tf.nn.relu(x)

    plain.__wrapped__ = tf.nn.relu  # type: ignore[attr-defined]
    for function in (scaled, plain):
        net = float_models.net()
        net.get_layer("probs").activation = function
        assert load_reference(net).frozen is not load_reference(net).frozen


@pytest.mark.parametrize("make", [float_models.net, lambda: converted_models.fresh("plain")])
def test_a_model_that_was_only_evaluated_is_not_frozen_again(make):
    """Keras counts the batches of the last call."""
    net = make()
    data = converted_models.batches(net, 40)[0]
    net.predict(data, verbose=0)
    before = load_reference(net).frozen
    net.predict(data[:3], verbose=0, batch_size=1)

    assert load_reference(net).frozen is before


def is_elu(held: Any) -> bool:
    """Whether `inner_activation` has changed it."""
    return getattr(held.activation, "__name__", "") == "elu"


def test_a_layer_of_tfmot_without_quantizers_is_refused_as_before():
    """A pruning wrapper that nobody has stripped cannot be frozen."""
    from qdebug.models.tensorflow import load_tensorflow

    stack = load_tensorflow()
    keras = stack.tf_keras
    net = keras.Sequential([keras.layers.Dense(3, input_shape=(4,))])
    with pytest.raises(ModelError, match="cannot be called on its own inputs"):
        _ = load_reference(stack.tfmot.sparsity.keras.prune_low_magnitude(net)).frozen


def test_a_variable_that_no_weight_is_is_read(trained):
    """Its value may change and the model's weights stay what they are."""
    one_more_weight(trained)
    before = load_reference(trained).frozen
    _wrapper(trained)._weight_vars[0][2]["max_var"].assign([0.1] * 8)

    assert load_reference(trained).frozen.definition != before.definition


def test_a_quantizer_of_the_users_is_frozen_each_time(trained):
    """Its code may read anything."""
    quantizer = _wrapper(trained).quantize_config.weight_quantizer
    own = type("Own", (type(quantizer),), {"__module__": "user"})()
    own.__dict__.update(vars(quantizer))
    weight, _, ranges = _wrapper(trained)._weight_vars[0]
    _wrapper(trained)._weight_vars = [(weight, own, ranges)]

    assert load_reference(trained).frozen is not load_reference(trained).frozen


def test_what_cannot_be_told_is_frozen_each_time():
    """A tensor for a weight, a function that Keras cannot write down, and a model of Keras 3."""
    from qdebug.models.tensorflow import load_tensorflow

    stack = load_tensorflow()
    tf, keras = stack.tf, stack.tf_keras
    net = float_models.net()
    net.get_layer("probs").kernel = tf.constant(net.get_layer("probs").kernel)
    inputs = keras.Input((4,))
    leaky = keras.Model(inputs, keras.layers.Lambda(functools.partial(tf.nn.leaky_relu, alpha=0.3))(inputs))
    import keras as keras_3

    third = keras_3.Input((4,))
    for model in (net, leaky, keras_3.Model(third, keras_3.ops.leaky_relu(third, 0.3))):
        assert load_reference(model).frozen is not load_reference(model).frozen


def test_the_graphs_that_are_kept_together_have_a_limit(monkeypatch):
    """Who holds many models does not hold each twice: the one that was traced longest ago goes."""
    models = [float_models.net(seed) for seed in (1, 2, 3)]
    first = load_reference(models[0]).frozen
    monkeypatch.setattr(frozen_before, "ROOM", 5 * first.definition.ByteSize() // 2)
    kept = [first, *(load_reference(one).frozen for one in models[1:])]
    found = [load_reference(one).frozen is graph for one, graph in zip(models[::-1], kept[::-1], strict=True)]

    assert found == [True, True, False]


def test_nothing_is_kept_of_a_model_that_is_gone():
    """A graph holds all weights once more."""
    model = float_models.net(2)
    graph = weakref.ref(load_reference(model).frozen)
    assert graph() is not None
    del model
    gc.collect()

    assert graph() is None
