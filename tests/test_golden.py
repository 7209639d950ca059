"""What every viewer prints of the recorded runs, word for word: `python tests/test_golden.py` writes tests/golden anew."""

import contextlib
import hashlib
import io
import re
import sys
from pathlib import Path

import pytest

from azr_lite.cli import main
from azr_lite.observe.run import Run

ROOT = Path(__file__).parents[1]
GOLDEN = ROOT / "tests" / "golden"
RUNS = "data_samples/runs"
WHOLE, SAMPLE, HEALTHY, FLIPPED = (
    f"{RUNS}/{name}" for name in ("whole/nano-small", "smollm2-lora", "bugs/healthy", "bugs/sign-flip")
)
COMMANDS = {
    "show-metric": ["show", "solve_rate"],
    "show-metrics": ["show", "metrics"],
    "show-step": ["show", WHOLE, "--step", "3", "--count", "4"],
    "show-worst": ["show", WHOLE, "--worst", "3"],
    "show-best": ["show", HEALTHY, "--best", "2", "--role", "propose"],
    "show-type": ["show", WHOLE, "--step", "5", "--role", "solve", "--type", "abduction", "--count", "2"],
    "replay": ["replay", WHOLE, "--step", "3"],
    "replay-json": ["replay", WHOLE, "--json"],
    "rescore": ["replay", WHOLE, "--rescore", "estimator=global", "zero_learnability=upstream"],
    "rescore-json": ["replay", HEALTHY, "--rescore", "zero_learnability=upstream", "--json"],
    "doctor-rerun": ["doctor", WHOLE, "--rerun", "20"],
    "doctor-json": ["doctor", FLIPPED, "--json"],
    "doctor-sample": ["doctor", SAMPLE],
    "analyse": ["analyse", WHOLE, "--explain"],
    "analyse-json": ["analyse", WHOLE, "--json", "--periods", "2"],
    "analyse-sample": ["analyse", SAMPLE],
    "watch": ["watch", WHOLE],
    "watch-sample": ["watch", SAMPLE],
    "watch-bug": ["watch", FLIPPED],
}
REPORTS = {"report": [WHOLE], "report-sample": [SAMPLE], "report-two": [FLIPPED, HEALTHY]}


def printed(words: list[str]) -> str:
    """Exit status and output of one command."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        status = main(words)
    return f"exit status {status}\n" + "\n".join(line.rstrip() for line in out.getvalue().splitlines()) + "\n"


def doctor_of_all() -> str:
    """The doctor's words on every recorded run."""
    runs = sorted(str(path.parent) for path in Path(RUNS).rglob("metrics.jsonl"))
    return "\n".join(printed(["doctor", run]) for run in runs)


def page(words: list[str], folder: Path) -> str:
    """A page's digest, and its text up to the list of proposals."""
    file = folder / "report.html"
    file.unlink(missing_ok=True)
    printed(["report", *words, "--output", str(file)])
    return digest_and_text(file.read_text(encoding="utf-8"))


def digest_and_text(text: str) -> str:
    """The digest of a page without its styles, script and policy; and its visible text, a line per element, at most 400 lines."""
    text = re.sub(r"<(style|script)>.*?</\1>|<meta[^>]*>", "", text, flags=re.DOTALL)
    lines = [line.strip() for line in re.sub(r"<[^>]*>", "\n", text).split("\n")]
    shown = [line for line in lines if line][:400]
    return f"sha256 {hashlib.sha256(text.encode()).hexdigest()}, {len(text)} characters\n" + "\n".join(shown) + "\n"


def figure_of(path: str) -> str:
    """The dashboard outside of a notebook: its texts, titles, labels, and the ends of every line."""
    made = Run(path).dashboard()
    lines = [text.get_text() for text in made.texts]
    for axis in made.axes:
        lines.append(
            f"{axis.get_title(loc='left')} | {axis.get_ylabel()} | {[f'{end:.4g}' for end in axis.get_ylim()]}"
        )
        for line in axis.get_lines():
            x, y = list(line.get_xdata()), [float(value) for value in line.get_ydata()]
            lines.append(f"  {line.get_label()}: {len(y)} points, {x[0]:g} to {x[-1]:g}, {y[0]:.6g} to {y[-1]:.6g}")
    return "\n".join(lines) + "\n"


def outputs(folder: Path) -> dict:
    """Name to a function that gives the text."""
    return {
        **{name: lambda words=words: printed(words) for name, words in COMMANDS.items()},
        **{name: lambda words=words: page(words, folder) for name, words in REPORTS.items()},
        "doctor-all": doctor_of_all,
        "browse": lambda: digest_and_text(Run(WHOLE).tasks().page),
        "dashboard": lambda: figure_of(WHOLE),
        "dashboard-sample": lambda: figure_of(SAMPLE),
    }


@pytest.mark.parametrize("name", outputs(Path()))
def test_viewers_say_what_they_said(name, tmp_path, monkeypatch):
    monkeypatch.chdir(ROOT)
    monkeypatch.setenv("COLUMNS", "80")
    wanted = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert outputs(tmp_path)[name]() == wanted


def test_goldens_are_small():
    assert sum(path.stat().st_size for path in GOLDEN.iterdir()) <= 300_000


if __name__ == "__main__":
    import tempfile

    GOLDEN.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as place:
        for name, made in outputs(Path(place)).items():
            if not sys.argv[1:] or name in sys.argv[1:]:
                (GOLDEN / f"{name}.txt").write_text(made(), encoding="utf-8")
