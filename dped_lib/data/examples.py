"""Supply the one real pair of photographs that comes with the package, so that notebook 00 opens without a download.

It is scene 056 of City100: a printed photograph, taken by an iPhone X and by a Nikon D5500, aligned here
(``alignment.aligner``) and saved as JPEG. The scene is in the test split, so no network of ours was trained on it.

Source: ngchc/CameraSR (Chen et al., "Camera Lens Super-Resolution", CVPR 2019). MIT, (c) 2019 Chang Chen; the licence
lies beside the files.
"""

from pathlib import Path

import numpy as np

from dped_lib.data import image_decoding

SCENE = "056"
#: Stands beside every picture of the pair.
CREDIT = f"City100, scene {SCENE}, (c) 2019 Chang Chen, MIT"
_FOLDER = Path(__file__).parent / "examples"


def city100_pair() -> dict[str, np.ndarray]:
    """Return the aligned photographs by camera, ``iphonex`` and ``dslr``: uint8 560 x 756 x 3, RGB.

    Raises:
        DpedError: a file is missing or damaged.
    """
    files = {"iphonex": "city100_056_phone.jpg", "dslr": "city100_056_dslr.jpg"}
    return {camera: image_decoding.read_photograph(_FOLDER / name) for camera, name in files.items()}
