"""Make the pictures of the site and the README: City100 only, (c) 2019 Chang Chen, MIT licence.

    python docs/pictures.py city100 WEIGHTS    held-out scenes before and after, by the authors' network or one that ships
    python docs/pictures.py readme WEIGHTS     the picture of the README
    python docs/pictures.py own                the tutorial on your own cameras: its pair, and the camera's picture of its test scene
    python docs/pictures.py own DONG FULL      also the results of the tutorial's two trainings

City100 is fetched, or read from DPED_MIRROR. The shown scenes of `city100` belong to its test split.
"""

import argparse
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.patches import Rectangle
from PIL import Image, ImageDraw, ImageFont

from dped_lib.alignment import aligner, extraction, geometry
from dped_lib.base.errors import DpedError
from dped_lib.data import network_files, opening, photographs, readers
from dped_lib.enhance import enhancement

PICTURES = Path(__file__).resolve().parent / "_static" / "pictures"
#: Scenes of the test split of city100 that the site shows, and whose network enhances each. The README shows the first.
SHOWN = {"057H": ("shipped",), "046H": ("authors",), "036H": ("authors", "shipped")}
#: Scenes of the tutorial: one that shows the alignment, and one that its small dataset holds out.
PAIR, HELD_OUT = "001H", "006H"
README_WIDTH = 980
#: Part of the height that the README's picture keeps. The sky above would push the first commands off the screen.
README_ROWS = (0.22, 0.95)


def save(name: str, pixels: np.ndarray, width: int = 0) -> None:
    """Write uint8 H x W x 3 as JPEG, no wider than ``width`` if one is given."""
    image = Image.fromarray(pixels)
    if width and image.width > width:
        image = image.resize((width, round(image.height * width / image.width)), Image.Resampling.LANCZOS)
    PICTURES.mkdir(parents=True, exist_ok=True)
    image.save(PICTURES / name, quality=88, optimize=True)


def aligned(scene: str) -> aligner.Alignment:
    """Return a scene of City100, aligned as the dataset is."""
    frames = photographs.scene("city100", scene)
    return aligner.align(frames["iphonex"], frames["dslr"], readers.CITY100_SETTINGS.size)


def held_out_pair(scene: str) -> aligner.Alignment:
    """Return an aligned scene after checking that it belongs to the test split."""
    store = opening.open_or_make("city100", "iphonex", "cpu")
    tested = {str(store.photographs[i]) for i in store.index("test")}
    if scene not in tested:
        raise DpedError(f"{scene}: not in the test split ({', '.join(sorted(tested))}).")
    return aligned(scene)


def city100(weights: str) -> None:
    """Write the scenes that this network enhances, before and after, and the DSLR's picture of the first scene."""
    engine = enhancement.engine(network_files.resolve(weights), "float32", "cpu")
    origin = "authors" if weights.startswith("authors:") else "shipped"
    for scene in (scene for scene, networks in SHOWN.items() if origin in networks):
        pair = held_out_pair(scene)
        save(f"city100-{scene[:3]}-phone.jpg", pair.phone)
        save(f"city100-{scene[:3]}-{origin}.jpg", engine(pair.phone))
        if scene == next(iter(SHOWN)):
            save(f"city100-{scene[:3]}-dslr.jpg", pair.dslr)


def readme(weights: str) -> None:
    """Write the README's picture: the middle of the first shown scene before and after."""
    before = held_out_pair(next(iter(SHOWN))).phone
    after = enhancement.engine(network_files.resolve(weights), "float32", "cpu")(before)
    rows = slice(*(round(part * len(before)) for part in README_ROWS))
    save("readme.jpg", side_by_side(before[rows], after[rows]), README_WIDTH)


