"""Exercises of notebook 05: the six functions that make Absolute Zero. torch loads when one of them is judged."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from azr_lite.course.checks import Late, Mistake, exercise
from azr_lite.course.looks import PLAYED, SAMPLED, lost, sampled, scored, stepped, updated
from azr_lite.rewards import answer_reward, learnability, solve_rate

KEYS = "azr_lite.course.own_loop"

_FENCE = r"```(\w+)\n(.*?)\n```"
_INPUTS = "\n".join(f"```input\n{n}\n```" for n in (1, 2, 3))
_PROGRAM = "```python\ndef f(x):\n    x = x[1:]\n    return x\n```"


def _blocks(
    text: str, form: str = r"<think>.*?</think>\s*<answer>(.*?)</answer>", fence: str = _FENCE, flags: int = re.DOTALL
) -> Any:
    found = re.match(form, text, flags)
    return None if found is None else re.findall(fence, found[1], flags)


exercise(
    name="read_reply", key=Late(KEYS, "read_reply"), points=1,
    probes=lambda: [
        (f"<think></think><answer>{_PROGRAM}\n```input\n'abc'\n```</answer>",),
        ("<think>first 'cb'\nthen 'CB'</think> <answer>```output\n'CB'\n```</answer>",),
        (f"<think></think><answer>{_INPUTS}\n```message\ndouble it\n```</answer>",),
        ("<think>```output\n5\n```</think><answer>```output\n6\n```</answer>",),
        ("<think></think><answer>```output\n6\n```",),
        ("```output\n6\n```",),
        ("<answer>```output\n6\n```</answer>",),
        ("Sure! <think></think><answer>```output\n6\n```</answer>",),
        ("<think></think><answer>6</answer>",),
        ("<think></think><answer>```output\n6\n```</answer> or <answer>```output\n7\n```</answer>",),
    ],
    hint="First the form of the whole text (None where it is missing), then the blocks inside <answer> … </answer>.",
    mistakes=[
        Mistake(lambda text: None if _blocks(text) is None else re.findall(_FENCE, text, re.DOTALL),
            "you may have looked for blocks in the whole reply: a block in the *thought* is no answer. Search only "
            "between <answer> and </answer>"),
        Mistake(lambda text: _blocks(text) or None, "good form without a block is still good form: an empty list, "
            "not None. The task type then says what is missing"),
        Mistake(lambda text: _blocks(text + "</answer>") if "<answer>" in text else None,
            "you may have accepted an answer that is never closed: such a reply was cut by the token limit, and has "
            "no form"),
        Mistake(lambda text: _blocks(text, r".*?<think>.*?</think>\s*<answer>(.*?)</answer>"),
            "a reply begins with its thought: words before <think> are no form. `re.match` starts at the beginning, "
            "`re.search` anywhere"),
        Mistake(lambda text: _blocks(text, r"<think>.*?</think><answer>(.*?)</answer>"),
            "between </think> and <answer> may stand spaces and line breaks; models write them. `\\s*` takes any number "
            "of them"),
        Mistake(lambda text: _blocks(text, r".*?<answer>(.*?)</answer>"), "you may not have asked for the thought: "
            "the form is <think> … </think>, then <answer> … </answer>. The thought may be empty, its tags not "
            "missing"),
        Mistake(lambda text: re.findall(_FENCE, text, re.DOTALL), "a reply without its tags gets blocks all the "
            "same. It has no form (that is the −1 of notebook 03): return None"),
        Mistake(lambda text: _blocks(text, r"<think>.*?</think>\s*<answer>(.*)</answer>"), "what comes after the first "
            "</answer> does not matter, and you read on: `.*` and `re.fullmatch` do. Take `.*?` and `re.match`"),
        Mistake(lambda text: _blocks(text, fence=r"```(\w+)\n([^\n]*)\n```"), "you may have left out re.DOTALL where "
            "you look for blocks: without it `.` stops at the end of a line, and programs have several"),
        Mistake(lambda text: _blocks(text, flags=0), "in a regular expression `.` stops at the end of a line unless "
            "you pass re.DOTALL, and programs have several lines"),
        Mistake(lambda text: None if _blocks(text) is None else list(dict(_blocks(text)).items()),
            "you may have put the blocks into a dict: a label can come several times (an induction proposal has six "
            "inputs), and only the last survives. Return a list of pairs"),
        Mistake(lambda text: _blocks(text, fence=r"```(\w+)\n(.*)\n```"), "`.*` takes all it can get: two blocks "
            "become one long one. `.*?` stops at the first fence that closes"),
        Mistake(lambda text: None if _blocks(text) is None else [body for _, body in _blocks(text)],
            "you return the texts without their labels; nobody can tell the program from the input. Return (label, "
            "text) pairs"),
        Mistake(lambda text: _blocks(text, fence=r"```(\w+)\n(.*?)```"), "each text still ends with the line break "
            "before the closing fence; leave it out"),
    ],
)  # fmt: skip


def _sampler(
    pick: str = "draw", told: str = "log", heat: float = 1.0, end: bool = True, stop: bool = True, mixed: bool = False,
    more: int = 0,
) -> Callable[..., Any]:  # fmt: skip
    """A mistaken `sample`."""

    def mistaken(reader: Any, prompts: Sequence[Sequence[int]], limit: int, greedy: bool = False) -> Any:
        import torch

        replies: list[tuple[list, list]] = [([], []) for _ in prompts]
        rows, logits = list(range(len(prompts))), reader.start(prompts)
        for _ in range(limit + more):
            logps = (logits / heat).log_softmax(-1)
            if pick == "greedy" or (greedy and pick != "always"):
                tokens = logps.argmax(-1)
            elif pick == "one":
                tokens = torch.multinomial(logps[:1].exp(), 1)[0].expand(len(rows))
            elif pick == "flat":
                tokens = torch.randint(logps.shape[-1], (len(rows),))
            else:
                tokens = torch.multinomial(logps.exp(), 1)[:, 0]
            best = logps.max(-1, keepdim=True)[0].expand_as(logps)
            shown = {"log": logps, "share": logps.exp(), "logit": logits, "best": best}[told].tolist()
            going = tokens != 1
            for place, (row, token) in enumerate(zip(rows, tokens.tolist(), strict=True)):
                if end or token != 1:
                    replies[place if mixed else row][0].append(token)
                    replies[place if mixed else row][1].append(shown[place][token])
            if not stop:
                going = torch.ones_like(going)
            rows = [row for row, on in zip(rows, going.tolist(), strict=True) if on]
            if not rows:
                break
            logits = reader.go_on(tokens, going)
        return replies

    return mistaken


exercise(
    name="sample", key=Late(KEYS, "sample"), points=3, observe=sampled, shows=SAMPLED,
    hint="Each round: log_softmax, one draw per row, note token and log-probability, drop the rows that ended, go on.",
    mistakes=[
        Mistake(_sampler(pick="greedy"), "you may have taken the likeliest token always. Then n replies to a task "
            "are one reply n times, and r̄ is 0 or 1 (notebook 03, section 4). Draw with torch.multinomial; argmax "
            "only where `greedy`"),
        Mistake(_sampler(pick="one"), "you may have drawn *one* token for all rows. Each row has its own "
            "distribution and its own draw: torch.multinomial(probabilities, 1) draws one per row"),
        Mistake(_sampler(pick="flat"), "tokens are drawn without looking at their probabilities. Draw from "
            "softmax(logits)"),
        Mistake(_sampler(heat=0.5), "the draws come from a sharper distribution than the model's: you may have "
            "divided the logits by a temperature. At temperature 1 they are used as they are, and so is the "
            "log-probability that the update will recompute"),
        Mistake(_sampler(told="share"), "you noted probabilities; the update subtracts *log*-probabilities"),
        Mistake(_sampler(told="logit"), "you noted logits. They become log-probabilities by log_softmax over the "
            "vocabulary"),
        Mistake(_sampler(told="best"), "you noted the log-probability of the *likeliest* token. The update needs that "
            "of the token that was drawn: logps.gather(-1, tokens[:, None])[:, 0]"),
        Mistake(_sampler(pick="always"), "`greedy` plays no part: where it is true, take the likeliest token (argmax) "
            "and draw nothing"),
        Mistake(_sampler(end=False), "END is missing in the reply. It was sampled like any other token; without it "
            "the update can never teach when to stop"),
        Mistake(_sampler(stop=False), "rows go on after END. What follows is noise that was never asked for; drop "
            "the row (`going` is False there)"),
        Mistake(_sampler(mixed=True), "tokens end up in the wrong replies once a row has ended: the third row left "
            "may be the fifth prompt. Keep the list of rows that are still going"),
        Mistake(_sampler(more=1), "replies get longer than `limit`"),
    ],
)  # fmt: skip


def _logprobs(
    keep: Callable[..., Any] = lambda chosen, mask, tokens: chosen[mask], form: str = "log", axis: int = -1,
    shift: int = 1, mask_shift: int = 1,
) -> Callable[..., Any]:  # fmt: skip
    """A mistaken `logprobs`. `shift`, `mask_shift`: how many columns tokens and mask are ahead of the logits."""

    def mistaken(model: Any, ids: Any, is_reply: Any) -> Any:
        columns = ids.shape[1] - abs(shift)
        logits = model(input_ids=ids).logits[:, max(0, -shift) :][:, :columns]
        values = {"log": logits.log_softmax(axis), "share": logits.softmax(axis), "logit": logits}[form]
        tokens, mask = (part[:, max(0, by) :][:, :columns] for part, by in ((ids, shift), (is_reply, mask_shift)))
        return keep(values.gather(-1, tokens[..., None])[..., 0], mask, tokens)

    return mistaken


exercise(
    name="logprobs", key=Late(KEYS, "logprobs"), points=2, observe=scored,
    shows=("the shape of logprobs(model, ids, is_reply)", "its numbers", "whether gradients can flow through it",
        "the gradient of its sum"),
    hint="Column t of the logits predicts token t + 1; log_softmax, gather the token's own, then keep where is_reply.",
    mistakes=[
        Mistake(_logprobs(shift=0, mask_shift=0), "you may have forgotten the shift: column t of the logits says what "
            "comes *after* token t. Use logits[:, :-1] with ids[:, 1:]"),
        Mistake(_logprobs(shift=-1, mask_shift=0), "the shift goes the wrong way: column t of the logits speaks of "
            "token t + 1, not of token t − 1. Use logits[:, :-1] with ids[:, 1:]"),
        Mistake(_logprobs(mask_shift=0), "tokens are shifted and the mask is not: mask with is_reply[:, 1:], which "
            "stands over the same tokens as ids[:, 1:]"),
        Mistake(_logprobs(form="logit"), "those are logits. log_softmax over the vocabulary (the last axis) makes "
            "log-probabilities of them"),
        Mistake(_logprobs(form="share"), "those are probabilities; the loss needs their logarithms (log_softmax)"),
        Mistake(_logprobs(axis=1), "log_softmax runs over time (axis 1); it belongs to the vocabulary, the last axis"),
        Mistake(_logprobs(lambda chosen, *_: chosen.flatten()), "prompt and padding are still in it. Only reply tokens "
            "were chosen by the policy: keep them with the mask"),
        Mistake(_logprobs(lambda chosen, mask, tokens: chosen[tokens != 0]), "padding is gone, and the prompt is still "
            "in it. Nobody chose its tokens: keep those of the reply alone, with is_reply[:, 1:]"),
        Mistake(_logprobs(lambda chosen, *_: chosen), "prompt and padding are still in it, and the rows stand side by "
            "side. Index with the mask: one number per reply token, laid end to end"),
        Mistake(_logprobs(lambda chosen, mask, _: chosen * mask), "prompt and padding are zeros now, but still take "
            "places. Index with the mask, so that only reply tokens remain, laid end to end"),
        Mistake(_logprobs(lambda chosen, mask, _: (chosen * mask).sum(1)), "you return one sum per reply; the clip "
            "needs every token by itself"),
        Mistake(_logprobs(lambda chosen, mask, _: chosen[mask].detach()), "no gradient can flow: you may have used "
            "no_grad or detach here. That is right for sampling and stops all learning here"),
    ],
)  # fmt: skip


def _loss(
    sign: float = -1.0, clip: str = "min", weighted: bool = True, mean: bool = False, log: bool = False,
    ratio: Callable[[Any, Any], Any] = lambda new, old: (new - old).exp(),
) -> Callable[..., Any]:  # fmt: skip
    """A mistaken `policy_loss`."""

    def mistaken(new: Any, old: Any, advantages: Any, weights: Any) -> Any:
        import torch

        change = ratio(new, old)
        plain, cut = change * advantages, change.clamp(0.8, 1.2) * advantages
        pushed = {"min": torch.minimum(plain, cut), "max": torch.maximum(plain, cut), "cut": cut, "none": plain}[clip]
        pushed = new * advantages if log else pushed
        pushed = weights * pushed if weighted else pushed
        return sign * (pushed.mean() if mean else pushed.sum())

    return mistaken


exercise(
    name="policy_loss", key=Late(KEYS, "policy_loss"), points=2, observe=lost,
    shows=[f"{what} {where}" for where in ("at ratio 1", "with ratios beyond the clip", "with a ratio inside the clip")
        for what in ("the loss", "its gradient")],
    hint="ratio = exp(new − old); the smaller of ratio·A and clipped ratio·A; weigh, add up, and change the sign.",
    mistakes=[
        Mistake(_loss(sign=1.0), "the sign is missing: an optimiser makes the loss *smaller*, and we want the reward "
            "larger. This would teach the policy whatever earned little"),
        Mistake(_loss(log=True), "−A·log π has the right gradient where the ratio is 1, and is REINFORCE. With "
            "several updates per step the replies are no longer the current policy's: the ratio exp(new − old) "
            "corrects for that, and the clip keeps it near 1"),
        Mistake(_loss(clip="none"), "the clip is missing: in the second update of a step a single token whose "
            "probability has doubled would push twice as hard"),
        Mistake(_loss(clip="cut"), "you may have used the clipped ratio alone. Then a token that went the *wrong* "
            "way too far gets no push back; the minimum of both keeps it"),
        Mistake(_loss(clip="max"), "PPO takes the *minimum* of both products: the more careful of the two. The "
            "maximum lets the ratio run away"),
        Mistake(_loss(sign=1.0, clip="max"), "the sign of the advantage is turned: tokens of good replies become rarer "
            "and those of bad ones more frequent. Advantages stay as they are; the minus stands before the sum"),
        Mistake(_loss(ratio=lambda new, old: (old - new).exp()), "the ratio is upside down: new over old is "
            "exp(new − old)"),
        Mistake(_loss(ratio=lambda new, old: new - old), "new − old is the *logarithm* of the ratio; the ratio is "
            "exp(new − old), 1 where nothing has changed"),
        Mistake(_loss(ratio=lambda new, old: (new.detach() - old).exp()), "no gradient can flow: `new` is detached. It "
            "is the one thing here that depends on the weights; `old` and the advantages are numbers"),
        Mistake(_loss(ratio=lambda new, old: (new - new.detach()).exp()), "`old` plays no part: the ratio of `new` to "
            "itself is always 1, so the clip never acts. `old` was noted when the reply was sampled"),
        Mistake(_loss(weighted=False), "weights play no part: the groups are no longer balanced (notebook 04, "
            "section 7)"),
        Mistake(_loss(mean=True), "you take a mean, which divides by the tokens of this small batch once more. The "
            "weights already hold that division: add up"),
    ],
)  # fmt: skip


def _update(
    zero: str = "first", steps: str = "once", clip: str = "once", back: str = "each", tell: str = "sum",
    anew: Callable[[Any], Any] | None = None,
) -> Callable[..., Any]:  # fmt: skip
    """A mistaken `update`."""

    def mistaken(model: Any, optimizer: Any, batches: Any) -> Any:
        import torch

        from azr_lite.course.own_loop import logprobs, policy_loss

        losses = []
        if zero == "first":
            optimizer.zero_grad()
        for ids, is_reply, *rest in batches:
            if zero == "each":
                optimizer.zero_grad()
            new = logprobs(model, ids, is_reply)
            losses.append(policy_loss(new, *rest) if anew is None else policy_loss(new, anew(new), *rest[1:]))
            if back == "each":
                losses[-1].backward()
            if clip == "each":
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            if steps == "each":
                torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
                optimizer.step()
                optimizer.zero_grad()
        if back == "mean":
            (sum(losses) / len(losses)).backward()
        if zero == "late":
            optimizer.zero_grad()
        if clip == "once":
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        if steps == "once":
            optimizer.step()
        told = {"sum": sum(losses), "last": losses[-1]}.get(tell)
        return None if told is None else told.item()

    return mistaken


exercise(
    name="update", key=Late(KEYS, "update"), points=2, observe=updated,
    shows=[f"{what} after update {n}" for n in (1, 2)
        for what in ("the loss returned", "the weights", "the number of optimiser steps")],
    hint="zero_grad once; per batch loss.backward(), which adds to the gradients; then clip_grad_norm_ and one step.",
    mistakes=[
        Mistake(_update(zero="never"), "you may have forgotten optimizer.zero_grad(): backward *adds* to the "
            "gradients, so the second update still holds those of the first"),
        Mistake(_update(zero="each"), "gradients are set to zero before every small batch, so only the last one "
            "counts. Once, before the loop"),
        Mistake(_update(zero="late"), "gradients are set to zero after backward(), so the step finds none: zero_grad "
            "belongs before the first backward()"),
        Mistake(_update(anew=lambda new: new), "you may have taken the old log-probabilities anew, with a gradient: it "
            "cancels that of the new ones, and nothing is learned. They come in with the batch; use those"),
        Mistake(_update(anew=lambda new: new.detach()), "you may have taken the old log-probabilities anew, from "
            "the weights of now: then the ratio is always 1 and the clip never acts. They come in with the batch; use "
            "those"),
        Mistake(_update(steps="each"), "you may have made one optimiser step per small batch. They are parts of "
            "*one* update, cut only to save memory and padding: add up their gradients, then step once"),
        Mistake(_update(steps="never"), "nothing is learned: optimizer.step() is missing"),
        Mistake(_update(clip="never"), "the gradient is not clipped before the step: "
            "torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM). One unlucky batch could throw a small "
            "model off"),
        Mistake(_update(clip="each"), "you may have clipped after every small batch: that cuts parts of the gradient, "
            "and the later ones weigh more. Once, after the loop, for the whole"),
        Mistake(_update(back="mean"), "you average over the small batches. Their weights already divide by all "
            "tokens: add up"),
        Mistake(_update(tell="last"), "the weights are right; what is returned is the loss of the last small batch. "
            "Return the sum over all of them"),
        Mistake(_update(tell="none"), "the weights are right, but the loss is not returned; section 11 compares it "
            "with the package's. Return the sum of loss.item()"),
    ],
)  # fmt: skip


def _step(
    reward: Callable[[float], float] = learnability, invalid: float | None = -1.0, keep: str = "valid", calls: int = 1,
    copies: bool = False, n: int | None = None, answers_too: bool = True, score: bool = False,
    rated: Callable[[list[float]], float] = solve_rate, mixed: bool = False,
) -> Callable[..., Any]:  # fmt: skip
    """A mistaken `step`."""

    def mistaken(world: Any) -> None:
        proposals = world.propose()
        world.validate(proposals)
        valid = [p for p in proposals if p.task is not None]
        for p in valid:
            count = n or world.n
            p.attempts = [world.pose(p.task)] * count if copies else [world.pose(p.task) for _ in range(count)]
        answers = [a for p in valid for a in p.attempts]
        world.reply(answers)
        world.judge(answers)
        for p in valid:
            scores = [a.verdict.score for a in p.attempts]
            p.rate = rated(scores) if len(scores) > 1 else scores[0]
        kept = {"valid": valid, "all": proposals, "learnable": [p for p in valid if 0 < p.rate < 1], "never": []}[keep]
        for p in kept:
            world.keep(p.task)
        rows = proposals if invalid is not None else valid
        rewards = [invalid if p.task is None else reward(p.rate) for p in rows]
        told = [a.verdict.score if score else answer_reward(a.verdict).total for a in answers]
        if calls == 2:
            world.learn(rows, rewards)
            world.learn(answers, told)
        elif mixed:
            world.learn([*answers, *rows], rewards + told)
        else:
            world.learn([*rows, *answers] if answers_too else rows, rewards + told if answers_too else rewards)

    return mistaken


exercise(
    name="step", key=Late(KEYS, "step"), points=3, observe=stepped, shows=PLAYED,
    hint="Follow the list of stages line by line; every list you need is made by a comprehension.",
    mistakes=[
        Mistake(_step(invalid=None), "invalid proposals are not trained on. They are the −1 of the ladder: leave "
            "them out and the proposer never learns what a valid program is"),
        Mistake(_step(invalid=0.0), "invalid proposals earn 0, as much as a task that everybody solves. The ladder "
            "says −1"),
        Mistake(_step(reward=lambda rate: rate), "you may have rewarded proposals with their solve rate: the museum of "
            "notebook 03 calls that *trivial tasks*. Their reward is learnability(rate)"),
        Mistake(_step(reward=lambda rate: 1.0 - rate), "a task that nobody solves earns 1 here: that is *impossible "
            "tasks* of notebook 03. learnability is 0 at both ends"),
        Mistake(_step(keep="never"), "tasks never enter the buffers, so the proposer always sees the same "
            "references. In the recorded ablation that costs most of the gain (23.4 points fall to 3.4)"),
        Mistake(_step(keep="learnable"), "only learnable tasks are kept. In the paper every valid task enters its "
            "buffer, whatever it earns"),
        Mistake(_step(keep="all"), "proposals that are not valid enter the buffers too, and there is no task in "
            "them (None)"),
        Mistake(_step(rated=max), "you may have taken the best of the n scores for the solve rate: then every task "
            "that is ever solved has r̄ = 1 and earns nothing. Take their mean, solve_rate(scores)"),
        Mistake(_step(mixed=True), "rewards stand beside the wrong rows: world.learn pairs the first reward with the "
            "first reply, so proposals and their rewards come in the same order as answers and theirs"),
        Mistake(_step(copies=True), "`[world.pose(task)] * n` is *one* attempt, n times in the list: all n get one "
            "reply. Call world.pose n times"),
        Mistake(_step(n=1), "each task gets one answer; r̄ needs world.n of them"),
        Mistake(_step(answers_too=False), "the answers are judged and then forgotten: only the proposer learns. One "
            "policy, one batch: proposals and answers"),
        Mistake(_step(calls=2), "world.learn is called twice. Advantages and loss weights belong to the whole batch: "
            "give it proposals and answers together"),
        Mistake(_step(score=True), "wrong answers earn 0. The ladder of notebook 03 says −0.5: use "
            "answer_reward(a.verdict).total"),
    ],
)  # fmt: skip
