"""Photographs through a network: every kind of file, what belongs to it, folders with bad files in them, memory."""

import copy
import errno
import io
import os
import re
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from pictures import enhance, pixels
from PIL import ExifTags, Image, ImageCms

from dped_lib import models, speed
from dped_lib.base.errors import DpedError
from dped_lib.data import network_files, picture
from dped_lib.enhance import enhancement
from dped_lib.enhance import files as enhance_files

ICC = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """A small network in a file, as `dped train` writes one."""
    file = tmp_path_factory.mktemp("net") / "small.safetensors"
    with torch.random.fork_rng():
        torch.manual_seed(1)
        model = models.generator("resnet_8_32")
    for p in model.parameters():
        p.data *= 3
    network_files.save_tensors(model.state_dict(), file, {"model": "resnet_8_32", "variant": "code"})
    return file


@pytest.fixture(scope="module")
def run(net) -> enhancement.Engine:
    return enhancement.engine(network_files.resolve(str(net)), "float32", "cpu")


def exif(**more) -> Image.Exif:
    entries = Image.Exif()
    entries[ExifTags.Base.Make] = "Maker"
    entries[ExifTags.IFD.Exif] = {ExifTags.Base.DateTimeOriginal: "2017:04:08 12:00:00", 40962: 120, 40963: 90}
    entries[ExifTags.IFD.GPSInfo] = {1: "N"}
    for tag, value in more.items():
        entries[ExifTags.Base[tag]] = value
    return entries


def exact(run: enhancement.Engine, image: np.ndarray) -> np.ndarray:
    """What the result must be: the whole-image pass."""
    full = np.iinfo(image.dtype).max
    # nn.InstanceNorm2d refuses a single pixel. The swapped norm returns its bias, as the bands do.
    model = speed.prepare(copy.deepcopy(run.model), torch.device("cpu")) if image.size == 3 else run.model
    with torch.inference_mode():
        x = torch.from_numpy(image.astype(np.float32) / full).permute(2, 0, 1)[None]
        return np.rint(model(x)[0].permute(1, 2, 0).numpy().clip(0, 1) * full).astype(image.dtype)


def one_file(run: enhancement.Engine, source: Path, target: Path, quality: int = 95) -> Path:
    """Enhances a file into another; returns where it went."""
    (job,) = enhance_files.plan_jobs([source], target, overwrite=True).jobs
    (written,) = enhance_files.do(run, job, quality)
    return written


# ---------------------------------------------------------------------------------------------- arrays


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_an_array_keeps_its_type_and_all_its_levels(run, dtype):
    image = pixels(dtype=dtype)
    enhanced = run(image)
    assert enhanced.dtype == dtype and enhanced.shape == image.shape
    assert np.abs(enhanced.astype(int) - exact(run, image)).max() <= np.iinfo(dtype).max * 1e-4 + 1
    if dtype == np.uint16:
        assert len(np.unique(enhanced)) > 1000, "not 256 levels in 16 bits"


def test_float_pixels_come_back_unclipped(run):
    image = pixels().astype(np.float32) / 255
    with torch.inference_mode():
        wanted = run.model(torch.from_numpy(image).permute(2, 0, 1)[None])[0].permute(1, 2, 0).numpy()
    assert np.abs(run(image) - wanted).max() < 1e-4


@pytest.mark.parametrize(
    "bad", [np.zeros((5, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5, 3), np.int32)]
)
def test_other_arrays_are_refused(run, bad):
    with pytest.raises(DpedError, match="must be H x W x 3 of uint8, uint16 or float32"):
        run(bad)


def test_what_does_not_enhance_is_refused():
    with pytest.raises(DpedError, match="these weights do not enhance"):
        enhancement.engine(network_files.resolve("identity"))


@pytest.mark.parametrize(
    ("text", "size"),
    [("4GiB", 4 << 30), ("1.5g", 3 << 29), (" 800 MiB ", 800 << 20), ("2048", 2048), ("3kb", 3072), ("1e3 B", 1000)],
)
def test_sizes_with_units(text, size):
    assert enhancement.parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GiB", "-1G", "0", "inf", "many", "4 apples", "5mg", "1kk", "4gkm", "4i"])
def test_what_is_no_size_is_refused(text):
    with pytest.raises(DpedError, match="write a number and a unit"):
        enhancement.parse_size(text)


