"""Configs, flags and flagfiles say the same."""

import dataclasses
import os

import pytest
from absl import flags

from xdeepint_ext.experiments import Config
from xdeepint_ext.experiments.config import canonical
from xdeepint_ext.experiments.flags import FLAGFILES, find_flagfiles, parse
from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.optimizer_options import ALGORITHMS, OPTIMIZERS, make_optimizers
from xdeepint_ext.experiments.options import options_of
from xdeepint_ext.experiments.retrieval_options import RetrievalOptions
from xdeepint_ext.experiments.run_directory import flag_lines
from xdeepint_ext.models.dynint import MODES
from xdeepint_ext.schema import Feature, Schema

# Those of mseqa, which ranks nothing, have a test of their own.
FOUND = [name.removesuffix(".cfg") for name in os.listdir(FLAGFILES) if name.endswith(".cfg")]
BUNDLED = sorted(name for name in FOUND if not name.startswith("mseqa"))

SCHEMA = Schema(
    [Feature("user", role=("user", "group"), num_values=5), Feature("item", role=("item", "item_id"), num_values=5)]
)
USERS_WITH_ITEMS = Schema(
    [
        Feature("user", role=("user", "group"), num_values=5),
        Feature("items", "sequence", "user", table="item", max_length=4, num_values=5),
        Feature("item", "multi", "item", table="item", max_length=1, num_values=5, source="targets"),
    ]
)
RETRIEVAL = [name for name, options in MODELS.items() if issubclass(options, RetrievalOptions)]
READERS = {
    "amazon": RETRIEVAL,
    "croloss": RETRIEVAL,
    "gowalla": RETRIEVAL,
    "kuairand_groupce": ["groupce"],
    "teacher": ["dcnv2"],
}
"""A flagfile's name, or its first word, where that is no model's -> who reads it; others are of a data set, for all."""


def test_every_option_has_a_help_text_and_an_unambiguous_name():
    common = options_of(Config)
    for model, options in MODELS.items():
        for name, field in {**options_of(options), **common}.items():
            assert field.metadata["help"], (model, name)
        assert not set(options_of(options)) & set(common)


@pytest.mark.parametrize("name", MODELS)
def test_without_flags_a_model_is_what_its_constructor_makes(name):
    schema = USERS_WITH_ITEMS if name in RETRIEVAL else SCHEMA
    made = parse(name, ["--data_dir=data"]).options.make(schema)
    assert nameless(made.get_config()) == nameless(type(made)(schema).get_config())


def nameless(config):
    """A config without the names that Keras counts, its own and those of models inside."""
    without = {key: value for key, value in config.items() if key != "name"}
    return {key: nameless(value) if isinstance(value, dict) else value for key, value in without.items()}


@pytest.mark.parametrize(
    ("name", "arguments", "expected"),
    [
        ("autoint", ["--num_heads=4", "--units=8,4"], {"num_heads": 4, "units": [8, 4]}),
        ("deepcrossing", ["--units=8,4"], {"units": [8, 4]}),
        ("fibinet", ["--bilinear_kind=field_each"], {"bilinear_kind": "field_each"}),
        ("pnn", ["--outer_product=none"], {"inner_products": True, "outer_product": None}),
        ("cold", ["--keep=item"], {"keep": ["item"]}),
        ("ranktower", ["--num_heads=2,3", "--noattention"], {"num_heads": [2, 3], "attention": False}),
        ("dat", ["--category=item", "--mimic_weights=1,0"], {"category": "item", "mimic_weights": [1.0, 0.0]}),
        ("xdeepfm", ["--cin_units=6,4", "--split_half"], {"cin_units": [6, 4], "split_half": True}),
    ],
)
def test_flags_reach_the_model(name, arguments, expected):
    found = parse(name, ["--data_dir=data", *arguments]).options.make(SCHEMA).get_config()
    assert {key: found[key] for key in expected} == expected


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 0}, "batch_size must be >= 1, got 0"),
        ({"patience": 0}, "patience must be >= 1, got 0"),
        ({"learning_rate": -0.1}, "learning_rate must be > 0, got -0.1"),
        ({"optimizer": "adamax"}, "optimizer must be one of .* got 'adamax'"),
        ({"strategy": "horovod"}, "strategy must be one of"),
        ({"data_dir": ""}, "data_dir must name a directory"),
        ({"model": "gbdt"}, "model must be one of .* got 'gbdt'"),
        ({"model_options": {"num_layer": 2}}, "'num_layer' is no option of model 'xdeepint'"),
        ({"model_options": {"activation": "gelu"}}, "activation must be one of"),
    ],
)
def test_a_wrong_value_is_named(changes, message):
    with pytest.raises(ValueError, match=message):
        Config(**{"data_dir": "data", **changes})


