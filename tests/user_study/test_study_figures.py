"""The figures and tables of a study."""

import itertools

import matplotlib.colors
import matplotlib.pyplot as plt
import pytest
from legible import smallest_text
from synthetic import SCENES

from dped_lib.base.errors import DpedError
from dped_lib.report import figures
from dped_lib.user_study import agreement as study_agreement
from dped_lib.user_study import analysis as study_analysis
from dped_lib.user_study import figures as study_figures
from dped_lib.user_study import observers as study_observers
from dped_lib.user_study import pictures as study_pictures
from dped_lib.user_study import questions as study_questions
from dped_lib.user_study import result_figures


@pytest.mark.parametrize("share", [0.0, 0.03, 0.11, 0.13, 0.5, 0.9, 0.97, 1.0])
def test_each_part_of_a_bar_has_its_share(share):
    """However narrow it is: beside its middle or above it, within the panel, and in no other number."""
    figures.use_style()
    interval = (max(share - 0.01, 0.0), min(share + 0.01, 1.0))
    row = study_analysis.Share("sony", "dslr", "enhanced", share, 100, 5, interval, interval, {})
    parts = [
        study_analysis.Fraction("sony", c, s, 100, interval, interval)
        for c, s in (("original", share / 2), ("dslr", share / 2), ("enhanced", 1 - share))
    ]
    fig = study_figures.figure10([row], parts, "rig")
    fig.draw_without_rendering()
    ax = fig.axes[0]
    numbers = [t for t in ax.texts if t.get_text().endswith("%")]
    wanted = [share, 1 - share, *(p.share for p in parts)]
    assert sorted(t.get_text() for t in numbers) == sorted(f"{s:.0%}" for s in wanted if s)
    boxes = [t.get_window_extent() for t in numbers]
    assert all(ax.bbox.x0 - 1 < b.x0 and b.x1 < ax.bbox.x1 + 1 for b in boxes)
    assert not any(a.overlaps(b) for a, b in itertools.combinations(boxes, 2))
    above = [b for t, b in zip(numbers, boxes, strict=True) if t.get_verticalalignment() == "bottom"]
    assert all(b.x0 > ax.bbox.x0 + 1 for b in above), "the axis touches no digit"
    plt.close(fig)


def test_both_ends_of_a_dashed_interval_are_seen():
    """The pattern of a narrow interval may end in a gap, so its ends have marks."""
    wilson, clustered = (0.28, 0.33), (0.29, 0.31)
    row = study_analysis.Share("sony", "dslr", "enhanced", 0.3, 100, 5, wilson, clustered, {})
    fig = study_figures.figure10([row], [], "rig")
    ends = [tuple(line.get_xdata()) for line in fig.axes[0].lines if line.get_marker() == "|"]
    assert ends == [wilson, clustered]
    plt.close(fig)


@pytest.mark.parametrize(
    ("dataset", "titles"),
    [
        ("rig", ["(a) BlackBerry Passport", "(b) iPhone 3GS", "(c) Sony Xperia Z", "(d) enhancers, iPhone 3GS"]),
        ("city100", ["iPhone X", "(d) enhancers, iPhone X"]),
        ("own", ["holiday", "(d) enhancers"]),
    ],
)
def test_a_part_of_figure_10_has_the_papers_letter(dataset, titles):
    """In every study "Figure 10 d" means the enhancers. Sets that the paper does not have get no letter."""
    sets = {"rig": study_questions.PAPER_SETS, "city100": ("iphonex", "enhancers"), "own": ("holiday", "enhancers")}
    pairs = {"enhancers": ("automatic", "enhanced")}
    shares = [
        study_analysis.Share(name, *pairs.get(name, ("dslr", "enhanced")), 0.5, 100, 5, (0.4, 0.6), (0.4, 0.6), {})
        for name in sets[dataset]
    ]
    fig = study_figures.figure10(shares, [], dataset)
    assert [ax.get_title() for ax in fig.axes if ax.get_title()] == titles
    plt.close(fig)


def test_a_folder_of_ones_own_has_its_own_names():
    assert study_figures.set_name("enhancers", "own") == "enhancers"
    assert study_figures.set_name("enhancers", "city100") == "enhancers, iPhone X"


def test_a_verdict_without_intervals_says_why():
    verdict = study_agreement.Verdict(
        "sony", "dslr", "enhanced", 0.1, 0.5, 18, 2, None, None, "undecided", "2 subjects", ()
    )
    assert study_figures.verdict_table([verdict], "rig")["verdict"].tolist() == ["undecided: 2 subjects"]


