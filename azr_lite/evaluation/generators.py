"""Whatever answers the questions (transformers, vLLM, a server, the policy in training), and opening a model for it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.config import Config
from azr_lite.environment import quiet_libraries, require_training
from azr_lite.errors import EvaluationError
from azr_lite.evaluation.suite import Done, Generator, Prompt, Reply, Sampling, no_progress
from azr_lite.prompts import get_style
from azr_lite.prompts.base import Style
from azr_lite.rundir import RunDir
from azr_lite.train.checkpoints import is_whole, last_whole_checkpoint, step_of

if TYPE_CHECKING:
    from azr_lite.codec import Codec
    from azr_lite.train.policy import Policy


class TransformersGenerator:
    """A loaded policy. `name`: what results call it. Out of memory halves what is sampled at once and goes on."""

    def __init__(self, policy: Policy, codec: Codec, name: str, sampler: Any = None) -> None:
        self.policy, self.codec, self.name, self.sampler = policy, codec, name, sampler
        self.most = 1 << 30
        policy.model.eval()

    def describe(self) -> dict[str, Any]:
        import torch
        import transformers

        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        kind = "nano sampler" if self.sampler else "transformers"
        dtype = str(self.policy.compute).removeprefix("torch.")
        return {"model": self.name, "generation": kind, "dtype": dtype, **versions}

    def generate(self, prompts: Sequence[Prompt], how: Sampling, done: Done = no_progress) -> list[list[Reply]]:
        import torch

        rows = [self.codec.encode_parts(p.text, p.prefill, p.chat) for p in prompts for _ in range(how.samples)]
        replies: list[Reply] = []
        while len(replies) < len(rows):
            part = rows[len(replies) : len(replies) + self.most]
            try:
                found = self._sample(part, how, how.seed + len(replies))
            except torch.OutOfMemoryError:
                if len(part) == 1:
                    raise EvaluationError(
                        "one reply does not fit into the GPU's memory; use a smaller model or fewer --max-tokens"
                    ) from None
                torch.cuda.empty_cache()
                self.most = max(1, len(part) // 2)
                continue
            replies += found
            done(len(found))
        return [replies[i : i + how.samples] for i in range(0, len(replies), how.samples)]

    def _sample(self, rows: Sequence[tuple[str, list[int]]], how: Sampling, seed: int) -> list[Reply]:
        ids = [ids for _, ids in rows]
        sampled = self._nano(ids, how, seed) if self.sampler else self._transformers(ids, how, seed)
        replies = []
        for (prompt, prompt_ids), out in zip(rows, sampled, strict=True):
            ended = out[-1] in self.codec.eos_ids
            text, stopped = until_stop(self.codec.completion(prompt, prompt_ids, (out, None, False)).text, how.stop)
            replies.append(Reply(prompt, text, len(out), not ended and not stopped and len(out) >= how.max_tokens))
        return replies

    def _nano(self, ids: list[list[int]], how: Sampling, seed: int) -> list[list[int]]:
        if how.temperature not in (0.0, 1.0):
            raise EvaluationError("the nano sampler samples at temperature 1 or greedily; use --temperature 1 or 0")
        self.sampler.max_reply_tokens = how.max_tokens
        return [list(out) for out, _, _ in self.sampler(ids, greedy=how.temperature == 0.0, seed=seed)]

    def _transformers(self, ids: list[list[int]], how: Sampling, seed: int) -> list[list[int]]:
        import torch
        from transformers import GenerationConfig

        from azr_lite.codec import seeded
        from azr_lite.train.generation import sample_replies

        policy, tokenizer = self.policy, self.policy.tokenizer
        drawn = {"do_sample": bool(how.temperature)}
        if how.temperature:
            drawn |= {"temperature": how.temperature, "top_p": 1.0, "top_k": 0}
        pad = tokenizer.pad_token_id
        config = GenerationConfig(
            max_new_tokens=how.max_tokens, eos_token_id=sorted(self.codec.eos_ids), pad_token_id=pad, **drawn
        )
        options = {"stop_strings": list(how.stop), "tokenizer": tokenizer} if how.stop else {}
        half = policy.compute != torch.float32
        cast = torch.autocast(policy.device.type, policy.compute) if half else contextlib.nullcontext()
        with seeded(seed, policy.device), cast:
            found = sample_replies(policy.model, ids, config, self.codec.eos_ids, policy.device, **options)
        return [_without_padding(out, pad, self.codec.eos_ids) for out in found]


def _without_padding(ids: list[int], pad: int, eos_ids: Any) -> list[int]:
    """A row that a stop string ended is filled up with padding (at least one id is kept)."""
    if ids[-1] != pad or pad in eos_ids:
        return ids
    end = max((place for place, id in enumerate(ids, 1) if id != pad), default=1)
    return ids[:end]


class PolicyInTraining:
    """The trainer's own `generate`, greedily: what its evaluations are made of. Limits are those of the run."""

    def __init__(self, generate: Callable[[list[str]], Sequence[Any]], name: str) -> None:
        self.sample, self.name = generate, name

    def describe(self) -> dict[str, Any]:
        return {"model": self.name, "generation": "policy in training"}

    def generate(self, prompts: Sequence[Prompt], how: Sampling, done: Done = no_progress) -> list[list[Reply]]:
        found = self.sample([prompt.text + prompt.prefill for prompt in prompts])
        done(len(found))
        return [[Reply(c.prompt, c.text, len(c.ids), c.truncated)] for c in found]


