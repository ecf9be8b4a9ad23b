"""Costs and frequencies of routing, against counts by hand."""

import numpy as np
import pytest
import tensorflow as tf

from tests.experiments.test_report import pictures
from xdeepint_ext.experiments import execute, report
from xdeepint_ext.experiments.costs import costs, embedded
from xdeepint_ext.experiments.routed_costs import expert_names, parts_of
from xdeepint_ext.experiments.routing import Routed, Routing, by_value, measure, unfinished
from xdeepint_ext.models import AdaEnsemble, XDeepInt
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.utils.multiply_adds import multiply_adds
from xdeepint_ext.utils.recording import recording_off

FIELDS, WIDTH, LAYERS = 3, 2, 2
N = FIELDS * WIDTH
Q = 16  # projection size of a gate; its hidden layer has max(1, N // 16) = 1 unit
SMALL = {"width": 4, "num_layers": 2, "experts": ("cross", "conv"), "k": "1", "exit_steps": 1}


def gate(number):
    """Two dense layers, q and its squares times one over its length, the cosines."""
    return N * 1 + 1 * Q + Q + Q + Q * number


# An expert's last N weight its output, the estimator's last 1 weights its logit.
EXPERTS = {
    "cross": N * N + N + N,
    "pin": N * N + N + N,
    "conv": N * 5 + (5 - 4 + 1) * 4 * 16 + 16 * N + N,  # five units, windows of four, one pool of two
}
ESTIMATOR = N + 1


@pytest.fixture(scope="module")
def model():
    made = AdaEnsemble.from_embeddings(
        num_fields=FIELDS, width=WIDTH, num_layers=LAYERS, experts=list(EXPERTS), k=2, exit_k=1, dispatch="gather"
    )
    made.build_from_schema()
    return made


@pytest.fixture(scope="module")
def parts(model):
    return parts_of(model, embedded(model))


@pytest.fixture
def routing():
    """Four records: one needs one layer, three need two."""
    chosen = np.array([[4, 1, 3], [0, 3, 3]])
    return Routing(np.array([2, 1, 2, 2]), np.array([1, 3]), chosen, {})


def test_the_parts_cost_what_their_formulas_say(parts):
    found = {(part.layer, part.name): part.multiply_adds for part in parts}
    of_layer = {"gate": gate(3), **EXPERTS, "estimator": ESTIMATOR}
    layers = {(layer, name): cost for layer in range(LAYERS) for name, cost in of_layer.items()}
    assert found == {(None, "exit gate"): gate(LAYERS), **layers}


def test_the_parts_have_all_the_parameters(model, parts):
    assert sum(part.parameters for part in parts) == model.count_params() == costs(model)["parameters"]


@pytest.mark.parametrize("combine", ["weighted", "sum"])
def test_the_sum_of_the_parts_is_the_dense_form_as_traced(combine, parts):
    dense = AdaEnsemble.from_embeddings(
        num_fields=FIELDS,
        width=WIDTH,
        num_layers=LAYERS,
        experts=list(EXPERTS),
        k=2,
        exit_k=1,
        dispatch="dense",
        combine=combine,
    )
    dense.build_from_schema()
    with recording_off():
        traced = multiply_adds(lambda x: dense.trunk(x, training=False), tf.TensorSpec((4, FIELDS, WIDTH)))
    assert sum(part.multiply_adds for part in parts) == traced


def test_the_expected_cost_weights_each_part_by_who_needs_it(model, routing):
    first = gate(3) + 4 / 4 * EXPERTS["cross"] + 1 / 4 * EXPERTS["pin"] + 3 / 4 * EXPERTS["conv"] + 1 / 4 * ESTIMATOR
    second = 3 / 4 * (gate(3) + 0 * EXPERTS["cross"] + EXPERTS["pin"] + EXPERTS["conv"] + ESTIMATOR)
    found = costs(model, routing=routing)
    assert found["multiply_adds"] == pytest.approx(gate(LAYERS) + first + second, rel=1e-12)
    everything = Routing(np.array([2]), np.array([1, 1]), np.ones((2, 3), int), {})
    assert costs(model, routing=everything)["multiply_adds"] == found["multiply_adds_dense"]


def test_without_a_split_the_cost_is_nan_and_noted(model):
    notes = []
    found = costs(model, notes)
    assert np.isnan(found["multiply_adds"]) and found["multiply_adds_dense"] > 0
    assert notes == [
        "multiply_adds: they depend on how the model routes its examples, and no split was evaluated",
    ]


