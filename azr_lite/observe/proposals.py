"""Which proposals a report shows, with their answers, parents, children and uses; and how hard proposals grew.

Memory does not grow with the log: a fixed number of proposals is kept, drawn evenly over the run with a few of every
way to fail, and every text is cut where it is too long to be read.
"""

from __future__ import annotations

import ast
import random
from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from azr_lite.metrics import mean
from azr_lite.nano.language import skeleton
from azr_lite.observe.charts import Curve
from azr_lite.observe.reader import Line, form_checked, log_lines
from azr_lite.observe.run_facts import RunFacts
from azr_lite.parsing import quiet_parse

MOST_TEXT, MOST_ANSWER, MOST_ANSWERS, MOST_PAIRS, MOST_RELATIVES = 1500, 500, 16, 12, 8
RARE = 4
"""Proposals kept of every (type, reason), however rare."""

COUNTED = 100_000
"""References counted at a time to find the one used most."""

_OPERATIONS = (
    ast.Call, ast.BinOp, ast.BoolOp, ast.UnaryOp, ast.Compare, ast.Subscript, ast.IfExp, ast.comprehension, ast.For,
    ast.While, ast.If,
)  # fmt: skip


@dataclass
class Uses:
    """When a task was used, from which step to which, and how often."""

    count: int = 0
    first: int = 0
    last: int = 0

    def add(self, step: int) -> None:
        self.first = self.first if self.count else step
        self.count, self.last = self.count + 1, step


@dataclass
class ProposalRow:
    """One line of tasks.jsonl, its texts cut, with what the run made of it.

    `run`: number of its run on the page. `place`: number of its line. `why`: why it is worth reading.
    """

    run: int
    place: int
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
    anchor: str = ""
    why: str = ""
    children: list[str] = field(default_factory=list)
    as_reference: Uses = field(default_factory=Uses)
    as_task: Uses = field(default_factory=Uses)

    @property
    def learnable(self) -> bool:
        return self.solve_rate is not None and 0 < self.solve_rate < 1


def proposal_row(line: Line, run: int, place: int) -> ProposalRow:
    """From a line of tasks.jsonl; KeyError or TypeError for a line of another form."""
    task: dict[str, Any] = line["task"] or {}
    inputs, outputs = task.get("inputs", []), task.get("outputs", [])
    if "input" in task:
        inputs, outputs = [task["input"]], [task["output"]]
    shown = task.get("shown", len(inputs))
    pairs = [
        (cut(given, MOST_ANSWER), cut(result, MOST_ANSWER), n >= shown)
        for n, (given, result) in enumerate(zip(inputs, outputs, strict=False))
    ]
    answers = line["answers"]
    return ProposalRow(
        run=run,
        place=place,
        step=int(line["step"]),
        type=str(line["type"]),
        ok=bool(line["ok"]),
        reason=str(line["reason"]),
        detail=cut(line["detail"], MOST_ANSWER),
        fresh=bool(line["fresh"]),
        solve_rate=None if line["solve_rate"] is None else float(line["solve_rate"]),
        text=cut(line["text"], MOST_TEXT),
        id=str(task.get("id", "")),
        program=cut(task.get("program", ""), MOST_TEXT),
        pairs=pairs[:MOST_PAIRS],
        message=cut(task.get("message", ""), MOST_ANSWER),
        answers=[(cut(a["text"], MOST_ANSWER), float(a["score"]), str(a["reason"])) for a in answers[:MOST_ANSWERS]],
        more_answers=max(0, len(answers) - MOST_ANSWERS),
        parents=[str(parent) for parent in line["parents"][:MOST_RELATIVES]],
    )


def cut(text: str, most: int) -> str:
    """At most so many characters, and how many are left out."""
    return text if len(text) <= most else f"{text[:most]} … {len(text) - most} more characters"


def operations(program: str, nano: bool) -> int | None:
    """Operations of a nano program; of others calls, operators, indexings, branches and loops. None: unreadable."""
    try:
        if not nano:
            return sum(isinstance(node, _OPERATIONS) for node in ast.walk(quiet_parse(program)))
        return _nano_operations(program)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


@lru_cache(maxsize=1 << 14)  # a log holds a million programs, and fewer different ones
def _nano_operations(program: str) -> int | None:
    chain = skeleton(program)
    return None if chain is None else len(chain)