class VllmGenerator:
    """vLLM in this process. `options` go to ``vllm.LLM``. Chat templates are applied here, as for transformers."""

    def __init__(self, model: str, codec: Codec, **options: Any) -> None:
        try:
            import vllm
        except ImportError as error:
            raise EvaluationError(
                "vLLM is not installed; pip install 'azr-lite[vllm]' on a GPU machine, or drop --vllm"
            ) from error
        self.vllm, self.codec, self.name = vllm, codec, model
        self.llm = vllm.LLM(model=model, **options)

    def describe(self) -> dict[str, Any]:
        return {"model": self.name, "generation": "vllm", "vllm": self.vllm.__version__}

    def generate(self, prompts: Sequence[Prompt], how: Sampling, done: Done = no_progress) -> list[list[Reply]]:
        encoded = [self.codec.encode_parts(p.text, p.prefill, p.chat) for p in prompts]
        params = self.vllm.SamplingParams(
            n=how.samples,
            temperature=how.temperature,
            max_tokens=how.max_tokens,
            stop=list(how.stop),
            include_stop_str_in_output=True,
            seed=how.seed,
        )
        found = self.llm.generate([{"prompt_token_ids": ids} for _, ids in encoded], params, use_tqdm=False)
        done(len(prompts) * how.samples)
        return [
            [Reply(text, out.text, len(out.token_ids), out.finish_reason == "length") for out in each.outputs]
            for (text, _), each in zip(encoded, found, strict=True)
        ]


class ServerGenerator:
    """An OpenAI-compatible server (``vllm serve``, llama.cpp, SGLang). Messages go to its chat endpoint, which
    applies the template; a prefill is continued there (vLLM's ``continue_final_message``). Plain prompts go to its
    completions endpoint."""

    def __init__(self, url: str, model: str, key: str = "none", parallel: int = 16, timeout_s: float = 600.0) -> None:
        try:
            import openai
        except ImportError as error:
            raise EvaluationError("asking a server needs the package openai; pip install 'azr-lite[eval]'") from error
        self.openai, self.url, self.name, self.parallel = openai, url, model, parallel
        self.client = openai.OpenAI(base_url=url, api_key=key, timeout=timeout_s)

    def describe(self) -> dict[str, Any]:
        return {"model": self.name, "generation": "server"}

    def generate(self, prompts: Sequence[Prompt], how: Sampling, done: Done = no_progress) -> list[list[Reply]]:
        limits = {"model": self.name, "n": how.samples, "temperature": how.temperature, "seed": how.seed}
        limits |= {"max_tokens": how.max_tokens, "stop": list(how.stop) or None}

        def one(prompt: Prompt) -> list[Reply]:
            try:
                replies = self._ask(prompt, limits)
            except self.openai.OpenAIError as error:
                raise EvaluationError(
                    f"the server at {self.url} did not answer ({str(error)[:200]}); start it, check --server and the "
                    "model's name, and run this again: what was answered is kept"
                ) from error
            done(how.samples)
            return replies

        with ThreadPoolExecutor(self.parallel) as pool:
            return list(pool.map(one, prompts))

    def _ask(self, prompt: Prompt, limits: dict[str, Any]) -> list[Reply]:
        extra: dict[str, Any] = {"include_stop_str_in_output": True}
        if prompt.chat:
            messages = [{"role": "user", "content": prompt.text}]
            if prompt.prefill:
                messages.append({"role": "assistant", "content": prompt.prefill})
                extra |= {"continue_final_message": True, "add_generation_prompt": False}
            found = self.client.chat.completions.create(messages=messages, extra_body=extra, **limits)
            texts = [(choice.message.content or "", choice.finish_reason) for choice in found.choices]
        else:
            found = self.client.completions.create(prompt=prompt.text + prompt.prefill, extra_body=extra, **limits)
            texts = [(choice.text, choice.finish_reason) for choice in found.choices]
        each = (found.usage.completion_tokens if found.usage else 0) // max(1, len(texts))
        return [Reply(prompt.text + prompt.prefill, text, each, reason == "length") for text, reason in texts]


def until_stop(text: str, stop: Sequence[str]) -> tuple[str, bool]:
    """The text up to and with the first stop string in it, and whether there was one."""
    ends = [place + len(word) for word in stop if (place := text.find(word)) >= 0]
    return (text[: min(ends)], True) if ends else (text, False)


# ---------------------------------------------------------------- opening a model


