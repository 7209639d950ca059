"""The settings that keep the curriculum alive, each played with a scripted policy: each does what it says, alone."""

import dataclasses
import json
from collections import Counter

import pytest

from azr_lite.advantages import rloo, with_advantages
from azr_lite.buffer import _likeness
from azr_lite.config import Config
from azr_lite.prompts import get_style
from azr_lite.selfplay import SelfPlay
from azr_lite.triplet import Role, Triplet
from tests.scripted import ScriptedPolicy, block, wrap

BASE = Config(
    model="scripted",
    batch_size=4,
    n_mc=4,
    references=2,
    seed_batch_factor=2,
    micro_batch_size=2,
    max_prompt_tokens=100_000,
)
TWO = ("deduction", "abduction")


def make(executor, **changes):
    return SelfPlay(BASE.replace(**changes), get_style("chat"), executor)


class Proposes(ScriptedPolicy):
    """Proposes these programs one after the other, with an input that is new each time."""

    def __init__(self, *programs, **kwargs):
        super().__init__(**kwargs)
        self.programs, self.given = list(programs), 0

    def reply(self, prompt):
        if "Invent one new puzzle" not in prompt:
            return super().reply(prompt)
        self.given += 1
        return wrap(block("python", self.programs.pop(0)) + "\n" + block("input", str(self.given)))


def line(slope, name="x"):
    return f"def f({name}):\n    return {name} * {slope} + 1"


IDENTITY = "def f(a):\n    return a"
STEP = [line(2), line(2, "y"), line(3), IDENTITY, line(2), line(4), line(4), line(5)]
"""Four proposals of deduction, four of abduction. The zero triplet is the identity."""
KNOWN = [False, True, False, True, True, False, True, False]


def parts_of(rollouts):
    return [r.reward_parts for r in rollouts if r.role == Role.PROPOSE]


def test_a_program_that_was_seen_earns_the_penalty_and_a_new_one_its_learnability(executor):
    play = make(executor, task_types=TWO, repeated_programs="penalty")
    policy = Proposes(*STEP, *STEP)
    first = parts_of(play.step(policy, 0))
    assert [one == {"repeat": -0.5} for one in first] == KNOWN
    assert all(one.keys() == {"learnability"} for one, known in zip(first, KNOWN, strict=True) if not known)
    # all of it stands in the buffers now: the inputs are new, the programs are not
    assert parts_of(play.step(policy, 1)) == [{"repeat": -0.5}] * 8
    assert all(r.reward == -0.5 for r in play.record.rollouts if r.role == Role.PROPOSE)
    assert play.buffers.sizes() == {"deduction": 9, "abduction": 9}


def test_the_paper_pays_for_a_program_that_was_seen(executor):
    play = make(executor, task_types=TWO)
    assert {name for one in parts_of(play.step(Proposes(*STEP), 0)) for name in one} == {"learnability"}


def test_a_copied_reference_is_a_repeat(executor):
    class Copies(ScriptedPolicy):
        def reply(self, prompt):
            if "Invent one new puzzle" not in prompt:
                return super().reply(prompt)
            shown = next(p.references[0].program for p in proposals if p.prompt == prompt)
            return wrap(block("python", shown) + "\n" + block("input", "7"))

    play = make(executor, task_types=TWO, repeated_programs="penalty", references=1)
    play.seed(ScriptedPolicy())
    proposals = play.sample_references(0)
    assert any(proposal.parents for proposal in proposals)
    assert parts_of(play.step(Copies(), 0)) == [{"repeat": -0.5}] * 8


def test_induction_which_is_given_its_programs_is_never_punished_for_them(executor):
    play = make(executor, repeated_programs="penalty")
    play.seed(ScriptedPolicy())
    rollouts = play.step(Proposes(*STEP), 0)
    own = [r for r in rollouts if r.group == "propose/induction" and r.verdict.ok]
    assert own
    assert {name for r in own for name in r.reward_parts} == {"learnability"}
    assert sum("repeat" in r.reward_parts for r in rollouts) == sum(KNOWN)


def test_a_program_that_has_left_the_buffers_is_new_again(executor):
    play = make(executor, task_types=("deduction",), repeated_programs="penalty", buffer_capacity=2)
    parts = parts_of(play.step(Proposes(line(2), line(3), line(4), line(2)), 0))
    assert [list(one) for one in parts] == [["learnability"]] * 4


