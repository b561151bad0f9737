"""The full dataset as one obtains it: a folder or an archive, however it was packed, whatever else is in it, whenever it was stopped."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dped_lib.app import cli, doctor
from dped_lib.base import presets
from dped_lib.base.errors import DpedError
from dped_lib.data import archives, official_layout, opening, pair_store, photographs

COUNTS = {"training_data": 60, "test_data/patches": 4}


def jpeg(value: int, size: int = 100) -> bytes:
    data = io.BytesIO()
    Image.new("RGB", (size, size), (value, value, value)).save(data, "JPEG", quality=95)
    return data.getvalue()


def members(phone: str = "sony", counts=COUNTS) -> dict[str, bytes]:
    """Every file of the layout: the phone's patch i is gray i, the DSLR's i + 100."""
    patches = {
        f"dped/{phone}/{place}/{side}/{i}.jpg": jpeg(i + 100 * (side == "canon"))
        for place, count in counts.items()
        for i, side in product(range(count), (phone, "canon"))
    }
    return patches | {f"dped/{phone}/test_data/full_size_test_images/{i}.jpg": jpeg(i, 120) for i in (10, 9)}


def write_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (path / name).parent.mkdir(parents=True, exist_ok=True)
        (path / name).write_bytes(content)
    return path


def write_zip(path: Path, files: dict[str, bytes], method: int = zipfile.ZIP_DEFLATED, comment: bytes = b"") -> Path:
    with zipfile.ZipFile(path, "w", method) as archive:
        archive.comment = comment
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], mode: str = "w", form: int = tarfile.PAX_FORMAT) -> Path:
    with tarfile.open(path, mode, format=form) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def backwards(files: dict[str, bytes]) -> dict[str, bytes]:
    return dict(reversed(files.items()))


def deep(files: dict[str, bytes]) -> dict[str, bytes]:
    # Longer than the 100 characters that a tar's header has room for.
    return {f"{'backup of the disk/' * 8}dped/{name}": content for name, content in files.items()}


def upper(files: dict[str, bytes]) -> dict[str, bytes]:
    return {n.replace(".jpg", ".JPG") if "/canon/" in n else n: c for n, c in files.items()}


def littered(files: dict[str, bytes]) -> dict[str, bytes]:
    extra = {}
    for name in list(files)[::20]:
        folder, _, base = name.rpartition("/")
        extra |= {f"{folder}/{s}": b"stray" for s in ("Thumbs.db", ".DS_Store", "desktop.ini", "999.txt")}
        extra |= {f"__MACOSX/{folder}/._{base}": b"\0\5\x16\7", f"{folder}/._{base}": b"\0\5\x16\7"}
    return {"README": b"", **extra, **files}


def windows(files: dict[str, bytes]) -> dict[str, bytes]:
    return {name.replace("/", "\\"): content for name, content in files.items()}


FORMS = {
    "folder": lambda p, f: write_folder(p / "data", f),
    "deep folder": lambda p, f: write_folder(p / "data", deep(f)),
    "the folder dped": lambda p, f: write_folder(p / "data", f) / "dped",
    "the phone's folder": lambda p, f: write_folder(p / "data", f) / "dped" / "sony",
    "littered folder": lambda p, f: write_folder(p / "data", littered(upper(f))),
    "zip": lambda p, f: write_zip(p / "DPED.zip", f),
    "stored zip": lambda p, f: write_zip(p / "DPED.zip", backwards(f), zipfile.ZIP_STORED, b"a comment PK\5\6 in it"),
    "deep zip": lambda p, f: write_zip(p / "DPED.zip", deep(upper(littered(f)))),
    "zip by Windows": lambda p, f: write_zip(p / "DPED.zip", windows(f)),
    "tar": lambda p, f: write_tar(p / "DPED.tar", f),
    "deep tar": lambda p, f: write_tar(p / "DPED.tar", deep(littered(f)), "w", tarfile.GNU_FORMAT),
    "tar of another name": lambda p, f: write_tar(p / "DPED", deep(f)),
    "tar.gz": lambda p, f: write_tar(p / "DPED.tar.gz", f, "w:gz"),
    "tgz": lambda p, f: write_tar(p / "DPED.tgz", deep(upper(littered(backwards(f)))), "w:gz"),
    "tar.xz": lambda p, f: write_tar(p / "DPED.tar.xz", f, "w:xz"),
}


@pytest.fixture
def make(runs, monkeypatch):
    """The store of the Sony from a folder or archive, made anew."""

    def make(path: Path, on_bad: str = "error") -> pair_store.PairStore:
        monkeypatch.setenv("DPED_DATA", str(path))
        return opening.open_or_make("dped", "sony", on_bad=on_bad)

    return make


def check(store: pair_store.PairStore) -> None:
    """Every patch of ``members`` is there, in its row."""
    assert store.names == [f"train/{i}" for i in range(60)] + [f"test/{i}" for i in range(4)]
    assert {s: v["pairs"] for s, v in store.counts().items()} == {"train": 59, "val": 1, "test": 4}
    assert store.meta["report"] == {"read": 64}
    for i, name in enumerate(store.names):
        number = int(name.split("/")[1])
        assert (store.phone[i] == number).all() and (store.dslr[i] == number + 100).all()


@pytest.mark.parametrize("form", FORMS)
def test_every_form_gives_the_same_store(make, tmp_path, form):
    store = make(FORMS[form](tmp_path, members()))
    check(store)
    assert sorted(os.listdir(store.folder)) == ["dslr.npy", "meta.json", "phone.npy"]
    assert [f for f in os.listdir(store.folder.parent) if f != ".sony.lock"] == ["sony"]
    assert [p.name for p in photographs.of_dataset("dped")] == ["sony/9", "sony/10"]
    assert [p.image.shape for p in photographs.of_dataset("dped")] == [(120, 120, 3)] * 2


def test_large_zips_and_what_stands_before_a_zip(make, tmp_path, monkeypatch):
    """Sizes and places behind 4 GB stand in an extension of the format; here behind 100 bytes."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 100)
    monkeypatch.setattr(zipfile, "ZIP_FILECOUNT_LIMIT", 10)
    file = write_zip(tmp_path / "DPED.zip", members())
    assert b"PK\6\6" in file.read_bytes()
    check(make(file))
    file.write_bytes(b"#!/bin/sh\n" * 100 + file.read_bytes())
    with pytest.raises(DpedError, match="neither a folder nor"):
        make(file)
    file.write_bytes(b"PK\3\4" + file.read_bytes())
    check(make(file))


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "tar.gz"])
def test_several_phones_and_one_that_is_not_there(make, tmp_path, form):
    check(make(FORMS[form](tmp_path, members("iphone") | members("sony"))))
    with pytest.raises(DpedError, match="no pairs in blackberry/.* those of iphone and sony: say --phone iphone"):
        opening.open_or_make("dped", "blackberry")
    assert not opening.folder_of("dped", presets.DEFAULT, "blackberry").exists()


