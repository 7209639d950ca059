"""Every knob: its unit, its default, and where the default comes from.

Comes in: settings.  Goes out: one frozen `Config`, checked before anything is loaded.
Not covered: settings that go together (`presets.py`), what a machine can hold (`hardware.py`), how a model is found (`models.py`).

Longer than other files, so that every knob is looked up in one place.
Sources named below: "paper" is arXiv 2505.03335; "code" is its authors' public code where it differs.
"""

from __future__ import annotations

import dataclasses
import difflib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from azr_lite.errors import ConfigError
from azr_lite.triplet import SEED_SHARING_TYPES

CHANGEABLE_ON_RESUME = (
    "steps", "save_every", "save_minutes", "max_hours", "stop_patience", "eval_every", "keep_checkpoints", "sync_to", "workers",
    "micro_batch_size", "generation_chunk", "gradient_checkpointing", "processes", "gradient_share_every", "report_to",
)  # fmt: skip
"""Settings that a resumed run may change: how long, how safe and how fast, not what is learned."""

TRACKERS = ("tensorboard", "wandb", "trackio")
"""What `report_to` may name; also the names of their packages."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """One run, completely. Immutable; `replace` gives a checked copy."""

    # ---- the run
    preset: str = "custom"
    """The preset, or the .json file of settings, to start from; afterwards only a label."""
    output_dir: str = ""
    """Run directory; empty: runs/PRESET-seedSEED. An existing one is never reused silently."""
    seed: int = 0
    """One seed for everything."""
    steps: int = 500
    """Self-play steps, one policy update batch each (paper: 500)."""

    # ---- the model
    model: str = "nano"
    """nano, a hub id, a local folder, or a .gguf file."""
    tuning: Literal["full", "lora", "qlora"] = "full"
    """What is trained: all weights, low-rank adapters, or adapters over a 4-bit base."""
    lora_rank: int = 16
    """Adapter rank; 1 to 32 is enough for RL (TRL "LoRA without regret")."""
    lora_alpha: int = 32
    """Adapter scale is alpha / rank."""
    roles: Literal["shared", "split"] = "shared"
    """shared (paper): one policy plays both roles. split: proposer and solver are two adapters over one frozen base."""
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Weight dtype; auto: float32 masters for full tuning, bfloat16 under adapters where the machine has it."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Where the policy lives."""
    prompts: Literal["auto", "r1", "chat", "compact"] = "auto"
    """Prompt style; auto: compact for nano, chat where the tokenizer has a chat template, else r1."""

    # ---- self-play (paper section 3)
    task_types: tuple[str, ...] = ("deduction", "abduction", "induction")
    """The games played, in this order."""
    batch_size: int = 64
    """B: proposals a task type and step (paper: 64)."""
    solver_batch_size: int = 0
    """Solver rollouts trained a task type and step; 0: the same as batch_size (paper)."""
    n_mc: int = 8
    """Solver samples of each valid proposal, whose mean success is r-bar (paper: 8). At least 2."""
    references: int = 6
    """K: references in a proposer's prompt (paper: 6)."""
    seed_batch_factor: int = 4
    """Seeding stops at factor x batch_size valid unique tasks (paper: 4)."""
    seed_rounds: int = 50
    """Seeding also stops after this many rounds of proposals."""
    buffer_capacity: int = 16384
    """Tasks kept of each type; the oldest leave first (code: 16384, but keeps the oldest)."""
    train_proposer: bool = True
    """Off: proposals are made and solved, but the proposer's rollouts carry no weight."""
    train_solver: bool = True
    """Off: the same for the solver."""
    same_step: bool = True
    """True (paper): the solver's newest tasks are this step's proposals. False (code): the previous step's."""
    solver_data: Literal["reuse", "separate"] = "reuse"
    """reuse: the Monte-Carlo replies train the solver. separate (paper): they are thrown away and tasks are solved anew."""
    zero_learnability: Literal["paper", "upstream"] = "paper"
    """Reward of a valid proposal that is always or never solved: 0 (paper) or -0.5 (code)."""
    induction_scoring: Literal["binary", "fraction"] = "binary"
    """An induction answer earns all or nothing on the hidden pairs (paper), or the share it reproduces."""
    induction_inputs: int = 10
    """Inputs of an induction proposal (paper: 10)."""
    induction_shown: int = 5
    """How many of those pairs the solver sees; the others judge it (paper: 5)."""
    equality: Literal["python", "typed"] = "python"
    """How values are compared: as Python literals compare (paper) or type-exact."""
    estimator: Literal["trr", "global", "grpo", "dr_grpo", "rloo"] = "trr"
    """Advantages: TRR++ over (role, type) groups (paper), one global baseline, or per-prompt groups."""
    whitening: Literal["sequence", "token"] = "sequence"
    """TRR++ statistics over sequence rewards (paper) or over response tokens (code)."""
    role_balanced_loss: bool = True
    """True (code's effect): each (role, type) group weighs the same in the loss. False: one token mean over all."""

    # ---- sampling
    temperature: float = 1.0
    """Sampling temperature (paper: 1). Greedy Monte-Carlo would make r-bar 0 or 1 only, so 0 is refused."""
    top_p: float = 1.0
    """Nucleus sampling mass (paper: 1)."""
    max_prompt_tokens: int = 6144
    """Longest prompt; references are dropped until a proposer's prompt fits (paper: 6144)."""
    max_reply_tokens: int = 8096
    """Longest reply (paper: 8096)."""
    generation_chunk: int = 64
    """Replies sampled at once by transformers' generate."""
    generation: Literal["transformers", "vllm", "vllm-server"] = "transformers"
    """Who samples: transformers in this process, vLLM on the same GPUs, or a vLLM server (`trl vllm-serve`) on others."""
    continuous_batching: bool = False
    """transformers' paged batching instead of padded chunks. Adapters on a GPU only: it rounds the weights to 16 bits in place."""
    importance_sampling: Literal["token_truncate", "off"] = "token_truncate"
    """vLLM: weigh each token by min(3, p_trainer / p_vLLM), or trust vLLM's samples (saves one forward pass; code)."""
    vllm_memory: float = 0.3
    """vLLM on the same GPUs: its share of each GPU's memory."""
    vllm_sleep: bool = True
    """vLLM on the same GPUs: free its weights and cache during the update."""
    vllm_tensor_parallel: int = 1
    """vLLM on the same GPUs: how many of them hold one copy of the model."""
    vllm_server: str = "http://localhost:8000"
    """Address of the vLLM server."""

    # ---- the update
    optimizer: Literal["adamw", "adamw_8bit", "paged_adamw_8bit"] = "adamw"
    """AdamW with float32 moments (paper), or bitsandbytes' 8-bit ones (GPU only; worth it where all weights are trained)."""
    learning_rate: float = 1e-6
    """AdamW, constant (paper: 1e-6, full tuning; adapters want about ten times that)."""
    adam_beta2: float = 0.999
    """Second-moment decay (paper: 0.999)."""
    weight_decay: float = 0.01
    """Decoupled weight decay."""
    max_grad_norm: float = 1.0
    """Gradient clipping, global L2 norm (paper: 1)."""
    clip: float = 0.2
    """PPO clip epsilon; idle with one update a batch (paper: 0.2)."""
    entropy_coef: float = 0.001
    """Weight of the entropy bonus (paper: 0.001; code: 0)."""
    updates_per_step: int = 1
    """Optimiser updates the rollouts of one step are split into (paper: 1)."""
    micro_batch_size: int = 4
    """Sequences in one forward and backward pass on one device."""
    gradient_checkpointing: bool = False
    """Trade time for activation memory."""
    processes: int = 0
    """Processes the run must have been started with (accelerate launch, torchrun); 0: any. Another number is refused."""

    # ---- the executor
    cpu_seconds: float = 1.0
    """CPU time one execution may take; validation gets half, wall time five times that (paper: 10 s wall)."""
    memory_mb: int = 256
    """Address space of one execution, MiB."""
    workers: int = 0
    """Fork servers; 0: one less than the cores, at least 1, at most 8."""
    allow_weak: bool = False
    """Run model-written code without kernel isolation (macOS, Windows). Only inside a virtual machine of your own."""

    # ---- watching and saving
    eval_problems: int = 300
    """Held-out problems of each type, solved greedily before and after; 0: no evaluation."""
    eval_every: int = 0
    """Also every so many steps; 0: only before and after."""
    save_every: int = 50
    """Steps between checkpoints; 0: only at the end."""
    save_minutes: float = 2.0
    """Also save as soon as more than so many minutes of work could be lost (but spend at most a tenth of the time on it); 0: never."""
    max_hours: float = 0.0
    """Stop, saved and resumable, before so many hours have passed; 0: no limit."""
    stop_patience: int = 0
    """Stop after so many held-out evaluations in a row that are significantly below the best one (needs eval_every); 0: never."""
    sync_to: str = ""
    """Copy each whole checkpoint and the logs there: a folder (Google Drive, a mounted disk), or hub:USER/REPO; empty: nowhere."""
    keep_checkpoints: int = 2
    """How many of the newest checkpoints stay."""
    self_test: bool = True
    """Before the first step: one synthetic update must raise a rewarded reply's log-probability."""
    gradient_share_every: int = 0
    """Steps between measurements of each (role, type)'s share of the gradient; 0: never. Each costs one more pass over the rows of one
    update; training stays bit for bit the same. Not under FSDP or DeepSpeed."""
    report_to: tuple[str, ...] = ()
    """Trackers that get each step's numbers beside the run directory: tensorboard, wandb, trackio; none by default."""

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

    def micro_batches(self, world: int) -> int:
        """Micro-batches that each of `world` processes computes per update.

        Raises ConfigError where the batch does not split evenly. The one check of processes and batch:
        every `Config` passes it for its own `processes`, and a run for the processes that were started.
        """
        each, odd = divmod(self.rows, self.updates_per_step * self.micro_batch_size * world)
        if odd:
            updates = f"{self.updates_per_step} update{'s' * (self.updates_per_step > 1)}"
            split = f"{updates} of micro-batches of {self.micro_batch_size}"
            split += f" on each of {world} processes" if world > 1 else ""
            raise ConfigError(
                f"the training batch of {self.rows} sequences does not split into {split}; {_fitting(self, world)}"
            )
        return each

    def replace(self, **changes: Any) -> Config:
        """A checked copy. Unknown names raise ConfigError with the nearest known one."""
        return dataclasses.replace(self, **check_names(changes))

    def to_json(self) -> dict[str, Any]:
        return dataclasses.asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Config:
        return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in check_names(dict(data)).items()})


