"""Dumps of a device's tensors: every format is read as it was written, and what does not fit is told in one line."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from qdebug.errors import InputError
from qdebug.models.dumps.dump import read_dump, write_dump
from qdebug.models.dumps.firmware import source
from qdebug.models.litert.candidate import Candidate
from qdebug.workflows.host_dump import run_host, write
from qdebug.workflows.progress import Silent
from tests.fuzz.by_hand import dense_file

HIDDEN = 4


@pytest.fixture(scope="module")
def opened() -> Candidate:
    return Candidate.open(dense_file(), "dense.tflite")


@pytest.fixture(scope="module")
def made(opened):
    """What a host computes on three samples: tensor -> sample -> array."""
    inputs = [np.random.default_rng(1).uniform(-2, 2, (3, 4)).astype(np.float32)]
    return run_host(opened, inputs, "reference", Silent())


@pytest.mark.parametrize("kind", ["npz", "npy", "raw", "log", "tflm"])
def test_every_format_is_read_as_it_was_written(kind, opened, made, tmp_path):
    """Tensors, samples, types and values survive; the flatbuffer of TFLM's own tool holds one sample."""
    held = made if kind != "tflm" else {key: {0: one[0]} for key, one in made.items()}
    place = tmp_path / ("dump.npz" if kind == "npz" else "dump")
    write(write_dump(place, kind, held, opened.graph), place)

    found = read_dump(str(place), opened.graph)

    assert {key: sorted(one) for key, one in found.tensors.items()} == {key: sorted(one) for key, one in held.items()}
    for key, samples in held.items():
        for sample, values in samples.items():
            assert found.tensors[key][sample].dtype == values.dtype
            assert np.array_equal(found.tensors[key][sample].reshape(-1), values.reshape(-1))


def test_arrays_are_found_by_name_and_by_sample(opened, made, tmp_path):
    """A tensor's name does as its number does, and each sample may have a folder of its own."""
    np.savez(tmp_path / "dump.npz", **{"sample0/hidden": made[HIDDEN][0], "sample2/4": made[HIDDEN][2]})

    found = read_dump(str(tmp_path / "dump.npz"), opened.graph)

    assert {sample: values.tolist() for sample, values in found.tensors[HIDDEN].items()} == {
        sample: made[HIDDEN][sample].tolist() for sample in (0, 2)
    }


def test_what_a_bad_connection_does_to_a_log_is_told(opened, made, tmp_path):
    """Lines among others are found; cut, mixed and doubled ones are reported, and their tensors not believed."""
    content = write_dump(tmp_path / "log", "log", {key: {0: one[0]} for key, one in made.items()}, opened.graph)
    lines = next(iter(content.values())).decode().splitlines()
    by_key = {int(line.split()[2]): line for line in lines}
    by_key[4] = by_key[4][:-3]
    text = ["boot: ok", f"[12:01] {by_key[0]}", by_key[1], by_key[4], by_key[7], by_key[7], by_key[8], "QDEBUG 0"]
    (tmp_path / "console.log").write_text("\r\n".join(text))

    found = read_dump(str(tmp_path / "console.log"), opened.graph)

    assert sorted(found.tensors) == [0, 1, 8]
    assert sorted(found.damaged) == [4, 7]
    assert "line 4 of the log is cut" in found.damaged[4]
    assert "lines 5 and 6 of the log both hold it" in found.damaged[7]
    assert found.notes == ("line 8 of the log is cut: it does not say which tensor it holds",)


def bad(tmp_path: Path, made, kind: str) -> Path:  # noqa: C901 one place for each kind of fault
    """A place that is not what it must be."""
    place = tmp_path / "bad.npz"
    codes = made[HIDDEN][0]
    arrays: dict[str, np.ndarray] = {}
    if kind == "size":
        arrays = {"4": np.zeros((1, 7), np.int8)}
    elif kind == "axes":
        arrays = {"4": np.zeros((4, 3), np.int8)}
    elif kind == "turned":
        arrays = {"4": np.zeros((6, 2), np.int8)}
    elif kind == "biases":
        arrays = {"6": Candidate.open(dense_file(), "dense.tflite").graph.tensors[6].data.byteswap()}
    elif kind == "name":
        arrays = {"hiden": codes}
    elif kind == "number":
        arrays = {"99": codes}
    elif kind == "unsigned":
        arrays = {"4": (codes.astype(int) + 128).astype(np.uint8)}
    elif kind == "real":
        arrays = {"4": codes * np.float32(0.03)}
    elif kind == "order":
        arrays = {"8": made[8][0].byteswap()}
    elif kind == "weights":
        arrays = {"5": np.zeros((3, 6), np.int8)}
    elif kind == "text":
        place = tmp_path / "bad.log"
        place.write_text("hello\n")
    elif kind == "nothing":
        place = tmp_path / "empty"
        place.mkdir()
    elif kind == "empty file":
        place = tmp_path / "zero"
        place.write_bytes(b"")
    elif kind == "missing":
        place = tmp_path / "nowhere"
    elif kind == "broken npz":
        place.write_bytes(b"PK\x03\x04 no archive")
    elif kind in ("truncated", "outside", "no dtype"):
        place = tmp_path / "raw"
        place.mkdir()
        (place / "4.bin").write_bytes(codes.tobytes()[:-2])
        entry = {"tensor": 4, "file": "4.bin" if kind != "outside" else "../x.bin", "dtype": "int8", "sample": 0}
        entry = {name: value for name, value in entry.items() if kind != "no dtype" or name != "dtype"}
        (place / "manifest.json").write_text(json.dumps({"tensors": [entry]}))
    if arrays:
        np.savez(place, **arrays)
    return place


