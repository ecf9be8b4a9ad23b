"""statistics.pbtxt: column statistics as TensorFlow Metadata's `DatasetFeatureStatisticsList`, which TFDV reads."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from google.protobuf import text_format

from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.serving.column_statistics import CATEGORICAL, NUMERIC, Bucket, ColumnStatistics
from xdeepint_ext.utils.metadata import statistics_pb2

__all__ = ["STATISTICS", "load_statistics", "save_statistics"]

STATISTICS = "statistics.pbtxt"
"""File of a version."""
UNKNOWN, LOOKED_UP = "unknown_values", "looked_up_values"
_TYPES = {
    "string": statistics_pb2.FeatureNameStatistics.STRING,
    "int": statistics_pb2.FeatureNameStatistics.INT,
    "float": statistics_pb2.FeatureNameStatistics.FLOAT,
}
_DTYPES = {value: name for name, value in _TYPES.items()} | {statistics_pb2.FeatureNameStatistics.BYTES: "string"}


def save_statistics(path: str | os.PathLike[str], columns: Mapping[str, ColumnStatistics], schema: str) -> None:
    """Writes a file.

    Args:
      path: of the file.
      columns: by name.
      schema: fingerprint of the schema that the columns are of; stands as the data set's name.
    """
    found = statistics_pb2.DatasetFeatureStatisticsList()
    dataset = found.datasets.add(name=schema, num_examples=max((c.rows for c in columns.values()), default=0))
    for column in columns.values():
        _write(dataset.features.add(), column)
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text_format.MessageToString(found, as_utf8=True))


def load_statistics(path: str | os.PathLike[str]) -> tuple[dict[str, ColumnStatistics], str]:
    """(columns by name, fingerprint of the schema) of a file; of one that TFDV wrote the latter is another text.

    Raises:
      FileNotFoundError: there is none.
      DataError: it is something else.
    """
    with open(path, encoding="utf-8") as stream:
        try:
            found = text_format.Parse(stream.read(), statistics_pb2.DatasetFeatureStatisticsList())
        except (text_format.ParseError, UnicodeDecodeError) as error:
            raise DataError(f"{os.fspath(path)} holds no feature statistics of TensorFlow Metadata: {error}") from None
    if len(found.datasets) != 1:
        raise DataError(f"{os.fspath(path)}: expected the statistics of one data set, got {len(found.datasets)}")
    (dataset,) = found.datasets
    columns = [_read(feature) for feature in dataset.features if feature.type in _DTYPES]
    if not columns or not dataset.num_examples:
        raise DataError(f"{os.fspath(path)}: the statistics are of no example or no feature")
    return {column.name: column for column in columns}, dataset.name


def _write(feature: Any, column: ColumnStatistics) -> None:
    feature.path.step.append(column.name)
    feature.type = _TYPES[column.dtype]
    own = feature.string_stats if column.kind == CATEGORICAL else feature.num_stats
    common = own.common_stats
    common.num_non_missing, common.num_missing = column.rows - column.missing, column.missing
    common.tot_num_values = column.values
    common.avg_num_values = column.values / max(column.rows - column.missing, 1)
    if column.kind == CATEGORICAL:
        own.unique = column.distinct
        for rank, (value, count) in enumerate(column.top.items()):
            own.top_values.add(value=value, frequency=count)
            own.rank_histogram.buckets.add(low_rank=rank, high_rank=rank, label=value, sample_count=count)
    else:
        for name, moment in column.moments.items():
            setattr(own, name, int(moment) if name == "num_zeros" else moment)
        kinds = (
            (statistics_pb2.Histogram.STANDARD, column.widths),
            (statistics_pb2.Histogram.QUANTILES, column.quantiles),
        )
        for kind, buckets in kinds:
            if buckets:
                histogram = own.histograms.add(type=kind)
                for low, high, count in buckets:
                    histogram.buckets.add(low_value=low, high_value=high, sample_count=count)
    if column.unknown is not None:
        for name, number in zip((UNKNOWN, LOOKED_UP), column.unknown, strict=True):
            feature.custom_stats.add(name=name, num=number)


def _read(feature: Any) -> ColumnStatistics:
    name = feature.name or ".".join(feature.path.step)
    categorical = feature.WhichOneof("stats") == "string_stats"
    own = feature.string_stats if categorical else feature.num_stats
    common = own.common_stats
    custom = {found.name: int(found.num) for found in feature.custom_stats}
    arguments: dict[str, Any] = {
        "name": name,
        "dtype": _DTYPES[feature.type],
        "kind": CATEGORICAL if categorical else NUMERIC,
        "rows": common.num_non_missing + common.num_missing,
        "missing": common.num_missing,
        "values": common.tot_num_values or common.num_non_missing,
        "unknown": (custom[UNKNOWN], custom[LOOKED_UP]) if {UNKNOWN, LOOKED_UP} <= set(custom) else None,
    }
    if categorical:
        top = {found.value: found.frequency for found in own.top_values}
        return ColumnStatistics(**arguments, top=top, distinct=own.unique)
    moments = {field: float(getattr(own, field)) for field in ("mean", "std_dev", "min", "median", "max", "num_zeros")}
    return ColumnStatistics(
        **arguments,
        quantiles=_buckets(own, statistics_pb2.Histogram.QUANTILES),
        widths=_buckets(own, statistics_pb2.Histogram.STANDARD),
        moments=moments if common.num_non_missing else {},
    )


def _buckets(own: Any, kind: int) -> tuple[Bucket, ...]:
    for histogram in own.histograms:
        if histogram.type == kind:
            return tuple((b.low_value, b.high_value, b.sample_count) for b in histogram.buckets)
    return ()
