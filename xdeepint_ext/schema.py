"""What a dataset's columns mean: `Feature`, `Schema`, and their form on disk (TensorFlow Metadata's schema.pbtxt).

A `Schema` is the one description that reading, preprocessing, models and serving share. On disk it is the
`tensorflow_metadata.proto.v0.schema_pb2.Schema` that TFDV and TFX write: roles and kinds are plain annotation tags
(`label`, `user`, `sequence` ...), and what else a feature needs is one tag `xdeepint:{...}` with a JSON object. A user
whose schema has no such tags adds them with a small overlay file, `roles.yaml`, and leaves his schema as it is.

The module needs no TensorFlow.
"""

from __future__ import annotations

import dataclasses
import hashlib
import itertools
import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

__all__ = ["Feature", "Schema", "SchemaError", "Table"]

KINDS = ("categorical", "multi", "sequence", "numeric", "vector")
INPUT_ROLES = ("user", "item", "context")
# A column with one of these roles reaches the losses and metrics under the keyword that stands beside the role.
SIDE_INPUTS = {
    "group": "group_ids",
    "session": "session_ids",
    "item_id": "item_ids",
    "stage": "stages",
    "teacher": "teacher",
    "soft_label": "soft_label",
}
ROLES = (*INPUT_ROLES, "label", "weight", *SIDE_INPUTS)
NUMBER_ROLES = {"label", "weight", "teacher", "soft_label"}
DTYPES = ("string", "int", "float")
COMBINERS = ("mean", "sum", "sqrtn", "max", "concat")
LOOKUPS = ("vocabulary", "hash", "identity")
BINNINGS = ("quantile", "boundaries", "log_square")
SCALINGS = ("standard", "log", "none")
LOG_SQUARE_BINS = 64

_SAFE_NAME = re.compile(r"[A-Za-z0-9_.][A-Za-z0-9_.\-/]*")


class SchemaError(ValueError):
    """A schema, or a feature of it, contradicts itself or its file."""


