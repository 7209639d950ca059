"""A policy that writes what hurts a reader: deep, long, cyclic, growing, degenerate; for whole steps of self-play."""

from __future__ import annotations

import random
from collections.abc import Sequence

from azr_lite.triplet import Completion

ADD = "def f(x):\n    return x + 1"
PROGRAMS = (
    ADD,
    "def f(x):\n    x.append(x)\n    return x",
    "def f(x):\n    d = {}\n    d['d'] = d\n    return d",
    "def f(x):\n    v = x\n    for _ in range(%d):\n        v = [v]\n    return v",
    "def f(x):\n    v = frozenset([1])\n    for _ in range(%d):\n        v = frozenset([v])\n    return v",
    "def f(x):\n    return 'x' * 10 ** %d",
    "def f(x):\n    return '\\u200b' * (1000 + %d)",
    "def f(x):\n    return [1e15] * 390",
    "def f(x):\n    return 10 ** %d00",
    "def f(x):\n    return f(x)",
    "def f(x):\n    return float('nan')",
    "def f(x):\n    return (yield x)",
    "def f(x):\n    raise SystemExit",
    "def f(x):\n    class A:\n        def __eq__(self, other): return True\n        def __repr__(self): return '1'\n    return A()",
    "class F:\n    def __call__(self, x): return x\ndef f(x): return x\nf = F()",
    "def f(x):\n    return -%s1" % ("-" * 3000),
    "def f(x):\n    return " + "1+" * 1500 + "1",
    "def f(x):\n    return " + "(" * 300 + "1" + ")" * 300,
    "def f(x):\n    return 0x" + "f" * 3900,
    "def f(x):\n    '''\n    ```\n    </answer>\n    '''\n    return x",
    "def f(x):\n    return '</think><answer>'",
    "def f(x, *, y=0):\n    return x",
    "def f():\n    return 1",
    "f = lambda x: x",
    "import os\ndef f(x): return x",
    "from __future__ import annotations\ndef f(x: a.b.c): return x",
    "def f(x):\n    global f\n    f = 3\n    return f",
    "async def f(x): return x",
    "def f(x):\n    return {1, 'a', (2, 3), None}",
    "def f(x):\n    return object()",
    "def f(x):\n    return hash('a') % 1000",
    "\x00def f(x): return x",
    "def f(x):\n\treturn x\r\n",
    "def ｆ(x): return x",
    "def f(x): return '\ud800'".encode("utf-8", "replace").decode(),
)
VALUES = (
    "1", "'a'", "[0]", "1, 2", "", "(" * 60, "[" * 39 + "]" * 39, "[" * 45 + "]" * 45, "frozenset({" * 25 + "1" + "})" * 25, "[1e15]*390",
    "[" + ",".join(["1e15"] * 390) + "]", "'" + "\u200b" * 900 + "'", "'\\ud800'", "1" * 5000, "0x" + "f" * 5000, "1e999", "nan",
    "-" * 500 + "1", "1+" * 400 + "1", "x=5", "f(1)", "__import__('os')", "'" + "\\" * 999, '"""', "'x'\n'y'", "{1: {2: {3: 4}}}",
    "{[]: 1}", "set([1, 2])", "float('inf')", "1j", "-0.0", "True", "b'\\xff'", "'</answer>'", "'```'", "#", "1 # a", "\ufeff1", "１",
)  # fmt: skip
NOISE = (
    "```a\n", "~~~\n", "    \n", "<think>", "</think>", "<answer>", "</answer>", "\r\n", "```python\n", "- ```input\n", "()[]{}", "é", "\x00",
    "<|im_end|>",
)  # fmt: skip


class Adversary:
    """Every reply is drawn from what is above, in a form that is right, nearly right, or none."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)

    def __call__(self, prompts: Sequence[str], role: object = None) -> list[Completion]:
        return [self.complete(prompt) for prompt in prompts]

    def complete(self, prompt: str) -> Completion:
        text = self.reply()
        ids = tuple(range(1, 2 + len(text) % 7))
        return Completion(prompt, (1,), ids, text, truncated=self.rng.random() < 0.05)

    def program(self) -> str:
        text = self.rng.choice(PROGRAMS)
        return text.replace("%d", str(self.rng.randrange(1, 60)))

    def reply(self) -> str:
        rng = self.rng
        if rng.random() < 0.1:
            return rng.choice(NOISE) * rng.choice((1, 50, 4000))
        blocks = [("python", self.program()), ("input", rng.choice(VALUES)), ("output", rng.choice(VALUES))]
        blocks += [("input", rng.choice(VALUES)) for _ in range(rng.choice((0, 0, 1, 9)))]
        blocks += [("message", rng.choice(("a hint", "", "def f(x)", "x" * 3000, "```", *VALUES)))]
        kept = [block for block in blocks if rng.random() < 0.8]
        mark = rng.choice(("```", "```", "```", "````", "~~~", "  ```", "``"))
        answer = "\n".join(f"{mark}{name}\n{text}\n{mark}" for name, text in kept)
        if rng.random() < 0.1:
            answer = answer.replace("\n", rng.choice(("\r\n", "\n\n", "\u2028")))
        if rng.random() < 0.1:
            answer += rng.choice(NOISE) * rng.choice((1, 300))
        thought = rng.choice(("", "work", "I use <answer> here", "</answer>"))
        return f"{thought}</think>\n<answer>\n{answer}\n</answer>{rng.choice(('', ' and more', '<answer>1</answer>'))}"
