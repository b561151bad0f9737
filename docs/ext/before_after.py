"""Give pages the directive ``before-after``: two pictures of one size under a slider, without a kernel.

    ```{before-after} city100-046-phone.jpg city100-046-authors.jpg
    :left: iPhone X
    :right: enhanced
    :alt: Gondolas in front of a house in Venice

    The caption, in Markdown.
    ```

``:rows: 0.22 0.95`` shows only this part of the height. ``:height: 38vh`` limits the height, which is 54vh otherwise.

The pictures lie in ``_static/pictures``. The slider is a range input, so it works with mouse, finger and arrow keys.
Without JavaScript the page shows the left half of one picture and the right half of the other.
"""

from html import escape
from pathlib import Path

from docutils import nodes
from docutils.parsers.rst import directives
from PIL import Image
from sphinx.errors import ExtensionError
from sphinx.util.docutils import SphinxDirective

_PAGE = """\
<div class="before-after" style="--cut: 50%; aspect-ratio: {width} / {shown}; max-width: min({width}px, {limit} * {width} / {shown}); --rows: {place:.0f}%">
<img src="{root}_static/pictures/{right_file}" width="{width}" height="{height}" alt="{alt}, {right}">
<img class="over" src="{root}_static/pictures/{left_file}" width="{width}" height="{height}" alt="{alt}, {left}">
<span class="label left">{left}</span><span class="label right">{right}</span><span class="line"></span>
<input type="range" min="0" max="100" step="0.5" value="50" aria-label="{left} to the left, {right} to the right"
 oninput="this.parentNode.style.setProperty('--cut', this.value + '%')">
</div>
"""


class BeforeAfter(SphinxDirective):
    """Show two pictures under one slider."""

    required_arguments = 2
    has_content = True
    option_spec = {
        "left": directives.unchanged_required,
        "right": directives.unchanged_required,
        "alt": directives.unchanged_required,
        "rows": directives.unchanged_required,
        "height": directives.unchanged_required,
    }

    def run(self):
        folder = Path(self.env.app.srcdir, "_static", "pictures")
        sizes = set()
        for name in self.arguments:
            if not (folder / name).is_file():
                raise ExtensionError(f"{self.env.docname}: before-after: {folder / name} is missing")
            with Image.open(folder / name) as picture:
                sizes.add(picture.size)
        if len(sizes) != 1:
            raise ExtensionError(f"{self.env.docname}: before-after: pictures of different sizes: {sizes}")
        width, height = sizes.pop()
        first, last = map(float, self.options.get("rows", "0 1").split())
        left_out = 1 - (last - first)
        page = _PAGE.format(
            root="../" * self.env.docname.count("/"),
            width=width,
            height=height,
            shown=round(height * (last - first)),
            place=100 * first / left_out if left_out else 50,
            limit=self.options.get("height", "54vh"),
            left_file=self.arguments[0],
            right_file=self.arguments[1],
            **{key: escape(self.options[key]) for key in ("left", "right", "alt")},
        )
        caption = nodes.container(classes=["caption"])
        caption += self.parse_content_to_nodes()
        return [nodes.container("", nodes.raw("", page, format="html"), caption, classes=["before-after-figure"])]


def setup(app):
    """Register the directive with Sphinx."""
    app.add_directive("before-after", BeforeAfter)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
