"""The signatures of an export: what each takes, and the function that answers it."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

from xdeepint_ext.data.parsing import MISSING, raw_feature_spec
from xdeepint_ext.data.preprocessor import Preprocessor
from xdeepint_ext.schema import INPUT_ROLES, Feature, Schema
from xdeepint_ext.serving.calibration import Calibration
from xdeepint_ext.serving.remap import RemappedPreprocessor
from xdeepint_ext.serving.tables import embeddings

PROBABILITY, LOGIT = "probability", "logit"
USER_CODES, CODES = "user_codes", "codes"
_NUMPY_MISSING = {tf.string: MISSING["string"], tf.int64: MISSING["int"], tf.float32: MISSING["float"]}

Tensors = dict[str, tf.Tensor]
Function = Callable[[Any], dict[str, tf.Tensor]]
Specs = Mapping[str, tf.TensorSpec]


def output_name(kind: str, task: str, tasks: tuple[str, ...]) -> str:
    """Name of an output: `probability` and `logit`; with several tasks `probability/TASK` and `logit/TASK`."""
    return f"{kind}/{task}" if len(tasks) > 1 else kind


def shared_columns(schema: Schema, columns: Specs) -> set[str]:
    """The raw columns that `rank` takes once: only features of the user or the context are made of them."""
    of_features = [(_is_shared(f), {n for n in columns if n in (f.raw_name, f.weights)}) for f in schema.inputs]
    shared = {column for is_shared, used in of_features if is_shared for column in used}
    before: set[str] = set()
    while shared != before:  # a column that is not shared takes those with it that a feature uses beside it
        before = set(shared)
        for is_shared, used in of_features:
            if not is_shared or not used <= shared:
                shared -= used
    return shared


def _is_shared(feature: Feature) -> bool:
    roles = set(feature.roles) & set(INPUT_ROLES)
    return bool(roles) and roles <= {"user", "context"}


class Endpoints:
    """The functions behind the signatures; a `GroupRanker` has one more, `user_codes`.

    Args:
      model: a `RankingModel`, or what has its `schema`, `tasks`, `input_signature()` and call.
      preprocessor: raw tensors -> the model's inputs.
      columns: the raw tensors: name -> (B,), (B, None) or (B, n) of string, int64 or float32.
      parsing: what `tf.io.parse_example` looks for; its ragged columns reach our own `Preprocessor` ragged, as in
        training.
      calibration: task -> what is made of its logits.
    """

    def __init__(
        self,
        model: Any,
        preprocessor: Callable[[Mapping[str, Any]], Mapping[str, tf.Tensor]],
        columns: Specs,
        parsing: Mapping[str, Any],
        calibration: Mapping[str, Calibration] | None = None,
    ) -> None:
        self.model, self.preprocessor = model, preprocessor
        self.columns, self.parsing = dict(columns), dict(parsing)
        self.calibration = dict(calibration or {})
        # Our own treats each feature by itself, so those of the user may have one row beside the candidates' N.
        self.by_feature = own_preprocessor(preprocessor) is not None
        # Functions of their own, so that each is traced once and stands in the graph once.
        self._features = tf.function(self._checked_features)
        self._score = tf.function(self._scores, [model.input_signature()])
        self._score_one_user = tf.function(self._scores)  # of its own: it must not take the trace for any batch size
        self._looks_up_once = self.by_feature

    def functions(self) -> dict[str, Function]:
        """Signature -> its function, traced."""
        specs: dict[str, Any] = {
            "serving_default": tf.TensorSpec((None,), tf.string, "examples"),
            "predict_raw": self.columns,
            "rank": self.rank_columns(),
            "preprocess": self.columns,
        }
        functions = {name: traced(getattr(self, name), spec) for name, spec in specs.items() if name != "rank"}
        functions["rank"] = self._traced_rank(specs["rank"], functions["predict_raw"])
        if gives_codes(self.model):
            functions[USER_CODES] = traced(self.user_codes, self.code_columns())
        return functions

    def _traced_rank(self, columns: Specs, predict_raw: Function) -> Function:
        """`rank` with one look-up of the user's ids or, if the model cannot do with that, one for each candidate."""
        try:
            rank = traced(self.rank, columns)
            if not self._looks_up_once or _ranks_as(rank, columns, predict_raw):
                return rank
            reason: object = "scores differ"
        except (TypeError, ValueError, tf.errors.OpError) as error:
            if not self._looks_up_once:
                raise
            reason = error
        name = type(self.model).__name__
        logging.warning(
            "rank: %s needs as many rows of every feature, so the user's ids are repeated: %s", name, reason
        )
        self._looks_up_once = False
        return self._traced_rank(columns, predict_raw)

    def rank_columns(self) -> dict[str, tf.TensorSpec]:
        """The raw tensors of `rank`: those of user and context have one row."""
        shared = shared_columns(self.model.schema, self.columns)
        return {
            name: tf.TensorSpec((1 if name in shared else None, *spec.shape[1:]), spec.dtype, name)
            for name, spec in self.columns.items()
        }

    def serving_default(self, examples: tf.Tensor) -> Tensors:
        """Serialized tf.Examples -> scores."""
        raw = tf.io.parse_example(examples, self.parsing)
        if not self.by_feature:
            raw = {name: dense(value) for name, value in raw.items()}
        return self._score(self._features(raw))

    def predict_raw(self, raw: Tensors) -> Tensors:
        """Raw tensors -> scores."""
        return self._score(self._features(raw))

    def preprocess(self, raw: Tensors) -> Tensors:
        """Raw tensors -> what the model sees."""
        return self._features(raw)

    def rank(self, raw: Tensors) -> Tensors:
        """Raw tensors of one user and context and of N candidates -> scores of the candidates."""
        shared = shared_columns(self.model.schema, self.columns)
        candidates = [name for name in self.columns if name not in shared]
        count = tf.shape(raw[candidates[0]])[0] if candidates else 1
        if not self.by_feature:
            return self._score(self._features({n: _rows(x, count) if n in shared else x for n, x in raw.items()}))
        features = self._features(raw)
        once = {n for f in self.model.schema.inputs if f.raw_name in shared for n in (f.name, f.weights_name)}
        if not self._looks_up_once:
            return self._score({name: _rows(x, count) if name in once else x for name, x in features.items()})
        one_row = {name: tf.ensure_shape(x, (1, *x.shape[1:])) if name in once else x for name, x in features.items()}
        with _repeating_single_rows(self.model):
            return self._score_one_user(one_row)

    def code_columns(self) -> dict[str, tf.TensorSpec]:
        """The raw tensors of `user_codes`: those of the user; with somebody else's preprocessor all."""
        if not self.by_feature:
            return self.columns
        of_user = [self.model.schema[name] for name in self.model.fields.names]
        wanted = {column for feature in of_user for column in (feature.raw_name, feature.weights)}
        return {name: spec for name, spec in self.columns.items() if name in wanted}

    def user_codes(self, raw: Tensors) -> Tensors:
        """Raw tensors of users -> the codes of their groups."""
        own = own_preprocessor(self.preprocessor)
        names = self.model.fields.names
        features = self._features(raw) if own is None else self.preprocessor.part(raw, own.schema.select(names))  # type: ignore[attr-defined]
        wanted = {n for name in names for n in (name, self.model.schema[name].weights_name)}
        specs = {name: spec for name, spec in self.model.input_signature().items() if name in wanted}
        return {CODES: self.model.user_codes({n: fitting(n, features[n], spec) for n, spec in specs.items()})}

    def _checked_features(self, raw: Tensors) -> Tensors:
        features = self.preprocessor(raw)
        wanted = self.model.input_signature()
        missing = [name for name in wanted if name not in features]
        if missing:
            raise ValueError(
                f"export: the preprocessor does not give {missing}, which the model takes; it gives {sorted(features)}"
            )
        return {name: fitting(name, tf.convert_to_tensor(features[name]), spec) for name, spec in wanted.items()}

    def _scores(self, features: Tensors) -> Tensors:
        logits = self.model(features, training=False)
        tasks = tuple(self.model.tasks)
        by_task = logits if isinstance(logits, Mapping) else {tasks[0]: logits}
        return self.outputs({task: by_task[task] for task in tasks})

    def outputs(self, logits: Mapping[str, tf.Tensor]) -> Tensors:
        """Task -> the model's logits, to what the signatures answer: calibrated logits, and their sigmoids."""
        tasks = tuple(self.model.tasks)
        scores = {}
        for task, logit in logits.items():
            logit = tf.cast(logit, tf.float32)
            logit = self.calibration[task].in_graph(logit) if task in self.calibration else logit
            scores[output_name(LOGIT, task, tasks)] = tf.identity(logit)
            scores[output_name(PROBABILITY, task, tasks)] = tf.sigmoid(logit)
        return scores


