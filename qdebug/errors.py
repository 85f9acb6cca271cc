"""The errors that a user can cause, each told in one line.

QDebugError                 anything that the command line reports as "could not compare" (exit 2)
├── UsageError              the call contradicts itself, or names something that does not exist
├── ModelError              a model file cannot be opened, converted or run
├── InputError              data: file, key, shape, type, count or range
├── AlignmentError          the two models do not belong together: nothing, or too little, could be paired
└── StoreError              a record cannot be read or written

A message says what was being done, the offending name and value, and what to do next. Anything else that escapes is a
bug of qdebug (exit 3).
"""




class QDebugError(Exception):
    """Base of every error that is the user's to mend; its text is one line."""

    def __init__(self, message: str, *, details: str = "") -> None:
        super().__init__(message)
        self.details = details
        """Longer text, shown with `--debug` only."""


class UsageError(QDebugError):
    """The call contradicts itself, or names something that does not exist."""


class ModelError(QDebugError):
    """A model file cannot be opened, converted or run."""


class InputError(QDebugError):
    """Evaluation data: the file, its keys, shapes, types, counts or values."""


class AlignmentError(QDebugError):
    """The two models do not belong together: too little could be paired."""


class StoreError(QDebugError):
    """A run record cannot be read or written."""
