"""The update itself, on a tiny random model: gradients, directions, padding rows, several updates per step, and their mutants."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import TrainerCallback

from azr_lite.config import Config
from azr_lite.errors import ConfigError, TrainingError
from azr_lite.prompts.base import Style
from azr_lite.train.diagnostics import self_test
from azr_lite.train.policy import Policy
from azr_lite.train.trainer import SelfPlayTrainer
from azr_lite.triplet import Role, Rollout
from tests.tiny import (
    CHAT,
    PLAIN,
    Scripted,
    random_rollouts,
    rollout,
    sampled_script,
    tiny_config,
    tiny_model,
    tiny_policy,
    tiny_tokenizer,
    weigh,
)


class Spy(TrainerCallback):
    """Weights and gradients as they are just before each optimiser step."""

    def __init__(self) -> None:
        self.weights: list[dict[str, torch.Tensor]] = []
        self.gradients: list[dict[str, torch.Tensor]] = []

    def on_pre_optimizer_step(self, args: Any, state: Any, control: Any, model: Any = None, **_: Any) -> None:
        trained = {name: p for name, p in model.named_parameters() if p.requires_grad}
        self.weights.append({name: p.detach().clone() for name, p in trained.items()})
        self.gradients.append({name: p.grad.clone() for name, p in trained.items()})


def idle(config: Config, policy: Policy, folder: Path, style: Style = PLAIN) -> SelfPlayTrainer:
    """A trainer whose self-play gives no rollouts."""
    return SelfPlayTrainer(config, policy, style, Scripted(lambda generate, step: []), folder)


def train(config: Config, policy: Policy, rows: list[Rollout], folder: Path) -> tuple[SelfPlayTrainer, Spy]:
    trainer = SelfPlayTrainer(config, policy, PLAIN, Scripted(lambda generate, step: rows), folder)
    spy = Spy()
    trainer.add_callback(spy)
    trainer.train()
    return trainer, spy


def token_logps(model: torch.nn.Module, row: Rollout) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of each token of one reply, alone and without padding."""
    ids_BT = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
    logps_TV = model(input_ids=ids_BT).logits[0, len(row.prompt_ids) - 1 : -1].log_softmax(-1)
    picked_T = logps_TV.gather(-1, torch.tensor(row.completion_ids)[:, None])[:, 0]
    return picked_T, -(logps_TV.exp() * logps_TV).sum(-1)


def reinforce_gradient(
    model: torch.nn.Module, rows: list[Rollout], entropy_coef: float = 0.0
) -> dict[str, torch.Tensor]:
    """REINFORCE++ by hand: one sequence at a time, a token mean over the batch, each row weighed."""
    model.zero_grad()
    total = sum(len(row.completion_ids) for row in rows)
    for row in rows:
        logps_T, entropies_T = token_logps(model, row)
        (-row.weight * (row.advantage * logps_T + entropy_coef * entropies_T).sum() / total).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def relative_error(found: dict[str, torch.Tensor], wanted: dict[str, torch.Tensor]) -> float:
    assert found.keys() == wanted.keys()
    distance = sum(float((found[name] - wanted[name]).double().square().sum()) for name in wanted)
    return (distance / sum(float(w.double().square().sum()) for w in wanted.values())) ** 0.5


def exact(**changes: Any) -> Config:
    """A configuration whose gradient reaches the optimiser unclipped."""
    return tiny_config(max_grad_norm=1e9, **changes)


def check_gradient(config: Config, rows: list[Rollout], folder: Path) -> None:
    policy = tiny_policy()
    _, spy = train(config, policy, rows, folder)
    policy.model.load_state_dict(spy.weights[0], strict=False)
    wanted = reinforce_gradient(policy.model, rows, config.entropy_coef)
    assert relative_error(spy.gradients[0], wanted) < 1e-5


