"""GroupCE's command: objectives on one backbone, lists, reading order, what is measured, and days that follow."""

import dataclasses
import json
import os

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf

from tests.experiments.conftest import clicks
from tests.experiments.test_report import pictures
from xdeepint_ext.data import memory
from xdeepint_ext.data.manifest import DataError
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments import codebook_health, execute, group_report, report, run
from xdeepint_ext.experiments.code_watch import changed_shares, different_users
from xdeepint_ext.experiments.codebook_health import Health
from xdeepint_ext.experiments.group_measures import CodeUse, Pulls, code_use, principal_plane, pulls
from xdeepint_ext.experiments.group_options import OBJECTIVES, GroupCEOptions
from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.experiments.reading import with_lists
from xdeepint_ext.experiments.rendering import name_of
from xdeepint_ext.experiments.searches import SEARCHES, VARIANTS
from xdeepint_ext.experiments.settings import make_config, parse_setting, settings_of_table
from xdeepint_ext.experiments.tables import TABLES
from xdeepint_ext.losses import CombinedLoss, JRCLoss, ListCrossEntropyLoss
from xdeepint_ext.models import GroupRanker, TwoLogitRanker, UserProjection
from xdeepint_ext.models.baselines import DCNV2, DNN
from xdeepint_ext.schema import Feature, Schema

SMALL = {"backbone": "dnn", "width": 4, "units": (8,), "num_levels": 2, "codebook_size": 3}
ORDERED = Schema(
    [
        Feature("user", role=("user", "group"), dtype="int"),
        Feature("item", role="item", dtype="int"),
        Feature("visit", role="session"),
        Feature("click", "numeric", "label"),
    ]
)


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Prepared days: `first`, and `second`, which has the ids of the first and a user that it does not know."""
    made, folder = {}, tmp_path_factory.mktemp("days")
    for day, name in enumerate(("first", "second")):
        raw = folder / f"raw_{name}"
        raw.mkdir()
        for number, (split, rows) in enumerate({"train": 300, "valid": 100, "test": 100}.items()):
            frame = clicks(10 * day + number, rows)[["user", "item", "click"]]
            if split == "test":
                frame.loc[:9, "user"] = 99  # cold
            frame["visit"] = [f"{user}_{item % 2}" for user, item in zip(frame["user"], frame["item"], strict=True)]
            frame.to_csv(raw / f"{split}.csv", index=False)
        ORDERED.save(raw)
        known = {"vocabulary_from": made["first"]} if day else {}
        made[name] = str(folder / name)
        prepare("csv", raw_dir=raw, output_dir=made[name], num_shards=1, **known)
    return made


@pytest.fixture(scope="module")
def config(config_of, days):
    """A function that makes the config of a second's run of model groupce."""

    def make(**changes):
        base = {"data_dir": days["first"], "model": "groupce", "batch_size": 50, "max_steps": 12, "eval_every": 4}
        options = {**SMALL, **changes.pop("model_options", {})}
        return config_of(**{**base, **changes}, model_options=options)

    return make


# -- objectives -------------------------------------------------------------------------------------------------------


def test_each_objective_is_its_model_and_loss():
    made = {objective: GroupCEOptions(objective=objective, **SMALL) for objective in OBJECTIVES}
    kinds = {objective: type(options.make(schema())) for objective, options in made.items()}
    assert kinds == {**dict.fromkeys(OBJECTIVES, DNN), "groupce": GroupRanker, "jrc": TwoLogitRanker}
    loss = dataclasses.replace(made["list_ce"], alpha=0.75).loss(grouped=True)
    assert isinstance(loss, CombinedLoss) and loss.terms == [0.75, 0.25] and loss.side_inputs == ("group_ids",)
    lists = loss.losses[1]
    assert isinstance(lists, ListCrossEntropyLoss) and (lists.transform, lists.grouped) == ("sigmoid", True)
    assert made["softmax_ce"].loss(grouped=False).terms == [0.9, pytest.approx(0.1)]  # Lin et al.
    jrc = made["jrc"].loss(grouped=False)
    assert isinstance(jrc, JRCLoss) and (jrc.alpha, jrc.grouped) == (0.4, False)
    assert made["groupce"].loss(grouped=False) is made["logloss"].loss(grouped=False) is None


