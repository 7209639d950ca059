"""The site: the README, the pages beside this file, and what the code knows, written to build/docs-src for `make docs`.

A page may hold a line ``<!-- made from code: NAME -->``; what `TABLES` makes stands there. So nothing is written by
hand twice: a setting, a number or a module that is added to the code is on the site. mkdocstrings reads the docstrings;
mkdocs.yml says how pages look.
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
from azr_lite.course.lessons import COURSE, REPOSITORY, colab
from azr_lite.metrics import METRICS
from azr_lite.presets import PRESETS

ROOT = Path(__file__).parents[1]
DOCS, README = ROOT / "docs", ROOT / "README.md"
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


def with_links(text: str, file: Path) -> str:
    """A page's text. Links to pages stay; links to other files of the repository lead to GitHub; pictures come along."""
    page = DOCS if file == README else file.parent

    def place(found: re.Match[str]) -> str:
        picture, words, target = found.groups()
        path, _, anchor = target.partition("#")
        goal = Path(os.path.normpath(file.parent / path))
        if picture:
            return f"![{words}]({os.path.relpath(DOCS / 'pictures' / goal.name, page)})"
        if goal == README or goal.is_relative_to(DOCS):
            site = DOCS / "index.md" if goal == README else goal
            return f"[{words}]({os.path.relpath(site, page)}{'#' if anchor else ''}{anchor})"
        return f"[{words}]({GITHUB}/{'tree' if goal.is_dir() else 'blob'}/main/{goal.relative_to(ROOT)})"

    return re.sub(r"(!?)\[([^\]\n]*)\]\((?!https?:|#)([^)]+)\)", place, text)


def metrics() -> str:
    """Every logged number."""
    rows = (
        (f"`{m.pattern}`<br>{m.name}", m.formula, m.unit, m.range, m.source, f"`{m.file}`, {m.when or 'every step'}")
        for m in METRICS
    )
    return (
        "`azr-lite show NAME` prints one row. A value outside its healthy range is a reason to look, not a verdict. Braces: `{role}` is propose or\n"
        "solve, `{type}` a task type, `{part}` a reward part, `{reason}` a reason code, `{kind}` an outcome of the sandbox, `{percent}` a rounded percentage.\n\n"
        + table(("key and name", "formula", "unit", "healthy", "source", "logged"), rows)
    )


def settings() -> str:
    """Every setting, in the order and under the headings of `config.py`."""
    fields = {field.name: field for field in dataclasses.fields(config.Config)}
    text = (
        "Each is a flag (`azr-lite run --n-mc 8`) and a keyword (`azr_lite.run(n_mc=8)`). The last column says what it is, its unit where\n"
        'it has one, and where the default comes from: "paper" is arXiv 2505.03335, "code" its authors\' code, and a default without either was chosen here.\n'
    )
    section = ""
    rows: list[tuple[str, str, str, str]] = []
    for heading, name, meaning in [*config.list_settings(), ("", "", "")]:
        if heading != section and rows:
            text += f"\n## {section[0].upper()}{section[1:]}\n\n" + table(
                ("setting", "default", "values", "meaning, unit, source"), rows
            )
            rows = []
        section = heading
        if name:
            rows.append((f"`{name}`", f"`{fields[name].default!r}`", f"`{fields[name].type}`", meaning))
    return text


def preset_page() -> str:
    """Every preset, and the reason of each number in it."""
    text = "What a preset does not name keeps the default. `azr-lite plan NAME` says whether it fits.\n"
    for one in PRESETS.values():
        rows = ((f"`{name}`", f"`{value!r}`", why) for name, (value, why) in one.choices.items())
        text += f"\n### {one.name}\n\n{one.about}\n\n" + table(("setting", "value", "source and reason"), rows)
    return text


def commands() -> str:
    """The commands of the command line."""
    rows = ((f"`azr-lite {name}`", function.__doc__.splitlines()[0]) for name, function in COMMANDS.items())
    return table(("command", "what"), rows)


def course() -> str:
    """Notebooks and the exercises in them."""
    text = "Exercises are checked by `check.NAME(mine)`; the answer is the package's own function (`check.reveal`).\n"
    for lesson in COURSE:
        link = f"{GITHUB}/blob/main/notebooks/{lesson.stem}.ipynb"
        able = "".join(f"* {one}\n" for one in lesson.able)
        rows = [
            (f"`{one.name}`", one.points, len(one.mistakes))
            for one in exercises().values()
            if one.notebook == lesson.number
        ]
        text += f"\n## {lesson.number} · {lesson.title}\n\n[Open the notebook]({link}) or [Colab]({colab(lesson)}). Before this: {lesson.needs}.\n\nYou will be able to\n\n{able}"
        text += "\n" + table(("exercise", "points", "mistakes it knows"), rows) if rows else ""
    return text


