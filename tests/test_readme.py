"""README and docs are run: each command and Python block, as written or with the reason why not, each link, file and test named.

A command that is new in them fails here until it is put into one of the three tables below.
"""

import contextlib
import dataclasses
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
import types
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

import azr_lite
from azr_lite.cli import COMMANDS, main
from azr_lite.config import Config, config_text
from azr_lite.course.experiments import ALL_ARMS
from azr_lite.course.lessons import REPOSITORY
from azr_lite.presets import preset
from azr_lite.rundir import VERSION

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = {"README.md": README}
for _path in (*sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / ".github").glob("*.md"))):
    PAGES[_path.relative_to(ROOT).as_posix()] = _path.read_text(encoding="utf-8")
TEXT = "\n".join(PAGES.values())
SAMPLES = ROOT / "data_samples" / "runs"

SMALL = {
    "batch_size": 8, "solver_batch_size": 16, "n_mc": 3, "seed_batch_factor": 1, "updates_per_step": 1, "micro_batch_size": 12,
    "eval_problems": 5, "eval_every": 0, "gradient_share_every": 0, "self_test": False, "workers": 1, "device": "cpu",
}  # fmt: skip
FLAGS = [f"--{name.replace('_', '-')}={value}" for name, value in SMALL.items() if name != "self_test"] + [
    "--no-self-test"
]
RUN = "azr-lite run --preset nano --steps 50 --seed 1"

# Run as written, or with the words on the right put in place of those on the left; and what must then be read on the screen.
EXECUTED: dict[str, tuple[dict[str, str], str]] = {
    RUN: ({"--steps 50": " ".join(["--steps 1", *FLAGS])}, "held-out accuracy"),
    "azr-lite resume runs/nano-seed1 --steps 100": (
        {"--steps 100": "--steps 2"},
        "a page of it: azr-lite report runs/nano-seed1",
    ),
    "azr-lite run --preset nano --dry-run": ({}, "nano, as it is"),
    "azr-lite run --preset smoke --model path/to/model.gguf --output-dir runs/smoke": (
        {"run ": "run --dry-run --json "},
        '"path/to/model.gguf"',
    ),
    "azr-lite run --preset nano --save-minutes 2 --max-hours 8": (
        {"run ": "run --dry-run --json "},
        '"max_hours": 8.0',
    ),
    "azr-lite run --config mine.yaml --reward paper my_rewards:brief": (
        {"run ": "run --dry-run --json "},
        '"my_rewards:brief"',
    ),
    "azr-lite run --preset lora-1.5b-16gb --task-module my_tasks --task-types deduction errors": (
        {"run ": "run --dry-run --json "},
        '"my_tasks"',
    ),
    "azr-lite list runs": ({}, "runs/nano-seed1 "),
    "azr-lite play nano --seed 1": ({"--seed 1": "--seed 1 --tries 2"}, "verifier"),
    "azr-lite env": ({}, "sandbox"),
    "azr-lite doctor": ({}, "sandbox"),
    "azr-lite doctor runs/nano-seed1": ({}, "runs/nano-seed1: 2 steps"),
    "azr-lite analyse runs/nano-seed1": ({}, "distance to references"),
    "azr-lite show runs/nano-seed1 --step 40 --worst 5": ({"--step 40": "--step 1"}, "reward"),
    "azr-lite show propose/deduction/solve_rate": ({}, "formula"),
    "azr-lite replay runs/nano-seed1 --step 40": ({"--step 40": "--step 1"}, "exact"),
    "azr-lite replay runs/nano-seed1 --rescore estimator=global zero_learnability=upstream": ({}, "solve reward"),
    "azr-lite replay runs/nano-seed0 --rescore estimator=global zero_learnability=upstream": (
        {"seed0": "seed1"},
        "solve reward",
    ),
    "azr-lite report runs/nano-seed1": ({}, "report"),
    "azr-lite export runs/nano-seed1": ({}, "is there"),
    "azr-lite push runs/nano-seed1 USER/NAME --dry-run": ({}, "nothing was sent"),
    "azr-lite tasks runs/lora --to tasks.parquet": ({"runs/lora": "runs/nano-seed1"}, "has the tasks of"),
    "azr-lite tasks runs/lora --to invented": ({"runs/lora": "runs/nano-seed1"}, "has the tasks of"),
    "azr-lite plan lora-1.5b-16gb --gpu 12GB": ({}, "generation_chunk="),
    "azr-lite plan lora-1.5b-16gb --gpu T4": ({}, "FITS"),
    "azr-lite run --preset lora-1.5b-16gb --dry-run": (
        {"--dry-run": "--dry-run --json"},
        '"model": "Qwen/Qwen2.5-Coder-1.5B-Instruct"',
    ),
    "azr-lite show runs/demo --step 4 --best 3": ({"runs/demo --step 4": "runs/nano-seed1 --step 1"}, "reward"),
    "azr-lite report runs/demo": ({"runs/demo": "runs/nano-seed1"}, "report"),
    "azr-lite doctor runs/trial": ({"runs/trial": "runs/nano-seed1"}, "runs/nano-seed1: 2 steps"),
    "azr-lite show runs/trial --step 2 --worst 5": ({"runs/trial --step 2": "runs/nano-seed1 --step 1"}, "reward"),
    "azr-lite report runs/lora": ({"runs/lora": "runs/nano-seed1"}, "report"),
}

