# ---
# jupyter:
#   jupytext:
#     formats: ipynb,py:percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# <!-- header: made by make notebooks -->
# # 05 · Absolute Zero in 130 lines
#
# [![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)](https://colab.research.google.com/github/azr-lite/azr-lite/blob/main/notebooks/05_build_it.ipynb) [![Open in Kaggle](https://kaggle.com/static/images/open-in-kaggle.svg)](https://kaggle.com/kernels/welcome?src=https://github.com/azr-lite/azr-lite/blob/main/notebooks/05_build_it.ipynb) [![nbviewer](https://img.shields.io/badge/render-nbviewer-orange)](https://nbviewer.org/github/azr-lite/azr-lite/blob/main/notebooks/05_build_it.ipynb)
#
# **You will be able to**
#
# * write sampling, log-probabilities, loss, update and the outer loop;
# * train a language model by self-play yourself;
# * show that your loss and gradient are the package's.
#
# **Before this:** notebooks 00 to 04; tensors in PyTorch.
#
# **Budget:** 12 minutes to read (2,367 words); 6 exercises (13 points, about 79 minutes); 4.4 minutes and 833 MiB on 2 CPU cores; on a GPU: not measured.
#
# **Last verified:** Python 3.11.7, azr-lite 0.2.0, numpy 2.4.6, torch 2.13.0+cpu, transformers 5.23.0, trl 1.16.0, 2026-12-01.
#
# **Next:** [06 · Watch it learn on your laptop](06_learn.ipynb). Words in this course: [glossary](glossary.md).
# <!-- /header -->

# %% tags=["setup", "hide-input"]
# @title Setup: looks for what this notebook needs, and installs what is missing
import importlib.util, pathlib, subprocess, sys
NEEDS = """azr_lite numpy matplotlib jinja2 rich tyro
torch transformers trl peft accelerate datasets safetensors"""
EXTRA = "train,notebooks"
# Never by a bare name: an index may hold another package that is called so.
ADDRESS = "https://github.com/azr-lite/azr-lite/archive/refs/heads/main.zip"

def missing():
    importlib.invalidate_caches()
    return [name for name in NEEDS.split() if importlib.util.find_spec(name) is None]

here = pathlib.Path.cwd()
tree = next((p for p in (here, *here.parents) if (p / "azr_lite" / "__init__.py").exists()), None)
if tree and "azr_lite" in missing():
    sys.path.insert(0, str(tree))
if lacking := missing():
    wheel = max(here.glob("azr_lite-*.whl"), default=None)
    source = [f"azr-lite[{EXTRA}] @ {ADDRESS}"]
    if tree and (tree / "pyproject.toml").exists():
        source = ["-e", f"{tree}[{EXTRA}]"]
    elif wheel:
        source = [f"{wheel}[{EXTRA}]"]
    names = ", ".join(lacking)
    print(f"Installing {names} from {source[-1]}. pip may replace versions that do not fit.")
    command = [sys.executable, "-m", "pip", "install", "-q", *source]
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode or missing():
        told = [row for row in done.stderr.splitlines() if row.startswith("ERROR")]
        why = (told or done.stderr.splitlines() or ["they are still missing"])[-1]
        raise SystemExit(f"This notebook needs {names}, which pip could not install ({why[:90]}). "
                         "Go online, or put the package's wheel beside the notebook, and run "
                         "this cell again.")

# %% tags=["parameters"]
PROFILE = "auto"  # ci, cpu or gpu; auto looks at this machine
SEED = 0
STEPS = None  # None: as many as the profile has

# %% tags=["setup"]
import copy
import dataclasses
import json
import random
import re
import time

import numpy as np
import torch
from transformers import DynamicCache

import azr_lite as az
from azr_lite import course
from azr_lite.course import (
    HELD_OUT_SEED, Buffers, Completion, Job, ParsedReply, ProposalAttempt, Reason, Rejection,
    Reward, SolveAttempt, check, get_task_type, held_out, is_reserved, load_nano, mean,
    own_loop, profile, recorded, rules_of, solve_rate, split_into_updates, task_key,
)
from azr_lite.course.figures import figure, line, look, show, style

profile = profile(PROFILE)

