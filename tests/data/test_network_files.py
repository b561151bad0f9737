"""Networks by name and file: what is written is what is read, and another file is refused with a reason."""

import hashlib
import re

import pytest
import torch
from torch import nn

from dped_lib import models
from dped_lib.base.errors import DpedError
from dped_lib.data import authors_checkpoints, downloads, network_files

NETWORKS = [(name, variant) for name in models.GENERATORS for variant in ("code", "paper")]


def network(name: str, variant: str = "code", seed: int = 0) -> nn.Module:
    """Weights and running statistics away from where they start, in the layout that training leaves them in."""
    torch.manual_seed(seed)
    model = models.generator(name, variant).to(memory_format=torch.channels_last)
    with torch.no_grad():
        for value in model.state_dict().values():
            value.copy_(torch.rand_like(value) if value.is_floating_point() else torch.tensor(7))
    return model


def save(net: nn.Module, file, **metadata: str) -> None:
    network_files.save_tensors(net.state_dict(), file, metadata)


@pytest.mark.parametrize(("name", "variant"), NETWORKS)
def test_round_trip(tmp_path, name, variant):
    model = network(name, variant)
    save(model, tmp_path / "model.safetensors", model=name, variant=variant)
    loaded = network_files.load_model(tmp_path / "model.safetensors")
    assert not loaded.training
    assert network_files.fingerprint(loaded) == network_files.fingerprint(model)
    image = torch.rand(1, 3, 20, 24)
    with torch.inference_mode():
        assert torch.allclose(loaded(image), model.eval()(image), atol=1e-5)


@pytest.mark.parametrize("params", ["{", "[]", "null", "{}", '{"seed": "x"}', '{"seed": -1}'])
def test_a_network_that_does_not_describe_its_training_is_refused(tmp_path, params):
    model = network("srcnn")
    save(model, tmp_path / "model.safetensors", model="srcnn", params=params)
    with pytest.raises(DpedError, match=r"model\.safetensors: the metadata 'params' is not that of a training"):
        network_files.describe(str(tmp_path / "model.safetensors"), model)


def test_an_unknown_home_is_no_file():
    with pytest.raises(DpedError, match="weights '~nobody99/x': no such file"):
        network_files.resolve("~nobody99/x")


def test_every_bit_survives(tmp_path):
    """Infinities, NaN with its payload, negative zero, the smallest numbers; integers; scalars; any memory layout."""
    bits = torch.tensor([0x7F800000, 0x7FC01234, -0x80000000, 1, 0x3F800000], dtype=torch.int32)
    tensors = {
        "float": bits.view(torch.float32),
        "scalar": torch.tensor(3),
        "half": torch.ones(2, dtype=torch.bfloat16),
    }
    tensors["last"] = torch.rand(2, 3, 4, 5).to(memory_format=torch.channels_last)
    network_files.save_tensors(tensors, tmp_path / "x.safetensors", {"what": "ünïcode"})
    loaded, metadata = network_files.load_tensors(tmp_path / "x.safetensors")
    assert metadata == {"what": "ünïcode"}
    assert loaded["float"].view(torch.int32).tolist() == bits.tolist()
    assert all(torch.equal(loaded[k], v) and loaded[k].dtype == v.dtype for k, v in tensors.items() if k != "float")


def test_a_failed_write_leaves_the_old_file(tmp_path):
    file = tmp_path / "x.safetensors"
    network_files.save_tensors({"a": torch.ones(3)}, file, {})
    with pytest.raises(TypeError):
        network_files.save_tensors({"a": torch.zeros(3)}, file, {"metadata is text": 1})
    assert torch.equal(network_files.load_tensors(file)[0]["a"], torch.ones(3))
    assert [f.name for f in tmp_path.iterdir()] == ["x.safetensors"]


def test_damaged_files_are_refused(tmp_path):
    file = tmp_path / "model.safetensors"
    save(network("srcnn"), file, model="srcnn", variant="code")
    whole = file.read_bytes()
    for damaged in (b"", whole[:5], whole[:200], whole[:-1], whole + b"x", b"\xff" * 64, b"GIF89a" * 20):
        file.write_bytes(damaged)
        with pytest.raises(DpedError, match=rf"{re.escape(str(file))}: damaged, or not a safetensors file"):
            network_files.load_model(file)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(DpedError, match=r"none\.safetensors: not found"):
        network_files.load_model(tmp_path / "none.safetensors")