def side_by_side(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """Return two pictures of one size beside each other, with labels of one height."""
    gap = np.full((len(before), 8, 3), 255, np.uint8)
    image = Image.fromarray(np.concatenate([before, gap, after], axis=1))
    draw, font = ImageDraw.Draw(image), ImageFont.load_default(size=30)
    for x, words in ((0, "phone"), (before.shape[1] + 8, "enhanced")):
        width, height = draw.textlength(words, font=font), sum(font.getmetrics())
        draw.rectangle((x + 12, 12, x + 36 + width, 20 + height), fill=(20, 20, 20))
        draw.text((x + 24, 16), words, font=font, fill="white")
    return np.asarray(image)


def own(dong: str = "", full: str = "") -> None:
    """Write the pictures of the tutorial: the pair, the windows, the camera's test picture, and with weights the results."""
    frames = photographs.scene("city100", PAIR)
    save_pair("own-pair.jpg", frames["iphonex"], frames["dslr"])
    alignment = aligner.align(frames["iphonex"], frames["dslr"])
    save_windows("own-aligned.jpg", alignment)
    held_out = photographs.scene("city100", HELD_OUT)
    before = held_out["iphonex"]
    save("own-camera.jpg", seen_by_phone(before, held_out["dslr"]))
    for name, weights in (("own-after.jpg", dong), ("own-full.jpg", full)):
        if weights:
            save("own-before.jpg", before)
            save(name, enhancement.engine(network_files.resolve(weights), "float32", "cpu")(before))


def seen_by_phone(phone: np.ndarray, dslr: np.ndarray) -> np.ndarray:
    """Return the camera's photograph in the phone's frame, so that it can be compared with the enhanced one.

    What the camera did not see is gray.
    """
    pair = aligner.align(phone, dslr)
    height, width = phone.shape[:2]
    grid = geometry.pixel_grid(height, width, origin=(0, 0), step=1)
    xy = pair.map.to_dslr(grid.reshape(-1, 2)).reshape(height, width, 2)
    camera = geometry.Resampler(dslr, dslr.shape[1] / width)
    return np.where(camera.inside(xy)[..., None], camera(xy), np.uint8(160))


def save_pair(name: str, phone: np.ndarray, dslr: np.ndarray) -> None:
    """Write both photographs at the same scale."""
    fig, axes = plt.subplots(
        1, 2, figsize=(10, 3.9), width_ratios=(phone.shape[1], dslr.shape[1]), layout="constrained"
    )
    for ax, image, title in zip(axes, (phone, dslr), ("phone", "camera"), strict=True):
        ax.imshow(image)
        ax.set_title(f"{title}, {image.shape[1]} x {image.shape[0]} pixels", fontsize=12)
        ax.set(xlim=(0, dslr.shape[1]), ylim=(dslr.shape[0], 0))
        ax.axis("off")
    for ax, image in zip(axes, (phone, dslr), strict=True):
        ax.set(xlim=(0, image.shape[1]), ylim=(dslr.shape[0], 0))
    close(fig, name)


def save_windows(name: str, alignment: aligner.Alignment) -> None:
    """Write the aligned photographs, and the phone's with its windows."""
    fig, axes = plt.subplots(1, 3, figsize=(12, 3.4), layout="constrained")
    for ax, image, title in zip(
        axes, (alignment.phone, alignment.dslr, alignment.phone), ("phone", "camera, aligned", "windows"), strict=True
    ):
        ax.imshow(image)
        ax.set_title(title, fontsize=12)
        ax.axis("off")
    for window in extraction.extract(alignment).windows:
        color = "#009E73" if window.verdict == "kept" else "#E69F00"
        axes[2].add_patch(Rectangle((window.x + 3, window.y + 3), 94, 94, fill=False, edgecolor=color, lw=2))
    close(fig, name)


def close(fig, name: str) -> None:
    """Write a figure as JPEG, 1200 pixels wide."""
    fig.savefig(PICTURES / name, dpi=1200 / fig.get_figwidth(), pil_kwargs={"quality": 88, "optimize": True})
    plt.close(fig)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=("city100", "readme", "own"))
    parser.add_argument("weights", nargs="*")
    arguments = parser.parse_args()
    {"city100": city100, "readme": readme, "own": own}[arguments.what](*arguments.weights)
