"""What this machine offers: versions, hardware, the sandbox's level, the presets that fit.

Comes in: nothing; the machine is looked at.  Goes out: a JSON-able dict (`examine`), or lines for people (`doctor`).
Not covered: what a preset needs and why (`hardware.py`), attacking the sandbox (`sandbox/abuse.py`), what a run suffers from
(`observe/doctor.py`). Needs the standard library only, and imports no torch even where it is installed.
"""

from __future__ import annotations

import warnings
from typing import Any

from azr_lite.environment import describe_environment, missing_libraries
from azr_lite.hardware import detect_gpu, natural_gpu, plan
from azr_lite.presets import PRESETS, preset
from azr_lite.sandbox import Executor


def examine() -> dict[str, Any]:
    """All facts. `presets` are those that one device of this machine holds; `missing`: libraries that training needs and are not here."""
    gpu = detect_gpu()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # the level below says it
        with Executor(workers=1, allow_weak=True) as executor:
            sandbox = {"level": executor.level.name, "layers": executor.layers}
    return {
        **describe_environment(),
        "gpu": {"name": gpu.name, "gb": round(gpu.gb, 1)} if gpu else None,
        "sandbox": sandbox,
        "presets": fitting(),
        "missing": missing_libraries(),
    }


def fitting() -> list[str]:
    """Presets for one device that this machine's GPU, or its CPU and memory, would hold by their plans. Nothing is loaded."""
    here = detect_gpu()
    found = []
    for name in PRESETS:
        settings = preset(name)
        if settings.processes <= 1 and (here is not None or natural_gpu(settings) == "cpu") and plan(settings).fits:
            found.append(name)
    return found


def doctor() -> None:
    """Print what this machine offers. (In a terminal: ``azr-lite doctor``.)"""
    print(text(examine()))


def text(facts: dict[str, Any]) -> str:
    """The facts in a dozen lines."""
    gpu, sandbox = facts["gpu"], facts["sandbox"]
    missing = [f"{name} ({state})" for name, state in sandbox["layers"].items() if state != "on"]
    lines = {
        "python": f"{facts['python']} on {facts['platform']}",
        "cores": facts["cores"],
        "memory": f"{facts['memory_gib']} GiB" if facts["memory_gib"] else "not known",
        "gpu": f"{gpu['name']}, {gpu['gb']} GB" if gpu else "none found (by nvidia-smi)",
        "libraries": ", ".join(f"{name} {version}" for name, version in facts["versions"].items()),
        "sandbox": f"{sandbox['level']}: " + (f"without {', '.join(missing)}" if missing else f"all of {', '.join(sandbox['layers'])}"),
        "presets that fit": ", ".join(facts["presets"]) or "none",
        "training": f"needs {', '.join(facts['missing'])}: pip install 'azr-lite[train]'" if facts["missing"] else "everything is here",
    }
    return "\n".join(f"{name:<17} {value}" for name, value in lines.items())
