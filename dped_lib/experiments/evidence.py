"""Read the results that the notebooks saved in ``figures/`` as evidence on the claims of the paper."""

import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from dped_lib import paper
from dped_lib.base import datasets, paths, presets
from dped_lib.base.errors import DpedError
from dped_lib.experiments import statistics
from dped_lib.experiments.levelling import Levelling
from dped_lib.experiments.tables import TRAINED2
from dped_lib.report import labels, provenance


@dataclass(frozen=True)
class ClaimFinding:
    """Hold the evidence of one dataset, preset and phone on one claim.

    Attributes:
        claim: key in ``paper.CLAIMS``.
        evidence: the numbers, in words.
        verdict: ``holds``, ``does not hold``, ``undecided`` or ``not testable`` (``experiments.claims`` explains them).
        why: the reason or the limits of the verdict; may be empty.
        source: the file with the numbers.
        kernel: the colour loss's kernel that is judged, for sentences about the colour loss; else empty.
        here: the verdict on these trainings alone, if they are too short to decide the claim, or if trainings or photographs
            are too few; else empty.
    """

    claim: str
    dataset: str
    preset: str
    phone: str
    evidence: str
    verdict: str
    why: str = ""
    source: str = ""
    kernel: str = ""
    here: str = ""

    @property
    def results(self) -> str:
        """Return the dataset and preset as a folder's name, ``the paper``, or nothing if nothing was run."""
        return f"{self.dataset}-{self.preset}" if self.preset else self.dataset

    @property
    def data(self) -> str:
        """Return the dataset, preset and phone in words; empty if nothing was run."""
        camera = datasets.camera_name(self.dataset, self.phone) if self.phone else ""
        return " ".join(filter(None, (self.results, camera)))


#: The findings that a judge yields.
Findings = Iterator[ClaimFinding]


@dataclass(frozen=True)
class Results:
    """Read the JSON files of one dataset and preset in ``folder``."""

    dataset: str
    preset: str
    folder: Path

    def _content(self, name: str) -> dict | None:
        file = self.folder / f"{name}.json"
        try:
            content = provenance.read_result(file)
        except FileNotFoundError:
            return None
        made_with = content["parameters"]
        if (made_with["dataset"], made_with["preset"]) != (self.dataset, self.preset):
            raise DpedError(
                f"{file}: is a result of {made_with['dataset']}-{made_with['preset']}, but this is not its folder. "
                "Move it there."
            )
        return content

    def numbers(self, name: str) -> dict | None:
        """Return the numbers of a result; None if it was not run.

        Raises:
            DpedError: the file is damaged, or belongs to another dataset or preset.
        """
        content = self._content(name)
        return content and content["numbers"]

    def parameters(self, name: str) -> dict:
        """Return the parameters that a result was made with; empty if it was not run."""
        content = self._content(name)
        return content["parameters"] if content else {}

    def limits(self, photographs: int | None, *more: str) -> str:
        """Return the limits of a verdict in words: what was resampled (``datasets.resampled_in_words``), and ``more``."""
        resampled = [datasets.resampled_in_words(self.dataset, photographs)] if photographs else []
        parts = ", ".join([*resampled, *more])
        return f"these data and this length: {parts}" if parts else ""

    def photograph_count(self, name: str, phone: str) -> int | None:
        """Return on how many photographs a table compares a phone's methods; None if the result does not record it."""
        cells = (self.numbers(name) or {}).get("cells", [])
        return min((c["photographs"] for c in cells if c["phone"] == phone), default=None)

    def scope(self, name: str, phone: str) -> str:
        """Return the limits of a verdict on trained networks in words: photographs, trainings and their length.

        Facts that the result does not record are left out.
        """
        parameters = self.parameters(name)
        seeds = len(parameters.get("seeds", ()))
        more = [f"{seeds} training{'s' if seeds > 1 else ''} of each network"] if seeds else []
        more += [parameters["iterations"].replace(" of ", " iterations of ")] if parameters.get("iterations") else []
        return self.limits(self.photograph_count(name, phone), *more)

    def finding(
        self,
        claim: str,
        name: str,
        phone: str,
        evidence: str,
        verdict: str,
        why: str = "",
        kernel: str = "",
        here: str = "",
    ) -> ClaimFinding:
        """Return a finding on a claim from the result ``name``, which must exist."""
        source = f"{self.results}/{name}.json"
        return ClaimFinding(claim, self.dataset, self.preset, phone, evidence, verdict, why, source, kernel, here)

    @property
    def results(self) -> str:
        """Return the dataset and preset as a folder's name."""
        return f"{self.dataset}-{self.preset}"


def saved_results() -> list[Results]:
    """Return the results that a verdict reads (``provenance.result_folder``), in the order of datasets and presets."""
    results = []
    for dataset, preset in itertools.product(datasets.DATASETS, presets.PRESETS):
        folder = provenance.result_folder(dataset, preset)
        if any(folder.glob("*.json")):
            results.append(Results(dataset, preset, folder))
    return results


