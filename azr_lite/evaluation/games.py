"""The three games on held-out problems: greedy, one reply each, judged by our own parser, sandbox and comparison.

Comes in: a generator and frozen problems.  Goes out: one result an item, and accuracies with 95 % intervals.
Not covered: code and mathematics benchmarks; sampling several replies (pass@k).
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import resources
from typing import Any

from azr_lite.evaluation.intervals import Z95, mcnemar, wilson
from azr_lite.parsing import parse_reply
from azr_lite.prompts.base import Style
from azr_lite.tasks.base import Rules, get_game
from azr_lite.triplet import Reason, Rejection, Task, task_from_json
from azr_lite.verifier import Verifier


@dataclass(frozen=True)
class Item:
    """One problem, its reply and its verdict. `stratum` names its difficulty."""

    id: str
    type: str
    stratum: str
    right: bool
    well_formed: bool
    reason: str
    prompt: str
    text: str
    tokens: int
    truncated: bool


@dataclass(frozen=True)
class Score:
    """Accuracy over `n` items with its 95 % Wilson interval."""

    n: int
    right: int
    accuracy: float
    low: float
    high: float


def evaluate_games(generate: Any, problems: Sequence[tuple[str, Task]], style: Style, rules: Rules, verifier: Verifier) -> list[Item]:
    """Solve each (stratum, task) once. `generate` should be greedy; order of the result is that of the problems."""
    prompts = [get_game(task.type).solve_prompt(style, task, rules) for _, task in problems]
    completions = generate(prompts)
    parsed = []
    for (_, task), completion in zip(problems, completions, strict=True):
        reply = parse_reply(style.prefill + completion.text)
        answer = reply if isinstance(reply, Rejection) else get_game(task.type).parse_answer(reply, task, rules)
        if isinstance(reply, Rejection) and completion.truncated:
            answer = Rejection(Reason.TRUNCATED, f"cut after {len(completion.ids)} tokens")
        parsed.append((task, answer))
    verdicts = verifier.judge(parsed)
    return [
        Item(
            id=task.id or str(index),
            type=task.type,
            stratum=stratum,
            right=verdict.ok,
            well_formed=verdict.well_formed,
            reason=verdict.reason,
            prompt=completion.prompt,
            text=completion.text,
            tokens=len(completion.ids),
            truncated=completion.truncated,
        )
        for index, ((stratum, task), completion, verdict) in enumerate(zip(problems, completions, verdicts, strict=True))
    ]


def score(items: Sequence[Item]) -> Score:
    """Accuracy of these items."""
    right = sum(item.right for item in items)
    low, high = wilson(right, len(items))
    return Score(len(items), right, right / len(items) if items else 0.0, low, high)


def summarize(items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """Scores by type, by ``type/stratum``, and pooled under ``all``; with mean reply length and well-formed share."""
    groups: dict[str, list[Item]] = {"all": list(items)}
    for item in items:
        groups.setdefault(item.type, []).append(item)
        if item.stratum:
            groups.setdefault(f"{item.type}/{item.stratum}", []).append(item)
    return {
        name: {
            **asdict(score(own)),
            "tokens": sum(i.tokens for i in own) / max(1, len(own)),
            "well_formed": sum(i.well_formed for i in own) / max(1, len(own)),
            "truncated": sum(i.truncated for i in own) / max(1, len(own)),
        }
        for name, own in groups.items()
    }


def compare_paired(before: Sequence[Item], after: Sequence[Item]) -> dict[str, dict[str, float]]:
    """Gain on the *same* items, by type and pooled: points gained with a paired 95 % interval, and McNemar's exact p.

    The interval is that of the mean of the per-item differences (-1, 0, 1), normal approximation.
    """
    was = {(item.type, item.id): item.right for item in before}
    now = {(item.type, item.id): item.right for item in after}
    if was.keys() != now.keys():
        raise ValueError("the two evaluations are not of the same problems; compare runs with the same held-out set")
    result = {}
    for name in ("all", *dict.fromkeys(item.type for item in before)):
        keys = [key for key in was if name in ("all", key[0])]
        gained = sum(now[key] and not was[key] for key in keys)
        lost = sum(was[key] and not now[key] for key in keys)
        n = len(keys)
        mean = (gained - lost) / n
        variance = ((gained + lost) / n - mean * mean) / n
        half = Z95 * math.sqrt(max(0.0, variance))
        result[name] = {"gain": mean, "low": mean - half, "high": mean + half, "won": gained, "lost": lost, "p": mcnemar(gained, lost)}
    return result


def held_out_problems(model: str, types: Sequence[str], count: int, seed: int) -> list[tuple[str, Task]]:
    """Frozen problems, `count` a type, as (stratum, task).

    nano: from its generator's held-out part.  Any other model: the shipped sample (CRUXEval programs for deduction and
    abduction, EvalPlus programs for induction; `evaluation/problems.jsonl` names origin and licence).
    """
    if count == 0:
        return []
    if model == "nano":
        from azr_lite.nano.heldout import depth, held_out

        found = held_out(count, seed)
        return [(f"{depth(task)} ops", task) for name in types for task in found.get(name, [])]
    text = resources.files("azr_lite.evaluation").joinpath("problems.jsonl").read_text(encoding="utf-8")
    rows = [json.loads(line) for line in text.splitlines()]
    tasks = [("", task_from_json(row)) for row in rows if row["type"] in types]
    return [pair for name in types for pair in [t for t in tasks if t[1].type == name][:count]]
