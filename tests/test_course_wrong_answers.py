"""Wrong answers that earlier checks took for right are called by name; other right ways of writing are welcome.

Each of the wrong ones is written as a learner writes it, not as the list of known mistakes has it. Those of notebook 05
are its worked solutions with a slip.
"""

import ast
import json
from inspect import getsource
from types import SimpleNamespace

import numpy as np
import pytest

from azr_lite import advantages
from azr_lite.buffer import task_key
from azr_lite.config import Config
from azr_lite.course.checks import judge_answer
from azr_lite.planner import vram
from azr_lite.rewards import learnability, solve_rate
from azr_lite.sandbox import Validation
from azr_lite.sandbox.literal import read_value
from azr_lite.sandbox.wire import canonical


def arguments_as_a_list(text):
    made = ast.parse(f"g({text}\n)", mode="eval").body
    if text.strip() == "" or made.keywords or not isinstance(made, ast.Call) or not isinstance(made.func, ast.Name):
        raise ValueError
    return [float("inf") if ast.unparse(one) == "inf" else ast.literal_eval(one) for one in made.args]


def value_or_json(text):
    if len(text) > 4096:
        raise ValueError
    for read in (ast.literal_eval, json.loads):
        try:
            return read(text.strip())
        except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
            pass
    raise ValueError


class OverwritingBuffer:
    def __init__(self, capacity):
        self.capacity, self.tasks = capacity, {}

    def add(self, task):
        new = task_key(task) not in self.tasks
        self.tasks[task_key(task)] = task
        if len(self.tasks) > self.capacity:
            del self.tasks[next(iter(self.tasks))]
        return new

    def sample(self, rng, count):
        return rng.sample(list(self.tasks.values()), min(count, len(self.tasks)))


def weights_cut_for_qlora(shape, config):
    gpus = max(1, config.processes)
    if config.tuning == "full":
        return 4 * shape.parameters / gpus
    if config.tuning == "lora":
        return 2 * shape.parameters
    return (vram.NF4 * shape.linear_parameters + 2 * (shape.parameters - shape.linear_parameters)) / gpus


def moments_cut_for_qlora(shape, config):
    each = 8 if config.optimizer == "adamw" else 2
    return (
        each * vram.trainable_parameters(shape, config) / (1 if config.tuning == "lora" else max(1, config.processes))
    )


def verdict_with_the_second_worlds_word(first, second):
    for index, one in enumerate(first):
        if one.kind not in ("ok", "infra"):
            return Validation(False, (), one.kind, "", index)
    for index, (one, other) in enumerate(zip(first, second, strict=True)):
        if other.kind == "infra":
            continue
        if other.kind != "ok":
            return Validation(False, (), other.kind, "", index)
        if canonical(one.value) != canonical(other.value):
            return Validation(False, (), "non_deterministic", "", index)
    return Validation(True, tuple(one.value for one in first))


def reward_that_needs_scores(verdict, scores):
    rate = solve_rate(scores)
    return learnability(rate) if verdict.ok else -1.0


def across_as_a_set(line, start, end):
    values = []
    for key, value in line.items():
        if key.startswith(start) and key.endswith(end) and key.count("/") == 2 and value not in values:
            values.append(value)
    return values


def across_by_three_names(line, start, end):
    names = [f"{start}{kind}{end}" for kind in ("deduction", "abduction", "induction")]
    return [line[name] for name in names if name in line]


def first_word(answer, gold):
    words = answer.replace("'", " ").replace('"', " ").split()
    return bool(words) and words[0] == gold


