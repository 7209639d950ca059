"""Runs in the jail: evalplus, as it is installed, on a data file and programs that were put into the scratch folder.

Comes in: JSON on standard input, ``{"mode": "prepare" | "grade", "dataset", ...}``; the data file through evalplus' own variable,
which it reads at import.  Goes out: one JSON line on standard output.  "prepare" runs the references and cleans texts: no untrusted
program runs beside it, so its pickle of expected outputs can be kept.  "grade" runs the programs beside evalplus, so its verdicts can be
forged.
Not covered: believing them (`second_judge.py`).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from typing import Any

CLEAN_S = 20


def main() -> None:
    request = json.load(sys.stdin.buffer)
    channel = os.dup(1)
    os.dup2(2, 1)
    answer = prepare(request) if request["mode"] == "prepare" else grade(request)
    with open(channel, "w") as out:
        out.write(json.dumps(answer) + "\n")
    os._exit(0)  # evalplus leaves a thread behind that sleeps for up to 20 s


def prepare(request: dict[str, Any]) -> dict[str, Any]:
    """Expected outputs into evalplus' cache, and texts cleaned by its `sanitize` (None where that takes too long)."""
    from evalplus import data, evaluate
    from evalplus.eval import _special_oracle
    from evalplus.sanitize import sanitize

    if request["truth"]:
        if request["dataset"] == "humaneval":
            evaluate.get_groundtruth(data.get_human_eval_plus(), data.get_human_eval_plus_hash(), [])
        else:
            evaluate.get_groundtruth(
                data.get_mbpp_plus(), data.get_mbpp_plus_hash(), _special_oracle.MBPP_OUTPUT_NOT_NONE_TASKS
            )

    def too_long(*_: Any) -> None:
        raise TimeoutError

    signal.signal(signal.SIGALRM, too_long)
    cleaned: list[str | None] = []
    for text, entry in request["texts"]:
        signal.alarm(CLEAN_S)
        try:
            cleaned.append(sanitize(text, entry))
        except Exception:
            cleaned.append(None)
        signal.alarm(0)
    return {"cleaned": cleaned}


def _close_before_programs() -> None:
    """Take evalplus' own pipes from the programs: one that writes into them all would hang the whole run.

    Only what was open before the program's process was made is closed; its shared memory and its sentinel stay.
    """
    import evalplus.eval
    import evalplus.evaluate

    check, execute = evalplus.eval.untrusted_check, evalplus.eval.unsafe_execute
    inherited: list[int] = []

    def checked(*arguments: Any, **options: Any) -> Any:
        inherited[:] = [fd for fd in range(3, 1024) if _is_open(fd)]
        return check(*arguments, **options)

    def executed(*arguments: Any) -> None:
        for fd in inherited:
            os.close(fd)
        execute(*arguments)

    evalplus.evaluate.untrusted_check = checked
    evalplus.eval.unsafe_execute = executed


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def grade(request: dict[str, Any]) -> dict[str, Any]:
    """For each task, the status of base and of plus tests of each of its programs, in their order."""
    _close_before_programs()
    from evalplus.evaluate import evaluate

    evaluate(
        request["dataset"],
        samples="samples.jsonl",
        parallel=request["parallel"],
        min_time_limit=request["min_time_limit"],
        gt_time_limit_factor=request["gt_time_limit_factor"],
    )
    with open("samples_eval_results.json") as file:
        found = json.load(file)["eval"]
    return {"eval": {task: [[one["base_status"], one["plus_status"]] for one in rows] for task, rows in found.items()}}


if __name__ == "__main__":
    main()
