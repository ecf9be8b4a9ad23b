"""`RetrievalModel`: two towers of vectors that are trained against candidates which a batch shares."""

from __future__ import annotations

import abc
import functools
from collections.abc import Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import FeatureEmbedding
from xdeepint_ext.models.baselines.two_tower import LEAST_SQUARE
from xdeepint_ext.models.towers import TowerModel, Towers
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.catalogue import CANDIDATES, CORRECTIONS, NEXT_ITEMS, OWNERS, Catalogue
from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.variables import tag

NORMALIZED = ("both", "user", "none")


class ProductTowers(Towers):
    """A user's vector by an encoder, an item's from its table, and gamma times their product.

    Args:
      encoder: what `embed_user` gives -> (U, K).
      gamma: see there.
      normalize: which vectors get length 1: `both`, `user` or `none`.
      bias: whether items have one; then vectors have a further column, b / gamma of items and 1 of users, so that
        logits stay products of vectors.
    """

    def __init__(self, encoder: tf.keras.layers.Layer, gamma: float, normalize: str, bias: bool, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self.encoder = encoder
        self.gamma = gamma
        self.normalize = normalize
        self.bias = bias

    def user(self, x: Any, training: bool | None = None) -> tf.Tensor:
        return self._of_user(self.encoder(x, training=training))

    def user_everywhere(self, x: Any, training: bool | None = None) -> tf.Tensor:
        """(U, H, d): what the user's vector would be had his history ended at each place."""
        return self._of_user(self.encoder.everywhere(x, training=training))

    def item(self, x: Any, training: bool | None = None) -> tf.Tensor:
        vector = at_least_float32(x["row"][:, 0])
        vector = unit(vector) if self.normalize == "both" else vector
        return vector if not self.bias else tf.concat([vector, tf.cast(x["bias"], vector.dtype) / self.gamma], axis=-1)

    def score(self, user: tf.Tensor, items: tf.Tensor) -> tf.Tensor:
        return self.gamma * tf.einsum("ud,und->un", at_least_float32(user), at_least_float32(items))

    def product_scale(self) -> float:
        """gamma: logits are `gamma <user, item>`."""
        return self.gamma

    def _of_user(self, x: tf.Tensor) -> tf.Tensor:
        vector = at_least_float32(x)
        vector = vector if self.normalize == "none" else unit(vector)
        return vector if not self.bias else tf.concat([vector, tf.ones_like(vector[..., :1])], axis=-1)


class RetrievalModel(TowerModel, abc.ABC):
    """Base of the retrieval models: `logit = gamma <u, v> / (|u| |v|)`, v the item's row in its table.

    Training takes batches of `data.sequences.training_batches`: every target of a batch is compared with the same
    candidates, and the loss, any of `xdeepint_ext.losses` on lists, sees rows of one positive and C negatives. Of a
    target's candidates its own slot is left out, and with `mask_hits` each other one that is the target's item. A
    batch of other form (features and labels) is trained as by every model here.

    Args:
      schema: users with their items; see `utils.catalogue.Catalogue`.
      width: K, columns of the vectors. CROLoss: 32.
      gamma: scale of the cosine. CROLoss: 10.
      normalize: `both` (cosine, the paper's); `user`: an item's length is its own; `none`: the product of the vectors.
      item_bias: whether an item has a bias, at the start 0. CROLoss: no.
      l2: l times the mean over targets of the squares of the rows of user (with his history) and item. CROLoss: 0.
      mask_hits: whether candidates that are the target's item are left out. CROLoss's repository leaves them in.
      embedding_initializer, name: see `RankingModel`.

    Subclasses override:
      make_encoder: what `embed_user` gives -> (U, K).
      embed_user: features -> what the encoder takes.

    Raises:
      ValueError: an argument is out of range; SchemaError, a kind of it: the schema is no such one.
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        width: int = 32,
        gamma: float = 10.0,
        normalize: str = "both",
        item_bias: bool = False,
        l2: float = 0.0,
        mask_hits: bool = True,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)
        if not gamma > 0:
            raise ValueError(f"{type(self).__name__}: gamma must be > 0, got {gamma}")
        if normalize not in NORMALIZED:
            raise ValueError(f"{type(self).__name__}: normalize must be one of {NORMALIZED}, got {normalize!r}")
        if l2 < 0:
            raise ValueError(f"{type(self).__name__}: l2 must be >= 0, got {l2}")
        assert self.schema is not None
        self.catalogue = Catalogue.of(self.schema)
        self.gamma, self.normalize, self.item_bias = float(gamma), normalize, item_bias
        self.l2, self.mask_hits = l2, mask_hits
        self.biases = (
            tf.keras.layers.Embedding(self.catalogue.num_ids, 1, "zeros", name="biases") if item_bias else None
        )

    @abc.abstractmethod
    def make_encoder(self) -> tf.keras.layers.Layer:
        """The dense part of the user's side."""

    def add_encoder(self) -> None:
        """Makes the towers; a subclass's constructor ends with it."""
        options = (self.gamma, self.normalize, self.item_bias)
        self.add_towers(functools.partial(ProductTowers, self.make_encoder(), *options))

    def make_embedding(self, width: int, **kwargs: Any) -> FeatureEmbedding:
        """As of `RankingModel`, but every item of a history has its own row."""
        assert self.schema is not None
        sequences = [feature.name for feature in self.schema.inputs if feature.kind == "sequence"]
        schema = self.schema.replace({name: {"combiner": "concat"} for name in sequences})
        return FeatureEmbedding(schema, width, **{"initializer": self.embedding_initializer, **kwargs})

    def embed_items(self, features: Mapping[str, tf.Tensor]) -> Any:
        name = self.catalogue.item.name
        found = {"row": self.embedding(features, only=(name,))}
        if self.biases is not None:
            found["bias"] = self.biases(tf.reshape(features[name], [-1, 1]))[:, 0]
            tag(self.biases.embeddings, "embedding")
        return found

    @property
    def tower(self) -> ProductTowers:
        """The towers of the one task."""
        found: Any = self.towers[self.tasks[0]]
        return found

    def against_candidates(
        self, features: Mapping[str, tf.Tensor], training: bool | None = None
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """What a loss takes: of P targets, labels and logits of the target and of C candidates.

        Args:
          features: a batch of `data.sequences.training_batches`.
          training: whether dropout acts.

        Returns:
          (labels, logits), each (P, 1 + C), float32: 1 for the target, which comes first; 0 for a candidate; -1 for one
          that is left out.
        """
        self.build_from_schema()
        users, targets, rows = self._targets(features, training)
        candidates = tf.cast(features[CANDIDATES], tf.int64)
        ids = tf.concat([targets, candidates], axis=0)[:, tf.newaxis]
        vectors = self.tower.item(self.embed_items({self.catalogue.item.name: ids}), training)
        count = targets.shape[0] or tf.size(targets)  # a loss is faster where it knows its sizes
        own, others = vectors[:count], vectors[count:]
        # Gamma and the corrections are columns of the product: passes over (P, C) are what a step costs.
        users *= self.gamma
        positive = tf.reduce_sum(users * own, axis=1, keepdims=True)
        corrections = tf.cast(features[CORRECTIONS], users.dtype)[:, tf.newaxis]
        negative = tf.matmul(
            tf.concat([users, -tf.ones_like(users[:, :1])], axis=1),
            tf.concat([others, corrections], axis=1),
            transpose_b=True,
        )
        if self.mask_hits:  # the target in its own slot among them
            left_out = candidates == targets[:, tf.newaxis]
        else:
            left_out = features[OWNERS] == rows[:, tf.newaxis]
        one = tf.ones((), positive.dtype)
        labels = tf.concat([tf.ones_like(positive), tf.where(left_out, -one, tf.zeros_like(one))], axis=1)
        return labels, tf.concat([positive, negative], axis=1)

    def _targets(
        self, features: Mapping[str, tf.Tensor], training: bool | None
    ) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        """Users' vectors (P, d), the targets (P,), and the rows of the batch that they are of."""
        embedded = self.embed_user(features)
        if NEXT_ITEMS not in features:
            targets = tf.reshape(tf.cast(features[self.catalogue.item.name], tf.int64), [-1])
            return self.tower.user(embedded, training), targets, tf.range(tf.size(targets))
        if not hasattr(self.tower.encoder, "everywhere"):
            raise ValueError(f"{self.name}: draw=windows needs a vector at every place, which this model does not give")
        wanted = tf.cast(features[NEXT_ITEMS], tf.int64)
        here = wanted > 0
        users = tf.boolean_mask(self.tower.user_everywhere(embedded, training), here)
        return users, tf.boolean_mask(wanted, here), tf.cast(tf.where(here)[:, 0], tf.int32)

    def train_step(self, data: Any) -> dict[str, tf.Tensor]:
        """A step against the batch's candidates; of a batch without, Keras's."""
        features, _, weights = tf.keras.utils.unpack_x_y_sample_weight(data)
        if CANDIDATES not in features:
            return super().train_step(data)
        with tf.GradientTape() as tape:
            labels, logits = self.against_candidates(features, training=True)
            loss = self.compute_loss(features, labels, logits, weights)
            if self.l2:
                loss += self._penalty(features)
        self.optimizer.minimize(loss, self.trainable_variables, tape=tape)
        return self.compute_metrics(features, labels, logits, weights)

    def _penalty(self, features: Mapping[str, tf.Tensor]) -> tf.Tensor:
        rows = [self.embed_user(features), self.embed_items(features) if NEXT_ITEMS not in features else ()]
        floats = [x for x in tf.nest.flatten(rows) if x.dtype.is_floating]
        squares = tf.add_n([tf.reduce_sum(tf.square(at_least_float32(x))) for x in floats])
        of_user = self.catalogue.user or self.catalogue.history
        assert of_user is not None
        count = tf.shape(features[of_user.name])[0] * self.distribute_strategy.num_replicas_in_sync
        return self.l2 * squares / tf.cast(count, squares.dtype)

    def get_config(self) -> dict[str, Any]:
        names = ("gamma", "normalize", "item_bias", "l2", "mask_hits")
        return {**super().get_config(), **{name: getattr(self, name) for name in names}}


def unit(x: tf.Tensor) -> tf.Tensor:
    """Vectors of length 1; a shorter one than 1e-4 is divided by that."""
    return tf.math.l2_normalize(x, axis=-1, epsilon=LEAST_SQUARE)


def as_schema(schema: Schema | str | None, owner: str, left_out: str) -> Schema:
    """The schema without the feature of one role in retrieval.

    Args:
      schema: users with their items, or its JSON text.
      owner: begins the message.
      left_out: `user` or `history`.

    Raises:
      ValueError: there is no schema, or nothing is left of the user's side.
    """
    if schema is None:
        raise ValueError(f"{owner}: it needs a schema of users with their items")
    schema = Schema.from_json(schema) if isinstance(schema, str) else schema
    dropped = getattr(Catalogue.of(schema), left_out)
    found = Schema(feature for feature in schema if feature != dropped)
    Catalogue.of(found)
    return found
