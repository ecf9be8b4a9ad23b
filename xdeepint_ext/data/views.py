"""`write_view`: records of prepared directories under the ids of one of them, without a copy of any record."""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence

from xdeepint_ext.data.manifest import VOCABULARY, DataError, Manifest, Shard, describe_tables
from xdeepint_ext.data.writer import AtomicDirectory
from xdeepint_ext.schema import Schema
from xdeepint_ext.schema_io import OVERLAY

__all__ = ["write_view"]


def write_view(
    directory: str | os.PathLike[str],
    meaning_of: str | os.PathLike[str],
    splits: Mapping[str, Sequence[tuple[str, str]]],
) -> Manifest:
    """Writes a prepared directory whose records lie in others.

    Records hold raw values, so that the vocabularies of another directory make other ids of them: tomorrow's records
    for today's model, or several days' records as one training split.

    Args:
      directory: the directory to make; one that is there is replaced.
      meaning_of: the directory whose schema and vocabularies decide the ids.
      splits: split -> (directory, split of it) whose records it has, in order.

    Returns:
      Its manifest.

    Raises:
      DataError: a directory holds materialised records, or others than the rest; a split is empty.
      OSError: it cannot be written.
    """
    of_ids = Manifest.load(meaning_of)
    schema, root = Schema.load(meaning_of, overlay=""), os.path.abspath(directory)
    found: dict[str, list[Shard]] = {}
    optional: set[str] = set()
    for split, parts in splits.items():
        found[split] = []
        for source, of_source in parts:
            manifest = Manifest.load(source)
            _check(source, manifest, of_ids)
            optional |= {feature.name for feature in Schema.load(source, overlay="") if not feature.required}
            for shard in manifest.shards(of_source):
                path = os.path.relpath(os.path.join(source, shard.file), root)
                found[split].append(Shard(path, shard.records, shard.bytes))
        if not found[split]:
            raise DataError(f"view {directory}: split {split!r} is of no directory")
    notes = {"view_of": os.fspath(meaning_of), "growth": of_ids.notes.get("growth", {})}
    if "all_features" in of_ids.notes:
        notes["all_features"] = _with_optional(Schema.from_json(of_ids.notes["all_features"]), optional).to_json()
    schema = _with_optional(schema, optional)
    with AtomicDirectory(directory, overwrite=True) as made:
        # The vocabularies may be larger than all records of a day: they are not copied either.
        os.symlink(os.path.abspath(os.path.join(meaning_of, VOCABULARY)), os.path.join(made, VOCABULARY))
        schema.save(made)
        overlay = os.path.join(meaning_of, OVERLAY)
        if os.path.exists(overlay):
            shutil.copy(overlay, made)
        tables = describe_tables(schema, os.path.join(meaning_of, VOCABULARY))
        view = Manifest(of_ids.dataset, found, tables, schema.fingerprint(), of_ids.compression, notes=notes)
        view.save(made)
    return view


def _with_optional(schema: Schema, optional: set[str]) -> Schema:
    return schema.replace({feature.name: {"required": False} for feature in schema if feature.name in optional})


def _check(source: str, manifest: Manifest, of_ids: Manifest) -> None:
    if manifest.packed is not None or manifest.lists is not None:
        kind = "lists" if manifest.lists is not None else "materialised records, whose ids cannot change any more"
        raise DataError(f"view: {source} holds {kind}; prepare it without them")
    for name in ("dataset", "compression"):
        if getattr(manifest, name) != getattr(of_ids, name):
            raise DataError(
                f"view: {source} has {name}={getattr(manifest, name)!r}, and the directory of the ids "
                f"{getattr(of_ids, name)!r}"
            )