def schema():
    return Schema(
        [
            Feature("user", role=("user", "group"), num_values=5),
            Feature("item", role="item", num_values=4),
            Feature("click", "numeric", "label"),
        ]
    )


@pytest.mark.parametrize("objective", ["groupce", "jrc", "list_ce"])
def test_a_projection_is_any_objective_s(objective):
    model = GroupCEOptions(objective=objective, projection=3, **SMALL).make(schema())
    projected = model if objective == "list_ce" else model.backbone
    assert isinstance(projected, UserProjection) and projected.bottleneck.units == 3


def test_hyper_parameters_reach_the_quantiser():
    options = GroupCEOptions(**{**SMALL, "backbone": "dcnv2"}, decay=0.5, expire_below=0.0, random_codebooks=True)
    model = options.make(schema())
    layer = model.quantizer
    assert isinstance(model.backbone, DCNV2)
    assert (layer.num_levels, layer.codebook_size, layer.decay, layer.expire_below) == (2, 3, 0.5, 0.0)
    assert layer.init.stddev == 4**-0.5


def test_what_an_objective_does_not_have_is_refused(config):
    with pytest.raises(ValueError, match=r"alpha is of the objectives \['jrc', .*\], got 0.5 for groupce"):
        GroupCEOptions(alpha=0.5)
    with pytest.raises(ValueError, match="grouping must be batch for objective groupce, which finds groups of its own"):
        Inputs(config(grouping="user")).loss()
    with pytest.raises(ValueError, match="grouping=user is for the losses on lists of model groupce, not lr"):
        Inputs(dataclasses.replace(config(grouping="user"), model="lr", model_options={})).loss()


def test_the_tables_and_searches_can_be_read():
    for name in ("objectives", "batch_size", "levels", "codes", "changes", "grouping"):
        for config in settings_of_table(TABLES[f"groupce_{name}"], {"data_dir": "d"}).values():
            assert config.options.make(schema()).tasks == ("click",)
            config.options.loss(grouped=config.grouping != "batch")
    trials = {name: SEARCHES["kuairand_groupce"][name] for name in OBJECTIVES}
    assert {len(found) for found in trials.values()} == {4}
    for name, found in trials.items():
        for text in found:
            make_config({"data_dir": "d", **VARIANTS.get(name, {"model": name}), **parse_setting("groupce", text)})


# -- reading ----------------------------------------------------------------------------------------------------------


def test_groups_are_read_together_in_an_order_of_each_epoch():
    groups = np.array([2, 0, 1, 0, 2, 2, 1, 0])
    batches = memory.batches(tf.range(8), 8, shuffle=True, epochs=6, seed=3, groups=groups)
    orders = [batch.numpy() for batch in batches]
    for order in orders:
        assert sorted(order) == list(range(8))
        assert np.count_nonzero(np.diff(groups[order])) == 2  # three runs
    assert len({tuple(groups[order]) for order in orders}) > 1 and len({tuple(order) for order in orders}) == 6
    again = memory.batches(tf.range(8), 8, shuffle=True, epochs=6, seed=3, groups=groups, start_step=4)
    np.testing.assert_array_equal(next(iter(again)), orders[4])
    with pytest.raises(ValueError, match=r"groups must be a number for each of 8 records, got shape \(3,\)"):
        memory.batches(tf.range(8), 8, shuffle=True, groups=groups[:3])


@pytest.mark.parametrize(("order", "column"), [("user", "group_ids"), ("session", "session_ids")])
def test_a_run_reads_a_user_s_or_session_s_records_together(config, order, column):
    batches = Inputs(config(order=order)).train(0).take(6)
    ids = np.concatenate([features[column].numpy() for features, _ in batches])
    assert np.count_nonzero(np.diff(ids)) == len(np.unique(ids)) - 1