# ------------------------------------------------------------ references


def task(number, name="deduction", step=0):
    return Triplet(name, f"def f(x):\n    return x * 2 + {number}", "1", str(2 + number), step=step)


def filled(executor, rates, **changes):
    """Self-play whose deduction buffer holds one task per rate, task number 0 first."""
    play = make(executor, **{"task_types": ("deduction",), "references": 3, "batch_size": 20} | changes)
    for number, rate in enumerate(rates):
        play.buffers.add(task(number, step=number), rate)
    return play


def shown(play, name="deduction", steps=5):
    """The numbers of the tasks whose programs serve as references in so many steps."""
    proposals = [one for step in range(steps) for one in play.sample_references(step) if one.type == name]
    programs = [reference.program for one in proposals for reference in one.references]
    return {int(program.rpartition("+ ")[2]) for program in programs if "+" in program}


MIXED = [0.0, 0.5, 1.0, None] * 8


def test_references_are_the_tasks_that_were_solved_sometimes(executor):
    assert shown(filled(executor, MIXED, reference_tasks="learnable")) == set(range(1, 32, 4))
    assert shown(filled(executor, MIXED)) == set(range(32))


def test_before_eight_are_learnable_the_whole_buffer_serves(executor):
    assert shown(filled(executor, MIXED[:28], reference_tasks="learnable")) == set(range(28))


def test_of_many_learnable_tasks_the_newest_200_serve(executor):
    assert shown(filled(executor, [0.25] * 230, reference_tasks="learnable"), steps=40) == set(range(30, 230))


def test_induction_starts_from_the_programs_of_learnable_tasks(executor):
    pools = {}
    for choice in ("learnable", "all"):
        play = filled(executor, MIXED, task_types=BASE.task_types, reference_tasks=choice)
        for number in range(100, 108):
            play.buffers.add(task(number, "abduction", step=number), 0.5 if number % 2 else 1.0)
        pools[choice] = shown(play, "induction", steps=20)
    assert pools["learnable"] == {*range(1, 32, 4), *range(101, 108, 2)}
    assert pools["all"] == {*range(32), *range(100, 108)}


def test_the_rate_of_a_task_is_the_one_its_step_measured_and_survives_a_restart(executor):
    changes = {"task_types": ("deduction",), "reference_tasks": "learnable", "batch_size": 16}
    play = make(executor, **changes)
    play.seed(ScriptedPolicy())
    for step in range(2):
        play.step(ScriptedPolicy(step), step)
    measured = {one["task"]["id"]: one["solve_rate"] for one in play.record.tasks if one["fresh"]}
    state = json.loads(json.dumps(play.state_dict()))
    kept = {row["id"]: row.get("solve_rate") for row in state["buffers"]["deduction"]}
    assert len(measured) >= 12
    assert measured.items() <= kept.items()
    assert None in kept.values()  # the seeds
    again, old = make(executor, **changes), make(executor, **changes)
    again.load_state_dict(state)
    assert again.state_dict() == state
    prompts = [one.prompt for one in play.sample_references(2)]
    assert [one.prompt for one in again.sample_references(2)] == prompts
    for row in state["buffers"]["deduction"]:
        row.pop("solve_rate", None)
    old.load_state_dict(state)
    assert [one.prompt for one in old.sample_references(2)] != prompts
    assert old.buffers.tasks(["deduction"], "learnable") == list(old.buffers.of["deduction"])


SORTS = [
    "def f(x):\n    return sorted(str(x))",
    "def f(x):\n    t = 0\n    for i in range(x):\n        t += i\n    return t",
    "def f(x):\n    return {i: [j for j in range(i) if j % 2] for i in range(x)}",
    "def f(x):\n    while x > 9:\n        x //= 2\n    return x",
]


def test_diverse_references_have_unlike_syntax(executor):
    found = {}
    for choice in ("all", "diverse"):
        play = filled(executor, [None] * 30, reference_tasks=choice)
        for program in SORTS:
            play.buffers.add(Triplet("deduction", program, "5", "0"))
        groups = [one.references for step in range(10) for one in play.sample_references(step)]
        assert {len({reference.id for reference in group}) for group in groups} == {3}
        pairs = [_likeness(a, b) for group in groups for a in group for b in group if a is not b]
        first = Counter(group[0].program in SORTS for group in groups)
        found[choice] = sum(pairs) / len(pairs), first[True] / len(groups)
    assert found["diverse"][0] < found["all"][0] - 0.2
    assert abs(found["diverse"][1] - found["all"][1]) < 0.1  # the first is drawn like any


