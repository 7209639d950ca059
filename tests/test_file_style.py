"""The styles `file` and `file-working`: what is read in a reply, where it ends, and that no text hurts."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azr_lite.config import Config
from azr_lite.parsing import parse_program
from azr_lite.prompts import get_style
from azr_lite.prompts.file import FileStyle, outline
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks import get_task_type
from azr_lite.triplet import Completion, InductionTask, Reason, Rejection, Role, Rules, Triplet
from tests.adversarial import NOISE, PROGRAMS, VALUES, Adversary

FILE, WORKING = get_style("file"), get_style("file-working")
RULES = Rules(induction_inputs=3, induction_shown=2)
PROGRAM = "def f(x, n=2):\n    return [x] * n"
TASKS = {
    "deduction": Triplet("deduction", PROGRAM, "'a) == f(', 1", "['a) == f(']"),
    "abduction": Triplet("abduction", PROGRAM, "'a) == f(', 1", "['a) == f(']"),
    "induction": InductionTask("induction", PROGRAM, ("1", "2", "'a'"), ("[1, 1]", "[2, 2]", "['a', 'a']"), "says", 2),
}


def asked(style, role: Role, kind: str) -> str:
    task_type = get_task_type(kind)
    if role == Role.PROPOSE:
        return task_type.propose_prompt(style.vary(random.Random(3)), [TASKS["deduction"]], RULES)
    return task_type.solve_prompt(style, TASKS[kind], RULES)


ALL = [(style, role, kind) for style in (FILE, WORKING) for role in Role for kind in TASKS]
PAIR, INPUTS = (asked(FILE, Role.PROPOSE, kind) for kind in ("deduction", "induction"))


def blocks(style, role, kind, text):
    found = style.read(role, asked(style, role, kind), text, RULES)
    return found.reason if isinstance(found, Rejection) else dict(found.fences)


def end(style, role, kind, text) -> int | None:
    """The number of characters after which the reply is over."""
    prompt = asked(style, role, kind)
    return next((n for n in range(len(text) + 1) if style.ended(role, prompt, text[:n])), None)


@pytest.mark.parametrize(("style", "role", "kind"), ALL)
def test_every_prompt_is_the_beginning_of_a_file(style, role, kind):
    prompt = asked(style, role, kind)
    assert style.ended(role, prompt, "") is False
    for tag in ("<think>", "```", "<answer>"):
        assert tag not in prompt
    for other in Role:
        if other != role:  # a solver's prompt is never read as a proposer's, or the other way round, but for def f(
            assert (style.ended(other, prompt, "") is None) or prompt.endswith("\ndef f(")


def test_hints_vary_and_nothing_else():
    prompts = {get_task_type("deduction").propose_prompt(FILE.vary(random.Random(n)), [], RULES) for n in range(20)}
    assert len(prompts) > 15
    assert len({prompt.partition("# f takes")[0] for prompt in prompts}) == 1
    assert FILE.vary(random.Random(1)).words["propose/deduction"](references=[], rules=RULES) == FILE.vary(
        random.Random(1)
    ).words["propose/deduction"](references=[], rules=RULES)
    compact, rng = get_style("compact"), random.Random(1)
    assert compact.vary(rng) is compact
    assert rng.random() == random.Random(1).random()


# ---------------------------------------------------------------- what is read

BODY = "x):\n    return '# a'\n\n\ndef g():\n    pass\n"
WANTED = {"python": "def f(" + BODY, "input": "(1), [2]"}


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (BODY + "assert f((1), [2]) == 2\nprint(f(3))", WANTED),
        (BODY + "assert  f ((1), [2])\t==", WANTED),
        (BODY.replace("'# a'", "'# a'\n# Test\n") + "assert f((1), [2]) == 2", {**WANTED, "python": "def f(" + BODY.replace("\n\n\n", "\n\n\n\n\n", 1)}),
        (BODY + "assert f('\"\"\"#)', [\n 1]) ==", {**WANTED, "input": "'\"\"\"#)', [\n 1]"}),
        (BODY + "assert f(3)", Reason.NOT_WELL_FORMED),
        (BODY + "assert f(3) is True", Reason.NOT_WELL_FORMED),
        (BODY + "assert f(3) + 1 == 4", Reason.NOT_WELL_FORMED),
        (BODY + "assert g(3) == 4", Reason.NOT_WELL_FORMED),
        (BODY + "assert not f(3) == 4", Reason.NOT_WELL_FORMED),
        (BODY + "print(f(3))\nassert f(3) == 4", Reason.NOT_WELL_FORMED),
        (BODY + "def f(y):\n    return y\nassert f(3) == 4", Reason.NOT_WELL_FORMED),
        (BODY + "    assert f(3) == 4", Reason.NOT_WELL_FORMED),
        ("x):\n    '''\n    assert f(1) == 1\n    '''\n    return x\nassert f(2) ==", {"python": "def f(x):\n    '''\n    assert f(1) == 1\n    '''\n    return x\n", "input": "2"}),
        ("x):\n    '''\nassert f(1) == 1\n    '''\n    return x\nassert f(2) ==", Reason.MARKUP),
        ("x):\n    s = ['''\n# f takes an int'''\n    ]\n    return x\nassert f(2) ==", Reason.MARKUP),
        ("x):\n    return 'abc\nassert f(2) == 3", Reason.NOT_WELL_FORMED),
        ("x):\n    return [x\nassert f(2) == 3", Reason.NOT_WELL_FORMED),
        ("x):\n    return x]\nassert f(2) == 3", Reason.NOT_WELL_FORMED),
        ("", Reason.NOT_WELL_FORMED),
    ],
)  # fmt: skip
def test_a_proposal_is_a_program_and_its_first_test(text, found):
    assert blocks(FILE, Role.PROPOSE, "deduction", text) == found
    assert blocks(WORKING, Role.PROPOSE, "abduction", text.replace("\n", "\r\n")) == found


def test_the_program_of_a_proposal_keeps_its_own_comments_and_loses_those_of_the_file():
    text = "x):  # doubles\n    # so\n    return (x +\n# in brackets\n        x)\n# Example: f takes an int\nassert f(2) =="
    program = blocks(FILE, Role.PROPOSE, "deduction", text)["python"]
    assert program == "def f(x):  # doubles\n    # so\n    return (x +\n# in brackets\n        x)\n\n"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (" 3\nassert f(4) == 5", " 3"),
        (" 3", " 3"),
        (" [1, '#,'], 'it is so'\n", " [1, '#,']"),
        (" 'a' # because\n", " 'a' "),
        (" [1,\n  2]\nassert", " [1,\n  2]"),
        (" [1,\n]", " [1,\n]"),
        (" '''a\nb'''\n", " '''a\nb'''"),
        (" 3 == 3\n", " 3 == 3"),  # which is no literal
        (" 3 and True\n", " 3 and True"),
        ("\n3", Reason.NOT_WELL_FORMED),
        (" # 3\n", Reason.NOT_WELL_FORMED),
        (" [1, 2", Reason.NOT_WELL_FORMED),
        (" [1,\n2]", Reason.NOT_WELL_FORMED),
        (" 'abc\n", Reason.NOT_WELL_FORMED),
        (" '''abc", Reason.NOT_WELL_FORMED),
        (" 3]\n", Reason.NOT_WELL_FORMED),
        ("", Reason.NOT_WELL_FORMED),
    ],
)
def test_a_deduction_is_the_literal_up_to_the_end_of_the_line(text, value):
    found = value if isinstance(value, Reason) else {"output": value}
    assert blocks(FILE, Role.SOLVE, "deduction", text) == found
    worked = f" x is 'a', so:\n# it is\n\nassert f({TASKS['deduction'].input}) =={text}"
    assert blocks(WORKING, Role.SOLVE, "deduction", worked) == found


@pytest.mark.parametrize("text", [" 3 == 3", " 3 and True", " 3; x", " x", " 1 + 1"])
def test_what_is_more_than_a_literal_is_refused(text):
    reply = FILE.read(Role.SOLVE, asked(FILE, Role.SOLVE, "deduction"), text, RULES)
    assert get_task_type("deduction").parse_answer(reply, TASKS["deduction"], RULES).reason == Reason.ANSWER_NOT_LITERAL


@pytest.mark.parametrize(
    ("text", "given"),
    [
        ("'a', 3)", "'a', 3"),
        ("'a)', [\n  (3)]) and more", "'a)', [\n  (3)]"),
        (")", ""),
        ("'a', 3", Reason.NOT_WELL_FORMED),
        ("'a', 3\nassert f(1)", Reason.NOT_WELL_FORMED),
        ("'a\n')", Reason.NOT_WELL_FORMED),
    ],
)
def test_an_abduction_is_what_stands_in_the_brackets_of_the_call(text, given):
    found = given if isinstance(given, Reason) else {"input": given}
    assert blocks(FILE, Role.SOLVE, "abduction", f"({text}") == found
    worked = f" it is doubled\nassert {TASKS['abduction'].output} == f({text}"
    assert blocks(WORKING, Role.SOLVE, "abduction", worked) == found


def test_an_induction_is_one_function_with_nothing_beside_it():
    function = "x):\n    def g(y):\n        return y\n    return g(\n        x\n    )\n"
    for more in ("", "\ndef g(): pass", "# that is it", "@cache", "assert f(1) == 1", "'''"):
        assert blocks(FILE, Role.SOLVE, "induction", function + more)["python"].rstrip() == "def f(" + function.rstrip()
        if more:
            assert end(FILE, Role.SOLVE, "induction", function + more) == len(function) + (more[0] == "\n") + 1
        worked = f" says\n# so\ndef f({function}{more}"
        assert blocks(WORKING, Role.SOLVE, "induction", worked)["python"].rstrip() == "def f(" + function.rstrip()


@pytest.mark.parametrize("line", ["assert f(2) ==", "print(f(2)) ==", "assert f('a) == f(', 1) is", "def f("])
def test_working_must_lead_to_the_line_that_was_asked_for(line):
    assert blocks(WORKING, Role.SOLVE, "deduction", f" so\n{line} 3\n") == Reason.NOT_WELL_FORMED
    assert end(WORKING, Role.SOLVE, "deduction", f" so\n{line} 3\n") is not None


def test_working_is_kept_as_the_thought():
    prompt, text = asked(WORKING, Role.SOLVE, "induction"), " twice\n# and so on\ndef f(x):\n    return x"
    assert WORKING.read(Role.SOLVE, prompt, text, RULES).thought == " twice\n# and so on"


def test_an_induction_proposal_is_a_message_and_as_many_inputs_as_asked():
    text = " Says 'it' twice.\nassert f(1) == [1,\n 1]\nassert f('a)') == 2\n\nassert f([3], 1) == 4\nassert"
    prompt = asked(FILE, Role.PROPOSE, "induction")
    reply = FILE.read(Role.PROPOSE, prompt, text, RULES)
    assert reply.fences == (("message", " Says 'it' twice."), ("input", "1"), ("input", "'a)'"), ("input", "[3], 1"))
    assert end(FILE, Role.PROPOSE, "induction", text) == text.index(" 4\n")
    found = get_task_type("induction").parse_proposal(reply, [TASKS["deduction"]], RULES)
    assert found.inputs == ((1,), ("a)",), ([3], 1))
    few = FILE.read(Role.PROPOSE, prompt, text.replace("assert f([3]", "f([3]"), RULES)
    assert get_task_type("induction").parse_proposal(few, [TASKS["deduction"]], RULES).reason == Reason.TOO_FEW_INPUTS
    for tail in ("\nprint(f(1))", "\nassert g(1) == 2", "\nassert f(1)\n", "\nassert f('a\n", "\n# more"):
        assert end(FILE, Role.PROPOSE, "induction", "message" + tail) is not None
    assert end(FILE, Role.PROPOSE, "induction", "message\nassert f(1) == 2\n") is None


# ---------------------------------------------------------------- where it ends


@pytest.mark.parametrize(
    ("role", "kind", "text", "rest"),
    [
        (Role.PROPOSE, "deduction", BODY + "assert f(1) ==", " 2"),
        (Role.PROPOSE, "deduction", BODY + "p", "rint"),
        (Role.PROPOSE, "deduction", BODY + "def f(", "x)"),
        (Role.PROPOSE, "deduction", BODY + "assert f2", "(1)"),
        (Role.PROPOSE, "deduction", BODY + "assert f(1) i", "s 2"),
        (Role.SOLVE, "deduction", " [1,\n 2] # a\n", "\n"),
        (Role.SOLVE, "abduction", "('a', (1))", " "),
        (Role.SOLVE, "abduction", ".", "g()"),
        (Role.SOLVE, "induction", "x):\n    return x\n\nd", "ef"),
    ],
)
def test_a_reply_is_over_as_soon_as_more_could_change_nothing(role, kind, text, rest):
    assert end(FILE, role, kind, text + rest) == len(text)


FRAGMENTS = [
    *PROGRAMS, *VALUES, *NOISE, "\nassert f(", ") == ", "\ndef f(", "\ndef ", "#", "\n", " ", "'", '"', "'''", '"""', "\\", "\r", "\r\n", "[", ")",
    "(", "\nclass", "x):\n    return x", "assert f('a) == f(', 1) ==", "\n# ", "\nimport math", ",",
]  # fmt: skip
TEXTS = st.one_of(
    st.text(max_size=40),
    st.lists(st.sampled_from(FRAGMENTS), max_size=12).map("".join).map(lambda text: text[:600]),
    st.text(alphabet="asertf()[]=d \n#'\"\\x:1,\r", max_size=60),
)


