"""Runs in the child: one program, its inputs, one answer line per input.

Request: `[program, entry, [inputs], recursion, look]`, each input a text of `wire.encode_arguments`; `look`: shall the
child say whether the program is plain? Answer, a JSON line per input:
`{"s":"ok","v":V}`, `{"s":"exc","t":name,"m":text}`, `{"s":"value",...}`, `{"s":"mem"}` or
`{"s":"rej","t":reason,"m":text}`. The kernel layers are the boundary; the import list here only gives clear messages.
Fewer lines than inputs: the rest did not fit into one child's room. Exit status `wire.PLAIN`: see `plain`.
The expected output is never here: a program can forge its own lines, which is the same as returning that value.
"""

from __future__ import annotations

import ast
import builtins
import encodings
import functools
import json
import os
import pkgutil
import sys
from collections.abc import Callable
from itertools import zip_longest
from types import BuiltinFunctionType, FunctionType, ModuleType
from typing import Any, Final

if __name__ == "__main__":
    sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
import plain  # type: ignore[import-not-found]
import wire  # type: ignore[import-not-found]

ALLOWED: Final = wire.ALLOWED_IMPORTS | {"__future__"}
_LAZY: Final = [
    *"collections.abc unicodedata weakref types warnings keyword reprlib inspect".split(),
    *(f"encodings.{found.name}" for found in pkgutil.iter_modules(encodings.__path__)),
]
"""What the allowed modules and the compiler import only when first used; after the lock-down nothing can be loaded."""

_SAMPLE: Final = """import math
from collections import Counter
def f(a, b=2):
    return [Counter(a).most_common(1), f'{b!r:>5}', {1: (2.5,)}]
"""
MESSAGE: Final = 300
_FUNCTIONS: Final = (FunctionType, BuiltinFunctionType, functools.partial, type(functools.cache(len)))
_import = builtins.__import__
_FACES: dict[str, ModuleType] = {}
"""What a program gets for a module: the same, without the modules that it uses itself (`statistics.random`)."""
_BUILTINS: dict[str, Any] = {}
_SPARE: list[dict[str, Any]] = []
"""Copies of `_BUILTINS` made before the fork: copying counts references, and so dirties 80 shared pages (0.15 ms) of a
child."""


def _guarded_import(name: str, globals: Any = None, locals: Any = None, fromlist: Any = (), level: int = 0) -> Any:
    if level or name.partition(".")[0] not in ALLOWED:
        raise ImportError(f"import of {str(name)[:60]!r} is not allowed here")
    return _face(_import(name, globals, locals, fromlist, level))


def _face(module: ModuleType) -> ModuleType:
    name = module.__name__
    if name not in _FACES:
        face = _FACES[name] = ModuleType(name, module.__doc__)
        for key, value in vars(module).items():
            if not isinstance(value, ModuleType):
                if key not in ("__builtins__", "__loader__", "__spec__"):
                    setattr(face, key, value)
            elif value.__name__.partition(".")[0] in ALLOWED:
                setattr(face, key, _face(value))
    return _FACES[name]


def _no_chance(*_: Any, **__: Any) -> None:
    raise RuntimeError("random numbers without a seed are not allowed here")


def prepare(rounds: int = 40) -> None:
    """Load everything a program may need, warm the interpreter, then cut the import system off from files."""
    import warnings

    os.register_at_fork = lambda **hooks: None  # `random` (behind `statistics`) would re-seed in every fork
    for name in sorted(ALLOWED) + _LAZY:
        try:
            __import__(name)
        except ImportError:
            continue
    random: Any = sys.modules["random"]
    for name, value in list(vars(random).items()):
        if getattr(value, "__self__", None) is random._inst:
            setattr(random, name, _no_chance)
    for name in ALLOWED:
        _face(sys.modules[name])
    warnings.simplefilter("ignore")
    _BUILTINS.update(vars(builtins), __import__=_guarded_import)
    inputs = ['{"t":["abc"]}', '{"t":[[1,{"d":[[1,{"s":[2]}]]}],1.5]}', '{"t":[]}']
    data = json.dumps([_SAMPLE, "f", inputs, 1000, True]).encode()
    for _ in range(rounds):
        serve(data, len)
    _SPARE.append(dict(_BUILTINS))
    sys.path[:] = []
    sys.meta_path[:] = []
    sys.path_importer_cache.clear()