def gives_codes(model: Any) -> bool:
    """Whether a model has codes of users."""
    return hasattr(model, "user_codes") and hasattr(model, "fields")


def fitting(name: str, values: tf.Tensor, spec: tf.TensorSpec) -> tf.Tensor:
    """What a preprocessor gives as the model takes it."""
    if values.dtype.is_integer != spec.dtype.is_integer or not (values.dtype.is_integer or values.dtype.is_floating):
        raise ValueError(
            f"export: the preprocessor gives {values.dtype.name} for {name!r}; the model takes {spec.dtype.name}"
        )
    return tf.cast(tf.reshape(values, (-1, *spec.shape[1:])), spec.dtype)


def traced(function: Callable[[Any], Tensors], spec: Any) -> Function:
    """A tf.function that is traced for the spec, once."""
    traced = tf.function(function, [spec])
    traced.get_concrete_function()
    return traced


def _ranks_as(rank: Function, columns: Specs, predict_raw: Function) -> bool:
    """Whether `rank` scores two equal candidates, of values that no vocabulary knows, as `predict_raw` does."""
    unknown = {tf.string: "?", tf.int64: -1, tf.float32: 0.5}
    several, one = {}, {}
    for name, spec in columns.items():
        shape = (2, *(size or 1 for size in spec.shape[1:]))
        several[name] = tf.fill(shape, tf.constant(unknown[spec.dtype], spec.dtype))
        one[name] = several[name][: spec.shape[0]]
    expected, ranked = predict_raw(several), rank(one)
    return all(
        ranked[name].shape == scores.shape and np.allclose(ranked[name], scores, rtol=1e-5, atol=1e-5)
        for name, scores in expected.items()
    )


