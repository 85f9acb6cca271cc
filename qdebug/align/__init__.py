"""Alignment: which reference tensor each candidate tensor stands for, with evidence, and a reason for each leftover."""

from qdebug.align.fingerprints import Probe
from qdebug.align.pairs import Alignment, Leftover, Pair, align

__all__ = ["Alignment", "Leftover", "Pair", "Probe", "align"]