def head_width_by_division(shape, e=2):
    return 2 * shape.layers * shape.kv_heads * (shape.hidden // shape.heads) * e


def rloo_by_an_array_of_keys(rewards, prompts):
    rewards, prompts = np.array(rewards), np.array(prompts)
    out = np.zeros(len(rewards))
    for i in range(len(rewards)):
        others = (prompts == prompts[i]) & (np.arange(len(rewards)) != i)
        if others.any():
            out[i] = rewards[i] - rewards[others].mean()
    return out


def whitened_above_a_thousandth(rewards):
    return np.zeros(len(rewards)) if rewards.std() < 1e-3 else (rewards - rewards.mean()) / rewards.std()


def micro_batches_as_a_float(config, world):
    return Config.micro_batches(config, world) / 1


ONCE_ACCEPTED = [
    ("read_arguments", arguments_as_a_list, "a list"),
    ("read_value", value_or_json, "words of JSON"),
    ("Buffer", OverwritingBuffer, "a twin takes the place"),
    ("weight_bytes", weights_cut_for_qlora, "cuts QLoRA's base"),
    ("optimiser_bytes", moments_cut_for_qlora, "cuts QLoRA's moments"),
    ("verdict", verdict_with_the_second_worlds_word, "the second world's word"),
    ("proposer_reward", reward_that_needs_scores, "without replies"),
    ("across", across_as_a_set, "equal values"),
    ("across", across_by_three_names, "three task types by name"),
    ("same_error", first_word, "first word only"),
    ("cache_bytes_per_token", head_width_by_division, "hidden // heads"),
    ("rloo", rloo_by_an_array_of_keys, "a prompt's key is a tuple"),
    ("whiten_sequences", whitened_above_a_thousandth, "a spread of 1e-4"),
    ("sequences_a_step", lambda c: len(c.task_types) * (c.batch_size + c.solver_rows) / 1, "a float, where a whole"),
    ("most_rewarded", 1.0, "a float, where a whole"),
    ("micro_batches", micro_batches_as_a_float, "a float, where a whole"),
]


@pytest.mark.parametrize(("name", "answer", "told"), ONCE_ACCEPTED)
def test_what_was_once_accepted_is_refused_by_name(name, answer, told):
    found = judge_answer(name, answer)
    assert found.state == "wrong"
    assert told in found.because


CLIPPED = "    torch.nn.utils.clip_grad_norm_(model.parameters(), MAX_NORM)\n"
STEP, ZERO, BACK = "    optimizer.step()\n", "    optimizer.zero_grad()\n", "        loss.backward()\n"
TAKEN, LOWER = "chosen[is_reply[:, 1:]]", "torch.minimum(ratio * advantages, clipped * advantages)"
DRAWN = "logps.argmax(-1) if greedy else torch.multinomial(logps.exp(), 1)[:, 0]"
GOING = "[row for row in rows if replies[row][0][-1] != END]"
NOTED = "            replies[row][0].append(token)\n            replies[row][1].append(logp)\n"
LEARNED = "world.learn([*proposals, *answers], rewards)"

SLIPS = {
    "read_reply": [
        ("`re.match` starts at the beginning", ("re.match", "re.search")),
        ("in the *thought* is no answer", ("form[1]", "text")),
        ("re.DOTALL", ("text, re.DOTALL", "text")),
        ("where you look for blocks", ("form[1], re.DOTALL", "form[1]")),
        ("after the first </answer>", ("(.*?)</answer>", "(.*)</answer>")),
        ("after the first </answer>", ("re.match", "re.fullmatch")),
        ("takes all it can get", (r"\n(.*?)\n", r"\n(.*)\n")),
        ("between </think> and <answer>", (r"</think>\s*<answer>", "</think><answer>")),
        ("the form is <think> … </think>", ('r"<think>.*?</think>', 'r".*?')),
        ("gave [], expected None", ("return None", "return []")),
        ("without their labels", (r"```(\w+)\n", r"```\w+\n")),
    ],
    "sample": [
        ("taken the likeliest token always", (DRAWN, "logps.argmax(-1)")),
        ("`greedy` plays no part", (DRAWN, "torch.multinomial(logps.exp(), 1)[:, 0]")),
        ("*one* token for all rows", (DRAWN, "(logps.argmax(-1) if greedy else torch.multinomial(logps[:1].exp(), 1)[0].expand(len(rows)))")),
        ("of the *likeliest* token", ("logps.gather(-1, tokens[:, None])[:, 0]", "logps.max(-1)[0]")),
        ("you noted probabilities", ("chosen.tolist()", "chosen.exp().tolist()")),
        ("you noted logits", ("logps.gather(-1, tokens", "logits.gather(-1, tokens")),
        ("divided the logits by a temperature", ("logits.log_softmax(-1)", "(logits / 0.5).log_softmax(-1)")),
        ("END is missing", (NOTED, "".join(f"            if token != END:\n    {line}\n" for line in NOTED.splitlines())),
         (GOING, "[row for row, token in zip(rows, tokens.tolist(), strict=True) if token != END]")),
        ("rows go on after END", (GOING, "rows"), ("tokens != END)", "tokens == tokens)")),
        ("ids of a reply are plain ints", ("tokens.tolist(), chosen", "tokens, chosen")),
        ("go_on takes two tensors", ("tokens != END)", "(tokens != END).tolist())")),
        ("go_on takes two tensors", ("reader.go_on(tokens,", "reader.go_on(tokens[:, None],")),
        ("returns nothing", ("    return replies", "    return None")),
        ("longer than `limit`", ("range(limit)", "range(limit + 1)")),
    ],
    "logprobs": [
        ("prompt and padding are still in it", (TAKEN, "chosen.flatten()")),
        ("the prompt is still in it", (TAKEN, "chosen[ids[:, 1:] != 0]")),
        ("forgotten the shift", ("[:, :-1]", ""), ("ids[:, 1:, None]", "ids[:, :, None]"), (TAKEN, "chosen[is_reply]")),
        ("the shift goes the wrong way", ("[:, :-1]", "[:, 1:]"), ("ids[:, 1:, None]", "ids[:, :-1, None]"), (TAKEN, "chosen[is_reply[:, :-1]]")),
        ("tokens are shifted and the mask is not", (TAKEN, "chosen[is_reply[:, :-1]]")),
        ("those are logits", (".log_softmax(-1)", "")),
        ("those are probabilities", ("log_softmax(-1)", "softmax(-1)")),
        ("runs over time", ("log_softmax(-1)", "log_softmax(1)")),
        ("no gradient can flow", (TAKEN, TAKEN + ".detach()")),
        ("a tensor is wanted", (TAKEN, TAKEN + ".tolist()")),
    ],
    "policy_loss": [
        ("the sign is missing", ("-(weights", "(weights")),
        ("the sign of the advantage is turned", ("ratio * advantages, clipped * advantages", "ratio * -advantages, clipped * -advantages")),
        ("the clip is missing", (LOWER, "ratio * advantages")),
        ("the clipped ratio alone", (LOWER, "clipped * advantages")),
        ("PPO takes the *minimum*", ("torch.minimum", "torch.maximum")),
        ("the ratio is upside down", ("(new - old)", "(old - new)")),
        ("the *logarithm* of the ratio", ("(new - old).exp()", "new - old")),
        ("`old` plays no part", ("(new - old)", "(new - new.detach())")),
        ("`new` is detached", ("(new - old)", "(new.detach() - old)")),
        ("is REINFORCE", (LOWER, "(new * advantages)")),
        ("weights play no part", ("weights * ", "")),
        ("you take a mean", (".sum()", ".mean()")),
        ("a tensor is wanted", (".sum()", ".sum().item()")),
    ],
    "update": [
        ("forgotten optimizer.zero_grad()", (ZERO, "")),
        ("set to zero after backward()", (ZERO, ""), (CLIPPED, ZERO + CLIPPED)),
        ("set to zero before every small batch", (BACK, "    " + ZERO + BACK)),
        ("not clipped before the step", (CLIPPED, "")),
        ("not clipped before the step", (CLIPPED + STEP, STEP + CLIPPED)),
        ("optimizer.step() is missing", (STEP, "")),
        ("one optimiser step per small batch", (BACK, f"{BACK}    {CLIPPED}    {STEP}    {ZERO}"), (CLIPPED + STEP + "    return", "    return")),
        ("clipped after every small batch", (BACK, f"{BACK}    {CLIPPED}"), (CLIPPED + STEP, STEP)),
        ("the loss of the last small batch", ("total += loss", "total = loss")),
        ("the loss is not returned", ("    return total", "")),
        ("anew, with a gradient", ("is_reply), old", "is_reply), logprobs(model, ids, is_reply)")),
        ("from the weights of now", ("is_reply), old", "is_reply), logprobs(model, ids, is_reply).detach()")),
    ],
    "step": [
        ("it stops with NameError", ("    world.validate(proposals)", "    world.validate(proposal)")),
        ("invalid proposals earn 0", ("-1.0 if", "0.0 if")),
        ("invalid proposals are not trained on", ("for p in proposals]\n    rewards", "for p in valid]\n    rewards"), ("[*proposals,", "[*valid,")),
        ("rewarded proposals with their solve rate", ("learnability(p.rate)", "p.rate")),
        ("a task that nobody solves earns 1", ("learnability(p.rate)", "1.0 - p.rate")),
        ("best of the n scores", ("solve_rate([a.verdict.score for a in p.attempts])", "max(a.verdict.score for a in p.attempts)")),
        ("never enter the buffers", ("        world.keep(p.task)\n", "")),
        ("only learnable tasks are kept", ("        world.keep", "        if 0 < p.rate < 1:\n            world.keep")),
        ("n times in the list", ("[world.pose(p.task) for _ in range(world.n)]", "[world.pose(p.task)] * world.n")),
        ("no task to pose", ("for p in proposals if p.task is not None", "for p in proposals")),
        ("judge was called before reply", ("    world.reply(answers)\n", "")),
        ("only the proposer learns", (LEARNED, "world.learn(proposals, rewards[: len(proposals)])")),
        ("beside the wrong rows", ("[*proposals, *answers]", "[*answers, *proposals]")),
        ("called twice", (LEARNED, "world.learn(proposals, rewards[: len(proposals)])\n    world.learn(answers, rewards[len(proposals) :])")),
        ("wrong answers earn 0", ("answer_reward(a.verdict).total", "a.verdict.score")),
    ],
}  # fmt: skip
"""Exercise of notebook 05: what the check must say, and what replaces what in the worked solution."""


@pytest.mark.parametrize(
    ("name", "told", "swaps"), [(name, told, swaps) for name, slips in SLIPS.items() for told, *swaps in slips]
)
def test_a_slip_in_a_function_of_notebook_05_is_called_by_its_name(name, told, swaps):
    pytest.importorskip("torch")
    from azr_lite.course import own_loop

    source = getsource(getattr(own_loop, name))
    for before, after in swaps:
        assert source.count(before) >= 1, f"{before!r} is not in the worked solution of {name}"
        source = source.replace(before, after)
    exec(source, made := dict(vars(own_loop)))
    found = judge_answer(name, made[name])
    assert found.state == "wrong"
    assert told in found.because


class Tensor:
    """What a check sees of a torch tensor, without the seconds that torch takes to load."""

    __module__ = "torch"

    def __init__(self, values, dtype="torch.float32"):
        self.values, self.dtype = np.float32(values), dtype

    def tolist(self):
        return self.values.tolist()


@pytest.mark.parametrize(
    ("name", "answer"),
    [
        ("trr", lambda *given: Tensor(advantages.trr(*given))),
        ("rloo", lambda *given: Tensor(advantages.rloo(*given))),
        ("loss_weights", lambda *given: Tensor(advantages.loss_weights(*given))),
        ("learnability", lambda rate: Tensor(learnability(rate))),
        ("whiten_sequences", lambda rewards: list(map(float, advantages.whiten_sequences(rewards)))),
        ("judge_deduction", lambda task, answer, *_: Tensor(answer.value == read_value(task.output), "torch.bool")),
    ],
)
def test_tensors_and_lists_are_as_good_as_arrays(name, answer):
    if name == "judge_deduction":
        Tensor.__bool__ = lambda self: bool(self.values)
    assert judge_answer(name, answer).state == "right"


def test_what_only_looks_like_a_known_mistake_is_told_as_a_guess():
    """Each of these got a diagnosis that was not its own."""

    def truthy(task, answer, outcomes, rules):
        return bool(outcomes and outcomes[0].kind == "ok" and outcomes[0].value) and outcomes[0].value == read_value(
            task.output
        )

    def typed_always(a, b, mode):
        try:
            return canonical(a) == canonical(b)
        except ValueError:
            return False

    def last_letter(prompt, task, hidden="output"):
        import dataclasses

        return prompt(dataclasses.replace(task, **{hidden: getattr(task, hidden)[:-1] + "z"})) == prompt(task)

    assert "counts as false" in judge_answer("judge_abduction", truthy).because
    assert "in both modes" in judge_answer("compare", typed_always).because
    assert "last letter only" in judge_answer("blind", last_letter).because
    known = SimpleNamespace(steps={"steps"})
    assert judge_answer("may_change", known.steps).because.startswith("steps is free")

    def half_a_mistake(rate):
        return 1.0 - rate if rate != 1.0 else 0.25  # not one of the list: rewards both ends

    assert not judge_answer("learnability", half_a_mistake).because.startswith("a task that nobody")
