r"""Mathematics: right answers are right, wrong and hedged ones are not, and nothing an answer says can hang or harm us.

The whole oracle (every row of MATH500 and GSM8K) runs here.
"""

import json
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path

import pytest

from azr_lite.errors import EvaluationError
from azr_lite.evaluation.benchmarks import jail, maths
from azr_lite.evaluation.benchmarks.jailed_maths import boxes, refusal, tidy
from azr_lite.evaluation.benchmarks.maths import compare, maths_suite
from azr_lite.evaluation.suite import Reply, Setting
from azr_lite.prompts import get_style

HERE = str(Path(__file__).resolve().parents[1])
installed = pytest.mark.skipif(
    not any(found.metadata["Name"] == "math-verify" for found in metadata.distributions()),
    reason="math-verify is not installed",
)

SIZES = {"math500": 500, "gsm8k": 1319}
EXCEPTIONS = {"math500": set(), "gsm8k": set()}
"""Ids whose right answer, boxed, is not found right. None with math-verify 0.9.0."""
EQUAL_NEIGHBOURS = {"test/algebra/1837.json"}
"""Shifted by one, ``x=5`` answers a question whose answer is 5: rightly right."""


def setting(style="r1", source=""):
    return Setting("", get_style(style), None, str(source))


def reply(answer, thought="hm", end="</answer>"):
    return Reply("", f"{thought}</think>\n<answer>{answer}{end}", 9)


@pytest.fixture(scope="module")
def suites():
    return {name: maths_suite(name, setting()) for name in ("math500", "gsm8k")}


@pytest.fixture(scope="module", params=SIZES)
def graded(request, suites):
    """A suite, the marks of its right answers, and of some (question, right answer, the next question's, its mark)."""
    suite, every = suites[request.param], {"math500": 2, "gsm8k": 5}[request.param]  # here all are plain numbers
    golds = list(suite.golds.values())
    next_ones = list(zip(suite.questions(), golds, golds[1:] + golds[:1], strict=True))[::every]
    asked = [(q, reply(f"It is $\\boxed{{{gold}}}$.")) for q, gold in zip(suite.questions(), golds, strict=True)]
    marks = suite.grade([*asked, *((q, reply(f"\\boxed{{{other}}}")) for q, _, other in next_ones)])
    shifted = [(*one, mark) for one, mark in zip(next_ones, marks[len(asked) :], strict=True)]
    return suite, marks[: len(asked)], shifted


@installed
def test_every_right_answer_is_right(graded):
    suite, marks, _ = graded
    assert len(marks) == SIZES[suite.name]
    wrong = {
        id
        for id, mark in zip(suite.golds, marks, strict=True)
        if not (mark.right and mark.lenient and mark.well_formed)
    }
    assert wrong == EXCEPTIONS[suite.name]
    assert len(wrong) <= 0.003 * len(marks)


@installed
def test_the_next_questions_answer_is_wrong(graded):
    _, _, shifted = graded
    accepted = {q.id for q, own, other, mark in shifted if mark.right and own != other}
    assert accepted <= EQUAL_NEIGHBOURS
    marks = [mark for *_, mark in shifted]
    assert {mark.reason for mark in marks if mark.reason.startswith(("error", "crashed", "timeout"))} == set()
    assert sum(mark.right for mark in marks) < 0.02 * len(marks)


