"""Counting, quantiles, moments and splits: the same result whatever the memory and the order of arrival."""

import pathlib
from collections import Counter

import numpy as np
import pytest

from xdeepint_ext.data.splits import RandomSplit, hash_rows, row_keys, uniform
from xdeepint_ext.data.statistics import NumericStatistics, quantile_boundaries
from xdeepint_ext.data.vocabulary import ValueCounter


def _counted(directory: pathlib.Path, max_values: int, parts: list[list[bytes]]) -> ValueCounter:
    directory.mkdir()
    counter = ValueCounter(directory, max_values)
    for i, part in enumerate(parts):
        counter.add(f"table {i % 2}", Counter(part))
    return counter


@pytest.mark.parametrize("min_count", [1, 2, 5])
def test_spilled_counts_equal_those_in_memory(tmp_path: pathlib.Path, min_count: int) -> None:
    rng = np.random.default_rng(0)
    # Values with blanks and digits in front, as the files hold a count before each value.
    parts = [[b"%d v %d" % (n % 7, n) for n in rng.zipf(1.3, 400) % 500] for _ in range(20)]
    memory, disk = _counted(tmp_path / "memory", 10**6, parts), _counted(tmp_path / "disk", 37, parts)
    assert not list((tmp_path / "memory").iterdir())
    assert len(list((tmp_path / "disk").iterdir())) > 10
    for table in range(2):
        expected = Counter(value for part in parts[table::2] for value in part)
        order = sorted(expected.items(), key=lambda pair: (-pair[1], pair[0]))
        kept = [pair for pair in order if pair[1] >= min_count]
        assert list(memory.ordered(f"table {table}", min_count)) == kept
        assert list(disk.ordered(f"table {table}", min_count)) == kept
        assert disk.most_frequent(f"table {table}") == kept[0][1]
        assert disk.write(f"table {table}", str(tmp_path / "vocabulary"), min_count) == (len(kept), 0)
        assert (tmp_path / "vocabulary").read_bytes() == b"".join(value + b"\n" for value, _ in kept)


def test_moments_equal_those_of_all_values_at_once() -> None:
    rng = np.random.default_rng(1)
    values = rng.normal(1e6, [1.0, 100.0], (5000, 2))
    values[rng.random(values.shape) < 0.1] = np.nan
    statistics = NumericStatistics(("a", "b"))
    for part in np.array_split(values, 17):
        statistics.add(part, np.arange(len(part), dtype=np.uint64))
    for i, name in enumerate("ab"):
        present = values[~np.isnan(values[:, i]), i]
        count, mean, deviation = statistics.moments(name)
        assert count == len(present)
        np.testing.assert_allclose([mean, deviation], [present.mean(), present.std()], rtol=1e-9)


def test_the_sample_is_exact_when_rows_are_few() -> None:
    values = np.array([[3.0], [1.0], [np.nan], [2.0]])
    statistics = NumericStatistics(("a",), sample_rows=4)
    statistics.add(values, np.arange(4, dtype=np.uint64))
    assert statistics.sample("a").tolist() == [1.0, 2.0, 3.0]


def test_the_sample_is_of_the_smallest_hashes_whatever_the_order() -> None:
    rng = np.random.default_rng(2)
    values, hashes = rng.random((3000, 1)), rng.permutation(3000).astype(np.uint64)
    expected = np.sort(values[hashes < 100, 0])
    for order in (np.arange(3000), rng.permutation(3000)):
        statistics = NumericStatistics(("a",), sample_rows=100)
        for part in np.array_split(order, 40):
            statistics.add(values[part], hashes[part])
        np.testing.assert_array_equal(statistics.sample("a"), expected)


@pytest.mark.parametrize("num_bins", [2, 3, 10])
def test_quantile_bins_hold_equally_many_values(num_bins: int) -> None:
    values = np.sort(np.random.default_rng(3).permutation(600).astype(float))
    boundaries = quantile_boundaries(values, num_bins)
    bins = np.searchsorted(boundaries, values, side="right")
    assert np.bincount(bins).tolist() == [600 // num_bins] * num_bins


def test_quantile_bins_of_repeated_values_are_fewer_and_never_empty() -> None:
    values = np.array([0.0] * 88 + [1.0] * 6 + [5.0] * 6)
    boundaries = quantile_boundaries(values, 20)
    assert boundaries == (1.0, 5.0)
    assert np.bincount(np.searchsorted(boundaries, values, side="right")).tolist() == [88, 6, 6]
    assert quantile_boundaries(np.array([7.0, 7.0]), 4) == (7.0,)


def test_boundaries_are_exact_in_float32() -> None:
    boundaries = quantile_boundaries(np.sort(np.random.default_rng(4).random(1000) * 1e7), 32)
    assert np.array(boundaries, np.float32).astype(float).tolist() == list(boundaries)


def test_random_splits_have_their_shares_and_depend_on_the_seed_alone() -> None:
    keys = row_keys(3, np.arange(100_000))
    split = RandomSplit(0.1, 0.2, seed=5)(keys)
    # Three standard deviations of a binomial share.
    for index, share in enumerate((0.7, 0.1, 0.2)):
        assert abs((split == index).mean() - share) < 3 * np.sqrt(share * (1 - share) / len(keys))
    np.testing.assert_array_equal(RandomSplit(0.1, 0.2, seed=5)(keys[::-1]), split[::-1])
    for other in (RandomSplit(0.1, 0.2, 6)(keys), RandomSplit(0.1, 0.2, 5)(row_keys(4, np.arange(100_000)))):
        agreement = 0.7**2 + 0.1**2 + 0.2**2
        assert abs((other == split).mean() - agreement) < 0.01


def test_hashes_of_different_purposes_are_independent() -> None:
    keys = np.arange(50_000, dtype=np.uint64)
    a, b = (uniform(hash_rows(keys, 0, purpose)) for purpose in ("split", "shard"))
    assert 0 <= a.min() and a.max() < 1
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.02
    assert abs(np.corrcoef(a[:-1], a[1:])[0, 1]) < 0.02


@pytest.mark.parametrize("shares", [(-0.1, 0.1), (0.5, 0.5), (0.0, 1.0)])
def test_shares_that_leave_nothing_to_train_on(shares: tuple[float, float]) -> None:
    with pytest.raises(ValueError, match="leave something to train on"):
        RandomSplit(*shares, 0)
