"""The eleven stages, played with a scripted policy and the real sandbox: no torch, no model."""

import dataclasses
import json
import math
import random

import numpy as np
import pytest

from azr_lite.buffer import Buffer
from azr_lite.config import Config
from azr_lite.errors import ConfigError
from azr_lite.prompts import get_style
from azr_lite.selfplay import SelfPlay
from azr_lite.tasks import get_task_type
from azr_lite.tasks.base import Answer, Proposal
from azr_lite.tasks.triplets import IDENTITY
from azr_lite.triplet import ProposalAttempt, Reason, Role, SolveAttempt, Triplet, Verdict
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


def make(executor, **changes):
    return SelfPlay(BASE.replace(**changes), get_style("chat"), executor)


def played(executor, policy=None, steps=1, **changes):
    play = make(executor, **changes)
    policy = policy or ScriptedPolicy()
    play.seed(policy)
    return play, [play.step(policy, step) for step in range(steps)]


def test_seeding_starts_from_the_zero_triplet_and_fills_every_buffer(executor):
    play = make(executor)
    assert play.buffers.sizes() == {"deduction": 1, "abduction": 1, "induction": 0}
    (zero,) = play.buffers.of["deduction"]
    assert (zero.program, zero.input, zero.output) == ("def f(x):\n    return x", "'Hello world'", "'Hello world'")
    play.seed(ScriptedPolicy())
    assert play.buffers.sizes() == {"deduction": 8, "abduction": 8, "induction": 8}
    shared = {t.program for t in play.buffers.of["deduction"]} & {t.program for t in play.buffers.of["abduction"]}
    assert len(shared) >= 4


def test_seeding_ends_though_the_model_proposes_nothing_valid(executor):
    play = make(executor, seed_rounds=3)
    assert play.seed(ScriptedPolicy(junk=1.0)) == 3
    assert play.buffers.sizes()["deduction"] == 1
    rollouts = play.step(ScriptedPolicy(junk=1.0), 0)
    assert len(rollouts) == BASE.rows
    assert all(r.reward == -1 for r in rollouts)


def test_without_any_program_induction_says_what_is_missing(executor):
    play = make(executor)
    for name in ("deduction", "abduction"):
        play.buffers.of[name] = Buffer(capacity=8)
    with pytest.raises(ConfigError, match="buffers of deduction and abduction are empty; add one of these") as caught:
        play.sample_references(0)
    assert "\n" not in str(caught.value)


def test_a_step_gives_the_fixed_batch_with_whitened_groups(executor):
    play, (rollouts,) = played(executor)
    assert len(rollouts) == play.config.rows == 24
    for group in {r.group for r in rollouts}:
        own = np.array([r.advantage for r in rollouts if r.group == group and r.weight > 0])
        assert abs(own.mean()) < 1e-9
        assert own.std() == pytest.approx(1.0) or not own.any()
    assert {r.group for r in rollouts} == {f"{role}/{name}" for role in Role for name in play.config.task_types}


def test_advantages_are_made_of_the_rewards(executor):
    """Rewards that do not reach the advantages (detached) are noticed here."""
    _, (rollouts,) = played(executor, batch_size=8)
    moved = 0
    for group in {r.group for r in rollouts}:
        own = [r for r in rollouts if r.group == group and r.weight > 0]
        rewards = np.array([r.reward for r in own])
        want = (rewards - rewards.mean()) / rewards.std() if rewards.std() > 0 else np.zeros(len(own))
        assert [r.advantage for r in own] == pytest.approx(list(want))
        moved += rewards.std() > 0
    assert moved >= 4


def test_learnability_is_one_minus_the_rate_of_the_logged_answers(executor):
    play, _ = played(executor)
    lines = [line for line in play.record.tasks if line["ok"]]
    assert len(lines) >= 8
    for line in lines:
        assert len(line["answers"]) == 4
        assert line["solve_rate"] == pytest.approx(sum(a["score"] for a in line["answers"]) / 4)
    paid = {r.task_id: r for r in play.record.rollouts if r.role == Role.PROPOSE and r.verdict.ok}
    for rollout in paid.values():
        want = 0.0 if rollout.solve_rate in (0.0, 1.0) else 1 - rollout.solve_rate
        assert rollout.reward == pytest.approx(want)