# hostile archives


def test_paths_of_members_are_never_followed(make, tmp_path, capsys):
    """Absolute paths, paths that lead out, and links: never read, never written, and said."""
    bad = "sony/training_data/canon/7.jpg"
    secret = tmp_path / "secret.jpg"
    secret.write_bytes(jpeg(1))
    for mode, name in (("w", "a.tar"), ("w:gz", "a.tar.gz")):
        file = write_tar(tmp_path / name, members(), mode.replace("w", "w"))
        with tarfile.open(tmp_path / f"hostile-{name}", mode) as archive:
            for path in (f"/dped/{bad}", f"../dped/{bad}", f"dped/../../{bad}", "C:\\dped\\" + bad.replace("/", "\\")):
                member = tarfile.TarInfo(path)
                member.size = 3
                archive.addfile(member, io.BytesIO(b"bad"))
            for kind, target in (
                (tarfile.SYMTYPE, str(secret)),
                (tarfile.LNKTYPE, "../secret.jpg"),
                (tarfile.FIFOTYPE, ""),
            ):
                member = tarfile.TarInfo(f"dped/{bad[:-5]}{kind.decode()}00.jpg")
                member.type, member.linkname = kind, target
                archive.addfile(member)
            for path, content in members().items():
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
        before = {f for f in tmp_path.rglob("*") if "runs" not in f.parts}
        check(make(tmp_path / f"hostile-{name}"))
        assert {f for f in tmp_path.rglob("*") if "runs" not in f.parts} == before
        assert "4 unsafe paths" in (said := capsys.readouterr().err) and "3 links" in said
        file.unlink()

    with zipfile.ZipFile(tmp_path / "hostile.zip", "w") as archive:
        for path in (f"/dped/{bad}", f"../dped/{bad}", f"dped/../../{bad}"):
            archive.writestr(path, b"bad")
        link = zipfile.ZipInfo(f"dped/{bad[:-5]}100.jpg")
        link.create_system, link.external_attr = 3, 0o120777 << 16
        archive.writestr(link, str(secret))
        for path, content in members().items():
            archive.writestr(path, content)
    check(make(tmp_path / "hostile.zip"))
    assert "3 unsafe paths" in (said := capsys.readouterr().err) and "1 links" in said


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_of_members_of_one_path_the_last_holds(make, tmp_path, form):
    name = "dped/sony/training_data/sony/3.jpg"
    if form == "zip":
        file = write_zip(tmp_path / "a.zip", {name: jpeg(77)})
        with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(file, "a") as archive:
            for path, content in members().items():
                archive.writestr(path, content)
    else:
        file = tmp_path / "a.tar"
        with tarfile.open(file, "w" if form == "tar" else "w:gz") as archive:
            for path, content in [(name, jpeg(77)), *members().items()]:
                member = tarfile.TarInfo(path)
                member.size = len(content)
                archive.addfile(member, io.BytesIO(content))
    check(make(file))


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "tar.gz"])
def test_what_is_not_clear_is_refused_by_name(make, tmp_path, form):
    twice = members() | {f"copy/{n}": c for n, c in members().items()}
    with pytest.raises(DpedError, match="holds sony's patches twice, in .*dped/sony.* and in .*dped/sony"):
        make(FORMS[form](tmp_path / "1", twice) if (tmp_path / "1").mkdir() is None else None)
    double = members() | {"dped/sony/training_data/sony/3.png": jpeg(3)}
    with pytest.raises(DpedError, match=r"sony/training_data/sony/3\.(jpg|png): another file has the same name"):
        make(FORMS[form](tmp_path / "2", double) if (tmp_path / "2").mkdir() is None else None)


