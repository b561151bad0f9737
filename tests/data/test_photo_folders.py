"""The photographs of a folder: which files count, and which names belong together."""

import pytest

from dped_lib.base.errors import DpedError
from dped_lib.data import image_decoding, photo_folders


def test_a_folder_is_listed_by_stems(tmp_path):
    for name in ("a.jpg", "b.JPEG", "c.Tif", ".hidden.jpg", "notes.txt", "a.jpg.part"):
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()
    assert {k: v.name for k, v in photo_folders.list_photographs(tmp_path).items()} == {
        "a": "a.jpg",
        "b": "b.JPEG",
        "c": "c.Tif",
    }
    assert list(photo_folders.list_photographs(tmp_path, {"c.Tif", "x.jpg"})) == ["c"]


def test_files_of_a_folder(tmp_path):
    for name in ("b.jpg", "a.HEIC", "a.jpg", ".hidden.jpg", "Thumbs.db", "summary.json"):
        (tmp_path / name).touch()
    (tmp_path / "folder.png").mkdir()
    assert [f.name for f in photo_folders.list_files(tmp_path)] == ["a.HEIC", "a.jpg", "b.jpg"]


def test_a_link_to_a_missing_file_is_no_photograph_unless_its_place_counts(tmp_path):
    (tmp_path / "a.jpg").touch()
    (tmp_path / "b.jpg").symlink_to(tmp_path / "gone.jpg")
    assert list(photo_folders.list_photographs(tmp_path)) == ["a"]
    assert list(photo_folders.list_photographs(tmp_path, broken=True)) == ["a", "b"]
    with pytest.raises(DpedError, match=r"b.jpg: a link to a file that is not there \(.*gone.jpg\). Bring it back"):
        image_decoding.check(tmp_path / "b.jpg")


def test_two_files_of_one_stem_are_both_named(tmp_path):
    for name in ("a.jpg", "a.PNG"):
        (tmp_path / name).touch()
    with pytest.raises(DpedError, match="a.PNG and a.jpg have the same name"):
        photo_folders.list_photographs(tmp_path)
    assert list(photo_folders.list_photographs(tmp_path, {"a.jpg"})) == ["a"]


def test_folders_without_photographs(tmp_path):
    with pytest.raises(DpedError, match="nowhere: no such folder"):
        photo_folders.list_photographs(tmp_path / "nowhere")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(DpedError, match="no photographs in it"):
        photo_folders.list_photographs(tmp_path)
