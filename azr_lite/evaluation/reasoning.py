"""The reasoning suites: CRUXEval, induction from EvalPlus programs, the sample asked in training.

A reply is marked twice. Strictly, as in training: think, then answer, one block with the right label. Leniently: the
last block that could be the answer, wherever it stands. CRUXEval can also be asked as its published scores are.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import itertools
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.suite import Data, Mark, Prompt, Question, Reply, Setting, Suite, blocks_in, read_data
from azr_lite.parsing import ParsedReply, parse_arguments, parse_program, read_source
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, Style
from azr_lite.prompts.file import FileStyle
from azr_lite.sandbox.literal import LiteralError, read_value
from azr_lite.sandbox.wire import render
from azr_lite.tasks.base import Answer, argument_text, get_task_type
from azr_lite.triplet import InductionTask, Reason, Rejection, Role, Rules, Task, Triplet, task_from_json
from azr_lite.verifier import Verifier

LABELS = {"deduction": "output", "abduction": "input", "induction": "python"}
"""The block in which each type's answer is written; a task type that is not named here has no lenient mark."""
HELD_OUT_SEED = 20505  # the same for every run, so that runs can be compared question by question
AZR = "azr: think/answer prompt of self-play, judged by value in the sandbox"
FILE = "file: the prompt begins a Python file and the reply goes on with it; judged by value in the sandbox"
ASSERT = "assert-direct: complete the assertion without a thought, one worked example; judged by value in the sandbox"


@dataclass(frozen=True)
class ReasoningSuite(Suite):
    """A set of tasks, solved; `problems` are (stratum, task).

    `expressions`: abduction answers may be expressions (`_computed`), as CRUXEval's own harness allows; self-play wants
    literals.
    """

    problems: Sequence[tuple[str, Task]]
    style: Style
    verifier: Verifier
    expressions: bool = False

    @functools.cached_property
    def _tasks(self) -> dict[str, Task]:
        return {task.id or str(index): task for index, (_, task) in enumerate(self.problems)}

    def questions(self) -> list[Question]:
        return [
            Question(task.id or str(index), task.type, self._prompt(task), stratum)
            for index, (stratum, task) in enumerate(self.problems)
        ]

    def _prompt(self, task: Task) -> Prompt:
        text = get_task_type(task.type).solve_prompt(self.style, task, self.verifier.rules)
        body = text.removesuffix(self.style.prefill)
        return Prompt(body, text[len(body) :], self.style.chat, self.style.rule(Role.SOLVE, text))

    def grade(self, replies: Sequence[tuple[Question, Reply]]) -> list[Mark]:
        pairs = [(self._tasks[question.id], sampled) for question, sampled in replies]
        answers = [(task, find(task, sampled)) for find in (self._strict, self._lenient) for task, sampled in pairs]
        verdicts = self.verifier.judge(answers)
        return [
            Mark(right.ok, right.ok or found.ok, right.well_formed, str(right.reason))
            for right, found in zip(verdicts[: len(pairs)], verdicts[len(pairs) :], strict=True)
        ]

    def _strict(self, task: Task, sampled: Reply) -> Answer | Rejection:
        asked, rules = self._prompt(task), dataclasses.replace(self.verifier.rules, reply_reading="strict")
        cut = f"cut after {sampled.tokens} tokens" if sampled.truncated else ""
        reply = self.style.read_sampled(Role.SOLVE, asked.text + asked.prefill, sampled.text, rules, cut=cut)
        return reply if isinstance(reply, Rejection) else self._answer(task, reply)

    def _lenient(self, task: Task, sampled: Reply) -> Answer | Rejection:
        label, asked = LABELS.get(task.type), self._prompt(task)
        if not label:
            return Rejection(Reason.NO_ANSWER)
        texts = candidates(asked.prefill + sampled.text, label)
        if asked.ended is not None:  # the reply goes on with the file's last line
            said = asked.text.rpartition("\n")[2] + sampled.text
            own = [*assertions(said)][-1:]  # the first: a server's reply may run on
            found = [read_assertion(one, task.type) for one in own] if label != "python" else [said]
            texts = [*filter(None, found), *texts]
        answers = (self._labelled(task, text) for text in texts)
        return next((one for one in answers if isinstance(one, Answer)), Rejection(Reason.NO_ANSWER))

    def _labelled(self, task: Task, text: str) -> Answer | Rejection:
        return self._answer(task, ParsedReply("", "", ((LABELS[task.type], text),)))

    def _answer(self, task: Task, reply: ParsedReply) -> Answer | Rejection:
        answer = get_task_type(task.type).parse_answer(reply, task, self.verifier.rules)
        if isinstance(answer, Answer) or not self.expressions or len(blocks := reply.blocks("input")) != 1:
            return answer
        return _computed(task.program, blocks[0]) or answer


