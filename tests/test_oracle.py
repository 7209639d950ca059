"""An oracle from outside: thousands of triplets that the authors' own runs produced, and what a strict validator should say.

`../shared/data/azr_seeds/oracle.jsonl` was computed apart from this project, by re-running every item in fresh processes
under three hash seeds. Each stored output must be reproduced where the item is deterministic and literal; each rejection
must carry the reason that fits.
"""

import json
import re
from collections import Counter, defaultdict

import pytest

from azr_lite.parsing import parse_arguments, parse_literal, parse_program
from azr_lite.sandbox.wire import compare
from azr_lite.triplet import Rejection

# The oracle's reason -> the reasons of ours that say the same.
FITTING = {
    "input_not_literal": {"input_not_literal", "too_long"},
    "output_too_long": {"output_too_long", "memory", "timeout"},
    "needs_third_party_module": {"forbidden_import"},
    "output_not_literal": {"output_not_literal", "non_deterministic"},
    "nondeterministic_across_hash_seeds": {"non_deterministic", "forbidden_import", "output_not_literal"},
    "stateful_across_calls": {"non_deterministic", "forbidden_import"},
    "raises_StopIteration": {"exception"},
    "raises_PermissionError": {"exception", "policy", "timeout"},
}
# Where our policy differs from the oracle's, on purpose.
STORED_LIMIT = 400  # the authors' code cut longer outputs, so there is nothing to compare with
KEYWORD = re.compile(r"\b[a-z]\w*\s*=")  # inputs such as `[1], n=2`: positional literals only
MODULES = {
    "import secrets",
    "import queue",
    "import os",
    "import base64",
}  # deterministic uses of modules we do not allow


def accepted_by_policy(fact, value):
    """The oracle rejects, we accept: None and infinities are values; sets and dicts are compared by value, not by their text."""
    reasons = set(fact["reasons"])
    return (
        reasons == {"output_none"}
        or ("output_too_long" in reasons and len(repr(value)) > STORED_LIMIT)
        or (reasons == {"output_not_literal"} and "inf" in repr(value))
        or (reasons <= {"nondeterministic_across_hash_seeds", "output_not_literal"} and unordered(value))
    )


def unordered(value):
    """Whether a set or a dict stands anywhere in the value, so that its text may differ while it is the same."""
    inside = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return isinstance(value, set | frozenset | dict) or any(unordered(item) for item in inside)


def rejected_by_policy(reason, source, given):
    """The oracle accepts, we reject."""
    return (reason == "input_not_literal" and KEYWORD.search(given)) or (
        reason == "forbidden_import" and source.splitlines()[0] in MODULES
    )


def rows(folder):
    for path in sorted(folder.glob("*_seed_io.jsonl")):
        for number, line in enumerate(path.read_text().splitlines()):
            row = json.loads(line)
            pairs = (
                list(zip(row["inputs"], row["outputs"], strict=True))
                if "inputs" in row
                else [(row["input"], row["output"])]
            )
            yield path.name, number, "\n".join([*row["imports"], row["snippet"]]), pairs


@pytest.fixture(scope="module")
def verdicts(executor, shared_data):
    """(file, row, pair) -> (our reason or "ok", our value, the stored text), for every stored fact."""
    folder = shared_data / "azr_seeds"
    oracle = {
        (d["file"], d["row"], d["pair"] or 0): d
        for d in map(json.loads, (folder / "oracle.jsonl").read_text().splitlines())
    }
    found, jobs = {}, defaultdict(list)
    for name, number, source, pairs in rows(folder):
        program = parse_program(source, 20_000)
        for k, (given, stored) in enumerate(pairs):
            arguments = program if isinstance(program, Rejection) else parse_arguments(given, 4096)
            if isinstance(arguments, Rejection):
                found[name, number, k] = (str(arguments.reason), None, stored)
            else:  # one child for all that a program should accept, one for each pair that it should not
                own = None if oracle[name, number, k]["verdict"] == "accept" else (name, number, k)
                jobs[program, own].append(((name, number, k), arguments, stored))
    answers = executor.validate_many(
        [(program, [arguments for _, arguments, _ in own]) for (program, _), own in jobs.items()]
    )
    for own, validation in zip(jobs.values(), answers, strict=True):
        for index, (key, _, stored) in enumerate(own):
            found[key] = (
                ("ok", validation.outputs[index], stored)
                if validation.ok
                else (validation.reason, validation.detail, stored)
            )
    return oracle, found


def test_every_stored_fact_has_a_verdict(verdicts):
    oracle, found = verdicts
    assert found.keys() == oracle.keys()
    assert len(found) > 8000


def test_accepted_facts_are_accepted_and_reproduce_the_stored_value(verdicts, shared_data):
    oracle, found = verdicts
    text = {(name, number): (source, pairs) for name, number, source, pairs in rows(shared_data / "azr_seeds")}
    wrong, by_policy = [], Counter()
    for key, fact in oracle.items():
        reason, value, stored = found[key]
        source, pairs = text[key[:2]]
        if fact["verdict"] == "accept" and (reason != "ok" or not same(value, stored)):
            if rejected_by_policy(reason, source, pairs[key[2]][0]):
                by_policy[reason] += 1
            else:
                wrong.append((key, reason, value, stored))
    assert wrong == []
    assert by_policy == {"input_not_literal": 50, "forbidden_import": 4}


def same(value, stored):
    want = parse_literal("answer", stored, 4096)
    return (
        stored == "dict(a=1, b=2)" and value == {"a": 1, "b": 2}
        if isinstance(want, Rejection)
        else compare(value, want)
    )


def test_every_rejection_is_explained(verdicts, capsys):
    oracle, found = verdicts
    table, unexplained = Counter(), []
    for key, fact in oracle.items():
        reason = found[key][0]
        if fact["verdict"] == "accept":
            continue
        table["+".join(fact["reasons"]), reason] += 1
        wanted = set().union(*(FITTING.get(r, set()) for r in fact["reasons"]))
        if reason == "ok":
            if not accepted_by_policy(fact, found[key][1]):
                unexplained.append((key, fact["reasons"], reason))
        elif reason not in wanted:
            unexplained.append((key, fact["reasons"], reason))
    with capsys.disabled():
        print("\nrejections: the oracle's reasons, ours, how many")
        for (theirs, ours), count in sorted(table.items()):
            print(f"  {theirs:55s} {ours:20s} {count:4d}")
    assert unexplained == []
