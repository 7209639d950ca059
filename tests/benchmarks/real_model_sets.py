"""The held-out sets of the proof with a real model, and the two of them that are made here.

    python -m tests.benchmarks.real_model_sets simple
    python -m tests.benchmarks.real_model_sets proposed RUN     # a run's folder: its seeds are what is taken

``cruxeval-o``, ``cruxeval-i``: the 787 strict questions that come with the package. ``proposed``: tasks that the
untrained model proposed, from the seeding of a run made for nothing else. ``simple``: chains of one to four operations
of nano's language, which is ordinary Python. All are one program with one input; the last two ask for the output.
"""

from __future__ import annotations

import ast
import json
import random
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from azr_lite.buffer import normal_form
from azr_lite.evaluation.reasoning import ReasoningSuite, _statement, assertions, cruxeval_suite, read_assertion
from azr_lite.evaluation.suite import Reply, read_data
from azr_lite.nano.language import draw_task
from azr_lite.parsing import parse_arguments
from azr_lite.prompts.base import Style
from azr_lite.rundir import RunDir, write_text
from azr_lite.sandbox import Executor
from azr_lite.sandbox.literal import read_value
from azr_lite.tasks.base import Answer, Proposal
from azr_lite.triplet import Rejection, Rules, Task, task_from_json
from azr_lite.verifier import Verifier

FOLDER = Path(__file__).parents[2] / "data_samples" / "heldout"
COUNT, DEPTHS, SEED = 300, (1, 2, 3, 4), 990
MAX_TOKENS = 96
"""Per reply: three times what the longest gold answer needs."""
PROTOCOL = (
    "file: the zero triplet, the program, an assertion to go on with; judged by value (docs: A real model learns)"
)
SETS = ("cruxeval-o", "cruxeval-i", "proposed", "simple")


@dataclass(frozen=True)
class FileQuestions(ReasoningSuite):
    """Questions in the form of a file, with more of form forgiven: see `forgiven`."""

    def _lenient(self, task: Task, sampled: Reply) -> Answer | Rejection:
        found = forgiven(self._prompt(task).text.rpartition("\n")[2] + sampled.text, task.type)
        return self._labelled(task, found) if found else super()._lenient(task, sampled)


def forgiven(text: str, kind: str) -> str:
    """The value (deduction) or the arguments (abduction) that an assertion says first; empty where it says none.

    `text`: from ``assert`` on. Read as Python, or as much of it as Python can read.

    Examples:
        >>> [forgiven(f"assert f(1) == {said}", "deduction") for said in ("3 == 3", "3 and f(2) == 4, 'm'", "3 # yes", "3)")]
        ['3', '3', '3', '3']
        >>> forgiven("assert 3 == f(1, [2]) == 3", "abduction")
        '1, [2]'
    """
    line = next(iter([*assertions(text)][-1:]), "")
    for end in range(len(line), len("assert"), -1):
        match _statement(line[:end]):
            case ast.Assert(ast.Compare() as test) | ast.Assert(ast.BoolOp(ast.And(), [ast.Compare() as test, *_])):
                said = ast.get_source_segment(line, test.comparators[0]) or ""
                return said if kind == "deduction" else read_assertion(f"assert 0 == {said}", kind) or ""
            case ast.AST():
                return ""
    return ""


def suites(style: Style, verifier: Verifier, names: Sequence[str] = SETS) -> dict[str, ReasoningSuite]:
    """The sets of these names, to be asked in this style."""
    found = {}
    for name in names:
        if name.startswith("cruxeval"):
            of_package = cruxeval_suite("deduction" if name == "cruxeval-o" else "abduction", "strict", style, verifier)
            problems, data = of_package.problems, of_package.data
        else:
            data = read_data(name, FOLDER / f"{name}.jsonl")
            problems = [("", task_from_json(dict(row))) for row in data.rows]
        found[name] = FileQuestions(
            name, PROTOCOL, problems, style, verifier, data=data, max_tokens=MAX_TOKENS, stop=()
        )
    return found


