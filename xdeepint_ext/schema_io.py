"""`Schema` on disk: TensorFlow Metadata's schema.pbtxt with our tags, and the overlay file roles.yaml."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from google.protobuf import text_format

from xdeepint_ext.schema import KINDS, NUMBER_ROLES, ROLES, Feature, Schema, SchemaError
from xdeepint_ext.utils.metadata import schema_pb2

# A tag `xdeepint:{...}` on a column states one feature made of it: `Feature`'s arguments and `position`, its place.
OPTIONS_TAG = "xdeepint:"
OVERLAY = "roles.yaml"
_TYPES = {"string": schema_pb2.BYTES, "int": schema_pb2.INT, "float": schema_pb2.FLOAT}


def to_proto(schema: Schema) -> schema_pb2.Schema:
    """The proto of a schema; see `Schema.to_proto`."""
    proto = schema_pb2.Schema()
    by_column: dict[str, Any] = {}
    for position, feature in enumerate(schema):
        for name, dtype in ((feature.raw_name, feature.dtype), (feature.weights, "float")):
            if name is not None and name not in by_column:
                by_column[name] = _add_column(proto, feature, name, _TYPES[dtype])
        tags = by_column[feature.raw_name].annotation.tag
        tags.extend(role for role in feature.roles if role not in tags)
        options = {"name": feature.name, "position": position, **feature.options()}
        tags.append(OPTIONS_TAG + json.dumps(options, sort_keys=True))
    return proto


def _add_column(proto: Any, feature: Feature, name: str, dtype: int) -> Any:
    column = proto.feature.add(name=name, type=dtype)
    if feature.kind in ("multi", "sequence"):
        column.value_count.min = 0
        column.value_count.max = feature.max_length or 0
        return column
    if feature.required:
        column.presence.min_fraction = 1.0
    if feature.kind == "vector":
        column.shape.dim.add(size=feature.dimension)
    else:
        column.shape.SetInParent()
    return column


def features_of(proto: Any, overlay: Mapping[str, Any]) -> list[Feature]:
    """The features that a proto and an overlay state; see `Schema.from_proto`."""
    found = [options for column in proto.feature for options in _options_of_column(column)]
    found.sort(key=lambda options: options.pop("position", len(found)))
    weights = {options["weights"] for options in found if options.get("weights")}
    options = {o["name"]: o for o in found}
    columns = {column.name for column in proto.feature}
    for name, change in overlay.items():
        change = {"role": change} if isinstance(change, str | list) else dict(change)
        source = change.get("source", name)
        if name not in options and source not in columns:
            raise SchemaError(f"overlay: no column {source!r} in the schema; it has {sorted(columns)}")
        inherited = options.get(name) or {"name": name, "dtype": options.get(source, {}).get("dtype")}
        options[name] = {**inherited, **change}
        weights.add(change.get("weights"))
    return [_feature(o) for name, o in options.items() if o.get("kind") != "ignore" and name not in weights]


def _feature(options: Mapping[str, Any]) -> Feature:
    try:
        return Feature(**options)
    except TypeError as error:
        raise SchemaError(f"feature {options['name']!r}: {error}") from None


def save(schema: Schema, path: str | os.PathLike[str]) -> None:
    """Writes schema.pbtxt; see `Schema.save`."""
    path = os.fspath(path)
    file = os.path.join(path, "schema.pbtxt") if os.path.isdir(path) else path
    with open(file, "w", encoding="utf-8") as stream:
        stream.write(text_format.MessageToString(to_proto(schema), as_utf8=True))


def load(path: str | os.PathLike[str], overlay: str | os.PathLike[str] | None) -> list[Feature]:
    """The features that a schema.pbtxt and its overlay state; see `Schema.load`."""
    path = os.fspath(path)
    file = os.path.join(path, "schema.pbtxt") if os.path.isdir(path) else path
    if not os.path.exists(file):
        raise FileNotFoundError(f"no schema at {file}; data.prepare writes one")
    with open(file, encoding="utf-8") as stream:
        try:
            proto = text_format.Parse(stream.read(), schema_pb2.Schema())
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise SchemaError(f"{file} is not a TensorFlow Metadata schema: {error}") from None
    beside = os.path.join(os.path.dirname(file), OVERLAY)
    overlay = os.fspath(overlay) if overlay is not None else beside if os.path.exists(beside) else ""
    return features_of(proto, _read_overlay(overlay) if overlay else {})


def _read_overlay(file: str) -> dict[str, Any]:
    import yaml

    with open(file, encoding="utf-8") as stream:
        try:
            content = yaml.safe_load(stream)
        except yaml.YAMLError as error:
            raise SchemaError(f"{file} is not YAML: {error}") from None
    features = content.get("features") if isinstance(content, dict) else None
    if not isinstance(features, dict) or not all(isinstance(v, str | list | dict) for v in features.values()):
        raise SchemaError(f"{file}: expected `features:` with `name: role` or `name: {{argument: value}}` below it")
    return features


def _options_of_column(column: Any) -> list[dict[str, Any]]:
    """The `Feature` arguments that a proto feature states: in our own tags, else read off its type, shape and tags."""
    tags = list(column.annotation.tag)
    ours = [tag[len(OPTIONS_TAG) :] for tag in tags if tag.startswith(OPTIONS_TAG)]
    if ours:
        try:
            found = [json.loads(text) for text in ours]
        except json.JSONDecodeError as error:
            raise SchemaError(f"column {column.name!r}: its tag {OPTIONS_TAG!r} is not JSON: {error}") from None
        return [{**options, "name": options.get("name", column.name)} for options in found]
    dtypes = {1: "string", 2: "int", 3: "float"}  # FeatureType: BYTES, INT, FLOAT
    if column.type not in dtypes:
        raise SchemaError(f"column {column.name!r}: type must be BYTES, INT or FLOAT, got {column.type}")
    options: dict[str, Any] = {"name": column.name, "dtype": dtypes[column.type]}
    roles = tuple(tag for tag in tags if tag in ROLES)
    kinds = [tag for tag in tags if tag in KINDS]
    sizes = [dim.size for dim in column.shape.dim]
    several = column.value_count.max > 1 or (column.HasField("value_count") and column.value_count.max == 0)
    if len(kinds) > 1:
        raise SchemaError(f"column {column.name!r}: tags name several kinds: {kinds}")
    if kinds:
        options["kind"] = kinds[0]
    elif column.type == 3 and (sizes and sizes != [1]):
        options["kind"] = "vector"
    elif set(roles) & NUMBER_ROLES or column.type == 3:
        options["kind"] = "numeric"
    elif several:
        options["kind"] = "multi"
    else:
        options["kind"] = "numeric" if column.type == 2 and not column.int_domain.is_categorical else "categorical"
    if options["kind"] in ("multi", "sequence") and column.value_count.max > 0:
        options["max_length"] = int(column.value_count.max)
    if options["kind"] == "vector" and sizes:
        options["dimension"] = int(sizes[0])
    options["role"] = roles
    options["required"] = column.presence.min_fraction >= 1.0
    return [options]
