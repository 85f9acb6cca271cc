"""`qdebug cache`: where trained built-in models and opened references are, and how much room they take."""

from __future__ import annotations

from typing import Annotated

import typer

from qdebug.cli import options as o


def cache(
    clear: Annotated[bool, typer.Option("--clear", help="Remove them all.")] = False,
    debug: o.Debug = False,  # noqa: ARG001 its callback remembers it
) -> None:
    """Show where trained built-in models and opened references are kept, and their size."""
    import shutil

    from qdebug.errors import StoreError
    from qdebug.models.cache_folder import REFERENCES, default_folder

    folder = default_folder()
    files = [path for path in folder.rglob("*") if path.is_file()] if folder.is_dir() else []
    references = [path for path in files if path.parent == folder / REFERENCES]
    models = {path.relative_to(folder).parts[0] for path in files} - {REFERENCES}
    size = sum(path.stat().st_size for path in files)
    typer.echo(f"{folder}: {len(models)} trained models, {len(references)} opened references, {size / 1e6:.1f} MB")
    if clear:
        try:
            for entry in folder.iterdir() if folder.is_dir() else ():
                shutil.rmtree(entry)
        except OSError as error:
            raise StoreError(f"cannot clear {folder}: {error.strerror}; remove it by hand") from error
        typer.echo("removed")