def chance(suite: ReasoningSuite) -> dict[str, int]:
    """Questions of a set that an answer made without reading the program gets right.

    ``echo``: the first argument as the output, the output as the only argument. ``constant``: the gold answer that is
    right most often when it is given to every question, among the ten commonest.
    """
    tasks = [task for _, task in suite.problems]
    is_deduction = tasks[0].type == "deduction"

    def right(answers: Iterable[Answer]) -> int:
        return sum(verdict.ok for verdict in suite.verifier.judge(list(zip(tasks, answers, strict=True))))

    inputs = [parse_arguments(task.input, 10_000) for task in tasks]
    outputs = [(read_value(task.output),) for task in tasks]

    def answer(task: Task, values: tuple) -> Answer:
        return Answer(value=values[0]) if is_deduction else Answer(program=task.program, inputs=(values[:1],))

    gold = outputs if is_deduction else inputs
    texts = [repr(values) for values in gold]
    common = sorted(set(texts), key=lambda text: (-texts.count(text), text))[:10]
    constants = [gold[texts.index(text)] for text in common]
    return {
        "echo": right(map(answer, tasks, inputs if is_deduction else outputs)),
        "constant": max(right(answer(task, values) for task in tasks) for values in constants),
    }


# ---------------------------------------------------------------- making the two sets


def simple_tasks(count: int = COUNT, seed: int = SEED) -> list[Task]:
    """`count` tasks with different programs, one to four operations in turn."""
    rng, found = random.Random(f"simple/{seed}"), {}
    while len(found) < count:
        task = draw_task(rng, "deduction", DEPTHS[len(found) % len(DEPTHS)], reserved=None)
        found.setdefault(normal_form(task.program), task)
    return list(found.values())


def proposed_tasks(run: Path, count: int = COUNT) -> list[Task]:
    """The first `count` tasks that a run's untrained policy proposed while seeding, with programs that differ from each
    other and from those of the other sets."""
    others = {normal_form(row["code"]) for row in read_data("cruxeval", shipped="cruxeval.jsonl.gz").rows}
    others |= {normal_form(task.program) for task in simple_tasks()}
    found: dict[str, Task] = {}
    for line in RunDir.open(run).read("tasks.jsonl"):
        if line["step"] == -1 and line["ok"] and line["type"] == "deduction":
            task = task_from_json(line["task"])
            if (form := normal_form(task.program)) not in others:
                found.setdefault(form, task)
    if len(found) < count:
        raise SystemExit(f"{run} has {len(found)} different seeds, {count} are needed; raise --seed-batch-factor")
    return list(found.values())[:count]


def validated(tasks: Sequence[Task]) -> list[Task]:
    """The same tasks, run again in the sandbox; SystemExit where one of them is refused or has another output."""
    with Executor() as executor:
        proposals = [Proposal(task.program, (parse_arguments(task.input, 10_000),)) for task in tasks]
        again = Verifier(executor, Rules()).validate(
            [(task.type, proposal) for task, proposal in zip(tasks, proposals, strict=True)]
        )
    for task, made in zip(tasks, again, strict=True):
        if isinstance(made, Rejection) or made.output != task.output:
            raise SystemExit(f"the sandbox does not confirm this task: {task}: {made}")
    return list(tasks)


def main(arguments: Sequence[str]) -> None:
    name, *run = arguments
    tasks = validated(simple_tasks() if name == "simple" else proposed_tasks(Path(run[0])))
    rows = [
        {"id": f"{name}/{n}", **{key: getattr(task, key) for key in ("type", "program", "input", "output")}}
        for n, task in enumerate(tasks)
    ]
    write_text(FOLDER / f"{name}.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    print(f"{len(rows)} tasks: {FOLDER / name}.jsonl")


if __name__ == "__main__":
    main(sys.argv[1:])
