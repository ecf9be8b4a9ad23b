"""The synthetic data's best reachable scores are what they are said to be."""

import pathlib

import numpy as np
import pytest

from tests.data.prepared import records
from xdeepint_ext.data.loaders.synthetic import Synthetic, best_scores
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Schema


def _rows(**options: float) -> tuple[Synthetic, dict[str, np.ndarray], np.ndarray]:
    config = Synthetic(**options)
    source = config.open(None, seed=3)
    parts = [source.parse(block) for block in source.blocks()]
    extra = {name: np.concatenate([part.extra[name] for part in parts]) for name in ("probability", "label")}
    names = [f"field_{f:02d}" for f in range(config.fields)]
    ids = np.concatenate([np.array([part.columns[name] for name in names]).astype(int).T for part in parts])
    return config, extra, ids


def test_best_auc_is_the_share_of_pairs_in_order() -> None:
    probability = np.array([0.1, 0.4, 0.4, 0.8, 0.9])
    label = np.array([0, 1, 0, 0, 1])
    pairs = [
        (p, q)
        for p, y in zip(probability, label, strict=True)
        if y
        for q, z in zip(probability, label, strict=True)
        if not z
    ]
    auc = np.mean([(p > q) + 0.5 * (p == q) for p, q in pairs])
    found = best_scores({"probability": probability, "label": label})
    assert found["best_auc"] == pytest.approx(auc)
    expected = -np.mean(np.log([0.9, 0.4, 0.6, 0.2, 0.9]))
    assert found["best_logloss"] == pytest.approx(expected)
    assert "best_auc" not in best_scores({"probability": probability, "label": np.ones(5)})
    assert best_scores({}) == {}


def test_labels_have_the_stated_probabilities() -> None:
    _, extra, _ = _rows(rows=100_000)
    for low in np.arange(0, 1, 0.1):
        inside = (extra["probability"] >= low) & (extra["probability"] < low + 0.1)
        p = extra["probability"][inside]
        error = np.sqrt((p * (1 - p)).sum()) / len(p)
        assert abs(extra["label"][inside].mean() - p.mean()) < 4 * error


def test_ids_follow_zipfs_law() -> None:
    config, _, ids = _rows(rows=100_000, zipf=1.5, ids_per_field=20)
    weights = np.arange(1, 21) ** -1.5
    expected = weights / weights.sum()
    for field in range(config.fields):
        shares = np.bincount(ids[:, field], minlength=20) / len(ids)
        np.testing.assert_allclose(shares, expected, atol=0.008)


def test_the_log_odds_are_the_planted_polynomial() -> None:
    """With few ids every combination of a product's ids is there many times, and has one probability."""
    config, extra, ids = _rows(rows=20_000, fields=5, ids_per_field=3, order=2, interactions=2, zipf=0.0)
    cells: dict[tuple[int, ...], set[float]] = {}
    for row, p in zip(ids[:, :4].tolist(), extra["probability"], strict=True):
        cells.setdefault(tuple(row), set()).add(round(float(p), 12))
    assert len(cells) == 3**4
    assert all(len(found) == 1 for found in cells.values())
    score = {cell: config.temperature * np.log(p / (1 - p)) for cell, (p,) in cells.items()}
    # z(a, b, c, d) = s(a, b) + t(c, d): the mixed difference over the two pairs vanishes; inside a pair it is a
    # product, so the 2 x 2 differences have rank one.
    for a, b, c, d in cells:
        assert score[a, b, c, d] - score[0, 0, c, d] - score[a, b, 0, 0] + score[0, 0, 0, 0] == pytest.approx(
            0, abs=1e-9
        )
    table = np.array([[score[a, b, 0, 0] for b in range(3)] for a in range(3)])
    mixed = table[1:, 1:] - table[:1, 1:] - table[1:, :1] + table[0, 0]
    assert np.linalg.matrix_rank(mixed, tol=1e-9) == 1
    scores = config.temperature * np.log(extra["probability"] / (1 - extra["probability"]))
    assert scores.mean() == pytest.approx(0, abs=0.05)
    assert scores.std() == pytest.approx(1, abs=0.05)


def test_a_linear_model_cannot_learn_it() -> None:
    """Least squares on one-hot ids, which has the best linear score up to the link, stays far below the best AUC."""
    config, extra, ids = _rows(rows=60_000)
    columns = [ids == value for value in range(config.ids_per_field)]
    design = np.concatenate([c.astype(np.float32) for c in columns], 1)
    train, test = slice(0, 50_000), slice(50_000, None)
    gram = design[train].T @ design[train] + np.eye(design.shape[1])
    weights = np.linalg.solve(gram, design[train].T @ (extra["label"][train] - extra["label"][train].mean()))
    linear = best_scores({"probability": design[test] @ weights, "label": extra["label"][test]})["best_auc"]
    best = best_scores({name: values[test] for name, values in extra.items()})["best_auc"]
    assert best > 0.8
    assert linear < best - 0.15


def test_prepared_directory(tmp_path: pathlib.Path) -> None:
    manifest = prepare("synthetic", output_dir=tmp_path / "out", rows=3000, fields=4, order=2, interactions=1, seed=9)
    assert {split: manifest.records(split) for split in manifest.splits} == {
        split: len(records(tmp_path / "out", split)) for split in ("train", "valid", "test")
    }
    assert sum(manifest.records(split) for split in manifest.splits) == 3000
    assert manifest.notes["interacting_fields"] == [["field_00", "field_01"]]
    assert 0.5 < manifest.notes["best_auc"] < 1
    schema = Schema.load(tmp_path / "out")
    assert [f.name for f in schema.inputs] == [f"field_{f:02d}" for f in range(4)]
    assert schema.tasks == ("label",)
    assert len({shard.file for shard in manifest.shards("train")}) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"rows": 0}, "rows must be >= 1, got 0"),
        ({"order": 4, "interactions": 3}, r"order \* interactions must be <= fields, got 4 \* 3 > 10"),
        ({"temperature": -1.0}, "must be >= 0"),
        ({"raw_dir": "somewhere"}, "no raw files"),
        ({"valid_fraction": 1.0}, "leave something to train on"),
    ],
)
def test_options_out_of_range(tmp_path: pathlib.Path, options: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        prepare("synthetic", output_dir=tmp_path / "out", **options)
    assert not (tmp_path / "out").exists()
