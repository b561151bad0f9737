"""Figure 7 with the pictures that a trained network makes."""

import matplotlib.pyplot as plt

from dped_lib import models
from dped_lib.base import run_parameters
from dped_lib.experiments import architecture, training_runs


def test_figure_7_shows_what_the_trained_network_makes(store, monkeypatch, tmp_path):
    """The patch is enhanced by the network with the paper's loss, whatever the loss of the run; else there is no picture."""
    params = run_parameters.train_params("rig", "iphone", "mse", "smoke", seed=5)
    asked = []

    monkeypatch.setattr(training_runs.TrainResult, "origin", "trained here")

    def finished(params, *_):
        asked.append(params)
        return training_runs.TrainResult(tmp_path, params, models.generator("srcnn").eval(), "VGG") if result else None

    monkeypatch.setattr(training_runs, "finished_run", finished)
    for result in (False, True):
        fig, facts = architecture.figure7(params, "smoke", store)
        assert len(fig.axes[0].images) == 2 + result
        assert ("no picture" in [t.get_text() for t in fig.axes[0].texts]) != result
        assert facts.get("network") == ("trained here" if result else None)
        plt.close(fig)
    assert {(p.loss, p.seed) for p in asked} == {("color+content+texture", 5)}
