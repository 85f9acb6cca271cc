"""Shapes that a `.tflite` file leaves open or gives wrongly, as one run of it gives them.

Older converters compute some sizes while running (an upsampling reads its input's shape) and write 1 for them.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace

from qdebug.errors import ModelError
from qdebug.graph.graph import Graph, Key
from qdebug.models.litert import trial


def with_measured_shapes(graph: Graph, content: bytes, unknown: Collection[Key]) -> Graph:
    """The graph with the shapes of the tensors in `unknown` as they are for one sample.

    Left as they stand where the inputs' own shapes are open, or the builtin kernels do not run the file.
    """
    if set(unknown) & set(graph.inputs):
        return graph
    tensors = dict(graph.tensors)
    for key, size in (trial.outcome(content, "builtin").shapes or {}).items():
        if key in unknown:
            tensors[key] = replace(tensors[key], shape=size)
    return replace(graph, tensors=tensors)


def check_shapes(graph: Graph, content: bytes, kernels: str, *, role: str = "candidate") -> None:
    """Raise ModelError where a tensor that an op makes has, when the file runs, another rank or another last axis.

    The last axis is the one whose scales are read from the file. Other axes follow from an op's options (a stride, a
    padding, a batch that grows), which a wrong conversion can change: the comparison with the reference names those.
    Read after the trial on these kernels; files that did not run, or not on one sample, say nothing of it.
    """
    came = trial.outcome_of_watched(content, kernels)
    measured = {} if came is None or came.shapes is None else came.shapes
    shapes: dict[Key, tuple[int, ...]] = {key: measured[key] for key in measured}
    if any(shapes.get(key) != graph.tensors[key].shape for key in graph.inputs):
        return
    for op in graph.ops:
        for key in op.outputs:
            said, ran = graph.tensors[key].shape, shapes.get(key, graph.tensors[key].shape)
            if len(said) != len(ran) or (len(said) > 1 and said[-1] != ran[-1]):
                raise ModelError(
                    f"the {role} gives tensor {graph.tensors[key].name!r} the shape {list(said)}, and its {op.raw} "
                    f"makes {list(ran)}: a damaged file, convert the model again"
                )
