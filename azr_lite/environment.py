"""What this run ran on and with: versions, hardware, git commit; quiet libraries, and which of them are missing."""

from __future__ import annotations

import functools
import importlib.util
import logging
import os
import platform
import socket
import subprocess
import sys
import time
import warnings
from importlib import metadata
from pathlib import Path
from typing import Any

from azr_lite.errors import ConfigError

LIBRARIES = ("azr-lite", "torch", "transformers", "trl", "peft", "accelerate", "bitsandbytes", "numpy")
EXTRAS = {
    "train": ("torch", "transformers", "trl", "peft", "accelerate", "datasets"),
    "observe": ("complexipy", "radon"),
}
"""What running a model, and what counting the complexity of programs needs beside the core."""


def missing_libraries(extra: str = "train") -> list[str]:
    """Libraries of this extra that are not installed. Imports none of them."""
    return [name for name in EXTRAS[extra] if importlib.util.find_spec(name) is None]


def require_training(what: str) -> None:
    """`require` the extra "train", and make its libraries quiet.

    No telemetry, no notices of others, no tokenizer forks; progress bars on terminals only. Only where the user has not
    decided otherwise. Call it before transformers is imported and before anything is written.
    """
    require(what, "train")
    for name, value in {
        "HF_HUB_DISABLE_TELEMETRY": "1",
        "WANDB_ERROR_REPORTING": "false",
        "HF_HUB_DISABLE_PROGRESS_BARS": "0" if (bars := bool(sys.stderr and sys.stderr.isatty())) else "1",
        "TRL_EXPERIMENTAL_SILENCE": "1",
        **({} if bars else {"TQDM_DISABLE": "1"}),
        "TOKENIZERS_PARALLELISM": "false",
        "TRANSFORMERS_VERBOSITY": "error",
    }.items():
        os.environ.setdefault(name, value)
    warnings.filterwarnings("ignore", category=FutureWarning, module=r"transformers\..*|trl\..*")
    warnings.filterwarnings("ignore", message="Could not find a config file in")  # peft, of a base read from a file
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)


def require(what: str, extra: str) -> None:
    """ConfigError where `what` ("a run") needs libraries of this extra (see `EXTRAS`) that are missing."""
    if absent := missing_libraries(extra):
        raise ConfigError(
            f"{what} needs {', '.join(absent)}, not installed here; pip install 'azr-lite[{extra}]' installs them"
        )


def describe_environment() -> dict[str, Any]:
    """Command, date, versions, platform, cores, memory, git commit of this source tree (None outside one)."""
    command = [Path(sys.argv[0]).name, *sys.argv[1:]]
    return {
        # a notebook's kernel was started with a temporary file, which says nothing
        "command": "(a notebook)" if command[0] == "ipykernel_launcher.py" else " ".join(command),
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "cores": os.cpu_count(),
        "memory_gib": memory_gib(),
        "versions": {name: version for name in LIBRARIES if (version := _version(name))},
        "git": _git_commit(),
    }


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def memory_gib() -> float | None:
    try:
        return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1)
    except (ValueError, OSError, AttributeError):
        return None


def cpu_arithmetic() -> str:
    """The type in which the processor is fastest for language models, and what of it says so."""
    try:
        flags = Path("/proc/cpuinfo").read_text().split()
    except OSError:  # not Linux
        flags = []
    found = [flag for flag in ("avx512_bf16", "amx_tile") if flag in flags]
    return f"bfloat16 ({', '.join(found)})" if found else "float32"


@functools.cache
def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "rev-parse", "HEAD"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=5, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return found.stdout.strip() or None


def free_port() -> int:
    """One that no other run is likely to get meanwhile: the kernel takes them from all over its range."""
    with socket.socket() as any_port:
        any_port.bind(("", 0))
        return any_port.getsockname()[1]


def sharding() -> str:
    """``FSDP`` or ``DeepSpeed`` where the launcher wants weights sharded over the processes, else empty."""
    for name in ("FSDP", "DeepSpeed"):
        if os.environ.get(f"ACCELERATE_USE_{name.upper()}", "").lower() in ("true", "1"):
            return name
    return ""


def gets_weights() -> bool:
    """Whether this process gets its part of the weights from the first, which alone reads them from disk."""
    told = os.environ.get("FSDP_CPU_RAM_EFFICIENT_LOADING", "").lower() in ("true", "1")
    return int(os.environ.get("RANK") or 0) > 0 and (sharding() == "DeepSpeed" or (sharding() == "FSDP" and told))
