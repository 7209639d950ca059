"""Every setting: its unit, its default, and where the default comes from.

"paper" is arXiv 2505.03335 and "code" its authors' public code, where it differs. The string below a field is its help
text everywhere (`azr-lite run --help-all`, the site). Longer than other files, so that every setting has one place.
"""

from __future__ import annotations

import ast
import dataclasses
import difflib
import inspect
import json
import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal, get_args, get_origin, get_type_hints

from azr_lite.errors import ConfigError
from azr_lite.triplet import SEED_SHARING_TYPES

CHANGEABLE_ON_RESUME = (
    "steps", "max_hours", "save_every", "save_minutes", "eval_every", "stop_patience", "keep_checkpoints", "sync_to",
    "workers", "micro_batch_size", "generation_chunk", "gradient_checkpointing", "processes", "gradient_share_every",
    "report_to",
)  # fmt: skip
"""Settings that a resumed run may change: how long, how safe and how fast, not what is learned."""

DROPPED = {
    "continuous_batching": False, "importance_sampling": "token_truncate", "same_step": True, "top_p": 1.0,
    "vllm_sleep": True,
}  # fmt: skip
"""Settings of older runs, with the one value that is still what happens. Any other is refused."""

OBJECT = "object:"
"""Begins `model` where a Python program gave a loaded model; the name of its class follows."""

REWARDS = ("paper", "complexity", "halstead", "distance", "surprise")
"""What `reward` may name besides module:name; rewards.py says what each is."""
_TERM = re.compile(rf"({'|'.join(REWARDS)}|[^:=]+:[^:=]+)(=-?\d*\.?\d+(e-?\d+)?)?")

PER_PROMPT = ("grpo", "dr_grpo", "rloo")
"""Estimators with a baseline per prompt."""

