"""Nothing of the user's is lost: the places of results are decided before any work, on the paths that will really be written."""

import functools
import hashlib
import os
import re
import subprocess
from pathlib import Path

import cv2
import iccs
import numpy as np
import pictures
import pillow_heif
import pytest
from PIL import ExifTags, Image

from dped_lib import models
from dped_lib.base import writing
from dped_lib.base.errors import DpedError
from dped_lib.data import color_profiles, image_decoding, network_files, picture
from dped_lib.enhance import enhancement
from dped_lib.enhance import files as enhance_files


@pytest.fixture(scope="module")
def net(tmp_path_factory) -> Path:
    """A quick network in a file."""
    file = tmp_path_factory.mktemp("net") / "quick.safetensors"
    network_files.save_tensors(models.generator("srcnn").state_dict(), file, {"model": "srcnn", "variant": "code"})
    return file


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


#: Small ones, for time.
pixels = functools.partial(pictures.pixels, 30, 40)


def put(*names: str, deep: bool = False, **more) -> None:
    """Photographs of 8 bits, or of 16."""
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        if deep:
            assert cv2.imwrite(name, pixels(np.uint16)[..., ::-1])
        else:
            Image.fromarray(pixels()).save(name, **more)


def everything() -> dict[str, str]:
    return {str(f): hashlib.md5(f.read_bytes()).hexdigest() for f in sorted(Path().rglob("*")) if f.is_file()}


def dped(net: Path, *arguments) -> tuple[int, str, str]:
    """The command. Whatever it does: no traceback, no litter, and nothing that was there before has changed, unless --overwrite is named."""
    before = everything()
    answer = pictures.enhance(*arguments, "--weights", net)
    after = everything()
    assert not [f for f in Path().rglob(".*")]
    if "--overwrite" not in arguments:
        assert {k: after.get(k) for k in before} == before
    return answer


# ---------------------------------------------------------------------------------------------- nothing is replaced

REFUSED = [
    (["a.png!"], ["a.png", "a.tif"], "a.png: would replace the original"),
    (["f/a.png!", "f/b.jpg"], ["f", "f", "--format", "webp"], "f/a.png: would replace the original"),
    (["f/a.tif!", "f/a.png"], ["f", "out"], "f/a.png and f/a.tif would both be written to out/a.png"),
    (["f/a.png", "f/a-compare.jpg"], ["f", "out", "--compare"], "would both be written to out/a-compare.jpg"),
    (
        ["f/a.png", "f/a-compare.jpg"],
        ["f", "f", "--format", "webp", "--compare"],
        "would replace a photograph by a sheet",
    ),
    (
        ["f/a.jpg", "f/a.tif", "f/a.jpg-compare.jpg"],
        ["f", "out", "--compare"],
        "would both be written to out/a.jpg-comp",
    ),
    (["f/a.jpg", "f/a.bmp", "f/a.png"], ["f", "out"], "would both be written to out/a.png"),
    (["f/a.jpg"], ["f", "f"], "would replace the original"),
    (["f/a.jpg"], ["f", "f", "--overwrite"], "would replace the original"),
    (["f/a.jpg"], ["f", "f/../f", "--overwrite"], "would replace the original"),
    (["f/a.jpg"], ["f", "no/../f", "--overwrite"], "would replace the original"),
    (["f/a.jpg"], ["no/../f", "no/no/../../f", "--overwrite"], "would replace the original"),
    (["f/a.jpg"], ["f", "no/../f/a.jpg", "--overwrite"], "would replace the original"),
    (["a.jpg"], ["a.jpg", "b.heic"], "b.heic: cannot write .heic"),
    (["a.jpg"], ["a.jpg", "b.gif"], "b.gif: cannot write .gif"),
    (["a.jpg"], ["a.jpg", "o.jfif"], "o.jfif: cannot write .jfif"),
    (["a.jpg"], ["a.jpg", "o.JPE"], "o.JPE: cannot write .JPE"),
    (["a.jpg"], ["a.jpg", "o.cr2"], "o.cr2: cannot write .cr2"),
    (["a.jpg"], ["a.jpg", ""], "an argument that names a file or folder is empty"),
    (["a.jpg"], ["", "out"], "an argument that names a file or folder is empty"),
    (["a.jpg"], [".", "", "."], "an argument that names a file or folder is empty"),
    (["a.jpg"], ["a.jpg", "b.png", "--format", "webp"], "ends in .png, and --format says webp"),
    (["a.jpg", "out.jpg"], ["a.jpg", "out.jpg/sub"], "cannot be made, because .*out.jpg is not a folder"),
]


