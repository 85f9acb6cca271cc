"""A dump without a reference, as a run: each op of the file on the device's own inputs, and the file from the start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

import numpy as np

from qdebug.errors import ModelError
from qdebug.findings.diagnose import of_device
from qdebug.graph.graph import Graph, Key, Op
from qdebug.graph.quantization import Array
from qdebug.measure.end_to_end import OutputStats
from qdebug.models.data import dataset as datasets
from qdebug.models.data.request import DataRequest
from qdebug.models.kernels import DEVICE, Kernels
from qdebug.models.litert.candidate import Candidate
from qdebug.models.litert.file_type import file_type
from qdebug.models.litert.parse import read_file
from qdebug.models.litert.trial import digest_of
from qdebug.models.reference.frozen_graph import InputSpec
from qdebug.models.reference.tflite_names import layer_names
from qdebug.record import verdicts
from qdebug.record.device import DeviceOp
from qdebug.record.schema import Cost, Coverage, EndToEnd, ErrorStats, Row, Run
from qdebug.record.version import __version__
from qdebug.verdict.accumulators import Differences
from qdebug.verdict.rows import first_divergent, first_over_tolerance, row_of_tensor
from qdebug.workflows.device import Device, chosen_samples, open_device, with_device
from qdebug.workflows.journal import Journal
from qdebug.workflows.progress import Progress, Silent
from qdebug.workflows.run_record import environment
from qdebug.workflows.trace_options import TraceOptions

NO_REFERENCE = "no reference was given: the device is compared with the host alone"
SIMULATED = "each op was run on the device's own inputs: a prediction would repeat that"
NOT_CODES = "this tensor holds no codes"


def input_specs(graph: Graph) -> list[InputSpec]:
    """What the data must be for each input of a file: real values where it takes codes."""
    found = []
    for name, key in zip(graph.input_names, graph.inputs, strict=True):
        tensor = graph.tensors[key]
        dtype = "float32" if tensor.grid is not None else np.dtype(tensor.dtype).name
        found.append(InputSpec(name or tensor.name, (None, *tensor.shape[1:]), dtype))
    return found


def trace_device(
    candidate: str,
    dump: str,
    *,
    data: DataRequest | None = None,
    samples: int | None = None,
    options: TraceOptions | None = None,
    progress: Progress | None = None,
) -> Run:
    """Compare a device with a host, op by op, on the file that both run; `data` say what the device was given.

    Raises QDebugError where the file, the dump or the data are not what they must be. Nothing is printed or stored.
    """
    options, journal = options or TraceOptions(), Journal(progress or Silent())
    with journal.timed("total_s"):
        opened = Candidate.open(read_file(candidate), candidate)
        device = open_device(dump, opened, journal.progress, samples)
        given, source = (
            None,
            {"source": dump, "split": "dump", "samples": len(device.samples), "sha256": device.report.sha256},
        )
        if data is not None:
            specs = input_specs(opened.graph)
            chosen = chosen_samples(device, data.open(specs))
            given = datasets.arrange(chosen, specs)
            source = {"source": chosen.source, "split": chosen.split, "samples": chosen.count, "sha256": chosen.sha256}
        device = device.with_inputs(opened.graph, given)
        run = _Host(opened, device, options, journal).run()
    return replace(run, data=source, timing={name: round(value, 3) for name, value in journal.timing.items()})


@dataclass(frozen=True, eq=False)
class _Host:
    """The same file on a host, from the device's own inputs on."""

    opened: Candidate
    device: Device
    options: TraceOptions
    journal: Journal

    def run(self) -> Run:
        graph, report = self.opened.graph, self.device.report
        cumulative, end_to_end, why = self._from_the_start()
        rows = self._rows(cumulative, why)
        measured = [row for row in rows if row.verdict != "unmeasured" and row.op_index is not None]
        if not any(row.verdict != "unmeasured" for row in rows) and not report.overwritten:
            reasons = "; ".join(dict.fromkeys(one.reason for one in report.ops)) or "the file has no op"
            raise ModelError(f"nothing could be compared: the dump holds no op's input and output together ({reasons})")
        content = digest_of(self.opened.content)
        types = [graph.tensors[keys[0]].dtype for keys in (graph.inputs, graph.outputs)]
        return Run(
            id="",
            created=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            qdebug=__version__,
            environment=environment(),
            data={},
            seed=None,
            reference={
                "kind": "host",
                "source": self.opened.source,
                "sha256": content,
                "kernels": str(Kernels.REFERENCE),
            },
            candidate={
                "source": self.opened.source,
                "sha256": content,
                "kernels": DEVICE,
                "input_dtype": types[0],
                "output_dtype": types[1],
                "what": file_type(graph.tensors.values()),
            },
            accuracy={},
            end_to_end=end_to_end,
            layers=rows,
            first_divergent=first_divergent(rows),
            coverage=Coverage(
                len(graph.ops),
                len({row.op_index for row in measured}),
                [],
                sum(row.verdict == "unmeasured" for row in rows),
            ),
            first_over_tolerance=first_over_tolerance(rows, self.options.tolerance),
            findings=of_device(report, rows),
            worst_samples=[],
            verdict=verdicts.worst_verdict(rows),
            timing={},
            settings={"tolerance": self.options.tolerance, "kernels": DEVICE},
            notes=self.journal.notes,
            device=report,
            cost=Cost(
                "unmeasured",
                "agreement",
                None,
                None,
                None,
                0.99,
                None,
                report.samples,
                None,
                [],
                [],
                reasons={"verdict": NO_REFERENCE},
            ),
            reasons={"accuracy": NO_REFERENCE},
        )

    def _from_the_start(self) -> tuple[dict[Key, Differences], list[EndToEnd], str | None]:
        """Device less host by tensor, the host running the whole file on the device's inputs; or why there is none."""
        graph, dump, samples = self.opened.graph, self.device.dump, self.device.samples
        for key in graph.inputs:
            if (why := dump.lacks(key, samples)) is not None:
                return {}, [], f"the model's input, tensor {key}: {why}"
        try:
            host = self.opened.run_on(str(Kernels.REFERENCE))
        except ModelError as error:
            return {}, [], str(error)
        keys = [key for key in _made(graph) if dump.lacks(key, samples) is None]
        found = {key: Differences() for key in keys if graph.tensors[key].grid is not None}
        outputs = {key: OutputStats(self.options.tolerance) for key in graph.outputs if key in keys}
        for number, sample in enumerate(samples):
            host.run([graph.tensors[key].real(dump.tensors[key][sample]) for key in graph.inputs])
            for key in keys:
                self._count(key, dump.tensors[key][sample], host.get(key), found, outputs)
            self.journal.step("running the file on the device's inputs", number + 1, len(samples))
        names = dict(zip(graph.outputs, graph.output_names, strict=True))
        ends = [
            stats.result(
                "reference vs candidate",
                names[key] or graph.tensors[key].name,
                scale=None if (grid := graph.tensors[key].grid) is None else grid.scale,
            )
            for key, stats in outputs.items()
        ]
        return found, ends, None

    def _count(
        self, key: Key, device: Array, host: Array, found: Mapping[Key, Differences], outputs: Mapping[Key, OutputStats]
    ) -> None:
        tensor = self.opened.graph.tensors[key]
        if key in outputs:
            outputs[key].update(tensor.real(host), tensor.real(device))
        if tensor.grid is not None and key in found:
            change = device.astype(np.int64).reshape(-1) - host.reshape(-1)
            values, counts = np.unique(change[change != 0], return_counts=True)
            energy = int(np.sum((host.astype(np.int64) - tensor.grid.zero_point) ** 2))
            found[key].merge(Differences(dict(zip(values.tolist(), counts.tolist(), strict=True)), change.size, energy))

    def _rows(self, cumulative: Mapping[Key, Differences], why: str | None) -> list[Row]:
        graph, report = self.opened.graph, self.device.report
        names = _unique(graph)
        rows = [_bare(graph, key, names[key], None, []) for key in graph.inputs]
        ops = {one.op_index: one for one in report.ops}
        for op in graph.ops:
            for key in op.outputs:
                if graph.tensors[key].data is None:
                    above = [names[source] for source in dict.fromkeys(graph.data_inputs(op)) if source in names]
                    row = _bare(graph, key, names[key], op, above)
                    rows.append(self._measured(row, ops[op.index], key, cumulative.get(key), why))
        return with_device([replace(row, index=number) for number, row in enumerate(rows)], report)

    def _measured(self, row: Row, op: DeviceOp, key: Key, cumulative: Differences | None, why: str | None) -> Row:
        grid, local = self.opened.graph.tensors[key].grid, self.device.errors.get(key)
        reasons = {"expected_flip_percent": SIMULATED}
        if grid is None:
            reasons.update(dict.fromkeys(("local", "cumulative"), NOT_CODES))
        elif local is None:
            reasons["local"] = op.reason
        if grid is not None and cumulative is None:
            reasons["cumulative"] = why or self.device.dump.lacks(key, self.device.samples) or op.reason
        return replace(
            row,
            verdict=op.verdict,
            reason=op.reason,
            elements=op.elements,
            unexplained_flips=op.unexplained,
            local=_stats(local, grid),
            cumulative=_stats(cumulative, grid),
            reasons=reasons,
        )