def test_shares_are_of_the_records_that_need_a_layer(routing):
    np.testing.assert_array_equal(routing.reaches, [4, 3])
    np.testing.assert_array_equal(routing.shares, [[1, 1 / 4, 3 / 4], [0, 1, 1]])
    assert routing.expected_depth == 7 / 4
    nobody = Routing(np.array([1]), np.array([1, 0]), np.array([[1, 0, 1], [0, 0, 0]]), {})
    assert np.isnan(nobody.shares[1]).all()


def test_like_experts_are_numbered(model):
    names = ["cross", "pin", "cross"]
    layer = AdaEnsemble.from_embeddings(num_fields=3, width=2, experts=names).exits.layers[0]
    assert expert_names(layer) == ["cross 1", "pin", "cross 2"]
    assert expert_names(model.exits.layers[0]) == list(EXPERTS)


SCHEMA = Schema(
    [
        Feature("user", dtype="int", lookup="identity", num_values=4),
        Feature("tags", "multi", dtype="int", lookup="identity", num_values=3, max_length=3),
        Feature("age", "numeric"),
    ]
)
USERS, TAGS = [1, 2, 3, 1, 0], [[1, 1, 0], [2, 1, 0], [0, 0, 0], [3, 2, 1], [2, 2, 2]]


class ByUser:
    """User u needs 1 + u % 2 layers of two; in layer l its expert is (u + l) % 3, and expert 2 besides for user 1."""

    exits = None

    def routing(self, features):
        user = features["user"][:, 0]
        experts = tf.stack([(user + layer) % 3 for layer in range(2)], axis=1)
        gates = tf.one_hot(experts, 3) + 0.5 * tf.one_hot(tf.where(user == 1, 2, -1), 3)[:, tf.newaxis]
        return tf.one_hot(user % 2, 2), gates


@pytest.fixture(scope="module")
def by_user():
    """The routing of five records in two batches."""
    features = {"user": tf.constant(USERS)[:, tf.newaxis], "tags": tf.constant(TAGS), "age": tf.ones((5, 1))}
    batches = [({name: x[rows] for name, x in features.items()}, None) for rows in (slice(0, 3), slice(3, 5))]
    assert isinstance(ByUser(), Routed)
    return measure(ByUser(), batches, SCHEMA)


def computed(user, layer):
    """Experts that compute a user's record in a layer; none behind its depth."""
    return {(user + layer) % 3} | ({2} if user == 1 else set()) if layer <= user % 2 else set()


def test_a_split_is_counted_record_by_record(by_user):
    np.testing.assert_array_equal(by_user.depths, [1 + user % 2 for user in USERS])
    np.testing.assert_array_equal(by_user.leaves, [sum(user % 2 == layer for user in USERS) for layer in range(2)])
    expected = [[sum(e in computed(user, layer) for user in USERS) for e in range(3)] for layer in range(2)]
    np.testing.assert_array_equal(by_user.chosen, expected)


def test_values_are_counted_once_a_record_and_padding_not_at_all(by_user):
    assert set(by_user.values) == {"user", "tags"}
    has = {"user": lambda i, value: USERS[i] == value, "tags": lambda i, value: value in TAGS[i] and value > 0}
    for name, found in by_user.values.items():
        assert len(found) == SCHEMA[name].num_ids
        for value, counts in enumerate(found):
            users = [USERS[i] for i in range(5) if has[name](i, value)]
            experts = [sum(e in computed(u, layer) for u in users for layer in range(2)) for e in range(3)]
            assert list(counts) == [len(users), sum(1 + u % 2 for u in users), *experts]


def test_the_field_whose_values_are_routed_most_differently_comes_first(by_user):
    user, tags = by_value(by_user, SCHEMA, "")
    assert (user.feature, tags.feature) == ("user", "tags")
    assert user.values[0] == "0" and user.rows[0] == 2  # id 1 has the first value
    points = np.column_stack([user.shares, user.depths / 2])
    centre = np.average(points, axis=0, weights=user.rows)
    variance = sum(rows / 5 * ((point - centre) ** 2).sum() for rows, point in zip(user.rows, points, strict=True))
    assert user.spread == pytest.approx(variance**0.5, rel=1e-12)
    assert [len(one.values) for one in by_value(by_user, SCHEMA, "", most=2)] == [2, 2]


def test_a_field_of_rare_values_does_not_come_first():
    """Each value of `id` has one record of a thousand and one expert; `kind` has two values of 40 and 60 %."""
    rows = 1000
    counts = {
        "kind": np.array([[0, 0, 0, 0], [600, 600, 360, 240], [400, 400, 160, 240]]),
        "id": np.array([[1, 1, i % 2, 1 - i % 2] for i in range(rows)]),
    }
    identity = {"dtype": "int", "lookup": "identity"}
    schema = Schema([Feature("kind", num_values=2, **identity), Feature("id", num_values=rows - 1, **identity)])
    routing = Routing(np.ones(rows, int), np.array([rows]), np.array([[520, 480]]), counts)
    assert [one.feature for one in by_value(routing, schema, "")] == ["kind", "id"]