def test_zero_has_no_sign():
    agreement = study_agreement.Agreement("sony", "original", "enhanced", 9, 0.94, 0.94, -0.001, (-0.03, 0.03), {})
    table = study_figures.agreement_table([agreement], "rig")
    assert table["Fleiss' kappa"].tolist() == ["+0.00 [-0.03, +0.03]"]


def test_a_printed_interval_stays_on_its_side_of_the_border_that_decides():
    """Rounded, the first would lie in the margin (cannot tell), and the second would not contain 0."""
    within, apart = (0.521164, 0.604853), (0.501, 0.613757)
    verdict = study_agreement.Verdict(
        "sony", "dslr", "enhanced", 0.1, 0.563492, 378, 42, within, apart, study_agreement.CAN_TELL, "", ()
    )
    agreement = study_agreement.Agreement("sony", "dslr", "enhanced", 9, 0.53, 0.51, 0.0513, (-0.0020, 0.1124), {})
    strength = study_analysis.Strength("sony", "dslr", 0.05, (-0.0020, 0.1124), 0.9, 9)
    share = study_analysis.Share("sony", "dslr", "enhanced", 0.56, 378, 42, apart, (0.4, 0.6), {})
    fig = result_figures.results_figure([strength], [agreement], [verdict], "rig")
    assert [[t.get_text() for t in ax.texts] for ax in fig.axes] == [
        ["+0.050 [-0.002, +0.112]"],
        ["+0.051 [-0.002, +0.112]"],
        ["0.563 [0.521, 0.605]: can tell"],
    ]
    plt.close(fig)
    (told,) = study_figures.verdict_table([verdict], "rig").to_dict("records")
    assert (told["90 %"], told["95 %"]) == ("[0.521, 0.605]", "[0.501, 0.614]")
    assert study_figures.agreement_table([agreement], "rig")["Fleiss' kappa"].tolist() == ["+0.051 [-0.002, +0.112]"]
    assert study_figures.ranking_table([strength], "rig")["strength (logit)"].tolist() == ["+0.050 [-0.002, +0.112]"]
    (told,) = study_figures.share_table([share], "rig").to_dict("records")
    assert (told["Wilson"], told["over subjects"]) == ("[0.501, 0.614]", "[0.40, 0.60]")


def test_the_figure_of_results_has_their_numbers():
    """Also those that are not there yet."""
    figures.use_style()
    strengths = [
        study_analysis.Strength("sony", "enhanced", 0.5, (0.4, 0.6), 0.9, 9),
        study_analysis.Strength("sony", "dslr", None, None, None, 9),
    ]
    agreements = [study_agreement.Agreement("sony", "dslr", "enhanced", 9, 0.9, 0.8, -0.001, (-0.03, 0.03), {})]
    given = ("sony", "dslr", "enhanced", 0.1)
    verdicts = [
        study_agreement.Verdict(*given, 0.5, 378, 42, (0.45, 0.55), (0.44, 0.56), study_agreement.CANNOT_TELL, "", ("a",)),
        study_agreement.Verdict(*given, 0.5, 18, 2, None, None, study_agreement.UNDECIDED, "2 subjects", ()),
    ]  # fmt: skip
    fig = result_figures.results_figure(strengths, agreements, verdicts, "rig")
    assert [[t.get_text() for t in ax.texts] for ax in fig.axes] == [
        ["+0.50 [+0.40, +0.60]", study_figures.NOT_YET],
        ["+0.00 [-0.03, +0.03]"],
        ["0.50 [0.45, 0.55]: cannot tell", "not enough answers"],
    ]
    names = [[label.get_text() for label in ax.get_yticklabels()] for ax in fig.axes]
    assert names[0] == ["Sony Xperia Z: ours", "Sony Xperia Z: DSLR"] and names[1] == ["Sony Xperia Z: DSLR / ours"]
    assert names[2] == ["Sony Xperia Z: told apart in 1 scene", "Sony Xperia Z"]
    assert [ax.get_title() for ax in fig.axes] == [
        "(a) ranking, 95 % intervals, n = 9 answers a set",
        "(b) agreement, 95 % intervals, n = 9 pairs of answers a row",
        "(c) equivalence test, n = 18 to 378 answers a row",
    ]
    inks = {line.get_color() for line in fig.axes[2].lines}
    assert all(len(set(matplotlib.colors.to_rgb(ink))) == 1 for ink in inks), (
        "rows of phones have no other phone's colour"
    )
    told = fig.axes[2].get_xlabel()
    assert "in brackets: 90 %" in told and "one half ± 0.1" in told and "its own share differs from one half" in told
    (band,) = [p for p in fig.axes[2].patches if p.get_width() > 0.1]
    assert (band.get_x(), band.get_x() + band.get_width()) == pytest.approx((0.4, 0.6))
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)


