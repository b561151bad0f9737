"""Give the names that figures, tables and printed lines use: of metrics, terms of a loss, kernels, verdicts, methods and losses."""

from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True)
class Label:
    """Hold the name of a metric and its unit, which is empty for a number without one."""

    name: str
    unit: str

    def __str__(self) -> str:
        """Return the heading of the metric: its name, and its unit in brackets if it has one."""
        return f"{self.name} ({self.unit})" if self.unit else self.name


#: The label of each metric of ``metrics.METRICS``.
METRIC_LABELS = MappingProxyType(
    {"psnr": Label("PSNR", "dB"), "ssim": Label("SSIM", ""), "ms_ssim": Label("MS-SSIM", "")}
)
#: The name of each term of a loss (``losses.LossSpec.terms``).
TERM_NAMES = MappingProxyType(
    {
        "color": "colour loss",
        "content": "content loss",
        "texture": "texture loss",
        "tv": "total variation",
        "mse": "MSE",
    }
)
#: The standard deviation of each kernel of the colour loss (``losses.KERNELS``).
KERNEL_DEVIATIONS = MappingProxyType({"printed": "1.73 px", "sigma3": "3 px", "code": "4.34 px"})
#: The word of each verdict in a cell of a table, where a sentence has no room.
VERDICT_WORDS = MappingProxyType(
    {"holds": "holds", "does not hold": "fails", "undecided": "open", "not testable": "n/t"}
)
#: The name of each column of Table 2 (``experiments.tables.COLUMNS2``), and of what an artist made for the paper.
METHOD_NAMES = MappingProxyType(
    {
        "original": "original",
        "auto": "automatic contrast (stand-in for Apple's)",
        "ape": "Apple Photo Enhancer",
        "manual": "manual enhancement",
        "dong": "Dong et al.",
        "dong authors": "Dong et al., authors' weights",
        "johnson": "Johnson et al.",
        "ours": "ours",
        "authors": "ours, authors' weights",
    }
)
#: The name of each loss of Table 3 (``losses.TABLE3_LOSSES``) in a sentence. It is one word: sentences subtract losses.
LOSS_NAMES = MappingProxyType(
    {
        "color+content+texture": "colour+content+texture",
        "content+texture": "content+texture",
        "mse+texture": "MSE+texture",
        "mse": "MSE",
    }
)


def method_name(column: str) -> str:
    """Return the name of a column of Table 2 or Table 3 for a reader. A name that is not in either is unchanged."""
    return METHOD_NAMES.get(column) or LOSS_NAMES.get(column, column)


def method_heading(column: str) -> str:
    """Return :func:`method_name` for a table or figure, where a loss may stand in several words and lines."""
    return method_name(column).replace("+", " + ")


def kernel_name(kernel: str, separator: str = " ") -> str:
    """Return the name of a kernel of the colour loss with its standard deviation: ``printed 1.73 px``."""
    return f"{kernel}{separator}{KERNEL_DEVIATIONS[kernel]}"
