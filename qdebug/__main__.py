"""`python -m qdebug`."""

from qdebug.cli import main

main()
