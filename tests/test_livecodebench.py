"""LiveCodeBench's format, its window, its runner; on three small problems of our own, none of them from the
benchmark."""

import base64
import json
import pickle
import sys
import zlib

import pytest

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks.code import livecodebench_suite, private_tests
from azr_lite.evaluation.suite import Reply, Setting
from azr_lite.prompts import get_style

linux = pytest.mark.skipif(sys.platform != "linux", reason="the jail is made of Linux")


def setting(style="r1", **more):
    return Setting("", get_style(style), None, **{name: str(value) for name, value in more.items()})


def packed(tests):
    """As the benchmark publishes its private tests."""
    return base64.b64encode(zlib.compress(pickle.dumps(json.dumps(tests)))).decode()


def cases(kind, *pairs):
    return [{"input": given, "output": wanted, "testtype": kind} for given, wanted in pairs]


def row(id, date, public, private, starter="", name=None):
    return {
        "question_title": f"Problem {id}",
        "question_content": f"What is asked in {id}.",
        "platform": "own",
        "question_id": id,
        "contest_id": "own",
        "contest_date": f"{date}T00:00:00",
        "starter_code": starter,
        "difficulty": "easy",
        "public_test_cases": json.dumps(public),
        "private_test_cases": private,
        "metadata": json.dumps({"func_name": name} if name else {}),
    }


SUM = row(
    "sum",
    "2024-08-01",
    cases("stdin", ("2\n1 2\n", "3\n")),
    packed(cases("stdin", ("3\n4 5 6\n", "15\n"), ("1\n7\n", "7"))),
)
STARS = row("stars", "2025-01-31", cases("stdin", ("2", "*\n**\n")), json.dumps(cases("stdin", ("1", "*"))))
PAIRS = row(
    "pairs", "2024-12-01", cases("functional", ('[3, 1]\n"ab"', '[[1, "a"], [3, "b"]]')), packed(cases("functional", ('[]\n""', "[]"))),
    "class Solution:\n    def pairs(self, numbers: List[int], text: str) -> List:\n        ", "pairs",
)  # fmt: skip
EARLY, LATE = ({**SUM, "question_id": day, "contest_date": day} for day in ("2024-07-31", "2025-02-01"))
GOOD = {
    "sum": "import sys\nn = int(input())\nprint(sum(map(int, sys.stdin.readline().split())))",
    "stars": "if __name__ == '__main__':\n    for i in range(int(input())):\n        print('*' * (i + 1), ' ')\n    exit()",
    "pairs": "class Solution:\n    def pairs(self, numbers: List[int], text: str) -> List:\n        return list(zip(sorted(numbers), text))",
}


@pytest.fixture
def suite(tmp_path):
    path = tmp_path / "problems.jsonl"
    path.write_text("".join(json.dumps(one) + "\n" for one in (EARLY, SUM, STARS, PAIRS, LATE)))
    return livecodebench_suite("livecodebench-v5", setting(source=path))


def azr(program):
    return Reply("", f" hm </think>\n<answer>\n```python\n{program}\n```\n</answer>", 1)


def test_v5_is_a_window_of_contest_days(suite, tmp_path):
    assert [question.id for question in suite.questions()] == ["sum", "stars", "pairs"]
    assert suite.name == "livecodebench-v5-azr"
    assert "from 2024-08-01 to before 2025-02-01" in suite.protocol
    assert suite.data.describe()["rows"] == 3
    path = tmp_path / "early.jsonl"
    path.write_text(json.dumps(EARLY))
    with pytest.raises(EvaluationError, match="none of the 1 problems"):
        livecodebench_suite("livecodebench-v5", setting(source=path))


def test_prompts_hold_the_problem_and_no_private_test(suite):
    asked = {question.id: question.prompt for question in suite.questions()}
    assert "What is asked in sum." in asked["sum"].text
    assert "standard input" in asked["sum"].text
    assert "def pairs(self" in asked["pairs"].text
    assert asked["sum"].prefill == "<think>"
    assert "15" not in asked["sum"].text


@linux
def test_right_programs_pass_and_wrong_ones_fail(suite):
    questions = {question.id: question for question in suite.questions()}
    wrong = {
        "sum": [
            "print(3)",
            "n = int(input()); print(sum(map(int, input().split())) + (n == 3))",
            "raise ValueError",
            "import sys; sys.exit(3)",
            "import os; os._exit(0)",
            'import os, json\nfor fd in range(3, 20):\n    try: os.write(fd, b\'["p", "3"]\\n["p", "3"]\\n["p", "3"]\\n\')\n    except OSError: pass',
            "import socket; socket.create_connection(('127.0.0.1', 1))",
        ],
        "stars": ["for i in range(int(input())): print('*' * (i + 1), end='')", ""],
        "pairs": [
            "class Solution:\n    def pairs(self, numbers, text): return []",
            "class Yes(list):\n    def __eq__(self, other): return True\nclass Solution:\n    def pairs(self, numbers, "
            "text): return Yes()",
            "def other(): pass",
        ],
    }
    replies = [(questions[id], azr(program)) for id, program in GOOD.items()]
    replies += [(questions[id], azr(program)) for id, programs in wrong.items() for program in programs]
    marks = suite.grade(replies)
    assert [mark.right for mark in marks] == [True] * 3 + [False] * (len(marks) - 3), [mark.reason for mark in marks]
    assert not any(mark.lenient for mark in marks[3:])


@linux
def test_form_is_marked_apart(suite):
    question = suite.questions()[0]
    mark = suite.grade([(question, Reply("", f"```python\n{GOOD['sum']}\n```", 1))])[0]
    assert (mark.right, mark.lenient, mark.well_formed) == (False, True, False)


@linux
def test_a_test_that_hangs_ends(suite, monkeypatch):
    monkeypatch.setattr("azr_lite.evaluation.benchmarks.code.TEST_S", 1)
    question = suite.questions()[0]
    mark = suite.grade([(question, azr("while True: pass"))])[0]
    assert not mark.right
    assert "no answer in time" in mark.reason


class Evil:
    def __reduce__(self):
        return (open, ("/tmp/azr-pickle-ran", "w"))


def test_a_pickle_is_read_only_where_it_is_one_text(tmp_path, suite):
    def pack(value):
        return base64.b64encode(zlib.compress(pickle.dumps(value))).decode()

    assert private_tests(pack("[]")) == "[]"
    assert private_tests(" [1]") == " [1]"
    for value in (Evil(), ["[]"], 5, b"[]", print):
        with pytest.raises(ValueError, match="more than one text"):
            private_tests(pack(value))
    for text in ("no base64!", base64.b64encode(b"no zlib").decode()):
        with pytest.raises((ValueError, zlib.error), match=r".+"):
            private_tests(text)
    path = tmp_path / "evil.jsonl"
    path.write_text(json.dumps({**SUM, "private_test_cases": pack(Evil())}))
    with pytest.raises(EvaluationError, match=r"problem sum cannot be read .*will not be loaded"):
        livecodebench_suite("livecodebench-v5", setting(source=path))


def test_rows_of_another_dataset_are_refused_in_one_sentence(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text(json.dumps({"prompt": "x"}))
    with pytest.raises(EvaluationError, match="has no 'question_title'"):
        livecodebench_suite("livecodebench-v5", setting(source=path))
