"""A step's rollouts for people, in 80 columns: program, input, output, reply, verdict, reward and advantage.

What a model wrote may hold anything, terminal commands included: characters that do not print are written as escapes.
"""

from __future__ import annotations

import re
import textwrap
from contextlib import suppress

from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.observe.reader import Line, form_checked, step_lines
from azr_lite.rundir import RunDir

WIDTH = 80
_FENCE = re.compile(r"```(python|input|output|message)\n(.*?)\n```", re.DOTALL)


class Text(str):
    """Text that a notebook or a prompt shows as it is."""

    __slots__ = ()
    __repr__ = str.__str__


def show(
    run: RunDir, step: int | None = None, worst: int = 0, best: int = 0, role: str = "", type: str = "", count: int = 5
) -> Text:
    """The chosen rollouts, after one line that says what is shown. The arguments are those of `Run.show`."""
    if worst and best:
        raise ConfigError("--worst and --best exclude each other; give one of them")
    if min(worst, best) < 0 or count < 1:
        raise ConfigError("--worst, --best and --count are numbers of rollouts; give 1 or more")
    if role not in ("", "propose", "solve"):
        raise ConfigError(f"--role is {role!r}; choose propose or solve")
    with form_checked(run):
        lines = step_lines(run, "rollouts.jsonl", step)
        step, numbered = lines[0]["step"], enumerate(lines, start=1)
        rows = [(at, line) for at, line in numbered if role in ("", line["role"]) and type in ("", line["type"])]
        if not rows:
            named = " ".join(filter(None, (role, type)))
            raise ConfigError(f"step {step} has no rollout of {named}; leave one of them out")
        total, order = len(rows), "the worst" if worst else "the best" if best else "the first"
        if worst or best:
            rows.sort(key=lambda row: (row[1]["reward"], row[1]["advantage"]), reverse=bool(best))
        rows = rows[: worst or best or count]
        about = f": {order} {len(rows)} of {total} rollouts"
        place, room = printable(str(run.path)).replace("\n", " "), WIDTH - len(f"step {step} of {about}")
        tasks: dict[str, Line] = {}
        with suppress(RunDirectoryError):  # a kept sample has no tasks.jsonl
            tasks = {line["task"]["id"]: line["task"] for line in step_lines(run, "tasks.jsonl", step) if line["task"]}
        head = f"step {step} of {place if len(place) <= room else '…' + place[1 - room :]}{about}"
        return Text("\n".join([head, *(_rollout_text(at, line, tasks.get(line["task_id"])) for at, line in rows)]))


def _rollout_text(number: int, line: Line, task: Line | None) -> str:
    verdict, cut = line["verdict"], ", cut" if line["truncated"] else ""
    word = {"propose": ("valid", "rejected"), "solve": ("right", "not right")}[line["role"]][not verdict["ok"]]
    reason = f": {verdict['reason']}" if verdict["reason"] else ""
    detail = f" ({verdict['detail']})" if verdict["detail"] else ""
    parts = " ".join(f"{value:+.3f} {name}" for name, value in line["reward_parts"].items())
    rate = "" if line["solve_rate"] is None else f"   r̄ {line['solve_rate']:.3f}"
    fields = [
        ("verdict", f"{word}{reason}{detail}", 4),
        ("reward", f"{line['reward']:+.3f} = {parts}{rate}", 4),
        ("advantage", f"{line['advantage']:+.3f}   weight {line['weight']:.3f}   {line['tokens']} tokens{cut}", 4),
        *([("task", line["task_id"], 4)] if line["task_id"] else []),
        *([("parents", " ".join(line["parents"]), 4)] if line["parents"] else []),
        *(_parts_of_text(line) if task is None else _parts_of_task(task)),
        ("reply", line["text"], 10),
    ]
    head = f"── {number} · {line['role']} {line['type']} ".ljust(WIDTH, "─")
    return "\n".join([head, *(row for label, text, limit in fields for row in _field(label, text, limit))])


def _parts_of_text(line: Line) -> list[tuple[str, str, int]]:
    """Program, input and output as the reply (of a proposer) or the prompt (of a solver) gives them."""
    found = _FENCE.findall(line["text"] if line["role"] == "propose" else line["prompt"])
    return [("program" if tag == "python" else tag, text, 12) for tag, text in found[-11:]]


def _parts_of_task(task: Line) -> list[tuple[str, str, int]]:
    fields = [("program", task["program"], 24)]
    single = "input" in task
    inputs, outputs = ([task["input"]], [task["output"]]) if single else (task["inputs"], task["outputs"])
    for place, (given, result) in enumerate(zip(inputs, outputs, strict=True)):
        hidden = "" if single or place < task["shown"] else "   (hidden)"
        fields += [("input", given, 4), ("output", result + hidden, 4)]
    return fields + ([("message", task["message"], 4)] if task.get("message") else [])


def _field(label: str, text: str, limit: int) -> list[str]:
    """Label and text in two columns, wrapped, at most `limit` lines."""
    rows = [piece for row in printable(text).split("\n") for piece in _wrapped(row, WIDTH - 12)]
    if len(rows) > limit:
        rows = [*rows[: limit - 1], f"… {len(rows) - limit + 1} more lines"]
    return [f"  {label if place == 0 else '':9} {row}".rstrip() for place, row in enumerate(rows)]


def _wrapped(row: str, width: int) -> list[str]:
    """Between words where all characters are one column wide, else by columns."""
    from rich.cells import cell_len, chop_cells  # here: the first notebooks read this module without rich

    pieces = textwrap.wrap(row, width, drop_whitespace=False) if cell_len(row) == len(row) else chop_cells(row, width)
    return pieces or [""]


def printable(text: str) -> str:
    """The same text with tabs spread and every other character that is no print written as its escape."""
    text = text.expandtabs(4)
    if text.replace("\n", "").isprintable():  # nearly always, and a hundred times faster
        return text
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)
