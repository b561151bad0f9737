"""Places for answers of a test's own."""

import pytest
from studies import PICTURES, QUESTIONS
from synthetic import SCENES, write_study

from dped_lib.user_study import answers as study_answers
from dped_lib.user_study import pictures as study_pictures
from dped_lib.user_study import questions as study_questions


@pytest.fixture
def store(tmp_path):
    return study_answers.AnswerStore(tmp_path / "answers", PICTURES, QUESTIONS)


@pytest.fixture
def small(tmp_path):
    scenes = {
        "sony": {c: SCENES for c in study_questions.KINDS["phone"]},
        "enhancers": {c: SCENES for c in ("automatic", "enhanced")},
    }
    pictures = study_pictures.open_folder(write_study(tmp_path / "mine", scenes))
    return pictures, study_answers.AnswerStore(tmp_path / "answers", pictures.digest, pictures.questions)
