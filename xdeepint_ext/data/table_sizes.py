"""What keeps tables small: a least count for vocabularies, and hashing in their place."""

from __future__ import annotations

from xdeepint_ext.schema import Schema, SchemaError

__all__ = ["parse_buckets", "with_hashing", "with_min_count"]


def with_min_count(schema: Schema, min_count: int) -> Schema:
    """The schema with another `min_count` wherever a vocabulary decides."""
    return schema.replace({feature.name: {"min_count": min_count} for feature in schema if feature.uses_vocabulary})


def parse_buckets(text: str) -> dict[str, int]:
    """Table -> number of buckets.

    Raises:
      ValueError: the text is no list of `table:buckets`.

    Example:
      >>> parse_buckets("user:1000000,item:50000")
      {'user': 1000000, 'item': 50000}
    """
    found = {}
    for part in text.split(","):
        table, _, buckets = part.rpartition(":")
        if not table or not buckets.isdecimal() or int(buckets) < 1:
            raise ValueError(
                f"hash_buckets must be table:buckets,table:buckets, buckets >= 1; got {part!r} in {text!r}"
            )
        found[table] = int(buckets)
    return found


def with_hashing(schema: Schema, buckets: dict[str, int]) -> Schema:
    """The schema in which ids of the tables are hashes of the values, and need no vocabulary.

    Args:
      schema: of the data.
      buckets: table -> number of buckets; values that fall into one bucket share its row.

    Raises:
      SchemaError: a table is none that a vocabulary makes.
    """
    known = {feature.table_name for feature in schema.inputs if feature.uses_vocabulary}
    unknown = sorted(set(buckets) - known)
    if unknown:
        raise SchemaError(f"hash_buckets: {unknown[0]!r} is no table with a vocabulary; there are {sorted(known)}")
    return schema.replace(
        {
            feature.name: {"lookup": "hash", "num_values": buckets[feature.table_name]}
            for feature in schema.inputs
            if feature.uses_vocabulary and feature.table_name in buckets
        }
    )
