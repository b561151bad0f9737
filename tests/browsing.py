"""A scripted newcomer: Debian's chromium without a screen, driven by playwright, and the servers that it visits."""

import contextlib
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
import requests
from lacking import lacking
from playwright.sync_api import Browser, Page, expect, sync_playwright

from dped_lib.user_study import page_style

#: Milliseconds that anything on a page may take on two busy cores.
PATIENCE = 120_000
TOKEN = "newcomer"
_FLAGS = "--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"


def find_chromium() -> str | None:
    """Chromium or Chrome as the system has it; playwright's own is never fetched."""
    names = ("chromium", "chromium-browser", "google-chrome", "chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextlib.contextmanager
def opened() -> Iterator[Browser]:
    """A browser with a fresh profile; where there is none, the test is skipped, but in CI it fails."""
    program = find_chromium()
    if program is None:
        lacking("no chromium on this machine: the tests in a browser need one (Debian: apt install chromium)")
    with sync_playwright() as driver:
        flags = [*_FLAGS.split(), "--disable-component-update", "--disable-sync"]
        browser = driver.chromium.launch(executable_path=program, args=flags)
        yield browser
        browser.close()


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@contextlib.contextmanager
def served(command: list[str], address: str, log: Path, **environment: str) -> Iterator[str]:
    """Runs a server until the block ends; yields its address once it answers there."""
    clean = {k: v for k, v in os.environ.items() if not re.match("DPED_HEADLESS|JUPYTER|PYTEST", k)}
    with open(log, "wb") as log_file:
        server = subprocess.Popen(
            command, env={**clean, **environment}, stdout=log_file, stderr=subprocess.STDOUT, start_new_session=True
        )
    try:
        for _ in range(240):
            assert server.poll() is None, f"the server ended:\n{log.read_text()[-3000:]}"
            with contextlib.suppress(requests.RequestException):
                if requests.get(address, timeout=30).ok:
                    break
            time.sleep(0.5)
        else:
            pytest.fail(f"no answer from {address}:\n{log.read_text()[-3000:]}")
        yield address
    finally:
        server.terminate()
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


@contextlib.contextmanager
def jupyterlab(folder: Path, log: Path, python: str = sys.executable, **environment: str) -> Iterator[str]:
    """A JupyterLab server on the notebooks of a folder, with settings of its own, as `make lab` starts it; yields its address."""
    port = free_port()
    home = log.parent / "jupyter"
    command = [python, "-m", "jupyterlab", str(folder), "--no-browser", f"--port={port}", "--allow-root"]
    command += [f"--IdentityProvider.token={TOKEN}", "--ServerApp.port_retries=0"]
    command += ["--ServerApp.tornado_settings={'websocket_max_message_size': 268435456}"]
    own = {f"JUPYTER_{n}_DIR": str(home / n.lower()) for n in ("CONFIG", "DATA", "RUNTIME")}
    own["JUPYTERLAB_SETTINGS_DIR"], own["JUPYTERLAB_WORKSPACES_DIR"] = str(home / "settings"), str(home / "workspaces")
    settings = {
        # Else JupyterLab takes cells off the page that are out of sight.
        "notebook-extension/tracker": '{"windowingMode": "none"}',
        # What a newcomer looks at stays as it was committed.
        "docmanager-extension/plugin": '{"autosave": false}',
        "apputils-extension/notification": '{"fetchNews": "false", "checkForUpdates": false}',
    }
    for name, text in settings.items():
        file = home / "settings" / "@jupyterlab" / f"{name}.jupyterlab-settings"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    with served(command, f"http://127.0.0.1:{port}/login", log, **own, **environment):
        yield f"http://127.0.0.1:{port}"


class Lab:
    """One notebook in JupyterLab, as a person sees it."""

    def __init__(self, browser: Browser, address: str, notebook: str):
        self.page = browser.new_page(viewport={"width": 1366, "height": 900})
        self.page.set_default_timeout(PATIENCE)
        # A workspace of its own: else JupyterLab opens what others had open, too, and hides this notebook behind it.
        self.address = f"{address}/lab/workspaces/{uuid.uuid4().hex}/tree/{notebook}?token={TOKEN}"
        self.open()

    def open(self) -> None:
        """Opens or reloads the notebook, alone on the screen."""
        self.page.goto(self.address, wait_until="domcontentloaded")
        self.page.locator(".jp-Notebook .jp-Cell").first.wait_for()
        self.page.locator("#jupyterlab-splash").wait_for(state="detached")

    def run_all(self, seconds: float) -> None:
        """Menu Run, Run All Cells; waits until the last cell has run, however the window scrolls."""
        page = self.page
        expect(page.locator("#jp-main-statusbar")).to_contain_text("| Idle", timeout=PATIENCE)
        accept = page.locator(".jp-Dialog .jp-mod-accept")
        deadline = time.monotonic() + PATIENCE / 1000  # on a busy machine the kernel may be ready long after its page
        while time.monotonic() < deadline:
            page.locator(".lm-MenuBar-itemLabel", has_text="Run").click()
            page.locator(".lm-Menu-item[data-command='runmenu:run-all']").click()
            for _ in range(100):
                if page.evaluate(_BUSY):
                    self.wait_until_run(seconds)
                    return
                if accept.is_visible():  # which kernel? The one that is offered; then again
                    accept.click()
                    break
                page.wait_for_timeout(50)
        pytest.fail(f"{self.address}: 'Run All Cells' runs nothing")

    def wait_until_run(self, seconds: float) -> None:
        """Returns when no cell waits or runs: none shows ``[*]``, and the kernel is idle for more than a second."""
        deadline, quiet = time.monotonic() + seconds, 0
        while time.monotonic() < deadline:
            quiet = 0 if self.page.evaluate(_BUSY) else quiet + 1
            if quiet > 3:
                return
            time.sleep(0.5)
        pytest.fail(f"{self.address}: still running after {seconds} s")

    def save(self) -> None:
        """Menu File, Save Notebook; returns when it is on the disk. What a page showed and nobody saved is gone after a reload."""
        self.page.locator(".lm-MenuBar-itemLabel", has_text="File").click()
        self.page.locator(".lm-Menu-item[data-command='docmanager:save']").click()
        expect(self.page.locator(".lm-DockPanel-tabBar .jp-mod-dirty")).to_have_count(0, timeout=PATIENCE)

    def errors(self) -> list[str]:
        """What went wrong in any cell, as it stands on the page."""
        wrong = "[data-mime-type='application/vnd.jupyter.error'], .jp-RenderedText[data-mime-type*=error]"
        return self.page.locator(wrong).all_inner_texts()

    def close(self) -> None:
        """Closes the page and ends its kernel, whose memory the next one needs."""
        server = self.address.split("/lab/")[0]
        self.page.close()
        for session in requests.get(f"{server}/api/sessions?token={TOKEN}", timeout=30).json():
            requests.delete(f"{server}/api/sessions/{session['id']}?token={TOKEN}", timeout=60)

    def source(self, kind: str) -> str:
        """The address of the picture in a widget (CSS class): another one as soon as the picture is another."""
        return self.page.locator(f"{kind} img").first.get_attribute("src")


def changed(lab: Lab, kind: str, before: str, patience: float = PATIENCE) -> None:
    """Waits until a widget's picture is another than it was."""
    expect(lab.page.locator(f"{kind} img").first).not_to_have_attribute("src", before, timeout=patience)


def at_question(page: Page, number: int, total: int = 108) -> None:
    """Waits until a question of the study is on the screen, with both pictures, and takes an answer."""
    expect(page.get_by_text(f"{number} of {total}", exact=True)).to_be_visible(timeout=PATIENCE)
    page.locator(f".{page_style.OPEN}").wait_for(timeout=PATIENCE)


_BUSY = (  # JupyterLab may not draw the prompts of cells out of sight
    """() => [...document.querySelectorAll(".jp-CodeCell .jp-InputPrompt")].some(p => p.textContent.includes("*"))
    || document.querySelector("#jp-main-statusbar").textContent.includes("| Busy")"""
)


def drag(page: Page, slider, share: float) -> None:
    """Drags a slider's handle with the mouse to a share of its length."""
    track = slider.locator(".noUi-base").first
    track.scroll_into_view_if_needed()
    handle, box = slider.locator(".noUi-handle").first.bounding_box(), track.bounding_box()
    middle = handle["y"] + handle["height"] / 2
    page.mouse.move(handle["x"] + handle["width"] / 2, middle)
    page.mouse.down()
    for part in (0.25, 0.5, 0.75, 1.0):
        start = handle["x"] + handle["width"] / 2
        page.mouse.move(start + part * (box["x"] + share * box["width"] - start), middle)
    page.mouse.up()


def drag_to_another(lab: Lab, kind: str, slider, share: float) -> None:
    """Drags a slider until the picture of its widget is another. As a person would, again where the page moved away under the mouse: one
    whose pictures still load does."""
    before = lab.source(kind)
    for missed in range(4):
        drag(lab.page, slider, share)
        try:
            changed(lab, kind, before, PATIENCE / 4)
            return
        except AssertionError:
            if missed == 3:
                raise
