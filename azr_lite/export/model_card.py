"""The model card: README.md of an exported model, made from the run directory.

Comes in: a run and what was exported of it.  Goes out: Markdown (`model_card.md.jinja`), with nothing of this machine in it.
Not covered: exporting (`publish.py`), the HTML report about a run (`observe/report.py`).

Whatever a model wrote stands in a fence longer than any run of backticks in it, so that it cannot break out. Texts of the run
(command, notes) lose the folders of absolute paths, tokens and passwords.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import EvaluationError
from azr_lite.evaluation.results import read_result
from azr_lite.evaluation.scores import compare_paired
from azr_lite.prompts import get_style
from azr_lite.rundir import RunDir
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import Rules, Triplet

CITATION = """@article{zhao2025absolutezero,
  title   = {Absolute Zero: Reinforced Self-play Reasoning with Zero Data},
  author  = {Andrew Zhao and Yiran Wu and Yang Yue and Tong Wu and Quentin Xu and Yang Yue and Matthieu Lin and Shenzhi Wang
             and Qingyun Wu and Zilong Zheng and Gao Huang},
  journal = {arXiv preprint arXiv:2505.03335},
  year    = {2025}
}"""
MOST_QUOTED = 2000
"""Characters of model-written text in the card."""


@dataclass(frozen=True)
class Base:
    """The model that training started from. `name`: a hub id where `on_hub`, else nano or the name of a file or folder, without its place.
    `licence`: the hub's short name, empty where it is not known; `licence_name`: what stands behind the name other."""

    name: str
    on_hub: bool
    licence: str = ""
    licence_name: str = ""


@dataclass(frozen=True)
class Export:
    """What was exported. `kind`: adapter, merged (adapter added to its base) or whole. `role`: solver or proposer where they are
    apart, else empty. `notes`: sentences on precision that the card has to say."""

    kind: str
    step: int
    base: Base
    dtype: str
    role: str = ""
    notes: tuple[str, ...] = ()


def card(run: RunDir, export: Export, where: str) -> str:
    """The card as Markdown. `where`: what the code block loads, a folder's name or a repository."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    config, info = run.config(), run.info()
    environment = info.get("environment", {})
    counts, sample = _tasks(run, export.step, config.task_types)
    gains, no_gains = _gains(run, export.step)
    code, hint = _loading(config, info, export, where)
    pages = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    pages.filters |= {"fence": fence, "cell": _cell}
    return pages.get_template("model_card.md.jinja").render(
        export=export,
        title=f"{where.rpartition('/')[2]}: {export.base.name.rpartition('/')[2]} after {export.step} steps of self-play",
        what=_what(export),
        base=_base(export.base),
        licence=_licence(export.base),
        exported=f"{export.kind}, {export.dtype}, step {export.step} of {config.steps}"
        + (f", {export.role}" if export.role else ""),
        tuning=f"{config.tuning} tuning, preset {config.preset}, seed {config.seed}, learning rate {config.learning_rate}",
        command=public(
            re.sub(r"^__main__\.py\b", "azr-lite", environment.get("command", "not recorded"))
        ),  # python -m azr_lite
        versions=", ".join(f"{name} {version}" for name, version in environment.get("versions", {}).items())
        or "not recorded",
        date=environment.get("date", "date not recorded"),
        commit=environment.get("git") or "not recorded",
        sandbox=info.get("sandbox", {}).get("level", "not recorded"),
        choices=public("\n".join(info.get("model", {}).get("choices", []))) or "not recorded",
        gains=gains,
        no_gains=no_gains,
        curves=_curves(run, export.step),
        counts=counts,
        sample=sample,
        code=code,
        hint=hint,
        seed=config.seed,
        citation=CITATION,
    )


def public(text: str) -> str:
    """Without what belongs to this machine or its owner: folders of absolute paths, tokens of the hub, passwords in addresses."""
    text = re.sub(r"(?<![\w./])(?:file://)?~?/(?:[^\s'\"/]+/)*(?=[^\s'\"/])", "", text)
    text = re.sub(r"(?<=://)[^/@\s]+@", "", text)
    return re.sub(r"hf_[A-Za-z0-9]{16,}", "(token)", text)


def fence(text: str, language: str) -> str:
    """A fenced block that its text cannot close: one backtick more than the longest run inside; control characters become `?`."""
    plain = "".join(letter if letter in "\n\t" or letter.isprintable() else "?" for letter in text)
    ticks = "`" * max(3, 1 + max((len(run) for run in re.findall("`+", plain)), default=0))
    return f"{ticks}{language}\n{plain}\n{ticks}"


def _cell(text: str) -> str:
    """Code in a table's cell."""
    return "`" + " ".join(text.replace("`", "'").replace("|", "\\|").split()) + "`"


def _what(export: Export) -> str:
    named = "`nano`, the embedded model of AZR Lite" if export.base.name == "nano" else f"`{export.base.name}`"
    role = f", the {export.role} of two separate roles" if export.role else ""
    if export.kind == "adapter":
        return f"A LoRA adapter for {named}{role}."
    return f"A language model that began as {named}{' with a LoRA adapter merged into it' if export.kind == 'merged' else ''}{role}."


def _base(base: Base) -> str:
    if base.on_hub:
        return f"[{base.name}](https://huggingface.co/{base.name})"
    return (
        "nano, which comes with AZR Lite"
        if base.name == "nano"
        else f"`{base.name}` (a local copy; its origin is not recorded)"
    )