@pytest.mark.parametrize(("files", "arguments", "message"), REFUSED)
def test_what_would_replace_something_is_refused_before_any_work(net, here, files, arguments, message):
    for name in files:
        put(name.removesuffix("!"), deep=name.endswith("!"))
    before = everything()
    code, said, errors = dped(net, *arguments)
    assert code == 2 and re.search(message, errors) and not said
    assert everything() == before


@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_a_pipe_is_neither_a_result_nor_read(net, here, time_limit, more):
    """Nobody writes to it, so reading it would wait forever."""
    put("a.jpg")
    os.mkfifo("o.jpg")
    code, said, errors = dped(net, "a.jpg", "o.jpg", *more)
    assert code == 1 and not said and "not enhanced: a.jpg: o.jpg exists" in errors
    with pytest.raises(DpedError, match="o.jpg: not a regular file"):
        image_decoding.check(Path("o.jpg"))


def test_only_earlier_results_are_overwritten(net, here):
    """`--overwrite` with OUT forgotten names an original as the result. In each format a result is known by its EXIF."""
    put("a.jpg", "b.jpg", "c.png", "other/a.jpg", "other/a-compare.jpg")
    put("deep.png", deep=True)
    pillow_heif.from_pillow(Image.fromarray(pixels())).save("IMG.heic")
    put("IMG.jpg")
    Path("notes.jpg").write_text("no photograph")
    before = everything()
    for arguments in (["a.jpg", "b.jpg"], ["a.jpg", "c.png"], ["IMG.heic", "."], ["a.jpg", "notes.jpg"]):
        code, said, errors = dped(net, *arguments, "--overwrite")
        assert code == 1 and not said and "was not made by dped enhance, so --overwrite does not replace it" in errors
        code, said, errors = dped(net, *arguments)
        assert "--overwrite" not in said + errors
        if arguments[-1] == ".":
            assert code == 0 and "exists and is kept" in said
        else:
            assert code == 1 and not said and f"not enhanced: a.jpg: {arguments[-1]} exists. Move it away" in errors
    code, said, errors = dped(net, "a.jpg", "other", "--compare", "--overwrite")
    assert code == 1 and not said
    assert everything() == before
    for name in ("1.jpg", "1.png", "1.webp", "1.tif", "2.png"):
        source = "deep.png" if name == "2.png" else "a.jpg"
        assert dped(net, source, f"out/{name}", "--compare")[0] == 0
        assert image_decoding.is_enhanced(Path("out", name)) and image_decoding.is_enhanced(
            Path(f"out/{name[0]}-compare.jpg")
        )
        made = os.stat(f"out/{name}").st_mtime_ns
        code, said, _ = dped(net, source, f"out/{name}", "--compare", "--overwrite")
        assert code == 0 and len(said.split()) == 2 and os.stat(f"out/{name}").st_mtime_ns > made
    assert not any(image_decoding.is_enhanced(Path(name)) for name in before)


def test_photographs_that_differ_only_in_their_suffix_have_two_sheets(net, here):
    Path("f").mkdir()
    for name in ("a.jpg", "a.tif", "b.jpg"):
        Image.fromarray(pixels()).convert("CMYK").save(f"f/{name}")
    code, said, _ = dped(net, "f", "out", "--compare")
    sheets = ["out/a.jpg-compare.jpg", "out/a.tif-compare.jpg", "out/b-compare.jpg"]
    assert code == 0 and sorted(line for line in said.split() if "compare" in line) == sheets


