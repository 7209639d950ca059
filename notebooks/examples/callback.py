"""Look into every step of a run, as it goes on."""

import azr_lite as az

lengths = []


def watch(step, numbers, rollouts):
    """Called after each step: its number, what metrics.jsonl and timing.jsonl hold of it, and its rollouts."""
    lengths.append(numbers["solve/deduction/tokens"])
    best = max((r for r in rollouts if r.role == "propose"), key=lambda rollout: rollout.reward)
    print(f"step {step}: {len(rollouts)} rollouts in {numbers['generate']:.1f} s of sampling;", end=" ")
    print(f"the best proposal is of {best.type} and earns {best.reward:.2f}")


small = {"steps": 2, "batch_size": 8, "solver_batch_size": 16, "n_mc": 3, "seed_batch_factor": 1, "eval_problems": 0}
az.run("nano", callbacks=[watch], self_test=False, output_dir="runs/callback", **small)
print("tokens per deduction:", lengths)
