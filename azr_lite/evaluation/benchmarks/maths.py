r"""The mathematics suites: AIME 2024 and 2025, AMC 2023, MATH500, Minerva, OlympiadBench, GSM8K; judged by math-verify.

Protocol ``azr``: the think/answer prompt of self-play; the answer stands in the answer part, in ``\boxed{}``.
Strict: a reply our parser takes, with a box in its answer part, and that box right. Lenient: the last box anywhere;
without any, the last formula or number. Two different boxes in one answer part are a bet on both: wrong.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.jail import WORKERS, ask_script, need
from azr_lite.evaluation.benchmarks.jailed_maths import boxes, tidy
from azr_lite.evaluation.suite import SHIPPED, Extracted, Mark, Prompt, Question, Reply, Setting, Suite, read_data
from azr_lite.parsing import parse_reply
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK
from azr_lite.triplet import Rejection

SOURCES = {
    "aime24": "math-ai/aime24",
    "aime25": "math-ai/aime25",
    "amc23": "math-ai/amc23",
    "math500": SHIPPED / "math500.jsonl.gz",
    "minerva": "math-ai/minervamath",
    "olympiadbench": "math-ai/olympiadbench",
    "gsm8k": SHIPPED / "gsm8k_test.jsonl.gz",
}
"""Name to the file that comes with the package, or a hub id. **No hub id was fetched when this was written** (no
network): several public projects load these, with the split ``test`` and the columns below."""
NAMES = tuple(SOURCES)  # every suite `maths_suite` knows
_COLUMNS = {
    "problem": ("problem", "question", "Problem", "Question", "prompt"),
    "right answer": ("answer", "final_answer", "Answer", "expected_answer", "target", "solution", "Solution"),
}
_ID = ("unique_id", "id", "ID", "problem_id", "idx")
_UNBOXED = re.compile(
    r"\\\((.{1,500}?)\\\)|\\\[(.{1,500}?)\\\]|\$([^$]+)\$|(-?\d+(?:,\d{3})*(?:\.\d+)?(?:/\d+)?)", re.DOTALL
)

TOLD = (
    "Solve a problem of mathematics.\n\n"
    f"Write your reasoning between {THINK} and {END_THINK}, then the result between {ANSWER} and {END_ANSWER}, "
    r"once, inside \boxed{}, worked out and in simplest form. To show the form, here is a whole reply to "
    "another problem, to halve seven and add one:\n\n"
    f"{THINK}\nHalf of 7 is 7/2. One more is 9/2.\n{END_THINK}\n"
    f"{ANSWER}\n\\boxed{{\\frac{{9}}{{2}}}}\n{END_ANSWER}\n\nHere is your problem:\n\n"
)
ASKED = (
    f"\n\nReply in the form shown: reasoning, {END_THINK}, then {ANSWER}, \\boxed{{}} with the result, {END_ANSWER}."
)
"""What stands before the problem, and behind it: the form first, the problem last, as in self-play."""

SCRIPT = Path(__file__).with_name("jailed_maths.py")
PACKAGES = ("math_verify*", "latex2sympy2_extended*", "sympy", "mpmath", "antlr4*", "gmpy2*", "flint*")
MATH_VERIFY = "0.9."


def compare(pairs: Sequence[tuple[str, str]], workers: int = WORKERS, deadline: float = 10.0) -> list[tuple[bool, str]]:
    """Of each pair ``(right answer, answer)``: is it right, and if not, why; each under `deadline` seconds.

    The reason is ``wrong``, ``timeout``, ``crashed``, or one of `jailed_maths.compare`. In jails, weak ones too where
    the kernel has no better: answers are read, not run.

    EvaluationError when math-verify is missing or does not start; never for an answer.
    """
    need("math-verify", MATH_VERIFY)
    unique = list(dict.fromkeys(pairs))
    workers = min(workers, 1 + len(unique) // 50)  # importing sympy takes two seconds, as fifty comparisons do

    def compare_share(share: list[tuple[str, str]]) -> list[tuple[bool, str]]:
        limits = {"seconds": 120 + 2 * deadline * len(share), "packages": PACKAGES, "memory_mb": 2048}
        request = {"jobs": share, "seconds": deadline}
        return [tuple(line) for line in ask_script(SCRIPT, [], request, len(share), allow_weak=True, **limits)]

    shares = [share for place in range(workers) if (share := unique[place::workers])]
    with ThreadPoolExecutor(workers) as pool:
        verdicts = itertools.chain(*pool.map(compare_share, shares))
    found = dict(zip(itertools.chain(*shares), verdicts, strict=True))
    return [found[pair] for pair in pairs]


def maths_suite(name: str, setting: Setting) -> MathsSuite:
    """The suite `name`, one of `NAMES`.

    EvaluationError when the questions cannot be had or lack a problem or an answer, or math-verify is missing.
    """
    need("math-verify", MATH_VERIFY)
    data, style = read_data(name, setting.source or SOURCES[name]), setting.style
    asked: list[Question] = []
    golds: dict[str, str] = {}
    for index, row in enumerate(data.rows):
        id = str(next((row[column] for column in _ID if row.get(column) is not None), index))
        if id in golds:
            told = f"{data.source} has more than one question with the id {id}; ids must be unique; correct the file"
            raise EvaluationError(told)
        given, answers = ([row[c] for c in columns if row.get(c) not in (None, "")] for columns in _COLUMNS.values())
        found = {"problem": next(iter(given), ""), "right answer": next(filter(None, map(gold, answers)), "")}
        for what, text in found.items():
            if not text or not isinstance(text, str):
                columns = ", ".join(_COLUMNS[what])
                raise EvaluationError(f"row {index} of {name} has no {what}; expected one of the columns {columns}")
        problem, golds[id] = found.values()
        prompt = Prompt(style.frame(TOLD + problem.strip() + ASKED), style.prefill, style.chat)
        asked.append(Question(id, name, prompt, f"level {row['level']}" if row.get("level") is not None else ""))
    return MathsSuite(name, "azr", asked, golds, data=data, max_tokens=4096)


def gold(value: Any) -> str:
    r"""The right answer in a cell: plain, a number, a list of parts, behind ``####`` (GSM8K), or the last box."""
    if isinstance(value, list | tuple):
        return ", ".join(filter(None, map(gold, value)))
    text = str(value).removesuffix(".0")
    if "####" in text:
        text = text.rsplit("####", 1)[1].replace(",", "")
    elif found := boxes(text):
        text = found[-1]
    elif len(text) > 500:
        return ""  # a worked solution without a box
    return tidy(text).replace("$", "")