@pytest.mark.parametrize("target", ["f", ".", "link", "f/one.png"])
def test_a_folder_that_is_read_and_written_can_be_run_again(net, here, target):
    """Earlier results and sheets are no originals; what the user puts beside them is one."""
    put("f/a.jpg", "f/b.jpg")
    Path("link").symlink_to("f")
    source = Path("f").resolve() if target == "." else "f"
    os.chdir("f" if target == "." else ".")
    if target == "f/one.png":
        Path("f/b.jpg").unlink()
        arguments = [source, target, "--compare"]
    else:
        arguments = [source, target, "--format", "png", "--compare"]
    code, said, _ = dped(net, *arguments)
    made = said.split()
    assert code == 0 and len(made) in (2, 4)
    before = everything()
    code, said, errors = dped(net, *arguments)
    if target == "f/one.png":  # a file that is named, and not a folder that is completed
        assert code == 1 and "a.jpg: f/one.png exists. Replace it with --overwrite" in errors
    else:
        assert code == 0 and said.count("exists and is kept (--overwrite") == len(made)
    assert f"f: earlier results in it, which are not enhanced again: {len(made)}\n" in errors
    assert dped(net, *arguments, "--overwrite")[0] == 0
    assert everything() == before
    if target == "f":
        Path("f/b-compare.jpg").unlink()
        put("f/b-compare.jpg")
        assert "would replace a photograph by a sheet" in dped(net, *arguments)[2]
        for name in ("a.jpg", "b.jpg", "b-compare.jpg"):
            Path("f", name).unlink()
        code, _, errors = dped(net, *arguments)
        assert code == 2 and "no photographs in it but earlier results" in errors
        assert dped(net, "f", "other")[0] == 0, "asked for, results are enhanced"


def test_what_appears_during_a_run_is_not_overwritten(net, here):
    put("a.jpg")
    (job,) = enhance_files.plan_jobs(["a.jpg"], Path("b.jpg"), overwrite=True).jobs
    Path("b.jpg").write_text("somebody else's")
    run = enhancement.engine(network_files.resolve(str(net)), "float32", "cpu")
    with pytest.raises(DpedError, match="b.jpg: not written"):
        list(enhance_files.do(run, job))
    assert Path("b.jpg").read_text() == "somebody else's"


@pytest.mark.parametrize("overwrite", [False, True])
def test_the_result_of_a_run_at_the_same_time_is_replaced_only_if_asked(net, here, overwrite):
    put("a.jpg")
    planned = enhance_files.plan_jobs(["a.jpg"], Path("b.jpg"), compare=True, overwrite=overwrite)
    assert dped(net, "a.jpg", "b.jpg", "--compare")[0] == 0
    before = {name: os.stat(name).st_ino for name in ("b.jpg", "b-compare.jpg")}
    work = enhance_files.do(enhancement.engine(network_files.resolve(str(net)), "float32", "cpu"), planned.jobs[0])
    if overwrite:
        assert list(work) == [Path("b.jpg"), Path("b-compare.jpg")]
    else:
        with pytest.raises(DpedError, match="b.jpg: not written, because another file"):
            list(work)
    assert all((os.stat(name).st_ino != inode) == overwrite for name, inode in before.items())


def test_the_mark_of_a_result_stands_behind_that_of_other_software(net, here):
    exif = Image.Exif()
    exif.update({11: "digiKam-8.2", 305: "Camera 1.0"})
    put("a.jpg", exif=exif)
    assert not image_decoding.is_enhanced(Path("a.jpg"))
    for source, name in (("a.jpg", "b.jpg"), ("b.jpg", "c.png")):
        code, _, errors = dped(net, source, name)
        assert code == 0 and "lacks" not in errors
        with Image.open(name) as made:
            assert dict(made.getexif()) == {11: "digiKam-8.2; dped enhance", 305: "Camera 1.0"}