def test_monte_carlo_replies_differ_or_there_is_nothing_to_learn(executor):
    """Greedy Monte-Carlo makes every rate 0 or 1: this is the test that notices."""
    play, _ = played(executor, ScriptedPolicy(skill=0.5), batch_size=8, n_mc=8)
    rates = [line["solve_rate"] for line in play.record.tasks if line["ok"]]
    assert sum(0 < rate < 1 for rate in rates) >= len(rates) / 2


@pytest.mark.parametrize(("zero", "want"), [("paper", 0.0), ("upstream", -0.5)])
def test_always_solved_tasks_earn_by_the_switch(executor, zero, want):
    play, _ = played(executor, ScriptedPolicy(skill=1.0), zero_learnability=zero)
    proposals = [r for r in play.record.rollouts if r.role == Role.PROPOSE and r.verdict.ok]
    assert proposals
    assert {r.reward for r in proposals} == {want}


def test_reuse_trains_on_monte_carlo_replies_and_separate_solves_anew(executor):
    reuse, (rows,) = played(executor, ScriptedPolicy())
    mc = {a["text"] for line in reuse.record.tasks for a in line["answers"]}
    assert {r.text for r in rows if r.role == Role.SOLVE} <= mc
    policy = ScriptedPolicy()
    play = make(executor, solver_data="separate")
    play.seed(policy)
    before = len(policy.prompts)
    play.step(policy, 0)
    valid = sum(line["ok"] for line in play.record.tasks)
    assert len(policy.prompts) - before == 12 + 4 * valid + 12
    assert policy.calls >= 2


def test_the_solver_is_asked_this_steps_tasks(executor):
    play, _ = played(executor, ScriptedPolicy(), steps=2, solver_data="separate")
    last = {r.task_id for r in play.record.rollouts if r.role == Role.PROPOSE and r.verdict.ok}
    solved = [r.task_id for r in play.record.rollouts if r.role == Role.SOLVE]
    assert len(set(solved) & last) >= 3


def test_valid_proposals_enter_the_buffer_with_their_parents_and_no_twice(executor):
    play, _ = played(executor, steps=2)
    for buffer in play.buffers.of.values():
        tasks = list(buffer)
        assert len({t.id for t in tasks}) == len(tasks)
        assert any(t.step == 1 and t.parents for t in tasks)


def test_references_come_from_the_own_buffer_and_are_distinct(executor):
    play = make(executor)
    play.seed(ScriptedPolicy())
    proposals = play.sample_references(0)
    for proposal in proposals:
        ids = [task.id for task in proposal.references]
        assert len(set(ids)) == len(ids)
        if proposal.type != "induction":
            assert len(ids) == 2
            assert all(task.type == proposal.type for task in proposal.references)
            assert all(task.program in proposal.prompt for task in proposal.references)


def test_prompts_that_do_not_fit_lose_references_and_then_say_so(executor):
    play = make(executor)
    play.seed(ScriptedPolicy())
    lengths = [len(proposal.prompt) for proposal in play.sample_references(0) if proposal.type == "deduction"]
    bare = len(play._new_proposal("deduction", play._rng(0, "x")).prompt) - 200
    play.config = play.config.replace(max_prompt_tokens=max(bare, max(lengths) - 30))
    assert all(
        len(proposal.prompt) <= play.config.max_prompt_tokens
        for proposal in play.sample_references(0)
        if proposal.type == "deduction"
    )
    play.config = play.config.replace(max_prompt_tokens=50)
    with pytest.raises(ConfigError, match="max_prompt_tokens"):
        play.sample_references(0)


def test_programs_too_long_to_start_from_end_no_run(executor):
    """The solver's prompt about a program may fit where the proposer's does not."""
    play = make(executor, reference_tasks="learnable", max_prompt_tokens=9000)
    for n in range(8):
        task = Triplet("deduction", f"def f(x):\n    # {'z' * 9000}\n    return x + {n}", "1", str(1 + n))
        play.buffers.add(task, rate=0.5)
    for _ in range(2):
        started = [proposal.references for proposal in play.sample_references(0) if proposal.type == "induction"]
        assert {task.program for (task,) in started} == {IDENTITY}
        play.buffers.of["abduction"] = Buffer(8)
        play.buffers.of["deduction"]._tasks.pop(started[0][0].id, None)


