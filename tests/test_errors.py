"""What is told of an engine's error."""

import pytest

from qdebug.errors import first_line

GRAPH = """Graph execution error:

Detected at node 'Reshape_5' defined at (most recent call last):
  File "<frozen runpy>", line 198, in _run_module_as_main
  File "train.py", line 3, in <module>
Node: 'Reshape_5'
Input to reshape is a tensor with 224 values, but the requested shape has 7
\t [[{{node Reshape_5}}]]

Original stack trace for 'Reshape_5':
  File "train.py", line 3, in <module>
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (GRAPH, "Input to reshape is a tensor with 224 values, but the requested shape has 7"),
        ("\n  not a file\nmore", "not a file"),
        ("", "ValueError"),
    ],
)
def test_the_line_that_says_what_is_wrong(text, expected):
    """The reason, not the places in the program that TensorFlow puts before it; without text the error's type."""
    assert first_line(ValueError(text)) == expected