def _asked(style: Style) -> str:
    return FILE if isinstance(style, FileStyle) else AZR


# ---------------------------------------------------------------- lenient extraction


def candidates(text: str, label: str) -> list[str]:
    """What could be the answer, likeliest first: after the thought, the last block with the label (of programs the last
    that defines ``f``), the last block of any kind, what stands between the answer tags, the last line; then blocks
    anywhere. A call ``f(...)`` counts as its arguments."""
    after = text.rpartition(END_THINK)[2]
    answer = after.rpartition(ANSWER)[2].partition(END_ANSWER)[0]
    found = []
    for part in dict.fromkeys((answer, after, text)):
        reply = blocks_in(part)
        own = [reply.block(label, Reason.NO_ANSWER)] if label == "python" else reply.blocks(label)[-1:]
        found += [body for body in own if isinstance(body, str)] + [body for _, body in reply.fences[-1:]]
    lines = after.replace(ANSWER, "\n").replace(END_ANSWER, "\n").splitlines()
    last = [line.strip() for line in lines if line.strip()][-1:]
    if label != "python":
        said = rf"^(?:the )?{label}(?: is)?\s*[:=]?\s*"
        found += [re.sub(said, "", line, flags=re.IGNORECASE).strip("`* ") for line in last]
        found = [_unwrapped(body) if label == "input" else body for body in found]
    return list(dict.fromkeys(found))


def _statement(text: str) -> Any:
    """The syntax tree of the one statement that a model's text is; None for any other text."""
    tree = read_source(text)
    return None if isinstance(tree, Rejection) or len(tree.body) != 1 else tree.body[0]


def _inside(call: ast.Call, text: str) -> str:
    """What stands between the brackets of a call, which is written in `text`."""
    written = str(ast.get_source_segment(text, call))
    return written[written.index("(") + 1 : -1].strip()


def _unwrapped(text: str) -> str:
    """The arguments of a call ``f(...)``, else the text as it is."""
    match _statement(text.strip()):
        case ast.Expr(ast.Call(func=ast.Name(id="f"), keywords=[]) as call):
            return _inside(call, text.strip())
    return text


_PLAIN = frozenset("bool bytes dict float frozenset int len list range reversed set sorted str tuple".split())
_ALLOWED = (
    *(ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred, ast.Lambda, ast.arguments, ast.arg, ast.Name),
    *(ast.Load, ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator, ast.BoolOp, ast.boolop, ast.Compare, ast.cmpop),
    *(ast.Subscript, ast.Slice, ast.Call, ast.keyword, ast.Attribute),
)


def _computed(program: str, text: str) -> Answer | None:
    """An argument list of expressions, to be evaluated in the sandbox's child; None where it is none.

    Only plain builtins, methods without underscores and the lambda's own parameters may be named, so that no answer can
    reach the program's function, its globals or the interpreter. `0) or (True` is no argument list.
    """
    match _statement(f"f({text.strip()}\n)") if len(text) <= 2000 else None:
        case ast.Expr(ast.Call(func=ast.Name(id="f")) as call):
            inside = [node for argument in (*call.args, *call.keywords) for node in ast.walk(argument)]
        case _:
            return None
    known = _PLAIN | {node.arg for node in inside if isinstance(node, ast.arg)}
    for node in inside:
        if not isinstance(node, _ALLOWED) or (isinstance(node, ast.Name) and node.id not in known):
            return None
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            return None
    # The wrapper puts the program's own f back before it calls it: the program may call itself.
    wrapper = f"def f(_, _own=f):\n    globals()['f'] = _own\n    return _own({text.strip()}\n)"
    return Answer(program=f"{program}\n{wrapper}", inputs=((0,),))


# ---------------------------------------------------------------- CRUXEval as published scores ask it

_TOLD = {
    "deduction": "Work out what the function returns and complete the assertion: put the returned value, one literal, "
    "in the place of ??.",
    "abduction": "Find arguments for which the assertion holds and complete it: put them, as literals, in the place of "
    "??. There may be several; any is right.",
}
_EXAMPLE = (
    "def f(words, n):\n    kept = []\n    for word in words:\n        if len(word) > n:\n"
    "            kept.append(word.upper())\n    return kept"
)
_EXAMPLES = {
    "deduction": Triplet("deduction", _EXAMPLE, "['kiwi', 'fig'], 3", "['KIWI']"),
    "abduction": Triplet("abduction", _EXAMPLE, "['kiwi'], 3", "['KIWI']"),
}
_ASSERT = re.compile(r"^[ \t>*`-]*(?=assert\b)", re.MULTILINE)
_PARTS = re.compile(  # a string (closed or not), a bracket, or the end of a line
    r"""\\.|'''.*?(?:'''|\Z)|\"\"\".*?(?:\"\"\"|\Z)|'(?:\\.|[^'\\\n])*'?|"(?:\\.|[^"\\\n])*"?|[][(){}\n]""", re.DOTALL
)