def test_roles_that_are_not_trained_weigh_nothing(executor):
    _, (rollouts,) = played(executor, train_proposer=False)
    assert all((r.weight == 0) == (r.role == Role.PROPOSE) for r in rollouts)


def test_balanced_weights_share_the_loss_among_the_groups(executor):
    _, (rollouts,) = played(executor, ScriptedPolicy(junk=0.2), batch_size=8)
    total = sum(len(r.completion_ids) for r in rollouts)
    groups = {r.group for r in rollouts if r.weight}
    for group in groups:
        share = sum(r.weight * len(r.completion_ids) for r in rollouts if r.group == group) / total
        assert share == pytest.approx(1 / len(groups))


def test_updates_each_see_every_group(executor):
    _, (rollouts,) = played(executor, batch_size=4, updates_per_step=2)
    half = len(rollouts) // 2
    for part in (rollouts[:half], rollouts[half:]):
        assert len({r.group for r in part}) == 6


def test_same_seed_same_step_and_the_state_carries_over(executor):
    first, rows = played(executor, ScriptedPolicy(3), steps=3)
    second, again = played(executor, ScriptedPolicy(3), steps=2)
    state = json.loads(json.dumps(second.state_dict()))
    third = make(executor)
    third.load_state_dict(state)
    policy = ScriptedPolicy(3)
    policy.rng.setstate(random_state_after(executor, 2))
    assert rows[:2] == again
    assert third.step(policy, 2) == rows[2]
    assert third.state_dict() == first.state_dict()
    with pytest.raises(ConfigError, match="version"):
        third.load_state_dict({**state, "version": 99})


def random_state_after(executor, steps):
    policy = ScriptedPolicy(3)
    played(executor, policy, steps=steps)
    return policy.rng.getstate()


def test_a_task_whose_prompt_would_not_fit_is_rejected_not_cut(executor):
    play = make(executor)

    class Long(ScriptedPolicy):
        def reply(self, prompt):
            body = "\n".join(f"    y{i} = x + {i}" for i in range(200))
            return wrap(block("python", f"def f(x):\n{body}\n    return y3") + "\n" + block("input", "1"))

    play.count_tokens = lambda text: len(text) if "y199" in text else 1
    play.config = play.config.replace(max_prompt_tokens=1000)
    proposals = play.sample_references(0)[:1]
    play.propose(proposals, Long())
    play.validate(proposals)
    assert proposals[0].verdict.reason == "too_long"


def test_metrics_are_finite_and_agree_with_the_rollouts(executor):
    play, (rollouts,) = played(executor, ScriptedPolicy(junk=0.3), batch_size=8)
    numbers = play.record.metrics
    assert all(math.isfinite(value) for value in numbers.values())
    own = [r for r in rollouts if r.group == "solve/deduction" and r.weight]
    assert numbers["solve/deduction/reward"] == pytest.approx(sum(r.reward for r in own) / len(own))


@pytest.mark.parametrize("solver_data", ["reuse", "separate"])
def test_every_reply_that_took_time_to_sample_is_counted(executor, solver_data):
    """Sampling speed is tokens over the time of sampling: replies that only stage 7 needs took time too."""
    policy, made = ScriptedPolicy(skill=0.5, junk=0.6), []

    def generate(prompts, role):
        completions = policy(prompts, role)
        made.extend(len(completion.ids) for completion in completions)
        return completions

    play = make(executor, solver_data=solver_data)
    play.seed(generate)
    for step in range(2):
        made.clear()
        play.step(generate, step)
        assert play.record.sampled_tokens == sum(made)
        if solver_data == "separate":
            assert play.record.sampled_tokens > play.record.metrics["tokens/generated"]