@contextlib.contextmanager
def _repeating_single_rows(model: Any) -> Iterator[None]:
    """Lets the embedding layers look up once what has one row, and repeat its vectors."""
    layers = embeddings(model)
    for layer in layers:
        layer.repeats_single_rows = True
    try:
        yield
    finally:
        for layer in layers:
            layer.repeats_single_rows = False


def own_preprocessor(preprocessor: Any) -> Preprocessor | None:
    """The `Preprocessor` of this package behind a preprocessor; None for somebody else's, subclasses included."""
    if isinstance(preprocessor, RemappedPreprocessor):
        preprocessor = preprocessor.base
    return preprocessor if type(preprocessor) is Preprocessor else None


def columns_of_signature(raw_signature: Specs) -> dict[str, tf.TensorSpec]:
    """A raw signature given by hand, checked, with the column as each spec's name.

    Raises:
      ValueError: a spec's shape or type cannot be served.
    """
    columns = {}
    for name, spec in raw_signature.items():
        shape = tf.TensorShape(spec.shape)
        if spec.dtype not in _NUMPY_MISSING or shape.rank not in (1, 2):
            raise ValueError(
                f"raw_signature[{name!r}]: expected string, int64 or float32 of shape (None,), (None, None) or "
                f"(None, n), got {spec.dtype.name} of shape {shape}"
            )
        columns[name] = tf.TensorSpec((None, *shape[1:]), spec.dtype, name)
    return columns


def parsing_of_columns(columns: Specs) -> dict[str, Any]:
    """What `tf.io.parse_example` has to look for where only the raw tensors are known."""
    spec: dict[str, Any] = {}
    for name, column in columns.items():
        if column.shape.rank == 2 and column.shape[1] is None:
            spec[name] = tf.io.RaggedFeature(column.dtype, row_splits_dtype=tf.int64)
        else:
            spec[name] = tf.io.FixedLenFeature(column.shape[1:].as_list(), column.dtype)
    return spec


def parsing_of_schema(schema: Schema) -> dict[str, Any]:
    """What `tf.io.parse_example` has to look for by the schema, without what only training needs."""
    return raw_feature_spec(schema, training=False)


def dense(value: Any) -> tf.Tensor:
    """A ragged column padded with its missing value; others as they are."""
    if not isinstance(value, tf.RaggedTensor):
        return value
    return value.to_tensor(tf.constant(_NUMPY_MISSING[value.dtype], value.dtype))


def _rows(x: tf.Tensor, count: Any) -> tf.Tensor:
    """One row, `count` times."""
    return tf.repeat(x, tf.reshape(count, [1]), axis=0)
