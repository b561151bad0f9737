"""Files are put in place whole or not at all: after an exception, a kill, a full disk, and between processes."""

import contextlib
import errno
import os
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import filelock
import pytest
import torch
from safetensors.torch import save_file

from dped_lib.base import paths, writing
from dped_lib.base.errors import DpedError


def run(code, *arguments):
    """Runs Python code in a process of its own."""
    command = [sys.executable, "-c", textwrap.dedent(code), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=60)


@pytest.fixture
def old(tmp_path):
    """A file that an earlier run left."""
    file = tmp_path / "table.csv"
    file.write_text("old")
    return file


def only(folder) -> list[str]:
    return sorted(os.listdir(folder))


# atomic_path


def test_success_replaces_the_file_and_leaves_nothing_else(old):
    with writing.atomic_path(old) as part:
        part.write_text("new")
        assert old.read_text() == "old"
        assert part.name == old.name
    assert old.read_text() == "new" and only(old.parent) == ["table.csv"]


def test_missing_folders_are_made(tmp_path):
    writing.write_text(tmp_path / "a" / "b" / "c.txt", "größer")
    assert (tmp_path / "a" / "b" / "c.txt").read_bytes() == "größer".encode()


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_an_exception_leaves_the_old_file_and_no_litter(old, error):
    with pytest.raises(error), writing.atomic_path(old) as part:
        part.write_text("half")
        raise error
    assert old.read_text() == "old" and only(old.parent) == ["table.csv"]


def test_an_exception_leaves_the_old_folder(tmp_path):
    target = tmp_path / "store"
    target.mkdir()
    (target / "meta.json").write_text("old")
    with pytest.raises(ValueError), writing.atomic_path(target) as part:
        part.mkdir()
        (part / "meta.json").write_text("half")
        raise ValueError
    assert (target / "meta.json").read_text() == "old" and only(tmp_path) == ["store"]


def test_a_folder_is_replaced_as_a_whole(tmp_path):
    target = tmp_path / "store"
    for content in ("first", "second"):
        with writing.atomic_path(target) as part:
            part.mkdir()
            (part / content).touch()
        assert only(target) == [content] and only(tmp_path) == ["store"]


@pytest.mark.parametrize("error", [PermissionError(errno.EACCES, "Permission denied"), KeyboardInterrupt()])
def test_a_folder_that_cannot_be_replaced_stays(tmp_path, monkeypatch, error):
    """The new folder does not reach its place after the old one has left it: Ctrl-C, a quota, a network's disk."""
    target, rename = tmp_path / "store", os.rename
    target.mkdir()
    (target / "meta.json").write_text("old")

    def fail(source, destination):
        if Path(destination) == target and (Path(source) / "new").exists():
            raise error
        rename(source, destination)

    monkeypatch.setattr(os, "rename", fail)
    with pytest.raises(type(error)), writing.atomic_path(target) as part:
        part.mkdir()
        (part / "new").touch()
    assert (target / "meta.json").read_text() == "old" and only(tmp_path) == ["store"]


def test_killed_while_a_folder_is_replaced_the_old_one_comes_back(tmp_path):
    target = tmp_path / "store"
    target.mkdir()
    (target / "meta.json").write_text("old")
    done = run(
        """
        import os, signal, sys
        from dped_lib.base import writing
        rename = os.rename
        def killed(*names):
            rename(*names)
            os.kill(os.getpid(), signal.SIGKILL)
        with writing.atomic_path(sys.argv[1]) as part:
            part.mkdir()
            os.rename = killed
        """,
        target,
    )
    assert done.returncode == -signal.SIGKILL and not target.exists()
    writing.clear_killed(target)
    assert (target / "meta.json").read_text() == "old" and only(tmp_path) == ["store"]


