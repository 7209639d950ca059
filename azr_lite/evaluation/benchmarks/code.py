"""HumanEval+ and MBPP+: prompts of two protocols, extraction, and marks that two judges agree on.

Comes in: a prompt style, whether the model has a chat template, names of suites.  Goes out: `Suite`s.
Not covered: running evalplus (`evalplus_bridge.py`), the second judge (`second_judge.py`).  Nothing here runs a program.

Protocols, never mixed, part of every suite's name:
* ``evalplus-chat``: the prompt of evalplus' own chat path, words and shape taken from the installed package; the prefill ends in an
  opened python fence; 768 tokens and its stop strings. The paper's HumanEval+ and MBPP+ are this.
* ``evalplus-direct``: what the same path does for a model without chat template: the task's text, to be gone on with.
* ``azr``: the think/answer prompt of self-play in words of our own; the last python fence inside the answer counts.

`Mark.right`: base and plus tests pass, in evalplus and before the second judge, for the strictly extracted program: azr, see above;
evalplus-chat, the reply up to the first stop string or closing fence; evalplus-direct, task and reply up to the first stop string.
`Mark.lenient`: or they pass for azr with the last fence wherever it stands; for both others after evalplus' `sanitize`, and **that is
the published way**: compare `lenient` with leaderboards. `Mark.parts`: base and plus of the strict program.
evalplus 0.3.1 fails every program for HumanEval/32, the reference too; that is left so, and the mark says it: at most 163 of 164.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.evalplus_bridge import CANNOT_PASS, Bridge, chat_prompt, words
from azr_lite.evaluation.benchmarks.second_judge import second_judge
from azr_lite.evaluation.sources import Data, read_data, shipped
from azr_lite.evaluation.suite import Mark, Prompt, Question, Reply, think_answer_prompt
from azr_lite.parsing import parse_reply
from azr_lite.prompts.base import ANSWER, END_ANSWER, THINK, Style, fence
from azr_lite.triplet import Rejection

Protocol = Literal["evalplus", "azr"]
SUITES = {
    "humanevalplus": ("humaneval", "HumanEvalPlus.jsonl.gz"),
    "humanevalplus-mini": ("humaneval", "HumanEvalPlus-Mini.jsonl.gz"),
    "mbppplus": ("mbpp", "MbppPlus.jsonl.gz"),
}
"""Name to evalplus' name of the dataset and the file that comes with the package."""
NEEDS = ("task_id", "prompt", "entry_point", "canonical_solution", "base_input", "plus_input", "atol", "contract")
EVALPLUS_TOKENS, AZR_TOKENS = 768, 4096
"""evalplus' own limit; and room for a thought."""
_FENCE = re.compile(
    r"^[ \t]*```[ \t]*(?P<tag>[A-Za-z0-9+]*)[ \t]*\n(?P<text>.*?)(?:^[ \t]*```|\Z)", re.DOTALL | re.MULTILINE
)


def code_suites(
    style: Style,
    *,
    chat: bool,
    names: Sequence[str] = ("humanevalplus", "mbppplus"),
    protocol: Protocol = "evalplus",
    data: Mapping[str, str | Path] | None = None,
    parallel: int | None = None,
    cache: Path | None = None,
    allow_weak: bool = False,
) -> list[CodeSuite]:
    """One suite a name. `chat`: the model has a chat template. `data`: name to a file or hub id instead of what is shipped.

    `parallel`: programs scored at once (default: one for each core, at most 8). `cache`: where expected outputs are kept.
    EvaluationError for an unknown name or protocol, unreadable data, or (protocol ``evalplus``) a missing evalplus.
    """
    if protocol not in ("evalplus", "azr"):
        raise EvaluationError(f"unknown protocol {protocol!r} for code; choose evalplus or azr")
    found = []
    for name in names:
        if name not in SUITES:
            raise EvaluationError(f"unknown code suite {name!r}; choose from {', '.join(SUITES)}")
        dataset, file = SUITES[name]
        source = (data or {}).get(name)
        questions = read_data(name, source, NEEDS) if source else shipped(name, file)
        how = protocol if protocol == "azr" else "evalplus-chat" if chat else "evalplus-direct"
        workers = parallel or min(8, os.cpu_count() or 1)
        found.append(CodeSuite(f"{name}-{how}", how, questions, dataset, style, workers, cache, allow_weak))
    return found


