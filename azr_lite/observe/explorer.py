"""`explore(run)`: the proposals of a run in a notebook, as a table anywhere and with filters where a kernel is there to answer.

Comes in: a run directory with its tasks.jsonl.  Goes out: an `Explorer`, which shows itself.
Not covered: choosing and tracing proposals (`proposals.py`), how one looks (`report.py`), the page that needs no kernel (`report.browse`).

The table comes first and needs nothing. The widgets under it keep no state in the notebook: a stored notebook shows the table. Texts of
the model reach the page escaped: the list takes plain text, and the opened proposal stands in a frame without rights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azr_lite.errors import RunDirectoryError
from azr_lite.observe.gather import gather
from azr_lite.observe.lineage import trace
from azr_lite.observe.proposals import Proposal, reasons, survey
from azr_lite.observe.report import detail, grid
from azr_lite.observe.rollouts import printable
from azr_lite.observe.surroundings import live as someone_there

if TYPE_CHECKING:
    from ipywidgets import VBox

KEPT = 300
"""Proposals to choose from, drawn evenly over the run; with a few of every reason beside."""

TABLE = 60
"""Rows of the static table: it is stored in the notebook."""

ANY = "any"


@dataclass
class Explorer:
    """Proposals to look through. `programs`: of parents, by id; `total`: proposals the run made; `live`: whether to offer filters."""

    proposals: list[Proposal]
    programs: dict[str, str] = field(repr=False)
    total: int
    live: bool

    def pick(
        self,
        type: str = ANY,
        verdict: str = ANY,
        steps: tuple[int, int] | None = None,
        rates: tuple[float, float] = (0.0, 1.0),
    ) -> list[Proposal]:
        """The kept proposals of a type, a verdict (valid, rejected, or a reason), steps and solve rates, all bounds included.

        A proposal that nobody tried to solve has no rate, and is left out as soon as `rates` is narrowed.
        """
        return [
            p
            for p in self.proposals
            if type in (ANY, p.type)
            and verdict in (ANY, p.verdict, p.reason)
            and (steps is None or steps[0] <= p.step <= steps[1])
            and (rates == (0.0, 1.0) if p.solve_rate is None else rates[0] <= p.solve_rate <= rates[1])
        ]

    def widgets(self) -> VBox:
        """Filters, the list, and the opened proposal. Needs ipywidgets."""
        import ipywidgets as w

        first, last = min(p.step for p in self.proposals), max(p.step for p in self.proposals)
        wide = w.Layout(width="420px")
        label = {"description_width": "80px"}
        verdicts = [
            (ANY, ANY),
            ("valid", "valid"),
            ("rejected", "rejected"),
            *((f"rejected: {r}", r) for r in reasons(self.proposals)),
        ]
        types = [ANY, *sorted({p.type for p in self.proposals})]
        kind = w.Dropdown(options=types, description="type", style=label)
        verdict = w.Dropdown(options=verdicts, description="verdict", style=label)
        steps = w.IntRangeSlider(
            value=(first, last),
            min=first,
            max=last,
            description="steps",
            style=label,
            layout=wide,
            continuous_update=False,
        )
        rates = w.FloatRangeSlider(
            value=(0.0, 1.0),
            min=0.0,
            max=1.0,
            step=0.05,
            description="solve rate",
            style=label,
            layout=wide,
            continuous_update=False,
        )
        said = w.Label()
        rows = w.Select(rows=10, layout=w.Layout(width="auto"), description="proposals", style=label)
        opened = w.HTML()

        def narrow(_: Any = None) -> None:
            found = self.pick(kind.value, verdict.value, tuple(steps.value), tuple(rates.value))
            before = rows.value
            rows.options = [(_row(p), place) for place, p in enumerate(self.proposals) if any(p is f for f in found)]
            left_out = "" if tuple(rates.value) == (0.0, 1.0) else " Proposals without a solve rate are left out."
            said.value = f"{len(found)} of {len(self.proposals)} listed; the run made {self.total}. Seeds are of step -1.{left_out}"
            places = [place for _, place in rows.options]
            rows.value = before if before in places else places[0] if places else None

        def unfold(_: Any = None) -> None:
            opened.value = "" if rows.value is None else detail(self.proposals[rows.value], self.programs)._repr_html_()

        for choice in (kind, verdict, steps, rates):
            choice.observe(narrow, "value")
        rows.observe(unfold, "value")
        narrow()
        wrap = w.Layout(flex_flow="row wrap")  # a narrow window puts one under the other
        return w.VBox([w.HBox([kind, verdict], layout=wrap), w.HBox([steps, rates], layout=wrap), said, rows, opened])

    def _repr_html_(self) -> str:
        """The table, with rows drawn evenly over the kept ones."""
        count = min(TABLE, len(self.proposals))
        drawn = [self.proposals[place * len(self.proposals) // count] for place in range(count)]
        return grid([(proposal, _line(proposal)) for proposal in drawn], self.total)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        return {
            "text/html": self._repr_html_(),
            "text/plain": f"{len(self.proposals)} of {self.total} proposals to look through",
        }

    def _ipython_display_(self) -> None:
        from IPython.display import display

        display(self._repr_mimebundle_(), raw=True)
        if self.live:
            made = self.widgets()._repr_mimebundle_()
            display({**made, "text/plain": "The filters need a running kernel: run this cell again."}, raw=True)


def explore(run: str | Path, live: bool | None = None) -> Explorer:
    """The proposals of a run: a table, and under it filters by type, verdict, step and solve rate with all that is known of one.

    `live`: with filters; None: where a notebook's kernel, ipywidgets and a reader are there (`surroundings.live`).
    RunDirectoryError where the run kept no proposals. `browse` makes a page with filters that needs no kernel.
    """
    picture = gather(run)
    found = survey(picture, KEPT)
    shown = found.shown()
    if not shown:
        raise RunDirectoryError(
            f"{picture.run.path} has no proposals to look through: tasks.jsonl is missing or empty; name a whole run that has made a step"
        )
    programs, _ = trace(picture, shown)
    return Explorer(shown, programs, found.count, someone_there() if live is None else live)


def _row(proposal: Proposal) -> str:
    """One line of the list: plain text, which the front end shows as it is."""
    when = "seed" if proposal.step < 0 else f"step {proposal.step}"
    rate = "" if proposal.solve_rate is None else f" r̄ {proposal.solve_rate:.2f}"
    verdict = proposal.verdict if proposal.ok else proposal.reason or proposal.verdict
    return f"{when} · {proposal.type} · {verdict}{rate} · {_line(proposal)}"


def _line(proposal: Proposal) -> str:
    """The beginning of the program in one line: the first line alone is nearly always ``def f(x):``."""
    lines = [line.strip() for line in printable(proposal.program or proposal.text).split("\n")]
    return " ⏎ ".join(line for line in lines if line)[:100]