TRACKERS = ("tensorboard", "wandb", "trackio")
"""What `report_to` may name; also the names of their packages."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, completely: every setting with its default. Immutable; `replace` gives a checked copy.

    Raises:
        ConfigError: in one sentence, for a value or a combination that cannot work, before anything is loaded.

    Examples:
        >>> Config(model="nano", batch_size=32).rows
        192
        >>> Config(n_mc=1)
        Traceback (most recent call last):
        azr_lite.errors.ConfigError: n_mc is 1; with one reply learnability is always 0; use 2 or more (paper: 8)
    """

    # ---- run
    preset: str = "custom"
    """The preset, or the file of settings (.json, .yaml), to start from."""
    output_dir: str = ""
    """Run directory; empty: runs/PRESET-seedSEED. An existing one is never reused silently."""
    seed: int = 0
    """One seed for everything."""
    steps: int = 500
    """Self-play steps; each trains on one batch of replies (paper: 500)."""

    # ---- model
    model: str = "nano"
    """nano, a hub id, a local folder, or a .gguf file."""
    tuning: Literal["full", "lora", "qlora"] = "full"
    """What is trained: all weights, low-rank adapters, or adapters over a 4-bit base."""
    lora_rank: int = 16
    """Adapter rank; 1 to 32 is enough for RL (TRL "LoRA without regret")."""
    lora_alpha: int = 32
    """Adapter scale is alpha / rank."""
    lora_layers: Literal["all", "upper"] = "all"
    """Layers with adapters: all, or the upper half, for less time and memory: the backward pass stops half-way."""
    roles: Literal["shared", "split"] = "shared"
    """shared (paper): one policy plays both roles. split: proposer and solver are two adapters over one frozen base."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weight dtype; auto: float32 masters for full tuning; under adapters bfloat16, or float16 on GPUs without it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy lives; auto: on a GPU where there is one, but nano on the CPU, where its own sampler works."""
    prompts: Literal["auto", "r1", "chat", "compact", "file", "file-working"] = "auto"
    """Prompt style; auto: compact for nano; else file or, where the tokenizer has a chat template, chat (r1 without),
    whichever gets more valid proposals in a short trial."""

    # ---- self-play
    task_types: tuple[str, ...] = ("deduction", "abduction", "induction")
    """Task types to play, in this order."""
    task_module: str = ""
    """Module that registers task types of your own; its code runs with your rights."""
    batch_size: int = 64
    """Proposals per task type per step, B (paper: 64)."""
    solver_batch_size: int = 0
    """Solver rollouts trained per task type per step; 0: the same as batch_size (paper)."""
    n_mc: int = 8
    """Solver replies per valid proposal, whose mean success is r-bar (paper: 8). At least 2."""
    references: int = 6
    """References in a proposer's prompt, K (paper: 6)."""
    reference_tasks: Literal["all", "learnable", "diverse"] = "all"
    """Where references are drawn from: the whole buffer (paper); its newest 200 tasks that were solved sometimes, once
    there are eight; or the whole buffer, programs with unlike syntax first."""
    proposals_per_prompt: int = 1
    """Proposals sampled from each proposer's prompt; it divides batch_size (paper: 1)."""
    seed_batch_factor: int = 4
    """Seeding stops at factor x batch_size valid unique tasks (paper: 4)."""
    seed_rounds: int = 50
    """Seeding also stops after this many rounds of proposals."""
    buffer_capacity: int = 16384
    """Tasks kept per type; the oldest leave first (code: 16384, but keeps the oldest)."""
    train_proposer: bool = True
    """Off: proposals are made and solved, but the proposer's rollouts carry no weight."""
    train_solver: bool = True
    """Off: answers measure tasks, but the solver's rollouts carry no weight."""
    solver_data: Literal["reuse", "separate"] = "reuse"
    """reuse: the Monte-Carlo replies train the solver. separate (paper): they are discarded, tasks are solved anew."""
    induction_inputs: int = 10
    """Inputs of an induction proposal (paper: 10)."""
    induction_shown: int = 5
    """How many of those pairs the solver sees; the others judge its answer (paper: 5)."""
    reply_reading: Literal["strict", "lenient"] = "strict"
    """strict: a thought, one answer, one block of each kind. lenient (code): what stands last counts, with or without
    blocks."""
    equality: Literal["python", "typed"] = "python"
    """How values are compared: as Python literals compare (paper), or type-exact."""

    # ---- reward
    reward: tuple[str, ...] = ("paper",)
    """Terms, added up: paper; module:name, a function of your own; complexity, halstead, distance and surprise of
    valid proposals, each 0 to 1 (code; off in the paper). With a weight: distance=0.1."""
    zero_learnability: Literal["paper", "upstream"] = "paper"
    """Reward of a valid proposal that is always or never solved: 0 (paper) or -0.5 (code)."""
    repeated_programs: Literal["paper", "penalty"] = "paper"
    """A proposal whose program the run has seen earns what its task earns (paper), or -0.5."""
    induction_scoring: Literal["binary", "fraction"] = "binary"
    """An induction answer earns all or nothing on the hidden pairs (paper), or the share it reproduces."""
    estimator: Literal["trr", "global", "grpo", "dr_grpo", "rloo"] = "trr"
    """Advantages: TRR++ over (role, type) groups (paper), one global baseline, or per-prompt groups."""
    proposer_estimator: Literal["same", "trr", "global", "grpo", "dr_grpo", "rloo"] = "same"
    """Advantages of proposals; same: as `estimator`."""
    whitening: Literal["sequence", "token"] = "sequence"
    """TRR++ statistics over sequence rewards (paper) or over response tokens (code)."""
    role_balanced_loss: bool = True
    """On (code's effect): each (role, type) group weighs the same in the loss. Off: one token mean over all."""

    # ---- optimiser
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """AdamW with float32 moments (paper), or bitsandbytes' 8-bit ones (GPU only; for full tuning)."""
    learning_rate: float = 1e-6
    """AdamW, constant (paper: 1e-6, full tuning; presets with adapters: 5e-5)."""
    adam_beta2: float = 0.999
    """Second-moment decay (paper: 0.999)."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    max_grad_norm: float = 1.0
    """Gradient clipping, global L2 norm (paper: 1)."""
    clip: float = 0.2
    """PPO clip epsilon; idle with one update per batch (paper: 0.2)."""
    entropy_coef: float = 0.001
    """Weight of the entropy bonus (paper: 0.001; code: 0)."""
    kl_coef: float = 0.0
    """Weight of the KL divergence (k3) from the untrained policy, the model with its adapter off (paper: 0)."""
    updates_per_step: int = 1
    """Optimiser updates that the rollouts of one step are split into (paper: 1)."""
    micro_batch_size: int = 4
    """Sequences per forward and backward pass on one device, at most; lowered to a size that divides the batch."""
    pack_prompts: bool = False
    """The update reads a prompt once for all its replies: a micro-batch becomes one sequence with a block mask. Exact;
    not for models with sliding windows or recurrent layers."""
    gradient_checkpointing: bool = False
    """Compute activations twice instead of keeping them: less memory, a third more arithmetic."""
    processes: int = 0
    """Processes of the run; 0: any, on a CPU one per core. On GPUs a launcher starts them (accelerate launch)."""

    # ---- generation
    temperature: float = 1.0
    """Sampling temperature (paper: 1). Greedy Monte-Carlo would make r-bar 0 or 1 only, so 0 is refused."""
    proposer_temperature: float = 0.0
    """Sampling temperature of proposals; 0: as `temperature`."""
    max_prompt_tokens: int = 6144
    """Longest prompt; references are dropped until a proposer's prompt fits (paper: 6144)."""
    max_reply_tokens: int = 8096
    """Longest reply (paper: 8096)."""
    generation_chunk: int = 64
    """Replies sampled at once; vLLM is given all of them."""
    generation: Literal["auto", "transformers", "vllm", "vllm-server"] = "transformers"
    """Sampler: transformers in this process, vLLM on the same GPUs (asleep during the update), or a vLLM server
    (`trl vllm-serve`) on others; auto: vLLM where it is installed and the plan fits, else transformers. vLLM's tokens
    are weighed by min(3, p_trainer / p_vLLM)."""
    vllm_memory: float = 0.3
    """vLLM on the same GPUs: its share of each GPU's memory."""
    vllm_tensor_parallel: int = 1
    """vLLM on the same GPUs: how many of them hold one copy of the model."""
    vllm_server: str = "http://localhost:8000"
    """Address of the vLLM server."""

    # ---- executor
    cpu_seconds: float = 1.0
    """CPU seconds per execution; validation gets half. One that uses none for a second is ended (paper: 10 s wall)."""
    memory_mb: int = 256
    """Address space of one execution, MiB."""
    workers: int = 0
    """Fork servers of the sandbox; 0: one less than the cores, at least 1, at most 8."""
    allow_weak: bool = False
    """Run model-written code without kernel isolation (macOS, Windows). Only inside a virtual machine of your own."""

    # ---- evaluation
    eval_problems: int = 300
    """Held-out problems per task type, asked before and after; 0: none. Real models have 100, your own types none."""
    eval_every: int = 0
    """Steps between further held-out evaluations; 0: only before and after."""
    stop_patience: int = 0
    """Stop after this many evaluations in a row that are significantly below the best (needs eval_every); 0: never."""
    self_test: bool = True
    """Before the first step: one synthetic update must raise a rewarded reply's log-probability."""
    gradient_share_every: int = 0
    """Steps between measurements of each (role, type)'s share of the gradient; 0: never. Each costs one more pass over
    the rows of one update and changes nothing. Not under FSDP or DeepSpeed."""
    report_to: tuple[str, ...] = ()
    """Trackers that also get each step's numbers: tensorboard, wandb, trackio; none by default."""

    # ---- saving
    save_every: int = 50
    """Steps between checkpoints; 0: only at the end."""
    save_minutes: float = 2.0
    """Also save when more than this many minutes of work could be lost, in at most a tenth of the time; 0: never."""
    max_hours: float = 0.0
    """Stop, saved and resumable, before this many hours have passed; 0: no limit."""
    sync_to: str = ""
    """Copy whole checkpoints and logs to a folder (Google Drive, a mounted disk) or hub:USER/REPO; empty: nowhere."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay."""

    def __post_init__(self) -> None:
        _check(self)

    @property
    def solver_rows(self) -> int:
        """Solver rollouts of each type in one training batch."""
        return self.solver_batch_size or self.batch_size

    @property
    def rows(self) -> int:
        """Sequences in one training batch: both roles, all types (paper: 2 x 3 x 64 = 384)."""
        return len(self.task_types) * (self.batch_size + self.solver_rows)

    @property
    def reward_weights(self) -> dict[str, float]:
        """Each term that `reward` names, with its weight."""
        return {name: float(weight or 1) for name, _, weight in (term.partition("=") for term in self.reward)}

    @property
    def knows_reward(self) -> bool:
        """Whether every term of the reward is azr_lite's, none of the user's own."""
        return not any(":" in term for term in self.reward)

    def micro_batches(self, world: int) -> int:
        """Micro-batches that each of `world` processes computes per update. ConfigError where the batch does not split.

        The one check of processes and batch: every `Config` passes it for its own `processes`, a run for those started.
        """
        share, odd = divmod(self.rows, self.updates_per_step * world)
        place = f" on each of {world} processes" if world > 1 else ""
        if odd:
            parts = f"{self.updates_per_step} update{'s' * (self.updates_per_step > 1)}{place}"
            hint = f"choose updates_per_step from the divisors of {self.rows}"
            if self.rows % self.updates_per_step == 0:
                hint = f"start a number of processes that divides {self.rows // self.updates_per_step}"
        elif share % self.micro_batch_size:
            parts = f"micro-batches of {self.micro_batch_size}{place}"
            hint = f"set processes to {world}, or micro_batch_size to a divisor of {share}"
        else:
            return share // self.micro_batch_size
        raise ConfigError(f"the training batch of {self.rows} sequences does not split into {parts}; {hint}")

    def replace(self, **changes: Any) -> Config:
        """A checked copy. Unknown names raise ConfigError with the nearest known one."""
        return dataclasses.replace(self, **check_names(changes))

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Config:
        return cls(**check_names(data))


