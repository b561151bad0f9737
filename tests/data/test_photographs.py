"""Whole photographs of a dataset."""

import numpy as np
from PIL import Image

from dped_lib.data import downloads, photographs


def test_scene_065_is_the_same_way_up_by_both_cameras(mirror, runs):
    """The phone took it upside down. By sight: small gray pictures of both cameras agree only when it is turned."""
    seen = photographs.scene("city100", "065H")
    small = {
        c: np.asarray(Image.fromarray(image).convert("L").resize((42, 30), Image.Resampling.BOX), float).ravel()
        for c, image in seen.items()
    }
    assert np.corrcoef(small["iphonex"], small["dslr"])[0, 1] > 0.9
    assert np.corrcoef(small["iphonex"][::-1], small["dslr"])[0, 1] < 0.5
    raw = np.asarray(Image.open(downloads.fetch("ngchc/CameraSR/City100/City100_iPhoneX/065H.PNG")).convert("RGB"))
    assert np.array_equal(seen["iphonex"], raw[::-1, ::-1])
