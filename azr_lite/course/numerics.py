"""What notebooks 07 and 09 work out by hand: LoRA's merge, rounding to bfloat16, statistics of several processes.

Training itself does not use them: peft merges adapters, and all rewards are gathered before they are whitened.
Tests hold these few lines against both.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.floating]


def merge(weight: Array, a: Array, b: Array, alpha: float) -> Array:
    """LoRA's merge, W + alpha / r · B·A: `weight` (outputs, inputs), `a` (r, inputs), `b` (outputs, r)."""
    rank = a.shape[0]
    return weight + alpha / rank * (b @ a)


def to_bfloat16(values: Array) -> NDArray[np.float32]:
    """The nearest numbers that bfloat16 has (8 binary digits), kept as float32; halves go to the even neighbour.

    For finite numbers.
    """
    bits = np.ascontiguousarray(values, dtype=np.float32).view(np.uint32)
    # bfloat16 is the upper half of a float32: add just under half of the last digit that stays, then cut.
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    return (rounded & np.uint32(0xFFFF0000)).view(np.float32)


def pooled(counts: Sequence[int], means: Sequence[float], stds: Sequence[float]) -> tuple[float, float]:
    """Mean and population standard deviation of all numbers, from each process's count, mean and population std.

    E[x²] of one process is std² + mean². Its mean over all numbers, less the square of the mean, is the variance.
    """
    n, mu, sigma = (np.asarray(values, dtype=np.float64) for values in (counts, means, stds))
    mean = (n * mu).sum() / n.sum()
    square = (n * (sigma**2 + mu**2)).sum() / n.sum()
    return float(mean), float(np.sqrt(max(0.0, square - mean**2)))