def list_settings() -> list[tuple[str, str, str]]:
    """Section, name and help text of every setting, from the source: the interpreter forgets the strings."""
    source = inspect.getsource(Config)
    found, section, lines = [], "", source.splitlines()
    for field, text in pairwise(ast.parse(source).body[0].body):
        if isinstance(field, ast.AnnAssign):
            heading = lines[field.lineno - 2].partition("# ---- ")[2]
            section = heading or section
            found.append((section, field.target.id, " ".join(text.value.value.split())))
    return found


def check_names(changes: Mapping[str, Any]) -> dict[str, Any]:
    """`changes` with tuples for lists, and without what is `DROPPED`; ConfigError where a key is no setting."""
    names = [f.name for f in dataclasses.fields(Config)]
    kept = {name: value for name, value in changes.items() if name not in DROPPED or value != DROPPED[name]}
    for name in kept:
        if name in DROPPED:
            raise ConfigError(
                f"{name}={kept[name]!r} was set by an older azr_lite, and only {DROPPED[name]!r} is left; use the "
                "version named in the run's run.json, or leave the setting out"
            )
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]!r}?" if near else "see azr-lite run --help-all"
            raise ConfigError(f"there is no setting {name!r}; {hint}")
    return {name: tuple(value) if isinstance(value, list) else value for name, value in kept.items()}


