"""Tables 2 and 3 for a tier: every cell a score on held-out pairs with its interval, the published value beside it."""

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from dped_lib import config, figures, losses, metrics, paper, patches, training, weights
from dped_lib.errors import DpedError

#: The protocol of the authors' tables; the others go into the JSON.
PROTOCOL = "released"


@dataclass(frozen=True)
class Cell:
    """One cell. ``psnr`` in dB and ``ms_ssim`` under ``PROTOCOL``; intervals are 95 % bootstrap over photographs.

    ``scores`` has every metric under every protocol; ``published`` is the paper's (psnr, ssim), where it has one.
    """

    table: str
    phone: str
    column: str
    split: str
    pairs: int
    photographs: int
    psnr: float
    psnr_interval: tuple[float, float]
    ms_ssim: float
    ms_ssim_interval: tuple[float, float]
    published: tuple[float, float] | None
    scores: dict

    def text(self, metric: str) -> str:
        """The cell as one reads it: value [interval] (published)."""
        digits = 2 if metric == "psnr" else 4
        value, (low, high) = getattr(self, metric), getattr(self, f"{metric}_interval")
        shown = f"{value:.{digits}f} [{low:.{digits}f}, {high:.{digits}f}]"
        return shown + (f" (paper {self.published[metric != 'psnr']:.{digits}f})" if self.published else "")


#: Networks of a table by (phone, loss).
Networks = Mapping[tuple[str, str], training.TrainResult]


def trained(tier: str, preset: str, phone: str, loss: str, seed: int = 0, **overrides) -> training.TrainResult:
    """The network of one (phone, loss) at a preset: loaded, resumed or trained, whichever is needed."""
    params = config.train_params(tier, phone, loss, preset, seed=seed, **overrides)
    store = patches.open_or_make(tier, phone, preset)
    return training.train(params, store, training.run_folder(params, preset))


def cells(
    table: str, phone: str, models: Mapping[str, nn.Module], store: patches.PairStore, split: str, preset: config.Preset,
    published: Mapping[str, paper.Score],
) -> list[Cell]:  # fmt: skip
    """Scores of several networks on the same pairs of one phone, and their intervals from the same resamples."""
    index = store.some(split, preset.table_pairs)
    if not len(index):
        raise DpedError(f"{store.folder}: split {split!r} is empty; a table needs held-out pairs.")
    groups = store.photographs[index]
    found = {name: training.evaluate(model, store, index) for name, model in models.items()}
    boot = metrics.bootstrap(list(found.values()), groups, PROTOCOL, preset.resamples)
    result = []
    for j, (name, statistics) in enumerate(found.items()):
        scores = metrics.score_all(statistics)
        interval = {m: tuple(float(v) for v in metrics.interval(boot[m][:, j])) for m in ("psnr", "ms_ssim")}
        value = published.get(name)
        result.append(
            Cell(
                table,
                phone,
                name,
                split,
                len(index),
                len(set(groups)),
                scores[PROTOCOL]["psnr"],
                interval["psnr"],
                scores[PROTOCOL]["ms_ssim"],
                interval["ms_ssim"],
                (value.psnr, value.ssim) if value else None,
                scores,
            )  # fmt: skip
        )
    return result


def table3(tier: str, preset_name: str, networks: Networks) -> list[Cell]:
    """Table 3: the four loss functions, on the validation split as in the paper."""
    preset, found = config.preset(preset_name), []
    for phone in config.TIER_PHONES[tier]:
        store = patches.open_or_make(tier, phone, preset_name)
        models = {loss: networks[phone, loss].model for loss in losses.TABLE3}
        found += cells("3", phone, models, store, "val", preset, paper.TABLE3.get(phone, {}))
    return found


def _published_ours(phone: str) -> dict[str, paper.Score]:
    """Published "Ours": of v1, and for the released weights of the later version where its value is known."""
    if phone not in paper.TABLE2:
        return {}
    first = paper.TABLE2[phone]["ours"]
    return {"ours": first, "released": paper.TABLE2_LATER_VERSION.get(phone, first)}


def released_for(phone: str) -> nn.Module | str:
    """The authors' network for a phone, or why there is none to be had.

    A phone that is not theirs gets the one of the iPhone 3GS: out of its domain, and every table says so.
    """
    try:
        return weights.resolve(f"released:{phone if phone in paper.PHONES else 'iphone'}")
    except DpedError as error:
        return str(error)