@pytest.mark.parametrize("whitening", ["sequence", "token"])
@pytest.mark.parametrize("balanced", [True, False])
@pytest.mark.parametrize("checkpointing", [False, True])
def test_gradient_is_reinforce_plus_plus(whitening: str, balanced: bool, checkpointing: bool, tmp_path: Path) -> None:
    config = exact(whitening=whitening, role_balanced_loss=balanced, gradient_checkpointing=checkpointing)
    check_gradient(config, random_rollouts(config), tmp_path)


def test_gradient_with_entropy_does_not_depend_on_micro_batches(tmp_path: Path) -> None:
    for size in (1, 3, 12):
        config = exact(entropy_coef=0.1, micro_batch_size=size)
        check_gradient(config, random_rollouts(config), tmp_path / str(size))


def test_padding_rows_have_no_gradient(tmp_path: Path) -> None:
    """Rows of weight 0 change nothing, whatever their advantage: neither through the loss nor through the entropy bonus."""
    config = exact(entropy_coef=0.1)
    rows = random_rollouts(config)
    rows = weigh(config, rows, counts=[index not in (0, 5, 11) for index in range(len(rows))])
    rows = [dataclasses.replace(r, advantage=9.0) if r.weight == 0 else r for r in rows]
    assert sum(r.weight == 0 for r in rows) == 3
    check_gradient(config, rows, tmp_path / "padded")
    other = [
        dataclasses.replace(r, completion_ids=tuple(reversed(r.completion_ids))) if r.weight == 0 else r for r in rows
    ]
    _, one = train(config, tiny_policy(), rows, tmp_path / "one")
    _, two = train(config, tiny_policy(), other, tmp_path / "two")
    assert relative_error(one.gradients[0], two.gradients[0]) < 1e-5


# ---------------------------------------------------------------- direction

GOOD, BAD, ASKED = (40, 41, 42, 0), (50, 51, 52, 53, 0), (60, 61, 62, 63, 64)


def praise_and_blame(config: Config) -> list[Rollout]:
    """In each (role, type) group one reply is rewarded and another is punished."""
    rows = []
    for role in (Role.PROPOSE, Role.SOLVE):
        for kind in config.task_types:
            rows += [rollout(role, kind, ASKED, GOOD, 1.0), rollout(role, kind, ASKED, BAD, -1.0)]
    return weigh(config, rows)


def check_direction(config: Config, policy: Policy, folder: Path, rows: list[Rollout] | None = None) -> None:
    rows = rows if rows is not None else praise_and_blame(config)
    good, bad = (rollout(Role.SOLVE, "deduction", ASKED, reply, 0.0) for reply in (GOOD, BAD))
    trainer = SelfPlayTrainer(config, policy, PLAIN, Scripted(lambda generate, step: rows), folder)

    def likelihood() -> tuple[float, float]:
        with torch.no_grad():
            return tuple(float(token_logps(trainer.model, row)[0].sum()) for row in (good, bad))

    before = likelihood()
    trainer.train()
    after = likelihood()
    assert after[0] > before[0] + 1e-3, "the rewarded reply did not become likelier"
    assert after[1] < before[1] - 1e-3, "the punished reply did not become less likely"


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("whitening", ["sequence", "token"])
@pytest.mark.parametrize("balanced", [True, False])
def test_one_update_moves_replies_the_right_way(tuning: str, whitening: str, balanced: bool, tmp_path: Path) -> None:
    config = tiny_config(tuning=tuning, whitening=whitening, role_balanced_loss=balanced, learning_rate=3e-3)
    check_direction(config, tiny_policy(tuning), tmp_path)


def test_one_update_moves_replies_the_right_way_over_four_bits(tmp_path: Path) -> None:
    pytest.importorskip("bitsandbytes", reason="bitsandbytes is not installed")
    from azr_lite.train.policy import load_policy

    tokenizer = tiny_tokenizer()
    tiny_model(tokenizer, width=64).save_pretrained(tmp_path / "model")
    tokenizer.save_pretrained(tmp_path / "model")
    config = tiny_config(model=str(tmp_path / "model"), tuning="qlora", dtype="auto", learning_rate=3e-3)
    policy = load_policy(config)
    assert any("4bit" in type(m).__name__ for m in policy.model.modules()), "the base is not in four bits"
    check_direction(
        config, policy, tmp_path / "run"
    )  # it generates nothing, but scores before training, as an evaluation does
    trained = [p for p in policy.model.parameters() if p.requires_grad]
    assert trained
    assert all(p.dtype == torch.float32 for p in trained), "adapters must stay float32, or small updates round away"


