"""Write formulas as MathML, which browsers draw without a script: Sphinx's own ways fetch MathJax or need LaTeX."""

import re

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.errors import ExtensionError

#: Places between the name of a function, with or without an index, and a number or letter beside it.
_BESIDE_NAME = re.compile(
    r"(?<=</m[in]>)(?=(?:<msub>)?<mi>[a-z]{2,}</mi>)|(?<=[a-z]{2}</mi>)(?=<m[in]>)"
    r"|(<msub><mi>[a-z]{2,}</mi>(?:<m[in]>[^<]*</m[in]>|<mrow>(?:<m[in]>[^<]*</m[in]>)*</mrow>)</msub>)(?=<m[in]>)"
)
#: A command that latex2mathml does not know: it writes the command's name as text, without a warning.
_UNKNOWN = re.compile(r">[^<]*(\\[a-zA-Z]+)")
_OPENING, _CLOSING = ("{", "(", "[", r"\left", r"\begin"), ("}", ")", "]", r"\right", r"\end")
#: Characters of a formula in a line of text that never breaks.
LONGEST = 40


def mathml(formula: str, display: str = "inline") -> str:
    """Return a formula in LaTeX as MathML, with the thin spaces around names of functions that LaTeX sets.

    Raises:
        ValueError: the formula has a command that the converter does not know.
    """
    # It knows neither \arg nor a size in front of \Vert. Bars grow without one.
    known = re.sub(r"\\arg(?![a-zA-Z])", r"\\mathrm{arg}\\,", formula)
    known = re.sub(r"\\[bB]igg?[lrm]?(?=\\[lr]?Vert)", "", known)
    result = convert(known, display=display)
    if unknown := _UNKNOWN.search(result):
        raise ValueError(f"{unknown[1]} in {formula}: latex2mathml does not know it. Write it in other commands.")
    return _BESIDE_NAME.sub(r'\1<mspace width="0.17em"></mspace>', result)


def parts(formula: str) -> list[str]:
    """Cut a formula in LaTeX before its equals signs, but not within brackets: a long one breaks there on a narrow screen."""
    pieces, depth = [""], 0
    for token in re.findall(r"\\[a-zA-Z]+|\\?.", formula, re.DOTALL):
        depth += token in _OPENING
        depth -= token in _CLOSING
        if token == "=" and depth == 0 and pieces[-1].strip():
            pieces.append("")
        pieces[-1] += token
    return pieces


def _on_page(self, formula: str, display: str) -> str:
    try:
        return mathml(formula, display)
    except ValueError as error:
        raise ExtensionError(f"{self.builder.current_docname}: {error}") from error


def _inline(self, node):
    text = node.astext()
    whole = [text] if len(text) <= LONGEST else parts(text)
    self.body.append("<wbr>".join(_on_page(self, part, "inline") for part in whole))
    raise SkipNode


def _block(self, node):
    self.body.append(f'<div class="math-block">{_on_page(self, node.astext(), "block")}</div>')
    raise SkipNode


def setup(app):
    """Register the renderer with Sphinx."""
    app.add_html_math_renderer("mathml", (_inline, None), (_block, None))
    app.config.html_math_renderer = "mathml"
    return {"parallel_read_safe": True, "parallel_write_safe": True}
