"""Whatever answers the questions (transformers, a server, the policy in training), and opening a model for it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.config import Config
from azr_lite.environment import require_training
from azr_lite.errors import EvaluationError, TrainingError
from azr_lite.evaluation.suite import Generator, Prompt, Reply, Sampling, until_stop
from azr_lite.prompts import get_style
from azr_lite.prompts.base import END_THINK, THINK, Codec, Ended, Style
from azr_lite.rundir import RunDir
from azr_lite.train.checkpoints import is_whole, step_of

if TYPE_CHECKING:
    from azr_lite.train.cpu import CpuSampler
    from azr_lite.train.policy import Policy


class TransformersGenerator:
    """A loaded policy. `name`: what results call it. Out of memory, it goes on with halves of what is asked at once."""

    def __init__(self, policy: Policy, codec: Codec, name: str, sampler: Any = None) -> None:
        self.policy, self.codec, self.name, self.sampler = policy, codec, name, sampler
        policy.model.eval()
        self.fast: CpuSampler | None = None
        if not sampler and policy.device.type == "cpu":
            from transformers import GenerationConfig

            from azr_lite.train.cpu import CpuSampler

            config = GenerationConfig(pad_token_id=policy.tokenizer.pad_token_id)
            made = CpuSampler(policy.model, codec, config, policy.compute)
            self.fast = None if made.why_not() else made

    def describe(self) -> dict[str, Any]:
        import torch
        import transformers

        versions = {"torch": torch.__version__, "transformers": transformers.__version__}
        kind = "nano sampler" if self.sampler else "CPU sampler" if self.fast else "transformers"
        dtype = str(self.policy.compute).removeprefix("torch.")
        return {"model": self.name, "generation": kind, "dtype": dtype, **versions}

    def generate(self, prompts: Sequence[Prompt], how: Sampling) -> list[list[Reply]]:
        from azr_lite.train.generation import Halving

        encoded = [(*self.codec.encode_parts(p.text, p.prefill, p.chat), p.ended) for p in prompts]
        rows = [row for row in encoded for _ in range(how.samples)]

        def sample(part: range) -> list[Reply]:
            return self._sample([rows[i] for i in part], how, how.seed + part.start)

        try:
            replies = Halving()(sample, range(len(rows)))
        except TrainingError:
            told = "one reply does not fit into the GPU's memory; use a smaller model or fewer --max-tokens"
            raise EvaluationError(told) from None
        return [replies[i : i + how.samples] for i in range(0, len(replies), how.samples)]

    def _sample(self, rows: Sequence[tuple[str, list[int], Ended | None]], how: Sampling, seed: int) -> list[Reply]:
        replies = []
        for (prompt, prompt_ids, rule), out in zip(rows, self._ids(rows, how, seed), strict=True):
            cut = len(out) >= how.max_tokens and out[-1] not in self.codec.eos_ids
            said = self.codec.completion(prompt, prompt_ids, (out, None, cut), _stopping(rule, how.stop))
            replies.append(Reply(prompt, until_stop(said.text, how.stop)[0], len(said.ids), said.truncated))
        return replies

    def _ids(self, rows: Sequence[tuple[str, list[int], Ended | None]], how: Sampling, seed: int) -> list[list[int]]:
        """What is written to each row: ids up to and with its end token, or padding behind a stop string."""
        import torch
        from transformers import GenerationConfig

        from azr_lite.train.generation import EndedRows, sample_replies, seeded

        ids, ended, greedy = [ids for _, ids, _ in rows], [rule for *_, rule in rows], not how.temperature
        if self.sampler:
            if how.temperature not in (0.0, 1.0):
                raise EvaluationError("the nano sampler samples at temperature 1 or greedily; use --temperature 1 or 0")
            self.sampler.max_reply_tokens = how.max_tokens
            return [list(out) for out, *_ in self.sampler(ids, greedy=greedy, seed=seed)]
        policy, eos_ids, pad = self.policy, self.codec.eos_ids, self.policy.tokenizer.pad_token_id
        drawn = {} if greedy else {"temperature": how.temperature, "top_p": 1.0, "top_k": 0}
        limits = {"max_new_tokens": how.max_tokens, "eos_token_id": sorted(eos_ids), "pad_token_id": pad}
        config = GenerationConfig(do_sample=not greedy, **limits, **drawn)
        if self.fast is not None:
            self.fast.config, rules = config, [_stopping(rule, how.stop) for rule in ended]
            return [list(out) for out, *_ in self.fast(ids, greedy=greedy, seed=seed, ended=rules)]
        options = {"stop_strings": list(how.stop), "tokenizer": policy.tokenizer} if how.stop else {}
        if any(ended):
            options["stopping_criteria"] = [EndedRows(self.codec, ended)]
        half = policy.compute != torch.float32
        with seeded(seed, policy.device), torch.autocast(policy.device.type, policy.compute, enabled=half):
            return sample_replies(policy.model, ids, config, eos_ids, policy.device, **options)


def _stopping(rule: Ended | None, stop: Sequence[str]) -> Ended | None:
    """The rule that ends a reply, and the stop strings, as one."""
    return (lambda text: until_stop(text, stop)[1] or bool(rule and rule(text))) if stop else rule


class PolicyInTraining:
    """The trainer's own `generate`, greedily: what its evaluations are made of. Limits are those of the run."""

    def __init__(self, generate: Callable[[list[str]], Sequence[Any]], name: str) -> None:
        self.sample, self.name = generate, name

    def describe(self) -> dict[str, Any]:
        return {"model": self.name, "generation": "policy in training"}

    def generate(self, prompts: Sequence[Prompt], how: Sampling) -> list[list[Reply]]:
        found = self.sample([prompt.text + prompt.prefill for prompt in prompts])
        return [[Reply(c.prompt, c.text, len(c.ids), c.truncated)] for c in found]