def test_files_of_others_are_refused(tmp_path):
    file = tmp_path / "theirs.safetensors"
    state = network("srcnn").state_dict()
    for metadata, message in (
        ({}, "does not say which network it holds"),
        (
            {"model": "unet"},
            "theirs.safetensors: not the weights of network 'unet': unknown model 'unet'; allowed: dped, srcnn, resnet_8_32",
        ),
        ({"model": "srcnn", "variant": "v2"}, "theirs.safetensors: .* unknown variant 'v2'"),
        ({"model": "dped"}, r"theirs.safetensors: not the weights of network 'dped': .*Missing key"),
    ):
        network_files.save_tensors(state, file, metadata)
        with pytest.raises(DpedError, match=f"(?s){message}"):
            network_files.load_model(file)
    network_files.save_tensors({**state, "extra": torch.ones(1)}, file, {"model": "srcnn"})
    with pytest.raises(DpedError, match="Unexpected key"):
        network_files.load_model(file)


def test_a_name_or_path_gives_a_network_and_other_words_list_the_names(tmp_path, monkeypatch):
    assert isinstance(network_files.resolve("identity"), nn.Identity)
    save(network("resnet_8_32"), tmp_path / "mine.safetensors", model="resnet_8_32", variant="code")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert isinstance(network_files.resolve("~/mine.safetensors"), models.Generator)
    for wrong in ("iphone", str(tmp_path), "code", "Identity"):
        with pytest.raises(
            DpedError,
            match=rf"weights '{re.escape(wrong)}': no such file, and not one of authors:iphone, .*, identity",
        ):
            network_files.resolve(wrong)
    with pytest.raises(DpedError, match="unknown authors' weights 'iphon'; allowed: .* Did you mean 'iphone'?"):
        network_files.resolve("authors:iphon")


def test_a_result_can_say_which_network_it_used(tmp_path):
    model = network("srcnn")
    said = {"model": "srcnn", "variant": "code", "vgg": "Oxford", "params": '{"seed": 3}'}
    network_files.save_tensors(model.state_dict(), tmp_path / "net.safetensors", said)
    description = network_files.describe(str(tmp_path / "net.safetensors"), model)
    assert description["vgg"] == "Oxford" and description["params"] == {"seed": 3}
    assert description["fingerprint"] == network_files.fingerprint(model)
    assert set(network_files.describe("identity", network_files.resolve("identity"))) == {"network", "fingerprint"}


def test_only_equal_weights_have_equal_fingerprints():
    """Equal for equal bits whatever the memory layout; another for another bit, name or network."""
    one = network_files.fingerprint(network("resnet_8_32"))
    assert re.fullmatch("[0-9a-f]{16}", one)
    assert network_files.fingerprint(network("resnet_8_32").to(memory_format=torch.contiguous_format)) == one
    assert network_files.fingerprint(network("resnet_8_32", seed=1)) != one
    for name, variant in NETWORKS:
        if name != "resnet_8_32":
            assert network_files.fingerprint(network(name, variant)) != one
    moved = network("resnet_8_32")
    with torch.no_grad():
        first = moved.head.bias[0]
        first.copy_(torch.nextafter(first, torch.tensor(2.0)))
    assert network_files.fingerprint(moved) != one
    # Running statistics are part of a network.
    batch = network("dped", "paper")
    before = network_files.fingerprint(batch)
    batch.blocks[0].norm1.num_batches_tracked += 1
    assert network_files.fingerprint(batch) != before


def test_a_file_in_the_place_of_the_authors_network_is_kept(mirror, tmp_path):
    target = tmp_path / "srcnn.safetensors"
    target.write_bytes(b"the user's own")
    with pytest.raises(DpedError, match="srcnn.safetensors: is there and holds something else"):
        network_files.save_authors("srcnn", target)
    assert target.read_bytes() == b"the user's own"
    target.unlink()
    assert network_files.save_authors("srcnn", target)
    stamp = target.stat().st_mtime_ns
    assert not network_files.save_authors("srcnn", target)
    assert target.stat().st_mtime_ns == stamp


@pytest.mark.parametrize("name", authors_checkpoints.AUTHORS_NETWORKS)
def test_the_authors_networks_as_safetensors(mirror, tmp_path, name):
    target = tmp_path / "deep" / f"{name}.safetensors"
    network_files.save_authors(name, target)
    loaded = network_files.load_model(target)
    assert (
        network_files.fingerprint(loaded)
        == network_files.fingerprint(authors_checkpoints.load_network(name))
        == network_files.fingerprint(network_files.resolve(f"authors:{name}"))
    )
    _, metadata = network_files.load_tensors(target)
    assert set(metadata) == {"model", "variant", "origin", "sha256"}
    assert metadata["model"] == authors_checkpoints.AUTHORS_NETWORKS[name].model
    key, commit = metadata["origin"].split(" @ ")
    assert re.fullmatch("[0-9a-f]{40}", commit)
    assert commit in downloads.COMMITS.values()
    shard = mirror / f"{key}.data-00000-of-00001"
    assert hashlib.sha256(shard.read_bytes()).hexdigest() == metadata["sha256"]
