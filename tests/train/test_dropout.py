from __future__ import annotations

import pytest
import torch
from torch import nn

from bertie.train.dropout import ByteDropout, use_fast_dropout


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_it_drops_its_share_and_keeps_the_mean(p: float, dtype: torch.dtype) -> None:
    torch.manual_seed(0)
    found = ByteDropout(p)(torch.ones(300, 1001, dtype=dtype)).float()
    dropped = float((found == 0).float().mean())
    assert dropped == pytest.approx(round(p * 256) / 256, abs=0.005)
    assert float(found.mean()) == pytest.approx(1.0, abs=0.01)
    assert len(found.unique()) == 2


def test_elements_are_dropped_independently() -> None:
    torch.manual_seed(0)
    kept = (ByteDropout(0.5)(torch.ones(1 << 18)) != 0).float() - 0.5
    for distance in (1, 2, 7, 8, 16):  # eight come from one draw
        assert abs(float((kept[:-distance] * kept[distance:]).mean())) < 0.005


def test_outside_training_nothing_is_dropped() -> None:
    values = torch.randn(5, 3)
    assert ByteDropout(0.5).eval()(values) is values
    assert torch.equal(ByteDropout(0.0)(values), values)


def test_the_gradient_passes_where_values_did() -> None:
    torch.manual_seed(0)
    values = torch.ones(1000, requires_grad=True)
    found = ByteDropout(0.3)(values)
    found.sum().backward()
    assert values.grad is not None
    assert torch.equal(values.grad, found.detach())


def test_the_same_state_of_the_generator_drops_the_same() -> None:
    torch.manual_seed(3)
    one = ByteDropout(0.3)(torch.ones(101))
    torch.manual_seed(3)
    assert torch.equal(one, ByteDropout(0.3)(torch.ones(101)))
    assert not torch.equal(one, ByteDropout(0.3)(torch.ones(101)))


def test_it_takes_the_place_of_every_dropout_but_no_other_module() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.1), nn.Sequential(nn.Dropout(0.2), nn.AlphaDropout(0.1)))
    use_fast_dropout(model)
    assert [type(module) for module in model.modules() if not isinstance(module, nn.Sequential)] == [
        nn.Linear,
        ByteDropout,
        ByteDropout,
        nn.AlphaDropout,
    ]
    assert [module.p for module in model.modules() if isinstance(module, ByteDropout)] == [0.1, 0.2]
