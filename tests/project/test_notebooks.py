"""The stored notebooks: shaped alike, executed, small, and free of what belongs to one machine."""

import ast
import re

import nbformat
import pytest
from nbval.plugin import find_comment_markers

from dped_lib.app import notebook_parameters
from dped_lib.base import paths
from dped_lib.report import figures

FILES = sorted(paths.notebooks_dir().glob("*.ipynb"))


@pytest.fixture(params=FILES, ids=lambda f: f.stem)
def notebook(request):
    return request.param, nbformat.read(request.param, as_version=4)


def test_the_notebooks_of_this_release_are_there():
    assert [f.stem for f in FILES] == list(notebook_parameters.notebooks())
    assert [f.stem for f in FILES] == [
        "00_start",
        "01_dataset",
        "02_color_loss",
        "03_training",
        "04_baselines",
        "05_tables",
        "06_user_study",
        "07_limitations",
        "08_claims",
    ]


def test_skeleton(notebook):
    """Aim, what to do first, parameters, validation, result, discussion."""
    file, nb = notebook
    prose = "\n".join(c.source for c in nb.cells if c.cell_type == "markdown")
    assert nb.cells[0].cell_type == "markdown" and re.match(r"# 0\d · ", nb.cells[0].source)
    for word in ("**Aim.**", "**First:**", "## Discussion"):
        assert word in prose
    assert re.search(r"^## Result", prose, re.M) or file.stem == "00_start", "00 is an index"
    assert nb.cells[1].metadata.get("tags") == ["parameters"]
    assert sum("parameters" in c.metadata.get("tags", []) for c in nb.cells) == 1
    assert "notebook_parameters.check_values(" in nb.cells[2].source


def test_every_name_of_the_library_exists(notebook):
    """Executing the notebooks takes minutes. A name that was changed in the library, and not in a notebook, is found at once."""
    code = ast.parse(
        "\n".join(c.source.replace("%matplotlib", "#") for c in notebook[1].cells if c.cell_type == "code")
    )
    imports = [n for n in ast.walk(code) if isinstance(n, ast.Import | ast.ImportFrom)]
    space = {}
    exec(compile(ast.Module(imports, []), "imports", "exec"), space)
    modules = {name for name, value in space.items() if getattr(value, "__name__", "").startswith("dped_lib")}
    used = {
        (n.value.id, n.attr) for n in ast.walk(code) if isinstance(n, ast.Attribute) and isinstance(n.value, ast.Name)
    }
    of_library = {(name, attribute) for name, attribute in used if name in modules}
    assert len(of_library) > 5
    assert not [f"{name}.{attribute}" for name, attribute in of_library if not hasattr(space[name], attribute)]


def test_stored_outputs_are_those_of_a_clean_run(notebook):
    file, nb = notebook
    assert file.stat().st_size < 1_000_000
    counts = [c.execution_count for c in nb.cells if c.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1)), "executed from top to bottom, once"
    outputs = [o for c in nb.cells if c.cell_type == "code" for o in c.outputs]
    assert not [o for o in outputs if o.output_type == "error"]
    assert [o for o in outputs if {"image/png", "image/jpeg"} & o.get("data", {}).keys()]
    parameters = nb.cells[1].source
    assert 'dataset = "rig"' in parameters and 'preset = "cpu"' in parameters


def test_every_picture_has_a_text_for_people_who_cannot_see_it():
    """The site writes it into the picture's ``alt``. One text describes all pictures of a cell."""
    texts = []
    for file in FILES:
        for c in (c for c in nbformat.read(file, as_version=4).cells if c.cell_type == "code"):
            text = c.metadata.get("mystnb", {}).get("image", {}).get("alt", "")
            if any({"image/png", "image/jpeg"} & o.get("data", {}).keys() for o in c.outputs):
                assert 40 <= len(text) <= 300 and text[0].isupper() and text[-1] == ".", (file.stem, c.id, text)
                texts.append(text)
            else:
                assert not text, (file.stem, c.id, "a text without a picture")
    assert len(set(texts)) == len(texts) > 70


def test_nothing_of_one_machine(notebook):
    file, _ = notebook
    assert not re.search(r"(?<![\w.])/(root|home|work|tmp|usr|Users)/", file.read_text())


