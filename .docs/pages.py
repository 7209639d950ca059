"""The site's pages, made from what the code knows: README, metric table, settings, presets, exercises, every module's docstrings.

Comes in: the repository.  Goes out: build/docs-src/*.md and build/mkdocs.yml, which `make docs` hands to mkdocs.
Not covered: how pages look (`mkdocs.yml` beside this file), and reading docstrings (mkdocstrings does that, without importing anything).

Nothing here is written by hand twice: a setting, a number or a module that is added to the code is on the site.
"""

from __future__ import annotations

import dataclasses
import importlib
import inspect
import json
import os
import re
import shutil
from collections.abc import Iterable, Sequence
from pathlib import Path

from azr_lite import config
from azr_lite.cli import COMMANDS
from azr_lite.course.checks import exercises
from azr_lite.course.lessons import COURSE, REPOSITORY
from azr_lite.metrics import METRICS
from azr_lite.presets import PRESETS

ROOT = Path(__file__).parents[1]
GITHUB = f"https://github.com/{REPOSITORY}"
PACKAGES = (
    "azr_lite",
    "azr_lite.sandbox",
    "azr_lite.prompts",
    "azr_lite.tasks",
    "azr_lite.evaluation",
    "azr_lite.course",
)
"""Those with an `__all__`: the names meant for others."""

Pages = dict[str, str]
"""Place under build/docs-src to markdown."""


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A markdown table. A cell becomes one line; bars in it are escaped, but for those in code, where the backslash would show."""

    def line(cell: object) -> str:
        parts = " ".join(str(cell).split()).split("`")
        return "`".join(part if place % 2 else part.replace("|", "\\|") for place, part in enumerate(parts))

    cells = [[line(cell) for cell in row] for row in rows]
    return "\n".join(f"| {' | '.join(row)} |" for row in [list(head), ["---"] * len(head), *cells]) + "\n"


def home(readme: str) -> str:
    """The README. Links to files of the repository lead to GitHub; pictures come along."""

    def place(found: re.Match[str]) -> str:
        picture, text, target = found.groups()
        if picture:
            return f"![{text}](pictures/{Path(target).name})"
        kind = "tree" if (ROOT / target).is_dir() else "blob"
        return f"[{text}]({GITHUB}/{kind}/main/{target})"

    return re.sub(r"(!?)\[([^\]\n]*)\]\((?!https?:|#)([^)]+)\)", place, readme)


def metrics() -> str:
    """Every logged number."""
    rows = ((f"`{m.pattern}`<br>{m.name}", m.formula, m.unit, m.range, m.source, f"`{m.file}`, {m.when or 'every step'}") for m in METRICS)
    return (
        "---\nhide: [toc]\n---\n\n# Every logged number\n\n"
        "`azr-lite show NAME` prints one row. A value outside its healthy range is a reason to look, not a verdict. Braces: `{role}` is propose or\n"
        "solve, `{type}` a game, `{part}` a reward part, `{reason}` a reason code, `{kind}` an outcome of the sandbox, `{percent}` a rounded percentage.\n\n"
        + table(("key and name", "formula", "unit", "healthy", "source", "logged"), rows)
    )


def settings() -> str:
    """Every setting, in the order and under the headings of `config.py`."""
    fields = {field.name: field for field in dataclasses.fields(config.Config)}
    text = (
        "# Every setting\n\nEach is a flag (`azr-lite run --n-mc 8`) and a keyword (`azr_lite.run(n_mc=8)`). The last column says what it is, its unit where\n"
        'it has one, and where the default comes from: "paper" is arXiv 2505.03335, "code" its authors\' code, and a default without either was chosen here.\n'
    )
    section = ""
    rows: list[tuple[str, str, str, str]] = []
    for heading, name, meaning in [*config.list_settings(), ("", "", "")]:
        if heading != section and rows:
            text += f"\n## {section[0].upper()}{section[1:]}\n\n" + table(("setting", "default", "values", "meaning, unit, source"), rows)
            rows = []
        section = heading
        if name:
            rows.append((f"`{name}`", f"`{fields[name].default!r}`", f"`{fields[name].type}`", meaning))
    return text


def preset_page() -> str:
    """Every preset, and the reason of each number in it."""
    text = "# Presets\n\nWhat a preset does not name keeps the default. `azr-lite plan NAME` says whether it fits.\n"
    for one in PRESETS.values():
        rows = ((f"`{name}`", f"`{value!r}`", why) for name, (value, why) in one.choices.items())
        text += f"\n## {one.name}\n\n{one.about}\n\n" + table(("setting", "value", "source and reason"), rows)
    return text


def commands() -> str:
    """The commands of the command line."""
    rows = ((f"`azr-lite {name}`", function.__doc__.splitlines()[0]) for name, function in COMMANDS.items())
    return "# Commands\n\n`azr-lite COMMAND --help` explains each option; every setting is one of `run`'s.\n\n" + table(
        ("command", "what"), rows
    )


def course() -> str:
    """Notebooks and the exercises in them."""
    text = "# The course\n\nExercises are checked by `check.NAME(mine)`; the answer is the package's own function (`check.reveal`).\n"
    for lesson in COURSE:
        link = f"{GITHUB}/blob/main/notebooks/{lesson.stem}.ipynb"
        able = "".join(f"* {one}\n" for one in lesson.able)
        rows = [(f"`{one.name}`", one.points, len(one.mistakes)) for one in exercises().values() if one.notebook == lesson.number]
        text += f"\n## {lesson.number} · {lesson.title}\n\n[Open the notebook]({link}). Before this: {lesson.needs}.\n\nYou will be able to\n\n{able}"
        text += "\n" + table(("exercise", "points", "mistakes it knows"), rows) if rows else ""
    return text


def modules() -> dict[str, list[str]]:
    """Every module by the page it is on: one page for each file and each package directly under azr_lite."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "azr_lite").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not parts[-1].startswith("_"):
            found.setdefault(parts[1] if len(parts) > 1 else "azr_lite", []).append(".".join(parts))
    return found


