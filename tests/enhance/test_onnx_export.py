"""ONNX: what ONNX Runtime gives is what PyTorch gives, whole-image statistics and any size included."""

import itertools
import json
import os

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from torch import nn
from typer.testing import CliRunner

from dped_lib import models
from dped_lib.app import cli
from dped_lib.base.errors import DpedError
from dped_lib.data import network_files
from dped_lib.enhance import enhancement, onnx_export


@pytest.mark.parametrize("name", ["iphone", "srcnn", "resnet_8_32"])
def test_the_authors_networks(mirror, tmp_path, name):
    file = tmp_path / "net.onnx"
    done = CliRunner().invoke(cli.app, ["export", f"authors:{name}", str(file)])
    assert done.exit_code == 0, done.output
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    model = network_files.resolve(f"authors:{name}")
    # Sizes that the export has not seen; bands of one and of the other would have other statistics.
    x = torch.rand(1, 3, 150, 211)
    x[:, :, 75:] *= 0.2
    with torch.inference_mode():
        wanted = model(x).numpy()
    output = session.run(["enhanced"], {"image": x.numpy()})[0]
    assert np.abs(output - wanted).max() < 1e-4
    if name != "srcnn":
        half = session.run(["enhanced"], {"image": x.numpy()[:, :, :75]})[0]
        assert np.abs(half[:, :, :50] - wanted[:, :, :50]).max() > 0.01
    said = {p.key: p.value for p in onnx.load(file).metadata_props}
    assert said["network"] == f"authors:{name}" and said["fingerprint"] == network_files.fingerprint(model)


def test_batch_norm_exports_too(tmp_path):
    model = models.generator("dped", "paper")
    left = tmp_path / ".a.onnx.ab12cd34.part"  # by an earlier export that was killed
    left.mkdir()
    (left / ".dped-is-writing").touch()
    assert onnx_export.export(model, tmp_path / "a.onnx", {"params": {"seed": 1}}) < 1e-4
    said = {p.key: p.value for p in onnx.load(tmp_path / "a.onnx").metadata_props}
    assert json.loads(said.pop("params")) == {"seed": 1} and said == {"creator": "dped export"}
    assert not left.exists()


def test_a_wrong_file_name_or_network_is_refused(tmp_path):
    with pytest.raises(DpedError, match="ends in .onnx"):
        onnx_export.export(models.generator(), tmp_path / "a.pt", {})
    with pytest.raises(DpedError, match="do not enhance"):
        onnx_export.export(nn.Identity(), tmp_path / "a.onnx", {})


def test_where_it_does_not_write(tmp_path, monkeypatch):
    """Said before weights are looked for: there are none under this name."""

    def dped(*arguments) -> str:
        done = CliRunner().invoke(cli.app, ["export", "no-weights.safetensors", *map(str, arguments)])
        assert done.exit_code == 2 and isinstance(done.exception, SystemExit)
        return done.stderr

    (tmp_path / "folder.onnx").mkdir()
    assert f"{tmp_path}: is a folder. Name a file in it" in dped(tmp_path)
    assert "folder.onnx: is a folder. Name a file in it" in dped(tmp_path / "folder.onnx")
    (tmp_path / "mine.onnx").write_text("mine")
    assert "mine.onnx: exists and is kept" in dped(tmp_path / "mine.onnx")
    with pytest.raises(DpedError, match="mine.onnx: exists and is kept"):
        onnx_export.check_target(tmp_path / "no" / ".." / "mine.onnx")
    assert "cannot be made, because" in dped(tmp_path / "mine.onnx" / "sub" / "net.onnx")
    assert "no-weights.safetensors" in dped(tmp_path / "new.onnx", "--overwrite")
    assert (tmp_path / "mine.onnx").read_text() == "mine"


def test_only_an_earlier_export_is_overwritten(tmp_path):
    """Neither a file of another kind nor another program's network, whatever its name."""
    file, srcnn = tmp_path / "net.onnx", models.generator("srcnn")
    onnx_export.export(srcnn, file, {})
    (tmp_path / "text.onnx").write_text("mine")
    (tmp_path / "empty.onnx").touch()
    (tmp_path / "link.onnx").symlink_to(tmp_path / "nowhere")
    others = onnx.load(file)
    del others.metadata_props[:]
    onnx.save(others, tmp_path / "others.onnx")
    for name in ("text.onnx", "empty.onnx", "link.onnx", "others.onnx"):
        with pytest.raises(DpedError, match=f"{name}: exists and was not made by dped export, so --overwrite"):
            onnx_export.check_target(tmp_path / name, overwrite=True)
    made = file.stat().st_mtime_ns
    onnx_export.export(srcnn, file, {"network": "another"}, overwrite=True)
    assert file.stat().st_mtime_ns > made
    onnx.checker.check_model(onnx.load(file))


def test_a_pipe_or_a_file_of_gigabytes_is_no_export_and_is_not_read(tmp_path, monkeypatch, time_limit):
    os.mkfifo(tmp_path / "pipe.onnx")
    with open(tmp_path / "large.onnx", "wb") as file:
        file.truncate((1 << 30) + 1)
    (tmp_path / "device.onnx").symlink_to("/dev/null")
    load = onnx.load
    monkeypatch.setattr(
        onnx,
        "load",
        lambda f, **more: pytest.fail("is read") if f.name != "pipe.onnx" else load(f, **more),
    )
    for name in ("device.onnx", "large.onnx", "pipe.onnx"):
        with pytest.raises(DpedError, match=f"{name}: exists and was not made by dped export, so --overwrite"):
            onnx_export.check_target(tmp_path / name, overwrite=True)


@pytest.mark.parametrize(("last", "said"), [(0.01, "1.0e-02"), (float("nan"), "nan")])
def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch, last, said):
    """The difference shows at one of the checked sizes only, not at the first or the last."""
    run, calls = onnxruntime.InferenceSession.run, itertools.count()

    def differing(*arguments):
        return [run(*arguments)[0] + (last if next(calls) == 1 else 0)]

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", differing)
    with pytest.raises(DpedError, match=f"not written: ONNX Runtime differs from PyTorch by {said}"):
        onnx_export.export(models.generator("srcnn"), tmp_path / "a.onnx", {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("broken", ["weight", "statistic"])
def test_a_network_that_is_not_finite_is_neither_exported_nor_used(tmp_path, broken):
    model = models.generator("dped", "paper")  # its batch norm also has statistics, which are no parameters
    with torch.no_grad():
        (model.tail.weight if broken == "weight" else model.blocks[0].norm1.running_mean).view(-1)[0] = float("nan")
    with pytest.raises(DpedError, match="not finite. Train the network again"):
        onnx_export.export(model, tmp_path / "a.onnx", {})
    with pytest.raises(DpedError, match="not finite. Train the network again"):
        enhancement.engine(model, device="cpu")
    assert not list(tmp_path.iterdir())