# %% [markdown]
# ## 1. What is missing
#
# You have judged answers (01), run programs that nobody trusts (02), rewarded proposals and answers
# (03), and turned rewards into [advantages](glossary.md#advantage) and loss weights (04). None of
# it has trained anything yet. Six functions are missing:
#
# | | function | what it does | lines |
# |---|---|---|---|
# | 1 | `read_reply` | text of a reply → its labelled blocks | 5 |
# | 2 | `sample` | prompts → replies, token by token | 15 |
# | 3 | `logprobs` | how likely is each token of a reply *now*? | 4 |
# | 4 | `policy_loss` | log-probabilities and advantages → one number | 4 |
# | 5 | `update` | gradient, clip, one optimiser step | 10 |
# | 6 | `step` | propose, validate, solve, judge, reward, learn | 15 |
#
# Around them stand 80 lines that are given: buffers, prompts, the sandbox, batches. Together it is
# Absolute Zero in 130 lines (a statement that is wrapped counts once; the cache of section 4 does
# not count), and at the end it trains a language model, here, in this notebook, within minutes.
#
# **What you wrote before.** Each right answer was saved in the file `my_work.py` beside the
# notebooks, and the next cell looks there. Where it finds nothing, or something that its check
# refuses, it takes the package's own function and says so. On Colab every notebook has a machine of
# its own: download `my_work.py` from the Files panel of the last one and upload it in this one's.

# %%
judges = {
    kind: check.mine(f"judge_{kind}", fallback=get_task_type(kind).judge)
    for kind in ("deduction", "abduction", "induction")
}
verdict = check.mine("verdict", fallback=course.verdict)
learnability = check.mine("learnability", fallback=az.learnability)
answer_reward = check.mine("answer_reward", fallback=az.answer_reward)
trr = check.mine("trr", fallback=az.trr)
loss_weights = check.mine("loss_weights", fallback=course.loss_weights)

# %% [markdown]
# ## 2. The model
#
# The [policy](glossary.md#policy) is the [nano model](glossary.md#nano-model): a language model of
# half a million weights, of the same architecture as Qwen2, that knows a mini-language of Python.
# What it does is simple to say: it reads a list of token numbers and gives, for every place, one
# score (a *logit*) for each token that could come next. `log_softmax` makes log-probabilities of
# them.

# %%
model, tokenizer = load_nano()
END = tokenizer.eos_token_id  # the token that ends a reply


def ids_of(text):
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def text_of(ids):
    words = [token for token in ids if token != END]
    return tokenizer.decode(words, clean_up_tokenization_spaces=False)


program = "def f(x):\n    x = x[1:]\n    return x"
prompt = f"solve deduction\n```python\n{program}\n```\n```input\n'abc'\n```\n<think>"
ids = ids_of(prompt)
with torch.no_grad():
    logits = model(input_ids=torch.tensor([ids])).logits
print(f"{len(ids)} tokens: {ids[:12]} ...")
print("logits:", tuple(logits.shape), "= texts, places, tokens that could come next")
likely = logits[0, -1].log_softmax(-1).exp().topk(3)
for share, token in zip(likely.values.tolist(), likely.indices.tolist()):
    print(f"  after <think> comes {text_of([token])!r:12} with probability {share:.2f}")

# %% [markdown]
# **What you should see.** After `<think>` the likeliest token is `</think>`: before self-play the
# model hardly ever thinks. Remember this.

# %% [markdown]
# ## 3. From text to blocks
#
# A reply has a form: a thought, an answer, and in the answer blocks with a label. The model did not
# invent it; the prompt ends with `<think>`, so the reply goes on from there.
#
# ````
# <think> … </think><answer>```python
# def f(x):
#     x = x[::-1]
#     return x
# ```
# ```input
# 'abc'
# ```</answer>
# ````
#
# **Exercise 1** (10 minutes, 1 point; difficulty 2 of 5, importance 2 of 5). Read it.

# %% tags=["exercise"]
def read_reply(text):
    """The labelled blocks of a reply, or None where it has no form.

    text: from <think> on. Form: <think>, a thought (may be empty), </think>, perhaps white space,
    <answer>, the answer, </answer>. What comes after it does not matter.
    Returns: a list of (label, text) pairs, in order, of the blocks *inside the answer*. A block is
    three backticks and its label on one line, the text on the next lines, three backticks.
    The text has no line break at its end.
    """
    return ...

check.read_reply(read_reply)

# %% [markdown]
# <details><summary>Hint</summary>
#
# Two regular expressions: one for the form of the whole (`re.match`), one for the blocks
# (`re.findall`, which returns all groups). Both need `re.DOTALL` and `.*?`.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def read_reply(text):
#     form = re.match(r"<think>.*?</think>\s*<answer>(.*?)</answer>", text, re.DOTALL)
#     if form is None:
#         return None
#     return re.findall(r"```(\w+)\n(.*?)\n```", form[1], re.DOTALL)
# ```
#
# Why: form is checked on the whole text first, so a block in the thought can never pass for an
# answer.
# </details>

