"""A verdict on every testable sentence of the paper (``paper.CLAIMS``), from the numbers in ``figures/`` and nothing else.

Each result that the notebooks save has a JSON of its numbers and provenance. Here they are read, for every dataset and preset
that is there, and each claim is put beside what they say:

    holds           the interval lies on the claim's side
    does not hold   it lies on the other side
    undecided       it lies on both
    not testable    these data cannot decide it, whatever came out; the reason is given
"""

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from dped_lib import paper
from dped_lib.base import config, paths
from dped_lib.experiments import shift_study
from dped_lib.report import figures
from dped_lib.base.errors import DpedError

VERDICTS = ("holds", "does not hold", "undecided", "not testable")


@dataclass(frozen=True)
class Finding:
    """What one dataset, preset and phone say of one claim. ``evidence`` has the numbers, ``source`` the JSON they are from."""

    claim: str
    dataset: str
    preset: str
    phone: str
    evidence: str
    verdict: str
    why: str = ""
    source: str = ""
    commit: str = ""


@dataclass(frozen=True)
class Evidence:
    """The JSON files of one dataset and preset."""

    dataset: str
    preset: str
    folder: Path

    def read(self, name: str) -> tuple[dict, dict] | None:
        """Numbers and provenance of a result; None where it was not run.

        Raises:
            DpedError: the file is damaged, or is another dataset's or preset's.
        """
        file = self.folder / f"{name}.json"
        try:
            content = figures.read_result(file)
            numbers, made = content["numbers"], content["parameters"]
        except FileNotFoundError:
            return None
        if (made["dataset"], made["preset"]) != (self.dataset, self.preset):
            raise DpedError(
                f"{file}: is of {made['dataset']}-{made['preset']}, not of this folder. Move it where it belongs."
            )
        return numbers, made

    def finding(self, claim: str, name: str, phone: str, evidence: str, verdict: str, why: str = "") -> Finding:
        commit = figures.provenance_of(self.folder / f"{name}.json").get("commit", "unknown")
        source = f"{self.dataset}-{self.preset}/{name}.json"
        return Finding(claim, self.dataset, self.preset, phone, evidence, verdict, why, source, commit)


def evidence(dataset: str | None = None, preset: str | None = None) -> list[Evidence]:
    """What there is in ``figures/``, dataset by dataset; of one dataset or preset where it is named."""
    found = []
    for t in config.DATASETS if dataset is None else (dataset,):
        for p in config.PRESETS if preset is None else (preset,):
            folder = figures.result_folder(t, p)
            if any(folder.glob("*.json")):
                found.append(Evidence(t, p, folder))
    return found


def _side(low: float, high: float, at: float = 0.0) -> str:
    """``holds`` where the interval lies above ``at``."""
    return "holds" if low > at else "does not hold" if high < at else "undecided"


def _short(ev: Evidence) -> str:
    """Why trainings of this preset cannot decide what full trainings would do; empty where they are the paper's."""
    p, full = config.preset(ev.preset), config.preset("paper")
    if (p.iterations, p.batch_size) == (full.iterations, full.batch_size):
        return ""
    return f"trained on {p.iterations * p.batch_size:,} patches instead of {full.iterations * full.batch_size:,}"


# ---------------------------------------------------------------------------------------------- Figure 6


_SHIFTS = {"shift_small": "1-2 px", "shift_middle": "3-5 px", "shift_large": "larger"}
_WORDS = {"holds": "holds", "fails": "does not hold", "open": "undecided"}


def _figure6(claim: str) -> Callable[[Evidence], Iterator[Finding]]:
    """Of each kind of pictures, the verdict for the kernel as printed (equation 4); the two others are said beside it."""
    sentence = shift_study.SENTENCES[_SHIFTS[claim]]

    def check(ev: Evidence) -> Iterator[Finding]:
        name = "fig06_verdicts"
        if not (found := ev.read(name)):
            return
        for pictures, kernels in found[0]["ratios"].items():
            known = {k: shift_study.Ratio(**r[_SHIFTS[claim]]) for k, r in kernels.items() if _SHIFTS[claim] in r}
            if not known:
                continue
            text = ", ".join(f"{k} {r.value:.1f} [{r.low:.1f}, {r.high:.1f}]" for k, r in known.items())
            others = ", ".join(f"{k} {_WORDS[r.verdict(sentence)]}" for k, r in known.items() if k != "paper")
            yield ev.finding(
                claim,
                name,
                "",
                f"{pictures}, MSE over colour loss by kernel: {text}",
                _WORDS[known["paper"].verdict(sentence)],
                f"kernel as printed; {others}",
            )

    return check


# ---------------------------------------------------------------------------------------------- the discriminator


_TOLD = {"bichannel": (300, 0.99), "single": (5000, 0.86)}


