"""pyproject.toml, constraints.txt, environment.yml and the Makefile say the same, and nothing is imported that none of them brings."""

import ast
import importlib.metadata as metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from tests.bare import needed, plain

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
EXTRAS = PROJECT["optional-dependencies"]
PINS = {
    plain(name): version
    for line in (ROOT / "constraints.txt").read_text().splitlines()
    if "==" in line
    for name, version in [line.split("==")]
}
TESTED = ("gpu", "eval", "observe", "dev", "docs")
"""What `make setup` and environment.yml install."""


def requirements(extra):
    """Of an extra, with those of the extras it names; "" is the core."""
    found = []
    for line in EXTRAS[extra] if extra else PROJECT["dependencies"]:
        need = Requirement(line)
        found += (
            [one for inner in sorted(need.extras) for one in requirements(inner)]
            if need.name == PROJECT["name"]
            else [need]
        )
    return found


@pytest.mark.parametrize("extra", ["", *EXTRAS])
def test_the_pins_lie_in_the_open_ranges(extra):
    """`pip install -c constraints.txt` must never contradict the ranges; vLLM and the trackers other than TensorBoard are not pinned."""
    for need in requirements(extra):
        pin = PINS.get(plain(need.name))
        assert pin is not None or need.name in ("vllm", "wandb", "trackio", "lm_eval", "verifiers"), need
        assert pin is None or need.specifier.contains(Version(pin)), f"{need} forbids the tested {pin}"


def test_the_ranges_hold_what_was_tested_so_that_installing_swaps_no_torch():
    tested = json.loads((ROOT / "data_samples" / "benchmarks" / "packaging.json").read_text())["oldest and newest"]
    for need in requirements("train"):
        if need.name in tested["oldest"]:
            assert all(need.specifier.contains(tested[which][need.name]) for which in ("oldest", "newest"))
            lowest = f">={tested['oldest'][need.name].rsplit('.', 1)[0]}"
            assert lowest in str(need.specifier).split(","), "no older one was tested"
    assert not any(tested[which]["failed"] for which in ("oldest", "newest"))


def test_environment_yml_installs_what_make_does():
    yaml = pytest.importorskip("yaml")
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    assert environment["name"] == PROJECT["name"]
    from_conda = [line for line in environment["dependencies"] if isinstance(line, str)]
    (through_pip,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    assert {"pip", "jupyterlab"} <= set(from_conda), "the course says `jupyter lab notebooks`"
    (python,) = (line.partition("=")[2] for line in from_conda if line.startswith("python="))
    assert SpecifierSet(PROJECT["requires-python"]).contains(python)
    assert f"Python {python}" in (ROOT / "constraints.txt").read_text().splitlines()[0]
    assert through_pip[0] == "-c constraints.txt"
    assert through_pip.index("torch") < through_pip.index(f"-e .[{','.join(TESTED)}]")
    assert len(through_pip) == 3
    assert "torch" in PINS
    make = (ROOT / "Makefile").read_text()
    assert f"-c constraints.txt -e '.[{','.join(TESTED)}]'" in make
    assert make.index("constraints.txt torch") < make.index("-e '.[")


def test_pip_resolves_the_part_of_environment_yml_that_is_its_own(tmp_path):
    """By pip itself, from what is installed here: no index is asked, and nothing but this package would be installed."""
    yaml = pytest.importorskip("yaml")
    if missing := [
        need.name for extra in ("", *TESTED) for need in requirements(extra) if metadata_of(need.name) is None
    ]:
        pytest.skip(f"{', '.join(missing)} not installed: pip could not resolve without an index")
    environment = yaml.safe_load((ROOT / "environment.yml").read_text(encoding="utf-8"))
    (lines,) = (line["pip"] for line in environment["dependencies"] if isinstance(line, dict))
    command = [
        sys.executable,
        "-m",
        "pip",
        "install",
        "--dry-run",
        "--no-index",
        "--no-build-isolation",
        "--quiet",
        "--report",
        tmp_path / "report",
    ]
    done = subprocess.run(
        [*command, *(word for line in lines for word in line.split())],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert [one["metadata"]["name"] for one in json.loads((tmp_path / "report").read_text())["install"]] == [
        PROJECT["name"]
    ]


def test_whatever_is_imported_is_brought_by_the_core_or_an_extra():
    """Also what only comes along (huggingface_hub with transformers): should that change, it is named here."""
    brought: set[str] = set()
    for extra in ("", *EXTRAS):
        for need in requirements(extra):
            if metadata_of(need.name):
                needed(plain(need.name), brought)
    distributions = metadata.packages_distributions()
    absent = {"vllm", "deepspeed", "wandb", "trackio", "httpx", "verifiers"}  # not installed where tests run
    homeless = set()
    for path in (ROOT / "azr_lite").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            names = [a.name for a in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            for top in {name.split(".")[0] for name in names} - sys.stdlib_module_names - absent - {"azr_lite"}:
                beside = (path.parent / f"{top}.py").exists() or (ROOT / "azr_lite" / "sandbox" / f"{top}.py").exists()
                if not beside and not {plain(name) for name in distributions.get(top, ())} & brought:
                    homeless.add((top, str(path.relative_to(ROOT))))
    assert homeless == set()


def metadata_of(name):
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def test_the_recorded_resolutions_are_of_these_extras():
    """`data_samples/benchmarks/packaging.json`: made by hand, and to be made again when an extra comes, goes or changes."""
    kept = json.loads((ROOT / "data_samples" / "benchmarks" / "packaging.json").read_text(encoding="utf-8"))
    tried = {name: needs for name, needs in EXTRAS.items() if name != "integrations"}  # installed by hand, not recorded
    assert kept["extras"] == tried | {"core": PROJECT["dependencies"]}
    for tool in ("uv", "pip"):
        assert kept["resolved"][tool].keys() == kept["extras"].keys()
        for extra, found in kept["resolved"][tool].items():
            ranges = {plain(need.name): need.specifier for need in requirements("" if extra == "core" else extra)}
            assert found["status"] == "resolved" or found["why"], (tool, extra)
            for name, version in found.get("versions", {}).items():
                assert ranges[name].contains(re.sub(r"\+.*", "", version)), (tool, extra, name)
