"""The bug museum: mistakes that real re-implementations made, to be switched on, watched, and recognised.

    with bug("greedy Monte-Carlo"):
        azr_lite.run("nano", output_dir="runs/sick", self_test=False)

`python -m azr_lite.course.bugs [--steps N] [--folder F] [--keep F]` runs each once, beside a healthy run, and says what
to look at. No setting reaches this module.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import azr_lite.selfplay as selfplay_module
from azr_lite.course.experiments import replaced
from azr_lite.course.recorded_runs import keep_sample
from azr_lite.errors import ConfigError
from azr_lite.metrics import across
from azr_lite.rundir import RunDir, write_json
from azr_lite.selfplay import Generate, SelfPlay
from azr_lite.triplet import Rejection, Role, Rollout
from azr_lite.verifier import Verifier, _key

Patch = tuple[Any, str, Any]
"""Owner, attribute, and what takes its place."""


@dataclass(frozen=True)
class Bug:
    """`symptom`: what a run shows. `patches` is called when the bug is switched on (some need torch)."""

    name: str
    mistake: str
    symptom: str
    patches: Callable[[], list[Patch]]


BUGS: dict[str, Bug] = {}


def _bug(name: str, mistake: str, symptom: str) -> Callable[[Callable[[], list[Patch]]], Callable[[], list[Patch]]]:
    def register(patches: Callable[[], list[Patch]]) -> Callable[[], list[Patch]]:
        BUGS[name] = Bug(name, mistake, symptom, patches)
        return patches

    return register


@contextmanager
def bug(name: str) -> Iterator[Bug]:
    """Every run inside has this bug. ConfigError for an unknown name."""
    if name not in BUGS:
        raise ConfigError(f"there is no bug {name!r}; known: {', '.join(BUGS)}")
    with ExitStack() as stack:
        for patch in BUGS[name].patches():
            stack.enter_context(replaced(*patch))
        yield BUGS[name]


def _rewarded(change: Callable[[SelfPlay, Rollout], float]) -> list[Patch]:
    """Stage 9 with another reward: `change` gives that of each rollout."""
    healthy = SelfPlay.reward

    def reward(self: SelfPlay, proposals: Sequence[Any], answers: Sequence[Any]) -> list[Rollout]:
        rollouts = healthy(self, proposals, answers)
        pairs = [(r, change(self, r)) for r in rollouts]
        return [dataclasses.replace(r, reward=reward, reward_parts={"bug": reward}) for r, reward in pairs]

    return [(SelfPlay, "reward", reward)]


@_bug("sign flip", "the loss is maximised", "solve rates fall; the self-test at the start refuses to run")
def _sign_flip() -> list[Patch]:
    from azr_lite.train.trainer import SelfPlayTrainer

    healthy = SelfPlayTrainer._compute_loss
    return [(SelfPlayTrainer, "_compute_loss", lambda self, model, inputs: -healthy(self, model, inputs))]


@_bug(
    "format collapse",
    "the format ladder stands on its head: a wrong answer costs -1, a reply without form nothing",
    "solve/*/well_formed falls wherever tasks are hard",
)
def _format_collapse() -> list[Patch]:
    def reward(self: SelfPlay, r: Rollout) -> float:
        if r.role == Role.PROPOSE or r.verdict.ok:
            return r.reward
        return -1.0 if r.verdict.well_formed else 0.0

    return _rewarded(reward)


@_bug(
    "trivial tasks",
    "the proposer is rewarded with the solve rate, not one minus it",
    "propose/*/solve_rate climbs to 1, programs get shorter",
)
def _trivial_tasks() -> list[Patch]:
    return _rewarded(lambda self, r: r.solve_rate if r.role == Role.PROPOSE and r.solve_rate is not None else r.reward)


@_bug(
    "impossible tasks",
    "a task that is never solved earns the full 1: no zero at the lower end of learnability",
    "propose/*/solve_rate sinks to 0, propose/*/learnable with it",
)
def _impossible_tasks() -> list[Patch]:
    return _rewarded(lambda self, r: 1 - r.solve_rate if r.role == "propose" and r.solve_rate is not None else r.reward)


@_bug(
    "length blow-up",
    "every token of a solver's reply earns 0.02, as if length were thought",
    "solve/*/tokens and solve/*/truncated climb",
)
def _length_blow_up() -> list[Patch]:
    return _rewarded(lambda self, r: r.reward + 0.02 * len(r.completion_ids) if r.role == Role.SOLVE else r.reward)


@_bug(
    "greedy Monte-Carlo",
    "the n replies to one task are all the same",
    "every solve rate is 0 or 1, learnability is always 0",
)
def _greedy_monte_carlo() -> list[Patch]:
    healthy = SelfPlay.monte_carlo

    def monte_carlo(self: SelfPlay, proposals: Sequence[Any], generate: Generate, step: int) -> Any:
        def same(prompts: Sequence[str], role: Role) -> list[Any]:
            first = dict(zip(reversed(prompts), reversed(generate(prompts, role)), strict=True))
            return [first[prompt] for prompt in prompts]

        return healthy(self, proposals, same, step)

    return [(SelfPlay, "monte_carlo", monte_carlo)]


@_bug(
    "non-determinism leak",
    "a program is run once and believed",
    "tasks whose answer nobody can know: wrong gold, solve rate 0 (the nano language has no such operation; larger "
    "models find them)",
)
def _non_determinism_leak() -> list[Patch]:
    from azr_lite.sandbox import Job
    from azr_lite.sandbox.executor import verdict

    def validate(self: Verifier, items: Sequence[Any]) -> list[Any]:
        proposals = {_key(p): p for _, p in items if not isinstance(p, Rejection)}
        outcomes = self.executor.run_many([Job(p.program, p.inputs) for p in proposals.values()])
        found = dict(zip(proposals, map(verdict, outcomes), strict=True))
        self.outcome_counts.update(validation.reason or "ok" for validation in found.values())
        return [self._task(kind, proposal, found) for kind, proposal in items]

    return [(Verifier, "validate", validate)]


@_bug(
    "per-role old log-probabilities",
    "roles are updated one after the other, and the old log-probabilities are taken anew before each update",
    "clip_ratio is 0 for ever: the ratio is always 1, so nothing limits how far a step goes",
)
def _per_role_old_logps() -> list[Patch]:
    from azr_lite.train.trainer import SelfPlayTrainer

    healthy = SelfPlayTrainer._prepare_inputs

    def prepare(self: Any, inputs: Any) -> Any:
        return {**healthy(self, inputs), "old_per_token_logps": None}

    def role_after_role(batch: list[Rollout], updates: int, rng: Any, **_: bool) -> list[list[Rollout]]:
        return [sorted(batch, key=lambda r: r.role)]

    return [(SelfPlayTrainer, "_prepare_inputs", prepare), (selfplay_module, "split_into_updates", role_after_role)]


def sick_run(name: str, folder: Path, **overrides: Any) -> Path:
    """One nano run with this bug ("healthy" for none); returns its directory."""
    from azr_lite.loop import run

    path = folder / name.replace(" ", "-").lower()
    if not (path / "summary.json").exists():
        with ExitStack() as stack:
            if name != "healthy":
                stack.enter_context(bug(name))
            run("nano", output_dir=str(path), **{"self_test": False, **overrides})
    return path


def symptoms(path: Path) -> dict[str, dict[str, float]]:
    """What the museum's plates say: first and last fifth of a run, averaged over task types."""
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    fifth = max(1, len(lines) // 5)
    names = {
        "solved": ("solve/", "/ok"),
        "well formed": ("solve/", "/well_formed"),
        "reply tokens": ("solve/", "/tokens"),
        "cut": ("solve/", "/truncated"),
        "tasks' solve rate": ("propose/", "/solve_rate"),
        "learnable": ("propose/", "/learnable"),
        "valid": ("propose/", "/ok"),
        "clip ratio": ("clip_ratio", ""),
    }
    found = {}
    for name, (start, end) in names.items():
        values = [across(line, start, end) if end else [line[start]] if start in line else [] for line in lines]
        means = [sum(v) / len(v) for v in values if v]
        found[name] = {"first": sum(means[:fifth]) / fifth, "last": sum(means[-fifth:]) / fifth}
    return found


def main() -> None:
    """Run every bug once, beside a healthy run."""
    parser = argparse.ArgumentParser(prog="python -m azr_lite.course.bugs", description=main.__doc__)
    parser.add_argument("--steps", type=int, default=25, help="self-play steps of each run")
    parser.add_argument("--seed", type=int, default=0, help="of every run")
    parser.add_argument("--folder", type=Path, default=Path("runs/bugs"), help="where the runs go")
    parser.add_argument("--keep", type=Path, help="also keep metrics and some rollouts of each run here")
    given = parser.parse_args()
    report = {}
    for name in ("healthy", *BUGS):
        path = sick_run(name, given.folder, steps=given.steps, seed=given.seed, eval_problems=100)
        summary = json.loads((path / "summary.json").read_text())
        gain = summary["gain"]["all"]["gain"]
        plate = {"held-out gain": gain, **symptoms(path)}
        report[name] = plate | ({"mistake": BUGS[name].mistake, "symptom": BUGS[name].symptom} if name in BUGS else {})
        if given.keep is not None:
            keep_sample(RunDir.open(path), given.keep / path.name)
        print(f"{name}: {BUGS[name].symptom if name in BUGS else 'nothing wrong'}")
        shown = [key for key, value in plate.items() if isinstance(value, dict)]
        print("   " + "; ".join(f"{key} {plate[key]['first']:.2f} -> {plate[key]['last']:.2f}" for key in shown))
        print(f"   held-out accuracy {100 * gain:+.1f} points", flush=True)
    if given.keep is not None:
        from azr_lite.environment import describe_environment

        facts = {"steps": given.steps, "seed": given.seed, "environment": describe_environment()}
        write_json(given.keep / "symptoms.json", {**facts, "runs": report})


if __name__ == "__main__":
    main()