# ---------------------------------------------------------------- mutants: the checks above must notice


def test_a_flipped_sign_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    honest = SelfPlayTrainer._compute_loss
    monkeypatch.setattr(SelfPlayTrainer, "_compute_loss", lambda self, model, inputs: -honest(self, model, inputs))
    config = tiny_config(learning_rate=3e-3)
    with pytest.raises(AssertionError, match="likelier"):
        check_direction(config, tiny_policy(), tmp_path / "direction")
    with pytest.raises(AssertionError):
        check_gradient(exact(), random_rollouts(exact()), tmp_path / "gradient")
    trainer = idle(config, tiny_policy(), tmp_path / "selftest")
    with pytest.raises(TrainingError, match="must rise and fall"):
        self_test(trainer)


def test_detached_rewards_are_noticed(tmp_path: Path) -> None:
    config = tiny_config(learning_rate=3e-3)
    deaf = weigh(config, [dataclasses.replace(row, reward=0.5) for row in praise_and_blame(config)])
    with pytest.raises(AssertionError, match="likelier"):
        check_direction(config, tiny_policy(), tmp_path, deaf)


def test_forgotten_weights_are_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = exact()
    rows = random_rollouts(config)
    bare = [dataclasses.replace(row, weight=1.0) for row in rows]
    policy = tiny_policy()
    _, spy = train(config, policy, bare, tmp_path)
    policy.model.load_state_dict(spy.weights[0], strict=False)
    assert relative_error(spy.gradients[0], reinforce_gradient(policy.model, rows)) > 1e-2


# ---------------------------------------------------------------- several updates per step


