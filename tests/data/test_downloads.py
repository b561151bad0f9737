"""Fetching: only a file with the published checksum ever enters the cache, and every failure says what to do."""

import contextlib
import hashlib
import importlib.resources
import os
import re
import signal
import subprocess
import sys
import threading
import time
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
import requests

from dped_lib.base import paths
from dped_lib.base.errors import DpedError
from dped_lib.data import authors_checkpoints, downloads

KEY = "aiff22/DPED/models_orig/sony_orig.index"
OTHER = "aiff22/ai-challenge/dped/patches/iphone/7.jpg"
CONTENT = b"what the authors published, 100 bytes of it".ljust(100, b".")


def publish(monkeypatch, content: bytes) -> None:
    """Make ``content`` what the authors published as KEY. The published checksums are no argument of anything."""
    monkeypatch.setitem(downloads._REGISTRY, KEY, hashlib.sha256(content).hexdigest())


@pytest.fixture(autouse=True)
def places(tmp_path, monkeypatch):
    """A cache of the test's own and no mirror; KEY has the checksum of CONTENT."""
    monkeypatch.setenv("DPED_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DPED_MIRROR", raising=False)
    publish(monkeypatch, CONTENT)
    for name in ("http_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    # A test must never reach the internet. The way there is a local port where nobody listens.
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A mirror folder that holds KEY."""
    root = tmp_path / "mirror"
    (root / KEY).parent.mkdir(parents=True)
    (root / KEY).write_bytes(CONTENT)
    monkeypatch.setenv("DPED_MIRROR", str(root))
    return root


class Server(SimpleHTTPRequestHandler):
    """Serves a folder; ``fault`` makes it promise more than it sends, or send less without a promise."""

    fault = ""

    def do_GET(self):
        self.server.asked += 1
        file = Path(self.translate_path(self.path))
        if not self.fault or not file.is_file():
            return super().do_GET()
        content = file.read_bytes()
        self.send_response(200)
        if self.fault == "promised":
            self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2])
        self.close_connection = True

    def log_message(self, *_):
        pass


@pytest.fixture
def serve(folder, monkeypatch):
    """Starts a web server on the mirror folder and makes it the mirror."""
    with contextlib.ExitStack() as stack:

        def start(fault=""):
            handler = partial(type("Faulty", (Server,), {"fault": fault}), directory=str(folder))
            server = stack.enter_context(ThreadingHTTPServer(("127.0.0.1", 0), handler))
            server.asked = 0
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            stack.callback(server.shutdown)
            monkeypatch.setenv("DPED_MIRROR", f"http://127.0.0.1:{server.server_port}/")
            return server

        yield start


@pytest.fixture
def impatient(monkeypatch):
    """Retries come at once."""
    monkeypatch.setattr(time, "sleep", lambda _: None)


def cached() -> list[str]:
    """Files in the cache, by their key."""
    root = paths.cache_dir() / "sources"
    return sorted(str(f.relative_to(root)) for f in root.rglob("*") if f.is_file())


# registry


def all_keys() -> list[str]:
    return [key for group in downloads.GROUPS for key in downloads.keys(group)]


def test_every_file_has_a_checksum_and_a_commit():
    for key in all_keys():
        assert re.fullmatch("[0-9a-f]{64}", downloads.published_sha256(key)), key
        assert re.fullmatch("[0-9a-f]{40}", downloads.commit_of(key)), key


def test_the_registry_is_the_mirrors(mirror):
    published = {}
    for line in (mirror / "sha256sums.txt").read_text().splitlines():
        digest, name = line.split(maxsplit=1)
        published[name.removeprefix("./")] = digest
    ours = {key: downloads.published_sha256(key) for key in all_keys() if key != KEY}
    assert ours.items() <= published.items()
    left_out = {name for name in published if name not in {*ours, KEY} and not name.startswith("ngchc/")}
    assert not {n for n in left_out if "models" in n or "patches" in n or "HD_res" in n}


def test_groups_hold_what_they_name():
    sizes = {group: len(downloads.keys(group)) for group in downloads.GROUPS}
    assert sizes["pirm"] == 800 and sizes["hd"] == 4
    assert sizes["weights"] == 2 * len(authors_checkpoints.AUTHORS_NETWORKS)
    listed = importlib.resources.files("dped_lib.data").joinpath("registry.txt").read_text().split()[::2]
    assert sorted(all_keys()) == sorted(set(listed)), "every file is in one group"
    with pytest.raises(DpedError, match="unknown group of sources 'pim'.*Did you mean 'pirm'"):
        downloads.keys("pim")


def test_public_addresses_name_the_commit(monkeypatch, impatient):
    asked = []

    def get(url, **how):
        asked.append(url)
        raise requests.ConnectionError

    monkeypatch.setattr(requests, "get", get)
    for key in (KEY, OTHER):
        owner, repository, path = key.split("/", 2)
        address = f"https://raw.githubusercontent.com/{owner}/{repository}/{downloads.commit_of(key)}/{path}"
        with pytest.raises(DpedError, match=f"{address}: cannot be fetched"):
            downloads.fetch(key)
        assert set(asked) == {address}
        asked.clear()
    with pytest.raises(DpedError, match=r"https://download.pytorch.org/models/vgg19-dcbb9e9d.pth: cannot be fetched"):
        downloads.fetch_vgg_torchvision()


def test_an_unknown_file_is_refused():
    with pytest.raises(DpedError, match="unknown source"):
        downloads.fetch("aiff22/DPED/models_orig/nokia_orig.index")


# mirror folder


def test_a_mirror_folder_fills_the_cache(folder):
    assert downloads.present("weights") == (0, 1, 10)
    file = downloads.fetch(KEY)
    assert file.read_bytes() == CONTENT and cached() == [KEY]
    assert downloads.present("weights") == (1, 0, 10)


@pytest.mark.parametrize("damage", [lambda c: c[:50], lambda c: b"", lambda c: b"X" + c[1:], lambda c: c + b"\n"])
def test_a_damaged_file_of_the_mirror_never_enters_the_cache(folder, damage):
    (folder / KEY).write_bytes(damage(CONTENT))
    with pytest.raises(DpedError, match=f"{KEY}: the file's sha256 is not the published one.*mirror"):
        downloads.fetch(KEY)
    assert cached() == []


def test_a_file_that_the_mirror_lacks_is_named(folder):
    with pytest.raises(
        DpedError, match=f"{folder}/{OTHER}: the mirror lacks this file. Complete DPED_MIRROR, or unset"
    ):
        downloads.fetch(OTHER)
    assert cached() == []


def test_a_mirror_that_does_not_exist_is_named(folder, monkeypatch):
    monkeypatch.setenv("DPED_MIRROR", str(folder / "typo"))
    with pytest.raises(DpedError, match=f"{folder}/typo: DPED_MIRROR names no folder. Correct it, or unset"):
        downloads.fetch(KEY)


def test_a_corrupted_file_in_the_cache_is_replaced(folder):
    file = downloads.fetch(KEY)
    file.write_bytes(CONTENT[:-1] + b"X")
    assert downloads.fetch(KEY) == file and file.read_bytes() == CONTENT


def test_a_corrupted_file_in_the_cache_is_not_used_offline(folder, monkeypatch, impatient):
    downloads.fetch(KEY).write_bytes(b"damaged")
    monkeypatch.delenv("DPED_MIRROR")
    with pytest.raises(DpedError, match="cannot be fetched"):
        downloads.fetch(KEY)


def test_what_is_in_the_cache_needs_no_source(folder, monkeypatch):
    file = downloads.fetch(KEY)
    monkeypatch.delenv("DPED_MIRROR")
    assert downloads.fetch(KEY) == file


def test_a_cache_that_cannot_be_written_to_is_named(folder, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("DPED_CACHE", str(tmp_path / "file"))
    with pytest.raises(
        DpedError, match="cannot be fetched into the cache, because .*file is not a folder. .* point DPED_CACHE"
    ):
        downloads.fetch(KEY)
    (tmp_path / "link").symlink_to("not mounted")
    monkeypatch.setenv("DPED_CACHE", str(tmp_path / "link"))
    with pytest.raises(DpedError, match="link is a link to a missing folder. .* point DPED_CACHE"):
        downloads.fetch(KEY)


def test_a_full_disk_is_explained(folder, small_disk, monkeypatch):
    content = bytes(2 << 20)
    (folder / KEY).write_bytes(content)
    publish(monkeypatch, content)
    monkeypatch.setenv("DPED_CACHE", str(small_disk))
    with pytest.raises(DpedError, match="disk is full.*DPED_CACHE"):
        downloads.fetch(KEY)
    assert cached() == []


def test_killed_while_fetching_the_next_fetch_succeeds(folder):
    code = """if True:
        import os, signal, shutil, sys
        from dped_lib.data import downloads
        def killed(source, target):
            open(target, "wb").write(b"half")
            os.kill(os.getpid(), signal.SIGKILL)
        shutil.copyfile = killed
        downloads._REGISTRY[sys.argv[1]] = sys.argv[2]
        downloads.fetch(sys.argv[1])
    """
    digest = hashlib.sha256(CONTENT).hexdigest()
    done = subprocess.run([sys.executable, "-c", code, KEY, digest], capture_output=True, text=True, env=os.environ)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert KEY not in cached()
    assert downloads.fetch(KEY).read_bytes() == CONTENT


def test_several_may_fetch_at_once(folder):
    contents, errors = [], []

    def fetch():
        try:
            contents.append(downloads.fetch(KEY).read_bytes())
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=fetch) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors and contents == [CONTENT] * 8 and cached() == [KEY]


# URLs


def test_a_mirror_url_fills_the_cache_once(serve):
    server = serve()
    assert downloads.fetch(KEY).read_bytes() == CONTENT
    assert downloads.fetch(KEY).read_bytes() == CONTENT
    assert server.asked == 1 and cached() == [KEY]


def test_a_mirror_url_that_lacks_the_file_says_what_the_server_said(serve, impatient):
    serve()
    with pytest.raises(DpedError, match=f"{OTHER}: the server answered 404.*DPED_MIRROR"):
        downloads.fetch(OTHER)
    assert cached() == []


@pytest.mark.parametrize(
    ("fault", "words"), [("promised", "cannot be fetched"), ("unpromised", "sha256 is not the published one")]
)
def test_a_dropped_connection_leaves_nothing_behind(serve, impatient, fault, words):
    server = serve(fault)
    with pytest.raises(DpedError, match=words):
        downloads.fetch(KEY)
    assert cached() == [] and server.asked == 2


def test_a_wrong_file_from_a_url_never_enters_the_cache(serve, folder, impatient):
    (folder / KEY).write_bytes(CONTENT[::-1])
    serve()
    with pytest.raises(DpedError, match="sha256 is not the published one"):
        downloads.fetch(KEY)
    assert cached() == []


@pytest.mark.parametrize("url", ["file:///a/mirror", "s3://bucket/mirror", "http://"])
def test_an_address_of_another_kind_is_not_called_a_wrong_checksum(url, monkeypatch, impatient):
    monkeypatch.setenv("DPED_MIRROR", url)
    with pytest.raises(DpedError, match=r"cannot be fetched.*http\(s\) URL"):
        downloads.fetch(KEY)


def test_offline_without_a_mirror_the_message_comes_soon():
    start = time.monotonic()
    with pytest.raises(DpedError, match="cannot be fetched.*DPED_MIRROR.*dataset 'rig' works without"):
        downloads.fetch(KEY)
    assert time.monotonic() - start < 10
    assert cached() == []


# the real files


def test_the_real_files_of_the_mirror_are_the_published_ones(mirror, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setenv("DPED_MIRROR", str(mirror))
    wanted = [k for group in ("hd", "weights") for k in downloads.keys(group)]
    for key, file in zip(wanted, downloads.fetch_all(wanted, "files"), strict=True):
        assert hashlib.sha256(file.read_bytes()).hexdigest() == downloads.published_sha256(key)


def test_city100_is_what_can_be_verified():
    keys = downloads.keys("city100")
    assert len(keys) == 140 and all(len(downloads.published_sha256(k)) == 64 for k in keys)
    scenes = {f"{number:03}H.PNG" for number in range(1, 71)}  # 071 to 100 are a final test that no run reads
    for camera in ("City100_iPhoneX", "City100_NikonD5500"):
        assert {k.split("/")[4] for k in keys if k.split("/")[3] == camera} == scenes
