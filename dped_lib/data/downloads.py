"""Fetch the authors' weights and published photographs, and verify each file by its sha256.

Files come from their public addresses, or from ``DPED_MIRROR``: a folder or URL that holds them as
``<owner>/<repository>/<path in that repository>``. A file enters the cache only after its checksum matched, so an
interrupted or corrupted download leaves nothing behind.
"""

import os
import shutil
from collections.abc import Iterable
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from dped_lib.base import paths, writing
from dped_lib.base.errors import DpedError
from dped_lib.base.progress import bar
from dped_lib.base.validation import one_of

if TYPE_CHECKING:
    import pooch

#: Public repositories and the commit each file is taken from.
COMMITS = MappingProxyType(
    {
        "aiff22/DPED": "ebb01315238430f7c66eaaf84996fcb59877f97f",
        "aiff22/ai-challenge": "6dc52ac4ebca74391fa24def015896c98dba5b4f",
        "aiff22/aiff22.github.io": "42299c79bab22a949d64ebdae2bc480fe0c10a22",
        "ngchc/CameraSR": "336cac11f5ba409134b2bc5165e9ad6aa4a07e65",
    }
)

#: Groups of files by the start of their name, for ``dped fetch`` and ``dped doctor``.
GROUPS = MappingProxyType(
    {
        "weights": ("aiff22/DPED/models_orig/", "aiff22/ai-challenge/models_pretrained/"),
        "pirm": ("aiff22/ai-challenge/dped/patches/",),
        "hd": ("aiff22/ai-challenge/dped/HD_res/",),
        "demo": ("aiff22/aiff22.github.io/",),
        # Scenes 001 to 070. Nobody tunes on 071 to 100: they are a final test, and no run reads them.
        "city100": ("ngchc/CameraSR/City100/",),
    }
)

_REGISTRY = {
    name: digest
    for name, digest in (
        line.split()
        for line in resources.files("dped_lib.data").joinpath("registry.txt").read_text().splitlines()
        if line
    )
}

_VGG_TORCHVISION = "vgg19-dcbb9e9d.pth"
_REGISTRY[_VGG_TORCHVISION] = "dcbb9e9dad569fff7a846263a77324fc34978fea2bfb039c012d710e1776ae44"


def _repository(key: str) -> str:
    return "/".join(key.split("/")[:2])


def commit_of(key: str) -> str:
    """Return the commit of the public repository that ``key`` is taken from."""
    return COMMITS[_repository(key)]


def published_sha256(key: str) -> str:
    """Return the published checksum of a file."""
    return _REGISTRY[one_of("source", key, _REGISTRY)]


def _public_url(key: str) -> str:
    if key == _VGG_TORCHVISION:
        return f"https://download.pytorch.org/models/{key}"
    repository = _repository(key)
    return f"https://raw.githubusercontent.com/{repository}/{COMMITS[repository]}/{key.removeprefix(repository + '/')}"


def mirror() -> str | None:
    """Return ``DPED_MIRROR``, a folder or URL with the same files, or None."""
    return os.environ.get("DPED_MIRROR") or None


def is_mirror_folder() -> bool:
    """Return whether the mirror is a folder. It may also be a URL, or missing."""
    return mirror() is not None and "://" not in mirror()


def _mirror_folder() -> Path:
    folder = paths.expanded(mirror())
    if not folder.is_dir():
        raise DpedError(f"{folder}: DPED_MIRROR names no folder. Correct it, or unset it to use the public addresses.")
    return folder


def _copy_from_folder(url: str, output_file: str, _pooch) -> None:
    source = Path(url)
    if not source.is_file():
        raise DpedError(
            f"{source}: the mirror lacks this file. Complete DPED_MIRROR, or unset it to fetch the public file."
        )
    shutil.copyfile(source, output_file)


