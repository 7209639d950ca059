"""Graphics cards: what their datasheets say, and which one is in this machine."""

from __future__ import annotations

import dataclasses
import math
import subprocess
from dataclasses import dataclass

from azr_lite.errors import ConfigError


@dataclass(frozen=True)
class Card:
    """GB (1e9) of memory, GB/s of bandwidth, dense 16-bit TFLOP/s with float32 sums: the datasheet's numbers."""

    name: str
    gb: float
    bandwidth: float
    tflops: float


CARDS = (
    Card("RTX 4060", 8, 272, 30),
    Card("RTX 3060", 12, 360, 25),
    Card("T4", 16, 320, 65),
    Card("RTX 4060 Ti", 16, 288, 44),
    Card("RTX 3090", 24, 936, 71),
    Card("RTX 4090", 24, 1008, 165),
    Card("L4", 24, 300, 121),
    Card("A10", 24, 600, 125),
    Card("A100-80", 80, 2039, 312),
    Card("A100-40", 40, 1555, 312),
    Card("H100", 80, 3350, 989),
    Card("H200", 141, 4800, 989),
)
"""The first of a size stands for every card of that size whose name is not known."""
CPU = Card("CPU, 2 cores", 8, 40, 0.7)


def find_card(named: str | float) -> Card:
    """The card called 'T4', 'RTX 4090', '16GB', 24.0 or 'cpu'. Raises ConfigError, which lists the known ones."""
    word = _plain(str(named))
    if word == "cpu":
        return CPU
    for card in CARDS:
        key, size = _plain(card.name), f"{card.gb:g}"
        if word in (key, key.removeprefix("rtx"), key.removesuffix(size), f"{key}gb", f"{key}{size}gb"):
            return card
    try:
        gb = float(str(named).lower().strip().removesuffix("gb"))
    except ValueError:
        gb = math.nan
    if not 0 < gb < 10_000:
        names = ", ".join(card.name for card in CARDS)
        raise ConfigError(
            f"GPU {named!r} is not in the planner's table; give its memory, such as 16GB or 3x24GB, or one of: {names}"
        )
    like = max((card for card in CARDS if card.gb <= gb), key=lambda card: card.gb, default=CARDS[0])
    return dataclasses.replace(like, name=f"{gb:g} GB (as fast as {like.name})", gb=gb)


def detect_gpu() -> Card | None:
    """This machine's first NVIDIA GPU, by nvidia-smi; None without one."""
    command = ["nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.splitlines()[0]
        name, mebibytes = found.rsplit(",", 1)
        gb = float(mebibytes) * 2**20 / 1e9
    except (OSError, subprocess.SubprocessError, IndexError, ValueError):
        return None
    known = [card for card in CARDS if _plain(card.name).removesuffix(f"{card.gb:g}") in _plain(name)]
    like = min(known, key=lambda card: (abs(card.gb - gb), -len(card.name)), default=None) or find_card(gb)
    return dataclasses.replace(like, name=name.strip(), gb=gb)


def _plain(name: str) -> str:
    name = name.lower().replace(" ", "").replace("-", "")
    return name.removeprefix("nvidia").removeprefix("geforce").removeprefix("tesla")