# %%
read_reply = check.use(read_reply, fallback=own_loop.read_reply)

# %% [markdown]
# ## 4. Sampling
#
# A reply is written token by token: read the logits of the last place, draw a token, append it,
# again. Recomputing the whole text for each token would be slow, so the keys and values of earlier
# tokens are kept (a [KV cache](glossary.md#kv-cache)). That is plumbing, and given: `start` reads
# the prompts, `go_on` appends one token to each row. A row that has ended leaves the batch.

# %%
class Reader:
    """A batch of texts that grow token by token. Both methods return the logits of the next token,
    one row per text that goes on, shape (rows, vocabulary)."""

    def __init__(self, model):
        self.model = model

    def start(self, prompts):
        """prompts: lists of token ids. Shorter ones are padded on the left."""
        width = max(map(len, prompts))
        self.real = torch.tensor([[0] * (width - len(p)) + [1] * len(p) for p in prompts])
        self.cache = DynamicCache(config=self.model.config)
        return self._read(torch.tensor([[0] * (width - len(p)) + [*p] for p in prompts]))

    def go_on(self, tokens, going):
        """Two tensors of shape (rows,). tokens: the one drawn for each row; going: bools, True for
        rows that stay. The logits that come back have a row for those alone."""
        if not going.all():
            self.cache.batch_select_indices(going.nonzero()[:, 0])
        tokens = tokens[going][:, None]
        self.real = torch.cat([self.real[going], torch.ones_like(tokens)], dim=1)
        return self._read(tokens)

    @torch.no_grad()
    def _read(self, ids):
        # the third argument is for positions; the fourth changed its name in transformers 5.24
        out = self.model(ids, self.real, None, self.cache, use_cache=True, logits_to_keep=1)
        return out.logits[:, -1]

# %% [markdown]
# **Exercise 2** (20 minutes, 3 points; difficulty 4 of 5, importance 5 of 5). Write the loop. Draw
# at temperature 1, that is, from softmax(logits) as they are. Keep the log-probability of every
# token you draw: the update needs it.

# %% tags=["exercise"]
def sample(reader, prompts, limit, greedy=False):
    """One reply per prompt.

    reader: a Reader.  prompts: lists of token ids.  limit: the most tokens a reply may have.
    greedy: take the likeliest token instead of drawing.
    Returns: for each prompt, in order, (ids, logps): a list of ints and one of floats, equally
    long. A reply ends with the token END, which belongs to it, or after `limit` tokens.
    """
    return ...

check.sample(sample)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * `torch.multinomial(probabilities, 1)` draws one token per row, shape (rows, 1).
# * After some rows have ended, row 3 of the logits is no longer prompt 3. Keep a list `rows` of the
#   prompts that are still going.
# * Call `reader.go_on` only while somebody goes on.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def sample(reader, prompts, limit, greedy=False):
#     replies = [([], []) for _ in prompts]
#     rows, logits = list(range(len(prompts))), reader.start(prompts)
#     for _ in range(limit):
#         logps = logits.log_softmax(-1)
#         tokens = logps.argmax(-1) if greedy else torch.multinomial(logps.exp(), 1)[:, 0]
#         chosen = logps.gather(-1, tokens[:, None])[:, 0]
#         for row, token, logp in zip(rows, tokens.tolist(), chosen.tolist(), strict=True):
#             replies[row][0].append(token)
#             replies[row][1].append(logp)
#         rows = [row for row in rows if replies[row][0][-1] != END]
#         if not rows:
#             break
#         logits = reader.go_on(tokens, tokens != END)
#     return replies
# ```
#
# Why: what you keep is the probability with which the policy really chose, so the update can tell
# how far the policy has moved since.
# </details>

# %%
sample = check.use(sample, fallback=own_loop.sample)
torch.manual_seed(SEED)
for reply, logps in sample(Reader(model), [ids] * 3, limit=192):
    print(f"probability {np.exp(sum(logps)):.3f}: {text_of(reply)!r}")

# %% [markdown]
# ## 5. How likely is this reply now?
#
# Learning changes the model, and with it the probability of a reply. So the update computes the
# log-probabilities again, this time with gradients, for whole texts at once. `ids` holds prompt and
# reply of each row, padded on the right; `is_reply` marks the tokens that the policy chose. (No
# attention mask is needed: a token sees only what stands to its left, so padding on the right
# changes nothing.)
#
# ```
# ids       solve  f(x)  …  <think>  </think>  'bc'  END  pad
# is_reply    0      0   0     0        1        1    1    0
# ```
#
# **Exercise 3** (12 minutes, 2 points; difficulty 3 of 5, importance 5 of 5). Three lines: shift,
# gather, mask.

