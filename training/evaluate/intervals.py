"""How sure a mean is: confidence intervals by bootstrap (Efron 1979)."""

from typing import NamedTuple

import numpy as np

RESAMPLES = 1000


class Interval(NamedTuple):
    """A mean, and the ends of its 95% interval."""

    mean: float
    low: float
    high: float


def mean_interval(values: np.ndarray, seed: int = 0) -> Interval:
    """The mean of values [runs, samples], over samples, and over runs where there are several.

    Runs are trainings, say, that differ in their seed, on the same samples: both are drawn anew for the interval. NaN
    stands for what is not known.
    """
    values = np.atleast_2d(np.asarray(values, dtype=np.float64))
    runs, samples = values.shape
    if not np.isfinite(values).any():
        return Interval(float("nan"), float("nan"), float("nan"))
    rng = np.random.default_rng(seed)
    means = []
    for _ in range(RESAMPLES):
        drawn = values[rng.integers(runs, size=runs)] if runs > 1 else values
        counted = np.bincount(rng.integers(samples, size=samples), minlength=samples)
        known = np.isfinite(drawn)
        weight = (known * counted).sum()
        if weight:
            means.append(float((np.where(known, drawn, 0.0) * counted).sum() / weight))
    low, high = np.percentile(means, [2.5, 97.5])
    return Interval(float(np.nanmean(values)), float(low), float(high))
