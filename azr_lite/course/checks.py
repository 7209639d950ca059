"""Exercise checks: they run what a learner wrote on probes, and name the mistake where it is a known one.

An exercise re-creates something public in the package, so the package is the answer key. A mistake is a whole wrong
function. Where the learner's says the same on every probe, it is that mistake; where only on every probe that came out
wrong, the message says "you may have". So a check needs no guess about how the code is written.
The learner's code runs in the notebook's kernel: only what a *model* wrote goes to the sandbox.
"""

from __future__ import annotations

import copy
import inspect
import math
import signal
import textwrap
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from importlib import import_module
from numbers import Real
from pkgutil import iter_modules
from typing import Any

from azr_lite.course import my_work
from azr_lite.errors import AzrError

SECONDS = 10
"""What one check may take."""

COLUMNS = 100
WIDTH = 160
"""Longest value shown in a message."""


class ExerciseError(AzrError):
    """An exercise was asked for that does not exist, or twice under one name."""


class Unfit(AzrError):
    """What a stand-in of a check says of how it was used: the reason by itself."""


@dataclass(frozen=True)
class Mistake:
    """A wrong answer that learners give, and what to tell them."""

    wrong: Any
    says: str


@dataclass(frozen=True)
class Late:
    """A key that is imported at first use: exercises with torch are listed where there is no torch."""

    module: str
    name: str

    @property
    def function(self) -> Callable[..., Any]:
        return getattr(import_module(self.module), self.name)

    @property
    def __name__(self) -> str:
        return self.name

    def __call__(self, *arguments: Any, **named: Any) -> Any:
        return self.function(*arguments, **named)


@dataclass(frozen=True)
class Raised:
    """What a probe observed when the function raised an error: errors are equal when their type is."""

    kind: str
    text: str = field(default="", compare=False)

    def __str__(self) -> str:
        return f"{self.kind}: {self.text}" if self.text else self.kind


class Shown(str):
    """A value as it is written: a list is no tuple here, and True is not 1."""

    __repr__ = str.__str__


@dataclass(frozen=True)
class Exercise:
    """One exercise. `key`: the answer, a public function of the package or a value.

    `probes()`: argument tuples, made anew for each look, since learners' functions may change what they are given.
    `observe` replaces calling on probes where one call says nothing (draws, objects): it takes the answer, and returns
    a list of what it saw, and `shows` then names each. `hint` is printed with a mistake nobody foresaw.
    """

    name: str
    key: Any
    mistakes: Sequence[Mistake]
    probes: Callable[[], Sequence[tuple[Any, ...]]] | None = None
    observe: Callable[[Any], Sequence[Any]] | None = None
    shows: Sequence[str] = ()
    points: int = 1
    hint: str = ""
    notebook: str = ""

    def look(self, mine: Any) -> list[Any]:
        """What this answer does on each probe; errors are observations too. TimeoutError after `SECONDS`."""
        with _limit(SECONDS):
            if self.observe is not None:
                seen = tried(lambda: list(self.observe(mine)))
                return [seen] if isinstance(seen, Raised) else seen
            if self.probes is None:
                return [mine]
            return [tried(mine, *copy.deepcopy(arguments)) for arguments in self.probes()]

    @cached_property
    def mistaken(self) -> list[list[Any]]:
        """What each known mistake does on each probe."""
        return [self.look(mistake.wrong) for mistake in self.mistakes]

    def spoiled(self, mine: Any) -> int | None:
        """The first probe whose arguments this answer changes and the key does not, or None. `mine` is known to end."""
        if self.probes is None or self.observe is not None:
            return None
        before, given, keys = (copy.deepcopy(list(self.probes())) for _ in range(3))
        for place, arguments in enumerate(before):
            tried(mine, *given[place])
            tried(self.key, *keys[place])
            if same(keys[place], arguments) and not same(given[place], arguments):
                return place
        return None

    def label(self, place: int) -> str:
        """What a probe was, for people."""
        if self.shows:
            return self.shows[place]
        if self.probes is None or self.observe is not None:
            return ""
        given = ", ".join(_short(argument) for argument in self.probes()[place])
        return f"{self.name}({given})"


@dataclass(frozen=True)
class Judgement:
    """`state`: "not started", "wrong" or "right". `mistake`: the place of a known mistake in the exercise's list."""

    name: str
    state: str
    because: str = ""
    mistake: int | None = None

    def __str__(self) -> str:
        mark = {"not started": "○", "wrong": "✗", "right": "✓"}[self.state]
        return f"{mark} {self.name}: {self.state}" + (f" because {self.because}" if self.because else "")


_EXERCISES: dict[str, Exercise] = {}


