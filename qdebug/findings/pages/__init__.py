"""What each finding means, one page per code. Standard library only: `qdebug explain` starts at once."""

from __future__ import annotations

from qdebug.errors import UsageError
from qdebug.findings.pages import device, graph, inputs, kernels, losses, parameters, ranges, reference_state
from qdebug.findings.pages.page import Page

# fmt: off
PAGES: dict[str, Page] = {
    page.code: page
    for page in sorted(
        (*inputs.PAGES, *reference_state.PAGES, *graph.PAGES, *parameters.PAGES, *kernels.PAGES, *ranges.PAGES,
         *losses.PAGES, *device.PAGES),
        key=lambda page: page.code,
    )
}
# fmt: on
"""By code, in order."""


def find(code: str | None) -> list[Page]:
    """Return the page of `code`, whatever its case, or all of them. Raises UsageError with the list of codes."""
    if code is None:
        return list(PAGES.values())
    page = PAGES.get(code.strip().upper())
    if page is None:
        raise UsageError(f"there is no finding {code!r}: choose from {', '.join(PAGES)}")
    return [page]


FAMILIES = {
    "QD1": "input and harness",
    "QD2": "state of the reference",
    "QD3": "graph",
    "QD4": "parameters",
    "QD5": "arithmetic and kernels",
    "QD6": "ranges",
    "QD7": "the device",
}
"""What the first digit of a code says."""
