"""Retrieval's words: what of a schema is the user, the history and the catalogue; the inputs of a training batch."""

from __future__ import annotations

import dataclasses

from xdeepint_ext.schema import Feature, Schema, SchemaError

__all__ = ["CANDIDATES", "CORRECTIONS", "NEXT_ITEMS", "OWNERS", "Catalogue"]

CANDIDATES, OWNERS, CORRECTIONS, NEXT_ITEMS = "candidates", "candidate_owners", "candidate_corrections", "next_items"
"""What a batch of `data.sequences.training_batches` holds besides the schema's inputs."""


@dataclasses.dataclass(frozen=True)
class Catalogue:
    """The sides of a retrieval schema, and the items that can be retrieved.

    The item side is one feature of role `item`, a `multi` of one; the raw column behind it may hold several items, all
    that a recommendation should find. Items are the values of its table's vocabulary, with ids
    `first .. first + size - 1`; the ids below are padding and unseen items, which are never recommended.

    Args:
      user: the feature that is the user's id; None where there is none.
      history: the sequence of the user's items, in the table of the item; None where there is none.
      item: the item side.
    """

    user: Feature | None
    history: Feature | None
    item: Feature

    @classmethod
    def of(cls, schema: Schema) -> Catalogue:
        """The sides of a schema.

        Raises:
          SchemaError: it has another input, or lacks the item side, or user and history are both absent.
        """
        items = [feature for feature in schema.inputs if "item" in feature.roles]
        if len(items) != 1 or items[0].kind != "multi" or items[0].max_length != 1:
            raise SchemaError(
                "retrieval needs one input of role item, kind multi with max_length 1, whose raw column holds the "
                f"items to be found; the schema has {schema!r}"
            )
        table = items[0].table_name
        users = [f for f in schema.inputs if "user" in f.roles and f.kind == "categorical" and f.table_name != table]
        histories = [f for f in schema.inputs if "user" in f.roles and f.kind == "sequence" and f.table_name == table]
        others = [f.name for f in schema.inputs if f not in (*items, *users, *histories)]
        if others or len(users) > 1 or len(histories) > 1 or not users + histories:
            raise SchemaError(
                "retrieval needs the user's id (categorical) or history (sequence, in the table of the item), or both, "
                f"and knows no other inputs yet; the schema has {schema!r}"
            )
        return cls(users[0] if users else None, histories[0] if histories else None, items[0])

    @property
    def first(self) -> int:
        """Id of the first item."""
        return 1 + self.item.num_oov

    @property
    def size(self) -> int:
        """N, the number of items.

        Raises:
          SchemaError: it is not known yet.
        """
        return self.num_ids - self.first - (self.item.missing == "bucket")

    @property
    def num_ids(self) -> int:
        """Rows of the items' table, padding and unseen ones among them."""
        return self.item.num_ids
