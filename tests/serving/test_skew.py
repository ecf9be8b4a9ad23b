"""Statistics of a version and its comparison with served requests or another day."""

import json
import os
import pathlib

import numpy as np
import pytest
import tensorflow as tf
from google.protobuf import text_format
from tensorflow_serving.apis import prediction_log_pb2

from tests.experiments.conftest import clicks, schema
from xdeepint_ext import data, serving
from xdeepint_ext.data import DataError
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.models import XDeepInt
from xdeepint_ext.schema import Schema
from xdeepint_ext.serving.column_statistics import ColumnCollector
from xdeepint_ext.serving.distances import jensen_shannon, measure, population_stability_index
from xdeepint_ext.serving.messages import predict_request
from xdeepint_ext.serving.skew import compare, main
from xdeepint_ext.serving.statistics_file import STATISTICS, load_statistics, save_statistics
from xdeepint_ext.serving.thresholds import ThresholdError, Thresholds
from xdeepint_ext.utils.metadata import statistics_pb2

ROWS = 3000


def day(folder, seed):
    """A prepared directory of one day."""
    raw = folder / "raw"
    raw.mkdir(parents=True)
    clicks(seed, ROWS).drop(columns="like").to_csv(raw / "train.csv", index=False)
    schema("click").save(raw)
    prepare("csv", raw_dir=raw, output_dir=folder / "data")
    return str(folder / "data")


def write_day(file, frame):
    """A TFRecord file of a frame's rows; an empty text is an absent feature."""
    records = []
    for row in frame.drop(columns=["click", "like"]).to_dict("records"):
        example = tf.train.Example()
        for name, value in row.items():
            if isinstance(value, int):
                example.features.feature[name].int64_list.value.append(value)
            elif value:
                example.features.feature[name].bytes_list.value.extend(part.encode() for part in value.split("|"))
        records.append(example.SerializeToString())
    return write_records(file, records)


@pytest.fixture(scope="module")
def version(tmp_path_factory):
    """(base folder, version's folder, its data) of an export with random weights."""
    folder = tmp_path_factory.mktemp("version")
    directory = day(folder / "first", 0)
    model = XDeepInt(Schema.load(directory), width=4, num_layers=1)
    random = np.random.default_rng(0)
    for weight in model.weights:
        weight.assign(random.normal(scale=0.5, size=weight.shape))
    preprocessor = data.Preprocessor(model.schema, os.path.join(directory, "vocabulary"))
    exported = serving.export(model, preprocessor, folder / "base", statistics_of=(directory, "train"))
    return str(folder / "base"), exported, directory


@pytest.fixture(scope="module")
def next_day(tmp_path_factory):
    return day(tmp_path_factory.mktemp("next"), 1)


def test_divergences_are_as_printed():
    random = np.random.default_rng(0)
    p, q = (random.integers(1, 50, 7).astype(float) for _ in range(2))
    a, b = p / p.sum(), q / q.sum()
    m = (a + b) / 2
    assert jensen_shannon(a, b) == pytest.approx((a * np.log2(a / m)).sum() / 2 + (b * np.log2(b / m)).sum() / 2)
    a, b = (p + 0.5) / (p + 0.5).sum(), (q + 0.5) / (q + 0.5).sum()
    assert population_stability_index(p, q) == pytest.approx(((b - a) * np.log(b / a)).sum())


def column(kind, values, missing=0, name="c"):
    dtype = {"categorical": "string", "numeric": "float"}[kind]
    found = ColumnCollector(name, dtype, kind)
    found.add(np.asarray(values), np.ones(len(values), bool))
    found.add(np.asarray(values[:1]).repeat(missing), np.zeros(missing, bool))
    return found


