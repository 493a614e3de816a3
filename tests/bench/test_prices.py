from __future__ import annotations

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bertie.bench.prices import cost_per_million, machine, machines
from bertie.errors import DataNotFound, UsageError


def test_the_table_that_ships_says_when_and_where_each_price_was_known() -> None:
    known = machines()
    assert len(known) >= 12
    for name, one in known.items():
        assert one.name == name
        assert 0.01 < one.usd_per_hour < 1
        assert one.vcpus >= 2
        assert one.as_of
        assert one.source.startswith("https://")


def test_a_million_texts_at_a_hundred_a_second_take_ten_thousand_seconds() -> None:
    assert cost_per_million(0.36, 100) == pytest.approx(1.0)


@given(st.floats(0.001, 100), st.floats(0.1, 1e6))
def test_twice_the_speed_costs_half(price: float, rate: float) -> None:
    assert math.isclose(cost_per_million(price, 2 * rate), cost_per_million(price, rate) / 2)


def test_a_table_of_ones_own_takes_the_place_of_the_other(tmp_path: Path) -> None:
    table = tmp_path / "prices.toml"
    table.write_text('[[machine]]\nname = "cellar"\nusd_per_hour = 1\n')
    assert machine("cellar", table).usd_per_hour == 1
    with pytest.raises(UsageError, match=r"no price for 'c7i\.large'"):
        machine("c7i.large", table)


def test_a_name_that_is_nearly_right_is_answered() -> None:
    with pytest.raises(UsageError, match=r"did you mean 'c7i\.large'"):
        machine("c7i.lage")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("machine = 3", "not iterable"),
        ("", "'machine'"),
        ("[[machine]\n", "not a table of prices"),
        ('[[machine]]\nname = "a"\n', "usd_per_hour"),
        ("[[machine]]\nusd_per_hour = 1\n", "name"),
        ('[[machine]]\nname = "a"\nusd_per_hour = "1"\n', "'1', not a price"),
        ('[[machine]]\nname = "a"\nusd_per_hour = -1\n', "-1, not a price"),
        ('[[machine]]\nname = "a"\nusd_per_hour = nan\n', "nan, not a price"),
        ('[[machine]]\nname = "a"\nusd_per_hour = true\n', "True, not a price"),
        ('[[machine]]\nname = "a"\nusd_per_hour = 1\neur = 1\n', "'eur' is not known"),
    ],
)
def test_a_table_that_is_none_is_an_error(tmp_path: Path, text: str, said: str) -> None:
    table = tmp_path / "prices.toml"
    table.write_text(text)
    with pytest.raises(UsageError, match=said):
        machines(table)


def test_a_table_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(DataNotFound):
        machines(tmp_path / "none.toml")
