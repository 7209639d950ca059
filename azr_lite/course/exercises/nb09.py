"""Exercises of notebook 09, scaling."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np

from azr_lite.config import Config
from azr_lite.course.checks import Mistake, exercise
from azr_lite.course.numerics import pooled
from azr_lite.errors import ConfigError
from azr_lite.planner.vram import (
    NF4,
    Shape,
    adapter_bytes,
    cache_bytes_per_token,
    optimiser_bytes,
    shape_of,
    trainable_parameters,
    weight_bytes,
)

_7B, _14B = shape_of("Qwen/Qwen2.5-Coder-7B"), shape_of("Qwen/Qwen2.5-Coder-14B")
_SMOL, _WIDE = shape_of("HuggingFaceTB/SmolLM2-135M"), shape_of("Qwen/Qwen3-4B")
_WAYS = (
    ("full on 1 GPU", Config(tuning="full", processes=1)),
    ("full on 8 GPUs", Config(tuning="full", processes=8)),
    ("full, 8-bit AdamW, 2 GPUs", Config(tuning="full", processes=2, optimizer="adamw_8bit")),
    ("full, paged 8-bit AdamW, 1 GPU", Config(tuning="full", processes=1, optimizer="paged_adamw_8bit")),
    ("full, processes=0", Config(tuning="full", processes=0)),
    ("LoRA on 1 GPU", Config(tuning="lora", processes=1)),
    ("LoRA on 4 GPUs", Config(tuning="lora", processes=4)),
    ("QLoRA on 1 GPU", Config(tuning="qlora", processes=1)),
    ("QLoRA on 4 GPUs", Config(tuning="qlora", processes=4)),
)


def _ways() -> list[tuple[Any, ...]]:
    return [(_7B, config) for _, config in _WAYS]


def _weights(shape: Shape, c: Config, full=4, cut=True, cut_lora=False, linear=NF4, rest=2) -> float:
    """Weight bytes with one of the usual slips."""
    if c.tuning == "full":
        return full * shape.parameters / (max(1, c.processes) if cut else 1)
    if c.tuning == "lora":
        return 2 * shape.parameters / (max(1, c.processes) if cut_lora else 1)
    return linear * shape.linear_parameters + rest * (shape.parameters - shape.linear_parameters)


exercise(
    name="weight_bytes", key=weight_bytes, points=2, probes=_ways,
    shows=tuple(f"weight_bytes(Qwen2.5-Coder-7B, {name})" for name, _ in _WAYS),
    mistakes=[
        Mistake(lambda s, c: _weights(s, c, full=2), "full tuning with 2-byte masters: an update of 1e-6 is lost in bfloat16's 8 binary digits, and nothing would be learned. Masters are float32"),
        Mistake(lambda s, c: _weights(s, c, cut=False), "full tuning on several GPUs cuts the weights over them (FSDP2, ZeRO-3): each holds its share only"),
        Mistake(lambda s, c: _weights(s, c, cut_lora=True), "it cuts LoRA's frozen base over the GPUs. Under DDP, where adapters live here, each GPU holds the whole base: more of them save nothing"),
        Mistake(lambda s, c: _weights(s, c) / (c.processes if c.tuning == "qlora" else 1),
            "it cuts QLoRA's base over the GPUs. A 4-bit base is frozen and copied to each of them, as LoRA's is"),
        Mistake(lambda s, c: _weights(s, c, rest=NF4), "it makes *all* weights of QLoRA 4-bit. Only the layers' linear maps are; embedding, head, norms and biases stay in 2 bytes"),
        Mistake(lambda s, c: _weights(s, c, linear=0.5), "4 bits are half a byte, but each block of 64 weights carries a scale besides: `NF4` bytes per weight (0.516)"),
        Mistake(lambda s, c: _weights(s, c, rest=0), "QLoRA's other weights are missing: embedding, head, norms and biases are there too, in 2 bytes each"),
        Mistake(lambda s, c: _weights(s, c) + (2 * s.linear_parameters if c.tuning == "qlora" else 0), "it counts QLoRA's linear maps twice, in 4 bits and in 2 bytes; the 2-byte weights are `parameters - linear_parameters`"),
        Mistake(lambda s, c: _weights(s, c) + adapter_bytes(s, c), "it counts the adapters too. They have a row of their own in the plan (`course.adapter_bytes`); here only the model's own weights"),
        Mistake(lambda s, c: 4 * s.parameters / c.processes if c.tuning == "full" else _weights(s, c), "`processes` can be 0, which means any number; count it as one GPU: `max(1, config.processes)`"),
        Mistake(lambda s, c: _weights(s, c, full=4, linear=2), "under QLoRA the layers' linear maps are stored in 4 bits (`NF4` bytes each), and unpacked only while they are used"),
    ],
    hint="Three cases: full, lora, qlora. Which bytes per weight, and is it cut over the GPUs?",
)  # fmt: skip


def _moments(shape: Shape, c: Config, wide=8, narrow=2, all_weights=False, cut_all=False, cut=True) -> float:
    """Optimiser bytes with one of the usual slips."""
    n = shape.parameters if all_weights else trainable_parameters(shape, c)
    shares = max(1, c.processes) if cut_all or (cut and c.tuning == "full") else 1
    return (wide if c.optimizer == "adamw" else narrow) * n / shares


exercise(
    name="optimiser_bytes", key=optimiser_bytes, points=2, probes=_ways,
    shows=tuple(f"optimiser_bytes(Qwen2.5-Coder-7B, {name})" for name, _ in _WAYS),
    mistakes=[
        Mistake(lambda s, c: _moments(s, c, wide=4, narrow=1), "AdamW keeps *two* numbers for each trained weight: the mean of its gradients and the mean of their squares"),
        Mistake(lambda s, c: _moments(s, c, wide=12, narrow=6), "that is moments and master weights together; the masters are counted as weights already"),
        Mistake(lambda s, c: _moments(s, c, all_weights=True), "it gives moments to LoRA's frozen base. That is the whole point of adapters: only what is trained has moments"),
        Mistake(lambda s, c: _moments(s, c) if c.optimizer != "paged_adamw_8bit" else _moments(s, c, narrow=8), "there are two 8-bit forms, \"adamw_8bit\" and \"paged_adamw_8bit\"; one of them is taken for 4-byte AdamW"),
        Mistake(lambda s, c: _moments(s, c, narrow=8), "the 8-bit forms of AdamW keep each moment in one byte"),
        Mistake(lambda s, c: _moments(s, c, cut=False) / (c.processes if c.tuning == "full" else 1), "`processes` can be 0, which means any number; count it as one GPU: `max(1, config.processes)`"),
        Mistake(lambda s, c: _moments(s, c, cut=False), "FSDP2 and ZeRO-3 cut the moments over the GPUs too: that is the largest thing they save"),
        Mistake(lambda s, c: _moments(s, c) / (c.processes if c.tuning == "qlora" else 1),
            "it cuts QLoRA's moments over the GPUs. Its adapters live under DDP like LoRA's: each GPU holds them all"),
        Mistake(lambda s, c: _moments(s, c, cut_all=True), "adapters are copied to every GPU (DDP), not cut: each holds all their moments"),
    ],
    hint="Moments per trained weight, bytes per moment, GPUs that share them.",
)  # fmt: skip

exercise(
    name="cache_bytes_per_token", key=cache_bytes_per_token, points=1,
    probes=lambda: [(_7B,), (_14B,), (_7B, 1), (_SMOL, 4), (_WIDE,)],
    shows=[f"cache_bytes_per_token({given})" for given in (
        "Qwen2.5-Coder-7B", "Qwen2.5-Coder-14B", "Qwen2.5-Coder-7B, e=1", "SmolLM2-135M, e=4", "Qwen3-4B")],
    mistakes=[
        Mistake(lambda s, e=2: 2 * s.layers * s.kv_heads * (s.hidden // s.heads) * e,
            "it takes hidden // heads for the width of a head. That holds for Qwen2.5 and not for Qwen3, whose heads "
            "are wider; `head_dim` says how wide"),
        Mistake(lambda s, e=2: 2 * s.layers * s.heads * s.head_dim * e, "it counts the heads that ask. Several of them share one head of keys and values (`kv_heads`), which is what makes long replies affordable"),
        Mistake(lambda s, e=2: s.layers * s.kv_heads * s.head_dim * e, "there are keys *and* values"),
        Mistake(lambda s, e=2: 2 * s.kv_heads * s.head_dim * e, "every layer has a cache of its own"),
        Mistake(lambda s, e=2: 2 * s.layers * s.kv_heads * s.head_dim, "that is a count of numbers; each of them has `e` bytes"),
        Mistake(lambda s, e=2: s.layers * (s.heads + s.kv_heads) * s.head_dim * e, "it keeps a key for each head that asks. Keys and values come in equal number: `kv_heads` of each"),
        Mistake(lambda s, e=2: 2 * s.layers * s.kv_heads * s.head_dim * 2, "it takes 2 bytes for every number; the argument `e` says how many there are"),
        Mistake(lambda s, e=2: 2 * s.layers * s.kv_heads * e, "each key and each value is a vector of `head_dim` numbers"),
    ],
    hint="For one token, each layer keeps a key and a value for each key-value head.",
)  # fmt: skip


def _mean(counts: Any, means: Any) -> float:
    return float(np.average(means, weights=counts))


def _sum_of_squares(counts: Any, means: Any, stds: Any) -> float:
    n, mu, sigma = (np.asarray(values, dtype=float) for values in (counts, means, stds))
    return float((n * (sigma**2 + (mu - _mean(n, mu)) ** 2)).sum())


exercise(
    name="pooled", key=pooled, points=3,
    probes=lambda: [([4, 4], [0.5, -0.5], [0.5, 0.5]), ([1, 3], [1.0, -1.0], [0.0, 0.0]), ([10, 30, 20], [0.1, -0.4, 0.9], [0.2, 0.7, 0.1])],
    mistakes=[
        Mistake(lambda n, m, s: (_mean(n, m), _mean(n, s)), "the mean of the standard deviations is not the standard deviation of all: in ([1, 3], [1, -1], [0, 0]) no process sees any spread, and yet the numbers differ"),
        Mistake(lambda n, m, s: (float(np.mean(m)), float(np.mean(s))), "plain means of the three lists: a process with more sequences must weigh more, and standard deviations cannot be averaged at all"),
        Mistake(lambda n, m, s: (_mean(n, m), math.sqrt(_mean(n, np.square(s)))), "it has the spread *within* the processes, and leaves out the spread *between* their means"),
        Mistake(lambda n, m, s: (_mean(n, m), math.sqrt(_mean(n, np.square(np.subtract(m, _mean(n, m)))))), "it has the spread *between* the processes' means, and leaves out the spread *within* each"),
        Mistake(lambda n, m, s: (_mean(n, m), math.sqrt(_mean(n, np.square(s) + np.square(m)))), "that is the root of the mean of x²; subtract the square of the mean over all before you take the root"),
        Mistake(lambda n, m, s: (float(np.mean(m)), math.sqrt(_sum_of_squares([1] * len(m), m, s) / len(m))), "all processes count the same; one with more sequences must weigh more"),
        Mistake(lambda n, m, s: (_mean(n, m), math.sqrt(_sum_of_squares(n, m, s) / (sum(n) - 1))), "it divides by n − 1; TRR++ takes the population's spread and divides by n"),
        Mistake(lambda n, m, s: (_mean(n, m), _sum_of_squares(n, m, s) / sum(n)), "that is the variance; its square root is the standard deviation"),
    ],
    hint="A pair (mean, std) is wanted. Write down what mean(x²) is within one process, in terms of its mean and std.",
)  # fmt: skip


def _uneven(kind: type[Exception] = ConfigError) -> int:
    raise kind("uneven")


_BATCHES = (
    (Config(batch_size=64, micro_batch_size=1), 8),
    (Config(batch_size=64, micro_batch_size=4, updates_per_step=2), 4),
    (Config(batch_size=32, micro_batch_size=4), 5),
    (Config(batch_size=16, micro_batch_size=4), 32),
    (Config(batch_size=8, solver_batch_size=24, micro_batch_size=4), 2),
)

exercise(
    name="micro_batches", key=Config.micro_batches, points=2, probes=lambda: _BATCHES,
    shows=tuple(f"micro_batches({c.rows} rows, {c.updates_per_step} updates, micro-batches of {c.micro_batch_size}; world={w})" for c, w in _BATCHES),
    mistakes=[
        Mistake(lambda c, w: c.rows // (c.updates_per_step * c.micro_batch_size * w) if c.rows % w == 0 else _uneven(), "it only looks whether the rows split over the processes; each share must also split into updates and whole micro-batches"),
        Mistake(lambda c, w: c.rows // (c.updates_per_step * c.micro_batch_size * w), "it rounds down where the batch does not split evenly: sequences that were generated and judged would silently not be trained. Raise a ConfigError there"),
        Mistake(lambda c, w: math.ceil(c.rows / (c.updates_per_step * c.micro_batch_size * w)), "it rounds up where the batch does not split evenly: some processes would wait for rows that do not exist. Raise a ConfigError there"),
        Mistake(lambda c, w: c.rows // (c.updates_per_step * c.micro_batch_size * w) if c.rows % (c.updates_per_step * c.micro_batch_size * w) == 0 else _uneven(ValueError), "it refuses with a ValueError. What calls it catches ConfigError, which is this package's word for settings that cannot work"),
        Mistake(lambda c, w: c.rows // (c.micro_batch_size * w) if c.rows % (c.updates_per_step * c.micro_batch_size * w) == 0 else _uneven(), "it forgets that a step's rows are first split into `updates_per_step` updates"),
        Mistake(lambda c, w: c.rows // (c.updates_per_step * w) if c.rows % (c.updates_per_step * c.micro_batch_size * w) == 0 else _uneven(), "those are sequences; a micro-batch holds `micro_batch_size` of them"),
        Mistake(lambda c, w: Config.micro_batches(replace(c, solver_batch_size=0), w),
            "it takes 6 × batch_size for the number of rows; the solver's batch may have another size. `config.rows` "
            "counts all"),
        Mistake(lambda c, w: c.rows // (c.updates_per_step * c.micro_batch_size), "that is the number for a single process; `world` of them share the work (the argument, not `config.processes`)"),
    ],
    hint="rows = updates × processes × micro-batches × micro_batch_size, exactly; where something is left over, `raise ConfigError(...)` (do not return it), with any text.",
)  # fmt: skip
