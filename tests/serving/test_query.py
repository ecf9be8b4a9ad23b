"""The command that sends rows to an export, and one row on all its ways."""

import io
import json
import os
import pathlib
import subprocess
import sys

import numpy as np
import pytest
import tensorflow as tf

import xdeepint_ext
from tests.serving import c_api, cases
from xdeepint_ext import data, serving
from xdeepint_ext.data.manifest import Shard, describe_tables
from xdeepint_ext.data.parsing import raw_signature
from xdeepint_ext.serving.query import main, query
from xdeepint_ext.serving.rows import examples, typed

SHARED = ("user", "country", "history", "age", "hour")


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    case = cases.case()
    model = case.model()
    base = tmp_path_factory.mktemp("query")
    serving.export(model, case.preprocessor, base, prune=False, warmup=case.rows[:2])
    return case, model, os.fspath(base)


def answers(capsys, *arguments):
    """What the command printed, line by line."""
    assert main(arguments) == 0
    printed = capsys.readouterr()
    return [json.loads(line) for line in printed.out.splitlines()], printed.err


def test_json_rows_get_one_line_each(exported, tmp_path, capsys):
    case, model, base = exported
    expected = case.scores(model)
    for name, text in (
        ("rows.json", json.dumps(case.rows)),
        ("lines.json", "\n".join(json.dumps(row) for row in case.rows)),
    ):
        (tmp_path / name).write_text(text)
        lines, errors = answers(capsys, f"--model={base}", f"--input={tmp_path / name}")
        assert errors == ""
        assert [sorted(line) for line in lines] == [["logit", "probability"]] * cases.ROWS
        for output, values in expected.items():
            np.testing.assert_allclose([line[output] for line in lines], values[:, 0], rtol=2e-7, atol=1e-6)


def cell(value):
    if isinstance(value, list):
        return ";".join(map(str, value))
    return "" if value is None else str(value)


def test_csv_rows_from_standard_input_get_the_same_scores(exported, monkeypatch, capsys):
    case, model, base = exported
    columns = sorted(case.rows[0])
    table = [",".join([*columns, "note"]), *(",".join([*(cell(row[c]) for c in columns), "x"]) for row in case.rows)]
    monkeypatch.setattr(sys, "stdin", io.StringIO("\n".join(table)))
    lines, errors = answers(capsys, f"--model={base}", "--input=-", "--separator=;", "--signature=serving_default")
    np.testing.assert_allclose(
        [line["logit"] for line in lines], case.scores(model)["logit"][:, 0], rtol=2e-7, atol=1e-6
    )
    assert errors == "columns that the model does not take: ['note']\n"


def test_rank_takes_the_users_columns_once(exported):
    case, _, base = exported
    rows = [{**row, **{name: case.rows[0][name] for name in SHARED}} for row in case.rows[:5]]
    ranked = query(base, rows, "rank")["logit"]
    np.testing.assert_allclose(ranked, query(base, rows)["logit"], rtol=0, atol=1e-6)
    rows[1]["hour"] = (rows[0]["hour"] + 1) % 24
    with pytest.raises(ValueError, match="row 2, column 'hour': this signature takes one value for all rows"):
        query(base, rows, "rank")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (
            ["--signature=guess"],
            "no signature 'guess'; it has ['predict_raw', 'preprocess', 'rank', 'serving_default']",
        ),
        (["--input=no.json"], "no.json"),
        (["--model=nowhere"], "no SavedModel at nowhere"),
        (["--rows={}"], "row 1: no column 'age', 'country', 'history'"),
        (["--rows=[]"], "the input holds no row"),
    ],
)
def test_errors_are_one_line_on_standard_error(exported, tmp_path, capsys, arguments, message):
    _, _, base = exported
    if arguments[0].startswith("--rows="):
        (tmp_path / "rows").write_text(arguments[0].removeprefix("--rows="))
        arguments = [f"--input={tmp_path / 'rows'}"]
    assert main([f"--model={base}", *arguments]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.startswith("query: ") and message in printed.err
    assert printed.err.count("\n") == 1


BLOCKED = ("keras", "tf_keras", "pandas", "tensorflow_serving", "tensorflow_metadata", "tensorflow_recommenders")
BLOCKED += tuple(f"xdeepint_ext.{name}" for name in ("data", "layers", "losses", "models", "optimizers", "schema"))


def test_it_needs_tensorflow_alone(exported):
    """In a process that cannot import Keras or the training code; its rows are those that lie beside the model."""
    case, model, base = exported
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({BLOCKED!r}))\n"
        "from xdeepint_ext.serving.query import main\nsys.exit(main(sys.argv[1:]))"
    )
    root = pathlib.Path(xdeepint_ext.__file__).parents[1]
    environment = {**os.environ, "PYTHONPATH": os.fspath(root), "TF_CPP_MIN_LOG_LEVEL": "3"}
    command = [sys.executable, "-c", code, f"--model={base}"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    expected = case.scores(model)["logit"][:2, 0]
    np.testing.assert_allclose([line["logit"] for line in lines], expected, rtol=0, atol=2e-6)


def test_a_row_has_the_same_ids_and_score_on_all_ways(exported, tmp_path):
    """From TFRecords through `data.read`, from JSON through `serving.query`, from arrays through the C API."""
    case, model, base = exported
    rows, columns = case.rows[:8], raw_signature(case.schema)
    records = []
    for row, example, label in zip(rows, examples(rows, columns), case.labels.numpy(), strict=False):
        proto = tf.train.Example.FromString(example)
        proto.features.feature["click"].float_list.value.extend(label)
        for name in ("age", "country"):  # a missing value may also be a missing column
            if row[name] is None:
                del proto.features.feature[name]
        records.append(proto.SerializeToString())
    _prepared(case, records, tmp_path)
    features, _ = next(iter(data.read(tmp_path, "train", len(rows))))

    folder = os.path.join(base, "1")
    by_query = query(base, json.dumps(rows), "preprocess")
    raw = typed(rows, columns)
    by_c_api, scores = c_api.run_signatures([(folder, "preprocess", raw), (folder, "predict_raw", raw)])
    assert set(features) == set(by_query) == set(by_c_api) == set(model.input_signature())
    for name, value in features.items():
        for other in (by_query[name], by_c_api[name]):
            compare = np.testing.assert_array_equal if value.dtype == tf.int64 else np.testing.assert_allclose
            compare(other, value.numpy(), err_msg=name, **({} if value.dtype == tf.int64 else {"atol": 1e-6}))
    expected = model(features, training=False).numpy()
    np.testing.assert_allclose(query(base, json.dumps(rows))["logit"], expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(scores["logit"], expected, rtol=0, atol=1e-6)


def _prepared(case, records, folder):
    """A directory as `data.prepare` leaves it."""
    case.schema.save(folder)
    vocabulary = folder / "vocabulary"
    vocabulary.mkdir()
    for file in pathlib.Path(case.preprocessor.vocabulary_dir).iterdir():
        (vocabulary / file.name).write_bytes(file.read_bytes())
    with tf.io.TFRecordWriter(os.fspath(folder / "train.tfrecord")) as writer:
        for record in records:
            writer.write(record)
    shard = Shard("train.tfrecord", len(records), (folder / "train.tfrecord").stat().st_size)
    tables = describe_tables(case.schema, vocabulary)
    data.Manifest("rows", {"train": [shard]}, tables, case.schema.fingerprint()).save(folder)
