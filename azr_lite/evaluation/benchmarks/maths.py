r"""The mathematics suites: AIME 2024 and 2025, AMC 2023, MATH500, Minerva, OlympiadBench, GSM8K; judged by math-verify.

Protocol ``azr``: the think/answer prompt of self-play; the answer stands in the answer part, in ``\boxed{}``.
Strict: a reply our parser takes, with a box in its answer part, and that box right. Lenient: the last box anywhere;
without any, what math-verify finds last in the text. Two different boxes in one answer part are a bet on both: wrong.

`TABLE` names default hub ids. **None was fetched when this was written** (no network); they are those that several
public projects load with the split ``test``, and the columns are those that these projects read. The result records the
sha256 of what came.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks import boxed_answers
from azr_lite.evaluation.benchmarks.boxed_answers import boxes, tidy
from azr_lite.evaluation.benchmarks.jail import WORKERS, ask_script, need
from azr_lite.evaluation.suite import Data, Mark, Question, Reply, Setting, read_data, shipped, think_answer_prompt
from azr_lite.parsing import parse_reply
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK, Style
from azr_lite.triplet import Rejection

AVERAGED = "-avg8"
"""Ending of the suites with eight replies at temperature 0.6: 30 questions say little from one greedy reply each."""
TAIL = 1500
"""Characters at the end of a reply in which an answer without a box is looked for."""

_QUESTION = ("problem", "question", "Problem", "Question", "prompt")
_ANSWER = ("answer", "final_answer", "Answer", "expected_answer", "target", "solution", "Solution")
_ID = ("unique_id", "id", "ID", "problem_id", "idx")


@dataclass(frozen=True)
class Entry:
    """One set of questions. `hub`: its default hub id. `size`: rows it should have. `averaged`: has an avg@8 twin."""

    size: int
    file: str = ""
    hub: str = ""
    averaged: bool = False
    stratum: str = ""


TABLE = {
    "aime24": Entry(30, hub="math-ai/aime24", averaged=True),
    "aime25": Entry(30, hub="math-ai/aime25", averaged=True),
    "amc23": Entry(40, hub="math-ai/amc23", averaged=True),
    "math500": Entry(500, file="math500.jsonl.gz", stratum="level"),
    "minerva": Entry(272, hub="math-ai/minervamath"),
    "olympiadbench": Entry(674, hub="math-ai/olympiadbench"),
    "gsm8k": Entry(1319, file="gsm8k_test.jsonl.gz"),
}
NAMES = tuple(name + ending for name, entry in TABLE.items() for ending in ("", AVERAGED)[: 1 + entry.averaged])
"""Every suite `maths_suite` knows."""


def prompt_body(problem: str) -> str:
    """The instruction: the form first, the problem last, as in self-play."""
    return "\n\n".join(
        (
            "Solve a problem of mathematics.",
            f"Write your reasoning between {THINK} and {END_THINK}, then the result between {ANSWER} and {END_ANSWER}, "
            r"once, inside \boxed{}, worked out and in simplest form. To show the form, here is a whole reply to "
            "another problem, to halve seven and add one:\n\n"
            f"{THINK}\nHalf of 7 is 7/2. One more is 9/2.\n{END_THINK}\n"
            f"{ANSWER}\n\\boxed{{\\frac{{9}}{{2}}}}\n{END_ANSWER}",
            f"Here is your problem:\n\n{problem.strip()}",
            f"Reply in the form shown: reasoning, {END_THINK}, then {ANSWER}, \\boxed{{}} with the result, "
            f"{END_ANSWER}.",
        )
    )


def maths_suite(name: str, setting: Setting) -> MathsSuite:
    """The suite `name`, one of `NAMES`.

    EvaluationError when the name is unknown, the questions cannot be had or lack a problem or an answer, or math-verify
    is missing.
    """
    base = name.removesuffix(AVERAGED)
    if name not in NAMES:
        raise EvaluationError(f"there is no mathematics suite {name!r}; expected one of {', '.join(NAMES)}")
    need("math-verify", MATH_VERIFY)
    entry = TABLE[base]
    own = not setting.source and entry.file
    data = shipped(base, entry.file) if own else read_data(base, setting.source or entry.hub)
    items = tuple(_item(base, entry, row, index) for index, row in enumerate(data.rows))
    if twice := [id for id, count in Counter(item.id for item in items).items() if count > 1]:
        raise EvaluationError(
            f"{data.source} has more than one question with the id {twice[0]}; expected unique ids, mend the file"
        )
    samples, temperature = (8, 0.6) if name.endswith(AVERAGED) else (1, 0.0)
    return MathsSuite(name, setting.style, data, items, samples, temperature)


@dataclass(frozen=True)
class Problem:
    """One row: the problem's text and its right answer, tidied."""

    id: str
    problem: str
    gold: str
    stratum: str = ""


