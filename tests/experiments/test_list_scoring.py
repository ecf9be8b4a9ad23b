"""Recall and NDCG of the test sets, against loops over lists and over the catalogue."""

import numpy as np
import pytest
import tensorflow as tf

from tests.data.test_lists_files import rows, written  # noqa: F401 - fixtures
from xdeepint_ext.data import read_catalogue, read_lists
from xdeepint_ext.experiments import list_scoring
from xdeepint_ext.experiments.list_predictions import SETS, ListPredictions, compare, score
from xdeepint_ext.experiments.list_scoring import ListRanker
from xdeepint_ext.models import TwoTower
from xdeepint_ext.models.baselines import COLD, LR

MODELS = {
    "two-tower": lambda schema: TwoTower(schema, width=4, units=[4]),
    "lr": lambda schema: LR(schema, embedding_initializer="normal"),
    "cold": lambda schema: COLD(schema, width=4, units=[5], activation="tanh"),
}


@pytest.fixture(scope="module")
def batches(written):  # noqa: F811
    """Test lists in two batches, and the schema."""
    dataset = read_lists(written[0], "test", 6, list_size=12)
    return list(dataset), dataset.preprocessor.schema


def expected(grades, scores, k):
    """(Recall@K, NDCG@K) of one list without ties."""
    best = grades[np.argsort(-scores)][:k]
    discounts = 1 / np.log2(np.arange(2, k + 2))
    ideal = np.sort(grades)[::-1][:k]
    dcg, idcg = ((2.0**found - 1) @ discounts[: len(found)] for found in (best, ideal))
    return (best > 0).sum() / (grades > 0).sum(), dcg / idcg


def check(found, name, row, grades, scores):
    for k in SETS[name].ks:
        recall, ndcg = expected(grades, scores, k)
        assert found.values[f"{name}.recall_at_{k}"][row] == pytest.approx(recall, abs=1e-9)
        assert found.values[f"{name}.ndcg_at_{k}"][row] == pytest.approx(ndcg, abs=1e-9)
    assert found.values[f"{name}.items"][row] == len(grades)
    assert found.values[f"{name}.positives"][row] == (grades > 0).sum()


@pytest.mark.parametrize("name", MODELS)
def test_every_list_of_every_set(name, batches, written):  # noqa: F811
    lists, schema = batches
    model = MODELS[name](schema)
    items = read_catalogue(written[0], schema)
    found = ListRanker(model, lambda: items)(lists, with_catalogue=True)
    everything = items["item_ids"].numpy().tolist()
    row = left_out = 0
    for features, labels in lists:
        logits, stages, grades = model(features).numpy(), features["stages"].numpy(), labels.numpy()
        for i in range(len(grades)):
            assert found.users[row] == features["group_ids"][i]
            shown = stages[i] == 0
            if len(set(grades[i][shown].tolist())) > 1:
                check(found, "impressions", row, grades[i][shown], logits[i][shown])
            else:
                left_out += 1
                assert np.isnan(found.values["impressions.ndcg_at_1"][row])
            first_two = (stages[i] == 0) | (stages[i] == 1)
            check(found, "candidates", row, grades[i][first_two], logits[i][first_two])
            user = {n: tf.repeat(features[n][i : i + 1], len(everything), axis=0) for n in ("user_id", "user_colour")}
            user |= {n: tf.repeat(features[n][i : i + 1], len(everything), axis=0) for n in ("watched", "bought")}
            of_item = dict(zip(features["item_ids"][i].numpy().tolist(), grades[i].tolist(), strict=True))
            all_grades = np.array([max(of_item.get(item, 0.0), 0.0) for item in everything])
            whole = {n: x for n, x in {**user, **items}.items() if n != "item_ids"}
            check(found, "catalogue", row, all_grades, model(whole).numpy()[:, 0])
            row += 1
    assert row == len(found.users) and left_out > 0
    means = score(found)
    inside = ~np.isnan(found.values["impressions.items"])
    assert means["impressions.lists"] == inside.sum() == row - left_out
    assert means["impressions.recall_at_1"] == pytest.approx(found.values["impressions.recall_at_1"][inside].mean())
    assert means["catalogue.items_max"] == len(everything) and means["rows"] == row
    assert means["candidates.items_median"] == np.median(found.values["candidates.items"])


