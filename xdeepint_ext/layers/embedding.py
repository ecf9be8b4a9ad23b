"""`FeatureEmbedding`: every kind of feature becomes rows of the (B, F, K) field matrix, one gather per table width."""

from __future__ import annotations

import copy
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.graph import in_xla
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.signatures import check_inputs, input_signature, items_a_list
from xdeepint_ext.utils.variables import tag

_ALL = ""


@register
class FeatureEmbedding(tf.keras.layers.Layer):
    """Ids and floats -> the field matrix: an id's row is `V[id]`, a number's `x v_f`, a vector's `x P_f`.

    All tables of one width live in one variable, table after table; id 0 (padding or missing) of every table is row 0
    and always gives the zero vector, in forward and backward pass. A feature with several ids is pooled over the valid
    ones by its `combiner`, weighted where it has weights; with nothing valid its row is 0. A table of another width
    than the model's is projected to it without bias.

    Args:
      schema: a `Schema` (or its JSON text) whose tables' sizes are known.
      width: K, the paper's 16.
      initializer: of tables, number vectors and projections. Default: truncated normal of deviation 1 / sqrt(width),
        the default of TensorFlow 1's embedding columns, which the authors use.
      validate_ids: check that every id is inside its table, as an id beyond it would read another feature's rows. Left
        out under XLA, which has no assertions.

    Weights:
      table: the variable of the tables of the model's width, (1 + sum of (num_ids - 1), K), optimizer group
        `embedding`; `tables` maps (width, trainable) to each variable. A table's place in it: `Schema.tables`.
      numeric_kernel: (number of plain numeric features, K), group `embedding`.

    Attributes:
      repeats_single_rows: features whose static batch size is 1, beside others of another, are looked up once and their
        rows repeated, as for one user and many candidates. False; `serving.export` sets it while it traces `rank`.
      look_up: (table, rows) -> vectors, in place of `tf.nn.embedding_lookup`. None; `serving.export` sets it while it
        traces a model whose tables it keeps in fewer bytes.

    Call arguments:
      features: dict of `input_signature(schema)`; single ids and floats also as (B,). Other keys are ignored. Features
        of the n items of U lists are (U, n, length), then B = U n; others beside them are (U, length), looked up once
        for a list and their rows repeated.
      only: names of the features to embed, None = all; the others may be missing.

    Returns:
      (B, F, K), rows in the schema's order.

    Raises:
      ValueError: a feature is missing, or has the wrong length or type; the schema lacks the size of a table.
      tf.errors.InvalidArgumentError: an id is negative or beyond its table; names feature and id.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> layer = FeatureEmbedding(Schema([Feature("user", num_values=10), Feature("age", "numeric")]), width=4)
      >>> layer({"user": tf.constant([[3], [0]]), "age": tf.constant([[0.5], [1.0]])}).shape
      TensorShape([2, 2, 4])

    Source: xDeepInt (arXiv 2301.01089) §3.1 for ids; numbers as in AutoInt (arXiv 1810.11921) §4.3.
    """

    def __init__(
        self,
        schema: Schema | str,
        width: int = 16,
        initializer: Any = None,
        validate_ids: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if width < 1:
            raise ValueError(f"FeatureEmbedding: width must be > 0, got {width}")
        self.schema = Schema.from_json(schema) if isinstance(schema, str) else schema
        if not self.schema.inputs:
            raise ValueError(f"FeatureEmbedding: the schema has no model input; its features: {self.schema!r}")
        _ = self.schema.tables  # an unknown size is an error here, not somewhere inside a traced call
        self.width = width
        self.initializer = None if initializer is None else tf.keras.initializers.get(initializer)
        self.validate_ids = validate_ids
        self.repeats_single_rows = False
        self.look_up: Callable[[Any, tf.Tensor], tf.Tensor] | None = None

    @property
    def table(self) -> tf.Variable:
        """The variable that holds the trainable tables of the model's own width."""
        return self.tables[(self.width, True)]

    @property
    def tables(self) -> dict[tuple[int, bool], Any]:
        """(width, trainable) -> the variable that holds these tables."""
        # Not an attribute: a checkpoint cannot hold a dictionary of such keys.
        return dict(zip(self._table_keys, self._tables, strict=True))

    def build(self, input_shape: Any) -> None:
        groups: dict[tuple[int, bool], list[Feature]] = {}
        for feature in self.schema.inputs:
            if feature.is_ids:
                groups.setdefault((feature.width or self.width, feature.trainable), []).append(feature)
        self._lookups = [_Lookup(self.schema, features) for features in groups.values()]
        self._table_keys = list(groups)
        self._tables: list[Any] = []
        self._add_tables()
        numbers = [f for f in self.schema.inputs if f.kind == "numeric" and not f.is_ids]
        if numbers:
            self.numeric_kernel = tag(
                self.add_weight(
                    name="numeric_kernel", shape=(len(numbers), self.width), initializer=self._initializer(self.width)
                ),
                "embedding",
            )
        self._projections: dict[str, tf.Variable] = {}
        self._numbers = numbers
        shapes = {f"table_{width}": width for width, _ in groups if width != self.width}
        shapes |= {f.name: f.length for f in self.schema.inputs if f.kind == "vector"}
        for name, length in shapes.items():
            kernel = self.add_weight(
                name=f"projection_{name}", shape=(length, self.width), initializer="glorot_uniform"
            )
            self._projections[name] = tag(kernel, "interaction")
        super().build(input_shape)

    def _add_tables(self) -> None:
        """Makes the variables of the tables."""
        for key, lookup in zip(self._table_keys, self._lookups, strict=True):
            self._tables.append(self._add_table(key, lookup))

    def _add_table(self, key: tuple[int, bool], lookup: _Lookup) -> Any:
        width, trainable = key
        table = self.add_weight(
            name=self._table_name(key),
            shape=(lookup.num_rows, width),
            initializer=self._initializer(width),
            trainable=trainable,
        )
        return tag(table, "embedding")

    def _table_name(self, key: tuple[int, bool]) -> str:
        width, trainable = key
        return "table" + ("" if width == self.width else f"_{width}") + ("" if trainable else "_frozen")

    def _initializer(self, width: int) -> Any:
        return self.initializer or tf.keras.initializers.TruncatedNormal(stddev=width**-0.5)

    def call(self, features: Mapping[str, tf.Tensor], only: Collection[str] | None = None) -> tf.Tensor:
        check_inputs(self.schema, features, "FeatureEmbedding", only)
        inputs = [feature for feature in self.schema.inputs if only is None or feature.name in only]
        items = items_a_list(self.schema, features, only)
        shapes = {feature.name: features[feature.name].shape for feature in inputs}
        features = {**features, **self._flat(features, only)}
        if items is not None:
            once = [feature for feature in inputs if len(shapes[feature.name]) < 3]
        elif self.repeats_single_rows:
            once = [feature for feature in inputs if features[feature.name].shape[0] == 1]
        else:
            once = []
        if not once or len(once) == len(inputs):
            return self._matrix(inputs, self._rows(inputs, features))
        others = [feature for feature in inputs if feature not in once]
        rows = self._rows(others, features)
        count = tf.shape(rows[others[0].name])[0] if items is None else items
        shared = tf.repeat(self._matrix(once, self._rows(once, features)), count, axis=0)
        parts = tf.split(shared, [feature.num_rows for feature in once], axis=1)
        return self._matrix(inputs, rows | {f.name: part for f, part in zip(once, parts, strict=True)})

    def _flat(self, features: Mapping[str, tf.Tensor], only: Collection[str] | None = None) -> dict[str, tf.Tensor]:
        """The inputs as (B, length), those of lists one item after the other."""
        specs = input_signature(self.schema, only=only)
        return {name: tf.reshape(features[name], (-1, spec.shape[1])) for name, spec in specs.items()}

    @staticmethod
    def _matrix(wanted: list[Feature], rows: Mapping[str, tf.Tensor]) -> tf.Tensor:
        return rows[_ALL] if _ALL in rows else tf.concat([rows[feature.name] for feature in wanted], axis=1)

    def _rows(self, wanted: list[Feature], features: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Feature -> its rows, (B, 1 or max_length, K); or `_ALL` -> the field matrix, where one gather gives it."""
        rows: dict[str, tf.Tensor] = {}
        for lookup, width, embedded, valid in self._gathered(wanted, features):
            if width != self.width:
                embedded = tf.einsum("bsw,wk->bsk", embedded, self._projections[f"table_{width}"])
            if lookup.is_whole_matrix:
                return {_ALL: embedded}
            # One split, not a slice a feature: each slice's gradient would be as large as the field matrix.
            lengths = [feature.length for feature in lookup.features]
            parts = zip(lookup.features, tf.split(embedded, lengths, 1), tf.split(valid, lengths, 1), strict=True)
            rows |= {feature.name: self._pool(feature, x, here, features) for feature, x, here in parts}
        numbers = [feature for feature in self._numbers if feature in wanted]
        if numbers:
            values = tf.concat([features[f.name] for f in numbers], axis=1)
            kernel = self._number_vectors(numbers)
            by_number = tf.cast(values, self.compute_dtype)[:, :, tf.newaxis] * tf.cast(kernel, self.compute_dtype)
            columns = tf.split(by_number, len(numbers), axis=1)
            rows |= {feature.name: column for feature, column in zip(numbers, columns, strict=True)}
        for feature in wanted:
            if feature.kind == "vector":
                vector = tf.cast(features[feature.name], self.compute_dtype)
                rows[feature.name] = tf.matmul(vector, self._projections[feature.name])[:, tf.newaxis]
        return rows

    def _number_vectors(self, numbers: list[Feature]) -> tf.Tensor:
        """The rows of `numeric_kernel` of these features."""
        return tf.gather(self.numeric_kernel, [self._numbers.index(f) for f in numbers])

    def _gathered(
        self, wanted: list[Feature], features: Mapping[str, tf.Tensor]
    ) -> Iterator[tuple[_Lookup, int, tf.Tensor, tf.Tensor]]:
        """Of each variable: the look-up of the features wanted, its width, their vectors, and which ids are valid."""
        for (key, table), whole in zip(self.tables.items(), self._lookups, strict=True):
            lookup = whole.only(wanted)
            if lookup.features:
                rows = self._packed(lookup, features)
                vectors = (self.look_up or tf.nn.embedding_lookup)(table, rows)
                yield lookup, key[0], *self._masked(vectors, rows > 0)

    def _packed(self, lookup: _Lookup, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Rows in the look-up's variable, (B, its ids); 0 where an id is not valid."""
        ids = tf.cast(tf.concat([features[f.name] for f in lookup.features], axis=1), tf.int64)
        if self.validate_ids and not in_xla():
            ids = lookup.checked(ids)
        rows = tf.where(ids > 0, ids + lookup.offsets, 0)
        return tf.cast(rows, tf.int32) if lookup.num_rows < 2**31 else rows

    def _masked(self, vectors: tf.Tensor, valid: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """(B, S, width) with zeros where (B, S) is false, and that mask (B, S, 1)."""
        embedded = tf.cast(vectors, self.compute_dtype)
        mask = tf.cast(valid, self.compute_dtype)[:, :, tf.newaxis]
        if in_xla():
            return embedded * mask, mask
        # Many batches have no padding: they are spared two passes over the field matrix.
        return tf.cond(tf.reduce_all(valid), lambda: embedded, lambda: embedded * mask), mask

    @staticmethod
    def _pool(feature: Feature, x: tf.Tensor, valid: tf.Tensor, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """(B, length, K) and (B, length, 1) -> the rows of one feature, (B, 1 or max_length, K)."""
        weights = valid
        if feature.weights_name:
            weights *= tf.cast(features[feature.weights_name], x.dtype)[:, :, tf.newaxis]
            x *= weights
        elif feature.length == 1:
            return x
        if feature.combiner == "concat":
            return x
        if feature.combiner == "max":
            here = valid > 0
            highest = tf.reduce_max(tf.where(here, x, x.dtype.min), axis=1, keepdims=True)
            return tf.where(tf.reduce_any(here, axis=1, keepdims=True), highest, tf.zeros_like(highest))
        total = tf.reduce_sum(x, axis=1, keepdims=True)
        if feature.combiner == "sum":
            return total
        power = 2 if feature.combiner == "sqrtn" else 1
        norm = tf.reduce_sum(weights**power, axis=1, keepdims=True)
        return tf.math.divide_no_nan(total, tf.sqrt(norm) if power == 2 else norm)

    def compute_output_shape(self, input_shape: Any) -> tf.TensorShape:
        return tf.TensorShape([None, self.schema.num_fields, self.width])

    def get_config(self) -> dict[str, Any]:
        return {
            **super().get_config(),
            "schema": self.schema.to_json(),
            "width": self.width,
            "initializer": None if self.initializer is None else tf.keras.initializers.serialize(self.initializer),
            "validate_ids": self.validate_ids,
        }


class _Lookup:
    """Where the ids of the features that share a variable stand: constants, worked out once."""

    def __init__(self, schema: Schema, features: list[Feature]) -> None:
        tables = schema.tables
        self.features = features
        lengths = [feature.length for feature in features]
        # The places of Schema.tables. But that knows no model: where widths None and the model's own are one width, the
        # tables share one variable here, in the schema's order.
        names = dict.fromkeys(feature.table_name for feature in features)
        starts, end = {}, 0
        for name in names:
            starts[name] = end
            end += tables[name].rows - 1
        self.num_rows = end + 1
        self.offsets = np.repeat([starts[f.table_name] for f in features], lengths).astype(np.int64)
        self.sizes = np.repeat([tables[f.table_name].rows for f in features], lengths).astype(np.int64)
        self.slot_names = np.repeat([feature.name for feature in features], lengths)
        self.is_whole_matrix = (
            features == list(schema.inputs)
            and all(n == 1 for n in lengths)
            and not any(feature.weights for feature in features)
        )

    def only(self, wanted: list[Feature]) -> _Lookup:
        """The look-up of some of the features, in the same variable."""
        kept = [feature for feature in self.features if feature in wanted]
        if len(kept) == len(self.features):
            return self
        part = copy.copy(self)
        taken = np.isin(self.slot_names, [feature.name for feature in kept])
        part.offsets, part.sizes, part.slot_names = (x[taken] for x in (self.offsets, self.sizes, self.slot_names))
        part.features, part.is_whole_matrix = kept, False
        return part

    def checked(self, ids: tf.Tensor) -> tf.Tensor:
        """`ids`, once it is sure that each is inside its table."""
        highest, lowest = tf.reduce_max(ids, axis=0), tf.reduce_min(ids, axis=0)
        bad = tf.logical_and(tf.size(ids) > 0, tf.logical_or(highest >= self.sizes, lowest < 0))
        message = ["ids outside their tables; feature, lowest and highest id, table rows:"]
        message += [tf.boolean_mask(x, bad) for x in (self.slot_names, lowest, highest, self.sizes)]
        with tf.control_dependencies([tf.debugging.Assert(tf.logical_not(tf.reduce_any(bad)), message)]):
            return tf.identity(ids)
