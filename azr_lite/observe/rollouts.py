"""A step's rollouts for people: program, input, output, reply, verdict, reason, reward parts, advantage, parents, in 80 columns.

Comes in: a run and what to choose.  Goes out: text.
Not covered: the HTML report and the notebook browser.

What a model wrote may hold anything, terminal commands included: characters that do not print are written as escapes.
"""

from __future__ import annotations

import heapq
import re
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass

from rich.cells import cell_len, chop_cells

from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.observe.reader import Line, StepLog
from azr_lite.rundir import RunDir

PAGE = 5
WIDTH = 80
_FENCE = re.compile(r"```(\w+)\n(.*?)\n```", re.DOTALL)


class Text(str):
    """Text that a notebook or a prompt shows as it is."""

    __slots__ = ()
    __repr__ = str.__str__


@dataclass(frozen=True)
class Choice:
    """Which rollouts. `step` None: the newest. `worst`, `best`: that many, by reward and then advantage; 0: in the log's order."""

    step: int | None = None
    worst: int = 0
    best: int = 0
    role: str = ""
    type: str = ""
    count: int = PAGE

    def __post_init__(self) -> None:
        if self.worst and self.best:
            raise ConfigError("--worst and --best exclude each other; give one of them")
        if min(self.worst, self.best) < 0 or self.count < 1:
            raise ConfigError("--worst, --best and --count are numbers of rollouts; give 1 or more")
        if self.role not in ("", "propose", "solve"):
            raise ConfigError(f"--role is {self.role!r}; choose propose or solve")

    def takes(self, line: Line) -> bool:
        return self.role in ("", line["role"]) and self.type in ("", line["type"])


def page(run: RunDir, choice: Choice) -> Iterator[str]:
    """The chosen rollouts, one text each, after one line that says what is shown."""
    log = StepLog(run, "rollouts.jsonl")
    step = log.last_step() if choice.step is None else choice.step
    if step is None:
        raise RunDirectoryError(f"{log.path} holds no whole line yet; wait for the run's first step")
    total = 0

    def chosen() -> Iterator[tuple[float, float, int, Line]]:
        nonlocal total
        for number, line in enumerate(log.lines(step), start=1):
            if choice.takes(line):
                total += 1
                yield line["reward"], line["advantage"], number, line

    try:
        if choice.worst:
            rows = heapq.nsmallest(choice.worst, chosen(), key=lambda row: row[:3])
        elif choice.best:
            rows = heapq.nsmallest(choice.best, chosen(), key=lambda row: (-row[0], -row[1], row[2]))
        else:
            rows = heapq.nsmallest(choice.count, chosen(), key=lambda row: row[2])
        if not rows:
            raise ConfigError(
                f"step {step} has no rollout of {' '.join(filter(None, (choice.role, choice.type)))}; leave one of them out"
            )
        order = "the worst" if choice.worst else "the best" if choice.best else "the first"
        about = f": {order} {len(rows)} of {total} rollouts"
        place, room = printable(str(run.path)).replace("\n", " "), WIDTH - len(f"step {step} of {about}")
        yield f"step {step} of {place if len(place) <= room else '…' + place[1 - room :]}{about}"
        tasks = _tasks(run, step, {row[3]["task_id"] for row in rows})
        for _, _, number, line in rows:
            yield _text(number, line, tasks.get(line["task_id"]))
    except (KeyError, TypeError) as error:
        raise RunDirectoryError(
            f"{log.path} is not in this azr_lite's form ({error!r}); use the version named in run.json"
        ) from error


def _tasks(run: RunDir, step: int, wanted: set[str]) -> dict[str, Line]:
    """The step's own tasks among the wanted ones; none where the log is missing (a kept sample)."""
    try:
        lines = StepLog(run, "tasks.jsonl").lines(step)
        return {line["task"]["id"]: line["task"] for line in lines if line["task"] and line["task"]["id"] in wanted}
    except RunDirectoryError:
        return {}


def _text(number: int, line: Line, task: Line | None) -> str:
    verdict, lines = line["verdict"], []
    lines.append(f"── {number} · {line['role']} {line['type']} ".ljust(WIDTH, "─"))
    word = {"propose": ("valid", "rejected"), "solve": ("right", "not right")}[line["role"]][not verdict["ok"]]
    reason = f": {verdict['reason']}" if verdict["reason"] else ""
    lines += _field("verdict", f"{word}{reason}{' (' + verdict['detail'] + ')' if verdict['detail'] else ''}")
    parts = " ".join(f"{value:+.3f} {name}" for name, value in line["reward_parts"].items())
    rate = "" if line["solve_rate"] is None else f"   r̄ {line['solve_rate']:.3f}"
    lines += _field("reward", f"{line['reward']:+.3f} = {parts}{rate}")
    cut = ", cut" if line["truncated"] else ""
    lines += _field(
        "advantage", f"{line['advantage']:+.3f}   weight {line['weight']:.3f}   {line['tokens']} tokens{cut}"
    )
    if line["task_id"]:
        lines += _field("task", line["task_id"])
    if line["parents"]:
        lines += _field("parents", " ".join(line["parents"]))
    lines += _problem(line, task)
    lines += _field("reply", line["text"], limit=10)
    return "\n".join(lines)


def _problem(line: Line, task: Line | None) -> list[str]:
    """Program, input and output: of the task, else what the reply (a proposal) or the prompt (an answer) holds of them."""
    if task is None:
        source = line["text"] if line["role"] == "propose" else line["prompt"]
        names = {"python": "program"}
        found = [
            (names.get(tag, tag), text)
            for tag, text in _FENCE.findall(source)
            if tag in ("python", "input", "output", "message")
        ]
        return [text for name, value in found[-11:] for text in _field(name, value, limit=12)]
    lines = _field("program", task["program"], limit=24)
    pairs = (
        [(task["input"], task["output"])]
        if "input" in task
        else list(zip(task["inputs"], task["outputs"], strict=True))
    )
    for place, (given, result) in enumerate(pairs):
        hidden = "" if "input" in task or place < task["shown"] else "   (hidden)"
        lines += _field("input", given, limit=4) + _field("output", result + hidden, limit=4)
    return lines + (_field("message", task["message"]) if task.get("message") else [])


def _field(label: str, text: str, limit: int = 4) -> list[str]:
    """Label and text in two columns, wrapped, at most `limit` lines."""
    width = WIDTH - 12
    rows = [piece for row in printable(text).split("\n") for piece in _wrapped(row, width)]
    if len(rows) > limit:
        rows = [*rows[: limit - 1], f"… {len(rows) - limit + 1} more lines"]
    return [f"  {label if place == 0 else '':9} {row}".rstrip() for place, row in enumerate(rows)]


def _wrapped(row: str, width: int) -> list[str]:
    """Between words where all characters are one column wide, else by columns."""
    pieces = textwrap.wrap(row, width, drop_whitespace=False) if cell_len(row) == len(row) else chop_cells(row, width)
    return pieces or [""]


def printable(text: str) -> str:
    """The same text with tabs spread and every other character that is no print written as its escape."""
    text = text.expandtabs(4)
    if text.replace("\n", "").isprintable():  # nearly always, and a hundred times faster
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
