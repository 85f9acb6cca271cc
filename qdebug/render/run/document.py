"""A run as blocks: header, answer, tables, findings, in the order in which they are read."""

from __future__ import annotations

from collections import Counter
from typing import Any

from qdebug.record.loss import cost_of, worse
from qdebug.record.schema import BUILT_IN, Finding, Run
from qdebug.render import numbers
from qdebug.render.blocks import Block, Entry, Facts, Sentence
from qdebug.render.cures import document as cures_document
from qdebug.render.run.answer import answer, headline, unmeasured_layers
from qdebug.render.run.baseline_drift import drift_table
from qdebug.render.run.cost_block import cost_block
from qdebug.render.run.coverage import coverage_table
from qdebug.render.run.device import device_table, told_device
from qdebug.render.run.divergence import MOST_NAMED
from qdebug.render.run.end_to_end import end_to_end_table
from qdebug.render.run.error_parts import parts_table
from qdebug.render.run.evidence import evidence
from qdebug.render.run.findings import by_severity, titled
from qdebug.render.run.kernels import kernel_layers_table, kernels_table
from qdebug.render.run.layers import layers_table
from qdebug.render.run.loss_sentences import short_loss, unit


def document(run: Run) -> tuple[Block, ...]:
    """Lay out everything that people want to know of a run."""
    blocks: list[Block] = [Sentence(headline(run), worse(run)), header(run)]
    if run.end_to_end:
        blocks.append(end_to_end_table(run))
    blocks += [accuracies(run), layers_table(run)]
    if run.device is not None:
        blocks += [device_table(run), Sentence(told_device(run.device))]
    if any(row.parts is not None for row in run.layers):
        blocks.append(parts_table(run))
    if (run.baseline or {}).get("layers"):
        blocks.append(drift_table(run))
    if run.by_kernels:
        blocks += [kernel_layers_table(run), kernels_table(run)]
        blocks += [
            layers_table(run, kernels)
            for kernels, rows in run.by_kernels.items()
            if any(row.verdict == "diverged" for row in rows)
        ]
    blocks.append(Sentence(coverage(run)))
    missing = coverage_table(run, fused=False)
    if missing.lines:
        blocks.append(missing)
    blocks += [finding_entry(number, one, unit(cost_of(run))) for number, one in enumerate(by_severity(run), 1)]
    blocks += [Sentence(f"Note: {numbers.name(note)}") for note in run.notes]
    blocks += [] if run.cures is None else cures_document(run.cures)
    cost = cost_block(run)
    blocks += [cost] if cost is not None else []
    blocks.append(Sentence(answer(run), worse(run)))
    return tuple(blocks)


def header(run: Run) -> Facts:
    """Tell what was compared, on which data, by what."""
    candidate = run.candidate
    types = f"{candidate.get('input_dtype')} in, {candidate.get('output_dtype')} out"
    pairs = [
        ("run", f"{run.id or 'not recorded'}, {run.created}"),
        ("verdicts", f"{run.verdict}; what it costs: {short_loss(run)}"),
        (
            "reference",
            _source(run.reference) + (f", {run.reference['kernels']} kernels" if run.reference.get("kernels") else ""),
        ),
        ("candidate", f"{_source(candidate)}, {types}, {candidate.get('kernels')} kernels"),
    ]
    if run.baseline:
        pairs.append(("baseline", _source(run.baseline)))
    if run.device is not None:
        count = numbers.counted(run.device.samples, "sample")
        pairs.append(("dump", f"{run.device.source} ({run.device.format}), {count}"))
    split = f" {run.data['split']}" if run.data.get("split") else ""
    data = f"{run.data.get('source')}{split}, {run.data.get('samples')} samples"
    pairs.append(("data", data if run.seed is None else f"{data}, seed {run.seed}"))
    versions = [f"{name} {version}" for name, version in run.environment.items() if version]
    pairs.append(("environment", ", ".join([f"qdebug {run.qdebug}", *versions])))
    if run.timing:
        spent = [f"{name.removesuffix('_s')} {numbers.seconds(value)}" for name, value in run.timing.items()]
        pairs.append(("time", ", ".join(spent)))
    return Facts(tuple((name, numbers.name(value)) for name, value in pairs))


def _source(model: dict[str, Any]) -> str:
    kind = f" ({model['kind']})" if model.get("kind") else ""
    return f"{source_name(model)}{kind}"


def source_name(model: dict[str, Any]) -> str:
    """Where a model comes from, as people read it: `built-in dense4`, or its file."""
    source = str(model.get("source"))
    return f"built-in {source.removeprefix(BUILT_IN)}" if source.startswith(BUILT_IN) else source


def accuracies(run: Run) -> Sentence:
    """The accuracies that were measured, in percent, or why there are none."""
    names = [name for name in ("baseline", "reference", "candidate") if name in run.accuracy]
    known = [f"{name} {numbers.accuracy(run.accuracy[name])} %" for name in names if run.accuracy[name] is not None]
    if known:
        return Sentence("Accuracy: " + ", ".join(known))
    reason = run.reasons.get("accuracy") or "no labels were given"
    return Sentence(f"Accuracy: not measured, {numbers.name(reason)}")


def coverage(run: Run) -> str:
    """Say how much of the candidate was compared."""
    found = run.coverage
    text = f"{found.paired} of {found.candidate_ops} candidate ops paired"
    needless = Counter(one.reason for one in found.unpaired if one.needs_no_pair)
    if needless:
        counts = [
            ("" if len(needless) == 1 else f"{count}x ") + numbers.name(reason)
            for reason, count in needless.most_common()
        ]
        why = "; ".join(counts[:MOST_NAMED]) + ("; …" if counts[MOST_NAMED:] else "")
        text += f", {needless.total()} {'needs' if needless.total() == 1 else 'need'} no pair ({why})"
    unmeasured = unmeasured_layers(run)
    return text + (f", {unmeasured} of {numbers.counted(len(run.layers), 'row')} not measured" if unmeasured else "")


def finding_entry(number: int, finding: Finding, loss_unit: str = "") -> Entry:
    """Tell one finding in plain words."""
    lines = [
        ("evidence", evidence(finding, loss_unit)),
        ("to do", numbers.name(finding.fix)),
        ("see", numbers.name(finding.url)),
    ]
    return Entry(
        f"{number}. {numbers.name(finding.severity)} {titled(finding)}",
        tuple(f"{name}: {text}" for name, text in lines if text not in ("", numbers.ABSENT)),
        finding.severity,
    )
