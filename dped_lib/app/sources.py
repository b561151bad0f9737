"""Find the library files that a notebook or module depends on, by reading its imports.

The workflow declares these files as inputs of its jobs. A changed module then repeats only the jobs that import it.
"""

import ast
import functools
import json
from collections.abc import Iterable
from pathlib import Path

import dped_lib
from dped_lib.data import shipped_runs

_PACKAGE = "dped_lib"
_INSTALLED = Path(dped_lib.__file__).resolve().parent


def of_notebook(file: Path) -> list[Path]:
    """Return the sorted library files that the code cells of a notebook import, directly or indirectly."""
    # Importing nbformat takes longer than all the rest, and the workflow asks at every start.
    cells = json.loads(file.read_text(encoding="utf-8"))["cells"]
    sources = ("".join(c["source"]) for c in cells if c["cell_type"] == "code")
    # IPython lines (%magic, !command) are not Python.
    lines = (line for source in sources for line in source.splitlines() if not line.lstrip().startswith(("%", "!")))
    return _closure(_imported(ast.parse("\n".join(lines))), _INSTALLED)


def of_modules(*names: str, package: Path = _INSTALLED) -> list[Path]:
    """Return the sorted files of modules (``dped_lib.training``) and of all library modules that they import.

    Args:
        names: full names of the modules.
        package: the folder ``dped_lib`` to read, for instance that of another checkout.
    """
    return _closure(names, package)


def _closure(names: Iterable[str], package: Path) -> list[Path]:
    files: set[Path] = set()
    waiting = [file for name in names for file in _files_of(name, package)]
    while waiting:
        file = waiting.pop()
        if file not in files:
            files.add(file)
            waiting += _used_by(file, package)
    return sorted(files)


@functools.cache
def _files_of(name: str, package: Path) -> frozenset[Path]:
    """Return the file of a module and those of its packages. For ``module.attribute`` it is the file of the module."""
    files, folder = set(), package.parent
    for part in name.split("."):
        room, module = folder / part / "__init__.py", folder / f"{part}.py"
        if room.is_file():
            files.add(room)
            folder = folder / part
        elif module.is_file():
            return frozenset(files | {module})
        else:
            break
    return frozenset(files)


@functools.cache
def _used_by(file: Path, package: Path) -> frozenset[Path]:
    """Return the files of the library modules that a file imports itself, and the data files that it names in a string."""
    if file.suffix != ".py":
        return frozenset()
    tree = ast.parse(file.read_text(encoding="utf-8"), str(file))
    words = {n.value for n in ast.walk(tree) if isinstance(n, ast.Constant) and isinstance(n.value, str)}
    modules = {used for name in _imported(tree) for used in _files_of(name, package)}
    return frozenset(modules | {data for name, data in _data_files(package) if name in words})


def _imported(node: ast.AST) -> Iterable[str]:
    """Yield the library modules that a syntax tree imports, also inside functions. Skip imports for types only."""
    match node:
        case ast.Import():
            yield from (a.name for a in node.names if a.name.split(".")[0] == _PACKAGE)
        case ast.ImportFrom(level=0) if node.module.split(".")[0] == _PACKAGE:
            yield from (f"{node.module}.{a.name}" for a in node.names)
        case ast.ImportFrom(level=level) if level:
            raise ValueError(f"line {node.lineno}: a relative import; the library imports by full names")
        case ast.If(test=ast.Name("TYPE_CHECKING")):
            for child in node.orelse:
                yield from _imported(child)
        case ast.expr():
            pass  # nearly all nodes are parts of expressions, which import nothing
        case _:
            for child in ast.iter_child_nodes(node):
                yield from _imported(child)


@functools.cache
def _data_files(package: Path) -> list[tuple[str, Path]]:
    # A run that ships is an input of its own training's job only (workflow/Snakefile).
    files = (f for f in package.rglob("*") if f.is_file() and f.suffix not in (".py", ".pyc"))
    return [(file.name, file) for file in files if shipped_runs.FOLDER not in file.parents]
