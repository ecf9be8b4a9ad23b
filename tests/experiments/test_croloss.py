"""Retrieval runs: metrics, identities, going on, comparisons, the choice of a weighting, figures."""

import dataclasses
import json

import numpy as np
import pytest

from tests.data.raw_sequences import write_lightgcn
from tests.serving import c_api
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.experiments import Config, croloss_figures, flags, kinds, training, weighting
from xdeepint_ext.experiments.compare import Options
from xdeepint_ext.experiments.compare import run as compare
from xdeepint_ext.experiments.results import Results
from xdeepint_ext.experiments.retrieval_tables import RETRIEVAL_ROWS, RETRIEVAL_SEARCHES
from xdeepint_ext.experiments.running import execute, run
from xdeepint_ext.experiments.settings import parse_setting, settings_of_table
from xdeepint_ext.experiments.tables import TABLES

USERS, ITEMS, EACH = 60, 40, 9
FLAGS = {"width": 8, "negatives": 16, "objective": "ce"}


@pytest.fixture(scope="module")
def raw_dir(tmp_path_factory):
    """Users like the items of their own parity."""
    random = np.random.default_rng(0)
    drawn = {u: (u % 2 + 2 * random.choice(ITEMS // 2, EACH + 2, replace=False)).tolist() for u in range(USERS)}
    train, test = ({u: items[part] for u, items in drawn.items()} for part in (slice(2, None), slice(2)))
    return write_lightgcn(tmp_path_factory.mktemp("raw"), train, test)


@pytest.fixture(scope="module")
def data_dir(raw_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("users") / "data"
    prepare("gowalla", raw_dir=raw_dir, output_dir=folder)
    return str(folder)


def config(data_dir, model="mf", **changes):
    options = {**FLAGS, **changes.pop("model_options", {})}
    given = {"epochs": 12, "batch_size": 32, "learning_rate": 0.03, "early_stopping": "recall_at_10", **changes}
    return Config(
        data_dir=data_dir, optimizer="adam", progress=False, report=False, model=model, model_options=options, **given
    )


def test_a_run_finds_what_users_like(data_dir):
    found = execute(config(data_dir))
    assert found.metrics["test.recall_at_20"] > 0.8  # by chance: 20 of some 31 items that are left
    assert found.metrics["test.rows"] == USERS and found.metrics["test.targets_mean"] == 2
    values = found.predictions["test"]
    pooled = (values.values["recall_at_10"] * values.targets).sum() / values.targets.sum()
    assert found.metrics["test.pooled_recall_at_10"] == pytest.approx(pooled)
    assert "test.recall_at_50" not in found.metrics  # the catalogue has 40 items
    again = execute(config(data_dir))
    assert again.metrics["test.ndcg_at_10"] == found.metrics["test.ndcg_at_10"]


@pytest.mark.parametrize(
    ("of_ce", "of_croloss"),
    [
        ({}, {}),
        # With logits that stand for the whole catalogue it is the rank's unbiased estimate.
        ({"whole_catalogue": True, "mask_hits": False}, {"estimator": "additive", "mask_hits": False}),
    ],
)
def test_cross_entropy_and_exp_with_alpha_one_are_one_run(data_dir, of_ce, of_croloss):
    """Specification 6.3, by the command's own path: the curves of loss and of recall."""
    curves = []
    for options in (
        {"objective": "ce", **of_ce},
        {"objective": "croloss", "kernel": "exp", "alpha": 1.0, **of_croloss},
    ):
        history = execute(config(data_dir, epochs=3, model_options=options)).state.now.history
        curves.append(
            [[entry[name] for name in ("train_loss", "valid_recall_at_10", "valid_ndcg_at_20")] for entry in history]
        )
    np.testing.assert_allclose(curves[1], curves[0], rtol=1e-4)


@pytest.mark.parametrize("model", ["pooled", pytest.param("sasrec", marks=pytest.mark.slow)])
def test_models_with_histories(data_dir, model):
    options = {"draw": "windows" if model == "sasrec" else "pairs", "first_target": 1, "objective": "croloss"}
    found = execute(config(data_dir, model, features=("items", "item"), epochs=2, model_options=options))
    assert np.isfinite(found.metrics["test.ndcg_at_10"])


def test_a_run_goes_on_where_it_was_and_exports(data_dir, tmp_path, monkeypatch):
    whole = run(config(data_dir, epochs=4, model_dir=str(tmp_path / "whole")))
    half = config(data_dir, epochs=4, model_dir=str(tmp_path / "half"))

    class Killed(Exception):
        pass

    ask, seen = training._ask, []

    def stopping(*arguments):
        ask(*arguments)
        seen.append(1)
        if len(seen) == 3:
            raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(training, "_ask", stopping)
        run(half)
    found = run(dataclasses.replace(half, export=True))
    assert {n: v for n, v in found.items() if n.startswith("test.")} == {
        n: v for n, v in whole.items() if n.startswith("test.")
    }
    served = c_api.run_signature(tmp_path / "half" / "saved_model" / "1", "serving_default", {"user": np.arange(USERS)})
    odd = (served["items"][:, :5] % 2).mean(axis=1)
    assert odd[1::2].mean() > odd[::2].mean() + 0.1


def test_report_and_flags(data_dir, tmp_path):
    pytest.importorskip("matplotlib")
    made = config(data_dir, epochs=1, model_dir=str(tmp_path / "run"))
    run(dataclasses.replace(made, report=True))
    assert "<h2>Retrieval on test</h2>" in (tmp_path / "run" / "report.html").read_text()
    text = (tmp_path / "run" / "flags.txt").read_text()
    assert text.startswith("# python -m xdeepint_ext.experiments.croloss --flagfile=flags.txt\n--model=mf\n")
    assert json.loads((tmp_path / "run" / "metrics.json").read_text())["valid.recall_at_10"] >= 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model": "dnn", "model_options": None}, "holds users with their items, which 'dnn'"),
        ({"early_stopping": "auc"}, "early_stopping must be one of"),
        ({"slices": ("user",)}, "slices is of single examples"),
        ({"jit_compile": True}, "jit_compile is of a model's trunk"),
        ({"export_tables": "int8"}, "export_tables=int8: exports of retrieval models keep float32"),
        ({"model_options": {"draw": "windows"}}, "draw=windows needs"),
        ({"model_options": {"negatives": 0}}, "something to be compared with"),
    ],
)
def test_what_cannot_be_run(data_dir, changes, message):
    if changes.get("model") == "dnn":
        wrong = Config(data_dir=data_dir, model="dnn", progress=False, report=False)
    else:
        wrong = config(data_dir, **changes)
    with pytest.raises(ValueError, match=message):
        execute(wrong)


def test_more_negatives_than_items(data_dir):
    found = execute(config(data_dir, epochs=1, model_options={"negatives": 10 * ITEMS, "objective": "crolambda"}))
    assert np.isfinite(found.metrics["valid.recall_at_10"])


@pytest.fixture(scope="module")
def compared(data_dir, tmp_path_factory):
    """Two rows of a table over two seeds."""
    folder = tmp_path_factory.mktemp("compared")
    rows = {
        "cross-entropy": {"objective": "ce"},
        "sigmoid alpha=0.5": {"objective": "croloss", "kernel": "sigmoid", "alpha": 0.5},
    }
    rows |= {f"sigmoid alpha={a}": {"objective": "croloss", "kernel": "sigmoid", "alpha": a} for a in (1.0, 2.0)}
    rows["exp alpha=1.0"] = {"objective": "croloss", "kernel": "exp"}
    base = {"model": "mf", "width": 8, "negatives": 16, "epochs": 2, "batch_size": 64, "optimizer": "adam"}
    from xdeepint_ext.experiments.tables import Table

    TABLES["of_this_test"] = Table(rows, base={**base, "learning_rate": 0.03, "early_stopping": "recall_at_20"})
    options = Options(
        table="of_this_test",
        results=str(folder / "runs.csv"),
        output_dir=str(folder),
        seeds=2,
        choose_by="ndcg_at_10",
        plot=False,
    )
    text = compare(options, {"data_dir": data_dir})
    del TABLES["of_this_test"]
    return folder, text


@pytest.mark.slow
def test_a_table_of_losses(compared):
    folder, text = compared
    assert "NDCG@20" in text and "paired bootstrap over users" in text
    header = text.splitlines()[0].split(" | ")
    assert header[2:5] == ["Recall@10", "NDCG@10", "Recall@20"], "what chooses stands first"
    assert [name.split(" − ")[0] for name in header if "−" in name] == ["Recall@10", "NDCG@10"]
    rows = [row for row in Results(str(folder / "runs.csv")) if row["row"] == "cross-entropy"]
    exp = [row for row in Results(str(folder / "runs.csv")) if row["row"] == "exp alpha=1.0"]
    for one, other in zip(rows, exp, strict=True):
        assert float(one["test.recall_at_20"]) == pytest.approx(float(other["test.recall_at_20"]), abs=0.02)


def test_what_a_table_of_another_criterion_shows():
    assert kinds.USERS.judged_by("recall_at_50").compared == ("recall_at_50", "ndcg_at_50")
    assert sorted(kinds.USERS.judged_by("ndcg_at_10").columns) == sorted(kinds.USERS.columns)
    for kind in (kinds.ROWS, kinds.LISTS):
        assert [kind.judged_by(name) for name in kind.criteria] == [kind] * len(kind.criteria)


@pytest.mark.slow
def test_the_weighting_of_an_n(compared):
    folder, _ = compared
    found = weighting.best_weightings(str(folder / "runs.csv"), 10)
    means = {}
    for row in Results(str(folder / "runs.csv")):
        means.setdefault(row["row"], []).append(float(row["valid.recall_at_10"]))
    assert found[0].row == max(means, key=lambda name: np.mean(means[name])) or found[0].mean == found[1].mean
    assert [w.mean for w in found] == sorted([w.mean for w in found], reverse=True) and found[0].seeds == 2
    assert sum(w.seeds for w in found) == sum(map(len, means.values()))
    with pytest.raises(ValueError, match=r"no run in .* has valid\.recall_at_7; measured are"):
        weighting.best_weightings(str(folder / "runs.csv"), 7)
    assert weighting.main(["--results", str(folder / "runs.csv"), "--n", "10"]) == 0
    assert weighting.main(["--results", str(folder / "absent.csv"), "--n", "10"]) == 1


@pytest.mark.slow
def test_figures_of_the_runs(compared, tmp_path):
    pytest.importorskip("matplotlib")
    folder, _ = compared
    assert croloss_figures.main(["--results", str(folder / "runs.csv"), "--output_dir", str(tmp_path)]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "figure_3.csv",
        "figure_3.svg",
        "figure_4.csv",
        "figure_4.svg",
    ]
    lines = (tmp_path / "figure_4.csv").read_text().splitlines()
    assert lines[0] == "kernel,alpha,n,mean,deviation" and {line.split(",")[1] for line in lines[1:]} == {
        "0.5",
        "1.0",
        "2.0",
    }


def test_a_table_of_data_without_a_valid_part(raw_dir, tmp_path):
    """As published figures of the test part want it: all of the training part is trained on."""
    prepare("gowalla", raw_dir=raw_dir, output_dir=tmp_path / "data", valid_fraction=0)
    options = Options(
        models=("mf_ce",),
        searches="none",
        results=str(tmp_path / "runs.csv"),
        output_dir=str(tmp_path),
        seeds=1,
        plot=False,
    )
    given = {"data_dir": str(tmp_path / "data"), "early_stopping": "none", "epochs": 1, "optimizer": "adam", "width": 4}
    with pytest.raises(ValueError, match=r"reference: .* has no valid part to choose it by; name one of the rows"):
        compare(options, given)
    assert "named by --reference" in compare(dataclasses.replace(options, reference="mf_ce"), given)
    [row] = Results(str(tmp_path / "runs.csv"))
    assert row["test.recall_at_20"] and not row.get("valid.recall_at_20")


@pytest.mark.parametrize("name", ["gowalla", "amazon_beauty", "amazon_sports", "croloss_books", "croloss_taobao"])
def test_flagfiles_make_configs(name):
    model = "mf" if name == "gowalla" else "pooled"
    made = flags.parse(model, ["--data_dir=D", f"--flagfile={name}"])
    if name == "croloss_books":  # the paper's
        assert (made.batch_size, made.options.negatives, made.options.width, made.learning_rate) == (
            256,
            2560,
            32,
            0.02,
        )


def test_searches_and_tables_are_settings():
    for models in RETRIEVAL_SEARCHES.values():
        sizes = {name: len(trials) for name, trials in models.items()}
        assert set(sizes.values()) == {6}, sizes
        for name, trials in models.items():
            assert len({str(parse_setting(name.partition("_")[0], text)) for text in trials}) == 6
    for name in ("gowalla_losses", *(f"amazon_beauty_croloss_{name}" for name in RETRIEVAL_ROWS)):
        assert settings_of_table(TABLES[name], {"data_dir": "D"})
