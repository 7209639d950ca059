"""Exercises of notebook 07, LoRA self-play on one GPU."""

from __future__ import annotations

from typing import Any

import numpy as np

from azr_lite.config import CHANGEABLE_ON_RESUME
from azr_lite.course.checks import Mistake, exercise
from azr_lite.course.numerics import merge
from azr_lite.planner.plan import plan
from azr_lite.planner.vram import Shape, shape_of
from azr_lite.presets import preset

_QWEN, _SMOL = shape_of("Qwen/Qwen2.5-Coder-1.5B-Instruct"), shape_of("HuggingFaceTB/SmolLM2-135M-Instruct")

exercise(
    name="adapter_parameters", key=Shape.adapter_parameters, points=2,
    probes=lambda: [(_QWEN, 16), (_SMOL, 4), (_SMOL, 1)],
    shows=("adapter_parameters(Qwen2.5-Coder-1.5B, 16)", "adapter_parameters(SmolLM2-135M, 4)", "adapter_parameters(SmolLM2-135M, 1)"),
    mistakes=[
        Mistake(lambda s, r: r * sum(i + o for i, o in s.linears), "it is one layer's number: `linears` lists the maps of a single layer, and every layer has its own adapters"),
        Mistake(lambda s, r: s.layers * r * sum(i * o for i, o in s.linears), "inputs × outputs is the size of the full map. A and B each touch only one of its sides: A has rank × inputs numbers, B has outputs × rank"),
        Mistake(lambda s, r: s.layers * r * sum(i for i, _ in s.linears), "that is A alone; B, which leads from the rank to the outputs, is trained too"),
        Mistake(lambda s, r: s.layers * r * sum(o for _, o in s.linears), "that is B alone; A, which leads from the inputs to the rank, is trained too"),
        Mistake(lambda s, r: s.layers * sum(r * i * o * r for i, o in s.linears), "it multiplies the sizes of A and B. They are two separate matrices: their numbers add up"),
        Mistake(lambda s, r: s.layers * len(s.linears) * r * sum(s.linears[0]), "it takes the first map for all seven. They differ: k and v have fewer outputs than q, gate and up have more; sum over `shape.linears`"),
        Mistake(lambda s, r: s.parameters + s.layers * r * sum(i + o for i, o in s.linears), "it counts the frozen base as well. The base gets no gradient and no moments; only A and B are trained"),
        Mistake(lambda s, r: s.layers * r * sum(i + o for i, o in (s.linears[0], s.linears[2])), "those are the q and v maps alone, as in the first LoRA paper; here all seven linear maps of a layer are adapted"),
        Mistake(lambda s, r: s.layers * r * sum(i + o for i, o in s.linears[:4]), "those are attention's four maps; gate, up and down hold most of a layer's weights, and are adapted here too"),
    ],
    hint="Start from one map with (inputs, outputs): how many numbers does A hold, how many B?",
)  # fmt: skip


def _arrays(outputs: int, inputs: int, rank: int, alpha: float) -> tuple[Any, ...]:
    draw = np.random.default_rng(outputs * 100 + inputs)
    weight, a, b = (
        draw.integers(-3, 4, size=size) / 2 for size in ((outputs, inputs), (rank, inputs), (outputs, rank))
    )
    return weight, a, b, alpha


exercise(
    name="merge", key=merge, points=2,
    probes=lambda: [_arrays(3, 5, 2, 8.0), _arrays(4, 4, 2, 1.0), _arrays(5, 3, 1, 3.0)],
    shows=("merge of a (3, 5) map at rank 2, alpha 8", "merge of a (4, 4) map at rank 2, alpha 1", "merge of a (5, 3) map at rank 1, alpha 3"),
    mistakes=[
        Mistake(lambda w, a, b, alpha: w + b @ a, "the scale alpha / rank is missing: at alpha = 2 × rank the merged model would have half of what was learnt"),
        Mistake(lambda w, a, b, alpha: w + alpha * (b @ a), "the scale is alpha / rank, not alpha: the division keeps the update's size when you change the rank"),
        Mistake(lambda w, a, b, alpha: w + a.shape[0] / alpha * (b @ a), "the scale is upside down: it is alpha / rank"),
        Mistake(lambda w, a, b, alpha: w + alpha * a.shape[0] * (b @ a), "it multiplies by the rank; the scale is alpha / rank"),
        Mistake(lambda w, a, b, alpha: w + alpha / np.sqrt(a.shape[0]) * (b @ a), "it divides by the root of the rank. There is such a LoRA (rsLoRA); here the scale is alpha / rank"),
        Mistake(lambda w, a, b, alpha: w + alpha / a.shape[0] * (a @ b), "the order is wrong: (r, inputs) times (outputs, r) has no meaning. An input meets A first, so A stands on the right"),
        Mistake(lambda w, a, b, alpha: w + alpha / a.shape[0] * (a.T @ b.T), "that is the transpose of the update. It fits a square map by accident and breaks all others: `weight` is (outputs, inputs), so the product must be too"),
        Mistake(lambda w, a, b, alpha: w + alpha / a.shape[1] * (b @ a), "it divides by the number of inputs; the rank is the *small* side of `a`"),
        Mistake(lambda w, a, b, alpha: w + alpha / b.shape[0] * (b @ a), "it divides by the number of outputs; the rank is the *small* side of `b`"),
        Mistake(lambda w, a, b, alpha: alpha / a.shape[0] * (b @ a), "that is the update alone; the merged map is the base plus the update"),
    ],
    hint="A numpy array is wanted. Check the shapes first: weight (outputs, inputs), a (r, inputs), b (outputs, r); then the sign and the scale.",
)  # fmt: skip


