"""Judge the paper's claims from saved results. Each function has the name of its claim's key in ``paper.CLAIMS``.

Each function takes the results of one dataset and preset, and yields its findings. It yields none if the notebook that
it needs was not run. :mod:`paper_judges` judges claims on what is published. No function judges the user study.
"""

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from types import MappingProxyType

from dped_lib import paper
from dped_lib.base.datasets import camera_name
from dped_lib.experiments import discriminators, shift_study, statistics
from dped_lib.experiments.discriminators import Curve
from dped_lib.experiments.evidence import (
    PSNR_MARGIN,
    ClaimFinding,
    Findings,
    Results,
    differences,
    phones_of,
    too_few,
    too_short,
    verdict_above,
    verdict_below,
    verdict_equal,
)
from dped_lib.report import labels
from dped_lib.report.labels import method_name

# ---------------------------------------------------------------------------------------------- the dataset


def patches(results: Results) -> Findings:
    """Report the numbers of training patches. The paper's photographs are not public, so the claim is not testable."""
    name = "patch_counts"
    if numbers := results.numbers(name):
        rows = ((camera_name(results.dataset, row["phone"]), row["training patches"]) for row in numbers["rows"])
        text = ", ".join(f"{camera} {count}" for camera, count in rows)
        yield results.finding(
            "patches", name, "", f"training patches: {text}", "not testable", "other photographs, and fewer"
        )


# ---------------------------------------------------------------------------------------------- Figure 6


def shift_small(results: Results) -> Findings:
    """Judge "almost not sensitive to small distortions (1-2 pixels)"."""
    yield from _shift(results, "shift_small", "1-2 px")


def shift_middle(results: Results) -> Findings:
    """Judge "for higher shifts (3-5px), it is still about 5-10 times smaller compared to the MSE"."""
    yield from _shift(results, "shift_middle", "3-5 px")


def shift_large(results: Results) -> Findings:
    """Judge "for larger displacements it demonstrates similar magnitude and behavior"."""
    yield from _shift(results, "shift_large", "larger")


def _shift(results: Results, claim: str, shifts: str) -> Findings:
    """Yield a verdict for each kind of pictures and each kernel."""
    name, sentence = "fig06_verdicts", shift_study.SENTENCES[shifts]
    if not (numbers := results.numbers(name)):
        return
    for pictures, kernels in numbers["ratios"].items():
        words = shift_study.pictures_in_words(results.dataset, pictures)
        for kernel, by_shifts in kernels.items():
            if shifts not in by_shifts:
                continue
            ratio = shift_study.Ratio(**by_shifts[shifts])
            borders = sentence.low, sentence.high
            text = statistics.in_words(ratio.value, (ratio.low, ratio.high), 1, borders=borders)
            yield results.finding(
                claim,
                name,
                "",
                f"{words}: MSE / colour loss = {text}; asked: {sentence.range()}",
                ratio.verdict(sentence),
                kernel=kernel,
            )


# ---------------------------------------------------------------------------------------------- the discriminator


def two_or_one(results: Results) -> Findings:
    """Judge that two images make the task easier: after equally many steps, more answers are right than with one image.

    The sentence names no number of iterations. So we ask for as many as the paper's two-image training had.
    """
    iterations, _ = paper.DISCRIMINATOR_ACCURACY["two_image"]
    for two, one in zip(_curves(results, "two_image"), _curves(results, "one_image"), strict=False):
        names = Curve.__dataclass_fields__
        trained = (Curve(**{name: curve[name] for name in names if name in curve}) for curve in (two, one))
        value, interval = discriminators.gain(*trained)
        verdict, photographs = verdict_above(interval), len(set(two["photographs"]))
        points = statistics.in_words(100 * value, [100 * end for end in interval], 1, "+", borders=(0,))
        text = (
            f"two images - one image: {points} points of accuracy on held-out pairs after {two['iterations'][-1]} "
            f"iterations of batch {two['batch_size']}"
        )
        if why := "; ".join(filter(None, (_short_curve(two, iterations), too_few(photographs)))):
            yield results.finding("two_or_one", _CURVES, two["phone"], text, "not testable", why, here=verdict)
        else:
            why = results.limits(photographs, "1 training of each network")
            yield results.finding("two_or_one", _CURVES, two["phone"], text, verdict, why)


