"""Invented tasks as a data set (a parquet file, a folder with a card, a repository of the hub) and back, and replies to
them that another library sampled, put through self-play's own stages."""

from __future__ import annotations

import atexit
import functools
import tempfile
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

from azr_lite.config import Config
from azr_lite.errors import ConfigError, RunDirectoryError
from azr_lite.observe.reader import form_checked, open_run
from azr_lite.prompts import get_style
from azr_lite.rundir import RunDir, write_bytes, write_text
from azr_lite.sandbox import Executor
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import Completion, InductionTask, SolveAttempt, Task, Triplet, Verdict

TYPES = ("deduction", "abduction", "induction")
COLUMNS = {
    "id": "digest of type, program and inputs", "type": "deduction, abduction, induction, or a type of one's own",
    "step": "self-play step it was invented in; -1: seeding", "parents": "ids of the tasks its prompt quoted",
    "lineage": "ids of its ancestors, oldest first, by the first parent each",
    "solve_rate": "share of the solver's replies that were right when it was invented; none in seeding",
    "program": "Python source that defines f", "inputs": "argument lists, as literals", "outputs": "what f returns",
    "message": "induction: the hint", "shown": "induction: how many pairs the solver sees",
}  # fmt: skip
LISTS = ("parents", "lineage", "inputs", "outputs")
NUMBERS = {"step": "int64", "shown": "int64", "solve_rate": "float64"}
HUB = "hub:"


def task_rows(run: RunDir) -> Iterator[dict[str, Any]]:
    """One row per different valid task of a run, oldest first. RunDirectoryError for a damaged log."""
    lines: dict[str, list[str]] = {}
    with form_checked(run):
        for line in run.read("tasks.jsonl"):
            task = line["task"]
            if line["ok"] and task["id"] not in lines:
                first = line["parents"][0] if line["parents"] else ""
                lines[task["id"]] = [*lines[first], first] if first in lines else []
                values = {"inputs": [task.get("input")], "outputs": [task.get("output")], **line, **task}
                values |= {"parents": line["parents"], "step": line["step"], "lineage": lines[task["id"]]}
                yield {name: values.get(name) for name in COLUMNS}


def task_of(row: dict[str, Any]) -> Task:
    """The task that a row holds."""
    if row["shown"] is not None:
        return InductionTask.from_json(row)
    return Triplet.from_json({**row, "input": row["inputs"][0], "output": row["outputs"][0]})


def read_rows(source: str | Path) -> list[dict[str, Any]]:
    """The rows of a run, or of what `write_tasks` made of one: FILE.parquet, FOLDER or hub:USER/NAME.

    Raises RunDirectoryError where there is neither.
    """
    name, path = str(source), Path(source)
    files = [str(path)] if path.is_file() else sorted(map(str, path.glob("*.parquet")))
    if not files and not name.startswith(HUB):
        return list(task_rows(open_run(path)))
    from datasets import load_dataset

    what = {"path": name.removeprefix(HUB)} if name.startswith(HUB) else {"path": "parquet", "data_files": files}
    try:
        rows = load_dataset(**what, split="train").to_list()
    except Exception as error:  # the library raises its own, pyarrow's and the hub's
        raise RunDirectoryError(f"{source} cannot be read as a set of tasks ({error}); give a run's folder") from error
    if missing := COLUMNS.keys() - (rows or [{}])[0]:
        raise RunDirectoryError(f"{source} has no column {min(missing)!r}; give what `azr-lite tasks` wrote")
    return rows


def write_tasks(run: str | Path, to: str, private: bool = True) -> str:
    """Write a run's tasks to FILE.parquet, a new FOLDER (with a dataset card), or hub:USER/NAME; where they are now.

    `private`: of a repository that is made here. ConfigError: no task yet, or the place is taken. PublishError: the hub
    refuses.
    """
    from datasets import Dataset, Features, List, Value

    opened, place = open_run(run), Path(to)
    if to.startswith(HUB):
        from azr_lite.export import check_repository, push

        check_repository(to.removeprefix(HUB))  # before the long part
        with tempfile.TemporaryDirectory() as room:
            folder = write_tasks(run, f"{room}/tasks")
            return push(Path(folder), to.removeprefix(HUB), private, kind="dataset")
    if place.exists():
        raise ConfigError(f"{to} is there already; give a new place, or remove it")
    kinds = {name: Value(NUMBERS.get(name, "string")) for name in COLUMNS}
    features = Features({name: List(kind) if name in LISTS else kind for name, kind in kinds.items()})
    if not (rows := list(task_rows(opened))):
        raise ConfigError(f"{run} holds no valid task yet; let it play a step")
    Dataset.from_list(rows, features=features).to_parquet(table := BytesIO())
    if place.suffix != ".parquet":
        place.mkdir(parents=True)
        write_text(place / "README.md", card(opened, rows), "--to")
        place /= "tasks.parquet"
    write_bytes(place, table.getvalue(), "--to")
    return to


def card(run: RunDir, rows: list[dict[str, Any]]) -> str:
    """The dataset card."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    from azr_lite.export import is_local

    named = run.config().model
    model = Path(named).expanduser().resolve().name if is_local(named) else named
    pages = Environment(loader=FileSystemLoader(Path(__file__).parent), undefined=StrictUndefined, trim_blocks=True)
    page, counts = pages.get_template("dataset_card.md.jinja"), Counter(row["type"] for row in rows)
    steps = 1 + max(row["step"] for row in rows)
    return page.render(model=model, columns=COLUMNS, counts=counts, steps=steps, seed=run.config().seed) + "\n"


# ---------------------------------------------------------------- replies that others sampled


@functools.cache
def _executor() -> Executor:
    """One per process, from the first call to the end."""
    executor = Executor()
    atexit.register(executor.close)
    return executor


def player(style: str, task_types: Sequence[str] = TYPES, tasks: Iterable[Task] = ()) -> SelfPlay:
    """Self-play whose stages are called one by one, for replies that others sample. `tasks`: in its buffers."""
    config = Config(task_types=tuple(task_types), batch_size=1, micro_batch_size=1, max_prompt_tokens=10**9)
    play = SelfPlay(config, get_style(style), _executor())
    for task in tasks:
        if task.type in config.task_types:
            play.buffers.add(task)
    return play


def solve_prompt(play: SelfPlay, task: Task) -> str:
    """What the solver is asked, with the style's prefill."""
    return get_task_type(task.type).solve_prompt(play.style, task, play.rules)


def written(text: str, thought: str | None = None) -> Completion:
    """A reply that another library sampled; `thought`: what its parser took out. The prefill may be in it, or not."""
    return Completion("", (), (0,), f"{thought}</think>{text}" if thought else text)


def verdicts(play: SelfPlay, replies: Sequence[tuple[Task, Completion]]) -> list[Verdict]:
    """Stage 8 for replies to tasks."""
    attempts = [SolveAttempt(task, solve_prompt(play, task), reply) for task, reply in replies]
    play.judge(attempts)
    return [attempt.verdict for attempt in attempts]
