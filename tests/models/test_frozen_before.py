"""A model in memory that is traced again is neither frozen nor aligned again, and never taken for what it was."""

from __future__ import annotations

import gc
import types
import weakref
from typing import Any

import pytest

import qdebug
from qdebug.models.reference import frozen_before
from qdebug.models.reference.open import load_reference
from qdebug.workflows import comparison
from tests.support import float_models
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


@pytest.mark.parametrize("change", [weights, activation, own_call])
def test_a_model_that_has_changed_is_frozen_anew(net, calls, change):
    """What it computes is read, not what it computed."""
    before = load_reference(net).frozen
    change(net)
    after = load_reference(net).frozen

    assert calls == ["freeze", "freeze"]
    assert before.definition != after.definition


def test_a_library_class_whose_code_was_replaced_is_frozen_anew(net, monkeypatch):
    """Somebody who looks for a fault may try that."""
    before = load_reference(net).frozen
    kind = type(net.get_layer("gap"))
    original = kind.call
    monkeypatch.setattr(kind, "call", lambda self, *given, **named: 3 * original(self, *given, **named))
    after = load_reference(net).frozen

    assert before.definition != after.definition


def test_nothing_is_kept_of_a_model_that_is_gone():
    """A graph holds all weights once more."""
    model = float_models.net(2)
    graph = weakref.ref(load_reference(model).frozen)
    assert graph() is not None
    del model
    gc.collect()

    assert graph() is None
