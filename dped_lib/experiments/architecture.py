"""Draw Figure 7 with a training pair of a dataset and what the trained network makes of it."""

import torch
from matplotlib.figure import Figure

from dped_lib import paper
from dped_lib.base.run_parameters import TrainParams, train_params
from dped_lib.data import batches
from dped_lib.data.pair_store import PairStore
from dped_lib.enhance import evaluation
from dped_lib.experiments import training_report, training_runs
from dped_lib.report import network_diagrams


def figure7(params: TrainParams, preset: str, store: PairStore) -> tuple[Figure, dict[str, str]]:
    """Draw the first part of Figure 7 with one training pair of the store, enhanced if its network has been trained.

    The drawn system trains with the paper's loss, whatever the loss of ``params``. Return the figure, and whose network
    enhanced the picture (``training_report.facts_of``). Without a network, the figure says that there is no picture.
    """
    same = {name: getattr(params, name) for name in ("seed", "variant", "vgg")}
    params = train_params(params.dataset, params.phone, paper.FULL_LOSS, preset, **same)
    one = max(store.sample("train", 24), key=lambda i: store.dslr[i].std())  # not a flat one
    pictures, facts = {"phone": store.phone[one], "dslr": store.dslr[one]}, {}
    if result := training_runs.finished_run(params, store, training_runs.run_folder(params, preset)):
        enhanced, _ = evaluation.enhance_pairs(result.model, store, [one], torch.device("cpu"))
        pictures["enhanced"] = batches.pictures(enhanced)[0]
        facts = training_report.facts_of(result)
    return network_diagrams.system(params.variant, pictures), facts
