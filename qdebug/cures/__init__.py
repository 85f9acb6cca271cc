"""Cures: what to change in a file, or which layers to keep wider, and how the smallest set of them is found. Pure."""
