"""`write_lists`: a log, its users and items -> a directory of lists, TF-Ranking's ELWC."""

from __future__ import annotations

import dataclasses
import gzip
import os
import shutil
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Any

import numpy as np

from xdeepint_ext.data.columns import columns_of_schema
from xdeepint_ext.data.days import DaySplit
from xdeepint_ext.data.lists.catalogue import write_catalogue
from xdeepint_ext.data.lists.describe import ListStatistics
from xdeepint_ext.data.lists.draw import Lists, ListSampler, ListSizes, Scorer
from xdeepint_ext.data.lists.features import HistoryEncoder, TableEncoder
from xdeepint_ext.data.lists.interactions import History, Interactions
from xdeepint_ext.data.lists.labels import SoftLabel
from xdeepint_ext.data.manifest import SPLITS, VOCABULARY, DataError, Manifest, describe_tables
from xdeepint_ext.data.records import encode_example_list, encode_feature, frame_records
from xdeepint_ext.data.splits import hash_rows
from xdeepint_ext.data.writer import SHARD_BYTES, AtomicDirectory, ShardWriter
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.progress import Progress

__all__ = ["GRADE", "SOFT_GRADE", "STAGE", "TEACHER_SCORE", "write_lists"]

GRADE, STAGE, TEACHER_SCORE, SOFT_GRADE = "grade", "stage", "teacher_score", "soft_grade"
"""Features of an item that are not the item's: label, stage, teacher's score, soft label."""