def test_measures_of_known_columns():
    before = column("categorical", np.array([b"a"] * 60 + [b"b"] * 40, object)).finish()
    after = column("categorical", np.array([b"a"] * 30 + [b"c"] * 30, object), missing=40)
    found = measure(before, after)
    assert found["missing"][0] == 0.4
    assert found["linf"] == (0.5, "value '(all others)' 50.00%, reference 0.00%")
    p, q = np.array([0.6, 0.4, 0.0]), np.array([0.5, 0.0, 0.5])
    assert found["js"][0] == pytest.approx(jensen_shannon(p, q))
    numbers = np.arange(1000.0)
    found = measure(column("numeric", numbers).finish(), column("numeric", numbers[500:]))
    assert found["psi"][0] == pytest.approx(population_stability_index(np.full(10, 100.0), np.repeat([0.0, 100.0], 5)))
    assert set(found) == {"missing", "psi", "js"}
    nothing = ColumnCollector("c", "string", "categorical")
    nothing.add(np.array([b""], object), np.zeros(1, bool))
    assert set(measure(before, nothing)) == {"missing"}


def test_the_file_is_tensorflow_metadatas_and_comes_back(version, tmp_path):
    _, folder, directory = version
    columns, fingerprint = load_statistics(os.path.join(folder, STATISTICS))
    assert fingerprint == Schema.load(directory).fingerprint()
    assert set(columns) == {"user", "item", "tab", "tags", "age", "prediction:probability"}
    text = pathlib.Path(folder, STATISTICS).read_text()
    (dataset,) = text_format.Parse(text, statistics_pb2.DatasetFeatureStatisticsList()).datasets
    assert dataset.num_examples == ROWS
    by_name = {feature.path.step[0]: feature for feature in dataset.features}
    frame = clicks(0, ROWS)
    assert by_name["age"].num_stats.mean == pytest.approx(frame["age"].mean())
    counts = frame["tab"].value_counts()
    assert {v.value: v.frequency for v in by_name["tab"].string_stats.top_values} == counts.to_dict()
    assert columns["tab"].unknown == (0, ROWS) and columns["tags"].values == (frame["tags"].str.count(r"\|") + 1).sum()
    save_statistics(tmp_path / "again", columns, fingerprint)
    assert load_statistics(tmp_path / "again") == (columns, fingerprint)


def test_an_undamaged_next_day_passes_at_the_defaults(version, next_day, capsys):
    assert main([f"--reference={version[0]}", "--sample", next_day, "--all"]) == 0
    printed = capsys.readouterr().out
    assert printed.startswith("3,000 rows; 0 of ") and "prediction:probability: psi" in printed


DAMAGE = {
    "tab": (lambda frame: frame.assign(tab=""), "tab: missing 1.0000 > 0.05 (missing 100.00%, reference 0.00%)"),
    "user": (lambda frame: frame.assign(user=frame["user"] + 1000), "user: unknown 1.0000 > 0.1"),
    "age": (lambda frame: frame.assign(age=frame["age"] + 40), "age: psi"),
    "tags": (lambda frame: frame.assign(tags="t1"), "tags: linf"),
}


@pytest.mark.parametrize("feature", ["tab", *(pytest.param(name, marks=pytest.mark.slow) for name in list(DAMAGE)[1:])])
def test_a_damaged_day_names_the_feature(feature, version, tmp_path, capsys):
    change, message = DAMAGE[feature]
    damaged = write_day(tmp_path / "day.tfrecord", change(clicks(1, ROWS)))
    assert main([f"--reference={version[0]}", "--sample", damaged, f"--output={tmp_path / 'out.json'}"]) == 1
    printed = capsys.readouterr().out
    assert message in printed
    failed = {
        f["column"] for f in json.loads((tmp_path / "out.json").read_text())["findings"] if f["value"] > f["threshold"]
    }
    assert feature in failed <= {feature, "prediction:probability"}
    ignored = f"{feature},prediction:probability"
    assert main([f"--reference={version[0]}", "--sample", damaged, f"--ignore={ignored}"]) == 0


def write_records(file, records):
    with tf.io.TFRecordWriter(str(file)) as writer:
        for record in records:
            writer.write(record)
    return str(file)


def log_of(inputs, signature):
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request(inputs, signature))
    return log.SerializeToString()


