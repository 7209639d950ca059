"""The site (`make docs`): its generated pages leave nothing out, and it builds without a warning where mkdocs is installed."""

import dataclasses
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

from azr_lite.cli import COMMANDS
from azr_lite.config import Config, list_settings
from azr_lite.course.checks import exercises
from azr_lite.course.lessons import COURSE
from azr_lite.metrics import METRICS
from azr_lite.presets import PRESETS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site():
    """The script under .docs, which is no package."""
    spec = importlib.util.spec_from_file_location("pages_of_the_site", ROOT / ".docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(site):
    return site.pages()


def test_every_logged_number_is_there_with_unit_range_and_source(pages):
    rows = {line.split("`")[1]: line for line in pages["metrics.md"].splitlines() if line.startswith("| `")}
    assert rows.keys() == {metric.pattern for metric in METRICS}
    for metric in METRICS:
        cells = [cell.strip() for cell in rows[metric.pattern].strip("|").split(" | ")]
        assert len(cells) == 6, "a bar in a cell would shift the others"
        assert cells[2:5] == [metric.unit, metric.range, metric.source]


def test_every_setting_is_there_with_its_default_and_meaning(pages):
    rows = {line.split("`")[1]: line for line in pages["settings.md"].splitlines() if line.startswith("| `")}
    fields = {field.name: field for field in dataclasses.fields(Config)}
    assert list(rows) == list(fields)
    for _, name, meaning in list_settings():
        assert f"`{fields[name].default!r}`" in rows[name]
        assert " ".join(meaning.split()) in rows[name]


def test_every_preset_number_has_its_reason(pages):
    for preset in PRESETS.values():
        section = pages["presets.md"].split(f"\n## {preset.name}\n")[1].split("\n## ")[0]
        for name, (_, why) in preset.choices.items():
            assert re.search(rf"^\| `{name}` \|.*{re.escape(why)} \|$", section, re.MULTILINE), (preset.name, name)


def test_every_command_is_there(pages):
    assert re.findall(r"^\| `azr-lite ([\w-]+)` \| \w.+ \|$", pages["commands.md"], re.MULTILINE) == list(COMMANDS)


def test_every_notebook_and_exercise_is_there(pages):
    assert all(f"{lesson.stem}.ipynb" in pages["course.md"] for lesson in COURSE)
    assert set(re.findall(r"^\| `(\w+)` \|", pages["course.md"], re.MULTILINE)) == set(exercises())


def test_every_module_and_public_name_is_there(site, pages):
    asked = set(re.findall(r"^::: (\S+)$", "\n".join(pages.values()), re.MULTILINE))
    files = {
        path.relative_to(ROOT).with_suffix("")
        for path in (ROOT / "azr_lite").rglob("*.py")
        if path.name != "__main__.py"
    }
    assert asked == {".".join(path.parts).removesuffix(".__init__") for path in files}
    for package in site.PACKAGES:
        for name in importlib.import_module(package).__all__:
            assert f"[`{package}.{name}`]" in pages["names.md"]
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "azr_lite").rglob("__init__.py")
        if "__all__" in path.read_text()
    }
    assert set(site.PACKAGES) == packages


def test_the_home_page_has_no_link_into_the_repository(pages):
    assert [
        link
        for link in re.findall(r"\]\(([^)]+)\)", pages["index.md"])
        if not link.startswith(("http", "pictures/", "#"))
    ] == []


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocstrings") is None, reason="mkdocs is not installed: pip install 'azr-lite[docs]'"
)
def test_the_site_builds_without_a_warning(site, tmp_path):
    """A reference to a name that is not there, or a link that leads nowhere, is a warning. Not with --quiet: it would not count them."""
    site.write(tmp_path)
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(tmp_path / "mkdocs.yml")]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert 'id="azr_lite.rewards.learnability"' in (tmp_path / "site" / "api" / "rewards.html").read_text()