def test_diverse_references_are_as_many_as_there_are(executor):
    play = filled(executor, [None], reference_tasks="diverse")
    assert [len(one.references) for one in play.sample_references(0)] == [2] * 20  # with the zero triplet


# ------------------------------------------------------------ several proposals from one prompt


def test_each_prompt_serves_several_proposals(executor):
    for share in (1, 2, 4):
        play = make(executor, proposals_per_prompt=share, batch_size=8)
        policy = ScriptedPolicy()
        play.seed(policy)
        proposals = play.sample_references(0)
        for name in BASE.task_types:
            own = [one for one in proposals if one.type == name]
            starts = own[::share]
            assert [one.prompt for one in own] == [one.prompt for one in starts for _ in range(share)]
            assert [one.parents for one in own] == [one.parents for one in starts for _ in range(share)]
            assert len({one.prompt for one in starts}) > len(starts) / 2
        play.step(policy, 0)
        assert len(play.record.tasks) == 24
        assert len({one["text"] for one in play.record.tasks}) > 16  # each is a reply of its own
        assert [len(one["answers"]) for one in play.record.tasks if one["ok"]] == [4] * sum(
            one["ok"] for one in play.record.tasks
        )


# ------------------------------------------------------------ an estimator for each role


def played(executor, **changes):
    play = make(executor, proposals_per_prompt=4, batch_size=8, references=1, **changes)
    play.seed(ScriptedPolicy())
    play.step(ScriptedPolicy(junk=0.3), 0)
    return play.record.rollouts


def by_role(rollouts):
    return {role: [r for r in rollouts if r.role == role] for role in Role}


def advantages(rows):
    return [r.advantage for r in rows]


@pytest.mark.parametrize("per_prompt", [Role.PROPOSE, Role.SOLVE])
def test_each_role_has_its_own_estimator(executor, per_prompt):
    other = {"proposer_estimator": "trr", "estimator": "rloo"} if per_prompt == Role.SOLVE else {}
    mixed = by_role(played(executor, **{"proposer_estimator": "rloo", "estimator": "trr"} | other))
    trr, prompts = (by_role(played(executor, estimator=name)) for name in ("trr", "rloo"))
    for role in Role:
        same, unlike = (prompts, trr) if role == per_prompt else (trr, prompts)
        assert advantages(mixed[role]) == advantages(same[role])
        assert advantages(mixed[role]) != advantages(unlike[role])


def test_proposals_are_compared_with_those_from_the_same_prompt(executor):
    rows = by_role(played(executor, proposer_estimator="rloo"))[Role.PROPOSE]
    want = rloo([r.reward for r in rows], [(r.type, r.prompt) for r in rows])
    assert advantages(rows) == pytest.approx(list(want))
    assert len({r.prompt for r in rows}) >= 4
    assert any(want)


def test_a_proposal_whose_companions_were_held_out_is_compared_with_the_others_that_stand_alone(executor):
    rows = [dataclasses.replace(r, reward=float(n)) for n, r in enumerate(played(executor)) if r.role == Role.PROPOSE]
    rows = [dataclasses.replace(r, type="deduction", prompt=p) for r, p in zip(rows, "aabcddd", strict=False)]
    config = BASE.replace(proposer_estimator="rloo", proposals_per_prompt=4)
    found = advantages(with_advantages(config, rows))
    assert found == [-1.0, 1.0, -1.0, 1.0, -1.5, 0.0, 1.5]


def test_proposals_that_share_their_references_by_chance_stand_alone(executor):
    """Where each has its own prompt by intent, equal texts (early, all show the zero triplet) make no group."""
    rows = [dataclasses.replace(r, reward=float(n)) for n, r in enumerate(played(executor)) if r.role == Role.PROPOSE]
    rows = [dataclasses.replace(r, type="deduction", prompt=p) for r, p in zip(rows, "aabb", strict=False)]
    found = advantages(with_advantages(BASE.replace(estimator="dr_grpo"), rows))
    assert found == [-1.5, -0.5, 0.5, 1.5]
