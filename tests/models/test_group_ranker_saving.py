"""GroupRanker where it is stopped and served: checkpoints, files, SavedModels, half precision."""

import numpy as np
import pytest
import tensorflow as tf

from tests.models import examples
from tests.models.examples import MODELS, ONE_TASK, WIDTH
from tests.models.test_group_ranker import SIZE, batch, losses_of, ranker, step
from tests.serving import cases
from tests.serving.c_api import meta_graph, run_signature
from tests.serving.test_pruning import zero_rows
from xdeepint_ext import serving
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.models import GroupRanker, UserProjection, XDeepInt
from xdeepint_ext.serving.rows import typed


def test_training_on_another_day_goes_on_from_a_checkpoint(tmp_path):
    days = [batch(seed=day)[:2] for day in range(4)]

    def trained(model, days):
        model.build_from_schema()
        for features, labels in days:
            model.train_on_batch(features, labels)

    def compiled():
        model = ranker(quantizer_options={"decay": 0.5})
        model.compile(tf.keras.optimizers.Adam(0.05), run_eagerly=True)
        model.build_from_schema()
        model.optimizer.build(model.trainable_variables)
        return model

    model, again = compiled(), compiled()
    trained(model, days[:2])
    path = tf.train.Checkpoint(model=model).write(str(tmp_path / "checkpoint"))
    tf.train.Checkpoint(model=again).read(path).assert_consumed()
    assert int(again.quantizer.step) == 2
    for one in (model, again):
        trained(one, days[2:])
    for a, b in zip(model.get_weights(), again.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("suffix", ["model.weights.h5", pytest.param("checkpoint", marks=pytest.mark.slow)])
def test_weights_of_other_codebooks_are_refused(suffix, tmp_path):
    ranker().save_weights(tmp_path / suffix)
    with pytest.raises(ValueError, match="shape"):
        ranker(codebook_size=4).load_weights(tmp_path / suffix)


def test_every_argument_is_in_the_configuration():
    options = {
        "num_levels": 2,
        "codebook_size": 5,
        "user_features": ["user"],
        "group_weight": 0.5,
        "group_loss": "softmaxce",
        "require_negative": False,
        "include_root": True,
        "gather_groups": True,
        "temperature": 2.0,
        "warmup_steps": 7,
        "auxiliary": "reconstruction",
        "auxiliary_weight": 0.2,
        "codebook_update": "gradient",
        "commitment_weight": 0.1,
        "quantizer_options": {"decay": 0.8, "search": "exact"},
        "name": "mine",
    }
    projected = UserProjection(ONE_TASK, backbone=MODELS["xdeepint"], units=3, user_features=["user"])
    model = GroupRanker(ONE_TASK, backbone=projected, **options)
    config = model.get_config()
    again = GroupRanker.from_config(config)
    assert again.get_config() == config and {name: config[name] for name in options} == options
    assert (again.quantizer.decay, again.groups["click"].loss, again.backbone.bottleneck.units) == (0.8, "softmaxce", 3)
    assert isinstance(again.backbone.backbone, XDeepInt) and again.backbone.backbone.width == WIDTH
    smaller = ONE_TASK.replace({"user": {"num_values": 2}})
    other = GroupRanker.from_config({**config, "schema": smaller.to_json()})
    assert other.backbone.backbone.schema == smaller


def nodes_of(folder, signature):
    """(the graph's nodes, those of the functions behind a signature)."""
    meta = meta_graph(folder)
    functions = {function.signature.name: list(function.node_def) for function in meta.graph_def.library.function}
    outputs = {info.name.partition(":")[0] for info in meta.signature_def[signature].outputs.values()}
    waiting, found = [node for node in meta.graph_def.node if node.name in outputs], {}
    while waiting:
        values = waiting.pop().attr.values()
        for name in {f.name for value in values for f in (value.func, *value.list.func)} & set(functions) - set(found):
            found[name] = functions[name]
            waiting += functions[name]
    return list(meta.graph_def.node), [node for nodes in found.values() for node in nodes]


def a_case():
    case = cases.case()
    model = GroupRanker(case.schema, backbone=lambda schema: XDeepInt(schema, width=8), num_levels=2, codebook_size=4)
    losses_of(model, case.features, case.labels)
    return case, model


@pytest.mark.slow
def test_what_is_served_is_the_backbone_s_pass_alone(tmp_path):
    case, model = a_case()
    expected = model(case.features).numpy()
    raw = typed(case.rows, raw_signature(case.schema))
    for number, (served, has_variables) in enumerate([(model, True), (model.backbone, False)]):
        folder = serving.export(served, case.preprocessor, tmp_path / str(number), prune=False)
        found = run_signature(folder, "predict_raw", raw)["logit"]
        np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)
        signatures = set(meta_graph(folder).signature_def) - {"__saved_model_init_op"}
        assert ("user_codes" in signatures) == has_variables and {"serving_default", "predict_raw"} <= signatures
        for signature in signatures - {"user_codes"}:
            nodes, of_functions = nodes_of(folder, signature)
            assert len(of_functions) > 50, signature
            assert not [node.name for node in of_functions if "quantizer" in node.name or "groups_" in node.name]
            assert not [node.op for node in of_functions if node.op in ("ArgMin", "CheckNumerics")]
        codebooks = [node for node in nodes if node.op == "VarHandleOp" and "codebooks" in node.name]
        assert bool(codebooks) == has_variables


