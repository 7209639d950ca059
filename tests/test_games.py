"""The three games as suites: published verdicts as an oracle, cheats, lenient extraction."""

import json
from pathlib import Path

import pytest

from azr_lite.evaluation.reasoning import candidates, cruxeval_suite, held_out_suite, induction_suite
from azr_lite.evaluation.suite import Question, Reply
from azr_lite.prompts import get_style
from azr_lite.triplet import Rules, Triplet
from azr_lite.verifier import Verifier

CHAT = get_style("chat")
PUBLISHED = Path(__file__).parents[2] / "shared/data/cruxeval/samples_codellama7b"


@pytest.fixture(scope="module")
def verifier(executor):
    return Verifier(executor, Rules())


def said(text, label, truncated=False):
    return Reply("", f"\nthinking\n</think>\n<answer>\n```{label}\n{text}\n```\n</answer>", 9, truncated)


def marks(suite, replies):
    """Marks of {question id: reply}."""
    questions = {q.id: q for q in suite.questions()}
    return suite.grade([(questions[name], reply) for name, reply in replies])


@pytest.mark.slow
@pytest.mark.parametrize(("game", "label"), [("deduction", "output"), ("abduction", "input")])
def test_published_verdicts_on_cruxeval_are_ours(verifier, game, label):
    """CodeLlama-7B: ten replies to each of 800 questions, graded by the benchmark's own harness."""
    if not PUBLISHED.exists():
        pytest.skip(f"{PUBLISHED} is not here; it comes with the project's workshop, not with a clone")
    replies = json.loads((PUBLISHED / f"{label}_generations.json").read_text())
    verdicts = json.loads((PUBLISHED / f"{label}_scored.json").read_text())["raw_scored_generations"]
    suite = cruxeval_suite(game, "all", CHAT, verifier)

    def arguments(text):  # the published replies are calls
        return text.strip()[2:-1] if text.strip().startswith("f(") and text.strip().endswith(")") else text

    asked = [
        (q, text, right) for q in suite.questions() for text, right in zip(replies[q.id], verdicts[q.id], strict=True)
    ]
    found = suite.grade([(q, said(arguments(text) if label == "input" else text, label)) for q, text, _ in asked])
    assert len(asked) == 8000
    assert [(q.id, text) for (q, text, right), mark in zip(asked, found, strict=True) if mark.right != right] == []
    assert 2000 < sum(mark.right for mark in found) < 4000


def test_the_two_sizes_of_cruxeval(verifier):
    strict, whole = (cruxeval_suite("deduction", scope, CHAT, verifier) for scope in ("strict", "all"))
    assert (len(strict.questions()), len(whole.questions())) == (787, 800)


def test_gold_answers_are_right_and_prompts_do_not_tell_them(verifier):
    for game, label in (("deduction", "output"), ("abduction", "input")):
        suite = cruxeval_suite(game, "strict", CHAT, verifier)
        gold = {task.id: getattr(task, label) for _, task in suite.problems}
        found = suite.grade([(q, said(gold[q.id], label)) for q in suite.questions()])
        assert all(mark.right and mark.lenient and mark.well_formed for mark in found)
    for hint in (True, False):
        suite = induction_suite(CHAT, verifier, hint=hint)
        tasks = {task.id: task for _, task in suite.problems}
        assert len(tasks) > 450
        for question in suite.questions()[:50]:
            task = tasks[question.id]
            assert task.program not in question.prompt.text
            assert task.message in question.prompt.text
            assert (task.message == "(none is given)") != hint
            assert f"```input\n{task.inputs[0]}\n```" in question.prompt.text
            assert f"```input\n{task.inputs[-1]}\n```" not in question.prompt.text


def test_reference_programs_solve_the_hidden_pairs(verifier):
    """Programs of several functions, or that use modules we do not allow, are no answers of ours; nearly all others
    are right."""
    suite = induction_suite(CHAT, verifier, hint=True)
    tasks = {task.id: task for _, task in suite.problems}
    found = suite.grade([(q, said(tasks[q.id].program, "python")) for q in suite.questions()])
    assert sum(mark.right for mark in found) / len(found) > 0.95
    assert {mark.reason for mark in found if not mark.right} <= {
        "ambiguous_entry",
        "forbidden_import",
        "no_entry",
        "timeout",
        "too_long",
    }


CHEATS = {
    "deduction": ["eval('1')", "__import__('os').getcwd()", "0 or True", "f([1, 1, 3, 1, 3, 1])", "[0][0]", ""],
    "abduction": [
        "0) or (True",
        "0 or True",
        "__import__('gc').get_objects()",
        "(f := lambda *a: 0)",
        "globals().update(f=lambda *a: 0)",
        "lambda: f.__globals__",
        "''.__class__.__mro__",
        "[x for x in ()]",
        "*(1,), *(2,)",
        "),(",
    ],
    "induction": [
        "import sys\ndef f(*a):\n    return sys._getframe(1).f_locals",
        "def f(*a):\n    class Equal:\n        def __eq__(self, other):\n            return True\n    return Equal()",
        "import gc\ndef f(*a):\n    return gc.get_objects()",
        'def f(*a):\n    print(\'{"s":"ok","v":1}\')\n    raise SystemExit(0)',
        "def f(*a):\n    return open('/proc/self/environ').read()",
        "def f(*a):\n    import builtins\n    builtins.all = lambda *_: True\n    return None",
    ],
}


