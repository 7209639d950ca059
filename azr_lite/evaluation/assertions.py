"""CRUXEval asked as its published scores do: complete an assertion, after a thought or at once, with one example.

A small model that was never taught the think/answer form answers it much better. Words and example are our own; marks
are by value.
"""

from __future__ import annotations

import ast
from dataclasses import dataclass

from azr_lite.evaluation.reasoning import LABELS, ReasoningSuite, call_of_f, only_statement
from azr_lite.evaluation.suite import Prompt
from azr_lite.evaluation.suite import Reply as Sampled
from azr_lite.parsing import ParsedReply
from azr_lite.tasks.base import Answer
from azr_lite.triplet import Reason, Rejection, Task

ASSERT = {
    "assert": "assert: complete the assertion after a thought, one worked example; judged by value in the sandbox",
    "assert-direct": (
        "assert-direct: complete the assertion without a thought, one worked example; judged by value in the sandbox"
    ),
}
ANSWER, END_ANSWER, THOUGHT, END_THOUGHT = "[ANSWER]", "[/ANSWER]", "[THOUGHT]", "[/THOUGHT]"
_EXAMPLE = (
    "def f(words, n):\n    kept = []\n    for word in words:\n        if len(word) > n:\n"
    "            kept.append(word.upper())\n    return kept"
)
_TOLD = {
    "deduction": (
        "Work out what the function returns and complete the assertion: put the returned value, one literal, in the "
        "place of ??.",
        "assert f(['kiwi', 'fig'], 3) == ??",
        "'kiwi' has 4 letters, more than 3, so 'KIWI' is kept. 'fig' has 3, which is not more than 3. The list is "
        "['KIWI'].",
        "assert f(['kiwi', 'fig'], 3) == ['KIWI']",
    ),
    "abduction": (
        "Find arguments for which the assertion holds and complete it: put them, as literals, in the place of ??. "
        "There may be several; any is right.",
        "assert f(??) == ['KIWI']",
        "The list holds one word in capitals, so one word must be longer than n. With 'kiwi' and n = 3 it is.",
        "assert f(['kiwi'], 3) == ['KIWI']",
    ),
}


@dataclass(frozen=True)
class AssertSuite(ReasoningSuite):
    """A `ReasoningSuite` of these protocols; `thinks`: a thought comes first.

    Strict: an assertion about f between the tags; lenient: the last one anywhere.
    """

    thinks: bool = True

    def _prompt(self, task: Task) -> Prompt:
        told, question, thought, answer = _TOLD[task.type]
        asked = f"f({task.inputs[0]}) == ??" if task.type == "deduction" else f"f(??) == {task.outputs[0]}"
        aloud = f"{THOUGHT}\n{thought}\n{END_THOUGHT}\n" if self.thinks else ""
        how = "Think step by step first. Then write" if self.thinks else "Write nothing but"
        told = f"{told} {how} the whole assertion between {ANSWER} and {END_ANSWER}."
        shown = f"{_EXAMPLE}\n{question}\n\n{aloud}{ANSWER}\n{answer}\n{END_ANSWER}"
        text = f"{told}\n\nFor example:\n\n{shown}\n\nNow this one:\n\n{task.program}\nassert {asked}\n"
        return Prompt(text, "" if self.style.chat else f"\n{THOUGHT if self.thinks else ANSWER}\n", self.style.chat)

    def _strict(self, task: Task, sampled: Sampled) -> Answer | Rejection:
        said = sampled.text if self.style.chat or self.thinks else ANSWER + sampled.text
        _, tag, rest = said.rpartition(ANSWER)
        inside, closed, _ = rest.partition(END_ANSWER)
        if not tag or not closed:
            reason = Reason.TRUNCATED if sampled.truncated else Reason.NOT_WELL_FORMED
            return Rejection(reason, f"no {ANSWER}…{END_ANSWER}")
        return self._asserted(task, inside)

    def _lenient(self, task: Task, sampled: Sampled) -> Answer | Rejection:
        return self._asserted(task, sampled.text)

    def _asserted(self, task: Task, text: str) -> Answer | Rejection:
        """The answer in the last line that is an assertion about ``f``."""
        for line in reversed(text.splitlines()):
            found = read_assertion(line.strip().strip("`"), task.type)
            if found is not None:
                return self._answer(task, ParsedReply("", "", ((LABELS[task.type], found),)))
        return Rejection(Reason.NO_ANSWER, "no assertion about f")


def read_assertion(line: str, kind: str) -> str | None:
    """The value (deduction) or the arguments (abduction) in ``assert f(...) == value``; None for any other line."""
    statement = only_statement(line) if line.startswith("assert ") else None
    test = statement.test if isinstance(statement, ast.Assert) else None
    if not (isinstance(test, ast.Compare) and len(test.ops) == 1 and isinstance(test.ops[0], ast.Eq)):
        return None
    call = call_of_f(test.left)
    if call is None or call.keywords:
        return None
    return ", ".join(map(ast.unparse, test.comparators if kind == "deduction" else call.args))


def asserted(plain: ReasoningSuite, protocol: str) -> AssertSuite:
    """A suite of `reasoning.cruxeval_suite` in the protocol ``assert``, or without a thought in ``assert-direct``."""
    thinks = protocol == "assert"
    kept = (plain.problems, plain.style, plain.verifier, plain.data, plain.expressions)
    said = ASSERT[protocol] + plain.protocol.partition("sandbox")[2]
    tokens = 1024 if thinks else 256
    name = f"{plain.name}-{protocol}"
    return AssertSuite(name, said, *kept, max_tokens=tokens, stop=(END_ANSWER,), thinks=thinks)
