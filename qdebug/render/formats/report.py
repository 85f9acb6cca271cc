"""One run as one HTML page that needs nothing else: no network, no other file.

Rules of this file: names and numbers come from the shared tables; Jinja escapes every value; the only markup that is
passed on whole are the charts, whose renderer escapes its data.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from importlib import resources
from typing import Any

from qdebug.record.loss import cost_of, worse
from qdebug.record.schema import Run
from qdebug.render import numbers
from qdebug.render.cures import answer as cures_answer
from qdebug.render.cures import cures_table
from qdebug.render.formats import charts, pictures
from qdebug.render.formats.images import sample_images
from qdebug.render.run import end_to_end, findings, kernels, layers
from qdebug.render.run.answer import answer
from qdebug.render.run.baseline_drift import drift_table
from qdebug.render.run.cost_block import cost_block
from qdebug.render.run.coverage import coverage_table, size_of
from qdebug.render.run.device import device_table
from qdebug.render.run.document import coverage, header
from qdebug.render.run.error_parts import parts_table
from qdebug.render.run.evidence import evidence
from qdebug.render.run.kernels import kernel_layers_table
from qdebug.render.run.loss_sentences import unit
from qdebug.render.table import DATA, ESSENTIAL, USEFUL, Column, Table

_SAMPLES = 12


def report(run: Run, arrays: bytes | None = None, *, compact: bool = False) -> str:
    """Write the page. `arrays` are the bytes of the `.npz` beside the record.

    A `compact` one has the drawn network and the errors over depth alone, for a frame in a notebook.
    """
    import jinja2

    marks = pictures.marks_of(run, [line.mark for line in layers.layers_table(run).lines])
    environment = jinja2.Environment(
        autoescape=True, trim_blocks=True, lstrip_blocks=True, undefined=jinja2.StrictUndefined
    )
    pictured = {
        "depth": _in_sizes(charts.depth_chart, run),
        "layers": _layers(run, marks),
        "data": _trusted(pictures.run_data(run, marks, arrays)),
        "script": _trusted(_asset("report.js")),
        "dagre": _trusted(_asset("vendor", "dagre.min.js")),
        "on": _all_samples(run) if arrays else "",
        "has_heat": not compact and pictures.has_channels(run),
    }
    told = (
        {name: [] for name in ("findings", "handover", "costs", "samples", "tables", "notes", "facts", "accuracy")}
        if compact
        else _told(run, arrays)
    )
    return environment.from_string(_asset("report.html.j2")).render(
        run=run,
        compact=compact,
        title=numbers.name(f"qdebug {run.id or 'run'}"),
        answer=answer(run),
        coverage=coverage(run),
        overall=worse(run),
        **pictured,
        **told,
    )


def _told(run: Run, arrays: bytes | None) -> dict[str, Any]:
    """All that is not drawn from the layers: what a compact page leaves out."""
    notes = [numbers.name(note) for note in run.notes]
    return {
        "findings": _findings(run),
        "handover": _in_sizes(charts.handover_chart, run),
        "costs": _cost(run),
        "samples": _samples(run, arrays),
        "tables": _tables(run),
        "facts": header(run).pairs,
        "accuracy": [(name, f"{numbers.accuracy(one)} %") for name, one in run.accuracy.items() if one is not None],
        "notes": notes if run.cures is None else [*notes, cures_answer(run.cures)],
    }


def _asset(*names: str) -> str:
    """A file that lies beside this one's template."""
    return resources.files("qdebug.render.formats").joinpath("templates", *names).read_text(encoding="utf-8")


def _trusted(text: str) -> Any:
    """Text that goes into the page as it is: own scripts, JSON without a `<`, charts whose data are escaped."""
    import markupsafe

    return markupsafe.Markup(text)  # noqa: S704 see above


def _in_sizes(make: Callable[[Run, int], dict[str, Any] | None], run: Run) -> list[Any]:
    """A chart in the width of a phone and in that of a whole page; one alone where its layers need the room anyway."""
    specs = [spec for width in (charts.NARROW, charts.FULL) if (spec := make(run, width)) is not None]
    return [_trusted(charts.draw(spec)) for spec in (specs if specs[:1] != specs[1:] else specs[:1])]


def _cost(run: Run) -> tuple[str, ...]:
    """The lines of the block "What it costs", without its title."""
    found = cost_block(run)
    return () if found is None else (found.headline.removeprefix("What it costs: "), *found.lines)


def _all_samples(run: Run) -> str:
    """What the charts of a layer stand on that name no samples."""
    samples = max((row.samples or 0 for row in run.layers), default=0) or run.data.get("samples") or 0
    return f"every other stands on all {numbers.counted(samples, 'sample')}" if samples > 1 else ""


