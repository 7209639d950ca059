"""A reward of your own: the paper's reward, less a little for each token of a reply."""

import azr_lite as az


def brief(reply):
    """Named parts, which are added up. A reply knows its role, type, verdict, rate, task, references and completion."""
    return {"brief": -0.002 * len(reply.completion.ids)}


small = {"steps": 2, "batch_size": 8, "solver_batch_size": 16, "n_mc": 3, "seed_batch_factor": 1, "eval_problems": 0}
result = az.run("nano", rewards=["paper", brief], self_test=False, output_dir="runs/own-reward", **small)

run = az.Run(result.path)
print(run.show(1, best=1))  # "reward +0.968 = +1.000 accuracy -0.032 brief"
print(run.replay(rewards=["paper", brief]))  # rewards computed again from the log, and compared
print(run.diagnose())  # the doctor says that it does not judge a reward it does not know