def test_user_codes_are_a_signature_of_somebody_else_s_preprocessor_too(tmp_path):
    case, model = a_case()
    columns = raw_signature(case.schema)

    class Theirs(tf.Module):
        def __init__(self):
            super().__init__()
            self.ours = case.preprocessor

        def __call__(self, raw):
            return self.ours(raw)

    folder = serving.export(model, Theirs(), tmp_path, prune=False, raw_signature=columns, warmup=())
    found = run_signature(folder, "user_codes", typed(case.rows, columns))["codes"]
    np.testing.assert_array_equal(found, model.user_codes(case.features))
    assert len(np.unique(found, axis=0)) > 4


def test_a_pruned_model_scores_the_same():
    case, model = a_case()
    zero_rows(model)
    pruned = serving.prune(model, case.preprocessor)
    assert sum(after for _, after in pruned.rows.values()) < sum(before for before, _ in pruned.rows.values())
    np.testing.assert_array_equal(pruned.model.quantizer.codebooks, model.quantizer.codebooks)


@pytest.mark.parametrize("policy", ["mixed_float16", pytest.param("mixed_bfloat16", marks=pytest.mark.slow)])
def test_half_precision_keeps_codes_and_losses_in_float32(policy):
    tf.keras.mixed_precision.set_global_policy(policy)
    try:
        model = ranker()
        features, labels, weights = batch()
        losses, _ = losses_of(model, features, labels, weights)
        assert {loss.dtype for loss in losses} == {tf.float32}
        assert model.quantizer.codebooks.dtype == tf.float32
        step(model, tf.keras.optimizers.Adam(0.01), features, labels, weights, steps=2)
        assert all(np.isfinite(weight).all() for weight in model.get_weights())
    finally:
        tf.keras.mixed_precision.set_global_policy("float32")


def test_an_embedding_that_is_not_finite_stops_the_step():
    model = ranker()
    features, labels, _ = batch()
    step(model, None, features, labels)
    before = model.quantizer.codebooks.numpy()
    features = {**features, "age": tf.fill((SIZE, 1), np.float32(np.nan))}
    with pytest.raises(tf.errors.InvalidArgumentError, match="quantizer: inputs must be finite"):
        model.train_on_batch(features, labels)
    np.testing.assert_array_equal(model.quantizer.codebooks, before)


@pytest.mark.slow
def test_it_trains_in_graphs_and_under_xla(two_replicas):
    """Two replicas with groups of their own, and a compiled trunk: graphs that no other test makes."""
    ends = []
    for jit in (False, True):
        tf.keras.utils.set_random_seed(3)
        model = ranker()
        model.compile(tf.keras.optimizers.SGD(0.1), jit_compile=jit)
        model.fit(examples.dataset(size=SIZE, batch_size=SIZE), epochs=2, verbose=0)
        ends.append(model.get_weights())
    for a, b in zip(*ends, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)
    with two_replicas.scope():
        model = ranker()
        model.compile(tf.keras.optimizers.SGD(0.1))
    history = model.fit(examples.dataset(size=SIZE, batch_size=SIZE), epochs=2, verbose=0).history
    assert all(np.isfinite(values).all() for values in history.values())
    assert 1 <= history["group_size_1"][0] <= SIZE / 2


BY_GRADIENT = {"codebook_update": "gradient", "commitment_weight": 0.25}


@pytest.mark.slow
@pytest.mark.parametrize("options", [{}, BY_GRADIENT], ids=["ema", "gradient"])
def test_a_step_on_two_replicas_is_that_of_one_device(options, two_replicas):
    features, labels, _ = batch()
    start, ends, codes = None, [], []
    for strategy in (tf.distribute.get_strategy(), two_replicas):
        with strategy.scope():
            model = ranker(gather_groups=True, **options)
            model.compile(tf.keras.optimizers.SGD(0.1))
        start = model.get_weights() if start is None else start
        model.set_weights(start)
        model.fit(tf.data.Dataset.from_tensors((features, labels)), verbose=0)
        ends.append(model.get_weights())
        codes.append(model.user_codes(features))
    for one, two in zip(*ends, strict=True):
        np.testing.assert_allclose(two, one, rtol=0, atol=1e-6)
    np.testing.assert_array_equal(*codes)
    assert len(np.unique(codes[0], axis=0)) > 2