def _telling(form: str) -> Callable[[Evidence], Iterator[Finding]]:
    def check(ev: Evidence) -> Iterator[Finding]:
        name = "discriminator_accuracy"
        if not (found := ev.read(name)):
            return
        iterations, said = _TOLD[form]
        for c in found[0]["curves"]:
            if c["form"] != form:
                continue
            low, high = c["interval"]
            last, value = c["iterations"][-1], c["accuracy"][-1]
            text = (
                f"{100 * value:.1f} % [{100 * low:.1f}, {100 * high:.1f}] of held-out pairs after {last} iterations "
                f"of batch {c['batch_size']} (paper: {100 * said:.0f} % after {iterations})"
            )
            # "Only 86 %" of the single channel is contradicted by more, at any time; 99 % of both by less, at their time.
            wrong = low > said if form == "single" else high < said
            verdict, why = ("does not hold" if wrong else "holds"), ""
            less = last < iterations or c["batch_size"] < paper.BATCH_SIZE
            if less and not (form == "single" and wrong):
                trained = f"trained for {last} of {iterations} iterations"
                verdict, why = (
                    "not testable",
                    f"{trained} with batches of {c['batch_size']} instead of {paper.BATCH_SIZE}",
                )
            if (form, verdict) == ("bichannel", "not testable") and low > said:
                verdict, why = "holds", f"sooner than after {iterations} batches of {paper.BATCH_SIZE}"
            yield ev.finding(form, name, c["phone"], text, verdict, why)

    return check


# ---------------------------------------------------------------------------------------------- Tables 2 and 3


def _differences(ev: Evidence, name: str, phone: str, metric: str) -> dict[tuple[str, str], tuple[float, float, float]]:
    """First minus second, low and high, by both columns, in both directions."""
    found = {}
    for d in ev.read(name)[0].get("differences", []):
        if (d["phone"], d.get("metric", d.get("measure"))) == (phone, metric):
            low, high = d["interval"]
            found[d["first"], d["second"]] = (d["difference"], low, high)
            found[d["second"], d["first"]] = (-d["difference"], -high, -low)
    return found


def _phones(ev: Evidence, name: str) -> list[str]:
    return list(dict.fromkeys(d["phone"] for d in ev.read(name)[0].get("differences", [])))


def _against(
    claim: str, name: str, metric: str, first: str, others: tuple[str, ...], sign: int = 1, digits: int = 2
) -> Callable[[Evidence], Iterator[Finding]]:
    """``first`` above (``sign`` 1) or below (-1) every one of ``others`` that was run."""

    def check(ev: Evidence) -> Iterator[Finding]:
        if not ev.read(name):
            return
        for phone in _phones(ev, name):
            known = _differences(ev, name, phone, metric)
            pairs = {o: known[first, o] for o in others if (first, o) in known}
            if not pairs:
                continue
            text = "; ".join(
                f"{first} - {o}: {v:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
                for o, (v, low, high) in pairs.items()
            )
            sides = [_side(*sorted(sign * x for x in (low, high))) for _, low, high in pairs.values()]
            verdict = "does not hold" if "does not hold" in sides else "undecided" if "undecided" in sides else "holds"
            missing = [o for o in others if o not in pairs]
            why = f"{', '.join(missing)} not run" if missing else ""
            if verdict == "holds" and missing:
                verdict = "undecided"
            if short := _short(ev):
                verdict, why = "not testable", "; ".join(filter(None, (short, why)))
            yield ev.finding(claim, name, phone, f"{metric}: {text}", verdict, why)

    return check


def _improves(ev: Evidence) -> Iterator[Finding]:
    """The authors' weights against the untouched photographs, on the real pairs they were made for."""
    name = "table2_all_pairs"
    if not ev.read(name):
        return
    for phone in _phones(ev, name):
        for metric, digits in (("psnr", 2), ("ms_ssim", 4)):
            known = _differences(ev, name, phone, metric)
            if ("released", "original") not in known:
                continue
            value, low, high = known["released", "original"]
            text = f"authors' weights - original, {metric}: {value:+.{digits}f} [{low:+.{digits}f}, {high:+.{digits}f}]"
            outside = phone not in paper.PHONES
            why = "another phone than the weights were made for" if outside else ""
            verdict = "not testable" if outside else _side(low, high)
            yield ev.finding("improves", name, phone, text, verdict, why)


