"""Self-play as an environment of `verifiers` (0.4), with a proposer's and a solver's seat: ``vf-eval azr-selfplay``.

One episode is one proposal: the proposer is asked for a task, the sandbox validates it, the solver tries it `n_mc`
times. Both seats are paid as in self-play. Each reply is one request to the server's chat endpoint.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
import random
from collections.abc import Iterator

import httpx
import verifiers.v1 as vf

from azr_lite.buffer import task_key
from azr_lite.integrations import TYPES, shared_verifier, verdicts
from azr_lite.integrations.datasets import read_rows, task_of
from azr_lite.parsing import forged_markup
from azr_lite.prompts.words import CHAT
from azr_lite.rewards import answer_reward, proposal_reward, solve_rate
from azr_lite.tasks.base import get_task_type
from azr_lite.triplet import SEED_SHARING_TYPES, Reason, Rejection, Role, Task, Verdict, task_from_json
from azr_lite.verifier import guarded


class Invention(vf.TaskData):
    """What a proposer is asked: a task of type `kind`, from `references` (JSON lines)."""

    kind: str
    references: list[str]


class Problem(vf.TaskData):
    """What a solver is asked: an invented task, as a JSON line."""

    task: str


class Invent(vf.Task[Invention]):
    """Paid by the environment, once the solver has tried what was invented."""


class Solve(vf.Task[Problem]):
    """Paid by the verifier."""

    @vf.reward
    async def answer(self, trace: vf.Trace) -> dict[str, float]:
        """1 right, -0.5 wrong, -1 not well formed. The metric `score` is what the solve rate is made of."""
        task = task_from_json(json.loads(self.data.task))
        [verdict] = await asyncio.to_thread(verdicts, CHAT, [(task, reply_of(trace))])
        trace.record_metric("score", verdict.score)
        return answer_reward(verdict).parts


class SelfPlayTasksetConfig(vf.TasksetConfig):
    """What proposers are shown."""

    run: str = ""
    """A run, or what `azr-lite tasks` wrote: references are drawn from its tasks. Empty: the zero triplet alone."""
    task_types: tuple[str, ...] = TYPES
    references: int = 6
    """Per prompt."""
    count: int = 60
    """Prompts."""


class SelfPlayTaskset(vf.Taskset[Invent, SelfPlayTasksetConfig]):
    """Prompts for proposers, the task types in turn."""

    def load(self) -> Iterator[Invent]:
        known = [task_of(row) for row in read_rows(self.config.run)] if self.config.run else []
        for number in range(self.config.count):
            kind = get_task_type(self.config.task_types[number % len(self.config.task_types)])
            types, most = (kind.name,), self.config.references
            if kind.propose_from == "programs":
                types, most = SEED_SHARING_TYPES, 1
            own = [one for one in known if one.type in types] or [get_task_type(types[0]).zero_task()]
            shown = random.Random(number).sample(own, min(len(own), most))
            prompt = kind.propose_prompt(CHAT, shown, shared_verifier().rules).removesuffix(CHAT.prefill)
            lines = [one.to_line() for one in shown]
            yield Invent(Invention(prompt=prompt, kind=kind.name, references=lines), self.config.task)


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
    """The two seats."""

    proposer: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    solver: vf.AgentConfig = vf.AgentConfig(runtime=vf.SubprocessConfig())
    n_mc: int = 4
    """Attempts of the solver per invented task, 2 or more."""


class SelfPlayEnv(vf.Env[SelfPlayEnvConfig]):
    """One proposal and its attempts, paid by equations 4 to 6 of the paper."""

    async def run(self, task: Invent, agents: vf.Agents) -> None:
        proposal = await agents.proposer.run(task)
        made = await asyncio.to_thread(invented, task.data, reply_of(proposal)) if proposal.ok else None
        if isinstance(made, Rejection):
            proposal.info["rejected"] = f"{made.reason}: {made.detail}"
        elif made is not None:
            prompt = get_task_type(made.type).solve_prompt(CHAT, made, shared_verifier().rules)
            problem = Solve(Problem(prompt=prompt.removesuffix(CHAT.prefill), task=made.to_line()))
            async with asyncio.TaskGroup() as attempts:
                for _ in range(self.config.n_mc):
                    attempts.create_task(agents.solver.run(problem))

    async def finalize(self, task: Invent, episode: vf.Episode) -> None:
        if not all(trace.ok for trace in episode.traces):
            return  # a reply is missing: verifiers counts the episode as failed
        [proposal], tried = episode.by_agent["proposer"], episode.by_agent.get("solver", [])
        rate = solve_rate([trace.metrics["score"] for trace in tried]) if tried else None
        for name, value in proposal_reward(Verdict(ok=bool(tried), well_formed=True), rate).parts.items():
            proposal.record_reward(name, value)
        proposal.record_metrics({"valid": bool(tried)} | ({"solve_rate": rate} if tried else {}))


def reply_of(trace: vf.Trace) -> str:
    """The last reply, with the thought that the server took out of it."""
    [*_, said] = trace.assistant_messages
    return (f"{said.reasoning_content}</think>" if said.reasoning_content else "") + (said.content or "")


def invented(asked: Invention, text: str) -> Task | Rejection:
    """The task in a proposer's reply, validated in the sandbox, or why there is none."""
    kind, verifier = get_task_type(asked.kind), shared_verifier()
    references = [task_from_json(json.loads(line)) for line in asked.references]
    said = CHAT.read(Role.PROPOSE, asked.prompt_text, text, verifier.rules)
    if not isinstance(said, Rejection):
        said = guarded(kind.parse_proposal, said, references, verifier.rules)
    [made] = verifier.validate([(asked.kind, said)])
    if isinstance(made, Rejection):
        return made
    for quoted in (made.program, *made.inputs, *made.outputs, getattr(made, "message", "")):
        if forged := forged_markup(quoted):
            return Rejection(Reason.MARKUP, f"it holds {forged}")
    return dataclasses.replace(made, id=task_key(made))