# ---------------------------------------------------------------------------------------------- files


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".tif"])
def test_exif_and_profile_stay_and_orientation_is_applied(run, tmp_path, suffix):
    image = pixels()
    stored = np.rot90(image)  # as a camera held upright stores it; orientation 6: turn by 90 degrees clockwise
    more = {"lossless": True} if suffix == ".webp" else {"quality": 100, "subsampling": 0} if suffix == ".jpg" else {}
    source = tmp_path / f"a{suffix}"
    Image.fromarray(stored).save(source, exif=exif(Orientation=6).tobytes(), icc_profile=ICC, **more)
    photograph = picture.read(source)
    assert photograph.pixels.shape == image.shape and np.abs(photograph.pixels.astype(int) - image).max() <= 6
    target = one_file(run, source, tmp_path / "out" / source.name)
    with Image.open(target) as written:
        said = written.getexif()
        assert said.get(ExifTags.Base.Orientation, 1) == 1
        assert said[ExifTags.Base.Make] == "Maker"
        assert said.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == "2017:04:08 12:00:00"
        assert said.get_ifd(ExifTags.IFD.GPSInfo)[1] == "N"
        assert written.info["icc_profile"] == ICC
        result = np.array(written.convert("RGB")).astype(int)
    again = picture.write(picture.Picture(exact(run, photograph.pixels)), tmp_path / f"exact{suffix}")
    lossless = suffix in (".png", ".tif")
    assert np.abs(result - np.array(Image.open(again).convert("RGB"))).max() <= (1 if lossless else 8)


def test_heic_becomes_jpeg_upright_with_exif_and_profile(run, tmp_path):
    """As an iPhone writes it: turned by its EXIF, which libheif may already have done when Pillow reads it."""
    import pillow_heif

    pillow_heif.register_heif_opener()
    image, source = pixels(), tmp_path / "a.HEIC"
    Image.fromarray(image).save(source, quality=95, exif=exif(Orientation=6).tobytes(), icc_profile=ICC)
    assert [j.target for j in enhance_files.plan_jobs([source], tmp_path / "out").jobs] == [tmp_path / "out" / "a.jpg"]
    photograph = picture.read(source)
    assert np.abs(photograph.pixels.astype(int) - np.rot90(image, 3)).mean() < 4
    with Image.open(one_file(run, source, tmp_path / "out" / "a.jpg", quality=100)) as written:
        said = written.getexif()
        assert said.get(ExifTags.Base.Orientation, 1) == 1 and said[ExifTags.Base.Make] == "Maker"
        assert said.get_ifd(ExifTags.IFD.Exif)[ExifTags.Base.DateTimeOriginal] == "2017:04:08 12:00:00"
        assert written.info["icc_profile"] == ICC
        assert np.abs(np.array(written).astype(int) - exact(run, photograph.pixels)).max() <= 8


def test_the_next_photograph_has_all_the_memory_again(run):
    """Buffers go back to the system when a photograph is done; else the later ones of a folder would be planned in less."""
    image = np.tile(pixels(250, 300), (4, 3, 1))
    buffers = 2 * image.shape[0] * image.shape[1] * 32 * 4
    run(image[:100])
    before = enhancement.resident()
    run(image)
    assert enhancement.resident() - before < buffers / 4


def test_sides_that_the_camera_wrote_down_are_those_of_the_turned_photograph(tmp_path):
    file = tmp_path / "a.jpg"
    Image.fromarray(pixels()).save(file, exif=exif(Orientation=8))
    entries = Image.Exif()
    entries.load(picture.read(file).exif)
    inner = entries.get_ifd(ExifTags.IFD.Exif)
    assert (inner[40962], inner[40963]) == (90, 120)


def test_transparency_stays_where_the_format_has_it(run, tmp_path):
    alpha = np.tile(np.linspace(0, 255, 120).astype(np.uint8), (90, 1))
    source = tmp_path / "a.png"
    Image.fromarray(np.dstack([pixels(), alpha])).save(source)
    written = Image.open(one_file(run, source, tmp_path / "b.png"))
    assert written.mode == "RGBA" and np.array_equal(np.array(written)[..., 3], alpha)
    flat = np.array(Image.open(one_file(run, source, tmp_path / "b.jpg")))
    assert flat.shape == (90, 120, 3) and flat[:, 0].min() > 250, "transparent pixels are laid over white"


@pytest.mark.parametrize("mode", ["L", "P", "CMYK", "1", "LA"])
def test_other_modes_become_rgb(run, tmp_path, mode):
    source = tmp_path / ("a.jpg" if mode == "CMYK" else "a.png")
    Image.fromarray(pixels()).convert(mode).save(source, icc_profile=ICC)
    written = Image.open(one_file(run, source, tmp_path / "out" / source.name))
    assert written.mode == ("RGBA" if mode == "LA" else "RGB") and written.size == (120, 90)
    assert (written.info.get("icc_profile") == ICC) == (mode != "CMYK"), "CMYK's profile does not describe RGB"


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_sixteen_bits_stay_sixteen_bits(run, tmp_path, suffix, channels):
    image = pixels(dtype=np.uint16)
    deep = {1: image[..., 0], 3: image[..., ::-1], 4: np.dstack([image[..., ::-1], image[..., 0]])}[channels]
    source = tmp_path / f"a{suffix}"
    cv2.imwrite(str(source), deep)
    target = one_file(run, source, tmp_path / "out" / source.name)
    assert target.suffix == ".png"
    written = cv2.imread(str(target), cv2.IMREAD_UNCHANGED)
    assert written.dtype == np.uint16 and written.shape[2] == max(3, channels)
    wanted = exact(run, np.repeat(image[..., :1], 3, 2) if channels == 1 else image)
    assert np.abs(written[..., 2::-1].astype(int) - wanted).max() <= 8
    if channels == 4:
        assert np.array_equal(written[..., 3], image[..., 0])