def test_volatile_cells_say_why(notebook):
    """Each cell that nbval does not compare carries its reason; none is skipped."""
    _, nb = notebook
    for c in nb.cells:
        if c.cell_type == "code" and "NBVAL" in c.source:
            # On a line of its own: nbval does not see a marker with words behind it. A folded cell shows its first line.
            head = c.source.splitlines()[:2]
            assert "# NBVAL_IGNORE_OUTPUT" in head and [s for s in head if re.match(r"# [a-z].{15,}", s)], head
            assert dict(find_comment_markers(c.source)) == {"check": False}
        assert not [t for t in c.metadata.get("tags", []) if "nbval" in t]


def test_few_outputs_are_not_compared():
    """Live widgets only."""
    ignored = [f.stem for f in FILES for _ in range(f.read_text().count("# NBVAL_IGNORE_OUTPUT"))]
    assert len(ignored) <= 6, ignored


def test_long_code_lives_in_the_library(notebook):
    """A notebook may define a function of 15 lines where that teaches, such as a second way of computing."""
    _, nb = notebook
    for c in (c for c in nb.cells if c.cell_type == "code"):
        assert len(c.source.splitlines()) <= 40
        tree = ast.parse(c.source.replace("%matplotlib", "#"))
        for f in (f for f in ast.walk(tree) if isinstance(f, ast.FunctionDef)):
            assert f.end_lineno - f.lineno < 15, f.name


@pytest.mark.parametrize("file", FILES, ids=lambda f: f.stem)
def test_a_line_of_visible_code_fits_the_page(file):
    """JupyterLab scrolls longer lines sideways, which a reader does not do. A folded cell shows only its first line."""
    for c in (c for c in nbformat.read(file, as_version=4).cells if c.cell_type == "code"):
        lines = c.source.splitlines()
        if c.metadata.get("jupyter", {}).get("source_hidden"):
            lines = lines[:1]
        assert max(map(len, lines)) <= 118, max(lines, key=len)


def test_headings_of_tables_are_words_of_a_reader(notebook):
    """pandas heads its summary "count", "50%", "max": of what, and in which unit, only the code tells."""
    _, nb = notebook
    assert not [c.id for c in nb.cells if c.cell_type == "code" and ".describe(" in c.source]


#: Notebooks with rows of up to five panels, which are wider than a page.
WIDE = {"02_color_loss", "03_training"}


@pytest.mark.parametrize("file", [f for f in FILES if f.stem not in WIDE], ids=lambda f: f.stem)
def test_figures_are_no_wider_than_the_page(file):
    """A page shrinks a wider figure, and its words with it."""
    code = "\n".join(c.source for c in nbformat.read(file, as_version=4).cells if c.cell_type == "code")
    assert all(float(width) <= figures.WIDTH for width in re.findall(r"figsize=\((\d[\d.]*),", code))


def test_the_setup_cell_is_folded(notebook):
    """The imports are one cell, which JupyterLab and the site show folded."""
    _, nb = notebook
    setup = nb.cells[2]
    assert setup.metadata.get("tags") == ["setup", "hide-input"]
    assert setup.metadata.get("jupyter") == {"source_hidden": True}
    others = [c.source for c in nb.cells[3:] if c.cell_type == "code"]
    assert not [s for s in others if re.search(r"^(import|from) ", s, re.M)]


def test_jupyterlab_and_the_site_fold_the_same_cells(notebook):
    """They fold the code of bookkeeping, and a solution with its outputs."""
    _, nb = notebook
    solutions = 0
    for c in (c for c in nb.cells if c.cell_type == "code"):
        tags, hidden = c.metadata.get("tags", []), c.metadata.get("jupyter", {})
        if "solution" in tags:
            solutions += 1
            assert tags == ["solution", "hide-cell"] and hidden == {"source_hidden": True, "outputs_hidden": True}
            # JupyterLab shows the first line of folded code.
            assert c.source.startswith("# Solution\n"), c.source.splitlines()[0]
        else:
            assert ("hide-input" in tags) == bool(hidden) and hidden in ({}, {"source_hidden": True}), c.source
    assert solutions == 3


def test_a_study_of_ones_own_replaces_no_other_results():
    nb = nbformat.read(paths.notebooks_dir() / "06_user_study.ipynb", as_version=4)
    code = "\n".join(c.source for c in nb.cells if c.cell_type == "code")
    names = re.findall(r"record\.(?:figure|table)\([^\"]+ (f?\"[^\"]+\")", code)
    assert len(names) == len(re.findall(r"record\.\w+\(", code)) == 8
    assert all(re.fullmatch(r'f"\w+\{own\}"', name) for name in names), names
    assert code.count("own = notebook_parameters.suffix_of_own(folder=folder, manual=manual, answers=answers)\n") == 1