def serve(data: bytes, write: Callable[[bytes], Any]) -> int:
    """Answer the inputs of one request; the exit status. Whatever the program raises becomes an answer line."""
    program, entry, inputs, recursion, look = json.loads(data.decode())
    sys.setrecursionlimit(recursion + 20)
    code, refusal, is_plain = _compile(program, look)
    room = wire.ROOM
    mask = hash(data) & 0xFFFFFFFFFFF0  # else an address's high bits were the same in all children of a fork server
    for text, names in zip_longest(inputs, _SPARE[: len(inputs)]):
        names = names or dict(_BUILTINS)
        names["id"] = lambda thing: id(thing) ^ mask
        line = refusal or _answer(code, entry, text, names)
        write(line)
        room -= len(line)
        if room < 0:
            break
    has_sets = any('{"s":[' in text or '{"z":[' in text for text in inputs)
    return wire.PLAIN if is_plain and not has_sets else 0


def _compile(program: str, look: bool) -> tuple[Any, bytes, bool]:
    try:
        if "import" not in program and not look:
            return compile(program, "<program>", "exec", dont_inherit=True), b"", False
        tree = ast.parse(program, "<program>")
        for node in ast.walk(tree):
            names: list[str] = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = ["." if node.level else node.module or "."]
            for name in names:
                if name.partition(".")[0] not in ALLOWED:
                    return None, _line("rej", t="forbidden_import", m=name), False
        is_plain = look and plain.is_plain(tree)
        # of the text: compiling a tree stops at the recursion limit, which differs between worlds
        return compile(program, "<program>", "exec", dont_inherit=True), b"", is_plain
    except MemoryError:
        return None, b'{"s":"mem"}\n', False
    except (SyntaxError, ValueError, RecursionError) as error:
        return None, _line("rej", t="syntax_error", m=str(error)), False


def _answer(code: Any, entry: str, text: str, names: dict[str, Any]) -> bytes:
    """Run in a fresh namespace on freshly decoded arguments; finalizers run before the answer is written."""
    space: dict[str, Any] = {"__name__": "program", "__builtins__": names}
    try:
        arguments = wire.parse(text)
        exec(code, space)
        if entry not in space:
            raise NameError(f"name {entry!r} is not defined")
        if type(space[entry]) not in _FUNCTIONS:
            return _line("rej", t="no_entry", m=f"{entry} is no function but a {type(space[entry]).__name__}")
        value = space[entry](*arguments)
        text = wire.encode(value)
        value = arguments = None
        space.clear()
        return b'{"s":"ok","v":' + text.encode() + b"}\n"
    except wire.WireError as error:
        return _line("value", t=error.reason, m=str(error))
    except MemoryError:
        return b'{"s":"mem"}\n'
    except BaseException as error:
        return _exception(error)


def _exception(error: BaseException) -> bytes:
    try:
        name = type(error).__name__
        return _line("exc", t=name if type(name) is str else "Exception", m=str(error))
    except MemoryError:
        return b'{"s":"mem"}\n'
    except BaseException:
        return _line("exc", t="Exception", m="")


def _line(status: str, **fields: str) -> bytes:
    cut = {key: text[:MESSAGE] for key, text in fields.items()}
    return json.dumps({"s": status, **cut}, separators=(",", ":")).encode() + b"\n"


def main(cpu_s: float, memory_mb: int) -> None:
    """The weak backend's child: one request on stdin, answers on stdout; the program sees neither."""
    try:
        import resource
    except ImportError:  # Windows
        resource = None  # type: ignore[assignment]
    prepare(rounds=0)
    data = sys.stdin.buffer.read()
    channel = os.dup(1)
    null = os.open(os.devnull, os.O_RDWR)
    for fd in (0, 1, 2):
        os.dup2(null, fd)
    if resource is not None:
        for limit, value in (
            (resource.RLIMIT_CPU, int(cpu_s) + 1),
            (resource.RLIMIT_AS, memory_mb << 20),
            (resource.RLIMIT_NPROC, 0),
        ):
            try:
                resource.setrlimit(limit, (value, value + (limit == resource.RLIMIT_CPU)))
            except (ValueError, OSError):
                continue  # macOS has no RLIMIT_AS
    os._exit(serve(data, lambda line: os.write(channel, line)))


if __name__ == "__main__":
    main(float(sys.argv[1]), int(sys.argv[2]))
