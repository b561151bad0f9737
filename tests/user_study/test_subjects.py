"""The names of subjects: whatever people type becomes a safe file name of their own."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dped_lib.base.errors import DpedError
from dped_lib.user_study import subjects as study_subjects

# Written down once: a subject who comes back after an update must find the old answers.
IDS = {
    "p01": "p01",
    "Anna": "anna",
    " P01\n": "p01",
    "Anna Müller": "anna-muller.432f35a692ab4ee6",
    "ANNA  MÜLLER": "anna-muller.432f35a692ab4ee6",
    "Anna Mu\u0308ller": "anna-muller.432f35a692ab4ee6",
    "李明": "name.8889b7ba1531a5ea",
    "👩\u200d🚀": "name.b0e8202683618eb0",
    "../p01": "p01.40e95f1cc03f8fea",
    "CON": "con-.acc82a283a2469f6",
}


@pytest.mark.parametrize("name", IDS)
def test_people_type_what_they_like(store, name):
    assert study_subjects.subject_id(name) == IDS[name]
    assert study_subjects.subject_id(IDS[name]) == IDS[name], "an id is its own id"
    asked = store.next(name)
    store.record(name, asked, asked.left, 1.0)
    assert store.subjects() == (IDS[name],)
    (answer,) = store.answers(name)
    assert answer.subject == IDS[name] and store.answers(IDS[name]) == (answer,)
    assert store.file_of(name).parent == store.folder / "people" and store.next(name) != asked


@pytest.mark.parametrize(
    ("one", "other"),
    [("J\u030cana", "\u01f0ana"), ("\u200bAnna", "anna\ufeff"), ("❤", "❤\ufe0f"), ("李\u3000明", "李 明")],
)
def test_what_looks_the_same_is_the_same_name(one, other):
    assert study_subjects.subject_id(one) == study_subjects.subject_id(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [("Anna", "Ana"), ("Straße", "Strasse"), ("Müller", "Muller"), ("m²", "m2"), ("a b", "a-b"), ("a/b", "a:b"), ("con", "con-"),
     ("👩🚀", "👩\u200d🚀"), ("🏴\U000e0067\U000e0062", "🏴\U000e0075\U000e0073"), ("x" * 5000, "x" * 5001), ("李", "王"), (".", "..")],
)  # fmt: skip
def test_different_names_never_share_a_file(one, other):
    assert study_subjects.subject_id(one) != study_subjects.subject_id(other)


_RESERVED = re.compile(r"(?i)(con|prn|aux|nul|com\d|lpt\d)(\..*)?$")


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=60), st.text(min_size=1, max_size=60))
def test_every_id_is_a_safe_file_name(one, other):
    ids = []
    for name in (one, other):
        try:
            ids.append(study_subjects.subject_id(name))
        except DpedError as error:
            assert "name" in str(error)
            return
    for subject in ids:
        assert re.fullmatch(r"[a-z0-9][a-z0-9_.-]*", subject) and len(subject) <= 40 and not _RESERVED.match(subject)
        assert study_subjects.subject_id(subject) == subject
    if re.fullmatch(r"[\x21-\x7e]+", one + other):
        assert (ids[0] == ids[1]) == (one.lower() == other.lower())


@pytest.mark.parametrize("name", ["", "  ", "\t\n", "\u3000", "\u200b", "\u3164"])
def test_an_empty_name_is_refused_in_a_subjects_words(store, name):
    with pytest.raises(DpedError, match="^Please type a nickname. Any word or number will do.$"):
        store.next(name)


def test_names_that_are_no_text(store):
    with pytest.raises(DpedError, match="did not arrive whole"):
        store.next("anna\ud83d")
    for wrong in (None, 7, True):
        with pytest.raises(DpedError, match="a name is text"):
            store.next(wrong)
