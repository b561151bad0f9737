"""Tables 2 and 3 for a dataset: every cell a score on held-out pairs with its interval, the published value beside it."""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure
from torch import nn

from dped_lib import losses, metrics, paper, training
from dped_lib.base import config
from dped_lib.data import network_files, pair_store
from dped_lib.experiments import baselines
from dped_lib.report import figures
from dped_lib.base.errors import DpedError
from dped_lib.experiments.scores import PROTOCOL, SHOWN, Cell, Difference, Method, compare

#: Columns of Table 2 here. ``auto`` is an open stand-in for Apple's enhancer, ``dong released`` and ``released`` are the authors'
#: weights of SRCNN and of their own network; the rest is the paper's.
TABLE2 = ("original", "auto", "ape", "dong", "dong released", "johnson", "ours", "released")
#: Which training fills a column of Table 2.
TRAINED2 = {"dong": "dong", "johnson": "johnson", "ours": losses.TABLE3[0]}

#: Networks of a table by phone, loss and seed.
Networks = Mapping[tuple[str, str, int], training.TrainResult]


def trained(dataset: str, preset: str, phone: str, loss: str, seed: int = 0, **overrides) -> training.TrainResult:
    """The network of one (phone, loss, seed) at a preset: loaded, resumed or trained, whichever is needed."""
    params = config.train_params(dataset, phone, loss, preset, seed=seed, **overrides)
    store = pair_store.open_or_make(dataset, phone, preset, seed=seed)
    return training.train(params, store, training.run_folder(params, preset))


def released_for(phone: str) -> nn.Module | str:
    """The authors' network for a phone, or why there is none to be had.

    A phone that is not theirs gets the one of the iPhone 3GS: out of its domain, and every table says so.
    """
    return _resolved(f"authors:{phone if phone in paper.PHONES else 'iphone'}")


def _resolved(name: str) -> nn.Module | str:
    try:
        return network_files.resolve(name)
    except DpedError as error:
        return str(error)


def network(whose: str, dataset: str, preset: str, phone: str, seed: int = 0, **overrides) -> nn.Module:
    """The enhancing network of a phone: ``trained`` here with the paper's loss (``overrides``: of its parameters), or ``released``.

    Raises:
        DpedError: neither of these, or the authors' weights cannot be had.
    """
    if config.one_of("network", whose, config.NETWORKS) == "trained":
        return trained(dataset, preset, phone, losses.TABLE3[0], seed, **overrides).model
    found = released_for(phone)
    if isinstance(found, str):
        raise DpedError(found)
    return found


def _of_seeds(networks: Networks, phone: str, loss: str) -> dict[int, nn.Module]:
    return {seed: r.model for (p, name, seed), r in networks.items() if (p, name) == (phone, loss)}


def _published2(phone: str) -> dict[str, paper.Score]:
    """Published columns: of v1, and for the authors' weights of the later version where its value is known."""
    if phone not in paper.TABLE2:
        return {}
    first = paper.TABLE2[phone]
    return {**first, "dong released": first["dong"], "released": paper.TABLE2_LATER_VERSION.get(phone, first["ours"])}


def methods2(
    networks: Networks, phone: str, store: pair_store.PairStore
) -> dict[str, Method | Mapping[int, Method] | str]:
    """What fills each column of Table 2 for a phone: a method, trained ones by seed; or, in words, why it is not run."""
    found: dict = {"original": nn.Identity(), "auto": baselines.auto, "ape": baselines.brought("ape", store)}
    for column, loss in TRAINED2.items():
        found[column] = _of_seeds(networks, phone, loss) or f"loss {loss!r} was not asked for"
    # The authors trained SRCNN on the iPhone's pairs only.
    found["dong released"] = (
        _resolved("authors:srcnn") if phone == "iphone" else "the authors published it for the iPhone only"
    )
    found["released"] = released_for(phone)
    return {column: found[column] for column in TABLE2}


def table3(
    dataset: str, preset: str, networks: Networks, phones: Iterable[str], columns: Sequence[str] = losses.TABLE3
) -> tuple[list[Cell], list[Difference]]:
    """Table 3: the loss functions, on the validation split as in the paper; of a dataset in folds on the pairs held out.

    Nothing is chosen by either split during training.
    """
    cells, differences = [], []
    for phone in phones:
        store = pair_store.open_or_make(dataset, phone, preset)
        methods = {loss: _of_seeds(networks, phone, loss) for loss in columns}
        split = "test" if dataset in config.FOLDS else "val"
        found = compare("3", store, methods, split, config.preset(preset), paper.TABLE3.get(phone, {}))
        cells += found[0]
        differences += found[1]
    return cells, differences


