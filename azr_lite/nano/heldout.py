"""Held-out problems: compositions that neither the warm start nor the buffers may contain.

Comes in: a count and a seed.  Goes out: tasks of each type, depths 2, 3, 4 (induction 2, 3) alike, every program *reserved*.
A program is reserved when two neighbouring operations are a held-out pair, or three a held-out triple (chosen once, by
hash, whatever the constants), or when it is no plain chain of this language at all, so that no other spelling slips in.
Not covered: problems of other models (`data_samples/`), solving (`evaluation/`).
"""

from __future__ import annotations

import hashlib
import random
from itertools import pairwise

from azr_lite.nano.language import skeleton
from azr_lite.triplet import InductionTask, Task, Triplet

PAIR_SHARE, TRIPLE_SHARE = 0.15, 0.15
STRATA = {"deduction": (2, 3, 4), "abduction": (2, 3, 4), "induction": (2, 3)}


def _draw(names: tuple[str, ...]) -> float:
    return int.from_bytes(hashlib.sha256(" ".join(names).encode()).digest()[:4], "big") / 2**32


def held_pair(first: str, second: str) -> bool:
    """Whether this ordered pair of operation kinds is held out."""
    return _draw((first, second)) < PAIR_SHARE


def held_skeleton(names: tuple[str, ...]) -> bool:
    """Whether a chain contains a held-out pair or triple."""
    if any(held_pair(a, b) for a, b in pairwise(names)):
        return True
    return any(_draw(names[i : i + 3]) < TRIPLE_SHARE for i in range(len(names) - 2))


def is_reserved(program: str) -> bool:
    """Whether a program must stay out of the warm start and of the buffers."""
    names = skeleton(program)
    return names is None or held_skeleton(names)


def depth(task: Task) -> int:
    """How many operations the task's program composes (0 for identity; -1 for a program outside the language)."""
    names = skeleton(task.program)
    return -1 if names is None else len(names)


def held_out(n: int, seed: int) -> dict[str, list[Task]]:
    """`n` different tasks of each type, its depths in turn; deterministic in (n, seed)."""
    from azr_lite.nano.generator import draw_induction, draw_triplet

    found: dict[str, list[Task]] = {}
    for type_, strata in STRATA.items():
        rng = random.Random(f"held-out/{seed}/{type_}")
        tasks: dict[str, Triplet | InductionTask] = {}
        for _ in range(200 * n + 1000):
            if len(tasks) == n:
                break
            wanted = strata[len(tasks) % len(strata)]
            task = draw_induction(rng, wanted, reserved=True) if type_ == "induction" else draw_triplet(rng, type_, wanted, reserved=True)
            tasks.setdefault(task.id, task)
        if len(tasks) < n:
            raise ValueError(f"only {len(tasks)} different held-out {type_} tasks could be drawn; ask for fewer than {n}")
        found[type_] = list(tasks.values())
    return found
