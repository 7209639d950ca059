"""Which proposals a report shows, with their answers and parents; and how hard proposals grew.

Comes in: a run's tasks.jsonl, read once.  Goes out: `Proposal`s and curves.
Not covered: their children and uses (`lineage.py`), how they look (`report.py`).

Memory does not grow with the log: a fixed number of proposals is kept, drawn evenly over the run with a few of every way to fail, and
every text is cut where it is too long to be read.
"""

from __future__ import annotations

import ast
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from azr_lite.errors import RunDirectoryError
from azr_lite.nano.language import skeleton
from azr_lite.observe.figures import Curve
from azr_lite.observe.gather import Picture, lines_of
from azr_lite.observe.reader import Line
from azr_lite.parsing import quiet_parse

MOST_TEXT, MOST_ANSWER, MOST_ANSWERS, MOST_PAIRS, MOST_RELATIVES = 1500, 500, 16, 12, 8
RARE = 4
"""Proposals kept of every (type, reason), however rare."""

COUNTED = 100_000
"""References counted at a time to find the one used most."""

_OPERATIONS = (
    ast.Call,
    ast.BinOp,
    ast.BoolOp,
    ast.UnaryOp,
    ast.Compare,
    ast.Subscript,
    ast.IfExp,
    ast.comprehension,
    ast.For,
    ast.While,
    ast.If,
)


@dataclass
class Uses:
    """When a task was used, from which step to which, and how often."""

    count: int = 0
    first: int = 0
    last: int = 0

    def take(self, step: int) -> None:
        if not self.count:
            self.first = step
        self.count, self.last = self.count + 1, step


@dataclass
class Proposal:
    """One line of tasks.jsonl, its texts cut, with what the rest of the run made of it. `why`: why it is among the chosen ones."""

    step: int
    type: str
    ok: bool
    reason: str
    detail: str
    fresh: bool
    solve_rate: float | None
    text: str
    id: str
    program: str
    pairs: list[tuple[str, str, bool]]
    message: str
    answers: list[tuple[str, float, str]]
    more_answers: int
    parents: list[str]
    why: str = ""
    children: list[str] = field(default_factory=list)
    as_reference: Uses = field(default_factory=Uses)
    as_task: Uses = field(default_factory=Uses)

    @property
    def verdict(self) -> str:
        return "valid" if self.ok else "rejected"


def proposal_of(line: Line) -> Proposal:
    """A line of tasks.jsonl as a `Proposal`; KeyError or TypeError for a line of another form."""
    task: dict[str, Any] = line["task"] or {}
    pairs = []
    if task:
        inputs, outputs = ([task["input"]], [task["output"]]) if "input" in task else (task["inputs"], task["outputs"])
        shown = task.get("shown", len(inputs))
        pairs = [
            (cut(i, MOST_ANSWER), cut(o, MOST_ANSWER), n >= shown)
            for n, (i, o) in enumerate(zip(inputs, outputs, strict=False))
        ]
    answers = [
        (cut(a["text"], MOST_ANSWER), float(a["score"]), str(a["reason"])) for a in line["answers"][:MOST_ANSWERS]
    ]
    return Proposal(
        step=int(line["step"]), type=str(line["type"]), ok=bool(line["ok"]), reason=str(line["reason"]), detail=cut(line["detail"], MOST_ANSWER),
        fresh=bool(line["fresh"]), solve_rate=None if line["solve_rate"] is None else float(line["solve_rate"]),
        text=cut(line["text"], MOST_TEXT), id=str(task.get("id", "")), program=cut(task.get("program", ""), MOST_TEXT), pairs=pairs[:MOST_PAIRS],
        message=cut(task.get("message", ""), MOST_ANSWER), answers=answers, more_answers=max(0, len(line["answers"]) - MOST_ANSWERS),
        parents=[str(parent) for parent in line["parents"][:MOST_RELATIVES]],
    )  # fmt: skip


def cut(text: str, most: int) -> str:
    """At most so many characters, and how many are left out."""
    return text if len(text) <= most else f"{text[:most]} … {len(text) - most} more characters"


