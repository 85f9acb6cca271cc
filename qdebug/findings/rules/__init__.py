"""The rules that name causes, one module for each group of codes."""
