"""Small models of spans, and windows for them."""

import numpy as np
import tensorflow as tf

from xdeepint_ext.layers import RobertaEncoder
from xdeepint_ext.models import MultiHeadSpanQA, MultiSpanTagger
from xdeepint_ext.models.baselines import SingleSpanQA

CLASSES = (MultiSpanTagger, MultiHeadSpanQA, SingleSpanQA)
LENGTH, QUESTION, CONTEXT = 14, 3, 6
START = QUESTION + 3


def encoder(**options):
    return RobertaEncoder.of_size("tiny", **{"vocab_size": 20, "max_positions": 20, "dropout": 0.0, **options})


def make(cls, **options):
    return cls(encoder(deviation=0.2), dropout=0.0, **options)


def token_ids(batch):
    """(batch, LENGTH): `<s> question </s></s> context </s>`, and two of padding."""
    random = np.random.default_rng(batch)
    row = random.integers(5, 20, (batch, LENGTH)).astype(np.int32)
    row[:, 0] = 0
    row[:, [QUESTION + 1, QUESTION + 2, START + CONTEXT]] = 2
    row[:, START + CONTEXT + 1 :] = 1
    return row


def labels(batch):
    """Gold taggings and spans of the windows: none, one in either of two places, and two answers, in turn."""
    taggings = np.full((batch, 2, LENGTH), -1, np.int8)
    taggings[:, 0] = 0
    spans = np.full((batch, 2, 2), -1, np.int32)
    spans[:, 0] = 0
    number = np.arange(batch, dtype=np.int32) % 3
    for row in range(batch):
        if number[row] == 1:
            taggings[row, 1] = 0
            taggings[row, 0, START], taggings[row, 1, START + 3] = 1, 1
            spans[row] = [[START, START], [START + 3, START + 3]]
        if number[row] == 2:
            taggings[row, 0, [START, START + 1, START + 4]] = [1, 2, 1]
            spans[row] = [[START, START + 1], [START + 4, START + 4]]
    return {"taggings": taggings, "spans": spans, "num_answers": number}


def as_tensors(values):
    return {name: tf.constant(value) for name, value in values.items()}
