"""Packed prompts, the KL penalty, adapters in the upper half and a temperature for each role: the same numbers, sooner."""

from __future__ import annotations

import dataclasses
import random
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM, MistralConfig, MistralForCausalLM

from azr_lite.advantages import split_into_updates
from azr_lite.config import Config
from azr_lite.errors import ConfigError, ModelError
from azr_lite.train import scoring
from azr_lite.train.policy import Policy, upper_half
from azr_lite.train.trainer import SelfPlayTrainer
from azr_lite.triplet import Role, Rollout
from tests.test_trainer import Spy, exact, relative_error
from tests.tiny import PLAIN, Scripted, rollout, tiny_config, tiny_model, tiny_policy, tiny_tokenizer, weigh


def shared_rows(config: Config, seed: int = 0, seen: int = 3) -> list[Rollout]:
    """A whole batch in which groups of `seen` rows answer one prompt; prompts and replies share beginnings, some replies
    are equal, and every fifth row is padding."""
    rng = random.Random(seed)
    head = [rng.randrange(4, 100) for _ in range(7)]
    rows: list[Rollout] = []
    for role, count in ((Role.PROPOSE, config.batch_size), (Role.SOLVE, config.solver_rows)):
        for kind in config.task_types:
            for i in range(count):
                if i % seen == 0:
                    prompt = head + [rng.randrange(4, 100) for _ in range(rng.randint(1, 20))]
                reply = [rng.randrange(4, 7) for _ in range(rng.randint(0, 8))] + [0]
                rows.append(rollout(role, kind, prompt, reply, rng.choice([-1.0, -0.5, 0.0, 0.25, 1.0])))
    return weigh(config, rows, counts=[index % 5 != 4 for index in range(len(rows))])


def policy_of(kind: str, tuning: str = "full") -> Policy:
    """The tiny Qwen2, or a Llama of its size."""
    policy = tiny_policy(tuning)
    if kind == "llama":
        torch.manual_seed(1)
        sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
        policy.model = LlamaForCausalLM(
            LlamaConfig(vocab_size=len(policy.tokenizer), num_key_value_heads=2, initializer_range=0.2, **sizes)
        )
    return policy


def trainer_of(config: Config, policy: Policy, rows: list[Rollout], folder: Path, **told: Any) -> SelfPlayTrainer:
    return SelfPlayTrainer(config, policy, PLAIN, Scripted(lambda generate, step: rows), folder, **told)


def stir(model: torch.nn.Module) -> None:
    """Adapters start as zero; here they do something."""
    torch.manual_seed(3)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.normal_(std=0.2)


def train(config: Config, rows: list[Rollout], folder: Path, kind: str = "qwen2") -> tuple[SelfPlayTrainer, Spy]:
    trainer, spy = trainer_of(config, policy_of(kind, config.tuning), rows, folder), Spy()
    stir(trainer.model)
    trainer.add_callback(spy)
    trainer.train()
    return trainer, spy


# ---------------------------------------------------------------- packing


def padded(rows: list[Rollout]) -> tuple[torch.Tensor, torch.Tensor, int]:
    """As TRL pads them: ids and mask (B, T), and the width of the replies."""
    before, after = max(len(r.prompt_ids) for r in rows), max(len(r.completion_ids) for r in rows)
    ids, mask = torch.ones(len(rows), before + after, dtype=torch.long), torch.zeros(len(rows), before + after)
    for b, r in enumerate(rows):
        start = before - len(r.prompt_ids)
        ids[b, start:][: len(r.prompt_ids) + len(r.completion_ids)] = torch.tensor(r.prompt_ids + r.completion_ids)
        mask[b, start:][: len(r.prompt_ids) + len(r.completion_ids)] = 1
    return ids, mask.long(), after


