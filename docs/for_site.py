"""Turn the plain Markdown of a page into the directives of the site.

GitHub shows the pages of ``docs/``, too, but it shows a directive as a box of code. So a page has plain Markdown, and a
comment before it names the directive:

    <!-- figure -->                              a picture, and below it a caption between asterisks
    <!-- before-after rows=0.22,0.95 -->         a table of two pictures and a caption become a slider (ext/before_after.py)
    <!-- cards -->                               a list, ``- [title](page): words``, becomes cards

What only the site needs, such as a ``toctree``, stands in a comment: ``<!-- site`` on a line of its own, or within a line
``<!-- site: words -->``.
"""

import re
from collections.abc import Callable

_PICTURE = r"!\[(?P<{0}_alt>[^\]]+)\]\((?P<{0}>[^)\s]+)\)"
_CAPTION = r"\n\n\*(?P<caption>[^*]+)\*\n"
_FIGURE = re.compile(rf"<!-- figure -->\n{_PICTURE.format('file')}{_CAPTION}")
_PAIR = re.compile(
    r"<!-- before-after(?P<options>( \w+=\S+)*) -->\n\| (?P<left>[^|\n]+) \| (?P<right>[^|\n]+) \|\n\| --- \| --- \|\n"
    rf"\| {_PICTURE.format('first')} \| {_PICTURE.format('second')} \|{_CAPTION}"
)
_CARDS = re.compile(r"<!-- cards -->\n(?P<list>(- .+\n)+)")
_CARD = re.compile(r"- \[(?P<title>[^\]]+)\]\((?P<link>[^)\s]+)\): (?P<words>.+)")
_ONLY_SITE = re.compile(r"<!-- site(?::|\n)\s*(.*?)\s*-->", re.DOTALL)
#: A comment in front of what this module turns into directives. None may be left.
_MARK = re.compile(r"<!-- (figure|before-after|cards|site)\b")


def with_directives(text: str, page_of_link: Callable[[str], str]) -> str:
    """Return a page's Markdown with the directives of the site.

    Args:
        text: the page as it is on GitHub.
        page_of_link: gives the page of the site, without its ending, to which a link of this page leads.

    Raises:
        ValueError: the Markdown after a comment does not have the form given above.
    """

    def pair(match: re.Match) -> str:
        alt = match["first_alt"].removesuffix(f", {match['left']}")
        options = {"left": match["left"], "right": match["right"], "alt": alt}
        options |= dict(option.replace(",", " ").split("=") for option in match["options"].split())
        names = (match[name].rpartition("/")[2] for name in ("first", "second"))
        return _directive("before-after", " ".join(names), options, match["caption"])

    def cards(match: re.Match) -> str:
        made = []
        for line in match["list"].splitlines():
            if not (card := _CARD.fullmatch(line)):
                raise ValueError(f"not a card: {line!r}. Expected - [title](page): words")
            options = f":link: {page_of_link(card['link'])}\n:link-type: doc"
            made.append(f":::{{grid-item-card}} {card['title']}\n{options}\n\n{card['words']}\n:::\n")
        return "::::{grid} 1 1 2 3\n:gutter: 3\n\n" + "\n".join(made) + "::::\n"

    text = _FIGURE.sub(
        lambda f: _directive("figure", f["file"], {"alt": f["file_alt"], "width": "100%"}, f["caption"]), text
    )
    text = _ONLY_SITE.sub(r"\1", _CARDS.sub(cards, _PAIR.sub(pair, text)))
    if left := _MARK.search(text):
        raise ValueError(
            f"{text[left.start() : left.start() + 80]!r}: what follows has another form (docs/for_site.py)."
        )
    return text


def _directive(name: str, arguments: str, options: dict[str, str], caption: str) -> str:
    lines = "".join(f":{key}: {value}\n" for key, value in options.items())
    return f"```{{{name}}} {arguments}\n{lines}\n{caption}\n```\n"
