"""Steps of self-play against adversarial text, many: python -m tests.benchmarks.adversarial_steps --steps 2000"""

from __future__ import annotations

import argparse
import time

from azr_lite.sandbox import Executor, Limits
from tests.test_adversarial import play


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=2000)
    steps = parser.parse_args().steps
    started, reasons = time.perf_counter(), set()
    with Executor(Limits(cpu_s=0.2), workers=1) as executor:
        for seed in range(steps // 10):
            reasons |= play(executor, seed, steps=10, reading=("strict", "lenient")[seed % 2])
            if seed % 10 == 9:
                print(
                    f"{10 * (seed + 1)} steps, {time.perf_counter() - started:.0f} s, reasons seen: {len(reasons)}",
                    flush=True,
                )
    print(f"{steps} steps without an exception; reasons: {', '.join(sorted(map(str, reasons)))}")


if __name__ == "__main__":
    main()