# Parsed until the function that would do the work, which must get these arguments; the reason why it is not run here.
MINUTES, GPU, NETWORK, SCREEN = "takes minutes", "needs a GPU", "needs a network", "needs a terminal"
TRAINED = "needs a run with adapters; test_publish.py exports one"
PARSED: dict[str, tuple[str, str, dict[int | str, object]]] = {
    "azr-lite resume runs/demo --steps 10": (MINUTES, "azr_lite.loop.resume", {0: Path("runs/demo"), "steps": 10}),
    "azr-lite run --preset lora-1.5b-16gb --steps 3 --output-dir runs/trial": (GPU, "azr_lite.loop.run", {"go_on": False}),
    "azr-lite run --preset lora-1.5b-16gb --max-hours 11 --save-minutes 20 --output-dir runs/lora": (GPU, "azr_lite.loop.run", {"go_on": False}),
    "azr-lite resume runs/lora --max-hours 11": (GPU, "azr_lite.loop.resume", {"max_hours": 11.0}),
    "azr-lite watch runs/lora": (SCREEN, "azr_lite.observe.dashboard.watch", {0: Path("runs/lora")}),
    "azr-lite eval runs/lora --compare runs/lora@0": (
        GPU, "azr_lite.evaluation.runner.evaluate", {"model": "runs/lora", "compare": "runs/lora@0"},
    ),
    "azr-lite resume runs/nano-seed0": (MINUTES, "azr_lite.loop.resume", {0: Path("runs/nano-seed0")}),
    "azr-lite resume runs/nano-seed0 --steps 400 --max-hours 3": (MINUTES, "azr_lite.loop.resume", {"steps": 400, "max_hours": 3.0}),
    "azr-lite watch runs/nano-seed1": (SCREEN, "azr_lite.observe.dashboard.watch", {0: Path("runs/nano-seed1")}),
    "azr-lite bench nano --seeds 5": (MINUTES, "azr_lite.course.experiments.compare_arms", {0: [100, 101, 102, 103, 104]}),
    "azr-lite eval runs/mine --compare runs/mine@0": (
        MINUTES, "azr_lite.evaluation.runner.evaluate", {"model": "runs/mine", "compare": "runs/mine@0"},
    ),
    "azr-lite eval Qwen/Qwen2.5-Coder-3B --suite all --items 40": (NETWORK, "azr_lite.evaluation.runner.evaluate", {"suite": "all", "items": 40}),
    "azr-lite eval my/model --suite code --server http://127.0.0.1:8000/v1": (
        NETWORK, "azr_lite.evaluation.runner.evaluate", {"suite": "code", "server": "http://127.0.0.1:8000/v1"},
    ),
    "azr-lite export runs/lora --merge": (TRAINED, "azr_lite.export.export", {"merge": True, "step": "last"}),
    "azr-lite export runs/lora --step best": (TRAINED, "azr_lite.export.export", {"merge": False, "step": "best"}),
    "azr-lite export runs/split --merge --role proposer": (TRAINED, "azr_lite.export.export", {"merge": True, "role": "proposer"}),
    "azr-lite push runs/lora USER/NAME --merge": (NETWORK, "azr_lite.export.export", {"merge": True, "where": "USER/NAME"}),
    "azr-lite tasks runs/lora --to hub:USER/NAME": (
        NETWORK, "azr_lite.integrations.datasets.write_tasks", {1: "hub:USER/NAME", "private": True},
    ),
}  # fmt: skip

