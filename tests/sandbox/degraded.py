"""`python -m tests.sandbox.degraded N[,N...] [suite|escapes]`: deny these system calls (EPERM), then report level, layers and
leaks as JSON."""

from __future__ import annotations

import ctypes
import json
import os
import sys


def deny(numbers: list[int]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    rows = [(0x20, 0, 0, 0)]
    for number in numbers:
        rows += [(0x15, 0, 1, number), (0x06, 0, 0, 0x00050001)]
    rows.append((0x06, 0, 0, 0x7FFF0000))
    code = b"".join(c.to_bytes(2, "little") + bytes([t, f]) + k.to_bytes(4, "little") for c, t, f, k in rows)
    buffer = ctypes.create_string_buffer(code)
    program = len(rows).to_bytes(8, "little") + ctypes.addressof(buffer).to_bytes(8, "little")
    assert libc.prctl(38, 1, 0, 0, 0) == 0
    assert libc.prctl(22, 2, program, 0, 0) == 0


def main() -> None:
    numbers = [int(n) for n in sys.argv[1].split(",") if n]
    if numbers:
        deny(numbers)
    from azr_lite.sandbox.abuse import GETS_OUT, abuse_suite
    from azr_lite.sandbox.executor import probe

    found = probe()
    facts = {"uid": os.getuid(), "level": found.level.name, "layers": found.layers, "advice": found.advice}
    if sys.argv[2:]:
        report = abuse_suite(only=GETS_OUT if sys.argv[2] == "escapes" else ())
        facts |= {"leaks": report.leaks, "leaked": [a.name for a in report.attacks if not a.contained]}
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
