"""TRR++ on arrays of your own: a baseline for each group, over the whole batch, in any training loop."""

import numpy as np

import azr_lite as az
from azr_lite.advantages import loss_weights

rewards = [1.0, -0.5, -1.0, 1.0, 0.75, 0.0]
groups = ["solve/deduction"] * 4 + ["propose/deduction"] * 2  # any hashable labels
lengths = [2, 4, 1, 3, 20, 30]  # tokens of each reply

advantages = az.trr(rewards, groups, lengths)
print("TRR++          ", np.round(advantages, 3))
print("by token       ", np.round(az.trr(rewards, groups, lengths, "token"), 3))
print("one baseline   ", np.round((np.array(rewards) - np.mean(rewards)) / np.std(rewards), 3))

# each group counts the same in the loss, however many tokens it has: multiply advantages by these
print("weights        ", np.round(loss_weights(groups, lengths, [True] * 6, True), 3))