# Commands of other programs: asked for their plan or their help only; what the answer must hold.
ASKED: dict[str, tuple[list[str], str]] = {
    "git clone https://github.com/azr-lite/azr-lite && cd azr-lite": (["git", "help", "-a"], " clone "),
    "make run": (["make", "-n", "run"], "azr-lite run --preset nano"),
    "make test": (["make", "-n", "test"], "-m pytest"),
    "python -m azr_lite.course.bugs": ([sys.executable, "-m", "azr_lite.course.bugs", "--help"], "--steps"),
}


def blocks(language, text=TEXT):
    return re.findall(rf"^```{language}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def test_the_readme_is_short():
    assert len(README.splitlines()) <= 170
    assert len(README) <= 11_000
    own = README.split("## Make it yours")[1].split("\n## ")[0]
    assert all(block.count("\n") <= 8 for language in ("python", "bash") for block in blocks(language, own))


def commands():
    lines = [re.sub(r"\s+#.*", "", line).strip() for block in blocks("bash") for line in block.splitlines()]
    return [line for line in lines if line and not line.startswith("#")]


class ReachedError(Exception):
    """The command line was understood, and the work would begin."""


def words_of(command, changes):
    for old, new in changes.items():
        assert command.count(old) == 1, f"{old!r} is no longer in {command!r}"
        command = command.replace(old, new)
    return shlex.split(command)[1:]


def call(words):
    """Exit status, and all that was printed."""
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        status = main(words)
    return status, printed.getvalue()


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder where the README's first run was made, cheaply, and gone on with."""
    pytest.importorskip("trl")
    folder = tmp_path_factory.mktemp("reader")
    (folder / "mine.yaml").write_text("preset: nano\nsteps: 20\n")
    (folder / "my_rewards.py").write_text("def brief(reply):\n    return {'brief': -0.1}\n")
    (folder / "my_tasks.py").write_text(
        "from azr_lite import register_task_type\nfrom azr_lite.course.example_tasks import ErrorPrediction\n"
        "register_task_type(ErrorPrediction())\n"
    )
    with contextlib.chdir(folder):
        for command in (RUN, "azr-lite resume runs/nano-seed1 --steps 100"):
            changes, expected = EXECUTED[command]
            status, printed = call(words_of(command, changes))
            assert status == 0, printed
            assert expected in printed
    return folder


def test_every_command_is_run_or_has_a_reason():
    assert len(commands()) > 25
    assert sorted(set(commands())) == sorted({*EXECUTED, *PARSED, *ASKED})
    assert not (EXECUTED.keys() & PARSED.keys())


@pytest.mark.parametrize("command", list(EXECUTED)[2:])
def test_commands_do_what_they_say(command, place, monkeypatch):
    monkeypatch.chdir(place)
    changes, expected = EXECUTED[command]
    status, printed = call(words_of(command, changes))
    assert status == 0, printed
    assert expected in printed


@pytest.mark.parametrize("command", PARSED)
def test_long_commands_are_understood(command, tmp_path, monkeypatch):
    _, target, expected = PARSED[command]

    def reached(*args, **named):
        given = dict(enumerate(args)) | named
        assert {name: given[name] for name in expected} == expected
        raise ReachedError

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(target, reached)
    for name in ("lora", "demo", "nano-seed0"):
        (tmp_path / "runs" / name).mkdir(parents=True)
        (tmp_path / "runs" / name / "run.json").write_text(f'{{"version": {VERSION}}}')  # what makes a folder a run
        (tmp_path / "runs" / name / "config.json").write_text(config_text(preset("nano")))
    with pytest.raises(ReachedError):
        main(shlex.split(command)[1:])


@pytest.mark.parametrize("command", ASKED)
def test_other_programs_know_their_commands(command):
    words, expected = ASKED[command]
    found = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    assert expected in found.stdout


def test_commands_within_sentences_exist():
    """Verbs, make's targets and modules; flags only where a table above has them too."""
    spans = [
        " ".join(span.split())
        for span in re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL))
    ]
    verbs = {span.split()[1] for span in spans if span.startswith("azr-lite ")} - {"--version", "COMMAND"}
    assert len(verbs) > 6
    assert verbs <= COMMANDS.keys()
    rules = set(re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert {span.split()[1] for span in spans if span.startswith("make ")} <= rules
    for span in spans:
        if span.startswith("python -m azr_lite"):
            assert (ROOT / (span.split()[2].replace(".", "/") + ".py")).exists(), span
        if span.startswith("pytest "):
            assert all((ROOT / name).exists() for name in span.split()[1:]), span
    arms = re.findall(r"--arms (?:all|([\w-]+) \"([^\"]+)\")", TEXT)
    assert {arm for pair in arms for arm in pair if arm} <= ALL_ARMS.keys()


NOT_OURS = {
    "--config_file", "--num_processes", "--num_machines", "--machine_rank", "--main_process_ip", "--main_process_port", "--cpu",  # accelerate
    "--nnodes",  # torchrun
    "--env",  # vf-eval
    "--project",  # trackio
    "--tensor-parallel-size",  # trl vllm-serve
    "--json", "--csv", "--jobs", "--minutes",  # the course's grader; test_course_grade.py
}  # fmt: skip
"""Options in sentences and tables that belong to other programs. `test_launch.py` has accelerate read its own."""


def test_options_within_sentences_exist():
    """Of a whole command each option is one of that command; an option alone is one of some command."""
    known = {}
    for verb in COMMANDS:
        words = {"run": ["--help-all"], "plan": ["--help-all"], "bench": ["nano", "--help"]}.get(verb, ["--help"])
        status, printed = call([verb, *words])
        assert status == 0
        known[verb] = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", printed))
    anyones = set().union(*known.values())
    spans = re.findall(r"`([^`]+)`", re.sub(r"^```.*?^```$", "", TEXT, flags=re.MULTILINE | re.DOTALL))
    seen = 0
    for span in spans:
        span = re.sub(r"\$\(azr-lite launch-file \w+\)", "FILE", " ".join(span.split()))
        others, _, own = re.sub(r"(^| -m )azr[-_]lite ", "\0", span).partition("\0")
        named = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", others))
        assert named <= anyones | NOT_OURS, span
        if own and own.split()[0] in known:
            given = set(re.findall(r"(?<![\w-])--[a-z][\w-]+", own))
            assert given <= known[own.split()[0]], span
            named |= given
        seen += len(named)
    assert seen > 25


def test_every_block_is_of_a_kind_that_a_test_reads():
    """Diagrams, file trees and BibTeX have no language, or their own; test_package.py holds the tree, test_planner.py the presets."""
    kinds = re.findall(r"^```(\w*)\n(?:.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
    assert set(kinds) == {"bash", "python", "text", "bibtex", ""}
    quoted = r"\Adef f\(.+\n(?:    .+\n)+assert f\("  # a question of a benchmark, in the page on the real model
    held = (r"^task +n +before", r"^preset +model", r"^one baseline ", quoted)
    assert all(any(re.search(one, block) for one in held) for block in blocks("text"))


def test_every_python_block_runs(tmp_path, monkeypatch):
    """Runs train, smaller; those of Colab and Kaggle stop at the settings, which test_long_runs.py runs. `!` lines are the notebook's."""
    pytest.importorskip("trl")
    train, asked = azr_lite.run, []

    def run(name, go_on=False, **settings):
        asked.append(settings["output_dir"])
        objects = ("rewards", "callbacks")
        config = preset(name, **{key: value for key, value in settings.items() if key not in objects})
        if not go_on:
            return train(name, **{**settings, **SMALL, "steps": 1})
        assert config.sync_to
        assert config.max_hours < 12, "Colab and Kaggle end a session after twelve hours"
        return None

    mounted = []
    colab = types.SimpleNamespace(drive=types.SimpleNamespace(mount=mounted.append))
    secrets = types.SimpleNamespace(
        UserSecretsClient=lambda: types.SimpleNamespace(get_secret=lambda name: f"secret of {name}")
    )
    for name, module in {"google.colab": colab, "kaggle_secrets": secrets}.items():
        module.__spec__ = ModuleSpec(name, None)  # libraries ask whether Colab is there
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setattr("azr_lite.loop.run", run)
    monkeypatch.setenv("HF_TOKEN", "")
    monkeypatch.chdir(tmp_path)
    compared = 0
    for page, text in PAGES.items():
        for block, output in re.findall(
            r"^```python\n(.*?)^```$(?:\n+```text\n(.*?)^```$)?", text, re.MULTILINE | re.DOTALL
        ):
            shutil.rmtree(tmp_path / "runs", ignore_errors=True)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(re.sub(r"^!.*$", "", block, flags=re.MULTILINE), page, "exec"), {"__name__": "__main__"})
            if output:
                assert printed.getvalue() == output, page
                compared += 1
    assert compared == 1
    assert len(blocks("python")) == 10
    assert asked == [f"runs/{name}" for name in ("demo", "brief", "told")] + [
        "/content/runs/nano-0", "/kaggle/working/nano-0", "runs/demo",
    ]  # fmt: skip
    assert mounted == ["/content/drive"]
    assert (tmp_path / "runs" / "demo" / "summary.json").exists()


def test_every_link_within_the_repository_leads_somewhere():
    headings = {
        (ROOT / page).resolve(): {
            re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-")
            for line in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
        }
        for page, text in PAGES.items()
    }
    made = {
        (ROOT / page).resolve() for page, text in PAGES.items() if "<!-- made from code" in text
    }  # `make docs` checks those
    links = [(page, link) for page, text in PAGES.items() for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", text)]
    assert len(links) > 60
    for page, link in links:
        path, _, anchor = link.partition("#")
        goal = (ROOT / page).parent.joinpath(path).resolve() if path else (ROOT / page).resolve()
        assert goal.exists(), (page, link)
        assert not anchor or goal in made or anchor in headings[goal], (page, link)


# Names in backticks that look like files and are none of this repository.
PLACEHOLDERS = {
    "/content/drive/MyDrive/azr/nano-0": "a folder of Colab's",
    "RUN/tensorboard": "made by a tracker",
    "tensorboard/": "made by a tracker, in a run directory",
    "report.html": "made by azr-lite report, in a run directory",
    "NAME.jsonl": "one for each suite",
    "NAME.json": "one for each suite",
    "RUN/eval/step-N/": "made by azr-lite eval",
    "evals/MODEL/": "made by azr-lite eval",
    "notebooks/NN_name.py": "any notebook",
    "checkpoint-N/": "in a run directory; not kept among the samples",
    "selfplay.json": "in a checkpoint",
    "proposer/": "in a checkpoint",
    "build/site": "made by make docs",
    "validation/worlds": "a number in metrics.jsonl",
    "solve/{type}/length_pressure": "a number in metrics.jsonl",
    "runs/demo": "made by the reader",
    "well_formed/TYPE": "logged by TRL",
    "runs/": "where runs go",
    "my_work.py": "made by the learner",
    "~/.cache/huggingface/trackio": "made by a tracker",
    'style.words["solve/deduction"]': "a name in Python",
}


def test_every_file_in_backticks_exists():
    spans = {
        span
        for span in re.findall(r"`([^`\s]+)`", TEXT)
        if re.search(r"[\w}]/|\.(py|md|jsonl?|ipynb|toml|ya?ml|txt|png|html)\b", span)
    }
    spans = {span for span in spans if not span.startswith(("http", "azr_lite.", "lora-", "hub:")) and "${" not in span}
    run = SAMPLES / "whole" / "nano-small"
    roots = (ROOT, ROOT / "azr_lite", ROOT / "tests", run, ROOT / "data_samples" / "benchmarks", ROOT / "azr_lite" / "evaluation" / "shipped",
             ROOT / "azr_lite" / "train" / "launch", ROOT / "notebooks" / "examples")  # fmt: skip
    spans |= set(re.findall(r"^  (\w+(?:\.py|/))  +\S", TEXT, re.MULTILINE))  # the file tree
    assert len(spans) > 60
    missing = {
        span for span in spans if not any(list(root.glob(span.strip("/").replace("{,l}", "*"))) for root in roots)
    } - {"/"}
    assert missing - PLACEHOLDERS.keys() == set()
    assert PLACEHOLDERS.keys() - spans == set(), "no longer in README or docs"


def test_every_test_and_switch_named_exists():
    tests = "\n".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    named = set(re.findall(r"`(test_\w+)`", TEXT))
    assert len(named) > 10
    assert [name for name in named if f"def {name}(" not in tests] == []
    assert [name for name in re.findall(r"`(test_\w+\.py)`", TEXT) if not list((ROOT / "tests").rglob(name))] == []
    settings = {field.name for field in dataclasses.fields(Config)}
    deviations = PAGES["docs/explanation/paper.md"]
    assert set(re.findall(r"\(`(\w+)`[;)]", deviations)) <= settings | named
    rows = [line for line in deviations.splitlines() if line.startswith("| ")][1:]
    assert len(rows) >= 28
    assert [row for row in rows if not re.search(r"`[\w/]+(\.py)?`", row.rpartition("|")[0].rpartition("|")[2])] == []


MEASURED = PAGES["docs/explanation/measured.md"]


def test_the_real_models_numbers_are_those_of_the_comparison():
    found = json.loads((ROOT / "data_samples" / "benchmarks" / "real" / "comparison.json").read_text())["sets"]
    (row,) = [line for line in README.splitlines() if line.startswith("| Qwen2.5-Coder-0.5B on a CPU")]
    for name in ("cruxeval-o", "cruxeval-i", "proposed", "simple"):
        one = found[name]["strict"]
        before, after = (100 * one[when] / one["n"] for when in ("before", "after"))
        told = f"{before:.1f} → {after:.1f} %, {one['gain']:+.1f} [{one['low']:+.1f}, {one['high']:+.1f}]"
        assert told.replace("-", "−") in row
    assert len(found["simple"]["strict"]["seeds"]) == 3


def test_headline_numbers_are_those_of_the_kept_measurements():
    arms = json.loads((ROOT / "data_samples" / "benchmarks" / "nano.json").read_text())["arms"]
    for name in ("all", "deduction", "abduction", "induction"):
        found = arms["self-play"]["scores"][name]
        gain = found["gain"]
        numbers = [f"{100 * found[when]['mean']:.1f} %" for when in ("before", "after")]
        numbers.append(f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]")
        others = (arms[arm]["scores"][name]["gain"]["mean"] for arm in ("shuffled rewards", "no update", "solver only"))
        numbers += [f"{100 * value:+.1f}".replace("-", "−") if abs(value) > 1e-9 else "0.0" for value in others]
        row = next(
            line for line in MEASURED.splitlines() if line.startswith(f"| {name.replace('all', 'all types')} | ")
        )
        assert row.replace("**", "").strip("| ").split(" | ")[1:] == numbers
    curves = {}
    for file in ("nano-curve-shuffled", "nano-curve"):
        curves |= json.loads((ROOT / "data_samples" / "benchmarks" / f"{file}.json").read_text())["arms"]
    for arm in ("self-play", "solver only", "shuffled rewards"):
        means = [
            f"{100 * sum(one) / len(one):.1f}" for one in zip(*map(dict.values, curves[arm]["curve"]), strict=True)
        ]
        assert f"| **{arm}** | {' | '.join(means[step] for step in (0, 2, 3, 4, 5, 6, 7, 8, 10))} |" in MEASURED
    gains = [[100 * (run["25"] - run["0"]) for run in curves[arm]["curve"]] for arm in ("self-play", "solver only")]
    assert "after 25 steps {:+.1f} points, without it {:+.1f}".format(*(sum(own) / len(own) for own in gains)) in README
    apart = [f"{one - other:.1f}" for one, other in zip(*gains, strict=True)]
    assert f"by {', '.join(apart[:-1])} and {apart[-1]}" in MEASURED
    kept = json.loads((ROOT / "data_samples" / "benchmarks" / "nano-passk.json").read_text())
    columns = list(zip(*kept["problems"].values(), strict=True))[1:]
    tries = [round(100 * sum(right > 0 for right in column) / len(column)) for column in columns]
    once = [round(100 * sum(column) / len(column) / kept["replies"]) for column in columns]
    sentence = f"the warm start solves {tries[0]} % of {len(columns[0])} problems and the trained model {tries[1]} (one try: {once[0]} and {once[1]}"
    assert sentence in " ".join(MEASURED.split())


def test_the_readmes_numbers_are_those_of_the_kept_measurements():
    benchmarks = ROOT / "data_samples" / "benchmarks"
    found = json.loads((benchmarks / "nano.json").read_text())
    arms = {name: arm["scores"] for name, arm in found["arms"].items()}
    printed = {}
    for name, score in arms["self-play"].items():
        gain = score["gain"]
        printed[name] = f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]"
        if "/" not in name:
            row = [
                str(score["n"]),
                *(f"{100 * score[when]['mean']:.1f} %" for when in ("before", "after")),
                printed[name],
            ]
            line = next(
                line for line in README.splitlines() if line.startswith(f"{name.replace('all', 'all types')}  ")
            )
            assert re.split(r"  +", line)[1:5] == row
    tokens = found["arms"]["self-play"]["reply_tokens"]
    assert f"   {tokens['before']:.0f} → {tokens['after']:.0f}\n" in README
    low, _, high = printed["all"].partition(" ")
    assert f"| {low} points {high} | `nano.json` |" in README
    controls = [100 * arms[arm]["all"]["gain"]["mean"] for arm in ("shuffled rewards", "no update", "solver only")]
    words = ", ".join("0.0" if abs(gain) < 1e-9 else f"{gain:+.1f}".replace("-", "−") for gain in controls)
    assert f"| {words} points | `nano.json` |" in README
    assert f"made to think it would score {100 * found['base_made_to_think']['all']['accuracy']:.1f} %" in README
    speed = json.loads((benchmarks / "nano-step.json").read_text())["tokens_a_second"]
    assert f"| {speed['generate']:,.0f}; {speed['transformers generate']:,.0f} tokens per second |" in README
    sandbox = [json.loads((benchmarks / f"sandbox-{i}.json").read_text())["ms"] for i in (1, 2, 3)]
    alone, many = ([one[name]["cpu"]["median"] for one in sandbox] for name in ("single", "batch_16"))
    assert f"| {min(alone):.1f}–{max(alone):.1f} ms; {min(many):.2f}–{max(many):.2f} ms of CPU |" in README


def test_the_readmes_cards_are_planned_as_it_says():
    rows = re.findall(r"^\| .+ \| `.* run --preset (\S+)` \| (\S+) \| (\S+) \|$", README, re.MULTILINE)
    assert len(rows) == 4
    table = PAGES["docs/reference/presets.md"]  # which test_planner.py holds against the command
    for name, peak, hours in rows:
        line = next(line.split() for line in table.splitlines() if line.startswith(f"{name} "))
        assert (line[3], line[5]) == (peak, hours)


def test_the_readmes_triplet_is_one_of_the_kept_run():
    program = next(block for block in blocks("python", README) if block.startswith("def f"))
    kept = [json.loads(line) for line in (SAMPLES / "whole" / "nano-small" / "tasks.jsonl").read_text().splitlines()]
    found = next(line for line in kept if line["task"] and line["task"]["program"] == program.strip())
    assert f"input `{found['task']['input']}`" in README
    assert f"output `{found['task']['output']}`" in README
    assert f"so proposing it earned {azr_lite.learnability(found['solve_rate'])}" in README


def test_the_address_to_install_from_is_the_repositorys():
    address = re.search(r'`pip install "azr-lite\[train\] @ git\+(\S+)"`', README)[1]
    assert address == f"https://github.com/{REPOSITORY}"
    assert f"git clone {address} " in README


def cells(start):
    """The cells of the table row that begins so."""
    row = next(line for line in MEASURED.splitlines() if line.startswith(f"| {start}"))
    return [cell.strip() for cell in row.strip("|").split("|")]


def test_the_tables_of_ablations_bugs_and_the_doctor_are_those_of_the_kept_runs():
    arms = json.loads((SAMPLES / "ablations" / "comparison.json").read_text())["arms"]
    for name, arm in arms.items():
        found, sizes = arm["scores"]["all"], arm["program_operations"]
        gain = found["gain"]
        first, last = (sum(size[when] for size in sizes) / len(sizes) for when in ("first", "last"))
        assert cells(f"{name} |")[1:] == [
            f"{100 * found['before']['mean']:.1f} → {100 * found['after']['mean']:.1f}",
            f"{100 * gain['mean']:+.1f} [{100 * gain['low']:+.1f}, {100 * gain['high']:+.1f}]",
            ", ".join(f"{100 * one:+.1f}" for one in gain["by_seed"]),
            f"{first:.2f} → {last:.2f}",
        ]
    for bug in (path for path in (SAMPLES / "bugs").iterdir() if path.is_dir() and path.name != "healthy"):
        gain = 100 * json.loads((bug / "summary.json").read_text())["gain"]["all"]["gain"]
        words = {
            "greedy-monte-carlo": "greedy Monte-Carlo",
            "per-role-old-log-probabilities": "per-role old",
            "length-blow-up": "length blow-up",
        }
        row = cells(
            words.get(bug.name, "non-determinism" if bug.name.startswith("non-") else bug.name.replace("-", " "))
        )
        assert row[1] == f"{gain:+.1f}".replace("-", "−")
    tables = json.loads((ROOT / "data_samples" / "benchmarks" / "doctor.json").read_text())["tables"]
    for name, table in tables.items():
        row = cells(f"{name} (")
        counts = (
            "sick runs",
            "right name first",
            "called by a wrong name only",
            "missed",
            "healthy runs",
            "healthy runs called sick",
        )
        assert [int(cell.split()[0]) for cell in row[1:]] == [table[count] for count in counts]
