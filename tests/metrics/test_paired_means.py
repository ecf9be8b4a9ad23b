"""Differences of means over lists, whose users are drawn whole."""

import numpy as np
import pytest

from xdeepint_ext.metrics import paired_means

RANDOM = np.random.default_rng(0)
USERS = RANDOM.integers(100, 112, 40)
A, B = RANDOM.uniform(size=40), RANDOM.uniform(size=40)


def test_the_replicates_are_means_over_the_lists_of_the_users_drawn():
    a, b = A.copy(), B.copy()
    a[:5] = b[:5] = np.nan
    found = paired_means({"recall": a}, {"recall": b}, USERS, n=200, seed=3)["recall"]
    names, generator, means = np.unique(USERS), np.random.default_rng(3), []
    for _ in range(200):
        drawn = names[generator.integers(0, len(names), len(names))]
        gaps = np.concatenate([(a - b)[USERS == user] for user in drawn])
        means.append(np.nanmean(gaps))
    assert found.value == pytest.approx(np.nanmean(a - b))
    np.testing.assert_allclose([found.low, found.high], np.quantile(means, (0.025, 0.975)))
    assert found.deviation == pytest.approx(np.std(means))


def test_all_metrics_see_the_same_replicates():
    found = paired_means({"x": A, "y": 2 * A}, {"x": B, "y": 2 * B}, USERS, n=50)
    np.testing.assert_allclose(found["y"], 2 * np.array(found["x"]))


def test_a_metric_without_a_row_is_nan():
    nothing = np.full(40, np.nan)
    assert np.isnan(paired_means({"x": nothing}, {"x": nothing}, USERS, n=5)["x"]).all()


def test_values_that_do_not_belong_together_are_refused():
    gap = np.where(np.arange(40) < 1, np.nan, B)
    with pytest.raises(ValueError, match="metric 'x': the two models have values of different rows"):
        paired_means({"x": A}, {"x": gap}, USERS)
    with pytest.raises(ValueError, match=r"must have the same metrics, got \['x'\] and \['y'\]"):
        paired_means({"x": A}, {"y": B}, USERS)
