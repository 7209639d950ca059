"""The warm start of nano: ``python -m azr_lite.course.warm_start [--examples N] [--seed S] [--out FOLDER]``, an hour.

azr_lite/nano/NOTES.md says what it contains, and `demonstrations.Mixture` holds the numbers. No reward is used here.
Deterministic in its arguments on one machine and thread count. The learning rate decays to zero, so that a low rate
afterwards is no gain by itself.
"""

from __future__ import annotations

import json
import random
import re
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from tokenizers import Regex, Tokenizer, decoders, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from azr_lite.course.demonstrations import Mixture, demonstration
from azr_lite.nano.language import KINDS
from azr_lite.nano.model import WEIGHTS
from azr_lite.prompts.base import ANSWER, END_ANSWER, END_THINK, THINK

EOS, PAD, UNK = "<eos>", "<pad>", "<unk>"

_FORM = (
    THINK, END_THINK, ANSWER, END_ANSWER, "```python\n", "```input\n", "```output\n", "```message\n",
    "\n```\n", "\n```",
)  # fmt: skip
_COMMANDS = tuple(
    f"{command} {name}\n" for command in ("solve", "invent") for name in ("deduction", "abduction", "induction")
)
_IDIOMS = (
    "def f(x):", "\n    x = ", "\n    return x", "x[::-1]", "x[1:]", "x[:-1]", "x[:1]", "x[-1:]", "x[0]", "x[-1]",
    "x.upper()", "x.swapcase()", "x.replace(", "''.join(sorted(x))", "sorted(x)", "len(x)", "max(x)", "min(x)",
    "list(range(x))", "[x]", "[x, ", "[v + ", " for v in x]", " + ", " * ", " -> ", " <- ", " => ", ", ", "then ?",
)  # fmt: skip
_WORDS = tuple(dict.fromkeys(kind.name for kind in KINDS))
_NUMBERS = tuple(str(number) for number in range(10, 100))
_ASCII = tuple(chr(code) for code in (9, 10, 11, 12, 13, *range(32, 127)))


def vocabulary() -> dict[str, int]:
    """Every token with its id, padding first."""
    tokens = (PAD, EOS, UNK, *_FORM, *_COMMANDS, *_IDIOMS, *_WORDS, *_NUMBERS, *_ASCII)
    return {token: number for number, token in enumerate(dict.fromkeys(tokens))}


def build_tokenizer() -> PreTrainedTokenizerFast:
    """The word-level tokenizer of the nano world: about 200 tokens, exact round trip for every ASCII text.

    Tags, fence openers and closers, commands, hint words and the idioms of the mini-language are single tokens, and so
    are the integers 0 to 99. Everything else falls back to single ASCII characters, and what is not ASCII becomes
    ``<unk>``. Load saved folders with `PreTrainedTokenizerFast`: `AutoTokenizer` splits by Qwen2's rule.
    """
    longest_first = sorted((*_FORM, *_COMMANDS, *_IDIOMS, *_WORDS), key=len, reverse=True)
    words = [re.escape(token).replace("\\\n", "\\n").replace("\\ ", " ") for token in longest_first]
    pattern = "|".join((*words, "[1-9][0-9]", r"[\s\S]"))
    tokenizer = Tokenizer(models.WordLevel(vocabulary(), unk_token=UNK))
    tokenizer.pre_tokenizer = pre_tokenizers.Split(Regex(pattern), behavior="isolated")
    tokenizer.decoder = decoders.Fuse()
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token=EOS,
        pad_token=PAD,
        unk_token=UNK,
        clean_up_tokenization_spaces=False,
        padding_side="left",
    )


Example = tuple[list[int], int]
"""Token ids with the end token, and where what is learned begins: at the reply, or at its second token."""


@dataclass(frozen=True)
class WarmStart:
    """How the warm start is trained."""

    examples: int = 340_000
    seed: int = 0
    batch: int = 64
    pool: int = 24
    muon_lr: float = 0.01
    adam_lr: float = 0.005
    warm_up: float = 0.02
    single: float = 0.2
    threads: int = 1


def fresh_nano(seed: int) -> tuple[Qwen2ForCausalLM, PreTrainedTokenizerFast]:
    """The policy before its warm start: random weights from `seed`, and its tokenizer."""
    tokenizer = build_tokenizer()
    eos, pad = tokenizer.eos_token_id, tokenizer.pad_token_id
    torch.manual_seed(seed)
    config = Qwen2Config(
        vocab_size=len(vocabulary()),
        bos_token_id=None,
        eos_token_id=eos,
        pad_token_id=pad,
        rope_parameters={"rope_type": "default", "rope_theta": 10000.0},
        use_cache=False,
        hidden_size=128,
        intermediate_size=256,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        rms_norm_eps=1e-6,
        attention_dropout=0.0,
    )
    model = Qwen2ForCausalLM(config)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = eos, pad
    return model, tokenizer


