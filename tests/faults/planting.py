"""One edit of a `.tflite` file each, at one op, through the flatbuffer schema. What LiteRT opens and runs on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

RELU, RELU_N1_TO_1, RELU6, NONE = 1, 2, 3, 0


@dataclass
class Site:
    """One op of an unpacked file."""

    model: Any
    op: Any

    @property
    def graph(self) -> Any:
        """The main subgraph."""
        return self.model.subgraphs[0]

    def tensor(self, key: int) -> Any:
        """The tensor with this number."""
        return self.graph.tensors[key]

    @property
    def output(self) -> Any:
        """What the op computes."""
        return self.tensor(self.op.outputs[0])

    @property
    def kernel(self) -> Any:
        """The op's first constant with two axes or more."""
        return self.tensor(
            next(
                key
                for key in self.op.inputs
                if key >= 0 and self._is_constant(key) and len(self.tensor(key).shape) >= 2
            )
        )

    @property
    def bias(self) -> Any:
        """The op's last input."""
        return self.tensor(self.op.inputs[-1])

    def _is_constant(self, key: int) -> bool:
        data = self.model.buffers[self.tensor(key).buffer].data
        return data is not None and len(data) > 0

    def read(self, tensor: Any, dtype: Any) -> np.ndarray:
        """A constant's values, flat."""
        return np.frombuffer(bytes(self.model.buffers[tensor.buffer].data), dtype).copy()

    def write(self, tensor: Any, values: np.ndarray) -> None:
        """Give the tensor a buffer of its own: equal constants share one."""
        from ai_edge_litert import schema_py_generated as schema

        fresh = schema.BufferT()
        fresh.data = np.frombuffer(values.tobytes(), np.uint8)
        self.model.buffers.append(fresh)
        tensor.buffer = len(self.model.buffers) - 1


def edit(content: bytes, op_index: int, change: Callable[[Site], None]) -> bytes:
    """The file after `change` of the op with this number."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(content, 0)
    change(Site(model, model.subgraphs[0].operators[op_index]))
    builder = flatbuffers.Builder(len(content))
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def weight(by: int) -> Callable[[Site], None]:
    """Change the largest weight by this many codes, towards zero."""

    def change(site: Site) -> None:
        codes = site.read(site.kernel, np.int8)
        place = int(np.argmax(np.abs(codes.astype(int))))
        codes[place] = codes[place] - by if codes[place] > 0 else codes[place] + by
        site.write(site.kernel, codes)

    return change


def scale(factor: float) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        held = site.output.quantization
        held.scale = (np.asarray(held.scale, np.float32) * np.float32(factor)).tolist()

    return change


def zero_point(by: int) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        held = site.output.quantization
        held.zeroPoint = (np.asarray(held.zeroPoint) + by).tolist()

    return change


def activation(number: int) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        assert site.op.builtinOptions.fusedActivationFunction != number
        site.op.builtinOptions.fusedActivationFunction = number

    return change


def bias(change_codes: Callable[[np.ndarray], np.ndarray]) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        site.write(site.bias, change_codes(site.read(site.bias, np.int32)).astype(np.int32))

    return change


def zeroed(codes: np.ndarray) -> np.ndarray:
    return np.zeros_like(codes)


def saturated(codes: np.ndarray) -> np.ndarray:
    codes[0] = 2**31 - 1
    return codes


def off(by: int) -> Callable[[np.ndarray], np.ndarray]:
    def change(codes: np.ndarray) -> np.ndarray:
        codes[-1] += by
        return codes

    return change


def rolled(codes: np.ndarray) -> np.ndarray:
    return np.roll(codes, 1)


def permuted_scales(site: Site) -> None:
    """Swap the scales of the two channels whose scales differ most."""
    sizes = np.array(site.kernel.quantization.scale, np.float32)
    low, high = int(np.argmin(sizes)), int(np.argmax(sizes))
    assert sizes[high] > 1.02 * sizes[low]
    sizes[[low, high]] = sizes[[high, low]]
    site.kernel.quantization.scale = sizes.tolist()


def channel_scale(factor: float, channel: int = 1) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        sizes = np.array(site.kernel.quantization.scale, np.float32)
        sizes[channel] *= np.float32(factor)
        site.kernel.quantization.scale = sizes.tolist()

    return change


def bias_scale(factor: float) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        held = site.bias.quantization
        held.scale = (np.asarray(held.scale, np.float32) * np.float32(factor)).tolist()

    return change


def option(**values: Any) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        for name, value in values.items():
            assert getattr(site.op.builtinOptions, name) != value
            setattr(site.op.builtinOptions, name, value)

    return change


def rewired(place: int, key: int) -> Callable[[Site], None]:
    """Let input number `place` read the tensor `key`."""

    def change(site: Site) -> None:
        assert site.op.inputs[place] != key
        inputs = list(site.op.inputs)
        inputs[place] = key
        site.op.inputs = np.asarray(inputs, np.int32)

    return change


def swapped_inputs(site: Site) -> None:
    inputs = list(site.op.inputs)
    inputs[0], inputs[1] = inputs[1], inputs[0]
    site.op.inputs = np.asarray(inputs, np.int32)


def weights_of(other: bytes, op_index: int) -> Callable[[Site], None]:
    """Take the kernel's codes from the same op of another file."""
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(other, 0)
    theirs = Site(model, model.subgraphs[0].operators[op_index])
    codes = theirs.read(theirs.kernel, np.int8)

    def change(site: Site) -> None:
        assert len(codes) == len(site.read(site.kernel, np.int8))
        site.write(site.kernel, codes)

    return change


def swapped_channels(site: Site) -> None:
    """Swap the weights of the first two output channels."""
    shape = list(site.kernel.shape)
    codes = site.read(site.kernel, np.int8).reshape(shape)
    codes[[0, 1]] = codes[[1, 0]]
    site.write(site.kernel, codes)


def float_value(value: float) -> Callable[[Site], None]:
    """Set one float weight."""

    def change(site: Site) -> None:
        values = site.read(site.kernel, np.float32)
        values[len(values) // 2] = value
        site.write(site.kernel, values)

    return change


def float_bias(by: float) -> Callable[[Site], None]:
    def change(site: Site) -> None:
        values = site.read(site.bias, np.float32)
        values[0] += by
        site.write(site.bias, values)

    return change
