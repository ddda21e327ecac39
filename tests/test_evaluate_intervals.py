"""Bootstrap intervals: what they hold, and how often."""

import numpy as np
import pytest
from ip2p.training.evaluate.intervals import mean_interval


def test_the_interval_holds_the_true_mean_about_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    held = 0
    for _ in range(200):
        interval = mean_interval(rng.normal(3, 2, 60))
        held += interval.low <= 3 <= interval.high
        assert interval.low <= interval.mean <= interval.high
    assert 0.9 <= held / 200 <= 0.99


def test_it_is_as_wide_as_theory_has_it() -> None:
    values = np.random.default_rng(1).normal(0, 1, 400)
    interval = mean_interval(values)
    assert interval.mean == pytest.approx(values.mean())
    assert interval.high - interval.low == pytest.approx(2 * 1.96 * values.std() / 20, rel=0.1)


def test_runs_that_differ_make_it_wider() -> None:
    values = np.random.default_rng(2).normal(0, 0.1, (3, 200))
    alike, apart = mean_interval(values), mean_interval(values + np.array([[-1], [0], [1]]))
    assert apart.mean == pytest.approx(alike.mean) and apart.high - apart.low > 10 * (alike.high - alike.low)


def test_what_is_not_known_is_left_out() -> None:
    assert mean_interval(np.array([1.0, np.nan, 3.0])).mean == 2
    assert np.isnan(mean_interval(np.array([np.nan])).mean)
    assert mean_interval(np.array([5.0])) == (5, 5, 5)
