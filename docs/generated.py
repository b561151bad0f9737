"""Write what is generated: pages on the commands and on the modules of the library, and two blocks of the README."""

import importlib
import inspect
import json
import pkgutil
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

from typer.main import get_command

import dped_lib
from dped_lib.app import cli
from dped_lib.experiments import model_zoo
from dped_lib.report import labels

#: The sentences on the colour loss (Figure 6), in the order of their shifts: 1 to 2, 3 to 5, and more pixels.
SHIFTS = ("shift_small", "shift_middle", "shift_large")
#: The Gaussian of each kernel of the colour loss, for the README. Its standard deviation comes into the braces.
GAUSSIANS = {
    "printed": "The Gaussian as printed ({})",
    "sigma3": "A Gaussian of {}",
    "code": "The Gaussian of the authors' code ({})",
}
#: The README counts tests on these photographs, at preset ``cpu``. Others are the user's.
COUNTED = ("rig", "pirm", "city100")

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
    """Return the README's block on the networks that ship: those to enhance photographs with, a column for each."""
    listed = list(networks)
    shown = [n for n in listed if n.for_photographs]
    if not shown:
        return "None ships in this version."
    rows = {
        "trained on": [n.trained_on for n in shown],
        "iterations": [n.iterations for n in shown],
        "PSNR / MS-SSIM": ["{} dB / {}".format(*n.scores) for n in shown],
        "original photographs": ["{} dB / {}".format(*n.original) for n in shown],
        "scored on": ["{} held-out pairs of {} photographs".format(*n.held_out) for n in shown],
        "size": [f"{n.size} MB" for n in shown],
        "licence": [n.licence for n in shown],
    }
    # No blanks beside the bars: the test of the README's length would count each bar as a word.
    lines = [["weights", *(n.weights for n in shown)], ["---"] * (len(shown) + 1), *([k, *v] for k, v in rows.items())]
    table = "\n".join(f"|{'|'.join(line)}|" for line in lines)
    others = len(listed) - len(shown)
    return f"{table}\n\nThe [model zoo](docs/model_zoo.md) has others ({others}), which are for the tables."


def readme_kernels(findings: Iterable[Mapping]) -> str:
    """Return the README's block on the colour loss: a sentence for each kernel, from ``figures/claims.json``."""
    tests = [f for f in findings if f["dataset"] in COUNTED and f["preset"] == "cpu"]
    lines = []
    for kernel, gaussian in GAUSSIANS.items():
        verdicts = [[f["verdict"] for f in tests if (f["claim"], f["kernel"]) == (c, kernel)] for c in SHIFTS]
        small, middle, large = (f"{v.count('holds')} of {len(v)}" for v in verdicts)
        deviation = labels.KERNEL_DEVIATIONS[kernel]
        lines.append(f"- {gaussian.format(deviation)} passes {small}, {middle}, and {large} tests.")
    return "\n".join(lines)


def fill_readme(readme: Path, root: Path) -> None:
    """Write the blocks between the marks of the README anew."""
    text = readme.read_text(encoding="utf-8")
    findings = json.loads((root / "figures" / "claims.json").read_text(encoding="utf-8"))
    for name, block in (("kernels", readme_kernels(findings)), ("models", readme_models(model_zoo.networks()))):
        before, begin, rest = text.partition(f"<!-- {name}: docs/build.py --readme -->\n")
        _, end, after = rest.partition(f"<!-- end of {name} -->")
        text = f"{before}{begin}{block}\n{end}{after}"
    readme.write_text(text, encoding="utf-8")


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
        "file and the remedy. `dped enhance` ends with status 1 if some photographs were not enhanced, and `dped doctor` if "
        "something must be corrected. Ctrl-C ends a command with status 130, and `dped study` with 0.\n"
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
    return re.sub(r"`[^`]*`|(?<![\w-])--[a-z][a-z-]*", lambda match: f"`{match[0].strip('`')}`", words)