def results_left_out() -> list[str]:
    """Return a sentence for each folder of ``runs/`` that is read instead of ``figures/``, but has fewer results.

    A notebook run by hand judges the user's own results alone, as soon as there is one (``provenance.result_folder``).
    """
    sentences = []
    for results in saved_results():
        published = paths.published_figures() / f"{results.dataset}-{results.preset}"
        # No judge reads the reports of single trainings.
        judged = {file.name for file in published.glob("*.json") if not file.name.startswith("training_")}
        names = judged - {provenance.PROVENANCE}
        if missing := names - {file.name for file in results.folder.glob("*.json")}:
            sentences.append(
                f"Results are read from {results.folder}, which has only {len(names) - len(missing)} of the {len(names)} results "
                f"in {published}. The others are not judged. Run the other notebooks by hand, too, or move the first folder "
                "away to judge the results in the second."
            )
    return sentences


def verdict_above(interval: Sequence[float]) -> str:
    """Return the verdict on the claim that a value is above zero, given its interval."""
    verdicts = {"higher": "holds", "lower": "does not hold", "undecided": "undecided"}
    return verdicts[statistics.relation(interval)]


def verdict_below(interval: Sequence[float]) -> str:
    """Return the verdict on the claim that a value is below zero, given its interval."""
    return verdict_above(statistics.reverse(interval))


#: Two methods count as equal in PSNR if they differ by at most this margin, in dB. The paper states no margin. This one is
#: ours: the largest difference in Table 2 that the paper calls equivalent (iPhone: 19.16 - 19.90). Any smaller margin would
#: contradict the paper's own numbers. It comes from those numbers alone, not from our measurements.
PSNR_MARGIN = round(max(abs(row["ours"].psnr - row["dong"].psnr) for row in paper.TABLE2.values()), 2)


def verdict_equal(interval: Sequence[float], margin: float) -> str:
    """Return the verdict on the claim that a difference is at most ``margin``, given its interval.

    It holds if the whole interval lies within the margin, and does not hold if it lies outside.
    With a 95 % interval, "holds" is the result of two one-sided tests (TOST) at 2.5 % each.
    """
    return statistics.verdict(interval, -margin, margin)


#: The length of a training in words (``TrainParams.length``), with which a parameter ``iterations`` starts.
_LENGTH = re.compile(r"(\d+) of batch (\d+)")


def too_short(results: Results, name: str, phone: str, columns: Iterable[str]) -> str:
    """Return why the trainings of these columns of a table cannot decide a claim about them; empty if they can.

    Trainings of the paper's length can. Shorter ones can if their validation had levelled off, and if each network was
    trained twice or more: the difference of two single trainings may be chance. The result records both
    (``levelling.by_phone``) and the length (``networks.length``). The preset is not asked: it may have had another length
    when the result was made.
    """
    parameters = results.parameters(name)
    length = _LENGTH.match(str(parameters.get("iterations", "")))
    if not length:
        return "does not say how long its networks were trained"
    iterations, batch = map(int, length.groups())
    if iterations >= paper.ITERATIONS and batch >= paper.BATCH_SIZE:
        return ""
    short = f"trained on {iterations * batch:,} patches instead of {paper.ITERATIONS * paper.BATCH_SIZE:,}"
    recorded = parameters.get("levelling", {}).get(phone, {})
    if not recorded:
        return short
    compared = [loss for loss in (TRAINED2.get(column, column) for column in columns) if loss in recorded]
    by_loss = {loss: Levelling(**recorded[loss]) for loss in compared}
    if moving := [f"{labels.method_name(loss)} {v.moved:+.2f} dB" for loss, v in by_loss.items() if not v.levelled_off]:
        return f"{short}, and validation had not levelled off (last quarter: {', '.join(moving)})"
    if min((v.seeds for v in by_loss.values()), default=0) < 2:
        return f"{short}, and each network once: a difference may be chance"
    return ""


def too_few(photographs: int | None) -> str:
    """Return why so few photographs decide no difference; empty if they can, or are unknown."""
    if photographs is None or photographs >= statistics.FEWEST_UNITS:
        return ""
    few = statistics.FEWEST_UNITS
    return f"{photographs} photographs: intervals over fewer than {few} are too narrow"


@dataclass(frozen=True)
class PairedDifference:
    """Hold the difference of two methods with its interval."""

    value: float
    interval: tuple[float, float]

    def text(self, digits: int, borders: Iterable[float] = (0,)) -> str:
        """Return ``+value [+low, +high]``, with more digits where the verdict at ``borders`` needs them."""
        return statistics.in_words(self.value, self.interval, digits, "+", borders)


def differences(numbers: dict, phone: str, metric: str) -> dict[tuple[str, str], PairedDifference]:
    """Return the difference of every two methods, in both orders, for a phone and a metric (or measure)."""
    by_pair = {}
    for d in numbers.get("differences", []):
        if (d["phone"], d.get("metric", d.get("measure"))) == (phone, metric):
            interval = tuple(d["interval"])
            by_pair[d["first"], d["second"]] = PairedDifference(d["difference"], interval)
            by_pair[d["second"], d["first"]] = PairedDifference(-d["difference"], statistics.reverse(interval))
    return by_pair


def phones_of(numbers: dict) -> list[str]:
    """Return the phones for which a table has differences."""
    return list(dict.fromkeys(d["phone"] for d in numbers.get("differences", [])))
