"""The datasets: which there are, which phones each has, and what a reader calls their cameras."""

from types import MappingProxyType

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of

#: The phones each dataset has. ``rig`` is simulated; ``pirm`` is the authors' 400 real iPhone-Canon patches; ``city100`` is
#: the public City100 set (Chen et al., "Camera Lens Super-Resolution", CVPR 2019); ``dped`` is the full dataset in its
#: official folder layout and ``own`` any two folders of photographs, both on the user's disk.
DATASET_PHONES = MappingProxyType(
    {"rig": paper.PHONES, "pirm": ("iphone",), "city100": ("iphonex",), "dped": paper.PHONES, "own": ("phone",)}
)
DATASETS = tuple(DATASET_PHONES)
#: Datasets whose patches are cut from photographs here; the others come as finished patches.
ALIGNED_DATASETS = ("rig", "city100", "own")
PHONES = tuple(dict.fromkeys(phone for phones in DATASET_PHONES.values() for phone in phones))

_OTHER_CAMERAS = MappingProxyType({("city100", "iphonex"): "iPhone X", ("city100", "dslr"): "Nikon D5500"})


def camera_name(dataset: str, camera: str) -> str:
    """What a reader calls a camera of a dataset. ``dslr`` is the DSLR everywhere, whoever made it."""
    if dataset == "own":
        return "DSLR" if camera == "dslr" else "phone"
    return _OTHER_CAMERAS.get((dataset, camera)) or paper.CAMERAS[camera].name

#: Datasets with too few photographs to hold some out once and for all, and into how many parts their pairs are divided: the
#: network of seed s is trained without part s modulo that number and tested on it, so that the seeds together test every pair.
FOLDS = MappingProxyType({"pirm": 3})


def first_phone(dataset: str) -> str:
    """The phone that is meant where none is named."""
    return DATASET_PHONES[one_of("dataset", dataset, DATASETS)][0]


def check_phone(dataset: str, phone: str) -> str:
    """``phone`` if ``dataset`` has its photographs."""
    one_of("dataset", dataset, DATASETS)
    one_of("phone", phone, PHONES)
    if phone not in DATASET_PHONES[dataset]:
        having = ", ".join(t for t in DATASETS if phone in DATASET_PHONES[t])
        raise DpedError(
            f"dataset {dataset!r} has no {phone} photographs, only {', '.join(DATASET_PHONES[dataset])}; datasets that do: {having}."
        )
    return phone
