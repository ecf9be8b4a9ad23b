"""`--warm_start`: yesterday's rows and slots under today's ids, what starts fresh, and what is refused."""

import json
import os
import shutil

import numpy as np
import pytest
import tensorflow as tf

from tests.experiments.conftest import clicks
from xdeepint_ext import data
from xdeepint_ext.data.manifest import DataError, vocabulary_file
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.data.views import write_view
from xdeepint_ext.experiments import daily, execute, run
from xdeepint_ext.experiments.id_maps import FRESH
from xdeepint_ext.experiments.list_inputs import open_inputs
from xdeepint_ext.experiments.predictions import make_predict
from xdeepint_ext.experiments.run_scores import load_model, predict_run
from xdeepint_ext.experiments.running import make_model, process_settings
from xdeepint_ext.experiments.warm_start import warm_start
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.pruning import prune, zeroed_values
from xdeepint_ext.serving.tables import embeddings, parts

FEATURES = Schema(
    [
        Feature("user", role=("user", "group"), dtype="int"),
        Feature("item", role=("item", "item_id"), dtype="int", missing="bucket"),
        Feature("tab", role="context"),
        Feature("tags", "multi", max_length=3, width=2),
        Feature("age", "numeric", dtype="int", binning="quantile", num_bins=4),
        Feature("click", "numeric", "label"),
    ]
)
NEW_USERS = 2
SMALL = {
    "dnn": {"units": (4,)},
    "xdeepint": {"num_layers": 1, "num_subspaces": 2},
    "groupce": {"backbone": "dnn", "units": (4,), "num_levels": 2, "codebook_size": 3},
}


def write_day(raw, seed, users, rows=200):
    """The raw files of a day whose users are these, and in which item 0 is known where the seed is odd."""
    raw.mkdir(parents=True)
    for number, split in enumerate(("train", "valid")):
        frame = clicks(10 * seed + number, rows)[["user", "item", "tab", "tags", "age", "click"]]
        frame["user"] = np.random.default_rng(seed).choice(users, rows)
        if seed % 2 == 0:
            frame["item"] = frame["item"].clip(lower=1)
        frame.to_csv(raw / f"{split}.csv", index=False)
    FEATURES.save(raw)
    return raw


@pytest.fixture(scope="module")
def days(tmp_path_factory):
    """Prepared days: `first`; `second` with 10 % new users, and `second_reserved` of a first day with room for them."""
    folder, made = tmp_path_factory.mktemp("days"), {}
    raw = [write_day(folder / f"raw_{i}", i, range(i, 20 + NEW_USERS * i)) for i in (0, 1)]
    for kind, room in (("", {}), ("_reserved", {"reserve": 1.5})):
        made[f"first{kind}"], made[f"second{kind}"] = (str(folder / f"{name}{kind}") for name in ("first", "second"))
        common = {"num_shards": 1, "num_workers": 1, **room}
        prepare("csv", raw_dir=raw[0], output_dir=made[f"first{kind}"], **common)
        known = {"vocabulary_from": made[f"first{kind}"], "grow": True}
        prepare("csv", raw_dir=raw[1], output_dir=made[f"second{kind}"], **known, **common)
    return made


@pytest.fixture(scope="module")
def finished(config_of, days, tmp_path_factory):
    """A function that gives the config of a finished run on the first day: (model, optimizer, kind of the days)."""
    folder, made = tmp_path_factory.mktemp("runs"), {}

    def make(model="xdeepint", optimizer="paper", kind="", **changes):
        key = f"{model}-{optimizer}{kind}-{'-'.join(changes)}"
        if key not in made:
            base = {"data_dir": days[f"first{kind}"], "model": model, "optimizer": optimizer, "batch_size": 50}
            base |= {"early_stopping": "none", "evaluate": (), "max_steps": 5, "lambda1": 0.01}
            base |= {"cache": False, **changes}
            options = {} if model == "lr" else {"width": 4, **SMALL.get(model, {})}
            made[key] = config_of(model_dir=str(folder / key), model_options=options, **base)
            run(made[key])
        return made[key]

    return make