def test_sixteen_bit_png_keeps_exif_and_profile(tmp_path):
    file = picture.write(picture.Picture(pixels(dtype=np.uint16), None, exif().tobytes(), ICC), tmp_path / "a.png")
    photograph = picture.read(file)
    assert photograph.icc == ICC and photograph.pixels.dtype == np.uint16
    said = Image.Exif()
    said.load(photograph.exif)
    assert said[ExifTags.Base.Make] == "Maker"


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (99, 7)])
def test_small_photographs_are_photographs(run, tmp_path, size):
    source = tmp_path / "a.png"
    image = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(image).save(source)
    written = np.array(Image.open(one_file(run, source, tmp_path / "b.png")))
    assert np.abs(written.astype(int) - exact(run, image)).max() <= 1


def test_a_failed_write_leaves_the_old_result(run, tmp_path, monkeypatch):
    source, target = tmp_path / "a.png", tmp_path / "b.png"
    Image.fromarray(pixels()).save(source)
    old = one_file(run, source, target).read_bytes()
    monkeypatch.setattr(Image.Image, "save", lambda *_, **__: (_ for _ in ()).throw(OSError(5, "Input/output error")))
    with pytest.raises(DpedError, match="b.png: cannot be written .*Input/output error"):
        one_file(run, source, target)
    assert target.read_bytes() == old and sorted(f.name for f in tmp_path.iterdir()) == ["a.png", "b.png"]


# ---------------------------------------------------------------------------------------------- the command


def test_a_folder_with_bad_files_in_it(net, tmp_path):
    folder, results = tmp_path / "in", tmp_path / "out"
    folder.mkdir()
    Image.fromarray(pixels()).save(folder / "good.jpg")
    Image.fromarray(pixels()).save(folder / "z.bmp")
    whole = io.BytesIO()
    Image.fromarray(pixels(400, 400)).save(whole, "JPEG")
    (folder / "cut.jpg").write_bytes(whole.getvalue()[:2000])
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.jpg").write_text("no photograph")
    (folder / "notes.txt").write_text("not looked at")
    code, said, errors = enhance(folder, results, "--weights", net, "--compare")
    assert code == 1
    assert sorted(f.name for f in results.iterdir()) == ["good-compare.jpg", "good.jpg", "z-compare.jpg", "z.png"]
    for name in ("cut.jpg", "empty.png", "text.jpg"):
        assert len(re.findall(f"not enhanced: .*{name}", errors)) == 1
    assert "on_bad" not in errors and "notes.txt" not in errors + said
    with Image.open(results / "good-compare.jpg") as sheet:
        assert sheet.width == 2 * 120 + 4
    # What is there is kept; asked to, it is made anew.
    before = (results / "good.jpg").stat().st_mtime_ns
    code, said, _ = enhance(folder / "good.jpg", results, "--weights", net)
    assert code == 0 and "exists and is kept" in said and (results / "good.jpg").stat().st_mtime_ns == before
    assert enhance(folder / "good.jpg", results, "--weights", net, "--overwrite")[0] == 0
    assert (results / "good.jpg").stat().st_mtime_ns > before


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (MemoryError(), "MemoryError. Close other programs, or lower --max-memory."),
        (OSError(errno.ENOMEM, "Cannot allocate memory"), "Cannot allocate memory. Close other programs, or lower"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB."), "2 GiB. Close other programs, or lower"),
        (RuntimeError("can't start new thread"), "RuntimeError: can't start new thread\n"),
        (KeyboardInterrupt(), "dped: interrupted."),
    ],
    ids=["python", "system", "gpu", "other", "ctrl-c"],
)
def test_a_photograph_that_fails_is_said_whatever_comes_after_it(net, tmp_path, monkeypatch, error, said):
    """The remedy if memory ran out, and the photographs that failed before the run was stopped."""

    def fails(*_):
        raise error

    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(pixels()).save(tmp_path / name)
    (tmp_path / "empty.png").touch()
    monkeypatch.setattr(enhancement, "whole", fails)
    code, _, errors = enhance(tmp_path, tmp_path / "out", "--weights", net)
    stopped = isinstance(error, KeyboardInterrupt)
    assert code == (130 if stopped else 1)
    assert said in errors and re.search("not enhanced: .*empty.png: empty", errors)
    assert len(re.findall("not enhanced: ", errors)) == (1 if stopped else 3)


