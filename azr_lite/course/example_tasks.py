"""Two task types beyond the paper's three, for notebook 10: name the error, and rows of an SQL query.

They are not registered: `register_task_type(ErrorPrediction())` does that.

No SQL engine runs: a strict subset is read here and written out again as a Python program for the sandbox. sqlite3
would run in the child if it were on the import list, but that list holds for every program of every task type.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Sequence
from typing import Any

from azr_lite.parsing import ParsedReply, parse_arguments
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK, Style, fence
from azr_lite.sandbox.literal import read_value
from azr_lite.sandbox.wire import canonical, render
from azr_lite.tasks import Answer, Deduction, Proposal
from azr_lite.tasks.base import argument_text
from azr_lite.triplet import Reason, Rejection, Rules, Task, Triplet, Verdict

FORM = (
    f"Reply with your reasoning between {THINK} and {END_THINK}, then the result, in fenced blocks, between {ANSWER} "
    f"and {END_ANSWER}."
)

ERRORS = (
    "ArithmeticError AssertionError AttributeError IndexError KeyError LookupError NameError NotImplementedError "
    "OverflowError RuntimeError StopIteration TypeError UnboundLocalError ValueError ZeroDivisionError"
).split()
"""What may be asked for. RecursionError and MemoryError depend on the machine's limits, not on the program alone."""

_REPORT = """
_azr_program = f
def f(*arguments):
    global f
    f = _azr_program
    try:
        _azr_program(*arguments)
    except Exception as error:
        return type(error).__name__
"""


def report_error(program: str) -> str:
    """The program with an `f` that returns the name of the error it raised, or None where it raised none.

    A program may call itself: then it must meet itself and not the wrapper, which would swallow the error half-way.
    """
    return program + _REPORT


def same_error(answer: str, gold: str) -> bool:
    """Whether the answer is this error's name and nothing else, quotes and space around it aside."""
    return answer.strip().strip("'\"") == gold


class ErrorPrediction(Deduction):
    """Given a program and an input on which it fails, name the type of the error."""

    name = "errors"

    def zero_task(self) -> Triplet:
        return Triplet(self.name, "def f(x):\n    return 10 // x", "0", "'ZeroDivisionError'")

    def propose_prompt(self, style: Style, references: Sequence[Task], rules: Rules) -> str:
        examples = [f"{fence('python', task.program)}\n{fence('input', task.inputs[0])}" for task in references]
        goal = "Invent a deterministic Python program with a function f, and an input on which f raises one of: "
        asked = "Give a ```python block and an ```input block. Examples:"
        return style.render("\n\n".join([f"{goal}{', '.join(ERRORS)}.", FORM, asked, *examples]))

    def parse_proposal(self, reply: ParsedReply, references: Sequence[Task], rules: Rules) -> Proposal | Rejection:
        found = super().parse_proposal(reply, references, rules)
        if isinstance(found, Rejection):
            return found
        return Proposal(report_error(found.program), found.inputs, message=found.program)

    def make_task(self, proposal: Proposal, outputs: Sequence[Any], rules: Rules) -> Triplet | Rejection:
        if outputs[0] not in ERRORS:
            return Rejection("no_error", f"raised {outputs[0]}; expected one of the listed errors")
        return Triplet(self.name, proposal.message, argument_text(proposal.inputs[0]), render(outputs[0]))

    def solve_prompt(self, style: Style, task: Triplet, rules: Rules) -> str:
        goal = "On this input f raises an error. Name its type in an ```output block, as one of: "
        blocks = (fence("python", task.program), fence("input", task.input))
        return style.render("\n\n".join([f"{goal}{', '.join(ERRORS)}.", FORM, *blocks]))

    def parse_answer(self, reply: ParsedReply, task: Triplet, rules: Rules) -> Answer | Rejection:
        blocks = reply.blocks("output")
        if len(blocks) != 1:
            return Rejection(Reason.NO_ANSWER, f"{len(blocks)} output blocks, expected 1")
        return Answer(value=blocks[0])

    def judge(self, task: Triplet, answer: Answer, outcomes: Sequence[Any], rules: Rules) -> Verdict:
        right = same_error(answer.value, read_value(task.output))
        return Verdict(ok=right, well_formed=True, score=float(right), reason="" if right else Reason.WRONG)


# ---------------------------------------------------------------- SQL

COLUMNS = ("name", "price", "stock")
"""Of the one table, `items`: a text and two whole numbers."""

_QUERY = re.compile(
    r"\s*select\s+(?P<columns>\*|\w+(?:\s*,\s*\w+)*)\s+from\s+items(?:\s+where\s+(?P<where>.+?))?"
    r"(?:\s+order\s+by\s+(?P<order>\w+)(?P<down>\s+desc)?)?\s*;?\s*",
    re.IGNORECASE | re.DOTALL,
)
_TEST = re.compile(r"(?P<column>\w+)\s*(?P<sign>=|<>|<=|>=|<|>)\s*(?P<value>-?\d{1,15}|'[^'\\\n]*')", re.ASCII)
TABLE_ORDERED = re.compile(r"^    rows = sorted\(", re.MULTILINE)
"""What a compiled program holds when its query asked for an order. Literals without line breaks cannot forge it."""
_SIGNS = {"=": "==", "<>": "!="}


