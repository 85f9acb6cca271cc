"""`qdebug dump`: write tensors as a device would, or print the firmware source that does it on one."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from qdebug.cli import options as o
from qdebug.models.kernels import Kernels


class DumpFormat(StrEnum):
    """The formats that are read and written."""

    NPZ = "npz"
    NPY = "npy"
    RAW = "raw"
    LOG = "log"
    TFLM = "tflm"


def dump(
    firmware: Annotated[bool, typer.Option("--firmware", help="Print C++ source that dumps on a board.")] = False,
    candidate: Annotated[str | None, typer.Option(help="The .tflite file to run.", metavar="FILE")] = None,
    data: o.Data = "digits",
    samples: Annotated[int, typer.Option(min=1, help="Dump the first N samples.", metavar="N")] = 4,
    scale: o.Scale = None,
    x_key: o.XKey = None,
    y_key: o.YKey = None,
    image_size: o.ImageSize = None,
    preprocess: o.Preprocess = None,
    kernels: o.KernelSet = Kernels.TFLM,
    format: Annotated[  # noqa: A002 the option's name
        DumpFormat,
        typer.Option(
            help="npz, npy and raw are arrays and binaries, log a serial console's, tflm TFLM's own tool's.",
            case_sensitive=False,
        ),
    ] = DumpFormat.NPZ,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", help="The file, or for npy and raw the folder.", metavar="PLACE")
    ] = None,
    force: o.Force = False,
    quiet: o.Quiet = False,
    isolate: o.Isolate = False,  # noqa: ARG001 its callback runs the command
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Write all tensors of a .tflite file that a host computes, as a device's dump; or print firmware that dumps."""
    from qdebug.cli.failures import say
    from qdebug.cli.output import write_file, write_standard_output
    from qdebug.cli.progress import Progress
    from qdebug.errors import UsageError

    if firmware:
        from qdebug.models.dumps.firmware import source

        if output is None:
            write_standard_output(source())
        else:
            write_file(output, source(), force=force)
            if not quiet:
                say(f"wrote {output}")
        return
    if candidate is None or output is None:
        missing = "--candidate FILE" if candidate is None else "-o PLACE"
        raise UsageError(f"{missing} is missing: give the file to run and the place to write to, or --firmware")
    if kernels == Kernels.ALL:
        raise UsageError("--kernels all: a dump is of one kernel family; choose one")
    from qdebug.models.data.request import DataRequest
    from qdebug.workflows.host_dump import dump_host, write

    request = DataRequest(data, samples, scale, x_key, y_key, image_size, preprocess)
    check_place(output, format in (DumpFormat.NPY, DumpFormat.RAW), force=force)
    with Progress(quiet=quiet) as progress:
        files = dump_host(candidate, request, str(kernels), str(format), output, progress)
    write(files, output)
    if not quiet:
        say(f"wrote {output}")


def check_place(place: Path, is_folder: bool, *, force: bool) -> None:
    """Raise UsageError where a dump cannot be written there."""
    from qdebug.cli.output import check_writable
    from qdebug.errors import UsageError

    if not is_folder:
        check_writable(place, force=force)
    elif place.exists() and not place.is_dir():
        raise UsageError(f"cannot write {place}: it is a file; name a folder")
    elif place.is_dir() and any(place.iterdir()) and not force:
        raise UsageError(f"cannot write to {place}: it is not empty; give --force to write into it")