def alone(model: torch.nn.Module, row: Rollout, temperature: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-probability and entropy of each reply token, from a pass over this row alone."""
    ids_BT = torch.tensor([[*row.prompt_ids, *row.completion_ids]])
    logps_TV = (model(input_ids=ids_BT).logits[0, len(row.prompt_ids) - 1 : -1] / temperature).log_softmax(-1)
    return logps_TV.gather(-1, ids_BT[0, len(row.prompt_ids) :, None])[:, 0], -(logps_TV.exp() * logps_TV).sum(-1)


@pytest.mark.parametrize("bonus", [0.0, 0.3])
@pytest.mark.parametrize("most", [12, 4096])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_a_packed_pass_gives_the_numbers_and_slopes_of_each_row_alone(
    kind: str, most: int, bonus: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether rows share a tree or not, and whether the entropy passes a gradient on or not."""
    monkeypatch.setattr(scoring, "TREE_TOKENS", (0, most))
    monkeypatch.setattr(scoring, "SLOTS_AT_ONCE", 5)
    model, rows = policy_of(kind).model, shared_rows(tiny_config(batch_size=5))
    temperatures_B = [0.7 if r.role == Role.PROPOSE else 1.0 for r in rows]
    ids_BT, mask_BT, width = padded(rows)
    logps_BK, entropies_BK = scoring.score_packed(model, ids_BT, mask_BT, width, temperatures_B, True)
    drawn = torch.Generator().manual_seed(0)
    factors_BK = torch.rand(logps_BK.shape, generator=drawn)
    ((logps_BK + bonus * entropies_BK) * factors_BK).sum().backward()
    found = {name: p.grad.clone() for name, p in model.named_parameters()}
    model.zero_grad()
    for b, (row, temperature) in enumerate(zip(rows, temperatures_B, strict=True)):
        logps_T, entropies_T = alone(model, row, temperature)
        long = len(logps_T)
        assert torch.allclose(logps_BK[b, :long], logps_T, atol=1e-5)
        assert torch.allclose(entropies_BK[b, :long], entropies_T, atol=1e-5)
        assert not logps_BK[b, long:].any()
        assert not entropies_BK[b, long:].any()
        ((logps_T + bonus * entropies_T) * factors_BK[b, :long]).sum().backward()
    assert relative_error(found, {name: p.grad for name, p in model.named_parameters()}) < 1e-5


def test_a_tree_reads_every_common_beginning_once() -> None:
    tree = scoring.Tree.of([[5, 6, 7], [5, 6, 8, 9], [5, 6, 7], [4]])
    assert tree.tokens == [5, 6, 7, 8, 9, 4]
    assert tree.paths == [[0, 1, 2], [0, 1, 3, 4], [0, 1, 2], [5]]
    assert [set(row.nonzero()[0].tolist()) for row in tree.sight()] == [
        {0},
        {0, 1},
        {0, 1, 2},
        {0, 1, 3},
        {0, 1, 3, 4},
        {5},
    ]


@pytest.mark.parametrize("tuning", ["full", "lora"])
@pytest.mark.parametrize("kind", ["qwen2", "llama"])
def test_the_gradients_of_a_step_are_those_of_unpacked_prompts(kind: str, tuning: str, tmp_path: Path) -> None:
    """Two updates, so old log-probabilities too; entropy bonus and KL; more than one prompt in a micro-batch."""
    settings = {"kl_coef": 0.2} if tuning == "lora" else {}
    config = exact(batch_size=4, updates_per_step=2, entropy_coef=0.1, micro_batch_size=6, tuning=tuning, **settings)
    rows = shared_rows(config)
    _, plain = train(config, rows, tmp_path / "plain", kind)
    trainer, packed = train(config.replace(pack_prompts=True), rows, tmp_path / "packed", kind)
    assert trainer.scorer.packs
    assert [[r.prompt_ids for r in trainer.rollouts]] != [[r.prompt_ids for r in rows]], "rows are grouped by prompt"
    for update in (0, 1):
        assert relative_error(packed.gradients[update], plain.gradients[update]) < 1e-5


def test_a_whole_number_is_a_temperature_too(tmp_path: Path) -> None:
    config = exact(batch_size=4, micro_batch_size=24, pack_prompts=True, temperature=1)
    rows = shared_rows(config)
    whole, broken = (train(config.replace(temperature=t), rows, tmp_path / str(t))[1] for t in (1, 1.0))
    assert relative_error(whole.gradients[0], broken.gradients[0]) == 0


def test_each_role_is_scored_at_its_own_temperature(tmp_path: Path) -> None:
    config = exact(batch_size=4, micro_batch_size=24, pack_prompts=True, temperature=0.8, proposer_temperature=1.3)
    rows = shared_rows(config)
    trainer, spy = train(config, rows, tmp_path)
    model = trainer.model
    model.load_state_dict(spy.weights[0], strict=False)
    model.zero_grad()
    tokens = sum(len(r.completion_ids) for r in rows)
    for row in rows:
        logps_T, _ = alone(model, row, 1.3 if row.role == Role.PROPOSE else 0.8)
        (-row.weight * row.advantage * logps_T.sum() / tokens).backward()
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert relative_error(spy.gradients[0], wanted) < 1e-5


def test_a_model_that_cannot_read_packed_prompts_is_trained_without(tmp_path: Path) -> None:
    policy, notes = tiny_policy(), []
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 1, "num_attention_heads": 4}
    policy.model = MistralForCausalLM(
        MistralConfig(vocab_size=len(policy.tokenizer), num_key_value_heads=2, sliding_window=8, **sizes)
    )
    config = tiny_config(pack_prompts=True)
    trainer = trainer_of(config, policy, [], tmp_path, note=notes.append)
    assert not trainer.scorer.packs
    assert [note for note in notes if "update" in note] == [
        "the update reads a prompt once per reply: this model cannot read packed prompts (it has sliding windows)"
    ]
    with pytest.raises(ConfigError, match="sliding windows"):
        trainer_of(config.replace(proposer_temperature=0.9), policy, [], tmp_path)
    other = tiny_model(tiny_tokenizer())
    other.config._attn_implementation = "eager"
    assert scoring.why_not(other) == "its attention is 'eager', not 'sdpa'"


