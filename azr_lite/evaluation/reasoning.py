"""The three games as suites: CRUXEval, induction from EvalPlus programs, triplets of a run, and the frozen sample used in training.

Comes in: tasks with known answers, a prompt style, a verifier.  Goes out: questions, marks, and the scores of answers that need
no reasoning at all.
Not covered: code and mathematics benchmarks; where replies come from (`generators.py`); scores (`scores.py`).

A reply is marked twice. Strictly, as in training: think, then answer, one block with the right label. Leniently: the last block that
could be the answer, wherever it stands. The difference is what form costs, and what a model can gain without reasoning any better.
"""

from __future__ import annotations

import ast
import dataclasses
import hashlib
import json
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.sources import SHIPPED, Data, read_data, shipped
from azr_lite.evaluation.suite import Mark, Prompt, Question
from azr_lite.evaluation.suite import Reply as Sampled
from azr_lite.parsing import ParsedReply, parse_arguments, parse_program, parse_reply, quiet_parse
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, Style
from azr_lite.sandbox.literal import LiteralError, read_arguments, read_value
from azr_lite.sandbox.wire import render
from azr_lite.tasks.base import Answer, argument_text, get_task_type
from azr_lite.triplet import InductionTask, Reason, Rejection, Rules, Task, Triplet, task_from_json
from azr_lite.verifier import Verifier

LABELS = {"deduction": "output", "abduction": "input", "induction": "python"}
"""The block in which each game's answer is written; a game of your own has no lenient mark unless it is named here."""

HELD_OUT_SEED = 20505
"""Seed of the held-out problems: the same for every run, so that runs can be compared question by question."""

NO_HINT = "(none is given)"
_FENCE = re.compile(r"```[ \t]*(?P<tag>[A-Za-z]*)[ \t]*\n(?P<text>.*?)(?:```|\Z)", re.DOTALL)


OWN = Data("problems of one's own", "", "", ())


