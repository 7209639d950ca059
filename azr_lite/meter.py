"""What a step cost the machine: tokens a second, memory, energy. Wall-clock numbers: never the same twice, so timing.jsonl only.

Comes in: a step's tokens and its seconds by stage.  Goes out: a few floats.
Not covered: seconds by stage (`boundary.py`); other machines and processes of the run: memory and processor time are of this
process, GPU energy of all GPUs this machine shows.

Energy. GPU: NVML's own counter (Volta and later; NVIDIA states about 5 %). Processor: no counter is readable by an ordinary user
on most machines, so it is processor time x `WATTS_A_CORE`; laptops draw 4 W a busy core, servers 15 W with their memory: the
estimate is right to a factor of 2 either way. Processor time counts the sandbox's children only once they have been waited for.
"""

from __future__ import annotations

import ctypes
import os
import sys

WATTS_A_CORE = 8.0
"""Assumed power of one busy core with its share of memory, in watts."""


class Meter:
    """`read` once a step. Costs some microseconds; on GPUs one NVML call each."""

    def __init__(self) -> None:
        self._gpus = _gpu_counters()
        self._cpu_s, self._gpu_j = _cpu_seconds(), self._gpu_joules()

    def read(self, tokens: float, generate_s: float) -> dict[str, float]:
        """Since the last call: sampled tokens a second of sampling, peak memory so far (MiB), joules."""
        cpu_s, gpu_j = _cpu_seconds(), self._gpu_joules()
        numbers = {
            "tokens_per_s": tokens / generate_s if generate_s > 0 else 0.0,
            "memory_mib": peak_mib(),
            "cpu_energy_j": (cpu_s - self._cpu_s) * WATTS_A_CORE,
        }
        if self._gpus:
            numbers["gpu_energy_j"] = gpu_j - self._gpu_j
        torch = sys.modules.get("torch")
        if torch is not None and torch.cuda.is_available():
            numbers["gpu_memory_mib"] = torch.cuda.max_memory_allocated() / 2**20
        self._cpu_s, self._gpu_j = cpu_s, gpu_j
        return numbers

    def _gpu_joules(self) -> float:
        return sum(joules for counter in self._gpus if (joules := counter()) is not None)


def _cpu_seconds() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def peak_mib() -> float:
    """Linux counts it anew for each program; `ru_maxrss` would inherit that of the process that started this one. Windows: 0, not known."""
    try:
        with open("/proc/self/status", encoding="ascii", errors="replace") as status:
            return next(int(line.split()[1]) for line in status if line.startswith("VmHWM")) / 2**10
    except (OSError, StopIteration):
        pass
    if sys.platform == "win32":
        return 0.0
    import resource  # Windows has none

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def _gpu_counters() -> list:
    """One function a GPU that gives its energy counter in joules; none without NVML or where GPUs have no counter."""
    try:
        nvml = ctypes.CDLL("libnvidia-ml.so.1")
    except OSError:
        return []
    count = ctypes.c_uint()
    if nvml.nvmlInit_v2() or nvml.nvmlDeviceGetCount_v2(ctypes.byref(count)):
        return []
    counters = []
    for index in range(count.value):
        device = ctypes.c_void_p()
        if nvml.nvmlDeviceGetHandleByIndex_v2(index, ctypes.byref(device)):
            continue

        def joules(device: ctypes.c_void_p = device) -> float | None:
            millijoules = ctypes.c_ulonglong()
            failed = nvml.nvmlDeviceGetTotalEnergyConsumption(device, ctypes.byref(millijoules))
            return None if failed else millijoules.value / 1000

        if joules() is not None:
            counters.append(joules)
    return counters