@settings(max_examples=150, deadline=None)
@given(TEXTS, TEXTS)
@pytest.mark.parametrize(("style", "role", "kind"), ALL)
def test_no_text_hurts_and_what_has_ended_does_not_change(style, role, kind, text, more):
    prompt, task_type = asked(style, role, kind), get_task_type(kind)
    parser = task_type.parse_answer if role == Role.SOLVE else task_type.parse_proposal
    about = TASKS[kind] if role == Role.SOLVE else [TASKS["deduction"]]

    def verdict(text: str):
        reply = style.read(role, prompt, text, RULES)
        return repr(reply.reason if isinstance(reply, Rejection) else parser(reply, about, RULES))

    assert len(outline(text).lines) <= len(text)
    if style.ended(role, prompt, text):
        assert style.ended(role, prompt, text + more)
        assert verdict(text) == verdict(text + more)
    else:
        verdict(text)


@settings(max_examples=100, deadline=None)
@given(TEXTS)
def test_a_proposed_program_forges_no_line_of_a_file(text):
    """What begins in column 0 of a program quoted in a prompt is its own: no test, and no comment outside brackets."""
    reply = FILE.read(Role.PROPOSE, PAIR, "x):\n    return x\n" + text + "\nassert f(1) ==", RULES)
    if not isinstance(reply, Rejection) and not isinstance(
        program := parse_program(reply.block("python", ""), 4096), Rejection
    ):
        assert not [line for line in outline(program).lines.split("\n") if line.startswith(("assert", "#"))]
        assert "\nassert" not in program


