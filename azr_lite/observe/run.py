"""`Run`: a run directory, opened for looking. What its methods return prints itself.

What a model wrote may hold anything, terminal commands included: characters that do not print are written as escapes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.config import Config
from azr_lite.errors import AzrError, ConfigError, RunDirectoryError
from azr_lite.observe.reader import Followed, Line, form_checked, open_run, step_lines
from azr_lite.observe.style import printable
from azr_lite.rundir import RunDir
from azr_lite.triplet import Task, task_from_json

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from azr_lite.observe.doctor import Diagnosis
    from azr_lite.observe.measures import Analysis
    from azr_lite.observe.replay import Replay, Rescoring
    from azr_lite.observe.report import TaskList
    from azr_lite.verifier import ProgramRunner

WIDTH = 80
_FENCE = re.compile(r"```(python|input|output|message)\n(.*?)\n```", re.DOTALL)


class Text(str):
    """Text that a notebook or a prompt shows as it is."""

    __slots__ = ()
    __repr__ = str.__str__


class Run:
    """A run directory, finished or being written, or the kept sample of one. Nothing in it is changed by looking.

    All methods raise RunDirectoryError, in one sentence, for a log that is missing, damaged or of another version.

    Args:
        path: the folder that `azr_lite.run` made.

    Examples:
        >>> run = Run("data_samples/runs/whole/nano-small")
        >>> run
        Run('data_samples/runs/whole/nano-small'): 14 of 14 steps, finished
        >>> print(run.show(3, worst=1).splitlines()[0])
        step 3 of data_samples/runs/whole/nano-small: the worst 1 of 71 rollouts
        >>> found = run.replay(3)
        >>> found.exact, found.compared["reward"]
        (True, 71)
        >>> run.rescore(estimator="global")[0].rollouts
        71
        >>> run.analyse(periods=1).periods
        [(0, 13)]
        >>> [one.name for one in Run("data_samples/runs/bugs/sign-flip").diagnose().findings]
        ['sign flip', 'zero-variance groups']
    """

    def __init__(self, path: str | Path) -> None:
        self.directory = open_run(path)
        self.path = self.directory.path

    @property
    def config(self) -> Config:
        """The settings of the run."""
        return self.directory.config()

    @property
    def summary(self) -> dict[str, Any] | None:
        """What summary.json holds; None while the run has not ended."""
        return self.directory.summary()

    def __repr__(self) -> str:
        try:
            run = Followed(self.directory)
            return f"Run({str(self.path)!r}): {run.done} of {run.config.steps} steps, {run.state}"
        except AzrError as error:
            return f"Run({str(self.path)!r}): {error}"

    def show(
        self, step: int | None = None, *, worst: int = 0, best: int = 0, role: str = "", type: str = "", count: int = 5
    ) -> Text:
        """Rollouts of one step (from 0; the newest): program, input, output, reply, verdict, reward and advantage.

        `worst`, `best`: that many by reward; else the first `count`. ConfigError for a choice that no rollout meets.
        """
        if (worst and best) or min(worst, best) < 0 or count < 1:
            raise ConfigError("--worst and --best exclude each other, and each number is 1 or more; give one of them")
        with form_checked(self.directory):
            lines = step_lines(self.directory, "rollouts.jsonl", step)
            step, numbered = lines[0]["step"], enumerate(lines, start=1)
            rows = [(at, line) for at, line in numbered if role in ("", line["role"]) and type in ("", line["type"])]
            if not rows:
                raise ConfigError(f"step {step} has no rollout of {f'{role} {type}'.strip()}; leave one of them out")
            total, order = len(rows), "the worst" if worst else "the best" if best else "the first"
            if worst or best:
                rows.sort(key=lambda row: (row[1]["reward"], row[1]["advantage"]), reverse=bool(best))
            rows = rows[: worst or best or count]
            tasks: dict[str, Task] = {}
            with suppress(RunDirectoryError):  # a kept sample has no tasks.jsonl
                proposals = step_lines(self.directory, "tasks.jsonl", step)
                tasks = {line["task"]["id"]: task_from_json(line["task"]) for line in proposals if line["task"]}
            about = f": {order} {len(rows)} of {total} rollouts"
            place, room = printable(str(self.path)).replace("\n", " "), WIDTH - len(f"step {step} of {about}")
            head = f"step {step} of {place if len(place) <= room else '…' + place[1 - room :]}{about}"
            return Text("\n".join([head, *(_rollout_text(at, line, tasks.get(line["task_id"])) for at, line in rows)]))

    def report(self, output: str | Path = "", *, against: Sequence[Run | str | Path] = ()) -> Path:
        """Write one self-contained HTML page about the run: no network, at most 2 MB.

        `output`: the file; when not given RUN/report.html, or comparison.html here where runs are compared. `against`:
        up to seven of these. ConfigError: the file exists and is no report. RunDirectoryError: it cannot be written.
        """
        from azr_lite.observe.report import write_report

        return write_report([self.path, *(one.path if isinstance(one, Run) else one for one in against)], output)

    def replay(self, step: int | None = None, *, executor: ProgramRunner | None = None, rewards: Any = None) -> Replay:
        """Make a step's verdicts, rewards, advantages and weights again from the log alone, and hold them against it.

        `step`: from 0; the newest whole one. `executor`: one that is open; else one is started with the run's limits.
        `rewards`: as in `azr_lite.run`, where the run's own cannot be imported by their names.
        """
        from azr_lite.observe.replay import replay

        return replay(self.directory, step, executor, rewards)

    def rescore(self, **changes: Any) -> Rescoring:
        """What the recorded replies would have earned by another estimator, whitening or zero_learnability, by step."""
        from azr_lite.observe.replay import rescore

        return rescore(self.directory, **changes)

    def diagnose(self, *, rerun: int = 0) -> Diagnosis:
        """What the run suffers from, with evidence and a cure. `rerun`: run so many accepted programs again, too."""
        from azr_lite.observe.doctor import examine

        return examine(self.directory, rerun)

    def dashboard(self, *, refresh_s: float = 2.0, once: bool = False) -> Figure | None:
        """Follow the run in a notebook until it ends or falls silent, or draw it `once`; the last picture stays.

        Elsewhere than in a notebook: the figure, drawn once. ConfigError: matplotlib is not installed.
        """
        from azr_lite.observe.dashboard import dashboard

        return dashboard(self.directory, refresh_s, once)

    def tasks(self) -> TaskList:
        """The proposals of the run as a page with filters that shows itself in a notebook and needs no kernel."""
        from azr_lite.observe.report import task_list

        return task_list(self.directory)

    def analyse(self, periods: int = 4) -> Analysis:
        """Lengths, complexity, diversity, plans, reflection and alarms of what the run wrote, in so many periods."""
        from azr_lite.observe.measures import analyse

        return analyse(self.directory, periods)

    def export(self, output: str | Path = "", *, step: str = "last", merge: bool = False) -> Path:
        """Write the model of a checkpoint, with a model card, as a folder that plain transformers or peft loads.

        `step`: last, best, or the number of one that has a checkpoint. `merge`: add the adapter to its base model.
        PublishError: no such checkpoint, or the folder exists.
        """
        from azr_lite.export import export

        return export(self.path, output, step=step, merge=merge)


def _rollout_text(number: int, line: Line, task: Task | None) -> str:
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


def _parts_of_task(task: Task) -> list[tuple[str, str, int]]:
    shown, message = getattr(task, "shown", 1), getattr(task, "message", "")  # of an induction task
    fields = [("program", task.program, 24)]
    for place, (given, result) in enumerate(zip(task.inputs, task.outputs, strict=True)):
        fields += [("input", given, 4), ("output", result + "   (hidden)" * (place >= shown), 4)]
    return fields + ([("message", message, 4)] if message else [])


def _field(label: str, text: str, limit: int) -> list[str]:
    """Label and text in two columns, wrapped, at most `limit` lines."""
    from rich.console import Console  # here: the first notebooks read this module without rich
    from rich.text import Text as Wrapped

    rows = [piece.plain for piece in Wrapped(printable(text)).wrap(Console(), WIDTH - 12)]
    if len(rows) > limit:
        rows = [*rows[: limit - 1], f"… {len(rows) - limit + 1} more lines"]
    return [f"  {label if place == 0 else '':9} {row}".rstrip() for place, row in enumerate(rows)]


def list_runs(folder: Path) -> list[dict[str, Any]]:
    """The runs in this folder and one level below, by name; RunDirectoryError where there is none.

    `gain`: held-out points gained over the untrained policy, so far; None where not measured.
    """
    found = sorted({path.parent for depth in ("", "*/", "*/*/") for path in folder.glob(f"{depth}run.json")})
    if not found:
        what = "holds no run" if folder.is_dir() else "is no folder"
        raise RunDirectoryError(f"{folder} {what}; give the folder of your runs, or start a run: `azr-lite run nano`")
    rows = []
    for path in found:
        rows.append({"path": str(path), "state": "not readable", "done": 0, "steps": 0, "gain": None, "model": ""})
        with suppress(AzrError, OSError):
            run = Followed(RunDir.open(path))
            points = run.held_out.get("all", [])
            gain = 100 * (points[-1].y - points[0].y) if len(points) > 1 and points[0].x == 0 else None
            model = run.config.model.rpartition("/")[2]
            rows[-1] |= {"state": run.state, "done": run.done, "steps": run.config.steps, "gain": gain, "model": model}
    return rows


def table_of_runs(rows: Sequence[dict[str, Any]]) -> str:
    """What `list_runs` found, in 80 columns."""
    lines = [f"{'run':34} {'state':12} {'steps':>9} {'gain':>6}  model"]
    for row in rows:
        path = printable(row["path"]).replace("\n", " ")
        name = path if len(path) <= 34 else f"…{path[-33:]}"
        steps = f"{row['done']}/{row['steps']}" if row["steps"] else ""
        gain = "" if row["gain"] is None else f"{row['gain']:+.1f}"
        lines.append(f"{name:34} {row['state']:12.12} {steps:>9} {gain:>6}  {printable(row['model']):.14}".rstrip())
    return "\n".join(lines)