def operations(program: str, nano: bool) -> int | None:
    """Operations of a program: of the nano language, where it is one; else calls, operators, indexings, branches and loops.

    None: unreadable.
    """
    try:
        if nano:
            return _nano_operations(program)
        return sum(isinstance(node, _OPERATIONS) for node in ast.walk(quiet_parse(program)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _nano_operations(program: str) -> int | None:
    """Operations of a chain, counted line by line: a log holds a million lines, and few different ones."""
    first, *lines, last = program.split("\n") if program.count("\n") else ("", "")
    if first != "def f(x):" or last != "    return x" or not all(line.startswith("    x = ") for line in lines):
        chain = skeleton(program)
        return None if chain is None else len(chain)
    counts = [_line_operations(line) for line in lines]
    return sum(count for count in counts if count is not None) if None not in counts else None


@lru_cache(maxsize=4096)
def _line_operations(line: str) -> int | None:
    chain = skeleton(f"def f(x):\n{line}\n    return x")
    return None if chain is None else len(chain)


class Survey:
    """One pass over the proposals: those to show, those worth reading, and curves of difficulty."""

    def __init__(self, picture: Picture, most: int) -> None:
        self.most, self.nano = most, picture.config.model == "nano"
        self.count = self.valid = 0
        self.depth: dict[str, Curve] = {}
        self.length: dict[str, Curve] = {}
        self._draw = random.Random(0)
        self._kept: list[tuple[int, Proposal]] = []
        self._rare: dict[tuple[str, str], list[tuple[int, Proposal]]] = {}
        self._best: dict[str, tuple[tuple[float, ...], Proposal]] = {}
        self._used: dict[str, int] = {}
        self._sums: dict[str, list[float]] = {}
        self._step = -1
        for line in lines_of(picture, "tasks.jsonl"):
            self._take(line)
        self._flush()

    def _take(self, line: Line) -> None:
        place, self.count = self.count, self.count + 1
        found: Proposal | None = None
        rare = self._rare.setdefault((line["type"], line["reason"]), []) if len(self._rare) < 200 else None
        if rare is not None and len(rare) < RARE:
            found = proposal_of(line)
            rare.append((place, found))
        if len(self._kept) < self.most:
            found = found or proposal_of(line)
            self._kept.append((place, found))
        elif (drawn := self._draw.randrange(self.count)) < self.most:
            found = found or proposal_of(line)
            self._kept[drawn] = (place, found)
        for parent in line["parents"] if line["step"] >= 0 else ():  # all seeds refer to the same first task
            self._used[parent] = self._used.get(parent, 0) + 1
        if len(self._used) > COUNTED:
            most_used = sorted(self._used.items(), key=lambda item: -item[1])[: COUNTED // 2]
            self._used = dict(most_used)
        if line["ok"] and line["step"] >= 0:
            self._valid(line, found)

    def _valid(self, line: Line, found: Proposal | None) -> None:
        self.valid += 1
        program, rate, step = line["task"]["program"], line["solve_rate"], line["step"]
        depth = operations(program, self.nano) if len(program) <= 20_000 else None
        if step != self._step:
            self._flush()
            self._step = step
        for of in (line["type"], "all"):
            sums = self._sums.setdefault(of, [0, 0, 0, 0])
            sums[2], sums[3] = sums[2] + len(program), sums[3] + 1
            if depth is not None:
                sums[0], sums[1] = sums[0] + depth, sums[1] + 1
        if rate is None:
            return
        deep = float(depth or 0)
        if 0 < rate < 1:
            self._offer(f"the hardest {line['type']} that was solved at all", (-rate, deep, step), line, found)
            self._offer(f"the longest learnable {line['type']}", (deep, len(program), -rate), line, found)
            self._offer("the newest learnable one", (step,), line, found)
            self._offer("the first learnable one", (-step,), line, found)
        elif rate == 0:
            self._offer("the longest that was never solved", (deep, len(program)), line, found)
        else:
            self._offer("the longest that was always solved", (deep, len(program)), line, found)

    def _offer(self, why: str, key: tuple[float, ...], line: Line, found: Proposal | None) -> None:
        if why not in self._best or key > self._best[why][0]:
            self._best[why] = (key, found or proposal_of(line))

    def _flush(self) -> None:
        for of, (depth, counted, length, n) in self._sums.items():
            if counted:
                self.depth.setdefault(of, Curve()).add(self._step + 1, depth / counted)
            self.length.setdefault(of, Curve()).add(self._step + 1, length / n)
        self._sums = {}

    def shown(self) -> list[Proposal]:
        """The proposals to list, in the order of the log."""
        rare = [item for own in self._rare.values() for item in own]
        return [proposal for _, proposal in sorted(dict([*self._kept, *rare]).items())]

    def most_used(self) -> str:
        """The id referred to most often; empty where none is."""
        return max(self._used, key=self._used.__getitem__, default="")

    def worth_reading(self, most: int = 10) -> list[Proposal]:
        """Different proposals, each chosen for a reason, in the order of the log; filled up with learnable ones of the list."""
        chosen: dict[str, Proposal] = {}
        for why, (_, proposal) in self._best.items():
            known = chosen.setdefault(proposal.id, proposal)
            known.why = f"{known.why}; {why}" if known.why else why
        spare = [p for p in self.shown() if p.solve_rate is not None and 0 < p.solve_rate < 1 and p.id not in chosen]
        missing = most - len(chosen)
        for proposal in spare[:: max(1, len(spare) // missing)][:missing] if missing > 0 else []:
            proposal.why = "one of the learnable ones"
            chosen[proposal.id] = proposal
        return sorted(list(chosen.values())[:most], key=lambda p: p.step)


def survey(picture: Picture, most: int) -> Survey:
    """One pass over tasks.jsonl; RunDirectoryError where it has another form."""
    with FormChecked(picture):
        return Survey(picture, most)


class FormChecked:
    """A log whose lines have other fields becomes one sentence."""

    def __init__(self, picture: Picture) -> None:
        self.path = picture.run.path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type | None, error: BaseException | None, _: Any) -> None:
        if isinstance(error, KeyError | TypeError | AttributeError | ValueError | IndexError):
            raise RunDirectoryError(
                f"a log of {self.path} is not in this azr_lite's form ({error!r}); use the version named in run.json"
            ) from error


def reasons(proposals: Sequence[Proposal]) -> list[str]:
    """The reasons of rejection among them."""
    return sorted({p.reason for p in proposals if p.reason})
