"""A folder of images as evaluation data: one folder a class, or images without labels.

Needs Pillow (`pip install 'qdebug[images]'`). Images are resized bilinearly, with antialiasing where they shrink.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import zip_longest
from pathlib import Path
from typing import Any

import numpy as np

from qdebug.errors import InputError
from qdebug.graph.quantization import Array
from qdebug.models.data.arrays import InputSpec, as_array
from qdebug.models.data.dataset import Dataset
from qdebug.models.data.streams import spooled
from qdebug.models.limits import check_regular

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm")
MODES = {1: "L", 3: "RGB", 4: "RGBA"}
PIECE = 64
"""Images that are preprocessed together."""
Preprocess = Callable[[Array], Any]


def from_folder(
    folder: Path,
    specs: Sequence[InputSpec],
    *,
    size: str | None = None,
    preprocess: Preprocess | None = None,
    samples: int | None = None,
) -> Dataset:
    """Images as `(height, width, channels)` from 0 to 255, or what `preprocess` makes of a batch of them in float32.

    Classes are numbered in the order of their folders' names, and taken in turn, so that the first N hold them all.
    Raises InputError.
    """
    if len(specs) != 1:
        raise InputError(
            f"{folder} is a folder of images, and the model takes {len(specs)} inputs: give an .npz, or "
            "--data MODULE:FUNCTION"
        )
    files = listed(folder)
    height, width, channels, first = _geometry(specs[0], size, folder)
    return spooled(
        _read(files[:samples], (height, width), channels, preprocess, channels_first=first), specs, str(folder), samples
    )


def listed(folder: Path) -> list[tuple[Path, int | None]]:
    """The images of a folder with the number of their class, class after class in turn."""
    loose = _images(folder)
    classes = [path for path in sorted(folder.iterdir()) if path.is_dir() and _images(path)]
    if loose and classes:
        raise InputError(
            f"{folder} holds images beside folders of images ({loose[0].name}, {classes[0].name}/): keep "
            "one folder a class, or images alone"
        )
    if not loose and not classes:
        raise InputError(
            f"{folder} holds no images ({', '.join(SUFFIXES)}): give a folder with one folder of images a "
            "class, or a .npz or .npy file"
        )
    if loose:
        return [(path, None) for path in loose]
    rows = zip_longest(*([(path, number) for path in _images(one)] for number, one in enumerate(classes)))
    return [entry for row in rows for entry in row if entry is not None]


def _images(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())


def _geometry(spec: InputSpec, size: str | None, folder: Path) -> tuple[int, int, int, bool]:
    """Height, width, channels, and whether these come first."""
    shape = tuple(spec.shape)[1:]
    if len(shape) == 2:
        shape = (*shape, 1)
    if len(shape) != 3:
        raise InputError(
            f"{folder} is a folder of images, and input {spec.name!r} takes shape {spec.shape}: give an "
            ".npz, or --data MODULE:FUNCTION"
        )
    first = shape[0] in MODES and shape[2] not in MODES
    (channels, height, width) = shape if first else (shape[2], shape[0], shape[1])
    if size is not None:
        height, width = _sizes(size)
    if height is None or width is None:
        raise InputError(f"input {spec.name!r} takes images of any size: say which with --image-size HEIGHTxWIDTH")
    if channels is None:
        channels = 3
    if channels not in MODES:
        raise InputError(
            f"input {spec.name!r} takes {channels} channels, images have 1, 3 or 4: give an .npz, or "
            "--data MODULE:FUNCTION"
        )
    return height, width, channels, first


def _sizes(size: str) -> tuple[int, int]:
    numbers = size.lower().split("x")
    if len(numbers) > 2 or not all(number.isdigit() and int(number) > 0 for number in numbers):
        raise InputError(f"--image-size {size}: give HEIGHTxWIDTH, such as 224x224, or one number for both")
    return int(numbers[0]), int(numbers[-1])


def _read(
    files: Sequence[tuple[Path, int | None]],
    size: tuple[int, int],
    channels: int,
    preprocess: Preprocess | None,
    *,
    channels_first: bool,
) -> Iterator[Any]:
    for start in range(0, len(files), PIECE):
        part = files[start : start + PIECE]
        images = np.stack([_open(path, size, channels) for path, _ in part])
        if preprocess is not None:
            images = _preprocessed(images, preprocess)
        elif channels_first:
            images = np.ascontiguousarray(np.moveaxis(images, -1, 1))
        labels = [number for _, number in part]
        yield (images,) if None in labels else (images, np.asarray(labels))


def _open(path: Path, size: tuple[int, int], channels: int) -> Array:
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError as error:
        raise InputError("images are read with Pillow, which is not installed: pip install 'qdebug[images]'") from error
    try:
        check_regular(path)
        with Image.open(path) as image:
            made = image.convert(MODES[channels]).resize((size[1], size[0]), Image.Resampling.BILINEAR)
            return np.asarray(made, np.uint8).reshape(*size, channels)
    except (UnidentifiedImageError, OSError, ValueError) as error:
        raise InputError(f"image {path} cannot be read ({error}): remove or mend it") from error


def _preprocessed(images: Array, preprocess: Preprocess) -> Array:
    name = getattr(preprocess, "__name__", "preprocess")
    try:
        given = preprocess(images.astype(np.float32))
    except Exception as error:
        raise InputError(
            f"--preprocess {name} fails on a batch of images {images.shape}: {type(error).__name__}: {error}",
            details=repr(error),
        ) from error
    made = as_array(given, f"what --preprocess {name} gives")
    if len(made) != len(images):
        raise InputError(
            f"--preprocess {name} makes {len(made)} samples of {len(images)} images: it takes and gives a "
            "batch of shape (images, height, width, channels)"
        )
    return made