@dataclasses.dataclass(frozen=True)
class Feature:
    """One column: what it is, what it is for, and how its raw values become ids or floats.

    Args:
      name: the model input's name; also the raw column's, unless `source` names another.
      kind: `categorical` (one id), `multi` (several ids, optionally weighted), `sequence` (ordered ids, oldest first),
        `numeric` (one float, scaled; or an id, with `binning`), `vector` (`dimension` floats, projected).
      role: one role or several, of `user`, `item`, `context` (model inputs) and `label`, `weight`, `group`, `session`,
        `item_id`, `stage`, `teacher`, `soft_label` (for losses, metrics and lists). Without a role a feature is a model
        input. One with only roles of the second kind is none.
      table: name of its embedding table; features that name the same table share it. Default: the feature's own name.
      width: embedding width; None = the model's. Another width is projected to the model's.
      combiner: how several ids become one row: `mean`, `sum`, `sqrtn`, `max`; `concat` = one row per position.
      max_length: positions kept of a `multi` (the first) or `sequence` (the last); required for both.
      trainable: False freezes the table.
      dtype: the raw values' type: `string`, `int` or `float`. Default: `float` for numeric and vector, else `string`.
      source: the raw column, where several features are made of one.
      weights: raw column of floats beside the ids of a `multi` or `sequence`.
      dimension: floats of a `vector`.
      lookup: `vocabulary` (a file, one value a line), `hash` (into `num_values` buckets), or `identity` (the values are
        already 0 .. num_values - 1; any other gets id 0).
      num_values: size of the vocabulary, number of hash buckets, or of identity values. `data.prepare` fills it in.
      capacity: values that the table has rows for, so that a vocabulary (or identity values) may grow to it without a
        new shape; None = `num_values`. See `data.prepare`'s `reserve`.
      min_count: values seen less often in training are left out of the vocabulary (authors: 20).
      oov: `buckets`: values outside the vocabulary go to `num_oov_buckets` hashed, trainable ids; `zero`: to id 0, the
        zero vector (the authors' behaviour).
      num_oov_buckets: see `oov`.
      binning: turns a numeric value into an id: `quantile` (`num_bins` bins; `data.prepare` finds the boundaries),
        `boundaries` (as given), `log_square` (floor(ln(x^2 + 1)), 64 bins; the authors' code).
      num_bins: bins of `quantile`.
      boundaries: inner boundaries, ascending; a value equal to a boundary belongs to the bin above it.
      scaling: of a numeric that stays a number: `standard` ((x - mean) / deviation), `log` (sign(x) ln(1 + |x|)),
        `none`.
      mean, deviation: for `standard`. `data.prepare` fills them in.
      missing: `zero` (id 0 or 0.0; the authors' choice) or `bucket` (an id of its own; for features that become ids).
      required: False = records may lack the column (then the value is missing, as above).

    Raises:
      SchemaError: an argument is out of range, or contradicts another.

    Example:
      >>> Feature("video_id", "categorical", ("item", "item_id"), table="video", num_values=6361).num_ids
      6363
    """

    name: str
    kind: str = "categorical"
    role: str | tuple[str, ...] | None = None
    table: str | None = None
    width: int | None = None
    combiner: str = "mean"
    max_length: int | None = None
    trainable: bool = True
    dtype: str = ""
    source: str | None = None
    weights: str | None = None
    dimension: int | None = None
    lookup: str = "vocabulary"
    num_values: int | None = None
    capacity: int | None = None
    min_count: int = 1
    oov: str = "buckets"
    num_oov_buckets: int = 1
    binning: str | None = None
    num_bins: int | None = None
    boundaries: tuple[float, ...] | None = None
    scaling: str = "standard"
    mean: float | None = None
    deviation: float | None = None
    missing: str = "zero"
    required: bool = True

    def __post_init__(self) -> None:
        roles = () if self.role is None else (self.role,) if isinstance(self.role, str) else tuple(self.role)
        object.__setattr__(self, "role", roles)
        if self.boundaries is not None:
            object.__setattr__(self, "boundaries", tuple(float(b) for b in self.boundaries))
        if not self.dtype:
            numbers = self.kind in ("numeric", "vector") or NUMBER_ROLES & set(roles)
            object.__setattr__(self, "dtype", "float" if numbers else "string")
        self._check()

    def _check(self) -> None:
        def demand(condition: Any, message: str) -> None:
            if not condition:
                raise SchemaError(f"Feature {self.name!r}: {message}")

        demand(
            isinstance(self.name, str) and _SAFE_NAME.fullmatch(self.name), "name must be letters, digits and _ . - /"
        )
        demand(self.name not in SIDE_INPUTS.values(), f"name is reserved (one of {sorted(SIDE_INPUTS.values())})")
        for argument, value, choices in (
            ("kind", self.kind, KINDS),
            ("combiner", self.combiner, COMBINERS),
            ("dtype", self.dtype, DTYPES),
            ("lookup", self.lookup, LOOKUPS),
            ("oov", self.oov, ("buckets", "zero")),
            ("binning", self.binning, (None, *BINNINGS)),
            ("scaling", self.scaling, SCALINGS),
            ("missing", self.missing, ("zero", "bucket")),
            *(("role", role, ROLES) for role in self.roles),
        ):
            demand(value in choices, f"{argument} must be one of {choices}, got {value!r}")
        for argument, least in (("width", 1), ("max_length", 1), ("dimension", 1), ("num_values", 0), ("num_bins", 1)):
            value = getattr(self, argument)
            whole = isinstance(value, int) and value >= least
            demand(value is None or whole, f"{argument} must be a whole number >= {least}, got {value!r}")
        demand(self.num_oov_buckets >= 1, f"num_oov_buckets must be >= 1, got {self.num_oov_buckets} (or oov='zero')")
        demand(self.min_count >= 1, f"min_count must be >= 1, got {self.min_count}")
        grows = self.uses_vocabulary or (self.is_ids and self.lookup == "identity")
        demand(self.capacity is None or grows, "capacity goes with a vocabulary, or with lookup 'identity'")
        enough = self.capacity is None or self.num_values is None or self.capacity >= self.num_values
        demand(enough, f"capacity must be >= num_values, {self.num_values}, got {self.capacity}")
        numbers = NUMBER_ROLES & set(self.roles)
        demand(not numbers or self.dtype != "string", f"role {', '.join(sorted(numbers))} is for numbers, not strings")
        if not self.is_input:
            return
        demand(self.kind not in ("multi", "sequence") or self.max_length, f"kind {self.kind!r} needs max_length")
        demand(self.kind != "vector" or self.dimension, "kind 'vector' needs dimension")
        demand(self.weights is None or self.kind in ("multi", "sequence"), "weights go with kind 'multi' or 'sequence'")
        demand(self.binning is None or self.kind == "numeric", "binning goes with kind 'numeric'")
        demand(self.binning != "quantile" or self.num_bins or self.boundaries, "binning 'quantile' needs num_bins")
        demand(self.binning != "boundaries" or self.boundaries, "binning 'boundaries' needs boundaries")
        demand(self.kind in ("numeric", "vector") or self.dtype != "float", "ids cannot be made of floats: use binning")
        demand(self.kind not in ("numeric", "vector") or self.dtype != "string", "numbers cannot be strings")
        demand(self.lookup != "identity" or self.dtype == "int", "lookup 'identity' needs dtype 'int'")
        bounds = self.boundaries or ()
        demand(all(a < b for a, b in itertools.pairwise(bounds)), "boundaries must ascend strictly")

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles as a tuple."""
        return self.role  # type: ignore[return-value]

    @property
    def raw_name(self) -> str:
        """Name of the raw column that the feature is made of."""
        return self.source or self.name

    @property
    def table_name(self) -> str:
        """Name of the embedding table and of its vocabulary file."""
        return self.table or self.name

    @property
    def weights_name(self) -> str | None:
        """Name of the model input that carries the weights of the ids, or None."""
        return f"{self.name}_weights" if self.weights else None

    @property
    def is_input(self) -> bool:
        """Whether a model sees the feature."""
        return not self.roles or bool(set(self.roles) & set(INPUT_ROLES))

    @property
    def is_ids(self) -> bool:
        """Whether the model sees ids (True) or floats (False)."""
        return self.kind in ("categorical", "multi", "sequence") or self.binning is not None

    @property
    def uses_vocabulary(self) -> bool:
        """Whether a vocabulary file decides the ids."""
        return self.is_input and self.is_ids and self.binning is None and self.lookup == "vocabulary"

    @property
    def length(self) -> int:
        """Ids or floats per example."""
        if self.kind in ("multi", "sequence"):
            return self.max_length  # type: ignore[return-value]
        return self.dimension if self.kind == "vector" else 1  # type: ignore[return-value]

    @property
    def num_rows(self) -> int:
        """Rows of the (F, K) field matrix that the feature fills."""
        return self.length if self.kind in ("multi", "sequence") and self.combiner == "concat" else 1

    @property
    def num_oov(self) -> int:
        """Ids kept for values outside the vocabulary; they come first: 1 .. num_oov."""
        return self.num_oov_buckets if self.uses_vocabulary and self.oov == "buckets" else 0

    @property
    def num_ids(self) -> int:
        """Rows of the table.

        They are id 0 (padding or missing), out-of-vocabulary ids, values or bins, what `capacity` has beyond them, and
        the missing bucket.

        Raises:
          SchemaError: the number of values is not known yet.
        """
        if not self.is_ids:
            raise SchemaError(f"Feature {self.name!r} is {self.kind} without binning: it has no ids")
        if self.binning == "log_square":
            values: int | None = LOG_SQUARE_BINS
        elif self.binning is not None:
            values = None if self.boundaries is None else len(self.boundaries) + 1
        else:
            values = self.num_values if self.capacity is None else self.capacity
        if values is None:
            raise SchemaError(
                f"Feature {self.name!r}: the number of values is unknown; give num_values (or boundaries), or let "
                "data.prepare fill it in from the training data"
            )
        return 1 + self.num_oov + values + (self.missing == "bucket")

    def replace(self, **changes: Any) -> Feature:
        """A copy with other arguments."""
        return dataclasses.replace(self, **changes)

    def options(self) -> dict[str, Any]:
        """The arguments that differ from their defaults, without the name; JSON-serialisable."""
        found: dict[str, Any] = {}
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if field.name != "name" and (value != field.default or field.name in ("kind", "role", "dtype")):
                found[field.name] = list(value) if isinstance(value, tuple) else value
        return found


@dataclasses.dataclass(frozen=True)
class Table:
    """One embedding table inside the variable that holds all tables of its width.

    Args:
      name: the table.
      rows: its ids, 0 .. rows - 1. Id 0 owns no row of its own: all tables share row 0 of the variable.
      width: embedding width, None = the model's.
      trainable: False = frozen.
      offset: row of id i > 0 is offset + i.
    """

    name: str
    rows: int
    width: int | None
    trainable: bool
    offset: int


class Schema:
    """An ordered set of features; see the module's docstring.

    Args:
      features: `Feature` objects, names unique. Their order is the order of the rows in the field matrix.

    Raises:
      SchemaError: names repeat, or features that share a table disagree about it.

    Example:
      >>> schema = Schema([Feature("age", "numeric"), Feature("click", "numeric", "label")])
      >>> [f.name for f in schema.inputs], [f.name for f in schema.labels]
      (['age'], ['click'])
    """

    def __init__(self, features: Iterable[Feature]) -> None:
        self.features = tuple(features)
        names = [feature.name for feature in self.features]
        names += [feature.weights_name for feature in self.inputs if feature.weights_name]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise SchemaError(f"features: names must be unique, repeated: {repeated}")
        shared: dict[str, Feature] = {}
        for feature in self.inputs:
            if not feature.is_ids:
                continue
            first = shared.setdefault(feature.table_name, feature)
            keys: tuple[str, ...] = (
                "width",
                "trainable",
                "lookup",
                "num_values",
                "capacity",
                "oov",
                "num_oov_buckets",
                "dtype",
                "missing",
                "min_count",
            )
            keys += ("binning", "boundaries", "num_bins")
            for key in keys:
                if getattr(first, key) != getattr(feature, key):
                    raise SchemaError(
                        f"features {first.name!r} and {feature.name!r} share table {feature.table_name!r} but differ "
                        f"in {key}: {getattr(first, key)!r} and {getattr(feature, key)!r}"
                    )

    def __iter__(self) -> Iterator[Feature]:
        return iter(self.features)

    def __len__(self) -> int:
        return len(self.features)

    def __contains__(self, name: object) -> bool:
        return any(feature.name == name for feature in self.features)

    def __getitem__(self, name: str) -> Feature:
        for feature in self.features:
            if feature.name == name:
                return feature
        raise KeyError(f"no feature {name!r} in the schema; it has {[feature.name for feature in self.features]}")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Schema) and self.features == other.features

    def __hash__(self) -> int:
        return hash(self.features)

    def __repr__(self) -> str:
        return f"Schema({', '.join(f'{f.name}: {f.kind}{list(f.roles) or str()}' for f in self.features)})"

    @property
    def inputs(self) -> tuple[Feature, ...]:
        """The features that a model sees, in field order."""
        return tuple(feature for feature in self.features if feature.is_input)

    @property
    def labels(self) -> tuple[Feature, ...]:
        """The label columns; several labels are several tasks."""
        return self.with_role("label")

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the labels."""
        return tuple(feature.name for feature in self.labels)

    @property
    def weight(self) -> Feature | None:
        """The column of example weights, or None."""
        return self._one_with_role("weight")

    @property
    def num_fields(self) -> int:
        """F: rows of the (B, F, K) field matrix."""
        return sum(feature.num_rows for feature in self.inputs)

    @property
    def field_names(self) -> tuple[str, ...]:
        """A name for each row of the field matrix."""
        names: list[str] = []
        for feature in self.inputs:
            rows = feature.num_rows
            names += [feature.name] if rows == 1 else [f"{feature.name}[{i}]" for i in range(rows)]
        return tuple(names)

    @property
    def side_inputs(self) -> dict[str, Feature]:
        """Columns for losses and metrics: keyword (such as `group_ids`) -> feature."""
        found = {keyword: self._one_with_role(role) for role, keyword in SIDE_INPUTS.items()}
        return {keyword: feature for keyword, feature in found.items() if feature is not None}

    @property
    def tables(self) -> dict[str, Table]:
        """Every embedding table with its place in the variable of its width.

        Raises:
          SchemaError: the number of values of a feature is not known yet.
        """
        tables: dict[str, Table] = {}
        ends: dict[tuple[int | None, bool], int] = {}
        for feature in self.inputs:
            if feature.is_ids and feature.table_name not in tables:
                key = (feature.width, feature.trainable)
                offset = ends.get(key, 0)
                tables[feature.table_name] = Table(feature.table_name, feature.num_ids, *key, offset)
                ends[key] = offset + feature.num_ids - 1
        return tables

    def with_role(self, role: str) -> tuple[Feature, ...]:
        """The features that have the role."""
        return tuple(feature for feature in self.features if role in feature.roles)

    def _one_with_role(self, role: str) -> Feature | None:
        found = self.with_role(role)
        if len(found) > 1:
            raise SchemaError(f"role {role!r} is for one feature, but {[feature.name for feature in found]} have it")
        return found[0] if found else None

    def replace(self, changes: Mapping[str, Mapping[str, Any]]) -> Schema:
        """A copy in which the named features have other arguments.

        Args:
          changes: feature name -> arguments of `Feature`.
        """
        for name in changes:
            self[name]
        return Schema(feature.replace(**changes.get(feature.name, {})) for feature in self.features)

    def select(self, names: Iterable[str]) -> Schema:
        """A copy with the named features only, in this schema's order."""
        wanted = set(names)
        for name in wanted:
            self[name]
        return Schema(feature for feature in self.features if feature.name in wanted)

    def fingerprint(self) -> str:
        """SHA-256 (first 16 hex digits) of everything that decides ids, shapes and roles."""
        text = json.dumps([{"name": feature.name, **feature.options()} for feature in self.features], sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def to_json(self) -> str:
        """The whole schema as JSON text, for configs; `from_json` reads it."""
        return json.dumps([{"name": feature.name, **feature.options()} for feature in self.features])

    @classmethod
    def from_json(cls, text: str) -> Schema:
        """The inverse of `to_json`."""
        return cls(Feature(**options) for options in json.loads(text))

    def to_proto(self) -> Any:
        """The `schema_pb2.Schema` of this schema; one proto feature for each raw column."""
        from xdeepint_ext import schema_io

        return schema_io.to_proto(self)

    @classmethod
    def from_proto(cls, proto: Any, overlay: Mapping[str, Any] | None = None) -> Schema:
        """Reads a `schema_pb2.Schema`, ours or anybody's.

        Args:
          proto: the schema.
          overlay: column name -> role, or -> arguments of `Feature`. A name with a `source` is a new feature of that
            column. `kind: ignore` leaves a column out.

        Raises:
          SchemaError: a tag or the overlay makes no sense, or the overlay names a column that is not there.
        """
        from xdeepint_ext import schema_io

        return cls(schema_io.features_of(proto, overlay or {}))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Writes schema.pbtxt (into a directory, or to the file named)."""
        from xdeepint_ext import schema_io

        schema_io.save(self, path)

    @classmethod
    def load(cls, path: str | os.PathLike[str], overlay: str | os.PathLike[str] | None = None) -> Schema:
        """Reads schema.pbtxt, and roles.yaml beside it where there is one.

        Args:
          path: the file, or the directory it is in.
          overlay: a YAML file (`features: {name: role or {argument: value}}`) instead of the roles.yaml beside it; ""
            = none.

        Raises:
          FileNotFoundError: no such file.
          SchemaError: it is no schema, or contradicts itself.
        """
        from xdeepint_ext import schema_io

        return cls(schema_io.load(path, overlay))
