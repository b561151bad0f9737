"""Networks that ship: a finished run for every training, checked by sha256, and never in the place of the user's own."""

import dataclasses
import json
import re

import pytest
import torch
from small import make_store, settings
from torch import nn

from dped_lib import models, training
from dped_lib.base.errors import DpedError
from dped_lib.data import experiment_results, network_files, pair_store, shipped_registry, shipped_runs, shipping
from dped_lib.experiments import training_runs
from dped_lib.explorers import loss_terms

SCORES = {"psnr": 20.0, "ms_ssim": 0.9, "protocol": "train_script"}
PARAMS = settings("mse", iterations=2, eval_every=1)
NAME = "rig-iphone-mse-resnet_8_32"
#: With a discriminator.
TEXTURE = settings("mse+texture", iterations=1, eval_every=1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    return make_store(tmp_path_factory.mktemp("store") / "patches")


@pytest.fixture(scope="module")
def finished(store, tmp_path_factory):
    """A run that was trained here."""
    return training_runs.train(PARAMS, store, tmp_path_factory.mktemp("runs") / "run", "cpu")


@pytest.fixture(scope="module")
def finished_texture(store, tmp_path_factory):
    return training_runs.train(TEXTURE, store, tmp_path_factory.mktemp("runs") / "run", "cpu")


@pytest.fixture
def package(tmp_path, monkeypatch):
    """A package in which nothing ships yet."""
    monkeypatch.setattr(shipped_runs, "FOLDER", tmp_path / "package" / "shipped")
    monkeypatch.setattr(shipping, "with_discriminator", lambda params: True)
    return shipped_runs.FOLDER


@pytest.fixture
def shipped(package, store, finished):
    return shipping.pack(finished.folder, store, "cpu", SCORES)


@pytest.fixture
def no_training(monkeypatch):
    monkeypatch.setattr(training.Trainer, "step", lambda _: pytest.fail("it was trained"))


def files_of(folder):
    """The content of every file. That of safetensors is parsed: the order of their metadata is not fixed."""
    contents = {f.name: f.read_bytes() for f in folder.iterdir()}
    for name in (n for n in contents if n.endswith(".safetensors")):
        tensors, metadata = network_files.load_tensors(folder / name)
        contents[name] = ({key: (value.dtype, value.tolist()) for key, value in tensors.items()}, metadata)
    return contents


# ---------------------------------------------------------------------------------------------- half the size


def test_weights_of_half_the_size_are_the_same_to_three_digits():
    torch.manual_seed(0)
    for name in models.GENERATORS:
        for variant in ("code", "paper"):
            tensors = models.generator(name, variant).state_dict()
            small = shipping.compact(tensors)
            assert all(v.dtype == torch.float16 for k, v in small.items() if tensors[k].is_floating_point())
            full = shipping.expand(small)
            assert list(full) == list(tensors) and all(full[k].dtype == v.dtype for k, v in tensors.items())
            for key, value in tensors.items():
                if (
                    value.is_floating_point()
                ):  # float16 has eleven significant bits above 2^-14, and steps of 2^-24 below
                    assert ((full[key] - value).abs() <= value.abs() * 2**-11 + 2**-25).all(), key
                else:
                    assert torch.equal(full[key], value)


def test_a_large_matrix_has_256_levels_a_row():
    torch.manual_seed(0)
    matrix = torch.randn(500, 2500) * torch.logspace(-3, 3, 500)[:, None]
    matrix[7] = 0
    small = shipping.compact({"fc.weight": matrix, "fc.bias": torch.ones(500)})
    assert small["fc.weight"].dtype == torch.int8 and small["fc.bias"].dtype == torch.float16
    full = shipping.expand(small)
    assert list(full) == ["fc.weight", "fc.bias"]
    assert ((full["fc.weight"] - matrix).abs() <= matrix.abs().amax(1, keepdim=True) / 127 * 0.5001).all()


def test_a_weight_beyond_float16_does_not_ship():
    with pytest.raises(DpedError, match="weight a is beyond the range of float16"):
        shipping.compact({"a": torch.tensor([65520.0])})


# ---------------------------------------------------------------------------------------------- a finished run


def test_a_run_that_ships_is_a_finished_run(shipped, store, finished, no_training, tmp_path, capsys):
    assert shipped.name == NAME and shipped_runs.of_params(PARAMS) == shipped
    result = training_runs.train(PARAMS, store, tmp_path / "mine", "cpu")
    assert (result.origin, finished.origin) == (f"shipped:{NAME}", "trained here")
    assert result.vgg_label == finished.vgg_label
    for key, value in finished.model.state_dict().items():
        assert result.model.state_dict()[key].dtype == torch.float32
        assert torch.equal(result.model.state_dict()[key], value.half().float())
    lines, original = result.log(), finished.log()
    assert [line["iteration"] for line in lines] == [line["iteration"] for line in original] == [0, 1, 1, 2, 2]
    for line, was in zip(lines, original, strict=True):
        flat, flat_was = (
            {**x.get("validation", {}), **{k: v for k, v in x.items() if k != "validation"}} for x in (line, was)
        )
        assert flat == pytest.approx(flat_was, rel=1e-5)
    assert capsys.readouterr().err == ""
    before = files_of(tmp_path / "mine")
    assert set(before) == {"log.jsonl", "model.safetensors", "params.json"}
    again = training_runs.train(PARAMS, store, tmp_path / "mine", "cpu")
    assert again.origin == result.origin and files_of(tmp_path / "mine") == before
    another = training_runs.finished_run(PARAMS, store, tmp_path / "another")
    assert another.origin == result.origin and files_of(tmp_path / "another") == before


def test_what_has_yet_to_be_trained_is_not_finished(shipped, store, tmp_path):
    assert training_runs.finished_run(dataclasses.replace(PARAMS, seed=9), store, tmp_path / "none") is None
    assert not (tmp_path / "none").exists()


def test_explorers_read_it_with_its_discriminator(package, store, finished_texture, no_training, tmp_path):
    shipping.pack(finished_texture.folder, store, "cpu", SCORES)
    result = training_runs.train(TEXTURE, store, tmp_path / "mine", "cpu")
    assert set(files_of(result.folder)) == {
        "discriminator.safetensors",
        "log.jsonl",
        "model.safetensors",
        "params.json",
    }
    terms, was = (loss_terms.LossTerms(r.folder, store).terms for r in (result, finished_texture))
    assert set(terms) == set(was) >= {"texture", "mse"}
    assert terms == pytest.approx(was, rel=0.02)


def test_one_without_a_discriminator_lacks_only_the_texture_term(
    package, store, finished_texture, tmp_path, monkeypatch
):
    monkeypatch.setattr(shipping, "with_discriminator", lambda params: False)
    shipping.pack(finished_texture.folder, store, "cpu", SCORES)
    explorer = loss_terms.LossTerms(training_runs.train(TEXTURE, store, tmp_path / "mine", "cpu").folder, store)
    assert "mse" in explorer.terms and "texture" not in explorer.terms
    assert "no discriminator was kept" in explorer.summary()


@pytest.mark.parametrize("left", [["params.json"], ["params.json", "log.jsonl"]])
def test_a_copy_that_was_cut_short_is_completed(shipped, store, no_training, tmp_path, left):
    training_runs.train(PARAMS, store, tmp_path / "mine", "cpu")
    whole = files_of(tmp_path / "mine")
    for name in set(whole) - set(left):
        (tmp_path / "mine" / name).unlink()
    training_runs.train(PARAMS, store, tmp_path / "mine", "cpu")
    assert files_of(tmp_path / "mine") == whole


def test_other_parameters_are_trained(shipped, store, tmp_path):
    result = training_runs.train(dataclasses.replace(PARAMS, seed=1, iterations=1), store, tmp_path / "mine", "cpu")
    assert result.origin == "trained here"


def test_a_file_that_is_not_the_registered_one_is_refused(shipped, store, tmp_path):
    for name in shipped.files:
        file = shipped.folder / name
        content = file.read_bytes()
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        message = rf"{re.escape(str(file))}: not the file that was shipped .* or train anew with DPED_FRESH=1"
        with pytest.raises(DpedError, match=message):
            training_runs.train(PARAMS, store, tmp_path / "mine", "cpu")
        if name == shipped_runs.MODEL:
            with pytest.raises(DpedError, match=message):
                network_files.resolve(f"shipped:{NAME}")
        assert not (tmp_path / "mine").exists()
        file.write_bytes(content)
    (shipped.folder / shipped_runs.MODEL).unlink()
    with pytest.raises(DpedError, match="cannot be read"):
        network_files.resolve(f"shipped:{NAME}")


# ---------------------------------------------------------------------------------------------- the user's own runs


def test_a_run_of_the_user_stays(package, store, finished, no_training, tmp_path):
    own = dataclasses.replace(PARAMS)
    training_runs.train(own, store, finished.folder, "cpu")
    before = files_of(finished.folder)
    shipping.pack(finished.folder, store, "cpu", SCORES)
    assert training_runs.train(own, store, finished.folder, "cpu").origin == "trained here"
    assert files_of(finished.folder) == before


def test_an_interrupted_run_of_the_user_goes_on(package, store, finished, tmp_path, monkeypatch):
    params = dataclasses.replace(PARAMS, checkpoint_every=1)
    run = training_runs.train(params, store, tmp_path / "to ship", "cpu")
    shipping.pack(run.folder, store, "cpu", SCORES)
    step, taken = training.Trainer.step, []

    def pulled(trainer):
        if taken:
            raise RuntimeError("pulled plug")
        taken.append(1)
        return step(trainer)

    monkeypatch.setenv(shipped_runs.FRESH, "1")
    monkeypatch.setattr(training.Trainer, "step", pulled)
    with pytest.raises(RuntimeError, match="pulled plug"):
        training_runs.train(params, store, tmp_path / "mine", "cpu")
    monkeypatch.delenv(shipped_runs.FRESH)
    monkeypatch.setattr(training.Trainer, "step", step)
    result = training_runs.train(params, store, tmp_path / "mine", "cpu")
    assert result.origin == "trained here"
    assert network_files.fingerprint(result.model) == network_files.fingerprint(finished.model)


def test_fresh_trains_anew_and_keeps_what_was_trained_here(shipped, store, finished, tmp_path, monkeypatch):
    assert training_runs.train(PARAMS, store, tmp_path / "mine", "cpu").origin == f"shipped:{NAME}"
    monkeypatch.setenv(shipped_runs.FRESH, "1")
    fresh = training_runs.train(PARAMS, store, tmp_path / "mine", "cpu")
    assert fresh.origin == "trained here"
    assert network_files.fingerprint(fresh.model) == network_files.fingerprint(finished.model)
    before = files_of(tmp_path / "mine")
    monkeypatch.setattr(training.Trainer, "step", lambda _: pytest.fail("it was trained again"))
    training_runs.train(PARAMS, store, tmp_path / "mine", "cpu")
    monkeypatch.delenv(shipped_runs.FRESH)
    assert training_runs.train(PARAMS, store, tmp_path / "mine", "cpu").origin == "trained here"
    assert files_of(tmp_path / "mine") == before


# ---------------------------------------------------------------------------------------------- other pairs


def other(store, folder, phone=0, **meta):
    """The same photographs and splits; pixels and the description of the store may differ."""
    made = make_store(folder)
    description = {**made.meta, **meta}
    (folder / "meta.json").write_text(json.dumps(description))
    if phone:
        pixels = made.phone.copy()
        pixels[0, 0, 0, 0] ^= phone
        with open(folder / "phone.npy", "r+b") as file:
            file.seek(128)
            file.write(pixels.tobytes())
    return pair_store.PairStore(folder)


def test_slightly_other_pairs_are_said_and_used(shipped, store, no_training, tmp_path, capsys):
    pairs = other(store, tmp_path / "pairs", phone=1)
    assert pairs.digest != store.digest
    assert training_runs.train(PARAMS, pairs, tmp_path / "mine", "cpu").origin == f"shipped:{NAME}"
    said = capsys.readouterr().err
    assert said.startswith(f"shipped:{NAME} was trained on slightly other pairs of the same photographs (digest ")
    assert (
        said.count("\n") == 1 and store.digest in said and pairs.digest in said and "DPED_FRESH=1 trains anew" in said
    )
    training_runs.train(PARAMS, pairs, tmp_path / "mine", "cpu")
    assert capsys.readouterr().err == ""


def test_pairs_of_another_source_are_trained_on(shipped, store, tmp_path, capsys):
    pairs = other(store, tmp_path / "pairs", origin="somebody's")
    assert training_runs.train(PARAMS, pairs, tmp_path / "mine", "cpu").origin == "trained here"
    assert capsys.readouterr().err.count(f"shipped:{NAME} is not used: it was trained on ''") == 1, "told once"


def test_a_network_that_has_seen_what_is_held_out_is_not_used(shipped, store, tmp_path, capsys):
    swapped = [
        "train" if split == "val" else "val" if i % 2 else "train" for i, split in enumerate(store.meta["splits"])
    ]
    pairs = other(store, tmp_path / "pairs", splits=swapped)
    assert training_runs.train(PARAMS, pairs, tmp_path / "mine", "cpu").origin == "trained here"
    assert "it was trained on photographs that are held out in" in capsys.readouterr().err
    # A copy that is there already is refused as well.
    training_runs.train(PARAMS, store, tmp_path / "copy", "cpu")
    with pytest.raises(
        DpedError, match="holds a copy of a network that ships with the package, and it was trained on photographs"
    ):
        training_runs.train(PARAMS, pairs, tmp_path / "copy", "cpu")


# ---------------------------------------------------------------------------------------------- what may ship


def test_what_cannot_ship(package, shipped, store, finished, tmp_path):
    with pytest.raises(DpedError, match=r"nothing/params\.json: missing, so this is no training run"):
        shipping.pack(tmp_path / "nothing", store, "cpu", SCORES)
    pairs = other(store, tmp_path / "pairs", phone=1)
    with pytest.raises(DpedError, match="was trained on other pairs"):
        shipping.pack(finished.folder, pairs, "cpu", SCORES)
    copy = training_runs.train(PARAMS, store, tmp_path / "mine", "cpu").folder
    with pytest.raises(DpedError, match=f"a copy of shipped:{re.escape(NAME)}, which ships already"):
        shipping.pack(copy, store, "cpu", SCORES)
    described = json.loads((finished.folder / "params.json").read_text())
    described["params"] |= {"dataset": "pirm"}
    (tmp_path / "theirs").mkdir()
    (tmp_path / "theirs" / "params.json").write_text(json.dumps(described))
    with pytest.raises(DpedError, match="networks of dataset 'pirm' do not ship. Its photographs carry no licence"):
        shipping.pack(tmp_path / "theirs", store, "cpu", SCORES)
    del described["pairs"]
    (tmp_path / "theirs" / "params.json").write_text(json.dumps(described))
    with pytest.raises(DpedError, match=r"theirs/params\.json: damaged"):
        shipping.pack(tmp_path / "theirs", store, "cpu", SCORES)
    assert list(shipped_runs.runs()) == [NAME]


def test_a_damaged_registry_is_named_with_the_remedy(package):
    registry = shipped_runs.FOLDER / shipped_runs.REGISTRY
    registry.parent.mkdir(parents=True, exist_ok=True)
    registry.write_text("{")
    with pytest.raises(DpedError, match=rf"{re.escape(str(registry))}: damaged .* or train anew with DPED_FRESH=1"):
        shipped_runs.runs()


def test_a_further_run_leaves_the_others_as_they_are(package, shipped, store, finished, tmp_path):
    params = dataclasses.replace(PARAMS, seed=1, iterations=1)
    second = training_runs.train(params, store, tmp_path / "second", "cpu")
    shipping.pack(second.folder, store, "cpu", SCORES)
    assert list(shipped_runs.runs()) == [NAME, f"{NAME}-s1"]
    assert shipped_runs.runs()[NAME] == shipped
    assert shipped_runs.of_params(params).name == f"{NAME}-s1"
    # The same run gives the same files.
    before = files_of(shipped.folder)
    shipping.pack(finished.folder, store, "cpu", SCORES)
    assert files_of(shipped.folder) == before


def test_the_name_of_a_run_leaves_out_the_defaults():
    names = [shipped_runs.name_of(settings(**{"model": "", **kwargs}), preset) for kwargs, preset in (
        ({}, "cpu"), ({"loss": "mse"}, "cpu"), ({"loss": "dong", "seed": 2}, "cpu"), ({"variant": "paper"}, "cpu"), ({}, "paper"),
    )]  # fmt: skip
    assert names == [
        "rig-iphone",
        "rig-iphone-mse",
        "rig-iphone-dong-s2",
        "rig-iphone-paper",
        "rig-iphone-preset_paper",
    ]


# ---------------------------------------------------------------------------------------------- by name


def test_a_network_that_ships_is_loaded_by_its_name(shipped, finished, tmp_path):
    model = network_files.resolve(f"shipped:{NAME}")
    assert isinstance(model, nn.Module) and not model.training
    assert torch.equal(model.state_dict()["head.weight"], finished.model.state_dict()["head.weight"].half().float())
    facts = network_files.describe(f"shipped:{NAME}", model)
    assert facts["network"] == f"shipped:{NAME}" and facts["params"]["loss"] == "mse"
    with pytest.raises(DpedError, match=f"unknown shipped network 'rig-iphon'; allowed: {re.escape(NAME)}"):
        network_files.resolve("shipped:rig-iphon")
    with pytest.raises(DpedError, match=f"not one of authors:iphone, .*shipped:{re.escape(NAME)}, identity"):
        network_files.resolve("nothing.safetensors")


def test_where_nothing_ships(package):
    assert network_files.shipped_names() == ()
    with pytest.raises(DpedError, match="weights 'shipped:x': no network ships with this version"):
        network_files.resolve("shipped:x")


def test_where_the_authors_weights_cannot_be_fetched_those_that_ship_are_named(shipped, tmp_path, monkeypatch):
    (tmp_path / "empty").mkdir()
    monkeypatch.setenv("DPED_MIRROR", str(tmp_path / "empty"))
    monkeypatch.setenv("DPED_CACHE", str(tmp_path / "cache"))
    with pytest.raises(
        DpedError, match=f"the mirror lacks this file.* work offline: --weights shipped:{re.escape(NAME)}"
    ):
        network_files.resolve("authors:iphone")


# ---------------------------------------------------------------------------------------------- what does ship


def test_every_file_that_ships_is_registered_and_whole():
    folder = shipped_runs.FOLDER
    registered = {run.folder / name for run in shipped_runs.runs().values() for name in run.files}
    results = json.loads((folder / experiment_results.REGISTRY).read_text())
    registries = {folder / shipped_runs.REGISTRY, folder / experiment_results.REGISTRY}
    everything = {f for f in folder.rglob("*") if f.is_file()}
    assert everything - registries == registered | {folder / key for key in results}
    for key, sha256 in results.items():
        assert shipped_registry.checked_content(folder / key, sha256)
        assert key.partition("-")[0] in shipping.LICENCES
    for name, run in shipped_runs.runs().items():
        assert all(run.read(file) for file in run.files)
        params = run.params()
        assert params.digest() == run.digest and shipped_runs.name_of(params, run.preset) == name
        assert run.folder == folder / f"{params.dataset}-{run.preset}" / params.run_name
        assert params.dataset in shipping.LICENCES
        photographs = run.description()["photographs"]
        assert not set(photographs["train"]) & {*photographs["val"], *photographs["test"]}
        if params.dataset == "city100":  # scenes 071 to 100 are a final test that no run reads
            assert max(int(p[:3]) for split in photographs.values() for p in split) <= 70
    assert shipped_runs.total_size() < 40e6


def test_fresh_is_yes_or_no(monkeypatch):
    for value, meant in (("", False), ("0", False), ("1", True)):
        monkeypatch.setenv(shipped_runs.FRESH, value)
        assert shipped_runs.fresh() is meant
    monkeypatch.setenv(shipped_runs.FRESH, "banana")
    with pytest.raises(DpedError, match="unknown DPED_FRESH 'banana'"):
        shipped_runs.fresh()
