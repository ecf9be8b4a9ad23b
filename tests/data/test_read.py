"""data.read: what comes, how often, in which order, and from where it goes on."""

import gc
import itertools
import os
import pathlib
import subprocess
import sys

import hypothesis
import numpy as np
import pytest
import tensorflow as tf
from hypothesis import strategies as st

import xdeepint_ext
from tests.data import directories, reference
from tests.data.directories import SCHEMA, flat, numbered, numbers, record
from xdeepint_ext.data import read
from xdeepint_ext.data.prepare import prepare
from xdeepint_ext.schema import Feature, Schema

COUNTS = [7, 1, 12, 5, 4, 9, 3]
TOTAL = sum(COUNTS)
SHUFFLED = {"shuffle": True, "shuffle_buffer": 12, "seed": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return numbered(tmp_path_factory.mktemp("raw"), COUNTS)


@pytest.fixture(scope="module")
def packed(folder, tmp_path_factory):
    return directories.materialise(folder, tmp_path_factory.mktemp("packed"))


@pytest.fixture(scope="module")
def gzipped(tmp_path_factory):
    return numbered(tmp_path_factory.mktemp("gzip"), COUNTS, compression="GZIP")


def test_values_are_the_preprocessors(folder):
    ((features, labels),) = list(read(folder, "train", 100))
    for i in range(TOTAL):
        raw = record(i)
        city = reference.one_id(SCHEMA["city"], raw["city"], directories.CITIES)
        tags, _ = reference.list_of_ids(SCHEMA["tags"], raw["tags"])
        assert features["number"][i].numpy().tolist() == [raw["number"]]
        assert features["city"][i].numpy().tolist() == [city]
        assert features["tags"][i].numpy().tolist() == tags
        assert labels[i].numpy().tolist() == [raw["click"]]
    assert (labels.dtype, labels.shape) == (tf.float32, (TOTAL, 1))


def test_unshuffled_order_is_that_of_the_files(folder):
    assert numbers(read(folder, "train", 10)) == [list(range(i, min(i + 10, TOTAL))) for i in range(0, TOTAL, 10)]


def test_counts(folder):
    dataset = read(folder, "train", 10)
    assert (dataset.records, dataset.steps_per_epoch, dataset.skipped) == (TOTAL, 5, ())
    assert read(folder, "train", 10, drop_remainder=True).steps_per_epoch == 4
    assert [len(batch) for batch in numbers(read(folder, "train", 10, drop_remainder=True))] == [10] * 4


@pytest.mark.parametrize("options", [{}, {"cache": True}, {"deterministic": False}, {"shuffle_buffer": 1000}])
def test_every_record_once_an_epoch_and_epochs_differ(folder, options):
    batches = numbers(read(folder, "train", 5, epochs=3, **{**SHUFFLED, **options}))
    steps = -(-TOTAL // 5)
    epochs = [flat(batches[i * steps : (i + 1) * steps]) for i in range(3)]
    assert len(batches) == 3 * steps
    for epoch in epochs:
        assert sorted(epoch) == list(range(TOTAL))
    assert epochs[0] != epochs[1] != epochs[2] != epochs[0]
    assert epochs[0] != list(range(TOTAL))


def test_shuffling_mixes_the_whole_window(folder):
    batches = numbers(read(folder, "train", TOTAL, shuffle=True, epochs=60))
    places = np.array([epoch.index(0) for epoch in batches])
    assert places.min() < TOTAL / 4
    assert places.max() > 3 * TOTAL / 4


@pytest.mark.parametrize("options", [{}, {"cache": True}])
def test_order_depends_on_the_seed_alone(folder, options):
    tf.random.set_seed(1)
    first = numbers(read(folder, "train", 5, **SHUFFLED, **options))
    tf.random.set_seed(2)
    np.random.seed(2)
    assert numbers(read(folder, "train", 5, **SHUFFLED, **options)) == first
    assert numbers(read(folder, "train", 5, **{**SHUFFLED, "seed": 4}, **options)) != first


@pytest.mark.parametrize("parallelism", [1, 2, 7])
def test_order_does_not_depend_on_the_number_of_cores(folder, parallelism):
    expected = numbers(read(folder, "train", 5, **SHUFFLED))
    assert numbers(read(folder, "train", 5, **SHUFFLED, parallelism=parallelism)) == expected


def test_order_does_not_depend_on_the_process(folder):
    code = f"""
import xdeepint_ext
import tensorflow as tf
tf.random.set_seed(77)
from xdeepint_ext.data import read
from xdeepint_ext.data.prepare import prepare
for features, _ in read({str(folder)!r}, "train", 5, epochs=2, **{SHUFFLED!r}):
    print("BATCH", *(int(x) for x in features["number"][:, 0]))
"""
    path = os.pathsep.join([str(pathlib.Path(xdeepint_ext.__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path, "PYTHONHASHSEED": "5"}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = [list(map(int, line.split()[1:])) for line in done.stdout.splitlines() if line.startswith("BATCH")]
    assert found == numbers(read(folder, "train", 5, epochs=2, **SHUFFLED))


@hypothesis.settings(max_examples=8, deadline=None)
@hypothesis.given(
    start_step=st.integers(0, 40),
    batch_size=st.sampled_from([4, 7, 100]),
    cache=st.booleans(),
    shuffle=st.booleans(),
    drop_remainder=st.booleans(),
)
def test_goes_on_behind_any_step(folder, start_step, batch_size, cache, shuffle, drop_remainder):
    options = {**SHUFFLED, "shuffle": shuffle, "cache": cache, "drop_remainder": drop_remainder, "epochs": 3}
    everything = numbers(read(folder, "train", batch_size, **options))
    assert numbers(read(folder, "train", batch_size, start_step=start_step, **options)) == everything[start_step:]


def test_without_end(folder):
    endless = read(folder, "train", 5, **SHUFFLED, epochs=None, start_step=4)
    expected = numbers(read(folder, "train", 5, **SHUFFLED, epochs=4))[4:]
    assert numbers(endless.take(len(expected))) == expected


class Counting:
    """A preprocessor that counts the records it sees."""

    def __init__(self):
        self.seen = tf.Variable(0, dtype=tf.int64)

    def __call__(self, raw):
        self.seen.assign_add(tf.size(raw["number"], out_type=tf.int64))
        return {"number": tf.reshape(raw["number"], (-1, 1))}


def test_skipped_records_are_not_parsed(folder):
    counting = Counting()
    found = numbers(read(folder, "train", 4, **SHUFFLED, epochs=2, start_step=15, preprocessor=counting))
    assert int(counting.seen) == len(flat(found))
    assert len(found) == 2 * 11 - 15


def test_preprocessor_may_be_any_callable(folder):
    ((features, _),) = list(read(folder, "train", 100, preprocessor=lambda raw: {"twice": 2 * raw["number"]}))
    np.testing.assert_array_equal(features["twice"], 2 * np.arange(TOTAL))


@pytest.mark.parametrize("options", [{}, SHUFFLED, {**SHUFFLED, "epochs": 2, "start_step": 3}])
@pytest.mark.parametrize("kind", ["packed", "gzipped"])
def test_packed_and_compressed_give_the_same(folder, kind, options, request):
    other = read(request.getfixturevalue(kind), "train", 6, **options)
    for expected, found in zip(read(folder, "train", 6, **options), other, strict=True):
        tf.nest.map_structure(np.testing.assert_array_equal, found, expected)
        assert tf.nest.map_structure(lambda x: x.dtype, found) == tf.nest.map_structure(lambda x: x.dtype, expected)


@pytest.mark.parametrize("options", [{}, {"epochs": 2, "drop_remainder": True}])
def test_cached_is_the_same_when_not_shuffled(folder, options):
    assert numbers(read(folder, "train", 6, cache=True, **options)) == numbers(read(folder, "train", 6, **options))


def contexts(workers, replicas=1):
    return [tf.distribute.InputContext(workers, i, workers * replicas) for i in range(workers)]


@pytest.mark.parametrize("shuffle", [False, True])
@pytest.mark.parametrize(("counts", "workers"), [(COUNTS, 2), ([20], 3), ([11, 8], 3)], ids=str)
@pytest.mark.parametrize("options", [{}, {"cache": True}, {"deterministic": False}], ids=str)
def test_workers_share_the_records(tmp_path, counts, workers, shuffle, options):
    folder = numbered(tmp_path / "data", counts)
    options = {**SHUFFLED, "shuffle": shuffle, "epochs": 2, **options}
    epochs = [[], []]
    for context in contexts(workers):
        dataset = read(folder, "train", 2 * workers, input_context=context, **options)
        batches = numbers(dataset)
        assert len(batches) == 2 * dataset.steps_per_epoch
        assert max(map(len, batches)) <= 2
        for epoch, start in enumerate((0, dataset.steps_per_epoch)):
            found = flat(batches[start : start + dataset.steps_per_epoch])
            assert len(found) == dataset.records
            epochs[epoch] += found
    # Batches that may overtake each other also do so between epochs.
    parts = epochs if options.get("deterministic", True) else [epochs[0] + epochs[1]]
    for everything in parts:
        assert sorted(everything) == sorted([*range(sum(counts))] * (2 // len(parts)))


@pytest.mark.parametrize("shuffle", [False, True])
def test_workers_make_as_many_steps_whatever_their_files_hold(tmp_path, shuffle):
    folder = numbered(tmp_path / "data", [11, 4])
    options = {**SHUFFLED, "shuffle": shuffle, "epochs": 2, "equal_steps": True}
    found = []
    for context in contexts(2):
        dataset = read(folder, "train", 4, input_context=context, **options)
        assert dataset.steps_per_epoch == 6
        found.append(numbers(dataset))
        again = read(folder, "train", 4, input_context=context, **{**options, "start_step": 8})
        assert numbers(again) == found[-1][8:]
    assert [len(batch) for batch in found[1][:6]] == [2, 2, 0, 0, 0, 0]
    for epoch in (slice(0, 6), slice(6, 12)):
        assert sorted(flat(found[0][epoch]) + flat(found[1][epoch])) == [*range(15)]


def test_batch_of_a_worker_is_its_replicas(folder):
    for context in contexts(2, replicas=2):
        sizes = [len(batch) for batch in numbers(read(folder, "train", 8, input_context=context))]
        assert set(sizes[:-1]) == {4}
    with pytest.raises(ValueError, match="not divisible"):
        read(folder, "train", 7, input_context=contexts(2)[0])


@pytest.mark.parametrize("worker", [0, 1])
def test_a_worker_resumes_too(folder, worker):
    options = {**SHUFFLED, "epochs": 2, "input_context": contexts(2)[worker]}
    everything = numbers(read(folder, "train", 6, **options))
    for start_step in (1, 5, len(everything) - 1):
        assert numbers(read(folder, "train", 6, start_step=start_step, **options)) == everything[start_step:]


def test_another_choice_of_features(folder):
    schema = Schema([SCHEMA["number"], Feature("half", "numeric", "label", source="click")])
    ((features, labels),) = list(read(folder, "train", 100, schema=schema))
    assert set(features) == {"number"}
    np.testing.assert_array_equal(labels[:, 0], [float(i % 3 == 0) for i in range(TOTAL)])


TASKS = Schema(
    [
        Feature("number", "numeric", scaling="none", role=("context", "group"), dtype="int"),
        Feature("click", "numeric", "label"),
        Feature("buy", "numeric", "label", required=False),
        Feature("like", "numeric", "label", dtype="int", required=False),
        Feature("importance", "numeric", "weight"),
        Feature("soft", "numeric", "teacher"),
    ]
)


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    rows = [
        {
            "number": i,
            "click": float(i % 2),
            "buy": None if i % 2 == 0 else float(i % 3 == 0),
            "like": [None, -1, 0, 1][i % 4],
            "importance": 0.5 * i,
            "soft": i / 8,
        }
        for i in range(8)
    ]
    return directories.write(tmp_path_factory.mktemp("tasks"), [rows[:3], rows[3:]], schema=TASKS, vocabularies={})


@pytest.mark.parametrize("as_packed", [False, True])
def test_tasks_weights_and_side_inputs(tasks, as_packed, tmp_path):
    source = directories.materialise(tasks, tmp_path / "packed") if as_packed else tasks
    ((features, labels, weights),) = list(read(source, "train", 100))
    numbers = np.arange(8)
    np.testing.assert_array_equal(features["group_ids"], numbers)
    assert features["group_ids"].dtype == tf.int64
    np.testing.assert_array_equal(features["teacher"], np.float32(numbers / 8))
    np.testing.assert_array_equal(weights, 0.5 * numbers)
    assert set(labels) == {"click", "buy", "like"}
    np.testing.assert_array_equal(labels["click"][:, 0], numbers % 2)
    np.testing.assert_array_equal(labels["buy"][:, 0], np.where(numbers % 2 == 0, -1, numbers % 3 == 0))
    np.testing.assert_array_equal(labels["like"][:, 0], np.array([-1, -1, 0, 1] * 2))


def test_without_a_label(tmp_path):
    schema = SCHEMA.select(["number", "city"])
    folder = directories.write(tmp_path / "data", [[record(i) for i in range(3)]], schema=schema)
    ((features, labels),) = list(read(folder, "train", 100))
    assert labels is None
    assert set(features) == {"number", "city"}


def test_dataset_may_be_forgotten_while_it_is_read(folder):
    iterator = iter(read(folder, "train", 5, **SHUFFLED))
    gc.collect()
    assert len(list(iterator)) == 9


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be > 0, got 0"),
        ({"batch_size": 4, "start_step": -1}, "start_step must be >= 0, got -1"),
    ],
)
def test_bad_arguments_are_named(folder, arguments, message):
    with pytest.raises(ValueError, match=message):
        read(folder, "train", **arguments)


def test_packed_records_cannot_be_preprocessed_again(packed):
    with pytest.raises(ValueError, match="holds materialised records: schema and preprocessor cannot be changed"):
        read(packed, "train", 4, schema=SCHEMA)


def test_epochs_do_not_depend_on_where_reading_began(folder):
    steps = -(-TOTAL // 5)
    second = numbers(read(folder, "train", 5, **SHUFFLED, epochs=2))[steps:]
    assert numbers(read(folder, "train", 5, **SHUFFLED, epochs=2, start_step=steps)) == second
    assert list(itertools.islice(numbers(read(folder, "train", 5, **SHUFFLED, epochs=1, start_step=steps)), 1)) == []


def test_an_overlay_beside_the_data_adds_roles_and_leaves_the_schema(tmp_path):
    directory = tmp_path / "data"
    batch_size = 20
    prepare("synthetic", output_dir=directory, rows=2000, seed=1)
    (directory / "roles.yaml").write_text("features: {field_05: [user, group]}")
    dataset = read(directory, "train", batch_size)
    inputs, _ = next(iter(dataset))
    assert inputs["group_ids"].shape == (batch_size,)
    assert dataset.preprocessor.schema["field_05"].roles == ("user", "group")