RIGHT = [
    ("5", "5.0"),
    ("5", "x=5"),
    ("5", "x = \\frac{10}{2} = 5"),
    ("5", "5\\text{ apples}"),
    ("5", "$5$"),
    ("5", "\\$5"),
    ("\\frac{1}{2}", "0.5"),
    ("10{,}000", "10000"),
    ("1,2", "2, 1"),
    ("(3,4)", "3, 4"),
    ("2\\sqrt{3}", "\\sqrt{12}"),
    ("x^2-1", "(x-1)(x+1)"),
    ("x<3", "(-\\infty,3)"),
    ("\\frac{k}{2}", "0.5k"),
    ("\\sqrt{2}+1", "\\frac{1}{\\sqrt{2}-1}"),
    ("y=2x+3", "2x-y+3=0"),
    ("2+3i", "3i+2"),
    ("\\begin{pmatrix}1\\\\2\\end{pmatrix}", "\\begin{pmatrix}1.0\\\\2\\end{pmatrix}"),
    ("\\text{Evelyn}", "Evelyn"),
    ("\\cot x", "\\frac{\\cos x}{\\sin x}"),
    ("1, -1", "\\pm 1"),
    ("\\pm 1", "1 \\text{ or } -1"),
    ("5, 6", "5 \\text{ and } 6"),
    ("10800", "10\\,800"),
    ("10{,}800", "10\\ 800"),
    ("1000000.5", "1\\;000\\;000.5"),
    ("-3", "-3^\\circ C"),
    ("-3^\\circ", "-3 ^{\\circ} F"),
    ("-3^\\circ\\text{C}", "-3°C"),
]


WRONG = [
    # (right answer, proposed answer); math-verify 0.9.0 by itself accepts those marked * (asked on 21 November 2026)
    ("5", ""),
    ("5", "{}"),
    ("5", " \\; "),
    ("5", "6"),
    ("5", "-5"),
    ("5", "5 \\text{ or } 6"),
    ("5", "\\text{5 or anything}"),
    ("5", "5 \\lor 6"),
    ("5", "5 \\text{ but also } 6"),
    ("5", "6 \\vee 5"),
    ("5", "\\text{maybe } 5"),
    ("5", "5?"),
    ("5", "5..."),
    ("5", "5, 6"),
    ("5", "5;6"),
    ("5", "\\pm 5"),
    ("5", "\\{4,5,6\\}"),
    ("5", "[0,10]"),
    ("5", "(-\\infty,\\infty)"),
    ("5", "\\mathbb{R}"),
    ("5", "\\mathbb{Z}"),
    ("5", "x"),
    ("5", "x \\in \\mathbb{R}"),
    ("5", "x \\geq 5"),
    ("5", "0<x<10"),
    ("5", "x=x"),
    ("5", "x=5, x=6"),
    ("5", "4=5"),  # *
    ("5", "a=6=5"),  # *
    ("5", "5+0x"),  # *
    ("5", "5x^0"),  # *
    ("5", "5\\ldots"),  # *
    ("5", "5 6"),
    ("5", "5\\,006"),
    ("12", "1\\,2"),
    ("5", "-5^\\circ C"),
    ("5", "5 $ 6 $"),
    ("5", "\\boxed{5} \\boxed{6}"),
    ("5", "\\begin{cases}5\\\\6\\end{cases}"),
    ("5", "\\frac{0}{0}"),
    ("5", "\\infty"),
    ("5", "\\emptyset"),
    ("5", "\\max(5,3)"),  # *
    ("5", "|-5|"),  # *
    ("10", "1+2+3+4"),  # *
    ("55", "\\sum_{i=1}^{10} i"),  # *
    ("0.5", "\\int_0^1 x\\,dx"),  # *
    ("0", "\\lim_{x\\to\\infty} \\frac1x"),  # *
    ("70", "\\binom{8}{4}"),  # *
    ("24", "4!"),  # *
    ("6", "\\gcd(12,18)"),  # *
    ("3", "\\log_2 8"),  # *
    ("\\frac12", "\\sin 30^\\circ"),
    ("3", "\\lfloor 3.7 \\rfloor"),  # *
    ("(3,4)", "4, 3"),
    ("(3,4)", "(4,3)"),
    ("1,2", "1,2,3"),
    ("y=2x+3", "0=0"),
    ("y=2x+3", "y=y"),
    ("\\frac13", "0.33"),
    ("x<3", "x<4"),
    ("\\text{A}", "\\text{A}, \\text{B}"),
    ("\\text{A}", "\\text{A or B}"),
    ("5", "0) or (True"),
    ("5", "eval(gold)"),
    ("5", "__import__('os').system('touch /tmp/azr_maths_probe')"),
    ("5", "\\text{__import__('os').getpid()}"),
    ("5", "\\operatorname{__import__}(os)"),
    ("5", "lambda: 5"),
    ("5", "gold"),
    ("5", "5" + " " * 10 + "+0" * 300),  # *
]