# %% tags=["exercise"]
def logprobs(model, ids, is_reply):
    """Log-probability of each reply token under the model, with gradients.

    ids: shape (B, T), int64.  is_reply: shape (B, T), bool.
    model(input_ids=ids).logits has shape (B, T, V); column t holds the logits of token t + 1.
    Returns: shape (N,), the N reply tokens of all rows laid end to end, row after row.
    """
    return ...

check.logprobs(logprobs)

# %% [markdown]
# <details><summary>Hints</summary>
#
# * `ids[:, 1:]` are the tokens that `logits[:, :-1]` predict.
# * `x.gather(-1, index)` needs an index with as many axes as x: `ids[:, 1:, None]`.
# * `x[mask]` with a mask of bools keeps the marked places and lays them end to end.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def logprobs(model, ids, is_reply):
#     logps = model(input_ids=ids).logits[:, :-1].log_softmax(-1)
#     chosen = logps.gather(-1, ids[:, 1:, None])[..., 0]
#     return chosen[is_reply[:, 1:]]
# ```
#
# Why: the logits of a place speak of the next token, and only tokens that the policy chose may be
# pushed.
# </details>

# %%
logprobs = check.use(logprobs, fallback=own_loop.logprobs)
(reply, sampled), = sample(Reader(model), [ids], limit=192)
both = torch.tensor([ids + reply])
mark = torch.arange(len(ids + reply))[None] >= len(ids)
difference = (logprobs(model, both, mark) - torch.tensor(sampled)).abs().max().item()
print(f"sampling and scoring agree to {difference:.0e} on {len(reply)} tokens")

# %% [markdown]
# **What you should see.** A difference of about 1e-6, which is rounding. The same number, computed
# twice: token by token while sampling, and all at once. This is the most useful test of a
# reinforcement learning program, and the first to run when one does not learn.

# %% [markdown]
# ## 6. The loss
#
# [Notebook 04](04_trr.ipynb) ended with an advantage A per reply. The policy gradient is the mean
# of A · ∇ log π, so −A · log π is a loss with the right gradient. One thing is missing. A step
# makes several updates from one batch, and after the first the replies are no longer drawn from
# the current policy. The *ratio* of new to old probability corrects for that:
#
# $$\rho_t = \frac{\pi_\text{new}(t)}{\pi_\text{old}(t)}
# = e^{\log \pi_\text{new}(t) - \log \pi_\text{old}(t)}, \qquad
# \text{loss} = -\sum_t w_t \min\big(\rho_t A_t,\ \text{clip}(\rho_t, 0.8, 1.2)\, A_t\big)$$
#
# At ratio 1 its gradient is exactly −A · ∇ log π, since ∇ratio = ratio · ∇ log π. The clip stops
# the push once a token has moved by a fifth in the direction it is pushed; the minimum keeps the
# push *back* for tokens that went too far the wrong way. (This is PPO's objective. The weights w
# hold the group's share of notebook 04, and the division by the number of tokens.)
#
# **Exercise 4** (12 minutes, 2 points; difficulty 3 of 5, importance 5 of 5).

# %% tags=["setup"]
CLIP, MAX_NORM = 0.2, 1.0

# %% tags=["exercise"]
def policy_loss(new, old, advantages, weights):
    """The loss above.

    new, old: log-probabilities of N tokens under the current policy and when they were sampled.
    advantages, weights: one per token. All have shape (N,). CLIP is 0.2.
    Returns: a tensor with one number, through which gradients flow to `new`.
    """
    return ...

check.policy_loss(policy_loss)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `.exp()`, `.clamp(low, high)` and `torch.minimum(a, b)`; then weigh, add up, change the sign.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def policy_loss(new, old, advantages, weights):
#     ratio = (new - old).exp()
#     clipped = ratio.clamp(1 - CLIP, 1 + CLIP)
#     return -(weights * torch.minimum(ratio * advantages, clipped * advantages)).sum()
# ```
#
# Why: the smaller of the two products is the more careful one, for good replies and for bad ones.
# </details>

# %%
policy_loss = check.use(policy_loss, fallback=own_loop.policy_loss)