@dataclass(frozen=True)
class OpenedModel:
    """A model that is loaded and ready to be asked. `model`: the hub id or path of the base model.

    `folder`: a run's directory, where its results go; None for other models. `chunk`: questions asked at once.
    `reasons`: one line for each choice made while loading.
    """

    generator: Generator
    style: Style
    model: str
    folder: Path | None
    chunk: int
    reasons: tuple[str, ...] = ()


def open_model(
    named: str, *, prompts: str = "auto", device: str = "auto", chunk: int = 16, server: str = "", vllm: bool = False
) -> OpenedModel:
    """Load what `named` means: a model's name, or a run's folder, ``RUN@12`` for its step 12, ``RUN@0`` for the model
    it started from.

    `server`: the URL of an OpenAI-compatible server that serves it instead. Raises EvaluationError or ModelError with
    one sentence.
    """
    if server:
        style = get_style("chat" if prompts == "auto" else prompts)
        generator = ServerGenerator(server, named)
        return OpenedModel(generator, style, named, None, 8 * generator.parallel)
    require_training("a model read here")
    base, _, step = named.rpartition("@") if "@" in named else (named, "", "")
    folder = Path(base)
    is_run = (folder / "run.json").is_file()
    # A misspelt run looks like a hub id, and the hub would be asked for it: for a minute where there is no network.
    runs = [] if folder.exists() or "/" not in base else sorted(folder.parent.glob("*/run.json"))
    if runs:
        known = ", ".join(path.parent.name for path in runs[:8])
        raise EvaluationError(f"there is no run at {base}; {folder.parent} holds {known}; give one of these")
    if step and not is_run:
        raise EvaluationError(f"{base} is no run, so it has no step {step}; give the folder of a run before the @")
    trained = RunDir.open(folder).config() if is_run else Config(model=named)
    checkpoint = _checkpoint(folder, step, trained.updates_per_step) if is_run else None
    if checkpoint is not None and not step:
        named = f"{base}@{_step(checkpoint, trained.updates_per_step)}"
    config = Config(
        model=trained.model,
        prompts=trained.prompts if prompts == "auto" else prompts,
        device=device,
        tuning="qlora"
        if trained.tuning == "qlora"
        else "lora",  # nothing is trained: 16 bits where the machine has them
    )
    return _open(config, checkpoint, named, folder if is_run else None, chunk, vllm)


def _open(
    config: Config, checkpoint: Path | None, name: str, folder: Path | None, chunk: int, vllm: bool
) -> OpenedModel:
    quiet_libraries()  # before transformers is imported
    from azr_lite.codec import Codec
    from azr_lite.train.policy import load_policy

    nano = config.model == "nano"
    adapter = checkpoint if checkpoint is not None and (checkpoint / "adapter_config.json").exists() else None
    whole = checkpoint if checkpoint is not None and adapter is None and not nano else None
    policy = load_policy(config.replace(model=str(whole)) if whole else config)
    if adapter is not None:
        from peft import PeftModel

        policy.model = PeftModel.from_pretrained(policy.model, str(adapter))
    elif nano and checkpoint is not None:
        from safetensors.torch import load_file

        policy.model.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=False)
        policy.model.tie_weights()
    policy.model.to(policy.device)
    reasons = tuple(line for line in policy.reasons if "adapters of rank" not in line)  # none, or those of the run
    style = get_style(policy.style)
    ends = policy.model.generation_config.eos_token_id
    eos = {policy.tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    codec = Codec(policy.tokenizer, style, sorted(eos), policy.untrained)
    generator: Generator
    if vllm:
        if adapter is not None:
            raise EvaluationError(
                "vLLM reads whole models here; merge the adapter first (azr-lite export RUN --merge), or drop --vllm"
            )
        generator, chunk = VllmGenerator(str(whole or config.model), codec), 256
    elif nano and adapter is None:
        from azr_lite.nano.sampler import NanoSampler

        sampler = NanoSampler(policy.model, policy.tokenizer.eos_token_id, policy.tokenizer.pad_token_id, 256)
        generator, chunk = TransformersGenerator(policy, codec, name, sampler), 384
    else:
        generator = TransformersGenerator(policy, codec, name)
    return OpenedModel(generator, style, config.model, folder, chunk, reasons)


def _checkpoint(folder: Path, step: str, updates: int) -> Path | None:
    """The checkpoint meant; None: the model before training."""
    if not step:
        found = last_whole_checkpoint(folder)
        if found is None:
            raise EvaluationError(
                f"{folder} has no whole checkpoint yet; let it train, or give {folder}@0 for the model it starts from"
            )
        return found
    if step == "0":
        return None
    known = sorted(_step(path, updates) for path in folder.glob("checkpoint-*") if is_whole(path))
    if not step.isdecimal() or int(step) not in known:
        raise EvaluationError(f"{folder} has no checkpoint of step {step}; it has: {', '.join(map(str, [0, *known]))}")
    return folder / f"checkpoint-{int(step) * updates}"


def _step(checkpoint: Path, updates: int) -> int:
    return step_of(checkpoint) // updates
