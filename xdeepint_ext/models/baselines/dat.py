"""Dual augmented two-tower model."""

from __future__ import annotations

import functools
from collections.abc import Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import FeatureEmbedding
from xdeepint_ext.models.baselines.two_tower import VectorTowers
from xdeepint_ext.models.towers import TowerModel, each_item
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.dtypes import at_least_float32
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.replicas import sum_over_replicas

FIELDS, AUGMENTED, CATEGORY = "fields", "augmented", "category"


class AugmentedTowers(VectorTowers):
    """The dense part of a `DAT`; arguments and formulas are there. Representations: unit vectors (..., d)."""

    def __init__(
        self,
        units: Sequence[int],
        dropout: float,
        temperature: float,
        learnable_temperature: bool,
        mimic_weights: Sequence[float],
        alignment_weight: float,
        num_categories: int,
        **kwargs: Any,
    ) -> None:
        super().__init__(units, dropout, "cosine", temperature, learnable_temperature, **kwargs)
        self.mimic_weights = tuple(mimic_weights)
        self.alignment_weight = alignment_weight
        self.num_categories = num_categories

    def user(self, x: Any, training: bool | None = None) -> tf.Tensor:
        return super().user(_joined(x), training)

    def item(self, x: Any, training: bool | None = None) -> tf.Tensor:
        return super().item(_joined(x), training)

    def call(self, inputs: tuple[Any, Any], labels: tf.Tensor | None = None, training: bool | None = None) -> tf.Tensor:
        user, items = inputs
        of_user = self.user(user, training)
        of_items = each_item(lambda x: self.item(x, training), items)
        if labels is not None:
            own_weight, other_weight = self.mimic_weights
            self.add_loss(
                own_weight * mimic(user[AUGMENTED][:, tf.newaxis], of_items, labels)
                + other_weight * mimic(items[AUGMENTED], of_user[:, tf.newaxis], labels)
            )
            if self.num_categories and self.alignment_weight:
                category = tf.where(labels >= 0, items[CATEGORY][..., 0], 0)
                self.add_loss(self.alignment_weight * alignment(of_items, category, self.num_categories))
        return self.score(of_user, of_items)