@pytest.mark.slow
def test_logged_requests_count_as_their_rows(version, next_day, tmp_path, capsys):
    """The same rows as tf.Examples, as requests of examples, of raw columns, and to `rank`."""
    base, _, _ = version
    files = [str(file) for file in sorted(pathlib.Path(next_day).glob("*.tfrecord"))]
    examples = [record.numpy() for record in tf.data.TFRecordDataset(files).take(1000)]
    expected = compare(base, [write_records(tmp_path / "plain", examples)])
    requests = [log_of({"examples": np.array(examples[i : i + 100], object)}, "") for i in range(0, 1000, 100)]
    assert compare(base, [write_records(tmp_path / "examples", requests)]) == expected

    specs = {"user": 0, "item": 0, "tab": b"", "age": 0}
    requests = []
    for example in examples:
        found = tf.train.Example.FromString(example).features.feature
        row = {n: np.array([getattr(found[n], found[n].WhichOneof("kind")).value[0]]) for n in specs}
        row["tags"] = np.array([list(found["tags"].bytes_list.value)], object)
        two = {name: value.repeat(2, axis=0) if name != "user" else value for name, value in row.items()}
        requests.append(log_of(two, "rank") if len(requests) % 2 else log_of(row, "predict_raw"))
    requests.append(log_of({"user": np.array([1])}, "user_tower"))
    file = write_records(tmp_path / "raw", requests)
    found = compare(base, [file])
    assert found.rows == 1500 and not found.failed and found.skipped == {"user_tower": 1}
    assert main([f"--reference={base}", "--sample", file]) == 0
    assert "left out: {'user_tower': 1}" in capsys.readouterr().err


def test_a_statistics_file_alone_compares_columns_alone(version, next_day):
    base, folder, _ = version
    file = os.path.join(folder, STATISTICS)
    whole = {(f.column, f.measure): f for f in compare(base, [next_day]).findings}
    alone = {(f.column, f.measure): f for f in compare(file, [next_day]).findings}
    lacking = {key for key in whole if key[1] == "unknown" or key[0].startswith("prediction:")}
    assert alone == {key: finding for key, finding in whole.items() if key not in lacking}
    assert {(f.column, f.measure) for f in compare(file, [next_day], model=base).findings} == set(whole)


