"""The arguments of the command line: remembered as they were given, and told in one line where they are no such."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from typing import Any

import typer
from typer.core import TyperGroup

from qdebug.cli.failures import COULD_NOT_COMPARE, report
from qdebug.cli.help import list_commands
from qdebug.cli.output import cannot_print, write_standard_output
from qdebug.errors import UsageError

ARGUMENTS = "qdebug.arguments"
"""Where the arguments are kept while they are parsed."""
REFUSED: Any = typer.BadParameter.__base__
"""What the parser raises: an option or value that there is none of."""


class Commands(TyperGroup):
    """The subcommands; what the parser refuses is a user's mistake like any other."""

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """List the commands."""
        list_commands(self, ctx, formatter)

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remember the arguments, then parse them."""
        ctx.meta[ARGUMENTS] = list(args)
        return super().parse_args(ctx, args)

    def make_context(self, *args: Any, **kwargs: Any) -> Any:
        """Parse what stands before the subcommand."""
        with _told(()):
            return super().make_context(*args, **kwargs)

    def invoke(self, ctx: Any) -> Any:
        """Parse what follows, and run the subcommand."""
        with _told(ctx.meta[ARGUMENTS]):
            return super().invoke(ctx)


@contextlib.contextmanager
def _told(arguments: Sequence[str]) -> Iterator[None]:
    """Tell what the parser refuses in one line, and where its help cannot be written.

    A reader of the help that has gone (`| head`) is no failure; Rich ends the process there with 1.
    """
    try:
        yield
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):
            raise typer.Exit from None
        raise
    except BrokenPipeError as error:
        cannot_print(error)
        raise typer.Exit from error
    except OSError as error:  # (those of the subcommands themselves have been told)
        raise SystemExit(report(cannot_print(error))) from error
    except REFUSED as error:
        if type(error).__name__ == "NoArgsIsHelpError":  # (the help itself)
            raise SystemExit(_help_alone(error.ctx)) from error
        command = "qdebug" if error.ctx is None else error.ctx.command_path.replace("python -m qdebug", "qdebug")
        text = f"{_reason(error, arguments)}; {command} --help lists what it takes"
        raise SystemExit(report(UsageError(text))) from error


def _help_alone(ctx: Any) -> int:
    """Print the help of a command that was given nothing; the exit code."""
    try:
        write_standard_output(ctx.get_help() + "\n")
    except UsageError as error:
        report(error)
    return COULD_NOT_COMPARE


def _reason(error: Any, arguments: Sequence[str]) -> str:
    """What is wrong, after the option and its value as they were given, which the parser's own words leave out."""
    options = tuple(getattr(getattr(error, "param", None), "opts", ()))
    for number, text in enumerate(arguments):
        name, equals, value = text.partition("=")
        if name in options and (equals or number + 1 < len(arguments)):
            reason = str(error.message).removeprefix("Value error, ").rstrip(".")
            return f"{name} {value if equals else arguments[number + 1]}: {reason[:1].lower()}{reason[1:]}"
    return str(error.format_message()).rstrip(".")