# %% tags=["hide-input"]
#@title What a token earns as its probability moves { display-mode: "form" }
ratios = np.linspace(0.5, 1.5, 101)
made, axes = figure(1, 2, (8.4, 2.9))
titles = ("A good token is pushed up, to 1.2", "A bad one down, to 0.8")
for axis, A, words in zip(axes, (1.0, -1.0), titles):
    one = torch.ones(1)
    objective = [-policy_loss(one * np.log(r), 0 * one, A * one, one).item() for r in ratios]
    line(axis, "clipped", list(ratios), objective, 0)
    line(axis, "not clipped", list(ratios), list(A * ratios), 1)
    with style():
        axis.set(title=words, xlabel="ratio of new to old probability", ylabel="objective (−loss)")
axes[0].legend()
show(made, "The clipped objective: flat above ratio 1.2 for a good token, below 0.8 for a bad one")

# %% [markdown]
# ## 7. One update
#
# A batch is cut into small batches of rows of like length, because padding costs time. They are
# parts of *one* update: `backward` adds to the gradients, so let it add, and step once.
#
# **Exercise 5** (10 minutes, 2 points; difficulty 2 of 5, importance 5 of 5).

# %% tags=["exercise"]
def update(model, optimizer, batches):
    """One optimiser step on all batches together.

    batches: an iterable of (ids, is_reply, old, advantages, weights), as above. The weights of all
    batches together already hold the division by the number of tokens.
    The norm of the whole gradient is clipped to MAX_NORM (1.0) before the step.
    Returns: the loss, a float, summed over the batches.
    """
    return ...

check.update(update)

# %% [markdown]
# <details><summary>Hint</summary>
#
# `optimizer.zero_grad()`, `loss.backward()`, `torch.nn.utils.clip_grad_norm_(model.parameters(),
# MAX_NORM)`, `optimizer.step()`. Which of them belong inside the loop?
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def update(model, optimizer, batches):
#     total = 0.0
#     optimizer.zero_grad()
#     for ids, is_reply, old, advantages, weights in batches:
#         loss = policy_loss(logprobs(model, ids, is_reply), old, advantages, weights)
#         loss.backward()
#         total += loss.item()
#     torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)
#     optimizer.step()
#     return total
# ```
#
# Why: one gradient is the sum over all rows; how they were cut into small batches must not matter.
# </details>

# %%
update = check.use(update, fallback=own_loop.update)

# %% [markdown]
# ## 8. The world around it
#
# Everything else is given: where references come from, how replies become tasks and verdicts, and
# how a batch is laid out. It uses *your* functions: `sample` and `read_reply` from above, the
# judges of notebook 01, the `verdict` on two worlds of 02, `trr` and `loss_weights` of 04. Read it
# once; the comments say which stage of the algorithm each method is.

# %%
KINDS = {name: get_task_type(name) for name in ("deduction", "abduction", "induction")}
CONFIG = az.preset("nano", seed=SEED)
RULES, STYLE, LIMIT = rules_of(CONFIG), course.COMPACT, CONFIG.max_reply_tokens


