"""Sends raw rows to an exported model and prints its scores, one JSON object a row.

    python -m xdeepint_ext.serving.query --model=EXPORTED --input=rows.json

Rows are a JSON list of objects, one JSON object a line, or CSV with a header. Needs TensorFlow and the exported
folder, and nothing of the training code.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from xdeepint_ext.serving.rows import SEPARATOR, Specs, examples, is_csv, read_rows, read_text, typed
from xdeepint_ext.serving.version_folder import SAMPLE_ROWS, version_dir

RAW, EXAMPLES = "predict_raw", "serving_default"


def query(
    model: str | os.PathLike[str],
    rows: str | Sequence[dict[str, Any]],
    signature: str = RAW,
    separator: str = SEPARATOR,
) -> dict[str, np.ndarray]:
    """Scores of raw rows.

    Args:
      model: folder of a SavedModel, or a base folder (the highest version in it is asked).
      rows: text of JSON or CSV, or a list of column -> value (None = missing).
      signature: `predict_raw`; `rank` (columns of user and context equal in all rows); `preprocess`;
        `serving_default` (the rows are sent as tf.Examples).
      separator: of several values in a cell of CSV.

    Returns:
      Output -> array, a row a row.

    Raises:
      FileNotFoundError: no SavedModel there.
      RowError: a row does not fit; names row and column.
      ValueError: no such signature.
    """
    loaded = tf.saved_model.load(version_dir(os.fspath(model)))
    if signature not in loaded.signatures:
        raise ValueError(f"the model has no signature {signature!r}; it has {sorted(loaded.signatures)}")
    inputs = {name: found.structured_input_signature[1] for name, found in loaded.signatures.items()}
    feed = feed_of(rows, inputs, signature, separator)
    unused = unused_columns(rows, inputs, signature)
    if unused:
        print(f"columns that the model does not take: {unused}", file=sys.stderr)
    outputs = loaded.signatures[signature](**{name: tf.constant(array) for name, array in feed.items()})
    return {name: outputs[name].numpy() for name in sorted(outputs)}


def feed_of(
    rows: str | Sequence[dict[str, Any]], inputs: Mapping[str, Specs], signature: str, separator: str = SEPARATOR
) -> dict[str, np.ndarray]:
    """The arrays that raw rows are for a signature.

    Args:
      rows: see `query`.
      inputs: of each of the model's signatures.
      signature: one of them. For `serving_default` the rows become tf.Examples, of the columns of `predict_raw`.
      separator: see `query`.

    Raises:
      RowError: a row does not fit; names row and column.
    """
    options: dict[str, Any] = {"cells": isinstance(rows, str) and is_csv(rows), "separator": separator}
    rows = read_rows(rows) if isinstance(rows, str) else rows
    if signature != EXAMPLES:
        return typed(rows, inputs[signature], **options)
    (name,) = inputs[signature]
    return {name: examples(rows, inputs[RAW], **options)}


def unused_columns(rows: str | Sequence[dict[str, Any]], inputs: Mapping[str, Specs], signature: str) -> list[str]:
    """Columns of the first row that the signature does not take."""
    first = (read_rows(rows) if isinstance(rows, str) else rows)[0]
    return sorted(set(first) - set(inputs[RAW if signature == EXAMPLES else signature]))


def answer_lines(outputs: Mapping[str, np.ndarray]) -> list[str]:
    """An object of JSON for each row."""
    count = len(next(iter(outputs.values())))
    return [json.dumps({name: _plain(array[index]) for name, array in outputs.items()}) for index in range(count)]


def _plain(value: Any) -> Any:
    """An output of one row for JSON: a single number by itself, float32 in its shortest form."""
    if isinstance(value, np.ndarray):
        return _plain(value[0]) if value.size == 1 else [_plain(element) for element in value]
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return float(str(value)) if isinstance(value, np.floating) else value.item()


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command line; 0, or 1 after an error that the message on standard error explains."""
    parser = argparse.ArgumentParser(prog="python -m xdeepint_ext.serving.query", description=__doc__.split("\n\n")[0])
    parser.add_argument(
        "--model", required=True, help="folder of the export: a version, or the base folder (highest version)"
    )
    parser.add_argument("--input", help=f"file of rows, - = standard input; default: {SAMPLE_ROWS} in the export")
    parser.add_argument("--signature", default=RAW, help="predict_raw, serving_default, rank or preprocess")
    parser.add_argument("--separator", default=SEPARATOR, help="between several values in a cell of CSV")
    options = parser.parse_args(arguments)
    try:
        text = read_text(options.input or os.path.join(version_dir(options.model), SAMPLE_ROWS))
        outputs = query(options.model, text, options.signature, options.separator)
    except (OSError, ValueError, tf.errors.OpError) as error:
        print(f"query: {error}", file=sys.stderr)
        return 1
    for line in answer_lines(outputs):
        print(line)
    return 0


if __name__ == "__main__":
    sys.exit(main())
