"""Adult (UCI census income): 14 features, label `income` = more than 50 K; official training and test files."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Iterable

import numpy as np

from xdeepint_ext.data.manifest import Manifest
from xdeepint_ext.data.raw import Block, TextFile, find_file, read_blocks, split_lines
from xdeepint_ext.data.source import Rows, Source, option
from xdeepint_ext.data.splits import TEST, TRAIN, VALID, hash_rows, row_keys
from xdeepint_ext.schema import Feature, Schema

__all__ = ["Adult", "numeric_schema"]

COLUMNS = (
    "age",
    "workclass",
    "fnlwgt",
    "education",
    "education_num",
    "marital_status",
    "occupation",
    "relationship",
    "race",
    "sex",
    "capital_gain",
    "capital_loss",
    "hours_per_week",
    "native_country",
    "income",
)
NUMERIC = ("age", "fnlwgt", "education_num", "capital_gain", "capital_loss", "hours_per_week")
LABELS = {b"<=50K": b"0", b">50K": b"1", b"<=50K.": b"0", b">50K.": b"1"}
# How numeric fields reach the model -> suffixes of the features made of each.
NUMERIC_FORMS = {"values": ("_value",), "quantile": ("_bin",), "both": ("_value", "_bin"), "scaled": ("",)}
_BLOCK_BYTES = 1 << 18


@dataclasses.dataclass(frozen=True)
class Adult:
    """Loader of `adult.data` and `adult.test` (plain or .gz).

    `?` is a missing value. `adult.test` becomes the test split; of `adult.data` exactly ceil(valid_fraction * rows)
    records, drawn by the seed, become the validation split (6,513 of 32,561, as in Gorishniy et al., NeurIPS 2021).

    The records hold raw values, and statistics of every numeric form are kept: `numeric_schema` gives the schema of
    another form without preparing the data again.
    """

    numeric: str = option(
        "both",
        "numeric fields become ids, one for each value or for each quantile bin, or both; or stay numbers",
        tuple(NUMERIC_FORMS),
    )
    num_bins: int = option(32, "quantile bins of a numeric field")
    valid_fraction: float = option(0.2, "share of the training file that becomes the validation split")

    def open(self, raw_dir: str | None, seed: int) -> Source:
        """See `Loader`."""
        train = TextFile(find_file(raw_dir, "adult.data"), split=TRAIN)
        test = TextFile(find_file(raw_dir, "adult.test"), split=TEST)
        schema = Schema(feature for name in COLUMNS for feature in _features(name, self.num_bins))
        threshold = _threshold(train, self.valid_fraction, seed)
        return Source(
            schema=schema,
            blocks=functools.partial(read_blocks, (train, test), _BLOCK_BYTES),
            parse=functools.partial(_parse, seed=seed, threshold=threshold),
            splits=("train", "valid", "test") if self.valid_fraction else ("train", "test"),
            size=0,
            selected=_selected(self.numeric),
        )


def numeric_schema(data_dir: str, numeric: str) -> Schema:
    """The schema of prepared Adult data with the numeric fields in another form; the data need not be prepared again.

    Args:
      data_dir: a directory that `prepare` made of Adult.
      numeric: `values`, `quantile`, `both` or `scaled`.

    Raises:
      ValueError: there is no such form.
    """
    if numeric not in NUMERIC_FORMS:
        raise ValueError(f"numeric must be one of {tuple(NUMERIC_FORMS)}, got {numeric!r}")
    return Schema.from_json(Manifest.load(data_dir).notes["all_features"]).select(_selected(numeric))


def _features(name: str, num_bins: int) -> Iterable[Feature]:
    if name == "income":
        return [Feature(name, "numeric", "label")]
    if name not in NUMERIC:
        return [Feature(name, min_count=2)]
    return [
        Feature(name + "_value", dtype="int", source=name, min_count=2),
        Feature(name + "_bin", "numeric", dtype="int", source=name, binning="quantile", num_bins=num_bins),
        Feature(name, "numeric", dtype="int"),
    ]


def _selected(numeric: str) -> tuple[str, ...]:
    forms = NUMERIC_FORMS[numeric]
    return tuple(name + form for name in COLUMNS for form in (forms if name in NUMERIC else ("",)))


def _threshold(train: TextFile, fraction: float, seed: int) -> int:
    """Records whose hash is below it are for validation: exactly ceil(fraction * records) of them."""
    if not 0 <= fraction < 1:
        raise ValueError(f"valid_fraction must be in [0, 1), got {fraction}")
    numbers = [split_lines(block, b",", len(COLUMNS))[1] for block in read_blocks([train])]
    hashes = np.sort(hash_rows(row_keys(0, np.concatenate(numbers)), seed, "split"))
    drawn = math.ceil(fraction * len(hashes))
    return int(hashes[drawn]) if drawn < len(hashes) else 2**64 - 1


def _parse(block: Block, seed: int, threshold: int) -> Rows:
    clean = dataclasses.replace(block, data=block.data.replace(b", ", b","))
    columns, numbers, bad = split_lines(clean, b",", len(COLUMNS), comment=b"|")
    tokens = dict(zip(COLUMNS, columns, strict=True))
    for name in COLUMNS[:-1]:
        if b"?" in tokens[name]:
            tokens[name] = tuple(b"" if token == b"?" else token for token in tokens[name])
    # What is no label stays as it is, and is refused when it is converted.
    tokens["income"] = tuple(LABELS.get(token, token) for token in tokens["income"])
    keys = row_keys(block.index, numbers)
    splits = np.full(len(numbers), block.split, np.uint8)
    if block.split == TRAIN:
        splits[hash_rows(keys, seed, "split") < np.uint64(threshold)] = VALID
    return Rows(numbers, keys, splits, tokens, bad)
