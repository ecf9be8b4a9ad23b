"""The optimizers of TPUEmbedding have the constants and rates of ours, and what they cannot express is refused."""

import pytest
import tensorflow as tf
from tensorflow.core.protobuf.tpu.optimization_parameters_pb2 import OptimizationParameters

from xdeepint_ext.experiments import Config
from xdeepint_ext.experiments.optimizer_options import OPTIMIZERS, make_optimizers
from xdeepint_ext.experiments.placement import IN_TPU_TABLES
from xdeepint_ext.optimizers import GroupFtrl, LazyAdagrad, LazyAdam
from xdeepint_ext.optimizers.tpu import COUNTERPARTS, tpu_optimizer

EMBEDDING = tf.tpu.experimental.embedding


def parameters_of(optimizer):
    """What a TPU is told."""
    parameters = OptimizationParameters()
    tpu_optimizer(optimizer)._set_optimization_parameters(parameters)
    return parameters


def slots_of(optimizer):
    """What its slots start from."""
    found = tpu_optimizer(optimizer)
    values = [float(initializer((), tf.float32)) for initializer in found._slot_initializers()]
    return dict(zip(found._slot_names(), values, strict=True))


def test_adam_is_lazy_and_adds_epsilon_behind_the_root():
    ours = LazyAdam(0.1, beta_1=0.8, beta_2=0.95, epsilon=1e-4)
    adam = parameters_of(ours).adam
    assert (adam.beta1, adam.beta2, adam.epsilon) == pytest.approx((0.8, 0.95, 1e-4))
    assert not adam.use_non_lazy_adam and not adam.use_sum_inside_sqrt
    assert slots_of(ours) == {"momenta": 0.0, "velocities": 0.0}


def test_adagrad_starts_from_our_accumulator():
    ours = LazyAdagrad(0.1, initial_accumulator_value=0.3)
    assert parameters_of(ours).WhichOneof("parameters") == "adagrad"
    assert slots_of(ours) == {"accumulators": pytest.approx(0.3)}


def test_ftrl_has_the_constants_of_the_mean_loss():
    config = Config(data_dir="-", optimizer="ftrl", batch_size=50, l1=0.3, l2=0.7)
    ours = make_optimizers(config, 1)["embedding"]
    ftrl = parameters_of(ours).ftrl
    assert (ftrl.l1, ftrl.l2, ftrl.beta, ftrl.lr_power) == pytest.approx((0.3 / 50, 0.7 / 50, 0.0, -0.5))
    assert slots_of(ours) == {"accumulators": pytest.approx(0.1 / 50**2), "linears": 0.0}


def test_sgd_is_sgd():
    ours = tf.keras.optimizers.SGD(0.5)
    assert parameters_of(ours).WhichOneof("parameters") == "stochastic_gradient_descent"
    assert tpu_optimizer(ours).learning_rate() == 0.5


@pytest.mark.parametrize("make", [LazyAdagrad, tf.keras.optimizers.Ftrl, tf.keras.optimizers.SGD])
def test_the_rate_is_that_of_the_step(make):
    schedule = tf.keras.optimizers.schedules.CosineDecay(0.5, 10)
    ours = make(schedule)
    rate = tpu_optimizer(ours).learning_rate
    for step in (0, 3, 9):
        ours.iterations.assign(step)
        assert float(rate()) == pytest.approx(float(schedule(step)))
    constant = make(0.5)
    rate = tpu_optimizer(constant).learning_rate
    constant.learning_rate = 0.25
    assert rate() == 0.25


@pytest.mark.parametrize("step", [0, 1, 20])
def test_adams_rate_corrects_the_bias(step):
    ours = LazyAdam(0.5, beta_1=0.8, beta_2=0.95)
    ours.iterations.assign(step)
    expected = 0.5 * (1 - 0.95 ** (step + 1)) ** 0.5 / (1 - 0.8 ** (step + 1))
    assert float(tpu_optimizer(ours).learning_rate()) == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("optimizer", "message"),
    [
        (GroupFtrl(), r"optimizer must be one of \['Ftrl', .*'LazyAdam', 'SGD'\], .*, got GroupFtrl"),
        (tf.keras.optimizers.Adam(), "got Adam"),
        (LazyAdam(amsgrad=True), r"TPUEmbedding's Adam cannot express \{'amsgrad': True\} of LazyAdam"),
        (LazyAdam(clipnorm=1.0), "'clipnorm': 1.0"),
        (LazyAdam(use_ema=True), "'use_ema': True"),
        (LazyAdagrad(epsilon=1e-3), r"TPUEmbedding's Adagrad cannot express \{'epsilon': 0.001\}"),
        (tf.keras.optimizers.Ftrl(l2_shrinkage_regularization_strength=0.1), "'l2_shrinkage_regularization_strength'"),
        (tf.keras.optimizers.SGD(momentum=0.9), "'momentum': 0.9"),
    ],
)
def test_what_a_tpu_cannot_express_is_refused(optimizer, message):
    with pytest.raises(ValueError, match=message):
        tpu_optimizer(optimizer)


def test_experiments_know_which_algorithms_a_tpu_has():
    for name, groups in OPTIMIZERS.items():
        made = make_optimizers(Config(data_dir="-", optimizer=name), 1)["embedding"]
        assert (type(made) in COUNTERPARTS) == (groups["embedding"] in IN_TPU_TABLES)
