"""What the Preprocessor must give, one plain Python value at a time, from the schema's words and nothing else."""

import bisect
import math

import numpy as np
import tensorflow as tf


def bucket(text, num_buckets):
    """TensorFlow's own fingerprint, the one thing here that is not computed anew."""
    return int(tf.strings.to_hash_bucket_fast(text, num_buckets))


def missing_id(feature):
    """Id of a missing value."""
    return feature.num_ids - 1 if feature.missing == "bucket" else 0


def one_id(feature, value, vocabulary=()):
    """Id of a string or whole number; None is missing."""
    if value is None or value == "":
        return missing_id(feature)
    if feature.lookup == "hash":
        return 1 + bucket(str(value), feature.num_values)
    if feature.lookup == "identity":
        return 1 + value if 0 <= value < feature.num_values else 0
    if value in vocabulary:
        return 1 + feature.num_oov + list(vocabulary).index(value)
    if feature.num_oov == 0:
        return 0
    return 1 + bucket(str(value), feature.num_oov)


def list_of_ids(feature, values, weights=None, vocabulary=()):
    """(ids, weights), each max_length long, of one example's list."""
    weights = [1.0] * len(values) if weights is None else weights
    pairs = [(v, w) for v, w in zip(values, weights, strict=True) if v not in (None, "")]
    pairs = pairs[-feature.max_length :] if feature.kind == "sequence" else pairs[: feature.max_length]
    ids = [one_id(feature, value, vocabulary) for value, _ in pairs]
    found = [0.0 if weight is None or math.isnan(weight) else weight for _, weight in pairs]
    if not ids and feature.missing == "bucket":
        ids, found = [missing_id(feature)], [1.0]
    padding = feature.max_length - len(ids)
    return ids + [0] * padding, found + [0.0] * padding


def one_bin(feature, value):
    """Id of a number; None is missing."""
    if value is None or math.isnan(value):
        return missing_id(feature)
    if feature.binning == "log_square":
        number = float(value)
        square = math.log(number * number + 1) if abs(number) < 1e150 else math.inf
        return 1 + int(min(math.floor(square) if math.isfinite(square) else 63, 63))
    boundaries = [float(np.float32(b)) for b in feature.boundaries]
    return 1 + bisect.bisect_right(boundaries, value)


def scaled(feature, value):
    """A number that stays a number; None is missing."""
    if value is None or math.isnan(value):
        return 0.0
    if feature.scaling == "log":
        return math.copysign(math.log(1 + abs(value)), value)
    if feature.scaling == "standard":
        return (value - feature.mean) / (feature.deviation or 1.0)
    return float(value)