# ---------------------------------------------------------------- one sentence for each wrong value or combination

_RANGES: tuple[tuple[str, Callable[[float], bool], str], ...] = (
    ("steps batch_size references seed_batch_factor seed_rounds buffer_capacity max_prompt_tokens max_reply_tokens "
     "generation_chunk learning_rate max_grad_norm updates_per_step micro_batch_size cpu_seconds lora_rank lora_alpha "
     "keep_checkpoints induction_shown vllm_tensor_parallel proposals_per_prompt",
     lambda value: value > 0, "it must be above 0; raise it"),
    ("seed solver_batch_size weight_decay entropy_coef workers eval_problems eval_every save_every save_minutes "
     "max_hours stop_patience processes gradient_share_every kl_coef proposer_temperature", lambda value: value >= 0,
     "it cannot be negative; use 0 or more"),
    ("seed", lambda value: value < 2**32, "numpy takes numbers below 2**32; use a smaller one"),
    ("n_mc", lambda value: value >= 2, "with one reply learnability is always 0; use 2 or more (paper: 8)"),
    ("temperature", lambda value: 0.01 <= value <= 5,
     "greedy Monte-Carlo replies are all alike and teach nothing; use 0.01 to 5 (paper: 1)"),
    ("clip", lambda value: 0 < value < 1, "the PPO ratio is clipped to 1 ± clip; use between 0 and 1 (paper: 0.2)"),
    ("adam_beta2", lambda value: 0 < value < 1, "use between 0 and 1 (paper: 0.999)"),
    ("vllm_memory", lambda value: 0 < value < 1, "a share of the GPU's memory; use between 0 and 1 (such as 0.3)"),
    ("memory_mb", lambda value: 64 <= value <= 2**20, "a Python child needs 64 MiB to start; use 64 to 1048576"),
)  # fmt: skip
"""Names of settings, what their value must satisfy, and the end of the sentence where it does not."""