@installed
def test_other_spellings_are_right_and_wrong_or_hedged_answers_are_wrong():
    found = compare([(tidy(gold), tidy(answer)) for gold, answer in (*RIGHT, *WRONG)], workers=1, deadline=20)
    assert [pair for pair, one in zip(RIGHT, found[: len(RIGHT)], strict=True) if one != (True, "")] == []
    verdicts = found[len(RIGHT) :]
    assert [pair for pair, (right, _) in zip(WRONG, verdicts, strict=True) if right] == []
    assert not Path("/tmp/azr_maths_probe").exists()


@installed
def test_what_hangs_is_killed_and_the_rest_is_graded():
    hanging = ["9**9**9**9", "9^{9^{9^{9}}}", "1" + "0" * 400 + "^{9^{9}}", "{" * 300 + "5" + "}" * 300]
    # a right answer big enough to make an equal power worth working out
    big = [("3^{7^{77}}", "9^{7^{77}}"), ("(x+y+z)^{60}-w", "(z+y+x)^{30}(x+y+z)^{30}-w+w^2"), ("7", "7")]
    pairs = [("2", "x^{9999999}-x^{9999999}+(x+1)^{99999}"), ("2", "2"), *(("2", text) for text in hanging), *big]
    start = time.monotonic()
    found = compare(pairs, workers=1, deadline=1.5)
    assert time.monotonic() - start < 60
    verdicts, slow = found[: -len(big)], found[-len(big) :]
    assert [right for right, _ in verdicts] == [False, True, *[False] * len(hanging)]
    assert [right for right, _ in slow] == [False, False, True]
    assert "timeout" in {reason for _, reason in found}


@installed
def test_strict_and_lenient(suites):
    suite = suites["gsm8k"]
    question = suite.questions()[0]
    assert suite.golds[question.id] == "18"
    cases = {
        "good": (reply("\\boxed{18}"), (True, True, True, "")),
        "box outside the answer": (reply("18", thought="\\boxed{18}"), (False, True, False, "no_box")),
        "no tags": (Reply("", "It is \\boxed{18}.", 5), (False, True, False, "not_well_formed")),
        "last number": (
            Reply("", "So she makes 9 * 2, that is 18 dollars.", 5),
            (False, True, False, "not_well_formed"),
        ),
        "last box wins": (Reply("", "\\boxed{18} no, \\boxed{17}", 5), (False, False, False, "not_well_formed")),
        "thoughts may change": (reply("\\boxed{18}", thought="\\boxed{17}?"), (True, True, True, "")),
        "two boxes": (reply("\\boxed{17} \\boxed{18}"), (False, False, True, "several_boxes")),
        "two boxes, right first": (reply("\\boxed{18}, \\boxed{17}"), (False, False, True, "several_boxes")),
        "twice the same": (reply("\\boxed{18} = \\boxed{18}"), (True, True, True, "")),
        "afterthought": (Reply("", "</think><answer>\\boxed{18}</answer> or \\boxed{17}", 5), (True, True, True, "")),
        "empty box": (reply("\\boxed{}"), (False, False, True, "unreadable")),
        "empty": (Reply("", "", 0), (False, False, False, "not_well_formed")),
        "cut": (Reply("", "I think it could be", 5, truncated=True), (False, False, False, "truncated")),
        "hedge": (reply("\\boxed{18 \\text{ or } 17}"), (False, False, True, "wrong")),
    }
    marks = suite.grade([(question, given) for given, _ in cases.values()])
    found = {name: (m.right, m.lenient, m.well_formed, m.reason) for name, m in zip(cases, marks, strict=True)}
    assert found == {name: wanted for name, (_, wanted) in cases.items()}