def write_lists(
    data_dir: str | os.PathLike[str],
    interactions: Interactions,
    output_dir: str | os.PathLike[str],
    *,
    order: Sequence[str],
    train_until: int,
    valid_until: int,
    sizes: ListSizes | Mapping[str, ListSizes] | None = None,
    scorer: Scorer | np.ndarray | None = None,
    soft: SoftLabel | None = None,
    teacher: np.ndarray | None = None,
    window: str | int = "day",
    first_day: int = 0,
    splits: Sequence[str] = SPLITS,
    min_positives: int = 1,
    min_items: int = 2,
    seed: int = 0,
    num_shards: int = 4,
    compression: str = "",
    shard_bytes: int = SHARD_BYTES,
    overwrite: bool = False,
    notes: Mapping[str, Any] | None = None,
) -> Manifest:
    """Draws a list for each user and window of a log, and writes the lists as `ExampleListWithContext` records.

    A list has three stages: 0, impressions: the items of the user's rows in the window; 1, candidates: the top of the
    retrieval scores; 2, random items, uniform over the rest of the catalogue. An item is in a list once, in its first
    stage, with all that happened to it in the window: what was shown is neither candidate nor random item, whether it
    found place in the list or not. Candidates and random items have grade 0. The items' order tells nothing. What is
    in a list depends on the seed, its user and its window alone, and its features on what was before its window:
    histories end there, items that are not there yet (`Entities.first_day`) are not drawn. That the scorer and the
    teacher have seen no more is up to them.

    The context is the features of role `user` and the examples those of role `item` in the prepared directory, with its
    vocabularies; context features of single rows, such as the place on a page, are unknown for items that nobody was
    shown, and are left out. Examples have besides `grade` (label), `stage`, and with such arguments `teacher_score`
    (impressions only) and `soft_grade`. The catalogue is written beside the lists: see `read_catalogue`.

    Args:
      data_dir: what `data.prepare` made of the same log.
      interactions: the log with its users and items, such as a loader's `interactions(raw_dir)`.
      output_dir: the directory to make; it is complete or absent.
      order: names of events, the least important first: an item's grade is the place, from 1, of its most important
        event.
      train_until: last day of the training split, YYYYMMDD.
      valid_until: last day of the validation split; what follows is the test split.
      sizes: the most items of each stage, for all splits or by split; default 20 each (our choice).
      scorer: (positions of users, day) -> retrieval scores (users, items), or such an array; minus infinity keeps an
        item out. Needed unless sizes asks for no candidates.
      soft: events -> soft labels, see `soft_labels`.
      teacher: (rows of the log,) scores of a ranking model; of several rows of an item the last one's count.
      window: "day", or a number of seconds, into windows of which a day is cut.
      first_day: lists begin with this day; earlier rows are history only.
      splits: those to write, of `train`, `valid`, `test`.
      min_positives: lists with fewer items above grade 0 are left out and counted. Default 1 (our choice): losses and
        metrics on lists have nothing to say about the others, but a distillation loss has; 0 keeps them.
      min_items: lists with fewer items are left out and counted.
      seed: of everything random.
      num_shards: training shards written at a time.
      compression: "" or "GZIP".
      shard_bytes: size at which a shard is full.
      overwrite: replace an output directory that is there already.
      notes: goes to the manifest's notes, such as what scorer and teacher are.

    Returns:
      The directory's manifest. `lists` tells how the lists were drawn, and by split how many there are, how long, with
      how many impressions and positives, and what was left out; `describe_lists` makes text of it.

    Raises:
      ValueError: an argument is out of range, the order names an unknown event, or scorer or soft give nonsense.
      DataError: the data contradict each other, an impression has no teacher score, or a split has no list.
      FileExistsError: the output directory exists, is not empty, and may not be overwritten.

    Example:
      >>> from xdeepint_ext.data.loaders.taobao import Taobao
      >>> log = Taobao().interactions("raw")  # doctest: +SKIP
      >>> sizes, order = ListSizes(20, 0, 20), ("pv", "fav", "cart", "buy")
      >>> days = {"train_until": 20171201, "valid_until": 20171202}
      >>> write_lists("rows", log, "lists", order=order, sizes=sizes, **days)  # doctest: +SKIP

    Source: RankTower (arXiv 2407.12385), full-stage sampling and label aggregation.
    """
    unknown = [name for name in splits if name not in SPLITS]
    if unknown or not splits:
        raise ValueError(f"splits must be some of {SPLITS}, got {list(splits)}")
    if compression not in ("", "GZIP"):
        raise ValueError(f"compression must be '' or 'GZIP', got {compression!r}")
    days = DaySplit(train_until, valid_until)
    sizes = _by_split(sizes, splits)

    def sampler_of(some: ListSizes) -> ListSampler:
        numbers = [SPLITS.index(name) for name, size in sizes.items() if size == some]
        return ListSampler(
            interactions,
            order,
            sizes=some,
            scorer=scorer,
            soft=soft,
            teacher=teacher,
            window=window,
            wanted=lambda found: (found >= first_day) & np.isin(days(found), numbers),
            min_positives=min_positives,
            min_items=min_items,
            seed=seed,
        )

    samplers = [sampler_of(some) for some in dict.fromkeys(sizes.values())]
    rows = Manifest.load(data_dir)
    schema = _schema(Schema.load(data_dir), interactions, teacher is not None, soft is not None)
    windows = samplers[0].windows
    encoder = _ListEncoder(schema, interactions, windows.ranks)
    schema = encoder.finished(schema)
    statistics = {split: ListStatistics(len(interactions.users)) for split in SPLITS if split in splits}

    def split_of(day: int) -> str:
        return SPLITS[days(np.array([day]))[0]]

    with ExitStack() as stack:
        directory = stack.enter_context(AtomicDirectory(output_dir, overwrite))
        writer = ShardWriter(directory, num_shards, compression, shard_bytes)
        stack.callback(writer.abort)
        with Progress(len(windows), "windows", f"lists {rows.dataset}") as progress:
            for sampler in samplers:
                for lists in sampler(lambda day, what, n: statistics[split_of(day)].left_out(what, n)):
                    statistics[split_of(lists.day)].add(lists)
                    writer.add(_chunks(lists, split_of(lists.day), encoder, seed, num_shards, compression))
                    progress.update(lists.drawn_from)
        written = writer.finish()
        counted = {split: found.notes() for split, found in statistics.items()}
        empty = [split for split in statistics if split not in written]
        if empty:
            raise DataError(f"no list for split {empty[0]!r}: {counted[empty[0]]}")
        write_catalogue(directory, encoder.items, len(interactions.items))
        shutil.copytree(os.path.join(data_dir, VOCABULARY), os.path.join(directory, VOCABULARY))
        schema.save(directory)
        options: dict[str, Any] = {"order": list(samplers[0].order), "window": window}
        options["sizes"] = {split: dataclasses.asdict(some) for split, some in sizes.items()}
        options |= {"seed": seed, "min_positives": min_positives, "min_items": min_items, "first_day": first_day}
        options |= {"train_until": train_until, "valid_until": valid_until, "log": dict(interactions.notes)}
        manifest = Manifest(
            rows.dataset,
            written,
            describe_tables(schema, os.path.join(directory, VOCABULARY)),
            schema.fingerprint(),
            compression,
            lists={**options, "statistics": counted},
            notes=dict(notes or {}),
        )
        manifest.save(directory)
    return manifest


def _by_split(sizes: ListSizes | Mapping[str, ListSizes] | None, splits: Sequence[str]) -> dict[str, ListSizes]:
    """The sizes of each split."""
    if not isinstance(sizes, Mapping):
        return dict.fromkeys(splits, sizes or ListSizes())
    if set(sizes) != set(splits):
        raise ValueError(f"sizes must be one ListSizes, or one for each of {list(splits)}; got {sorted(sizes)}")
    return {split: sizes[split] for split in splits}