def check_names(changes: dict[str, Any]) -> dict[str, Any]:
    """`changes` as given; ConfigError, with the nearest known name, where a key is no setting."""
    names = [f.name for f in dataclasses.fields(Config)]
    for name in changes:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            raise ConfigError(
                f"there is no setting {name!r}"
                + (f"; did you mean {near[0]!r}?" if near else "; see azr-lite run --help")
            )
    return changes


def _check(config: Config) -> None:
    """One sentence for each wrong value: what was wrong, what was expected, what to do."""
    for name, kind in get_type_hints(Config).items():
        _check_type(name, kind, getattr(config, name))
    positive = ("steps", "batch_size", "references", "seed_batch_factor", "seed_rounds", "buffer_capacity", "max_prompt_tokens",
                "max_reply_tokens", "generation_chunk", "learning_rate", "max_grad_norm", "updates_per_step", "micro_batch_size",
                "cpu_seconds", "lora_rank", "lora_alpha", "keep_checkpoints", "induction_shown", "vllm_tensor_parallel")  # fmt: skip
    for name in positive:
        if getattr(config, name) <= 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; it must be above 0; raise it")
    counts = ("seed", "solver_batch_size", "weight_decay", "entropy_coef", "workers", "eval_problems", "eval_every", "save_every",
              "save_minutes", "max_hours", "stop_patience", "processes", "gradient_share_every")  # fmt: skip
    for name in counts:
        if getattr(config, name) < 0:
            raise ConfigError(f"{name} is {getattr(config, name)}; it cannot be negative; use 0 or more")
    if config.seed >= 2**32:
        raise ConfigError(f"seed is {config.seed}; numpy takes numbers below 2**32; use a smaller one")
    if config.induction_inputs <= config.induction_shown:
        raise ConfigError(
            f"induction_inputs is {config.induction_inputs} and induction_shown {config.induction_shown}; no pair stays hidden to judge with; "
            "show fewer"
        )
    if config.n_mc < 2:
        raise ConfigError(
            f"n_mc is {config.n_mc}; with one sample the learnability reward is always 0; use 2 or more (paper: 8)"
        )
    if not 0 < config.temperature <= 5:
        raise ConfigError(
            f"temperature is {config.temperature}; greedy Monte-Carlo replies are all alike and teach nothing; use above 0 and up to 5 (paper: 1)"
        )
    if not 0 < config.top_p <= 1:
        raise ConfigError(f"top_p is {config.top_p}; it is a probability mass; use above 0 and up to 1 (paper: 1)")
    if not 0 < config.clip < 1:
        raise ConfigError(
            f"clip is {config.clip}; the PPO ratio is clipped to 1 ± clip; use between 0 and 1 (paper: 0.2)"
        )
    if not 0 < config.adam_beta2 < 1:
        raise ConfigError(f"adam_beta2 is {config.adam_beta2}; use between 0 and 1 (paper: 0.999)")
    if not 0 < config.vllm_memory < 1:
        raise ConfigError(
            f"vllm_memory is {config.vllm_memory}; it is a share of the GPU's memory; use between 0 and 1 (such as 0.3)"
        )
    if config.memory_mb < 64:
        raise ConfigError(f"memory_mb is {config.memory_mb}; a Python child needs 64 MiB to start; use 64 or more")
    if not config.model:
        raise ConfigError("model is empty; give 'nano', a hub id, a folder or a .gguf file")
    _check_games(config)
    _check_combinations(config)
    _check_tuning(config)
    _check_generation(config)
    _check_watching(config)


