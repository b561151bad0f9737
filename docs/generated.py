"""Write the pages of the site that are generated: the commands, and the modules of the library."""

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterable
from pathlib import Path

from typer.main import get_command

import dped_lib
from dped_lib.app import cli
from dped_lib.experiments import model_zoo

#: The README's block on the networks that ship stands between these marks.
MARKS = ("<!-- models:begin: python docs/build.py --readme writes this -->", "<!-- models:end -->")

#: Packages of the library in the order of the page, each with what it is for.
ROOMS = {
    "alignment": "Sections 2 and 3.2.1: two photographs become aligned patches.",
    "data": "Datasets, image files, patch pairs, checkpoints.",
    "experiments": "One module for each figure or table.",
    "user_study": "Section 4.3: questions, pictures, answers, analysis, server.",
    "enhance": "Whole photographs: files, bounded memory, ONNX.",
    "speed": "Faster forms of the same computations.",
    "explorers": "The widgets of the notebooks.",
    "report": "The look of figures, and their provenance.",
    "base": "Presets, datasets, paths, progress, errors.",
}


def readme_models(networks: Iterable[model_zoo.Network]) -> str:
    """Return the README's block on the networks that ship: those to enhance photographs with."""
    rows = [
        f"| {n.weights} | {' / '.join(n.scores)} | {' / '.join(n.original)} |" for n in networks if n.for_photographs
    ]
    if not rows:
        return "None ships in this version."
    return "\n".join(["| weights | PSNR (dB) / MS-SSIM | original |", "| --- | --- | --- |", *rows])


def fill_readme(readme: Path) -> None:
    """Write the block between the two marks of the README anew."""
    before, _, rest = readme.read_text(encoding="utf-8").partition(MARKS[0])
    _, _, after = rest.partition(MARKS[1])
    block = readme_models(model_zoo.networks())
    readme.write_text(f"{before}{MARKS[0]}\n{block}\n{MARKS[1]}{after}", encoding="utf-8")


def pages(root: Path) -> dict[str, str]:
    """Return the text of every generated page by its name."""
    return {"reference/commands.md": commands(), **api()}


def api() -> dict[str, str]:
    """Return the pages of the library: one for the core files, and one for each package."""
    core = sorted(m.name for m in pkgutil.iter_modules(dped_lib.__path__) if not m.ispkg)
    texts = {
        "reference/api/core.rst": _module_page("The paper's files", "Six files hold the paper in plain PyTorch.", core)
    }
    for room, words in ROOMS.items():
        package = importlib.import_module(f"dped_lib.{room}")
        modules = sorted(f"{room}.{m.name}" for m in pkgutil.iter_modules(package.__path__))
        texts[f"reference/api/{room}.rst"] = _module_page(room, words, modules)
    toc = "".join(f"   {name}\n" for name in ("core", *ROOMS))
    texts["reference/api/index.rst"] = (
        f"The modules\n===========\n\nEvery public function and class of ``dped_lib``, from its docstring.\n\n"
        f".. toctree::\n   :maxdepth: 2\n\n{toc}"
    )
    return texts


def _module_page(title: str, words: str, modules: list[str]) -> str:
    parts = [f"{title}\n{'=' * len(title)}\n\n{words}\n"]
    for name in modules:
        heading = f"``{name}``"
        parts.append(
            f"{heading}\n{'-' * len(heading)}\n\n.. automodule:: dped_lib.{name}\n   :members:\n   :show-inheritance:\n"
        )
    return "\n".join(parts)


def commands() -> str:
    """Return the page of the commands, from the help that ``dped COMMAND --help`` prints."""
    group = get_command(cli.app)
    parts = [
        "# Commands\n\nThis page is made from the help of the command. `dped --help` and `dped COMMAND --help` print the same. In a "
        "checkout the command is `.venv/bin/dped`. An error that you can correct ends with status 2 and one line that names the "
        "file and the remedy. `dped enhance` ends with status 1 if some photographs were not enhanced.\n"
    ]
    for name, command in group.commands.items():
        parts.append(f"## dped {name}\n\n{_with_options_as_code(inspect.cleandoc(command.help or ''))}\n")
        arguments = [p.metavar or p.name.upper() for p in command.params if p.param_type_name == "argument"]
        parts.append(f"```\n{' '.join(['dped', name, '[OPTIONS]', *arguments])}\n```\n")
        rows = [row for row in map(_row, command.params) if row]
        if rows:
            parts.append("| | what it is |\n| --- | --- |\n" + "\n".join(rows) + "\n")
    return "\n".join(parts)


def _row(parameter) -> str:
    if getattr(parameter, "hidden", False):
        return ""
    is_option = parameter.param_type_name == "option"
    names = (
        ", ".join(f"`{o}`" for o in parameter.opts) if is_option else f"`{parameter.metavar or parameter.name.upper()}`"
    )
    words = _with_options_as_code((getattr(parameter, "help", None) or "").replace("|", "\\|"))
    default = parameter.default
    if parameter.required:
        words += " Required."
    elif is_option and default not in (None, "", False, [], ()) and not callable(default):
        words += f" Default: `{default}`."
    return f"| {names} | {words.strip()} |"


def _with_options_as_code(words: str) -> str:
    """Return the words with backquotes around options like --by. In plain text the two hyphens would become a dash."""
    return re.sub(r"`[^`]*`|(?<![\w-])--[a-z][a-z-]*", lambda found: f"`{found[0].strip('`')}`", words)
