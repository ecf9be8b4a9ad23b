"""From nothing to a served model: data, training, evaluation, a Keras file and a SavedModel.

python -m click_model.train --output_dir=OUT
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from typing import Any

import tensorflow as tf
from absl import app, flags, logging

from click_model import ClickModel, GroupBalancedLogLoss
from xdeepint_ext import data, optimizers, serving
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema

USER = "field_05"  # in no planted interaction


def train(output_dir: str, rows: int = 30_000, epochs: int = 3, batch_size: int = 500, seed: int = 0) -> dict[str, Any]:
    """Makes synthetic clicks, trains a `ClickModel` on them, evaluates and exports it.

    Args:
      output_dir: gets `data/`, `click_model.keras` and `saved_model/1/`.
      rows: records to make; a tenth is the test split.
      epochs: passes over the training split.
      batch_size: examples of a step.
      seed: of data, order and weights.

    Returns:
      `auc` and `loss` of the test split, `best_auc` that can be reached on it, and the paths `keras_file` and
      `saved_model`.
    """
    tf.keras.utils.set_random_seed(seed)
    data_dir = os.path.join(output_dir, "data")
    manifest = prepare("synthetic", output_dir=data_dir, seed=seed, rows=rows, fields=6, ids_per_field=20, order=2)
    # The data's schema, in which one more thing is said: whose examples belong together.
    schema = Schema.load(data_dir).replace({USER: {"role": ("user", "group")}})
    preprocessor = data.Preprocessor(schema, os.path.join(data_dir, "vocabulary"))
    options = {"schema": schema, "preprocessor": preprocessor}

    model = ClickModel(schema, width=8, num_layers=2, num_subspaces=2, squeeze=3)
    model.compile(
        optimizer={"embedding": optimizers.LazyAdam(0.01), "default": tf.keras.optimizers.Adam(0.01)},
        loss=GroupBalancedLogLoss(power=0.5),
        metrics=[tf.keras.metrics.AUC(from_logits=True, name="auc")],
    )
    model.fit(
        data.read(data_dir, "train", batch_size, shuffle=True, seed=seed, epochs=None, **options),
        epochs=epochs,
        steps_per_epoch=data.steps_per_epoch(manifest.records("train"), batch_size),
        validation_data=data.read(data_dir, "valid", batch_size, **options),
        verbose=2,
    )
    found = model.evaluate(data.read(data_dir, "test", batch_size, **options), return_dict=True, verbose=0)

    keras_file = os.path.join(output_dir, "click_model.keras")
    model.save(keras_file)
    saved_model = serving.export(model, preprocessor, os.path.join(output_dir, "saved_model"), manifest=manifest)
    return {**found, "best_auc": manifest.notes["best_auc"], "keras_file": keras_file, "saved_model": saved_model}


def main(argv: Sequence[str]) -> None:
    """Reads the flags, trains, and prints what came of it."""
    if len(argv) > 1:
        raise app.UsageError(f"unexpected arguments {argv[1:]}")
    logging.set_verbosity(logging.WARNING)
    try:
        found = train(flags.FLAGS.output_dir)
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    print(f"Test AUC    {found['auc']:.4f} (best reachable {found['best_auc']:.4f})")
    print(f"Keras file  {found['keras_file']}")
    print(f"SavedModel  {found['saved_model']}")


if __name__ == "__main__":
    flags.DEFINE_string("output_dir", None, "directory to make", required=True)
    app.run(main)
