"""Measure how small the text of a figure is."""

import math

from matplotlib.figure import Figure
from matplotlib.text import Text

from dped_lib.report import figures

#: Height in inches that JupyterLab shows at once on a screen of 1366 x 768: 647 of 96 pixels an inch.
SCREEN = 6.7


def smallest_text(fig: Figure) -> float:
    """Return the size in points of the smallest text that a figure shows, once it is scaled down to ``figures.WIDTH``.

    An exponent is set at 70 % of its text's size. The result is infinite for a figure without text.
    """
    fig.draw_without_rendering()  # writes the labels of the ticks
    shown = [text for text in fig.findobj(Text) if text.get_visible() and text.get_text().strip()]
    sizes = [text.get_fontsize() * (0.7 if "^" in text.get_text() else 1.0) for text in shown]
    return min(sizes, default=math.inf) * min(1.0, figures.WIDTH / fig.get_figwidth())