def test_a_cut_reply_counts_only_where_it_had_ended():
    prompt, cut = asked(FILE, Role.SOLVE, "deduction"), "cut after 1 tokens"
    assert FILE.read_sampled(Role.SOLVE, prompt, " 12", RULES, cut=cut).reason == Reason.TRUNCATED
    assert FILE.read_sampled(Role.SOLVE, prompt, " 12\n", RULES, cut=cut).block("output", Reason.NO_ANSWER) == " 12"
    assert FILE.read_sampled(Role.SOLVE, prompt, " 12", RULES).block("output", Reason.NO_ANSWER) == " 12"


def test_a_task_type_without_a_file_is_asked_and_read_as_in_r1():
    prompt = FILE.render("What is 1 + 1? Give an ```output block.")
    assert prompt == get_style("r1").render("What is 1 + 1? Give an ```output block.")
    assert FILE.ended(Role.SOLVE, prompt, "anything") is None
    reply = FILE.read(Role.SOLVE, prompt, "a</think><answer>```output\n2\n```</answer>", RULES)
    assert reply.block("output", Reason.NO_ANSWER) == "2"


# ---------------------------------------------------------------- whole steps

CONFIG = Config(
    batch_size=4, n_mc=2, references=1, induction_inputs=3, induction_shown=2, micro_batch_size=1, seed_batch_factor=1
)


