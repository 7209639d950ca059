"""The plan of the house: files and lines per room, import circles, imports upwards, the files of one training step.

python -m tests.house
"""

from __future__ import annotations

import ast
import sys
import tempfile
import tomllib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.warm import FORKS

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "azr_lite"
LONGEST_FILE, LONGEST_LINE = 400, 120
MAY_BE_LONGER = {"azr_lite.config"}


@dataclass(frozen=True)
class Module:
    """One file: its name, its text, and the modules it imports when it is loaded, and later."""

    name: str
    text: str
    imports: frozenset[str]
    late: frozenset[str]

    @property
    def lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def room(self) -> str:
        """The folder it lies in; "root" for azr_lite itself."""
        first = self.name.removeprefix("azr_lite").strip(".").split(".")[0]
        return first if first and (PACKAGE / first).is_dir() else "root"

    @property
    def long_lines(self) -> int:
        return sum(len(line) > LONGEST_LINE for line in self.text.splitlines())


def modules() -> dict[str, Module]:
    """Every module of the package by name. Empty files are left out."""
    paths = {_name(path): path for path in sorted(PACKAGE.rglob("*.py"))}
    found = {}
    for name, path in paths.items():
        text = path.read_text(encoding="utf-8")
        if text:
            early, late = (set(group) - {name} for group in _imports(ast.parse(text), paths.keys()))
            found[name] = Module(name, text, frozenset(early), frozenset(late - early))
    return found


def _name(path: Path) -> str:
    return ".".join(path.relative_to(ROOT).with_suffix("").parts).removesuffix(".__init__")


def _imports(tree: ast.Module, known: Mapping[str, Path] | set[str]) -> tuple[set[str], set[str]]:
    """Modules of `known` imported at the first level, and in functions; not those for type checkers only."""
    groups: tuple[set[str], set[str]] = (set(), set())

    def walk(node: ast.AST, inside: bool) -> None:
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            return
        if isinstance(node, ast.Import):
            groups[inside].update(alias.name for alias in node.names if alias.name in known)
        if isinstance(node, ast.ImportFrom) and node.module:
            for alias in node.names:
                submodule = f"{node.module}.{alias.name}"
                if submodule in known or node.module in known:
                    groups[inside].add(submodule if submodule in known else node.module)
        for child in ast.iter_child_nodes(node):
            walk(child, inside or isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda))

    walk(tree, False)
    return groups


def circles(graph: Mapping[str, set[str] | frozenset[str]]) -> list[list[str]]:
    """Groups of modules of which each reaches every other by imports."""
    reached = {start: _reachable(graph, start) for start in graph}
    groups = {
        frozenset(other for other in reached[start] if start in reached.get(other, ()))
        for start in graph
        if start in reached[start]
    }
    return sorted(sorted(group) for group in groups)


def _reachable(graph: Mapping[str, set[str] | frozenset[str]], start: str) -> set[str]:
    found: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        if (name := waiting.pop()) not in found:
            found.add(name)
            waiting += graph.get(name, ())
    return found


def layer_of(name: str, layers: list[str]) -> int | None:
    """The layer of pyproject.toml that holds this module (0: the highest), or None."""
    while name:
        for height, layer in enumerate(layers):
            if name in [one.strip() for one in layer.split("|")]:
                return height
        name = name.rpartition(".")[0]
    return None


