"""What the tests of the user study share: a study on paper, and simulated or unfinished answers to it."""

from answering import PICTURES as PICTURES
from answering import QUESTIONS as QUESTIONS
from answering import fill as fill
from hypothesis import strategies as st

from dped_lib.user_study import analysis as study_analysis
from dped_lib.user_study import observers as study_observers

SONY = tuple(q for q in QUESTIONS if q.set == "sony")


def utility_of(**by_class):
    return {(q.set, c, q.scene): by_class.get(c, 0.0) for q in QUESTIONS for c in (q.first, q.second)}


def simulated(subjects, seed=0, taste=0.0, asked=SONY, **by_class):
    return study_analysis.from_simulation(
        asked, study_observers.simulate(asked, utility_of(**by_class), subjects, seed, taste)
    )


@st.composite
def unfinished(draw):
    """What 1 to 3 subjects have answered of a study: 1 to 20 answers in all, to their first questions, as it happens."""
    asked = draw(st.sampled_from((QUESTIONS, SONY, tuple(q for q in QUESTIONS if q.set == "enhancers"))))
    answers = draw(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=20))
    return asked, answers