def scripted(prompts, role):
    """A policy that proposes n * 3, and knows it and the identity."""
    inputs = " as it is\nassert f(1) == 3\nassert f(2) == 6\nassert f('a') == 9\n"
    program = "n):\n    return n * 3\nassert f(5) == 15"
    of_line = {
        Role.PROPOSE: lambda line: program if line == "def f(" else inputs,
        Role.SOLVE: lambda line: (
            "n):\n    return n\n" if line == "def f(" else " 15\n" if line.endswith("==") else "(5)"
        ),
    }
    return [Completion(prompt, (1,), (1,), of_line[role](prompt.rpartition("\n")[2])) for prompt in prompts]


def test_a_step_of_self_play(executor):
    play = SelfPlay(CONFIG, FILE, executor)
    rollouts = play.step(scripted, 0)
    assert {rollout.group for rollout in rollouts} == {f"{role}/{kind}" for role in Role for kind in TASKS}
    assert all(rollout.verdict.ok for rollout in rollouts)
    assert {task["task"]["program"] for task in play.record.tasks if task["type"] == "deduction"} == {
        "def f(n):\n    return n * 3"
    }


@pytest.mark.parametrize("style", [FILE, WORKING], ids=lambda style: style.name)
def test_an_adversary_ends_no_step(style, executor):
    play, adversary = SelfPlay(CONFIG, style, executor), Adversary(3)
    for step in range(2):
        rollouts = play.step(adversary, step)
        assert Reason.INTERNAL not in {rollout.verdict.reason for rollout in rollouts}


