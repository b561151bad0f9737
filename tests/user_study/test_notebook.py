"""Notebook 06 on answers of people who have just begun."""

import functools

import matplotlib.pyplot as plt
import nbformat
import pytest
from hypothesis import HealthCheck, given, settings
from studies import PICTURES, unfinished

from dped_lib.base import paths
from dped_lib.user_study import answers as study_answers


@functools.cache
def analysis_of_the_notebook() -> list[str]:
    """Return the code of 06_user_study: its set-up, and everything from the answers to the end."""
    nb = nbformat.read(paths.notebooks_dir() / "06_user_study.ipynb", as_version=4)
    code = [c.source for c in nb.cells[2:] if c.cell_type == "code"]
    start = next(i for i, source in enumerate(code) if "store.everyone" in source)
    return [code[0], *code[start:]]


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(unfinished())
def test_notebook_06_takes_a_study_that_has_just_begun(monkeypatch_module, tmp_path_factory, capsys, study_so_far):
    asked, answers = study_so_far
    folder = tmp_path_factory.mktemp("begun")
    monkeypatch_module.setenv("DPED_FIGURES", str(folder / "figures"))
    store = study_answers.AnswerStore(folder / "answers", PICTURES, asked)
    for who, left in answers:
        at = store.next(f"Subject {who}")
        store.record(f"Subject {who}", at, at.left if left else at.right, 1.0, (450, 0.5))
    values = {
        "dataset": "rig",
        "preset": "smoke",
        "network": "trained",
        "folder": "pictures",
        "subject": "",
        "margin": 0.1,
        "seed": 0,
        "manual": "",
        "answers": "",
    }
    values |= {
        "store": store,
        "asked": asked,
        "pictures": None,
        "told": {},
    }
    for source in analysis_of_the_notebook():
        exec(source, values)
    size = "Median width of a picture on the screen: 450 CSS pixels"
    assert (
        f"{size} (n = {len(answers)} answer{'s' * (len(answers) > 1)}); smaller than 1:1 in 100%."
        in capsys.readouterr().out
    )
    captions = [f.read_text() for f in (folder / "figures").rglob("study_ranking*.md")]
    assert captions and all(size in caption for caption in captions)
    assert values["kind"] == "person" and (values["choices"].sign != 0).sum() == len(answers)
    counts = [t.get_text() for ax in values["fig"].axes for t in ax.texts if t.get_text().startswith("n = ")]
    assert len(counts) == 4 * len(values["choices"].sets), "n stands at every bar"
    assert sum(int(c[4:]) for c in counts) == 2 * len(answers), "the bars of pairs, and once more all choices"
    assert sum(s.answers for s in values["shares"]) == len(answers)
    plt.close("all")


@pytest.fixture(scope="module")
def monkeypatch_module():
    with pytest.MonkeyPatch.context() as patch:
        yield patch
