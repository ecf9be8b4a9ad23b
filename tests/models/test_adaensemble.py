"""AdaEnsemble: the authors' counts, switches, routing, and what a bad argument says."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models import examples
from xdeepint_ext.models import AdaEnsemble, DynInt
from xdeepint_ext.models.adaensemble import EXPERTS
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.recording import recording_off


def small(schema=examples.ONE_TASK, **options):
    return AdaEnsemble(schema, **{"width": 4, "num_layers": 3, "k": 2, "exit_steps": 2, **options})


def test_parameters_of_the_authors_network():
    """Section 3.6: 38 fields of width 16; four layers, the exit router, and an estimator for each depth."""
    schema = Schema([Feature(f"f{index}", num_values=2) for index in range(38)])
    model = AdaEnsemble(schema)
    tables = (1 + 38 * 3) * 16  # padding, and for each field two values and a bucket for unseen ones
    moe = 417_126 + 370_272 + 369_664 + 90_083 + 185_936 + 23_847
    steps = 1  # of the exits' schedule
    assert model.count_params() - tables - steps == 4 * moe + 23_831 + 4 * (608 + 1)
    assert model.count_params() - tables - steps == 5_853_979


def test_each_depth_has_an_estimator_on_all_numbers():
    model = examples.randomise(small(dispatch="dense"))
    features, _, _ = examples.batch()
    x = model.embed(features)
    exits, gates = model.routing(features)
    now, logits = x, []
    for layer, estimator in zip(model.exits.layers, model.exits.estimators, strict=True):
        now = now + layer([now, x])
        logits.append(estimator.dense(tf.reshape(now, (8, -1))))
    expected = tf.reduce_sum(exits[:, :, tf.newaxis] * tf.stack(logits, axis=1), axis=1)
    np.testing.assert_allclose(model(features), expected, rtol=1e-5, atol=1e-5)
    np.testing.assert_array_equal(np.sum(exits, axis=1), 1)
    assert gates.shape == (8, 3, 5)
    np.testing.assert_array_equal(np.count_nonzero(gates, axis=2), 2)


@pytest.mark.parametrize("dispatch", ["dense", "capacity"])
def test_forms_agree(dispatch):
    names = list(EXPERTS)
    model = examples.randomise(small(experts=names, k=3))
    other = small(experts=names, k=3, dispatch=dispatch, capacity_factor=len(names) / 3)
    features, _, _ = examples.batch()
    other(features)
    other.set_weights(model.get_weights())
    np.testing.assert_allclose(other(features), model(features), rtol=1e-4, atol=1e-4)


def test_two_tasks_share_the_layers():
    model = examples.randomise(small(examples.TWO_TASKS))
    features, _, _ = examples.batch(examples.TWO_TASKS)
    found = model(features)
    assert {task: logits.shape for task, logits in found.items()} == {"click": (8, 1), "buy": (8, 1)}
    np.testing.assert_array_equal(tf.concat([found["click"], found["buy"]], axis=1), model.exits(model.embed(features)))


@pytest.mark.slow
def test_training_updates_every_weight_in_the_default_mode():
    """Routers included: their gradient comes from the task."""
    tf.keras.utils.set_random_seed(3)
    model = small(balance_weight=0.0, z_weight=0.0, k=5, exit_k=3, width=8)
    model.compile(tf.keras.optimizers.SGD(0.1))
    model.build_from_schema()
    before = [weight.numpy() for weight in model.trainable_weights]
    model.fit(examples.dataset(size=64, batch_size=64), epochs=5, verbose=0)
    still = [
        weight.name
        for weight, start in zip(model.trainable_weights, before, strict=True)
        if np.array_equal(weight.numpy(), start)
    ]
    assert still == []


def test_the_authors_switches_leave_the_routers_to_their_own_losses():
    options = {"combine": "sum", "exit_mode": "hard", "exit_k": 1}
    model = small(**options, balance_weight=0.0, z_weight=0.0)
    features, labels, _ = examples.batch()
    model(features)
    with tf.GradientTape() as tape:
        logits = model(features, training=True)
        loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels, logits))
    routers = [gate for gate in model.submodules if type(gate).__name__ == "TopKGate"]
    weights = [weight for gate in routers for weight in gate.trainable_weights]
    assert len(weights) == 4 * 6
    gradients = tape.gradient(loss, weights)
    assert all(gradient is None or not np.any(gradient) for gradient in gradients)


def test_exits_are_annealed_to_one():
    model = small(exit_steps=2)
    assert model.exits.gate.k == [(2, 3), (4, 2), (6, 1)]
    assert small(exit_k=2).exits.gate.k == 2


def test_priors_of_the_authors_are_for_their_experts_and_depths():
    model = small(num_layers=4)
    assert model.exits.layers[0].gate.prior == [0.2, 0.2, 0.4, 0.1, 0.1]
    assert model.exits.gate.prior == [0.1, 0.2, 0.6, 0.1]
    other = small(experts=["pin", "cin"])
    assert other.exits.layers[0].gate.prior is None
    assert other.exits.gate.prior is None


@pytest.mark.slow
def test_expected_depth_is_a_metric_of_fit_and_evaluate():
    model = small(experts=["pin", "cross"], k=1)
    model.compile()
    history = model.fit(examples.dataset(), verbose=0).history
    found = model.evaluate(examples.dataset(), return_dict=True, verbose=0)
    exits = [model.routing(features)[0] for features, _ in examples.dataset()]
    np.testing.assert_allclose(found["expected_depth"], np.mean(tf.concat(exits, axis=0) @ [[1.0], [2], [3]]))
    assert 1 <= history["expected_depth"][0] <= 3


def test_a_served_model_does_not_count():
    model = small()
    features, _, _ = examples.batch()
    model(features)
    model.exits.expected_depth.reset_state()
    with recording_off():
        model(features)
        graph = tf.function(lambda x: model(x, training=False)).get_concrete_function(features).graph
    assert float(model.exits.expected_depth.count) == 0
    assert not [op.name for op in graph.get_operations() if op.type.startswith("Assign")]


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda: small(jitter=0.0), id="AdaEnsemble", marks=pytest.mark.slow),
        pytest.param(lambda: DynInt(examples.ONE_TASK, num_layers=1, orthogonal_rate=0.5), id="DynInt"),
    ],
)
def test_losses_added_by_layers_count_under_xla(make):
    """They are added inside the compiled trunk, and may not be lost there."""
    weights = []
    for jit_compile in (False, True):
        tf.keras.utils.set_random_seed(1)
        model = make()
        model.compile(tf.keras.optimizers.SGD(0.05), jit_compile=jit_compile)
        features, labels, _ = examples.batch()
        for _ in range(2):
            model.train_on_batch(features, labels)
        weights.append(model.get_weights())
    for found, expected in zip(*weights, strict=True):
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"experts": ["pin", "tree"]}, r"experts must be names in .* got \['tree'\]"),
        ({"experts": []}, r"experts must be names in .* got \[\]"),
        ({"expert_options": {"tree": {}}}, r"experts must be names in .* got \['tree'\]"),
        ({"k": 6}, r"k must be in 1 \.\. 5"),
        ({"expert_prior": [0.5, 0.5]}, "prior must be 5 positive shares of sum 1"),
        ({"exit_prior": [0.5, 0.5]}, "prior must be 3 positive shares of sum 1"),
        ({"exit_k": [(10, 4)]}, r"k must be in 1 \.\. 3"),
        ({"exit_k": [3, 2, 1]}, r"k must be a whole number, or pairs \(step, k\); got \[3, 2, 1\]"),
        ({"num_layers": 0}, "num_layers must be >= 1, got 0"),
        ({"exit_steps": 0}, "exit_steps must be >= 1, got 0"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        small(**options)
