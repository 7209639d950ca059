"""The few lines that notebooks 07 and 09 work out by hand, against the libraries that do it in earnest."""

import numpy as np
import pytest

from azr_lite.advantages import whiten_sequences
from azr_lite.config import Config
from azr_lite.course.numerics import merge, pooled, to_bfloat16
from azr_lite.errors import ConfigError


def test_the_merge_is_pefts():
    torch = pytest.importorskip("torch")
    peft = pytest.importorskip("peft")
    torch.manual_seed(0)
    model = torch.nn.Sequential(torch.nn.Linear(5, 3, bias=False))
    before = model[0].weight.detach().numpy().copy()
    adapted = peft.get_peft_model(
        model, peft.LoraConfig(r=2, lora_alpha=6, target_modules=["0"], init_lora_weights=False)
    )
    layer = adapted.base_model.model[0]
    a, b = (getattr(layer, name)["default"].weight.detach().numpy().copy() for name in ("lora_A", "lora_B"))
    merged = adapted.merge_and_unload()[0].weight.detach().numpy()
    np.testing.assert_allclose(merge(before, a, b, alpha=6), merged, rtol=1e-6)
    assert not np.allclose(before, merged)


def test_bfloat16_rounds_as_torch_does():
    torch = pytest.importorskip("torch")
    values = np.concatenate(
        [np.random.default_rng(0).normal(size=1000).astype(np.float32), np.float32([0, 1.00390625, -1.01171875, 3e38])]
    )
    np.testing.assert_array_equal(to_bfloat16(values), torch.tensor(values).bfloat16().float().numpy())


def test_pooled_statistics_are_those_of_all_numbers_together():
    parts = [np.array([1.0, -0.5, -1.0]), np.array([1.0]), np.array([-1.0, -1.0, 0.25, 1.0])]
    mean, std = pooled([len(p) for p in parts], [p.mean() for p in parts], [p.std() for p in parts])
    everything = np.concatenate(parts)
    assert (mean, std) == pytest.approx((everything.mean(), everything.std()))
    np.testing.assert_allclose((everything - mean) / std, whiten_sequences(everything))
    assert pooled([2, 3], [0.1, 0.1], [0.0, 0.0])[1] == pytest.approx(0.0, abs=1e-8)


def test_a_batch_splits_evenly_over_processes_or_is_refused():
    config = Config(batch_size=64, micro_batch_size=4, updates_per_step=2)
    assert config.micro_batches(1) == 48
    assert config.micro_batches(8) == 6
    with pytest.raises(ConfigError, match="384 sequences does not split into 2 updates on each of 5 processes"):
        config.micro_batches(5)
