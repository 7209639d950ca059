"""The pictures of README and docs, made anew from recorded runs (`make pictures`): docs/pictures.

    python -m tests.pictures [NAME …]

Terminal views become SVG by rich, figures PNG by matplotlib, the report PNG by Chromium, where that is installed.
"""

from __future__ import annotations

import base64
import io
import json
import re
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "docs" / "pictures"
RUN = "data_samples/runs/whole/nano-small"
PLAYED = 1
MOST_BYTES = 600_000
"""Of all pictures together."""
NO_BROWSER = "no Chromium with its driver is installed (apt-get install chromium chromium-driver)"
FLAGS = (
    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars",
)  # fmt: skip


class LeftOutError(Exception):
    """Why a picture cannot be made here."""


@contextmanager
def browser() -> Iterator[Any]:
    """Chromium, driven by selenium; LeftOutError where one of them is not installed."""
    chrome = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    driver = shutil.which("chromedriver")
    try:
        from selenium import webdriver
    except ImportError:
        raise LeftOutError("selenium is not installed (pip install selenium)") from None
    if not chrome or not driver:
        raise LeftOutError(NO_BROWSER)
    options = webdriver.ChromeOptions()
    options.binary_location = chrome
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as home:
        for word in (*FLAGS, "--window-size=1200,900", f"--user-data-dir={home}"):
            options.add_argument(word)
        opened = webdriver.Chrome(options=options, service=webdriver.ChromeService(driver))
        try:
            yield opened
        finally:
            opened.quit()


MEASURED = ROOT / "data_samples" / "benchmarks"
ARMS = {"self-play": "comparison", "shuffled rewards": "comparison-shuffled", "solver only": "comparison-solver"}
"""Arm: the file of the real model's gains."""
SETS = {
    "cruxeval-o": "CRUXEval-O", "cruxeval-i": "CRUXEval-I", "proposed": "its own kind of tasks", "simple": "simple programs",
}  # fmt: skip


def learning() -> bytes:
    """Nano's accuracy over self-play (lines: mean, bands: range) and the real model's gains, each beside its controls."""
    import numpy as np

    from azr_lite.observe.style import figure, line, look, png

    made, (left, right) = figure(1, 2, (10.4, 3.7))
    curves: dict[str, Any] = {}
    for name in ("nano-curve-shuffled", "nano-curve"):  # of two seeds; of five, without that control
        curves |= json.loads((MEASURED / f"{name}.json").read_text(encoding="utf-8"))["arms"]
    for place, (arm, file) in enumerate(ARMS.items()):
        own, runs = look(arm, place), curves[arm]["curve"]
        steps, rows = [int(step) for step in runs[0]], 100 * np.array([list(run.values()) for run in runs])
        line(left, arm, steps, rows.mean(0).tolist(), place)
        left.fill_between(steps, rows.min(0), rows.max(0), color=own.colour, alpha=0.15, linewidth=0)
        sets = json.loads((MEASURED / "real" / f"{file}.json").read_text(encoding="utf-8"))["sets"]
        for at, name in enumerate(SETS):
            gain, low, high = (sets[name]["strict"][key] for key in ("gain", "low", "high"))
            bar = {"color": own.colour, "capsize": 3, "linewidth": 1.8}
            right.errorbar(gain, 0.22 * place - 0.22 + at, xerr=[[gain - low], [high - gain]], fmt=own.marker, **bar)
    left.set(title="Nano: held-out accuracy, %", xlabel="self-play step")
    left.legend(loc="upper left")
    right.set(title="Qwen2.5-Coder-0.5B: gain in 25 steps, points", xlabel="on held-out questions; bars: 95 %")
    right.set_yticks(range(len(SETS)), SETS.values())
    right.invert_yaxis()
    right.axvline(0, color="#444444", linewidth=1)
    return png(made)


def loop() -> bytes:
    from azr_lite.course.diagram import loop_diagram
    from azr_lite.observe.style import png

    made = loop_diagram()
    made.set_dpi(150)
    return png(made)


def dashboard() -> bytes:
    from azr_lite.observe.dashboard import draw
    from azr_lite.observe.reader import Followed, open_run
    from azr_lite.observe.style import png

    return png(draw(Followed(open_run(RUN))))


def watch() -> bytes:
    from azr_lite.observe.dashboard import screen
    from azr_lite.observe.reader import Followed, open_run

    return terminal(f"azr-lite watch {RUN}", screen(Followed(open_run(RUN))))


def play() -> bytes:
    """The first of the three task types."""
    from rich.console import Console
    from rich.text import Text

    from azr_lite.course.play import Options
    from azr_lite.course.play import play as show

    console = Console(record=True, width=80, file=io.StringIO(), highlight=False)
    show("nano", Options(seed=PLAYED), console)
    lines = Text.from_ansi(console.export_text(styles=True)).split("\n")
    ends = [number for number, line in enumerate(lines) if ": find " in line.plain][1]
    return terminal(f"azr-lite play nano --seed {PLAYED}", Text("\n").join(lines[:ends]))


def terminal(title: str, shown: Any) -> bytes:
    """What a terminal of 80 columns shows, as SVG that loads no font from the network."""
    from rich.console import Console

    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True, color_system="truecolor")
    console.print(shown)
    return re.sub(r"@font-face \{.*?\}\s*", "", console.export_svg(title=title), flags=re.DOTALL).encode()


def report(width: int, height: int, scale: float) -> bytes:
    """The top of the report's page, so many pixels wide and high."""
    import numpy as np
    from PIL import Image

    from azr_lite.observe.report import report as page

    with tempfile.TemporaryDirectory() as folder, browser() as chromium:
        file = Path(folder, "report.html")
        file.write_text(page([RUN]), encoding="utf-8")
        size = {"width": width, "height": height, "deviceScaleFactor": scale, "mobile": width < 500}
        chromium.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
        chromium.get(file.as_uri())
        taken = chromium.execute_cdp_cmd("Page.captureScreenshot", {"format": "png"})["data"]
    seen = Image.open(io.BytesIO(base64.b64decode(taken))).convert("RGB")
    small, out = seen.quantize(64, method=Image.Quantize.FASTOCTREE), io.BytesIO()
    assert np.asarray(seen).std() > 5, "the page is empty"
    small.save(out, format="png", optimize=True)
    return out.getvalue()


PICTURES: dict[str, Callable[[], bytes]] = {
    "learning.png": learning,
    "loop.png": loop,
    "dashboard.png": dashboard,
    "watch.svg": watch,
    "play.svg": play,
    "report.png": lambda: report(1100, 1500, 1.0),
    "report-phone.png": lambda: report(390, 844, 1.0),
}
"""File in `FOLDER` to what makes it."""


def main(names: list[str]) -> None:
    FOLDER.mkdir(exist_ok=True)
    for name in names or PICTURES:
        try:
            made = PICTURES[name]()
        except LeftOutError as why:
            print(f"{name} is left as it was: {why}", file=sys.stderr)
            continue
        (FOLDER / name).write_bytes(made)
        print(f"{FOLDER.relative_to(ROOT) / name}: {len(made):,} bytes")


if __name__ == "__main__":
    main(sys.argv[1:])