def test_a_loop_of_links_in_a_folder_ends(make, tmp_path):
    root = write_folder(tmp_path / "data", members())
    (root / "dped" / "again").symlink_to(root)
    (root / "dped" / "sony" / "broken").symlink_to(root / "nowhere")
    check(make(root))


# bad members and bad archives


@pytest.mark.parametrize("form", ["folder", "zip", "tar", "tar.gz"])
def test_bad_patches_are_named_or_counted(make, tmp_path, form):
    files = members()
    train = "dped/sony/training_data"
    files[f"{train}/sony/59.jpg"] = files[f"{train}/sony/59.jpg"][:300]
    files[f"{train}/canon/5.jpg"] = jpeg(5, 99)
    del files[f"{train}/canon/58.jpg"], files["dped/sony/test_data/patches/sony/0.jpg"]
    file = FORMS[form](tmp_path, files)
    with pytest.raises(DpedError, match=r"training_data/canon/58\.jpg: missing, but its partner is there"):
        make(file)
    store = make(file, "skip")
    assert store.meta["report"] == {"read": 60, "missing partner": 2, "unreadable": 1, "wrong size": 1}
    assert store.names == [f"train/{i}" for i in range(58) if i != 5] + ["test/1", "test/2", "test/3"]
    assert [store.names[i] for i in store.index("val")] == ["train/57"]
    for i, name in enumerate(store.names):
        assert (store.dslr[i] == int(name.split("/")[1]) + 100).all()


def test_a_damaged_member_of_a_zip_is_found_by_its_checksum(make, tmp_path):
    file = write_zip(tmp_path / "a.zip", members(), zipfile.ZIP_STORED)
    content = bytearray(file.read_bytes())
    with zipfile.ZipFile(file) as archive:
        entry = archive.getinfo("dped/sony/training_data/canon/7.jpg")
    content[entry.header_offset + 30 + len(entry.filename) + entry.file_size - 40] ^= 1
    file.write_bytes(content)
    with pytest.raises(DpedError, match=r"a\.zip: dped/sony/training_data/canon/7\.jpg is damaged"):
        make(file)
    assert make(file, "skip").meta["report"] == {"read": 63, "unreadable": 1}


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
@pytest.mark.parametrize("share", [0, 0.01, 0.4, 0.97])
def test_an_incomplete_download_is_said(make, tmp_path, form, share):
    """No traceback and no store, wherever it ends."""
    file = FORMS[form](tmp_path, members())
    os.truncate(file, int(file.stat().st_size * share))
    with pytest.raises(DpedError, match=r"Get the file again|or name the right one"):
        make(file)
    assert not opening.folder_of("dped", presets.DEFAULT, "sony").exists()


@pytest.mark.parametrize(
    "content", [b"<html>404</html>", b"version https://git-lfs", b"\x1f\x8b no gzip", b"PK\3\4 no zip"]
)
def test_what_is_no_archive_is_said(make, tmp_path, content):
    (tmp_path / "DPED.zip").write_bytes(content)
    with pytest.raises(DpedError, match="DPED.zip: (neither a folder nor|damaged or incomplete)"):
        make(tmp_path / "DPED.zip")


