"""A TPU's tables on a CPU, as far as TensorFlow's documentation says what they do, and checks that a TPU would make."""

import contextlib
import types
from typing import ClassVar

import tensorflow as tf
from tensorflow.python.tpu import tpu_embedding_v2
from tensorflow.python.tpu.tpu_embedding_base import TPUEmbeddingBase
from tensorflow_recommenders.layers.embedding import tpu_embedding_layer

from xdeepint_ext.layers import tpu_embedding

EMBEDDING = tf.tpu.experimental.embedding
SCOPE = "fake_tpu"


class FakeTpuEmbedding(TPUEmbeddingBase):
    """In the place of `tf.tpu.experimental.embedding.TPUEmbedding`; steps as optimization_parameters.proto has them."""

    made: ClassVar[list] = []

    def __init__(self, feature_config, optimizer, pipeline_execution_with_tensor_core=False):
        super().__init__(feature_config, optimizer)
        assert not pipeline_execution_with_tensor_core  # a step would see the tables of the step before the last
        self.features, self.optimizer, self.rows = feature_config, optimizer, {}
        self.made.append(self)

    def build(self, per_replica_input_shapes):
        for shape, feature in zip(per_replica_input_shapes, self.features, strict=True):
            assert shape.is_fully_defined() and shape[:-1] == feature.output_shape
        super().build()

    def _create_variables_and_slots(self):
        return {table.name: self._create_variables(table, trainable=False) for table in self._table_config}

    def enqueue(self, features, weights, training, name):
        tf.nest.assert_same_structure(self.features, features)
        tpu_embedding_v2.TPUEmbedding._raise_error_for_non_direct_inputs(self, features)
        for rows, feature in zip(features, self.features, strict=True):
            assert rows.shape == [*feature.output_shape, 1] and rows.dtype == tf.int32
        self.rows[name] = [rows[..., 0] for rows in features]

    def dequeue(self, name):
        with tf.name_scope(SCOPE):
            return [
                tf.gather(self._variables[feature.table.name]["parameters"], rows)
                for rows, feature in zip(self.rows[name], self.features, strict=True)
            ]

    def apply_gradients(self, gradients, name):
        for gradient, rows, feature in zip(gradients, self.rows[name], self.features, strict=True):
            assert gradient.shape == [*feature.output_shape, feature.table.dim] and gradient.dtype == tf.float32
            with tf.name_scope(SCOPE):
                self._step(gradient, rows, self._variables[feature.table.name])

    def _step(self, gradient, rows, variables):
        table = variables["parameters"]
        size, optimizer = table.shape[0], self.optimizer
        g = tf.math.unsorted_segment_sum(gradient, rows, size)
        looked_up = tf.math.unsorted_segment_max(tf.ones_like(rows), rows, size)[:, tf.newaxis] > 0
        rate = tf.cast(optimizer.learning_rate(), tf.float32)

        def assign(name, new):
            variables[name].assign(tf.where(looked_up, new, variables[name]))
            return variables[name]

        if isinstance(optimizer, EMBEDDING.SGD):
            assign("parameters", table - rate * g)
        elif isinstance(optimizer, EMBEDDING.Adagrad):
            n = assign("accumulators", variables["accumulators"] + g * g)
            assign("parameters", table - rate * g / tf.sqrt(n))
        elif isinstance(optimizer, EMBEDDING.Adam):
            assert optimizer.lazy_adam and not optimizer.sum_inside_sqrt
            m = assign("momenta", optimizer.beta_1 * variables["momenta"] + (1 - optimizer.beta_1) * g)
            v = assign("velocities", optimizer.beta_2 * variables["velocities"] + (1 - optimizer.beta_2) * g * g)
            assign("parameters", table - rate * m / (tf.sqrt(v) + optimizer.epsilon))
        else:
            before, power = variables["accumulators"].read_value(), -optimizer.learning_rate_power
            n = before + g * g
            change = (tf.pow(n, power) - tf.pow(before, power)) / rate * table
            z = assign("linears", variables["linears"] + g - change)
            assign("accumulators", n)
            l1, l2 = optimizer.l1_regularization_strength, optimizer.l2_regularization_strength
            weight = (tf.sign(z) * l1 - z) / ((optimizer.beta + tf.pow(n, power)) / rate + 2 * l2)
            assign("parameters", tf.where(tf.abs(z) > l1, weight, 0.0))


class FakeTpuStrategy:
    """In the place of a `TPUStrategy` of one core."""

    num_replicas_in_sync = 1

    def __init__(self, monkeypatch):
        self.inside, self.running, self.options = 0, False, {}
        version = types.SimpleNamespace(embedding_feature=tf.tpu.experimental.HardwareFeature.EmbeddingFeature.V1)
        extended = tf.distribute.get_strategy().extended
        monkeypatch.setattr(extended, "tpu_hardware_feature", version, raising=False)
        of_recommenders = tpu_embedding_layer.tf.tpu.experimental.embedding
        monkeypatch.setattr(of_recommenders, "TPUEmbedding", FakeTpuEmbedding)
        monkeypatch.setattr(FakeTpuEmbedding, "made", [])
        monkeypatch.setattr(tpu_embedding_layer, "_is_tpu_strategy", lambda _: self.inside > 0)
        monkeypatch.setattr(tpu_embedding, "on_tpu", lambda: self.inside > 0)
        monkeypatch.setattr(tf.distribute, "in_cross_replica_context", lambda: self.inside > 0 and not self.running)

    @contextlib.contextmanager
    def scope(self):
        self.inside += 1
        try:
            yield
        finally:
            self.inside -= 1

    def run(self, function, args, options=None):
        self.options["run"], self.running = options, True
        try:
            with self.scope():
                return tf.function(function)(*args)  # a graph of its own, whose inputs are the arguments
        finally:
            self.running = False

    def distribute_datasets_from_function(self, of_worker, options):
        self.options["input"] = options
        return of_worker(tf.distribute.InputContext())
