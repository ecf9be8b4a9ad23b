"""`prune`: the same scores from a model without the embedding rows that are zero."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from xdeepint_ext.data.manifest import vocabulary_file
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.proof import PruningError, check_ids, check_rows, check_scores
from xdeepint_ext.serving.remap import RemappedPreprocessor
from xdeepint_ext.serving.tables import array, embeddings, parts, values, vocabulary_lines

__all__ = ["Pruned", "PruningError", "prune", "zeroed_values"]


class Pruned(NamedTuple):
    """What `prune` gives.

    Args:
      model: the smaller model; the given one where nothing could be dropped.
      preprocessor: gives its ids.
      rows: table -> (rows before, rows after), of all tables.
    """

    model: Any
    preprocessor: Any
    rows: dict[str, tuple[int, int]]


class Plan(NamedTuple):
    """What becomes of one table.

    Args:
      new_ids: (rows before,) the new id of each id.
      rows: rows after.
      vocabulary: places in the vocabulary file that stay; None where the ids are renumbered behind the preprocessor.
    """

    new_ids: np.ndarray
    rows: int
    vocabulary: np.ndarray | None


def prune(model: Any, preprocessor: Any) -> Pruned:
    """Drops the embedding rows that are zero in every `FeatureEmbedding` of the model, as G-FTRL leaves them.

    A dropped value still gives the zero vector, and still counts where several ids are pooled (as before, in the
    denominator of a mean). Where an unseen value gives the same (the out-of-vocabulary rows are zero; or `oov="zero"`
    and no feature of the table has several ids), it leaves the vocabulary. Otherwise the vocabulary stays, the table
    shrinks, and ids are renumbered by a vector of four bytes an id: dropped ones to 0 or, where ids are pooled, to the
    one row of zeros that stays. So are the ids of hash buckets, bins, identity tables and other people's preprocessors.
    Rows that wait for values (`Feature.capacity`) are dropped, too, whatever they hold. A table that would not become
    smaller by it stays as it is.

    Equal scores are proved before the new pair is returned: every id of every table gives the same vector, every
    vocabulary value the new id of its old one, and both models the same scores on a walk through the ids (all of them
    in tables of up to 16,384).

    Args:
      model: a `RankingModel` whose `get_config` is complete. It is not changed.
      preprocessor: whose ids it was trained on. It is not changed.

    Returns:
      (model, preprocessor, rows); the first two are the given ones where nothing could be dropped.

    Raises:
      PruningError: the smaller model cannot be made from `get_config`, or its scores differ.

    Example:
      >>> from xdeepint_ext.models import RankingModel
      >>> schema = Schema([Feature("user", dtype="int", lookup="identity", num_values=20)])
      >>> model = RankingModel(schema, width=4, embedding_initializer="zeros")
      >>> prune(model, Preprocessor(schema, None)).rows
      {'user': (21, 1)}
    """
    model.build_from_schema()
    schema = model.schema
    plans = dict(_plans(model, preprocessor))
    rows = {
        name: (table.rows, plans[name].rows if name in plans else table.rows) for name, table in schema.tables.items()
    }
    if not plans:
        return Pruned(model, preprocessor, rows)
    smaller = _smaller_model(model, _model_schema(schema, plans), plans)
    renumbered = _smaller_preprocessor(preprocessor, schema, plans)
    new_ids = {name: plan.new_ids for name, plan in plans.items()}
    waiting = _waiting(schema, preprocessor)
    check_rows(model, smaller, new_ids, waiting)
    if type(preprocessor) is Preprocessor:
        check_ids(preprocessor, renumbered, new_ids)
    check_scores(model, smaller, new_ids, waiting)
    return Pruned(smaller, renumbered, rows)


def _plans(model: Any, preprocessor: Any) -> Iterator[tuple[str, Plan]]:
    features: dict[str, list[Feature]] = {}
    for feature in model.schema.inputs:
        if feature.is_ids:
            features.setdefault(feature.table_name, []).append(feature)
    of_layers = [values(layer) for layer in embeddings(model)]
    waiting = _waiting(model.schema, preprocessor)
    for name, sharing in features.items():
        found = [of_layer[name] for of_layer in of_layers if name in of_layer]
        if not found:
            continue  # the model looks its ids up elsewhere
        zero = np.concatenate([[True], np.all([np.all(v == 0, axis=1) for v in found], axis=0)])
        zero[waiting.get(name, slice(0))] = True
        pooled = any(feature.kind in ("multi", "sequence") for feature in sharing)
        plan = None
        if type(preprocessor) is Preprocessor and sharing[0].uses_vocabulary:
            plan = _plan_vocabulary(sharing[0], zero, pooled)
        if plan is None:
            plan = _plan_renumbering(zero, waiting.get(name, slice(0)), pooled, sum(v.shape[1] for v in found))
        if plan is not None:
            yield name, plan


def zeroed_values(model: Any, preprocessor: Preprocessor) -> dict[str, list[bytes]]:
    """Table -> the vocabulary values that may leave without a change of any score, as `prune` would let them go.

    Their rows are zero in every `FeatureEmbedding`, and an unseen value gives the same.

    Args:
      model: a `RankingModel`.
      preprocessor: whose ids it was trained on.
    """
    model.build_from_schema()
    found = {}
    for name, plan in _plans(model, preprocessor):
        if plan.vocabulary is not None:
            kept = set(plan.vocabulary.tolist())
            lines = vocabulary_lines(preprocessor, name)
            found[name] = [line for place, line in enumerate(lines) if place not in kept]
    return found


def _waiting(schema: Schema, preprocessor: Any) -> dict[str, slice]:
    """Table -> the ids that wait for values (`Feature.capacity`): none of our `Preprocessor`'s, whatever their rows."""
    if type(preprocessor) is not Preprocessor:
        return {}
    return {
        feature.table_name: slice(1 + feature.num_oov + feature.num_values, 1 + feature.num_oov + feature.capacity)
        for feature in schema.inputs
        if feature.is_ids and feature.capacity is not None and feature.num_values is not None
    }


