"""Directories of lists: what is written, that TF-Ranking reads it, and what `read_lists` makes of it."""

import dataclasses
import pathlib

import numpy as np
import pytest
import tensorflow as tf

from tests.data import logs
from tests.data.test_lists_draw import ORDER, draw, scores, soft
from xdeepint_ext.data import Manifest, Preprocessor, read_lists
from xdeepint_ext.data.lists import ListSizes, describe_lists, write_lists
from xdeepint_ext.losses import HybridRankTowerLoss, SoftSortLoss
from xdeepint_ext.schema import Schema
from xdeepint_ext.utils.tf_ranking import import_tensorflow_ranking

USERS = 14
DATA = logs.interactions(200, USERS, of=logs.histories(USERS))
TEACHER = np.random.default_rng(1).standard_normal(200).astype(np.float32)
OPTIONS = {
    "order": ORDER,
    "train_until": logs.DAYS[1],
    "valid_until": logs.DAYS[2],
    "sizes": ListSizes(3, 4, 5),
    "scorer": scores(DATA),
    "soft": soft,
    "teacher": TEACHER,
}


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    return logs.write_rows(tmp_path_factory.mktemp("rows"), USERS)


@pytest.fixture(scope="module")
def written(rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("lists") / "lists"
    return folder, write_lists(rows, DATA, folder, **OPTIONS)


def serialized(folder, split):
    """The split's records."""
    manifest = Manifest.load(folder)
    files = [str(folder / shard.file) for shard in manifest.shards(split)]
    return list(tf.data.TFRecordDataset(files, manifest.compression).as_numpy_iterator())


def elwc(folder, split):
    """(context, examples) of each record by TensorFlow Serving's own proto: feature -> list of values."""
    from tensorflow_serving.apis import input_pb2

    def columns(example):
        found = {
            name: getattr(f, f.WhichOneof("kind") or "int64_list").value for name, f in example.features.feature.items()
        }
        return {name: list(values) for name, values in found.items()}

    records = [input_pb2.ExampleListWithContext.FromString(record) for record in serialized(folder, split)]
    return [(columns(record.context), [columns(example) for example in record.examples]) for record in records]


def table_row(table, position):
    row = {name: tokens[position] for name, tokens in table.columns.items() if tokens[position]}
    return {name: [int(token) if name.endswith("_id") else token] for name, token in row.items()}


def expected_lists(window="day"):
    """(split, context, examples) of all lists, from the reference of the draw and of the histories."""
    found, _ = draw(DATA, sizes=OPTIONS["sizes"], scorer=OPTIONS["scorer"], soft=soft, teacher=TEACHER, window=window)
    slots = dict(enumerate(sorted({key[:2] for key in logs.window_rows(DATA.log, window)})))
    for (day, rank, user), items in found.items():
        context = table_row(DATA.users, user)
        for of in DATA.histories:
            context[of.feature] = logs.history(DATA, of, user, *slots[rank], window)
        examples = []
        for item, stage, label, soft_label, score in items:
            example = table_row(DATA.items, item) | {"grade": [label], "stage": [stage], "soft_grade": [soft_label]}
            examples.append(example | ({"teacher_score": [score]} if stage == 0 else {}))
        yield ["train", "valid", "test", "test"][max(0, logs.DAYS.index(day) - 1)], context, examples


def plain(lists):
    """Lists in an order of their own, without empty features."""
    full = [({k: v for k, v in context.items() if v}, examples) for context, examples in lists]
    return sorted(full, key=lambda pair: str(sorted(pair[0].items())) + str(pair[1]))


def test_every_list_is_written(written):
    folder, manifest = written
    for split in ("train", "valid", "test"):
        expected = [(context, examples) for s, context, examples in expected_lists() if s == split]
        assert plain(elwc(folder, split)) == plain(expected)
        assert manifest.records(split) == len(expected)
    schema = Schema.load(folder)
    assert [f.name for f in schema.inputs] == ["user_id", "user_colour", "watched", "bought", "item_id", "item_colour"]
    assert (schema["watched"].table_name, schema["bought"].max_length) == ("item_id", 3)
    assert {f.name for f in schema.inputs if not f.required} == {"user_colour", "item_colour"}


def test_windows_shorter_than_a_day(rows, tmp_path):
    folder = tmp_path / "lists"
    write_lists(rows, DATA, folder, **OPTIONS, window=250)
    for split in ("train", "test"):
        expected = [(context, examples) for s, context, examples in expected_lists(250) if s == split]
        assert plain(elwc(folder, split)) == plain(expected)


def test_tf_ranking_parses_it(written):
    """TF-Ranking's parser, with its own padding, gives what `read_lists` gives before the look-ups."""
    folder, _ = written
    parse = import_tensorflow_ranking().data.parse_from_example_list
    found = parse(
        serialized(folder, "test"),
        list_size=12,
        context_feature_spec={
            "user_id": tf.io.FixedLenFeature([1], tf.int64),
            "watched": tf.io.VarLenFeature(tf.int64),
        },
        example_feature_spec={
            "item_id": tf.io.FixedLenFeature([1], tf.int64, [-1]),
            "grade": tf.io.FixedLenFeature([1], tf.float32, [-1.0]),
            "stage": tf.io.FixedLenFeature([1], tf.int64, [-1]),
        },
        mask_feature_name="mask",
    )
    features, labels = next(iter(read_lists(folder, "test", 1000, list_size=12)))
    np.testing.assert_array_equal(found["user_id"][:, 0], features["group_ids"])
    np.testing.assert_array_equal(found["mask"], features["list_mask"])
    np.testing.assert_array_equal(found["stage"][..., 0], features["stages"])
    np.testing.assert_array_equal(found["item_id"][..., 0], features["item_ids"])
    np.testing.assert_array_equal(found["grade"][..., 0], labels)
    assert tf.sparse.to_dense(found["watched"]).shape[1] <= 4


def batch(folder, split="test", **options):
    return next(iter(read_lists(folder, split, 1000, **options)))


def test_both_parts_go_through_the_preprocessor(written, rows):
    folder, _ = written
    features, labels = batch(folder)
    known = list(map(int, DATA.items.keys[:-3]))
    # Id 1 is what the vocabulary lacks.
    ids = lambda keys: [2 + known.index(key) if key in known else 1 for key in keys]  # noqa: E731
    for i, (context, examples) in enumerate(elwc(folder, "test")):
        assert features["item_id"][i, : len(examples), 0].numpy().tolist() == ids([e["item_id"][0] for e in examples])
        for name, length in (("watched", 4), ("bought", 3)):
            assert features[name][i].numpy().tolist() == (ids(context.get(name, [])) + [0] * 4)[:length]
        assert features["list_mask"][i].numpy().sum() == len(examples)
        assert labels[i].numpy().tolist() == ([e["grade"][0] for e in examples] + [-1.0] * 20)[: labels.shape[1]]
        np.testing.assert_allclose(features["soft_label"][i, : len(examples)], [e["soft_grade"][0] for e in examples])
        scored = [e.get("teacher_score", [np.nan])[0] for e in examples]
        np.testing.assert_array_equal(features["teacher"][i, : len(examples)], np.float32(scored))
    padding = ~features["list_mask"].numpy()
    assert padding.any()
    for name, value in {
        "item_id": 0,
        "item_colour": 0,
        "stages": -1,
        "item_ids": -1,
        "teacher": 0,
        "soft_label": 0,
    }.items():
        assert (features[name].numpy()[padding] == value).all()
    assert features["user_colour"].shape == (labels.shape[0], 1)
    # The rows' preprocessor gives the same ids: its vocabularies are the lists'.
    of_rows = Preprocessor(Schema.load(rows), rows / "vocabulary")
    raw = {"user_id": [1007], "user_colour": ["u1"], "place": ["top"], "item_id": [1014], "item_colour": ["i2"]}
    assert int(of_rows({k: tf.constant(v) for k, v in raw.items()})["item_id"][0, 0]) == ids([1014])[0]


def without_days(log, days):
    """The log's other rows, and which they are."""
    kept = ~np.isin(log.days, days)
    columns = {name: getattr(log, name)[kept] for name in ("users", "items", "days", "times")}
    return dataclasses.replace(log, **columns, events={name: values[kept] for name, values in log.events.items()}), kept


def test_later_rows_change_no_record(written, rows, tmp_path):
    """Histories, labels, samples: of the log until a day, the same records come as of the whole log."""
    log, kept = without_days(DATA.log, logs.DAYS[3:])
    data, options = dataclasses.replace(DATA, log=log), {**OPTIONS, "teacher": TEACHER[kept]}
    write_lists(rows, data, tmp_path / "lists", **options, splits=("train", "valid"))
    for split in ("train", "valid"):
        assert serialized(tmp_path / "lists", split) == serialized(written[0], split)


def test_earlier_rows_change_histories_alone(written, rows, tmp_path):
    """What the test above compares does depend on other days' rows."""
    log, kept = without_days(DATA.log, logs.DAYS[:1])
    data, options = dataclasses.replace(DATA, log=log), {**OPTIONS, "teacher": TEACHER[kept]}
    write_lists(rows, data, tmp_path / "lists", **options, splits=("valid",))
    pairs = list(zip(elwc(tmp_path / "lists", "valid"), elwc(written[0], "valid"), strict=True))
    assert all(found[1] == expected[1] for found, expected in pairs)
    assert any(found[0]["watched"] != expected[0]["watched"] for found, expected in pairs)


def test_the_same_seed_gives_the_same_files(written, rows, tmp_path):
    for seed in (0, 1):
        write_lists(rows, DATA, tmp_path / str(seed), **OPTIONS, seed=seed)
    same = [(written[0] / name).read_bytes() == (tmp_path / "0" / name).read_bytes() for name in _files(written[0])]
    assert all(same) and len(same) == 6 + 3
    assert serialized(tmp_path / "1", "test") != serialized(written[0], "test")


def _files(folder: pathlib.Path) -> list[str]:
    return [path.name for path in folder.iterdir() if path.is_file()]


def test_parts_of_the_lists(written):
    folder, _ = written
    whole, labels = batch(folder)
    for stages, numbers in ((("impression",), [0]), (("impression", "candidate"), [0, 1]), ("random", [2])):
        features, found = batch(folder, stages=stages)
        for i in range(len(labels)):
            kept = np.isin(whole["stages"][i], numbers)
            here = features["list_mask"][i].numpy()
            assert found[i].numpy()[here].tolist() == labels[i].numpy()[kept].tolist()
            assert features["item_ids"][i].numpy()[here].tolist() == whole["item_ids"][i].numpy()[kept].tolist()
        assert found.shape[1] == max(features["list_mask"].numpy().sum(1))


def test_ragged_and_static_shapes(written):
    folder, _ = written
    dense, labels = batch(folder)
    ragged, found = batch(folder, ragged=True)
    assert isinstance(found, tf.RaggedTensor)
    np.testing.assert_array_equal(found.to_tensor(-1.0), labels)
    np.testing.assert_array_equal(ragged["item_colour"].to_tensor(), dense["item_colour"])
    assert "list_mask" not in ragged
    spec, label = read_lists(folder, "test", 4, list_size=15, drop_remainder=True).element_spec
    assert (spec["item_colour"].shape[1:], label.shape[1:]) == ([15, 1], [15])


def test_order_resumption_and_cache(written):
    folder, _ = written
    options = {"shuffle": True, "seed": 3, "epochs": 2, "list_size": 12}
    batches = [labels.numpy() for _, labels in read_lists(folder, "train", 3, **options)]
    dataset = read_lists(folder, "train", 3, **options, start_step=4)
    assert len(batches) == 2 * dataset.steps_per_epoch > 6
    for expected, (_, labels) in zip(batches[4:], dataset, strict=True):
        np.testing.assert_array_equal(labels, expected)
    cached = [labels.numpy() for _, labels in read_lists(folder, "train", 3, **options, cache=True)]
    assert sorted(map(str, np.concatenate(cached))) == sorted(map(str, np.concatenate(batches)))


def test_losses_on_what_is_read(written):
    """The teacher's missing scores reach no loss, and no gradient."""
    features, labels = batch(written[0])
    logits = tf.Variable(np.random.default_rng(0).standard_normal(labels.shape), dtype=tf.float32)
    losses = [HybridRankTowerLoss(), HybridRankTowerLoss({SoftSortLoss(): (("impression",), 1.0, "soft")})]
    for loss in losses:
        with tf.GradientTape() as tape:
            value = loss({"label": labels, **{name: features[name] for name in loss.side_inputs}}, logits)
        gradient = tape.gradient(value, logits).numpy()
        assert np.isfinite(value) and np.isfinite(gradient).all() and np.abs(gradient).max() > 0
        assert (gradient[~features["list_mask"].numpy()] == 0).all()


def test_statistics_are_the_lists(written):
    folder, manifest = written
    found = manifest.lists["statistics"]["test"]
    features, labels = batch(folder)
    mask, stages = features["list_mask"].numpy(), features["stages"].numpy()
    assert found["lists"] == len(labels)
    names = ("impressions", "candidates", "random")
    assert found["items"] == {name: (stages == stage).sum() for stage, name in enumerate(names)}
    numbers = {str(grade): (labels.numpy() == grade).sum() for grade in range(4)}
    assert found["grades"] == {grade: number for grade, number in numbers.items() if number}
    assert (found["length"]["min"], found["length"]["max"]) == (mask.sum(1).min(), mask.sum(1).max())
    assert found["positives"]["mean"] == pytest.approx(float((labels.numpy() > 0).sum(1).mean()), abs=1e-3)
    assert found["impressions"]["median"] == np.quantile((stages == 0).sum(1), 0.5, method="inverted_cdf")
    assert found["users_without_lists"] == USERS - len(np.unique(features["group_ids"]))
    text = describe_lists(manifest)
    assert f"test: {len(labels)} lists of {(stages == 0).sum()} impressions" in text
    assert f"lists_without_positives {found['lists_without_positives']}" in text
    assert found["lists_without_positives"] > 0
