"""The version of qdebug, in one place, and those of the packages that this process runs on."""

from functools import cache
from importlib import metadata

__version__ = "0.1.0"


@cache
def installed(package: str) -> str | None:
    """The version of a package, `None` where it is not installed; looked up once, which takes milliseconds."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None
