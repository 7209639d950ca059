"""Make ``problems.jsonl``, the small frozen sample of held-out problems for models other than nano.

    python -m tests.benchmarks.held_out_sample ../shared/data

Deduction and abduction: CRUXEval functions that meet our rules (github facebookresearch/cruxeval 190faf1, MIT).
Induction: reference programs of HumanEval+ v0.1.10 and MBPP+ v0.2.0, re-executed into pairs (Apache-2.0).
Chosen by the SHA-1 of their ids, so that nobody picks; every problem was validated in the sandbox when it was made.
"""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import azr_lite.evaluation
from azr_lite.buffer import task_key
from azr_lite.evaluation.reasoning import sentence
from azr_lite.parsing import parse_arguments, parse_program
from azr_lite.rundir import write_text
from azr_lite.sandbox import Executor
from azr_lite.tasks import Proposal
from azr_lite.triplet import Rejection, Rules, Task
from azr_lite.verifier import Verifier

COUNT = 100
LIMIT = 2000


def by_hash(rows: list[dict]) -> list[dict]:
    """A fixed order that owes nothing to the content."""
    return sorted(rows, key=lambda row: hashlib.sha1(row["id"].encode()).hexdigest())


def pairs(folder: Path) -> Iterator[tuple[str, Proposal]]:
    """CRUXEval: even places of the order for deduction, odd places for abduction, so that no program serves both."""
    strict = {
        row["id"]
        for row in map(json.loads, (folder / "cruxeval_flags.jsonl").read_text().splitlines())
        if row["strict"]
    }
    rows = [row for row in map(json.loads, (folder / "cruxeval.jsonl").read_text().splitlines()) if row["id"] in strict]
    for place, row in enumerate(by_hash(rows)):
        program, arguments = parse_program(row["code"], LIMIT), parse_arguments(row["input"], LIMIT)
        if not isinstance(program, Rejection) and not isinstance(arguments, Rejection):
            yield ("deduction", "abduction")[place % 2], Proposal(program, (arguments,))


def inductions(path: Path, count: int) -> Iterator[tuple[str, Proposal]]:
    """EvalPlus: the first inputs that differ, and the first sentence of the task as the message."""
    for row in by_hash([row for row in map(json.loads, path.read_text().splitlines()) if row["induction_ok"]]):
        source = (
            row["program"].replace(f"def {row['entry_point']}(", "def f(", 1)
            if row["program"].count(row["entry_point"]) == 1
            else row["program"]
        )
        program = parse_program(source, LIMIT)
        inputs = [parse_arguments(text, 300) for text in row["inputs"]]
        inputs = [given for given in inputs if not isinstance(given, Rejection)][:count]
        message = sentence(row["program"])
        if not isinstance(program, Rejection) and len(inputs) == count and message:
            yield "induction", Proposal(program, tuple(inputs), message)


def main(data: Path) -> None:
    rules = Rules()
    offers = [
        *pairs(data / "cruxeval"),
        *inductions(data / "evalplus" / "evalplus_triplets.jsonl", rules.induction_inputs),
    ]
    with Executor() as executor:
        found = Verifier(executor, rules).validate(offers)
    chosen: dict[str, list[Task]] = {"deduction": [], "abduction": [], "induction": []}
    for task in found:
        if not isinstance(task, Rejection) and len(chosen[task.type]) < COUNT:
            chosen[task.type].append(task)
    rows = [{**task.to_json(), "id": task_key(task)} for tasks in chosen.values() for task in tasks]
    file = Path(azr_lite.evaluation.__file__).with_name("problems.jsonl")
    write_text(file, "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows))
    print({name: len(tasks) for name, tasks in chosen.items()})


if __name__ == "__main__":
    main(Path(sys.argv[1]))
