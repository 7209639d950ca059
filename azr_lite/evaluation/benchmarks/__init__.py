"""Every suite by name, and the groups that users type: the runner knows no benchmark but through this."""

from __future__ import annotations

from collections.abc import Callable

from azr_lite.evaluation import reasoning
from azr_lite.evaluation.benchmarks import code, maths
from azr_lite.evaluation.benchmarks.livecodebench import livecodebench_suite
from azr_lite.evaluation.benchmarks.paper_table import averages as averages
from azr_lite.evaluation.benchmarks.paper_table import beside_paper as beside_paper
from azr_lite.evaluation.benchmarks.paper_table import in_paper as in_paper
from azr_lite.evaluation.suite import Setting, Suite

REASONING = ("cruxeval-o-strict", "cruxeval-i-strict", "induction-hint", "induction-nohint")
BUILDERS: dict[str, Callable[[str, Setting], Suite]] = {
    **dict.fromkeys((*REASONING, "cruxeval-o-all", "cruxeval-i-all", "held-out", "triplets"), reasoning.build),
    **dict.fromkeys(code.SUITES, code.code_suite),
    "livecodebench-v5": livecodebench_suite,
    **dict.fromkeys(maths.NAMES, maths.maths_suite),
}
"""Name to the function that builds the suite of that name for a `Setting`; EvaluationError where it cannot be had."""

CODE = ("humanevalplus", "mbppplus", "livecodebench-v5")
MATHS = tuple(name for name in maths.NAMES if not name.endswith(maths.AVERAGED))
GROUPS = {"reasoning": REASONING, "games": REASONING, "code": CODE, "math": MATHS, "all": (*REASONING, *CODE, *MATHS)}
"""``games`` is the old spelling of ``reasoning``."""
