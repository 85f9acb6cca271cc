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


def first_line(error: BaseException) -> str:
    """The first line of an engine's error that says what is wrong; the error's type where it says nothing.

    TensorFlow puts the node and the lines of the program that made it before the reason.
    """
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    nodes = [number for number, line in enumerate(lines) if line.startswith("Node: ")]
    behind = lines[nodes[-1] + 1 :] if nodes else lines
    plain = [line for line in behind if not line.startswith(_PLACES)]
    return (plain or lines or [type(error).__name__])[0]


_PLACES = ("Graph execution error", "Detected at", "node", "[[", 'File "')
