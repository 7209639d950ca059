"""The verifier as a reward of plain TRL: GRPOTrainer trains nano's solver on tasks that a recorded run invented."""

from pathlib import Path

from trl import GRPOConfig, GRPOTrainer

from azr_lite.integrations.trl import dataset, reward_functions
from azr_lite.nano.model import load_nano

RUN = Path(__file__).parents[2] / "data_samples" / "runs" / "whole" / "nano-small"

model, tokenizer = load_nano()  # or the name of any model, with style="r1" (base) or "chat" (instruct)
tasks = dataset(RUN, style="compact", task_types=["deduction", "abduction"])
settings = GRPOConfig(
    output_dir="grpo", max_steps=2, num_generations=4, per_device_train_batch_size=16, max_completion_length=96,
    learning_rate=1e-4, logging_steps=1, save_strategy="no", report_to="none", use_cpu=True, bf16=False,
)  # fmt: skip
rewards = reward_functions(["deduction", "abduction"], style="compact")
trainer = GRPOTrainer(model, rewards, args=settings, train_dataset=tasks, processing_class=tokenizer)
trainer.train()

for line in trainer.state.log_history[:2]:
    earned = {name: round(line.get(f"rewards/{name}/mean", float("nan")), 2) for name in ("deduction", "abduction")}
    print(f"step {line['step']}: reward {earned}, well formed {line.get('well_formed/deduction', 'n/a')}")