def compile_query(query: str) -> str:
    """A Python program that does what the query says; its docstring is the query. ValueError outside of the subset:

    ``select * | columns from items [where column sign literal [and ...]] [order by column [desc]]``

    No text of the query reaches the program: columns become numbers, signs are looked up, literals are read and
    written out again.
    """
    match = _QUERY.fullmatch(query)
    if match is None:
        raise ValueError("expected: select ... from items [where ... [and ...]] [order by ... [desc]]")
    names = COLUMNS if match["columns"] == "*" else match["columns"].split(",")
    columns = [_place(name.strip()) for name in names]
    tests = []
    for part in re.split(r"\s+and\s+", match["where"] or "", flags=re.IGNORECASE) if match["where"] else ():
        test = _TEST.fullmatch(part.strip())
        if test is None:
            raise ValueError(f"expected: column sign literal, found {part.strip()[:40]!r}")
        place, value = _place(test["column"]), test["value"]
        literal: Any = value[1:-1] if value[0] == "'" else int(value)
        if isinstance(literal, str) != (place == 0):
            raise ValueError(f"{COLUMNS[place]} cannot be compared with {value[:40]}")
        tests.append(f"row[{place}] {_SIGNS.get(test['sign'], test['sign'])} {literal!r}")
    lines = [
        "def f(items):",
        f"    {query.strip()!r}",
        f"    rows = [row for row in items if {' and '.join(tests) or 'True'}]",
    ]
    if match["order"]:
        key = f"lambda row: row[{_place(match['order'])}]"
        lines.append(f"    rows = sorted(rows, key={key}, reverse={bool(match['down'])})")
    lines.append(f"    return [({', '.join(f'row[{place}]' for place in columns)},) for row in rows]")
    return "\n".join(lines)


def _place(column: str) -> int:
    if column.lower() not in COLUMNS:
        raise ValueError(f"no column is called {column[:40]!r}; the columns are {', '.join(COLUMNS)}")
    return COLUMNS.index(column.lower())


def query_of(program: str) -> str:
    """The query that a program was made from: its docstring, which is kept word for word."""
    return str(ast.parse(program).body[0].body[0].value.value)  # type: ignore[attr-defined]


def same_rows(a: Any, b: Any, ordered: bool) -> bool:
    """Whether two lists hold the same rows, each as often; in the same order only where the query asked for one."""
    if not isinstance(a, list) or not isinstance(b, list):
        return False
    texts_a, texts_b = [canonical(row) for row in a], [canonical(row) for row in b]
    return texts_a == texts_b if ordered else sorted(texts_a) == sorted(texts_b)


class SqlTask(Deduction):
    """Given a query and a table, say which rows come out."""

    name = "sql"

    def zero_task(self) -> Triplet:
        return Triplet(self.name, compile_query("select name from items"), "[('kiwi', 3, 7)]", "[('kiwi',)]")

    def propose_prompt(self, style: Style, references: Sequence[Task], rules: Rules) -> str:
        examples = [f"{fence('sql', query_of(task.program))}\n{fence('input', task.inputs[0])}" for task in references]
        goal = (
            "Invent a query on the table items(name, price, stock), and the table: one Python list of tuples (text, "
            "integer, integer). Known are select columns or *, where with comparisons and `and`, order by one column."
        )
        asked = "Give an ```sql block and an ```input block. Examples:"
        return style.render("\n\n".join([goal, FORM, asked, *examples]))

    def parse_proposal(self, reply: ParsedReply, references: Sequence[Task], rules: Rules) -> Proposal | Rejection:
        queries, tables = reply.blocks("sql"), reply.blocks("input")
        if len(queries) != 1 or len(tables) != 1:
            return Rejection(Reason.NO_PROGRAM, f"{len(queries)} sql and {len(tables)} input blocks, expected 1 each")
        table = parse_arguments(tables[0], rules.max_value_chars)
        if isinstance(table, Rejection):
            return table
        rows = table[0] if len(table) == 1 and isinstance(table[0], list) else [None]
        if any(type(row) is not tuple or [type(cell) for cell in row] != [str, int, int] for row in rows):
            return Rejection(Reason.INPUT_NOT_LITERAL, "expected one list of tuples (text, integer, integer)")
        try:
            return Proposal(compile_query(queries[0]), (table,))
        except ValueError as error:
            return Rejection(Reason.SYNTAX_ERROR, str(error))

    def solve_prompt(self, style: Style, task: Triplet, rules: Rules) -> str:
        goal = (
            "Which rows does the query give? Write one Python list of tuples in an ```output block. The table is "
            "items(name, price, stock)."
        )
        return style.render("\n\n".join([goal, FORM, fence("sql", query_of(task.program)), fence("input", task.input)]))

    def judge(self, task: Triplet, answer: Answer, outcomes: Sequence[Any], rules: Rules) -> Verdict:
        right = same_rows(answer.value, read_value(task.output), ordered=TABLE_ORDERED.search(task.program) is not None)
        return Verdict(ok=right, well_formed=True, score=float(right), reason="" if right else Reason.WRONG)
