"""The core can be read in one sitting: its length, and the length of each equation."""

import ast
from pathlib import Path

import dped_lib

NAMES = ("paper", "models", "losses", "vgg", "metrics", "training")
CORE = {name: Path(dped_lib.__file__).parent / f"{name}.py" for name in NAMES}


def test_the_core_is_read_in_one_sitting():
    """It has about 1200 lines. Since those that notebooks quote end at 100 characters, it is a few more."""
    assert sum(len(file.read_text().splitlines()) for file in CORE.values()) <= 1220


def test_no_equation_takes_more_than_15_lines_of_code():
    """The docstring does not count. Methods do: an equation may move into a class."""
    for name in ("losses", "metrics"):
        for function in ast.walk(ast.parse(CORE[name].read_text())):
            if isinstance(function, ast.FunctionDef):
                first = function.body[1 if ast.get_docstring(function) else 0]
                assert function.end_lineno - first.lineno < 15, f"{name}: {function.name}"
