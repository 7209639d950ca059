"""The loop as one numbered diagram, and one step of it as a strip of panels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from azr_lite.course.figures import figure, look, style

if TYPE_CHECKING:
    from matplotlib.figure import Figure

INK, PAPER, PALE = "#222222", "#FFFFFF", "#8E8E8E"
WHO = {
    "propose": "the policy, as proposer",
    "solve": "the policy, as solver",
    "sandbox": "the sandbox runs programs",
    "": "counting and keeping",
    "update": "gradient descent",
}
"""Who acts in a stage, by the name of its look ("": nobody in particular, in pale grey)."""


@dataclass(frozen=True)
class Stage:
    """One stage. `name`: its method of `SelfPlay`. `who`: a key of `WHO`.

    `x`, `y`: where its box stands (None: it is an arrow).
    """

    number: int
    name: str
    title: str
    note: str
    who: str
    x: float | None = None
    y: float = 0.0


STAGES = (
    Stage(1, "sample_references", "references", "K old tasks", ""),
    Stage(2, "propose", "propose", "a new task,\n3 types", "propose", 14, 30),
    Stage(3, "validate", "validate", "run it twice:\nsame output?", "sandbox", 36, 30),
    Stage(4, "monte_carlo", "Monte-Carlo solve", "n answers\nto each task", "solve", 58, 30),
    Stage(5, "learnability", "learnability", "1 − r̄,\n0 at both ends", "", 80, 30),
    Stage(6, "insert", "insert", "valid tasks, no twins", ""),
    Stage(7, "solve", "solve", "replies that\ntrain the solver", "solve", 14, 12),
    Stage(8, "judge", "judge", "by value,\nnot by text", "sandbox", 31, 12),
    Stage(9, "reward", "rewards", "both roles,\n−1 to 1", "", 48, 12),
    Stage(10, "advantages", "TRR++", "6 groups,\n6 baselines", "", 65, 12),
    Stage(11, "make_batch", "update", "one, of the\nshared policy", "update", 82, 12),
)
"""The eleven stages of `SelfPlay.step`, in its order."""

WIDTH, HEIGHT = 14.0, 9.4


def loop_diagram() -> Figure:
    """The whole loop: boxes are stages, arrows are what goes from one to the next."""
    made, (axis,) = figure(1, 1, (9.2, 4.9))
    with style():
        axis.set_xlim(0, 92)
        axis.set_ylim(-1.5, 49)
        axis.axis("off")
        axis.set_title("One model writes the tasks and solves them; a sandbox says who was right")
        _box(axis, 7, 42, 80, 6, PALE, fill=0.2)
        buffers = "buffers of tasks:  deduction  ·  abduction  ·  induction"
        axis.text(47, 45, buffers, ha="center", va="center", fontsize=9, color=INK)
        _arrows(axis)
        for stage in STAGES:
            if stage.x is not None:
                _stage(axis, stage)
        for place, (name, words) in enumerate(WHO.items()):
            axis.text(3 + 18.2 * place, 0, "■", color=_colour(name), fontsize=12, va="center")
            axis.text(5 + 18.2 * place, 0, words, color=INK, fontsize=7.5, va="center")
    return made


def _stage(axis: Any, stage: Stage) -> None:
    colour = _colour(stage.who)
    _box(axis, stage.x - WIDTH / 2, stage.y - HEIGHT / 2, WIDTH, HEIGHT, colour)
    _number(axis, stage.x - WIDTH / 2, stage.y + HEIGHT / 2, stage.number, colour)
    axis.text(stage.x, stage.y + 2.3, stage.title, ha="center", va="center", fontsize=8, fontweight="bold", color=INK)
    axis.text(stage.x, stage.y - 1.2, stage.note, ha="center", va="center", fontsize=8, color=INK, linespacing=1.15)


def _arrows(axis: Any) -> None:
    top, bottom, first, last = 30 + HEIGHT / 2, 30 - HEIGHT / 2, STAGES[0], STAGES[5]
    for left, right in ((1, 2), (2, 3), (3, 4), (6, 7), (7, 8), (8, 9), (9, 10)):
        a, b = STAGES[left], STAGES[right]
        _path(axis, [(a.x + WIDTH / 2, a.y), (b.x - WIDTH / 2, b.y)])
    _path(axis, [(14, 42), (14, top)])
    _path(axis, [(80, top), (80, 42)])
    for x, stage in ((14, first), (80, last)):
        _number(axis, x, (42 + top) / 2 + 0.2, stage.number, _colour(stage.who))
    axis.text(17, (42 + top) / 2, f"{first.title}: {first.note}", fontsize=8, va="center", color=INK)
    axis.text(77, (42 + top) / 2, f"{last.title}: {last.note}", fontsize=8, va="center", ha="right", color=INK)
    above = 12 + HEIGHT / 2
    _path(axis, [(58, bottom), (58, 22.6), (14, 22.6), (14, above)])
    axis.text(36, 23.2, "valid tasks, and the answers to them", fontsize=7.5, ha="center", va="bottom", color=INK)
    _path(axis, [(80, bottom), (80, 19.4), (48, 19.4), (48, above)])
    axis.text(67, 20, "the proposer's reward", fontsize=7.5, ha="center", va="bottom", color=INK)
    colour = _colour("update")
    _path(axis, [(82, 12 - HEIGHT / 2), (82, 3.6), (2.5, 3.6), (2.5, 30), (14 - WIDTH / 2, 30)], colour)
    axis.text(48, 4.2, "new weights: the next step begins", fontsize=7.5, ha="center", va="bottom", color=INK)


def _colour(who: str) -> str:
    return look(who).colour if who else PALE


def _box(axis: Any, x: float, y: float, width: float, height: float, colour: str, fill: float = 0.1) -> None:
    from matplotlib.colors import to_rgba
    from matplotlib.patches import FancyBboxPatch

    shape = "round,pad=0,rounding_size=1.4"
    axis.add_patch(FancyBboxPatch((x, y), width, height, shape, facecolor=PAPER, edgecolor="none", zorder=2))
    look = {"facecolor": to_rgba(colour, fill), "edgecolor": colour, "linewidth": 1.6}
    axis.add_patch(FancyBboxPatch((x, y), width, height, shape, zorder=2, **look))


def _number(axis: Any, x: float, y: float, number: int, colour: str) -> None:
    edge = {"markeredgecolor": PAPER, "markeredgewidth": 1.2}
    axis.plot([x], [y], marker="o", markersize=14, color=colour, zorder=3, clip_on=False, **edge)
    font = {"fontsize": 8.5 if number < 10 else 7.5, "fontweight": "bold"}
    axis.text(x, y - 0.1, str(number), color=PAPER, ha="center", va="center", zorder=4, **font)


def _path(axis: Any, points: Sequence[tuple[float, float]], colour: str = "#555555") -> None:
    """Straight pieces, with an arrow's head on the last."""
    xs, ys = zip(*points, strict=True)
    axis.plot(xs[:-1], ys[:-1], color=colour, linewidth=1.3, zorder=1, solid_joinstyle="round")
    head = {"arrowstyle": "-|>", "color": colour, "linewidth": 1.3, "shrinkA": 0, "shrinkB": 0}
    axis.annotate("", xy=points[-1], xytext=points[-2], arrowprops=head, zorder=1)


