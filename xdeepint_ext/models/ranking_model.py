"""`RankingModel`: a schema-driven Keras model with optimizer groups, side inputs, and several tasks."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import tensorflow as tf

from xdeepint_ext.layers import FeatureEmbedding, FieldLinearHead
from xdeepint_ext.models.objective import Objective
from xdeepint_ext.optimizers import LazyAdam, OptimizerGroups
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.added_losses import with_added_losses
from xdeepint_ext.utils.registry import register
from xdeepint_ext.utils.signatures import input_signature, items_a_list


@register
class RankingModel(tf.keras.Model):
    """Field matrix -> `interaction` -> `head`: the frame of every model here, on its own a linear one.

    A subclass overrides `interaction`, `head`, `trunk` (both together), or `train_step`, and may add layers after
    `super().__init__()`: weights are made from the schema when they are first needed, never in the constructor.

    Args:
      schema: a `Schema` (or its JSON text). Its labels are the tasks: with several, outputs are dicts by label. None
        for a model on a field matrix of your own; see `from_embeddings`.
      width: K, embedding width, the paper's 16.
      embedding_initializer: of the tables; see `FeatureEmbedding`.
      num_fields: F, without a schema.
      name: of the model.

    Call arguments:
      features: dict of `input_signature(schema)`; further keys (side inputs) are ignored. Lists, for listwise losses:
        those of the items are (U, n, length), n for each of U users, and all others (U, length).
      training: whether dropout acts.

    Returns:
      Logits (B, 1), of lists (U, n); or a dict of them by task where the schema has several labels.

    Example:
      >>> from xdeepint_ext.schema import Feature, Schema
      >>> model = RankingModel(Schema([Feature("user", num_values=9), Feature("click", "numeric", "label")]), width=4)
      >>> [weight.name for weight in model.weights]
      ['ranking_model/feature_embedding/table:0', 'ranking_model/head_click/kernel:0',
      'ranking_model/head_click/bias:0']
    """

    def __init__(
        self,
        schema: Schema | str | None,
        *,
        width: int = 16,
        embedding_initializer: Any = None,
        num_fields: int | None = None,
        name: str | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(name=name, **kwargs)
        if (schema is None) == (num_fields is None):
            raise ValueError(f"RankingModel: give schema or num_fields, one of the two; got {schema!r}, {num_fields!r}")
        self.schema = Schema.from_json(schema) if isinstance(schema, str) else schema
        self.num_fields = num_fields
        self.width = width
        self.embedding_initializer = tf.keras.initializers.get(embedding_initializer)
        self.embedding: Any = None if schema is None else self.make_embedding(width)
        self.heads = self.make_heads()
        self.jit_trunk = False
        self._jitted_trunk: Any = None
        self._building = False

    @classmethod
    def from_embeddings(cls, num_fields: int, width: int, **hyperparameters: Any) -> RankingModel:
        """A model without tables: it is called with a field matrix (B, F, K) made elsewhere, and has one task.

        Args:
          num_fields: F.
          width: K.
          **hyperparameters: of the model.

        Example:
          >>> RankingModel.from_embeddings(num_fields=5, width=8)(tf.ones((2, 5, 8))).shape
          TensorShape([2, 1])
        """
        return cls(None, num_fields=num_fields, width=width, **hyperparameters)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks: the schema's labels, or one named "label" where it has none."""
        return (self.schema.tasks if self.schema is not None else ()) or ("label",)

    def make_embedding(self, width: int, **kwargs: Any) -> FeatureEmbedding:
        """A `FeatureEmbedding` of this model's schema; keywords override its arguments."""
        if self.schema is None:
            raise ValueError(f"{type(self).__name__} has tables of its own: it needs a schema")
        return FeatureEmbedding(self.schema, width, **{"initializer": self.embedding_initializer, **kwargs})

    def make_heads(self) -> dict[str, tf.keras.layers.Layer]:
        """The output layer of each task."""
        return {task: FieldLinearHead(name=f"head_{task}") for task in self.tasks}

    def embed(self, features: Any) -> tf.Tensor:
        """Features -> field matrix (B, F, K)."""
        return features if self.embedding is None else self.embedding(features)

    def interaction(self, x: tf.Tensor, training: bool | None = None) -> tf.Tensor:
        """Field matrix -> field matrix. The base class changes nothing."""
        return x

    def head(self, x: tf.Tensor, training: bool | None = None) -> Any:
        """Field matrix -> logits, (B, 1) or a dict by task."""
        return self.by_task({task: head(x) for task, head in self.heads.items()})

    def trunk(self, x: tf.Tensor, training: bool | None = None) -> Any:
        """Field matrix -> logits: all that is dense, which `jit_compile` compiles."""
        return self.head(self.interaction(x, training=training), training=training)

    def by_task(self, logits: dict[str, tf.Tensor]) -> Any:
        """The one task's logits, or the dict where there are several."""
        return logits if len(self.tasks) > 1 else logits[self.tasks[0]]

    def call(self, features: Any, training: bool | None = None) -> Any:
        return self.as_lists(features, self.through_trunk(self.embed(features), training))

    def as_lists(self, features: Any, logits: Any) -> Any:
        """Logits (U n, 1) as (U, n) where the features are lists; else as they are."""
        items = None if self.schema is None else items_a_list(self.schema, features)
        return logits if items is None else tf.nest.map_structure(lambda x: tf.reshape(x, (-1, items)), logits)

    def through_trunk(self, x: Any, training: bool | None = None) -> Any:
        """What `trunk` returns, compiled where `compile` was told so."""
        if not self.jit_trunk:
            return self.trunk(x, training=training)
        if self._jitted_trunk is None:
            self._jitted_trunk = tf.function(with_added_losses(self, self.trunk), jit_compile=True)
        logits, added = self._jitted_trunk(x, training=training)
        self.add_loss(added)
        return logits

    # -- weights on first need ------------------------------------------------------------------------------------

    def build_from_schema(self) -> None:
        """Makes all weights, from the schema alone. Whatever needs weights calls it; a second call does nothing."""
        if self.built or self._building:
            return
        self._building = True
        try:
            with self.distribute_strategy.scope():
                signature = self.input_signature()
                super().__call__(
                    tf.nest.map_structure(lambda s: tf.keras.Input(s.shape[1:], dtype=s.dtype, name=s.name), signature)
                )
        finally:
            self._building = False

    def input_signature(self) -> Any:
        """Names, shapes and dtypes of the inputs: a dict, or without a schema the field matrix alone."""
        if self.schema is None:
            return tf.TensorSpec((None, self.num_fields, self.width), self.compute_dtype, "embeddings")
        return input_signature(self.schema)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        self.build_from_schema()
        return super().__call__(*args, **kwargs)

    @property
    def weights(self) -> list[tf.Variable]:
        """All weights, made from the schema where they do not exist yet."""
        self.build_from_schema()
        return super().weights

    @property
    def trainable_weights(self) -> list[tf.Variable]:
        """Trainable weights, made from the schema where they do not exist yet."""
        self.build_from_schema()
        return super().trainable_weights

    @property
    def non_trainable_weights(self) -> list[tf.Variable]:
        """Other weights, made from the schema where they do not exist yet."""
        self.build_from_schema()
        return super().non_trainable_weights

    def count_params(self) -> int:
        """Number of all weights' entries."""
        self.build_from_schema()
        return super().count_params()

    def summary(self, *args: Any, **kwargs: Any) -> None:
        """Prints Keras's summary."""
        self.build_from_schema()
        super().summary(*args, **kwargs)

    def save(self, *args: Any, **kwargs: Any) -> None:
        """Saves the model as Keras does; `xdeepint_ext.serving.export` makes what TF Serving wants."""
        self.build_from_schema()
        super().save(*args, **kwargs)

    def save_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Saves the weights as Keras does."""
        self.build_from_schema()
        return super().save_weights(*args, **kwargs)

    def load_weights(self, *args: Any, **kwargs: Any) -> Any:
        """Loads weights as Keras does."""
        self.build_from_schema()
        return super().load_weights(*args, **kwargs)

    def _trackable_children(self, save_type: str = "checkpoint", **kwargs: Any) -> Any:
        # tf.saved_model.save asks the model what it consists of, and for nothing else.
        if save_type == "savedmodel":
            self.build_from_schema()
        return super()._trackable_children(save_type, **kwargs)

    # -- training -------------------------------------------------------------------------------------------------

    def compile(
        self,
        optimizer: Any = None,
        loss: Any = None,
        metrics: Any = None,
        loss_weights: Mapping[str, float] | None = None,
        jit_compile: bool = False,
        **kwargs: Any,
    ) -> None:
        """Configures training.

        Args:
          optimizer: an optimizer, or a dict group -> optimizer (groups: `embedding`, `interaction`, `default`).
            Default, our
            choice: Adam 1e-3, its row-wise lazy form for the tables.
          loss: a loss, or a dict task -> loss. Default: `LogLoss`. A loss with `side_inputs` gets them from the
            features. The scalars of one that learns some, such as `ARFLoss`, become weights of the model.
          metrics: a list, or a dict task -> list. They see logits, so give Keras's metrics `from_logits=True`. A metric
            with `side_inputs` gets them as keywords of `update_state`.
          loss_weights: task -> weight in the sum of the losses. Default: 1.
          jit_compile: compile the trunk (never the look-ups) with XLA.
          **kwargs: `run_eagerly`, `steps_per_execution` of Keras.
        """
        if optimizer is None:
            tables = {} if self.embedding is None else {"embedding": LazyAdam(1e-3)}
            optimizer = {**tables, "default": tf.keras.optimizers.Adam(1e-3)}
        if isinstance(optimizer, Mapping):
            optimizer = OptimizerGroups(optimizer)
        super().compile(optimizer=optimizer, loss=None, metrics=None, **kwargs)
        with self.distribute_strategy.scope():
            self.objective = Objective(self.tasks, loss, metrics, loss_weights)
        if self.objective.layers or hasattr(self, "loss_layers"):
            self.loss_layers = self.objective.layers  # an attribute, so that Keras trains and saves them
        self.jit_trunk = bool(jit_compile)
        self._compile_options = kwargs

    def fit(self, x: Any = None, *args: Any, **kwargs: Any) -> tf.keras.callbacks.History:
        """Trains as Keras does; a damaged record of `data.read` is named."""
        self.build_from_schema()
        with _named_damage(x), _named_damage(kwargs.get("validation_data")):
            return super().fit(x, *args, **kwargs)

    def evaluate(self, x: Any = None, *args: Any, **kwargs: Any) -> Any:
        """Evaluates as Keras does; a damaged record of `data.read` is named."""
        self.build_from_schema()
        with _named_damage(x):
            return super().evaluate(x, *args, **kwargs)

    def predict(self, x: Any, *args: Any, **kwargs: Any) -> Any:
        """Predicts logits as Keras does; a damaged record of `data.read` is named."""
        self.build_from_schema()
        with _named_damage(x):
            return super().predict(x, *args, **kwargs)

    def compute_loss(self, x: Any = None, y: Any = None, y_pred: Any = None, sample_weight: Any = None) -> tf.Tensor:
        """The tasks' weighted losses plus what layers added, scaled so that the replicas' sum to the global mean."""
        replicas = self.distribute_strategy.num_replicas_in_sync
        total = self.objective.loss(x, y, y_pred, sample_weight)
        added = [tf.cast(loss, total.dtype) for loss in self.losses]
        return tf.add_n([total, *(loss / replicas for loss in added)])

    def compute_metrics(self, x: Any, y: Any, y_pred: Any, sample_weight: Any) -> dict[str, tf.Tensor]:
        """Updates the metrics and returns their results.

        Keras calls this in every step, and asks again at the end of an epoch or evaluation. A metric with a true
        `costly_result` is left for the end: until then it is NaN.
        """
        self.objective.update_metrics(x, y, y_pred, sample_weight)
        results: dict[str, tf.Tensor] = {}
        for metric in self.metrics:
            later = getattr(metric, "costly_result", False)
            result = tf.constant(float("nan")) if later else metric.result()
            results.update(result if isinstance(result, dict) else {metric.name: result})
        return results

    @property
    def metrics(self) -> list[tf.keras.metrics.Metric]:
        """The losses' means and the compiled metrics, then those that the model's layers or a subclass keep."""
        objective = getattr(self, "objective", None)
        compiled = [] if objective is None else objective.metrics
        return [*compiled, *(metric for layer in self._flatten_layers() for metric in layer._metrics)]

    # -- saving ---------------------------------------------------------------------------------------------------

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments. A subclass adds its own."""
        return {
            "schema": None if self.schema is None else self.schema.to_json(),
            "num_fields": self.num_fields,
            "width": self.width,
            "embedding_initializer": tf.keras.initializers.serialize(self.embedding_initializer)
            if self.embedding_initializer
            else None,
            "name": self.name,
        }

    def get_build_config(self) -> dict[str, Any]:
        """Nothing but the schema is needed to build."""
        return {"from": "schema"}

    def build_from_config(self, config: Mapping[str, Any]) -> None:
        """Builds from the schema."""
        self.build_from_schema()

    def get_compile_config(self) -> dict[str, Any] | None:
        """Optimizer, losses and metrics, as Keras saves them; None before `compile`."""
        if not hasattr(self, "objective"):
            return None
        return {
            "optimizer": tf.keras.saving.serialize_keras_object(self.optimizer),
            "jit_compile": self.jit_trunk,
            **self.objective.get_config(),
            **self._compile_options,
        }

    def compile_from_config(self, config: Mapping[str, Any]) -> None:
        """The inverse of `get_compile_config`."""
        options = {key: value for key, value in config.items() if key not in ("optimizer", "loss", "metrics")}
        restored = {
            key: tf.keras.saving.deserialize_keras_object(config[key]) for key in ("optimizer", "loss", "metrics")
        }
        self.compile(**restored, **options)
        self.optimizer.build(self.trainable_variables)


@contextlib.contextmanager
def _named_damage(dataset: Any) -> Iterator[None]:
    """Where a dataset can explain a reading error, raises what it says in place of the graph's message."""
    try:
        yield
    except (tf.errors.OpError, UnicodeDecodeError) as error:
        explained = getattr(dataset, "explain", lambda e: e)(error)
        if explained is error:
            raise
        raise explained from error
