"""Configure the site. ``docs/build.py`` copies this file into the assembled sources and runs Sphinx there, offline."""

import os
import re
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent / "ext"))

# The pages of the library are imported, not run: no GPU is looked for, and no bar is drawn.
os.environ.setdefault("DPED_HEADLESS", "1")

from docutils import nodes
from sphinx import addnodes
from sphinx.ext.napoleon import docstring

import dped_lib

project = "DPED companion"
author = "the DPED companion authors"
project_copyright = "the DPED companion authors, MIT licence"
version = release = dped_lib.__version__
language = "en"

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx_design",
    "before_after",
    "mathml",
]
source_suffix = {".md": "myst-nb", ".ipynb": "myst-nb", ".rst": "restructuredtext"}
exclude_patterns = ["ext"]
highlight_language = "none"  # of blocks that name none: commands and what they print
suppress_warnings = ["mystnb.unknown_mime_type"]  # explorers: the picture stored beside a widget is shown

# Notebooks appear as they are stored. Their outputs were computed and compared by the tests.
nb_execution_mode = "off"
nb_merge_streams = True
nb_render_markdown_format = "myst"  # the default, CommonMark, has no tables
nb_code_prompt_show = "Show the code"
nb_code_prompt_hide = "Hide the code"

myst_enable_extensions = ["amsmath", "attrs_block", "attrs_inline", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_use_unqualified_type_names = True
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True
toc_object_entries_show_parents = "hide"

html_theme = "pydata_sphinx_theme"
html_title = "DPED companion"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sourcelink = False
# Code has 120 columns, and the notebooks are linked from the top and from each other. CONTRIBUTING has no pages below it.
html_sidebars = {"index": [], "contributing": [], "notebooks/*": []}
html_theme_options = {
    "navbar_align": "left",
    "navbar_end": ["theme-switcher"],
    "secondary_sidebar_items": {"**": ["page-toc"], "index": []},
    "footer_start": ["copyright"],
    "footer_end": [],
    "show_prev_next": True,
    "navigation_with_keys": False,
    "pygments_light_style": "default",
    "pygments_dark_style": "monokai",
    "show_toc_level": 2,
}


#: Characters. A constant with a longer value, such as a style sheet, appears without it.
LONGEST_VALUE = 200


def whole_docstring(self):
    """Return no type and the whole docstring of a constant or property. Napoleon would take what precedes a colon for a type."""
    return "", type(self)(self._dedent(self._consume_to_end()), self._config).lines()


docstring.GoogleDocstring._consume_inline_attribute = whole_docstring

_PLACE_OF_SPACE = "\u200b"
consume_fields = docstring.GoogleDocstring._consume_fields


def names_that_share_a_text(self, parse_type=True, prefer_type=False, multiple=False):
    """Return fields, names like ``a, b`` as one. Napoleon would repeat the text for each, or take the first for a type."""
    # The name of a field cannot have a space. `space_names` replaces this character, which has no width.
    return [
        (name.replace(", ", f",{_PLACE_OF_SPACE}"), *rest)
        for name, *rest in consume_fields(self, parse_type, prefer_type)
    ]


docstring.GoogleDocstring._consume_fields = names_that_share_a_text


def leave_out_long_value(app, domain, objtype, content):
    """Remove a long value of a constant from its signature."""
    for note in list(content.parent.findall(addnodes.desc_annotation)):
        if note.astext().startswith(" = ") and len(note.astext()) > LONGEST_VALUE:
            note.parent.remove(note)


def space_names(app, doctree):
    """Write a space between names that share a text."""
    for text in list(doctree.findall(nodes.Text)):
        if _PLACE_OF_SPACE in text:
            text.parent.replace(text, nodes.Text(text.replace(_PLACE_OF_SPACE, " ")))


#: Characters of a word of code. A longer one may be wider than a telephone, or than a column of a table, so it breaks.
LONGEST_WORD = 30
#: Characters of a name in a table. A longer one may break, but only where its parts end.
LONGEST_NAME = 9
_PART_OF_NAME = re.compile(r"[^_/.]*[_/.]*")
#: Pages whose tables have more columns of sentences than a telephone can show side by side.
STACKED = ("explanation/deviations", "reference/reproduce")
#: Characters of a cell. A table whose cells are all shorter holds numbers. It is not stacked, because a reader compares
#: its columns.
SHORT_CELL = 30


def class_code(app, doctree, docname):
    """Mark code with options, code with words that must break, and names of networks for the style sheet.

    In a table, a name of more than ``LONGEST_NAME`` characters breaks after an underscore, slash or dot.
    """
    for code in doctree.findall(nodes.literal):
        words = code.astext().split()
        if any(word.startswith("--") for word in words):
            code["classes"].append("option")
        if max(map(len, words), default=0) > LONGEST_WORD:
            code["classes"].append("long")
    for entry in doctree.findall(nodes.entry):
        for code in entry.findall(nodes.literal):
            name = code.astext()
            if name.startswith("shipped:"):
                code["classes"].append("network")
            if len(name) > LONGEST_NAME and re.fullmatch(r"[\w~./:+ =-]+", name):
                code["classes"].append("name")
                parts = [nodes.Text(part) for part in _PART_OF_NAME.findall(name) if part]
                code[:] = [n for part in parts for n in (part, nodes.raw("", "<wbr>", format="html"))][:-1]


def stack_tables(app, doctree):
    """In each row of a wide table, write the column's heading into every cell except the first.

    The style sheet shows these headings on a telephone.
    """
    if app.env.docname not in STACKED:
        return
    for table in doctree.findall(nodes.table):
        head, *rows = table.findall(nodes.row)
        if all(len(cell.astext()) < SHORT_CELL for row in rows for cell in row):
            continue
        table["classes"].append("stacked")
        for row in rows:
            for title, cell in list(zip(head, row, strict=True))[1:]:
                if cell.astext():
                    cell[0].insert(0, nodes.inline("", f"{title.astext()}: ", classes=["column"]))


def setup(app):
    """Register the changes of signatures, names, code and tables with Sphinx."""
    app.connect("object-description-transform", leave_out_long_value)
    app.connect("doctree-read", space_names)
    app.connect("doctree-resolved", class_code)  # only now the outputs of notebooks are tables
    app.connect("doctree-read", stack_tables)
