"""Measure on a real GPU what the planner computed, for half a minute, and correct the plan by it.

Comes in: a `Plan`.  Goes out: a `Measured`, a corrected `Plan`, and a comparison in per cent.
Not covered: learning, the sandbox, several GPUs (one is measured), vLLM (its share is what it was told to take).

Weights are random, of the model's shape: nothing is downloaded, and memory and speed do not depend on their values.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from azr_lite.errors import ConfigError
from azr_lite.planner.plan import Plan, plan_text
from azr_lite.planner.vram import generation_chunks

NEW_TOKENS = 64
"""Positions decoded; the cache of the whole reply is added by its formula."""


@dataclass(frozen=True)
class Measured:
    """GB at the peaks, and seconds of one update micro-batch and of one decoded position of a chunk."""

    update_gb: float
    generation_gb: float
    update_seconds: float
    position_seconds: float


def probe(plan: Plan, measure: Callable[[Plan], Measured] | None = None) -> tuple[Plan, str]:
    """The plan corrected by a measurement, and a text comparing the two. `measure`: for tests; None: on this GPU."""
    measured = (measure or measure_here)(plan)
    corrected = correct(plan, measured)
    rows = [
        ("update peak, GB", plan.update.total, measured.update_gb),
        ("generation peak, GB", plan.generation.total, measured.generation_gb),
        ("update, s a step", plan.seconds.update, corrected.seconds.update),
        ("generation, s a step", plan.seconds.generate, corrected.seconds.generate),
    ]
    lines = [f"{'':24s}{'planned':>10s}{'measured':>10s}{'error':>8s}"]
    lines += [
        f"{name:24s}{planned:10.2f}{real:10.2f}{error_percent(planned, real):+7.0f}%" for name, planned, real in rows
    ]
    return corrected, "\n".join(
        [*lines, "(error: planned against measured; the plan below is the corrected one)", "", plan_text(corrected)]
    )


def error_percent(planned: float, measured: float) -> float:
    """100·(planned / measured - 1): above 0 the plan was too pessimistic."""
    return 100 * (planned / measured - 1) if measured else 0.0


def correct(plan: Plan, measured: Measured) -> Plan:
    """Peaks scaled to the measured ones, part by part; stages of time by the measured rates; hours follow."""
    c = plan.config
    micro_batches = c.rows / (c.micro_batch_size * max(1, c.processes))
    # The micro-batch measured was the longest possible; the plan's tokens are means.
    update = measured.update_seconds * micro_batches * _mean_share(plan)
    planned_position = planned_position_seconds(plan)
    generate = plan.seconds.generate * measured.position_seconds / planned_position
    seconds = dataclasses.replace(plan.seconds, update=update, generate=generate)
    return dataclasses.replace(
        plan,
        update=plan.update.scaled(measured.update_gb / plan.update.total),
        generation=plan.generation.scaled(measured.generation_gb / plan.generation.total),
        seconds=seconds,
        hours=plan.hours * seconds.total / plan.seconds.total,
        advice=(),
        no_help=(),
    )


def planned_position_seconds(plan: Plan) -> float:
    """Seconds that `speed.decode_seconds` plans for one decoded position of the chunk that is measured."""
    from azr_lite.planner.plan import decode_seconds

    rows, prompt = _chunk(plan)
    return decode_seconds(plan.shape, plan.config, plan.card, rows, prompt + NEW_TOKENS / 2)


def _mean_share(plan: Plan) -> float:
    """Mean tokens of a training sequence, as a share of the longest."""
    from azr_lite.planner.plan import assumed_work

    c, work = plan.config, assumed_work(plan.config)
    own = len(c.task_types) * c.batch_size
    tokens = own * work.proposal_prompt_tokens + (c.rows - own) * work.solver_prompt_tokens + c.rows * work.reply_tokens
    return tokens / (c.rows * (c.max_prompt_tokens + c.max_reply_tokens))


def _chunk(plan: Plan) -> tuple[int, int]:
    from azr_lite.planner.vram import chunk_memory

    c = plan.config
    return max(generation_chunks(c), key=lambda chunk: chunk_memory(plan.shape, c, *chunk, c.max_reply_tokens).total)


# ---------------------------------------------------------------- on the GPU


def measure_here(plan: Plan) -> Measured:
    """One update micro-batch of the longest sequences, then one generation chunk. ConfigError without a GPU."""
    try:
        import torch
    except ImportError as error:
        raise ConfigError(
            "--probe measures on a GPU and needs torch; pip install 'azr-lite[gpu]', or plan without --probe"
        ) from error
    if not torch.cuda.is_available():
        raise ConfigError(
            "--probe measures on a GPU, and torch sees none here; run it on the GPU machine, or plan without --probe"
        )
    if max(1, plan.config.processes) > 1 or plan.config.generation != "transformers":
        raise ConfigError("--probe measures one GPU with generation='transformers'; plan this preset without --probe")
    try:
        return _measure(plan, torch)
    except torch.OutOfMemoryError as error:
        raise ConfigError(
            f"the probe ran out of GPU memory where {plan.peak_gb:.1f} GB were planned; see azr-lite plan's advice for a card one size smaller"
        ) from error


def _measure(plan: Plan, torch: Any, where: str = "cuda") -> Measured:
    """`where`: 'cpu' runs the same code in tests; peaks of memory are then only what is held."""
    from azr_lite.planner.vram import CONTEXT, GB, cache_bytes_per_token

    c, meter = plan.config, _Meter(torch, where)
    model, half = _random_model(plan, torch, where)
    trained = [p for p in model.parameters() if p.requires_grad]
    optimiser = torch.optim.AdamW(trained, lr=0.0, fused=True)
    length = c.max_prompt_tokens + c.max_reply_tokens
    highest = plan.shape.vocab - 1
    ids = torch.randint(1, highest, (c.micro_batch_size, length), device=where)
    autocast = {"device_type": where, "dtype": half, "enabled": half is not torch.float32}

    def update() -> float:
        with meter.timed() as spent, torch.autocast(**autocast):
            model(input_ids=ids, labels=ids, fused_lm_head=True).log_probs.mean().backward()
        optimiser.step()
        return spent[0]

    update()  # allocates gradients and moments, chooses kernels
    meter.forget_peak()
    update_seconds = update()
    update_peak = meter.peak()
    optimiser.zero_grad(set_to_none=True)
    rows, prompt = _chunk(plan)
    prompts = torch.randint(1, highest, (rows, prompt), device=where)
    few = min(NEW_TOKENS, c.max_reply_tokens)
    meter.forget_peak()
    times = []
    for new in (1, few + 1):
        options = {
            "min_new_tokens": new,
            "max_new_tokens": new,
            "do_sample": True,
            "use_cache": True,
            "pad_token_id": 0,
        }
        with meter.timed() as spent, torch.no_grad(), torch.autocast(**autocast):
            model.generate(input_ids=prompts, attention_mask=torch.ones_like(prompts), **options)
        times.append(spent[0])
    # The peak is in reading the prompts, or at the end of the longest replies, which were not decoded that far here.
    moments = [x for state in optimiser.state.values() for x in state.values() if torch.is_tensor(x)]
    held = sum(x.numel() * x.element_size() for x in (*model.parameters(), *model.buffers(), *moments))
    end = held + rows * (prompt + c.max_reply_tokens) * cache_bytes_per_token(plan.shape)
    position = max(1e-6, times[1] - times[0]) / few
    return Measured((update_peak + CONTEXT) / GB, (max(meter.peak(), end) + CONTEXT) / GB, update_seconds, position)


class _Meter:
    """Peak bytes and seconds of a device."""

    def __init__(self, torch: Any, where: str) -> None:
        self.torch, self.on_gpu = torch, where == "cuda"

    def peak(self) -> float:
        return self.torch.cuda.max_memory_allocated() if self.on_gpu else 0

    def forget_peak(self) -> None:
        if self.on_gpu:
            self.torch.cuda.empty_cache()
            self.torch.cuda.reset_peak_memory_stats()

    @contextmanager
    def timed(self) -> Iterator[list[float]]:
        spent: list[float] = []
        self._wait()
        began = time.perf_counter()
        yield spent
        self._wait()
        spent.append(time.perf_counter() - began)

    def _wait(self) -> None:
        if self.on_gpu:
            self.torch.cuda.synchronize()


def _random_model(plan: Plan, torch: Any, where: str) -> tuple[Any, Any]:
    """A model of the plan's shape with the run's own tuning: masters, adapters or a 4-bit base."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoConfig, AutoModelForCausalLM
    from trl.trainer.utils import add_fused_lm_head

    from azr_lite.train.policy import choose_precision

    c, s = plan.config, plan.shape
    precision = choose_precision(c)
    sizes = {"hidden_size": s.hidden, "intermediate_size": s.intermediate, "num_hidden_layers": s.layers, "num_attention_heads": s.heads,
             "num_key_value_heads": s.kv_heads, "head_dim": s.head_dim, "vocab_size": s.vocab, "tie_word_embeddings": s.tied,
             "max_position_embeddings": 32768}  # fmt: skip
    config = AutoConfig.for_model(s.family, **sizes)
    with torch.device(where):
        model = AutoModelForCausalLM.from_config(config, dtype=precision.weights)
    if c.tuning == "qlora":
        _quantise(model, precision.weights, where)
    add_fused_lm_head(model, outputs=("log_probs", "entropy"))
    if c.gradient_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
        if c.tuning != "full":
            model.enable_input_require_grads()
    if c.tuning != "full":
        model = get_peft_model(
            model,
            LoraConfig(r=c.lora_rank, lora_alpha=c.lora_alpha, target_modules="all-linear", task_type="CAUSAL_LM"),
        )
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.data = parameter.data.float()
    model.train()
    return model, precision.compute


def _quantise(model: Any, compute: Any, where: str) -> None:
    """Every linear map of the layers in NF4, in place, as bitsandbytes does on loading."""
    try:
        import bitsandbytes as bnb
    except ImportError as error:
        raise ConfigError(
            "tuning='qlora' needs bitsandbytes; pip install 'azr-lite[gpu]', or use tuning='lora'"
        ) from error
    from torch import nn

    for layer in model.model.layers:
        for parent in list(layer.modules()):
            for name, linear in list(parent.named_children()):
                if type(linear) is nn.Linear:
                    four = bnb.nn.Linear4bit(
                        linear.in_features,
                        linear.out_features,
                        linear.bias is not None,
                        compute,
                        compress_statistics=True,
                        quant_type="nf4",
                    )
                    four.weight = bnb.nn.Params4bit(
                        linear.weight.data.cpu(), requires_grad=False, quant_type="nf4", compress_statistics=True
                    )
                    four.bias = linear.bias
                    setattr(parent, name, four.to(where))
