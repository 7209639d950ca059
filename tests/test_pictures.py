"""Every picture of README and docs is there, small, and made by `make pictures`."""

import html
import re
import subprocess

import pytest

from tests import pictures
from tests.pictures import FOLDER, MOST_BYTES, PICTURES, ROOT

USED = {
    (page.parent / place).resolve(): page.relative_to(ROOT)
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")))
    for place in re.findall(r"!\[[^\]]+\]\((?!https?:)([^)\s]+)\)", page.read_text(encoding="utf-8"))
}


def test_every_picture_used_exists_and_every_one_made_is_used():
    assert {path: page for path, page in USED.items() if not path.is_file()} == {}
    assert {path.name for path in USED if path.parent == FOLDER} == set(PICTURES)
    assert {path.name for path in FOLDER.iterdir()} == set(PICTURES)
    assert sum(path.stat().st_size for path in FOLDER.iterdir()) <= MOST_BYTES


def test_make_pictures_names_the_command():
    planned = subprocess.run(["make", "-n", "pictures"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert "-m tests.pictures" in planned


def words(svg):
    return [html.unescape(text).replace("\xa0", " ") for text in re.findall(r">([^<]+)</text>", svg)]


def test_the_screen_on_the_picture_is_the_screen_of_today(monkeypatch):
    monkeypatch.chdir(ROOT)
    made = pictures.watch().decode()
    assert "url(http" not in made
    assert words(made) == words((FOLDER / "watch.svg").read_text(encoding="utf-8"))
    assert any("held-out" in line for line in words(made))


def test_the_picture_of_play_shows_one_task_from_invention_to_reward():
    pytest.importorskip("trl")
    shown = [set(words(svg)) for svg in (pictures.play().decode(), (FOLDER / "play.svg").read_text(encoding="utf-8"))]
    for labels in shown:
        assert {"prompt", "reply", "parsing", "executor", "verifier", "rewards"} <= {
            line.split(" ")[0] for line in labels
        }


@pytest.mark.parametrize("name", ["loop.png", "dashboard.png"])
def test_figures_are_drawn(name, monkeypatch):
    pytest.importorskip("matplotlib")
    monkeypatch.chdir(ROOT)
    assert PICTURES[name]().startswith(b"\x89PNG")


def test_without_a_browser_one_sentence_is_said_and_the_picture_stays(monkeypatch, tmp_path, capsys):
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(pictures.shutil, "which", lambda name: None)
    monkeypatch.setattr(pictures, "FOLDER", tmp_path)
    (tmp_path / "report.png").write_bytes(b"old")
    pictures.main(["report.png"])
    said = capsys.readouterr().err
    assert said.startswith("report.png is left as it was: ")
    assert said.count("\n") == 1
    assert (tmp_path / "report.png").read_bytes() == b"old"