@pytest.mark.parametrize("solver_data", ["reuse", "separate"])
def test_held_out_programs_are_neither_kept_nor_paid_nor_trained_on(executor, solver_data):
    reserved = lambda program: any(f"* {k} " in program for k in (4, 5, 6, 7, 8, 9))  # noqa: E731
    play = SelfPlay(BASE.replace(solver_data=solver_data), get_style("chat"), executor, reserved=reserved)
    policy = ScriptedPolicy()
    play.seed(policy)
    dropped = 0
    for step in range(3):
        rollouts = play.step(policy, step)
        assert len(rollouts) == BASE.rows
        assert not any(reserved(r.prompt) or reserved(r.text) for r in rollouts if r.weight > 0)
        lines = [line for line in play.record.tasks if line["reason"] == "reserved"]
        assert all(line["answers"] == [] and line["task"] is None for line in lines)
        dropped += len(lines)
    assert dropped > 5
    assert not any(reserved(task.program) for buffer in play.buffers.of.values() for task in buffer)


def test_rollouts_are_frozen(executor):
    _, (rollouts,) = played(executor)
    with pytest.raises(dataclasses.FrozenInstanceError):
        rollouts[0].reward = 1.0


# ------------------------------------------------------------ what a small change of the algorithm would break


class Recorder:
    """Passes prompts on and keeps (prompts, role) of every call."""

    def __init__(self, policy):
        self.policy, self.calls = policy, []

    def __call__(self, prompts, role):
        self.calls.append((list(prompts), role))
        return self.policy(prompts, role)


class RightProposals(ScriptedPolicy):
    """Every proposal is junk, or none is; answers have the skill."""

    def __init__(self, proposes=True, **kwargs):
        super().__init__(**kwargs)
        self.proposes = proposes

    def reply(self, prompt):
        return super().reply(prompt) if self.proposes or "Invent" not in prompt else "no form at all"


def references_of(executor, step, **changes):
    play = make(executor, **changes)
    play.seed(ScriptedPolicy())
    return [[task.id for task in proposal.references] for proposal in play.sample_references(step)]


def test_references_change_with_the_step_and_with_the_seed_and_with_nothing_else(executor):
    first = references_of(executor, 0)
    assert references_of(executor, 0) == first
    assert references_of(executor, 1) != first
    assert references_of(executor, 0, seed=1) != first


@pytest.mark.parametrize("skill", [0.0, 1.0])
def test_valid_tasks_that_nobody_or_everybody_solves_are_kept_too(executor, skill):
    play, _ = played(executor, ScriptedPolicy(skill=skill))
    made = [line["task"]["id"] for line in play.record.tasks if line["fresh"]]
    assert len(made) >= 8
    assert {line["solve_rate"] for line in play.record.tasks if line["ok"]} == {skill}
    assert set(made) <= {task.id for buffer in play.buffers.of.values() for task in buffer}


def test_every_task_is_solved_once_before_any_is_solved_twice(executor):
    play, (rows,) = played(executor)
    for name in ("deduction", "abduction"):
        valid = [line["task"]["id"] for line in play.record.tasks if line["type"] == name and line["ok"]]
        assert len(valid) == 4
        assert sorted(r.task_id for r in rows if r.group == f"solve/{name}") == sorted(valid)


@pytest.mark.parametrize("estimator", ["trr", "rloo"])
def test_with_a_baseline_per_prompt_tasks_that_teach_nothing_come_last(executor, estimator):
    """All rewards of the second task are equal; old tasks, each asked once, have nothing to be compared with."""
    play = make(executor, estimator=estimator, task_types=("deduction",), solver_batch_size=6)
    task = play.buffers.of["deduction"].sample(random.Random(0), 1)[0]
    right, wrong = Verdict(ok=True, well_formed=True, score=1.0), Verdict(ok=False, well_formed=True, reason="wrong")

    def proposal(*verdicts):
        attempts = [SolveAttempt(task, "", verdict=verdict) for verdict in verdicts]
        return ProposalAttempt("deduction", [], "", result=task, attempts=attempts)

    taught, same = proposal(right, wrong, wrong, wrong), proposal(wrong, wrong, wrong, wrong)
    asked, earned = [], play.earned
    play.earned = lambda reply: asked.append(reply) or earned(reply)
    chosen = play.solve([same, taught], [])
    assert len(asked) == (0 if estimator == "trr" else 8)  # once each: a reward of one's own may be slow
    own = {id(attempt) for attempt in same.attempts}
    assert sum(id(attempt) in own for attempt in chosen) == (3 if estimator == "trr" else 2)
    assert bool(play._solver_tasks([], step=0)) == (estimator == "trr")


