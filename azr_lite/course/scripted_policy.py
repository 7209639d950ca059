"""A stand-in for the policy, without torch: it proposes mini-language programs and solves them by tracing, with slips.

It has no weights and does not learn. Each operation of a program is one chance to slip, so long programs are solved
less often than short ones and solve rates lie between 0 and 1. Thoughts read as the nano model's demonstrations do.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from itertools import product

from azr_lite.course.demonstrations import backward_thought, forward_thought, reply_text
from azr_lite.nano.language import (
    INT,
    KINDS,
    LIST,
    STR,
    Op,
    Value,
    draw_inputs,
    draw_run,
    message,
    program_text,
    type_of,
)
from azr_lite.sandbox.literal import read_value
from azr_lite.triplet import Completion, Role

FENCE = re.compile(r"```(\w+)\n(.*?)\n```", re.DOTALL)
DEPTHS = (0.2, 0.3, 0.3, 0.2)
"""Weights of 1, 2, 3 and 4 operations in a proposal."""


OPS = tuple(Op(kind, constants) for kind in KINDS for constants in product(*kind.holes))
"""Every operation of the mini-language, with every constant."""
_BY_TEXT = {(op.text, op.kind.takes): op for op in OPS}
_BY_HINT = {(op.hint, op.kind.takes): op for op in OPS}


class ScriptedPolicy:
    """Call it with prompts, as `SelfPlay` calls a model. The same seed and the same calls give the same replies.

    `slip`: chance of a mistake at each operation of a task.
    `stray`: chance of a reply that breaks a rule of form or content.
    """

    def __init__(self, seed: int = 0, slip: float = 0.22, stray: float = 0.12) -> None:
        self.rng, self.slip, self.stray = random.Random(seed), slip, stray

    def __call__(self, prompts: Sequence[str], role: Role) -> list[Completion]:
        return [self.complete(prompt) for prompt in prompts]

    def complete(self, prompt: str) -> Completion:
        """One reply. A token is a character here."""
        command, blocks = prompt.partition("\n")[0], FENCE.findall(prompt)
        action, _, type_ = command.partition(" ")
        play = getattr(self, f"_{action}_{type_}", None)
        if play is None:
            raise ValueError(
                f"{command[:40]!r} is no prompt of the style 'compact', which is all I read; use that style"
            )
        text = play([text for _, text in blocks])
        return Completion(prompt, tuple(map(ord, prompt)), tuple(map(ord, text)), text)

    # ------------------------------------------------------------------ the proposer

    def _invent_deduction(self, references: list[str]) -> str:
        ops, run = draw_run(self.rng, self.rng.choices(range(1, len(DEPTHS) + 1), DEPTHS)[0])
        blocks = [("python", program_text(ops)), ("input", repr(run[0]))]
        if self.rng.random() < self.stray:
            return self._broken_proposal(blocks)
        return reply_text("", *blocks)

    _invent_abduction = _invent_deduction

    def _broken_proposal(self, blocks: list[tuple[str, str]]) -> str:
        """What models do at times: no answer, a forbidden module, a program that fails or varies."""
        lines = blocks[0][1].splitlines()
        broken = self.rng.choice(("form", "module", "failure", "chance"))
        if broken == "form":
            return "\n".join(lines)
        bad = {"module": "    import random", "failure": "    x = x + None", "chance": "    x = id(object())"}[broken]
        return reply_text("", ("python", "\n".join((lines[0], bad, *lines[1:]))), blocks[1])

    def _invent_induction(self, blocks: list[str]) -> str:
        for type_ in (STR, LIST, INT):
            ops = read_ops(blocks[0], type_)
            runs = draw_inputs(self.rng, ops) if ops is not None and (ops or type_ == STR) else None
            if runs is not None:
                note = message(ops) if self.rng.random() >= self.stray else blocks[0].splitlines()[1]
                return reply_text("", *(("input", repr(run[0])) for run in runs), ("message", note))
        return reply_text("", ("message", "no idea"))  # hardly any input makes such a program differ

    # ------------------------------------------------------------------ the solver

    def _solve_deduction(self, blocks: list[str]) -> str:
        run = [read_value(blocks[1])]
        ops = read_ops(blocks[0], type_of(run[0])) or ()
        for op in ops:
            run.append(self._slipped(op.apply(run[-1])) if self._slips() else op.apply(run[-1]))
        return self._answer(forward_thought(ops, run), "output", repr(run[-1]))

    def _solve_abduction(self, blocks: list[str]) -> str:
        value = read_value(blocks[1])
        known = (read_ops(blocks[0], type_) for type_ in (STR, LIST, INT))
        ops = next((ops for ops in known if ops and ops[-1].kind.gives == type_of(value)), ())
        run = [value]
        for op in reversed(ops):
            before = op.undo(run[0])
            if self._slips() or before is None:
                before = self._slipped(run[0] if before is None else before)
            run.insert(0, before)
        return self._answer(backward_thought(ops, run), "input", repr(run[0]))

    def _solve_induction(self, blocks: list[str]) -> str:
        *texts, hint = blocks
        pairs = [(read_value(given), read_value(found)) for given, found in zip(texts[::2], texts[1::2], strict=True)]
        if any(self._slips() for _ in hint.split(", ")):  # each operation is a chance
            pairs = pairs[:1]  # as people do: one example explained, task closed
        known = list(_hinted(hint, type_of(pairs[0][0])))
        for op in known:
            pairs = [(op.apply(before), after) for before, after in pairs]
        fitting = [
            op for op in OPS if op.kind.takes == type_of(pairs[0][0]) and all(op.apply(a) == b for a, b in pairs)
        ]
        last = [self.rng.choice(fitting)] if fitting else []
        thought = "\n".join(f"{before!r} => {after!r}" for before, after in pairs[:1])
        return self._answer(thought, "python", program_text((*known, *last)))

    # ------------------------------------------------------------------ small parts

    def _slips(self) -> bool:
        return self.rng.random() < self.slip

    def _slipped(self, value: Value) -> Value:
        """Nearly the value: its ends swapped, or one off."""
        if isinstance(value, int):
            return value + 1
        return value[-1:] + value[1:-1] + value[:1] if len(value) > 1 and value[0] != value[-1] else value + value[:1]

    def _answer(self, thought: str, tag: str, text: str) -> str:
        if self.rng.random() < self.stray / 4:
            return f"{thought}\n{text}"  # the answer without its tags
        return reply_text(thought, (tag, text))


def read_ops(program: str, type_: str) -> tuple[Op, ...] | None:
    """The operations of a program of the mini-language that takes values of that type; None where one does not fit."""
    ops = []
    for line in program.splitlines()[1:-1]:
        op = _BY_TEXT.get((line.strip().removeprefix("x = "), type_))
        if op is None:
            return None
        ops.append(op)
        type_ = op.kind.gives
    return tuple(ops)


def _hinted(hint: str, type_: str) -> Iterator[Op]:
    """The operations that a message names, up to the one that is to be found."""
    for words in hint.split(", ")[:-1]:
        op = _BY_HINT.get((words, type_))
        if op is None:
            return
        yield op
        type_ = op.kind.gives