def exercise(**fields: Any) -> Exercise:
    """Make an exercise known. Its file names its notebook: ``exercises/nb03.py`` belongs to notebook 03."""
    caller = inspect.stack()[1].frame.f_globals["__name__"]
    made = Exercise(**fields, notebook=caller.rpartition(".nb")[2])
    known = _EXERCISES.get(made.name)
    if known is not None and known.notebook != made.notebook:
        places = f"{known.notebook} and {made.notebook}"
        raise ExerciseError(f"two exercises are called {made.name!r}, in notebooks {places}; rename one")
    _EXERCISES[made.name] = made
    return made


def exercises() -> dict[str, Exercise]:
    """All exercises of the course, by name, in its order."""
    from azr_lite.course import exercises as shelf

    for module in iter_modules(shelf.__path__):  # each makes its exercises known
        import_module(f"{shelf.__name__}.{module.name}")
    return dict(sorted(_EXERCISES.items(), key=lambda item: item[1].notebook))


def exercise_of(name: str) -> Exercise:
    """The exercise of that name; ExerciseError with the nearest names otherwise."""
    known = exercises()
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=3)
        hint = f"did you mean {', '.join(near)}?" if near else "see check.list()"
        raise ExerciseError(f"no exercise is called {name!r}; {hint}")
    return known[name]


def judge_answer(name: str, mine: Any) -> Judgement:
    """Compare an answer with the key on every probe. Never raises for what the learner's code does."""

    def wrong(because: str, mistake: int | None = None) -> Judgement:
        return Judgement(name, "wrong", because, mistake)

    task = exercise_of(name)
    if mine is ...:
        return Judgement(name, "not started")
    if isinstance(task.key, Late):
        _ = task.key.function  # imported here, where no time limit can interrupt it half-way
    if callable(task.key) and not callable(mine):
        return wrong(f"it is {_short(mine)}, not a function; pass the function itself, without calling it")
    try:
        seen = task.look(mine)
    except TimeoutError:
        return wrong(f"it was still running after {SECONDS} seconds; is there a loop that never ends?")
    right = task.look(task.key)
    if any(value is ... for value in seen):
        return Judgement(name, "not started")
    if callable(task.key) and all(value is None for value in seen) and any(value is not None for value in right):
        return wrong("it returns nothing (None); is there a `return`?")
    bad = [place for place in range(len(right)) if place >= len(seen) or not same(seen[place], right[place])]
    if not bad:
        halves = [value for value in seen if isinstance(unwrapped(value), float)]
        if halves and all(type(value) is int for value in right if not isinstance(value, Raised)):
            return wrong(f"it gives {_short(halves[0])}, a float, where a whole number is asked: use //")
        place = task.spoiled(mine)
        if place is None:
            return Judgement(name, "right")
        spoils = "it returns what is right, but changes what it was given, which the caller still needs; work on a copy"
        return wrong(f"{spoils} (seen in {task.label(place)})")
    likely = None
    for number, its in enumerate(task.mistaken):
        if len(its) == len(seen) and all(map(same, seen, its)):
            return wrong(task.mistakes[number].says, number)
        shared = min(len(seen), len(its))
        # what is right there is no sign of the mistake
        told = (
            place < shared and not same(its[place], right[place]) and _alike(seen[place], its[place]) for place in bad
        )
        if likely is None and all(told):
            likely = number
    if likely is None:
        return wrong(_unknown(task, bad[0], seen, right))
    says = task.mistakes[likely].says
    return wrong(says if says.startswith("you may") else f"you may have this mistake: {says}", likely)


def _alike(mine: Any, mistaken: Any) -> bool:
    """The same, or errors of any two kinds: what stops one wrong function may stop another of its sort elsewhere."""
    return same(mine, mistaken) or (isinstance(mine, Raised) and isinstance(mistaken, Raised))


def _unknown(task: Exercise, place: int, seen: Sequence[Any], right: Sequence[Any]) -> str:
    if task.observe is not None and isinstance(seen[0], Raised):  # there the whole look ended
        return f"{seen[0].text if seen[0].kind == Unfit.__name__ else f'it stops with {seen[0]}'}. {task.hint}".strip()
    got = _short(seen[place]) if place < len(seen) else "nothing"
    if not callable(task.key) and not task.shows:
        return f"{got} is not it. {task.hint}".strip()
    label = task.label(place)
    return f"{label or 'a probe'} gave {got}, expected {_short(right[place])}. {task.hint}".strip()


def unwrapped(value: Any) -> Any:
    """Arrays and tensors as lists and numbers; anything else as it is."""
    return value.tolist() if type(value).__module__.startswith(("numpy", "torch")) else value