def _schema(rows: Schema, interactions: Interactions, teacher: bool, soft: bool) -> Schema:
    """The features of lists; those of users stand before those of items."""
    users = [feature for feature in rows.inputs if "user" in feature.roles]
    items = [feature for feature in rows.inputs if "item" in feature.roles]
    ids = [feature for feature in items if "item_id" in feature.roles]
    if not users or not items:
        raise DataError("the prepared directory's schema has no feature of role user, or none of role item")
    for history in interactions.histories:
        if history.feature not in rows:
            if not ids:
                raise DataError(f"history {history.feature!r} needs a feature of role item_id, whose table it shares")
            users.append(_history_feature(history, ids[0]))
    extra = [Feature(GRADE, "numeric", "label"), Feature(STAGE, dtype="int", role="stage")]
    extra += [Feature(TEACHER_SCORE, "numeric", "teacher", required=False)] if teacher else []
    extra += [Feature(SOFT_GRADE, "numeric", "soft_label")] if soft else []
    return Schema([*users, *items, *extra])


def _history_feature(history: History, item_id: Feature) -> Feature:
    changes: dict[str, Any] = {"name": history.feature, "kind": "sequence", "role": "user", "source": None}
    return item_id.replace(**changes, table=item_id.table_name, max_length=history.length)


class _ListEncoder:
    """Lists as serialized `ExampleListWithContext`.

    Args:
      schema: of the lists.
      interactions: the log.
      ranks: see `HistoryEncoder`.
    """

    def __init__(self, schema: Schema, interactions: Interactions, ranks: np.ndarray) -> None:
        histories = {history.feature: history for history in interactions.histories}
        users = Schema(f for f in schema.inputs if "user" in f.roles and f.name not in histories)
        items = Schema(f for f in schema.inputs if "item" in f.roles)
        separators = interactions.separators
        self._users = TableEncoder("users", interactions.users, columns_of_schema(users, separators, "any"))
        self.items = TableEncoder("items", interactions.items, columns_of_schema(items, separators, "any"))
        self._histories = [HistoryEncoder(h, interactions, ranks, schema[name]) for name, h in histories.items()]

    def finished(self, schema: Schema) -> Schema:
        """The schema, which says of each column whether it may be absent."""
        incomplete = self._users.incomplete() | self.items.incomplete()
        several = ("multi", "sequence")
        changes = {
            feature.name: {"required": feature.raw_name not in incomplete}
            for feature in schema.inputs
            if feature.kind not in several
        }
        return schema.replace(changes)

    def __call__(self, lists: Lists) -> list[bytes]:
        """One for each list."""
        contexts = list(map(self._users, lists.users.tolist()))
        for history in self._histories:
            entries = history(lists.users, lists.ranks)
            contexts = [context + entry for context, entry in zip(contexts, entries, strict=True)]
        examples = self._examples(lists)
        ends = lists.offsets.tolist()
        return [
            encode_example_list(context, examples[begin:end])
            for context, begin, end in zip(contexts, ends, ends[1:], strict=False)
        ]

    def _examples(self, lists: Lists) -> list[bytes]:
        pieces = [list(map(self.items, lists.items.tolist()))]
        pieces.append(self._entries(GRADE, "float", lists.labels))
        pieces.append(self._entries(STAGE, "int", lists.stages))
        if lists.soft is not None:
            pieces.append(self._entries(SOFT_GRADE, "float", lists.soft))
        if lists.teacher is not None:
            pieces.append(
                [b"" if x != x else encode_feature(TEACHER_SCORE, "float", [x]) for x in lists.teacher.tolist()]
            )
        return list(map(b"".join, zip(*pieces, strict=True)))

    def _entries(self, name: str, dtype: str, values: np.ndarray) -> list[bytes]:
        """One entry a value; there are few different ones."""
        entries = {value: encode_feature(name, dtype, [value]) for value in np.unique(values).tolist()}
        return [entries[value] for value in values.tolist()]


def _chunks(
    lists: Lists, split: str, encoder: _ListEncoder, seed: int, num_shards: int, compression: str
) -> list[tuple[str, int, int, bytes]]:
    """The lists as `ShardWriter.add` takes them."""
    records = encoder(lists)
    lanes = np.zeros(len(lists), np.int64)
    if split == SPLITS[0]:
        lanes = (hash_rows(lists.keys, seed, "shard") % np.uint64(num_shards)).astype(np.int64)
    chunks = []
    for lane in np.unique(lanes).tolist():
        chosen = np.flatnonzero(lanes == lane).tolist()
        data = frame_records([records[i] for i in chosen])
        data = gzip.compress(data, compresslevel=6, mtime=0) if compression else data
        chunks.append((split, lane, len(chosen), data))
    return chunks
