"""`WrappedModel`: the frame of models around another one."""

from __future__ import annotations

from typing import Any

import tensorflow as tf

from xdeepint_ext.models.baselines.dcn import DCNV2
from xdeepint_ext.models.ranking_model import RankingModel
from xdeepint_ext.schema import Schema


class WrappedModel(RankingModel):
    """Base of the models around a backbone, whose tables and weights they use: `trunk(embed(features))` is its logits.

    Args:
      schema: a `Schema` (or its JSON text).
      backbone: a `RankingModel` of this schema, or what makes one of it, such as a class. None: `DCNV2`.
      name: of the model.

    Subclasses override:
      embed: what comes between the tables and the backbone's trunk.
      call: what comes behind it.
      backbone_schema: what the backbone is made of, if not of the schema itself.

    Raises:
      ValueError: there is no schema, or the backbone is of another one, or not the logits of `trunk(embed(features))`.
    """

    def __init__(self, schema: Schema | str, *, backbone: Any = None, name: str | None = None, **kwargs: Any) -> None:
        owner = type(self).__name__
        if schema is None:
            raise ValueError(f"{owner} divides features by their roles: it needs a schema")
        schema = Schema.from_json(schema) if isinstance(schema, str) else schema
        backbone = _made(self.backbone_schema(schema), backbone, owner)
        # The tables are the backbone's: the base makes none.
        super().__init__(None, num_fields=schema.num_fields, width=backbone.width, name=name, **kwargs)
        self.schema, self.num_fields = schema, None
        self.backbone = backbone
        self.embedding = backbone.embedding

    @classmethod
    def backbone_schema(cls, schema: Schema) -> Schema:
        """The backbone's schema: the model's own."""
        return schema

    def make_heads(self) -> dict[str, tf.keras.layers.Layer]:
        """None: the backbone has them."""
        return {}

    def build_from_schema(self) -> None:
        """Makes all weights, first those of the backbone, as it would alone."""
        if not self.built and not self._building:
            with self.distribute_strategy.scope():
                self.backbone.build_from_schema()
        super().build_from_schema()

    def embed(self, features: Any) -> tf.Tensor:
        """The backbone's field matrix."""
        return self.backbone.embed(features)

    def trunk(self, x: tf.Tensor, training: bool | None = None) -> Any:
        """The backbone's logits of a field matrix."""
        return self.backbone.trunk(x, training=training)

    def get_config(self) -> dict[str, Any]:
        assert self.schema is not None
        backbone = tf.keras.saving.serialize_keras_object(self.backbone)
        described = {key: backbone[key] for key in ("module", "class_name", "config", "registered_name")}
        return {"schema": self.schema.to_json(), "backbone": described, "name": self.name}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> WrappedModel:
        """Makes the model; the backbone's schema is that of this model's, whatever its configuration says."""
        backbone = config["backbone"]
        schema = cls.backbone_schema(Schema.from_json(config["schema"])).to_json()
        of_schema = {**backbone, "config": {**backbone["config"], "schema": schema}}
        return cls(**{**config, "backbone": tf.keras.saving.deserialize_keras_object(of_schema)})


def _made(schema: Schema, backbone: Any, owner: str) -> RankingModel:
    backbone = DCNV2 if backbone is None else backbone
    made = backbone if isinstance(backbone, tf.keras.Model) or not callable(backbone) else backbone(schema)
    if not isinstance(made, RankingModel) or type(made).call is not RankingModel.call:
        raise ValueError(
            f"{owner}: backbone must be a RankingModel whose logits are trunk(embed(features)), or make one of a "
            f"schema; got {made!r}"
        )
    if made.schema != schema:
        raise ValueError(f"{owner}: the backbone's schema must be the model's; got {made.schema!r} for {schema!r}")
    return made
