"""Write formulas as MathML, which browsers draw without a script: Sphinx's own ways fetch MathJax or need LaTeX."""

import re

from latex2mathml.converter import convert

#: Places between the name of a function and a number or letter beside it.
_BESIDE_NAME = re.compile(r"(?<=</m[in]>)(?=<mi>[a-z]{2,}</mi>)|(?<=[a-z]{2}</mi>)(?=<m[in]>)")


def mathml(formula: str, display: str = "inline") -> str:
    """Return a formula in LaTeX as MathML, with the thin spaces around names of functions that LaTeX sets."""
    return _BESIDE_NAME.sub('<mspace width="0.17em"></mspace>', convert(formula, display=display))


def _inline(self, node):
    self.body.append(mathml(node.astext()))
    raise _skip()


def _block(self, node):
    self.body.append(f'<div class="math-block">{mathml(node.astext(), "block")}</div>')
    raise _skip()


def _skip():
    from docutils.nodes import SkipNode

    return SkipNode()


def setup(app):
    """Register the renderer with Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
