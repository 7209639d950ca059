"""The course as a table: its notebooks, what each needs and teaches, and the headers made from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

REPOSITORY = "azr-lite/azr-lite"
"""Where badges point: owner/name on GitHub. A fork changes this line and runs `make notebooks`."""

WORDS_PER_MINUTE = 200
"""Reading speed behind "minutes to read"."""

BEGIN, END = "<!-- header: made by make notebooks -->", "<!-- /header -->"

BLOB = f"https://github.com/{REPOSITORY}/blob/main/"
ADDRESS = f"https://github.com/{REPOSITORY}/archive/refs/heads/main.zip"
"""Where the install cell finds the package when neither a checkout nor a wheel is there. An index may hold another
package of this name, so its bare name is never asked for."""

LIGHT, CORE = "azr_lite numpy matplotlib", "jinja2 rich tyro"
TRAIN = "torch transformers trl peft accelerate datasets safetensors"

INSTALL = '''\
# @title Setup: looks for what this notebook needs, and installs what is missing
import importlib.util, pathlib, subprocess, sys
NEEDS = """{needs}"""
EXTRA = "{extra}"
# Never by a bare name: an index may hold another package that is called so.
ADDRESS = "{source}"

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
                         "this cell again.")'''
"""The first code cell of every notebook, word for word but for what it needs."""


@dataclass(frozen=True)
class Lesson:
    """One notebook. `stem`: its files' name. `needs`: what its reader knows before, `able`: can do afterwards.

    `torch`: whether it needs the [train] extra. `light`: whether numpy and matplotlib will do, without the package's
    other dependencies.
    """

    stem: str
    title: str
    needs: str
    able: tuple[str, ...]
    torch: bool = False
    light: bool = True

    @property
    def number(self) -> str:
        return self.stem[:2]

    @property
    def extra(self) -> str:
        return "train,notebooks" if self.torch else "notebooks"

    @property
    def modules(self) -> str:
        """What the install cell looks for."""
        return LIGHT + (f" {CORE}\n{TRAIN}" if self.torch else "" if self.light else f" {CORE}")


COURSE: tuple[Lesson, ...] = (
    Lesson("00_ten_minutes", "Absolute Zero in ten minutes", "Python; nothing else", (
        "say what *propose*, *solve* and *verify* mean", "run one whole self-play step",
        "tell what your machine can run")),
    Lesson("01_triplets", "Task triplets: one program, three task types", "notebook 00", (
        "build deduction, abduction and induction from a triplet", "judge answers by value", "keep a buffer")),
    Lesson("02_executor", "The executor: code you do not trust", "notebook 01", (
        "run hostile programs under limits", "prove that a program is deterministic",
        "say what the sandbox does not stop")),
    Lesson("03_rewards", "Rewards: who is a good teacher?", "notebook 01", (
        "compute learnability", "add the format ladder", "foresee reward hacks")),
    Lesson("04_trr", "TRR++: six baselines instead of one", "notebook 03; means and standard deviations", (
        "derive TRR++",
        "compare it with REINFORCE++ (one global baseline), GRPO, RLOO and Dr. GRPO on the same rollouts",
        "explain token against sequence whitening")),
    Lesson("05_build_it", "Absolute Zero in 130 lines", "notebooks 00 to 04; tensors in PyTorch", (
        "write sampling, log-probabilities, loss, update and the outer loop",
        "train a language model by self-play yourself",
        "show that your loss and gradient are the package's"), torch=True),
    Lesson("06_learn", "Watch it learn on your laptop", "notebooks 00 to 05", (
        "run self-play with the embedded model", "read all curves", "stop and resume a run", "ablate one piece"),
        torch=True),
    Lesson("07_lora", "LoRA self-play on one GPU", "notebook 06; what a linear map in PyTorch is", (
        "plan memory", "say what the numbers of a real model's run allow",
        "launch, watch, stop and resume a run", "publish an adapter"), torch=True),
    Lesson("08_reading_a_run", "Reading a run", "notebooks 03 to 06", (
        "diagnose collapse, hacking and plateaus",
        "compare base and trained models with intervals",
        "find the paper's findings in your own run"), light=False),
    Lesson("09_scaling", "Scaling to 3B–14B full fine-tuning", "notebook 07", (
        "do the memory arithmetic",
        "choose between LoRA, 8-bit Adam, FSDP, ZeRO and vLLM",
        "go headless on many GPUs"), light=False),
    Lesson("10_make_it_yours", "Make it yours", "notebooks 01 to 03", (
        "add a task type in about 60 lines", "test it", "report it")),
)  # fmt: skip


def lesson_of(number: str) -> Lesson:
    """The lesson of that number ("03"); KeyError for others."""
    return {lesson.number: lesson for lesson in COURSE}[number]


def install_cell(lesson: Lesson) -> str:
    """The install cell's source."""
    made = INSTALL.replace("{needs}", lesson.modules).replace("{extra}", lesson.extra)
    return made.replace("{source}", ADDRESS)


