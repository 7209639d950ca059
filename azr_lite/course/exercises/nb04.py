"""Exercises of notebook 04, TRR++."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence

import numpy as np

from azr_lite.advantages import Array, dr_grpo, grpo, loss_weights, rloo, trr, whiten_sequences, whiten_tokens
from azr_lite.course.checks import Mistake, exercise

GOLDEN_REWARDS, GOLDEN_LENGTHS = [1.0, -0.5, -1.0, 1.0], [2, 4, 1, 3]


def _array(values: Sequence[float]) -> Array:
    return np.array(values, dtype=np.float64)


def _divided(top: Array, bottom: float) -> Array:
    """As numpy does it, without its warning: x / 0 is nan or infinite."""
    with np.errstate(all="ignore"):
        return top / np.float64(bottom)


exercise(
    name="whiten_sequences", key=whiten_sequences, points=1,
    probes=lambda: [
        (_array(GOLDEN_REWARDS),),
        (_array([0.0, 0.25, 0.75]),),
        (_array([0.5] * 9 + [0.625]),),  # a small spread, and a reply three spreads above the mean
        (_array([0.5, 0.5, 0.5]),),
        (_array([0.875]),),
        (_array([0.05, 0.05, 0.05]),),  # their mean is not quite 0.05
        (_array([0.5, 0.5002, 0.5]),),  # a spread of 1e-4 is one
    ],
    hint="(R − mean) / population standard deviation; zeros where all rewards are equal.",
    mistakes=[
        Mistake(lambda r: whiten_sequences(r) if r.std() > 1e-3 else np.zeros_like(r),
            "it counts a spread of 1e-4 as none, and that is a spread like others. What must be caught is the dust "
            "of floats (1e-17): a threshold of 1e-8 is between the two"),
        Mistake(lambda r: _divided(r - r.mean(), r.std()) if r.std() != 0 else np.zeros_like(r), "it compares the spread with 0, and floats betray it: for three rewards of 0.05 numpy finds a spread near 1e-17, and 1e-17 / 1e-17 is a push of 1. Count a tiny spread as none"),
        Mistake(lambda r: _divided(r - r.mean(), r.std()), "where all rewards are equal it divides 0 by 0 and gives nan, and one nan in a loss destroys the weights of the whole model. A group in which all earn the same has nothing to say: return zeros"),
        Mistake(lambda r: _divided(r - r.mean(), r.std(ddof=1)) if len(r) > 1 and np.ptp(r) > 0 else np.zeros_like(r), "it divides by the *sample* standard deviation (ddof=1, the default of torch.std and pandas); the paper's form has the population one, numpy's default: [1, −0.5, −1, 1] gives 0.9802 first, not 0.8489"),
        Mistake(lambda r: _sample(r, r) if len(r) > 1 else np.full(1, np.nan), "it divides by the *sample* standard deviation (ddof=1), and a group of one reply has none: nan. The paper's form has the population one, numpy's default"),
        Mistake(lambda r: (r - r.mean()) / (r.std() + 1e-8),
            "it adds 1e-8 to the spread, as many trainers do. Beside a spread of 1e-4 that can be seen; here the "
            "guard is a case of its own, so add nothing"),
        Mistake(lambda r: (r - r.mean()) / (r.std() + 1e-4), "the number added to the spread is large enough to be seen (1e-4 is what some trainers use); here the guard is a case of its own, so add nothing"),
        Mistake(lambda r: r - r.mean(), "it subtracts the mean but does not divide by the spread, so groups still push by their own scale"),
        Mistake(lambda r: r / r.std() if np.ptp(r) > 0 else np.zeros_like(r), "it divides by the spread but does not subtract the mean: a wrong answer in a good group would still be pushed up"),
        Mistake(lambda r: (r - r.mean()) / r.var() if np.ptp(r) > 0 else np.zeros_like(r), "it divides by the variance; the standard deviation is its square root"),
    ],
)  # fmt: skip

GROUPS = ["propose/abduction", "propose/deduction", "solve/abduction", "solve/deduction"]
"""In alphabetical order, so that who writes group after group is found out, sorted or not."""


def _trr_probes() -> list[tuple[list[float], list[str], list[int]]]:
    rewards = [0.5, 1.0, -1.0, -0.5, 0.875, -0.5, 0.0, 1.0, 0.25, 1.0, 0.125, -0.5]
    return [
        ([0.0, 5.0, 1.0, 7.0, 9.0], ["a", "b", "a", "b", "b"], [1, 1, 1, 1, 1]),
        (GOLDEN_REWARDS, ["solve/deduction"] * 4, GOLDEN_LENGTHS),
        (rewards, GROUPS * 3, [9, 3, 8, 4, 7, 5, 9, 6, 8, 3, 9, 2]),
        ([0.0, 1.0, 0.0, -0.5, 0.0, 1.0], ["propose/deduction", "solve/deduction"] * 3, [5, 3, 6, 2, 7, 4]),
        ([0.05, 1.0, 0.05, -0.5, 0.05, 1.0], ["propose/deduction", "solve/deduction"] * 3, [5, 3, 6, 2, 7, 4]),
        ([0.5, 1.0, 0.5002, -0.5, 0.5, 1.0], ["propose/deduction", "solve/deduction"] * 3, [5, 3, 6, 2, 7, 4]),
    ]


def _by(key: Callable[[str], Hashable]) -> Callable[..., Array]:
    return lambda rewards, groups, lengths: trr(rewards, [key(group) for group in groups], lengths)


def _each(whiten: Callable[[Array, Array], Array]) -> Callable[..., Array]:
    """A mistaken `trr` that does this with each group; `whiten` also sees all rewards."""

    def mistaken(rewards: Sequence[float], groups: Sequence[str], lengths: Sequence[int]) -> Array:
        every, found = _array(rewards), np.zeros(len(rewards))
        for group in dict.fromkeys(groups):
            rows = np.array([one == group for one in groups])
            found[rows] = whiten(every[rows], every)
        return found

    return mistaken


def _sample(own: Array, _: Array) -> Array:
    return (own - own.mean()) / own.std(ddof=1) if np.ptp(own) > 0 else np.zeros_like(own)


def _in_halves(rewards: Sequence[float], groups: Sequence[str], lengths: Sequence[int]) -> Array:
    half = len(rewards) // 2
    parts = (slice(half), slice(half, None))
    return np.concatenate([trr(rewards[part], groups[part], lengths[part]) for part in parts])


def _runs(rewards: Sequence[float], groups: Sequence[str], lengths: Sequence[int]) -> Array:
    starts = [i for i in range(len(groups)) if i == 0 or groups[i] != groups[i - 1]]
    parts = [slice(start, end) for start, end in zip(starts, [*starts[1:], len(groups)], strict=True)]
    return np.concatenate([trr(rewards[part], groups[part], lengths[part]) for part in parts])


def _group_after_group(rewards: Sequence[float], groups: Sequence[str], lengths: Sequence[int]) -> Array:
    found = trr(rewards, groups, lengths)
    return np.concatenate([found[[one == group for one in groups]] for group in dict.fromkeys(groups)])


exercise(
    name="trr", key=trr, points=2, probes=_trr_probes,
    hint="For each group apart: pick its rewards, whiten them, put them back on their own rows.",
    mistakes=[
        Mistake(_group_after_group, "the numbers are right and stand on the wrong rows: they come out group after group, while the batch is mixed. Each reply would be pushed by another's advantage. Write into the rows you took from"),
        Mistake(_by(lambda group: "all"), "one mean and one spread for the whole batch: that is the global baseline (REINFORCE++), the one TRR++ was made to replace"),
        Mistake(_by(lambda group: group.partition("/")[2]), "the group key has lost its role: proposals and answers of one type share a baseline, though 0.3 is a fine reward for a proposal and impossible for an answer"),
        Mistake(_by(lambda group: group.partition("/")[0]), "the group key has lost its task type: there are two baselines, one per role, and an easy type passes for a good policy"),
        Mistake(_runs, "neighbours of one group are whitened together, and the group's other rows, further on, are not (itertools.groupby does so). A group is all its rows, wherever they stand"),
        Mistake(lambda rewards, groups, lengths: trr(rewards, groups, lengths, whitening="token"), "lengths play a part: a reply of L tokens counts L times. That is the token form of section 6; here each reply counts once"),
        Mistake(_each(lambda own, every: _divided(own - own.mean(), own.std()) if own.std() != 0 else np.zeros_like(own)), "it compares the spread with 0, and floats betray it: for three rewards of 0.05 numpy finds a spread near 1e-17. Count a tiny spread as none (`whiten_sequences` from above does it)"),
        Mistake(_each(lambda own, every: whiten_sequences(own) if own.std() > 1e-3 else np.zeros_like(own)),
            "it counts a spread of 1e-4 as none; what must be caught is the dust of floats (1e-17). Take 1e-8"),
        Mistake(_each(lambda own, every: _divided(own - own.mean(), own.std())), "a group in which all earn the same gives 0/0 = nan, and one nan in a loss destroys the weights of the whole model; give that group zeros (`whiten_sequences` from above does it)"),
        Mistake(_each(lambda own, every: own - own.mean()), "each group is centred but not divided by its own spread"),
        Mistake(_each(lambda own, every: (own - own.mean()) / every.std()), "the mean is the group's own, but the spread is that of the whole batch; both belong to the group"),
        Mistake(_each(_sample), "it uses the sample standard deviation (ddof=1); the paper's form has the population one"),
        Mistake(_in_halves, "statistics are taken over parts of the batch (first half, second half), as when every process whitens its own share. The group is that of the *global* batch"),
    ],
)  # fmt: skip

PROMPTS = ["a", "b", "a", "a", "c", "b", "d", "d", "a"]
PAIRS = list(zip("xxxyx", (1, 2, 1, 2, 2), strict=True))  # equal keys, each an object of its own


def _over_n(rewards: Sequence[float], prompts: Sequence[str]) -> Array:
    own, found = _array(rewards), np.zeros(len(rewards))
    for prompt in dict.fromkeys(prompts):
        rows = np.array([one == prompt for one in prompts])
        if rows.sum() > 1:
            found[rows] = own[rows] - (own[rows].sum() - own[rows]) / rows.sum()
    return found


def _others(rewards: Sequence[float], prompts: Sequence[str], i: int) -> list[float]:
    return [r for j, r in enumerate(rewards) if j != i and prompts[j] == prompts[i]]


def _unguarded(rewards: Sequence[float], prompts: Sequence[str]) -> Array:
    found = rloo(rewards, prompts)
    found[[prompts.count(one) == 1 for one in prompts]] = np.nan
    return found


def _bare(rewards: Sequence[float], prompts: Sequence[str]) -> Array:
    alone = np.array([prompts.count(one) == 1 for one in prompts])
    return np.where(alone, rewards, rloo(rewards, prompts))


def _others_by_value(rewards: Sequence[float], prompts: Sequence[str]) -> Array:
    found = np.zeros(len(rewards))
    for i, (own, prompt) in enumerate(zip(rewards, prompts, strict=True)):
        others = [r for r, p in zip(rewards, prompts, strict=True) if p == prompt and r != own]
        found[i] = own - np.mean(others) if others else 0.0
    return found


def _key_table(rewards: Sequence[float], prompts: Sequence[Hashable]) -> Array:
    if isinstance(prompts[0], tuple):
        raise ValueError("operands could not be broadcast together")
    return rloo(rewards, prompts)


exercise(
    name="rloo", key=rloo, points=2,
    probes=lambda: [([1.0, 0.0, 0.0], ["a"] * 3), ([1.0, -0.5, -0.5, 1.0, 0.5, 1.0, -0.5, -0.5, 0.25], PROMPTS),
        ([1.0, 0.5, 0.0, 1.0, 1.0], PAIRS)],
    hint="The baseline of a reply is the mean of the *other* replies to its prompt.",
    mistakes=[
        Mistake(_unguarded, "a prompt with a single reply has no other replies; their mean is 0/0 = nan. Such a reply gets 0: nothing is known of it"),
        Mistake(_bare, "a reply alone on its prompt keeps its bare reward: its baseline counts as 0, and a proposal would be pushed up for being a proposal. Such a reply gets 0: nothing is known of it"),
        Mistake(_key_table, "it fails where a prompt's key is a tuple: `np.array(prompts)` makes a table of such "
            "keys, one column per part. Compare keys in plain Python, one by one"),
        Mistake(_others_by_value, "it leaves out every reply with the *same reward*, not only the reply itself: two replies to one prompt that earned 1 vanish from each other's baseline. Leave out by place, not by value"),
        Mistake(dr_grpo, "the reply is part of its own baseline: that is Dr. GRPO, which is too small by (n − 1)/n. Leave the reply out, or multiply by n/(n − 1)"),
        Mistake(grpo, "it divides by the spread, which is GRPO; leave-one-out only subtracts"),
        Mistake(lambda rewards, prompts: rloo(rewards, ["all"] * len(prompts)), "it takes the mean of all other replies of the batch; only replies to the *same prompt* count"),
        Mistake(lambda rewards, prompts: _array([
            r - np.median(_others(rewards, prompts, i) or [r]) for i, r in enumerate(rewards)]),
            "it takes the median of the others; the baseline is their mean"),
        Mistake(_over_n, "it adds up the other replies but divides by n; the others are n − 1"),
    ],
)  # fmt: skip


def _spread_of_replies(rewards: Array, lengths: Array) -> Array:
    mean = (rewards * lengths).sum() / lengths.sum()
    return _divided(rewards - mean, np.sqrt(((rewards - mean) ** 2).sum() / max(len(rewards) - 1, 1) + 1e-8))


def _population(rewards: Array, lengths: Array) -> Array:
    mean = (rewards * lengths).sum() / lengths.sum()
    return (rewards - mean) / np.sqrt((lengths * (rewards - mean) ** 2).sum() / lengths.sum() + 1e-8)


def _tokens(rewards: Array, lengths: Array, inside: float = 1e-8, outside: float = 0.0) -> Array:
    """The token form without its guard, and 1e-8 somewhere else."""
    tokens = np.repeat(rewards, lengths)
    if len(tokens) < 2:
        return np.full(len(rewards), np.nan)
    return _divided(rewards - tokens.mean(), np.sqrt(tokens.var(ddof=1) + inside) + outside)


def _where_they_differ(whiten: Callable[[Array, Array], Array]) -> Callable[[Array, Array], Array]:
    return lambda rewards, lengths: whiten(rewards, lengths) if np.ptp(rewards) > 0 else np.zeros_like(rewards)


exercise(
    name="whiten_tokens", key=whiten_tokens, points=2,
    probes=lambda: [
        (_array(GOLDEN_REWARDS), np.array(GOLDEN_LENGTHS)),
        (_array([0.0, 1.0, -0.5]), np.array([50, 5, 20])),
        (_array([0.5, 0.5]), np.array([3, 9])),
        (_array([0.875]), np.array([1])),  # a single token
        (_array([0.5, 0.5001]), np.array([3, 2])),  # a variance that 1e-8 can be seen beside
    ],
    hint="np.repeat(rewards, lengths) is the list of tokens' rewards; its mean and its variance with ddof=1 are what is wanted.",
    mistakes=[
        Mistake(_tokens, "a group of a single token has no unbiased variance: 0/0 = nan, and one nan in a loss destroys the weights of the whole model. Zeros where all rewards are equal"),
        Mistake(lambda rewards, lengths: whiten_tokens(rewards if np.ptp(rewards) > 1e-3 else 0 * rewards, lengths),
            "it counts rewards that differ by 1e-4 as equal; only the dust of floats (1e-17) is. Take 1e-8"),
        Mistake(_where_they_differ(lambda rewards, lengths: _tokens(rewards, lengths, inside=0.0)), "the 1e-8 under the root is missing; it shows where rewards differ by very little"),
        Mistake(_where_they_differ(lambda rewards, lengths: _tokens(rewards, lengths, inside=0.0, outside=1e-8)), "the 1e-8 is added to the root; it belongs under it, to the variance, where it weighs more (the root of 1e-8 is 1e-4)"),
        Mistake(lambda rewards, lengths: whiten_sequences(rewards), "that is the sequence form; lengths play no part in it. Here a reply of L tokens counts L times, in the mean and in the variance"),
        Mistake(_population, "the variance is divided by the number of tokens; the authors' code has the unbiased one, divided by that number less 1"),
        Mistake(_spread_of_replies, "the mean counts tokens but the variance counts replies; a reply of L tokens counts L times in both"),
        Mistake(lambda rewards, lengths: whiten_tokens(rewards, lengths) * lengths, "the result is multiplied by the length; the advantage belongs to *each* token of a reply, and the loss adds up the tokens later"),
        Mistake(lambda rewards, lengths: whiten_sequences(rewards * lengths), "it whitens reward times length, so that a long wrong answer is worse than a short one; the rewards stay as they are, only their *counting* changes"),
        Mistake(lambda rewards, lengths: np.repeat(_tokens(rewards, lengths), lengths), "one number for each *token* comes out; what is wanted is one for each reply (all its tokens share it)"),
    ],
)  # fmt: skip

LOSS_GROUPS = ["propose", "solve", "solve", "propose", "solve", "other", "solve"]
LOSS_LENGTHS = [4, 10, 20, 6, 30, 5, 8]
LOSS_COUNTS = [True, True, True, True, True, False, False]


def _weights(
    per_row: bool = False, idle_groups: bool = False, padding: bool = False, scaled: bool = True, share: bool = True
) -> Callable[..., Array]:
    def mistaken(groups: Sequence[str], lengths: Sequence[int], counts: Sequence[bool]) -> Array:
        names, tokens, active = np.array(groups), _array(lengths), np.array(counts, dtype=bool)
        present = dict.fromkeys(groups if idle_groups else names[active].tolist())
        found = np.zeros(len(tokens))
        for group in present:
            rows = (names == group) & active
            inside = tokens[names == group].sum() if padding else tokens[rows].sum()
            if rows.any():
                found[rows] = 1 / (rows.sum() * tokens[rows]) if per_row else 1 / inside
        return found * (tokens.sum() if scaled else 1.0) / (len(present) if share else 1.0)

    return mistaken


exercise(
    name="loss_weights", key=loss_weights, points=3,
    probes=lambda: [(["propose", "solve"], [10, 30], [True, True]),
        (["a", "b", "c", "a"], [3, 5, 7, 2], [True] * 4), (LOSS_GROUPS[:5], LOSS_LENGTHS[:5], LOSS_COUNTS[:5]),
        (LOSS_GROUPS, LOSS_LENGTHS, LOSS_COUNTS)],
    hint="Set w × (tokens of the group) / T equal to 1/G and solve for w.",
    mistakes=[
        Mistake(_weights(idle_groups=True), "groups of which no row counts are still counted in G, so the rest weighs too little; G is the number of groups that are trained"),
        Mistake(lambda groups, lengths, counts: loss_weights(groups, lengths, counts)
            * len({g for g, c in zip(groups, counts, strict=True) if c}) / 2,
            "it takes two groups for granted; G is the number of groups with a row that counts"),
        Mistake(_weights(padding=True), "rows that do not count (padding) are among the tokens of their group; they carry no loss, so leave them out of the group's sum. (They do belong to T, by which the trainer divides)"),
        Mistake(lambda groups, lengths, counts: loss_weights(groups, lengths, [True] * len(groups)), "it never looks at `counts`: rows that are padding or are not trained get a weight, and with it a say in the loss"),
        Mistake(lambda groups, lengths, counts: (loss_weights(groups, lengths, counts) * (np.dot(lengths, counts) / sum(lengths))), "T holds only the rows that count; the trainer divides by the tokens of *all* rows, padding too, and w has to undo exactly that"),
        Mistake(_weights(per_row=True), "inside a group every *reply* weighs the same; the authors take a token mean inside the group, so a long reply weighs more"),
        Mistake(lambda groups, lengths, counts: loss_weights(groups, lengths, counts, balanced=False), "every token weighs the same, which is the one token mean that we want to replace: groups of long or many replies drown the others"),
        Mistake(_weights(scaled=False), "T is missing: the trainer divides the sum by the tokens of *all* rows, and w has to undo that"),
        Mistake(_weights(share=False), "1/G is missing: each group now weighs 1, and the loss grows with the number of groups"),
    ],
)  # fmt: skip
