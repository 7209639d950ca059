"""The model card: README.md of an exported model, made from the run directory, with nothing of this machine in it.

What a model wrote stands in a fence longer than any run of backticks in it, so that it cannot break out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import EvaluationError
from azr_lite.evaluation.scores import compare_paired, read_result
from azr_lite.prompts import get_style
from azr_lite.rundir import RunDir
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import Rules, Triplet

MOST_QUOTED = 2000  # characters of model-written text in the card
EXAMPLE = Triplet("deduction", "def f(x):\n    x = x[1:]\n    return len(x)", "'abcd'", "3")


@dataclass(frozen=True)
class Export:
    """What was exported. `kind`: adapter, merged (adapter added to its base) or whole. `role`: solver or proposer where
    they are apart, else empty. `base`: what training started from: a hub id where `on_hub`, else nano or the name of a
    file or folder, without its place. `licence`: the hub's short name, empty where it is not known; `licence_name`:
    what stands behind the name other."""

    kind: str
    step: int
    dtype: str
    role: str
    base: str
    on_hub: bool
    licence: str
    licence_name: str


def model_card(run: RunDir, export: Export, where: str) -> str:
    """The card as Markdown. `where`: what its code block loads, a folder's name or a repository."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    config, info = run.config(), run.info()
    environment = info.get("environment", {})
    command = re.sub(r"^__main__\.py\b", "azr-lite", environment.get("command", "not recorded"))  # python -m azr_lite
    versions = ", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
    style = get_style(_style_name(config, info))
    prompt = get_task_type("deduction").solve_prompt(style, EXAMPLE, Rules())
    counts, sample = _tasks(run, export.step, config.task_types)
    gains, no_gains = _gains(run, export.step)
    loader = FileSystemLoader(Path(__file__).parent)
    pages = Environment(loader=loader, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters |= {"fence": fence, "repr": repr}
    pages.filters["cell"] = lambda code: "`" + " ".join(code.replace("`", "'").replace("|", "\\|").split()) + "`"
    page = pages.get_template("model_card.md.jinja").render(
        export=export,
        config=config,
        where=where,
        command=public(command),
        versions=versions or "not recorded",
        date=environment.get("date", "date not recorded"),
        commit=environment.get("git") or "not recorded",
        sandbox=info.get("sandbox", {}).get("level", "not recorded"),
        choices=public("\n".join(info.get("model", {}).get("choices", []))) or "not recorded",
        gains=gains,
        no_gains=no_gains,
        counts=counts,
        sample=sample,
        style=style,
        prompt=prompt.removesuffix(style.prefill) if style.chat else prompt,
    )
    return page + "\n"


def public(text: str) -> str:
    """Without what belongs to this machine or its owner: folders of absolute paths, tokens, passwords in addresses."""
    text = re.sub(r"(?<![\w./])(?:file://)?~?/(?:[^\s'\"/]+/)*(?=[^\s'\"/])", "", text)
    text = re.sub(r"(?<=://)[^/@\s]+@", "", text)
    return re.sub(r"hf_[A-Za-z0-9]{16,}", "(token)", text)


def fence(text: str, language: str) -> str:
    """A fenced block that its text cannot close: one backtick more than its longest run; `?` for control characters."""
    plain = "".join(letter if letter in "\n\t" or letter.isprintable() else "?" for letter in text)
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    return f"{ticks}{language}\n{plain}\n{ticks}"


def _gains(run: RunDir, step: int) -> tuple[list[dict[str, Any]], str]:
    """Held-out gain of the exported step over the start, one row per group, from the evaluations kept; or why none."""
    try:
        before, after = (read_result(run.path / "eval", name) for name in ("before", f"step-{step}"))
    except EvaluationError:  # an export of an hour does not fail for a table
        return [], "the run's evaluations are damaged or in another version's format"
    if before is None or after is None:
        return [], f"the run kept no held-out evaluation of both its start and step {step}"
    rows = []
    for name, change in compare_paired(before.items, after.items).items():
        accuracies = {"before": before.scores[name]["accuracy"], "after": after.scores[name]["accuracy"]}
        rows.append({"name": name, "n": after.scores[name]["n"], **accuracies, **change})
    return rows, ""


def _tasks(run: RunDir, step: int, types: tuple[str, ...]) -> tuple[dict[str, dict[str, int]], str]:
    """Counts by type, and the text of the newest valid task of middling difficulty."""
    counts = {name: dict.fromkeys(("proposed", "valid", "solved", "learnable"), 0) for name in types}
    sample = ""
    for line in run.read("tasks.jsonl"):
        if not 0 <= line["step"] < step:
            continue
        row, rate = counts[line["type"]], line.get("solve_rate") or 0.0
        row["proposed"] += 1
        row["valid"] += bool(line["ok"])
        row["solved"] += rate > 0
        row["learnable"] += 0 < rate < 1
        if line["ok"] and 0 < rate < 1:
            sample = _task_text(line["type"], line["task"])
    return counts, sample


def _task_text(kind: str, task: dict[str, Any]) -> str:
    inputs, outputs = task.get("inputs", [task.get("input")]), task.get("outputs", [task.get("output")])
    pairs = [f"f({given}) -> {found}" for given, found in zip(inputs, outputs, strict=True)]
    text = "\n".join([f"# {kind}", task["program"], "", *pairs])
    return text if len(text) <= MOST_QUOTED else text[:MOST_QUOTED] + "\n(cut)"


def _style_name(config: Config, info: dict[str, Any]) -> str:
    """The prompts it was trained with: as set, or as loading chose them (its line in run.json begins with the name)."""
    if config.prompts != "auto":
        return config.prompts
    chosen = (re.match(r"([\w-]+) prompts:", line) for line in info.get("model", {}).get("choices", []))
    return next((found[1] for found in chosen if found), "compact" if config.model == "nano" else "r1")
