"""Reasoning tasks for lm-evaluation-harness: questions as ours are, marks by our executor (``lm_eval_tasks/*.yaml``).

``lm_eval --include_path $(azr-lite lm-eval-path) --tasks azr_deduction,azr_abduction,azr_induction``. The harness drops
the string that stops a reply, and with it whether the answer was closed. So replies run to their end, and are cut here
as `azr-lite eval` cuts them.
"""

from __future__ import annotations

import json
from typing import Any

import datasets

from azr_lite.errors import ConfigError
from azr_lite.evaluation.reasoning import ReasoningSuite, cruxeval_suite, induction_suite
from azr_lite.evaluation.suite import Reply, choose, until_stop
from azr_lite.integrations.datasets import player, read_rows, task_of
from azr_lite.triplet import task_from_json


def questions(
    kind: str = "", style: str = "r1", tasks: str = "", items: int = 0, hint: bool = False, **_: Any
) -> dict[str, datasets.Dataset]:
    """What a YAML file's `custom_dataset` gives: a test split. The harness passes its ``--metadata`` on.

    `kind`: deduction, abduction or induction. `style`: r1 (base models), or chat (with ``--apply_chat_template``).
    `tasks`: a run, or what `azr-lite tasks` wrote, instead of CRUXEval (induction: EvalPlus programs, with `hint` their
    first sentence). `items`: so many questions, chosen as by ``azr-lite eval --items``; 0: all. ConfigError: none left.
    """
    play = player(style)
    words, verifier = play.style, play.verifier
    if tasks:
        problems = [("", task_of(row)) for row in read_rows(tasks) if row["type"] == kind]
        suite = ReasoningSuite("own", "azr", problems, words, verifier)
    elif kind == "induction":
        suite = induction_suite(words, verifier, hint=hint)
    else:
        suite = cruxeval_suite(kind, "strict", words, verifier)
    task_by_id, rows = {task.id: task for _, task in suite.problems}, []
    for question in choose(suite.questions(), items):
        asked = {"prompt": question.prompt.text, "prefill": question.prompt.prefill, "style": style}
        rows.append({"id": question.id, **asked, "task": task_by_id[question.id].to_line()})
    if not rows:
        raise ConfigError(f"{tasks} holds no task of type {kind}; drop azr_{kind}, or give other tasks")
    return {"test": datasets.Dataset.from_list(rows)}


def mark(doc: dict[str, Any], results: list[str]) -> dict[str, float]:
    """One reply's marks: `strict` is `azr-lite eval`'s accuracy; `lenient` forgives the form."""
    task = task_from_json(json.loads(doc["task"]))
    play = player(doc["style"])
    suite = ReasoningSuite("one", "azr", [("", task)], play.style, play.verifier)
    text, _ = until_stop(results[0], suite.stop)
    [found] = suite.grade([(suite.questions()[0], Reply("", text, 0))])
    return {"strict": float(found.right), "lenient": float(found.lenient)}