def test_originals_are_known_through_links(net, here):
    put("f/a.jpg")
    Path("g").mkdir()
    Path("g/a.jpg").symlink_to(here / "f/a.jpg")
    Path("h").symlink_to("f")
    Path("hard").mkdir()
    os.link("f/a.jpg", "hard/a.jpg")
    for arguments in (("g", "f"), ("g", "h"), ("f", "g"), ("f", "h"), ("f", "hard"), ("hard", "f")):
        code, _, errors = dped(net, *arguments, "--overwrite")
        assert code == 2 and "would replace the original" in errors
    assert Path("g/a.jpg").is_symlink() and Path("f/a.jpg").stat().st_nlink == 2


def test_names_that_differ_in_case_are_two_files_where_the_disk_says_so(net, here, monkeypatch):
    put("f/A.jpg", "f/a.jpg")
    assert dped(net, "f", "out")[0] == 0 and len(list(Path("out").iterdir())) == 2
    monkeypatch.setattr(writing, "probe_folder", lambda *_: False)  # as on most disks of macOS and Windows
    code, _, errors = dped(net, "f", "other")
    assert code == 2 and "would both be written" in errors and not Path("other").exists()


def test_a_file_that_comes_meanwhile_stays(here):
    put("a.jpg")
    Path("b.png").write_text("somebody else's")
    with pytest.raises(DpedError, match="b.png: not written, because another file with this name has appeared"):
        picture.write(picture.read(Path("a.jpg")), Path("b.png"), replace=False)
    assert Path("b.png").read_text() == "somebody else's"
    assert sorted(f.name for f in Path().iterdir()) == ["a.jpg", "b.png"]


def test_what_is_in_the_way_of_one_photograph_does_not_stop_the_others(net, here):
    put("f/a.jpg", "f/b.jpg", "f/c.jpg", f"f/{'x' * 246}.jpg")
    Path("out/a.jpg").mkdir(parents=True)
    Path("out/c.jpg").symlink_to("nowhere")
    code, said, errors = dped(net, "f", "out", "--compare")
    assert code == 1 and said.split() == ["out/b.jpg", "out/b-compare.jpg"]
    assert "out/a.jpg: is a folder" in errors and "out/c.jpg: is a link to a missing file" in errors
    assert "this name is too long" in errors and os.readlink("out/c.jpg") == "nowhere"


# ---------------------------------------------------------------------------------------------- what is kept


def test_kept_are_results_under_their_final_names_and_missing_sheets_are_made(net, here):
    put("a.tif", deep=True)
    put("out/keep.png")
    code, said, errors = dped(net, "a.tif", "out/keep.tif")
    assert code == 1 and "not enhanced: a.tif: out/keep.png exists. Move it away" in errors and not said
    assert "a.tif: is written as keep.png, which keeps 16 bits a channel" in errors
    code, said, _ = dped(net, "a.tif", "out/new.tif")
    assert said.split() == ["out/new.png"]
    code, said, errors = dped(net, "a.tif", "out/new.tif")
    assert code == 1 and not said and "a.tif: out/new.png exists. Replace it with --overwrite, or name" in errors
    code, said, _ = dped(net, "a.tif", "out/new.tif", "--compare")
    assert code == 0 and "out/new.png: exists and is kept" in said and "\nout/new-compare.jpg" in said
    code, said, errors = dped(net, "a.tif", "out/new.tif", "--compare")
    assert code == 1 and not said and "a.tif: out/new.png exists. Replace it" in errors
    before = everything()
    assert dped(net, "a.tif", "out/new.tif", "--compare", "--overwrite")[0] == 0
    assert [k for k, v in everything().items() if before[k] != v] == [], "the same network, the same pictures"


def test_remains_of_a_killed_run_are_deleted(net, here):
    put("f/a.jpg")
    for name in (".a.jpg.ab12cd34.part", ".a-compare.jpg._0123456.part"):
        Path("out", name).mkdir(parents=True)
        Path("out", name, ".dped-is-writing").touch()
        Path("out", name, "a.jpg").write_bytes(b"half")
    assert pictures.enhance("f", "out", "--compare", "--weights", net)[0] == 0
    assert sorted(os.listdir("out")) == ["a-compare.jpg", "a.jpg"]


