"""The verbs `plan` and `doctor` (without a path): words in, text out.

Comes in: the words after the verb.  Goes out: an exit status: 0 done, 1 the sandbox leaks.
Not covered: any logic of its own; what a run suffers from (`observe/commands.py`).
"""

from __future__ import annotations

import dataclasses
import json

from azr_lite.errors import ConfigError
from azr_lite.flags import parse, take_value

PLAN_USAGE = "What fits and how long: azr-lite plan [PRESET] [any setting] [--gpu 16GB] [--why] [--json] [--markdown]."


def plan(words: list[str]) -> int:
    """What fits and how long: one preset, settings of one's own, or, without words, a table of all presets."""
    from azr_lite.config import Config
    from azr_lite.planner.plan import plan as work_out
    from azr_lite.planner.plan import plan_all
    from azr_lite.planner.text import plan_table, plan_text, why_text
    from azr_lite.presets import list_presets, preset

    gpu, words = take_value(words, "--gpu", "16GB")
    asked = {flag for flag in ("--json", "--why", "--markdown") if flag in words}
    words = [word for word in words if word not in asked]
    name, words = take_value(words, "--preset", "nano")
    if words and not words[0].startswith("-"):
        name, words = words[0], words[1:]
    if "-h" in words or "--help" in words:
        print(f"{PLAN_USAGE}\npresets: {', '.join(list_presets())}\nsettings as in: azr-lite run --help")
        return 0
    if name is None:
        if words or gpu or "--why" in asked:
            raise ConfigError(
                "which preset is meant? give its name first, such as: azr-lite plan lora-1.5b-16gb --gpu 12GB"
            )
        plans = plan_all()
        as_json = json.dumps([found.as_dict() for found in plans], indent=1)
        print(as_json if "--json" in asked else plan_table(plans, "--markdown" in asked))
        return 0
    if "--why" in asked:
        print(why_text(preset(name).preset))  # an unknown name is answered with the nearest one
        return 0
    config = parse(Config, words, "plan", default=preset(name))
    found = work_out(config, gpu)
    text = plan_table([found], markdown=True) if "--markdown" in asked else plan_text(found)
    print(json.dumps(found.as_dict(), indent=1) if "--json" in asked else text)
    return 0


def doctor(words: list[str]) -> int:
    """What this machine offers, or whether its sandbox holds."""

    @dataclasses.dataclass
    class Arguments:
        sandbox: bool = False
        """Run the abuse suite against the sandbox on this machine; the exit status is 1 on any leak."""
        json: bool = False
        """Print JSON."""

    given = parse(Arguments, words, "doctor")
    if given.sandbox:
        from azr_lite.sandbox.abuse import abuse_suite

        report = abuse_suite()
        print(json.dumps(report.as_dict(), indent=2) if given.json else report.text())
        return 1 if report.leaks else 0
    from azr_lite.planner.text import describe_machine, machine_text

    facts = describe_machine()
    print(json.dumps(facts, indent=2) if given.json else machine_text(facts))
    return 0
