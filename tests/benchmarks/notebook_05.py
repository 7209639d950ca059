"""The curve of notebook 05 with several seeds: runs the notebook's own cells, and writes after each seed.

    python -m tests.benchmarks.notebook_05 0 1 2 3 4       # data_samples/benchmarks/notebook-05.json

Nothing is solved, so the worked solutions train. One thread, so that seeds repeat whatever the machine does besides.
"""

from __future__ import annotations

import json
import sys
import time
from typing import Any

from azr_lite.course.build import FOLDER, ROOT, read
from azr_lite.environment import describe_environment
from azr_lite.rundir import write_json

TARGET = ROOT / "data_samples" / "benchmarks" / "notebook-05.json"


def train(seed: int) -> dict[str, Any]:
    """Run the cells up to the one that trains; its curve, and what the run took."""
    main = vars(sys.modules["__main__"])
    cells = [cell.source for cell in read(FOLDER / "05_build_it.py").cells if cell.cell_type == "code"]
    last = next(place for place, cell in enumerate(cells) if "\ncurve = " in cell)
    began, used = time.monotonic(), time.process_time()
    for place, cell in enumerate(cells[: last + 1]):
        cell = cell.replace('PROFILE = "auto"', 'PROFILE = "cpu"').replace("SEED = 0", f"SEED = {seed}")
        exec(compile(cell, f"cell {place}", "exec"), main)
    main["executor"].close()
    curve = main["curve"]
    shares = {kind: [round(one[kind], 4) for one in curve.values()] for kind in curve[0]}
    tokens = [
        round(sum(len(r.completion_ids) for r in rows if r.role == "solve") / sum(r.role == "solve" for r in rows), 1)
        for rows in main["world"].history
    ]
    took = {"seconds": round(time.monotonic() - began), "cpu_seconds": round(time.process_time() - used)}
    return {"steps": list(curve), **shares, "tokens_per_answer": tokens, **took}


def main() -> None:
    import torch

    torch.set_num_threads(1)
    table = json.loads(TARGET.read_text(encoding="utf-8")) if TARGET.exists() else {"seeds": {}}
    for seed in sys.argv[1:]:
        table["seeds"][seed] = train(int(seed))
        table |= {"command": "python -m tests.benchmarks.notebook_05", "environment": describe_environment()}
        table["seeds"] = dict(sorted(table["seeds"].items()))
        write_json(TARGET, table)
        print(seed, table["seeds"][seed], flush=True)


if __name__ == "__main__":
    main()