@pytest.mark.parametrize(
    ("kind", "said"),
    [
        ("size", r"tensor 4 \(hidden\) has 7 values .*, and 6 in the file \(1x6\): the dump is of another file"),
        ("axes", r"tensor 4 \(hidden\) is 4x3 .*, and 1x6 in the file: it is cut, or the dump is of another file"),
        ("turned", r"tensor 4 \(hidden\) is 6x2 .*, and 1x6 in the file: bring its axes into the file's order"),
        ("biases", r"tensor \d .* is a constant, and its bytes are the other way round: the device is big-endian"),
        ("name", r"no tensor of the file is called 'hiden'; the nearest are 'hidden' \(4\)"),
        ("number", "tensor 99 is not in the file, which has tensors 0 to 8"),
        ("unsigned", r"is uint8 .*, and int8 in the file: its values go from 0 to \d+: cast the bytes to int8"),
        ("real", "is float32 .*, and int8 in the file: .* are real: dump the codes"),
        ("order", r"tensor 8 \(out\) \(made by op 3 DEQUANTIZE\) .* the other way round: the device is big-endian"),
        ("weights", r"tensor 5 \(kernel_2\) is a constant, and \d+ of its 18 values are not the file's"),
        ("text", "a log without QDEBUG lines"),
        ("nothing", "it holds no tensor"),
        ("empty file", "is empty"),
        ("missing", "no such file or folder"),
        ("broken npz", r"damaged \.npz file"),
        ("truncated", r"tensor 4 \(hidden\) has 4 bytes \(4\.bin\), and 6 in the file \(1x6\): it is cut"),
        ("outside", r"the file \.\./x\.bin lies outside of the folder"),
        ("no dtype", 'entry 0 needs "tensor", "file" and "dtype"'),
    ],
)
def test_what_does_not_fit_is_told_in_one_line(kind, said, opened, made, tmp_path):
    """Which tensor, both sizes or types, and what to do."""
    with pytest.raises(InputError, match=said) as caught:
        read_dump(str(bad(tmp_path, made, kind)), opened.graph)
    assert "\n" not in str(caught.value)


STUBS = """
#pragma once
#include <stddef.h>
#include <stdint.h>
enum TfLiteType { kTfLiteFloat32 = 1, kTfLiteInt32 = 2, kTfLiteUInt8 = 3, kTfLiteInt64 = 4, kTfLiteBool = 6,
                  kTfLiteInt16 = 7, kTfLiteInt8 = 9 };
struct TfLiteIntArray { int size; int data[4]; };
union TfLitePtrUnion { void* raw; };
struct TfLiteEvalTensor { TfLitePtrUnion data; TfLiteIntArray* dims; TfLiteType type; };
"""
MAIN = """
#include <stdio.h>
#include "dump.cc"
struct Interpreter {
  TfLiteEvalTensor* GetTensor(int index, int) { return index < %(count)d ? tensors[index] : nullptr; }
  TfLiteEvalTensor* tensors[%(count)d];
};
static uint8_t model[1 << 16];
int main(int, char** arguments) {
  FILE* file = fopen(arguments[1], "rb");
  size_t size = fread(model, 1, sizeof(model), file);
  fclose(file);
%(tensors)s
  Interpreter interpreter = {{%(list)s}};
  putchar('#'); putchar('\\n');
  QdebugDump(interpreter, model, size, 2);
  return 0;
}
"""


@pytest.mark.skipif(shutil.which("g++") is None, reason="no C++ compiler")
def test_the_firmware_writes_a_log_that_is_read(opened, made, tmp_path):
    """The source compiles without a warning, counts the file's tensors itself, and leaves weights out."""
    header = tmp_path / "tensorflow" / "lite" / "micro" / "micro_interpreter.h"
    header.parent.mkdir(parents=True)
    header.write_text(STUBS)
    (tmp_path / "dump.cc").write_text(source())
    (tmp_path / "model.tflite").write_bytes(dense_file())
    codes = {"int8": "kTfLiteInt8", "float32": "kTfLiteFloat32", "int32": "kTfLiteInt32"}
    lines, names = [], []
    for key, tensor in opened.graph.tensors.items():
        values = np.ascontiguousarray(made[key][2] if key in made else tensor.data)
        dims = ", ".join(map(str, tensor.shape))
        data = ", ".join(map(str, values.view(np.uint8).reshape(-1)))
        lines.append(f"  static TfLiteIntArray dims{key} = {{{len(tensor.shape)}, {{{dims}}}}};")
        lines.append(f"  alignas(8) static uint8_t data{key}[] = {{{data}}};")
        place = f"data{key}" if tensor.data is None else "model + 64"
        lines.append(f"  static TfLiteEvalTensor tensor{key} = {{{{{place}}}, &dims{key}, {codes[tensor.dtype]}}};")
        names.append(f"&tensor{key}")
    (tmp_path / "main.cc").write_text(
        MAIN % {"count": len(names), "tensors": "\n".join(lines), "list": ", ".join(names)}
    )
    unused = "-Wno-unused-variable"
    subprocess.run(
        ["g++", "-std=c++17", "-Wall", "-Wextra", "-Werror", unused, "-I.", "main.cc", "-o", "dump"],
        cwd=tmp_path,
        check=True,
    )
    log = subprocess.run([tmp_path / "dump", "model.tflite"], cwd=tmp_path, check=True, capture_output=True).stdout
    (tmp_path / "console.log").write_bytes(log)

    found = read_dump(str(tmp_path / "console.log"), opened.graph)

    assert {key: list(one) for key, one in found.tensors.items()} == {key: [2] for key in made}
    for key, held in found.tensors.items():
        assert np.array_equal(held[2].reshape(-1), made[key][2].reshape(-1))