def test_lists_of_sessions_take_the_place_of_users_in_training_alone(config):
    inputs = Inputs(config(grouping="session", model_options={"objective": "list_ce"}))
    features, _ = next(iter(inputs.train(0)))
    np.testing.assert_array_equal(features["group_ids"], features["session_ids"])
    test = inputs.batches("test")[0][0]
    assert len(np.unique(test["group_ids"])) < len(np.unique(test["session_ids"]))
    dataset = tf.data.Dataset.range(1)
    assert with_lists(dataset, "user") is dataset


def test_what_the_data_cannot_tell_is_refused(config, data_dirs):
    with pytest.raises(ValueError, match="order=session needs a feature with the role session in the schema"):
        Inputs(config(data_dir=data_dirs["one"], order="session"))
    with pytest.raises(ValueError, match="order=user needs the records in memory: say --cache"):
        Inputs(config(order="user", cache=False))
    with pytest.raises(ValueError, match=r"cold_start must be numbers >= 0, ascending, got \(10, 0\)"):
        config(cold_start=(10, 0))


# -- runs -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def finished(config):
    return execute(config(cold_start=(0, 20), model_options={"codebook_size": 2}))


def test_cold_users_are_a_slice(finished):
    found = {name: value for name, value in finished.metrics.items() if name.startswith("test.slice")}
    assert found["test.slice.training_records=0.rows"] == 10
    test = pd.read_csv(os.path.join(os.path.dirname(finished.config.data_dir), "raw_first", "test.csv"))
    train = pd.read_csv(os.path.join(os.path.dirname(finished.config.data_dir), "raw_first", "train.csv"))
    counts = test["user"].map(train["user"].value_counts()).fillna(0)
    assert found["test.slice.training_records=1-20.rows"] == ((counts >= 1) & (counts <= 20)).sum()
    assert found["test.slice.training_records=21+.rows"] == (counts > 20).sum() > 0
    assert name_of("slice.training_records=1-20.gauc") == "GAUC, training records 1-20"


def test_the_history_says_how_many_users_change_their_codes(finished):
    first, *others = finished.state.now.history
    assert "valid_codes_changed_1" not in first
    for entry in others:
        assert 0 <= entry["valid_codes_changed_1"] <= entry["valid_codes_changed_2"] <= 1
    assert len(finished.state.now.codes) == 12  # all users
    before, after = np.array([[0, 1], [0, 1], [2, 1], [1, 1]]), np.array([[0, 1], [0, 2], [1, 1], [1, 1]])
    assert changed_shares(before, after) == {"codes_changed_1": 1 / 4, "codes_changed_2": 1 / 2}


def test_a_user_is_taken_once():
    batches = [({"a": tf.constant([[1], [1], [2]]), "b": tf.constant([[0], [0], [0]])},) for _ in range(3)]
    batches.append(({"a": tf.constant([[1], [3]]), "b": tf.constant([[5], [0]])},))
    for most, expected in ((None, [[1, 0], [2, 0], [1, 5], [3, 0]]), (3, [[1, 0], [2, 0], [1, 5]])):
        found = different_users(batches, ("a", "b"), most)
        np.testing.assert_array_equal(np.column_stack([found["a"], found["b"]]), expected)


def test_code_use_is_what_loops_count(finished):
    batches = finished.inputs.batches("test")
    found = code_use(finished.model, batches)
    user = np.concatenate([finished.model.fields.split(finished.model.embed(x))[0].numpy() for x, _ in batches])
    codebooks, residual = finished.model.quantizer.codebooks.numpy(), user.astype(np.float64)
    whole, codes = (residual**2).sum(), []
    for level, codebook in enumerate(codebooks):
        codes.append(((residual[:, None] - codebook) ** 2).sum(axis=2).argmin(axis=1))
        residual = residual - codebook[codes[-1]]
        np.testing.assert_array_equal(found.counts[level], np.bincount(codes[-1], minlength=2))
        assert found.groups[level] == len({*zip(*codes, strict=True)})
        assert found.errors[level] == pytest.approx((residual**2).sum() / whole, rel=1e-4)
    assert len(found.users) == len(np.unique(user, axis=0)) == len(found.codes)


