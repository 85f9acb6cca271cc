"""Data sets: loaded, checked, arranged for a model."""
