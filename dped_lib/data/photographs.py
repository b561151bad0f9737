"""Supply the whole photographs of a dataset, for figures and experiments that need more than 100 x 100 patches."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from dped_lib.base.datasets import ALIGNED_DATASETS, DATASETS
from dped_lib.base.errors import DpedError
from dped_lib.base.validation import one_of
from dped_lib.data import downloads, image_decoding, official_layout, pair_store, photo_folders, readers, rig


@dataclass(frozen=True)
class Photograph:
    """Describe one photograph. Its pixels are read, or simulated, whenever ``image`` is used, and they are not kept.

    Attributes:
        name: unique in the dataset.
        camera: the camera that took it.
        read: returns the pixels.
        scene: its scene. Photographs of one scene are not statistically independent.
    """

    name: str
    camera: str
    read: Callable[[], np.ndarray]
    scene: str

    @property
    def image(self) -> np.ndarray:
        """Return the pixels, uint8 H x W x 3, RGB. Raise DpedError if the file cannot be read."""
        return self.read()


def _frame(scene: str, camera: str) -> np.ndarray:
    return rig.shoot(scene, cameras=(camera,))[camera].image


def _rig() -> Iterator[Photograph]:
    for scene in rig.scenes():
        for camera in rig.CAMERA_MODELS:
            read = partial(_frame, scene.name, camera)
            yield Photograph(f"{scene.name}/{camera}", camera, read, f"{scene.kind}:{scene.photograph}")


def _pirm() -> Iterator[Photograph]:
    for file in downloads.fetch_all(downloads.keys("hd"), "HD photographs"):
        yield Photograph(f"HD_res/{file.stem}", "iphone", partial(readers.read_image, file), f"HD_res/{file.stem}")
    originals = [k for k in downloads.keys("demo") if k.endswith("_0.jpg")]
    for file in downloads.fetch_all(originals, "demo photographs"):
        camera = file.parent.name
        yield Photograph(f"demo/{camera}/{file.stem}", camera, partial(readers.read_image, file), f"demo/{file.stem}")


def _dped() -> Iterator[Photograph]:
    root = official_layout.where()
    files = official_layout.photographs(root)
    if not files:
        raise DpedError(f"{root}: no PHONE/test_data/full_size_test_images in it; whole photographs come from there.")
    for camera, file, token in files:
        name = f"{camera}/{Path(file).stem}"
        yield Photograph(name, camera, partial(official_layout.read_full_size, root, file, token), name)


def _pairs(dataset: str) -> Iterator[Photograph]:
    files, read = _files(dataset)
    for camera, of_camera in files.items():
        for name, file in of_camera.items():
            yield Photograph(f"{name}/{camera}", camera, partial(read, file), name)


def _files(dataset: str) -> tuple[dict[str, dict[str, Path]], Callable[[Path], np.ndarray]]:
    """Return the files of both cameras by scene, and the function that reads one. Only datasets of files have them."""
    if dataset == "city100":
        *folders, names = readers.city100_folders()
        cameras = zip(("iphonex", "dslr"), folders, strict=True)
        return {c: photo_folders.list_photographs(folder, names) for c, folder in cameras}, readers.read_city100
    root = readers.own_root()
    if not (root / "phone").is_dir():
        raise DpedError(f"{root}: holds patches but no photographs; point DPED_OWN at a folder with phone/ and dslr/.")
    cameras = (("phone", "phone"), ("dslr", "dslr"))
    return {c: photo_folders.list_photographs(root / d) for c, d in cameras}, image_decoding.read_photograph


def of_dataset(dataset: str) -> Iterator[Photograph]:
    """Yield every whole photograph of a dataset. None is read yet.

    ``rig``: the frames of all four cameras. ``pirm``: the 4 HD photographs of the iPhone and the authors' demo
    photographs by the three phones (unaligned; the DSLR's are not published). ``city100`` and ``own``: the frames of
    both cameras. ``dped``: the full-size test images.
    """
    match one_of("dataset", dataset, DATASETS):
        case "rig":
            yield from _rig()
        case "pirm":
            yield from _pirm()
        case "dped":
            yield from _dped()
        case _:
            yield from _pairs(dataset)


def scene(dataset: str, name: str) -> dict[str, np.ndarray]:
    """Return the photographs of one scene by camera, as they came out of the camera (uint8 H x W x 3, RGB).

    ``name`` is the scene's name in the records of the dataset's store. Only datasets that are aligned here have scenes.
    """
    one_of("dataset with photographs to align", dataset, ALIGNED_DATASETS)
    if dataset == "rig":
        return {camera: frame.image for camera, frame in rig.shoot(name).items()}
    files, read = _files(dataset)
    for camera, of_camera in files.items():
        one_of(f"photograph of the {camera}", name, of_camera)
    return {camera: read(of_camera[name]) for camera, of_camera in files.items()}


def stands_upright(dataset: str, scene: str) -> bool:
    """Return whether a scene stands upright in its photographs. Figures and the study leave out those that do not."""
    return dataset != "city100" or scene not in readers.CITY100_ON_SIDE


def patches_of(store: pair_store.PairStore) -> Iterator[Photograph]:
    """Yield the patches of a store, of both cameras, each as a small photograph."""
    for camera, images in (("dslr", store.dslr), (store.meta["phone"], store.phone)):
        for name, scene, image in zip(store.names, store.photographs, images, strict=True):
            yield Photograph(f"{name}/{camera}", camera, partial(np.asarray, image), str(scene))
