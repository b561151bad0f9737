"""Name the datasets, the phones of each, and the cameras as a reader calls them."""

from types import MappingProxyType

from dped_lib import paper
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of

#: The phones of each dataset. ``rig`` is simulated. ``pirm`` holds the authors' 400 real iPhone-Canon patches.
#: ``city100`` is the public City100 set (Chen et al., "Camera Lens Super-Resolution", CVPR 2019). ``dped`` is the full
#: dataset in its official folder layout, and ``own`` is any two folders of photographs. The user has these two on disk.
DATASET_PHONES = MappingProxyType(
    {"rig": paper.PHONES, "pirm": ("iphone",), "city100": ("iphonex",), "dped": paper.PHONES, "own": ("phone",)}
)
DATASETS = tuple(DATASET_PHONES)
#: Datasets of photographs, which this library aligns and cuts into patches. The others come as finished patches.
ALIGNED_DATASETS = ("rig", "city100", "own")
ALL_PHONES = tuple(dict.fromkeys(phone for phones in DATASET_PHONES.values() for phone in phones))

_OTHER_CAMERAS = MappingProxyType({("city100", "iphonex"): "iPhone X", ("city100", "dslr"): "Nikon D5500"})


def camera_name(dataset: str, camera: str) -> str:
    """Return the name of a camera for a reader. ``dslr`` means the DSLR of the dataset, of any brand."""
    if dataset == "own":
        return "DSLR" if camera == "dslr" else "phone"
    return _OTHER_CAMERAS.get((dataset, camera)) or paper.CAMERAS[camera].name


def photograph_name(dataset: str, name: str) -> str:
    """Return the name of a photograph for a reader: ``demo/sony/2`` becomes ``demo/2, Sony Xperia Z``."""
    parts = name.split("/")
    at = max((i for i, part in enumerate(parts) if part in (*ALL_PHONES, "dslr")), default=-1)
    if at < 0 or len(parts) == 1:
        return name
    return f"{'/'.join(parts[:at] + parts[at + 1 :])}, {camera_name(dataset, parts[at])}"


def without_camera(name: str, camera: str) -> str:
    """Return a photograph's name without its camera's: ``flower-a`` for ``flower-a/iphone``."""
    return "/".join(part for part in name.split("/") if part != camera) or name


#: Number of cross-validation folds of the datasets that are too small for a fixed test split. The network of seed s is
#: trained without fold s (modulo this number) and tested on it. Together the seeds test every pair.
FOLDS = MappingProxyType({"pirm": 3})


def resampled_in_words(dataset: str, count: int | str) -> str:
    """Return ``count`` with what an interval resamples: photographs, or PIRM's patches, whose photographs are not known."""
    return f"{count} {'different patches' if dataset == 'pirm' else 'photographs'}"


def first_phone(dataset: str) -> str:
    """Return the first phone of a dataset, which is the default."""
    return DATASET_PHONES[one_of("dataset", dataset, DATASETS)][0]


def check_phone(dataset: str, phone: str) -> str:
    """Return ``phone`` after checking that ``dataset`` has its photographs.

    Raises:
        DpedError: the dataset or phone is unknown, or the dataset lacks the phone.
    """
    one_of("dataset", dataset, DATASETS)
    one_of("phone", phone, ALL_PHONES)
    if phone not in DATASET_PHONES[dataset]:
        having = ", ".join(t for t in DATASETS if phone in DATASET_PHONES[t])
        raise DpedError(
            f"dataset {dataset!r} has no {phone} photographs, only {', '.join(DATASET_PHONES[dataset])}; "
            f"datasets that do: {having}."
        )
    return phone