def _licence(base: Base) -> str:
    if not base.licence:
        return "not known: look at the base model's page before you pass this model on"
    return f"{base.licence} ({base.licence_name})" if base.licence_name else base.licence


# ---------------------------------------------------------------- numbers


def _gains(run: RunDir, step: int) -> tuple[list[dict[str, Any]], str]:
    """Held-out gain of the exported step over the start, one row a group, from the evaluations kept; or no rows and why."""
    try:
        before, after = (read_result(run.path / "eval", name) for name in ("before", f"step-{step}"))
    except EvaluationError:  # an export of an hour does not fail for a table
        return [], "the run's evaluations are damaged or in another version's format"
    if before is None or after is None:
        return [], f"the run kept no held-out evaluation of both its start and step {step}"
    changes = compare_paired(before.items, after.items)
    rows = [
        {
            "name": name,
            "n": after.scores[name]["n"],
            "before": before.scores[name]["accuracy"],
            "after": after.scores[name]["accuracy"],
            **{key: row[key] for key in ("gain", "low", "high")},
        }
        for name, row in changes.items()
    ]
    return rows, ""


def _curves(run: RunDir, step: int) -> list[tuple[str, list[str]]]:
    """Five points of each curve, up to the exported step."""
    rows = []
    for name, points in (run.summary() or {}).get("curves", {}).items():
        known = [(x, y) for x, y in points if x <= step]
        chosen = (
            [known[place] for place in sorted({round(part * (len(known) - 1) / 4) for part in range(5)})]
            if known
            else []
        )
        if chosen:
            rows.append((name, [*(f"{y:.3g} @ {x:g}" for x, y in chosen), *[""] * (5 - len(chosen))]))
    return rows


def _tasks(run: RunDir, step: int, types: tuple[str, ...]) -> tuple[list[tuple[str, dict[str, int]]], str]:
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
    return list(counts.items()), sample


def _task_text(kind: str, task: dict[str, Any]) -> str:
    inputs, outputs = task.get("inputs", [task.get("input")]), task.get("outputs", [task.get("output")])
    pairs = [f"f({given}) -> {found}" for given, found in zip(inputs, outputs, strict=True)]
    text = "\n".join([f"# {kind}", task["program"], "", *pairs])
    return text if len(text) <= MOST_QUOTED else text[:MOST_QUOTED] + "\n(cut)"


# ---------------------------------------------------------------- the code block


def _loading(config: Config, info: dict[str, Any], export: Export, where: str) -> tuple[str, str]:
    """Code that runs as it stands, and what has to be said about it."""
    base, hint = export.base, ""
    lines = ["from transformers import AutoModelForCausalLM, AutoTokenizer", ""]
    lines += [
        f"place = {where!r}  # this folder, or its repository on the hub",
        "tokenizer = AutoTokenizer.from_pretrained(place)",
    ]
    if export.kind != "adapter":
        lines += ["model = AutoModelForCausalLM.from_pretrained(place)"]
    else:
        lines[0] = "from peft import PeftModel\n" + lines[0]
        if base.name == "nano":
            lines[0] = "from azr_lite.nano.model import load_nano\n" + lines[0].replace("AutoModelForCausalLM, ", "")
            lines += ["base, _ = load_nano()"]
        else:
            options = f", gguf_file={base.name!r}" if base.name.endswith(".gguf") else ""
            source = "folder of that file" if options else base.name
            lines += [f"base = AutoModelForCausalLM.from_pretrained({source!r}{options})"]
            if not base.on_hub:
                hint = (
                    f"The base model `{base.name}` was a local copy: put its place into the code. "
                    "`azr-lite export RUN --merge` makes a model that needs no base."
                )
        lines += ["model = PeftModel.from_pretrained(base, place)"]
    style = get_style(_style(config, info))
    prompt = get_task_type("deduction").solve_prompt(
        style, Triplet("deduction", "def f(x):\n    x = x[1:]\n    return len(x)", "'abcd'", "3"), Rules()
    )
    lines += ["", *_literal("prompt", prompt.removesuffix(style.prefill) if style.chat else prompt)]
    if style.chat:
        lines += ['chat = [{"role": "user", "content": prompt}]']
        lines += [
            f"text = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True) + {style.prefill!r}"
        ]
    given = "text, add_special_tokens=False" if style.chat else "prompt"
    lines += [
        f'ids = tokenizer({given}, return_tensors="pt").input_ids',
        "reply = model.generate(input_ids=ids, max_new_tokens=256, do_sample=False)",
    ]
    lines += ["print(tokenizer.decode(reply[0, ids.shape[1] :]))"]
    return "\n".join(lines), hint


def _style(config: Config, info: dict[str, Any]) -> str:
    """The prompts it was trained with: as set, or as loading chose them (its line in run.json begins with the name)."""
    if config.prompts != "auto":
        return config.prompts
    chosen = (re.match(r"(r1|chat|compact) prompts:", line) for line in info.get("model", {}).get("choices", []))
    return next((found[1] for found in chosen if found), "compact" if config.model == "nano" else "r1")


def _literal(name: str, text: str) -> list[str]:
    return [f"{name} = (", *(f"    {line!r}" for line in text.splitlines(keepends=True)), ")"]