@dataclass
class CodeSuite:
    """A `protocol.Suite`; see the top of this file for what each protocol asks and counts."""

    name: str
    protocol: str
    data: Data
    dataset: str
    style: Style
    parallel: int = 1
    cache: Path | None = None
    allow_weak: bool = False
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 0
    """0: as the protocol says."""
    stop: tuple[str, ...] = ()
    layers: dict[str, str] = field(default_factory=dict)
    """What held the programs of the last grading; filled by `grade`."""

    def __post_init__(self) -> None:
        self._rows = {row["task_id"]: row for row in self.data.rows}
        if self.protocol == "azr":
            self.max_tokens, self.stop = self.max_tokens or AZR_TOKENS, (END_ANSWER,)
        else:
            self.max_tokens = self.max_tokens or EVALPLUS_TOKENS
            self._words = words(self.dataset)
            self.stop = self._words.chat_stop if self.protocol == "evalplus-chat" else self._words.direct_stop

    def questions(self) -> list[Question]:
        """All tasks in the order of the data."""
        return [Question(row["task_id"], self.dataset + "+", self._prompt(row["prompt"])) for row in self.data.rows]

    def _prompt(self, task: str) -> Prompt:
        if self.protocol == "evalplus-direct":
            return Prompt(_start(task))
        if self.protocol == "evalplus-chat":
            text, prefill = chat_prompt(task, self._words)
            return Prompt(text, prefill, chat=True)
        return think_answer_prompt(self.style, azr_body(task))

    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        """Extract, score strict and lenient programs together, mark.

        EvaluationError, SandboxError, UnsafeError: nothing could be scored.
        """
        if not replies:
            return []
        found = [self.extract(question, reply) for question, reply in replies]
        asked = {question.id for question, _ in replies}
        rows = [row for row in self.data.rows if row["task_id"] in asked]
        whole = len(rows) == len(self.data.rows)
        with Bridge(
            self.dataset, rows, whole=whole, parallel=self.parallel, cache=self.cache, allow_weak=self.allow_weak
        ) as bridge:
            dirty = [place for place, one in enumerate(found) if one.clean]
            cleaned = bridge.prepare(
                [(found[place].lenient, self._rows[replies[place][0].id]["entry_point"]) for place in dirty]
            )
            for place, text in zip(dirty, cleaned, strict=True):
                found[place] = replace(found[place], lenient=text)
            wanted = {
                (q.id, p)
                for (q, _), one in zip(replies, found, strict=True)
                for p in (one.strict, one.lenient)
                if p.strip()
            }
            programs = sorted(wanted)
            first = dict(zip(programs, bridge.verdicts(programs), strict=True))
            self.layers = bridge.layers
        passed = [program for program in programs if first[program][0]]
        items = [(self._rows[task], program) for task, program in passed]
        second = dict(
            zip(
                passed,
                second_judge(self.dataset, items, parallel=self.parallel, allow_weak=self.allow_weak),
                strict=True,
            )
        )
        marks = []
        for (question, _), one in zip(replies, found, strict=True):
            verdicts = []
            for key in ((question.id, one.strict), (question.id, one.lenient)):
                (base, plus), opinion = first.get(key, (False, False)), second.get(key)
                agreed = opinion is not None and opinion.base
                verdicts.append(
                    (base and agreed, plus and agreed and opinion.plus, opinion.reason if plus and opinion else "")
                )
            (base, plus, doubt), (_, lenient, _) = verdicts
            right = plus and one.well_formed
            reason = one.reason or (
                "" if right else f"second judge: {doubt}" if doubt else CANNOT_PASS.get(question.id, "wrong")
            )
            parts = {"base": base and one.well_formed, "plus": right}
            marks.append(Mark(right, right or lenient, one.well_formed, reason, parts))
        return marks

    def extract(self, question: Question, reply: Reply) -> Extracted:
        """The two programs of a reply; no verdict yet."""
        if self.protocol == "azr":
            return extract_azr(question.prompt.prefill + reply.text)
        text = _cut(reply.text, self.stop).replace("\t", "    ")  # evalplus does both to every completion
        reason = "truncated" if reply.truncated else ""
        if self.protocol == "evalplus-direct":
            whole = _start(self._rows[question.id]["prompt"]) + text
            return Extracted(whole, whole, not reply.truncated, reason, clean=True)
        program = re.split(r"^[ \t]*```", text, maxsplit=1, flags=re.MULTILINE)[0]
        return Extracted(
            program,
            text,
            bool(program.strip()) and not reply.truncated,
            reason or ("" if program.strip() else "empty"),
            clean=True,
        )

    def baselines(self, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
        """Empty: no program that needs no reasoning passes the tests."""
        return {}


@dataclass(frozen=True)
class Extracted:
    """`clean`: `lenient` is still to go through evalplus' `sanitize`. `reason`: why the reply is not well formed."""

    strict: str
    lenient: str
    well_formed: bool
    reason: str = ""
    clean: bool = False


def extract_azr(text: str) -> Extracted:
    """Strict: a well-formed reply and the last python fence of its answer.

    Lenient: the last python fence anywhere, else the last of any kind.
    """
    fences = [
        (match["tag"].lower(), match["text"])
        for match in _FENCE.finditer(text.replace(THINK, THINK + "\n").replace(ANSWER, ANSWER + "\n"))
    ]
    python = [body for tag, body in fences if tag in ("python", "py", "python3")]
    lenient = (python or [body for _, body in fences] or [""])[-1]
    reply = parse_reply(text)
    if isinstance(reply, Rejection):
        return Extracted("", lenient, False, reply.reason)
    blocks = reply.blocks("python")
    if not blocks:
        return Extracted("", lenient, False, "no_answer")
    return Extracted(blocks[-1], lenient, True)


def azr_body(task: str) -> str:
    """Our words around a task of either dataset, for the think/answer prompt."""
    return "\n\n".join(
        (
            "Write the Python function that is described below. Keep its name and its parameters. Your program must be complete: with its "
            "imports and helper functions, without tests and without printing anything.",
            fence("python", task.strip()),
            "Put the whole program in one ```python block inside the answer.",
        )
    )


def _start(task: str) -> str:
    """The text that evalplus lets a model without chat template go on with."""
    return task.strip() + "\n"


def _cut(text: str, stop: Sequence[str]) -> str:
    return text[: min([text.find(word) for word in stop if word in text], default=len(text))]