def upward(found: Mapping[str, Module], *, late: bool) -> Iterator[str]:
    """Imports of a higher layer than one's own, "a -> b": those at the first level, or those inside functions."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"][
        "contracts"
    ]
    layers = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    for module in found.values():
        own = layer_of(module.name, layers)
        for other in sorted(module.late if late else module.imports):
            height = layer_of(other, layers)
            if own is not None and height is not None and height < own:
                yield f"{module.name} -> {other}"


def files_of_one_step() -> list[str]:
    """Modules whose functions are entered between the first and the second self-play step of a small nano run.

    In a process of its own. The sandbox is left out.
    """
    with tempfile.TemporaryDirectory() as folder, FORKS.Pool(1) as pool:
        names = [_name(Path(file)) for file in pool.apply(_entered, (f"{folder}/run",))]
    return [name for name in names if not name.startswith("azr_lite.sandbox")]


def _entered(folder: str) -> list[str]:
    """In the fork: the files, in order."""
    import azr_lite
    from azr_lite.selfplay import SelfPlay

    steps, entered, step = [], set(), SelfPlay.step

    def watch(frame: Any, event: str, argument: Any) -> None:
        code = frame.f_code
        # CO_OPTIMIZED: a function, not the body of a class or a module
        if event == "call" and code.co_flags & 1 and code.co_filename.startswith(str(PACKAGE)):
            entered.add(code.co_filename)

    def watched_step(self: SelfPlay, *arguments: Any) -> Any:
        steps.append(self)
        sys.setprofile(watch if len(steps) == 1 else None)
        return step(self, *arguments)

    SelfPlay.step = watched_step
    azr_lite.run(
        "nano", steps=2, output_dir=folder, batch_size=8, solver_batch_size=16, n_mc=3, seed_batch_factor=1,
        updates_per_step=1, micro_batch_size=12, eval_problems=0, eval_every=0, save_every=0, self_test=False, workers=1,
        device="cpu",
    )  # fmt: skip
    assert len(steps) == 2, f"SelfPlay.step was entered {len(steps)} times"
    return sorted(entered)


def figures(found: Mapping[str, Module]) -> dict[str, int]:
    """What tests/test_house.py holds to its limits, but for the traced step."""
    own = [module for module in found.values() if module.room != "course"]
    whole = {name: module.imports | module.late for name, module in found.items()}
    return {
        "files without course": len(own),
        "lines without course": sum(module.lines for module in own),
        "files in the root": sum(module.room == "root" for module in own),
        f"files over {LONGEST_FILE} lines": sum(
            module.lines > LONGEST_FILE and module.name not in MAY_BE_LONGER for module in own
        ),
        f"lines over {LONGEST_LINE} columns": sum(module.long_lines for module in found.values()),
        "import circles": len(circles({name: module.imports for name, module in found.items()})),
        "import circles with late imports": len(circles(whole)),
        "upward imports": len(list(upward(found, late=False))),
        "upward late imports": len(list(upward(found, late=True))),
    }


def table(found: Mapping[str, Module]) -> str:
    """Rooms, figures and what is behind them, for people."""
    rooms: dict[str, list[Module]] = {}
    for module in found.values():
        rooms.setdefault(module.room, []).append(module)
    lines = [f"{'room':12} {'files':>5} {'lines':>7}   longest"]
    for room, held in sorted(rooms.items(), key=lambda pair: (pair[0] != "root", pair[0])):
        longest = max(held, key=lambda module: module.lines)
        lines.append(
            f"{room:12} {len(held):5} {sum(m.lines for m in held):7,}   {longest.name.split('.')[-1]} {longest.lines}"
        )
    lines += ["", *(f"{name:34} {value:7,}" for name, value in figures(found).items()), ""]
    for title, graph in (
        ("circle", {name: module.imports for name, module in found.items()}),
        ("circle with late imports", {name: module.imports | module.late for name, module in found.items()}),
    ):
        lines += [f"{title}: {', '.join(group)}" for group in circles(graph)]
    lines += [f"upwards: {line}" for line in upward(found, late=False)]
    lines += [f"upwards, late: {line}" for line in upward(found, late=True)]
    lines += [
        f"longer than {LONGEST_FILE} lines: {module.name} {module.lines}"
        for module in found.values()
        if module.lines > LONGEST_FILE
    ]
    return "\n".join(lines)


def main() -> None:
    print(table(modules()))
    entered = files_of_one_step()
    print(f"\n{len(entered)} files in one training step: " + ", ".join(entered))


if __name__ == "__main__":
    main()