@dataclass(frozen=True)
class AssertSuite(ReasoningSuite):
    """CRUXEval asked for a completed assertion, at once, with one example: a small model that was never taught the
    think/answer form answers it much better. Strict: an assertion about f between the tags; lenient: the last one
    anywhere. What is asserted about the call counts; in abduction its arguments may be given by name too."""

    def _prompt(self, task: Task) -> Prompt:
        def posed(one: Task) -> str:
            asked = f"f({one.inputs[0]}) == ??" if one.type == "deduction" else f"f(??) == {one.outputs[0]}"
            return f"{one.program}\nassert {asked}\n"

        told = f"{_TOLD[task.type]} Write nothing but the whole assertion between [ANSWER] and [/ANSWER]."
        shown = _EXAMPLES[task.type]
        answer = f"[ANSWER]\nassert f({shown.input}) == {shown.output}\n[/ANSWER]"
        text = f"{told}\n\nFor example:\n\n{posed(shown)}\n{answer}\n\nNow this one:\n\n{posed(task)}"
        return Prompt(text, "" if self.style.chat else "\n[ANSWER]\n", self.style.chat)

    def _strict(self, task: Task, sampled: Reply) -> Answer | Rejection:
        said = sampled.text if self.style.chat else "[ANSWER]" + sampled.text
        before, closed, _ = said.rpartition("[/ANSWER]")
        _, opened, inside = before.rpartition("[ANSWER]")
        if closed and opened:
            return self._lenient(task, dataclasses.replace(sampled, text=inside.partition("[/ANSWER]")[0]))
        return Rejection(Reason.TRUNCATED if sampled.truncated else Reason.NOT_WELL_FORMED, "no [ANSWER]…[/ANSWER]")

    def _lenient(self, task: Task, sampled: Reply) -> Answer | Rejection:
        said = sampled.text.replace("[ANSWER]", "\n").replace("[/ANSWER]", "\n")
        found = next(filter(None, (read_assertion(one, task.type) for one in assertions(said))), None)
        if not found:
            return Rejection(Reason.NO_ANSWER)
        return self._labelled(task, f"({found})" if task.type == "deduction" else found)


def assertions(text: str) -> Iterator[str]:
    """What begins with ``assert`` at the head of a line, last first: up to the line's end outside brackets and strings,
    without markup around it."""
    heads = [match.end() for match in _ASSERT.finditer(text)]
    for start, end in reversed(list(itertools.pairwise([*heads, len(text)]))):
        depth = 0
        for part in _PARTS.finditer(text, start, end):
            depth += (part[0] in "([{") - (part[0] in ")]}")
            if part[0] == "\n" and depth <= 0:
                end = part.start()
                break
        yield text[start:end].strip("`* \n")


def read_assertion(text: str, kind: str) -> str | None:
    """The value (deduction) or the arguments (abduction) in ``assert f(...) == value``, whichever side they stand on;
    None for any other text."""
    match _statement(text):
        case ast.Assert(ast.Compare(ast.Call(ast.Name("f")) as call, [ast.Eq()], [value]), None) | ast.Assert(
            ast.Compare(value, [ast.Eq()], [ast.Call(ast.Name("f")) as call]), None
        ):
            return ast.get_source_segment(text, value) if kind == "deduction" else _inside(call, text)
    return None


def cruxeval_suite(kind: str, scope: str, style: Style, verifier: Verifier, protocol: str = "azr") -> ReasoningSuite:
    """CRUXEval as ``deduction`` (its task O) or ``abduction`` (I). `scope` "strict": the programs whose input is one
    or more literals (787 of 800, as self-play demands); "all": all of them, for comparison with published numbers."""
    data, problems = read_data("cruxeval", shipped="cruxeval.jsonl.gz"), []
    for row in data.rows:
        program = parse_program(row["code"], verifier.rules.max_program_chars)
        given = parse_arguments(row["input"], 10_000)
        is_literal = not isinstance(given, Rejection) and len(given) > 0
        if is_literal or scope == "all":
            text = argument_text(given) if is_literal else row["input"].strip()
            problems.append(("", Triplet(kind, program, text, render(read_value(row["output"])), id=row["id"])))
    name = f"cruxeval-{'o' if kind == 'deduction' else 'i'}-{scope}"
    wide = kind == "abduction" and (scope == "all" or protocol == "assert-direct")
    said = "; inputs may be expressions of plain builtins" if wide else ""
    if protocol == "azr":
        return ReasoningSuite(name, _asked(style) + said, problems, style, verifier, wide, data=data)
    limits = {"max_tokens": 256, "stop": ("[/ANSWER]",)}
    return AssertSuite(f"{name}-{protocol}", ASSERT + said, problems, style, verifier, wide, data=data, **limits)