def test_perplexity_and_dead_codes_by_hand():
    counts = np.array([[2, 2, 0, 0], [1, 1, 1, 1]])
    found = CodeUse(counts, np.zeros(2), np.zeros(2), np.zeros((0, 1)), np.zeros((0, 2)))
    np.testing.assert_allclose(found.perplexity, [2, 4])
    np.testing.assert_array_equal(found.dead, [1 / 2, 0])


def test_the_principal_plane_holds_what_lies_in_a_plane():
    random = np.random.default_rng(0)
    inside = random.normal(size=(40, 2)) * [5, 1]
    axes = np.linalg.qr(random.normal(size=(6, 2)))[0]
    places, shares = principal_plane(inside @ axes.T + 3)
    gaps = lambda x: np.linalg.norm(x[:, None] - x, axis=2)  # noqa: E731
    np.testing.assert_allclose(gaps(places), gaps(inside), atol=1e-9)
    assert shares.sum() == pytest.approx(1) and shares[0] > shares[1]
    np.testing.assert_array_equal(principal_plane(np.ones((3, 2)))[1], [0, 0])


def test_pulls_are_the_gradients_of_loops(finished):
    """-1/C sum_i y_i log(p_i / sum_j p_j) has the derivative p_k (1 - p_k) / sum_j p_j at a negative k."""
    model, (batch,) = finished.model, finished.inputs.train(0).take(1)
    features, labels = batch
    found = pulls(model, [batch])["click"]
    p = 1 / (1 + np.exp(-model(features).numpy()[:, 0].astype(np.float64)))
    y, codes = labels.numpy()[:, 0], model.user_codes(features).numpy()
    for level in range(2):
        sums, scored, negatives = [], 0.0, 0
        for prefix in np.unique(codes[:, : level + 1], axis=0):
            rows = (codes[:, : level + 1] == prefix).all(axis=1)
            if 0 < y[rows].sum() < rows.sum():
                gradient = (p * (1 - p))[rows & (y == 0)] / p[rows].sum()
                sums.append(gradient.sum())
                scored += (gradient * p[rows & (y == 0)]).sum()
                negatives += len(gradient)
        assert found.groups[level] == len(sums)
        assert found.negatives[level] == negatives / len(sums)
        assert found.pull[level] == pytest.approx(np.mean(sums), rel=1e-4)
        assert found.probability[level] == pytest.approx(scored / sum(sums), rel=1e-4)
    assert (found.random_pull > 0).all()


def test_the_report_shows_codes_groups_and_negatives(finished, tmp_path):
    report.write(finished, str(tmp_path / "report.html"))
    page = (tmp_path / "report.html").read_text()
    titles = ("Codes of the users of test", "Codes and groups in training", "Negatives by level", "Slices")
    assert all(f"<h2>{title}</h2>" in page for title in titles)
    names = pictures(page)
    assert "Users in the plane of greatest variance, coloured by first code" in names
    assert "Share of the records of each code by level" in names
    assert {"Perplexity of a batch&#x27;s codes", "Rows of a group with both classes"} <= set(names)
    assert {"Users with other codes than at the last evaluation", "Group and auxiliary losses"} <= set(names)
    assert {"Pull at negatives by level", "Probability of negatives by level", "Reliability diagram"} <= set(names)


def test_negatives_of_levels_without_groups_are_not_drawn():
    none, some = np.full(2, np.nan), np.array([0.5, np.nan])
    alone = group_report._negatives(Pulls(np.zeros(2), none, none, none, none, none), 1)
    assert not pictures(alone) and alone.count("–") == 10
    assert len(pictures(group_report._negatives(Pulls(np.array([1.0, 0]), some, some, some, some, some), 1))) == 2


# -- codebook health --------------------------------------------------------------------------------------------------


