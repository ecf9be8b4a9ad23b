"""Settings stated as data: tables, searches, flagfiles."""

import pytest

from xdeepint_ext.experiments.model_options import MODELS
from xdeepint_ext.experiments.searches import SEARCHES, VARIANTS
from xdeepint_ext.experiments.settings import (
    flagfile,
    flagfile_values,
    make_config,
    parse_setting,
    settings_of_table,
)
from xdeepint_ext.experiments.tables import TABLES, Table


def test_a_setting_has_the_types_of_its_flags():
    assert parse_setting("dnn", "learning_rate=1 units=128,64 lambda=5 cache=true optimizer=adam epochs=3") == {
        "learning_rate": 1.0,
        "units": (128, 64),
        "lambda1": 5.0,
        "lambda2": 5.0,
        "cache": True,
        "optimizer": "adam",
        "epochs": 3,
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("num_layers=1", r"setting 'num_layers=1' of model 'lr': Unknown command line flag 'num_layers'"),
        ("seed=2 epochs", r"setting 'seed=2 epochs' of model 'lr': .*epochs"),
        ("epochs=many", r"--epochs=many.*invalid literal"),
        ("optimizer=best", r"--optimizer=best.*should be one of"),
    ],
)
def test_a_setting_that_would_have_no_effect_is_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_setting("lr", text)


def test_a_table_s_rows_win_over_flags_and_these_over_its_base():
    table = Table({"a": {}, "b": {"model": "lr", "batch_size": 7}}, base={"epochs": 2, "batch_size": 5})
    settings = settings_of_table(table, {"data_dir": "d", "batch_size": 6})
    assert settings["b"].model == "lr"
    assert [(config.epochs, config.batch_size) for config in settings.values()] == [(2, 6), (2, 7)]


def test_settings_of_other_models_are_left_out_and_unknown_ones_refused():
    assert make_config({"data_dir": "d", "model": "lr", "num_layers": 3}).settings() == "model=lr"
    with pytest.raises(ValueError, match="'num_layer' is no flag of any run"):
        make_config({"data_dir": "d", "num_layer": 3})


@pytest.mark.parametrize("name", TABLES)
def test_every_table_makes_different_configs(name):
    settings = settings_of_table(TABLES[name], {"data_dir": "d"})
    assert len({config.settings() for config in settings.values()}) == len(settings) > 1


@pytest.mark.parametrize("dataset", SEARCHES)
def test_every_model_of_a_search_has_as_many_different_trials(dataset):
    assert set(SEARCHES[dataset]) <= {*MODELS, *VARIANTS}
    base = {"data_dir": "d", **flagfile_values(flagfile(dataset))}
    counts = {}
    for model, trials in SEARCHES[dataset].items():
        start = {**base, **VARIANTS.get(model, {"model": model})}
        configs = [make_config({**start, **parse_setting(start["model"], text)}) for text in trials]
        counts[model] = len({config.settings() for config in configs})
        assert counts[model] == len(trials)
    assert len(set(counts.values())) == 1 and max(counts.values()) <= 8