def _check_games(config: Config) -> None:
    from azr_lite.tasks import get_task_type, list_task_types  # here, so that this module can be imported alone

    if not config.task_types:
        raise ConfigError("task_types is empty; name at least one game: " + ", ".join(list_task_types()))
    if len(set(config.task_types)) != len(config.task_types):
        raise ConfigError(f"task_types names a game twice: {', '.join(config.task_types)}; name each once")
    for name in config.task_types:
        if name not in list_task_types():
            raise ConfigError(
                f"unknown task type {name!r}; known: {', '.join(list_task_types())}; import the file that registers it first (command line: AZR_LITE_TASK_TYPES=its_module)"
            )
    starved = [name for name in config.task_types if get_task_type(name).propose_from == "programs"]
    if starved and not set(SEED_SHARING_TYPES) & set(config.task_types):
        raise ConfigError(
            f"task_types is {', '.join(config.task_types)}: proposals of {starved[0]} start from programs of other games, "
            f"and there are none; add {' or '.join(SEED_SHARING_TYPES)}"
        )


def _check_combinations(config: Config) -> None:
    if config.solver_data == "reuse" and not config.same_step:
        raise ConfigError(
            "solver_data='reuse' trains on this step's Monte-Carlo replies, so it needs same_step; "
            "set solver_data='separate' to solve the previous step's tasks"
        )
    if config.rows % 2:
        raise ConfigError(
            f"the training batch has {config.rows} sequences; TRL needs an even number; change batch_size or solver_batch_size by one"
        )
    config.micro_batches(max(1, config.processes))
    if not (config.train_proposer or config.train_solver):
        raise ConfigError("train_proposer and train_solver are both off, so nothing would learn; switch one on")
    if config.estimator in ("grpo", "dr_grpo", "rloo") and config.solver_data != "reuse":
        raise ConfigError(f"estimator={config.estimator!r} needs several replies to each task; set solver_data='reuse'")