def two_image(results: Results) -> Findings:
    """Judge that the discriminator which sees both images is right on at least 99 % of the pairs after 300 iterations."""
    iterations, published = paper.DISCRIMINATOR_ACCURACY["two_image"]
    for curve in _curves(results, "two_image"):
        verdict, why = statistics.verdict(curve["interval"], least=published), ""
        if short := _short_curve(curve, iterations):
            # A higher accuracy after less training supports the claim. A lower one does not contradict it.
            sooner = f"sooner than after {iterations} batches of {paper.BATCH_SIZE}"
            why = sooner if verdict == "holds" else short
            verdict = "holds" if verdict == "holds" else "not testable"
        elif verdict == "does not hold" and (pairs := curve.get("training_pairs", math.inf)) < _most_pairs(iterations):
            why = f"trained on {pairs} pairs; the paper's {iterations} batches can hold {_most_pairs(iterations):,}"
            verdict = "not testable"
        yield _curve_finding(results, curve, iterations, published, verdict, why)


def one_image(results: Results) -> Findings:
    """Judge that the discriminator which sees one image is right on at most 86 % of the images after 5000 iterations."""
    iterations, published = paper.DISCRIMINATOR_ACCURACY["one_image"]
    for curve in _curves(results, "one_image"):
        verdict, why = statistics.verdict(curve["interval"], most=published), ""
        # More than 86 % contradicts "only 86 %", however short the training was.
        if verdict != "does not hold" and (short := _short_curve(curve, iterations)):
            verdict, why = "not testable", short
        yield _curve_finding(results, curve, iterations, published, verdict, why)


_CURVES = "discriminator_accuracy"


def _curves(results: Results, form: str) -> list[dict]:
    numbers = results.numbers(_CURVES)
    return [c for c in numbers["curves"] if c["form"] == form] if numbers else []


def _most_pairs(iterations: int) -> int:
    """Return the largest number of different pairs in the batches of the paper's first ``iterations`` iterations.

    The paper has more training pairs than that.
    """
    return iterations * paper.BATCH_SIZE


def _short_curve(curve: dict, iterations: int) -> str:
    """Return how much shorter the training was than the paper's; empty if it was not shorter."""
    last, batch = curve["iterations"][-1], curve["batch_size"]
    parts = []
    if last < iterations:
        parts.append(f"for {last} of {iterations} iterations")
    if batch < paper.BATCH_SIZE:
        parts.append(f"with batches of {batch} instead of {paper.BATCH_SIZE}")
    return f"trained {' '.join(parts)}" if parts else ""


def _curve_finding(
    results: Results, curve: dict, iterations: int, published: float, verdict: str, why: str
) -> ClaimFinding:
    low, high = ends = [100 * end for end in curve["interval"]]
    form = f".{statistics.digits_beside(ends, 1, (100 * published,))}f"
    text = (
        f"{100 * curve['accuracy'][-1]:{form}} % [{low:{form}}, {high:{form}}] of held-out pairs after "
        f"{curve['iterations'][-1]} iterations of batch {curve['batch_size']} "
        f"(paper: {100 * published:.0f} % after {iterations})"
    )
    return results.finding(curve["form"], _CURVES, curve["phone"], text, verdict, why)


# ---------------------------------------------------------------------------------------------- Table 2


def best_ssim(results: Results) -> Findings:
    """Judge that the paper's network has the highest SSIM of all methods."""
    yield from _compare(results, "best_ssim", "table2_methods", "ms_ssim", "ours", ("ape", "dong", "johnson"), digits=4)


def outperforms(results: Results) -> Findings:
    """Judge that the paper's network has a higher PSNR than Apple's enhancer and Johnson et al."""
    others = ("ape", "johnson")
    yield from _compare(results, "outperforms", "table2_methods", "psnr", "ours", others)


