"""A task type of your own: deduction, but only of programs whose output is longer than their input.

It derives from a built-in type, so every prompt style has words for it, nano's too.
"""

import azr_lite as az
from azr_lite.tasks import Deduction
from azr_lite.triplet import Rejection


class Growing(Deduction):
    name = "growing"

    def make_task(self, proposal, outputs, rules):
        task = super().make_task(proposal, outputs, rules)
        if isinstance(task, Rejection) or len(task.output) > len(task.input):
            return task
        return Rejection("not_longer", f"{task.input} gives {task.output}")


az.register_task_type(Growing())
small = {"steps": 2, "batch_size": 8, "solver_batch_size": 16, "n_mc": 3, "seed_batch_factor": 1, "eval_problems": 0}
types = ["deduction", "growing"]
result = az.run("nano", task_types=types, self_test=False, output_dir="runs/own-task-type", **small)
print(az.Run(result.path).show(1, type="growing", role="propose", count=2))