def network(whose: str, tier: str, preset: str, phone: str, seed: int = 0, **overrides) -> nn.Module:
    """The enhancing network of a phone: ``trained`` here with the paper's loss (``overrides``: of its parameters), or ``released``.

    Raises:
        DpedError: neither of these, or the authors' weights cannot be had.
    """
    if config.one_of("network", whose, config.NETWORKS) == "trained":
        return trained(tier, preset, phone, losses.TABLE3[0], seed, **overrides).model
    found = released_for(phone)
    if isinstance(found, str):
        raise DpedError(found)
    return found


def table2(tier: str, preset_name: str, networks: Networks) -> list[Cell]:
    """Table 2, columns "original", "ours" (trained here) and "released" (the authors' weights for that phone), on the test split.

    The released column is left out where its weights cannot be had; ``released_for`` says why.
    """
    preset, found = config.preset(preset_name), []
    for phone in config.TIER_PHONES[tier]:
        store = patches.open_or_make(tier, phone, preset_name)
        models = {"original": nn.Identity(), "ours": networks[phone, losses.TABLE3[0]].model}
        released = released_for(phone)
        if isinstance(released, nn.Module):
            models["released"] = released
        found += cells("2", phone, models, store, "test", preset, _published_ours(phone))
    return found


def released_on_all(tier: str, preset_name: str) -> list[Cell]:
    """The untouched photographs and the authors' weights on every pair a tier has: nothing of it was trained on here."""
    preset, found = dataclasses.replace(config.preset(preset_name), table_pairs=0), []
    for phone in config.TIER_PHONES[tier]:
        store = patches.open_or_make(tier, phone, preset_name)
        released = released_for(phone)
        if not isinstance(released, nn.Module):
            raise DpedError(released)
        models = {"original": nn.Identity(), "released": released}
        found += cells("2", phone, models, store, "all", preset, _published_ours(phone))
    return found


def as_frame(found: Iterable[Cell], columns: Iterable[str]) -> pd.DataFrame:
    """A table one can read: a row for each phone and metric, ``not run`` where there is no cell."""
    by_key = {(c.phone, c.column): c for c in found}
    rows = []
    for phone in dict.fromkeys(c.phone for c in by_key.values()):
        for metric in ("psnr", "ms_ssim"):
            m = metrics.METRICS[metric]
            row = {"phone": phone, "metric": f"{m.label} ({m.unit})" if m.unit else m.label}
            row |= {c: by_key[phone, c].text(metric) if (phone, c) in by_key else "not run" for c in columns}
            rows.append(row)
    return pd.DataFrame(rows)


def plot(found: Iterable[Cell], columns: Iterable[str], title: str) -> Figure:
    """Every cell with its interval (filled) beside the published value (hollow); a panel a metric, a colour a phone."""
    found, columns = list(found), tuple(columns)
    phones = tuple(dict.fromkeys(c.phone for c in found))
    fig, panels = plt.subplots(1, 2, figsize=(10, 0.5 + 0.55 * len(columns) * max(1, len(phones) / 2)))
    for axes, metric in zip(panels, ("psnr", "ms_ssim"), strict=True):
        for c in found:
            if c.column not in columns:
                continue
            y = columns.index(c.column) + 0.22 * (phones.index(c.phone) - (len(phones) - 1) / 2)
            value, color = getattr(c, metric), figures.PHONE_COLORS[c.phone]
            axes.plot(getattr(c, f"{metric}_interval"), (y, y), color=color, lw=1.5)
            axes.plot(value, y, "o", color=color, ms=5, label=c.phone if c.column == columns[0] else None)
            if c.published:
                axes.plot(c.published[metric != "psnr"], y, "o", mfc="white", mec=color, ms=5)
        m = metrics.METRICS[metric]
        axes.set(
            xlabel=f"{m.label}{f' ({m.unit})' if m.unit else ''}, protocol {PROTOCOL}",
            yticks=range(len(columns)),
            ylim=(len(columns) - 0.4, -0.6),
        )
        axes.set_yticklabels(columns if axes is panels[0] else [])
    panels[0].legend(loc="best", fontsize=8)
    fig.suptitle(f"{title}: filled this run with 95 % interval, hollow the paper", fontsize=10)
    return fig