def psnr_dong(results: Results) -> Findings:
    """Judge that the paper's network and Dong et al.'s differ in PSNR by at most ``evidence.PSNR_MARGIN``."""
    by_phone = _compare(
        results,
        "psnr_dong",
        "table2_methods",
        "psnr",
        "ours",
        ("dong",),
        _equal_psnr,
        borders=(-PSNR_MARGIN, PSNR_MARGIN),
    )
    for finding in by_phone:
        yield replace(finding, evidence=f"{finding.evidence} dB; asked: at most {PSNR_MARGIN} dB apart (our margin)")


def _equal_psnr(interval: Sequence[float]) -> str:
    return verdict_equal(interval, PSNR_MARGIN)


_ALL_PAIRS = "table2_all_pairs"


def ours_iphone(results: Results) -> Findings:
    """Report the scores of the authors' public weights on the real pairs they published. They cannot test the claim.

    These weights fit the scores that the later version of the paper states. Those of the first version are not public.
    """
    if results.dataset != "pirm" or not (numbers := results.numbers(_ALL_PAIRS)):
        yield from _other_photographs(results, "ours_iphone")
        return
    later = paper.TABLE2_LATER_VERSION["iphone"]
    for cell in numbers["cells"]:
        if cell["column"] != "authors":
            continue
        psnr = statistics.in_words(cell["psnr"], cell["psnr_interval"], 2)
        ssim = statistics.in_words(cell["ms_ssim"], cell["ms_ssim_interval"], 4)
        text = f"authors' weights on {cell['pairs']} real pairs: PSNR {psnr} dB, MS-SSIM {ssim}"
        why = f"the public weights fit the later version of the paper ({later.psnr} / {later.ssim}); "
        why += "those of the first version are not public"
        yield results.finding("ours_iphone", _ALL_PAIRS, "iphone", text, "not testable", why)


def improves(results: Results) -> Findings:
    """Judge that the authors' weights improve on the original photographs of the phone they were made for."""
    if not (numbers := results.numbers(_ALL_PAIRS)):
        yield from _other_photographs(results, "improves")
        return
    for phone in phones_of(numbers):
        for metric, digits in (("psnr", 2), ("ms_ssim", 4)):
            difference = differences(numbers, phone, metric).get(("authors", "original"))
            if difference is None:
                continue
            other_phone = phone not in paper.PHONES
            yield results.finding(
                "improves",
                _ALL_PAIRS,
                phone,
                f"authors' weights - {method_name('original')}, {_name(metric)}: {difference.text(digits)}",
                "not testable" if other_phone else verdict_above(difference.interval),
                "another phone than the weights were made for" if other_phone else "",
            )


def _other_photographs(results: Results, claim: str) -> Findings:
    """Report that this Table 2 cannot test a claim about the paper's networks, because its photographs are not the paper's."""
    other = {"rig": "simulated photographs", "city100": "photographs of another phone"}.get(results.dataset)
    if other and results.numbers("table2_methods"):
        text = "Table 2 here has no real photograph of the paper's phones"
        yield results.finding(claim, "table2_methods", "", text, "not testable", other)


# ---------------------------------------------------------------------------------------------- Table 3 and its looks


def top_scores(results: Results) -> Findings:
    """Judge that the full loss has a higher PSNR and a higher SSIM than the other losses of Table 3.

    A phone has one finding, because the sentence says both.
    """
    others = ("content+texture", "mse+texture", "mse")
    scores = (("psnr", 2), ("ms_ssim", 4))
    by_score = (
        _compare(results, "top_scores", "table3_losses", m, paper.FULL_LOSS, others, digits=d) for m, d in scores
    )
    for psnr, ssim in zip(*by_score, strict=True):
        verdict, here = _least((psnr.verdict, ssim.verdict)), _least((psnr.here, ssim.here))
        yield replace(psnr, evidence=f"{psnr.evidence}; {ssim.evidence}", verdict=verdict, here=here)