def test_the_users_own_sheet_is_kept(net, here):
    put("f/a.png", "f/a-compare.jpg")
    code, said, _ = dped(net, "f/a.png", "f/a.webp", "--compare")
    assert code == 0 and "f/a-compare.jpg: exists and is kept" in said and Path("f/a.webp").exists()


@pytest.mark.parametrize("target", ["out", "out/a.jpg"])
def test_a_file_of_the_users_is_shown_as_nobodys_result(net, here, target):
    put("f/a.jpg", "out/a.jpg")
    code, said, errors = dped(net, "f/a.jpg", target, "--compare")
    assert code == 1 and not said and os.listdir("out") == ["a.jpg"]
    assert "not enhanced: f/a.jpg: out/a.jpg exists and was not made by dped enhance, so --compare cannot" in errors


def test_a_sheet_is_kept_behind_a_missing_folder(net, here):
    put("f/a.jpg", "out/a-compare.jpg")
    assert dped(net, "f", "no/../out", "--compare")[0] == 0  # dped() compares what was there
    planned = enhance_files.plan_jobs([Path("f")], Path("no/../out"), compare=True)
    assert [(str(j.sheet), j.make, j.make_sheet) for j in planned.jobs] == [("out/a-compare.jpg", False, False)]
    assert sorted(os.listdir()) == ["f", "out"]


def test_what_is_left_out_of_a_folder_is_said_in_a_line(net, here):
    put("f/a.jpg", "f/sub/x.jpg", "f/out/y.jpg")
    for name in ("c.gif", "d.CR2", "e.jfif", "notes", "Thumbs.db", "desktop.ini"):
        Path("f", name).write_bytes(b"GIF89a")
    Path("f/gone.jpg").symlink_to("nowhere.jpg")
    os.mkfifo("f/a.fifo")
    code, said, errors = dped(net, "f", "f/out")
    lines = [line for line in errors.splitlines() if "not enhanced" in line]
    assert (code, said) == (0, "f/out/a.jpg\n")
    assert lines == [
        "f: files and folders in it that are not enhanced: 7 (.CR2, .gif, .jfif, a broken link, ...). Name one to try it."
    ]
    os.mkfifo("f/sub/a.fifo")
    [note] = enhance_files.plan_jobs([Path("f/sub")], Path("f/sub/new/results")).notes
    assert "not enhanced: 1 (a pipe or device)" in note
    os.unlink("f/sub/a.fifo")
    Path("f/sub/.hidden.gif").touch()
    assert enhance_files.plan_jobs([Path("f/sub")], Path("f/sub/new/results")).notes == ()


def test_a_pipe_is_no_missing_file(net, here):
    os.mkfifo("pipe.jpg")
    code, _, errors = dped(net, "pipe.jpg", "out")
    assert (
        code == 2
        and "pipe.jpg: not a regular file (perhaps a pipe or a device). Save the photograph in a file first." in errors
    )


def test_a_photograph_without_a_suffix_keeps_its_format(net, here):
    put("f/a.jpg", "f/b.tif", "f/c.webp", "f/d.gif")
    for name in ("a.jpg", "b.tif", "c.webp", "d.gif"):
        os.rename(f"f/{name}", name[0])
    code, said, errors = dped(net, "a", "b", "c", "d", "out")
    assert code == 0 and said.split() == ["out/a.jpg", "out/b.tif", "out/c.webp", "out/d.png"]
    assert "a: is written as a.jpg, because its name has no suffix" in errors


@pytest.mark.parametrize("number", [10, 11])
def test_many_failures_are_counted_in_the_last_line(net, here, number):
    put("f/z.jpg")
    for i in range(number):
        Path(f"f/{i}.jpg").touch()
    code, said, errors = dped(net, "f", "out")
    last = f"{number} of {number + 1} photographs were not enhanced."
    assert code == 1 and said == "out/z.jpg\n" and (errors.splitlines()[-1] == last) is (number > 10)