@pytest.mark.slow
def test_pruned_values_are_unknown(version, next_day, tmp_path):
    _, _, directory = version
    model = XDeepInt(Schema.load(directory), width=4, num_layers=1)
    model.build_from_schema()
    tables = model.schema.tables
    preprocessor = data.Preprocessor(model.schema, os.path.join(directory, "vocabulary"))
    random = np.random.default_rng(0)
    table = random.normal(size=model.embedding.table.shape).astype(np.float32)
    # Of tab and tags the unseen value's row, too, so that values leave the vocabulary; items are renumbered.
    zero = {"tab": [1, 2], "tags": [1, 3], "item": [3, 4, 5]}
    for name, ids in zero.items():
        table[[tables[name].offset + i for i in ids]] = 0
    model.embedding.table.assign(table)
    folder = serving.export(model, preprocessor, tmp_path, statistics_of=(directory, "train"))
    columns, _ = load_statistics(os.path.join(folder, STATISTICS))
    frame = clicks(0, ROWS)
    dropped = {
        name: {
            pathlib.Path(directory, "vocabulary", f"{name}.txt").read_text().split("\n")[i - 2] for i in ids if i > 1
        }
        for name, ids in zero.items()
    }
    tags = [value for row in frame["tags"] for value in row.split("|")[:3]]
    values = {"tab": list(frame["tab"]), "tags": tags, "item": list(map(str, frame["item"]))}
    for name, found in values.items():
        expected = sum(value in dropped[name] for value in found)
        assert columns[name].unknown == (expected, len(found)) and 0 < expected < len(found), name
    assert columns["user"].unknown == (0, ROWS)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max_js=1.5"], "threshold js must be a number in [0, 1], got 1.5"),
        (["--max_missing=-0.1"], "threshold missing must be a number in [0, 1], got -0.1"),
        (["--max_psi=nan"], "threshold psi must be a number in [0, inf], got nan"),
        (["--threshold=tab.js=a"], "expected COLUMN.MEASURE=NUMBER"),
        (["--threshold=tab.js=0.1", "--threshold=tab.js=0.2"], "tab.js is given twice: 0.1 and 0.2"),
        (["--threshold=tab.psi=0.1"], "the column is categorical, which has no psi"),
        (["--threshold=age.linf=0.1"], "the column is numeric, which has no linf"),
        (["--threshold=tab.js=0.1", "--ignore=tab"], "column 'tab' is ignored, and has a threshold"),
        (["--ignore=colour"], "there is no column 'colour' in the reference"),
        (["--ignore=user,item,tab,tags,age,prediction:probability"], "no column is left to compare"),
        (["--split=valid2"], "has no split 'valid2'"),
        (["--min_rows=100000"], "3000 rows are too few"),
        (["--min_rows=0"], "min_rows must be >= 1"),
        (["--model=here"], "is a version itself"),
    ],
)
def test_what_makes_no_sense_is_refused(version, next_day, capsys, arguments, message):
    assert main([f"--reference={version[0]}", "--sample", next_day, *arguments]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1 and message in printed.err


def test_samples_and_statistics_that_cannot_be_read_are_named(version, next_day, tmp_path):
    base, folder, _ = version
    empty = write_records(tmp_path / "empty.tfrecord", [])
    with pytest.raises(DataError, match=r"empty\.tfrecord.*there is no record"):
        compare(base, [empty])
    with pytest.raises(DataError, match=r"no file .*nothing"):
        compare(base, [str(tmp_path / "nothing*")])
    whole = next(pathlib.Path(next_day).glob("*.tfrecord")).read_bytes()
    (tmp_path / "cut.tfrecord").write_bytes(whole[:-5])
    with pytest.raises(DataError, match=r"cut\.tfrecord, record \d+: truncated"):
        compare(base, [str(tmp_path / "cut.tfrecord")])
    wrong = tf.train.Example()
    wrong.features.feature["age"].bytes_list.value.append(b"old")
    with pytest.raises(DataError, match=r"wrong\.tfrecord, record 0.*age"):
        compare(base, [write_records(tmp_path / "wrong.tfrecord", [wrong.SerializeToString()])])
    short = log_of({"user": np.array([1.5])}, "predict_raw")
    with pytest.raises(DataError, match=r"short\.tfrecord, record 0, column 'user': expected int64"):
        compare(base, [write_records(tmp_path / "short.tfrecord", [short])])
    (tmp_path / "text").write_text("not a proto {")
    with pytest.raises(DataError, match="holds no feature statistics"):
        load_statistics(tmp_path / "text")
    columns, _ = load_statistics(os.path.join(folder, STATISTICS))
    save_statistics(tmp_path / "other", columns, "another")
    with pytest.raises(DataError, match="are of another schema"):
        compare(tmp_path / "other", [next_day], model=base)


@pytest.mark.slow
def test_a_score_that_is_not_finite_is_an_error(version, tmp_path):
    _, _, directory = version
    model = XDeepInt(Schema.load(directory), width=4, num_layers=1)
    model.weights[-1].assign(np.full(model.weights[-1].shape, np.nan))
    preprocessor = data.Preprocessor(model.schema, os.path.join(directory, "vocabulary"))
    with pytest.raises(DataError, match=r"3000 of 3000 scores 'probability' are not finite"):
        serving.export(model, preprocessor, tmp_path / "base", prune=False, statistics_of=(directory, "train"))
    assert not (tmp_path / "base").exists()


def test_thresholds_of_single_columns_win():
    found = Thresholds.parse({"js": 0.2, "psi": None}, ["a.b.js=0.3"], [])
    assert (found.of("a.b", "js"), found.of("c", "js"), found.of("c", "psi")) == (0.3, 0.2, 0.25)
    with pytest.raises(ThresholdError, match="'kl' must be one of"):
        Thresholds({"kl": 0.1})
