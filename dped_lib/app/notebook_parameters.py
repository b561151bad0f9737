"""Check the parameters of a notebook, and return the names that a notebook and its runner share.

Every notebook imports this module. It does not import the runner, so a change of the runner makes the workflow repeat no
notebook.
"""

import hashlib
import json

from dped_lib import losses, paper
from dped_lib.base import datasets, paths, presets, run_parameters, validation
from dped_lib.data import vgg_files


def notebooks() -> tuple[str, ...]:
    """Return the names of the notebooks, in reading order."""
    return tuple(sorted(f.stem for f in paths.notebooks_dir().glob("[0-9]*.ipynb")))


def check_values(**values) -> None:
    """Raise an error at the first parameter of a notebook with a forbidden value. Every notebook calls this function.

    Raises:
        DpedError: the message names the parameter, its value, and the allowed values.
    """
    presets.preset(values["preset"])
    validation.one_of("dataset", values["dataset"], datasets.DATASETS)
    # In notebooks that take several phones or losses, an empty name means all of them.
    if values.get("phone"):
        datasets.check_phone(values["dataset"], values["phone"])
    if values.get("loss"):
        validation.one_of("loss", values["loss"], losses.LOSSES)
    if "variant" in values:
        validation.one_of("variant", values["variant"], paper.VARIANTS)
    if "vgg" in values:
        validation.one_of("VGG source", values["vgg"], vgg_files.SOURCES)
    if "network" in values:
        validation.one_of("network", values["network"], run_parameters.NETWORKS)


def suffix_of_own(**folders: str) -> str:
    """Return the suffix of all files that a study with folders of the user's own saves. It is empty without ``folders``.

    Two studies with other pictures, retouched originals or answers have other suffixes. Neither replaces the other's
    results, nor those of a dataset.

    Args:
        folders: parameters of the notebook, by name: ``folder``, ``manual`` and ``answers``. Empty: not given.
    """
    named = {key: str(paths.absolute(value)) for key, value in folders.items() if value}
    digest = hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()
    return f"-{digest[:8]}" if named else ""