def header(lesson: Lesson, words: int, work: str, measured: Mapping[str, Any]) -> str:
    """The header, markdown: badges, aims, prerequisites, budget, versions, what comes next.

    `work`: what the exercises cost.
    """
    path = f"{REPOSITORY}/blob/main/notebooks/{lesson.stem}.ipynb"
    kaggle = "https://kaggle.com/static/images/open-in-kaggle.svg"
    nbviewer = "https://img.shields.io/badge/render-nbviewer-orange"
    badges = (
        f"[![Open in Colab](https://colab.research.google.com/assets/colab-badge.svg)]({colab(lesson)})",
        f"[![Open in Kaggle]({kaggle})](https://kaggle.com/kernels/welcome?src=https://github.com/{path})",
        f"[![nbviewer]({nbviewer})](https://nbviewer.org/github/{path})",
    )
    following = "[the index](index.ipynb): teach it to someone"
    if lesson != COURSE[-1]:
        after = COURSE[COURSE.index(lesson) + 1]
        following = f"[{after.number} · {after.title}]({after.stem}.ipynb)"
    verified = f"{measured['versions']}, {measured['date']}" if measured else "not yet"
    paragraphs = (
        f"{BEGIN}\n# {lesson.number} · {lesson.title}",
        " ".join(badges),
        "**You will be able to**",
        ";\n".join(f"* {one}" for one in lesson.able) + ".",
        f"**Before this:** {lesson.needs}.",
        f"**Budget:** {budget(words, work, measured)}",
        f"**Last verified:** {verified}.",
        f"**Next:** {following}. Words in this course: [glossary](glossary.md).\n{END}",
    )
    return "\n\n".join(paragraphs)


def budget(words: int, work: str, measured: Mapping[str, Any]) -> str:
    """What a notebook costs, in one sentence."""
    minutes = max(1, round(words / WORDS_PER_MINUTE))
    reading = f"{minutes} minute{'s' * (minutes != 1)} to read ({words:,} words)"
    if not measured or measured["profile"] == "ci":
        return f"{reading}; {work}; run time not measured."
    seconds = measured["seconds"]
    time = f"{seconds:.0f} seconds" if seconds < 100 else f"{seconds / 60:.1f} minutes"
    gpu = measured.get("gpu") or "not measured"
    cost = f"{time} and {measured['memory_mib']:,.0f} MiB on {measured['cores']} CPU cores"
    return f"{reading}; {work}; {cost}; on a GPU: {gpu}."


def index_table(measured: Mapping[str, Mapping[str, Any]], exercises: Mapping[str, tuple[int, int]]) -> str:
    """The course as a table, markdown, for the index. `exercises`: their number and points by lesson."""
    lines = [
        BEGIN,
        "| | notebook | you will be able to | exercises (points) | 2 CPU cores | needs |",
        "|---|---|---|---|---|---|",
    ]
    for lesson in COURSE:
        count, points = exercises.get(lesson.number, (0, 0))
        title, able = f"[{lesson.title}]({lesson.stem}.ipynb)", "; ".join(lesson.able)
        cells = (lesson.number, title, able, f"{count} ({points})", _cost(lesson, measured), _needs(lesson))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, END])


def readme_table(measured: Mapping[str, Mapping[str, Any]]) -> str:
    """The course, markdown, for the README: one line per notebook, with one click to Colab."""
    lines = [BEGIN]
    for one in COURSE:
        title = f"[{one.title}](notebooks/{one.stem}.ipynb)"
        lines.append(f"* {one.number} {title} · {_cost(one, measured)} · [Colab]({colab(one)})")
    return "\n".join([*lines, END])


def colab(lesson: Lesson) -> str:
    """Where a notebook opens in Colab."""
    return f"https://colab.research.google.com/github/{REPOSITORY}/blob/main/notebooks/{lesson.stem}.ipynb"


def _cost(lesson: Lesson, measured: Mapping[str, Mapping[str, Any]]) -> str:
    found = measured.get(lesson.number)
    if not found or found["profile"] == "ci":
        return "not measured"
    return f"{found['seconds']:.0f} s, {found['memory_mib']:,.0f} MiB"


def _needs(lesson: Lesson) -> str:
    return "torch" if lesson.torch else "numpy, matplotlib" if lesson.light else "the core package, matplotlib"