@dataclass(frozen=True)
class MathsSuite(Suite):
    """`golds`: right answers by the questions' ids, tidied. Build it by `maths_suite`."""

    asked: list[Question]
    golds: dict[str, str]

    def questions(self) -> list[Question]:
        return self.asked

    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        """One mark per reply. EvaluationError when math-verify does not start."""
        read = [(self.golds[q.id], read_answers(q.prompt.prefill + reply.text)) for q, reply in replies]
        pairs = [(gold, text) for gold, one in read for text in (one.strict, one.lenient) if text]
        found = dict(zip(pairs, compare(pairs), strict=True))
        marks = []
        for (_, reply), (gold, one) in zip(replies, read, strict=True):
            right, reason = found.get((gold, one.strict), (False, one.reason))
            lenient, _ = found.get((gold, one.lenient), (False, ""))
            reason = "truncated" if reply.truncated and not one.well_formed else reason
            marks.append(Mark(right, right or lenient, one.well_formed, reason))
        return marks


def read_answers(text: str) -> Extracted:
    """The answers in a prompt's prefill and reply."""
    everywhere = boxes(text) or ["".join(match) for match in _UNBOXED.findall(text)] or [""]
    lenient = tidy(everywhere[-1])
    reply = parse_reply(text)
    if isinstance(reply, Rejection):
        return Extracted("", lenient, False, str(reply.reason.value))
    own = {tidy(box) for box in boxes(reply.answer)}
    if len(own) > 1:
        return Extracted("", "", True, "several_boxes")
    return Extracted(own.pop(), lenient, True, "unreadable") if own else Extracted("", lenient, False, "no_box")