def ppo_gradient(
    model: torch.nn.Module, rows: list[Rollout], old: list[torch.Tensor], tokens: float, clip: float
) -> dict[str, torch.Tensor]:
    """PPO-clip by hand, one sequence at a time."""
    model.zero_grad()
    for row, old_T in zip(rows, old, strict=True):
        ratio_T = (token_logps(model, row)[0] - old_T).exp()
        objective_T = torch.minimum(ratio_T * row.advantage, ratio_T.clamp(1 - clip, 1 + clip) * row.advantage)
        (-row.weight * objective_T.sum() / tokens).backward()
    return {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


def test_two_updates_a_step_are_ppo_with_the_first_log_probabilities(tmp_path: Path) -> None:
    config = exact(updates_per_step=2, learning_rate=2e-2, clip=0.1)
    rows = random_rollouts(config)
    policy = tiny_policy()
    trainer, spy = train(config, policy, rows, tmp_path)
    assert len(spy.gradients) == 2
    assert trainer.steps_done == 1
    model, half = policy.model, len(rows) // 2
    tokens = sum(len(row.completion_ids) for row in rows) / 2
    model.load_state_dict(spy.weights[0], strict=False)
    old = [token_logps(model, row)[0].detach() for row in rows]
    assert relative_error(spy.gradients[0], ppo_gradient(model, rows[:half], old[:half], tokens, config.clip)) < 1e-5
    model.load_state_dict(spy.weights[1], strict=False)
    ratios = torch.cat(
        [(token_logps(model, row)[0].detach() - o).exp() for row, o in zip(rows[half:], old[half:], strict=True)]
    )
    assert ((ratios - 1).abs() > config.clip).any(), "nothing is clipped; the test would prove too little"
    assert relative_error(spy.gradients[1], ppo_gradient(model, rows[half:], old[half:], tokens, config.clip)) < 1e-5
    fresh = [token_logps(model, row)[0].detach() for row in rows[half:]]
    assert relative_error(spy.gradients[1], ppo_gradient(model, rows[half:], fresh, tokens, config.clip)) > 1e-2


def test_each_of_two_updates_has_its_share_of_the_entropy_bonus(tmp_path: Path) -> None:
    config = exact(updates_per_step=2, entropy_coef=0.1)
    rows = random_rollouts(config)
    policy = tiny_policy()
    _, spy = train(config, policy, rows, tmp_path)
    policy.model.load_state_dict(spy.weights[0], strict=False)
    first = rows[: len(rows) // 2]
    share = 2 * sum(len(row.completion_ids) for row in first) / sum(len(row.completion_ids) for row in rows)
    wanted = reinforce_gradient(policy.model, first, config.entropy_coef)
    assert relative_error(spy.gradients[0], {name: share * gradient for name, gradient in wanted.items()}) < 1e-5


def test_log_probabilities_kept_from_sampling_serve_as_the_old_ones(tmp_path: Path) -> None:
    config = exact(updates_per_step=2, learning_rate=2e-2)
    rows = random_rollouts(config)
    model = tiny_policy().model
    with torch.no_grad():
        kept = [dataclasses.replace(row, logps=tuple(token_logps(model, row)[0].tolist())) for row in rows]
    _, scored = train(config, tiny_policy(), rows, tmp_path / "scored")
    _, reused = train(config, tiny_policy(), kept, tmp_path / "reused")
    for update in (0, 1):
        assert relative_error(reused.gradients[update], scored.gradients[update]) < 1e-4


# ---------------------------------------------------------------- replies


def test_replies_come_back_in_order_and_are_reproducible(tmp_path: Path) -> None:
    config = tiny_config()
    trainer = idle(config, tiny_policy(), tmp_path)
    prompts = ["abc", "x", "a longer prompt", "x", "x", "zz"]
    torch.manual_seed(1)
    first = trainer.generate(prompts)
    state = torch.get_rng_state()
    again = idle(config, tiny_policy(), tmp_path).generate(prompts)
    assert first == again, "sampling must depend on the seed, the step and the call alone"
    assert [c.prompt for c in first] == prompts
    assert len({c.ids for c in first if c.prompt == "x"}) > 1, "equal prompts must be sampled apart"
    assert first != trainer.generate(prompts), "two calls must not sample the same"
    trainer.generate(prompts)
    torch.set_rng_state(state)
    for reply in first:
        assert trainer.count_tokens(reply.prompt) == len(reply.prompt_ids)
        assert reply.truncated == (reply.ids[-1] != 0 and len(reply.ids) == config.max_reply_tokens)
        assert "</s>" not in reply.text[-4:]


def test_each_step_is_sampled_from_its_own_seed(tmp_path: Path) -> None:
    found = []
    for step in (0, 1, 1):
        trainer = idle(tiny_config(), tiny_policy(), tmp_path)
        trainer._selfplay_step = step
        found.append([reply.ids for reply in trainer.generate(["x"] * 4)])
    assert found[0] != found[1] == found[2]


def test_greedy_replies_leave_the_random_numbers_alone(tmp_path: Path) -> None:
    config = tiny_config()
    make = lambda: idle(config, tiny_policy(), tmp_path)  # noqa: E731
    plain, with_evaluation = make(), make()
    one, two = (with_evaluation.generate(["ab", "cd"], greedy=True) for _ in range(2))
    assert one == two
    assert plain.generate(["ab", "cd"]) == with_evaluation.generate(["ab", "cd"])


def test_greedy_replies_are_the_likeliest_tokens(tmp_path: Path) -> None:
    policy = tiny_policy()
    trainer = idle(tiny_config(), policy, tmp_path)
    replies = trainer.generate(["ab", "the cat"], greedy=True)
    model = policy.model.eval()
    for reply in replies:
        ids = list(reply.prompt_ids)
        for token in reply.ids:
            with torch.no_grad():
                assert token == model(torch.tensor([ids])).logits[0, -1].argmax().item()
            ids.append(token)


def test_each_chunk_of_prompts_is_sampled_from_its_own_seed(tmp_path: Path) -> None:
    config = tiny_config(generation_chunk=4)
    trainer = idle(config, tiny_policy(), tmp_path)
    replies = [reply.ids for reply in trainer.generate(["x"] * 8)]
    assert replies[:4] != replies[4:], "the n replies to one task would be copies"
    other = idle(config.replace(seed=1), tiny_policy(), tmp_path / "other")
    assert [reply.ids for reply in other.generate(["x"] * 8)] != replies


def test_the_settings_of_sampling_and_of_the_optimiser_reach_trl(tmp_path: Path) -> None:
    changes = {"temperature": 0.7, "learning_rate": 3e-3, "adam_beta2": 0.97, "weight_decay": 0.04}
    config = tiny_config(max_grad_norm=0.5, clip=0.3, seed=7, max_reply_tokens=9, **changes)
    trainer = idle(config, tiny_policy(), tmp_path)
    used = trainer.generation_config
    assert (used.temperature, used.top_p, used.do_sample) == (0.7, 1.0, True)
    assert (used.max_new_tokens, trainer.args.seed) == (9, 7)
    assert not used.top_k, "TRL and transformers have a top-k of their own"
    assert (trainer.args.max_grad_norm, trainer.epsilon_low, trainer.epsilon_high) == (0.5, 0.3, 0.3)
    trainer.create_optimizer()
    for group in trainer.optimizer.param_groups:
        assert (group["lr"], group["betas"]) == (3e-3, (0.9, 0.97))
    assert {group["weight_decay"] for group in trainer.optimizer.param_groups} == {0.04, 0.0}


def test_chat_prompts_go_through_the_template(tmp_path: Path) -> None:
    trainer = idle(tiny_config(), tiny_policy(chat=True, bos=True), tmp_path, CHAT)
    reply = trainer.generate(["hi"])[0]
    assert reply.prompt == "<user>hi</s><assistant>"
    assert trainer.count_tokens("hi") == len(reply.prompt_ids)
    assert reply.prompt_ids[0] != 2, "a chat template writes its own beginning; none may be added"


def test_a_beginning_token_is_added_only_where_the_tokenizer_adds_one(tmp_path: Path) -> None:
    for bos in (True, False):
        trainer = idle(tiny_config(), tiny_policy(bos=bos), tmp_path)
        assert (trainer.generate(["hi"])[0].prompt_ids[0] == 2) is bos


def test_a_padding_token_that_equals_the_end_token_hides_nothing(tmp_path: Path) -> None:
    """The end token of each reply is trained even where padding looks the same."""
    policy = tiny_policy()
    policy.tokenizer.pad_token = policy.tokenizer.eos_token
    config = exact()
    rows = random_rollouts(config)
    _, spy = train(config, policy, rows, tmp_path)
    policy.model.load_state_dict(spy.weights[0], strict=False)
    assert relative_error(spy.gradients[0], reinforce_gradient(policy.model, rows)) < 1e-5


def test_the_sampler_replaces_generation_only_where_it_is_right(tmp_path: Path) -> None:
    calls: list[tuple[bool, int]] = []

    def sampler(prompt_ids: list[list[int]], *, greedy: bool, seed: int, ended: Any) -> list[Any]:
        calls.append((greedy, seed))
        return [([30, 0], [-1.0, -2.0], False) for _ in prompt_ids]

    def generate(config: Config, tuning: str = "full") -> Any:
        player = Scripted(lambda generate, step: [])
        return SelfPlayTrainer(config, tiny_policy(tuning), PLAIN, player, tmp_path, sampler=sampler).generate(
            ["ab", "c"]
        )

    assert [c.logps for c in generate(tiny_config())] == [(-1.0, -2.0)] * 2
    assert calls[0][0] is False
    generate(tiny_config(tuning="lora"), "lora")
    generate(tiny_config(temperature=0.7))
    generate(tiny_config(proposer_temperature=0.7, pack_prompts=True))
    assert len(calls) == 1, "the sampler knows neither adapters nor other temperatures"


# ---------------------------------------------------------------- reports, stopping, refusing


def test_one_report_a_step(tmp_path: Path) -> None:
    config = tiny_config(steps=3, updates_per_step=2, entropy_coef=0.01)
    reports: list[dict[str, Any]] = []
    SelfPlayTrainer(
        config, tiny_policy(), PLAIN, Scripted(sampled_script(config)), tmp_path, on_step=reports.append
    ).train()
    assert [r["step"] for r in reports] == [0, 1, 2]
    for report in reports:
        assert {"loss", "grad_norm", "learning_rate", "clip_ratio", "entropy"} <= report.keys()
        assert set(report["timing"]) == {"generate", "sandbox", "update", "rest"}
        assert report["learning_rate"] == config.learning_rate


def test_a_stop_finishes_the_step_and_saves(tmp_path: Path) -> None:
    from azr_lite.train.checkpoints import last_whole_checkpoint

    config = tiny_config(steps=5, updates_per_step=2, save_every=0)
    player = Scripted(
        lambda generate, step: (trainer.schedule.request_stop() if step == 1 else None) or random_rollouts(config)
    )
    trainer = SelfPlayTrainer(config, tiny_policy(), PLAIN, player, tmp_path)
    trainer.train()
    assert trainer.steps_done == 2
    assert player.played == [0, 1]
    assert last_whole_checkpoint(tmp_path) == tmp_path / "checkpoint-4"


@pytest.mark.parametrize("updates", [1, 2])
def test_a_loss_that_is_not_finite_ends_the_run_before_anything_is_saved(updates: int, tmp_path: Path) -> None:
    config = tiny_config(updates_per_step=updates)
    rows = [dataclasses.replace(r, advantage=float("nan")) for r in random_rollouts(config)]
    with pytest.raises(TrainingError, match="the loss of step 0 is nan"):
        train(config, tiny_policy(), rows, tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_gradient_that_is_not_finite_ends_the_run_before_anything_is_saved(tmp_path: Path) -> None:
    config = tiny_config()
    policy = tiny_policy()
    policy.model.model.layers[0].self_attn.q_proj.weight.register_hook(lambda gradient: gradient * float("inf"))
    with pytest.raises(TrainingError, match="the gradient of step 0"):
        train(config, policy, random_rollouts(config), tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_batch_of_the_wrong_size_is_refused(tmp_path: Path) -> None:
    config = tiny_config()
    with pytest.raises(TrainingError, match="not the 12 of the batch"):
        train(config, tiny_policy(), random_rollouts(config)[:-1], tmp_path)


def test_a_batch_that_does_not_split_over_the_processes_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "5")
    with pytest.raises(ConfigError, match="5 processes"):
        train(tiny_config(), tiny_policy(), [], tmp_path)


@pytest.mark.parametrize(("dtype", "rate"), [(torch.bfloat16, 1e-6), (torch.float16, 1e-7), (torch.float32, 1e-11)])
def test_the_self_test_notices_an_update_that_rounding_swallows(
    dtype: torch.dtype, rate: float, tmp_path: Path
) -> None:
    config = tiny_config(learning_rate=rate)
    trainer = idle(config, tiny_policy(), tmp_path)
    trainer.model.to(dtype)  # the trainer itself keeps trained weights in float32
    with pytest.raises(TrainingError, match=r"rounding swallows \d+% of an update"):
        self_test(trainer)


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_self_test_leaves_no_trace(tuning: str, tmp_path: Path) -> None:
    config = tiny_config(tuning=tuning, learning_rate=1e-6)
    trainer = idle(config, tiny_policy(tuning), tmp_path)
    before = {name: p.clone() for name, p in trainer.model.state_dict().items()}
    state = torch.get_rng_state()
    result = self_test(trainer)
    assert result.raised > 0 > result.lowered
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[name], p) for name, p in trainer.model.state_dict().items())
    assert all(p.grad is None for p in trainer.model.parameters())
    assert not trainer._metrics["train"]