_CONFLICTS: tuple[tuple[Callable[[Config], Any], str], ...] = (
    (lambda c: not c.model, "model is empty; give 'nano', a hub id, a folder or a .gguf file"),
    (lambda c: c.induction_inputs <= c.induction_shown,
     "induction_inputs is {c.induction_inputs} and induction_shown {c.induction_shown}; no pair stays hidden to judge "
     "with; show fewer"),
    # self-play
    (lambda c: c.rows % 2,
     "the training batch has {c.rows} sequences; TRL needs an even number; change one of the batch sizes by one"),
    (lambda c: not (c.train_proposer or c.train_solver),
     "train_proposer and train_solver are both off, so nothing would learn; switch one on"),
    (lambda c: c.estimator in PER_PROMPT and c.solver_data != "reuse",
     "estimator={c.estimator!r} needs several replies per task; set solver_data='reuse'"),
    (lambda c: c.batch_size % c.proposals_per_prompt,
     "batch_size is {c.batch_size}, and {c.proposals_per_prompt} proposals per prompt do not divide it; change "
     "proposals_per_prompt or batch_size"),
    (lambda c: c.proposer_estimator in PER_PROMPT and c.proposals_per_prompt == 1,
     "proposer_estimator={c.proposer_estimator!r} needs several proposals per prompt; raise proposals_per_prompt"),
    (lambda c: c.proposer_temperature and not c.pack_prompts,
     "proposer_temperature needs pack_prompts=True: TRL's own scoring knows one temperature"),
    (lambda c: c.reference_tasks == "diverse" and c.references == 1,
     "reference_tasks='diverse' picks references unlike one another, and references is 1; raise references"),
    (lambda c: c.model == "nano" and c.prompts not in ("auto", "compact"),
     "prompts is {c.prompts!r}, and the nano model was taught no other form than compact; use prompts='auto'"),
    # what is trained
    (lambda c: c.kl_coef and c.tuning == "full",
     "kl_coef compares with the model without its adapter; use tuning='lora' or 'qlora'"),
    (lambda c: c.lora_layers == "upper" and c.tuning == "full",
     "lora_layers='upper' is about adapters; use tuning='lora' or 'qlora'"),
    (lambda c: c.tuning == "qlora" and c.model.startswith(OBJECT),
     "tuning='qlora' reads the base in 4 bits itself; give the model's hub id or folder, or use tuning='lora'"),
    (lambda c: c.tuning == "qlora" and c.dtype == "float32",
     "tuning='qlora' computes in 16 bits over a 4-bit base; use dtype='auto' or 'bfloat16'"),
    (lambda c: c.optimizer != "adamw" and c.device == "cpu",
     "optimizer={c.optimizer!r} runs on GPUs only; use optimizer='adamw' on a CPU"),
    (lambda c: c.roles == "split" and c.tuning == "full",
     "roles='split' keeps two adapters over one frozen base; set tuning='lora' or 'qlora'"),
    (lambda c: c.roles == "split" and any(
        len(c.task_types) * n % c.updates_per_step for n in (c.batch_size, c.solver_rows)),
     "roles='split' needs micro-batches of one role, and {c.updates_per_step} updates do not divide both the proposals "
     "and the solver rollouts of a step; change updates_per_step, batch_size or solver_batch_size"),
    # combinations that run and quietly train something else
    (lambda c: c.generation.startswith("vllm") and c.model == "nano",
     "the nano model has its own sampler, and vLLM does not know it; use generation='transformers'"),
    (lambda c: c.generation.startswith("vllm") and (c.model.endswith(".gguf") or c.model.startswith(OBJECT)),
     "vLLM cannot start from {c.model}; give the hub id or the folder that the file was made from, or use "
     "generation='transformers'"),
    (lambda c: c.generation == "vllm-server" and c.tuning != "full",
     "a vLLM server takes merged weights: TRL would add the adapters to the base and subtract them again at each step, "
     "which wears a 16-bit base away and destroys a 4-bit one; use generation='vllm', which takes them as they are"),
    (lambda c: c.generation.startswith("vllm") and c.device == "cpu",
     "vLLM is used on GPUs only; on a CPU use generation='transformers'"),
    (lambda c: c.generation == "vllm-server" and not c.vllm_server.startswith(("http://", "https://")),
     "vllm_server is {c.vllm_server!r}; give an address such as http://localhost:8000"),
    (lambda c: not c.reward or not all(map(_TERM.fullmatch, c.reward)),
     "reward names {c.reward}; give paper, complexity, halstead, distance, surprise, or module:name of your own, each "
     "alone or with a weight, such as distance=0.1"),
    # watching
    (lambda c: c.stop_patience and not (c.eval_every and c.eval_problems),
     "stop_patience counts held-out evaluations, and none are made during the run; set eval_every and eval_problems"),
    (lambda c: not set(c.report_to) <= {*TRACKERS},
     "report_to names {c.report_to}; the trackers known here are " + ", ".join(TRACKERS) + "; name those or none"),
    (lambda c: c.sync_to.startswith("hub:") and [bool(part) for part in c.sync_to[4:].split("/")] != [True, True],
     "sync_to is {c.sync_to!r}; a place on the hub is written hub:USER/REPO; a folder is written as its path"),
)  # fmt: skip
"""What must not be, and the sentence for it."""


