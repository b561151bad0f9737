"""Serve the user study with Voila, as a page without code for any number of subjects at once.

Each page has a process of its own. All pages share the folder of pictures and the folder of answers. Every answer is on
the disk before the next question is asked (``answers.AnswerStore``).
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import nbformat
from jupyter_client import localinterfaces
from tornado.netutil import bind_sockets

from dped_lib.base import programs
from dped_lib.base.errors import DpedError
from dped_lib.user_study.answers import AnswerStore
from dped_lib.user_study.pictures import Pictures

#: Seconds without use after which the process of a page ends. Its answers are on the disk, and its subject can go on by
#: name.
_IDLE = 900

#: Voila's page with another text while it loads. Voila would show the name of the notebook and the number of its cells.
#: Voila's page also links to style sheets elsewhere, with icons that the study has not. The study works offline.
_TEMPLATE = """{%- extends 'voila/templates/lab/index.html.j2' -%}
{%- block notebook_css -%}
{%- set parts = super().split('<link rel="stylesheet" href="https://') -%}
{{ parts[0] }}
{%- for part in parts[1:] -%}{{ part.partition(">")[2] }}{%- endfor -%}
<style>
#loading_text { display: none; }
#loading::after { content: "One moment, please."; font: 24px sans-serif; color: #444; margin-top: 24px; }
/* JupyterLab writes "Loading widget..." into an empty output. */
#rendered_cells .jp-OutputArea-executeResult > .jp-OutputArea-output:not(:has(*)) { visibility: hidden; }
#rendered_cells .jp-OutputArea-executeResult > .jp-OutputArea-output:not(:has(*))::after {
  content: "One moment, please."; visibility: visible; position: fixed; inset: 0; display: flex; align-items: center;
  justify-content: center; font: 24px sans-serif; color: #444;
}
</style>
{%- endblock notebook_css -%}
"""


def check_free(port: int, address: str) -> None:
    """Raise DpedError if no page can be served at this port and address, for example if another program uses it."""
    try:
        for opened in bind_sockets(port, address):  # as Voila does
            opened.close()
    except (OSError, UnicodeError) as error:
        raise DpedError(
            f"port {port} of {address or 'all addresses'}: cannot be used ({error}). Choose another --port or --address, or "
            "stop the program that uses the port."
        ) from error


def write_page(folder: Path, pictures: Pictures, store: AnswerStore) -> Path:
    """Write the notebook that Voila shows and its template, and return the notebook's file.

    The one cell of the notebook is the entrance to the study. Voila finds the template if ``folder`` is in JUPYTER_PATH.
    """
    folders = f"{str(pictures.folder.absolute())!r}, {str(store.folder.absolute())!r}"
    call = f"study_page.entrance({folders}, {pictures.count}, {store.seed})"
    code = f"from dped_lib.user_study import page as study_page\n\n{call}"
    page = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code, id="study")])
    page.metadata["kernelspec"] = {"name": "python3", "display_name": "Python 3", "language": "python"}
    page.metadata["title"] = "Which picture looks better?"
    file = folder / "study.ipynb"
    nbformat.write(page, file)
    template = folder / "voila" / "templates" / "study"
    template.mkdir(parents=True)
    (template / "conf.json").write_text('{"base_template": "lab"}')
    (template / "index.html.j2").write_text(_TEMPLATE)
    return file


def command(page: Path, port: int, address: str) -> list[str]:
    """Return the command that starts Voila on a page."""
    return [
        sys.executable,
        "-m",
        "voila",
        str(page),
        "--no-browser",
        f"--port={port}",
        "--Voila.port_retries=0",
        # Voila would tell another address than we do, and write lines for each subject. Errors still appear.
        "--Voila.log_level=ERROR",
        f"--Voila.ip={address}",
        "--VoilaConfiguration.template=study",
        # We serve no files: their names say which camera or network made a picture.
        "--VoilaConfiguration.file_allowlist=nothing",
        # A traceback names files of the server. Voila writes it to its log.
        "--VoilaConfiguration.show_tracebacks=False",
        f"--MappingKernelManager.cull_idle_timeout={_IDLE}",
        "--MappingKernelManager.cull_interval=60",
    ]


def urls(address: str, port: int) -> str:
    """Return where the page is: on this machine and, if the whole network is served, for the other devices in it."""
    if address not in ("127.0.0.1", "0.0.0.0"):
        return f"http://{address}:{port}/"
    here = f"http://localhost:{port}/"
    others = [f"http://{ip}:{port}/" for ip in localinterfaces.public_ips()] if address == "0.0.0.0" else []
    return here + (f"; for other devices {' or '.join(others)}" if others else "")


def serve(pictures: Pictures, store: AnswerStore, port: int, address: str) -> int:
    """Serve the study until Ctrl-C, or until Voila ends. Return 0 after Ctrl-C, else the exit status of Voila."""
    with tempfile.TemporaryDirectory(prefix="dped-study-") as folder:
        page = write_page(Path(folder), pictures, store)
        places = os.pathsep.join(filter(None, (folder, os.environ.get("JUPYTER_PATH"))))
        voila = programs.ending_with_us(command(page, port, address))
        with subprocess.Popen(voila, env={**os.environ, "JUPYTER_PATH": places}) as server:
            try:
                return server.wait()
            except KeyboardInterrupt:
                server.terminate()  # Ctrl-C reaches Voila, too, but SIGTERM does not.
                server.wait()
                return 0