def test_micro_batches_cut_as_few_prompts_as_possible() -> None:
    sizes = [3, 8, 5, 1, 4, 1, 2]  # into micro-batches of 8: 8, 5 + 3, 4 + 2 + 1 + 1
    rows = [
        rollout(Role.SOLVE, "deduction", [40 + p] * (p + 1), [50 + i, 0], 0.0)
        for p, n in enumerate(sizes)
        for i in range(n)
    ]
    random.Random(0).shuffle(rows)
    batches = scoring.micro_batches(rows, 8)
    assert [len(batch) for batch in batches] == [8, 8, 8]
    assert sorted(row.prompt_ids + row.completion_ids for batch in batches for row in batch) == sorted(
        row.prompt_ids + row.completion_ids for row in rows
    )
    assert sum(len({row.prompt_ids for row in batch}) for batch in batches) == len(sizes)
    cut = scoring.micro_batches([r for r in rows if r.prompt_ids[0] in (41, 42, 40)], 4)
    assert sum(len({row.prompt_ids for row in batch}) for batch in cut) == 2 + 1 + 2


@pytest.mark.parametrize("by_role", [False, True])
def test_updates_get_whole_prompts_and_as_many_rows_of_each_group(by_role: bool) -> None:
    config = tiny_config(batch_size=12)
    rows = shared_rows(config)
    packed = split_into_updates(rows, 3, random.Random(5), by_role, whole_prompts=True)
    dealt = split_into_updates(rows, 3, random.Random(5), by_role)
    count = lambda part: sorted((r.group, r.weight > 0) for r in part)  # noqa: E731
    assert [count(part) for part in packed] == [count(part) for part in dealt]
    key = lambda r: (r.group, r.prompt_ids, r.completion_ids, r.weight)  # noqa: E731
    assert sorted(key(r) for part in packed for r in part) == sorted(map(key, rows))
    prompts = lambda parts: sum(len({(r.group, r.prompt_ids) for r in part if r.weight}) for part in parts)  # noqa: E731
    groups, whole = len({r.group for r in rows}), prompts([rows])
    assert whole <= prompts(packed) <= whole + 2 * groups < prompts(dealt)


# ---------------------------------------------------------------- KL


def kl_config(**changes: Any) -> Config:
    return exact(batch_size=4, tuning="lora", micro_batch_size=6, kl_coef=0.5, **changes)


