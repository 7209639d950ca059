"""The reasoning suites: CRUXEval, induction from EvalPlus programs, triplets of a run, the sample asked in training.

A reply is marked twice. Strictly, as in training: think, then answer, one block with the right label. Leniently: the
last block that could be the answer, wherever it stands. The difference is what form costs, and what a model can gain
without reasoning any better.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.suite import SHIPPED, Data, Mark, Prompt, Question, Setting, read_data, shipped
from azr_lite.evaluation.suite import Reply as Sampled
from azr_lite.parsing import ParsedReply, parse_arguments, parse_program, parse_reply, quiet_parse
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, Style
from azr_lite.sandbox.literal import LiteralError, read_arguments, read_value
from azr_lite.sandbox.wire import render
from azr_lite.tasks.base import Answer, argument_text, get_task_type
from azr_lite.triplet import InductionTask, Reason, Rejection, Rules, Task, Triplet, task_from_json
from azr_lite.verifier import Verifier

LABELS = {"deduction": "output", "abduction": "input", "induction": "python"}
"""The block in which each type's answer is written; a task type that is not named here has no lenient mark."""
HELD_OUT_SEED = 20505
"""Seed of the held-out problems: the same for every run, so that runs can be compared question by question."""
NO_HINT = "(none is given)"
AZR = "azr: think/answer prompt of self-play, judged by value in the sandbox"
OWN = Data("problems of one's own", "", "", ())
_FENCE = re.compile(r"```[ \t]*(?P<tag>[A-Za-z]*)[ \t]*\n(?P<text>.*?)(?:```|\Z)", re.DOTALL)