def started(before, data_dir, **changes):
    """(the model of a run that goes on, before its first step; how it began; steps; fresh rows by table)."""
    config = before.replace(model_dir="", data_dir=data_dir, warm_start=before.model_dir, **changes)
    inputs = open_inputs(config)
    with process_settings(config):
        model = make_model(config, inputs, 10)
        begun = {v.name: v.numpy() for v in (*model.weights, *model.optimizer.variables)}
        steps, fresh = warm_start(config, inputs, model, lambda schema: make_model(config, inputs, 10, schema))
    return model, begun, steps, fresh


def scores(model, tmp_path, data_dir, ids_of):
    """Of a directory's valid records, with the ids of another."""
    write_view(tmp_path / "view", ids_of, {"valid": [(data_dir, "valid")]})
    batches = data.read(tmp_path / "view", "valid", 50)
    return make_predict(model, tf.distribute.get_strategy())(batches).logits["click"]


def lines(data_dir, table):
    with open(vocabulary_file(os.path.join(data_dir, "vocabulary"), table), "rb") as stream:
        return stream.read().split(b"\n")[:-1]


def slots_of(model, table):
    """The slots that have a row for each of the table's."""
    found = [v for v in model.optimizer.variables if v.name.endswith(f"/{table.name}")]
    return [v for v in found if v.shape[:1] == table.shape[:1]]


def with_table(model, table):
    """The embedding layers that look the table's ids up."""
    return [layer for layer in embeddings(model) if table in parts(layer)]


def by_value(model, data_dir, feature):
    """Value -> what all variables with rows for it hold there; of old and new models in one order."""
    found = {}
    for layer in with_table(model, feature.table_name):
        key, rows = parts(layer)[feature.table_name]
        table = layer.tables[key]
        slots = [
            v for v in model.optimizer.variables if v.name.endswith(f"/{table.name}") and v.shape[0] == table.shape[0]
        ]
        for i, line in enumerate(lines(data_dir, feature.table_name)):
            found.setdefault(line, []).extend(v.numpy()[rows.start + feature.num_oov + i] for v in (table, *slots))
    return found


def whole(config):
    """A finished run's model with its slots."""
    inputs = open_inputs(config)
    with process_settings(config):
        model = make_model(config, inputs, 10)
        latest = tf.train.latest_checkpoint(os.path.join(config.model_dir, "checkpoints"))
        tf.train.Checkpoint(model=model).restore(latest).expect_partial()
    return model


CASES = [
    ("xdeepint", "paper", ""),
    pytest.param("groupce", "adam", "_reserved", marks=pytest.mark.slow),
    pytest.param("xdeepint", "paper", "_reserved", marks=pytest.mark.slow),
]
OTHERS = [name for name in daily.EXPERIMENTS if name not in ("groupce", "xdeepint")]
TOWERS = ("dat", "inttower", "ranktower", "twotower")  # whose features all have a side


@pytest.mark.parametrize(
    ("model", "optimizer", "kind"),
    [*CASES, *(pytest.param(model, "adagrad", "", marks=pytest.mark.slow) for model in OTHERS)],
)
def test_old_rows_score_exactly_as_yesterday(finished, days, tmp_path, model, optimizer, kind):
    """Yesterday's records under today's ids, before the first step; rows and slots by value; new values start fresh."""
    before = finished(model, optimizer, kind, **({"features": ("user", "item", "tab")} if model in TOWERS else {}))
    first, second = days[f"first{kind}"], days[f"second{kind}"]
    yesterday = predict_run(before, first, "valid").logits["click"]
    today, begun, steps, fresh = started(before, second)
    assert steps == 5 and fresh["user"] >= NEW_USERS and fresh["item"] >= 1 and not fresh.get("age")
    assert (lines(second, "user")[: len(lines(first, "user"))]) == lines(first, "user")
    again = scores(today, tmp_path, first, ids_of=second)
    # AdaEnsemble's experts see as many rows as routing gives them, and products of other sizes round otherwise.
    tolerance = 1e-6 if model == "adaensemble" else 0
    np.testing.assert_allclose(again, yesterday, rtol=tolerance, atol=tolerance)

    old = whole(before)
    users = Schema.load(second)["user"]
    rows_before, rows_now = by_value(old, first, users), by_value(today, second, users)
    for value, found in rows_before.items():
        for a, b in zip(found, rows_now[value], strict=True):
            np.testing.assert_array_equal(a, b)
    new = []
    for layer in with_table(today, "user"):
        key, rows = parts(layer)["user"]
        table = layer.tables[key]
        of_new = slice(rows.start + users.num_oov + len(rows_before), rows.start + users.num_oov + len(rows_now))
        for variable in (table, *slots_of(today, table)):
            np.testing.assert_array_equal(variable.numpy()[of_new], begun[variable.name][of_new])
        new.append(np.any(table.numpy()[of_new] != 0))
    assert any(new) or model == "lr"  # which starts at zero


