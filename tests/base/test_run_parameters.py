"""Parameters: what is unknown, missing or of the wrong type is refused by name; the digest knows every field."""

import dataclasses
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dped_lib import losses, paper
from dped_lib.base import datasets, presets, run_parameters, validation
from dped_lib.base.errors import DpedError
from dped_lib.base.run_parameters import TrainParams
from dped_lib.data import vgg_files

FIELDS = {f.name: f for f in dataclasses.fields(TrainParams)}
RUN = {"dataset": "rig", "phone": "sony", "loss": "mse"}


def params(**values):
    return validation.build_dataclass(TrainParams, {**RUN, **values})


# unknown, missing, ill-typed


@pytest.mark.parametrize(
    ("wrong", "near"), [("iteration", "iterations"), ("learning-rate", "learning_rate"), ("Seed", "seed")]
)
def test_an_unknown_parameter_is_named_with_the_nearest_and_all_allowed(wrong, near):
    with pytest.raises(DpedError) as error:
        params(**{wrong: 1})
    message = str(error.value)
    assert repr(wrong) in message and f"Did you mean {near!r}" in message
    assert all(name in message for name in FIELDS)


def test_nothing_is_suggested_for_what_resembles_nothing():
    with pytest.raises(DpedError, match="allowed: rig, pirm, city100, dped, own") as error:
        validation.one_of("dataset", "zzzzzz", datasets.DATASETS)
    assert "Did you mean" not in str(error.value)


@pytest.mark.parametrize("name", RUN)
def test_a_missing_parameter_is_named(name):
    with pytest.raises(DpedError, match=f"'{name}' is missing"):
        validation.build_dataclass(TrainParams, {k: v for k, v in RUN.items() if k != name})


WRONG = {
    int: st.one_of(st.booleans(), st.floats(), st.text(), st.none()),
    float: st.one_of(st.booleans(), st.text(), st.none(), st.lists(st.floats())),
    bool: st.one_of(st.integers(), st.floats(), st.text(), st.none()),
    str: st.one_of(st.booleans(), st.integers(), st.floats(), st.none(), st.binary()),
}


@pytest.mark.parametrize("name", FIELDS)
@given(data=st.data())
def test_a_wrong_type_is_refused_with_the_right_one(name, data):
    expected = FIELDS[name].type
    value = data.draw(WRONG[expected])
    with pytest.raises(DpedError, match=f"'{name}' must be {expected.__name__}, not {type(value).__name__}"):
        params(**{name: value})


@given(st.integers(1, 10**6))
def test_an_int_is_a_float_where_one_is_expected(value):
    rate = params(learning_rate=value).learning_rate
    assert type(rate) is float and rate == value
    assert params(learning_rate=value).digest() == params(learning_rate=float(value)).digest()


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *((n, v) for n in ("iterations", "batch_size", "eval_every", "checkpoint_every") for v in (0, -1)),
        *(("learning_rate", v) for v in (0.0, -1e-4, math.inf, math.nan)),
        ("seed", -1), ("eval_pairs", -1), ("variant", "v1"), ("precision", "fp16"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused_by_name(name, value):
    with pytest.raises(DpedError, match=name):
        params(**{name: value})


# digest


def changed(name, value):
    """Another valid value of the field."""
    others = {
        "dataset": "dped", "phone": "iphone", "loss": "dong", "variant": "paper", "precision": "float32", "model": "srcnn",
        "vgg": "torchvision", "augment": not value, "kernel": "paper", "content_layer": "relu5_2", "norm": "batch",
        "discriminator": "paper",
    }  # fmt: skip
    return others[name] if name in others else value * 2 + 1


@pytest.mark.parametrize("name", FIELDS)
def test_digest_changes_with_every_field(name):
    base = params()
    other = dataclasses.replace(base, **{name: changed(name, getattr(base, name))})
    assert other.digest() != base.digest()
    assert params().digest() == base.digest()


def test_digest_is_the_same_in_every_version_of_the_code():
    # An artifact made by an earlier version stays current. A changed default or a new field shows here.
    assert params().digest() == "6a70436b16def042"


def test_siblings_have_folders_of_their_own():
    runs = [
        params(phone=phone, loss=loss, variant=variant, seed=seed, model=model)
        for phone in paper.PHONES for loss in losses.LOSSES for variant in paper.VARIANTS for seed in (0, 1) for model in ("", "srcnn")
    ]  # fmt: skip
    assert len({r.run_name for r in runs}) == len(runs)


# presets, datasets


@pytest.mark.parametrize("preset", presets.PRESETS)
@pytest.mark.parametrize("loss", losses.LOSSES)
def test_presets_make_valid_runs(preset, loss):
    run = run_parameters.train_params("rig", "iphone", loss, preset)
    assert run.vgg in vgg_files.SOURCES
    assert 1 <= run.checkpoint_every <= run.iterations and 1 <= run.eval_every <= run.iterations
    p = presets.preset(preset)
    assert p.name == preset and p.seeds and p.shift_patches > 0 and p.resamples > 0


def test_the_paper_preset_is_what_section_3_2_3_states():
    run = run_parameters.train_params("dped", "sony", "mse", "paper")
    assert (run.iterations, run.batch_size, run.learning_rate, run.augment) == (20_000, 50, 5e-4, False)


def test_overrides_win_over_the_preset_and_are_checked():
    assert run_parameters.train_params("rig", "sony", "mse", "smoke", iterations=7).iterations == 7
    with pytest.raises(DpedError, match="'iterations' must be int"):
        run_parameters.train_params("rig", "sony", "mse", "smoke", iterations="7")
    with pytest.raises(DpedError, match="unknown preset 'smok'.*'smoke'"):
        run_parameters.train_params("rig", "sony", "mse", "smok")


def test_phones_of_a_dataset():
    for dataset, phones in datasets.DATASET_PHONES.items():
        for phone in phones:
            assert datasets.check_phone(dataset, phone) == phone
    with pytest.raises(DpedError, match="'pirm' has no sony photographs, only iphone; datasets that do: rig, dped"):
        datasets.check_phone("pirm", "sony")
    with pytest.raises(DpedError, match="unknown phone 'iphon'.*Did you mean 'iphone'"):
        datasets.check_phone("rig", "iphon")
    with pytest.raises(DpedError, match="unknown dataset 'PIRM'.*Did you mean"):
        datasets.check_phone("PIRM", "iphone")