class World:
    """One policy, its buffers of tasks, the sandbox and the optimiser."""

    def __init__(self, executor, seed, size, n):
        """size: proposals per task type and step.  n: answers per task."""
        torch.manual_seed(seed)
        self.executor, self.rng, self.size, self.n = executor, random.Random(seed), size, n
        self.model, self.history = load_nano()[0], []
        self.optimizer = torch.optim.AdamW(
            self.model.parameters(), 2e-4, betas=(0.9, 0.98), weight_decay=0.0
        )
        self.buffers = Buffers(list(KINDS), capacity=CONFIG.buffer_capacity)
        for zero in filter(None, (kind.zero_task() for kind in KINDS.values())):
            self.buffers.add(zero)  # the identity function: all that self-play is given
        self.keep = self.buffers.add  # stage 6
        for _ in range(3):  # seeds: valid tasks of the untrained policy
            proposals = self.propose()
            self.validate(proposals)
            for p in (p for p in proposals if p.task is not None):
                self.buffers.add_seed(p.task, p.parents, target=2 * size)

    def propose(self):  # stages 1 and 2: references, proposals
        proposals = []
        for name in [name for name in KINDS for _ in range(self.size)]:
            references = (
                [self.rng.choice(self.buffers.programs())]
                if name == "induction"
                else self.buffers.of[name].sample(self.rng, 2)
            )
            text = KINDS[name].propose_prompt(STYLE, references, RULES)
            proposals.append(ProposalAttempt(name, references, text))
        self.reply(proposals)
        return proposals

    def pose(self, task):  # stage 4: an attempt at a task, not yet answered
        return SolveAttempt(task, KINDS[task.type].solve_prompt(STYLE, task, RULES))

    def reply(self, attempts, greedy=False):  # every reply of the policy, 96 at a time
        coded = sorted(((a, ids_of(a.prompt)) for a in attempts), key=lambda pair: len(pair[1]))
        for part in (coded[i : i + 96] for i in range(0, len(coded), 96)):
            replies = sample(Reader(self.model), [ids for _, ids in part], LIMIT, greedy)
            for (attempt, ids), (reply, logps) in zip(part, replies):
                attempt.completion = Completion(
                    prompt=attempt.prompt, prompt_ids=tuple(ids), ids=tuple(reply),
                    text=text_of(reply), truncated=reply[-1] != END, logps=tuple(logps),
                )

    def read(self, attempt, parse, about):  # a Proposal, an Answer, or why there is none
        blocks = read_reply("<think>" + attempt.completion.text)
        if blocks is None:
            return Rejection(Reason.NOT_WELL_FORMED)
        return parse(ParsedReply("", "", tuple(map(tuple, blocks))), about, RULES)

    def run(self, found, world="A"):  # outcomes of all that can be run, in the sandbox
        able = [getattr(one, "inputs", ()) != () for one in found]
        jobs = [Job(one.program, one.inputs, world=world) for one, runs in zip(found, able) if runs]
        outcomes = iter(self.executor.run_many(jobs))
        return [next(outcomes) if runs else [] for runs in able]

    def validate(self, proposals):  # stage 3: run in two worlds; what agrees becomes a task
        found = [self.read(p, KINDS[p.type].parse_proposal, p.references) for p in proposals]
        runs = zip(self.run(found, "A"), self.run(found, "B"))
        for p, one, (first, second) in zip(proposals, found, runs):
            if not isinstance(one, Rejection):
                said = verdict(first, second)
                one = (
                    KINDS[p.type].make_task(one, said.outputs, RULES)
                    if said.ok
                    else Rejection(said.reason)
                )
            if not isinstance(one, Rejection):
                one = dataclasses.replace(one, id=task_key(one))
                if is_reserved(one.program):  # a held-out problem: neither rewarded nor kept
                    one = Rejection(Reason.RESERVED)
            p.result = one

    def judge(self, attempts):  # stages 4 and 8: by value
        found = [self.read(a, KINDS[a.task.type].parse_answer, a.task) for a in attempts]
        for a, one, outcomes in zip(attempts, found, self.run(found)):
            a.verdict = getattr(one, "verdict", None)  # of a Rejection
            if a.verdict is None:
                right = judges[a.task.type](a.task, one, outcomes, RULES)
                right = bool(getattr(right, "ok", right))
                a.verdict = az.Verdict(ok=right, well_formed=True, score=float(right))

    def learn(self, attempts, rewards):  # stages 10 and 11: advantages, then four updates
        rows = [a.rollout(Reward(reward, {})) for a, reward in zip(attempts, rewards)]
        rows = [r for r in rows if r.verdict.reason != Reason.RESERVED]
        groups, lengths = [r.group for r in rows], [len(r.completion_ids) for r in rows]
        A = trr([r.reward for r in rows], groups, lengths)
        w = loss_weights(groups, lengths, [True] * len(rows))
        rows = [
            dataclasses.replace(r, advantage=float(a), weight=float(b))
            for r, a, b in zip(rows, A, w)
        ]
        self.history.append(rows)
        for part in split_into_updates(rows, 4, self.rng):
            update(self.model, self.optimizer, batches_of(part, sum(lengths) / 4))


def batches_of(rows, tokens):
    """What `update` needs, 24 rows at a time. tokens: how many an average update holds."""
    rows = sorted(rows, key=lambda r: len(r.prompt_ids + r.completion_ids))
    for part in (rows[i : i + 24] for i in range(0, len(rows), 24)):
        each = torch.tensor([len(r.completion_ids) for r in part])
        ids = [torch.tensor(r.prompt_ids + r.completion_ids) for r in part]
        marks = [torch.arange(len(row)) >= len(row) - n for row, n in zip(ids, each)]
        yield (
            torch.nn.utils.rnn.pad_sequence(ids, batch_first=True),
            torch.nn.utils.rnn.pad_sequence(marks, batch_first=True),
            torch.tensor([logp for r in part for logp in r.logps]),
            torch.tensor([r.advantage for r in part]).repeat_interleave(each),
            torch.tensor([r.weight / tokens for r in part]).repeat_interleave(each),
        )

