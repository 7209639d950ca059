"""What a forge and an editor read: workflows, container, hooks, templates. Each command in them must be one that exists here.

Whether GitHub takes the workflows was checked by hand with actionlint and its published schema.
"""

import json
import re
import shlex
import subprocess
import tomllib
from pathlib import Path

import pytest

from azr_lite.cli import COMMANDS

yaml = pytest.importorskip("yaml")
ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = set(re.findall(r"^([\w-]+):(?!=)", MAKEFILE, re.MULTILINE))
WORKFLOWS = {path.name: yaml.safe_load(path.read_text()) for path in sorted((ROOT / ".github" / "workflows").iterdir())}
DOCKERFILE = (ROOT / ".devcontainer" / "Dockerfile").read_text()
CLASSIFIERS = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["classifiers"]
PYTHONS = [one.rpartition(" ")[2] for one in CLASSIFIERS if re.search(r"Python :: 3\.\d+", one)]
NOT_OURS = (
    "sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0",
    "docker build -t azr-lite-dev .devcontainer",
    'docker run --rm -v "$PWD:/source:ro" azr-lite-dev',
    "git clone --quiet /source azr-lite",
    "cd azr-lite",
)
"""Commands that no test can run here. What they name is held by the tests below."""


def jobs():
    return {f"{name}/{job}": told for name, flow in WORKFLOWS.items() for job, told in flow["jobs"].items()}


def check_command(command):
    """It is one of ours and exists, or one of `NOT_OURS`."""
    words = shlex.split(command)
    if words[0] == "make":
        for word in words[1:]:
            name, given, _ = word.partition("=")
            assert re.search(rf"^{name} *\?=", MAKEFILE, re.MULTILINE) if given else word in TARGETS, command
        planned = subprocess.run(["make", "-n", *words[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
        assert planned.returncode == 0, planned.stderr
    elif words[0] == ".venv/bin/azr-lite":
        assert words[1] in COMMANDS, command
        assert len(words) == 2, "check its options here too"
    else:
        assert command in NOT_OURS


def test_every_command_of_the_workflows_exists():
    steps = [step for job in jobs().values() for step in job["steps"]]
    commands = [line for step in steps for line in step.get("run", "").splitlines()]
    for command in commands:
        check_command(command)
    assert {"make setup", "make notebooks", "make docs", "make wheel", "make test-engines"} <= set(commands)
    assert "make test JOBS=4" in commands
    assert all(("run" in step) != ("uses" in step) for step in steps)
    assert {step["uses"] for step in steps if "uses" in step} == {"actions/checkout@v6", "actions/setup-python@v6"}


def test_workflows_test_each_python_that_is_promised_and_may_only_read():
    assert WORKFLOWS["ci.yml"]["jobs"]["test"]["strategy"]["matrix"]["python"] == PYTHONS
    assert {str(job.get("timeout-minutes")).isdigit() for job in jobs().values()} == {True}
    for flow in WORKFLOWS.values():
        assert flow["permissions"] == {"contents": "read"}
    pythons = [
        step["with"]["python-version"]
        for job in jobs().values()
        for step in job["steps"]
        if "setup-python" in step.get("uses", "")
    ]
    assert set(pythons) <= {"${{ matrix.python }}", *PYTHONS}


def test_the_containers_commands_exist():
    told = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    assert (ROOT / ".devcontainer" / told["build"]["dockerfile"]).exists()
    assert f"--uid 1000 {told['remoteUser']}" in DOCKERFILE
    check_command(told["postCreateCommand"])
    assert re.search(r"^FROM python:(3\.\d+)-", DOCKERFILE, re.MULTILINE)[1] in PYTHONS
    shell, flags, script = json.loads(re.search(r"^CMD (.+)$", DOCKERFILE, re.MULTILINE)[1])
    assert (shell, flags) == ("bash", "-ec")
    commands = script.split(" && ")
    assert commands[-2:] == [".venv/bin/azr-lite doctor", "make test"]
    for command in commands:
        check_command(command)
    said = " ".join(re.findall(r"^#   (.+)$", DOCKERFILE, re.MULTILINE))
    for command in said.split(" && "):
        assert command in NOT_OURS
    packages = re.search(r"--no-install-recommends (.+) \\", DOCKERFILE)[1]
    assert f"--no-install-recommends {packages};" in (ROOT / ".ci" / "run").read_text()


def test_hooks_are_the_lint_of_make_with_the_pinned_ruff():
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    pinned = re.search(r"^ruff==.+$", (ROOT / "constraints.txt").read_text(), re.MULTILINE)[0]
    linted = re.findall(r"^\t\$\(BIN\)/ruff (check|format --check) (.+)$", MAKEFILE, re.MULTILINE)
    assert [hook["entry"].split()[1] for hook in repository["hooks"]] == [how.split()[0] for how, _ in linted]
    for hook, (_, folders) in zip(repository["hooks"], linted, strict=True):
        assert hook["additional_dependencies"] == [pinned]
        assert hook["files"] == f"^({folders.replace(' ', '|')})/"


def test_templates_have_what_the_forge_shows():
    forms = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*.md"))
    assert len(forms) == 2
    for form in forms:
        head = yaml.safe_load(form.read_text().split("---\n")[1])
        assert head["name"]
        assert head["about"]
    assert (ROOT / ".github" / "pull_request_template.md").read_text().count("- [ ]") >= 3
