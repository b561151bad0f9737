"""Damaged photographs through `dped enhance`: each is enhanced or named, the others are done, nothing half-written stays."""

import io
import struct
import warnings
import zlib
from pathlib import Path

import cv2
import iccs
import numpy as np
import pillow_heif
import pytest
from PIL import Image
from typer.testing import CliRunner

from dped_lib import models
from dped_lib.app import cli
from dped_lib.data import network_files
from dped_lib.enhance import enhancement

pillow_heif.register_heif_opener()
COUNT = 120  # a run by hand takes more, and other seeds
SUFFIXES = (".jpg", ".png", ".tif", ".webp", ".heic", ".bmp")
HEIGHT, WIDTH = 40, 48


def wholes() -> list[tuple[str, bytes]]:
    """Photographs of every kind, with all that files hold."""
    smooth = cv2.resize(np.random.default_rng(0).random((4, 5, 3)), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC)
    image = Image.fromarray((smooth.clip(0, 1) * 255).astype(np.uint8))
    exif = Image.Exif()
    exif.update({271: "Maker", 274: 6})
    exif[34665], exif[34853] = {36867: "2020:01:01 00:00:00", 37500: b"M" * 300}, {1: "N", 2: (5.0, 3.0, 1.5)}
    files = []
    for suffix, kind, more in (
        (".jpg", "JPEG", {"quality": 90}),
        (".jpg", "JPEG", {"progressive": True}),
        (".png", "PNG", {}),
        (".png", "PNG", {"save_all": True, "append_images": [image.rotate(90)]}),
        (".tif", "TIFF", {}),
        (".tif", "TIFF", {"compression": "tiff_lzw"}),
        (".webp", "WEBP", {}),
        (".webp", "WEBP", {"lossless": True}),
        (".heic", "HEIF", {}),
    ):
        held = io.BytesIO()
        belonging = {} if "compression" in more else {"exif": exif.tobytes(), "icc_profile": iccs.P3}
        image.save(held, kind, **belonging, **more)
        files.append((suffix, held.getvalue()))
    deep = (smooth.clip(0, 1) * 65535).astype(np.uint16)
    return files + [(s, cv2.imencode(s, deep)[1].tobytes()) for s in (".png", ".tif")]


def damaged(data: bytes, kind: str, rng: np.random.Generator) -> bytes:
    made = bytearray(data)
    if kind == "truncated":
        return data[: rng.integers(0, len(data))]
    if kind == "bits flipped":
        for at in rng.integers(0, len(made), rng.integers(1, 12)):
            made[at] ^= 1 << rng.integers(8)
    elif kind == "header":
        for at in rng.integers(0, min(len(made), 400), rng.integers(1, 8)):
            made[at] = rng.integers(256)
    elif kind == "size":  # wherever the header may hold it, of any byte order
        for side in (HEIGHT, WIDTH):
            for form in ("<H", ">H", "<I", ">I"):
                at = data.find(struct.pack(form, side))
                if 0 <= at < 300 and rng.random() < 0.5:
                    struct.pack_into(form, made, at, int(rng.choice([0, 1, 7, 13_000, 30_000, 65_535])))
        if data[:4] == b"\x89PNG":
            made[29:33] = struct.pack(">I", zlib.crc32(made[12:29]))
    elif kind == "spliced":
        at = rng.integers(len(made))
        made[at : at + rng.integers(1, 200)] = rng.bytes(rng.integers(0, 200))
    return bytes(made)


@pytest.mark.parametrize("seed", [0])
def test_each_damaged_photograph_is_enhanced_or_named(tmp_path, seed, capfd):
    net, folder, results = tmp_path / "net.safetensors", tmp_path / "in", tmp_path / "out"
    network_files.save_tensors(models.generator("srcnn").state_dict(), net, {"model": "srcnn", "variant": "code"})
    folder.mkdir()
    rng, whole = np.random.default_rng(seed), wholes()
    kinds = ("truncated", "bits flipped", "header", "size", "spliced", "suffix")
    for i in range(COUNT):
        suffix, data = whole[i % len(whole)]
        kind = str(rng.choice(kinds))
        if kind == "suffix":
            suffix = str(rng.choice(SUFFIXES))
        (folder / f"{i:03d}{suffix}").write_bytes(damaged(data, kind, rng))
    before = {f.name: f.read_bytes() for f in folder.iterdir()}
    # A bound that the bombs among them are above: 13000 x 13000 pixels take 2 GiB to be read.
    bound = enhancement.resident() + (500 << 20)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow's about sizes and EXIF would stand among the messages
        warnings.simplefilter("ignore", DeprecationWarning)
        arguments = [str(folder), str(results), "--weights", str(net), "--precision", "float32"]
        arguments += ["--max-memory", str(bound)]
        done = CliRunner().invoke(cli.app, ["enhance", *arguments])
    assert isinstance(done.exception, SystemExit) and done.exit_code == 1, done.exception
    assert "Traceback" not in done.stderr
    assert capfd.readouterr().err == "", "libtiff and libpng print nothing of their own"
    named = [line for line in done.stderr.splitlines() if line.startswith("not enhanced: ")]
    made = {f.stem: f for f in results.iterdir()}
    for name in before:
        failed = sum(f"in/{name}: " in line for line in named)
        assert failed + (name[:3] in made) == 1, f"{name}: enhanced or named, and not both"
    assert len(made) + len(named) == COUNT and len(made) > 30 and len(named) > 30
    for file in results.rglob("*"):
        with Image.open(file) as image:  # hidden files, and parts of files, too, are looked at
            image.load()
    assert {f.name: f.read_bytes() for f in folder.iterdir()} == before
    peak = Path("/proc/self/status")
    if peak.exists():
        assert enhancement.resident() < bound
