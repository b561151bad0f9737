"""The explorer that enhances photographs."""

import datetime
import json
import threading

import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from legible import smallest_text
from PIL import Image
from showing import inside

from dped_lib import models
from dped_lib.data import batches, network_files, picture
from dped_lib.explorers import enhancer
from dped_lib.report import figures


@pytest.fixture(scope="module")
def srcnn(tmp_path_factory):
    """A small network with random weights, in a file."""
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "small.safetensors"
    network_files.save_tensors(models.generator("srcnn").state_dict(), file, {"model": "srcnn"})
    return file


def uploaded(name: str, content: bytes) -> dict:
    """What a page sends of a file."""
    when = datetime.datetime.now(datetime.UTC)
    return {"name": name, "type": "", "size": len(content), "content": content, "last_modified": when}


def test_copies_of_what_ships_are_not_trained_here(tmp_path, monkeypatch):
    monkeypatch.setenv("DPED_RUNS", str(tmp_path))
    for name, known in (("copy", {"shipped": "rig-cpu/x"}), ("mine", {})):
        folder = tmp_path / "rig-cpu" / "train" / name
        folder.mkdir(parents=True)
        (folder / "model.safetensors").touch()
        (folder / "params.json").write_text(json.dumps(known))
    assert [w for w in enhancer.known_weights() if w.startswith(str(tmp_path))] == [
        str(tmp_path / "rig-cpu" / "train" / "mine" / "model.safetensors")
    ]


def test_an_uploaded_photograph_is_enhanced_with_all_that_belongs_to_it(photo, srcnn, tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "a maker"
    Image.fromarray(photo).save(tmp_path / "mine.jpg", exif=exif, quality=95)
    explorer = enhancer.Enhancer(("example", photo[:64, :64]), [str(srcnn)])
    content = (tmp_path / "mine.jpg").read_bytes()
    explorer.upload.value = (uploaded("mine.jpg", content),)
    assert f"mine.jpg: {photo.shape[1]} x {photo.shape[0]} pixels" in explorer.message.value
    explorer.run()
    explorer.work.wait(60)
    assert "enhanced by" in explorer.message.value and explorer.progress.value == 1
    given = picture.read(tmp_path / "mine.jpg").pixels
    with torch.no_grad():
        wanted = network_files.resolve(str(srcnn))(batches.to_float(torch.from_numpy(given[None])))[0].permute(1, 2, 0)
    assert np.abs(explorer.enhanced - wanted.numpy().clip(0, 1) * 255).max() < 3
    (tmp_path / "back.jpg").write_bytes(explorer.result)
    with Image.open(tmp_path / "back.jpg") as back:
        assert back.format == "JPEG" and back.getexif()[0x010F] == "a maker"
    assert 'download="mine-enhanced.jpg"' in explorer.download.value
    shown = [widget for widget in inside(explorer.widget) if "dped-before-after" in widget._dom_classes]
    assert len(shown) == 1 and not explorer.start.disabled


def test_enhancing_can_be_stopped(photo, srcnn, monkeypatch):
    explorer = enhancer.Enhancer(("big", np.tile(photo, (3, 3, 1))), [str(srcnn)])
    ticked, go = threading.Event(), threading.Event()
    real = enhancer.enhancement.Engine.__call__

    def slow(self, image, tick, how):
        def waiting(rows):
            ticked.set()
            go.wait(10)
            tick(rows)

        return real(self, image, waiting, how)

    monkeypatch.setattr(enhancer.enhancement.Engine, "__call__", slow)
    explorer.start.click()
    assert ticked.wait(30) and explorer.start.disabled and not explorer.stop.disabled
    explorer.stop.click()
    go.set()
    explorer.work.wait(30)
    assert "stopped" in explorer.message.value and explorer.enhanced is None and explorer.result == b""
    assert not explorer.start.disabled and explorer.stop.disabled


def test_what_is_wrong_with_a_photograph_or_weights_is_said(photo, srcnn, tmp_path):
    explorer = enhancer.Enhancer(("example", photo), [str(srcnn)])
    explorer.upload.value = (uploaded("../x/broken.jpg", b"abc"),)
    assert "broken.jpg: no image" in explorer.message.value and explorer.name == "example"
    explorer.path.value = str(tmp_path / "missing.png")
    assert "missing.png" in explorer.message.value and explorer.name == "example"
    explorer.weights.value = ""
    explorer.weights_file.value = str(tmp_path / "none.safetensors")
    explorer.run()
    explorer.work.wait(30)
    assert "no such file" in explorer.message.value and not explorer.start.disabled


def test_the_still_figure_enhances_the_example(photo, srcnn):
    fig = enhancer.Enhancer(("cat", photo), [str(srcnn)]).static()
    assert [ax.get_title() for ax in fig.axes] == ["original, zoom 4", "enhanced, zoom 4"]
    assert "small.safetensors" in fig.get_suptitle()
    quarter = tuple(n // 4 for n in photo.shape[:2])
    assert {ax.images[0].get_array().shape[:2] for ax in fig.axes} == {quarter}
    assert smallest_text(fig) >= figures.SMALLEST_TEXT and fig.get_figwidth() <= figures.WIDTH
    plt.close(fig)
