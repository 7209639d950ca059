"""Marked replies: as files, as scores with intervals, and two sets of them compared on the same questions.

An evaluation is kept as NAME.jsonl (every item) and NAME.json (the record, written last). Intervals come from
resampling questions, not replies; the spread between training seeds is not in them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from azr_lite.errors import EvaluationError
from azr_lite.metrics import mean
from azr_lite.rundir import write_json, write_text

VERSION = 1  # of the record's form
SEED = 20_260_101  # of the bootstrap: one set of resamples serves all scores of the same questions
Z95 = 1.959964  # 95 % of a normal distribution lie within this many standard deviations
FALL = 0.05  # significance from which an evaluation counts as a fall below the best
Marks = dict[tuple[str, str], list[bool]]  # (group, question) to the marks of its replies, in order of the samples


@dataclass(frozen=True)
class Item:
    """One reply and its mark (see `suite.Mark`). `type`: the question's group; `stratum`: its difficulty or origin;
    `sample`: which of the replies to the question."""

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
    lenient: bool = False
    sample: int = 0
    parts: dict[str, bool] = field(default_factory=dict)


@dataclass(frozen=True)
class Result:
    """One suite answered by one model. `record`: what NAME.json holds."""

    name: str
    items: list[Item]
    record: dict[str, Any]

    @property
    def scores(self) -> dict[str, dict[str, Any]]:
        return self.record["scores"]

    def keep(self, folder: Path) -> None:
        lines = (json.dumps(asdict(item), ensure_ascii=False) + "\n" for item in self.items)
        write_text(folder / f"{self.name}.jsonl", "".join(lines))
        write_json(folder / f"{self.name}.json", self.record)  # last: it says that all is there


def read_items(path: Path) -> list[Item]:
    """The items of a NAME.jsonl."""
    return [Item(**json.loads(line)) for line in path.read_text(encoding="utf-8").split("\n") if line]


def scores_until(folder: Path, step: float = math.inf) -> dict[int, dict[str, dict[str, Any]]]:
    """The scores of every evaluation made in training up to and including this step, by step; damaged ones left out.

    ``before`` is that of step 0, ``step-N`` that of step N.
    """
    found: dict[int, dict[str, dict[str, Any]]] = {}
    for path in folder.glob("*.json"):
        with suppress(ValueError, KeyError, TypeError, OSError):  # another suite's, or half-written
            made = 0 if path.stem == "before" else int(path.stem.removeprefix("step-"))
            if made <= step:
                found[made] = json.loads(path.read_text(encoding="utf-8"))["scores"]
    return found


def read_result(folder: Path, name: str) -> Result | None:
    """A finished evaluation, or None where there is none. EvaluationError for a damaged one."""
    path = folder / f"{name}.json"
    if not path.exists():
        return None
    try:
        record, items = json.loads(path.read_text(encoding="utf-8")), read_items(path.with_suffix(".jsonl"))
        version = record["version"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        told = f"{path} cannot be read ({type(error).__name__}: {error}); remove it and its .jsonl, and evaluate again"
        raise EvaluationError(told) from error
    if version != VERSION:
        told = f"{path} has format {version}, and this azr_lite reads {VERSION}; evaluate again in another folder"
        raise EvaluationError(told)
    return Result(name, items, record)


def score(items: Sequence[Item]) -> dict[str, Any]:
    """Accuracy over the n questions of these items (the mean of their shares of right replies), and what goes with it.

    `low`, `high`: 95 % interval, Wilson's where each question has one reply, else a bootstrap over questions; (0, 1)
    without any question. `right`: right replies. `tokens`: mean of a reply. The parts of the marks have accuracies of
    their own. Where questions have several replies, there is pass@k for k = 1, 2, 4, …
    """
    marks = _by_question(items)
    shares = [mean(own) for own in marks.values()]
    right, n, accuracy = sum(item.right for item in items), len(shares), mean(shares)
    if n == len(items):
        (low, high), error = wilson(right, n), math.sqrt(accuracy * (1 - accuracy) / max(n, 1))
    else:
        (low, high), error = bootstrap(shares), float(np.std(shares) / math.sqrt(n))
    found: dict[str, Any] = {"n": n, "right": right, "accuracy": accuracy, "low": low, "high": high}
    found["standard_error"] = error
    for name in ("lenient", "tokens", "well_formed", "truncated"):
        found[name] = mean([getattr(item, name) for item in items])
    for part in sorted({name for item in items for name in item.parts}):
        found[part] = mean([item.parts.get(part, False) for item in items])
    for k in _several(marks):
        chances = [pass_at_k(len(own), sum(own), k) for own in marks.values()]
        low, high = bootstrap(chances)
        found[f"pass@{k}"] = {"accuracy": mean(chances), "low": low, "high": high}
    return found


def summarize(items: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """The `score` of each group, of each ``group/stratum``, and of everything under ``all``."""
    groups: dict[str, list[Item]] = {"all": list(items)}
    for item in items:
        groups.setdefault(item.type, []).append(item)
        if item.stratum:
            groups.setdefault(f"{item.type}/{item.stratum}", []).append(item)
    return {name: score(own) for name, own in groups.items()}


def compare_paired(before: Sequence[Item], after: Sequence[Item]) -> dict[str, dict[str, Any]]:
    """Gain on the *same* questions, by group and pooled, with a paired 95 % interval and McNemar's exact p.

    `gain` and `low`, `high`: mean of the per-question differences, normal approximation; `boot_low`, `boot_high`:
    bootstrap over questions. `won`, `lost`, `p`: questions newly right, newly wrong, McNemar (of the first reply to
    each). `lenient_gain`: the same with form forgiven, so what was gained in reasoning; `form_gain`: the rest.
    ``pass@k``, for k = 1, 2, 4, … where both gave several replies: its gain with a bootstrap interval.
    """
    was, now = _same_questions(before, after)
    was_lenient, now_lenient = _by_question(before, "lenient"), _by_question(after, "lenient")
    result: dict[str, dict[str, Any]] = {}
    for name in ("all", *dict.fromkeys(item.type for item in before)):
        keys = [key for key in was if name in ("all", key[0])]
        change, won, lost = _change(was, now, keys)
        lenient = float(_change(was_lenient, now_lenient, keys)[0].mean())
        gain = float(change.mean())
        half = Z95 * math.sqrt(max(0.0, float((change**2).mean()) - gain * gain) / len(keys))
        low, high = bootstrap(change)
        found: dict[str, Any] = {"gain": gain, "low": gain - half, "high": gain + half}
        found |= {"boot_low": low, "boot_high": high, "won": won, "lost": lost, "p": mcnemar(won, lost)}
        found |= {"lenient_gain": lenient, "form_gain": gain - lenient}
        for k in _several(was, now):
            chances = [[pass_at_k(len(own[key]), sum(own[key]), k) for key in keys] for own in (was, now)]
            change = np.subtract(*reversed(chances))
            low, high = bootstrap(change)
            found[f"pass@{k}"] = {"gain": float(change.mean()), "low": low, "high": high}
        result[name] = found
    return result


def overall_gain(before: Sequence[Item], after: Sequence[Item]) -> tuple[float, float]:
    """`gain` and `p` of `compare_paired` over all questions, without intervals: what the stop rule asks."""
    was, now = _same_questions(before, after)
    change, won, lost = _change(was, now, list(was))
    return float(change.mean()), mcnemar(won, lost)


def _same_questions(before: Sequence[Item], after: Sequence[Item]) -> tuple[Marks, Marks]:
    was, now = _by_question(before), _by_question(after)
    if was.keys() != now.keys():
        raise EvaluationError("the evaluations are not of the same problems; compare runs with the same held-out set")
    return was, now


def _change(was: Marks, now: Marks, keys: Sequence[tuple[str, str]]) -> tuple[np.ndarray, int, int]:
    """Per question the difference of the shares right, shape (questions,); first replies newly right, newly wrong."""
    change = np.array([mean(now[key]) - mean(was[key]) for key in keys])
    won, lost = (sum(a[key][0] > b[key][0] for key in keys) for a, b in ((now, was), (was, now)))
    return change, won, lost


@dataclass(frozen=True)
class Standing:
    """The newest held-out evaluation against the best. `best_step` 0: the model before training. `below`: evaluations
    in a row that are significantly under the best."""

    best_step: int
    best_accuracy: float
    below: int
    step: int
    accuracy: float


def standing(evaluations: Sequence[tuple[int, Sequence[Item]]]) -> Standing | None:
    """Where the newest of these evaluations, (step, items) in order of steps, stands against the best; None of none.

    Of equal accuracies the earlier one is the best.
    """
    if not evaluations:
        return None
    (best_step, best), below = evaluations[0], 0
    for step, items in evaluations[1:]:
        gain, p = overall_gain(best, items)
        below = below + 1 if gain < 0 and p < FALL else 0
        if gain > 0:
            best_step, best = step, items
    step, items = evaluations[-1]
    return Standing(best_step, score(best)["accuracy"], below, step, score(items)["accuracy"])


def _several(*marks: Marks) -> list[int]:
    """1, 2, 4, … up to the replies that every question has; empty where that is one."""
    most = min((len(replies) for own in marks for replies in own.values()), default=1)
    return [2**i for i in range(most.bit_length())] if most > 1 else []


def _by_question(items: Sequence[Item], what: str = "right") -> Marks:
    found: Marks = {}
    for item in items:
        found.setdefault((item.type, item.id), []).append(getattr(item, what))
    return found


# ---------------------------------------------------------------- small-sample statistics


def wilson(right: int, n: int, z: float = Z95) -> tuple[float, float]:
    """Wilson score interval of the proportion p = right/n, as (low, high) in 0..1; (0, 1) of nothing.

    (p + z²/2n ± z·√(p(1-p)/n + z²/4n²)) / (1 + z²/n)

    Examples:
        >>> low, high = wilson(right=2, n=40)
        >>> print(f"{low:.3f} to {high:.3f}")
        0.014 to 0.165
    """
    if n == 0:
        return 0.0, 1.0
    p, zz = right / n, z * z
    centre = (p + zz / (2 * n)) / (1 + zz / n)
    half = z * math.sqrt(p * (1 - p) / n + zz / (4 * n * n)) / (1 + zz / n)
    return max(0.0, centre - half), min(1.0, centre + half)


def mcnemar(won: int, lost: int) -> float:
    """Exact two-sided McNemar test: the chance of a split at least this uneven of the items that changed.

    min(1, 2·Σ_{i ≤ min(won, lost)} C(won+lost, i) / 2^(won+lost))

    Examples:
        >>> mcnemar(won=9, lost=1)
        0.021484375
    """
    n, k = won + lost, min(won, lost)
    tail = sum(math.comb(n, i) for i in range(k + 1)) / 2**n
    return min(1.0, 2 * tail)


def pass_at_k(n: int, right: int, k: int) -> float:
    """Unbiased chance that at least one of k replies, drawn from the n made without putting back, is right.

    1 - C(n-c, k) / C(n, k) with c = `right` (Chen et al. 2021, equation 1). EvaluationError unless 1 ≤ k ≤ n and
    0 ≤ c ≤ n.

    Examples:
        >>> [pass_at_k(n=4, right=1, k=k) for k in (1, 2, 4)]
        [0.25, 0.5, 1.0]
    """
    if not 0 <= right <= n:
        raise EvaluationError(f"{right} right replies of {n} make no sense; expected 0 to {n}")
    if not 1 <= k <= n:
        told = f"pass@{k} cannot be estimated from {n} replies per question; take k from 1 to {n}, or make more replies"
        raise EvaluationError(told)
    return 1.0 - math.comb(n - right, k) / math.comb(n, k)


def bootstrap(values: Sequence[float] | np.ndarray, seed: int = SEED, draws: int = 10_000) -> tuple[float, float]:
    """95 % percentile interval of the mean of `values`, one per question; `draws`: resamples, a multiple of 100.

    Values that are all equal give an interval of no width: use `wilson` for plain right/wrong near 0 or 1.

    Examples:
        >>> low, high = bootstrap([1.0] * 30 + [0.0] * 10, draws=2000)
        >>> low < 0.7 < 0.8 < high
        True
    """
    array, rng = np.asarray(values, dtype=np.float64), np.random.default_rng(seed)
    if not len(array):
        raise EvaluationError("there are no questions to resample; expected at least one")
    shape = 100, len(array)
    means = [array[rng.integers(0, len(array), shape)].mean(axis=1) for _ in range(draws // 100)]
    low, high = np.quantile(means, [0.025, 0.975])
    return float(low), float(high)
