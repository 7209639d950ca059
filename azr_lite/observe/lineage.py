"""What the rest of a run made of some of its proposals: their children, their uses, the programs of their parents.

Comes in: proposals, and a run's tasks.jsonl and rollouts.jsonl, each read once more.  Goes out: the same proposals, filled in.
Not covered: which proposals (`proposals.py`).

Nearly all lines of a long log are about others: they are told from their raw bytes and never parsed.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterable, Iterator

from azr_lite.observe.gather import Picture, lines_of
from azr_lite.observe.proposals import MOST_ANSWER, MOST_RELATIVES, FormChecked, Proposal, cut, proposal_of
from azr_lite.observe.reader import Line

# Read from the raw line: a quote inside a JSON string is escaped, so a key with its quotes is a key. A line in which
# these do not match every key is parsed.
_ID = re.compile(rb'"id": "([^"\\]*)"')
_TASK_ID = re.compile(rb'"task_id": "([^"\\]*)"')
_PARENTS = re.compile(rb'"parents": \[((?:"[^"\\]*"(?:, )?)*)\]')


def trace(picture: Picture, proposals: Iterable[Proposal], also: str = "") -> tuple[dict[str, str], Proposal | None]:
    """Fill in children and uses of these proposals. Returns programs of their parents, by id, and the proposal `also`, filled in too."""
    extra: Proposal | None = None
    wanted: dict[str, list[Proposal]] = {}
    for proposal in proposals:
        if proposal.id:
            wanted.setdefault(proposal.id, []).append(proposal)
    if not wanted and not also:
        return {}, None
    ancestors = {parent for own in wanted.values() for proposal in own for parent in proposal.parents}
    programs: dict[str, str] = {}
    with FormChecked(picture):
        for line in _again(picture, "tasks.jsonl", _related(wanted, ancestors, also)):
            task = line["task"] or {}
            if also and extra is None and task.get("id") == also:
                extra = proposal_of(line)
                wanted.setdefault(also, []).append(extra)
                ancestors.update(
                    extra.parents
                )  # a parent stands before it in the log: its program is known only by luck
            if task.get("id") in ancestors:
                programs[task["id"]] = cut(task["program"], MOST_ANSWER)
            for parent in dict.fromkeys(line["parents"]):
                for proposal in wanted.get(parent, ()):
                    proposal.as_reference.take(line["step"])
                    if task and len(proposal.children) < MOST_RELATIVES:
                        proposal.children.append(task["id"])
        for line in _again(picture, "rollouts.jsonl", _answers(wanted)):
            if line["role"] == "solve":
                for proposal in wanted.get(line["task_id"], ()):
                    proposal.as_task.take(line["step"])
    return programs, extra


def _related(wanted: Collection[str], ancestors: Collection[str], also: str) -> Callable[[bytes], bool]:
    """Whether a raw line of tasks.jsonl may be a proposal that is looked for, or a child of one. The sets may grow while it is asked."""

    def asked(raw: bytes) -> bool:
        own, parents = _ID.findall(raw), _PARENTS.findall(raw)
        if not parents or len(parents) < raw.count(b'"parents": ') or len(own) < raw.count(b'"id": '):
            return True  # one holds a quote or a backslash
        if any((name := _text(one)) in ancestors or name == also for one in own):
            return True
        return any(_text(one) in wanted for text in parents for one in text[1:-1].split(b'", "'))

    return asked


def _answers(wanted: Collection[str]) -> Callable[[bytes], bool]:
    """Whether a raw line of rollouts.jsonl may be an answer to one of these tasks."""

    def asked(raw: bytes) -> bool:
        own = _TASK_ID.search(raw)
        return own is None or _text(own[1]) in wanted

    return asked


def _text(raw: bytes) -> str:
    return raw.decode("utf-8", "replace")


def _again(picture: Picture, name: str, wanted: Callable[[bytes], bool]) -> Iterator[Line]:
    """The wanted lines of a log whose absence has been noted already, or need not be."""
    return lines_of(picture, name, wanted) if (picture.run.path / name).exists() else iter(())