def test_the_first_step_zeroes_once_in_a_model_s_life(finished, days):
    before = finished("xdeepint", "paper", "")
    yesterday = whole(before).embedding.table.numpy()
    nobody_s = lines(days["second"], "user").index(b"0")  # day two has no record of user 0
    model = execute(
        before.replace(model_dir="", data_dir=days["second"], warm_start=before.model_dir, max_steps=1)
    ).model
    flags = [v for v in model.optimizer.variables if v.name.startswith("zeroed/") and v.name.endswith("table:0")]
    assert flags and all(float(flag[0]) == 1 for flag in flags)
    start = parts(model.embedding)["user"][1].start + 1
    kept = model.embedding.table.numpy()[start + nobody_s]
    assert np.any(kept != 0)
    np.testing.assert_array_equal(kept, yesterday[start + nobody_s])


def test_codebooks_and_generators_go_on(finished, days):
    before = finished("groupce", "adam", "_reserved")
    old = whole(before)
    today, *_ = started(before, days["second_reserved"])
    for name in ("codebooks", "cluster_counts", "cluster_sums", "step"):
        np.testing.assert_array_equal(getattr(today.quantizer, name).numpy(), getattr(old.quantizer, name).numpy())
    assert int(today.quantizer.step) == int(today.optimizer.iterations) == 5


@pytest.mark.slow
def test_scores_stay_after_pruning_and_growth_again(finished, days, tmp_path):
    """What G-FTRL zeroed leaves the vocabulary of the third day, and no score of an old record changes."""
    before = finished("xdeepint", "paper", "", max_steps=1, batch_size=20)  # some users are in no batch
    model, schema = load_model(before, days["first"])
    preprocessor = data.Preprocessor(schema, os.path.join(days["first"], "vocabulary"))
    gone = zeroed_values(model, preprocessor)
    assert gone["user"] and set(gone["user"]) < set(lines(days["first"], "user"))
    smaller = prune(model, preprocessor)
    assert smaller.rows["user"][1] == smaller.rows["user"][0] - len(gone["user"])
    evict = tmp_path / "evict"
    evict.mkdir()
    for table, found in gone.items():
        with open(vocabulary_file(evict, table), "wb") as stream:
            stream.writelines(line + b"\n" for line in found)
    raw = write_day(tmp_path / "raw", 3, range(100, 103), rows=60)
    third = str(tmp_path / "third")
    known = {"vocabulary_from": days["first"], "grow": True, "evict": evict}
    prepare("csv", raw_dir=raw, output_dir=third, num_shards=1, num_workers=1, **known)
    assert not set(gone["user"]) & set(lines(third, "user"))
    yesterday = predict_run(before, days["first"], "valid").logits["click"]
    today, *_ = started(before, third)
    again = scores(today, tmp_path, days["first"], ids_of=third)
    np.testing.assert_array_equal(again, yesterday)


def test_the_rate_is_today_s(finished, days):
    before = finished("dnn", "adam", "")
    today, *_ = started(before, days["second"], learning_rate=0.5)
    assert {float(found.learning_rate) for found in today.optimizer.optimizers.values()} == {0.5}