def modules() -> dict[str, list[str]]:
    """Every module by the page it is on: one page for each file and each package directly under azr_lite."""
    found: dict[str, list[str]] = {}
    for path in sorted((ROOT / "azr_lite").rglob("*.py")):
        parts = path.relative_to(ROOT).with_suffix("").parts
        if parts[-1] == "__init__":
            parts = parts[:-1]
        if not parts[-1].startswith("_") and "verifiers_module" not in parts:
            found.setdefault(parts[1] if len(parts) > 1 else "azr_lite", []).append(".".join(parts))
    return found


def public_names() -> str:
    """What is meant for others: each package's `__all__`, with a link to where it is defined."""
    text = "Everything else may change without notice.\n"
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
            about = (
                (inspect.getdoc(value) or "").split("\n")[0] if not isinstance(value, str | tuple) else f"`{value!r}`"
            )
            rows.append((f"[`{package}.{name}`][{where}]", about))
        text += f"\n## {package}\n\n" + table(("name", "what"), rows)
    return text


TABLES = {
    "names": public_names, "metrics": metrics, "settings": settings, "presets": preset_page, "course": course, "commands": commands
}  # fmt: skip
"""What stands for ``<!-- made from code: NAME -->``."""

TITLES = {
    "": "AZR Lite",
    "tutorials": "Tutorials",
    "how-to": "How to",
    "reference": "Reference",
    "explanation": "Explanation",
}
"""The menu: folder of pages to its heading."""

FIRST = ("index.md", "tutorials/start.md", "tutorials/first_gpu_run.md")
"""Pages that stand before the others of their folder, which are in the order of their files' names."""


def pages() -> Pages:
    """All of them."""
    found = {"index.md": with_links(README.read_text(encoding="utf-8"), README)}
    for file in sorted(DOCS.rglob("*.md")):
        text = re.sub(
            r"<!-- made from code: (\w+) -->\n", lambda name: TABLES[name[1]](), file.read_text(encoding="utf-8")
        )
        found[file.relative_to(DOCS).as_posix()] = with_links(text, file)
    only = {"azr_lite.cli": "    options:\n      members: [main]\n"}  # the commands have a page of their own
    for page, members in modules().items():
        found[f"api/{page}.md"] = f"# {page}\n\n" + "\n".join(f"::: {name}\n{only.get(name, '')}" for name in members)
    return found


def navigation(found: Pages) -> list[dict[str, object]]:
    """The menu: the pages of each folder by their title, then modules by name."""
    menu: dict[str, list[dict[str, str]]] = {title: [] for title in TITLES.values()}
    for place in [*FIRST, *(place for place in found if place not in FIRST)]:
        folder = place.rpartition("/")[0]
        if folder != "api":
            menu[TITLES[folder]].append(
                {"Home" if place == "index.md" else found[place].split("# ")[1].split("\n")[0]: place}
            )
    reference = [
        {place.removeprefix("api/").removesuffix(".md"): place} for place in sorted(found) if place.startswith("api/")
    ]
    return [*({title: places} for title, places in menu.items()), {"Modules": reference}]


def write(build: Path) -> None:
    """Write pages and configuration below `build`, in place of earlier ones."""
    folder = build / "docs-src"
    shutil.rmtree(folder, ignore_errors=True)
    found = pages()
    for place, text in found.items():
        (folder / place).parent.mkdir(parents=True, exist_ok=True)
        (folder / place).write_text(text, encoding="utf-8")
    shutil.copy(DOCS / "style.css", folder)
    (folder / "pictures").mkdir()
    for file in (README, *DOCS.rglob("*.md")):
        for picture in re.findall(r"!\[[^\]]*\]\((?!https?:)([^)]+)\)", file.read_text(encoding="utf-8")):
            shutil.copy(file.parent / picture, folder / "pictures")
    settings_of_site = {"INHERIT": os.path.relpath(DOCS / "mkdocs.yml", build), "nav": navigation(found)}
    (build / "mkdocs.yml").write_text(
        json.dumps(settings_of_site, indent=1, ensure_ascii=False), encoding="utf-8"
    )  # JSON is YAML


if __name__ == "__main__":
    write(ROOT / "build")
