"""The step benchmark of real presets: what it measures, on the nano model sampled by transformers."""

import pytest

pytest.importorskip("torch")

from azr_lite.presets import preset
from tests.benchmarks.step_against_trl import STAGES, bench_plain, plain_table, summary


def test_a_bench_is_whole_and_compares_the_same_work():
    config = preset(
        "nano",
        batch_size=2,
        solver_batch_size=4,
        n_mc=2,
        micro_batch_size=6,
        updates_per_step=1,
        seed_rounds=1,
        max_reply_tokens=24,
        workers=1,
    )
    result = bench_plain(config, 2)
    assert result["steps"] == 1
    assert result["seconds_a_step"]["whole"] == pytest.approx(
        sum(result["seconds_a_step"][stage] for stage in STAGES), rel=0.01
    )
    assert sum(result["share"].values()) == pytest.approx(1.0)
    assert set(result["plain_trl"]["seconds"]) == {"generate", "update"}
    assert all(pair["ours"] > 0 and pair["plain"] > 0 for pair in result["plain_trl"]["seconds"].values())
    assert result["tokens_a_second"]["generate"] > 0
    assert all(len(line) <= 80 for line in plain_table(result).splitlines())


def test_bars_are_judged_by_their_numbers():
    row = {"generate": 8.0, "sandbox": 1.0, "update": 0.9, "rest": 0.1, "sampled": 80, "trained": 90}
    seconds = {"generate": (3.0, 2.0), "update": (1.0, 2.0)}
    result = summary(preset("lora-0.5b-8gb"), [row], seconds, 10)
    assert [bar["pass"] for bar in result["bars"]] == [True, True, True]
    assert result["bars"][2]["value"] == pytest.approx(1.0)
    assert result["tokens_a_second"] == {"generate": 10.0, "update": pytest.approx(100.0)}
    slow = summary(preset("lora-0.5b-8gb"), [{**row, "sandbox": 2.0, "rest": 3.0}], {"update": (1.2, 1.0)}, 10)
    assert [bar["pass"] for bar in slow["bars"]] == [False, False, False]
