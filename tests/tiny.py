"""A random Qwen2 of about 30 thousand parameters, a character tokenizer, and a scripted SelfPlay, for tests of the update."""

from __future__ import annotations

import dataclasses
import random
import string
from collections.abc import Callable, Sequence
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from azr_lite.advantages import loss_weights, trr
from azr_lite.config import Config
from azr_lite.prompts.base import Style
from azr_lite.train.policy import Policy
from azr_lite.triplet import Completion, Role, Rollout, Verdict

PLAIN = Style(name="plain", frame=str, prefill="")
CHAT = Style(name="chat", frame=str, prefill="", chat=True)
CHATML = "{% for m in messages %}<{{ m['role'] }}>{{ m['content'] }}</s>{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"


def tiny_tokenizer(*, pad: bool = True, bos: bool = False, chat: bool = False) -> PreTrainedTokenizerFast:
    """One token a printable character, and the specials."""
    specials = ["</s>", "<pad>", "<s>", "<unk>"]
    vocab = {token: i for i, token in enumerate([*specials, *string.printable])}
    inner = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    inner.decoder = decoders.Fuse()
    if bos:
        from tokenizers.processors import TemplateProcessing

        inner.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 2)])
    names = (
        {"eos_token": "</s>", "unk_token": "<unk>"}
        | ({"pad_token": "<pad>"} if pad else {})
        | ({"bos_token": "<s>"} if bos else {})
    )
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, **names)
    if chat:
        tokenizer.chat_template = CHATML
    return tokenizer


def tiny_model(tokenizer: PreTrainedTokenizerFast, seed: int = 0, width: int = 32) -> Qwen2ForCausalLM:
    """Random weights, float32. Four-bit kernels want a `width` of 64."""
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=width,
        intermediate_size=2 * width,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=256,
        tie_word_embeddings=True,
        eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )
    return Qwen2ForCausalLM(config)


def tiny_config(**changes: Any) -> Config:
    """Twelve rows: 3 games x (2 proposals + 2 solutions)."""
    settings: dict[str, Any] = {
        "model": "nano",
        "batch_size": 2,
        "steps": 1,
        "micro_batch_size": 2,
        "max_reply_tokens": 12,
        "learning_rate": 1e-2,
        "weight_decay": 0.0,
        "entropy_coef": 0.0,
        "generation_chunk": 4,
        "save_every": 1,
        "device": "cpu",
        "dtype": "float32",
    }
    return Config(**{**settings, **changes})


def tiny_policy(tuning: str = "full", *, seed: int = 0, **tokens: bool) -> Policy:
    """As `load_policy` would give it, from random weights."""
    tokenizer = tiny_tokenizer(**tokens)
    adapter = None
    if tuning != "full":
        from peft import LoraConfig

        adapter = LoraConfig(r=4, lora_alpha=8, lora_dropout=0.0, target_modules="all-linear", task_type="CAUSAL_LM")
    model = tiny_model(tokenizer, seed)
    return Policy(model, tokenizer, "r1", adapter, torch.device("cpu"), torch.float32)


def rollout(role: Role, kind: str, prompt: Sequence[int], ids: Sequence[int], reward: float) -> Rollout:
    return Rollout(
        role=role,
        type=kind,
        prompt="",
        text="",
        prompt_ids=tuple(prompt),
        completion_ids=tuple(ids),
        verdict=Verdict(ok=True, well_formed=True),
        reward=reward,
        reward_parts={},
    )


def random_rollouts(config: Config, seed: int = 0) -> list[Rollout]:
    """A whole batch with prompts and replies of very different lengths, and weighed as `SelfPlay` does it."""
    rng = random.Random(seed)
    rows = []
    for role, count in ((Role.PROPOSE, config.batch_size), (Role.SOLVE, config.solver_rows)):
        for kind in config.task_types:
            for _ in range(count):
                prompt = [rng.randrange(4, 100) for _ in range(rng.randint(2, 25))]
                reply = [rng.randrange(4, 100) for _ in range(rng.randint(1, 11))] + [0]
                rows.append(rollout(role, kind, prompt, reply, rng.choice([-1.0, -0.5, 0.0, 0.25, 1.0])))
    return weigh(config, rows)


def weigh(config: Config, rows: list[Rollout], counts: Sequence[bool] | None = None) -> list[Rollout]:
    """Advantages and loss weights by azr_lite's own functions."""
    groups, lengths = [r.group for r in rows], [len(r.completion_ids) for r in rows]
    counts = [True] * len(rows) if counts is None else counts
    advantages = trr([r.reward for r in rows], groups, lengths, config.whitening)
    weights = loss_weights(groups, lengths, counts, config.role_balanced_loss)
    return [
        dataclasses.replace(r, advantage=float(a), weight=float(w))
        for r, a, w in zip(rows, advantages, weights, strict=True)
    ]


class Scripted:
    """A SelfPlay without games: `script(generate, step)` gives the rollouts. Counts its steps, so that it has a state."""

    def __init__(self, script: Callable[[Callable[[Sequence[str]], list[Completion]], int], list[Rollout]]) -> None:
        self.script, self.played = script, []
        self.seconds = {"generate": 0.0, "sandbox": 0.0}

    def step(self, generate: Callable[[Sequence[str]], list[Completion]], step: int) -> list[Rollout]:
        self.played.append(step)
        return self.script(generate, step)

    def state_dict(self) -> dict[str, Any]:
        return {"played": list(self.played)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.played = list(state["played"])


def sampled_script(config: Config) -> Callable[[Callable[[Sequence[str], Role], list[Completion]], int], list[Rollout]]:
    """Samples every row from the policy; a reply is paid for its share of vowels, so that there is something to learn."""

    def script(generate: Callable[[Sequence[str], Role], list[Completion]], step: int) -> list[Rollout]:
        rows = []
        for role, count in ((Role.PROPOSE, config.batch_size), (Role.SOLVE, config.solver_rows)):
            kinds = [kind for kind in config.task_types for _ in range(count)]
            replies = generate([f"{role}{step}{kind}:"[: 4 + 3 * i] for i, kind in enumerate(kinds)], role)
            for kind, reply in zip(kinds, replies, strict=True):
                reward = sum(letter in "aeiou0123" for letter in reply.text) / len(reply.ids)
                rows.append(
                    dataclasses.replace(rollout(role, kind, reply.prompt_ids, reply.ids, reward), logps=reply.logps)
                )
        return weigh(config, rows)

    return script
