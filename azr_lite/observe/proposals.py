"""Which proposals a page shows, and how hard proposals grew: one pass over tasks.jsonl.

Memory does not grow with the log: a fixed number of proposals is kept, drawn evenly over the run, and every text is cut
where it is too long to be read.
"""

from __future__ import annotations

import itertools
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from azr_lite.metrics import mean
from azr_lite.nano.language import skeleton
from azr_lite.observe.follow import Curve, Followed
from azr_lite.observe.reader import Line, drawn, form_checked, log_lines

MOST_TEXT, MOST_LISTED_TEXT, MOST_LISTED = 1500, 500, 16
"""Characters of a text, characters of a text in a list (answers, inputs), and entries of a list."""

FIELDS = frozenset("step type ok reason detail fresh solve_rate text task answers parents".split())


@dataclass(frozen=True, slots=True)
class ProposalRow:
    """A line of tasks.jsonl, its texts and lists cut, on a page.

    `run`: number of its run. `place`: of its line. `right`, `answers`: how many it got.
    """

    run: int
    place: int
    line: Line
    right: int
    answers: int

    @property
    def id(self) -> str:
        """Of the task that it became; empty where it became none."""
        return str((self.line["task"] or {}).get("id", ""))

    @property
    def anchor(self) -> str:
        """Of its entry in the list."""
        return f"p{self.run}-{self.place}"


def cut(value: Any, most: int = MOST_TEXT) -> Any:
    """The same JSON with no long text and no long list. A text says how much of it is left out."""
    if isinstance(value, str):
        return value if len(value) <= most else f"{value[:most]} … {len(value) - most} more characters"
    if isinstance(value, dict):
        return {name: cut(one, most) for name, one in value.items()}
    return [cut(one, MOST_LISTED_TEXT) for one in value[:MOST_LISTED]] if isinstance(value, list) else value


class Proposals:
    """The proposals of a run: `count` of all, `listed` to look through. Curves of their size go to `run.curves`."""

    def __init__(self, run: Followed, number: int, most: int) -> None:
        self.run, self.number, self.count = run, number, 0
        with form_checked(run.run):
            kept = drawn(self._rows(), most) if (run.run.path / "tasks.jsonl").exists() else []
        self.listed = sorted(kept, key=lambda row: row.place)

    def _rows(self) -> Iterator[ProposalRow]:
        for step, lines in itertools.groupby(log_lines(self.run.run, "tasks.jsonl"), key=lambda line: line["step"]):
            sizes: defaultdict[str, list[int]] = defaultdict(list)
            for line in lines:
                if missing := FIELDS - line.keys():
                    raise KeyError(*missing)
                right = [answer["score"] >= 1 for answer in line["answers"]]
                yield ProposalRow(self.number, self.count, cut(line), sum(right), len(right))
                self.count += 1
                if line["ok"] and step >= 0:
                    self._measure(line["task"]["program"], line["type"], sizes)
            for key, values in sizes.items():
                self.run.curves.setdefault(key, Curve()).add(step, mean(values))

    def _measure(self, program: str, of_type: str, sizes: dict[str, list[int]]) -> None:
        """The length of a valid program; of nano's also the number of operations."""
        chain = skeleton(program) if self.run.config.model == "nano" else None
        for of in (of_type, "*"):
            sizes[f"length/{of}"].append(len(program))
            if chain is not None:
                sizes[f"depth/{of}"].append(len(chain))

    def worth_reading(self, most: int) -> list[ProposalRow]:
        """Of each task type so many: those listed that were solved most rarely, but were solved; the longest first."""
        chosen: list[ProposalRow] = []
        for name in self.run.config.task_types:
            own = [row for row in self.listed if row.line["type"] == name and 0 < (row.line["solve_rate"] or 0) < 1]
            own.sort(key=lambda row: (row.line["solve_rate"], -len(row.line["task"]["program"])))
            chosen += own[:most]
        return chosen
