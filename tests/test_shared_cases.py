"""Every small case of the shared collection that self-play or the sandbox decides gets its right verdict."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from azr_lite.parsing import parse_reply
from azr_lite.tasks import get_task_type
from azr_lite.tasks.base import Proposal
from azr_lite.tasks.induction import leaks
from azr_lite.triplet import Rejection, Rules, task_from_json
from azr_lite.verifier import Verifier

CASES = Path(__file__).parents[2] / "shared" / "data" / "cases"
pytestmark = pytest.mark.skipif(not CASES.is_dir(), reason="the shared cases are not in a user's clone")
REFUSED = {"p53-string-adjacent": "input_not_literal", "i04-lambda": "no_entry"}


def cases(folder):
    return [json.loads(path.read_text(encoding="utf-8")) for path in sorted((CASES / folder).glob("*.json"))]


@pytest.mark.parametrize("case", cases("replies"), ids=lambda case: case["id"])
def test_replies(executor, case):
    rules, name = Rules(), case["game"]
    reply = parse_reply("<think>" + case["reply_after_prefill"])
    assert not isinstance(reply, Rejection), reply
    if case["role"] == "propose":
        found = get_task_type(name).parse_proposal(reply, [], rules)
        (result,) = Verifier(executor, rules).validate([(name, found)])
        reason = result.reason if isinstance(result, Rejection) else ""
        assert isinstance(found, Proposal) or reason
    else:
        task = task_from_json(case["task"])
        answer = get_task_type(name).parse_answer(reply, task, rules)
        reason = Verifier(executor, rules).judge([(task, answer)])[0].reason
    assert reason == REFUSED.get(case["id"], "")


def test_messages():
    for case in cases("proposals"):
        for message in case.get("messages_that_pass", []) + case.get("messages_that_are_caught", []):
            assert leaks(message, case["program"]), message


def test_programs(executor):
    for case in cases("executor"):
        given = get_task_type("deduction").parse_proposal(
            parse_reply(
                f"<think></think><answer>```python\n{case['program']}\n```\n```input\n{case['input']}\n```</answer>"
            ),
            [],
            Rules(),
        )
        (found,) = executor.validate_many([(given.program, given.inputs)])
        assert found.reason == case["expected"].split()[0]