def strip(texts: Sequence[str]) -> Figure:
    """One step, panel by panel: what came out of each stage. `texts`: at most nine short lines for each of `STAGES`."""
    made, axes = figure(3, 4, (9.6, 4.86))
    *panels, spare = axes
    with style():
        for axis in axes:
            axis.axis("off")
        for axis, stage, text in zip(panels, STAGES, texts, strict=True):
            colour = _colour(stage.who)
            axis.set_xlim(0, 40)
            axis.set_ylim(0, 28)
            _box(axis, 0.6, 0.4, 38.8, 24.4, colour, fill=0.06)
            _number(axis, 2.2, 25, stage.number, colour)
            axis.text(4.4, 25.5, stage.title, fontsize=8.5, fontweight="bold", color=INK, va="bottom")
            shown = text.splitlines()[:9]
            large = len(shown) <= 7 and max(map(len, shown), default=0) <= 25
            font = {"fontsize": 8.8 if large else 6.8, "family": "monospace", "linespacing": 1.25}
            axis.text(2.2, 21.8, "\n".join(shown), color=INK, va="top", **font)
        words = "What every panel shows\nis a real object of this\nstep; colours say who\nacted, as in the diagram."
        spare.text(0.08, 0.55, words, fontsize=8, color=INK, va="center", transform=spare.transAxes)
    return made