@pytest.mark.parametrize("packs", [False, True])
def test_the_kl_penalty_is_nought_before_the_first_update_and_then_the_k3_estimate(packs: bool, tmp_path: Path) -> None:
    config = kl_config(pack_prompts=packs)
    rows = [dataclasses.replace(r, advantage=0.0) for r in shared_rows(config)]
    fresh, spy = trainer_of(config, tiny_policy("lora"), rows, tmp_path / "fresh"), Spy()
    fresh.add_callback(spy)
    fresh.train()
    assert all(not gradient.any() for gradient in spy.gradients[0].values())
    reports: list[dict[str, Any]] = []
    trainer, spy = trainer_of(config, tiny_policy("lora"), rows, tmp_path / "stirred", on_step=reports.append), Spy()
    stir(trainer.model)
    trainer.add_callback(spy)
    trainer.train()
    model = trainer.model
    model.load_state_dict(spy.weights[0], strict=False)
    model.zero_grad()
    tokens, found = sum(len(r.completion_ids) for r in rows), []
    for row in rows:
        with torch.no_grad(), model.disable_adapter():
            base_T = alone(model, row, 1.0)[0]
        change_T = base_T - alone(model, row, 1.0)[0]
        k3_T = change_T.exp() - change_T - 1
        (0.5 * row.weight * k3_T.sum() / tokens).backward()
        found += k3_T.tolist() if row.weight else []
    wanted = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    assert relative_error(spy.gradients[0], wanted) < 1e-5
    assert min(found) < reports[0]["kl"] < max(found)
    assert 0.5 < reports[0]["kl"] / (sum(found) / len(found)) < 2, "a mean of the means of micro-batches"


def test_split_roles_stay_trainable_under_the_kl_penalty(tmp_path: Path) -> None:
    config = kl_config(roles="split", pack_prompts=True)
    trainer, spy = train(config, shared_rows(config), tmp_path)
    assert len(spy.gradients[0]) == sum(".lora_" in name for name, _ in trainer.model.named_parameters())
    plain, other = train(config.replace(pack_prompts=False), shared_rows(config), tmp_path / "plain")
    assert not plain.scorer.packs
    assert relative_error(spy.gradients[0], other.gradients[0]) < 1e-5


def test_padding_rows_count_for_nothing(tmp_path: Path) -> None:
    config = kl_config(pack_prompts=True, entropy_coef=0.1)
    rows = shared_rows(config)
    other = [r if r.weight else dataclasses.replace(r, completion_ids=(77,) * len(r.completion_ids)) for r in rows]
    assert other != rows
    _, one = train(config, rows, tmp_path / "one")
    _, two = train(config, other, tmp_path / "two")
    assert relative_error(one.gradients[0], two.gradients[0]) < 1e-5


# ---------------------------------------------------------------- adapters in the upper half


def test_adapters_in_the_upper_half_stop_the_backward_pass_half_way(tmp_path: Path) -> None:
    policy = tiny_policy("lora")
    for name, value in upper_half(policy.model).items():
        setattr(policy.peft_config, name, {*value} if name == "target_modules" else value)
    config = exact(batch_size=4, micro_batch_size=6, tuning="lora", lora_layers="upper", pack_prompts=True, kl_coef=0.1)
    trainer = trainer_of(config, policy, shared_rows(config), tmp_path)
    lower, upper = trainer.model.get_base_model().model.layers
    outputs: dict[str, list[bool]] = {"lower": [], "upper": []}
    for name, layer in (("lower", lower), ("upper", upper)):
        layer.register_forward_hook(lambda _module, _args, out, name=name: outputs[name].append(out.requires_grad))
    trainer.train()
    assert not any(outputs["lower"])
    assert any(outputs["upper"])
    adapted = {name for name, p in trainer.model.named_parameters() if p.requires_grad}
    assert len(adapted) == 2 * 7
    assert all(".layers.1." in name for name in adapted)


def test_a_model_without_a_list_of_layers_has_no_upper_half() -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    with pytest.raises(ModelError, match="GPT2LMHeadModel has no list of layers"):
        upper_half(GPT2LMHeadModel(GPT2Config(n_layer=1, n_embd=8, n_head=1, vocab_size=9)))
