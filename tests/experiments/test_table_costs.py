"""What tables cost, as said before training, is what model and optimizer then hold; too much is refused before that."""

import dataclasses
import re

import numpy as np
import pytest
import tensorflow as tf

from xdeepint_ext.experiments import running
from xdeepint_ext.experiments.config import Config
from xdeepint_ext.experiments.inputs import Inputs
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.optimizer_options import OPTIMIZERS, make_optimizers
from xdeepint_ext.experiments.placement import make_placement
from xdeepint_ext.experiments.strategies import central_on
from xdeepint_ext.experiments.table_costs import (
    TableCost,
    available_memory,
    check_memory,
    copies_on_host,
    describe_tables,
    table_costs,
)
from xdeepint_ext.schema import Feature, Schema
from xdeepint_ext.serving.tables import embeddings
from xdeepint_ext.utils.variables import optimizer_group

SCHEMA = Schema(
    [
        Feature("user", role=("user", "group"), dtype="int", lookup="hash", num_values=1000),
        Feature("seen", "sequence", "user", table="item", max_length=3, num_values=300),
        Feature("item", role=("item", "item_id"), table="item", num_values=300),
        Feature("price", "numeric", "item", binning="boundaries", boundaries=(1.0, 2.0)),
        Feature("shop", role="item", num_values=70, width=4),
        Feature("click", "numeric", "label"),
    ]
)
RETRIEVAL = Schema(
    [
        Feature("user", role="user", num_values=1000),
        Feature("seen", "sequence", "user", table="item", max_length=3, num_values=300),
        Feature("item", "multi", "item", table="item", max_length=1, num_values=300, source="targets"),
    ]
)
HUGE = [TableCost("user", 100_000_000, 16)]


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_slots_are_those_that_the_optimizer_makes(optimizer):
    config = Config(data_dir="-", optimizer=optimizer)
    table = tf.Variable(tf.zeros([50, 16]))
    made = make_optimizers(config, 10)["embedding"]
    before = sum(np.prod(v.shape) for v in made.variables if v.dtype == tf.float32)
    made.build([table])
    slots = sum(np.prod(v.shape) for v in made.variables if v.dtype == tf.float32) - before
    assert TableCost("t", 50, 16).slots(optimizer) == pytest.approx(4 * slots, abs=8)  # and a flag of one number
    assert TableCost("t", 50, 16, trainable=False).slots(optimizer) == 0


@pytest.mark.parametrize(
    "model",
    [
        pytest.param(m, marks=() if m in ("xdeepint", "widedeep") else pytest.mark.slow)
        for m in MODELS
        if m not in ("mf", "pooled", "sasrec")
    ],
)
def test_tables_are_those_that_the_model_makes(model):
    options = {"category": "price"} if model == "dat" else {}
    config = Config(data_dir="-", model=model, model_options=options)
    costs = table_costs(config, SCHEMA)
    built = config.options.make(SCHEMA)
    built.build_from_schema()
    expected = sum(np.prod(v.shape) for layer in embeddings(built) for v in layer.tables.values())
    variables = sum(len(layer.tables) for layer in embeddings(built))
    # Tables of a variable share row 0, which each of them counts.
    shared = sum(c.width for c in costs) - sum(v.shape[1] for layer in embeddings(built) for v in layer.tables.values())
    assert variables and sum(cost.weights for cost in costs) == 4 * (expected + shared)


def test_biases_of_items_are_a_table():
    config = Config(data_dir="-", model="mf", model_options={"item_bias": True, "width": 8})
    found = {(cost.name, cost.rows, cost.width) for cost in table_costs(config, RETRIEVAL)}
    rows = RETRIEVAL.tables
    assert found == {
        ("user", rows["user"].rows, 8),
        ("item", rows["item"].rows, 8),
        ("biases of items", rows["item"].rows, 1),
    }
    built = config.options.make(RETRIEVAL)
    built.build_from_schema()
    groups = [optimizer_group(weight) for weight in built.trainable_variables]
    assert groups.count("embedding") == 2


def test_a_table_that_does_not_fit_is_refused_with_the_sum():
    with pytest.raises(MemoryError) as error:
        check_memory(HUGE, "paper", 17 * 10**9)
    text = str(error.value)
    assert "weights 6.4 GB + slots of --optimizer=paper 12.8 GB = 19.2 GB, and 17 GB are free" in text
    assert "'user', 100,000,000 rows x 16" in text and "--optimizer=adagrad" in text
    check_memory(HUGE, "adagrad", 17 * 10**9)
    check_memory(HUGE, "paper", None)
    with pytest.raises(MemoryError, match=r"25.6 GB \(2 replicas\)"):
        check_memory(HUGE, "adagrad", 17 * 10**9, copies=2)


def test_the_report_has_a_line_a_table():
    costs = [TableCost(f"t{n:02}", 1000, 16) for n in range(12)]
    lines = describe_tables(costs, "adagrad").splitlines()
    assert re.split(r"\s{2,}", lines[1]) == ["t00", "1,000", "16", "64 kB", "64 kB"]
    assert lines[11].startswith("2 others") and lines[12].split() == ["together", "12,000", "768", "kB", "768", "kB"]
    assert "paper 2.3 MB" in lines[13] and "adagrad 1.54 MB" in lines[13]


def test_a_run_says_what_its_tables_cost_and_is_refused_before_they_are_made(small_config, monkeypatch, capsys):
    monkeypatch.setattr(running, "available_memory", lambda: 500)
    monkeypatch.setattr(running, "make_model", lambda *_: pytest.fail("the tables are being made"))
    with pytest.raises(MemoryError, match=r"the largest table is 'user', \d+ rows x 4. Take a smaller width"):
        running.execute(small_config.replace(progress=True))
    said = capsys.readouterr().err
    assert said.splitlines()[0].split() == ["table", "rows", "width", "weights", "slots"]
    assert "weights and slots by --optimizer: paper" in said


def test_what_is_free_and_how_often_a_strategy_needs_it(two_replicas):
    free = available_memory()
    assert free is None or 10**6 < free < 10**14
    assert copies_on_host(two_replicas) == 2 and copies_on_host(tf.distribute.get_strategy()) == 1
    assert copies_on_host(central_on(tuple(two_replicas.extended.worker_devices))) == 1


def test_a_coordinator_needs_room_for_the_weights_alone(small_config, monkeypatch):
    cost = sum(table.weights for table in running.table_costs(small_config, Inputs(small_config).schema))
    here = dataclasses.replace(make_placement(small_config), moves_weights=True)
    monkeypatch.setattr(running, "make_placement", lambda _: here)
    monkeypatch.setattr(running, "available_memory", lambda: int(1.2 * cost))
    assert running.execute(small_config.replace(max_steps=1, evaluate=())).model.optimizer.iterations == 0
    with pytest.raises(MemoryError):
        monkeypatch.setattr(running, "available_memory", lambda: cost)
        running.execute(small_config)
