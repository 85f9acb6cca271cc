"""The faults: what is planted where, and what must be said about it."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from qdebug.models.reference.base import Reference
from tests.faults import fault_nets as nets
from tests.faults import planting as p
from tests.faults.fault_nets import Net


@dataclass(frozen=True)
class Planted:
    """A pair with a fault in it."""

    net: Net
    reference: Reference
    content: bytes
    inputs: list[np.ndarray]


@dataclass(frozen=True)
class Fault:
    """One fault, and what is to be said."""

    name: str
    net: str
    layer: str | None
    causes: tuple[str, ...]
    plant: Callable[[], Planted]
    severity: str = "error"
    ci: bool = False


FAULTS: list[Fault] = []


def in_file(
    net: str,
    layer: str,
    what: str,
    cause: str,
    change: Callable[[p.Site], None] | Callable[[Net], Any],
    *,
    severity: str = "error",
    ci: bool = False,
    source: Callable[[str], Net] = nets.builtin,
    lazy: bool = False,
) -> None:
    """Add a fault that is an edit of the file at `layer`; a `lazy` change is made by a function of the net."""

    def plant() -> Planted:
        clean = source(net)
        edit = change(clean) if lazy else change
        return Planted(clean, clean.reference, p.edit(clean.content, clean.op(layer), edit), clean.inputs)

    FAULTS.append(Fault(what, net, layer, (cause,), plant, severity, ci))


def in_reference(
    net: str, layer: str | None, what: str, cause: str, change: Callable[[Any], None], *, ci: bool = False
) -> None:
    """Add a fault that is a change of the reference after conversion."""

    def plant() -> Planted:
        clean = nets.builtin(net)
        return Planted(clean, clean.reloaded(change), clean.content, clean.inputs)

    FAULTS.append(Fault(what, net, layer, (cause,), plant, ci=ci))


def built(
    layer: str | None, what: str, cause: str, severity: str, make: Callable[[], Net], *, ci: bool = False
) -> None:
    """Add a network that is itself faulty."""

    def plant() -> Planted:
        net = make()
        return Planted(net, net.reference, net.content, net.inputs)

    FAULTS.append(Fault(what, f"tiny: {what}", layer, (cause,), plant, severity, ci))


# -- edits of the file --------------------------------------------------------------------------------------------

in_file("dense1", "dense", "one weight by half its range", "weights_changed", p.weight(100))
in_file("dense2", "dense_1", "one weight by one code", "weights_changed", p.weight(1), ci=True)
in_file("dense2", "dense", "output scale +10 %", "scale_changed", p.scale(1.1), ci=True)
in_file("dense3", "dense_1", "zero point +3", "zero_point_changed", p.zero_point(3))
in_file("dense3", "dense_2", "biases zeroed", "bias_changed", p.bias(p.zeroed))
in_file("dense4", "dense_2", "one weight by one code", "weights_changed", p.weight(1))
in_file("dense4", "dense_1", "output scale +10 %", "scale_changed", p.scale(1.1))
in_file("dense4", "dense_3", "one bias off by 40", "bias_changed", p.bias(p.off(40)))
in_file("dense4", "dense", "biases in another order", "bias_changed", p.bias(p.rolled))
in_file("dense4", "dense_1", "one bias saturated", "RC09", p.bias(p.saturated))
in_file("dense4", "dense_2", "a ReLU added", "activation_changed", p.activation(p.RELU))
in_file("dense4", "dense_1", "two channels' weights swapped", "weights_changed", p.swapped_channels, ci=True)
in_file("cnn", "conv2d", "ReLU dropped", "activation_changed", p.activation(p.NONE))
in_file("cnn", "conv2d", "ReLU swapped for ReLU N1 to 1", "activation_changed", p.activation(p.RELU_N1_TO_1))
in_file("cnn", "conv2d", "one weight by one code", "weights_changed", p.weight(1))
in_file("cnn", "conv2d", "per-channel scales permuted", "channel_scales_permuted", p.permuted_scales)
in_file("cnn", "max_pooling2d", "pool window 1x1", "wiring_changed", p.option(filterHeight=1, filterWidth=1))
in_file("cnn", "dense", "zero point +3", "zero_point_changed", p.zero_point(3))
in_file("resnet", "block1_a_relu", "per-channel scales permuted", "channel_scales_permuted", p.permuted_scales, ci=True)
in_file("resnet", "block1_a_relu", "dilation 2", "wiring_changed", p.option(dilationHFactor=2, dilationWFactor=2))
in_file("resnet", "block2_a_relu", "one weight by half its range", "weights_changed", p.weight(100))
in_file(
    "resnet",
    "block1_out",
    "residual reads another tensor",
    "wiring_changed",
    lambda net: p.rewired(0, int(str(net.pair("block1_a_relu").candidate))),
    lazy=True,
    ci=True,
)
in_file("resnet", "block2_shortcut_bn", "one weight scale +25 %", "scale_changed", p.channel_scale(1.25))
in_file("resnet", "block2_b_bn", "one bias off by 40", "bias_changed", p.bias(p.off(40)))
in_file("resnet", "stem_relu", "output scale +10 %", "scale_changed", p.scale(1.1))
in_file(
    "resnet",
    "block1_b_bn",
    "weights of another training run",
    "RC25",
    lambda net: p.weights_of(nets.builtin("resnet", 4).content, net.op("block1_b_bn")),
    lazy=True,
)
in_file("resnet", "block2_a_relu", "stored bias scale doubled", "scale_changed", p.bias_scale(2.0), severity="warning")
in_file("mobile", "block2_dw_relu", "one depthwise weight by one code", "weights_changed", p.weight(1))
in_file("mobile", "block1_pw_relu", "biases zeroed", "bias_changed", p.bias(p.zeroed))
in_file("mobile", "block3_dw_relu", "per-channel scales permuted", "channel_scales_permuted", p.permuted_scales)
in_file(
    "mobile", "block3_pw_relu", "ReLU6 swapped for ReLU N1 to 1", "activation_changed", p.activation(p.RELU_N1_TO_1)
)
in_file("mobile", "block2_pw_relu", "zero point +3", "zero_point_changed", p.zero_point(3))
in_file("mobile", "probs", "softmax beta 2", "wiring_changed", p.option(beta=2.0))
in_file("branches", "concat", "inputs of the concatenation swapped", "wiring_changed", p.swapped_inputs)
in_file("branches", "upsample", "half-pixel centres off", "wiring_changed", p.option(halfPixelCenters=False))
in_file("branches", "mix", "one weight by half its range", "weights_changed", p.weight(100))
in_file("branches", "coarse", "one bias off by 40", "bias_changed", p.bias(p.off(40)))
in_file("branches", "stem", "ReLU dropped", "activation_changed", p.activation(p.NONE))
in_file(
    "cnn",
    "conv2d",
    "a NaN weight in a float32 file",
    "non_finite",
    p.float_value(float("nan")),
    source=nets.float_file,
    ci=True,
)
in_file(
    "resnet",
    "block2_a_relu",
    "an infinite weight in a float32 file",
    "non_finite",
    p.float_value(float("inf")),
    source=nets.float_file,
)
in_file(
    "mobile",
    "block1_pw_relu",
    "a weight of a float32 file off by 0.5",
    "weights_changed",
    p.float_value(0.5),
    source=nets.float_file,
)
in_file(
    "resnet",
    "stem_relu",
    "a bias of a float32 file off by 0.1",
    "bias_changed",
    p.float_bias(0.1),
    source=nets.float_file,
)

# -- another reference than the one that was converted -----------------------------------------------------------------


def _another(net: str, *, ci: bool = False) -> None:
    def plant() -> Planted:
        clean, other = nets.builtin(net), nets.builtin(net, 4)
        return Planted(clean, other.reference, clean.content, clean.inputs)

    FAULTS.append(Fault("another training run's checkpoint", net, None, ("RC25",), plant, ci=ci))


_another("dense4", ci=True)
_another("resnet")
_another("mobile")


def _kernel_noise(name: str) -> Callable[[Any], None]:
    def change(model: Any) -> None:
        draw = np.random.default_rng(0)
        nets.assign(model, f"{name}/kernel:0", lambda value: value + draw.normal(0, 0.3 * value.std(), value.shape))

    return change


in_reference("dense3", "dense_1", "one kernel trained on", "RC25", _kernel_noise("dense_1"))
in_reference("resnet", "block2_a_relu", "one kernel trained on", "RC25", _kernel_noise("block2_a"))
in_reference(
    "resnet",
    "block1_a_relu",
    "batch-norm variance times 9",
    "RC25",
    lambda model: nets.assign(model, "block1_a_bn/moving_variance:0", lambda value: value * 9),
)
in_reference(
    "mobile",
    "block2_dw_relu",
    "batch-norm mean and gamma moved",
    "RC25",
    lambda model: (
        nets.assign(model, "block2_dw_bn/gamma:0", lambda value: value * 1.3),
        nets.assign(model, "block2_dw_bn/beta:0", lambda value: value + 0.5),
    ),
)


def _ranges(pattern: str, factor: float) -> Callable[[Any], None]:
    """Scale the ranges of the activation quantizers whose variables' names match."""

    def change(model: Any) -> None:
        found = [variable for variable in model.weights if re.search(pattern + "_(min|max):0$", variable.name)]
        assert found
        for variable in found:
            variable.assign(variable.numpy() * factor)

    return change


in_reference("mobile", None, "all activation ranges trained on", "RC25", _ranges("(activation|output)", 0.8))
in_reference("dense4", None, "all activation ranges trained on", "RC25", _ranges("(activation|output)", 0.9), ci=True)
in_reference("dense3", "dense", "one activation range moved", "scale_changed", _ranges("dense/post_activation", 1.2))