def test_what_a_name_may_be(net, here):
    names = [
        "-dash.jpg",
        "dots.v1.2.jpg",
        "größe ü.jpg",
        "夏\u3000休み.jpg",
        "new\nline.jpg",
        "UPPER.JPG",
        "a b'c\".jpg",
    ]
    names += ["hidden\rshown.jpg", "red\x1b[31m.jpg", "line\u2028end.jpg"]
    put(*(f"f/{n}" for n in names))
    os.rename(b"f/-dash.jpg", b"f/\xff.jpg")
    code, said, errors = dped(net, "f", "out")
    assert code == 0 and sorted(os.listdir(b"out")) == sorted(os.listdir(b"f"))
    assert "new?line.jpg: 100 %" in errors and not [x for x in errors.splitlines() if x.startswith("line.jpg")]
    assert "out/new\\nline.jpg" in said and "out/\\udcff.jpg" in said
    # What would move the cursor, clear the screen or end the line is escaped. The spaces of other scripts are not.
    assert not set("\r\x1b\u2028") & set(said) and "out/red\\x1b[31m.jpg" in said and "out/夏\u3000休み.jpg" in said


def test_a_suffix_that_lies_does_not_cost_depth_or_transparency(net, here):
    put("f/deep.png", deep=True)
    Image.fromarray(np.dstack([pixels(), pixels()[..., 0]])).save("f/clear.png")
    for name in ("deep", "clear"):
        os.rename(f"f/{name}.png", f"f/{name}.jpg")
    code, said, errors = dped(net, "f", "out")
    assert code == 0 and said.split() == ["out/clear.png", "out/deep.png"]
    assert "clear.jpg: is written as clear.png, which keeps transparency" in errors
    code, said, errors = dped(net, "f", "flat", "--format", "jpg")
    assert "flat/clear.jpg: JPEG has no transparency" in errors and "flat/deep.jpg: JPEG has 8 bits" in errors


# ---------------------------------------------------------------------------------------------- limits and failures


def test_limits_of_formats_are_known_from_the_header(net, here):
    for name, width in (("a", 17_000), ("b", 70_000)):
        Path("f").mkdir(exist_ok=True)
        Image.new("RGB", (width, 2)).save(f"f/{name}.png")
    put("f/c.png")
    code, said, errors = dped(net, "f", "webp", "--format", "webp")
    assert code == 1 and said.split() == ["webp/c.webp"]
    assert "webp/a.webp: 17000 x 2 pixels, and WEBP takes at most 16383 a side" in errors
    code, said, errors = dped(net, "f", "jpg", "--format", "jpg")
    assert code == 1 and said.split() == ["jpg/a.jpg", "jpg/c.jpg"]
    assert "not enhanced: jpg/b.jpg: 70000 x 2 pixels, and JPEG takes at most 65500 a side" in errors


def test_long_exif_into_jpeg(net, here):
    exif = Image.Exif()
    exif[ExifTags.Base.Make] = "Maker"
    exif[ExifTags.IFD.Exif] = {ExifTags.Base.MakerNote: b"M" * 80_000}
    put("f/a.png", exif=exif)
    put("f/b.png")
    code, said, errors = dped(net, "f", "out", "--format", "jpg")
    assert code == 0 and said.split() == ["out/a.jpg", "out/b.jpg"]
    assert "out/a.jpg: EXIF is too long for JPEG; trimmed: MakerNote" in errors
    with Image.open("out/a.jpg") as written:
        assert written.getexif()[ExifTags.Base.Make] == "Maker"


def test_a_folder_that_cannot_be_written_to_is_found_before_weights_are_loaded(here):
    put("f/a.jpg")
    Path("out").write_text("a file")
    code, _, errors = dped(Path("no-weights.safetensors"), "f", "out")
    assert code == 2 and "out: cannot be made, because" in errors and "DPED_" not in errors