@dataclass(frozen=True)
class MathsSuite:
    """A `suite.Suite`. Build it by `maths_suite`."""

    name: str
    style: Style
    data: Data
    items: tuple[Problem, ...]
    samples: int
    temperature: float
    max_tokens: int = 4096
    protocol: str = "azr"
    stop: tuple[str, ...] = (END_ANSWER,)

    @property
    def _base(self) -> str:
        return self.name.removesuffix(AVERAGED)

    def questions(self) -> list[Question]:
        """In the order of the data. The group is the set of questions: greedy and averaged stand side by side."""
        return [
            Question(item.id, self._base, think_answer_prompt(self.style, prompt_body(item.problem)), item.stratum)
            for item in self.items
        ]

    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        """One mark per reply. EvaluationError when math-verify does not start, or a question is not ours."""
        golds = {item.id: item.gold for item in self.items}
        if odd := [question.id for question, _ in replies if question.id not in golds]:
            raise EvaluationError(
                f"question {odd[0]} is not of {self.name}; grade a reply with the suite that asked for it"
            )
        read = [_read(golds[question.id], question.prompt.prefill + reply.text) for question, reply in replies]
        jobs = [job for one in read for job in (one.strict, one.lenient) if job]
        found = dict(zip(jobs, compare(jobs), strict=True))
        marks = []
        for (_, reply), one in zip(replies, read, strict=True):
            strict = found[one.strict] if one.strict else Comparison(False, one.reason)
            loose = one.lenient is not None and found[one.lenient].right
            reason = "truncated" if reply.truncated and not one.well_formed else strict.reason
            marks.append(Mark(strict.right, strict.right or loose, one.well_formed, reason))
        return marks

    def baselines(self, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
        """Share right, by equal text, of saying the commonest right answer, or the problem's last number."""
        wanted = {question.id for question in questions}
        items = [item for item in self.items if item.id in wanted]
        if not items:
            return {}
        golds = [_plain(item.gold) for item in items]
        last = [(re.findall(r"-?\d+(?:\.\d+)?", _plain(item.problem)) or [""])[-1] for item in items]
        return {
            self._base: {
                "commonest answer": max(Counter(golds).values()) / len(items),
                "last number of the problem": sum(a == b for a, b in zip(golds, last, strict=True)) / len(items),
            }
        }


@dataclass(frozen=True)
class _Read:
    """What counts strictly and leniently. `reason`: why nothing, strictly."""

    strict: Job | None
    lenient: Job | None
    well_formed: bool
    reason: str = ""


def _read(gold: str, text: str) -> _Read:
    everywhere = boxes(text)
    lenient = Job(gold, tidy(everywhere[-1])) if everywhere else Job(gold, None, text[-TAIL:])
    reply = parse_reply(text)
    if isinstance(reply, Rejection):
        return _Read(None, lenient, False, str(reply.reason.value))
    own = {tidy(box) for box in boxes(reply.answer)}
    if len(own) > 1:
        return _Read(None, None, True, "several_boxes")
    return _Read(Job(gold, own.pop()), lenient, True) if own else _Read(None, lenient, False, "no_box")


def _item(name: str, entry: Entry, row: dict[str, Any], index: int) -> Problem:
    problem = next((row[column] for column in _QUESTION if row.get(column)), None)
    gold = next((found for column in _ANSWER if (found := _gold(row.get(column))) is not None), None)
    for what, found, columns in (("problem", problem, _QUESTION), ("right answer", gold, _ANSWER)):
        if not isinstance(found, str):
            expected = ", ".join(columns)
            raise EvaluationError(f"row {index} of {name} has no {what}; expected one of the columns {expected}")
    identity = next((row[column] for column in _ID if row.get(column) is not None), index)
    stratum = f"{entry.stratum} {row[entry.stratum]}" if row.get(entry.stratum) is not None else ""
    return Problem(str(identity), problem, gold, stratum)


def _gold(value: Any) -> str | None:
    r"""The right answer in a cell: plain, a number, a list of parts, behind ``####`` (GSM8K), or the last box."""
    if value is None or isinstance(value, bool) or value == "" or value == []:
        return None
    if isinstance(value, int | float):
        return str(int(value)) if value == int(value) else str(value)
    if isinstance(value, list | tuple):
        return ", ".join(part for part in map(_gold, value) if part)
    text = str(value)
    if "####" in text:
        text = text.rsplit("####", 1)[1].replace(",", "")
    elif found := boxes(text):
        text = found[-1]
    elif len(text) > 500:
        return None  # a worked solution without a box
    return tidy(text).replace("$", "") or None


def _plain(text: str) -> str:
    return re.sub(r"(?<=\d),(?=\d{3}(?!\d))", "", text.strip())


# ---------------------------------------------------------------- math-verify in its jail

SCRIPT = Path(__file__).with_name("jailed_maths.py")
PACKAGES = ("math_verify*", "latex2sympy2_extended*", "sympy", "mpmath", "antlr4*", "gmpy2*", "flint*")
START_SECONDS = 120.0
"""For importing sympy and warming up: two seconds on an idle machine."""
MEMORY_MB = 2048
MATH_VERIFY = "0.9."


@dataclass(frozen=True)
class Job:
    """`answer`: the content of a box; or None, and `text`: the end of a reply that has none."""

    gold: str
    answer: str | None = None
    text: str = ""


@dataclass(frozen=True)
class Comparison:
    """`reason`: empty when right; else ``wrong``, ``timeout``, ``crashed``, ``memory``, ``unreadable``, a refusal."""

    right: bool
    reason: str = ""


def compare(jobs: Sequence[Job], workers: int = WORKERS, deadline: float = 10.0) -> list[Comparison]:
    """Compare each answer with the right one, each under `deadline` seconds of wall clock.

    In jails, weak ones too where the kernel has no better: answers are read, not run.

    EvaluationError when math-verify is missing or does not start; never for an answer.
    """
    need("math-verify", MATH_VERIFY)
    unique = list(dict.fromkeys(jobs))

    def compare_share(share: list[Job]) -> list[tuple[Job, Comparison]]:
        limits = {"seconds": START_SECONDS + 2 * deadline * len(share), "packages": PACKAGES, "memory_mb": MEMORY_MB}
        request = {"jobs": [astuple(job) for job in share], "seconds": deadline}
        lines = ask_script(SCRIPT, [boxed_answers.__file__], request, len(share), allow_weak=True, **limits)
        return [(job, Comparison(*line)) for job, line in zip(share, lines, strict=True)]

    with ThreadPoolExecutor(workers) as pool:
        shares = filter(None, (unique[place::workers] for place in range(workers)))
        known = dict(pair for pairs in pool.map(compare_share, shares) for pair in pairs)
    return [known[job] for job in jobs]