def test_killed_during_the_deletion_the_next_run_deletes_the_rest(tmp_path, monkeypatch):
    target, scandir, left = tmp_path / "folder" / "store", os.scandir, iter(())
    done = run(
        """
        import os, signal, sys
        from dped_lib.base import writing
        with writing.atomic_path(sys.argv[1]) as part:
            part.mkdir()
            for name in "abc":
                (part / name).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        target,
    )
    assert done.returncode == -signal.SIGKILL
    [holder] = writing.left_by_killed(target)
    kept = shutil.copytree(holder, tmp_path / "kept")

    @contextlib.contextmanager
    def sorted_scandir(*arguments):  # the file by which a holder is recognized comes first
        with scandir(*arguments) as entries:
            yield iter(sorted(entries, key=lambda e: e.name))

    def dying(real):
        def delete(*arguments, **more):
            if next(left, None) is None:
                raise KeyboardInterrupt
            real(*arguments, **more)

        return delete

    monkeypatch.setattr(os, "scandir", sorted_scandir)
    for deletions in range(8):
        left = iter(range(deletions))
        with monkeypatch.context() as patch, contextlib.suppress(KeyboardInterrupt):
            patch.setattr(os, "unlink", dying(os.unlink))
            patch.setattr(os, "rmdir", dying(os.rmdir))
            writing.clear_killed(target)
        writing.clear_killed(target)
        for rest in target.parent.iterdir():
            rest.rmdir()  # at most an empty folder
        shutil.copytree(kept, holder)


def test_a_file_never_replaces_a_folder_nor_a_folder_a_file(old, tmp_path):
    store = tmp_path / "store"
    store.mkdir()
    (store / "meta.json").write_text("old")
    (tmp_path / "link").symlink_to("gone")
    for file in (old, tmp_path / "link"):
        with (
            pytest.raises(
                DpedError, match=f"{file.name}: not written, because a file .* is there.* Move it away, or name"
            ),
            writing.atomic_path(file) as part,
        ):
            part.mkdir()
    with (
        pytest.raises(DpedError, match="store: not written, because a folder .* is there.* Move it away, or go away."),
        writing.atomic_path(store, "go away") as part,
    ):
        part.write_text("new")
    assert old.read_text() == "old" and (store / "meta.json").read_text() == "old"
    assert only(tmp_path) == ["link", "store", "table.csv"] and os.readlink(tmp_path / "link") == "gone"


def test_a_link_is_replaced_and_not_followed(tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/meta.json").write_text("old")
    for name, linked in (("store", "other"), ("table.csv", "other/meta.json")):
        (tmp_path / name).symlink_to(linked)
        with writing.atomic_path(tmp_path / name) as part:
            part.mkdir() if name == "store" else part.write_text("new")
        assert not (tmp_path / name).is_symlink()
    assert (tmp_path / "other/meta.json").read_text() == "old" and only(tmp_path) == ["other", "store", "table.csv"]


def test_others_may_read_what_is_written_as_far_as_the_umask_lets_them(tmp_path):
    before = os.umask(0o022)
    try:
        writing.write_text(tmp_path / "shared.txt", "")
    finally:
        os.umask(before)
    assert (tmp_path / "shared.txt").stat().st_mode & 0o777 == 0o644


def test_killed_in_the_middle_the_old_file_stays(old):
    done = run(
        """
        import os, signal, sys
        from dped_lib.base import writing
        with writing.atomic_path(sys.argv[1]) as part:
            part.write_text("half")
            os.kill(os.getpid(), signal.SIGKILL)
        """,
        old,
    )
    assert done.returncode == -signal.SIGKILL
    assert old.read_text() == "old"
    # The rest lies hidden in a folder of its own, and the next run is not disturbed by it.
    writing.write_text(old, "new")
    assert old.read_text() == "new"
    assert [name for name in only(old.parent) if not name.startswith(".")] == ["table.csv"]
    # It can be cleared away, but neither what is being written nor a folder of the user's goes with it.
    mine = old.parent / ".table.csv.original.part"
    mine.mkdir()
    (mine / "table.csv").write_text("the user's")
    with writing.atomic_path(old) as part:
        part.write_text("newer")
        assert len(writing.left_by_killed(old)) == 2
        writing.clear_killed(old)
        assert writing.left_by_killed(old) == [part.parent]
    assert old.read_text() == "newer" and only(old.parent) == [mine.name, "table.csv"]
    assert (mine / "table.csv").read_text() == "the user's"


def test_writers_of_the_same_folder_do_not_disturb_each_other(tmp_path):
    target, errors = tmp_path / "store", []

    def write(name):
        try:
            for _ in range(30):
                with writing.atomic_path(target) as part:
                    part.mkdir()
                    for file in ("phone", "dslr"):
                        (part / file).write_text(name)
        except Exception as error:
            errors.append(error)

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    assert not errors
    assert (target / "phone").read_text() == (target / "dslr").read_text()
    assert only(tmp_path) == ["store"]


# full disks


def test_a_file_size_limit_is_explained(old):
    done = run(
        """
        import resource, sys
        from dped_lib.base import writing
        from dped_lib.base.errors import DpedError
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))
        try:
            with writing.atomic_path(sys.argv[1]) as part:
                part.write_bytes(bytes(10_000))
        except DpedError as error:
            print(error)
        """,
        old,
    )
    assert done.returncode == 0, done.stderr
    assert str(old) in done.stdout and "the disk is full" in done.stdout
    assert old.read_text() == "old" and only(old.parent) == ["table.csv"]


def test_a_full_disk_is_explained_and_loses_nothing(small_disk):
    file = small_disk / "model.safetensors"
    writing.write_text(file, "old")
    with (
        pytest.raises(DpedError, match="disk is full.*run the same command again") as error,
        writing.atomic_path(file) as part,
    ):
        part.write_bytes(bytes(2 << 20))
    assert str(file) in str(error.value)
    assert file.read_text() == "old" and only(small_disk) == ["model.safetensors"]


def test_a_native_writer_that_meets_a_full_disk_is_explained(small_disk):
    file = small_disk / "checkpoint.safetensors"
    with pytest.raises(DpedError, match="disk is full"), writing.atomic_path(file) as part:
        save_file({"w": torch.zeros(1 << 20)}, part)
    assert only(small_disk) == []


@pytest.mark.parametrize(
    "error", [OSError(errno.EIO, "Input/output error"), ValueError("space"), FileNotFoundError("x")]
)
def test_other_errors_are_not_called_a_full_disk(error, tmp_path):
    with pytest.raises(type(error)) as raised, writing.explain_full_disk(tmp_path):
        raise error
    assert raised.value is error


def test_a_folder_that_cannot_be_written_to_is_an_error_with_a_remedy(old):
    # "table.csv" is a file, so nothing can be put below it; root, too, sees this one.
    with (
        pytest.raises(DpedError, match="cannot be written.*or name another folder"),
        writing.atomic_path(old / "x.json"),
    ):
        pytest.fail("there is nothing to write to")


@pytest.mark.parametrize("variable", ["DPED_RUNS", "DPED_FIGURES", "DPED_CACHE"])
def test_the_remedy_is_the_variable_that_names_the_folder(old, variable, monkeypatch):
    monkeypatch.setenv(variable, str(old.parent))
    with pytest.raises(DpedError, match=f"or point {variable} at another disk"), writing.atomic_path(old / "x.json"):
        pytest.fail("there is nothing to write to")


@pytest.mark.parametrize("letter", ["x", "ü"])
def test_the_longest_names_can_be_written(tmp_path, letter):
    name = letter * (250 // len(letter.encode())) + ".txt"
    writing.write_text(tmp_path / name, "new")
    assert only(tmp_path) == [name]


def test_a_file_that_must_not_be_replaced_stays(old):
    with (
        pytest.raises(
            DpedError,
            match="table.csv: not written, because another file with this name has appeared. "
            "It is untouched. Move it away, or name another folder",
        ),
        writing.atomic_path(old, replace=False) as part,
    ):
        part.write_text("new")
    assert old.read_text() == "old" and only(old.parent) == ["table.csv"]
    with writing.atomic_path(old.with_name("new.csv"), replace=False) as part:
        part.write_text("new")
    assert only(old.parent) == ["new.csv", "table.csv"] and old.with_name("new.csv").stat().st_nlink == 1


def test_a_folder_that_must_stay_stays(tmp_path):
    store = tmp_path / "store"
    for content in ("old", "new"):
        expected = contextlib.nullcontext() if content == "old" else pytest.raises(DpedError, match="has appeared")
        with expected, writing.atomic_path(store, replace=False) as part:
            part.mkdir()
            (part / content).touch()
    assert only(store) == ["old"] and only(tmp_path) == ["store"]


def test_a_file_that_must_not_be_replaced_stays_on_disks_without_links(old, monkeypatch):
    def no_links(*_):
        raise PermissionError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(os, "link", no_links)
    with pytest.raises(DpedError, match="not written.*Move it away"), writing.atomic_path(old, replace=False) as part:
        part.write_text("new")
    assert old.read_text() == "old"
    with writing.atomic_path(old.with_name("new.csv"), replace=False) as part:
        part.write_text("new")
    assert old.with_name("new.csv").read_text() == "new" and only(old.parent) == ["new.csv", "table.csv"]


# probing


def test_probing_a_folder_leaves_no_trace(tmp_path):
    tells_case = writing.probe_folder(tmp_path / "not" / "yet", "")
    assert only(tmp_path) == []
    (tmp_path / "case").touch()
    assert tells_case is not (tmp_path / "CASE").exists()
    assert writing.free_space(tmp_path / "not" / "yet") > 0


def test_probing_finds_what_is_wrong(old, small_disk):
    with pytest.raises(
        DpedError, match="sub: cannot be made, because .*table.csv is not a folder. Move it away, or go away."
    ):
        writing.probe_folder(old / "sub", "go away")
    with pytest.raises(OSError, match="No space"):
        (small_disk / "all").write_bytes(bytes(2 << 20))
    with pytest.raises(DpedError, match="x: not written, the disk is full .*Free some space, or go away."):
        writing.probe_folder(small_disk / "x", "go away")
    assert only(small_disk) == ["all"]


def test_nobody_is_told_to_remove_a_device():
    with pytest.raises(DpedError) as raised:
        writing.probe_folder(Path("/dev/null/sub"), "go away")
    assert str(raised.value) == "/dev/null/sub: cannot be made, because /dev/null is not a folder. Go away."


@pytest.mark.parametrize("variable", ["DPED_RUNS", "DPED_CACHE"])
def test_a_disk_that_is_not_mounted_behind_a_link_is_named(tmp_path, monkeypatch, variable):
    """The system says that the link exists."""
    place = tmp_path / "place"
    place.symlink_to("/nonexistent/disk")
    monkeypatch.setenv(variable, str(place))
    remedy = f"place is a link to a missing folder. If its disk is not mounted, mount it; else point {variable}"
    for attempt in (
        lambda: writing.write_text(place / "a" / "b.txt", "new"),
        lambda: writing.alone(place / "a" / ".lock", "waiting").__enter__(),
        lambda: writing.probe_folder(place / "a", paths.elsewhere(place)),
    ):
        with pytest.raises(DpedError, match=remedy):
            attempt()


def test_nothing_is_written_where_a_check_can_find_nothing(old, monkeypatch):
    monkeypatch.chdir(old.parent)
    assert not Path("new/../table.csv").exists()
    with (
        pytest.raises(DpedError, match="new/../table.csv: not written, because there is no folder new"),
        writing.atomic_path(Path("new/../table.csv")),
    ):
        pytest.fail("the caller's checks have seen nothing")
    assert only(old.parent) == ["table.csv"] and old.read_text() == "old"
    Path("link").symlink_to("sub/er")
    Path("sub/er").mkdir(parents=True)
    writing.write_text(Path("link/../b.txt"), "")
    assert Path("sub/b.txt").exists()


def test_a_file_system_without_locks_needs_none(tmp_path, monkeypatch):
    """A network's file system may refuse every lock. A training there would not have begun."""

    def refuse(*_, **__):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(filelock.FileLock, "acquire", refuse)
    with writing.alone(tmp_path / "new" / ".run.lock", "waiting"):
        (tmp_path / "done").touch()
    assert (tmp_path / "done").is_file()


