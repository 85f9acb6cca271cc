"""Tensors that a device has computed, in files of several formats."""
