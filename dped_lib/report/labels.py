"""Name metrics and their units in figures, tables and printed lines."""

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
METRICS = MappingProxyType({"psnr": Label("PSNR", "dB"), "ssim": Label("SSIM", ""), "ms_ssim": Label("MS-SSIM", "")})