@pytest.mark.slow
def test_the_health_of_codebooks_is_a_table(config, tmp_path):
    options = codebook_health.Options(sizes=(3,), batch_sizes=(100,), output=str(tmp_path / "health.md"))
    made = config()
    given = {"data_dir": made.data_dir, "optimizer": "adam", "learning_rate": 0.02, **{**SMALL, "units": (8,)}}
    text = codebook_health.run(options, given)
    assert (tmp_path / "health.md").read_text() == text
    head, _, first, second = text.splitlines()
    assert head.startswith("| K | batch | codebooks | steps | dead |")
    assert first.startswith("| 3 | 100 | as they are | 3 | 0.0% / 0.0% |")
    assert second.startswith("| 3 | 100 | no expiry, random start | 3 |")


def test_what_is_not_as_it_should_be_is_said():
    none = np.zeros(2)
    fine = Health(1, none, none, np.array([0.5, 0.4]), none)
    assert fine.failures == []
    bad = Health(1, np.array([0, 0.1]), np.array([0.01, 0]), np.array([0.5, 0.5]), none)
    assert bad.failures == ["more than 5% dead", "1% or more expire", "the error does not fall"]


def test_no_seeds_are_refused():
    with pytest.raises(ValueError, match="--seeds must be >= 1, got 0"):
        codebook_health.Options(seeds=0)


def test_of_several_seeds_the_worst_shares_count():
    one, other = np.array([0.1, 0.0]), np.array([0.0, 0.2])
    found = codebook_health.combine([Health(7, one, other, one, one), Health(7, other, one, other, other)])
    for worst in (found.dead, found.expired):
        np.testing.assert_array_equal(worst, [0.1, 0.2])
    for mean in (found.errors, found.changed):
        np.testing.assert_allclose(mean, [0.1 / 2, 0.2 / 2])


# -- days that follow -------------------------------------------------------------------------------------------------


def test_a_day_goes_on_where_the_last_one_ended(config, days, tmp_path):
    of_a_day = {"early_stopping": "none", "evaluate": ("valid",), "max_steps": 6}
    first = config(model_dir=str(tmp_path / "first"), **of_a_day)
    run(first)
    day = {"data_dir": days["second"], "warm_start": first.model_dir, "max_steps": None, "epochs": 1}
    following = execute(first.replace(model_dir="", **day))
    assert int(following.model.quantizer.step) == 6 + 6  # an epoch of the second day is 6 steps: no start by k-means
    assert int(following.model.optimizer.iterations) == 12


def test_what_does_not_follow_is_refused(config, data_dirs, days, tmp_path):
    stopped = config(model_dir=str(tmp_path / "stopped"), early_stopping="none", evaluate=("valid",), max_steps=2)
    run(stopped)
    following = stopped.replace(model_dir="", warm_start=stopped.model_dir)
    with pytest.raises(ValueError, match=r"warm_start: --width is 4 in .*stopped, and 8 here"):
        execute(following.replace(model_options={"width": 8}))
    with pytest.raises(DataError, match=r"warm_start: the features of .* are not those of .*; only here: \['age', "):
        execute(following.replace(data_dir=data_dirs["one"]))
    with pytest.raises(ValueError, match="warm_start: nowhere holds no finished run"):
        execute(following.replace(warm_start="nowhere"))


def test_ids_are_taken_over(days):
    def tables(name):
        with open(os.path.join(days[name], "manifest.json")) as stream:
            return json.load(stream)["tables"]

    assert tables("first") == tables("second")
    raw = os.path.join(os.path.dirname(days["first"]), "raw_second")
    with pytest.raises(DataError, match=r"vocabulary_from: the features must be those of .*, but \['visit'\] differ"):
        prepare("csv", raw_dir=raw, output_dir=f"{raw}_other", vocabulary_from=_without_visit(days, raw))


def _without_visit(days, raw):
    folder = f"{raw}_without"
    os.makedirs(f"{folder}_raw")
    for split in ("train", "valid", "test"):
        pd.read_csv(os.path.join(raw, f"{split}.csv")).drop(columns="visit").to_csv(
            f"{folder}_raw/{split}.csv", index=False
        )
    Schema([feature for feature in ORDERED if feature.name != "visit"]).save(f"{folder}_raw")
    prepare("csv", raw_dir=f"{folder}_raw", output_dir=folder, num_shards=1)
    return folder