def induction_suite(style: Style, verifier: Verifier, *, hint: bool) -> ReasoningSuite:
    """The reference programs of HumanEval+ and MBPP+: the first pairs are shown, the next hidden ones judge. With
    `hint`, the task's first sentence is the message; without it, the pairs are all there is."""
    data = read_data("evalplus-triplets", shipped="evalplus_triplets.jsonl.gz")
    tasks = [_induction(row, verifier.rules, hint) for row in data.rows if row["induction_ok"]]
    problems = [(task.id.split("/")[0], task) for task in tasks if task is not None]
    name = f"induction-{'hint' if hint else 'nohint'}"
    return ReasoningSuite(name, _asked(style), problems, style, verifier, data=data)


def _induction(row: dict[str, Any], rules: Rules, hint: bool) -> InductionTask | None:
    """The task of one row; None with too few literal pairs, hidden outputs that are all alike, or no sentence."""
    pairs = []
    for given, result in zip(row["inputs"], row["outputs"], strict=True):
        arguments = parse_arguments(given, 400)
        with suppress(LiteralError):
            output = render(read_value(result))
            if not isinstance(arguments, Rejection) and arguments and len(output) <= 400:
                pairs.append((argument_text(arguments), output))
    inputs, outputs = (tuple(pair[i] for pair in pairs[: rules.induction_inputs]) for i in (0, 1))
    message, shown = sentence(row["program"]), rules.induction_shown
    if len(inputs) < rules.induction_inputs or len(set(outputs[shown:])) < 2 or not message:
        return None
    message = message if hint else "(none is given)"
    return InductionTask("induction", row["program"], inputs, outputs, message, shown, id=row["id"])


def sentence(program: str) -> str:
    """The task's first sentence, from the docstring of the module or of the first function."""
    tree = read_source(program)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    text = ast.get_docstring(tree) or next((doc for node in functions if (doc := ast.get_docstring(node))), "")
    text = re.split(r"\bassert\b|>>>|\. |\n\s*\n|For example", text)[0]
    return " ".join(text.split()).rstrip(".")[:300]


def held_out_suite(
    model: str, types: Sequence[str], count: int, seed: int, style: Style, verifier: Verifier, max_tokens: int
) -> ReasoningSuite:
    """What is asked before, during and after training: `count` frozen problems per type.

    nano: from its generator's held-out part (stratum: operations composed). Any other model: the shipped sample
    (CRUXEval programs for deduction and abduction, EvalPlus programs for induction), each program for one type only.
    """
    problems = held_out_problems(model, types, count, seed)
    digest = hashlib.sha256("".join(task.to_line() + "\n" for _, task in problems).encode()).hexdigest()
    data = Data("frozen sample of CRUXEval and EvalPlus", "shipped: problems.jsonl", digest)
    if model == "nano":
        data = Data(f"nano held-out, seed {seed}", "generated", digest)
    how = {"data": data, "max_tokens": max_tokens, "stop": ()}
    return ReasoningSuite("held-out", _asked(style), problems, style, verifier, **how)


def held_out_problems(model: str, types: Sequence[str], count: int, seed: int) -> list[tuple[str, Task]]:
    """The tasks of `held_out_suite` as (stratum, task)."""
    if model == "nano":
        from azr_lite.nano.language import depth, held_out

        found = held_out(count, seed)
        return [(f"{depth(task)} ops", task) for name in types for task in found.get(name, [])]
    text = Path(__file__).with_name("problems.jsonl").read_text(encoding="utf-8")
    tasks = [task_from_json(json.loads(line)) for line in text.splitlines()]
    return [("", task) for name in types for task in [one for one in tasks if one.type == name][:count]]


def build(name: str, setting: Setting) -> ReasoningSuite:
    """The suite of this name, as `benchmarks.BUILDERS` offers it."""
    style, verifier = setting.style, setting.verifier
    if setting.source:
        raise EvaluationError(f"the questions of {name} come with the package; drop --data {name}=")
    if name == "held-out":
        count, max_tokens = (200, 192) if setting.model == "nano" else (100, 1024)
        return held_out_suite(setting.model, tuple(LABELS), count, HELD_OUT_SEED, style, verifier, max_tokens)
    if name.startswith("induction"):
        return induction_suite(style, verifier, hint=name == "induction-hint")
    kind = "deduction" if name.startswith("cruxeval-o") else "abduction"
    return cruxeval_suite(kind, name.rpartition("-")[2], style, verifier, setting.options.reasoning_protocol)