def test_without_locks_a_killed_process_blocks_nobody(tmp_path):
    """filelock would by default leave a file that stands for a lock, and wait for a process that is gone."""
    done = run(
        """
        import errno, fcntl, os, sys
        from pathlib import Path
        from dped_lib.base import writing
        def flock(*_):
            raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
        fcntl.flock = flock
        folder = Path(sys.argv[1])
        if len(sys.argv) > 2:
            with writing.alone(folder / ".lock", "waiting"):
                os._exit(9)
        with writing.alone(folder / ".lock", "waiting"):
            writing.write_text(folder / "a.txt", "new")
        writing.clear_killed(folder / "a.txt")
        """,
        tmp_path,
        "killed",
    )
    assert done.returncode == 9
    code = done.args[2]
    done = subprocess.run([sys.executable, "-c", code, tmp_path], capture_output=True, text=True, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    assert (tmp_path / "a.txt").read_text() == "new"
    assert set(only(tmp_path)) <= {".lock", "a.txt"}


def test_every_lock_is_one_that_the_system_frees():
    root = paths.project_root()
    files = [*(root / "dped_lib").rglob("*.py"), root / "workflow" / "Snakefile"]
    locking = [f for f in files if re.search(r"FileLock\(", f.read_text(encoding="utf-8"))]
    assert [f.name for f in locking] == ["writing.py"]


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_where_a_lock_would_be(tmp_path, monkeypatch, number):
    def full(*_, **__):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(filelock.FileLock, "acquire", full)
    with (
        pytest.raises(DpedError, match="cannot be written .* Free some space, or name another folder"),
        writing.alone(tmp_path / ".lock", "waiting"),
    ):
        pytest.fail("is not locked")


def test_a_folder_that_may_not_be_searched_is_named(tmp_path):
    """As a folder in another user's home."""
    home = tmp_path / "home"
    home.mkdir(mode=0o700)
    os.chmod(tmp_path, 0o755)
    done = run(
        """
        import os, sys
        from pathlib import Path
        from dped_lib.base import writing
        from dped_lib.base.errors import DpedError
        home = Path(sys.argv[1])
        if os.geteuid():
            home.chmod(0)
        else:
            os.setuid(65534)
        writing.clear_killed(home / "a.txt", home / "sub" / "a.txt")
        print(writing.free_space(home / "sub") > 0)
        try:
            with writing.alone(home / "sub" / ".lock", "waiting"):
                pass
        except DpedError as error:
            print(error)
        """,
        home,
    )
    home.chmod(0o700)
    assert done.returncode == 0, done.stderr
    free, message = done.stdout.splitlines()
    assert free == "True" and re.search("sub: cannot be written .*Make it writable, or name another folder", message)


@pytest.mark.parametrize("what", ["folder", "link"])
def test_something_else_in_the_place_of_a_lock_is_named(tmp_path, what):
    lock = tmp_path / ".run.lock"
    lock.mkdir() if what == "folder" else lock.symlink_to(tmp_path / "gone")
    with (
        pytest.raises(DpedError, match=r"\.run\.lock: is in the place of a lock file\. Remove it\."),
        writing.alone(lock, "waiting"),
    ):
        pytest.fail("is not locked")


def test_a_folder_that_cannot_be_made_for_a_lock_is_named(tmp_path):
    (tmp_path / "file").touch()
    with (
        pytest.raises(DpedError, match="file: cannot be made, because .*file is not a folder. Move it away, or name"),
        writing.alone(tmp_path / "file" / ".run.lock", "waiting"),
    ):
        pytest.fail("is not locked")


def test_an_empty_folder_of_a_process_killed_before_it_took_its_lock_is_removed(tmp_path):
    """One with a file of the user's stays, and so does what another process writes meanwhile."""
    target = tmp_path / "a.txt"
    empty, users = tmp_path / ".a.txt.abcd1234.part", tmp_path / ".a.txt.efgh5678.part"
    empty.mkdir()
    users.mkdir()
    (users / "mine").touch()
    with writing.atomic_path(target) as part:
        writing.clear_killed(target)
        assert not empty.exists() and (users / "mine").exists()
        part.write_text("whole")
    assert target.read_text() == "whole"