def _ours_iphone(ev: Evidence) -> Iterator[Finding]:
    name = "table2_all_pairs"
    if ev.dataset != "pirm" or not (found := ev.read(name)):
        return
    first, later = paper.TABLE2["iphone"]["ours"], paper.TABLE2_LATER_VERSION["iphone"]
    for c in found[0]["cells"]:
        if c["column"] != "released":
            continue
        low, high = c["psnr_interval"]
        within = low <= first.psnr <= high and c["ms_ssim_interval"][0] <= first.ssim <= c["ms_ssim_interval"][1]
        text = (
            f"authors' weights on {c['pairs']} real pairs: {c['psnr']:.2f} dB [{low:.2f}, {high:.2f}], "
            f"{c['ms_ssim']:.4f} [{c['ms_ssim_interval'][0]:.4f}, {c['ms_ssim_interval'][1]:.4f}]"
        )
        why = f"the later version of the paper says {later.psnr} / {later.ssim}: the weights are that version's"
        yield ev.finding("ours_iphone", name, "iphone", text, "holds" if within else "does not hold", why)


# ---------------------------------------------------------------------------------------------- the rest


def _patches(ev: Evidence) -> Iterator[Finding]:
    name = "patch_counts"
    if not (found := ev.read(name)):
        return
    text = ", ".join(f"{row['phone']} {row['training patches']}" for row in found[0]["rows"])
    yield ev.finding("patches", name, "", f"training patches: {text}", "not testable", "other photographs, and fewer")


def _noise(ev: Evidence) -> Iterator[Finding]:
    name = "noise_amplification"
    if not (found := ev.read(name)):
        return
    v = found[0]["verdict"]
    yield ev.finding("noise", name, "", v["evidence"], v["verdict"], v["why"])


def _of_the_paper() -> Iterator[Finding]:
    """What the paper's own numbers say of its sentences."""

    def own(claim: str, text: str, verdict: str, why: str = "") -> Finding:
        return Finding(claim, "the paper", "", "", text, verdict, why, "dped_lib/paper.py")

    camera = paper.CAMERAS["sony"]
    size = camera.width * camera.height / 1e6
    yield own(
        "cameras",
        f"{camera.width} x {camera.height} is {size:.1f} MP",
        "does not hold" if abs(size - camera.sensor_mp) > 1 else "holds",
    )
    amplitude = 1 / (2 * 3.141592653589793 * paper.COLOR_SIGMA)
    yield own(
        "amplitude",
        f"1/(2 pi 3) = {amplitude:.4f}: normalised if 3 is the variance, with equation 4's exponent",
        "holds" if abs(amplitude - paper.COLOR_AMPLITUDE) < 5e-4 else "does not hold",
        "so the deviation is 1.73 px, not 3 px",
    )
    for phone, row in paper.TABLE2.items():
        best = max(row, key=lambda c: row[c].ssim)
        yield own(
            "best_ssim",
            f"{phone}: highest SSIM {row[best].ssim} ({best})",
            "holds" if best == "ours" else "does not hold",
        )
        others = {c: row[c].psnr for c in ("ape", "johnson")}
        text = f"{phone}: ours {row['ours'].psnr}, " + ", ".join(f"{c} {v}" for c, v in others.items())
        yield own("outperforms", text, "holds" if row["ours"].psnr > max(others.values()) else "does not hold")
        gap = row["ours"].psnr - row["dong"].psnr
        yield own("psnr_dong", f"{phone}: ours - dong {gap:+.2f} dB", "undecided", "the paper gives no intervals")
    for phone, row in paper.TABLE3.items():
        ours = row["color+content+texture"]
        tops = [m for m in ("psnr", "ssim") if getattr(ours, m) >= max(getattr(s, m) for s in row.values())]
        best = {m: max(row, key=lambda c, m=m: getattr(row[c], m)) for m in ("psnr", "ssim")}
        text = f"{phone}: highest PSNR {row[best['psnr']].psnr} ({best['psnr']}), highest SSIM {row[best['ssim']].ssim} ({best['ssim']})"
        yield own("top_scores", text, "holds" if len(tops) == 2 else "does not hold")


_FULL = "color+content+texture"
#: What tests each claim, beside the paper's own numbers.
CHECKS: Mapping[str, Callable[[Evidence], Iterator[Finding]]] = {
    "patches": _patches,
    **{claim: _figure6(claim) for claim in _SHIFTS},
    **{form: _telling(form) for form in _TOLD},
    "best_ssim": _against("best_ssim", "table2_methods", "ms_ssim", "ours", ("ape", "dong", "johnson"), digits=4),
    "outperforms": _against("outperforms", "table2_methods", "psnr", "ours", ("ape", "johnson")),
    "psnr_dong": _against("psnr_dong", "table2_methods", "psnr", "ours", ("dong",)),
    "ours_iphone": _ours_iphone,
    "improves": _improves,
    "noise": _noise,
    "texture_colour": _against("texture_colour", "table3_looks", "colour deviation", "mse+texture", ("mse",)),
    "content_colour": _against(
        "content_colour", "table3_looks", "colour deviation", "content+texture", ("mse+texture",), -1
    ),
    "colour_term": _against("colour_term", "table3_looks", "colour deviation", _FULL, ("content+texture",), -1),
    "mse_blur": _against("mse_blur", "table3_looks", "sharpness", "mse", (_FULL,), -1),
    "top_scores": _against("top_scores", "table3_losses", "psnr", _FULL, ("content+texture", "mse+texture", "mse")),
}