@installed
def test_questions_of_the_shipped_suites(suites):
    for name, suite in suites.items():
        questions = suite.questions()
        assert len({question.id for question in questions}) == len(questions) == SIZES[name]
        assert {question.group for question in questions} == {name}
        assert suite.data.sha256
        prompt = questions[0].prompt
        assert (prompt.prefill, prompt.chat) == ("<think>", False)
        assert suite.data.rows[0]["problem" if name == "math500" else "question"].strip() in prompt.text
    assert suites["math500"].questions()[0].stratum == "level 2"


@installed
@pytest.mark.parametrize(
    "row",
    [
        {"problem": "What?", "answer": "33"},
        {"question": "What?", "final_answer": ["$33$"]},
        {"Problem": "What?", "Answer": 33},
        {"problem": "What?", "answer": 33.0},
        {"problem": "What?", "solution": "Clearly \\boxed{17}, no, $\\boxed{33}$."},
    ],
)
def test_usual_columns_are_read(tmp_path, row):
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row | {"id": number}) + "\n" for number in range(2)))
    suite = maths_suite("aime24", setting("chat", source=file))
    assert list(suite.golds.values()) == ["33", "33"]
    assert (suite.samples, suite.name, suite.questions()[0].group) == (1, "aime24", "aime24")


@installed
@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ([{"answer": "1"}], "row 0 of amc23 has no problem; expected one of"),
        ([{"problem": "What?"}], "row 0 of amc23 has no right answer; expected one of"),
        ([{"problem": "a", "answer": "1", "id": 3}] * 2, "more than one question with the id 3"),
    ],
)
def test_wrong_files_are_refused_in_words(tmp_path, rows, words):
    file = tmp_path / "own.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    with pytest.raises(EvaluationError, match=words):
        maths_suite("amc23", setting("r1", source=file))