@pytest.mark.parametrize("game", list(CHEATS))
def test_cheats_earn_nothing(verifier, game):
    suite = {
        "deduction": lambda: cruxeval_suite("deduction", "all", CHAT, verifier),
        "abduction": lambda: cruxeval_suite("abduction", "all", CHAT, verifier),
        "induction": lambda: induction_suite(CHAT, verifier, hint=True),
    }[game]()
    label = {"deduction": "output", "abduction": "input", "induction": "python"}[game]
    questions = suite.questions()[:15]
    asked = [(q, said(cheat, label)) for cheat in CHEATS[game] for q in questions]
    found = suite.grade(asked)
    assert [
        (q.id, reply.text) for (q, reply), mark in zip(asked, found, strict=True) if mark.right or mark.lenient
    ] == []


def test_an_expression_may_call_itself_only_where_published_numbers_want_it(verifier):
    recursive = "def f(n, up):\n    return up if n == 0 else f(n - 1, up + 1)"
    task = Triplet("abduction", recursive, "3, 4", "7", id="own")
    suite = cruxeval_suite("abduction", "all", CHAT, verifier)
    suite._tasks["own"] = task
    question = Question("own", "abduction", suite.questions()[0].prompt)
    replies = [(question, said(text, "input")) for text in ("len('abc'), 2 + 2", "3, 4", "3, 5")]
    assert [mark.right for mark in suite.grade(replies)] == [True, True, False]
    strict = cruxeval_suite("abduction", "strict", CHAT, verifier)
    strict._tasks["own"] = task
    assert [mark.right for mark in strict.grade(replies)] == [False, True, False]


def test_form_is_told_from_reasoning(verifier):
    """Right answers in every kind of wrong form: leniently right, strictly wrong."""
    suite = cruxeval_suite("deduction", "strict", CHAT, verifier)
    name, gold = next((task.id, task.output) for _, task in suite.problems)
    forms = [
        f"\nso\n</think>\n<answer>\n```output\n{gold}\n```",  # never closed
        f"```output\n{gold}\n```",
        f"It is clear.\n```python\n{gold}\n```\n",
        f"\nso\n</think>\n<answer>{gold}</answer>",
        f"I think.\nOutput: {gold}",
    ]
    found = marks(suite, [(name, Reply("", text, 5)) for text in forms])
    assert [(mark.right, mark.lenient) for mark in found] == [(False, True)] * len(forms)
    wrong = marks(suite, [(name, Reply("", "\nso\n</think>\n<answer>\n```output\n'nothing'\n```\n</answer>", 5))])[0]
    assert (wrong.right, wrong.lenient, wrong.well_formed, wrong.reason) == (False, False, True, "wrong")
    cut = marks(suite, [(name, Reply("", "\nand so on", 5, truncated=True))])[0]
    assert (cut.reason, cut.well_formed) == ("truncated", False)


def test_what_could_be_the_answer_is_looked_for_in_the_answer_first():
    text = "<think>\n```output\n1\n```\n</think>\n<answer>\n```output\n2\n```\n</answer>"
    assert candidates(text, "output")[0] == "2"
    assert candidates("the input is `f([1], 2)`", "input") == ["[1], 2"]
    assert candidates("", "python") == []


def test_held_out_questions_have_a_digest_of_their_own(verifier):
    def digest(seed):
        return held_out_suite("nano", ("deduction",), 12, seed, get_style("compact"), verifier, 192).data.sha256

    assert digest(1) == digest(1) != digest(2)


def test_the_published_manner_of_asking_is_a_protocol_of_its_own(verifier):
    for game in ("deduction", "abduction"):
        suite = cruxeval_suite(game, "strict", CHAT, verifier, "assert-direct")
        assert suite.name.endswith("-assert-direct")
        assert suite.protocol.startswith("assert-direct:")
        tasks = {task.id: task for _, task in suite.problems}
        said = {id: f"assert f({task.input}) == {task.output}" for id, task in tasks.items()}
        form = "[THOUGHT]\nso\n[/THOUGHT]\n[ANSWER]\n{}\n[/ANSWER]"
        gold = [(q, Reply("", form.format(said[q.id]), 1)) for q in suite.questions()]
        assert all(mark.right and mark.lenient for mark in suite.grade(gold))
        question = suite.questions()[0]
        loose = [f"I think that\n`{said[question.id]}`\nholds", "assert f(1) == f(1)"]
        loose = suite.grade([(question, Reply("", text, 1)) for text in loose])
        assert [(mark.right, mark.lenient) for mark in loose] == [(False, True), (False, False)]
        hidden = tasks[question.id].output if game == "deduction" else tasks[question.id].input
        assert f"== {hidden}\n" not in question.prompt.text
        assert f"f({hidden})" not in question.prompt.text