def test_figures_and_tables(small):
    pictures, store = small
    liked = study_observers.utilities(pictures)
    study_observers.write_answers(store, liked, 12, 0, 0.2)
    choices = study_analysis.collect(store, "model")
    shares, last = study_analysis.shares(choices, 20), study_analysis.fractions(choices, 20)
    figures.use_style()
    fig = study_figures.figure10(shares, last, "rig", {(s.set, s.first, s.second): 0.5 for s in shares})
    words = [t.get_text() for ax in fig.axes for t in ax.texts]
    assert words.count("not run") == 2, "the two pairs with a manual enhancement"
    assert [ax.get_title() for ax in fig.axes[:2]] == ["(c) Sony Xperia Z", "(d) enhancers, iPhone 3GS"]
    assert sum(word.startswith("n = ") for word in words) == 8, "n at each bar"
    named = {text.get_text() for text in fig.axes[2].get_legend().get_texts()}
    assert {"original", "DSLR", "ours", "95 %: Wilson", "95 %: bootstrap over subjects"} < named
    assert {"chosen equally often", "model's true share"} < named
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    assert len(study_figures.figure11(pictures, "sony", "enhanced", "rig").axes) == 9
    scene = study_figures.scene_figure(pictures, SCENES[0], "rig")
    titles = [ax.get_title() for ax in scene.axes]
    assert titles == ["original", "DSLR", "ours", "", "", "", "", "automatic"], "a class has its name once"
    assert scene.get_suptitle() == f"Scene {SCENES[0]}"
    assert [ax.get_ylabel() for ax in scene.axes[::4]] == ["Sony Xperia Z", "iPhone 3GS"]
    assert smallest_text(scene) >= figures.SMALLEST_TEXT and scene.get_figwidth() <= figures.WIDTH
    asked = study_questions.order(pictures.questions, "p01", 0)[0]
    study_figures.trial_figure(*study_pictures.shown_pair(pictures, asked), asked)
    assert len(study_figures.share_table(shares, "rig")) == 4
    table = study_figures.share_table(shares, "rig", last)
    assert len(table) == 4 + 3 + 2
    of_all = table[table["choice"].str.startswith("all choices")]
    assert table["set"].tolist() == ["Sony Xperia Z"] * 6 + ["enhancers, iPhone 3GS"] * 3, "each set is in one piece"
    assert of_all["share"].tolist() == [f"{f.share:.2f}" for f in last]
    truth = {(s.set, s.first, s.second): i / 10 for i, s in enumerate(shares)}
    true_shares = study_figures.share_table(shares, "rig", last, truth)["model's true share"]
    assert sorted(true_shares) == [""] * len(last) + ["0.00", "0.10", "0.20", "0.30"] and true_shares[3:6].eq("").all()
    assert len(study_figures.ranking_table(study_analysis.ranking(choices, 20), "rig")) == 5
    assert len(study_figures.agreement_table(study_agreement.agreement(choices, 20), "rig")) == 4
    verdict = study_agreement.equivalence(choices, "sony", "dslr", "enhanced", resamples=20)
    table = study_figures.verdict_table([verdict], "rig")
    assert table["answers"].tolist() == [108] and table["verdict"].tolist() == [verdict.word]
    counts = [[t.get_text() for t in ax.texts if t.get_text().startswith("n = ")] for ax in fig.axes[:2]]
    assert counts == [["n = 108"] * 3 + ["n = 324"], ["n = 0", "n = 108", "n = 0", "n = 108"]], "two are not run"
    told = study_figures.describe_subjects("model", 12)
    assert "no people" in told and "edges and contrast only" in told, "what the model looks at"
    with pytest.raises(DpedError, match="no pictures of class 'manual'"):
        study_figures.figure11(pictures, "sony", "manual", "rig")
    plt.close("all")