def _store() -> "pooch.Pooch":
    import pooch  # it and requests take 0.15 s to import, and a command that fetches nothing needs neither

    base = mirror()
    if base is None:
        urls = {key: _public_url(key) for key in _REGISTRY}
    elif is_mirror_folder():
        folder = _mirror_folder()
        urls = {key: str(folder / key) for key in _REGISTRY}
    else:
        urls = {key: f"{base.rstrip('/')}/{key}" for key in _REGISTRY}
    # pooch downloads to a temporary file, compares the checksum, and only then moves it into place.
    retries = 0 if is_mirror_folder() else 1
    return pooch.create(
        path=paths.cache_dir() / "sources", base_url="", registry=_REGISTRY, urls=urls, retry_if_failed=retries
    )


def _fetch(store: "pooch.Pooch", key: str) -> Path:
    import pooch
    import requests

    downloader = _copy_from_folder if is_mirror_folder() else pooch.HTTPDownloader(timeout=30)
    # pooch logs each file. We show one progress bar over all files instead.
    pooch.get_logger().setLevel("WARNING")
    target = Path(store.path) / key
    url = store.get_url(key)
    try:
        with writing.explain_full_disk(target):
            # pooch makes this folder too, but fails if another process makes it at the same time.
            target.parent.mkdir(parents=True, exist_ok=True)
            return Path(store.fetch(key, downloader=downloader))
    except requests.HTTPError as error:
        raise DpedError(
            f"{url}: the server answered {error.response.status_code} ({error.response.reason}). Correct or complete "
            "DPED_MIRROR if it is set; else set it to a folder or URL that holds the file."
        ) from error
    except requests.RequestException as error:  # this comes first: all of them are OSErrors, and some are ValueErrors
        raise DpedError(
            f"{url}: cannot be fetched ({type(error).__name__}). Connect to the internet, or set DPED_MIRROR to a folder or "
            "an http(s) URL that holds the file. Offline, the dataset 'rig' works without it."
        ) from error
    except ValueError as error:
        raise DpedError(
            f"{url}: the file's sha256 is not the published one, so it was not kept ({error}). "
            "Try again; if it repeats, the mirror or the public file has changed."
        ) from error
    except OSError as error:
        if why := paths.obstacle(target.parent, "point DPED_CACHE at another folder"):
            raise DpedError(f"{target}: cannot be fetched into the cache, because {why}") from error
        raise DpedError(
            f"{target}: cannot be fetched into the cache ({error}). Make it writable, or point DPED_CACHE at a folder that is."
        ) from error


def fetch(key: str) -> Path:
    """Return the local path of one source file. Fetch and verify it if it is not in the cache.

    Args:
        key: ``<owner>/<repository>/<path>``, as in ``registry.txt``.

    Raises:
        DpedError: the key is unknown, the address is unreachable, the mirror lacks the file, the checksum is wrong, or
            the disk is full.
    """
    return _fetch(_store(), one_of("source", key, _REGISTRY))


def keys(group: str) -> tuple[str, ...]:
    """Return the keys of the files of one group (``GROUPS``)."""
    prefixes = GROUPS[one_of("group of sources", group, GROUPS)]
    return tuple(k for k in _REGISTRY if k.startswith(prefixes))


def fetch_all(wanted: Iterable[str], label: str) -> list[Path]:
    """Fetch files with a progress bar, and return their paths. Intact files in the cache are not fetched again."""
    store = _store()
    return [_fetch(store, k) for k in bar(list(wanted), label=f"fetch {label}", unit="file", brief=True)]


def fetch_vgg_torchvision() -> Path:
    """Fetch torchvision's VGG-19 (575 MB, BSD-3-Clause).

    It was trained separately from the Oxford weights that the authors used.
    """
    return fetch(_VGG_TORCHVISION)


def present(group: str) -> tuple[int, int, int]:
    """Return how many files of a group are in the cache, how many only in the mirror's folder, and how many there are.

    Nothing is verified or fetched.
    """
    wanted = keys(group)
    rest = [key for key in wanted if not (paths.cache_dir() / "sources" / key).is_file()]
    folder = paths.expanded(mirror()) if is_mirror_folder() else None
    mirrored = sum((folder / key).is_file() for key in rest) if folder else 0
    return len(wanted) - len(rest), mirrored, len(wanted)
