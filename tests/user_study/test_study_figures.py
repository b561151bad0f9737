"""The figures and tables of a study."""

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
    assert [ax.get_title() for ax in fig.axes[:2]] == ["(a) Sony Xperia Z", "(b) enhancers"]
    assert sum(word.startswith("n = ") for word in words) == 8, "n at each bar"
    named = {text.get_text() for text in fig.axes[2].get_legend().get_texts()}
    assert {"original", "DSLR", "ours", "95 %: Wilson", "95 %: bootstrap over subjects"} < named
    assert {"chosen equally often", "model's true share"} < named
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    assert len(study_figures.figure11(pictures, "sony", "enhanced", "rig").axes) == 9
    assert len(study_figures.scene_figure(pictures, SCENES[0], "rig").axes) == 6
    asked = study_questions.order(pictures.questions, "p01", 0)[0]
    study_figures.trial_figure(*study_pictures.shown_pair(pictures, asked), asked)
    assert len(study_figures.share_table(shares, "rig")) == 4
    assert len(study_figures.ranking_table(study_analysis.ranking(choices, 20), "rig")) == 5
    assert len(study_figures.agreement_table(study_agreement.agreement(choices, 20), "rig")) == 4
    verdict = study_agreement.equivalence(choices, "sony", "dslr", "enhanced", resamples=20)
    assert study_figures.verdict_table([verdict], "rig")["answers"].tolist() == [108]
    counts = [[t.get_text() for t in ax.texts if t.get_text().startswith("n = ")] for ax in fig.axes[:2]]
    assert counts == [["n = 108"] * 3 + ["n = 324"], ["n = 0", "n = 108", "n = 0", "n = 108"]], "two are not run"
    assert "no people" in study_figures.describe_subjects("model", 12)
    with pytest.raises(DpedError, match="no pictures of class 'manual'"):
        study_figures.figure11(pictures, "sony", "manual", "rig")
    plt.close("all")
