"""The smallest set of layers that does: grow it by rank, then leave out what is not needed. Pure.

Whether a set does is asked of the caller, who converts and traces; so every question costs a conversion, and their
number is limited. The set that is found is the smallest in this sense: without any one of its layers it does not do
(unless the questions ran out).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

Set = frozenset[str]
Does = Callable[[Set], bool]


class Asked:
    """Asks for each set once, as often as is allowed; afterwards nothing more does."""

    def __init__(self, does: Does, limit: int) -> None:
        self.does, self.limit = does, limit
        self.known: dict[Set, bool] = {}

    @property
    def left(self) -> int:
        """How many sets may yet be asked for."""
        return self.limit - len(self.known)

    def __call__(self, layers: Set) -> bool:
        """Whether this set does; no where that was not asked for in time."""
        if layers not in self.known:
            if self.left <= 0:
                return False
            self.known[layers] = self.does(layers)
        return self.known[layers]


def smallest(groups: Sequence[Sequence[str]], does: Does, limit: int) -> Set | None:
    """The smallest set that does, made of groups in the order of their rank; `None` where none was found in time."""
    ask = Asked(does, limit)
    prefixes = _prefixes(groups)
    found = _first(prefixes, ask)
    return None if found is None else _pruned(prefixes[found], groups, ask)


def _prefixes(groups: Sequence[Sequence[str]]) -> list[Set]:
    """The first group, the first two, ...: each with more layers than the one before."""
    prefixes: list[Set] = []
    so_far: Set = frozenset()
    for group in groups:
        longer = so_far | frozenset(group)
        if longer != so_far:
            prefixes.append(longer)
        so_far = longer
    return prefixes


def _first(prefixes: Sequence[Set], ask: Asked) -> int | None:
    """The first prefix that does: doubling, then halving what is between."""
    low, high = -1, 0
    while high < len(prefixes) and not ask(prefixes[high]):
        if ask.left <= 0 or high == len(prefixes) - 1:
            return None
        low, high = high, min(2 * high + 1, len(prefixes) - 1)
    while prefixes and high - low > 1 and ask.left > 0:
        middle = (low + high) // 2
        if ask(prefixes[middle]):
            high = middle
        else:
            low = middle
    return high if prefixes else None


def _pruned(found: Set, groups: Sequence[Sequence[str]], ask: Asked) -> Set:
    """The set without what is not needed: halves of it first, then layer by layer, the last ranks first."""
    order = list(dict.fromkeys(layer for group in groups for layer in group if layer in found))
    size = max(1, len(order) // 2)
    while True:
        place = len(order)
        while place > 0:
            part = frozenset(order[max(0, place - size) : place])
            if 0 < len(part) < len(found) and part <= found and ask(found - part):
                found -= part
                order = [layer for layer in order if layer in found]
            place -= size
            place = min(place, len(order))
        if size == 1 or ask.left <= 0:
            return found
        size = max(1, size // 2)