def _fitting(config: Config, world: int) -> str:
    """What to do about a batch that does not split: the nearest smaller micro-batch, where one helps."""
    each, odd = divmod(config.rows, config.updates_per_step * world)
    if odd and config.rows % config.updates_per_step == 0:
        return f"start a number of processes that divides {config.rows // config.updates_per_step}"
    if odd:
        return f"choose updates_per_step x micro_batch_size from the divisors of {config.rows}"
    size = max(n for n in range(1, min(config.micro_batch_size, each) + 1) if each % n == 0)
    return f"set micro_batch_size to {size}, or change batch_size or solver_batch_size"


def _check_tuning(config: Config) -> None:
    if config.tuning == "qlora" and config.dtype == "float32":
        raise ConfigError("tuning='qlora' computes in 16 bits over a 4-bit base; use dtype='auto' or 'bfloat16'")
    if config.optimizer != "adamw" and config.device == "cpu":
        raise ConfigError(f"optimizer={config.optimizer!r} runs on GPUs only; use optimizer='adamw' on a CPU")
    if config.roles == "split" and config.tuning == "full":
        raise ConfigError("roles='split' keeps two adapters over one frozen base; set tuning='lora' or 'qlora'")
    if config.roles == "split" and config.generation != "transformers":
        raise ConfigError(
            "roles='split' needs generation='transformers': TRL hands vLLM one merged model, and there are two policies"
        )
    if config.roles == "split" and (odd := [n for n in ("batch_size", "solver_rows") if _uneven(config, n)]):
        raise ConfigError(
            f"roles='split' wants micro-batches of one role, but {len(config.task_types)} games x {odd[0]} {getattr(config, odd[0])} does not split into "
            f"{config.updates_per_step} updates of micro-batches of {config.micro_batch_size}; change micro_batch_size or {odd[0]}"
        )


