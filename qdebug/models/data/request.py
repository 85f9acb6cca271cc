"""What `--data` asks for: a known name, a file, a folder of images, or a Python function.

Names and NumPy files are loaded before any model is opened; the rest needs to know what the model takes.
"""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qdebug.errors import InputError, UsageError
from qdebug.models.data import dataset as datasets
from qdebug.models.data.arrays import InputSpec
from qdebug.models.data.dataset import Dataset, check_scale, scaled
from qdebug.models.data.images import from_folder
from qdebug.models.data.named import NAMES
from qdebug.models.data.streams import from_python
from qdebug.models.data.tables import SEPARATORS, from_csv

FUNCTION = re.compile(r"^[A-Za-z_][\w.]*:[A-Za-z_][\w.]*$")


@dataclass(frozen=True)
class DataRequest:
    """Which data, and how to read them."""

    spec: str
    samples: int | None = None
    """Take the first N."""
    scale: float | None = None
    """Divide all inputs by this."""
    x_key: str | None = None
    y_key: str | None = None
    """Which arrays of an `.npz`, which columns of a table."""
    image_size: str | None = None
    """Of a folder of images: HEIGHTxWIDTH."""
    preprocess: str | None = None
    """Of a folder of images: MODULE:FUNCTION, called with a batch of them."""

    @property
    def kind(self) -> str:
        """`arrays`, `images`, `table` or `python`."""
        path = Path(self.spec)
        if self.spec in NAMES or path.suffix.lower() in (".npz", ".npy"):
            return "arrays"
        if path.is_dir():
            return "images"
        if path.suffix.lower() in SEPARATORS:
            return "table"
        return "python" if FUNCTION.match(self.spec) and not path.exists() else "arrays"

    def early(self) -> Dataset | None:
        """What can be loaded before a model is opened; `None` where it must be known first. Raises InputError."""
        check_scale(self.scale)
        kind = self.kind
        for option, value, kinds in (
            ("--image-size", self.image_size, ("images",)),
            ("--preprocess", self.preprocess, ("images",)),
            ("--x-key", self.x_key, ("arrays", "table")),
            ("--y-key", self.y_key, ("arrays", "table")),
        ):
            if value is not None and kind not in kinds and not self._is_there():
                raise InputError(
                    f"--data {self.spec}: no such file or folder, and no data set of that name; give one that exists"
                )
            if value is not None and kind not in kinds:
                what = "a folder of images" if kinds == ("images",) else "an .npz file or a table"
                raise InputError(f"{option} is for {what}, and --data is {self.spec}: leave it out")
        if kind == "table" and not Path(self.spec).is_file():
            raise InputError(f"data file {self.spec} does not exist: give the path of a .csv, .npz or .npy file")
        if kind == "python":
            imported(self.spec, "--data")
        if self.preprocess is not None:
            imported(self.preprocess, "--preprocess")
        return (
            None
            if kind != "arrays"
            else datasets.load(self.spec, samples=self.samples, scale=self.scale, x_key=self.x_key, y_key=self.y_key)
        )

    def _is_there(self) -> bool:
        """Whether the data are a file, a folder, a function or a data set that is known by its name."""
        return self.kind == "python" or self.spec in NAMES or Path(self.spec).exists()

    def open(self, specs: Sequence[InputSpec], *, shared: bool = False) -> Dataset:
        """Load the data for a model with these inputs; where workers share it, no stream. Raises InputError."""
        found = self.early()
        if found is not None:
            return found
        if self.kind == "images":
            preprocess = None if self.preprocess is None else imported(self.preprocess, "--preprocess")
            found = from_folder(
                Path(self.spec), specs, size=self.image_size, samples=self.samples, preprocess=preprocess
            )
        elif self.kind == "table":
            found = from_csv(Path(self.spec), specs, x_key=self.x_key, y_key=self.y_key, samples=self.samples)
        else:
            found = from_python(
                imported(self.spec, "--data"), None, specs, source=self.spec, samples=self.samples, shared=shared
            )
        found = found if self.samples is None else found.first(self.samples)
        return found if self.scale is None else scaled(found, self.scale)


def imported(name: str, option: str) -> Any:
    """What `MODULE:NAME` stands for; modules of the working directory are found. Raises UsageError."""
    module, _, inner = name.partition(":")
    if not FUNCTION.match(name):
        raise UsageError(f"{option} {name}: give MODULE:FUNCTION, such as mydata:images")
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        found: Any = importlib.import_module(module)
        for part in inner.split("."):
            found = getattr(found, part)
    except (ImportError, AttributeError) as error:
        raise UsageError(
            f"{option} {name}: cannot be imported ({error}); give MODULE:FUNCTION, the module on the "
            "Python path or in the working directory"
        ) from error
    finally:
        sys.path.remove(here)
    return found
