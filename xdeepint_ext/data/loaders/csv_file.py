"""A user's own CSV or TSV files with a header line, described by a schema.pbtxt."""

from __future__ import annotations

import csv
import dataclasses
import difflib
import functools
import io
import os
from collections.abc import Sequence

import numpy as np
from google.protobuf import text_format

from xdeepint_ext.data.loaders.headers import Layout
from xdeepint_ext.data.manifest import SPLITS, DataError
from xdeepint_ext.data.raw import MAX_RECORD_BYTES, Block, TextFile, columns_of, first_line, read_blocks
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import RandomSplit, row_keys
from xdeepint_ext.schema import Schema, SchemaError
from xdeepint_ext.utils.metadata import schema_pb2

__all__ = ["CsvFile"]


@dataclasses.dataclass(frozen=True)
class CsvFile:
    """Loader of every `*.csv` and `*.tsv` file (plain or .gz) in a directory, with its `schema.pbtxt`.

    Files whose names begin with `train`, `valid` and `test` are those splits; where there are none such, all records
    are split at random by the seed. The files have a header line; the order of their columns does not matter, and may
    differ between files. Their columns and the schema's must be the same, but for those in `ignore_columns` and those
    that the overlay ignores. Values may be quoted. An empty value is a missing value, and so is every text in
    `missing_values`.
    """

    schema: str = option("", "path of the schema; default: schema.pbtxt in raw_dir")
    roles: str = option("", "path of an overlay; default: roles.yaml beside the schema, where there is one")
    separator: str = option("", "between two columns; default: a comma, in .tsv files a tab")
    multi_separator: str = option("|", "between the values of a column that holds several")
    missing_values: str = option("", "comma-separated texts that stand for a missing value, besides the empty one")
    ignore_columns: str = option("", "comma-separated columns of the files that the schema does not have")
    label_values: str = option("binary", "labels must be 0 or 1, or may be any number", ("binary", "any"))
    valid_fraction: float = option(0.1, "share of the validation split, where file names do not tell")
    test_fraction: float = option(0.1, "share of the test split, where file names do not tell")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        if raw_dir is None:
            raise FileNotFoundError("raw_dir is needed: the directory that holds the .csv or .tsv files")
        path = self.schema or os.path.join(raw_dir, "schema.pbtxt")
        schema = Schema.load(path, self.roles or None)
        if not schema.labels:
            raise SchemaError(f"{path}: no column has the role 'label'")
        files = _find(raw_dir)
        ignored = {name for name in self.ignore_columns.split(",") if name} | _columns(path).difference(
            _raw_names(schema)
        )
        layouts = [self._layout(file, _raw_names(schema), ignored) for file in files]
        random = RandomSplit(self.valid_fraction, self.test_fraction, seed)
        named = tuple(SPLITS[i] for i in sorted({file.split for file in files if file.split is not None}))
        return Source(
            schema=schema,
            blocks=functools.partial(read_blocks, files),
            parse=functools.partial(
                _parse,
                layouts=layouts,
                missing=frozenset(text.encode() for text in self.missing_values.split(",") if text),
                random=random,
            ),
            splits=named or random.splits,
            size=sum(os.path.getsize(file.path) * (4 if file.path.endswith(".gz") else 1) for file in files),
            separators=dict.fromkeys(_raw_names(schema), self.multi_separator.encode()),
            label_values=self.label_values,
        )

    def _layout(self, file: TextFile, wanted: list[str], ignored: set[str]) -> Layout:
        separator = self.separator or ("\t" if ".tsv" in file.name else ",")
        header = next(csv.reader([first_line(file.path).decode("utf-8", "replace")], delimiter=separator), [])
        repeated = sorted({name for name in header if header.count(name) > 1})
        if repeated:
            raise DataError(f"{file.name}: column {repeated[0]!r} is there twice")
        for name in wanted:
            if name not in header:
                hint = _nearest(name, [n for n in header if n not in wanted])
                raise DataError(f"{file.name}: no column {name!r} of the schema{hint}; it has {header}")
        for name in header:
            if name not in wanted and name not in ignored:
                hint = _nearest(name, wanted)
                raise DataError(
                    f"{file.name}: the schema has no column {name!r}{hint}; it has {wanted}. ignore_columns leaves "
                    "columns out"
                )
        return Layout(separator.encode(), len(header), {name: header.index(name) for name in wanted})


def _raw_names(schema: Schema) -> list[str]:
    names = [name for feature in schema for name in (feature.raw_name, feature.weights) if name]
    return list(dict.fromkeys(names))


def _columns(schema_path: str) -> set[str]:
    """Every column of a schema.pbtxt, those that an overlay ignores included."""
    with open(schema_path, encoding="utf-8") as stream:
        return {column.name for column in text_format.Parse(stream.read(), schema_pb2.Schema()).feature}


def _nearest(name: str, names: Sequence[str]) -> str:
    near = difflib.get_close_matches(name, names, 1, 0.5)
    return f" (did you mean {near[0]!r}?)" if near else ""


def _find(raw_dir: str) -> list[TextFile]:
    if not os.path.isdir(raw_dir):
        raise FileNotFoundError(f"raw_dir {raw_dir!r}: no such directory")
    endings = tuple(ending + zipped for ending in (".csv", ".tsv") for zipped in ("", ".gz"))
    names = sorted(name for name in os.listdir(raw_dir) if name.endswith(endings))
    if not names:
        raise FileNotFoundError(f"raw_dir {raw_dir!r}: no .csv or .tsv file (or .gz)")
    splits = {name: next((i for i, split in enumerate(SPLITS) if name.startswith(split)), None) for name in names}
    unnamed = [name for name, split in splits.items() if split is None]
    if unnamed and len(unnamed) < len(names):
        raise DataError(f"raw_dir {raw_dir!r}: {unnamed[0]} begins with none of {SPLITS}, but others do")
    return [TextFile(os.path.join(raw_dir, n), header=True, quoted=True, split=split) for n, split in splits.items()]


def _parse(block: Block, layouts: Sequence[Layout], missing: frozenset[bytes], random: RandomSplit) -> Rows:
    layout = layouts[block.index]
    tokens, numbers, bad = _split_quoted(block, layout) if b'"' in block.data else layout.split(block)
    if missing:
        for name, values in tokens.items():
            if not missing.isdisjoint(values):
                tokens[name] = tuple(b"" if token in missing else token for token in values)
    keys = row_keys(block.index, numbers)
    splits = random(keys) if block.split is None else np.full(len(numbers), block.split, np.uint8)
    return Rows(numbers, keys, splits, tokens, bad)


def _split_quoted(
    block: Block, layout: Layout
) -> tuple[dict[str, tuple[bytes, ...]], np.ndarray, list[tuple[int, str]]]:
    csv.field_size_limit(MAX_RECORD_BYTES)
    # Bytes that are no UTF-8 come back as they were.
    text = io.StringIO(block.data.decode("utf-8", "surrogateescape"), newline="")
    rows = [
        [value.encode("utf-8", "surrogateescape") for value in row]
        for row in csv.reader(text, delimiter=layout.separator.decode())
    ]
    numbers = np.arange(block.number, block.number + len(rows))
    kept = [i for i, row in enumerate(rows) if row]
    columns, numbers, bad = columns_of([rows[i] for i in kept], numbers[kept], layout.width)
    return {name: columns[i] for name, i in layout.positions.items()}, numbers, bad