def test_flags_txt_repeats_a_config():
    config = Config(
        data_dir="data",
        model_dir="model",
        features=("a", "b*"),
        batch_size=128,
        learning_rate=0.003,
        max_steps=7,
        evaluate=(),
        slices=("tab",),
        deterministic=True,
        model_options={"dnn_units": (40, 30), "residual": False, "embedding_stddev": 0.01},
    )
    again = parse("xdeepint", flag_lines(config))
    assert {**dataclasses.asdict(again), "model_options": 0} == {**dataclasses.asdict(config), "model_options": 0}
    assert again.options == config.options


@pytest.mark.parametrize("name", BUNDLED)
def test_every_bundled_flagfile_is_found_by_name_and_makes_a_model(name):
    first = name.partition("_")[0]
    for reader in [first] if first in MODELS else READERS.get(name, READERS.get(first, MODELS)):
        config = parse(reader, ["--data_dir=data", f"--flagfile={name}"])
        assert set(make_optimizers(config, 10)) == {"embedding", "interaction", "default"}


def test_a_data_set_s_flagfile_is_what_its_model_s_flagfiles_share(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for data in ("adult", "kuairand"):
        os.mkdir(data)  # a folder of that name is no flagfile
        shared, own = (parse("xdeepint", ["--data_dir=d", f"--flagfile={name}"]) for name in (data, f"xdeepint_{data}"))
        options = {"width", "num_layers", "num_subspaces"}
        if data == "kuairand":
            options |= {"lambda1", "lambda2"}  # its search chose others
        assert {n: v for n, v in own.changed().items() if n not in options} == {
            n: v for n, v in shared.changed().items() if n not in options
        }


def test_the_papers_settings_are_bundled():
    papers = ["criteo", "avazu", "ipinyou"]
    xdeepint = {f"xdeepint_{data}" for data in [*papers, "adult", "kuairand"]}
    dynint = {f"dynint_{mode}_{data}" for mode in MODES for data in papers}
    assert xdeepint | dynint <= set(BUNDLED)


def test_flags_behind_a_flagfile_win():
    config = parse("xdeepint", ["--data_dir=data", "--flagfile=xdeepint_criteo", "--num_layers=2"])
    assert (config.options.num_layers, config.options.num_subspaces) == (2, 16)


def test_an_unknown_flagfile_is_named():
    with pytest.raises(
        FileNotFoundError, match=r"--flagfile=nosuch: no such file, and none of the names .*xdeepint_adult"
    ):
        find_flagfiles(["--flagfile=nosuch"])


def test_a_wrong_flag_value_is_named():
    with pytest.raises(flags.Error, match="dnn_units=4,x"):
        parse("xdeepint", ["--data_dir=data", "--dnn_units=4,x"])
    with pytest.raises(flags.UnrecognizedFlagError, match="num_layer"):
        parse("xdeepint", ["--data_dir=data", "--num_layer=4"])


def test_equal_settings_have_one_fingerprint_whatever_the_data_seed_and_place():
    first = Config(data_dir="a", seed=1, model_dir="x", lambda1=5)
    second = Config(data_dir="b", seed=2, lambda1=5.0, export=True)
    assert first.settings() == second.settings() == "lambda1=5 model=xdeepint"
    assert first.fingerprint() == second.fingerprint()
    assert first.fingerprint() != first.replace(model_options={"num_layers": 5}).fingerprint()


def test_canonical_settings_do_not_depend_on_order_or_on_how_numbers_are_written():
    assert canonical("b=0.50 a=x c=1e-3 model=lr") == "a=x b=0.5 c=0.001 model=lr"


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_have_the_given_rate_and_constants_converted_to_the_mean_loss(name):
    config = Config(data_dir="d", batch_size=50, optimizer=name, learning_rate=0.5, embedding_learning_rate=0.25)
    assert float(make_optimizers(config.replace(interaction_learning_rate=0.1), 10)["interaction"].learning_rate) == (
        pytest.approx(0.1)
    )
    made = make_optimizers(config, 10)
    assert float(made["embedding"].learning_rate) == 0.25
    assert float(made["interaction"].learning_rate) == 0.5
    if OPTIMIZERS[name]["embedding"] == "group_ftrl":
        assert (made["embedding"].lambda1, made["embedding"].beta) == (10 / 50, 1 / 50)
    if OPTIMIZERS[name]["interaction"] == "ftrl":
        assert made["interaction"].l1_regularization_strength == 0.1 / 50
        assert made["interaction"].initial_accumulator_value == 0.1 / 50**2


def test_without_a_rate_each_algorithm_has_its_own():
    made = make_optimizers(Config(data_dir="d", optimizer="paper"), 10)
    for group, algorithm in OPTIMIZERS["paper"].items():
        assert float(made[group].learning_rate) == pytest.approx(ALGORITHMS[algorithm][0])


def test_the_cosine_schedule_ends_at_zero():
    rate = make_optimizers(Config(data_dir="d", schedule="cosine", learning_rate=0.1), 10)["default"].learning_rate
    made = make_optimizers(Config(data_dir="d", schedule="cosine", learning_rate=0.1), 10)["default"]
    assert float(rate) == pytest.approx(0.1)
    made.iterations.assign(10)
    assert float(made._learning_rate(made.iterations)) == pytest.approx(0.0, abs=1e-9)
