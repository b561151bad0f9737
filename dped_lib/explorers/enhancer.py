"""Enhance a photograph of the user's in a notebook with any weights, and compare it before and after."""

import base64
import html
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import ipywidgets
import numpy as np
from matplotlib.figure import Figure

from dped_lib.base import paths
from dped_lib.base.errors import DpedError
from dped_lib.data import authors_checkpoints, network_files, photo_folders, picture, shipped_runs, shipping
from dped_lib.enhance import enhancement
from dped_lib.explorers import widgets

_BY_FILE = "a file, named below"


def known_weights() -> tuple[str, ...]:
    """Return the weights to choose from: the authors', those that ship, and those trained here with the newest first."""
    authors = tuple(f"authors:{name}" for name in authors_checkpoints.AUTHORS_NETWORKS)
    networks = sorted(paths.runs_dir().glob(f"*/train/*/{shipped_runs.MODEL}"), key=lambda f: -f.stat().st_mtime)
    trained = tuple(str(f) for f in networks if not shipping.is_copy(f.parent))
    return authors + network_files.shipped_names() + trained


class Enhancer:
    """Enhance an uploaded photograph, or a file of this machine, while the kernel stays free.

    Attributes:
        original: uint8 or uint16 H x W x 3.
        enhanced: the same shape and type; None before the first enhancement.
        result: the bytes of the enhanced file.

    Args:
        example: (name, uint8 H x W x 3). This photograph is shown until the user chooses another.
        choices: weights to offer (``network_files.resolve``). Default: all known weights. The first one is chosen.
    """

    def __init__(self, example: tuple[str, np.ndarray], choices: Sequence[str] = ()):
        self.name, pixels = example
        self._source = picture.Picture(np.ascontiguousarray(pixels))
        self.enhanced: np.ndarray | None = None
        self.result = b""
        choices = tuple(dict.fromkeys(choices)) or known_weights()
        self.upload = ipywidgets.FileUpload(
            accept=",".join(sorted(photo_folders.SUFFIXES)), description="upload a photograph"
        )
        self.upload.layout.width = "auto"
        self.path = ipywidgets.Text(placeholder="or the path of a photograph on this machine", continuous_update=False)
        self.weights = widgets.dropdown("weights", [*((_short(c), c) for c in choices), (_BY_FILE, "")])
        self.weights_file = ipywidgets.Text(placeholder="path of a .safetensors file", continuous_update=False)
        self.start = ipywidgets.Button(description="enhance", button_style="primary")
        self.stop = ipywidgets.Button(description="stop", disabled=True)
        self.progress = ipywidgets.FloatProgress(0, min=0, max=1, layout=ipywidgets.Layout(width="240px"))
        self.message, self.download = ipywidgets.HTML(), ipywidgets.HTML()
        self._shown = ipywidgets.VBox()
        self.work = widgets.Background(self._end)
        self.upload.observe(lambda change: self._take_upload(change["new"]), "value")
        self.path.observe(lambda change: self._take_path(change["new"]), "value")
        self.start.on_click(lambda _: self.run())
        self.stop.on_click(lambda _: self.work.stop())
        for text in (self.path, self.weights_file):
            text.layout = ipywidgets.Layout(flex="1 1 260px")
        self.widget = ipywidgets.VBox(
            [
                widgets.row(self.upload, self.path),
                widgets.row(self.weights, self.weights_file),
                widgets.row(self.start, self.stop, self.progress, self.download),
                self.message,
                self._shown,
            ]
        )
        self.widget.layout.max_width = f"{widgets.WIDE + 20}px"
        self.widget.add_class("dped-enhancer")
        self._show(f"{self._described()} Press 'enhance', or choose another photograph.")

    @property
    def original(self) -> np.ndarray:
        """Return the chosen photograph."""
        return self._source.pixels

    def _described(self) -> str:
        height, width = self.original.shape[:2]
        return f"{self.name}: {width} x {height} pixels."

    def _show(self, message: str) -> None:
        self.text, self.message.value = message, widgets.note(message)

    def _end(self, message: str) -> None:
        """Show the last message of the work, which has finished, stopped or failed."""
        self._show(message)
        self.start.disabled, self.stop.disabled = False, True

    # ------------------------------------------------------------------------------------------ which photograph

    def _take_upload(self, files) -> None:
        if files:
            name = Path(files[0]["name"]).name  # the page may send any name, even one with folders
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / f"upload{Path(name).suffix}"
                file.write_bytes(files[0]["content"])
                self._take(file, name)

    def _take_path(self, text: str) -> None:
        if text.strip():
            try:
                file = paths.expanded(text.strip())
            except DpedError as error:
                self._show(str(error))
                return
            self._take(file, file.name)

    def _take(self, file: Path, name: str) -> None:
        try:
            self._source = picture.read(file)
        except DpedError as error:
            self._show(str(error).replace(str(file), name))
            return
        self.name, self.enhanced, self.result = name, None, b""
        self.download.value, self._shown.children, self.progress.value = "", (), 0
        self._show(f"{self._described()} Press 'enhance'.")

    # ------------------------------------------------------------------------------------------ enhancing

    def run(self) -> None:
        """Start to enhance in the background."""
        spec = self.weights.value or self.weights_file.value.strip()
        source, name = self._source, self.name
        self.start.disabled, self.stop.disabled = True, False
        self.progress.value, self.download.value, self._shown.children = 0, "", ()
        self._show(f"{name}: loading {_short(spec)} ...")

        def work(check: Callable[[], None]) -> None:
            try:
                self._enhance(source, name, spec, check)
            except widgets.Stopped:
                self._end(f"{name}: stopped, and no result was kept.")
                raise

        self.work.start(work)

    def _enhance(self, source: picture.Picture, name: str, spec: str, check: Callable[[], None]) -> None:
        began = time.monotonic()
        engine = enhancement.engine(network_files.resolve(spec))
        pixels = source.pixels
        height, width = pixels.shape[:2]
        schedule = engine.plan(height, width, held=enhancement.held(source) + pixels.nbytes)
        rows, done = height * schedule.sweeps, 0
        self._show(f"{name}: {schedule.describe()}")

        def tick(more: int) -> None:
            nonlocal done
            check()
            done += more
            self.progress.value = min(1.0, done / rows)

        enhanced = enhancement.whole(engine, source, tick, schedule)
        check()
        file, data = _as_file(enhanced, name)
        self.enhanced, self.result = enhanced.pixels, data
        self.progress.value = 1
        self._versions = {"original": source.on_screen(), "enhanced": enhanced.on_screen()}
        origins = {"original": f"{name} as it is", "enhanced": f"enhanced by {_short(spec)}"}
        self._shown.children = (widgets.BeforeAfter({name: self._versions}, origins).widget,)
        address = base64.b64encode(data).decode()
        self.download.value = (
            f'<a style="text-decoration: underline" download="{html.escape(file, quote=True)}" '
            f'href="data:application/octet-stream;base64,{address}">'
            f"save {html.escape(file)}</a>"
        )
        seconds = time.monotonic() - began
        lost = f" The result lacks {', '.join(source.lost)}." if source.lost else ""
        self._end(f"{name}: {width} x {height} pixels enhanced by {_short(spec)} in {seconds:.1f} s.{lost}")

    def static(self) -> Figure:
        """Enhance the photograph with the chosen weights, and draw a part of it before and after."""
        self.run()
        self.work.wait()
        if self.enhanced is None:
            raise DpedError(f"{self.name}: not enhanced: {self.text}")
        fig = widgets.BeforeAfter({self.name: self._versions}).crops()
        fig.suptitle(f"{self.name}, enhanced by {_short(self.weights.value)}", fontsize=9)
        return fig


def _short(spec: str) -> str:
    """Return the name of weights for the page. A network trained here is named by dataset, preset and run."""
    file = Path(spec)
    return f"{file.parts[-4]}: {file.parent.name}" if file.name == shipped_runs.MODEL and len(file.parts) > 3 else spec


def _as_file(enhanced: picture.Picture, name: str) -> tuple[str, bytes]:
    """Return the name and the bytes of the enhanced file, in the input's format if that can be written."""
    suffix = picture.written_suffix(
        Path(name).suffix.lower(), enhanced.pixels.dtype == np.uint16, enhanced.alpha is not None
    )
    file = f"{name.replace('/', '-').removesuffix(Path(name).suffix)}-enhanced{suffix}"
    with tempfile.TemporaryDirectory() as folder:
        return file, picture.write(enhanced, Path(folder) / file).read_bytes()
