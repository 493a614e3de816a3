"""The schedule of training."""

import numpy as np
import pytest

from bertie.train.schedule import default_passes, ramp


@pytest.mark.parametrize("schedule", ["linear", "cosine"])
def test_the_learning_rate_rises_then_falls_to_almost_nothing(schedule: str) -> None:
    rates = [ramp(update, 100, 0.1, schedule) for update in range(100)]
    assert rates[9] == max(rates) == 1.0
    assert np.all(np.diff(rates[:10]) > 0)
    assert np.all(np.diff(rates[10:]) < 0)
    assert 0 < rates[-1] < 0.02


def test_a_constant_learning_rate_stays_at_its_peak() -> None:
    assert [ramp(update, 20, 0.1, "constant") for update in range(20)] == [0.5] + [1.0] * 19


def test_small_sets_are_passed_over_more_often_and_large_ones_at_least_three_times() -> None:
    assert [default_passes(updates) for updates in (1, 60, 134, 10_000)] == [20, 10, 5, 3]