# -- what is refused --------------------------------------------------------------------------------------------------


def copied(days, tmp_path, name, kind="second"):
    shutil.copytree(days[kind], tmp_path / name)
    return str(tmp_path / name)


def test_a_table_that_shrank_is_refused(finished, days, tmp_path):
    raw = write_day(tmp_path / "raw", 1, range(100, 120))
    anew = str(tmp_path / "anew")
    prepare("csv", raw_dir=raw, output_dir=anew, num_shards=1, num_workers=1)
    manifest = json.loads((tmp_path / "anew" / "manifest.json").read_text())
    ages = Schema.load(days["first"])["age"].boundaries
    schema = Schema.load(anew).replace({"age": {"boundaries": ages}})
    schema.save(anew)
    manifest["schema"] = schema.fingerprint()
    (tmp_path / "anew" / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"table 'user' has shrunk: 20 of the 20 values of .* not in .*, of which 0"):
        started(finished("dnn", "adam", ""), anew)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tags": {"width": 3}}, "feature 'tags' has width=2 in .*, and 3 in"),
        ({"tab": {"kind": "multi", "max_length": 2}}, "feature 'tab' has kind='categorical' in .*, and 'multi' in"),
        ({"age": {"boundaries": (1.0, 2.0)}}, r"feature 'age' has boundaries=\(.*, and \(1.0, 2.0\) in"),
    ],
)
def test_another_width_kind_or_binning_is_refused(finished, days, tmp_path, change, message):
    changed = copied(days, tmp_path, "changed")
    schema = Schema.load(changed).replace(change)
    schema.save(changed)
    with open(os.path.join(changed, "manifest.json")) as stream:
        manifest = json.load(stream)
    with open(os.path.join(changed, "manifest.json"), "w") as stream:
        json.dump({**manifest, "schema": schema.fingerprint()}, stream)
    with pytest.raises(DataError, match=message):
        started(finished("dnn", "adam", ""), changed)


def test_a_manifest_that_is_not_the_checkpoint_s_is_refused(finished, days, tmp_path):
    before = finished("dnn", "adam", "")
    forged = str(tmp_path / "run")
    shutil.copytree(before.model_dir, forged)
    path = os.path.join(forged, "data_manifest.json")
    with open(path) as stream:
        manifest = json.load(stream)
    manifest["tables"]["user"]["fingerprint"] = "0" * 16
    with open(path, "w") as stream:
        json.dump(manifest, stream)
    with pytest.raises(DataError, match=r"is not what the run in .* was trained on: table 'user' is .*, and was"):
        started(before.replace(model_dir=forged), days["second"])

    # Manifest and data agree, and the checkpoint is another's.
    other = finished("dnn", "adam", "_reserved")
    shutil.rmtree(os.path.join(forged, "checkpoints"))
    shutil.copytree(os.path.join(other.model_dir, "checkpoints"), os.path.join(forged, "checkpoints"))
    shutil.copy(os.path.join(before.model_dir, "data_manifest.json"), path)
    with pytest.raises(ValueError, match=r"does not fit the model|was made with tables of fingerprint"):
        started(before.replace(model_dir=forged), days["second"])


def test_what_has_ended_or_gone_is_refused(finished, days, tmp_path):
    before = finished("dnn", "adam", "")
    with pytest.raises(ValueError, match="where --schedule=cosine has ended; say --schedule=constant"):
        started(before, days["second"], schedule="cosine")
    moved = str(tmp_path / "run")
    shutil.copytree(before.model_dir, moved)
    with open(os.path.join(moved, "flags.txt")) as stream:
        text = stream.read()
    with open(os.path.join(moved, "flags.txt"), "w") as stream:
        stream.write(text.replace(f"--data_dir={days['first']}", "--data_dir=gone"))
    with pytest.raises(DataError, match=r"gone, whose vocabularies name the ids of the run .*, is not there"):
        started(before.replace(model_dir=moved), days["second"])
    assert FRESH == -1
