"""Which proposals a page shows, and how hard proposals grew: one pass over tasks.jsonl.

Memory does not grow with the log: a fixed number of proposals is kept, drawn evenly over the run with a few of every
way to fail, and every text is cut where it is too long to be read.
"""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from azr_lite.metrics import mean
from azr_lite.nano.language import skeleton
from azr_lite.observe.follow import Curve, Followed
from azr_lite.observe.reader import Line, drawn, form_checked, log_lines

MOST_TEXT, MOST_LISTED_TEXT, MOST_LISTED = 1500, 500, 16
"""Characters of a text, characters of a text in a list (answers, inputs), and entries of a list."""

RARE, KINDS = 4, 200
"""Proposals kept of every (type, reason), however rare, and how many such pairs."""

FIELDS = frozenset("step type ok reason detail fresh solve_rate text task answers parents".split())


@dataclass
class ProposalRow:
    """A line of tasks.jsonl, its texts and lists cut, on a page.

    `run`: number of its run. `place`: of its line. `right`, `answers`: how many it got. `why`: why it is worth reading.
    """

    run: int
    place: int
    line: Line
    right: int
    answers: int
    why: str = ""

    @property
    def id(self) -> str:
        """Of the task that it became; empty where it became none."""
        return str((self.line["task"] or {}).get("id", ""))

    @property
    def anchor(self) -> str:
        """Of its entry in the list."""
        return f"p{self.run}-{self.place}"

    @property
    def learnable(self) -> bool:
        return 0 < (self.line["solve_rate"] or 0) < 1


def cut(value: Any, most: int = MOST_TEXT) -> Any:
    """The same JSON with no long text and no long list. A text says how much of it is left out."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]} … {len(value) - most} more characters"
    if isinstance(value, dict):
        return {name: cut(one, most) for name, one in value.items()}
    return [cut(one, MOST_LISTED_TEXT) for one in value[:MOST_LISTED]] if isinstance(value, list) else value


class Proposals:
    """The proposals of a run: `count` of all, `listed` to look through. Curves of difficulty go to `run.curves`."""

    def __init__(self, run: Followed, number: int, most: int) -> None:
        self.run, self.number, self.count = run, number, 0
        self._rare: list[ProposalRow] = []
        self._best: dict[str, tuple[tuple[float, ...], ProposalRow]] = {}
        with form_checked(run.run):
            kept = drawn(self._rows(), most) if (run.run.path / "tasks.jsonl").exists() else []
        rows = {row.place: row for row in (*kept, *self._rare)}
        self.listed = [rows[place] for place in sorted(rows)]

    def _rows(self) -> Iterator[ProposalRow]:
        kinds: Counter[tuple[str, str]] = Counter()
        for step, lines in itertools.groupby(log_lines(self.run.run, "tasks.jsonl"), key=lambda line: line["step"]):
            sizes: defaultdict[str, list[int]] = defaultdict(list)
            for line in lines:
                if missing := FIELDS - line.keys():
                    raise KeyError(*missing)
                right = [answer["score"] >= 1 for answer in line["answers"]]
                row = ProposalRow(self.number, self.count, cut(line), sum(right), len(right))
                self.count += 1
                kind = line["type"], line["reason"]
                if kinds[kind] < RARE and len(kinds) < KINDS:
                    kinds[kind] += 1
                    self._rare.append(row)
                if line["ok"] and step >= 0:
                    self._measure(line["task"]["program"], row, sizes)
                yield row
            for key, values in sizes.items():
                self.run.curves.setdefault(key, Curve()).add(step, mean(values))

    def _measure(self, program: str, row: ProposalRow, sizes: dict[str, list[int]]) -> None:
        """The size of a valid proposal, and whether it is worth reading."""
        name, step, rate, length = row.line["type"], row.line["step"], row.line["solve_rate"], len(program)
        chain = skeleton(program) if self.run.config.model == "nano" else None
        depth, reasons = len(chain or ()), {}
        for of in (name, "*"):
            sizes[f"length/{of}"].append(length)
            if chain is not None:
                sizes[f"depth/{of}"].append(depth)
        if row.learnable:
            reasons = {
                f"the hardest {name} that was solved at all": (-rate, depth, step),
                f"the longest learnable {name}": (depth, length, -rate),
                "the newest learnable one": (step,),
                "the first learnable one": (-step,),
            }
        elif rate is not None:
            reasons = {f"the longest that was {'always' if rate else 'never'} solved": (depth, length)}
        for why, key in reasons.items():
            if why not in self._best or key > self._best[why][0]:
                self._best[why] = (key, row)

    def worth_reading(self, most: int) -> list[ProposalRow]:
        """Different proposals, each chosen for a reason, in the order of the log; filled up with learnable ones."""
        chosen: dict[str, ProposalRow] = {}
        for why, (_, row) in self._best.items():
            known = chosen.setdefault(row.id, row)
            known.why = f"{known.why}; {why}" if known.why else why
        spare = [row for row in self.listed if row.learnable and row.id not in chosen]
        if (missing := most - len(chosen)) > 0:
            for row in spare[:: max(1, len(spare) // missing)][:missing]:
                row.why = "one of the learnable ones"
                chosen[row.id] = row
        return sorted(list(chosen.values())[:most], key=lambda row: row.line["step"])
