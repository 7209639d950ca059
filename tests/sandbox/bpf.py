"""An interpreter of classic BPF, as far as seccomp filters use it: decides one system call."""

from __future__ import annotations

from collections.abc import Sequence


def decide(
    program: Sequence[tuple[int, int, int, int]], arch: int, number: int, arguments: Sequence[int] = ()
) -> tuple[int, int]:
    """The filter's verdict and how many steps it took."""
    data = {0: number, 4: arch}
    for i, argument in enumerate([*arguments, *[0] * (6 - len(arguments))]):
        data[16 + 8 * i], data[20 + 8 * i] = argument & 0xFFFFFFFF, (argument >> 32) & 0xFFFFFFFF
    at = steps = accumulator = 0
    while True:
        code, yes, no, k = program[at]
        assert 0 <= yes < 256
        assert 0 <= no < 256
        steps += 1
        at += 1
        if code == 0x20:
            accumulator = data[k]
        elif code == 0x06:
            return k, steps
        else:
            taken = {0x15: accumulator == k, 0x35: accumulator >= k, 0x45: bool(accumulator & k)}[code]
            at += yes if taken else no
