"""Invented tasks as a data set: written from a recorded run, read back with the datasets library."""

from pathlib import Path

from datasets import load_dataset

from azr_lite.integrations.datasets import write_tasks

RUN = Path(__file__).parents[2] / "data_samples" / "runs" / "whole" / "nano-small"

write_tasks(RUN, "invented")  # or FILE.parquet, or hub:USER/NAME; the same as: azr-lite tasks RUN --to invented
tasks = load_dataset("invented", split="train")
learnable = tasks.filter(lambda row: row["solve_rate"] is not None and 0 < row["solve_rate"] < 1)

print(f"{len(tasks)} tasks, {len(learnable)} of them solved sometimes; columns: {', '.join(tasks.column_names)}")
hardest = min(learnable, key=lambda row: row["solve_rate"])
print(f"{hardest['type']}, solved {hardest['solve_rate']:.0%}, ancestors: {len(hardest['lineage'])}")
print(hardest["program"])
