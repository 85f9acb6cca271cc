"""Model Explorer's files keep its contract: known keys, unique nodes, finite numbers, a colour for every value."""

import dataclasses
import json

import pytest

from qdebug.record.schema import Handover
from qdebug.render.formats.explorer import overlays
from tests.support import run_records


def files(run):
    return {name: json.loads(text, parse_constant=pytest.fail) for name, text in overlays(run).items()}


def connected():
    """A diverged run whose rows feed each other: stem -> block -> conv_3 -> joined (also from stem) -> ..."""
    run = run_records.diverged_run()
    feeds = {1: ["stem_relu"], 2: ["block_1_depthwise_relu6"], 3: ["conv_3", "stem_relu"], 4: ["joined"], 5: ["custom"]}
    rows = [
        dataclasses.replace(
            row,
            upstream=feeds.get(row.index, []),
            op_index=row.index + 10,
            handover=Handover(0.9, 0.8, 0.5, 0.0, 0.1, 10),
        )
        for row in run.layers
    ]
    return dataclasses.replace(run, layers=rows)


def test_node_data():
    """Each measured row's operator number has its value; thresholds rise, and the last catches all."""
    found = files(connected())
    local = found["local_error.json"]

    assert sorted(found) == [
        "cumulative_error.json",
        "error_path.json",
        "handover_drop.json",
        "local_error.json",
        "reference_graph.json",
        "sync_navigation.json",
        "verdict.json",
    ]
    assert sorted(local["results"]) == ["10", "11", "12", "13", "15"]
    limits = [one["value"] for one in local["thresholds"]]
    assert limits == sorted(limits)
    assert limits[-1] >= 1e30
    assert found["verdict.json"]["results"]["14"]["value"] == "unmeasured"
    assert found["handover_drop.json"]["results"]["12"] == {"value": 0.5}


def test_rows_without_an_operator_are_left_out():
    """The input's own row has no node; float rows are told by relative error; no handover, no file."""
    run = run_records.run(
        layers=[dataclasses.replace(run_records.row(0, "input"), op_index=None), run_records.row(1, "dense")]
    )
    found = files(run)

    assert sorted(found["local_error.json"]["results"]) == ["1"]
    assert "handover_drop.json" not in found
    assert files(run_records.float_run())["local_error.json"]["name"] == "qdebug: local error (relative)"


def test_error_path():
    """The path begins at the first diverging layer and follows what it feeds, and nothing else."""
    edges = files(connected())["error_path.json"]["overlays"][0]["edges"]

    way = [f"{edge['sourceNodeId']} to {edge['targetNodeId']}" for edge in edges]
    assert way == ["12 to 13", "13 to 14", "14 to 15"]


def test_navigation_names_nodes_that_exist():
    """Every node of the mapping's left side is a node of the reference graph, and edges join such nodes only."""
    found = files(connected())
    nodes = found["reference_graph.json"][0]["nodes"]
    known = [node["id"] for node in nodes]

    assert len(set(known)) == len(known)
    assert {name for entry in found["sync_navigation.json"]["mappingEntries"] for name in entry["leftNodeIds"]} == set(
        known
    )
    assert {edge["sourceNodeId"] for node in nodes for edge in node["incomingEdges"]} <= set(known)
    by_id = {node["id"]: [edge["sourceNodeId"] for edge in node["incomingEdges"]] for node in nodes}
    assert by_id["stem_relu:stem_bn"] == ["stem_relu:stem"]
    assert by_id["joined:joined"] == ["conv_3:conv_3", "stem_relu:stem_relu"]


def test_nothing_measured():
    """A run without rows gives no overlay but an empty reference."""
    assert list(files(run_records.run(layers=[]))) == ["reference_graph.json"]
