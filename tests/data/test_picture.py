"""The writer of photographs: a file is whole, or there is none."""

import os

import numpy as np
import pytest
from PIL import Image

from dped_lib.base.errors import DpedError
from dped_lib.data import picture

PAGE = 4096


def fill(disk, left: int) -> None:
    """Leave ``left`` bytes free on a small disk."""
    (disk / "filler").unlink(missing_ok=True)
    room = os.statvfs(disk)
    (disk / "filler").write_bytes(bytes(room.f_bavail * room.f_frsize - left))


@pytest.mark.parametrize("suffix", [".jpg", ".tif", ".png", ".webp"])
def test_a_photograph_that_does_not_fit_on_the_disk_is_not_written(small_disk, suffix):
    """The last write is cut short, because the disk is full. Pillow's C code would take it for a complete write."""
    noise = np.random.default_rng(0).integers(0, 256, (60, 70, 3), dtype=np.uint8)
    whole = small_disk.parent / f"whole{suffix}"
    picture.write(picture.Picture(noise), whole)
    with Image.open(whole) as image:
        assert image.size == (70, 60)
    fill(small_disk, (whole.stat().st_size - 1) // PAGE * PAGE)
    with pytest.raises(DpedError, match="not written, the disk is full"):
        picture.write(picture.Picture(noise), small_disk / f"small{suffix}")
    assert os.listdir(small_disk) == ["filler"]
    fill(small_disk, 16 * PAGE)
    written = picture.write(picture.Picture(noise), small_disk / f"small{suffix}")
    assert written.read_bytes() == whole.read_bytes()


def test_what_a_result_lacks_is_said(tmp_path):
    """Inks become red, green and blue. A profile is for other colours, or is none."""
    inks = Image.new("CMYK", (120, 120), (20, 60, 80, 10))
    inks.save(tmp_path / "inks.jpg")
    assert picture.read(tmp_path / "inks.jpg").lost == ("its four inks (CMYK), of which red, green and blue are made",)
    inks.convert("RGB").save(tmp_path / "damaged.jpg", icc_profile=b"no profile" * 30)
    assert picture.read(tmp_path / "damaged.jpg").lost == ("the colour profile, which cannot be read",)
    assert picture.read(tmp_path / "damaged.jpg").icc == b""