def test_missing_math_verify_is_one_sentence(monkeypatch):
    def missing(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    for attempt in (lambda: maths_suite("gsm8k", setting()), lambda: compare([("1", "1")])):
        with pytest.raises(EvaluationError, match=r"needs the package math-verify.*pip install 'azr-lite\[eval\]'$"):
            attempt()
    monkeypatch.setattr(metadata, "version", lambda name: "0.8.0")
    with pytest.raises(EvaluationError, match=r"math-verify 0\.8\.0 is installed"):
        compare([("1", "1")])


@installed
def test_a_process_that_cannot_start(monkeypatch, tmp_path):
    (tmp_path / "script.py").write_text("raise ImportError('no sympy')")
    monkeypatch.setattr(maths, "SCRIPT", tmp_path / "script.py")
    with pytest.raises(EvaluationError, match=r"did not start or finish .*no sympy"):
        compare([("1", "1")], workers=1)


@installed
def test_a_crash_is_tried_once_more_and_costs_its_own_answer_only(monkeypatch, tmp_path):
    """The worker dies at every 8 and, the first time, at 9."""
    text = maths.SCRIPT.read_text().replace(
        "    if reason := refusal", "    die = answer == '8' or (answer == '9' and not os.path.exists('died'))\n"
        "    if die:\n        os.close(os.open('died', os.O_CREAT))\n        os.kill(os.getpid(), 9)\n    if reason := refusal"
    )  # fmt: skip
    (tmp_path / "jailed_maths.py").write_text(text)
    monkeypatch.setattr(maths, "SCRIPT", tmp_path / "jailed_maths.py")
    found = compare([("9", "9"), ("9", "8"), ("7", "7")], workers=1)
    assert found == [(True, ""), (False, "crashed"), (True, "")]


PROBES = """
import os, socket, sys
import jailed_maths as w
w.disarm()
def refused(attempt):
    try:
        attempt()
    except Exception as error:
        return type(error).__name__
    return "DONE"
import sympy
kernel = {{
    "write": refused(lambda: open({file!r}, "w")),
    "connect": refused(lambda: socket.create_connection(("127.0.0.1", {port}), timeout=2)),
    "run": refused(lambda: os.execv("/bin/true", ["true"])) ,
    "memory": refused(lambda: bytearray(3 << 30)),
}}
text = {{
    "sympify": refused(lambda: sympy.sympify("__import__('os').getpid()")),
    "S": refused(lambda: sympy.S("1+1")),
    "Number": refused(lambda: sympy.Number("12.5")),
    "parse_expr": refused(lambda: sympy.parsing.sympy_parser.parse_expr("1+1")),
}}
hook = {{
    "eval": refused(lambda: eval("1+1")),
    "exec": refused(lambda: exec("x=1")),
    "lambdify": refused(lambda: sympy.lambdify(sympy.Symbol("x"), sympy.Symbol("x"))),
}}
import json
print(json.dumps([kernel, text, hook]))
"""


@installed
def test_the_worker_cannot_write_connect_or_run_text(tmp_path):
    import socket
    import tempfile

    with socket.socket() as server, tempfile.TemporaryFile() as out:
        server.bind(("127.0.0.1", 0))
        server.listen()
        code = PROBES.format(file=str(tmp_path / "out"), port=server.getsockname()[1])
        (tmp_path / "probes.py").write_text(code)
        ended = jail.run_script(
            tmp_path / "probes.py", [maths.SCRIPT], {}, out, seconds=60, packages=maths.PACKAGES, memory_mb=2048
        )
        out.seek(0)
        said = out.read()
    assert ended.code == 0, ended.errors
    kernel, text, hook = json.loads(said)
    assert "DONE" not in kernel.values()
    assert text == {name: "DONE" if name == "Number" else "PermissionError" for name in text}
    assert set(hook.values()) == {"PermissionError"}
    assert not (tmp_path / "out").exists()


def test_the_suites_load_no_library_that_only_grading_needs():
    names = "torch transformers datasets evalplus sympy math_verify"
    code = f"import azr_lite.evaluation.benchmarks, sys; print(set({names!r}.split()) & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=HERE, check=True)
    assert done.stdout.strip() == "set()"


def test_boxes_are_found():
    assert boxes("a \\boxed{1} b \\boxed{\\frac{1}{2}} \\fbox{x}") == ["1", "\\frac{1}{2}", "x"]
    assert boxes("\\boxed{\\boxed{5}}") == ["\\boxed{5}"]
    assert boxes("\\boxed{5") == []
    assert boxes("\\boxed{ \\{1,2\\} }") == ["\\{1,2\\}"]
    assert boxes("\\boxed{ never closed \\boxed{3}") == ["3"]
    start = time.monotonic()
    assert boxes("\\boxed{" * 5_000) == []
    assert time.monotonic() - start < 10


@pytest.mark.parametrize(
    ("gold", "answer", "reason"),
    [
        ("5", "", "unreadable"),
        ("5", "9" * 501, "unreadable"),
        ("5", "\\boxed{5}", "unreadable"),
        ("5", "5 $ 6", "unreadable"),
        ("5", "5\\ldots", "undone"),
        ("5", "4!+1", "undone"),
        ("5!", "5!", ""),
        ("\\text{or}", "or", ""),
        ("Dorothy", "Dorothy", ""),
        ("1,234,567", "1{,}234{,}567", ""),
    ],
)
def test_refusals(gold, answer, reason):
    assert refusal(gold, answer) == reason


@installed
def test_verdicts_do_not_depend_on_order_or_workers(graded):
    suite, _, shifted = graded
    pairs = [pair for _, own, other, _ in shifted[:20] for pair in ((own, own), (own, other))]
    known = [right for *_, mark in shifted[:20] for right in (True, mark.right)]
    assert [right for right, _ in compare(pairs[::-1], workers=1)] == known[::-1]
    assert suite.grade([]) == []
