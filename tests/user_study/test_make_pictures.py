"""The study's pictures of a dataset, made once."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from dped_lib import models
from dped_lib.alignment import aligner
from dped_lib.base import datasets
from dped_lib.base.errors import DpedError
from dped_lib.data import photographs
from dped_lib.enhance import enhancement
from dped_lib.experiments import baselines
from dped_lib.user_study import make_pictures
from dped_lib.user_study import questions as study_questions


def mean_of_a_neighbourhood() -> models.SRCNN:
    """A network that averages 17 x 17 pixels. Its zero padding darkens a rim of 8 pixels."""
    network = models.SRCNN().eval()
    for layer in (network.conv1, network.conv2, network.conv3):
        torch.nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
        if layer.bias is not None:
            torch.nn.init.zeros_(layer.bias)
    torch.nn.init.zeros_(network.shared_bias)
    return network


def test_pictures_of_the_rig_are_made_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    networks = {"iphone": mean_of_a_neighbourhood()}
    monkeypatch.setattr(make_pictures, "held_out_scenes", lambda *_: ("chelsea-a",))
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
    assert {i.shape for i in images.values()} == {(400 - 16, 540 - 16, 3)}
    frames = photographs.scene("rig", "chelsea-a")
    aligned = aligner.align(frames["iphone"], frames["dslr"], (400, 540))
    inside = np.s_[8:-8, 8:-8]
    assert (images["iphone", "original"] == aligned.phone[inside]).all()
    assert (images["iphone", "dslr"] == aligned.dslr[inside]).all()
    stretched = baselines.auto_contrast(aligned.phone)
    assert (images["enhancers", "automatic"] == stretched[inside]).all(), "the stand-in of Table 2"
    assert (images["enhancers", "enhanced"] == images["iphone", "enhanced"]).all()
    enhance = enhancement.engine(networks["iphone"], "float32", "cpu")
    enhanced = enhance(aligned.phone)
    assert (images["iphone", "enhanced"] == enhanced[inside]).all()
    framed = enhance(np.pad(aligned.phone, ((8, 8), (8, 8), (0, 0)), mode="reflect"))[8:-8, 8:-8]
    assert (enhanced[0] < framed[0]).all(), "zeros beyond the border darken it"
    assert (images["iphone", "enhanced"] == framed[inside]).all(), "no rim: as inside of a larger photograph"

    before = (pictures.folder / "made.json").stat().st_mtime_ns
    assert make().digest == pictures.digest
    assert (pictures.folder / "made.json").stat().st_mtime_ns == before
    old = {f: f.read_bytes() for f in pictures.files.values()}
    by_hand = tmp_path / "by-hand"
    by_hand.mkdir()
    with pytest.raises(DpedError, match="no photographs in it"):
        make(by_hand)
    picture = by_hand / "chelsea-a.png"
    Image.new("RGB", (270, 200)).save(picture)
    with pytest.raises(DpedError, match=r"chelsea-a.png: 270 x 200 pixels, the study's original has 524 x 384"):
        make(by_hand)
    retouched = np.random.default_rng(0).integers(0, 256, (400, 540, 3), np.uint8)
    for image in (retouched, retouched[inside]):
        Image.fromarray(image).save(picture)
        full = make(by_hand)
        assert len(full.questions) == 6 and full.digest != pictures.digest
        assert (full.read(("enhancers", "manual", "chelsea-a")) == retouched[inside]).all(), "the border is cut once"
    assert {f: f.read_bytes() for f in pictures.files.values()} == old, (
        "pictures that people may have answered about stay"
    )
    assert make().digest == pictures.digest
    (pictures.folder / "made.json").write_text("{}")
    with pytest.raises(DpedError, match="holds other pictures than this study's"):
        make()
    Image.new("RGB", (540, 400)).save(by_hand / "other.png")
    picture.unlink()
    with pytest.raises(DpedError, match="no retouched picture of chelsea-a"):
        make(by_hand)


def test_every_set_loses_the_border_of_the_widest_network(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_RUNS", str(tmp_path / "runs"))
    networks = {"iphone": mean_of_a_neighbourhood(), "sony": models.generator("resnet_8_32", norm="batch").eval()}
    pictures = make_pictures.make("rig", "smoke", networks, ["chelsea-a"], {})
    assert {pictures.read(key).shape for key in pictures.files} == {(400 - 28, 540 - 28, 3)}


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
    assert make_pictures.held_out_scenes("city100", "smoke") == held
    assert make_pictures.held_out_scenes("city100", "smoke", 3) == held[:3]
    with pytest.raises(DpedError, match="holds out 8 upright scenes, the study needs 9. Ask for 8 or fewer"):
        make_pictures.held_out_scenes("city100", "smoke", 9)
    eight_held_out.index = lambda split: []
    with pytest.raises(DpedError, match="holds out no scene"):
        make_pictures.held_out_scenes("city100", "smoke")


def test_scenes_that_lie_on_their_side_are_not_asked_about(eight_held_out):
    eight_held_out.names[2] = "047H/0"
    upright = tuple(f"shot-{i}" for i in (1, 3, 4, 5, 6, 7, 8))
    assert make_pictures.held_out_scenes("city100", "smoke") == upright
    assert make_pictures.held_out_scenes("city100", "smoke", 4) == upright[:4], "the next scene takes the place"
    with pytest.raises(DpedError, match="holds out 7 upright scenes, the study needs 8"):
        make_pictures.held_out_scenes("city100", "smoke", 8)


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
