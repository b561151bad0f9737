"""Build the site: collect its sources in one folder, and run Sphinx there. `make book` runs this script.

    python docs/build.py                 writes build/book/html
    python docs/build.py FOLDER          writes FOLDER/html
    python docs/build.py --readme        only writes the README's blocks on the colour loss and on the networks that ship

The sources are this folder, the notebooks as they are stored, DEVIATIONS.md, CONTRIBUTING.md, benchmarks/README.md and
figures/claims.md. The pages on commands and modules are generated. Pages can also be read on GitHub: they link to the
files of the repository, and have plain Markdown for pictures. Here the links become links between pages, and pictures
become directives (``for_site.py``). Nothing is fetched, and a warning is an error.
"""

import argparse
import os
import re
import shutil
import sys
from pathlib import Path

import for_site
import generated
import nbformat
from sphinx.cmd.build import build_main

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent

#: Files of the repository that are pages of the site, and the page that each becomes. The last two are generated from them.
PAGES = {
    "DEVIATIONS.md": "explanation/deviations.md",
    "CONTRIBUTING.md": "contributing.md",
    "benchmarks/README.md": "explanation/benchmarks.md",
    "figures/claims.md": "reference/claims.md",
    "README.md": "index.md",
    "dped_lib/app/cli.py": "reference/commands.md",
    "dped_lib": "reference/api/index.rst",
}
#: Cells with these tags are folded.
FOLDED = {"parameters", "setup"}
#: What MyST-NB writes on a folded solution, which holds code and outputs.
SOLUTION = {"code_prompt_show": "Show the solution", "code_prompt_hide": "Hide the solution"}

_LINK = re.compile(r"(?<!\\)(!?)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^()\s]+)\)")


def page_of(file: Path) -> str | None:
    """Return the page of the site that shows a file of the repository, or None."""
    name = file.relative_to(ROOT).as_posix()
    if name.startswith("docs/"):
        return name.removeprefix("docs/")
    if name.startswith("notebooks/") and name.endswith(".ipynb"):
        return name
    return PAGES.get(name)


def relink(text: str, file: Path, page: str, source: Path) -> str:
    """Return a file's Markdown with links that hold on the site, whose sources are collected in ``source``.

    A link to another file that is a page leads to that page. A picture is copied. A link to a file that is not on the
    site becomes its name, because the site has no copy of the repository to link to.
    """

    def new(match: re.Match) -> str:
        mark, label, target = match.groups()
        path, hash_, anchor = target.partition("#")
        if not path or "://" in path or path.startswith("mailto:"):
            return match[0]
        linked = (file.parent / path).resolve()
        if not linked.exists() or not linked.is_relative_to(ROOT):
            return match[0]  # Sphinx will report it
        to = page_of(linked)
        if mark:
            to = f"pictures/{linked.relative_to(ROOT).as_posix()}"
            (source / to).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(linked, source / to)
        if to is None:
            name = linked.relative_to(ROOT).as_posix()
            return f"`{name}`" if label.strip("`") == name else f"{label} (`{name}`)"
        return f"{mark}[{label}]({os.path.relpath(to, Path(page).parent)}{hash_}{anchor})"

    return _LINK.sub(new, text)


def copy_notebook(file: Path, source: Path) -> None:
    """Copy a stored notebook: fold its set-up cells, name its solutions, and make its links lead to pages."""
    notebook = nbformat.read(file, as_version=4)
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        if FOLDED & set(tags) and "hide-input" not in tags:
            cell.metadata["tags"] = [*tags, "hide-input"]
        if "solution" in tags:
            cell.metadata["mystnb"] = {**cell.metadata.get("mystnb", {}), **SOLUTION}  # keep the text of its pictures
        if cell.cell_type == "markdown":
            cell.source = relink(cell.source, file, page_of(file), source)
    nbformat.write(notebook, source / page_of(file))


def copy_page(file: Path, page: str, source: Path) -> None:
    """Copy a page in Markdown with the directives of the site, and make its links lead to pages."""

    def page_of_link(link: str) -> str:
        to = page_of((file.parent / link).resolve()) or link
        return os.path.relpath(to, Path(page).parent).removesuffix(".md")

    text = for_site.with_directives(file.read_text(encoding="utf-8"), page_of_link)
    (source / page).write_text(relink(text, file, page, source), encoding="utf-8")


def assemble(source: Path) -> None:
    """Collect the sources of the site in a new folder."""
    shutil.copytree(DOCS, source, ignore=shutil.ignore_patterns("__pycache__", "*.py", "ext"))
    shutil.copy(DOCS / "conf.py", source)
    for file in DOCS.rglob("*.md"):
        copy_page(file, page_of(file), source)
    shutil.copytree(DOCS / "ext", source / "ext", ignore=shutil.ignore_patterns("__pycache__"))
    (source / "notebooks").mkdir()
    for file in sorted((ROOT / "notebooks").glob("*.ipynb")):
        copy_notebook(file, source)
    for name, page in PAGES.items():
        if name.endswith(".md") and page != "index.md":
            copy_page(ROOT / name, page, source)
    for name, text in generated.pages(ROOT).items():
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        (source / name).write_text(text, encoding="utf-8")


def build(out: Path) -> int:
    """Build the site in ``out/html`` from the sources in ``out/source``; return Sphinx's exit status."""
    source, html = out / "source", out / "html"
    for folder in (source, html):
        shutil.rmtree(folder, ignore_errors=True)
    assemble(source)
    return build_main(
        ["-W", "--keep-going", "-q", "-E", "-b", "html", str(source), str(html), "-d", str(out / "doctrees")]
    )


def main() -> int:
    """Build the site where the command line says."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", nargs="?", type=Path, default=ROOT / "build" / "book")
    parser.add_argument("--readme", action="store_true", help="only write the README's blocks from results")
    arguments = parser.parse_args()
    if arguments.readme:
        generated.fill_readme(ROOT / "README.md", ROOT)
        return 0
    out = arguments.out.absolute()
    status = build(out)
    if status == 0:
        print(f"{out / 'html' / 'index.html'}: open it in a browser")
    return status


if __name__ == "__main__":
    sys.exit(main())