# %% [markdown]
# (The package's own `executor.validate` is stricter than our two runs: it adds up to six worlds
# where a program could see order, hashes or chance. Nano's programs cannot.)

# %% [markdown]
# ## 9. The outer loop
#
# Now the algorithm itself. One step of self-play, in words:
#
# 1. `world.propose()` gives proposals, with the policy's replies. `world.validate(proposals)` runs
#    them: afterwards `p.task` is the task, or None where the proposal is invalid.
# 2. For each valid p: set `p.attempts` to a list of `world.n` attempts at its task;
#    `world.pose(p.task)` makes one. With the attempts of all p in one list `answers`,
#    `world.reply(answers)` lets the policy answer them at once, and `world.judge(answers)` gives
#    each its `.verdict`.
# 3. For each valid p: set `p.rate` to the `solve_rate` (notebook 03) of its attempts'
#    `verdict.score`, and call `world.keep(p.task)`.
# 4. Rewards: −1 for an invalid proposal, `learnability(p.rate)` for a valid one,
#    `answer_reward(a.verdict).total` for an answer.
# 5. `world.learn(rows, rewards)`, once: `rows` are all proposals (invalid ones too) and all answers
#    in one list, `rewards` one number for each, in the same order.
#
# **Exercise 6** (15 minutes, 3 points; difficulty 3 of 5, importance 5 of 5).

# %% tags=["exercise"]
def step(world):
    """One step of self-play, as above. Nothing is returned."""
    return ...

check.step(step)

# %% [markdown]
# <details><summary>Hint</summary>
#
# You need four lists: all proposals, the valid ones, all answers, all rewards. The first two and
# the last two come from comprehensions.
# </details>
# <details><summary>Solution</summary>
#
# ```python
# def step(world):
#     proposals = world.propose()
#     world.validate(proposals)
#     valid = [p for p in proposals if p.task is not None]
#     for p in valid:
#         p.attempts = [world.pose(p.task) for _ in range(world.n)]
#     answers = [a for p in valid for a in p.attempts]
#     world.reply(answers)
#     world.judge(answers)
#     for p in valid:
#         p.rate = solve_rate([a.verdict.score for a in p.attempts])
#         world.keep(p.task)
#     rewards = [-1.0 if p.task is None else learnability(p.rate) for p in proposals]
#     rewards += [answer_reward(a.verdict).total for a in answers]
#     world.learn([*proposals, *answers], rewards)
# ```
#
# Why: the same answers measure the task (for the proposer) and are judged (for the solver), and one
# policy learns both roles from one batch.
# </details>

# %%
step = check.use(step, fallback=own_loop.step)

# %% [markdown]
# ## 10. Let it learn
#
# [Held-out](glossary.md#held-out-problems) problems are those whose combination of operations no
# buffer may hold. They are asked greedily, before the first step and after every tenth.

# %% tags=["long"]
SIZE, N, PROBLEMS = (4, 2, 5) if profile == "ci" else (32, 4, 100)
STEPS = STEPS or (2 if profile == "ci" else 50)
EVERY = 1 if profile == "ci" else 10


def score(world):
    """Share of held-out problems solved, by task type."""
    shares = {}
    for kind, tasks in held_out(PROBLEMS, HELD_OUT_SEED).items():
        attempts = [world.pose(task) for task in tasks]
        world.reply(attempts, greedy=True)
        world.judge(attempts)
        shares[kind] = mean([a.verdict.ok for a in attempts])
    return shares


began = time.monotonic()
executor = az.Executor()
world = World(executor, SEED, SIZE, N)
curve = {0: score(world)}
for number in range(1, STEPS + 1):
    step(world)
    if number % EVERY == 0:
        curve[number] = score(world)
        shown = "  ".join(f"{kind} {share:4.0%}" for kind, share in curve[number].items())
        took = time.monotonic() - began
        print(f"step {number:2}  held-out: {shown}   ({took:.0f} s)", flush=True)

# %% tags=["long", "hide-input"]
#@title Your run, over the recorded ones { display-mode: "form" }
others = json.loads(recorded("benchmarks/notebook-05.json").read_text(encoding="utf-8"))["seeds"]
made, axes = figure(1, 3, (10.0, 2.9))
for axis, kind in zip(axes, KINDS):
    for one in others.values():
        axis.plot(one["steps"], [100 * share for share in one[kind]], color="#BBBBBB", linewidth=1)
    line(axis, kind, list(curve), [100 * shares[kind] for shares in curve.values()])
    with style():
        axis.set(title=kind, xlabel="self-play step", ylim=(0, 100))