def _check_watching(config: Config) -> None:
    if config.stop_patience and not (config.eval_every and config.eval_problems):
        raise ConfigError(
            "stop_patience counts held-out evaluations, and none are made during the run; set eval_every and eval_problems"
        )
    for name in config.report_to:
        if name not in TRACKERS:
            raise ConfigError(
                f"report_to names {name!r}, which is no tracker known here; choose from {', '.join(TRACKERS)}"
            )
    if len(set(config.report_to)) != len(config.report_to):
        raise ConfigError(f"report_to names a tracker twice: {', '.join(config.report_to)}; name each once")
    repository = config.sync_to.removeprefix("hub:")
    if config.sync_to.startswith("hub:") and (repository.count("/") != 1 or not all(repository.split("/"))):
        raise ConfigError(
            f"sync_to is {config.sync_to!r}; a place on the hub is written hub:USER/REPO; a folder is written as its path"
        )


def _uneven(config: Config, name: str) -> int:
    return len(config.task_types) * getattr(config, name) % (config.updates_per_step * config.micro_batch_size)


def _check_generation(config: Config) -> None:
    """Combinations that run and quietly train something else."""
    vllm = config.generation != "transformers"
    if vllm and config.model == "nano":
        raise ConfigError(
            "the nano model has its own sampler, and vLLM does not know it; use generation='transformers'"
        )
    if vllm and config.tuning == "qlora":
        raise ConfigError(
            "tuning='qlora' with vLLM destroys the model: TRL merges the adapters into the 4-bit base and back at each step, and each round "
            "moves its weights by about 5 %; use tuning='lora' with vLLM, or generation='transformers' with qlora"
        )
    if vllm and config.importance_sampling != "off" and config.top_p < 1:
        raise ConfigError(
            f"top_p is {config.top_p}: vLLM's log-probabilities are then of the cut distribution, the trainer's of the whole one, and their ratio "
            "is no importance weight; use top_p=1"
        )
    if vllm and config.device == "cpu":
        raise ConfigError("vLLM is used on GPUs only; on a CPU use generation='transformers'")
    if config.generation == "vllm-server" and not config.vllm_server.startswith(("http://", "https://")):
        raise ConfigError(f"vllm_server is {config.vllm_server!r}; give an address such as http://localhost:8000")
    if config.continuous_batching and vllm:
        raise ConfigError(
            "continuous_batching is transformers' own, and vLLM batches by itself; switch it off, or use generation='transformers'"
        )
    if config.continuous_batching and config.tuning != "lora":
        raise ConfigError(
            "continuous_batching rounds all weights to 16 bits in place, which would destroy float32 masters (tuning='full') and skips 4-bit bases; "
            "use tuning='lora', or leave it off"
        )
    if config.continuous_batching and (config.model == "nano" or config.device == "cpu" or config.dtype == "float32"):
        raise ConfigError("continuous_batching is for 16-bit models on GPUs; leave it off here")


def _check_type(name: str, kind: Any, value: Any) -> None:
    if get_origin(kind) is Literal:
        if value not in get_args(kind):
            raise ConfigError(f"{name} is {value!r}; choose one of {', '.join(map(repr, get_args(kind)))}")
    elif get_origin(kind) is tuple:
        if not isinstance(value, tuple) or not all(isinstance(item, str) for item in value):
            raise ConfigError(f"{name} is {value!r}; give a tuple of names, such as ('deduction', 'abduction')")
    elif kind is float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise ConfigError(f"{name} is {value!r}; give a finite number")
    elif kind is int:
        if isinstance(value, bool) or not isinstance(value, int):
            raise ConfigError(f"{name} is {value!r}; give a whole number")
    elif not isinstance(value, kind):
        raise ConfigError(f"{name} is {value!r}; give a {kind.__name__}")


def config_text(config: Config) -> str:
    """The text of ``config.json``: all settings as JSON, sorted by name."""
    return json.dumps(config.to_json(), indent=2, sort_keys=True) + "\n"