#: Claims that no computation decides.
PEOPLE = ("study_originals", "study_equal", "study_manual")


def judge(found: list[Evidence]) -> list[Finding]:
    """Every finding on every claim, in the order of the paper; one that nothing tests is said to be not run."""
    own = list(_of_the_paper())
    result: list[Finding] = []
    for claim in paper.CLAIMS:
        mine = [f for f in own if f.claim == claim.key]
        for ev in found:
            mine += list(CHECKS[claim.key](ev)) if claim.key in CHECKS else []
        if not mine:
            why = "needs people: 06_user_study asks them" if claim.key in PEOPLE else "its notebook has not been run"
            mine = [Finding(claim.key, "", "", "", "not run", "not testable", why)]
        result += mine
    return result


def as_frame(found: list[Finding]) -> pd.DataFrame:
    """A row a finding."""
    by_key = {c.key: c for c in paper.CLAIMS}
    rows = []
    for f in found:
        c = by_key[f.claim]
        where = " ".join(filter(None, (f"{f.dataset}-{f.preset}" if f.preset else f.dataset, f.phone)))
        verdict = f.verdict + (f": {f.why}" if f.why else "")
        rows.append(
            {"claim": f"“{c.sentence}”", "paper": c.where, "data": where, "evidence": f.evidence, "verdict": verdict}
        )
    return pd.DataFrame(rows)


def summary(found: list[Finding]) -> pd.DataFrame:
    """A row a claim: how many findings have which verdict, and on which data."""
    rows = []
    for c in paper.CLAIMS:
        mine = [f for f in found if f.claim == c.key]
        cells = {v: ", ".join(dict.fromkeys(_where(f) for f in mine if f.verdict == v)) for v in VERDICTS}
        rows.append({"claim": f"“{c.sentence}”", "paper": c.where, **cells})
    return pd.DataFrame(rows)


_COLORS = {"holds": "#0072B2", "does not hold": "#D55E00", "undecided": "#F0E442", "not testable": "#BBBBBB"}


def plot(found: list[Finding]) -> Figure:
    """Findings on each claim, counted by verdict."""
    keys = [c.key for c in paper.CLAIMS]
    fig, ax = plt.subplots(figsize=(9, 0.5 + 0.27 * len(keys)))
    left = [0] * len(keys)
    for verdict in VERDICTS:
        counts = [sum((f.claim, f.verdict) == (key, verdict) for f in found) for key in keys]
        ax.barh(range(len(keys)), counts, left=left, color=_COLORS[verdict], label=verdict, height=0.7)
        left = [a + b for a, b in zip(left, counts, strict=True)]
    ax.set_yticks(range(len(keys)), [f"{c.key.replace('_', ' ')} ({c.where})" for c in paper.CLAIMS], fontsize=8)
    ax.invert_yaxis()
    ax.set_xlabel("findings (one for each dataset, preset and phone)")
    fig.legend(loc="outside upper center", ncols=len(VERDICTS), fontsize=8)
    return fig


def readme_table(found: list[Finding]) -> str:
    """What the README shows of it: claims that something here or in the paper's own numbers decides, in Markdown."""
    rows = []
    for c in paper.CLAIMS:
        mine = [f for f in found if f.claim == c.key and f.verdict in ("holds", "does not hold")]
        if mine:
            cells = {v: ", ".join(dict.fromkeys(_where(f) for f in mine if f.verdict == v)) for v in VERDICTS[:2]}
            rows.append({"claim": f"“{c.sentence}” ({c.where})", **cells})
    return pd.DataFrame(rows).to_markdown(index=False)


def _where(f: Finding) -> str:
    return " ".join(filter(None, (f"{f.dataset}-{f.preset}" if f.preset else f.dataset or "nothing run", f.phone)))


def write(found: list[Finding]) -> Path:
    """``figures/claims.md`` and ``claims.json``: all findings with their sources and commits; returns the first."""
    folder = paths.figures_root()
    target = folder / "claims.md"
    head = (
        "# Does the paper hold?\n\nEvery testable sentence, each with what was measured here. Written by `08_claims` from the "
        "JSON files in this folder; each names its dataset, preset and seed. `provenance.json` has commits and versions.\n\n"
    )
    body = as_frame(found).to_markdown(index=False)
    listed = [{key: value for key, value in asdict(f).items() if key != "commit"} for f in found]
    paths.write_text(folder / "claims.json", json.dumps(listed, indent=1) + "\n")
    paths.write_text(target, f"{head}{summary(found).to_markdown(index=False)}\n\n## Findings\n\n{body}\n")
    return target