class ProposalSample:
    """One pass over the proposals: those to show and those worth reading. Curves of difficulty go to `facts.curves`."""

    def __init__(self, facts: RunFacts, most: int) -> None:
        self.facts, self.most, self.count = facts, most, 0
        self._random = random.Random(0)
        self._drawn: list[ProposalRow] = []
        self._rare: dict[tuple[str, str], list[ProposalRow]] = {}
        self._best: dict[str, tuple[tuple[float, ...], ProposalRow]] = {}
        self._uses: Counter[str] = Counter()
        self._sizes: defaultdict[str, list[int]] = defaultdict(list)
        self._step = -1
        with form_checked(facts.run):
            for line in log_lines(facts.run, "tasks.jsonl") if facts.has_log("tasks.jsonl") else ():
                self._add(line)
        self._end_step()

    def _add(self, line: Line) -> None:
        row = proposal_row(line, self.facts.number, self.count)
        self.count += 1
        rare = self._rare.setdefault((row.type, row.reason), []) if len(self._rare) < 200 else None
        if rare is not None and len(rare) < RARE:
            rare.append(row)
        if len(self._drawn) < self.most:
            self._drawn.append(row)
        elif (drawn := self._random.randrange(self.count)) < self.most:
            self._drawn[drawn] = row
        if row.step < 0:
            return  # all seeds refer to the same first task
        self._uses.update(line["parents"])
        if len(self._uses) > COUNTED:
            self._uses = Counter(dict(self._uses.most_common(COUNTED // 2)))
        if row.ok:
            self._add_valid(line["task"]["program"], row)

    def _add_valid(self, program: str, row: ProposalRow) -> None:
        depth = operations(program, self.facts.is_nano) if len(program) <= 20_000 else None
        if row.step != self._step:
            self._end_step()
            self._step = row.step
        for of in (row.type, "*"):
            self._sizes[f"length/{of}"].append(len(program))
            if depth is not None:
                self._sizes[f"depth/{of}"].append(depth)
        deep, long, rate = float(depth or 0), len(program), row.solve_rate
        if rate is not None and row.learnable:
            self._offer(f"the hardest {row.type} that was solved at all", (-rate, deep, row.step), row)
            self._offer(f"the longest learnable {row.type}", (deep, long, -rate), row)
            self._offer("the newest learnable one", (row.step,), row)
            self._offer("the first learnable one", (-row.step,), row)
        elif rate is not None:
            how = "never" if rate == 0 else "always"
            self._offer(f"the longest that was {how} solved", (deep, long), row)

    def _offer(self, why: str, key: tuple[float, ...], row: ProposalRow) -> None:
        if why not in self._best or key > self._best[why][0]:
            self._best[why] = (key, row)

    def _end_step(self) -> None:
        for key, sizes in self._sizes.items():
            self.facts.curves.setdefault(key, Curve()).add(self._step + 1, mean(sizes))
        self._sizes.clear()

    def shown(self) -> list[ProposalRow]:
        """The proposals to list, in the order of the log."""
        rows = {row.place: row for own in (self._drawn, *self._rare.values()) for row in own}
        shown = [row for _, row in sorted(rows.items())]
        for number, row in enumerate(shown):
            row.anchor = f"p{row.run}-{number}"
        return shown

    def most_used(self) -> str:
        """The id referred to most often; empty where none is."""
        return max(self._uses, key=self._uses.__getitem__, default="")

    def worth_reading(self, most: int = 10) -> list[ProposalRow]:
        """Different proposals, each chosen for a reason, in the order of the log; filled up with learnable ones."""
        chosen: dict[str, ProposalRow] = {}
        for why, (_, row) in self._best.items():
            known = chosen.setdefault(row.id, row)
            known.why = f"{known.why}; {why}" if known.why else why
        spare = [row for row in self.shown() if row.learnable and row.id not in chosen]
        if (missing := most - len(chosen)) > 0:
            for row in spare[:: max(1, len(spare) // missing)][:missing]:
                row.why = "one of the learnable ones"
                chosen[row.id] = row
        return sorted(list(chosen.values())[:most], key=lambda row: row.step)


def add_relatives(
    facts: RunFacts, rows: Iterable[ProposalRow], also: str = ""
) -> tuple[dict[str, str], ProposalRow | None]:
    """Fill in children and uses of these proposals, from one more pass over tasks.jsonl and rollouts.jsonl.

    Returns the programs of their parents, by id, and the proposal `also`, filled in too.
    """
    extra: ProposalRow | None = None
    wanted: defaultdict[str, list[ProposalRow]] = defaultdict(list)
    for row in rows:
        if row.id:
            wanted[row.id].append(row)
    if not wanted and not also:
        return {}, None
    parents = {parent for own in wanted.values() for row in own for parent in row.parents}
    programs: dict[str, str] = {}
    with form_checked(facts.run):
        for place, line in enumerate(log_lines(facts.run, "tasks.jsonl")):
            task = line["task"] or {}
            own_id = task.get("id")
            if also and extra is None and own_id == also:
                extra = proposal_row(line, facts.number, place)
                wanted[also].append(extra)
                parents.update(extra.parents)  # they stand before it in the log: their programs are known only by luck
            if own_id in parents:
                programs[own_id] = cut(task["program"], MOST_ANSWER)
            for parent in dict.fromkeys(line["parents"]):
                for row in wanted.get(parent, ()):
                    row.as_reference.add(line["step"])
                    if task and len(row.children) < MOST_RELATIVES:
                        row.children.append(own_id)
        for line in log_lines(facts.run, "rollouts.jsonl") if (facts.run.path / "rollouts.jsonl").exists() else ():
            if line["role"] == "solve":
                for row in wanted.get(line["task_id"], ()):
                    row.as_task.add(line["step"])
    return programs, extra