def _plan_vocabulary(feature: Feature, zero: np.ndarray, pooled: bool) -> Plan | None:
    """A shorter vocabulary, if a dropped value may be treated as an unseen one."""
    num_oov = feature.num_oov
    first = 1 + num_oov
    values = slice(first, first + (feature.num_values or 0))
    if (num_oov and not zero[1:first].all()) or (not num_oov and pooled):
        return None
    kept = np.flatnonzero(~zero[values])
    unseen = min(num_oov, 1)
    new_ids = np.full(len(zero), unseen)
    new_ids[0] = 0
    new_ids[values.stop : first + (feature.capacity or 0)] = 0
    new_ids[first + kept] = 1 + unseen + np.arange(len(kept))
    rows = 1 + unseen + len(kept)
    if feature.missing == "bucket":
        new_ids[-1] = rows
        rows += 1
    return Plan(new_ids, rows, kept) if rows < len(zero) else None


def _plan_renumbering(zero: np.ndarray, waiting: slice, pooled: bool, floats_per_row: int) -> Plan | None:
    """Ids renumbered behind the preprocessor, if the table shrinks by more than the vector of new ids takes."""
    kept = ~zero
    kept[0] = True
    given = np.ones(len(zero), bool)
    given[waiting] = False
    dropped = np.flatnonzero(zero & given)[1:]
    kept[dropped[: int(pooled)]] = True  # the row of zeros for pooled ids
    new_ids = np.cumsum(kept) - 1
    new_ids[dropped] = new_ids[dropped[0]] if pooled and len(dropped) else 0
    new_ids[waiting] = 0
    rows = int(kept.sum())
    return Plan(new_ids, rows, None) if (len(zero) - rows) * floats_per_row > len(zero) else None


def _model_schema(schema: Schema, plans: Mapping[str, Plan]) -> Schema:
    """The schema of the smaller model: shorter vocabularies, and identity tables where ids are renumbered."""
    changes = _vocabulary_changes(schema, plans)
    for feature in schema.inputs:
        plan = plans.get(feature.table_name) if feature.is_ids else None
        if plan is not None and plan.vocabulary is None:
            changes[feature.name] = {
                "kind": "categorical" if feature.kind == "numeric" else feature.kind,
                "dtype": "int",
                "lookup": "identity",
                "num_values": plan.rows - 1,
                "capacity": None,
                "binning": None,
                "boundaries": None,
                "num_bins": None,
                "missing": "zero",
            }
    return schema.replace(changes)


