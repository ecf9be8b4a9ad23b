"""Compares served requests, or another day's records, with the statistics of an exported version.

    python -m xdeepint_ext.serving.skew --reference=models/clicks --sample requests.tfrecord

Exits with 0 where all columns and scores are alike, with 1 where one is not, and names it; with 2 after an error.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import sys
from collections.abc import Iterable, Sequence

import tensorflow as tf

from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.serving.column_statistics import ColumnCollector, ColumnStatistics
from xdeepint_ext.serving.distances import MEASURES, measure
from xdeepint_ext.serving.served_records import Raw, files_of, present, raw_batches
from xdeepint_ext.serving.statistics_file import STATISTICS, load_statistics
from xdeepint_ext.serving.thresholds import DEFAULTS, Thresholds
from xdeepint_ext.serving.version_folder import version_dir
from xdeepint_ext.serving.watching import PREDICTION, WatchedVersion

__all__ = ["Comparison", "Finding", "compare", "main"]

MIN_ROWS = 1000
"""Fewer differ by chance alone about as much as the thresholds are."""
_SPECS = {"string": tf.string, "int": tf.int64, "float": tf.float32}


@dataclasses.dataclass(frozen=True)
class Finding:
    """One measure of one column.

    Args:
      column: its name.
      measure: `linf`, `js`, `psi`, `missing` or `unknown`.
      value: how far the sample is from the reference.
      threshold: the largest value that passes.
      what: where the difference is.
    """

    column: str
    measure: str
    value: float
    threshold: float
    what: str

    @property
    def passes(self) -> bool:
        """Whether the value is within the threshold."""
        return self.value <= self.threshold

    def __str__(self) -> str:
        sign = "<=" if self.passes else ">"
        return f"{self.column}: {self.measure} {self.value:.4f} {sign} {self.threshold:g} ({self.what})"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """A sample beside a reference.

    Args:
      rows: of the sample.
      findings: the ones that pass least first.
      skipped: signature -> logged requests that were left out.
    """

    rows: int
    findings: tuple[Finding, ...]
    skipped: dict[str, int]

    @property
    def failed(self) -> tuple[Finding, ...]:
        """The findings beyond their thresholds."""
        return tuple(finding for finding in self.findings if not finding.passes)


def compare(
    reference: str | os.PathLike[str],
    sample: Sequence[str],
    thresholds: Thresholds | None = None,
    *,
    model: str | os.PathLike[str] | None = None,
    splits: Sequence[str] = (),
    min_rows: int = MIN_ROWS,
) -> Comparison:
    """Compares records with the statistics of a version.

    Args:
      reference: a version's folder, a base folder (the highest version in it), or a statistics file of its own.
      sample: TFRecord files, patterns, folders of them, prepared directories; of tf.Examples or of TF Serving's logs.
      thresholds: None = the defaults.
      model: the version that scores the sample, where the reference is a file; without it neither scores nor unknown
        values are compared.
      splits: of prepared directories; empty = all.
      min_rows: a smaller sample is refused.

    Returns:
      A `Comparison`.

    Raises:
      DataError: the sample is too small, damaged or of other columns, or the statistics are of another schema.
      ThresholdError: a threshold does not fit the columns.
      FileNotFoundError: there is no such version, or no statistics in it.
    """
    thresholds = thresholds or Thresholds()
    if min_rows < 1:
        raise ValueError(f"min_rows must be >= 1, got {min_rows}")
    file, folder = _files_of_reference(os.fspath(reference), model)
    columns, schema = load_statistics(file)
    thresholds.check_columns(columns)
    files = files_of(sample, splits)
    version = _version(folder, file, schema) if folder else None
    skipped: dict[str, int] = {}
    batches = raw_batches(files, version.columns if version else _specs_of(columns), skipped)
    try:
        collected = version.collect(batches) if version else _collect(columns, batches)
    except DataError as error:
        raise DataError(f"sample {list(sample)}: {error}") from None
    rows = max(column.rows for column in collected.values())
    if rows < min_rows:
        raise DataError(
            f"sample {list(sample)}: {rows} rows are too few to tell skew from chance; --min_rows is {min_rows}"
        )
    found = [
        Finding(name, key, value, thresholds.of(name, key), what)
        for name, column in columns.items()
        if name in collected and name not in thresholds.ignored
        for key, (value, what) in measure(column, collected[name]).items()
    ]
    found.sort(key=lambda finding: finding.value / max(finding.threshold, 1e-12), reverse=True)
    return Comparison(rows, tuple(found), skipped)


def _files_of_reference(reference: str, model: str | os.PathLike[str] | None) -> tuple[str, str]:
    """(statistics file, folder of the version or "")."""
    if not os.path.isdir(reference):
        return reference, version_dir(os.fspath(model)) if model is not None else ""
    if model is not None:
        raise ValueError(f"model: the reference {reference} is a version itself; give one of them")
    folder = version_dir(reference)
    file = os.path.join(folder, STATISTICS)
    if not os.path.exists(file):
        raise FileNotFoundError(
            f"no {STATISTICS} in {folder}; experiments write it with --export, `serving.export` with statistics_of"
        )
    return file, folder


def _version(folder: str, file: str, schema: str) -> WatchedVersion:
    version = WatchedVersion(folder)
    if schema != version.schema:
        raise DataError(
            f"{file}: its statistics are of another schema ({schema!r}) than that of {folder} ({version.schema!r})"
        )
    return version


def _specs_of(columns: dict[str, ColumnStatistics]) -> dict[str, tf.TensorSpec]:
    """The raw columns of a file without its version: any number of values each."""
    return {
        name: tf.TensorSpec((None, None), _SPECS[column.dtype], name)
        for name, column in columns.items()
        if not name.startswith(PREDICTION)
    }


def _collect(columns: dict[str, ColumnStatistics], batches: Iterable[Raw]) -> dict[str, ColumnCollector]:
    found = {
        name: ColumnCollector(name, c.dtype, c.kind) for name, c in columns.items() if not name.startswith(PREDICTION)
    }
    rows = 0
    for raw in batches:
        for name, values in raw.items():
            found[name].add(values, present(values))
            rows += len(values)
    if not rows:
        raise DataError("there is no record to make statistics of")
    return found


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0, 1 where something differs too much, or 2 after an error on standard error."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        general = {name: getattr(options, f"max_{name}") for name in MEASURES}
        thresholds = Thresholds.parse(general, options.threshold, _listed(options.ignore))
        found = compare(
            options.reference,
            options.sample,
            thresholds,
            model=options.model,
            splits=_listed(options.split),
            min_rows=options.min_rows,
        )
    except (OSError, ValueError, tf.errors.OpError) as error:
        print(f"skew: {error}", file=sys.stderr)
        return 2
    if found.skipped:
        print(f"skew: requests to other signatures were left out: {found.skipped}", file=sys.stderr)
    if options.output:
        with open(options.output, "w", encoding="utf-8") as stream:
            json.dump(dataclasses.asdict(found), stream, indent=1)
            stream.write("\n")
    print(f"{found.rows:,} rows; {len(found.failed)} of {len(found.findings)} measures beyond their thresholds")
    for finding in found.findings if options.all else found.failed:
        print(finding)
    return 1 if found.failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m xdeepint_ext.serving.skew", description=(__doc__ or "").split("\n\n")[0]
    )
    parser.add_argument(
        "--reference", required=True, help=f"an exported version, a base folder (highest version), or a {STATISTICS}"
    )
    parser.add_argument(
        "--sample",
        required=True,
        nargs="+",
        help="TFRecords of tf.Examples or logged requests, or a prepared directory",
    )
    parser.add_argument("--model", help="the version that scores the sample, where --reference is a file")
    parser.add_argument("--split", default="", help="parts of a prepared directory, as train,valid; default: all")
    parser.add_argument("--ignore", default="", help="columns that are not compared, as date,hour")
    for name in MEASURES:
        parser.add_argument(f"--max_{name}", type=float, help=f"default: {DEFAULTS[name]:g}")
    parser.add_argument(
        "--threshold", action="append", default=[], metavar="COLUMN.MEASURE=VALUE", help="of one column; repeatable"
    )
    parser.add_argument("--min_rows", type=int, default=MIN_ROWS, help=f"smaller samples are refused; {MIN_ROWS}")
    parser.add_argument("--output", help="JSON file of all measures")
    parser.add_argument("--all", action="store_true", help="print what passes, too")
    return parser


def _listed(text: str) -> list[str]:
    return [part for part in text.split(",") if part]


if __name__ == "__main__":
    sys.exit(main())
