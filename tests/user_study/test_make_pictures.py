"""The study's pictures of a dataset, made once."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from dped_lib import models
from dped_lib.base import datasets
from dped_lib.base.errors import DpedError
from dped_lib.enhance import photographs as enhancement
from dped_lib.experiments import baselines
from dped_lib.user_study import make_pictures
from dped_lib.user_study import questions as study_questions


def test_pictures_of_the_rig_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    networks = {"iphone": models.generator("srcnn").eval()}
    monkeypatch.setattr(make_pictures, "held_out", lambda *_: ("chelsea-a",))
    monkeypatch.setattr(make_pictures, "enhancing_network", lambda *_, **__: networks["iphone"])
    monkeypatch.setattr(datasets, "DATASET_PHONES", {"rig": ("iphone",)})

    def make(manual=""):
        return make_pictures.open_or_make("rig", "smoke", manual=manual)

    pictures = make()
    assert pictures.count == 1
    assert {(s, c) for s, c, _ in pictures.files} == {
        *(("iphone", c) for c in study_questions.KINDS["phone"]),
        ("enhancers", "automatic"),
        ("enhancers", "enhanced"),
    }
    images = {(s, c): np.asarray(Image.open(f)) for (s, c, _), f in pictures.files.items()}
    original = images["iphone", "original"]
    assert {i.shape for i in images.values()} == {(400, 540, 3)}
    assert (images["iphone", "enhanced"] == enhancement.engine(networks["iphone"], "float32", "cpu")(original)).all()
    assert (images["enhancers", "automatic"] == baselines.auto_contrast(original)).all(), "the stand-in of Table 2"
    before = (pictures.folder / "made.json").stat().st_mtime_ns
    assert make().digest == pictures.digest
    assert (pictures.folder / "made.json").stat().st_mtime_ns == before
    old = {f: f.read_bytes() for f in pictures.files.values()}
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    with pytest.raises(DpedError, match="no photographs in it"):
        make(by_hand)
    Image.new("RGB", (540, 400)).save(by_hand / "chelsea-a.png")
    full = make(by_hand)
    assert len(full.questions) == 6 and full.digest != pictures.digest
    assert {f: f.read_bytes() for f in pictures.files.values()} == old, (
        "pictures that people may have answered about stay"
    )
    assert make().digest == pictures.digest
    (pictures.folder / "made.json").write_text("{}")
    with pytest.raises(DpedError, match="holds other pictures than this study's"):
        make()
    Image.new("RGB", (540, 400)).save(by_hand / "other.png")
    (by_hand / "chelsea-a.png").unlink()
    with pytest.raises(DpedError, match="no retouched picture of chelsea-a"):
        make(by_hand)


@pytest.fixture
def eight_held_out(monkeypatch):
    """A dataset whose store holds out eight scenes, one of them photographed twice: six to test, two to validate."""
    names = [f"shot-{i}/0" for i in range(9)] + ["shot-8-again/0"]
    store = SimpleNamespace(
        names=names,
        photographs=np.array([*(f"shot-{i}" for i in range(9)), "shot-8"]),
        index=lambda split: {"test": range(1, 7), "val": range(7, 9)}[split],
    )
    monkeypatch.setattr(make_pictures.opening, "open_or_make", lambda *_: store)
    return store


def test_a_dataset_asks_about_nine_scenes_or_as_many_as_it_holds_out(eight_held_out):
    held = tuple(f"shot-{i}" for i in range(1, 9))
    assert make_pictures.held_out("city100", "smoke") == held
    assert make_pictures.held_out("city100", "smoke", 3) == held[:3]
    with pytest.raises(DpedError, match="holds out 8 scenes, the study needs 9. Ask for 8 or fewer"):
        make_pictures.held_out("city100", "smoke", 9)
    eight_held_out.index = lambda split: []
    with pytest.raises(DpedError, match="holds out no scene"):
        make_pictures.held_out("city100", "smoke")


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"dataset": "pirm"}, "dataset 'pirm' has no whole aligned photographs"),
        ({"preset": "large"}, "unknown preset 'large'"),
        ({"scenes": 9}, "Ask for 8 or fewer"),
        ({"scenes": -1}, "must not be negative"),
        ({"manual": "nowhere"}, "nowhere"),
    ],
)
def test_a_study_that_cannot_be_made_is_refused_before_anything_is_trained(eight_held_out, monkeypatch, asked, message):
    monkeypatch.setattr(make_pictures, "enhancing_network", lambda *_, **__: pytest.fail("trained first"))
    with pytest.raises(DpedError, match=message):
        make_pictures.open_or_make(**{"dataset": "city100", "preset": "smoke", **asked})