def _largest_chunk(limit: int = 64) -> int:
    """The largest power of two at which the 3B rung, made for 24 GB, fits 16 GB."""
    chunk = limit
    while not plan(preset("lora-3b-24gb", generation_chunk=chunk), gpu="16GB").fits:
        chunk //= 2
    return chunk


_CHUNK = _largest_chunk()

exercise(
    name="chunk", key=_CHUNK, points=1,
    mistakes=[
        Mistake(64, "that is what the preset has, and it was made for 24 GB. Plan it: `az.plan(config, gpu=\"16GB\").fits`"),
        Mistake(128, "that is more than the preset has, on a smaller card. A run may fill 92 % of it (`plan.usable_gb`): halve until `.fits` says so"),
        Mistake(_CHUNK // 2, "that fits, and wastes room: it takes twice as many rounds of decoding as needed. One doubling more fits too"),
        Mistake(1, "that surely fits, and would decode one reply at a time: 64 times as many rounds. Find the *largest* power of two"),
    ],
    hint="One whole number is wanted. Try the powers of two from 64 downwards, and read `.fits`.",
)  # fmt: skip

_ASKED = "steps learning_rate micro_batch_size lora_rank n_mc generation_chunk temperature max_hours".split()
_CHANGEABLE = {name for name in _ASKED if name in CHANGEABLE_ON_RESUME}


def _said_free(names: Any) -> list[Any]:
    """Which of the eight an answer calls free, and what else it names. A list or a tuple says the same as a set."""
    said = {names} if isinstance(names, str) else set(names)
    return [sorted(map(str, said.difference(_ASKED))), *(name in said for name in _ASKED)]


exercise(
    name="may_change", key=_CHANGEABLE, points=1, observe=_said_free,
    shows=("a look for names that are none of the eight", *(f'asking whether "{name}" is free' for name in _ASKED)),
    mistakes=[
        Mistake(_CHANGEABLE | {"learning_rate"}, "the learning rate decides what is learned: half a run at one rate and half at another is a third experiment, that no seed and no config.json describes"),
        Mistake(_CHANGEABLE | {"n_mc"}, "n_mc changes the reward itself: learnability measured with other n is another number, so the run would be another one"),
        Mistake(_CHANGEABLE | {"temperature"}, "temperature changes the distribution that is sampled and trained"),
        Mistake(_CHANGEABLE | {"lora_rank"}, "the checkpoint's A and B have the old rank; another rank has no weights to start from"),
        Mistake(_CHANGEABLE - {"micro_batch_size"}, "micro_batch_size only regroups the same sum of gradients: it changes memory and speed, not what is learned. It is the first thing to lower on a smaller card"),
        Mistake(_CHANGEABLE - {"generation_chunk"}, "generation_chunk says how many replies are sampled at once: other random draws from the same policy, but no other policy. It is free"),
        Mistake(_CHANGEABLE - {"steps"}, "steps says how long the run goes on: more of the same. Section 4 has just raised it"),
        Mistake(_CHANGEABLE - {"max_hours"}, "max_hours says when to stop, not what is learned until then"),
        Mistake({"steps"}, "steps is free, and so is all else that says how long, how safe and how fast"),
        Mistake(set(_ASKED), "then a resumed run would be another experiment under an old name; ask of each: does it change *what* is learned?"),
    ],
    hint="Give a set of names, such as {\"steps\"}. Ask of each: does it change what is learned, or only how long, how safe, how fast?",
)  # fmt: skip