def test_ties_are_averaged_in_the_catalogue(batches, written):  # noqa: F811
    """A model that knows nothing: every item is equally likely at each rank."""
    lists, schema = batches
    items = read_catalogue(written[0], schema)
    found = ListRanker(LR(schema), lambda: items)(lists, with_catalogue=True)
    np.testing.assert_allclose(found.values["catalogue.recall_at_5"], 5 / len(items["item_ids"]))


def test_splits_may_be_of_different_lengths(batches, written):  # noqa: F811
    """One ranker, so one graph: more padding changes nothing."""
    lists, schema = batches
    rank = ListRanker(MODELS["two-tower"](schema), dict)
    found, again = rank(lists), rank(read_lists(written[0], "test", 4, list_size=15))
    assert set(found.values) == set(again.values)
    for name, values in found.values.items():
        np.testing.assert_allclose(values, again.values[name], atol=1e-12, err_msg=name)


@pytest.mark.slow
def test_the_catalogue_is_ranked_for_as_many_lists_as_it_says(batches, written, monkeypatch):  # noqa: F811
    lists, schema = batches
    monkeypatch.setattr(list_scoring, "CATALOGUE_LISTS", 3)
    chosen = []
    for name in ("lr", "two-tower"):
        found = ListRanker(MODELS[name](schema), lambda: read_catalogue(written[0], schema))(lists, True)
        chosen.append(~np.isnan(found.values["catalogue.ndcg_at_5"]))
    assert chosen[0].sum() == 3 and (chosen[0] == chosen[1]).all()
    assert "catalogue.items" not in ListRanker(MODELS["lr"](schema), dict)(lists).values


def test_files_and_orders(tmp_path):
    random = np.random.default_rng(0)
    found = ListPredictions(np.arange(6), {"candidates.items": random.uniform(size=6)})
    found.save(str(tmp_path / "lists.npz"))
    again = ListPredictions.load(str(tmp_path / "lists.npz")).take(np.array([4, 1]))
    assert again.users.tolist() == [4, 1]
    np.testing.assert_array_equal(again.values["candidates.items"], found.values["candidates.items"][[4, 1]])


def predictions(seed, lists=8):
    random = np.random.default_rng(seed)
    values = {f"impressions.{metric}": random.uniform(size=lists) for metric in SETS["impressions"].metrics}
    values |= {f"impressions.{count}": np.full(lists, 2.0) for count in ("items", "positives")}
    return ListPredictions(np.arange(lists) // 2, values)


def test_differences_are_of_means_over_lists():
    a, b = predictions(0), predictions(1)
    found = compare(a, b)
    assert set(found) == {f"impressions.{metric}" for metric in SETS["impressions"].metrics}
    gaps = a.values["impressions.recall_at_1"] - b.values["impressions.recall_at_1"]
    assert found["impressions.recall_at_1"].value == pytest.approx(gaps.mean())
    with pytest.raises(ValueError, match="only predictions of the same lists can be compared"):
        compare(a, predictions(1, 6))


def test_a_set_without_a_list_is_noted():
    nothing = ListPredictions(np.arange(2), {f"impressions.{n}": np.full(2, np.nan) for n in ("items", "positives")})
    notes = []
    found = score(nothing, notes, "test.")
    assert found["impressions.lists"] == 0 and np.isnan(found["impressions.ndcg_at_2"])
    assert notes == [
        "test.impressions: no list is in this set (the impressions of lists that have two or more, not all of one "
        "grade), so there are no metrics"
    ]


def test_an_item_that_the_catalogue_lacks_is_named(batches, written):  # noqa: F811
    lists, schema = batches
    items = {name: values[:3] for name, values in read_catalogue(written[0], schema).items()}
    with pytest.raises(ValueError, match="which the catalogue has not"):
        ListRanker(LR(schema), lambda: items)(lists, with_catalogue=True)
