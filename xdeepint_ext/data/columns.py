"""Raw columns: how a token of text becomes checked values, and the bytes that stand for them in a tf.Example."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Mapping
from typing import Any

from xdeepint_ext.data.records import encode_feature
from xdeepint_ext.schema import Feature, Schema, SchemaError

__all__ = ["Column", "columns_of_schema"]

_FLOAT32_MAX = 3.4028235677973366e38


@dataclasses.dataclass(frozen=True)
class Column:
    """One raw column.

    Args:
      name: its name in the records.
      dtype: `string`, `int` or `float`.
      many: holds any number of values.
      dimension: holds exactly so many floats.
      separator: stands between several values.
      labels: `binary` or `any` for a label, `weight` for a weight.
      optional: False = a missing value is an error.
      limit: ids must be below it; None = no limit.
    """

    name: str
    dtype: str
    many: bool = False
    dimension: int | None = None
    separator: bytes = b""
    labels: str | None = None
    optional: bool = True
    limit: int | None = None

    @functools.cached_property
    def plain(self) -> bool:
        """Whether every token is one value as it stands."""
        return self.dtype == "string" and not self.many and self.dimension is None

    def convert(self, token: bytes) -> tuple[bytes, tuple[Any, ...]]:
        """The entry in a tf.Example's feature map (empty where the value is missing), and the values.

        Raises:
          ValueError: the token is no such value; the message does not name the column.
        """
        if token and self.plain:
            return encode_feature(self.name, "string", (token,)), (token,)
        several = self.many or self.dimension is not None
        if not token and not self.many:
            if not self.optional:
                raise ValueError("the value is missing")
            return b"", ()
        texts = token.split(self.separator) if several and token else [token] if token else []
        values = tuple(self._value(text) for text in texts)
        if self.dimension is not None and len(values) != self.dimension:
            raise ValueError(f"expected {self.dimension} numbers, got {len(values)}")
        return encode_feature(self.name, self.dtype, values), values

    def _value(self, text: bytes) -> Any:
        if self.dtype == "string":
            if not text:
                raise ValueError(f"an empty value between two {self.separator.decode()!r}")
            return text
        shown = text.decode("utf-8", "replace")
        if self.dtype == "int":
            return self._integer(text, shown)
        try:
            value = float(text)
        except ValueError:
            raise ValueError(f"expected a number, got {shown!r}") from None
        self._check_role(value, shown)
        if not math.isfinite(value) or abs(value) > _FLOAT32_MAX or b"_" in text:
            raise ValueError(f"expected a finite 32-bit number, got {shown!r}")
        return value

    def _check_role(self, value: float, shown: str) -> None:
        if self.labels == "binary" and value not in (0, 1):
            raise ValueError(f"a label must be 0 or 1, got {shown!r}")
        if self.labels == "weight" and value < 0:
            raise ValueError(f"a weight must be >= 0, got {shown!r}")

    def _integer(self, text: bytes, shown: str) -> int:
        try:
            value = int(text)
        except ValueError:
            raise ValueError(f"expected an integer, got {shown!r}") from None
        # The lowest int64 stands for a missing value in raw tensors.
        self._check_role(value, shown)
        if not -(2**63) < value < 2**63 or b"_" in text:
            raise ValueError(f"expected a 64-bit integer, got {shown!r}")
        if self.limit is not None and not 0 <= value < self.limit:
            raise ValueError(f"expected an id in 0 .. {self.limit - 1}, got {shown!r}")
        return value


def columns_of_schema(schema: Schema, separators: Mapping[str, bytes], label_values: str) -> list[Column]:
    """The raw columns that the features of a schema are made of, in the schema's order.

    Args:
      schema: the features.
      separators: raw column -> what stands between its values; `|` where none is given.
      label_values: `binary` or `any`.

    Raises:
      SchemaError: two features of one column disagree about its type.
    """
    found: dict[str, Column] = {}
    for feature in schema:
        for column in _columns_of_feature(feature, separators, label_values, optional_label=len(schema.labels) > 1):
            first = found.setdefault(column.name, column)
            for key in ("dtype", "many", "dimension"):
                if getattr(first, key) != getattr(column, key):
                    raise SchemaError(
                        f"feature {feature.name!r}: column {column.name!r} was {getattr(first, key)!r} in {key} for "
                        f"another feature, and is {getattr(column, key)!r} here"
                    )
            if column.limit is not None:
                found[column.name] = dataclasses.replace(first, limit=column.limit)
    return list(found.values())


def _columns_of_feature(
    feature: Feature, separators: Mapping[str, bytes], label_values: str, optional_label: bool
) -> list[Column]:
    name, many = feature.raw_name, feature.kind in ("multi", "sequence")
    separator = separators.get(name, b"|")
    is_label, is_weight = "label" in feature.roles, "weight" in feature.roles
    column = Column(
        name,
        str(feature.dtype),
        many,
        feature.dimension if feature.kind == "vector" else None,
        separator,
        labels=label_values if is_label else "weight" if is_weight else None,
        optional=optional_label if is_label else not is_weight,
        limit=feature.num_values if feature.is_input and feature.is_ids and feature.lookup == "identity" else None,
    )
    if feature.weights is None:
        return [column]
    return [column, Column(feature.weights, "float", many=True, separator=separators.get(feature.weights, separator))]