def batches(tokenizer: Any, plan: WarmStart, mixture: Mixture) -> Iterator[list[Example]]:
    """Fresh examples without end, batched by length within pools, batches of a pool in random order."""
    rng = random.Random(f"warm start/{plan.seed}")
    size = plan.batch * plan.pool
    count = 0
    while True:
        single = count < plan.single * plan.examples
        drawn = [demonstration(rng, mixture, single) for _ in range(size)]
        count += size
        prompts, replies = (tokenizer([getattr(d, part) for d in drawn])["input_ids"] for part in ("prompt", "reply"))
        examples = [
            ([*prompt, *reply, tokenizer.eos_token_id], len(prompt) + (not d.decide))
            for prompt, reply, d in zip(prompts, replies, drawn, strict=True)
        ]
        examples.sort(key=lambda example: len(example[0]))
        starts = list(range(0, size, plan.batch))
        rng.shuffle(starts)
        for start in starts:
            yield examples[start : start + plan.batch]


def loss_of(model: Any, batch: list[Example], pad: int) -> torch.Tensor:
    """Mean cross-entropy over the tokens of a batch that are to be learned, nats per token."""
    width = max(len(ids) for ids, _ in batch)
    ids_BT = torch.full((len(batch), width), pad)
    keep_BT = torch.zeros(len(batch), width, dtype=torch.bool)
    for row, (ids, start) in enumerate(batch):
        ids_BT[row, : len(ids)] = torch.tensor(ids)
        keep_BT[row, start : len(ids)] = True
    hidden_BTD = model.model(input_ids=ids_BT[:, :-1], use_cache=False).last_hidden_state
    logits = model.lm_head(hidden_BTD[keep_BT[:, 1:]])
    return torch.nn.functional.cross_entropy(logits, ids_BT[:, 1:][keep_BT[:, 1:]])


def train(plan: WarmStart, mixture: Mixture) -> tuple[Any, Any, dict[str, float]]:
    """Model, tokenizer and numbers about the training."""
    torch.set_num_threads(plan.threads)
    model, tokenizer = fresh_nano(plan.seed)
    matrices = [p for n, p in model.named_parameters() if p.ndim == 2 and "embed" not in n]
    others = [p for n, p in model.named_parameters() if p.ndim != 2 or "embed" in n]
    optimizers = [
        torch.optim.Muon(matrices, lr=plan.muon_lr, momentum=0.95, weight_decay=0.0, adjust_lr_fn="original"),
        torch.optim.AdamW(others, lr=plan.adam_lr, betas=(0.9, 0.98), weight_decay=0.0),
    ]
    total, started, recent = plan.examples // plan.batch, time.time(), 0.0
    stream = batches(tokenizer, plan, mixture)
    model.train()
    for step in range(total):
        scale = min(1.0, (step + 1) / max(1, plan.warm_up * total)) * min(1.0, 1.25 * (1 - step / total))
        loss = loss_of(model, next(stream), tokenizer.pad_token_id)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer, peak in zip(optimizers, (plan.muon_lr, plan.adam_lr), strict=True):
            optimizer.param_groups[0]["lr"] = peak * scale
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        recent = loss.item() if step == 0 else 0.98 * recent + 0.02 * loss.item()
        if step % max(1, total // 50) == 0:
            print(f"step {step + 1}/{total} loss {recent:.4f} {time.time() - started:.0f} s", flush=True)
    return model.eval(), tokenizer, {"final_loss": round(recent, 4), "seconds": round(time.time() - started)}


def main(plan: WarmStart, mixture: Mixture, out: Path = WEIGHTS) -> None:
    """Train the nano model's warm start and write its folder."""
    model, tokenizer, numbers = train(plan, mixture)
    model.save_pretrained(str(out))
    tokenizer.save_pretrained(str(out))
    made = {"plan": asdict(plan), "mixture": asdict(mixture), **numbers}
    (out / "warm_start.json").write_text(json.dumps(made, indent=1) + "\n")
    print(f"wrote {out}: {sum(p.numel() for p in model.parameters()):,} parameters, {numbers}")


if __name__ == "__main__":
    import tyro

    tyro.cli(main, config=(tyro.conf.OmitArgPrefixes,))
