"""Representations in fewer bytes, against the rounding that the formulas say; and the measures of what is lost."""

import math

import numpy as np
import pytest

from xdeepint_ext.serving.cache_accuracy import overlap, rank_correlation
from xdeepint_ext.serving.quantize import DTYPES, OutOfRangeError, decode, encode

WIDTH = 21


def vectors():
    """Three items of two heads of 21 numbers; one head is zeros, one tiny, one large, one ends in small numbers."""
    random = np.random.default_rng(0)
    x = random.normal(size=(3, 2, WIDTH)).astype(np.float32)
    x[0, 0, 16:] *= 1e-3
    x[0, 1], x[1, 0], x[2, 1] = 0.0, x[1, 0] * 1e-20, x[2, 1] * 1e4
    return x


def half_step(x):
    return np.broadcast_to(np.abs(x).max(-1, keepdims=True) / 127 / 2 * (1 + 1e-5), x.shape)


@pytest.mark.parametrize(
    ("dtype", "bound"),
    [
        ("float32", lambda x: np.zeros_like(x)),
        ("float16", lambda x: np.maximum(np.abs(x) * 2.0**-11, 2.0**-25)),
        ("int8", lambda x: np.concatenate([half_step(x[..., :16]), half_step(x[..., 16:])], -1)),
    ],
)
def test_no_number_moves_more_than_half_a_step(dtype, bound):
    x = vectors()
    kept = encode(x, dtype)
    assert kept["values"].dtype == np.dtype(dtype) and kept["values"].shape == x.shape
    found = decode(kept)
    assert found.dtype == np.float32
    assert np.all(np.abs(found.astype(np.float64) - x) <= bound(x.astype(np.float64)))
    again = encode(found, dtype)
    np.testing.assert_array_equal(again["values"], kept["values"])


def test_int8_has_a_scale_for_sixteen_numbers():
    x = vectors()
    kept = encode(x, "int8")
    for item in range(3):
        for head in range(2):
            for block in range(2):
                some = slice(16 * block, 16 * block + 16)
                scale = max(abs(float(v)) for v in x[item, head, some]) / 127
                assert kept["scales"][item, head, block] == pytest.approx(scale, rel=1e-6)
                for value, step in zip(x[item, head, some], kept["values"][item, head, some], strict=True):
                    assert step == (round(float(value) / scale) if scale else 0)
    assert kept["scales"].shape == (3, 2, 2)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_number_that_is_none_is_refused(dtype, value):
    x = vectors()
    x[1, 1, 2] = value
    with pytest.raises(OutOfRangeError, match=f"a representation holds {value}, not a finite number") as error:
        encode(x, dtype)
    assert error.value.row == 1


def test_a_number_beyond_float16_is_refused():
    x = vectors()
    x[2, 0, 0] = 65536.0
    with pytest.raises(OutOfRangeError, match=r"holds 65536\.0, too large for float16") as error:
        encode(x, "float16")
    assert error.value.row == 2
    with pytest.raises(ValueError, match=r"dtype must be one of .*, got 'int4'"):
        encode(x, "int4")


def test_rank_correlation_is_spearman_s():
    random = np.random.default_rng(1)
    first, second = random.normal(size=(2, 50))
    gaps = np.argsort(np.argsort(first)) - np.argsort(np.argsort(second))
    n = len(first)
    assert rank_correlation(first, second) == pytest.approx(1 - 6 * float(np.sum(gaps**2)) / (n * (n**2 - 1)))
    assert rank_correlation(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(math.sqrt(3) / 2)
    same = np.ones(3)
    assert rank_correlation(same, same) == 1.0 and rank_correlation(same, first[:3]) == 0.0


def test_overlap_counts_the_best():
    exact, kept = np.array([9.0, 8.0, 7.0, 1.0, 0.0]), np.array([1.0, 8.0, 9.0, 7.0, 0.0])
    assert overlap(exact, kept, 3) == 2 / 3
    assert overlap(exact, exact, 3) == 1.0