def test_a_pipe_is_refused_and_not_waited_for(make, tmp_path):
    os.mkfifo(tmp_path / "DPED.zip")
    with pytest.raises(DpedError, match="DPED.zip: neither a file nor a folder"):
        make(tmp_path / "DPED.zip")


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_bits_flipped_anywhere_never_make_a_traceback(make, tmp_path, form):
    file = FORMS[form](tmp_path, members("sony", {"training_data": 6, "test_data/patches": 2}))
    good, rng = file.read_bytes(), np.random.default_rng(7)
    for _ in range(60):
        content = bytearray(good)
        for at in rng.integers(0, len(content), 3):
            content[-int(at) // 4 if rng.random() < 0.5 else at] = rng.integers(256)  # the end has a zip's directory
        file.write_bytes(content)
        try:
            make(file, "skip")
        except DpedError as error:
            assert str(tmp_path) in str(error)
        shutil.rmtree(opening.folder_of("dped", presets.DEFAULT, "sony").parent, ignore_errors=True)


# stopped in between


SLOW = """if True:
    import sys, time
    from dped_lib.data import official_layout, opening, readers
    official_layout._SAVE_EVERY = 0
    read = readers.read_patch
    count = [0]
    def slow(*of):
        count[0] += 1
        time.sleep(0.02)
        return read(*of)
    readers.read_patch = slow
    print(len(opening.open_or_make("dped", "sony", on_bad="skip")), count[0])
"""


@pytest.mark.parametrize("form", ["folder", "zip", "tar.gz"])
def test_killed_and_run_again_it_goes_on_and_ends_with_the_same_bytes(make, tmp_path, form, monkeypatch):
    files = members()
    files["dped/sony/training_data/sony/4.jpg"] = b"damaged"
    file = FORMS[form](tmp_path, files)
    whole = make(file, "skip")
    wanted = {f.name: f.read_bytes() for f in whole.folder.iterdir()}
    shutil.rmtree(whole.folder)
    flags = whole.folder.parent / ".sony.making" / "flags.npy"
    for least in (20, 70):
        process = subprocess.Popen([sys.executable, "-c", SLOW], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for _ in range(6000):
            if flags.exists() and (np.load(flags) == 1).sum() >= least:
                break
            time.sleep(0.01)
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert not whole.folder.exists()
    done = subprocess.run([sys.executable, "-c", SLOW], capture_output=True, text=True, check=True)
    pairs, read = map(int, done.stdout.split())
    assert pairs == 63 and read <= 128 - 70
    assert {f.name: f.read_bytes() for f in whole.folder.iterdir()} == wanted
    assert not flags.parent.exists()


def test_what_was_begun_of_another_dataset_is_not_gone_on_with(make, tmp_path, monkeypatch):
    root = write_folder(tmp_path / "data", members())
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt, match="of 128 patches are read and kept"):
        calls = []

        def stop(file, content):
            calls.append(file)
            if len(calls) > 30:
                raise KeyboardInterrupt
            return np.zeros((100, 100, 3), np.uint8)

        patch.setattr(official_layout.readers, "read_patch", stop)
        make(root)
    time.sleep(0.01)
    (root / "dped/sony/training_data/sony/3.jpg").write_bytes(jpeg(3))  # written anew, so it may be another
    check(make(root))


@pytest.mark.parametrize("mine", ["notes.txt", "photographs/1.jpg", ".flags.npy.original.part/x"])
def test_a_folder_of_the_users_is_not_taken_for_what_was_begun(make, tmp_path, runs, mine):
    making = opening.folder_of("dped", presets.DEFAULT, "sony").parent / ".sony.making"
    file = making / mine
    file.parent.mkdir(parents=True)
    file.write_text("the user's")
    (making / "flags.npy").write_bytes(b"")
    root = write_folder(tmp_path / "data", members())
    with pytest.raises(DpedError, match=r"\.sony\.making: holds .*, which dped did not make"):
        make(root)
    assert file.read_text() == "the user's" and (making / "flags.npy").exists()
    file.unlink()
    if file.parent != making:
        file.parent.rmdir()
    check(make(root))


def test_an_empty_file_of_flags_begins_anew(make, tmp_path, runs):
    making = opening.folder_of("dped", presets.DEFAULT, "sony").parent / ".sony.making"
    making.mkdir(parents=True)
    root = write_folder(tmp_path / "data", members())
    listing = official_layout.Listing(archives.open_source(root), "sony", "error")
    (making / "of.json").write_text(json.dumps({"digest": listing.digest(), "pairs": len(listing)}))
    (making / "flags.npy").write_bytes(b"")
    check(make(root))


def test_a_disk_that_fills_up_is_explained(make, tmp_path, small_disk, monkeypatch):
    """Another program takes the room after it was counted."""
    root = write_folder(tmp_path / "data", members())
    monkeypatch.setenv("DPED_RUNS", str(small_disk / "runs"))
    usage = shutil.disk_usage(tmp_path)._replace(free=10**12)
    with monkeypatch.context() as patch:
        patch.setattr(official_layout.shutil, "disk_usage", lambda _: usage)
        with pytest.raises(DpedError, match=r"runs.*: not written, the disk is full .*No space left"):
            make(root)


def test_too_little_room_is_said_before_anything_is_read(make, tmp_path, monkeypatch):
    root = write_folder(tmp_path / "data", members())
    usage = shutil.disk_usage(tmp_path)._replace(free=1000)
    monkeypatch.setattr(official_layout.shutil, "disk_usage", lambda _: usage)
    monkeypatch.setattr(official_layout.readers, "read_patch", lambda *_: pytest.fail("read"))
    with pytest.raises(DpedError, match=r"take 0\.0 GB more, and 0\.0 GB are free.*DPED_RUNS"):
        make(root)


# memory, the command, the examination


@pytest.mark.parametrize("form", ["zip", "tar", "tar.gz"])
def test_the_list_of_patches_is_small(tmp_path, form):
    """300 bytes a pair, whatever the archive: 160 000 pairs stay below 50 MB. An object for each member takes four times that."""
    files = {f"dped/sony/training_data/{side}/{i}.jpg": b"" for side in ("sony", "canon") for i in range(8000)}
    file = FORMS[form](tmp_path, files)
    del files
    code = """if True:
        import sys, tracemalloc
        from pathlib import Path
        from dped_lib.data import archives, official_layout
        source = archives.open_source(Path(sys.argv[1]))
        official_layout.Listing(source, "sony", "error")  # imports what is imported when it is used
        tracemalloc.start()
        listing = official_layout.Listing(source, "sony", "error")
        print(len(listing), tracemalloc.get_traced_memory()[1])
    """
    # In a process of its own: threads that other tests have left would count.
    done = subprocess.run([sys.executable, "-c", code, file], capture_output=True, text=True, check=True)
    length, peak = map(int, done.stdout.split())
    assert length == 8000 and peak < 8000 * 400


def test_fetch_takes_a_file_and_compares_counts(tmp_path, runs, monkeypatch, capsys):
    monkeypatch.setenv("DPED_DATA", "/of/an/earlier/copy")
    file = write_zip(tmp_path / "DPED.zip", members() | members("iphone") | members("blackberry"))
    monkeypatch.setattr(sys, "argv", ["dped", "fetch", "--dataset", "dped", "--from", str(file)])
    with pytest.raises(SystemExit) as end:
        cli.main()
    said = capsys.readouterr().out
    assert end.value.code == 0
    for phone, thousands in (("iphone", 97), ("blackberry", 92), ("sony", 65)):
        assert f"{phone}: 64 patch pairs: 59 train, 1 val, 4 test\n" in said
        assert (
            f"60 training pairs (1 of them held out for validation), 4 test pairs; the paper (v1) states {thousands} thousand"
            in said
        )
        assert f"fewer than the paper states: part of {phone}'s training data is not in this copy" in said
    counts = {"train": {"pairs": 158_000}, "val": {"pairs": 2_000}, "test": {"pairs": 4_000}}
    assert len(official_layout.compare("iphone", counts)) == 1
    # The pairs are there without the archive from now on.
    monkeypatch.delenv("DPED_DATA")
    file.unlink()
    check(opening.open_or_make("dped", "sony"))
    assert json.loads((opening.folder_of("dped", presets.DEFAULT, "sony") / "meta.json").read_text())[
        "origin"
    ].startswith("official")


def test_from_goes_with_the_full_dataset(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["dped", "fetch", "--dataset", "pirm", "--from", "x.zip"])
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 2 and "--from goes with --dataset dped" in capsys.readouterr().err


@pytest.mark.parametrize("form", ["folder", "zip", "tar.gz"])
def test_doctor_says_what_is_named(tmp_path, monkeypatch, form):
    monkeypatch.setenv("DPED_DATA", str(FORMS[form](tmp_path, members())))
    finding = next(f for f in doctor.examine() if f.topic == "dataset dped")
    assert finding.state == "ok" and ("sony" if form == "folder" else "fetch --dataset dped") in finding.detail
    monkeypatch.setenv("DPED_DATA", str(Path(__file__)))
    finding = next(f for f in doctor.examine() if f.topic == "dataset dped")
    assert finding.state == "broken" and "neither a folder nor" in finding.detail