def same(a: Any, b: Any, near: float = 1e-6) -> bool:
    """Equal: numbers within 1e-6 (tensors of 32 bits or less within 1e-4), sequences item by item, texts with texts."""
    if any(str(getattr(value, "dtype", "")).endswith(("float32", "float16")) for value in (a, b)):
        near = 1e-4
    a, b = unwrapped(a), unwrapped(b)
    if isinstance(a, bool) or isinstance(b, bool):
        return isinstance(a, bool | int) and isinstance(b, bool | int) and a == b
    if isinstance(a, Real) and isinstance(b, Real):
        try:
            return a == b or math.isclose(a, b, rel_tol=near, abs_tol=near / 1000) or (math.isnan(a) and math.isnan(b))
        except OverflowError:  # a whole number beyond what a float can hold
            return False
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y, near) for x, y in zip(a, b, strict=True))
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(same(a[key], b[key], near) for key in a)
    try:
        return bool(a == b)
    except Exception:
        return False


def tried(call: Callable[..., Any], *arguments: Any) -> Any:
    """What a call gives; an error is an observation too. TimeoutError is not: it ends the check."""
    try:
        return call(*arguments)
    except TimeoutError:
        raise
    except (Exception, SystemExit) as error:
        return Raised(type(error).__name__, str(error))


@contextmanager
def _limit(seconds: int) -> Iterator[None]:
    """TimeoutError after so many seconds, where signals allow it (main thread, not Windows)."""
    if threading.current_thread() is not threading.main_thread() or not hasattr(signal, "SIGALRM"):
        yield
        return

    def stop(*_: Any) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def _short(value: Any) -> str:
    if isinstance(value, float):
        value = float(f"{value:.10g}")  # 0.12499999999999989 would send people after a mistake that is none
    try:
        text = " ".join((str(value) if isinstance(value, Raised) else repr(value)).split())
    except Exception:  # such as a number of more than 4,300 digits
        text = f"a value of type {type(value).__name__} that cannot be shown"
    return text if len(text) <= WIDTH else text[: WIDTH - 2] + " …"


class Check:
    """What notebooks import: ``check.NAME(mine)`` judges, ``check.use`` goes on with what is right, ``check.reveal``
    shows the key."""

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        if name.startswith("_"):
            raise AttributeError(name)
        exercise_of(name)

        def run(mine: Any) -> None:
            print(textwrap.fill(str(judge_answer(name, mine)), COLUMNS, subsequent_indent="  ", break_on_hyphens=False))

        run.__name__, run.__doc__ = name, f"Judge an answer to the exercise {name!r}."
        return run

    def __dir__(self) -> list[str]:
        return [*exercises(), "list", "mine", "reveal", "use"]

    def use(self, mine: Any, fallback: Any, name: str = "") -> Any:
        """The learner's answer when it is right, the fallback otherwise, so that a notebook runs to its end either way.

        `name`: the exercise, where the answer is a value or a function of another name. What is right is kept in
        ``my_work.py`` for later notebooks (`mine`).
        """
        name = name or getattr(fallback, "__name__", "") or getattr(mine, "__name__", "")
        result = judge_answer(name, mine)
        if result.state == "right":
            my_work.keep(name, mine)
            return mine
        print(f"{name} is {result.state}: going on with the package's own.")
        return fallback

    def mine(self, name: str, fallback: Any) -> Any:
        """What the learner wrote in an earlier notebook, where ``my_work.py`` has it and it is right."""
        try:
            found = my_work.load(name)
        except Exception as error:
            found, because = None, f"my_work.py stops with {type(error).__name__}: {error}"
        else:
            because = f"my_work.py has no {name}"
        if found is not None:
            result = judge_answer(name, found)
            if result.state == "right":
                print(f"{name:16} yours, from my_work.py")
                return found
            because = f"yours is {result.state}" + (f", because {result.because}" if result.because else "")
        print(textwrap.fill(f"{name:16} the package's own: {because}", COLUMNS, subsequent_indent=" " * 17))
        return fallback

    def reveal(self, name: str) -> None:
        """Print the answer: the source of the package's own function."""
        key = exercise_of(name).key
        key = key.function if isinstance(key, Late) else key
        if not callable(key):
            print(f"{name} = {key!r}")
            return
        print(f"# {inspect.getmodule(key).__name__}.{key.__qualname__}")  # type: ignore[union-attr]
        print(inspect.getsource(key))

    def list(self, notebook: str = "") -> None:
        """Print the exercises, of one notebook or of the course, with their points."""
        for name, one in exercises().items():
            if notebook in ("", one.notebook):
                print(f"{one.notebook}  {name:<32} {one.points} point{'s' * (one.points != 1)}")


check = Check()