@dataclass(frozen=True)
class ReasoningSuite:
    """A set of tasks, solved. Implements `suite.Suite`; `problems` are (stratum, task).

    `expressions`: abduction answers may be expressions (`_expression`), as CRUXEval's own harness allows; self-play
    wants literals.
    """

    name: str
    protocol: str
    problems: Sequence[tuple[str, Task]]
    style: Style
    verifier: Verifier
    data: Data = OWN
    expressions: bool = False
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = (END_ANSWER,)
    _baselines: dict[tuple[str, ...], Any] = field(default_factory=dict, init=False, repr=False, compare=False)

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
        return Prompt(text.removesuffix(self.style.prefill), self.style.prefill, self.style.chat)

    def grade(self, replies: Sequence[tuple[Question, Sampled]]) -> list[Mark]:
        pairs = [(self._tasks[question.id], sampled) for question, sampled in replies]
        strict = [(task, self._strict(task, sampled)) for task, sampled in pairs]
        lenient = [(task, self._lenient(task, sampled)) for task, sampled in pairs]
        verdicts = self.verifier.judge([*strict, *lenient])
        return [
            Mark(right.ok, right.ok or found.ok, right.well_formed, str(right.reason))
            for right, found in zip(verdicts[: len(pairs)], verdicts[len(pairs) :], strict=True)
        ]

    def _strict(self, task: Task, sampled: Sampled) -> Answer | Rejection:
        reply = parse_reply(self.style.prefill + sampled.text)
        if not isinstance(reply, Rejection):
            return self._answer(task, reply)
        return Rejection(Reason.TRUNCATED, f"cut after {sampled.tokens} tokens") if sampled.truncated else reply

    def _answer(self, task: Task, reply: ParsedReply) -> Answer | Rejection:
        answer = get_task_type(task.type).parse_answer(reply, task, self.verifier.rules)
        if isinstance(answer, Rejection) and self.expressions and task.type == "abduction":
            blocks = reply.blocks("input")
            return (_expression(task.program, blocks[0]) if len(blocks) == 1 else None) or answer
        return answer

    def _lenient(self, task: Task, sampled: Sampled) -> Answer | Rejection:
        label = LABELS.get(task.type, "")
        for text in candidates(self.style.prefill + sampled.text, label) if label else ():
            answer = self._answer(task, ParsedReply("", "", ((label, text),)))
            if not isinstance(answer, Rejection):
                return answer
        return Rejection(Reason.NO_ANSWER, "nothing that could be the answer")

    def baselines(self, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
        """Accuracy of: the first or last argument as the output, the commonest output; the output as the input, an
        empty list; a program that returns its first argument, or the commonest output shown."""
        ids = tuple(question.id for question in questions)
        if ids not in self._baselines:
            found = self._baselines[ids] = {}
            for kind in dict.fromkeys(self._tasks[id].type for id in ids):
                own = [self._tasks[id] for id in ids if self._tasks[id].type == kind]
                makers = _baseline_answers(kind, own)
                verdicts = iter(self.verifier.judge([(task, make(task)) for make in makers.values() for task in own]))
                found[kind] = {name: sum(next(verdicts).ok for _ in own) / len(own) for name in makers}
        return dict(self._baselines[ids])


# ---------------------------------------------------------------- lenient extraction


def candidates(text: str, label: str) -> list[str]:
    """What could be the answer, likeliest first: after the thought, the last block with the label, the last block of
    any kind, what stands between the answer tags, the last line; then blocks anywhere. A call ``f(...)`` counts as
    its arguments."""
    after = text.rpartition(END_THINK)[2]
    answer = after.rpartition(ANSWER)[2].partition(END_ANSWER)[0]
    found = []
    for part in dict.fromkeys((answer, after, text)):
        blocks = [(match["tag"].lower(), match["text"].strip("\n")) for match in _FENCE.finditer(part)]
        found += [body for tag, body in reversed(blocks) if tag == label][:1] + [body for _, body in blocks[-1:]]
    lines = after.replace(ANSWER, "\n").replace(END_ANSWER, "\n").splitlines()
    last = [line.strip() for line in lines if line.strip()][-1:]
    if label != "python":
        said = rf"^(?:the )?{label}(?: is)?\s*[:=]?\s*"
        found += [re.sub(said, "", line, flags=re.IGNORECASE).strip("`* ") for line in last]
        found = [_unwrapped(body) if label == "input" else body for body in found]
    return list(dict.fromkeys(found))


def only_statement(text: str) -> ast.stmt | None:
    """The statement that a model's text is; None where it is none, or several."""
    try:
        body = quiet_parse(text).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    return body[0] if len(body) == 1 else None


def call_of_f(node: ast.AST | None) -> ast.Call | None:
    """The expression or statement, where it is a call of ``f``."""
    call = node.value if isinstance(node, ast.Expr) else node
    return call if isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "f" else None


def _unwrapped(text: str) -> str:
    """The arguments of a call ``f(...)``, else the text as it is."""
    inside = text.strip()
    call = call_of_f(only_statement(inside))
    return text if call is None or call.keywords else inside[inside.index("(") + 1 : inside.rindex(")")].strip()


_PLAIN = frozenset("bool bytes dict float frozenset int len list range reversed set sorted str tuple".split())
_ALLOWED = (
    *(ast.Constant, ast.List, ast.Tuple, ast.Set, ast.Dict, ast.Starred, ast.Lambda, ast.arguments, ast.arg, ast.Name),
    *(ast.Load, ast.UnaryOp, ast.unaryop, ast.BinOp, ast.operator, ast.BoolOp, ast.boolop, ast.Compare, ast.cmpop),
    *(ast.Subscript, ast.Slice, ast.Call, ast.keyword, ast.Attribute),
)


def _expression(program: str, text: str) -> Answer | None:
    """An argument list of expressions, to be evaluated in the sandbox's child; None where it is none.

    Only plain builtins, methods without underscores and the lambda's own parameters may be named, so that no answer can
    reach the program's function, its globals or the interpreter; and it must be one argument list: `0) or (True` is
    none.
    """
    call = call_of_f(only_statement(f"f({text.strip()}\n)"))
    if call is None or len(text.strip()) > 2000:
        return None
    inside = [node for argument in (*call.args, *call.keywords) for node in ast.walk(argument)]
    known = _PLAIN | {node.arg for node in inside if isinstance(node, ast.arg)}
    for node in inside:
        if not isinstance(node, _ALLOWED) or (isinstance(node, ast.Name) and node.id not in known):
            return None
        if isinstance(node, ast.Attribute) and node.attr.startswith("_"):
            return None
    # The wrapper puts the program's own f back before it calls it: the program may call itself.
    wrapper = f"def f(_, _own=f):\n    globals()['f'] = _own\n    return {ast.unparse(call).replace('f(', '_own(', 1)}"
    return Answer(program=f"{program}\n{wrapper}", inputs=((0,),))


# ---------------------------------------------------------------- answers that need no reasoning


def _baseline_answers(kind: str, tasks: Sequence[Any]) -> dict[str, Callable[[Any], Answer | Rejection]]:
    """Name to a function from a task to its answer (a Rejection where it has none)."""

    def argument(task: Triplet, place: int) -> Answer | Rejection:
        try:
            return Answer(value=read_arguments(task.input)[place])
        except (LiteralError, IndexError):
            return Rejection(Reason.NO_ANSWER)

    def as_input(task: Triplet, value: Any) -> Answer:
        return Answer(program=task.program, inputs=((value,),))

    def returning(task: InductionTask, returned: str) -> Answer:
        inputs = tuple(read_arguments(text) for text in task.inputs[task.shown :])
        return Answer(program=f"def f(*a):\n    return {returned}", inputs=inputs)

    def commonest(outputs: Iterable[str]) -> str:
        return Counter(outputs).most_common(1)[0][0]

    if kind == "deduction":
        common = commonest(task.output for task in tasks)
        return {
            "first argument": lambda task: argument(task, 0),
            "last argument": lambda task: argument(task, -1),
            f"always {common}": lambda task: Answer(value=read_value(common)),
        }
    if kind == "abduction":
        return {
            "the output": lambda task: as_input(task, read_value(task.output)),
            "always []": lambda task: as_input(task, []),
        }
    if kind == "induction":
        return {
            "return the first argument": lambda task: returning(task, "a[0]"),
            "return the commonest output shown": lambda task: returning(task, commonest(task.outputs[: task.shown])),
        }
    return {}


# ---------------------------------------------------------------- CRUXEval and induction


def cruxeval_suite(kind: str, scope: str, style: Style, verifier: Verifier, source: str = "") -> ReasoningSuite:
    """CRUXEval as ``deduction`` (its task O) or ``abduction`` (I). `scope` "strict": the programs whose input is one
    or more literals (787 of 800, as self-play demands); "all": all of them, for comparison with published numbers."""
    needs = ("id", "code", "input", "output")
    data = read_data("cruxeval", source, needs) if source else shipped("cruxeval", "cruxeval.jsonl.gz")
    problems = []
    for row in data.rows:
        program = parse_program(row["code"], verifier.rules.max_program_chars)
        given = parse_arguments(row["input"], 10_000)
        literal = not isinstance(given, Rejection) and len(given) > 0
        if isinstance(program, Rejection):
            why = program.detail
            raise EvaluationError(f"{row['id']} of {data.source} cannot be read ({why}); use the file as published")
        if literal or scope == "all":
            text = argument_text(given) if literal else row["input"].strip()  # type: ignore[arg-type]
            problems.append(("", Triplet(kind, program, text, render(read_value(row["output"])), id=row["id"])))
    protocol = AZR + ("; inputs may be expressions of plain builtins" if kind == "abduction" and scope == "all" else "")
    name = f"cruxeval-{'o' if kind == 'deduction' else 'i'}-{scope}"
    return ReasoningSuite(name, protocol, problems, style, verifier, data, expressions=scope == "all")


def induction_suite(style: Style, verifier: Verifier, *, hint: bool, source: str = "") -> ReasoningSuite:
    """The reference programs of HumanEval+ and MBPP+: the first pairs are shown, the next hidden ones judge. With
    `hint`, the task's first sentence is the message, and it is text to code as much as induction; without it, the
    pairs are all there is."""
    name, needs = "evalplus-triplets", ("id", "program", "inputs", "outputs", "induction_ok")
    data = read_data(name, source, needs) if source else shipped(name, "evalplus_triplets.jsonl.gz")
    tasks = [_induction(row, verifier.rules, hint) for row in data.rows if row["induction_ok"]]
    problems = [(task.id.split("/")[0], task) for task in tasks if task is not None]
    return ReasoningSuite(f"induction-{'hint' if hint else 'nohint'}", AZR, problems, style, verifier, data)


def _induction(row: dict[str, Any], rules: Rules, hint: bool) -> InductionTask | None:
    """The task of one row; None with too few literal pairs, hidden outputs that are all alike, or no sentence."""
    pairs = []
    for given, result in zip(row["inputs"], row["outputs"], strict=True):
        arguments = parse_arguments(given, 400)
        try:
            output = render(read_value(result))
        except LiteralError:
            continue
        if not isinstance(arguments, Rejection) and arguments and len(output) <= 400:
            pairs.append((argument_text(arguments), output))
    inputs, outputs = ([pair[i] for pair in pairs[: rules.induction_inputs]] for i in (0, 1))
    message, shown = sentence(row["program"]), rules.induction_shown
    if len(inputs) < rules.induction_inputs or len(set(outputs[shown:])) < 2 or not message:
        return None
    message = message if hint else NO_HINT
    return InductionTask("induction", row["program"], tuple(inputs), tuple(outputs), message, shown, id=row["id"])


def sentence(program: str) -> str:
    """The task's first sentence, from the docstring of the module or of the first function."""
    tree = quiet_parse(program)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    text = ast.get_docstring(tree) or next((doc for node in functions if (doc := ast.get_docstring(node))), "")
    text = re.split(r"\bassert\b|>>>|\. |\n\s*\n|For example", text)[0]
    return " ".join(text.split()).rstrip(".")[:300]


# ---------------------------------------------------------------- triplets of a run, and the problems asked in training


def frozen_suite(source: str | Path, style: Style, verifier: Verifier, count: int = 300) -> ReasoningSuite:
    """The accepted tasks of a run (its folder, or a tasks.jsonl), at most `count` per type, by digest of their text.

    The run that proposed them may have trained on them. For any other model they are held out.
    """
    path = Path(source)
    file = path / "tasks.jsonl" if path.is_dir() else path
    data = read_data(f"triplets of {path.name}", file)
    tasks = [task_from_json(row["task"]) for row in data.rows if row.get("task")]
    chosen: list[tuple[str, Task]] = []
    for kind in dict.fromkeys(task.type for task in tasks):
        own = {_digest(task): task for task in tasks if task.type == kind}
        chosen += [("", dataclasses.replace(own[digest], id=digest[:16])) for digest in sorted(own)[:count]]
    if not chosen:
        raise EvaluationError(f"{file} holds no accepted tasks; give the folder of a run that accepted some")
    return ReasoningSuite(f"triplets-{path.name or file.parent.name}", AZR, chosen, style, verifier, data)


def _digest(task: Task) -> str:
    content = json.dumps([task.type, task.program, task.inputs, task.outputs])
    return hashlib.sha256(content.encode()).hexdigest()


def held_out_suite(
    model: str, types: Sequence[str], count: int, seed: int, style: Style, verifier: Verifier, max_tokens: int
) -> ReasoningSuite:
    """What is asked before, during and after training: `count` frozen problems per type.

    nano: from its generator's held-out part (stratum: operations composed). Any other model: the shipped sample
    (CRUXEval programs for deduction and abduction, EvalPlus programs for induction), each program for one type only.
    """
    problems = held_out_problems(model, types, count, seed)
    digest = hashlib.sha256("".join(task.to_line() + "\n" for _, task in problems).encode()).hexdigest()
    data = Data("frozen sample of CRUXEval and EvalPlus", "shipped: problems.jsonl", digest, ())
    if model == "nano":
        data = Data(f"nano held-out, seed {seed}", "generated", digest, ())
    return ReasoningSuite("held-out", AZR, problems, style, verifier, data, max_tokens=max_tokens, stop=())


def held_out_problems(model: str, types: Sequence[str], count: int, seed: int) -> list[tuple[str, Task]]:
    """The tasks of `held_out_suite` as (stratum, task)."""
    if count == 0:
        return []
    if model == "nano":
        from azr_lite.nano.generator import held_out
        from azr_lite.nano.language import depth

        found = held_out(count, seed)
        return [(f"{depth(task)} ops", task) for name in types for task in found.get(name, [])]
    text = (SHIPPED.parent / "problems.jsonl").read_text(encoding="utf-8")
    tasks = [task_from_json(json.loads(line)) for line in text.splitlines()]
    return [("", task) for name in types for task in [one for one in tasks if one.type == name][:count]]


def build(name: str, setting: Setting) -> ReasoningSuite:
    """The suite of this name, as `benchmarks.BUILDERS` offers it."""
    style, verifier, source = setting.style, setting.verifier, setting.source
    if name == "held-out":
        count, max_tokens = (200, 192) if setting.model == "nano" else (100, 1024)
        return held_out_suite(setting.model, tuple(LABELS), count, HELD_OUT_SEED, style, verifier, max_tokens)
    if name == "triplets":
        if not source:
            raise EvaluationError("give the run whose tasks are to be solved: --data triplets=RUN")
        return frozen_suite(source, style, verifier)
    if name.startswith("induction"):
        return induction_suite(style, verifier, hint=name == "induction-hint", source=source)
    kind = "deduction" if name.startswith("cruxeval-o") else "abduction"
    return cruxeval_suite(kind, name.rpartition("-")[2], style, verifier, source)