def test_where_all_proposals_are_held_out_old_tasks_are_solved_whatever_the_estimator(executor):
    play = SelfPlay(BASE.replace(estimator="rloo"), get_style("chat"), executor, reserved=lambda program: True)
    rows = play.step(ScriptedPolicy(), 0)
    assert {r.role for r in rows if r.weight > 0} == {Role.SOLVE}


def test_where_there_is_nothing_but_held_out_proposals_the_step_teaches_nothing(executor):
    config = BASE.replace(task_types=("deduction",))
    play = SelfPlay(config, get_style("chat"), executor, reserved=lambda program: True)
    play.buffers.of["deduction"] = Buffer(4)  # as that of a task type without a first task
    rows = play.step(ScriptedPolicy(), 0)
    assert len(rows) == config.rows
    assert not any(r.advantage for r in rows)


def test_where_no_proposal_is_valid_old_tasks_fill_the_solvers_rows(executor):
    play = make(executor)
    play.seed(ScriptedPolicy())
    known = {task.id for buffer in play.buffers.of.values() for task in buffer}
    rows = play.step(RightProposals(proposes=False), 0)
    for name in play.config.task_types:
        own = [r for r in rows if r.group == f"solve/{name}" and r.weight > 0]
        assert len(own) == play.config.batch_size
        assert {r.task_id for r in own} <= known
        assert {r.solve_rate for r in own} == {None}


@pytest.mark.parametrize("size", [2, 6])
@pytest.mark.parametrize("solver_data", ["reuse", "separate"])
def test_the_solvers_batch_has_its_own_size(executor, solver_data, size):
    policy = Recorder(ScriptedPolicy())
    play, (rows,) = played(executor, policy, batch_size=4, solver_batch_size=size, solver_data=solver_data)
    for name in BASE.task_types:
        assert sum(r.group == f"{Role.PROPOSE}/{name}" for r in rows) == 4
        assert sum(r.group == f"{Role.SOLVE}/{name}" and r.weight > 0 for r in rows) == size
    if solver_data == "separate":
        valid = sum(line["ok"] for line in play.record.tasks)
        assert len(policy.calls[-1][0]) == valid * play.config.n_mc + size * len(BASE.task_types)


def test_each_role_is_asked_its_own_prompts(executor):
    policy = Recorder(ScriptedPolicy())
    played(executor, policy, solver_data="separate")
    roles = {role for _, role in policy.calls}
    assert roles == {Role.PROPOSE, Role.SOLVE}
    for prompts, role in policy.calls:
        assert {"Invent" in prompt for prompt in prompts} == {role == Role.PROPOSE}


def test_the_rules_of_a_run_are_its_settings(executor):
    changes = {"equality": "typed", "induction_scoring": "fraction", "induction_inputs": 6, "induction_shown": 2}
    changes |= {"cpu_seconds": 2.5, "memory_mb": 300, "reply_reading": "lenient"}
    play = make(executor, **changes)
    assert {name: getattr(play.rules, name) for name in changes} == changes
    assert play.verifier.rules is play.rules


def test_the_switches_of_the_update_reach_it(executor):
    """Whitening over tokens and one token mean over all groups, against values worked out here."""
    _, (rows,) = played(executor, ScriptedPolicy(junk=0.3), batch_size=8, whitening="token", role_balanced_loss=False)
    assert {r.weight for r in rows} <= {0.0, 1.0}
    moved = 0
    for group in {r.group for r in rows}:
        own = [r for r in rows if r.group == group and r.weight > 0]
        tokens = np.array([r.reward for r in own for _ in r.completion_ids])
        if tokens.std() > 0:
            want = [(r.reward - tokens.mean()) / tokens.std(ddof=1) for r in own]
            assert [r.advantage for r in own] == pytest.approx(want, abs=1e-6)
            plain = np.array([r.reward for r in own])
            moved += [r.advantage for r in own] != pytest.approx(list((plain - plain.mean()) / plain.std()), abs=1e-3)
    assert moved >= 2


