"""How help is laid out: options in panels, each with its words beside it, and the examples last. Nothing is cut."""

from __future__ import annotations

import re
from typing import Any

from typer.core import TyperCommand

MODELS, BUILT_IN, DATA, KERNELS, COST = "Models", "Built-in models", "Data", "Kernels", "Cost"
GATES, OUTPUT, OTHER = "Gates", "Output", "Other options"
PANELS = (MODELS, DATA, KERNELS, COST, GATES, OUTPUT, BUILT_IN, OTHER)
"""Panels in the order in which they are shown."""
# fmt: off
_OPTIONS = {
    MODELS: ("reference", "candidate", "baseline", "save-candidate", "quantize", "signature", "inputs", "outputs",
             "custom-objects", "allow-lambda"),
    DATA: ("data", "samples", "scale", "x-key", "y-key", "image-size", "preprocess", "sample", "save-tensors", "dump"),
    KERNELS: ("kernels", "reference-kernels", "tflm-samples", "threads", "batch-size", "workers", "scheduler"),
    COST: ("handover", "handover-samples", "metric"),
    GATES: ("fail-on", "tolerance", "max-local-flip-percent", "max-cumulative-flip-percent", "max-local-lsb",
            "min-agreement", "max-accuracy-drop", "budget", "against", "junit"),
    OUTPUT: ("firmware", "all", "table", "worst", "row", "export", "by", "explorer", "json", "format", "output",
             "force", "store", "quiet"),
    BUILT_IN: ("model", "models", "seed", "seeds", "qat-epochs", "retrain"),
}
# fmt: on
_PANEL_OF = {f"--{name}": panel for panel, names in _OPTIONS.items() for name in names}
WIDTH = 100
"""Columns that help uses where the terminal has them."""
SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": WIDTH}


def examples(command: str, *arguments: str) -> str:
    """The epilog of a command: one line for each example of its arguments."""
    first, *others = (f"qdebug {command} {given}" for given in arguments)
    return "\n".join([f"Example: {first}", *(f"         {other}" for other in others)])


class Command(TyperCommand):
    """A command whose help stands in panels and ends with its examples, one a line."""

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write the arguments, then the options of each panel."""
        found: dict[str, list[tuple[str, str]]] = {}
        for one in self.get_params(ctx):
            record = one.get_help_record(ctx)
            if record is not None:
                panel = next((_PANEL_OF[name] for name in one.opts if name in _PANEL_OF), OTHER)
                panel = "Arguments" if one.param_type_name == "argument" else panel
                found.setdefault(panel, []).append((_first(record[0]), record[1]))
        for panel in (one for one in ("Arguments", *PANELS) if one in found):
            with formatter.section(panel):
                formatter.write_dl(found[panel], col_max=36)

    def format_epilog(self, _ctx: Any, formatter: Any) -> None:
        """Write the examples as they are."""
        lines = (self.epilog or "").splitlines()
        if lines:
            formatter.write_paragraph()
            for line in lines:
                formatter.write(f"{line}\n")


def list_commands(group: Any, ctx: Any, formatter: Any) -> None:
    """Write the commands with what each does, whole."""
    rows = [
        (name, " ".join(str(one.help or "").split()))
        for name in group.list_commands(ctx)
        if (one := group.get_command(ctx, name)) is not None and not one.hidden
    ]
    with formatter.section("Commands"):
        formatter.write_dl(rows)


def _first(text: str) -> str:
    """The first column of an option: no type of an argument, no spaces around the slash."""
    return re.sub(r" <str>$", "", text.replace(" / ", "/"))