def test_a_result_is_said_even_if_its_sheet_fails(net, tmp_path, monkeypatch):
    def fails(*_):
        raise MemoryError

    Image.fromarray(pixels()).save(tmp_path / "a.jpg")
    monkeypatch.setattr(picture.Picture, "on_screen", fails)
    code, said, errors = enhance(tmp_path / "a.jpg", tmp_path / "out", "--weights", net, "--compare")
    assert code == 1 and said == f"{tmp_path}/out/a.jpg\n" and "not enhanced: " in errors


def test_a_closed_pipe_is_no_photograph_that_failed(net, tmp_path):
    for name in ("a.jpg", "b.jpg"):
        Image.fromarray(pixels()).save(tmp_path / name)
    command = [sys.executable, "-m", "dped_lib.app.cli", "enhance", tmp_path, tmp_path / "out", "--weights", net]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    process.stdout.close()
    errors = process.stderr.read()
    assert process.wait(timeout=120) == 1
    assert "not enhanced" not in errors and "Traceback" not in errors
    assert os.listdir(tmp_path / "out") == ["a.jpg"]


def test_one_file_into_another_of_another_format(net, tmp_path):
    Image.fromarray(pixels()).save(tmp_path / "a.jpg")
    code, said, errors = enhance(tmp_path / "a.jpg", tmp_path / "b.webp", "--weights", net, "--precision", "float32")
    assert code == 0 and said.strip() == str(tmp_path / "b.webp")
    assert Image.open(tmp_path / "b.webp").format == "WEBP"
    assert re.search(r"a.jpg: 120 x 90 pixels: 8 sweeps in bands of 90 rows, each layer once", errors), (
        "announced before it runs"
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["a.jpg"], "then the file or folder to write"),
        (["missing.jpg", "out"], "missing.jpg: no such file or folder"),
        (["a.jpg", "sub/a.jpg", "out"], "would both be written"),
        (["a.jpg", "."], "would replace the original"),
        (["a.jpg", "sub", "b.png"], "names one file"),
        (["a.jpg", "out", "--format", "gif"], "unknown format 'gif'; allowed: jpg"),
        (["a.jpg", "out", "--max-memory", "much"], "write a number and a unit"),
        (["a.jpg", "out", "--precision", "half"], "unknown precision 'half'"),
        (["a.jpg", "out", "--weights", "identity"], "these weights do not enhance"),
        (["none", "out"], "no photographs in it"),
    ],
)
def test_wrong_arguments_are_refused_and_nothing_is_written(net, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "sub").mkdir()
    (tmp_path / "none").mkdir()
    for name in ("a.jpg", "sub/a.jpg", "sub/c.jpg"):
        Image.fromarray(pixels()).save(tmp_path / name)
    if "--weights" not in arguments:
        arguments = [*arguments, "--weights", str(net)]
    code, _, errors = enhance(*arguments)
    assert code == 2 and message in errors
    assert not (tmp_path / "out").exists()


def test_too_little_memory_is_said_before_anything_is_computed(net, tmp_path):
    Image.fromarray(pixels(500, 500)).save(tmp_path / "a.jpg")
    code, _, errors = enhance(tmp_path / "a.jpg", tmp_path / "out", "--weights", net, "--max-memory", "1MiB")
    assert code == 1 and re.search(r"not enhanced: .*needs at least \d+ MiB .*--max-memory", errors)


def test_peak_memory_stays_under_the_bound(net, tmp_path):
    """3 MP, float32: 770 MB of features in the quick way. Measured by the kernel, on a process of its own.

    Not by getrusage: a child's maximum there begins with what its parent, this test run, holds.
    """
    if not Path("/proc/self/status").exists():
        pytest.skip("needs Linux: the peak memory of a process is read from /proc")
    big = np.tile(pixels(500, 600), (2, 5, 1))
    Image.fromarray(big).save(tmp_path / "a.jpg")
    script = (
        "import sys; from pathlib import Path; from dped_lib.app import cli\n"
        "try: cli.app(sys.argv[1:], standalone_mode=False)\n"
        "finally: print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    bound = 700 << 20
    done = subprocess.run(
        [sys.executable, "-c", script, "enhance", str(tmp_path / "a.jpg"), str(tmp_path / "out"), "--weights", str(net)]
        + ["--precision", "float32", "--max-memory", "700MiB"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert "times the work" in done.stderr, "the bound asks for more work"
    peak = int(done.stdout.splitlines()[-1]) << 10
    assert 100 << 20 < peak < bound
    assert Image.open(tmp_path / "out" / "a.jpg").size == (3000, 1000)