def mimic(augmented: tf.Tensor, other: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Mean over all pairs but padding of `|a - p|^2` where positive, 0 elsewhere: a follows p, not p a.

    Args:
      augmented: a, of one side's id; its shape broadcasts to (U, n, d).
      other: p, the other side's vector, which gets no gradient.
      labels: (U, n): above 0 is positive, below 0 padding.
    """
    gaps = at_least_float32(augmented) - tf.stop_gradient(at_least_float32(other))
    positive = tf.cast(labels > 0, gaps.dtype) * tf.reduce_sum(tf.square(gaps), axis=2)
    total, count = sum_over_replicas([tf.reduce_sum(positive), tf.reduce_sum(tf.cast(labels >= 0, gaps.dtype))])
    return tf.math.divide_no_nan(total, count)


def alignment(vectors: tf.Tensor, category: tf.Tensor, num_categories: int) -> tf.Tensor:
    """`sum_c |Cov(S_major) - Cov(S_c)|_F^2` over the batch's categories c of two items or more but the largest.

    Args:
      vectors: (..., d).
      category: (...) ids, 0 = none.
      num_categories: ids, 0 included.
    """
    vectors = at_least_float32(tf.reshape(vectors, (-1, vectors.shape[-1])))
    category = tf.reshape(tf.cast(category, tf.int32), [-1])
    outer = vectors[:, :, tf.newaxis] * vectors[:, tf.newaxis]
    sums = [tf.math.unsorted_segment_sum(x, category, num_categories) for x in (vectors, outer)]
    ones = tf.math.unsorted_segment_sum(tf.ones_like(vectors[:, 0]), category, num_categories)
    total, products, count = sum_over_replicas([*sums, ones])
    several = (count >= 2) & (tf.range(num_categories) > 0)
    number = tf.where(several, count, 2.0)[:, tf.newaxis, tf.newaxis]
    mean = total[:, :, tf.newaxis] / number
    covariance = (products - number * mean * tf.transpose(mean, (0, 2, 1))) / (number - 1.0)
    major = tf.argmax(tf.where(several, count, 0.0))
    gaps = tf.reduce_sum(tf.square(covariance - covariance[major]), axis=(1, 2))
    return tf.reduce_sum(tf.where(several, gaps, 0.0))


@register
class DAT(TowerModel):
    """`logit = <p_u, p_i> / tau` of unit vectors; each tower also sees a vector of its id that mimics the other side.

    `p_u = MLP([x_u, a_u])` over its length, a_u a learned vector of the user's id; the same of items. In training the
    loss has, beside that on the logits,

        w_1 mean(y |a_u - p_i|^2) + w_2 mean(y |a_i - p_u|^2) + w_3 sum_c |Cov(S_major) - Cov(S_c)|^2

    with p frozen in the first two, so that a_u carries what the user liked into the user tower. S_c is the vectors of
    the batch's items of category c, S_major those of the largest category. Sample weights do not enter these terms.

    Args:
      schema: a `Schema` whose inputs have roles; see `TowerModel`.
      width: K. Our choice: 16, as for all models here.
      units: widths of both MLPs; the last, without activation, is that of p and a. Default: 256, 128, 32, the public
        implementations'. (Paper: relu there too; but then no logit is below 0.)
      dropout: behind the other layers. Our choice: none.
      temperature: tau at the start. Our choice: 0.1. Paper: none, so 1.
      learnable_temperature: whether tau is trained. Our choice: True.
      mimic_weights: w_1 and w_2. Paper: 0.5, 0.5.
      alignment_weight: w_3. Paper: 1.
      user_id: the feature whose ids have the a_u. Default: that of the user's with role `group`.
      item_id: the feature whose ids have the a_i. Default: that with role `item_id`.
      category: the items' feature that divides them; None, the default, leaves the third term out.
      embedding_initializer, name: see `RankingModel`.

    Raises:
      ValueError: an argument is out of range, a feature is none of its side's with one id, or see `TowerModel`.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> roles = {"user": ("user", "group"), "item": ("item", "item_id")}
      >>> model = DAT(Schema([Feature(name, role=role, num_values=9) for name, role in roles.items()]), units=[8, 4])
      >>> model({"user": tf.constant([[1], [2]]), "item": tf.constant([[3], [3]])}).shape
      TensorShape([2, 1])

    Source: Yu et al., A Dual Augmented Two-tower Model (DLP-KDD 2021); at second hand.
    """

    needs_labels = True

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        width: int = 16,
        units: Sequence[int] = (256, 128, 32),
        dropout: float = 0.0,
        temperature: float = 0.1,
        learnable_temperature: bool = True,
        mimic_weights: Sequence[float] = (0.5, 0.5),
        alignment_weight: float = 1.0,
        user_id: str | None = None,
        item_id: str | None = None,
        category: str | None = None,
        embedding_initializer: Any = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(schema, width=width, embedding_initializer=embedding_initializer, name=name, **kwargs)
        assert self.schema is not None
        if len(mimic_weights) != 2:
            raise ValueError(f"DAT: mimic_weights must be two numbers, got {list(mimic_weights)}")
        self.units, self.mimic_weights = list(units), [float(weight) for weight in mimic_weights]
        self.user_id = self._id_feature("user_id", user_id, self.user_features, "group")
        self.item_id = self._id_feature("item_id", item_id, self.item_features, "item_id")
        self.category = None if category is None else self._id_feature("category", category, self.item_features, "")
        self.user_vectors = self._vectors(self.user_id, "user_vectors")
        self.item_vectors = self._vectors(self.item_id, "item_vectors")
        self._options: dict[str, Any] = {
            "dropout": dropout,
            "temperature": temperature,
            "learnable_temperature": learnable_temperature,
            "alignment_weight": alignment_weight,
        }
        number = self.schema[self.category].num_ids if self.category else 0
        self.add_towers(
            functools.partial(
                AugmentedTowers,
                self.units,
                mimic_weights=self.mimic_weights,
                num_categories=number,
                **self._options,
            )
        )

    def embed_user(self, features: Mapping[str, tf.Tensor]) -> Any:
        """The user's field matrix and a_u."""
        return {FIELDS: super().embed_user(features), AUGMENTED: self.user_vectors(features)[:, 0]}

    def embed_items(self, features: Mapping[str, tf.Tensor]) -> Any:
        """The items' field matrices, a_i, and categories."""
        found = {FIELDS: super().embed_items(features), AUGMENTED: self.item_vectors(features)[:, 0]}
        if self.category is not None:
            found[CATEGORY] = tf.reshape(features[self.category], (-1, 1))
        return found

    def _id_feature(self, argument: str, name: str | None, side: tuple[str, ...], role: str) -> str:
        assert self.schema is not None
        if name is None:
            name = next((f.name for f in self.schema.with_role(role) if f.name in side), None)
        feature = self.schema[name] if name in side else None
        if feature is None or not feature.is_ids or feature.length != 1:
            wanted = f" (default: the one with role {role})" if role else ""
            raise ValueError(
                f"DAT: {argument} must name a feature with one id among {list(side)}{wanted}; got {name!r}"
            )
        return feature.name

    def _vectors(self, feature: str, name: str) -> FeatureEmbedding:
        assert self.schema is not None
        options = {"initializer": self.embedding_initializer, "name": name}
        return FeatureEmbedding(self.schema.select([feature]), self.units[-1], **options)

    def get_config(self) -> dict[str, Any]:
        own = {"units": list(self.units), "mimic_weights": list(self.mimic_weights)}
        ids = {"user_id": self.user_id, "item_id": self.item_id, "category": self.category}
        return {**super().get_config(), **own, **ids, **self._options}


def _joined(x: Mapping[str, tf.Tensor]) -> tf.Tensor:
    """A field matrix and the id's vector side by side."""
    fields = x[FIELDS]
    return tf.concat([tf.reshape(fields, (-1, fields.shape[1] * fields.shape[2])), x[AUGMENTED]], axis=1)