@pytest.fixture(scope="module")
def finished(config_of):
    return execute(config_of(model="adaensemble", model_options=SMALL, max_steps=3))


def test_a_run_reports_depth_and_cost(finished):
    metrics, routing = finished.metrics, finished.routings["test"]
    assert metrics["test.expected_depth"] == routing.depths.mean() and 1 <= metrics["valid.expected_depth"] <= 2
    assert metrics["multiply_adds"] == costs(finished.model, routing=routing)["multiply_adds"]
    assert metrics["multiply_adds"] < metrics["multiply_adds_dense"]
    assert (routing.chosen.sum(axis=1) == routing.reaches).all()  # k = 1
    assert len(routing.depths) == len(finished.predictions["test"].logits["click"])
    assert not [note for note in metrics["notes"] if "exit_k" in note]  # after a step of two depths, one is taken


def test_the_report_shows_costs_depths_and_experts(finished, tmp_path):
    report.write(finished, str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    assert f"{finished.metrics['multiply_adds']:,.0f} multiply-adds" in page
    assert f"of the {finished.metrics['multiply_adds_dense']:,.0f} of the dense form" in page
    names = set(pictures(page))
    assert {"Share of the records by depth", "Share of each expert by layer"} <= names
    values = {name for name in names if name.startswith("Routing by ")}
    assert values or "Routing does not differ between the values of any field." in page
    assert "<th></th>" in page and '<td>estimator</td><td class="number">' in page
    for depth in np.unique(finished.routings["test"].depths):
        rows = np.count_nonzero(finished.routings["test"].depths == depth)
        assert f'<td class="number">{depth}</td><td class="number">{rows:,}</td>' in page


def test_fields_are_shown_where_their_values_are_routed_differently(finished, tmp_path):
    routing = finished.routings["test"]
    counts = np.zeros_like(routing.values["tab"])
    counts[2], counts[3] = [200, 400, 400, 0], [100, 100, 0, 100]
    flat = np.zeros_like(routing.values["item"])
    flat[2], flat[3] = [100, 150, 75, 75], [200, 300, 150, 150]
    finished.routings["test"] = Routing(routing.depths, routing.leaves, routing.chosen, {"item": flat, "tab": counts})
    report.write(finished, str(tmp_path / "report.html"))
    finished.routings["test"] = routing
    page = (tmp_path / "report.html").read_text()
    assert [name for name in pictures(page) if name.startswith("Routing by ")] == ["Routing by tab"]
    assert "Further fields: item 0.00." in page


def test_another_model_has_no_routing(config_of, tmp_path):
    run = execute(config_of(model="lr", model_options={}, max_steps=1, evaluate=("test",)))
    assert run.routings == {} and not isinstance(run.model, Routed)
    assert not [name for name in run.metrics if "depth" in name or "dense" in name]
    report.write(run, str(tmp_path / "report.html"))
    assert "multiply-adds on average" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize(
    ("options", "mixed"),
    [({}, 3), ({"exit_k": 1}, 0), ({"exit_k": 2}, 2), ({"exit_k": 2, "exit_mode": "hard"}, 0)],
)
def test_training_that_ends_while_depths_are_mixed_is_noted(options, mixed):
    model = AdaEnsemble.from_embeddings(num_fields=3, width=2, num_layers=3, **options)
    model.build_from_schema()
    notes = unfinished(model)
    assert len(notes) == bool(mixed)
    assert all(f"mixed {mixed} depths" in note and "exit_steps" in note for note in notes)


def test_a_model_that_does_not_route_is_not_taken_for_one():
    assert not isinstance(XDeepInt.from_embeddings(num_fields=3, width=2, num_subspaces=1), Routed)


def test_a_model_with_metrics_in_its_layers_is_built_for_replicas(two_replicas):
    with two_replicas.scope():
        model = AdaEnsemble.from_embeddings(num_fields=3, width=2, num_layers=1, k=1, dispatch="capacity")
        model.build_from_schema()
    assert float(model.exits.expected_depth.result()) == 0.0


@pytest.mark.slow
def test_replicas_route_as_one_device_does(config_of, two_replicas):
    options = {"max_steps": 1, "evaluate": ("test",), "strategy": "mirrored"}
    run = execute(config_of(model="adaensemble", model_options={**SMALL, "dispatch": "capacity"}, **options))
    one = measure(run.model, run.inputs.batches("test"), run.inputs.schema)
    np.testing.assert_array_equal(run.routings["test"].depths, one.depths)
    assert len(one.depths) == run.metrics["test.rows"]