@dataclass(frozen=True)
class ReasoningSuite:
    """A set of tasks, solved. Implements `protocol.Suite`; `problems` are (stratum, task)."""

    name: str
    protocol: str
    problems: Sequence[tuple[str, Task]]
    style: Style
    verifier: Verifier
    data: Data = OWN
    expressions: bool = False
    """Whether abduction answers may be expressions (`_expression`), as CRUXEval's own harness allows; self-play wants literals."""
    samples: int = 1
    temperature: float = 0.0
    max_tokens: int = 1024
    stop: tuple[str, ...] = (END_ANSWER,)
    _tasks: dict[str, Task] = field(default_factory=dict, init=False, repr=False, compare=False)
    _baselines: dict[tuple[str, ...], dict[str, dict[str, float]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __post_init__(self) -> None:
        for index, (_, task) in enumerate(self.problems):
            self._tasks[_id(task, index)] = task

    @property
    def rules(self) -> Rules:
        return self.verifier.rules

    def questions(self) -> list[Question]:
        return [
            Question(_id(task, i), task.type, self._prompt(task), stratum)
            for i, (stratum, task) in enumerate(self.problems)
        ]

    def _prompt(self, task: Task) -> Prompt:
        text = get_task_type(task.type).solve_prompt(self.style, task, self.rules)
        return Prompt(text.removesuffix(self.style.prefill), self.style.prefill, self.style.chat)

    def grade(self, replies: Sequence[tuple[Question, Sampled]]) -> list[Mark]:
        tasks = [self._tasks[question.id] for question, _ in replies]
        strict = [self._strict(task, sampled) for task, (_, sampled) in zip(tasks, replies, strict=True)]
        lenient = [self._lenient(task, sampled) for task, (_, sampled) in zip(tasks, replies, strict=True)]
        verdicts = self.verifier.judge([*zip(tasks, strict, strict=True), *zip(tasks, lenient, strict=True)])
        return [
            Mark(right.ok, right.ok or found.ok, right.well_formed, str(right.reason))
            for right, found in zip(verdicts[: len(tasks)], verdicts[len(tasks) :], strict=True)
        ]

    def _strict(self, task: Task, sampled: Sampled) -> Answer | Rejection:
        reply = parse_reply(self.style.prefill + sampled.text)
        if not isinstance(reply, Rejection):
            return self._answer(task, reply)
        return Rejection(Reason.TRUNCATED, f"cut after {sampled.tokens} tokens") if sampled.truncated else reply

    def _answer(self, task: Task, reply: ParsedReply) -> Answer | Rejection:
        answer = get_task_type(task.type).parse_answer(reply, task, self.rules)
        if (
            isinstance(answer, Rejection)
            and self.expressions
            and task.type == "abduction"
            and len(blocks := reply.blocks("input")) == 1
        ):
            return _expression(task.program, blocks[0]) or answer
        return answer

    def _lenient(self, task: Task, sampled: Sampled) -> Answer | Rejection:
        label = LABELS.get(task.type)
        nothing = Rejection(Reason.NO_ANSWER, "nothing that could be the answer")
        if label is None:
            return nothing
        for text in candidates(self.style.prefill + sampled.text, label):
            answer = self._answer(task, ParsedReply("", "", ((label, text),)))
            if not isinstance(answer, Rejection):
                return answer
        return nothing

    def baselines(self, questions: Sequence[Question]) -> dict[str, dict[str, float]]:
        """Accuracy of: the first or last argument as the output, the commonest output; the output as the input, an empty list;
        a program that returns its first argument, or the commonest output shown."""
        key = tuple(question.id for question in questions)
        if key not in self._baselines:
            self._baselines[key] = self._baseline_scores([self._tasks[name] for name in key])
        return self._baselines[key]

    def _baseline_scores(self, tasks: Sequence[Task]) -> dict[str, dict[str, float]]:
        found: dict[str, dict[str, float]] = {}
        for kind in dict.fromkeys(task.type for task in tasks):
            own = [task for task in tasks if task.type == kind]
            answers_of = {name: [make(task) for task in own] for name, make in _baseline_answers(kind, own).items()}
            flat = [
                (task, answer) for answers in answers_of.values() for task, answer in zip(own, answers, strict=True)
            ]
            verdicts = iter(self.verifier.judge(flat))
            found[kind] = {name: sum(next(verdicts).ok for _ in own) / len(own) for name in answers_of}
        return found


def _id(task: Task, index: int) -> str:
    return task.id or str(index)


# ---------------------------------------------------------------- lenient extraction


def candidates(text: str, label: str) -> list[str]:
    """What could be the answer, likeliest first: after the thought, the last block with the label, the last block of any kind,
    what stands between the answer tags, the last line; then blocks anywhere. A call ``f(...)`` counts as its arguments."""
    after = text.rpartition(END_THINK)[2]
    answer = after.rpartition(ANSWER)[2].partition(END_ANSWER)[0]
    found = []
    for part in dict.fromkeys((answer, after, text)):
        blocks = [(m["tag"].lower(), m["text"].strip("\n")) for m in _FENCE.finditer(part)]
        found += [body for tag, body in reversed(blocks) if tag == label][:1] + [body for _, body in blocks[-1:]]
    lines = [
        line.strip() for line in after.replace(ANSWER, "\n").replace(END_ANSWER, "\n").splitlines() if line.strip()
    ]
    if label != "python":
        found += [
            re.sub(rf"^(?:the )?{label}(?: is)?\s*[:=]?\s*", "", line, flags=re.IGNORECASE).strip("`* ")
            for line in lines[-1:]
        ]
        found = [_unwrapped(body) if label == "input" else body for body in found]
    return list(dict.fromkeys(found))


def _unwrapped(text: str) -> str:
    """The arguments of a call ``f(...)``, else the text as it is."""
    try:
        node = quiet_parse(text.strip(), "eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return text
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "f" and not node.keywords:
        inside = text.strip()
        return inside[inside.index("(") + 1 : inside.rindex(")")].strip()
    return text


_PLAIN = frozenset("bool bytes dict float frozenset int len list range reversed set sorted str tuple".split())
_ALLOWED = (
    *(
        ast.Constant,
        ast.List,
        ast.Tuple,
        ast.Set,
        ast.Dict,
        ast.Starred,
        ast.Lambda,
        ast.arguments,
        ast.arg,
        ast.Name,
        ast.Load,
    ),
    *(
        ast.UnaryOp,
        ast.unaryop,
        ast.BinOp,
        ast.operator,
        ast.BoolOp,
        ast.boolop,
        ast.Compare,
        ast.cmpop,
        ast.Subscript,
        ast.Slice,
    ),
    *(ast.Call, ast.keyword, ast.Attribute),
)


def _expression(program: str, text: str) -> Answer | None:
    """An argument list of expressions or an empty one, to be evaluated in the sandbox's child; None where it is neither.

    Only plain builtins, methods without underscores and the lambda's own parameters may be named, so that no answer can reach the
    program's function, its globals or the interpreter; and it must be one argument list: `0) or (True` is none.
    """
    body = text.strip()
    try:
        call = quiet_parse(f"f({body}\n)", "eval").body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None
    if len(body) > 2000 or not (isinstance(call, ast.Call) and isinstance(call.func, ast.Name) and call.func.id == "f"):
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


def _baseline_answers(kind: str, tasks: Sequence[Task]) -> dict[str, Any]:
    """Name: function from a task to an `Answer` (a Rejection where it has none)."""
    none = Rejection(Reason.NO_ANSWER)

    def arguments(task: Task) -> tuple[Any, ...]:
        try:
            return read_arguments(task.inputs[0])
        except LiteralError:
            return ()

    def value(task: Task, place: int) -> Answer | Rejection:
        return Answer(value=arguments(task)[place]) if arguments(task) else none

    if kind == "deduction":
        common = Counter(task.outputs[0] for task in tasks).most_common(1)[0][0]
        return {
            "first argument": lambda task: value(task, 0),
            "last argument": lambda task: value(task, -1),
            f"always {common}": lambda task: Answer(value=read_value(common)),
        }
    if kind == "abduction":
        return {
            "the output": lambda task: Answer(program=task.program, inputs=((read_value(task.outputs[0]),),)),
            "always []": lambda task: Answer(program=task.program, inputs=(([],),)),
        }
    if kind == "induction":

        def hidden(task: InductionTask, program: str) -> Answer:
            return Answer(program=program, inputs=tuple(read_arguments(text) for text in task.inputs[task.shown :]))

        def commonest(task: InductionTask) -> Answer:
            shown = Counter(task.outputs[: task.shown]).most_common(1)[0][0]
            return hidden(task, f"def f(*a):\n    return {shown}")

        return {
            "return the first argument": lambda task: hidden(task, "def f(*a):\n    return a[0]"),
            "return the commonest output shown": commonest,
        }
    return {}


# ---------------------------------------------------------------- CRUXEval and induction


AZR = "azr: think/answer prompt of self-play, judged by value in the sandbox"


def cruxeval_suite(game: str, scope: str, style: Style, verifier: Verifier, data: Data | None = None) -> ReasoningSuite:
    """CRUXEval as ``deduction`` (its task O) or ``abduction`` (I). `scope` "strict": the programs whose input is one or more
    literals (787 of 800, as self-play demands); "all": all of them, for comparison with published numbers."""
    data = data or shipped("cruxeval", "cruxeval.jsonl.gz")
    problems = []
    for row in data.rows:
        program, given = (
            parse_program(row["code"], verifier.rules.max_program_chars),
            parse_arguments(row["input"], 10_000),
        )
        literal = not isinstance(given, Rejection) and len(given) > 0
        if isinstance(program, Rejection):
            raise EvaluationError(
                f"{row['id']} of {data.source} is not a program that we read ({program.detail}); use the file as published"
            )
        if literal or scope == "all":
            text = argument_text(given) if literal else row["input"].strip()
            problems.append(("", Triplet(game, program, text, render(read_value(row["output"])), id=row["id"])))
    letter = {"deduction": "o", "abduction": "i"}[game]
    protocol = AZR + ("; inputs may be expressions of plain builtins" if game == "abduction" and scope == "all" else "")
    return ReasoningSuite(
        f"cruxeval-{letter}-{scope}", protocol, problems, style, verifier, data, expressions=scope == "all"
    )


def induction_suite(style: Style, verifier: Verifier, *, hint: bool, data: Data | None = None) -> ReasoningSuite:
    """The reference programs of HumanEval+ and MBPP+: the first pairs are shown, the next hidden ones judge. With `hint`, the
    task's first sentence is the message, and it is text to code as much as induction; without it, the pairs are all there is."""
    data = data or shipped("evalplus-triplets", "evalplus_triplets.jsonl.gz")
    problems = []
    for row in data.rows:
        task = _induction(row, verifier.rules, hint) if row["induction_ok"] else None
        if task is not None:
            problems.append((row["id"].split("/")[0], task))
    return ReasoningSuite(f"induction-{'hint' if hint else 'nohint'}", AZR, problems, style, verifier, data)


def _induction(row: dict[str, Any], rules: Rules, hint: bool) -> InductionTask | None:
    """The task of one row; None where fewer pairs than needed are literal, the hidden outputs are all alike, or no sentence can be the hint."""
    pairs = []
    for given, result in zip(row["inputs"], row["outputs"], strict=True):
        arguments = parse_arguments(given, 400)
        try:
            output = render(read_value(result))
        except LiteralError:
            continue
        if not isinstance(arguments, Rejection) and arguments and len(output) <= 400:
            pairs.append((argument_text(arguments), output))
    pairs = pairs[: rules.induction_inputs]
    message = sentence(row["program"])
    if (
        len(pairs) < rules.induction_inputs
        or len({output for _, output in pairs[rules.induction_shown :]}) < 2
        or not message
    ):
        return None
    inputs, outputs = zip(*pairs, strict=True)
    return InductionTask(
        "induction", row["program"], inputs, outputs, message if hint else NO_HINT, rules.induction_shown, id=row["id"]
    )


def sentence(program: str) -> str:
    """The task's first sentence, from the docstring of the module or of the first function."""
    tree = quiet_parse(program)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    text = ast.get_docstring(tree) or next((doc for node in functions if (doc := ast.get_docstring(node))), "")
    text = re.split(r"\bassert\b|>>>|\. |\n\s*\n|For example", text)[0]
    return " ".join(text.split()).rstrip(".")[:300]


# ---------------------------------------------------------------- triplets of a run, and the problems asked in training


def frozen_suite(source: str | Path, style: Style, verifier: Verifier, count: int = 300) -> ReasoningSuite:
    """The accepted tasks of a run (its folder, or a tasks.jsonl), at most `count` a type, chosen by the digest of their text.

    For the run that proposed them they are not unseen: it may have trained on them. For any other model they are held out.
    """
    path = Path(source)
    file = path / "tasks.jsonl" if path.is_dir() else path
    data = read_data(f"triplets of {path.name}", file)
    tasks = [task_from_json(row["task"]) for row in data.rows if row.get("task")]
    chosen: list[tuple[str, Task]] = []
    for kind in dict.fromkeys(task.type for task in tasks):
        own = {hashlib.sha256(_content(task).encode()).hexdigest(): task for task in tasks if task.type == kind}
        chosen += [("", dataclasses.replace(own[digest], id=digest[:16])) for digest in sorted(own)[:count]]
    if not chosen:
        raise EvaluationError(f"{file} holds no accepted tasks; give the folder of a run that accepted some")
    return ReasoningSuite(f"triplets-{path.name or file.parent.name}", AZR, chosen, style, verifier, data)


def _content(task: Task) -> str:
    return json.dumps([task.type, task.program, task.inputs, task.outputs])


def held_out_suite(
    model: str, types: Sequence[str], count: int, seed: int, style: Style, verifier: Verifier, max_tokens: int
) -> ReasoningSuite:
    """What is asked before, during and after training: `count` frozen problems a type.

    nano: from its generator's held-out part (stratum: operations composed).  Any other model: the shipped sample (CRUXEval
    programs for deduction and abduction, EvalPlus programs for induction), chosen by digest, each program in one game only.
    """
    problems = held_out_problems(model, types, count, seed)
    lines = "".join(task.to_line() + "\n" for _, task in problems)
    name = f"nano held-out, seed {seed}" if model == "nano" else "frozen sample of CRUXEval and EvalPlus"
    data = Data(
        name,
        "generated" if model == "nano" else "shipped: problems.jsonl",
        hashlib.sha256(lines.encode()).hexdigest(),
        (),
    )
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
    rows = [json.loads(line) for line in text.splitlines()]
    tasks = [("", task_from_json(row)) for row in rows if row["type"] in types]
    return [pair for name in types for pair in [t for t in tasks if t[1].type == name][:count]]
