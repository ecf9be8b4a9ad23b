"""What models cost."""

import math

import pytest
import tensorflow as tf

from xdeepint_ext.experiments.costs import costs, costs_of_config
from xdeepint_ext.models import RankingModel

FIELDS = 5  # user, item, tab, tags, age
WIDTH = 4


@pytest.mark.parametrize(
    ("model", "options", "expected"),
    [
        ("lr", {}, 0),  # the weights that were looked up are added
        ("fm", {"width": WIDTH}, FIELDS * WIDTH + WIDTH + 1),
        ("dnn", {"width": WIDTH, "units": (7, 3)}, FIELDS * WIDTH * 7 + 7 * 3 + 3),
        ("xdeepint", {"width": WIDTH, "num_layers": 2, "num_subspaces": 1}, 2 * (FIELDS + 1) * FIELDS * WIDTH + FIELDS),
    ],
)
def test_a_model_s_multiply_adds_leave_look_ups_out(config_of, model, options, expected):
    assert costs_of_config(config_of(model=model, model_options=options))["multiply_adds"] == expected


def test_mixed_precision_is_counted_alike(small_config):
    expected = costs_of_config(small_config)
    tf.keras.mixed_precision.set_global_policy("mixed_bfloat16")
    try:
        assert costs_of_config(small_config) == expected
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def test_what_cannot_be_counted_is_nan_and_noted():
    class Undecided(RankingModel):
        def interaction(self, x, training=None):
            return tf.cond(tf.reduce_sum(x) > 0, lambda: x * x, lambda: x)

    notes = []
    found = costs(Undecided.from_embeddings(num_fields=3, width=2), notes)
    assert math.isnan(found["multiply_adds"]) and found["parameters"] == 3 + 1
    (note,) = notes
    assert note.startswith("multiply_adds: ") and "depends on the data" in note
