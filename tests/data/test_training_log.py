"""The log keeps the order of what it is given, and names a term that is not finite."""

import pytest
import torch

from dped_lib.data import training_log


def test_numbers_held_on_a_device_reach_the_log_in_order(tmp_path):
    log = training_log.Log(tmp_path / "log.jsonl", 0, hold=3)
    for i in (1, 2, 3, 4):
        log.terms(i, {"total": torch.tensor(float(i))})
    log.validation(4, {"psnr": 20.0})
    log.sync()
    lines = training_log.read_log(tmp_path / "log.jsonl")
    assert lines == [
        *({"iteration": i, "total": float(i)} for i in (1, 2, 3, 4)),
        {"iteration": 4, "validation": {"psnr": 20.0}},
    ]
    log.close()


def test_the_log_names_the_term_rather_than_the_sum(tmp_path):
    log = training_log.Log(tmp_path / "run" / "log.jsonl", 0, hold=2)
    log.terms(6, {"total": torch.tensor(1.0), "tv": torch.tensor(1.0)})
    with pytest.raises(training_log.TrainingDiverged, match=r"loss term 'tv' is nan at iteration 7"):
        log.terms(7, {"total": torch.tensor(torch.nan), "tv": torch.tensor(torch.nan)})
    log.close()
    # What came before is kept.
    assert training_log.read_log(tmp_path / "run" / "log.jsonl") == [{"iteration": 6, "total": 1.0, "tv": 1.0}]