def public_names() -> str:
    """What is meant for others: each package's `__all__`, with a link to where it is defined."""
    text = "# Public names\n\nEverything else may change without notice.\n"
    for package in PACKAGES:
        module = importlib.import_module(package)
        rows = []
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.ismodule(value):
                where = value.__name__
            elif inspect.isfunction(value) or inspect.isclass(value):
                where = f"{value.__module__}.{value.__qualname__}"
            else:
                where = package if name.startswith("__") else f"{package}.{name}"
            about = (inspect.getdoc(value) or "").split("\n")[0] if not isinstance(value, str | tuple) else f"`{value!r}`"
            rows.append((f"[`{package}.{name}`][{where}]", about))
        text += f"\n## {package}\n\n" + table(("name", "what"), rows)
    return text


def pages() -> Pages:
    """All of them."""
    found = {
        "index.md": home((ROOT / "README.md").read_text(encoding="utf-8")),
        "names.md": public_names(),
        "metrics.md": metrics(),
        "settings.md": settings(),
        "presets.md": preset_page(),
        "course.md": course(),
        "commands.md": commands(),
        **{f"{name}.md": (ROOT / ".docs" / f"{name}.md").read_text(encoding="utf-8") for name in ("real_model", "short_answers")},
    }
    only = {"azr_lite.cli": "    options:\n      members: [main]\n"}  # the commands have a page of their own
    for page, members in modules().items():
        found[f"api/{page}.md"] = f"# {page}\n\n" + "\n".join(f"::: {name}\n{only.get(name, '')}" for name in members)
    return found


def navigation(found: Pages) -> list[dict[str, object]]:
    """The menu: readers' pages first, then modules by name."""
    fixed = {"Home": "index.md", "The course": "course.md", "A real model learns": "real_model.md",
             "Short answers": "short_answers.md", "Commands": "commands.md",
             "Every setting": "settings.md", "Presets": "presets.md", "Every logged number": "metrics.md", "Public names": "names.md"}  # fmt: skip
    reference = [{place.removeprefix("api/").removesuffix(".md"): place} for place in sorted(found) if place.startswith("api/")]
    return [*({title: place} for title, place in fixed.items()), {"Modules": reference}]


def write(build: Path) -> None:
    """Write pages and configuration below `build`, in place of earlier ones."""
    folder = build / "docs-src"
    shutil.rmtree(folder, ignore_errors=True)
    found = pages()
    for place, text in found.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
    shutil.copy(ROOT / ".docs" / "style.css", folder)
    (folder / "pictures").mkdir()
    for picture in re.findall(r"!\[[^\]]*\]\((?!https?:)([^)]+)\)", (ROOT / "README.md").read_text(encoding="utf-8")):
        shutil.copy(ROOT / picture, folder / "pictures")
    settings_of_site = {"INHERIT": os.path.relpath(ROOT / ".docs" / "mkdocs.yml", build), "nav": navigation(found)}
    (build / "mkdocs.yml").write_text(json.dumps(settings_of_site, indent=1, ensure_ascii=False), encoding="utf-8")  # JSON is YAML


if __name__ == "__main__":
    write(ROOT / "build")
