"""`TpuFeatureEmbedding`: a `FeatureEmbedding` whose trainable tables are tensorflow-recommenders' `TPUEmbedding`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.layers.embedding import FeatureEmbedding, _Lookup
from xdeepint_ext.schema import Feature
from xdeepint_ext.utils.signatures import check_inputs, items_a_list
from xdeepint_ext.utils.variables import tag

__all__ = ["TpuFeatureEmbedding", "on_tpu"]


class TpuFeatureEmbedding(FeatureEmbedding):
    """A `FeatureEmbedding` whose trainable tables a TPU keeps apart, looks up and trains; frozen ones are variables.

    Outputs, gradients and initial values are those of `FeatureEmbedding`; but where a frozen table stands before a
    trainable one, others are drawn. Made under another strategy than a `TPUStrategy`, the tables are trainable
    variables of the layer. Under a `TPUStrategy` a variable of one 0 is in their place, in optimizer group `embedding`:
    to compute its gradient is to train the tables.

    A TPU has room for one such layer, and looks up what the host has sent it, all at once. So a model can have one
    layer, called once in a step on all features, of batches of one size, and on `table_rows` computed on the host.

    Args:
      optimizer: of `tf.tpu.experimental.embedding`; see `optimizers.tpu.tpu_optimizer`.
      batch_size: of a replica.
      **config: of the `FeatureEmbedding`.

    Call arguments:
      features: as those of `FeatureEmbedding`, single examples only; on a TPU also what `table_rows` returns. Computed
        by the layer itself where it is missing, as only a CPU may.

    Attributes:
      tpu_embedding: tensorflow-recommenders' layer, which a checkpoint of the tables is made of.

    Raises:
      ValueError: the layer is called on lists, or for some of the features; its weights are not float32.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> config = {"schema": Schema([Feature("user", num_values=10)]), "width": 4}
      >>> adam = tf.tpu.experimental.embedding.Adam(0.1)
      >>> layer = TpuFeatureEmbedding(optimizer=adam, batch_size=2, **config)
      >>> layer({"user": tf.constant([[3], [0]])}).shape
      TensorShape([2, 1, 4])

    Source: `tensorflow_recommenders.layers.embedding.TPUEmbedding`.
    """

    def __init__(self, *, optimizer: Any, batch_size: int, **config: Any) -> None:
        super().__init__(**config)
        if tf.as_dtype(self.variable_dtype) != tf.float32:
            raise ValueError(f"dtype: TPUEmbedding's tables are float32, got weights of {self.variable_dtype}")
        self._optimizer = self._no_dependency(optimizer)
        self.batch_size = batch_size

    def _add_tables(self) -> None:
        # Not at the top: the import takes a second, and only a TPU wants it.
        from tensorflow_recommenders.layers.embedding import TPUEmbedding

        self._on_tpu = on_tpu()
        # A list, whose order TensorFlow keeps: initializers draw in that of the ordinary layer.
        self._configs = self._no_dependency(self._feature_configs())
        found: dict[tuple[int, bool], tf.Variable] = {}
        if self._configs:
            self.tpu_embedding = TPUEmbedding(self._configs, self._optimizer)
            _build(self.tpu_embedding, self._configs)
            for variable in self.tpu_embedding.trainable_variables:
                tag(variable, "embedding")
            if not self._on_tpu:
                found = dict(zip(self._in_tpu, _tables(self.tpu_embedding, self._configs), strict=True))
        for key, lookup in zip(self._table_keys, self._lookups, strict=True):
            if not key[1]:
                found[key] = self._add_table(key, lookup)
        # One assignment, so that Keras finds the tables in the ordinary layer's order.
        self._tables = [found[key] for key in self._table_keys if key in found]

    @property
    def tables(self) -> dict[tuple[int, bool], tf.Variable]:
        """(width, trainable) -> the variable that holds these tables; on a TPU there are none of trainable ones."""
        keys = [key for key in self._table_keys if not (self._on_tpu and key[1])]
        return dict(zip(keys, self._tables, strict=True))

    @property
    def _in_tpu(self) -> dict[tuple[int, bool], _Lookup]:
        return {key: lookup for key, lookup in zip(self._table_keys, self._lookups, strict=True) if key[1]}

    def _feature_configs(self, initializer: Any = None) -> list[Any]:
        """What is in the TPU, in the order of `_in_tpu`."""
        embedding, configs = tf.tpu.experimental.embedding, []
        for key, lookup in self._in_tpu.items():
            table = embedding.TableConfig(
                vocabulary_size=lookup.num_rows,
                dim=key[0],
                initializer=initializer or self._initializer(key[0]),
                combiner="sum",  # of one row each: ids are pooled behind the look-up
                name=self._table_name(key),
            )
            shape = [self.batch_size, len(lookup.offsets)]
            configs.append(embedding.FeatureConfig(table=table, output_shape=shape))
        return configs

    def _rows_name(self, key: tuple[int, bool]) -> str:
        return f"rows_of_{self._table_name(key)}"

    def table_rows(self, features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """What is looked up for a batch. The host computes it: a TPU's tables take only what a step is called with.

        Args:
          features: of `input_signature(schema)`.

        Returns:
          A name for each trainable table -> rows of its variable, (B, ids of its features, 1) int32.

        Raises:
          tf.errors.InvalidArgumentError: an id is negative or beyond its table; names feature and id.
        """
        check_inputs(self.schema, features, type(self).__name__)
        flat = self._flat(features)
        packed = {self._rows_name(key): self._packed(lookup, flat) for key, lookup in self._in_tpu.items()}
        return {name: rows[..., tf.newaxis] for name, rows in packed.items()}

    def call(self, features: Mapping[str, tf.Tensor], only: Collection[str] | None = None) -> tf.Tensor:
        if only is not None or items_a_list(self.schema, features) is not None:
            raise ValueError(
                f"{type(self).__name__} is called once in a step, on all features of single examples, got "
                + ("lists" if only is None else f"only={sorted(only)}")
                + "; --strategy=tpu is not for models of two towers, users or lists"
            )
        return super().call(features)

    def _gathered(
        self, wanted: list[Feature], features: Mapping[str, tf.Tensor]
    ) -> Iterator[tuple[_Lookup, int, tf.Tensor, tf.Tensor]]:
        names = [self._rows_name(key) for key in self._in_tpu]
        rows = features if all(name in features for name in names) else self.table_rows(features)
        vectors = dict(zip(names, self._looked_up([rows[name] for name in names]), strict=True))
        for key, lookup in zip(self._table_keys, self._lookups, strict=True):
            name, (width, trainable) = self._rows_name(key), key
            if trainable:
                # A TPU drops the last dimension of the rows, a CPU keeps it.
                embedded = tf.reshape(vectors[name], (-1, len(lookup.offsets), width))
                packed = rows[name][..., 0]
            else:
                packed = self._packed(lookup, features)
                embedded = tf.nn.embedding_lookup(self.tables[key], packed)
            yield lookup, width, *self._masked(embedded, packed > 0)

    def _looked_up(self, rows: list[tf.Tensor]) -> list[tf.Tensor]:
        if tf.distribute.in_cross_replica_context():
            # Keras traces the model to make its weights. Only within a step is there something to look up.
            widths = [width for width, _ in self._in_tpu]
            return [tf.zeros((*tf.unstack(tf.shape(x)[:2]), width)) for x, width in zip(rows, widths, strict=True)]
        return list(self.tpu_embedding(rows)) if rows else []

    def _number_vectors(self, numbers: list[Feature]) -> tf.Tensor:
        # Not gathered: the gradient of that, a row for each number, would be summed in a shape that follows the data.
        return tf.convert_to_tensor(self.numeric_kernel)

    @property
    def table_weights(self) -> list[tf.Variable]:
        """The trainable tables, or what is in their place."""
        return list(self.tpu_embedding.trainable_weights) if self._configs else []

    def trainable_tables(self) -> dict[tuple[int, bool], np.ndarray]:
        """Key of `tables` -> the values of each trainable table, wherever they are.

        They come by a checkpoint, which is how TensorFlow brings tables from a TPU to a host. Not to be called within
        the scope of a strategy.
        """
        from tensorflow_recommenders.layers.embedding import TPUEmbedding

        if not self._configs:
            return {}
        configs = self._feature_configs(tf.keras.initializers.Zeros())
        here = TPUEmbedding(configs, None)
        _build(here, configs)
        with tempfile.TemporaryDirectory() as directory:
            path = tf.train.Checkpoint(tables=self.tpu_embedding).write(os.path.join(directory, "tables"))
            tf.train.Checkpoint(tables=here).read(path).expect_partial()
        return {key: table.numpy() for key, table in zip(self._in_tpu, _tables(here, configs), strict=True)}


def on_tpu() -> bool:
    """Whether what is made now is made for a TPU."""
    return isinstance(tf.distribute.get_strategy(), tf.distribute.TPUStrategy)


def _build(tpu_embedding: Any, configs: Sequence[Any]) -> None:
    tpu_embedding.build([tf.TensorShape([*config.output_shape, 1]) for config in configs])


def _tables(tpu_embedding: Any, configs: Sequence[Any]) -> list[tf.Variable]:
    """The variables of one that is on no TPU."""
    found = tpu_embedding.embedding_tables
    return [found[config.table] for config in configs]