def _check(config: Config) -> None:
    """One sentence for each wrong value: what was wrong, what was expected, what to do."""
    for name, kind in get_type_hints(Config).items():
        _check_type(name, kind, getattr(config, name))
    for names, holds, sentence in _RANGES:
        for name in names.split():
            if not holds(value := getattr(config, name)):
                raise ConfigError(f"{name} is {value}; {sentence}")
    _check_task_types(config)
    for conflict, sentence in _CONFLICTS:
        if conflict(config):
            raise ConfigError(sentence.format(c=config))
    _lower_micro_batch(config)
    config.micro_batches(max(1, config.processes))


def _lower_micro_batch(config: Config) -> None:
    """Take the largest micro-batch, up to the one set, that every update splits into on each process."""
    types = len(config.task_types)
    parts = (types * config.batch_size, types * config.solver_rows) if config.roles == "split" else (config.rows,)
    share = config.updates_per_step * max(1, config.processes)
    sizes = range(config.micro_batch_size, 1, -1)
    size = next((n for n in sizes if not any(part % (share * n) for part in parts)), 1)
    object.__setattr__(config, "micro_batch_size", size)  # the one field that a frozen Config corrects itself


def _check_task_types(config: Config) -> None:
    from azr_lite.tasks import get_task_type, import_own, list_task_types  # here: this module can be imported alone

    if config.task_module:
        import_own(config.task_module, "task_module")
    names, known = config.task_types, list_task_types()
    if not names:
        raise ConfigError(f"task_types is empty; name at least one of {', '.join(known)}")
    if unknown := [name for name in names if name not in known]:
        raise ConfigError(
            f"unknown task type {unknown[0]!r}; known: {', '.join(known)}; import the file that registers it first "
            "(command line: --task-module its_module)"
        )
    starved = [name for name in names if get_task_type(name).propose_from == "programs"]
    if starved and not set(SEED_SHARING_TYPES) & set(names):
        raise ConfigError(
            f"task_types is {', '.join(names)}: proposals of {starved[0]} start from programs of other task types, "
            f"and there are none; add {' or '.join(SEED_SHARING_TYPES)}"
        )


def _check_type(name: str, kind: Any, value: Any) -> None:
    if get_origin(kind) is Literal:
        fits, expected = value in get_args(kind), f"choose one of {', '.join(map(repr, get_args(kind)))}"
    elif get_origin(kind) is tuple:
        fits = isinstance(value, tuple) and all(isinstance(item, str) for item in value)
        expected = "give a tuple of names, such as ('deduction', 'abduction')"
        if fits and len(set(value)) < len(value):
            fits, expected = False, "a name stands there twice; name each once"
    elif kind is float:
        fits = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        expected = "give a finite number"
    else:  # True is an int, and no count
        fits = isinstance(value, kind) and not (kind is int and isinstance(value, bool))
        expected = "give a whole number" if kind is int else f"give a {kind.__name__}"
    if not fits:
        raise ConfigError(f"{name} is {value!r}; {expected}")


def config_text(config: Config) -> str:
    """The text of ``config.json``: all settings as JSON, sorted by name."""
    return json.dumps(config.to_json(), indent=2, sort_keys=True) + "\n"