def table2(
    dataset: str, preset: str, networks: Networks, phones: Iterable[str]
) -> tuple[list[Cell], list[Difference], dict[str, dict[str, str]]]:
    """Table 2 on the test split: cells, differences, and by phone why a column is not run."""
    cells, differences, missing = [], [], {}
    for phone in phones:
        store = pair_store.open_or_make(dataset, phone, preset)
        methods = methods2(networks, phone, store)
        missing[phone] = {c: m for c, m in methods.items() if isinstance(m, str)}
        runnable = {c: m for c, m in methods.items() if not isinstance(m, str)}
        found = compare("2", store, runnable, "test", config.preset(preset), _published2(phone))
        cells += found[0]
        differences += found[1]
    return cells, differences, missing


def untrained_on_all(dataset: str, preset_name: str) -> tuple[list[Cell], list[Difference], dict[str, dict[str, str]]]:
    """What needs no training here, on every pair a dataset has: the photographs, the stand-in, the authors' weights."""
    preset = dataclasses.replace(config.preset(preset_name), table_pairs=0)
    cells, differences, missing = [], [], {}
    for phone in config.DATASET_PHONES[dataset]:
        store = pair_store.open_or_make(dataset, phone, preset_name)
        methods = {c: m for c, m in methods2({}, phone, store).items() if c not in TRAINED2}
        missing[phone] = {c: m for c, m in methods.items() if isinstance(m, str)}
        runnable = {c: m for c, m in methods.items() if not isinstance(m, str)}
        found = compare("2", store, runnable, "all", preset, _published2(phone))
        cells += found[0]
        differences += found[1]
    return cells, differences, missing


def as_frame(found: Iterable[Cell], columns: Iterable[str]) -> pd.DataFrame:
    """A table one can read: a row for each phone and metric, ``not run`` where there is no cell."""
    by_key = {(c.phone, c.column): c for c in found}
    rows = []
    for phone in dict.fromkeys(c.phone for c in by_key.values()):
        for metric in SHOWN:
            m = metrics.METRICS[metric]
            row = {"phone": phone, "metric": f"{m.label} ({m.unit})" if m.unit else m.label}
            row |= {c: by_key[phone, c].text(metric) if (phone, c) in by_key else "not run" for c in columns}
            rows.append(row)
    return pd.DataFrame(rows)


def differences_frame(found: Iterable[Difference], first: str | None = None) -> pd.DataFrame:
    """Differences one can read, those of ``first`` alone where it is named (turned so that it comes first)."""
    rows = []
    for d in found:
        if first is not None and first not in (d.first, d.second):
            continue
        turned = first == d.second
        digits = 2 if d.metric == "psnr" else 4
        low, high = sorted(-v for v in d.interval) if turned else d.interval
        value = -d.difference if turned else d.difference
        a, b = (d.second, d.first) if turned else (d.first, d.second)
        m = metrics.METRICS[d.metric]
        rows.append(
            {
                "phone": d.phone,
                "metric": f"{m.label} ({m.unit})" if m.unit else m.label,
                "first minus second": f"{a} - {b}",
                "difference": f"{value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]",
                "first is": "higher" if low > 0 else "lower" if high < 0 else "undecided",
            }
        )
    return pd.DataFrame(rows)


def plot(found: Iterable[Cell], columns: Iterable[str], title: str) -> Figure:
    """Every cell with its interval (filled) beside the published value (hollow); a panel a metric, a colour a phone."""
    found, columns = list(found), tuple(columns)
    phones = tuple(dict.fromkeys(c.phone for c in found))
    fig, panels = plt.subplots(1, 2, figsize=(10, 0.5 + 0.55 * len(columns) * max(1, len(phones) / 2)))
    for axes, metric in zip(panels, SHOWN, strict=True):
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
    # Above, not among the marks, where a colour's sample reads as one of them; its title is the figure's.
    samples = panels[0].get_legend_handles_labels()
    words = f"{title}: filled this run with 95 % interval, hollow the paper"
    fig.legend(*samples, loc="outside upper center", ncols=len(phones), fontsize=8, title=words, title_fontsize=10)
    return fig
