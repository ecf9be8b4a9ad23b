"""`run_fn`: the body of TFX's Trainer component, for every ranking model of this package, behind tf.Transform.

    Trainer(run_fn="xdeepint_ext.tfx.run_fn", custom_config={"model": "xdeepint", "roles": {"clicked": "label"}}, ...)

Needs `pip install 'xdeepint-ext[tfx]'`; TFX itself is not imported.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import tensorflow as tf

from xdeepint_ext import serving
from xdeepint_ext.data.parsing import DTYPES, MISSING, labels_and_weights, raw_feature_spec
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.experiments import Config, calibrating
from xdeepint_ext.experiments.optimizer_options import make_optimizers
from xdeepint_ext.experiments.predictions import make_predict
from xdeepint_ext.models import RankingModel
from xdeepint_ext.schema import NUMBER_ROLES, Schema
from xdeepint_ext.serving.endpoints import dense
from xdeepint_ext.utils.variables import optimizer_group

try:
    import tensorflow_transform as tft
except ImportError as missing:
    raise ImportError("tfx: run_fn needs tf.Transform: pip install 'xdeepint-ext[tfx]'") from missing

__all__ = ["TransformedInputs", "run_fn", "transformed_schema"]

TRAINING = (
    *("model", "model_options", "batch_size", "epochs", "optimizer", "learning_rate", "embedding_learning_rate"),
    *("interaction_learning_rate", "schedule", "beta", "lambda1", "lambda2", "l1", "l2", "seed", "jit_compile"),
    *("calibration", "negative_sampling_rate", "export_tables"),
)
"""Flags of experiments that `custom_config` may have."""
OWN = ("roles", "not_served")
SHUFFLED = 10_000


def run_fn(fn_args: Any) -> None:
    """Trains a model on transformed examples and exports it with the transform.

    The SavedModel has the signatures of `serving.export`, whose raw columns are those before the transform, and
    `transform_features`, serialized raw tf.Examples -> all transformed columns, for TensorFlow Model Analysis.

    Args:
      fn_args: TFX's `FnArgs`, or what has these of its attributes: `train_files` and `eval_files`, patterns of
        transformed tf.Examples; `transform_graph_path` (or `transform_output`); `train_steps` and `eval_steps`, None
        or 0 = `epochs` passes, and all; `serving_model_dir`; `model_run_dir` for TensorBoard, or None; and
        `custom_config`, a dict of flags of experiments (`model`, `model_options`, `batch_size`, `optimizer`,
        `learning_rate`, `calibration` ...), and
        `roles`: transformed column -> role, or -> arguments of `Feature`, as in roles.yaml; at least the labels';
        `not_served`: raw columns that requests do not have; by default those that are named as a transformed label,
        weight or other column that only training needs.

    Raises:
      ValueError: there is no transform, no label, no file, or `custom_config` has something else in it.
    """
    config, own = _settings(fn_args)
    graph = getattr(fn_args, "transform_graph_path", None) or getattr(fn_args, "transform_output", None)
    if not graph:
        raise ValueError(
            "fn_args: transform_graph_path must be the output of a Transform component, got None; give the Trainer "
            "its transform_graph"
        )
    transform = tft.TFTransformOutput(graph)
    schema = transformed_schema(transform.transformed_metadata.schema, own.get("roles", {}))
    if not schema.labels:
        raise ValueError(
            f"custom_config: roles must give a transformed column the role label; there are {sorted(_names(transform))}"
        )
    inputs = TransformedInputs(transform, schema, own.get("not_served"))
    steps, eval_steps = fn_args.train_steps or None, fn_args.eval_steps or None
    tf.keras.utils.set_random_seed(config.seed)
    train = _examples(fn_args.train_files, schema, inputs.ids, config, training=True)
    evaluation = _examples(fn_args.eval_files, schema, inputs.ids, config, training=False)
    model = _compiled(config, schema, steps or config.epochs * sum(1 for _ in train))
    log_dir = getattr(fn_args, "model_run_dir", None)
    model.fit(
        train.repeat() if steps else train,
        epochs=1 if steps else config.epochs,
        steps_per_epoch=steps,
        validation_data=evaluation,
        validation_steps=eval_steps,
        callbacks=[tf.keras.callbacks.TensorBoard(log_dir)] if log_dir else [],
        verbose=2,
    )
    calibrations = {}
    if calibrating.fits(config):
        predict = make_predict(model, tf.distribute.get_strategy())
        batches = evaluation.take(eval_steps) if eval_steps else evaluation
        calibrations = calibrating.fit(config, model.tasks, lambda split: predict(batches))
    _export(model, inputs, fn_args.serving_model_dir, calibrations, config.export_tables)


def transformed_schema(proto: Any, roles: Mapping[str, Any]) -> Schema:
    """The schema of transformed columns: integers with a categorical domain are ids as they are, others are numbers.

    An id outside its domain, such as the -1 of a value that tf.Transform's vocabulary lacks, gets the zero vector.

    Args:
      proto: of the transform's `transformed_metadata`.
      roles: column -> role, or -> arguments of `Feature`.
    """
    overlay: dict[str, dict[str, Any]] = {}
    for column in proto.feature:
        given = roles.get(column.name, {})
        given = dict(given) if isinstance(given, Mapping) else {"role": given}
        named = given.get("role", ())
        if NUMBER_ROLES & {*column.annotation.tag, *((named,) if isinstance(named, str) else named)}:
            found: dict[str, Any] = {"kind": "numeric", "scaling": "none"}
        elif column.int_domain.is_categorical:
            found = {"lookup": "identity", "num_values": column.int_domain.max + 1}
        else:
            found = {"scaling": "none"}
        overlay[column.name] = {**found, **given}
    overlay |= {name: change for name, change in roles.items() if name not in overlay}
    return Schema.from_proto(proto, overlay)


class TransformedInputs(tf.Module):
    """A tf.Transform graph in the `Preprocessor`'s place: raw columns -> transformed ones -> the model's inputs.

    Args:
      transform: a `TFTransformOutput`.
      schema: of the transformed columns.
      not_served: see `run_fn`.

    Attributes:
      raw_signature: of the raw columns, for `serving.export`.
      ids: transformed columns -> the model's inputs.
      transform_features: the signature of that name.

    Raises:
      ValueError: `not_served` names no raw column.
    """

    def __init__(self, transform: Any, schema: Schema, not_served: Sequence[str] | None = None) -> None:
        super().__init__()
        self._layer = transform.transform_features_layer()
        self._spec = transform.raw_feature_spec()
        self.ids = Preprocessor(schema, None)
        unknown = sorted(set(not_served or ()) - set(self._spec))
        if unknown:
            raise ValueError(f"not_served: {unknown[0]!r} is no raw column; there are {sorted(self._spec)}")
        if not_served is None:
            not_served = [feature.raw_name for feature in schema if not feature.is_input]
        served = {name: spec for name, spec in self._spec.items() if name not in not_served}
        self.raw_signature = {name: _tensor_spec(name, spec) for name, spec in served.items()}
        self.transform_features = tf.function(self._transform_features, [tf.TensorSpec((None,), tf.string, "examples")])

    def __call__(self, raw: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        as_parsed = {name: _as_parsed(self._spec[name], raw[name]) for name in self.raw_signature}
        transformed = self._layer(as_parsed)
        return self.ids({name: _several(value) for name, value in transformed.items()})

    def _transform_features(self, examples: tf.Tensor) -> dict[str, tf.Tensor]:
        transformed = self._layer(tf.io.parse_example(examples, self._spec))
        return {name: dense(_several(value)) for name, value in transformed.items()}


def _settings(fn_args: Any) -> tuple[Config, dict[str, Any]]:
    given = dict(getattr(fn_args, "custom_config", None) or {})
    unknown = sorted(set(given) - {*TRAINING, *OWN})
    if unknown:
        raise ValueError(f"custom_config: {unknown[0]!r} must be one of {sorted((*TRAINING, *OWN))}")
    own = {name: given.pop(name) for name in OWN if name in given}
    return Config(data_dir=os.fspath(fn_args.serving_model_dir), **given), own


def _names(transform: Any) -> Iterator[str]:
    return (column.name for column in transform.transformed_metadata.schema.feature)


def _examples(
    patterns: Sequence[str], schema: Schema, ids: Preprocessor, config: Config, training: bool
) -> tf.data.Dataset:
    files = sorted(file for pattern in patterns for file in tf.io.gfile.glob(pattern))
    if not files:
        raise ValueError(f"{'train' if training else 'eval'}_files: there is no file {list(patterns)}")
    spec = raw_feature_spec(schema)

    @tf.autograph.experimental.do_not_convert
    def parse(serialized: tf.Tensor) -> Any:
        raw = tf.io.parse_example(serialized, spec)
        labels, weights = labels_and_weights(schema, raw)
        return (dict(ids(raw)), labels) if weights is None else (dict(ids(raw)), labels, weights)

    records = tf.data.Dataset.from_tensor_slices(files).flat_map(
        lambda file: tf.data.TFRecordDataset(
            file, compression_type=tf.where(tf.strings.regex_full_match(file, r".*\.gz"), "GZIP", "")
        )
    )
    if training:
        records = records.shuffle(SHUFFLED, config.seed)
    return records.batch(config.batch_size).map(parse, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


def _compiled(config: Config, schema: Schema, steps: int) -> RankingModel:
    model: RankingModel = config.options.make(schema)
    model.build_from_schema()
    used = {optimizer_group(variable) for variable in model.trainable_variables}
    optimizers = {group: optimizer for group, optimizer in make_optimizers(config, steps).items() if group in used}
    model.compile(
        optimizers, metrics=[tf.keras.metrics.AUC(from_logits=True, name="auc")], jit_compile=config.jit_compile
    )
    return model


def _export(
    model: RankingModel, inputs: TransformedInputs, path: str, calibrations: Mapping[str, Any], table_dtype: str
) -> None:
    """Writes the SavedModel into the very folder: TFX's Pusher makes the version's."""
    path = os.path.abspath(path)
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with tempfile.TemporaryDirectory(dir=os.path.dirname(path), prefix=".exporting-") as scratch:
        folder = serving.export(
            model,
            inputs,
            scratch,
            raw_signature=inputs.raw_signature,
            calibration=calibrations,
            table_dtype=table_dtype,
            signatures={"transform_features": inputs.transform_features},
        )
        if os.path.isdir(path) and not os.listdir(path):
            os.rmdir(path)
        os.rename(folder, path)


def _tensor_spec(name: str, spec: Any) -> tf.TensorSpec:
    shape = (None, *spec.shape) if isinstance(spec, tf.io.FixedLenFeature) else (None, None)
    return tf.TensorSpec(shape, spec.dtype, name)


def _as_parsed(spec: Any, values: tf.Tensor) -> Any:
    """A raw tensor of a request as `tf.io.parse_example` would give it."""
    if isinstance(spec, tf.io.FixedLenFeature):
        return values
    missing = next(MISSING[kind] for kind, dtype in DTYPES.items() if dtype == values.dtype)
    here = tf.logical_not(tf.math.is_nan(values)) if values.dtype == tf.float32 else values != missing
    ragged = tf.ragged.boolean_mask(values, here)
    return ragged.to_sparse() if isinstance(spec, tf.io.VarLenFeature) else ragged


def _several(values: Any) -> Any:
    return tf.RaggedTensor.from_sparse(values) if isinstance(values, tf.SparseTensor) else values
