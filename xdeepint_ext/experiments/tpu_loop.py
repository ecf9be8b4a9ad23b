"""Training steps on a TPU: batches of one size, and looked-up rows that stay on the host until the tables take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import tensorflow as tf

from xdeepint_ext.experiments.step_loops import TrainingData, explainer, make_steps
from xdeepint_ext.experiments.tpu_tables import tpu_embedding_of
from xdeepint_ext.layers.tpu_embedding import TpuFeatureEmbedding
from xdeepint_ext.models import RankingModel

__all__ = ["TpuLoop", "fixed_size", "with_table_rows"]

MISSING_LABEL = -1


class TpuLoop:
    """A graph of several steps on a TPU's cores.

    Args:
      model: built and compiled, with a `TpuFeatureEmbedding`.
      strategy: where it lives.
    """

    def __init__(self, model: RankingModel, strategy: tf.distribute.Strategy) -> None:
        self._strategy, self._layer = strategy, tpu_embedding_of(model)
        # TensorFlow would pad a batch of unknown size; the tables want what the step was called with.
        options = tf.distribute.RunOptions(experimental_enable_dynamic_batch_size=False)
        self._steps = make_steps(model, strategy, options)
        self._iterator: Any = None

    def start(self, inputs: TrainingData, step: int) -> None:
        def of_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
            dataset = inputs.train(step, context)
            self.explain = explainer(dataset)
            size = self._layer.batch_size
            dataset = dataset.map(lambda *batch: with_table_rows(self._layer, fixed_size(batch, size)))
            return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))

        on_host = tf.distribute.InputOptions(experimental_fetch_to_device=False)
        self._iterator = iter(self._strategy.distribute_datasets_from_function(of_worker, on_host))

    def run(self, count: int) -> None:
        self._steps(self._iterator, tf.constant(count, tf.int64))


def fixed_size(batch: Any, size: int) -> Any:
    """A replica's batch with rows that count for nothing behind its own, as its labels are missing.

    Args:
      batch: (features, labels[, weights]).
      size: rows of every batch.

    Raises:
      ValueError: a feature is text.
    """
    features, labels, weights = tf.keras.utils.unpack_x_y_sample_weight(batch)
    texts = [name for name, values in features.items() if values.dtype == tf.string]
    if texts:
        raise ValueError(f"strategy=tpu: a TPU has no text, and the features {texts} are; leave them out of the data")

    def padded(value: int) -> Callable[[tf.Tensor], tf.Tensor]:
        def pad(x: tf.Tensor) -> tf.Tensor:
            ends = [[0, size - tf.shape(x)[0]], *[[0, 0]] * (x.shape.rank - 1)]
            return tf.ensure_shape(tf.pad(x, ends, constant_values=tf.cast(value, x.dtype)), (size, *x.shape[1:]))

        return pad

    features = tf.nest.map_structure(padded(0), features)
    labels = tf.nest.map_structure(padded(MISSING_LABEL), labels)
    if weights is None:
        return features, labels
    return features, labels, tf.nest.map_structure(padded(0), weights)


def with_table_rows(layer: TpuFeatureEmbedding, batch: Any) -> Any:
    """A batch with what the tables look up among its features, and ids of 32 bits.

    Args:
      layer: that looks up.
      batch: (features, labels[, weights]).
    """
    features, *others = batch
    ids = {feature.name for feature in layer.schema.inputs if feature.is_ids}
    narrow = {name: tf.cast(x, tf.int32) if name in ids else x for name, x in features.items()}
    return ({**narrow, **layer.table_rows(features)}, *others)
