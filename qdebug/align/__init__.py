"""Alignment: which reference tensor each candidate tensor stands for, with evidence, and a reason for each leftover."""

from qdebug.align.aligner import align
from qdebug.align.fingerprints import Probe
from qdebug.align.pairs import Aligned, Alignment, Pair

__all__ = ["Aligned", "Alignment", "Pair", "Probe", "align"]
