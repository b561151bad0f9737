"""The datasets: their cameras, and one of real photographs from the download to its scores."""

import pytest
from torch import nn

from dped_lib.base import datasets, presets, run_parameters
from dped_lib.base.errors import DpedError
from dped_lib.data import downloads, opening, photographs
from dped_lib.experiments import scores, training_runs


def test_city100_goes_through_the_whole_pipeline(mirror, runs, monkeypatch):
    """Fetched, aligned, cut, split; scored. Ten scenes, for time."""
    few = [k for k in downloads.keys("city100") if "/00" in k or "/010" in k]
    monkeypatch.setattr(downloads, "keys", lambda group: few if group == "city100" else ())
    store = opening.open_or_make("city100", "iphonex")
    assert store.alignment["photographs aligned"] == 10 and not store.skipped
    tried = store.alignment["windows tried"]
    assert tried == 10 * 35 and len(store) > 0.85 * tried
    assert [n["photographs"] for n in store.counts().values()] == [6, 2, 2]
    seen = photographs.scene("city100", "001H")
    assert seen["iphonex"].shape == (600, 840, 3) and seen["dslr"].shape == (870, 1218, 3)
    found, _ = scores.score_methods("2", store, {"original": nn.Identity()}, "test", presets.preset("smoke"), {})
    params = run_parameters.train_params(
        "city100", "iphonex", "dong", "smoke", iterations=4, eval_every=4, eval_pairs=4
    )
    trained = training_runs.train(params, store, training_runs.run_folder(params, "smoke"), "cpu")
    assert [line["iteration"] for line in trained.log() if "validation" in line] == [0, 4]
    assert found[0].published is None and 10 < found[0].psnr < 25
    assert "paper" not in found[0].text("psnr")


def test_a_dataset_has_its_own_cameras():
    assert datasets.first_phone("city100") == "iphonex" and datasets.first_phone("pirm") == "iphone"
    assert datasets.camera_name("city100", "dslr") == "Nikon D5500"
    assert datasets.camera_name("rig", "dslr") == "Canon 70D DSLR" and datasets.camera_name("own", "dslr") == "DSLR"
    for dataset, phones in datasets.DATASET_PHONES.items():
        for phone in phones:
            assert datasets.camera_name(dataset, phone)
    assert datasets.photograph_name("rig", "town-1/sony") == "town-1, Sony Xperia Z"
    assert datasets.photograph_name("pirm", "demo/iphone/2_0") == "demo/2_0, iPhone 3GS"
    assert datasets.photograph_name("city100", "056/dslr") == "056, Nikon D5500"
    assert datasets.photograph_name("own", "sony/phone") == "sony, phone"  # a user's photograph that is called sony
    assert datasets.photograph_name("pirm", "a name without a camera") == "a name without a camera"
    with pytest.raises(DpedError, match=r"dataset 'city100' has no iphone photographs, only iphonex"):
        datasets.check_phone("city100", "iphone")
    with pytest.raises(DpedError, match="dataset with photographs to align 'pirm'"):
        photographs.scene("pirm", "1")
