"""The command line: parse, call, render, exit code.

Rules of this package: it alone touches standard output, the environment and the terminal. At import it loads
neither NumPy nor TensorFlow nor a renderer; a command imports what it needs when it runs. Exit codes: 0 done,
1 the gate tripped, 2 could not compare, 3 a bug of qdebug, 130 interrupted.
"""

from qdebug.cli.app import app, main

__all__ = ["app", "main"]