class Formless(ScriptedPolicy):
    """Right answers without the closing tag; valid proposals, with or without it."""

    def __init__(self, proposals_too, **kwargs):
        super().__init__(skill=1.0, **kwargs)
        self.proposals_too = proposals_too

    def reply(self, prompt):
        text = super().reply(prompt)
        return text.replace("</answer>", "") if self.proposals_too or "Invent" not in prompt else text


def test_a_right_answer_without_form_counts_as_wrong_in_the_solve_rate(executor):
    play = make(executor)
    play.seed(ScriptedPolicy())
    play.step(Formless(proposals_too=False), 0)
    assert {line["solve_rate"] for line in play.record.tasks if line["ok"]} == {0.0}
    assert {r.reward for r in play.record.rollouts if r.role == Role.SOLVE} == {-1.0}
    assert play.record.metrics["solve/deduction/well_formed"] == 0


def test_a_valid_program_without_form_is_not_stored(executor):
    play = make(executor)
    play.seed(ScriptedPolicy())
    before = play.buffers.sizes()
    play.step(Formless(proposals_too=True), 0)
    assert {line["reason"] for line in play.record.tasks} == {"not_well_formed"}
    assert play.buffers.sizes() == before


class Bare(ScriptedPolicy):
    """Right answers as they stand, without a block."""

    def reply(self, prompt):
        text = super().reply(prompt)
        return (
            text
            if "Invent" in prompt
            else text.replace("```output\n", "").replace("```input\n", "").replace("\n```", "")
        )


@pytest.mark.parametrize(("reading", "rate"), [("strict", 0.0), ("lenient", 1.0)])
def test_replies_are_read_as_the_setting_says(executor, reading, rate):
    play = make(executor, reply_reading=reading, task_types=("deduction", "abduction"))
    play.seed(ScriptedPolicy())
    play.step(Bare(skill=1.0), 0)
    assert {line["solve_rate"] for line in play.record.tasks if line["ok"]} == {rate}


def test_the_numbers_of_a_step_count_that_step_alone(executor):
    play = make(executor)
    play.seed(ScriptedPolicy())
    for step in range(2):
        play.step(ScriptedPolicy(step), step)
        lines = play.record.tasks
        inputs = {"deduction": 1, "abduction": 1, "induction": 5}
        judged = sum(len(line["answers"]) * inputs[line["type"]] for line in lines)
        counted = sum(value for key, value in play.record.metrics.items() if key.startswith("executor/"))
        assert 0 < counted <= len(lines) + judged


@pytest.mark.parametrize(
    ("method", "reply"),
    [
        ("parse_answer", lambda: "3"),
        ("parse_answer", lambda: Answer(program=None, inputs=((1,),))),
        ("parse_proposal", lambda: None),
        ("parse_proposal", lambda: Proposal(None, ((1,),))),
        ("parse_proposal", lambda: Proposal("def f(x): return x", (1,))),
        ("parse_proposal", lambda: Proposal("def f(x): return x", ((10**5000,),))),
        ("parse_proposal", lambda: Proposal("def f(x): return x", ())),
    ],
)
def test_a_task_type_that_returns_nonsense_ends_no_run(executor, monkeypatch, method, reply):
    monkeypatch.setattr(type(get_task_type("deduction")), method, lambda *_: reply())
    _, (rollouts,) = played(executor)
    role = Role.SOLVE if method == "parse_answer" else Role.PROPOSE
    assert {r.verdict.reason for r in rollouts if r.group == f"{role}/deduction"} == {Reason.INTERNAL}


@pytest.mark.parametrize("method", ["propose_prompt", "solve_prompt"])
def test_a_task_type_that_cannot_write_a_prompt_is_named_in_one_sentence(executor, monkeypatch, method):
    monkeypatch.setattr(type(get_task_type("deduction")), method, lambda *_: {}["nothing"])
    with pytest.raises(ConfigError, match=r"failed: KeyError: 'nothing' \(test_selfplay.py, line \d+\); mend it"):
        played(executor)
