"""Which ops of a reference file can be run on the candidate's codes follows from the graphs: nothing runs."""

from dataclasses import replace

from qdebug.measure.file_plan import FilePlan, plan_file
from tests.support import planned


def plan(*, other_grids=(), unread=(), unnamed=()) -> tuple[planned.Models, FilePlan]:
    """A file beside one that holds the tensors of `other_grids` on grids of its own."""
    models = planned.models()
    file = models.candidate
    held = {pair.reference: (pair.candidate,) for pair in models.aligned.pairs if pair.layer not in unnamed}
    tensors = dict(file.tensors)
    for layer in other_grids:
        tensor = tensors[models.key(layer)]
        wider = replace(tensor.quantization, scale=tensor.quantization.scale * 2)
        tensors[tensor.key] = replace(tensor, quantization=wider)
    kept = set(file.tensors) - {models.key(layer) for layer in unread}
    return models, plan_file(
        file, models.aligned.reference, held, replace(file, tensors=tensors), models.aligned.pairs, kept
    )


def regions(models: planned.Models, found: FilePlan) -> dict[str, list[str]]:
    """By layer: the names of the ops that run alone."""
    names = {pair.candidate: pair.layer for pair in models.aligned.pairs}
    return {names[key]: [op.name for op in region.ops] for key, region in found.regions.items()}


def test_on_equal_grids_every_layer_runs_on_the_candidate_codes():
    """Each is its own op, fed with what the candidate read; the input is measured once."""
    models, found = plan()
    first, flat = models.key("first"), models.key("flat")

    assert found.at_inputs == {models.key("image")}
    assert regions(models, found) == {"first": ["first"], "flat": ["flat"], "last": ["last"]}
    assert found.feeds[flat] == {first: first}


def test_a_layer_that_reads_or_writes_another_grid_is_not_run():
    """The same code means another value there; the layers around it are."""
    models, found = plan(other_grids=["first"])

    assert regions(models, found) == {"last": ["last"]}
    assert found.tensors[models.key("first")] == models.key("first")


def test_an_input_on_another_grid_is_no_beginning():
    """Its local error is not the cumulative one, and the first layer reads other codes."""
    models, found = plan(other_grids=["image"])

    assert found.at_inputs == frozenset()
    assert regions(models, found) == {"flat": ["flat"], "last": ["last"]}


def test_what_the_runtime_does_not_keep_has_no_counterpart():
    """It is left out; what reads it can still be fed with the candidate's codes."""
    models, found = plan(unread=["first"])

    assert models.key("first") not in found.tensors
    assert regions(models, found) == {"flat": ["flat"], "last": ["last"]}


def test_a_tensor_that_only_has_another_shape_stands_for_the_one_before_it():
    """The lifted graph reshapes where the file does not: the values are those of `first`."""
    models, found = plan(unnamed=["flat"])

    assert found.tensors[models.key("flat")] == models.key("first")
