"""A notebook in the real JupyterLab: run from top to bottom, a slider moved by keyboard, the picture that follows.

Not covered: the other notebooks' cells (`test_notebooks_run.py`). JupyterLab is in no extra; without it, or a browser, this is skipped.
"""

import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytest.importorskip("jupyterlab", reason="JupyterLab is not installed (pip install jupyterlab)")
pytest.importorskip("ipywidgets", reason="sliders need the [notebooks] extra")
webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is not installed")

ROOT = Path(__file__).parents[1]
PANEL = "window.jupyterapp.shell.currentWidget"
DONE = f"""
    const panel = {PANEL}, code = panel.content.widgets.filter(cell => cell.model.type === 'code');
    return panel.sessionContext.session.kernel.status === 'idle' && code.every(cell => cell.model.executionCount !== null)"""
FAILED = f"""
    return {PANEL}.content.widgets.flatMap(cell => cell.model.type === 'code' ? cell.model.outputs.toJSON() : [])
        .filter(output => output.output_type === 'error').map(output => output.evalue)"""
PICTURES = """
    return [...document.querySelectorAll('.jp-OutputArea-output img')].map(image => [image.alt, image.naturalWidth])"""
SLID = "const image = document.querySelector('.jupyter-widgets img'); return [image.alt, image.src, image.naturalWidth]"


def until(what, seconds, name):
    """What `what` gives as soon as it gives something; a page that is not there yet counts as nothing."""
    from selenium.common.exceptions import WebDriverException

    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if found := what():
                return found
        except WebDriverException:
            pass
        time.sleep(0.2)
    pytest.fail(f"not within {seconds} s: {name}")


@pytest.fixture
def lab(tmp_path):
    """The address of a JupyterLab that shows a copy of notebook 03 as it was before it was ever run."""
    from azr_lite.course.build import FOLDER, read

    nbformat = pytest.importorskip("nbformat")
    nbformat.write(read(FOLDER / "03_rewards.py"), tmp_path / "03.ipynb")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    own = {f"JUPYTER_{name}_DIR": str(tmp_path / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    surroundings = {
        **os.environ,
        **own,
        "PYTHONPATH": str(ROOT),
        "AZR_LITE_PROFILE": "ci",
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    surroundings.pop("AZR_LITE_STATIC", None)
    words = (
        "--no-browser",
        "--allow-root",
        "--ip=127.0.0.1",
        f"--port={port}",
        "--ServerApp.port_retries=0",
        "--IdentityProvider.token=t",
    )
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [
                sys.executable,
                "-m",
                "jupyterlab",
                *words,
                "--LabApp.expose_app_in_browser=True",
                f"--ServerApp.root_dir={tmp_path}",
            ],
            env=surroundings,
            stdout=log,
            stderr=log,
        )
    yield f"http://127.0.0.1:{port}/lab/tree/03.ipynb?token=t&reset"
    server.terminate()  # it ends its kernels first
    server.wait(20)


@pytest.fixture
def browser(tmp_path):
    chrome, driver = shutil.which("chromium") or shutil.which("google-chrome"), shutil.which("chromedriver")
    if not chrome or not driver:
        pytest.skip("no Chromium with its driver is installed (apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    for word in (
        "headless=new",
        "no-sandbox",
        "disable-gpu",
        "disable-dev-shm-usage",
        "window-size=1200,900",
        f"user-data-dir={tmp_path}/c",
    ):
        options.add_argument(f"--{word}")
    for word in ("disable-background-networking", "disable-component-update", "disable-sync", "no-first-run"):
        options.add_argument(f"--{word}")
    opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
    yield opened
    opened.quit()


@pytest.mark.slow
def test_a_slider_moved_by_keyboard_changes_its_picture(lab, browser):
    from selenium.webdriver.common.keys import Keys

    def opened():
        if "/lab/tree/" not in browser.current_url or not browser.execute_script("return !!window.jupyterapp"):
            browser.get(lab)  # the server was not there yet
        return browser.execute_script(f"return {PANEL}.sessionContext?.session?.kernel?.status === 'idle'")

    until(opened, 60, "an open notebook with a kernel")
    browser.execute_script("window.jupyterapp.commands.execute('notebook:run-all-cells')")
    until(lambda: browser.execute_script(DONE), 60, "all cells run")
    assert browser.execute_script(FAILED) == []
    first = until(lambda: browser.execute_script(SLID), 10, "the sliders")
    pictures = browser.execute_script(PICTURES)
    assert len(pictures) >= 6
    assert all(len(alt) > 20 and width > 0 for alt, width in pictures), pictures
    handle = browser.find_element("css selector", ".jupyter-widgets .noUi-handle")
    browser.execute_script("arguments[0].scrollIntoView({block: 'center'})", handle)
    handle.send_keys(Keys.ARROW_RIGHT)
    moved = until(
        lambda: (now := browser.execute_script(SLID))[1] != first[1] and now[2] and now, 10, "another picture"
    )
    assert first[0].startswith("paper: 1 of 8 earns 0.875")
    assert moved[0].startswith("upstream: 1 of 8 earns 0.875")