def test_a_full_or_read_only_disk(net, small_disk, monkeypatch):
    monkeypatch.chdir(small_disk.parent)
    put("f/a.jpg", "f/c.jpg")
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (900, 900, 3), np.uint8)).save("f/b.tif")
    code, said, errors = dped(net, "f", "small-disk/out")
    assert code == 1 and said.split() == ["small-disk/out/a.jpg", "small-disk/out/c.jpg"]
    assert (
        "b.tif: not written, the disk is full" in errors and "name another folder" in errors and "DPED_" not in errors
    )
    with pytest.raises(OSError, match="No space"):
        (small_disk / "all").write_bytes(bytes(2 << 20))
    monkeypatch.setattr(enhance_files, "probe", lambda jobs: [])  # the disk is filled after it
    code, said, errors = dped(net, "f", "small-disk/new")
    lines = [line.split(": ")[:2] for line in errors.splitlines() if "the disk is full" in line]
    assert code == 1 and not said and lines == [["not enhanced", f"f/{name}"] for name in ("a.jpg", "b.tif", "c.jpg")]
    monkeypatch.undo()
    monkeypatch.chdir(small_disk.parent)
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    code, _, errors = dped(Path("no-weights.safetensors"), "f", "small-disk/new")
    assert code == 2 and "small-disk/new: cannot be written to" in errors and "DPED_" not in errors
    assert dped(net, "f/a.jpg", "small-disk/out")[0] == 0, "nothing to write, nothing to complain about"


def test_memory_is_counted_before_a_photograph_is_read(net, here):
    Image.new("1", (13_000, 13_000)).save("a.png")
    code, _, errors = dped(net, "a.png", "out", "--max-memory", "1GiB")
    assert code == 1 and "a.png: needs at least" in errors and "1024 MiB are allowed" in errors


def test_no_message_counts_memory_below_zero(net, here):
    put("a.jpg")
    run = enhancement.engine(network_files.resolve(str(net)), "float32", "cpu", enhancement.resident() // 2)
    with pytest.raises(DpedError) as raised:
        run.plan(3000, 3000, enhancement.resident())
    assert "-" not in str(raised.value).replace("--max-memory", "")


# ---------------------------------------------------------------------------------------------- colours


def test_a_wide_photograph_is_enhanced_as_in_srgb_and_keeps_its_profile(net, here):
    wide, profile = (pixels() // 4 + 90).astype(np.uint8), color_profiles.load_profile(iccs.P3)
    narrow = image_decoding.in_8bit(profile.to_srgb(wide))
    Image.fromarray(wide).save("wide.png", icc_profile=iccs.P3)
    Image.fromarray(narrow).save("narrow.png")
    run = enhancement.engine(network_files.resolve(str(net)), "float32", "cpu")
    results = {}
    for name in ("wide", "narrow"):
        results[name] = enhancement.whole(run, picture.read(Path(f"{name}.png")))
    assert results["wide"].icc == iccs.P3 and results["wide"].pixels.dtype == np.uint8
    assert np.abs(results["wide"].on_screen().astype(int) - results["narrow"].pixels).max() <= 2
    code, _, errors = dped(net, "wide.png", "out")
    assert code == 0 and "its colours (Display P3) are converted to sRGB for the network, and back" in errors
    with Image.open("out/wide.png") as written:
        assert written.info["icc_profile"] == iccs.P3


def test_what_is_lost_is_said_in_a_line_each(net, here):
    put("a.webp", save_all=True, append_images=[Image.fromarray(255 - pixels())], xmp=b"<x:xmpmeta/>")
    _, _, errors = dped(net, "a.webp", "out")
    assert "a.webp: the result lacks XMP\n" in errors
    assert "a.webp: the result lacks 1 later frame or page\n" in errors


def test_a_job_needs_no_sheet(here):
    put("a.jpg")
    (job,) = enhance_files.plan_jobs(["a.jpg"], Path("out")).jobs
    assert (job.target, job.sheet, job.make, job.make_sheet) == (Path("out/a.jpg"), None, True, False)
