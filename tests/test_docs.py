"""The site (`make docs`): its generated pages leave nothing out, and it builds without a warning where mkdocs is installed."""

import dataclasses
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from azr_lite.cli import COMMANDS
from azr_lite.config import CHANGEABLE_ON_RESUME, Config, list_settings
from azr_lite.course.checks import exercises
from azr_lite.course.lessons import COURSE, colab
from azr_lite.metrics import METRICS
from azr_lite.presets import PRESETS

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site():
    """The script under docs, which is no package."""
    spec = importlib.util.spec_from_file_location("pages_of_the_site", ROOT / "docs" / "pages.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def pages(site):
    return site.pages()


def test_every_logged_number_is_there_with_unit_range_and_source(pages):
    rows = {line.split("`")[1]: line for line in pages["reference/metrics.md"].splitlines() if line.startswith("| `")}
    assert rows.keys() == {metric.pattern for metric in METRICS}
    for metric in METRICS:
        cells = [cell.strip() for cell in rows[metric.pattern].strip("|").split(" | ")]
        assert len(cells) == 6, "a bar in a cell would shift the others"
        assert cells[2:5] == [metric.unit, metric.range, metric.source]


def test_every_setting_is_there_with_its_default_and_meaning(pages):
    rows = {line.split("`")[1]: line for line in pages["reference/settings.md"].splitlines() if line.startswith("| `")}
    fields = {field.name: field for field in dataclasses.fields(Config)}
    assert list(rows) == list(fields)
    for _, name, meaning in list_settings():
        assert f"`{fields[name].default!r}`" in rows[name]
        assert " ".join(meaning.split()) in rows[name]


def test_what_a_resumed_run_may_change_is_all_told(pages):
    told = pages["how-to/long_runs.md"].split("A resumed run may change")[1].split("Nothing else")[0]
    assert set(re.findall(r"`(\w+)`", told)) == set(CHANGEABLE_ON_RESUME)


def test_every_preset_number_has_its_reason(pages):
    for preset in PRESETS.values():
        section = pages["reference/presets.md"].split(f"\n### {preset.name}\n")[1].split("\n### ")[0]
        for name, (_, why) in preset.choices.items():
            assert re.search(rf"^\| `{name}` \|.*{re.escape(why)} \|$", section, re.MULTILINE), (preset.name, name)


def test_every_command_is_there(pages):
    assert re.findall(r"^\| `azr-lite ([\w-]+)` \| \w.+ \|$", pages["reference/commands.md"], re.MULTILINE) == list(
        COMMANDS
    )


def test_every_notebook_and_exercise_is_there(pages):
    page = pages["reference/course.md"]
    assert all(f"/blob/main/notebooks/{lesson.stem}.ipynb) or [Colab]({colab(lesson)})" in page for lesson in COURSE)
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.MULTILINE)) == set(exercises())


def test_every_module_and_public_name_is_there(site, pages):
    asked = set(re.findall(r"^::: (\S+)$", "\n".join(pages.values()), re.MULTILINE))
    files = {
        path.relative_to(ROOT).with_suffix("")
        for path in (ROOT / "azr_lite").rglob("*.py")
        if path.name not in ("__main__.py", "azr_selfplay.py")
    }
    assert asked == {".".join(path.parts).removesuffix(".__init__") for path in files}
    for package in site.PACKAGES:
        for name in importlib.import_module(package).__all__:
            assert f"[`{package}.{name}`]" in pages["reference/names.md"]
    packages = {
        ".".join(path.parent.relative_to(ROOT).parts)
        for path in (ROOT / "azr_lite").rglob("__init__.py")
        if "__all__" in path.read_text()
    }
    assert set(site.PACKAGES) == packages


def test_links_lead_to_pages_of_the_site_or_to_the_web(pages):
    seen = 0
    for place, text in pages.items():
        if place.startswith("api/"):
            continue
        for link in re.findall(r"\]\(([^)\s]+)\)", text):
            goal = os.path.normpath(os.path.join(os.path.dirname(place), link.split("#")[0]))
            assert link.startswith(("http", "#")) or goal.startswith("pictures/") or goal in pages, (place, link)
            seen += goal in pages
    assert seen > 30


def test_every_page_is_in_the_menu_once_and_every_table_on_a_page(site, pages):
    menu = json.dumps(site.navigation(pages))
    assert [place for place in pages if menu.count(f'"{place}"') != 1] == []
    hand = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "docs").rglob("*.md"))
    assert sorted(re.findall(r"<!-- made from code: (\w+) -->\n", hand)) == sorted(site.TABLES)
    assert "made from code" not in "\n".join(text for place, text in pages.items() if not place.startswith("api/"))


@pytest.mark.skipif(
    importlib.util.find_spec("mkdocstrings") is None, reason="mkdocs is not installed: pip install 'azr-lite[docs]'"
)
def test_the_site_builds_without_a_warning(site, tmp_path):
    """A reference to a name that is not there, or a link that leads nowhere, is a warning. Not with --quiet: it would not count them."""
    site.write(tmp_path)
    look = (ROOT / "docs" / "mkdocs.yml").read_text()
    quick = re.sub(r"(show_source|separate_signature): true", r"\1: false", look)  # what takes time and has no links
    (tmp_path / "quick.yml").write_text(quick)
    settings = tmp_path / "mkdocs.yml"
    settings.write_text(json.dumps({**json.loads(settings.read_text()), "INHERIT": "quick.yml"}))
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "-f", str(settings)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stdout + built.stderr
    assert 'id="azr_lite.rewards.learnability"' in (tmp_path / "site" / "api" / "rewards.html").read_text()