def texture_color(results: Results) -> Findings:
    """Judge that MSE with the texture loss deviates more in colour than MSE alone."""
    yield from _compare(results, "texture_color", "table3_looks", "colour deviation", "mse+texture", ("mse",))


def content_color(results: Results) -> Findings:
    """Judge that content and texture loss deviate less in colour than MSE and texture loss."""
    others = ("mse+texture",)
    yield from _compare(
        results, "content_color", "table3_looks", "colour deviation", "content+texture", others, verdict_below
    )


def color_term(results: Results) -> Findings:
    """Judge that the colour loss, added to content and texture loss, reduces the deviation in colour."""
    others = ("content+texture",)
    yield from _compare(
        results, "color_term", "table3_looks", "colour deviation", paper.FULL_LOSS, others, verdict_below
    )


def mse_blur(results: Results) -> Findings:
    """Judge that the MSE loss alone gives less sharp pictures than the full loss."""
    yield from _compare(results, "mse_blur", "table3_looks", "sharpness", "mse", (paper.FULL_LOSS,), verdict_below)


def _name(metric: str) -> str:
    return labels.METRIC_LABELS[metric].name if metric in labels.METRIC_LABELS else metric


def _compare(
    results: Results,
    claim: str,
    name: str,
    metric: str,
    first: str,
    others: tuple[str, ...],
    verdict_of: Callable[[tuple[float, float]], str] = verdict_above,
    digits: int = 2,
    borders: tuple[float, ...] = (0,),
) -> Findings:
    """Yield for each phone the verdict on ``first`` minus every one of ``others`` that was run.

    ``verdict_of`` judges an interval by the sides of ``borders`` on which its ends lie.
    """
    if not (numbers := results.numbers(name)):
        return
    for phone in phones_of(numbers):
        by_pair = differences(numbers, phone, metric)
        run = {other: by_pair[first, other] for other in others if (first, other) in by_pair}
        if not run:
            continue
        verdict, here = _least(verdict_of(d.interval) for d in run.values()), ""
        missing = [method_name(other) for other in others if other not in run]
        why = f"{' and '.join(missing)} {'was' if len(missing) == 1 else 'were'} not run" if missing else ""
        if verdict == "holds" and missing:
            # Without these words the verdict would contradict the interval beside it.
            why, verdict = f"holds against {' and '.join(map(method_name, run))}, but {why}", "undecided"
        if short := too_short(results, name, phone, (first, *run)) or too_few(results.photograph_count(name, phone)):
            verdict, why, here = "not testable", "; ".join(filter(None, (short, why))), verdict
        else:
            why = "; ".join(filter(None, (why, results.scope(name, phone))))
        text = "; ".join(
            f"{method_name(first)} - {method_name(other)}: {d.text(digits, borders)}" for other, d in run.items()
        )
        yield results.finding(claim, name, phone, f"{_name(metric)}: {text}", verdict, why, here=here)


def _least(verdicts: Iterable[str]) -> str:
    """Return the verdict on a sentence that has several parts: it holds only if each part holds."""
    given = set(verdicts)
    return next(v for v in ("does not hold", "undecided", "not testable", "holds", "") if v in given)


# ---------------------------------------------------------------------------------------------- limitations


def noise(results: Results) -> Findings:
    """Judge that noise is amplified only on photographs of the iPhone 3GS (``limitations.noise_verdict``)."""
    name = "noise_amplification"
    if numbers := results.numbers(name):
        verdict = numbers["verdict"]
        yield results.finding("noise", name, "", verdict["evidence"], verdict["verdict"], verdict["why"])


#: The judge of each claim that saved results can test.
JUDGES: Mapping[str, Callable[[Results], Findings]] = MappingProxyType(
    {
        judge.__name__: judge
        for judge in (
            patches,
            shift_small,
            shift_middle,
            shift_large,
            two_or_one,
            two_image,
            one_image,
            best_ssim,
            outperforms,
            psnr_dong,
            ours_iphone,
            improves,
            noise,
            texture_color,
            content_color,
            color_term,
            mse_blur,
            top_scores,
        )
    }
)