# ---------------------------------------------------------------- sampling


@pytest.fixture
def trainer_of(tmp_path, executor):
    """A trainer of a tiny random model, with a sampler that replies to a prompt's text with another, if given."""
    pytest.importorskip("trl")
    from azr_lite.train.trainer import SelfPlayTrainer
    from tests.tiny import tiny_config, tiny_policy

    def made(style, reply=None, **changes):
        settings = tiny_config(task_types=("deduction",), **changes)
        policy = tiny_policy()

        def sampler(prompt_ids, *, greedy, seed, ended):
            asked = [policy.tokenizer.decode(ids) for ids in prompt_ids]
            ids = [policy.tokenizer(reply(prompt))["input_ids"] for prompt in asked]
            return [(own, [-1.0 * place for place in range(len(own))], True) for own in ids]

        play = SelfPlay(settings, style, executor)
        return SelfPlayTrainer(settings, policy, style, play, tmp_path, sampler=reply and sampler)

    return made


def test_whoever_samples_a_reply_is_cut_where_it_ends(trainer_of):
    proposal = BODY + "assert f(3) == 4\n"
    trainer = trainer_of(FILE, lambda prompt: proposal if prompt.endswith("def f(") else " 12\n\nassert f(3) == 4\n")
    (reply,) = trainer.generate([asked(FILE, Role.SOLVE, "deduction")], Role.SOLVE)
    assert (reply.text, len(reply.ids), reply.truncated) == (" 12\n", 4, False)
    assert reply.logps == (0.0, -1.0, -2.0, -3.0)
    (reply,) = trainer.generate([PAIR], Role.PROPOSE)
    assert (reply.text, reply.truncated) == (BODY + "assert f(3) ==", False)
    (reply,) = trainer.generate([FILE.render("no file")], Role.SOLVE)
    assert (reply.text, reply.truncated) == (" 12\n\nassert f(3) == 4\n", True)


def test_an_end_token_behind_the_end_is_cut_too_and_one_before_it_stays(trainer_of):
    trainer, prompt = trainer_of(FILE), asked(FILE, Role.SOLVE, "deduction")
    rule = trainer.codec.ended(Role.SOLVE, prompt)
    end, line, digit = trainer.codec.tokenizer.convert_tokens_to_ids(["</s>", "\n", "7"])
    assert trainer.codec.trim([digit, line, end], rule) == 2
    assert trainer.codec.trim([digit, end], rule) is None
    assert trainer.codec.completion(prompt, [1], ([digit, end], None, False), rule).ids == (digit, end)


def test_generation_stops_where_all_replies_have_ended(trainer_of, monkeypatch):
    trainer = trainer_of(FILE, max_reply_tokens=60)
    asked_for = []
    monkeypatch.setattr(FileStyle, "ended", lambda self, role, prompt, text: asked_for.append(text) or len(text) >= 5)
    replies = trainer.generate([asked(FILE, Role.SOLVE, "deduction")] * 6, Role.SOLVE)
    assert max(len(reply.text) for reply in replies) >= 5
    assert all(len(trainer.codec.text(reply.ids[:-1])) < 5 for reply in replies)
    assert max(map(len, asked_for)) < 30, "rows are sampled on, though they have ended"


def test_a_run_takes_the_style_in_which_most_proposals_are_valid(trainer_of):
    from azr_lite.train.diagnostics import choose_prompts

    def replies(prompt):
        return "n):\n    return n * 3\nassert f(5) ==" if prompt.endswith("def f(") else "I know no tags"

    trainer, r1 = trainer_of(get_style("r1"), replies), get_style("r1")
    found = choose_prompts(trainer, [r1, FILE])
    assert found.startswith("file prompts: of 16 deduction proposals were valid: r1 0, file 16 (")
    assert trainer.codec.style is trainer.selfplay.style is FILE
    assert trainer._sampling_calls == 0
    assert len(trainer.selfplay.buffers.of["deduction"]) == 1
    trainer = trainer_of(r1, lambda prompt: "nothing")
    assert choose_prompts(trainer, [r1, FILE]).startswith("r1 prompts: ")
    assert trainer.codec.style is trainer.selfplay.style is r1