class ServerGenerator:
    """An OpenAI-compatible server (``vllm serve``, llama.cpp, SGLang): messages go to its chat endpoint, which applies
    the template and goes on from a prefill, plain prompts to its completions endpoint. Servers that follow OpenAI's
    rules (no stop string in the text, thoughts apart) give the same replies. `parallel`: requests at once."""

    def __init__(self, url: str, model: str, parallel: int = 16) -> None:
        try:
            import openai
        except ImportError as error:
            raise EvaluationError("asking a server needs the package openai; pip install 'azr-lite[eval]'") from error
        self.openai, self.url, self.name, self.parallel = openai, url, model, parallel
        self.client = openai.OpenAI(base_url=url, api_key="none", timeout=600.0)

    def describe(self) -> dict[str, Any]:
        return {"model": self.name, "generation": "server"}

    def generate(self, prompts: Sequence[Prompt], how: Sampling) -> list[list[Reply]]:
        limits = {"model": self.name, "n": how.samples, "temperature": how.temperature, "seed": how.seed}
        limits |= {"max_tokens": how.max_tokens, "stop": list(how.stop) or None}
        try:
            with ThreadPoolExecutor(self.parallel) as pool:
                return list(pool.map(lambda prompt: self._ask(prompt, limits), prompts))
        except self.openai.OpenAIError as error:
            problem = f"the server at {self.url} did not answer ({str(error)[:200]})"
            advice = "start it, check --server and the model's name, and run this again: what was answered is kept"
            raise EvaluationError(f"{problem}; {advice}") from error

    def _ask(self, prompt: Prompt, limits: dict[str, Any]) -> list[Reply]:
        choices, tokens = self._choices(prompt, limits)
        stop = limits["stop"] or []
        if any(c.finish_reason == "stop" and _leaves_stop_open(c, _text(c, prompt), stop) for c in choices):
            # OpenAI's rule: the text lacks the stop string, and nobody can tell it from an end of the sequence
            choices, tokens = self._choices(prompt, limits | {"stop": None})
        replies = []
        for choice in choices:
            text, stopped = until_stop(_text(choice, prompt), stop)
            was_cut = choice.finish_reason == "length" and not (stopped or (prompt.ended and prompt.ended(text)))
            text = text.encode("utf-8", "replace").decode()  # a lone surrogate could be written nowhere
            replies.append(Reply(prompt.text + prompt.prefill, text, tokens // len(choices), was_cut))
        return replies

    def _choices(self, prompt: Prompt, limits: dict[str, Any]) -> tuple[list[Any], int]:
        """What the server wrote, and how many tokens it counted (0 where it does not say)."""
        extra: dict[str, Any] = {"include_stop_str_in_output": True}
        if prompt.chat:
            limits = limits | {"messages": [{"role": "user", "content": prompt.text}]}
            if prompt.prefill:
                limits["messages"].append({"role": "assistant", "content": prompt.prefill})
                extra |= {"continue_final_message": True, "add_generation_prompt": False}
            create = self.client.chat.completions.create
        else:
            create = self.client.completions.create
            limits = limits | {"prompt": prompt.text + prompt.prefill}
        try:
            found = create(extra_body=extra, **limits)
        except self.openai.BadRequestError:  # it may know none of vLLM's options, and no more than four stop strings
            found = create(**limits | {"stop": limits["stop"] and limits["stop"][:4]})
        return found.choices, found.usage.completion_tokens if found.usage else 0


def _text(choice: Any, prompt: Prompt) -> str:
    """A choice as it goes on from the prefill: with the thought that some servers tell apart, without the prefill."""
    if not prompt.chat:
        return choice.text or ""
    text, more = choice.message.content or "", choice.message.model_extra or {}
    thought = more.get("reasoning_content") or more.get("reasoning") or ""
    if thought and prompt.prefill == THINK:
        text = thought + ("" if text.lstrip().startswith(END_THINK) else END_THINK) + text
    begun = text.lstrip()
    return begun.removeprefix(prompt.prefill) if prompt.prefill and begun.startswith(prompt.prefill) else text


def _leaves_stop_open(choice: Any, text: str, stop: Sequence[str]) -> bool:
    """Whether a stop string may have ended this text and is missing in it. vLLM says what ended it, others do not."""
    said = (choice.model_extra or {}).get("stop_reason", stop)
    return bool(stop) and said is not None and not until_stop(text, stop)[1]


# ---------------------------------------------------------------- opening a model


@dataclass(frozen=True)
class OpenedModel:
    """A model that is loaded and ready to be asked. `model`: the hub id or path of the base model. `folder`:
    ``eval/step-N`` of a run, where its results go; None for other models. `chunk`: questions asked at once. `reasons`:
    one line for each choice made while loading. `settings`, `checkpoint`: of a run."""

    generator: Generator
    style: Style
    model: str
    folder: Path | None
    chunk: int
    reasons: tuple[str, ...] = ()
    settings: Config | None = None
    checkpoint: Path | None = None


def open_model(
    named: str, *, prompts: str = "auto", device: str = "auto", chunk: int = 16, server: str = ""
) -> OpenedModel:
    """Load a model by its name, or a run by its folder: ``RUN@12`` for its step 12, ``RUN@0`` for the model it started
    from. `server`: the URL of an OpenAI-compatible server that serves it instead. Raises EvaluationError or ModelError.
    """
    if server:
        generator = ServerGenerator(server, named)
        style = get_style("chat" if prompts == "auto" else prompts)
        return OpenedModel(generator, style, named, None, 8 * generator.parallel)
    require_training("a model read here")
    base, _, step = named.rpartition("@") if "@" in named else (named, "", "")
    run = Path(base)
    if (run / "run.json").is_file():
        trained = RunDir.open(run).config()
        done, checkpoint = _checkpoint(run, step, trained.updates_per_step)
        named, folder = f"{base}@{done}", run / "eval" / f"step-{done}"
    else:
        _refuse_misspelt_run(run, base, step)
        trained, checkpoint, folder = Config(model=named), None, None
    config = Config(
        model=trained.model,
        prompts=trained.prompts if prompts == "auto" else prompts,
        device=device,
        tuning="qlora" if trained.tuning == "qlora" else "lora",  # untrained: 16 bits where the machine has them
    )
    made, style, reasons = _load(config, checkpoint, named)
    chunk = 384 if made.sampler else chunk
    return OpenedModel(made, style, config.model, folder, chunk, reasons, trained if folder else None, checkpoint)


def _load(config: Config, checkpoint: Path | None, name: str) -> tuple[TransformersGenerator, Style, tuple[str, ...]]:
    from azr_lite.train.policy import load_policy

    nano, adapter = config.model == "nano", bool(checkpoint and (checkpoint / "adapter_config.json").exists())
    policy = load_policy(config if nano or adapter or not checkpoint else config.replace(model=str(checkpoint)))
    if adapter:
        from peft import PeftModel

        policy.model = PeftModel.from_pretrained(policy.model, str(checkpoint))
    elif nano and checkpoint:
        from safetensors.torch import load_file

        policy.model.load_state_dict(load_file(checkpoint / "model.safetensors"), strict=False)
        policy.model.tie_weights()
    policy.model.to(policy.device)
    reasons = tuple(line for line in policy.reasons if "adapters of rank" not in line)  # none, or those of the run
    style, tokenizer = get_style(policy.style), policy.tokenizer
    ends = policy.model.generation_config.eos_token_id
    eos = {tokenizer.eos_token_id, *(ends if isinstance(ends, list) else [ends])} - {None}
    sampler = None
    if nano and not adapter:
        from azr_lite.nano.model import NanoSampler

        sampler = NanoSampler(policy.model, tokenizer.eos_token_id, tokenizer.pad_token_id, 256)
    codec = Codec(tokenizer, style, sorted(eos), policy.untrained)
    return TransformersGenerator(policy, codec, name, sampler), style, reasons


def _refuse_misspelt_run(folder: Path, base: str, step: str) -> None:
    """A misspelt run looks like a hub id, and the hub would be asked for it: for a minute where there is no network."""
    runs = [] if folder.exists() or "/" not in base else sorted(folder.parent.glob("*/run.json"))
    if runs:
        known = ", ".join(path.parent.name for path in runs[:8])
        raise EvaluationError(f"there is no run at {base}; {folder.parent} holds {known}; give one of these")
    if step:
        raise EvaluationError(f"{base} is not a run, so it has no step {step}; give the folder of a run before the @")


def _checkpoint(run: Path, step: str, updates: int) -> tuple[int, Path | None]:
    """The step meant and its checkpoint; None: the model before training."""
    known = {step_of(path) // updates: path for path in run.glob("checkpoint-*") if is_whole(path)}
    if step == "0":
        return 0, None
    if not step and not known:
        told = f"{run} has no whole checkpoint yet; let it train, or give {run}@0 for the model it starts from"
        raise EvaluationError(told)
    if step and not (step.isdecimal() and int(step) in known):
        steps = ", ".join(map(str, [0, *sorted(known)]))
        raise EvaluationError(f"{run} has no checkpoint of step {step}; it has: {steps}")
    done = int(step) if step else max(known)
    return done, known[done]
