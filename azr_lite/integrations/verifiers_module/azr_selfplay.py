"""Self-play as an environment of `verifiers` (0.4), with a proposer's and a solver's seat.

One episode is one proposal: the proposer is asked for a task, the sandbox validates it, the solver tries it `n_mc`
times. Both seats are rewarded as in self-play. Each reply is one request to the server's chat endpoint.
verifiers finds an environment by the name of a top-level module, so this file's folder goes on PYTHONPATH.
"""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Iterator

import httpx
import verifiers.v1 as vf
from pydantic import Field

from azr_lite.integrations.datasets import TYPES, player, read_rows, solve_prompt, task_of, verdicts, written
from azr_lite.prompts.base import THINK
from azr_lite.rewards import answer_reward, proposal_reward, solve_rate
from azr_lite.triplet import Completion, ProposalAttempt, Verdict, task_from_json

__all__ = ["OneReply", "SelfPlayEnv", "SelfPlayTaskset"]


class Invention(vf.TaskData):
    """What a proposer is asked: a task of type `kind`, from `references` (JSON lines)."""

    kind: str
    references: list[str]


class Invent(vf.Task[Invention]):
    """Rewarded by the environment, once the solver has tried what was invented."""


class Problem(vf.TaskData):
    """What a solver is asked: an invented task, as a JSON line."""

    task: str


class Solve(vf.Task[Problem]):
    """Rewarded by the verifier."""

    @vf.reward
    async def answer(self, trace: vf.Trace) -> dict[str, float]:
        """1 right, -0.5 wrong, -1 not well formed. The metric `score` is what the solve rate is made of."""
        task = task_from_json(json.loads(self.data.task))
        [verdict] = await asyncio.to_thread(verdicts, player("chat"), [(task, reply_of(trace))])
        trace.record_metric("score", verdict.score)
        return answer_reward(verdict).parts


class SelfPlayTasksetConfig(vf.TasksetConfig):
    """What proposers are shown. `run`: a run, or what `azr-lite tasks` wrote; empty: the zero triplet alone."""

    run: str = ""
    task_types: list[str] = Field(default_factory=lambda: list(TYPES))
    count: int = 60
    """Prompts."""


class SelfPlayTaskset(vf.Taskset[Invent, SelfPlayTasksetConfig]):
    """Prompts for proposers, the task types in turn."""

    def __init__(self, config: SelfPlayTasksetConfig) -> None:
        super().__init__(config)
        self.play = player("chat", config.task_types, map(task_of, read_rows(config.run) if config.run else ()))

    def load(self) -> Iterator[Invent]:
        proposals = (one for step in itertools.count() for one in self.play.sample_references(step))
        for one in itertools.islice(proposals, self.config.count):
            lines = [task.to_line() for task in one.references]
            yield Invent(Invention(prompt=one.prompt.removesuffix(THINK), kind=one.type, references=lines))


class OneReply(vf.Harness[vf.HarnessConfig]):
    """A seat's program: one request, no tools. It runs in this process."""

    EXECUTES_CODE = NEEDS_CONTAINER = False

    async def launch(self, ctx, trace, runtime, endpoint, secret, mcp_urls, data) -> vf.ProgramResult:
        asked = {"model": ctx.model, "messages": [{"role": "user", "content": data.prompt}]}
        key, address = {"Authorization": f"Bearer {secret}"}, f"{endpoint}/chat/completions"
        async with httpx.AsyncClient(timeout=None) as client:  # verifiers has limits of its own
            said = await client.post(address, json=asked, headers=key)
        return vf.ProgramResult(int(said.is_error), "", said.text if said.is_error else "")


class SelfPlayEnvConfig(vf.EnvConfig):
    """The two seats, and how often the solver tries each task (2 or more)."""

    proposer: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    solver: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    n_mc: int = 4


class SelfPlayEnv(vf.Env[SelfPlayEnvConfig]):
    """One proposal and its attempts, rewarded by equations 4 to 6 of the paper."""

    async def run(self, task: Invent, agents: vf.Agents) -> None:
        trace, play = await agents.proposer.run(task), self.taskset.play
        if not trace.ok:
            return
        references = [task_from_json(json.loads(line)) for line in task.data.references]
        proposal = ProposalAttempt(task.data.kind, references, task.data.prompt_text, reply_of(trace))
        await asyncio.to_thread(play.validate, [proposal])
        if proposal.task is None:
            trace.info["rejected"] = f"{proposal.verdict.reason}: {proposal.verdict.detail}"
            return
        prompt = solve_prompt(play, proposal.task).removesuffix(THINK)
        async with asyncio.TaskGroup() as attempts:
            for _ in range(self.config.n_mc):
                attempts.create_task(agents.solver.run(Solve(Problem(prompt=prompt, task=proposal.task.to_line()))))

    async def finalize(self, task: Invent, episode: vf.Episode) -> None:
        if not all(trace.ok for trace in episode.traces):
            return  # a reply is missing: verifiers counts the episode as failed
        [proposal], tried = episode.by_agent["proposer"], episode.by_agent.get("solver", [])
        rate = solve_rate([trace.metrics["score"] for trace in tried]) if tried else None
        for name, value in proposal_reward(Verdict(ok=bool(tried), well_formed=True), rate).parts.items():
            proposal.record_reward(name, value)
        proposal.record_metrics({"valid": bool(tried)} | ({"solve_rate": rate} if tried else {}))


def reply_of(trace: vf.Trace) -> Completion:
    """The last reply, with the thought that the server took out of it."""
    [*_, said] = trace.assistant_messages
    return written(said.content or "", said.reasoning_content)