def _vocabulary_changes(schema: Schema, plans: Mapping[str, Plan]) -> dict[str, dict[str, Any]]:
    """Feature -> its arguments that a shorter vocabulary changes; unseen values give zeros, so one bucket will do."""
    changes: dict[str, dict[str, Any]] = {}
    for feature in schema.inputs:
        plan = plans.get(feature.table_name) if feature.is_ids else None
        if plan is not None and plan.vocabulary is not None:
            changes[feature.name] = {"num_values": len(plan.vocabulary), "capacity": None}
            if feature.num_oov:
                changes[feature.name]["num_oov_buckets"] = 1
    return changes


def _smaller_model(model: Any, schema: Schema, plans: Mapping[str, Plan]) -> Any:
    policy = tf.keras.mixed_precision.global_policy()
    tf.keras.mixed_precision.set_global_policy(model.dtype_policy)
    try:
        smaller = type(model).from_config({**model.get_config(), "schema": schema.to_json()})
        smaller.build_from_schema()
    except (KeyError, TypeError, ValueError) as error:
        raise _not_cloned(model, error) from error
    finally:
        tf.keras.mixed_precision.set_global_policy(policy)
    tables = {table.ref() for layer in embeddings(smaller) for table in layer.tables.values()}
    olds, news = model.weights, smaller.weights
    if len(olds) != len(news) or len(embeddings(model)) != len(embeddings(smaller)):
        raise _not_cloned(model, f"{len(olds)} weights became {len(news)}")
    for old, new in zip(olds, news, strict=True):
        if new.ref() in tables:
            continue
        if old.shape != new.shape:
            raise _not_cloned(model, f"{old.name} of shape {old.shape} became {new.name} of shape {new.shape}")
        new.assign(array(old))
    for old_layer, new_layer in zip(embeddings(model), embeddings(smaller), strict=True):
        _copy_tables(old_layer, new_layer, plans)
    return smaller


def _copy_tables(old: Any, new: Any, plans: Mapping[str, Plan]) -> None:
    filled = {key: np.zeros(variable.shape, variable.dtype.as_numpy_dtype) for key, variable in new.tables.items()}
    of_old, places = values(old), parts(new)
    for name, (key, rows) in places.items():
        target = filled[key][rows]
        if name in plans:
            new_ids = plans[name].new_ids[1:]
            # Several ids may get one new id; all of their rows are zero then.
            target[new_ids[new_ids > 0] - 1] = of_old[name][new_ids > 0]
        else:
            target[:] = of_old[name]
    for key, variable in new.tables.items():
        variable.assign(filled[key])


def _not_cloned(model: Any, reason: object) -> PruningError:
    return PruningError(
        f"prune: a smaller {type(model).__name__} cannot be made from its get_config ({reason}). Let get_config give "
        "all arguments of the constructor, or export with prune=False"
    )


def _smaller_preprocessor(preprocessor: Any, schema: Schema, plans: Mapping[str, Plan]) -> Any:
    changes = _vocabulary_changes(schema, plans)
    if changes:
        preprocessor = _with_shorter_vocabularies(preprocessor, preprocessor.schema.replace(changes), plans)
    renumbered = {name: plan.new_ids for name, plan in plans.items() if plan.vocabulary is None}
    if renumbered:
        tables = {feature.name: feature.table_name for feature in schema.inputs if feature.is_ids}
        preprocessor = RemappedPreprocessor(preprocessor, renumbered, tables)
    return preprocessor


def _with_shorter_vocabularies(preprocessor: Preprocessor, schema: Schema, plans: Mapping[str, Plan]) -> Preprocessor:
    directory = tempfile.TemporaryDirectory(prefix="pruned-vocabulary-")
    for name in {feature.table_name for feature in schema.inputs if feature.uses_vocabulary}:
        lines = vocabulary_lines(preprocessor, name)
        plan = plans.get(name)
        kept = lines if plan is None or plan.vocabulary is None else [lines[place] for place in plan.vocabulary]
        with open(vocabulary_file(directory.name, name), "wb") as stream:
            stream.writelines(line + b"\n" for line in kept)
    smaller = Preprocessor(schema, directory.name)
    smaller.directory = directory  # deleted with its last user
    return smaller