def _findings(run: Run) -> list[dict[str, Any]]:
    return [
        {
            "severity": numbers.name(one.severity),
            "code": numbers.name(one.code),
            "layer": numbers.name(one.layer),
            "title": numbers.name(one.title),
            "evidence": evidence(one, unit(cost_of(run))),
            "fix": numbers.name(one.fix),
            "url": numbers.name(one.url),
            "link": one.url.startswith("https://"),
        }
        for one in findings.by_severity(run)
    ]


def _layers(run: Run, marks: list[str]) -> list[dict[str, Any]]:
    """Each layer with its words, and whether its only input is the layer before it (`is_next`)."""
    befores = [None, *(row.layer for row in run.layers)]
    reasons = ["; ".join(numbers.name(text) for text in (row.mechanism, row.reason) if text) for row in run.layers]
    return [
        {
            "index": row.index,
            "name": numbers.name(row.layer),
            "verdict": row.verdict,
            "text": f"{numbers.name(row.op)}: {reason}",
            "upstream": numbers.names(row.upstream),
            "is_next": row.upstream in ([], [before]),
            "mark": mark,
        }
        for row, before, reason, mark in zip(run.layers, befores, reasons, marks, strict=False)
    ]


def _samples(run: Run, arrays: bytes | None) -> list[dict[str, Any]]:
    """The worst samples, once each, with the layers where they are worst, and their images where there are any."""
    images = sample_images(arrays)
    found: dict[int, dict[str, Any]] = {}
    for one in sorted(run.worst_samples, key=size_of, reverse=True):
        entry = found.setdefault(
            one.index, {"index": one.index, "image": images.get(one.index, ""), "layers": [], "labels": _labels(one)}
        )
        size = f"{numbers.error(one.error_lsb)} LSB" if one.error_lsb is not None else numbers.error(one.error_abs)
        entry["layers"].append(f"{size} at {numbers.name(one.layer)}")
        if one.first_flipping_layer is not None:
            entry["labels"] = [*_labels(one), f"flips first at {numbers.name(one.first_flipping_layer)}"]
    changed = [entry for entry in found.values() if len({text.split(" ")[-1] for text in entry["labels"][:2]}) > 1]
    return [*changed, *(entry for entry in found.values() if entry not in changed)][:_SAMPLES]


def _labels(one: Any) -> list[str]:
    named = (("reference says", one.reference_label), ("candidate says", one.candidate_label), ("label", one.label))
    return [f"{name} {numbers.count(value)}" for name, value in named if value is not None]


def _tables(run: Run) -> list[dict[str, Any]]:
    found = [layers.layers_table(run), *(layers.layers_table(run, name) for name in run.by_kernels or {})]
    found += [kernel_layers_table(run), kernels.kernels_table(run)] if run.by_kernels else []
    found += [device_table(run)] if run.device is not None else []
    found += [one for one in (parts_table(run), drift_table(run)) if one.lines]
    found += [end_to_end.end_to_end_table(run)] if run.end_to_end else []
    found += [] if run.cures is None else [cures_table(run.cures)]
    missing = coverage_table(run)
    found = [_with_samples(one, run) if one.name == "parts" else one for one in found]
    return [_table(one) for one in (*found, *([missing] if missing.lines else []))]


def _with_samples(table: Table, run: Run) -> Table:
    """The table of parts with how many samples they were measured on, fewer than the layer table's."""
    samples = max((row.parts.get("samples") or 0 for row in run.layers if row.parts is not None), default=0)
    return replace(table, title=f"{table.title}, the first {numbers.counted(samples, 'sample')}") if samples else table


def _table(table: Table) -> dict[str, Any]:
    """A table as the template needs it: every column, those of least weight hidden until asked for.

    Where a row has a verdict, that is the second column, and stays in sight with the first.
    """
    stays = table.name == "layers"
    if stays:
        first = ("layer", table.status_column)
        table = table.of([*first, *(column.name for column in table.columns if column.name not in first)])
    levels = {ESSENTIAL: "", USEFUL: "useful", DATA: "data"}
    key = next(column for column in table.columns if column.detail == ESSENTIAL)

    def classes(column: Column) -> str:
        is_status = stays and column.name == table.status_column
        place = "key" if column is key else "stays" if is_status else "wrap" if column.wrap else ""
        return " ".join(filter(None, (column.align, levels[column.detail], place)))

    status = next((place for place, column in enumerate(table.columns) if column.name == table.status_column), -1)
    return {
        "name": table.name,
        "title": table.title,
        "heads": [(column.heading, classes(column)) for column in table.columns],
        "status": status,
        "lines": table.lines,
        "notes": table.notes,
        "stays": stays,
        "has_data": any(column.detail == DATA for column in table.columns),
    }