def _stats(found: Differences | None, grid: Any) -> ErrorStats | None:
    return None if found is None or not found.total else found.result(grid.scale)


def _made(graph: Graph) -> list[Key]:
    return [key for op in graph.ops for key in op.outputs if graph.tensors[key].data is None]


def _unique(graph: Graph) -> dict[Key, str]:
    """A name for each input and computed tensor: that of its layer, numbered where there are several."""
    kinds = {op.index: op.raw for op in graph.ops}
    layers = layer_names({op.index: graph.tensors[op.output].name for op in graph.ops if op.outputs}, kinds)
    wanted = {key: name or graph.tensors[key].name for key, name in zip(graph.inputs, graph.input_names, strict=True)}
    last = {layers[op.index]: op.index for op in graph.ops if op.outputs}
    for op in graph.ops:
        for place, key in enumerate(op.outputs):
            name = layers[op.index] if last[layers[op.index]] == op.index else f"{layers[op.index]}:{op.raw.lower()}"
            wanted[key] = name if place == 0 else f"{name}:{place}"
    seen: dict[str, int] = {}
    found = {}
    for key, name in wanted.items():
        seen[name] = seen.get(name, 0) + 1
        found[key] = name if seen[name] == 1 else f"{name}#{seen[name]}"
    return found


def _bare(graph: Graph, key: Key, name: str, op: Op | None, upstream: Sequence[str]) -> Row:
    tensor = graph.tensors[key]
    return replace(
        row_of_tensor(name, op, tensor, tensor.grid),
        region=[name],
        region_raw=[tensor.name],
        upstream=list(dict.fromkeys(upstream)),
        evidence=["file"],
        confidence=1.0,
        verdict="exact",
    )