axes[0].set_ylabel("held-out, % right")
first, last = (mean(list(curve[at].values())) for at in (0, max(curve)))
show(made, f"Held-out accuracy of this run, {first:.0%} to {last:.0%}; grey: recorded runs")
ends = (world.history[0], world.history[-1])
before, after = (mean([len(r.completion_ids) for r in rows if r.role == "solve"]) for rows in ends)
print(f"yours: {first:.0%} -> {last:.0%} right, tokens per answer {before:.0f} -> {after:.0f}")
for seed, one in others.items():
    ends = (mean([one[kind][place] for kind in KINDS]) for place in (0, -1))
    print(f"recorded, seed {seed}: {' -> '.join(f'{share:.0%}' for share in ends)} right")

# %% [markdown]
# **What you should see.** In a full run the first ten steps look like nothing: tasks are easy, and
# nearly all answers come without a thought. But the proposer is rewarded for tasks that are solved
# only sometimes, so programs grow longer. On those a thought earns more, answers grow, and the
# held-out score follows. The last lines say what happened in your run and in the recorded ones
# (grey).
#
# **If you see something else**: in profile ci (two tiny steps) the lines are flat. If a full run
# falls, or stays flat to its end, one of your functions may differ from the package's in a way its
# check did not look for: the next section tells.

# %% [markdown]
# ## 11. The package does the same
#
# Your step and the package's are the same mathematics. Here are the replies of one small step, the
# weights after it (so that ratios have moved), and two programs: yours, and `azr_lite.minimal`,
# whose gradient a test holds equal to that of the production trainer. Instead of an optimiser both
# get an object that only writes the gradient down. Both compute in float64, so that rounding hides
# nothing.

# %% tags=["long"]
class Notes:
    """Stands where an optimiser is wanted; keeps the clipped gradient instead of stepping."""

    def __init__(self, model):
        self.model = model

    def zero_grad(self):
        for weight in self.model.parameters():
            weight.grad = None

    def step(self):
        self.gradient = torch.cat([weight.grad.flatten() for weight in self.model.parameters()])


torch.manual_seed(SEED)
play = World(executor, SEED, 4, 2)
play.model.load_state_dict(world.model.state_dict())
step(play)
rows, tokens = play.history[-1], sum(len(r.completion_ids) for r in play.history[-1])

mine = copy.deepcopy(play.model).double()
notes = Notes(mine)
my_loss = update(mine, notes, batches_of(rows, tokens))

package = course.AbsoluteZero(CONFIG, executor)
package.model.load_state_dict(play.model.state_dict())
package.model.double()
package.optimizer = Notes(package.model)
its_loss = package.update(rows, tokens)

distance = (notes.gradient - package.optimizer.gradient).norm() / package.optimizer.gradient.norm()
print(f"loss: yours {my_loss:+.6f}, the package's {its_loss:+.6f}")
print(f"gradient: {len(notes.gradient):,} numbers, relative difference {distance:.0e}")
assert abs(my_loss - its_loss) < 1e-5 and distance < 1e-5

# %% [markdown]
# **What you should see.** Equal losses, and a relative difference far below 1e-5.
#
# **If you see something else** (an AssertionError), one of your functions differs from the
# package's in a way its check did not look for. Please report it.
#
# What the package adds is engineering: other models, adapters, GPUs, several processes, checkpoints
# that survive a kill, logs, intervals, a watchdog for the learning itself. Its run is one line,
#
# ```python
# azr_lite.run("nano", steps=50)
# ```
#
# and [notebook 06](06_learn.ipynb) watches one: kills it, resumes it, and asks what kind of gain
# this was.

# %% tags=["long"]
executor.close()

# %% [markdown]
# **Discuss.**
#
# 1. The mean reward hardly rises in a good run. Why? (Think of the tasks.)
# 2. Which line would you delete to turn this into training on a fixed data set? What would you have
#    to find first?
# 3. The four updates of a step each see a quarter of its replies. At which of them is the ratio
#    exactly 1, and what would happen with forty?
#
# <details><summary>Answers</summary>
#
# 1. The tasks get harder as the solver gets better, because that is what the proposer is rewarded
#    for. Only problems that stay the same can show learning.
# 2. `world.propose` and the proposers' rows in `world.learn`. You would need the data set: programs
#    with inputs, valid, deterministic, and neither too easy nor too hard. Making those *is* the
#    proposer's work.
# 3. At the first: the replies were drawn from exactly these weights. Each update moves the policy
#    away from the one that sampled; after forty, many tokens would be clipped and teach nothing.
# </details>
