"""The user study as a page without code, for any number of subjects at once: one command, by Voila.

Each subject who opens the page gets a process of their own; all of them share the folder of pictures and the folder of answers, where
every answer is on the disk before the next question is asked (``study.AnswerStore``).
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat

from dped_lib.user_study import pictures as study_pictures, study

#: Seconds after which the process of a page that nobody looks at ends. Its answers are on the disk, its subject comes back by name.
_IDLE = 900


def write_page(folder: Path, pictures: study_pictures.Pictures, store: study.AnswerStore) -> Path:
    """Writes the notebook that Voila shows: one cell, the entrance to the study."""
    where = [str(Path(f).absolute()) for f in (pictures.folder, store.folder)]
    code = (
        f"from dped_lib.user_study import page as study_page\n\nstudyui.entrance({where[0]!r}, {where[1]!r}, {pictures.count}, {store.seed})"
    )
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code, id="study")])
    page.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    page.metadata["title"] = "Which picture looks better?"
    file = folder / "study.ipynb"
    nbformat.write(page, file)
    return file


def command(page: Path, port: int, address: str) -> list[str]:
    """How Voila is started on a page."""
    return [
        sys.executable,
        "-m",
        "voila",
        str(page),
        "--no-browser",
        f"--port={port}",
        "--Voila.port_retries=0",
        f"--Voila.ip={address}",
        # Nothing but the page: a subject who could list files would see which picture is whose.
        "--VoilaConfiguration.file_allowlist=nothing",
        "--VoilaConfiguration.show_tracebacks=True",
        f"--MappingKernelManager.cull_idle_timeout={_IDLE}",
        "--MappingKernelManager.cull_interval=60",
    ]


def serve(pictures: study_pictures.Pictures, store: study.AnswerStore, port: int, address: str) -> int:
    """Serves the study until Ctrl-C (status 0) or until Voila ends by itself (its status)."""
    with tempfile.TemporaryDirectory(prefix="dped-study-") as folder:
        page = write_page(Path(folder), pictures, store)
        with subprocess.Popen(command(page, port, address)) as server:
            try:
                return server.wait()
            except KeyboardInterrupt:
                server.terminate()  # at Ctrl-C it has heard it, too; at SIGTERM it has not
                server.wait()
                return 0
